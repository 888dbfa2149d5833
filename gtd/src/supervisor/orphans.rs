//! What was left behind: what the ledger, the agents' tasks, tmux and the process table say of it together.
//!
//! Owns the gathering of these for one look, the heartbeat's step and the record of what a sweep did. The verdicts
//! are `process::attribution`'s and `sessions`', the ending is `process::sweep`'s. It must never sweep when one
//! of these could not be read, nor while nobody knows what should run.

mod captured;
mod sessions;
mod spared;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::agent::SignalSent;
use gtd_proto::event::kind;
use gtd_proto::explain::Decision;
use gtd_proto::{Address, InstanceId, Timestamp};
use serde_json::{Value, json};

use super::core::OBSERVING;
use super::handle::Handle;
use crate::config::{Sweep, SweepMode};
use crate::ledger::{InstanceRow, NewEvent, ProcessKey, Write};
use crate::process::attribution::Snapshot;
use crate::process::sweep::{Swept, chosen, sweep};
use crate::process::{
    Attribution, BootId, Capture, EndOptions, Ground, Judged, OnRecord, Pid, ProcessId, StartTime, Verdict,
    attribute,
};
use crate::tmux::{Listing, ServerState, TmuxError};

pub use captured::{CAPTURED, recalled};
pub use sessions::{SeenSession, SessionVerdict};
pub(super) use spared::keep as keep_spared;

/// Instances of this boot that are looked at, the newest: a town of a thousand agents starts fewer in a day.
const INSTANCES: u32 = 4_096;
/// How long a look at all processes may take; five thousand take a tenth of a second.
const LOOK: Duration = Duration::from_secs(10);
/// Between TERM and KILL for what was left over: nobody waits for its last words.
const GRACE: Duration = Duration::from_secs(5);
/// How long a round waits for its sweep; what takes longer is told by events.
const ROUND: Duration = Duration::from_secs(3);
/// Names of processes in one event.
const NAMED: usize = 50;
/// Name of the ledger's fact that says up to when its instances were another town's.
pub const INHERITED: &str = "inherited_until";

/// One look at all that could have been left behind.
pub struct Seen {
    /// Instances of this boot that are on record.
    pub on_record: Vec<OnRecord>,
    /// The processes and what was read of them.
    pub snapshot: Snapshot,
    /// What is to be thought of each.
    pub found: Attribution,
    /// Sessions of the tmux server, judged.
    pub sessions: Vec<SeenSession>,
    /// The listing they are from; none where no server lives.
    pub listing: Option<Listing>,
    ground: Ground,
}

/// Why nothing can be said of what was left behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be {how}: {why}")]
pub struct Blind {
    what: &'static str,
    how: &'static str,
    why: String,
}

impl Blind {
    fn new(what: &'static str, how: &'static str, why: impl ToString) -> Self {
        Self { what, how, why: why.to_string() }
    }
}

/// What the heartbeat remembers between its sweeps.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    captured: captured::Captured,
    reported: BTreeSet<ProcessId>,
}

/// What a step of the heartbeat came to.
pub(super) struct Told {
    pub(super) actions: Vec<String>,
    pub(super) error: Option<String>,
}

