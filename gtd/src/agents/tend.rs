//! A living instance: told of its end by the kernel, ended on request, and not let go of until nothing
//! proven to be of it is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::exit::Usage;
use gtd_proto::{Address, Timestamp};
use tokio::time::sleep;

use super::begin::{Living, found};
use super::frost::Frost;
use super::launch::Ready;
use super::order::{EndedBy, Ending, Life, Place, What};
use super::pressure::Pressure;
use super::remains::after_the_shim;
use super::runtime::{Shared, target};
use super::task::{self as order, EndOrder, Work};
use crate::process::record::{By, Phase, Record};
use crate::process::{Observation, Signal, Watch, identify};
use crate::tmux::Pane;

/// How many lines of an ended agent's screen are kept.
const OUTPUT_LINES: u32 = 20;
/// How long an ended agent's screen may take: its death is told then without.
const OUTPUT_DEADLINE: Duration = Duration::from_millis(500);
/// How long a shim may take to write down the end of its agent. It takes about 0.3 ms.
const RECORD_DEADLINE: Duration = Duration::from_secs(2);
/// How often a screen is looked at for a prompt.
const PROMPT_POLL: Duration = Duration::from_millis(250);
/// How long a shim may live on when its agent has ended: it ends the rest within 5.25 s.
const LAGGING: Duration = Duration::from_secs(10);

/// What was reported of an instance so far.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ended: bool,
    ready: bool,
    /// By which means its end is known.
    pub(super) by: &'static str,
}

impl Default for Told {
    fn default() -> Self {
        Self { ended: false, ready: false, by: "pidfd" }
    }
}

impl Told {
    /// Of one that ended while nobody watched it.
    pub(super) fn while_away(by: &'static str) -> Self {
        Self { by, ..Self::default() }
    }
}

/// Stays with the instance until it is gone.
pub(super) async fn tend(work: &mut Work<'_>, living: Living) {
    let Living { mut life, mut shim, process, ready, end, born } = living;
    let shared = Arc::clone(work.shared);
    let mut told = Told { ready: ready.is_none(), ended: life.process.is_none(), ..Told::default() };
    let mut agent = process;
    if agent.is_none() && life.process.is_some() {
        ended(work, &life, &mut shim, &mut told).await;
    }
    let mut next_look = ready.as_ref().map_or(born, |rule| born + first_look(rule));
    let mut wanted = end;
    let mut pressure: Option<Pressure<'_>> = None;
    let mut lags_at: Option<Instant> = None;
    let mut frost = Frost::default();
    loop {
        if told.ended && wanted.is_none() {
            let at = *lags_at.get_or_insert_with(|| Instant::now() + LAGGING);
            if at <= Instant::now() {
                let by = "supervisor: its shim lives on without it".to_owned();
                wanted = Some(EndOrder { force: true, keep_pane: true, by });
            }
        }
        let lags_in = lags_at.map(|at| at.saturating_duration_since(Instant::now()));
        let escalate_in = pressure.as_ref().map(|p| p.until.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = gone(&mut agent), if !told.ended => {
                agent = None;
                ended(work, &life, &mut shim, &mut told).await;
            }
            _ = shim.exited() => break,
            order = work.told() => match order {
                order::Told::End(order) => {
                    if let (true, Some(p)) = (order.force, pressure.as_mut()) {
                        p.force(&shared, work, &life, &order.by).await;
                    }
                    // Its end lets go of whatever stands still.
                    frost = Frost::default();
                    wanted = Some(order);
                }
                order::Told::Frost(order) if wanted.is_none() && !told.ended => {
                    frost.begin(work, &life, order).await;
                }
                order::Told::Frost(_) => {}
            },
            () = sleep(frost.wait()), if frost.is_under_way() && !told.ended => frost.look(work, &life).await,
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
            () = sleep(lags_in.unwrap_or_default()), if lags_in.is_some() && wanted.is_none() => {}
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
    // What is left may take for ever, and others wait for their stop.
    drop(pressure);
    after_the_shim(work, &mut life, &told).await;
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

/// The agent's process is gone: waits for the shim's word about how, and tells.
async fn ended(work: &mut Work<'_>, life: &Life, shim: &mut Watch, told: &mut Told) {
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
        // A shim whose agent left nothing behind goes at once, and the kernel tells us sooner than a timer would.
        tokio::select! {
            _ = shim.exited() => {}
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
        }
    };
    tell_end(work, life, record.as_deref(), "pidfd").await;
}

pub(super) async fn tell_end(
    work: &Work<'_>,
    life: &Life,
    record: Option<&Record>,
    detected_by: &'static str,
) {
    let known = record.filter(|record| matches!(record.phase, Phase::Ended | Phase::Gone));
    let now = Timestamp::now();
    let recorded = known.and_then(Record::ended);
    let ended_at = recorded.unwrap_or(now);
    let by = known.map_or(EndedBy::Unknown, |record| ended_by(record.by));
    // A shim that was killed takes its agent along with KILL, and can write nothing down. Without any
    // record nothing is known.
    let signal = match (known, record) {
        (Some(record), _) => record.signal,
        (None, Some(_)) => Some(Signal::Kill.number()),
        (None, None) => None,
    };
    let clean = by == EndedBy::Agent && known.and_then(|record| record.code) == Some(0);
    let (output, client_activity) = tokio::join!(screen(work.shared, &life.place), async {
        // Only of a clean end does it matter who was there.
        if clean { work.shared.client_activity(&life.place).await } else { None }
    });
    let killed = signal == Some(Signal::Kill.number()) && matches!(by, EndedBy::Agent | EndedBy::Unknown);
    let ending = Ending {
        pid: life.process.as_ref().map(|process| process.pid.get()),
        started_at: record.map(Record::began).or(life.started_at),
        ended_at,
        code: known.and_then(|record| record.code),
        signal,
        by,
        client_activity,
        limit: match by {
            EndedBy::Agent => super::limits::recognise(&output, ended_at, &jiff::tz::TimeZone::system()),
            _ => None,
        },
        oom: if killed { work.shared.oom.judge(work.agent) } else { None },
        said: None,
        exec_error: None,
        output,
        usage: known.map(usage).unwrap_or_default(),
        detected_by,
        detect_ms: recorded.map(|at| {
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

/// Whether what ran in a pane has ended: also before tmux has seen it, or while a child that was spared keeps
/// the terminal open.
pub(super) fn is_over(pane: &Pane) -> bool {
    let ended = |pid| matches!(identify(pid), Observation::Dead(_) | Observation::Absent);
    pane.dead || pane.pane_pid.is_some_and(ended)
}

/// Closes the pane that a dead instance left. A pane in which somebody has started something else stays.
pub(super) async fn close_pane(shared: &Shared, agent: &Address, place: &Place) {
    let Some((server, pane)) = target(place) else { return };
    let listing = match shared.driver.list().await {
        Ok(listing) if listing.server == server => listing,
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(%agent, %error, "its pane could not be closed");
            return;
        }
    };
    let over = listing.panes.iter().find(|other| other.pane == pane && is_over(other));
    // A person may start something in it at this very moment.
    let closed = match over.map(|pane| pane.pane_pid) {
        Some(Some(ended)) => shared.driver.close_pane_of(&server, &pane, ended).await,
        Some(None) => shared.driver.close_dead_pane(&server, &pane).await,
        None => Ok(false),
    };
    if let Err(error) = closed {
        tracing::warn!(%agent, %error, "its pane could not be closed");
    }
    shared.forget_place(agent);
}
