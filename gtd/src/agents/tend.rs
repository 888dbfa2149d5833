//! A living instance: told of its end by the kernel, ended on request, and not let go of until nothing
//! proven to be of it is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::agent::SignalSent;
use gtd_proto::exit::Usage;
use gtd_proto::{Address, Timestamp};
use tokio::sync::SemaphorePermit;
use tokio::time::sleep;

use super::begin::{Living, exec_failed, found};
use super::launch::Ready;
use super::order::{EndedBy, Ending, Life, Place, What};
use super::runtime::{Shared, target};
use super::task::{EndOrder, Work};
use crate::process::record::{By, Phase, Record};
use crate::process::{
    Capture, EndOptions, Guard, Look, Observation, ProcessId, ProcessTable, Proof, Sent, Signal, Spare,
    Target, Watch, WatchError, end, observe, send,
};

/// How many lines of an ended agent's screen are kept.
const OUTPUT_LINES: u32 = 20;
/// How long an ended agent's screen may take: its death is told then without.
const OUTPUT_DEADLINE: Duration = Duration::from_millis(500);
/// How long a shim may take to write down the end of its agent. It takes about 0.3 ms.
const RECORD_DEADLINE: Duration = Duration::from_secs(2);
/// What a shim gets beyond the agent's grace before the next stronger signal.
const MARGIN: Duration = Duration::from_secs(3);
/// How often a screen is looked at for a prompt.
const PROMPT_POLL: Duration = Duration::from_millis(250);
/// How often survivors are looked for that nobody can watch.
const SURVIVOR_POLL: Duration = Duration::from_secs(5);
/// How long tmux may take to notice the end of a process that the kernel has told us of. Usually milliseconds.
const NOTICE: Duration = Duration::from_secs(1);

/// What was reported of an instance so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    ended: bool,
    ready: bool,
}

/// Stays with the instance until it is gone.
pub(super) async fn tend(work: &mut Work<'_>, living: Living) {
    let Living { mut life, mut shim, process, ready, end, born } = living;
    let shared = Arc::clone(work.shared);
    let mut told = Told { ready: ready.is_none(), ended: life.process.is_none() };
    let mut agent = process;
    if agent.is_none() && life.process.is_some() {
        ended(work, &life, &shim, &mut told).await;
    }
    let mut next_look = ready.as_ref().map_or(born, |rule| born + first_look(rule));
    let mut wanted = end;
    let mut pressure: Option<Pressure<'_>> = None;
    loop {
        let escalate_in = pressure.as_ref().map(|p| p.until.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = gone(&mut agent), if !told.ended => {
                agent = None;
                ended(work, &life, &shim, &mut told).await;
            }
            _ = shim.exited() => break,
            order = work.end_ordered() => {
                if let (true, Some(p)) = (order.force, pressure.as_mut()) {
                    p.force(&shared, work, &life, &order.by).await;
                }
                wanted = Some(order);
            }
            permit = shared.stops.acquire(), if wanted.is_some() && pressure.is_none() => {
                if let (Ok(permit), Some(order)) = (permit, &wanted) {
                    pressure = Some(Pressure::begin(&shared, work, &life, order, permit).await);
                }
            }
            () = sleep(escalate_in.unwrap_or_default()), if escalate_in.is_some() => {
                if let Some(p) = pressure.as_mut() {
                    p.escalate(&shared, work, &life).await;
                }
            }
            () = sleep(next_look.saturating_duration_since(Instant::now())), if !told.ready && !told.ended => {
                match &ready {
                    Some(rule) if is_ready(&shared, &life, rule).await => {
                        told.ready = true;
                        work.report(What::Ready).await;
                    }
                    Some(Ready::Report) | None => told.ready = true,
                    Some(_) => next_look = Instant::now() + PROMPT_POLL,
                }
            }
        }
    }
    after_the_shim(work, &mut life, &told).await;
    drop(pressure);
    if let Some(order) = wanted
        && !order.keep_pane
    {
        close_pane(&shared, work.agent, &life.place).await;
    }
}

async fn gone(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => {
            watch.exited().await;
        }
        None => std::future::pending().await,
    }
}