impl Handle {
    /// Looks at sessions and processes for what was left behind. Signals nobody, changes nothing.
    ///
    /// # Errors
    /// When the ledger, the sessions or the processes cannot be read: nothing follows from two of them.
    pub async fn look_for_orphans(&self) -> Result<Seen, Blind> {
        let boot = BootId::current().map_err(|error| Blind::new("the boot id", "read", error))?;
        let rows = self.ledger().instances_of(boot.as_str(), INSTANCES).await;
        let rows = rows.map_err(|error| Blind::new("the ledger", "read", error))?;
        let inherited = self.ledger().fact(INHERITED).await;
        let inherited = inherited.map_err(|error| Blind::new("the ledger", "read", error))?;
        // What a copy has inherited proves nothing: one that cannot be read leaves everything unproved.
        let inherited: Option<Timestamp> = inherited
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| Blind::new("what was inherited", "read", error))?;
        let recalled = self.ledger().fact(CAPTURED).await;
        let recalled = recalled.map_err(|error| Blind::new("the ledger", "read", error))?;
        let spared = spared::of(self, &boot).await?;
        let listing = self.listing().await?;
        let snapshot = self.runtime().looks().look(LOOK, Snapshot::read).await;
        let snapshot = snapshot
            .map_err(|error| Blind::new("the processes", "listed", error))?
            .map_err(|error| Blind::new("the processes", "listed", error))?;
        let rows: Vec<InstanceRow> =
            rows.into_iter().filter(|row| inherited.is_none_or(|until| row.reserved_at > until)).collect();
        let swept: Vec<InstanceRow> =
            rows.iter().filter(|row| !row.ended || !spared.contains(&row.instance)).cloned().collect();
        let on_record = on_record(&swept, self.runtime().captures(), &recalled.unwrap_or_default(), &boot);
        let shims: HashSet<ProcessId> =
            rows.iter().filter_map(|row| row.shim.as_ref()).filter_map(process_id).collect();
        let shown_sessions = listing.as_ref().map(|listing| self.judge_sessions(listing, &rows, &snapshot));
        let ground = Ground {
            town: self.runtime().shared().town_id.clone(),
            panes: listing.as_ref().map(|listing| strangers(listing, &snapshot, &shims)).unwrap_or_default(),
        };
        let mut found = attribute(&snapshot, &on_record, &ground);
        spared::protect(&mut found, &snapshot.table, self.runtime().shared().look.as_ref());
        Ok(Seen { on_record, snapshot, found, sessions: shown_sessions.unwrap_or_default(), listing, ground })
    }

    /// Ends what is proven to be left of instances that are over, of all or of these, and puts it on record. What is
    /// intended is committed before anybody is signalled.
    pub async fn sweep_orphans(
        &self,
        seen: &Seen,
        only: Option<&BTreeSet<String>>,
        min_age: Duration,
        by: &str,
    ) -> Vec<Swept> {
        let shared = self.runtime().shared();
        let _one_at_a_time = self.shared().sweeping.lock().await;
        let mut doing = Vec::new();
        let mut intended = Vec::new();
        for (one, targets) in chosen(&seen.found, &seen.on_record, min_age) {
            if only.is_some_and(|only| !only.contains(&one.instance)) {
                continue;
            }
            intended.extend(self.intend(one, &targets, by));
            doing.push((one.clone(), targets.into_iter().cloned().collect::<Vec<Judged>>()));
        }
        if doing.is_empty() {
            return Vec::new();
        }
        self.write(intended).await;
        self.settled().await;
        let options = EndOptions { grace: GRACE, ..EndOptions::default() };
        let servers = shared.servers();
        let mut tasks = tokio::task::JoinSet::new();
        for (one, targets) in doing {
            let (shared, ground, servers) = (Arc::clone(shared), seen.ground.clone(), servers.clone());
            tasks.spawn(async move {
                sweep(&shared.watcher, &one, targets, &servers, &ground, &shared.look, options).await
            });
        }
        let mut all = Vec::new();
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(swept) => {
                    self.write(self.done(&swept, by)).await;
                    all.push(swept);
                }
                Err(error) => tracing::error!(%error, "a sweep was cut short"),
            }
        }
        all.sort_by(|a, b| a.instance.cmp(&b.instance));
        all
    }

    /// Whether only to look, because nobody knows what should run.
    async fn only_looks(&self) -> Result<bool, Blind> {
        let fact = self.ledger().fact(OBSERVING).await;
        let fact = fact.map_err(|error| Blind::new("the ledger", "read", error))?;
        Ok(fact == Some(Value::Bool(true)) || self.ledger().trouble().is_some())
    }

    async fn listing(&self) -> Result<Option<Listing>, Blind> {
        let driver = self.runtime().driver();
        match driver.list().await {
            Ok(listing) => Ok(Some(listing)),
            Err(TmuxError::NoServer { .. }) if driver.state() == ServerState::Down => Ok(None),
            Err(error) => Err(Blind::new("the tmux sessions", "listed", error)),
        }
    }

    fn intend(&self, one: &OnRecord, targets: &[&Judged], by: &str) -> Option<Write> {
        let agent: Address = one.agent.parse().ok()?;
        let many = targets.len();
        let processes = if many == 1 { "process" } else { "processes" };
        let decision = Decision {
            at: self.now(),
            event: "left over".to_owned(),
            decision: format!("end {many} {processes}"),
            reason: format!(
                "instance {} is over, and {by} found it: {}",
                one.instance,
                targets.first().map(|target| target.reason.as_str()).unwrap_or_default()
            ),
        };
        Some(Write::Decision { agent, decision })
    }

    fn done(&self, swept: &Swept, by: &str) -> Vec<Write> {
        let agent: Option<Address> = swept.agent.parse().ok();
        let instance: Option<InstanceId> = swept.instance.parse().ok();
        let reason =
            |pid: Pid| swept.targets.iter().find(|target| target.id.pid == pid).map(|t| t.reason.clone());
        let mut writes: Vec<Write> = swept
            .report
            .signals
            .iter()
            .map(|sent| {
                Write::Signal(SignalSent {
                    at: sent.at,
                    agent: agent.clone(),
                    instance: instance.clone(),
                    pid: sent.target.pid.get(),
                    start: sent.target.start.get(),
                    signal: sent.signal.number(),
                    evidence: json!({
                        "proof": sent.proof, "comm": sent.comm, "boot": sent.target.boot,
                        "why": format!("instance {} of {} is over", swept.instance, swept.agent),
                        "found": reason(sent.target.pid),
                    }),
                    by: by.to_owned(),
                    because: None,
                })
            })
            .collect();
        let pids: BTreeSet<i32> = swept.report.signals.iter().map(|sent| sent.target.pid.get()).collect();
        let data = json!({
            "kind": "process",
            "pids": pids.iter().take(NAMED).collect::<Vec<_>>(),
            "count": pids.len(),
            "survivors": swept.report.survivors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "unverified": swept.report.unverified,
            "by": by,
        });
        let event = NewEvent {
            rig: agent.as_ref().and_then(|agent| agent.rig().cloned()),
            agent,
            instance,
            ..NewEvent::new(self.now(), kind::SWEEP_KILLED, data)
        };
        writes.push(Write::Event(event));
        writes
    }
}

