//! The heartbeat: a sweep over everything on one shared look, reported step by step.
//!
//! It is the audit, not the detector: deaths come from the kernel, changes from files and requests. It runs in
//! a task of its own and holds nobody up.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use gtd_proto::daemon::{HEARTBEAT_STEPS, HeartbeatReport, HeartbeatState, HeartbeatStep, StepOutcome};
use gtd_proto::event::kind;
use gtd_proto::{Address, InstanceId, Role, State as AgentState, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::handle::Handle;
use super::leftovers;
use super::run::Message;
use super::view::SessionFacts;
use super::{orphans, rounds};
use crate::agents::runtime::Prepare;
use crate::clock::{Clock, ShiftWatch};
use crate::config::{Live, Sweep};
use crate::ledger::{NewEvent, Write};
use crate::process::ProcessTable;
use crate::tmux::{Driver, Listing, ServerState, TmuxError};

/// How long one round may take. A listing of 1,000 panes takes 5 ms, a process table of 2,000 processes 20.
const ROUND_DEADLINE: Duration = Duration::from_secs(30);

/// What is known of the rounds.
#[derive(Debug, Default, Clone)]
pub struct State {
    /// For results.
    pub shown: HeartbeatState,
    /// How far rounds are apart.
    pub interval: Duration,
    /// The next round only looks: for a while nobody could.
    grace: bool,
    missing: BTreeMap<Address, u32>,
    leftovers: leftovers::Seen,
    orphans: orphans::Memory,
}

/// Runs a round at the start, at each interval, and when somebody asks, until the daemon goes down.
pub async fn run(
    handle: Handle,
    live: Live,
    number: u64,
    stop: CancellationToken,
    state_file: impl Fn(u64, Timestamp) + Send,
) {
    let shared = handle.shared().clone();
    let mut changes = live.watch();
    let mut interval = live.now().daemon.heartbeat_interval;
    {
        let mut state = shared.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        state.interval = interval;
        state.shown.number = number;
    }
    let mut next = Instant::now();
    let mut last: Option<Timestamp> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next.saturating_duration_since(Instant::now())) => {}
            () = shared.round_wanted.notified() => {}
            () = shared.configured.notified() => {
                look_at_broken(&handle).await;
                continue;
            }
            Ok(()) = changes.changed() => {
                let now = changes.borrow_and_update().daemon.heartbeat_interval;
                if now != interval {
                    next = rescheduled(next, interval, now, Instant::now());
                    interval = now;
                    let left = next.saturating_duration_since(Instant::now());
                    let mut state = shared.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
                    state.interval = interval;
                    state.shown.next = Some(super::policy::after(handle.wall(), left));
                }
                continue;
            }
            () = shared.sessions_changed.notified() => {
                if let Ok(listing) = handle.runtime().driver().list().await {
                    show_sessions(&handle, &listing).await;
                }
                continue;
            }
        }
        let asked = std::mem::take(&mut *shared.askers.lock().unwrap_or_else(PoisonError::into_inner));
        let began = Instant::now();
        // By the line, on which suspended time counts; and a daemon that was stopped has seen nothing either.
        let begun = handle.now();
        if last.is_some_and(|last| super::policy::since(last, begun) > interval.saturating_mul(2)) {
            grant_grace(&handle);
        }
        last = Some(begun);
        let now = live.now();
        let report = round(&handle, now.polecat.gupp_after, &now.sweep).await;
        state_file(report.number, report.started_at);
        let now = Instant::now();
        let overruns;
        (next, overruns) = following(next, began, now, interval);
        {
            let mut state = shared.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
            state.shown.overruns += overruns;
            state.shown.last = Some(report.started_at);
            state.shown.next = Some(super::policy::after(handle.wall(), next.saturating_duration_since(now)));
        }
        for asker in asked {
            let _ = asker.send(report.clone());
        }
    }
}

/// How often the clocks are compared: what was slept through is noticed so soon.
const CLOCKS: Duration = Duration::from_secs(5);

/// Notices that the machine was suspended or the wall clock set, until the daemon goes down.
pub async fn watch_clock(handle: Handle, clock: Clock, stop: CancellationToken) {
    let mut watch = ShiftWatch::new(clock);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CLOCKS) => {}
        }
        let shift = watch.look();
        if shift.is_resume() {
            tracing::info!(suspended = ?shift.suspended, "the machine was suspended");
            grant_grace(&handle);
            // Timers have stood still. The loop compares the clocks at whatever wakes it, before it judges that.
            handle.input(Input::Time).await;
            handle.shared().round_wanted.notify_one();
        }
        if shift.is_wall_jump() {
            tracing::warn!(by = %shift.wall, "the wall clock was set; no wait is longer or shorter for it");
            handle.write(vec![handle.clock_row()]).await;
            handle.tell(Message::Refresh).await;
        }
    }
}

