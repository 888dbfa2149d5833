//! Freezing an instance through its shim, or letting it go on, and seeing that it is so.
//!
//! The shim does it; here it is asked to, by a proven signal that is put on record, and the process table is looked
//! at until it shows the effect. Must never take a signal that was sent for its effect.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::Timestamp;

use super::order::{Frosted, Life, What};
use super::pressure::signal_sent;
use super::task::{FrostOrder, Work};
use crate::process::{
    Guard, Observation, Proof, Refused, Signal, Stillness, Target, is_still, observe, send, stillness,
};

/// Between looks: at first, and at most. A tree of some processes stands still within a millisecond or two.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Asked once more so soon, without a word: of two signals that wait for a shim the lower number is read first, so
/// that a pause soon after the end of another may be undone.
const ONCE_MORE: Duration = Duration::from_millis(200);
/// After so long it is told that it is not done. A process that waits for a disk stops when that has answered.
const LATE: Duration = Duration::from_secs(5);
/// How often what is late is asked for, and looked at, again: at first, and at least. Somebody may have stopped the
/// process on purpose, and each time is put on record.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// An account of what does not stand still names at most so many.
const NAMED: usize = 3;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Frost(Option<Doing>);

#[derive(Debug)]
struct Doing {
    order: FrostOrder,
    began: Instant,
    next: Instant,
    pace: Duration,
    again: Duration,
    asked_twice: bool,
    /// What was told of it last, if it was late.
    late: Option<String>,
}

impl Frost {
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// How long until the next look.
    pub(super) fn wait(&self) -> Duration {
        let next = self.0.as_ref().map(|doing| doing.next);
        next.map(|at| at.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// Asks the shim.
    pub(super) async fn begin(&mut self, work: &Work<'_>, life: &Life, order: FrostOrder) {
        let now = Instant::now();
        let trouble = ask(work, life, &order).await.err();
        self.0 = Some(Doing {
            order,
            began: now,
            next: now + LOOKS.0,
            pace: LOOKS.0,
            again: AGAIN.0,
            asked_twice: false,
            late: None,
        });
        if let Some(why) = trouble {
            self.tell_late(work, 0, why).await;
        }
    }

    /// Looks whether it is done, and tells.
    pub(super) async fn look(&mut self, work: &Work<'_>, life: &Life) {
        let Some(doing) = &mut self.0 else { return };
        let seen = seen(work, life, doing.order.frozen).await;
        let (processes, trouble) = match seen {
            Ok((processes, None)) => {
                let number = doing.order.number;
                self.0 = None;
                return work.report(What::Frost(Frosted { number, processes, trouble: None })).await;
            }
            Ok((processes, Some(why))) => (processes, why),
            Err(error) => (0, error.to_string()),
        };
        if doing.began.elapsed() < LATE {
            doing.next = Instant::now() + doing.pace;
            doing.pace = (doing.pace * 2).min(LOOKS.1);
            if doing.began.elapsed() >= ONCE_MORE && !std::mem::replace(&mut doing.asked_twice, true) {
                let _ = ask(work, life, &doing.order).await;
            }
            return;
        }
        let why = ask(work, life, &doing.order).await.err().unwrap_or(trouble);
        self.tell_late(work, processes, why).await;
    }

    async fn tell_late(&mut self, work: &Work<'_>, processes: u64, why: String) {
        let Some(doing) = &mut self.0 else { return };
        doing.next = Instant::now() + doing.again;
        doing.again = (doing.again * 2).min(AGAIN.1);
        if doing.late.as_ref() == Some(&why) {
            return;
        }
        doing.late = Some(why.clone());
        let number = doing.order.number;
        work.report(What::Frost(Frosted { number, processes, trouble: Some(why) })).await;
    }
}

/// Sends the signal to the shim.
async fn ask(work: &Work<'_>, life: &Life, order: &FrostOrder) -> Result<(), String> {
    let shared = work.shared;
    let guard = Guard::of_us(shared.servers()).map_err(|error| error.to_string())?;
    let target = Target::new(life.shim.clone(), Proof::Recorded);
    let signal = if order.frozen { Signal::Usr1 } else { Signal::Usr2 };
    let mut signals = vec![signal];
    // A stopped shim hears nothing until it is continued.
    if matches!(observe(&life.shim), Observation::Alive(stat) if stat.is_stopped()) {
        signals.push(Signal::Cont);
    }
    for signal in signals {
        match send(&guard, &target, signal) {
            Ok(sent) => work.report(What::Signals(vec![signal_sent(&sent, work, &order.by)])).await,
            Err(Refused::Gone(_)) => return Err("its shim is gone, and so it is being ended".to_owned()),
            Err(error) => return Err(format!("its shim could not be signalled: {error}")),
        }
    }
    Ok(())
}

/// How many processes there are, and why it is not as it should be.
async fn seen(work: &Work<'_>, life: &Life, frozen: bool) -> io::Result<(u64, Option<String>)> {
    let (shim, agent) = (life.shim.clone(), life.process.clone());
    let look = Arc::clone(&work.shared.look);
    let still = tokio::task::spawn_blocking(move || {
        stillness(&shim, agent.as_ref(), |stat| look.spared(stat).is_some())
    });
    let still = still.await.map_err(io::Error::other)??;
    let processes = u64::try_from(still.processes.len()).unwrap_or(u64::MAX);
    if !frozen {
        // What stood still before it was frozen still does: the agent itself never did.
        let agent = life.process.as_ref().map(observe);
        let stands = matches!(agent, Some(Observation::Alive(stat)) if is_still(&stat));
        return Ok((processes, stands.then(|| "its process does not go on".to_owned())));
    }
    if still.is_whole() {
        work.shared.with_capture(work.agent, |capture| {
            if let Some(capture) = capture {
                capture.descended(&life.shim, still.processes, Timestamp::now());
            }
        });
        return Ok((processes, None));
    }
    Ok((processes, Some(moving(&still))))
}

/// What does not stand still, in words.
fn moving(still: &Stillness) -> String {
    if still.moving.is_empty() {
        return "its processes could not all be looked at".to_owned();
    }
    let named = still.moving.iter().take(NAMED);
    let named: Vec<String> = named.map(|(pid, comm, state)| format!("{pid} {comm} ({state})")).collect();
    let more = still.moving.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let all = still.processes.len();
    format!("{} of its {all} processes have not stopped: {}{more}", still.moving.len(), named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Pid;

    #[test]
    fn what_moves_is_named_up_to_a_number() {
        let pid = |n| Pid::new(n).unwrap();
        let many = |n: i32| (2..2 + n).map(|n| (pid(n), "x".to_owned(), 'D')).collect::<Vec<_>>();
        let still = |moving| Stillness { processes: Vec::new(), moving, complete: true };
        assert!(moving(&still(many(1))).ends_with("2 x (D)"));
        assert!(moving(&still(many(5))).ends_with("4 x (D) and 2 more"));
        assert!(moving(&still(Vec::new())).contains("looked at"));
    }
}