/// The heartbeat's step: remembers what belongs to whom, and ends what is proven to be left over.
pub(super) async fn step(handle: &Handle, settings: &Sweep, memory: &mut Memory) -> Told {
    let mut told = Told { actions: Vec::new(), error: None };
    memory.captured.keep(handle).await;
    spared::keep(handle).await;
    let (seen, only_looks) = match (handle.look_for_orphans().await, handle.only_looks().await) {
        (Ok(seen), Ok(only_looks)) => (seen, only_looks),
        (Err(blind), _) | (_, Err(blind)) => {
            told.error = Some(format!("nothing was swept: {blind}"));
            return told;
        }
    };
    let found = &seen.found;
    told.actions.push(format!(
        "{} processes looked at, {} of living agents, {} left over, {} unproved",
        found.looked,
        found.live,
        found.of(Verdict::Orphan).count(),
        found.of(Verdict::Unproved).count()
    ));
    report(handle, found, memory, settings.mode == SweepMode::Report || only_looks).await;
    if only_looks || settings.mode == SweepMode::Report {
        let why = if only_looks { "what should run is not known" } else { "[sweep] mode is \"report\"" };
        told.actions.push(format!("nothing is ended: {why}"));
        return told;
    }
    if chosen(found, &seen.on_record, settings.min_age).is_empty() {
        return told;
    }
    let (ours, min_age) = (handle.clone(), settings.min_age);
    let sweeping =
        tokio::spawn(
            async move { ours.sweep_orphans(&seen, None, min_age, "supervisor: orphan sweep").await },
        );
    match tokio::time::timeout(ROUND, sweeping).await {
        Ok(Ok(swept)) => told.actions.extend(swept.iter().map(in_words)),
        Ok(Err(error)) => told.error = Some(format!("the sweep was cut short: {error}")),
        Err(_) => told.actions.push("what was left over is still being ended".to_owned()),
    }
    told
}