/// Lets the next round only look: a pane that was missing before and is now may have been looked for too late.
fn grant_grace(handle: &Handle) {
    handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner).grace = true;
}

/// When the round after this one is due, and how many the time it took has swallowed. A round that was asked for
/// ahead of time takes no other one's place.
fn following(due: Instant, began: Instant, now: Instant, interval: Duration) -> (Instant, u64) {
    if began < due && now < due {
        return (due, 0);
    }
    let on_time = began.saturating_duration_since(due) < interval;
    let mut next = if on_time { due } else { began } + interval;
    let mut overruns = 0;
    while next <= now && overruns < 1_000 {
        next += interval;
        overruns += 1;
    }
    (next, overruns)
}

/// When the next round is due after the interval has changed: counted from the last one, and never in the past.
fn rescheduled(next: Instant, old: Duration, new: Duration, now: Instant) -> Instant {
    next.checked_sub(old).map_or(now + new, |last| last + new).max(now)
}

async fn round(handle: &Handle, gupp_after: Duration, sweep: &Sweep) -> HeartbeatReport {
    let began = Instant::now();
    let started_at = handle.wall();
    let (number, grace) = {
        let mut state = handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown.number += 1;
        if state.grace {
            // Whatever was missed was missed by us.
            state.missing.clear();
        }
        (state.shown.number, std::mem::take(&mut state.grace))
    };
    let look = tokio::time::timeout(ROUND_DEADLINE, look(handle)).await;
    let mut steps = Vec::with_capacity(HEARTBEAT_STEPS.len());
    for name in HEARTBEAT_STEPS {
        let at = Instant::now();
        let mut step = match (name, &look) {
            ("witnesses", Ok(look)) => patrol(handle, Role::Witness, look),
            ("refineries", Ok(look)) => patrol(handle, Role::Refinery, look),
            ("gupp", Ok(look)) => look.gupp(handle, gupp_after, grace).await,
            ("witnesses" | "refineries" | "gupp" | "orphan_sweep", Err(_)) => Step::late(),
            ("orphaned_work", _) => Step { actions: rounds::orphaned_work(handle).await, ..Step::ok() },
            ("polecat_health", _) => Step { actions: rounds::polecat_health(handle).await, ..Step::ok() },
            ("orphan_sweep", Ok(_)) => sweep_orphans(handle, sweep).await,
            ("pending_spawns" | "lifecycle", _) => handle.errand(name).await.into(),
            ("state", _) => {
                let mut actions = vec![format!("round {number} written down")];
                if grace {
                    actions.push("a round of grace: nobody could look for a while".to_owned());
                }
                Step { actions, ..Step::ok() }
            }
            _ => Step::skipped("not part of this version"),
        };
        let duration_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        steps.push(HeartbeatStep {
            name: name.to_owned(),
            outcome: step.outcome,
            duration_ms,
            actions: std::mem::take(&mut step.actions),
            error: step.error,
        });
    }
    if let Ok(look) = look {
        follow_up(handle, look, grace).await;
    }
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = HeartbeatReport { number, started_at, duration_ms, steps };
    let data = json!({ "number": number, "duration_ms": duration_ms });
    let event = NewEvent::new(handle.now(), kind::HEARTBEAT_COMPLETED, data);
    handle.write(vec![Write::Heartbeat(report.clone()), Write::Event(event), handle.clock_row()]).await;
    report
}

/// What one round sees. All steps share it.
struct Look {
    listing: Result<Listing, TmuxError>,
    table: Result<usize, String>,
}

async fn look(handle: &Handle) -> Look {
    let driver = handle.runtime().driver().clone();
    let runtime = handle.runtime().clone();
    let table = tokio::task::spawn_blocking(move || match ProcessTable::read() {
        Ok(table) => {
            runtime.merge(&table);
            Ok(table.len())
        }
        Err(error) => Err(format!("the process table cannot be read: {error}")),
    });
    let (listing, table) = tokio::join!(driver.list(), table);
    let table = table.unwrap_or_else(|error| Err(format!("reading the process table failed: {error}")));
    Look { listing, table }
}

impl Look {
    /// Without a listing nothing is known of screens: nobody is told to be stalled.
    async fn gupp(&self, handle: &Handle, gupp_after: Duration, grace: bool) -> Step {
        let listing = match &self.listing {
            Ok(listing) => listing,
            Err(TmuxError::NoServer { .. }) => return Step::ok(),
            Err(error) => {
                let error = Some(error.to_string());
                return Step { outcome: StepOutcome::Failed, error, ..Step::ok() };
            }
        };
        if grace {
            return Step::skipped("a round of grace: nobody could look for a while");
        }
        Step { actions: rounds::gupp(handle, listing, gupp_after).await, ..Step::ok() }
    }
}

