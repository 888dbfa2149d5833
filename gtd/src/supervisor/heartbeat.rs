//! The heartbeat: a sweep over everything on one shared look, reported step by step.
//!
//! It is the audit, not the detector: deaths come from the kernel, changes from files and requests. It runs in
//! a task of its own and holds nobody up.

mod audit;
mod round;

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use gtd_proto::daemon::HeartbeatState;
use gtd_proto::{Address, Timestamp};
use tokio_util::sync::CancellationToken;

pub use self::audit::survey;
use self::audit::{look_at_broken, show_sessions};
pub(super) use self::round::Step;
use super::core::Input;
use super::deacon::Watchman;
use super::handle::Handle;
use super::run::Message;
use super::{leftovers, orphans};
use crate::clock::{Clock, ShiftWatch};
use crate::config::Live;

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
    watchman: Watchman,
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
            () = handle.runtime().shared().spared_noted.notified() => {
                orphans::keep_spared(&handle).await;
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
        let report = tokio::select! {
            report = round::round(&handle, &watchman, live.now()) => report,
            // A step that hangs keeps no daemon from ending.
            () = stop.cancelled() => return,
        };
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