/// What a sweep came to, in a line.
#[must_use]
pub fn in_words(swept: &Swept) -> String {
    let Swept { agent, instance, report, .. } = swept;
    let sent = report.signals.len() + report.more_signals;
    match (&report.unverified, report.survivors.len()) {
        (Some(why), _) => {
            format!("{agent} {instance}: {sent} signals sent, and what is left is not known: {why}")
        }
        (None, 0) if sent == 1 => format!("{agent} {instance}: ended with 1 signal, nothing is left"),
        (None, 0) => format!("{agent} {instance}: ended with {sent} signals, nothing is left"),
        (None, left) => format!("{agent} {instance}: {sent} signals sent, {left} processes are left"),
    }
}

/// Says once of each process that it was found and left alone.
async fn report(handle: &Handle, found: &Attribution, memory: &mut Memory, all: bool) {
    let reported =
        |item: &&Judged| item.verdict == Verdict::Unproved || (all && item.verdict == Verdict::Orphan);
    let now: BTreeMap<ProcessId, &Judged> =
        found.items.iter().filter(reported).map(|item| (item.id.clone(), item)).collect();
    let fresh: Vec<&Judged> =
        now.iter().filter(|(id, _)| !memory.reported.contains(*id)).map(|(_, item)| *item).collect();
    if !fresh.is_empty() {
        let processes: Vec<Value> = fresh
            .iter()
            .take(NAMED)
            .map(|item| {
                json!({ "pid": item.id.pid.get(), "comm": item.comm, "verdict": item.verdict.as_str(), "reason": item.reason })
            })
            .collect();
        let data = json!({ "kind": "process", "count": fresh.len(), "processes": processes });
        let event = NewEvent::new(handle.now(), kind::SWEEP_REPORTED, data);
        handle.write(vec![Write::Event(event)]).await;
    }
    memory.reported = now.into_keys().collect();
}

/// Processes of panes that nobody recorded as an agent's.
fn strangers(listing: &Listing, snapshot: &Snapshot, shims: &HashSet<ProcessId>) -> HashSet<ProcessId> {
    let panes = listing.panes.iter().filter(|pane| !pane.dead).filter_map(|pane| pane.pane_pid);
    let stats = panes.filter_map(|pid| snapshot.table.at_pid(pid));
    stats.map(|stat| snapshot.table.id_of(stat)).filter(|id| !shims.contains(id)).collect()
}

fn on_record(
    rows: &[InstanceRow],
    captures: Vec<(Address, Capture)>,
    recalled: &Value,
    boot: &BootId,
) -> Vec<OnRecord> {
    let mut kept: BTreeMap<String, Capture> =
        captures.into_iter().map(|(_, capture)| (capture.instance().to_owned(), capture)).collect();
    rows.iter()
        .map(|row| {
            let instance = row.instance.to_string();
            let ids = [&row.shim, &row.process].into_iter().flatten().filter_map(process_id);
            let recorded = Capture::new(&instance, ids.collect::<Vec<_>>());
            let mut capture = kept.remove(&instance).unwrap_or(recorded);
            captured::restore(&mut capture, recalled, boot);
            OnRecord { instance, agent: row.agent.to_string(), live: !row.ended, capture }
        })
        .collect()
}

/// The identity that a row of the ledger names.
pub(super) fn process_id(key: &ProcessKey) -> Option<ProcessId> {
    Some(ProcessId {
        boot: BootId::new(key.boot.as_str()),
        pid: Pid::new(key.pid)?,
        start: StartTime::new(key.start),
    })
}
