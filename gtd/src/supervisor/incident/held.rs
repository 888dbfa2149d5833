//! How one agent meets a hold of restarts: it waits for it, unless a person passes it.

use gtd_proto::Intent;

use crate::supervisor::machine::{Machine, Pause, Phase};
use crate::supervisor::planner::Situation;
use crate::supervisor::throttle::Asker;
use crate::supervisor::turn::Turn;

impl Machine {
    /// Starts it when it may be started, unless restarts are held and no person passes that: then it waits for it.
    pub(in crate::supervisor) fn start_unless_held(
        &mut self,
        why: &str,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        self.start_unless_held_for(Asker::Policy, why, situation, turn);
    }

    /// The same, for somebody.
    pub(in crate::supervisor) fn start_unless_held_for(
        &mut self,
        asker: Asker,
        why: &str,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        let held = situation.incident.is_some() && !self.passes && self.wish.intent == Intent::Running;
        if !held || self.may_start(situation, asker).is_err() {
            return self.start_or_rest_for(asker, why, situation, turn);
        }
        // What is left of a wait of its own is not lost in one that may be shorter.
        match self.owed.take().filter(|(until, _)| *until > situation.now) {
            Some((until, pause)) => self.wait_on(until, pause, situation.now, turn),
            None => self.await_incident(situation, turn),
        }
    }

    /// Waits until restarts are no longer held, and for its own back-off where that is longer.
    pub(in crate::supervisor) fn await_incident(&mut self, situation: &Situation<'_>, turn: &mut Turn) {
        let Some(held) = situation.incident else { return };
        let until = match self.phase {
            // Whatever else it waited for is over, or somebody has ended it: a person's hold has no end at all.
            Phase::Waiting { until, why: Pause::Backoff | Pause::Retry | Pause::Incident } => {
                until.max(held.until)
            }
            _ => held.until,
        };
        let why = format!("incident {}", held.id);
        if self.phase != (Phase::Waiting { until, why: Pause::Incident }) {
            turn.decided(&self.address, situation.now, &why, "hold its start", "many agents died together");
        }
        self.enter(Phase::Waiting { until, why: Pause::Incident }, situation.now, Some(why), turn);
    }
}
