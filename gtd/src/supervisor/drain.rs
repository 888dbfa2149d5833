//! Taking an agent out of service: it ends its turn, is ended, and stays away until somebody puts it back.
//!
//! A drain lies over what is wanted and changes nothing of that: its end brings back what was to run, and not
//! what somebody had stopped. A turn is waited for as long as it takes: that it is long is no reason to end it.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::params::ReportState;
use gtd_proto::{Activity, Address, ErrorKind, Intent, RpcError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::core::Core;
use super::machine::{Machine, Phase, Then};
use super::moves::End;
use super::planner::{Blocked, Situation};
use super::policy::{after, since};
use super::requests::Ask;
use super::turn::{Answer, Ticket, Turn};
use super::waiting::Awaited;

/// After so long a person is told that a turn does not end.
const LONG: Duration = Duration::from_secs(30 * 60);

/// An agent is out of service, or on its way there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Who wanted it: `person`, or an agent's address.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// The end of its turn is waited for. No longer once somebody stops it.
    pub patient: bool,
    /// It said that a turn was under way, and nothing else since.
    pub working: bool,
    /// Nothing of it is left, and that was told.
    pub done: bool,
}

/// The refusal that work, text and starts for a drained agent meet.
#[must_use]
pub fn refusal(agent: &Address, done: bool) -> RpcError {
    let what = if done { "is drained" } else { "is being drained" };
    RpcError::new(ErrorKind::Busy, format!("{agent} {what}, and takes nothing new"))
        .hint(format!("gtctl undrain {agent}"))
        .with("reason", "drained")
}

impl Core {
    /// Takes an agent out of service.
    pub(super) fn drain(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        // (it was so already, it is at rest)
        let begun = self.each(agent, now, turn, |machine, situation, turn| {
            let already = machine.drain.is_some();
            if already && machine.phase != Phase::Running {
                return (true, machine.phase == Phase::Rest);
            }
            let working = machine.activity == Activity::Working && machine.is_alive();
            if !already {
                machine.drain = Some(Drain {
                    by: ask.by.clone(),
                    reason: ask.reason.clone(),
                    at: now,
                    patient: true,
                    working,
                    done: false,
                });
                machine.passes = false;
            }
            turn.agent_row(machine);
            turn.touched(&machine.address);
            machine.call_off("it is being drained", turn);
            let end = End::new(Then::Rest, &ask.by, "it is being drained");
            let at_rest = machine.bring_to_rest(end, situation, turn).is_some();
            if at_rest {
                machine.is_drained(now, turn);
            }
            (already, at_rest)
        });
        match begun {
            None => {}
            Some((already, true)) => Self::done(turn, ticket, already),
            Some((_, false)) => self.wait(ticket, agent, Awaited::Stopped, ask.wait, turn),
        }
    }

    /// Puts it back.
    pub(super) fn undrain(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let starts = self.each(agent, now, turn, |machine, situation, turn| {
            let drain = machine.drain.take()?;
            turn.released(machine, "it was put back into service", &ask.by, now);
            turn.decided(&machine.address, now, "undrain", "let it run again", &ask.by);
            turn.agent_row(machine);
            turn.touched(&machine.address);
            let wanted = machine.wish.intent == Intent::Running;
            match &mut machine.phase {
                // Its turn goes on, and so does it.
                Phase::Draining { then: Then::Rest, .. } if drain.patient => {
                    machine.alert = None;
                    machine.enter(Phase::Running, now, None, turn);
                    // The rig may have been set aside meanwhile.
                    machine.reconcile(situation, turn);
                }
                Phase::Ending { then } if wanted && drain.patient => *then = Then::Start,
                Phase::Rest if wanted => {
                    machine.start_unless_held("it was put back into service", situation, turn);
                }
                Phase::Rest => machine.reason.clone_from(&machine.wish.reason),
                _ => {}
            }
            Some(matches!(machine.phase, Phase::Starting { .. } | Phase::Ending { then: Then::Start }))
        });
        match starts {
            None => {}
            Some(None) => Self::done(turn, ticket, true),
            Some(Some(false)) => Self::done(turn, ticket, false),
            Some(Some(true)) => self.wait(ticket, agent, Awaited::Started, ask.wait, turn),
        }
    }

    fn done(turn: &mut Turn, ticket: Ticket, already: bool) {
        Self::reply(turn, ticket, Answer::Changed { already, accepted: false, survivors: Vec::new() });
    }
}

impl Machine {
    /// Nothing starts it while it is drained, whoever asks.
    pub(super) fn barred_by_drain(&self) -> Result<(), Blocked> {
        match &self.drain {
            Some(drain) => Err(Blocked {
                reason: "drained".to_owned(),
                error: refusal(&self.address, drain.done),
                shortage: None,
            }),
            None => Ok(()),
        }
    }

    /// It came to rest: told once for each drain.
    pub(super) fn is_drained(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(drain) = &mut self.drain else { return };
        let first = !std::mem::replace(&mut drain.done, true);
        let data = json!({ "by": drain.by, "reason": drain.reason });
        self.reason = Some("drained".to_owned());
        if first {
            self.alert = None;
            turn.event(self, kind::AGENT_DRAINED, now, data);
            turn.agent_row(self);
        }
    }

    /// What the agent says of itself matters while its turn is waited for, also to the next daemon.
    pub(super) fn heed_turn(&mut self, state: ReportState, turn: &mut Turn) {
        let goes_on = |before: bool| match state {
            ReportState::Working => true,
            ReportState::Waiting => before,
            ReportState::Started | ReportState::Idle | ReportState::Ended => false,
        };
        if let Some(drain) = &mut self.drain
            && drain.working != goes_on(drain.working)
        {
            let working = !drain.working;
            drain.working = working;
            turn.agent_row(self);
        }
    }

    /// A question in the middle of a turn is not its end, where that is waited for.
    pub(super) fn asks_within_its_turn(&self, state: ReportState) -> bool {
        state == ReportState::Waiting && self.drain.as_ref().is_some_and(|drain| drain.patient)
    }

    /// Somebody wants it ended: the end of its turn is then waited for no longer than at any other end.
    pub(super) fn wait_no_longer(&mut self, turn: &mut Turn) {
        if let Some(drain) = &mut self.drain
            && std::mem::replace(&mut drain.patient, false)
        {
            turn.agent_row(self);
        }
    }

    /// Its rig is set aside, or the like, while its turn is waited for: it has as long as at any other end.
    pub(super) fn hurry(&mut self, then: Then, situation: &Situation<'_>, turn: &mut Turn) {
        if self.drain.as_ref().is_some_and(|drain| drain.patient) {
            self.wait_no_longer(turn);
            self.phase = Phase::Draining { until: after(situation.now, situation.settings.drain), then };
            turn.touched(&self.address);
        }
    }

    /// The end of its turn is waited for however long it takes. True when it still is.
    pub(super) fn goes_on_draining(&mut self, then: Then, now: Timestamp, turn: &mut Turn) -> bool {
        let Some(drain) = self.drain.as_ref().filter(|drain| drain.patient) else { return false };
        let so_far = since(drain.at, now);
        if so_far >= LONG {
            let address = &self.address;
            let note = format!(
                "it is being drained, and its turn has not ended for {}: gtctl undrain {address}, or stop it",
                humantime::format_duration(Duration::from_secs(so_far.as_secs() / 60 * 60))
            );
            self.alert = Some(note);
        }
        self.phase = Phase::Draining { until: after(now, LONG), then };
        turn.touched(&self.address);
        true
    }
}