pub(super) struct Step {
    pub(super) outcome: StepOutcome,
    pub(super) actions: Vec<String>,
    pub(super) error: Option<String>,
}

impl Step {
    pub(super) fn ok() -> Self {
        Self { outcome: StepOutcome::Ok, actions: Vec::new(), error: None }
    }

    pub(super) fn skipped(why: &str) -> Self {
        Self { outcome: StepOutcome::Skipped, actions: Vec::new(), error: Some(why.to_owned()) }
    }

    fn late() -> Self {
        let error = Some(format!("the town could not be looked at within {ROUND_DEADLINE:?}"));
        Self { outcome: StepOutcome::Timeout, actions: Vec::new(), error }
    }
}

async fn sweep_orphans(handle: &Handle, settings: &Sweep) -> Step {
    let state = &handle.shared().heartbeat;
    let mut memory = std::mem::take(&mut state.lock().unwrap_or_else(PoisonError::into_inner).orphans);
    let orphans::Told { actions, error } = orphans::step(handle, settings, &mut memory).await;
    state.lock().unwrap_or_else(PoisonError::into_inner).orphans = memory;
    Step { outcome: if error.is_some() { StepOutcome::Failed } else { StepOutcome::Ok }, actions, error }
}

fn patrol(handle: &Handle, role: Role, look: &Look) -> Step {
    let mut step = Step::ok();
    if let Err(why) = &look.table {
        step = Step { outcome: StepOutcome::Failed, error: Some(why.clone()), ..step };
    }
    if let Err(error) = &look.listing
        && !matches!(error, TmuxError::NoServer { .. })
    {
        step = Step { outcome: StepOutcome::Failed, error: Some(error.to_string()), ..step };
    }
    handle.view().read(|shown| {
        for agent in shown.agents.values().filter(|agent| agent.role == role) {
            let why = agent.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            step.actions.push(format!("{} is {}{why}", agent.agent, agent.state));
        }
    });
    step
}

async fn follow_up(handle: &Handle, look: Look, grace: bool) {
    if let Ok(listing) = &look.listing {
        show_sessions(handle, listing).await;
        let (found, gone) = audit(handle, listing);
        let before = {
            let mut state = handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.leftovers)
        };
        let seen = leftovers::sweep(handle, listing, &before).await;
        handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner).leftovers = seen;
        handle.input(Input::Found(found)).await;
        if !gone.is_empty() && !grace {
            handle.input(Input::PaneGone(gone)).await;
        }
    }
    if is_none(&look.listing, handle.runtime().driver()) {
        handle.input(Input::Found(Vec::new())).await;
    }
    look_at_broken(handle).await;
    handle.input(Input::Round).await;
    handle.glance().await;
}

/// Releases those whose program and directory are there now.
async fn look_at_broken(handle: &Handle) {
    let mended = mended(handle, handle.runtime().shared().prepare.as_ref());
    if !mended.is_empty() {
        handle.input(Input::Mended(mended)).await;
    }
}

/// No server lives, so that there are no sessions.
fn is_none(listing: &Result<Listing, TmuxError>, driver: &Driver) -> bool {
    matches!(listing, Err(TmuxError::NoServer { .. })) && driver.state() == ServerState::Down
}

/// Looks at the sessions for what the ledger does not know: after it was lost, before anybody can ask for a
/// start. Where that fails a round of the heartbeat does it.
pub async fn survey(handle: &Handle) {
    let driver = handle.runtime().driver();
    let listing = driver.list().await;
    match &listing {
        Ok(listing) => handle.input(Input::Found(marked(handle, listing))).await,
        Err(_) if is_none(&listing, driver) => handle.input(Input::Found(Vec::new())).await,
        Err(error) => tracing::warn!(%error, "the sessions could not be looked at"),
    }
}

/// Agents that wait for a program or a directory that is there now.
fn mended(handle: &Handle, prepare: &dyn Prepare) -> Vec<Address> {
    let broken: Vec<Address> = handle.view().read(|shown| {
        let waits = shown.agents.values();
        waits
            .filter(|agent| agent.state == AgentState::Quarantined && agent.next_attempt.is_none())
            .map(|agent| agent.agent.clone())
            .collect()
    });
    broken.into_iter().filter(|agent| prepare.is_mended(agent)).collect()
}