fn first_look(rule: &Ready) -> Duration {
    match rule {
        Ready::AliveFor(span) | Ready::Prompt { alive_for: span, .. } => *span,
        Ready::Report => Duration::ZERO,
    }
}

async fn is_ready(shared: &Shared, life: &Life, rule: &Ready) -> bool {
    match rule {
        // Still here at this age: that was the question.
        Ready::AliveFor(_) => true,
        Ready::Report => false,
        Ready::Prompt { prefix, .. } => {
            let Some((server, pane)) = target(&life.place) else { return false };
            let screen = shared.driver.capture(&server, &pane, 50).await.unwrap_or_default();
            // Some programs put a no-break space behind their prompt.
            let prefix = prefix.trim_end();
            screen.iter().any(|line| line.trim_start().starts_with(prefix))
        }
    }
}

/// Signals to the shim, each stronger than the one before.
struct Pressure<'a> {
    level: Signal,
    until: Instant,
    by: String,
    _permit: SemaphorePermit<'a>,
}

impl<'a> Pressure<'a> {
    async fn begin(
        shared: &Shared,
        work: &Work<'_>,
        life: &Life,
        order: &EndOrder,
        permit: SemaphorePermit<'a>,
    ) -> Self {
        let level = if order.force { Signal::Quit } else { Signal::Term };
        let grace = if order.force { Duration::ZERO } else { Duration::from_millis(life.grace_ms) };
        signal_shim(shared, work, life, level, &order.by).await;
        Self { level, until: Instant::now() + grace + MARGIN, by: order.by.clone(), _permit: permit }
    }

    async fn force(&mut self, shared: &Shared, work: &Work<'_>, life: &Life, by: &str) {
        if self.level == Signal::Term {
            by.clone_into(&mut self.by);
            self.escalate(shared, work, life).await;
        }
    }

    /// TERM was not enough: QUIT, which kills at once; then KILL of the shim, which takes the agent along.
    async fn escalate(&mut self, shared: &Shared, work: &Work<'_>, life: &Life) {
        self.level = if self.level == Signal::Term { Signal::Quit } else { Signal::Kill };
        self.until = Instant::now() + MARGIN;
        signal_shim(shared, work, life, self.level, &self.by).await;
    }
}

async fn signal_shim(shared: &Shared, work: &Work<'_>, life: &Life, signal: Signal, by: &str) {
    let Some(table) = process_table().await else { return };
    let look = look();
    // What descends from the agent now may have other parents once the shim is dead.
    shared.with_capture(work.agent, |capture| {
        if let Some(capture) = capture {
            capture.merge(&table, look.as_ref());
        }
    });
    let guard = match Guard::from_table(&table, shared.servers()) {
        Ok(guard) => guard,
        Err(error) => {
            tracing::error!(agent = %work.agent, %error, "no signal is sent");
            return;
        }
    };
    let target = Target::new(life.shim.clone(), Proof::Recorded);
    // A stopped shim hears nothing but KILL until it is continued.
    for signal in [signal, Signal::Cont] {
        match send(&guard, &target, signal) {
            Ok(sent) => work.report(What::Signals(vec![signal_sent(&sent, work, by)])).await,
            Err(crate::process::Refused::Gone(_)) => return,
            Err(error) => tracing::error!(agent = %work.agent, %error, "its shim could not be signalled"),
        }
    }
}

fn signal_sent(sent: &Sent, work: &Work<'_>, by: &str) -> SignalSent {
    SignalSent {
        at: sent.at,
        agent: Some(work.agent.clone()),
        instance: Some(work.instance.clone()),
        pid: sent.target.pid.get(),
        start: sent.target.start.get(),
        signal: sent.signal.number(),
        evidence: serde_json::json!({ "proof": sent.proof, "comm": sent.comm, "boot": sent.target.boot }),
        by: by.to_owned(),
    }
}

async fn process_table() -> Option<ProcessTable> {
    match tokio::task::spawn_blocking(ProcessTable::read).await {
        Ok(Ok(table)) => Some(table),
        Ok(Err(error)) => {
            tracing::error!(%error, "the process table cannot be read");
            None
        }
        Err(error) => {
            tracing::error!(%error, "reading the process table failed");
            None
        }
    }
}

