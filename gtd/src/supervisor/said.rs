//! What agents say of themselves, and what follows from it at once.
//!
//! Pure. Only the present instance is listened to: what an earlier one says is known, and of no consequence.

use gtd_proto::params::ReportState;
use gtd_proto::{Activity, Address, InstanceId, Timestamp};

use super::core::Core;
use super::machine::Phase;
use super::turn::{Answer, Ticket, Turn};

const HEARD: Answer = Answer::Changed { already: false, accepted: false, survivors: Vec::new() };
const STALE: Answer = Answer::Changed { already: true, accepted: false, survivors: Vec::new() };

impl Core {
    pub(super) fn said(
        &mut self,
        ticket: Ticket,
        instance: &InstanceId,
        state: ReportState,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(agent) = self.speaker(instance) else { return Self::reply(turn, ticket, STALE) };
        self.each(&agent, now, turn, |machine, _, turn| {
            // A finished turn is progress; that it began, or was spoken to, is none.
            let finished = machine.activity == Activity::Working && state == ReportState::Idle;
            if finished {
                machine.progressed("a turn ended", now, turn);
            }
            machine.declared(state, now, turn);
            let turn_over = machine.said(state.activity(), state != ReportState::Ended, now, turn);
            turn.reported(machine, state, now);
            if let (true, Phase::Draining { then, .. }) = (turn_over, &machine.phase) {
                let then = *then;
                machine.terminate(then, false, "supervisor", "its turn has ended".to_owned(), now, turn);
            }
        });
        Self::reply(turn, ticket, HEARD);
    }

    /// An agent will be silent until then.
    pub(super) fn promise(
        &mut self,
        ticket: Ticket,
        instance: &InstanceId,
        due: Timestamp,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(agent) = self.speaker(instance) else { return Self::reply(turn, ticket, STALE) };
        self.each(&agent, now, turn, |machine, _, turn| machine.promised(due, now, turn));
        Self::reply(turn, ticket, HEARD);
    }

    /// Whose present instance it is.
    fn speaker(&self, instance: &InstanceId) -> Option<Address> {
        let mut agents = self.agents.values();
        let is = |current: &super::machine::Current| current.instance == *instance;
        agents.find(|machine| machine.current.as_ref().is_some_and(is)).map(|machine| machine.address.clone())
    }
}
