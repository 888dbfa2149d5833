//! Roles that run on demand: started by somebody, ended again when they have said for long enough that they idle.
//!
//! Only an agent's own word counts, and only without a break: silence is never idleness.

use std::time::Duration;

use gtd_proto::params::ReportState;
use gtd_proto::{Address, Intent, Timestamp};
use serde::{Deserialize, Serialize};

use super::core::Core;
use super::machine::{Machine, Phase, Then, Wish};
use super::moves::End;
use super::planner::{Mode, Situation};
use super::policy::after;
use super::requests::Ask;
use super::throttle::Asker;
use super::turn::{Answer, Ticket, Turn};

/// What is known of an agent's idling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idling {
    /// It has said so since then, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// After this long it is ended. Of today's configuration, and not remembered.
    #[serde(skip)]
    pub ttl: Option<Duration>,
}

impl Idling {
    /// Nothing that is worth remembering.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.since.is_none()
    }
}

impl Core {
    /// Something is there for an agent: one that runs on demand, and that nobody stopped, is started for it; one that
    /// is paused when its pause is over.
    pub(super) fn wake(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let woken = self.each(agent, now, turn, |machine, situation, turn| {
            // A stop by somebody outranks whatever comes for it.
            let sleeps = machine.idling.ttl.is_some()
                && machine.wish.is_of_policy()
                && machine.wish.intent == Intent::Stopped;
            if !sleeps || machine.may_start_but_for_a_pause(situation, Asker::Program).is_err() {
                return false;
            }
            machine.want(Intent::Running, ask, now);
            turn.agent_row(machine);
            turn.touched(&machine.address);
            match &mut machine.phase {
                Phase::Rest => machine.start_unless_held("something is there for it", situation, turn),
                Phase::Draining { then, .. } | Phase::Ending { then } => *then = Then::Start,
                _ => {}
            }
            true
        });
        let already = woken != Some(true);
        Self::reply(turn, ticket, Answer::Changed { already, accepted: true, survivors: Vec::new() });
    }
}

impl Machine {
    /// Takes in what the agent says of itself.
    pub(super) fn declared(&mut self, state: ReportState, now: Timestamp, turn: &mut Turn) {
        let since = match state {
            ReportState::Idle => self.idling.since.or(Some(now)),
            _ => None,
        };
        if self.idling.since != since {
            self.idling.since = since;
            turn.agent_row(self);
        }
    }

    /// When it is to be ended for idling.
    pub(super) fn idle_until(&self) -> Option<Timestamp> {
        self.idling.since.zip(self.idling.ttl).map(|(since, ttl)| after(since, ttl))
    }

    /// Ends it when it has idled for long enough. It then waits to be asked for again.
    pub(super) fn end_idle(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let (Some(due), Some(ttl), Phase::Running) = (self.idle_until(), self.idling.ttl, &self.phase) else {
            return;
        };
        if due > now {
            return;
        }
        if situation.observing {
            // Nothing is ended without knowing what should run: looked at again after as long.
            self.idling.since = Some(now);
            return;
        }
        self.wish = Wish::of_policy(&self.address, &Mode::OnDemand(ttl), now);
        let why = format!("it idled for {}, and runs on demand", humantime::format_duration(ttl));
        self.end(End { now: true, ..End::new(Then::Rest, "supervisor", &why) }, situation, turn);
    }

    /// An instance ends or begins: what an earlier one said is of no consequence.
    pub(super) fn forget_idling(&mut self) {
        self.idling.since = None;
    }

    /// Whether somebody asked for it, so that it is kept running until it idles.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.wish.intent == Intent::Running && !self.wish.is_of_policy()
    }
}