/// Living panes that carry our mark and an instance that nobody knows.
fn marked(handle: &Handle, listing: &Listing) -> Vec<(Address, InstanceId)> {
    let town = &handle.runtime().shared().town_id;
    let mut found = Vec::new();
    for pane in listing.panes.iter().filter(|pane| !pane.dead && pane.options.get("@gt_town") == Some(town)) {
        let address = pane.options.get("@gt_agent").and_then(|text| text.parse::<Address>().ok());
        let instance = pane.options.get("@gt_instance").and_then(|text| text.parse::<InstanceId>().ok());
        if let (Some(address), Some(instance)) = (address, instance)
            && handle.view().agent(&address).is_none_or(|agent| agent.instance.is_none())
        {
            found.push((address, instance));
        }
    }
    found
}

/// Compares a listing with what we think: sessions that carry our mark and nobody knows, and agents whose pane
/// has not been there twice in a row.
fn audit(handle: &Handle, listing: &Listing) -> (Vec<(Address, InstanceId)>, Vec<Address>) {
    let shared = handle.shared();
    let found = marked(handle, listing);
    let mut state = shared.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
    let mut gone = Vec::new();
    let running: Vec<Address> = handle.view().read(|shown| {
        let agents = shown
            .agents
            .values()
            .filter(|agent| matches!(agent.state, AgentState::Running | AgentState::Paused));
        agents.map(|agent| agent.agent.clone()).collect()
    });
    state.missing.retain(|agent, _| running.contains(agent));
    for agent in running {
        let Some(place) = handle.runtime().place(&agent) else { continue };
        let same_server = place.server == listing.server.process;
        let there = listing.panes.iter().any(|pane| pane.pane.to_string() == place.pane);
        if !same_server || there {
            state.missing.remove(&agent);
            continue;
        }
        let seen = state.missing.entry(agent.clone()).or_insert(0);
        *seen += 1;
        if *seen >= 2 {
            gone.push(agent);
        }
    }
    (found, gone)
}

/// Takes over what a listing says of our agents' sessions.
async fn show_sessions(handle: &Handle, listing: &Listing) {
    let now = handle.wall();
    let instant = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    let places: Vec<(Address, Option<String>)> = handle
        .view()
        .read(|shown| shown.agents.values().map(|agent| (agent.agent.clone(), agent.pane.clone())).collect());
    let changed = handle.view().change(|shown| {
        let mut changed = false;
        let mut names: Vec<&str> = listing.panes.iter().map(|pane| pane.session_name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        shown.sessions_total = u64::try_from(names.len()).unwrap_or(u64::MAX);
        for (agent, pane) in &places {
            let seen =
                pane.as_ref().and_then(|id| listing.panes.iter().find(|pane| pane.pane.to_string() == *id));
            let facts = seen.map(|pane| SessionFacts {
                created_at: instant(pane.session_created),
                windows: pane.session_windows,
                last_activity: instant(pane.session_activity.max(pane.window_activity)),
                attached: pane.session_attached > 0,
                seen_at: now,
            });
            changed |= facts.as_ref() != shown.sessions.get(agent);
            match facts {
                Some(facts) => shown.sessions.insert(agent.clone(), facts),
                None => shown.sessions.remove(agent),
            };
        }
        changed
    });
    if listing.panes.iter().any(|pane| pane.session_attached > 0 && pane.options.contains_key("@gt_agent")) {
        handle.runtime().shared().attention.somebody_attached();
    }
    if changed {
        handle.tell(Message::Refresh).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_was_asked_for_moves_no_other_one() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let (zero, every) = (Instant::now(), minutes(3));
        let at = |n: u64| zero + minutes(n);
        let cases = [
            // due, began, ended: the next one, overruns
            ((0, 0, 0), (3, 0)),
            // Asked for, once and again.
            ((3, 1, 1), (3, 0)),
            ((3, 2, 2), (3, 0)),
            // Asked for, and still at it when the next was due.
            ((3, 2, 4), (6, 0)),
            // Too long for one, and for two.
            ((3, 3, 7), (9, 1)),
            ((3, 3, 10), (12, 2)),
            // The machine slept: what was slept through is neither made up for nor an overrun.
            ((3, 60, 60), (63, 0)),
        ];
        for ((due, began, ended), (next, overruns)) in cases {
            let found = following(at(due), at(began), at(ended), every);
            assert_eq!(found, (at(next), overruns), "due {due}, began {began}, ended {ended}");
        }
    }

    #[test]
    fn another_interval_counts_from_the_last_round_and_never_ends_in_the_past() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let zero = Instant::now() + minutes(60);
        let cases = [
            // next, old interval, new interval, now: next
            ((3, 3, 5, 1), 5),
            ((3, 3, 2, 1), 2),
            // Shorter than what has passed: now.
            ((10, 10, 1, 4), 4),
        ];
        for ((next, old, new, now), expected) in cases {
            let found = rescheduled(zero + minutes(next), minutes(old), minutes(new), zero + minutes(now));
            assert_eq!(found, zero + minutes(expected), "{next} {old} {new} {now}");
        }
    }
}
