//! Seeing a freeze, or the end of one, through: looked at again until a whole look says so.
//!
//! Owns the pace of these looks. What was frozen whole is looked at again with each event only, such as a process
//! that comes to us because its parent ended. It must never stop anything that the plan does not want frozen.

use std::time::{Duration, Instant};

use super::watch::Shim;
use super::write;

/// Between looks: at first, and at most. A process stuck in the kernel may take for ever to stop.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// How far a freeze, or a thaw, has come.
#[derive(Debug, Default)]
pub(super) struct Frost {
    goal: Goal,
    again: Option<Instant>,
    pace: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Goal {
    /// Nothing is frozen.
    #[default]
    Free,
    /// Everything is to stand still.
    Frozen,
    /// What stood still is to go on.
    Thawing,
}

impl Frost {
    /// When to look again at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again
    }

    fn aim(&mut self, goal: Goal) {
        *self = Self { goal, again: None, pace: AGAIN.0 };
    }

    /// It is not whole yet.
    fn later(&mut self) {
        self.again = Some(Instant::now() + self.pace);
        self.pace = (self.pace * 2).min(AGAIN.1);
    }

    fn whole(&mut self) {
        (self.again, self.pace) = (None, AGAIN.0);
    }
}

impl Shim<'_> {
    pub(super) fn freeze(&mut self) {
        self.frost.aim(Goal::Frozen);
    }

    pub(super) fn thaw(&mut self) {
        self.frost.aim(Goal::Thawing);
    }

    /// Goes on with what is under way.
    pub(super) fn tend_frost(&mut self) {
        if self.frost.goal == Goal::Frozen && !self.plan.frozen() {
            // It is being ended: the plan's own signals let it go.
            self.frost.aim(Goal::Free);
        }
        match self.frost.goal {
            Goal::Free => {}
            Goal::Frozen => match self.tree.freeze() {
                Some(still) => {
                    self.frost.whole();
                    if self.record.frozen != still {
                        self.record.frozen = still;
                        write(self.launch, &self.record);
                    }
                }
                None => self.frost.later(),
            },
            Goal::Thawing if self.tree.thaw() => {
                self.frost.aim(Goal::Free);
                if !self.record.frozen.is_empty() {
                    self.record.frozen.clear();
                    write(self.launch, &self.record);
                }
            }
            Goal::Thawing => self.frost.later(),
        }
    }
}
