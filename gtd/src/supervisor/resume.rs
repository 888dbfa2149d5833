//! The machine was suspended: what waits for a process is given the time back, what waits for time to pass is not.

use std::time::Duration;

use gtd_proto::Timestamp;

use super::core::Core;
use super::machine::Phase;
use super::policy::after;
use super::turn::Turn;

impl Core {
    /// Back-offs, quarantines and other waits have gone on meanwhile, and whatever is due happens now. A launch
    /// and the end of a turn need a machine that runs: their deadlines move by as much as it did not.
    pub(super) fn resumed(&mut self, suspended: Duration, now: Timestamp, turn: &mut Turn) {
        self.breaker.resumed(now);
        for machine in self.agents.values_mut() {
            // Nobody got anywhere meanwhile, nor could.
            machine.progress.since = machine.progress.since.map(|at| after(at, suspended).min(now));
            match &mut machine.phase {
                Phase::Starting { deadline } => *deadline = after(*deadline, suspended),
                Phase::Draining { until, .. } => *until = after(*until, suspended),
                _ => continue,
            }
            turn.touched(&machine.address);
        }
    }
}
