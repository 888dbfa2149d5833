//! What somebody wants of one agent, and bringing it to rest.

use gtd_proto::{Intent, Timestamp};

use super::machine::{Machine, Pause, Phase, Then, Wish};
use super::moves::{End, cancelled};
use super::planner::Situation;
use super::policy;
use super::requests::Ask;
use super::throttle::Asker;
use super::turn::{Outcome, Turn};
use crate::agents::order::Order;

impl Machine {
    /// Somebody wants it started, whatever was held against it.
    pub(super) fn clear(&mut self, ask: &Ask, situation: &Situation<'_>, turn: &mut Turn) {
        let held_against = self.memory != policy::Memory::default() || self.owed.is_some();
        if held_against {
            let why = format!("asked by {}", ask.by);
            turn.decided(&self.address, situation.now, "a start", "forgive all failures", &why);
        }
        policy::forgive(&mut self.memory);
        self.progress.finished = false;
        self.owed = None;
        self.passes = ask.asker() == Asker::Person;
        turn.agent_row(self);
        turn.touched(&self.address);
    }

    pub(super) fn want(&mut self, intent: Intent, ask: &Ask, now: Timestamp) {
        self.wish = Wish { intent, by: ask.by.clone(), reason: ask.reason.clone(), at: now };
        self.passes = false;
    }

    /// Tells whoever waits for a start that it will not come.
    pub(super) fn call_off(&self, why: &str, turn: &mut Turn) {
        if self.is_coming() {
            turn.outcome(&self.address, Outcome::StartFailed(Box::new(cancelled(&self.address, why))));
        }
    }

    /// A start of it is under way.
    pub(super) fn is_coming(&self) -> bool {
        matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Ending { then: Then::Start }
                | Phase::Draining { then: Then::Start, .. }
        )
    }

    /// Ends it, because somebody wants that. `Some(already)` when it is at rest at once, `None` when it takes its
    /// time.
    pub(super) fn stop(&mut self, end: End, situation: &mut Situation<'_>, turn: &mut Turn) -> Option<bool> {
        self.wait_no_longer(turn);
        self.bring_to_rest(end, situation, turn)
    }

    /// Brings it to rest. `Some(already)` when it is there at once, `None` when it takes its time.
    pub(super) fn bring_to_rest(
        &mut self,
        end: End,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) -> Option<bool> {
        let now = situation.now;
        let why = end.why.clone();
        self.judge_by_what_is_known(situation, turn);
        match self.phase {
            Phase::Rest => {
                self.reason.clone_from(&self.wish.reason);
                self.close_pane(turn);
                Some(true)
            }
            Phase::Waiting { .. } | Phase::Broken | Phase::Dead { gone: true, .. } => {
                self.set_aside();
                self.enter(Phase::Rest, now, Some(why), turn);
                self.close_pane(turn);
                turn.stopped(self, now);
                Some(false)
            }
            // Adoption finds out first what there is to stop; reconciling then stops it.
            Phase::Adopting => None,
            Phase::Ending { .. }
            | Phase::Draining { .. }
            | Phase::Starting { .. }
            | Phase::Running
            | Phase::Dead { .. } => {
                self.end(end, situation, turn);
                None
            }
        }
    }

    /// The dead pane of the last instance was kept to be used again: it no longer will be.
    pub(super) fn close_pane(&mut self, turn: &mut Turn) {
        if let Some(place) = self.last_place.take() {
            turn.order(&self.address, Order::Close { place });
        }
    }

    /// Waiting because something that is not its fault does not work.
    #[must_use]
    pub fn is_retrying(&self) -> bool {
        matches!(self.phase, Phase::Waiting { why: Pause::Retry, .. })
    }
}