fn look() -> Arc<dyn Look> {
    Arc::new(Spare::default())
}

/// The agent's process is gone: waits for the shim's word about how, and tells.
async fn ended(work: &mut Work<'_>, life: &Life, shim: &Watch, told: &mut Told) {
    told.ended = true;
    let path = work.shared.record_file(work.instance);
    let asked = Instant::now();
    let mut pause = Duration::from_micros(200);
    let record = loop {
        // Asked first: a shim that has gone has written its last word before.
        let gone = shim.has_exited().is_some();
        let record = found(&path);
        let final_word = record.as_ref().is_some_and(|r| matches!(r.phase, Phase::Ended | Phase::Gone));
        if final_word || gone || asked.elapsed() > RECORD_DEADLINE {
            break record;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    tell_end(work, life, record.as_deref(), "pidfd").await;
}

async fn tell_end(work: &Work<'_>, life: &Life, record: Option<&Record>, detected_by: &'static str) {
    let known = record.filter(|record| matches!(record.phase, Phase::Ended | Phase::Gone));
    let now = Timestamp::now();
    let ended_at = known.and_then(|record| record.ended_at).unwrap_or(now);
    let output = screen(work.shared, &life.place).await;
    let ending = Ending {
        pid: life.process.as_ref().map(|process| process.pid.get()),
        started_at: life.started_at,
        ended_at,
        code: known.and_then(|record| record.code),
        // A shim that was killed takes its agent along with KILL, and can write nothing down.
        signal: known.map_or(Some(Signal::Kill.number()), |record| record.signal),
        by: known.map_or(EndedBy::Unknown, |record| ended_by(record.by)),
        exec_error: None,
        output,
        usage: known.map(usage).unwrap_or_default(),
        detected_by,
        detect_ms: known.and_then(|record| record.ended_at).map(|at| {
            let span = now.duration_since(at).as_secs_f64() * 1_000.0;
            (span.max(0.0) * 1_000.0).round() / 1_000.0
        }),
    };
    work.report(What::Ended(Box::new(ending))).await;
}

fn ended_by(by: By) -> EndedBy {
    match by {
        By::Agent => EndedBy::Agent,
        By::Term => EndedBy::Term,
        By::Kill => EndedBy::Kill,
        By::PaneClosed => EndedBy::PaneClosed,
        By::ServerGone => EndedBy::ServerGone,
        By::Unknown => EndedBy::Unknown,
    }
}

fn usage(record: &Record) -> Usage {
    Usage {
        user_ms: record.usage.user_ms,
        system_ms: record.usage.system_ms,
        max_rss_kib: record.usage.max_rss_bytes / 1024,
    }
}

async fn screen(shared: &Shared, place: &Place) -> Vec<String> {
    let Some((server, pane)) = target(place) else { return Vec::new() };
    let lines =
        tokio::time::timeout(OUTPUT_DEADLINE, shared.driver.capture(&server, &pane, OUTPUT_LINES)).await;
    let mut lines = lines.ok().and_then(Result::ok).unwrap_or_default();
    // tmux writes this itself below what the agent wrote.
    if lines.last().is_some_and(|line| line.starts_with("Pane is dead")) {
        lines.pop();
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
    }
    let surplus = lines.len().saturating_sub(usize::try_from(OUTPUT_LINES).unwrap_or(0));
    lines.split_off(surplus)
}

/// The shim is gone: what is left is found by proof, ended, and reported until there is nothing.
pub(super) async fn after_the_shim(work: &mut Work<'_>, life: &mut Life, told: &Told) {
    let shared = Arc::clone(work.shared);
    let record = found(&shared.record_file(work.instance));
    if let Some(error) = record.as_ref().and_then(|record| record.exec_error.as_ref()) {
        exec_failed(work, error).await;
        return;
    }
    if let (None, Some(record)) = (&life.process, &record) {
        life.process = record.agent_id();
    }
    if !told.ended && life.process.is_some() {
        tell_end(work, life, record.as_deref(), "pidfd").await;
    }
    if life.process.is_none() {
        let why = "its shim ended before it could start the agent";
        work.not_launched(super::order::FailureKind::Ours, why, None).await;
        return;
    }
    let mut capture = shared.with_capture(work.agent, Option::take).unwrap_or_else(|| recorded(work, life));
    let proper = record.as_ref().is_some_and(|record| record.phase == Phase::Gone);
    let mut left = if proper { survivors(record.as_deref()) } else { proven(&mut capture).await };
    if !proper && !left.is_empty() {
        work.report(What::Lingering { processes: left.clone() }).await;
        left = end_rest(&shared, work, &mut capture, life).await;
    }
    while !left.is_empty() {
        work.report(What::Gone { survivors: left.clone() }).await;
        outlive(&shared, &left).await;
        left.retain(|id| !matches!(observe(id), Observation::Dead(_) | Observation::Absent));
    }
    work.report(What::Gone { survivors: Vec::new() }).await;
}

pub(super) fn recorded(work: &Work<'_>, life: &Life) -> Capture {
    let ids = [Some(life.shim.clone()), life.process.clone()].into_iter().flatten();
    Capture::new(work.instance.to_string(), ids)
}

/// What a shim could not end, as far as it still lives.
fn survivors(record: Option<&Record>) -> Vec<ProcessId> {
    let Some(record) = record else { return Vec::new() };
    let ids = record.survivors.iter().map(|left| ProcessId {
        boot: record.boot_id.clone(),
        pid: left.pid,
        start: left.start,
    });
    ids.filter(|id| !matches!(observe(id), Observation::Dead(_) | Observation::Absent)).collect()
}

async fn proven(capture: &mut Capture) -> Vec<ProcessId> {
    let Some(table) = process_table().await else { return Vec::new() };
    let look = look();
    capture.merge(&table, look.as_ref());
    capture.proven(&table, look.as_ref()).targets.iter().map(|target| target.id().clone()).collect()
}

async fn end_rest(shared: &Shared, work: &Work<'_>, capture: &mut Capture, life: &Life) -> Vec<ProcessId> {
    let options =
        EndOptions { grace: Duration::from_millis(life.grace_ms.min(10_000)), ..EndOptions::default() };
    let report = end(&shared.watcher, capture, &shared.servers(), &look(), options).await;
    let by = "supervisor: left over after its shim";
    let signals = report.signals.iter().map(|sent| signal_sent(sent, work, by)).collect();
    work.report(What::Signals(signals)).await;
    for (id, why) in &report.refused {
        tracing::warn!(agent = %work.agent, process = %id, %why, "not signalled");
    }
    report.survivors
}

/// Waits until one of them is gone, or for a while.
async fn outlive(shared: &Shared, left: &[ProcessId]) {
    for id in left {
        match shared.watcher.watch(id) {
            Ok(mut watch) => {
                let _ = tokio::time::timeout(SURVIVOR_POLL, watch.exited()).await;
                return;
            }
            Err(WatchError::AlreadyGone(_)) => return,
            Err(WatchError::Unknown(_)) => {}
        }
    }
    sleep(SURVIVOR_POLL).await;
}

/// Closes the pane that a dead instance left. A pane in which somebody has started something else stays.
pub(super) async fn close_pane(shared: &Shared, agent: &Address, place: &Place) {
    let Some((server, pane)) = target(place) else { return };
    let asked = Instant::now();
    let dead = loop {
        let listing = match shared.driver.list().await {
            Ok(listing) if listing.server == server => listing,
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%agent, %error, "its pane could not be closed");
                return;
            }
        };
        match listing.panes.iter().find(|other| other.pane == pane) {
            // We hear of the shim's end from the kernel, perhaps before tmux does.
            Some(other) if !other.dead && asked.elapsed() < NOTICE => sleep(NOTICE / 50).await,
            other => break other.is_some_and(|other| other.dead),
        }
    };
    if dead && let Err(error) = shared.driver.kill_pane(&server, &pane).await {
        tracing::warn!(%agent, %error, "its pane could not be closed");
    }
    shared.forget_place(agent);
}
