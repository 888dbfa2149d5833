//! What people and agents ask for, and who waits for what.

use std::collections::BTreeSet;

use gtd_proto::params::ReportState;
use gtd_proto::{Address, ErrorKind, InstanceId, Intent, RigName, RpcError, Timestamp};

use super::core::Core;
use super::machine::{Machine, Phase, Then, Wish};
use super::moves::{End, cancelled};
use super::planner::Situation;
use super::policy;
use super::rig_requests::RigAsk;
use super::rigs::unknown_rig;
use super::throttle::Asker;
use super::turn::{Answer, Outcome, Ticket, Turn};
use super::waiting::Awaited;
use super::workers::Admission;
use crate::agents::order::Overrides;

/// Something that is asked for.
#[derive(Debug, Clone)]
pub enum Request {
    /// Start an agent; join a start that is under way.
    Start {
        /// Which.
        agent: Address,
        /// What to launch it with from now on: `None` keeps what an earlier start said.
        overrides: Option<Overrides>,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Stop an agent; it stays stopped.
    Stop {
        /// Which.
        agent: Address,
        /// How.
        how: How,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Stop and start an agent as a new instance.
    Restart {
        /// Which.
        agent: Address,
        /// What to launch it with from now on.
        overrides: Option<Overrides>,
        /// How to stop it.
        how: How,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Clear back-off and quarantine.
    Reset {
        /// Which.
        agent: Address,
        /// Who asks.
        ask: Ask,
    },
    /// A person says that an instance of which nothing can be told is dead.
    DeclareDead {
        /// Whose.
        agent: Address,
        /// How they know.
        evidence: String,
        /// Who says so.
        ask: Ask,
    },
    /// There is a worker, whether its directory was seen already or not.
    Enlist {
        /// Which.
        agent: Address,
    },
    /// Say whether a new worker could be started now.
    Admit(Box<Admission>),
    /// Forget a worker of which nothing is left.
    Dismiss {
        /// Which.
        agent: Address,
        /// Who asks.
        ask: Ask,
    },
    /// An agent says what it does.
    Said {
        /// Which start of it.
        instance: InstanceId,
        /// What it says.
        state: ReportState,
    },
    /// An agent says until when its silence is no stall.
    Promised {
        /// Which start of it.
        instance: InstanceId,
        /// Until then, on the line.
        due: Timestamp,
    },
    /// Change a rig's standing.
    Rig {
        /// Which.
        rig: RigName,
        /// What is asked of it.
        what: RigAsk,
        /// Who asks, and why. Nobody waits: see [`Self::RigSettled`].
        ask: Ask,
    },
    /// Say when these agents of a rig are where its standing wants them.
    RigSettled {
        /// Which.
        rig: RigName,
        /// Those that something was begun with.
        agents: BTreeSet<Address>,
        /// How long the caller waits.
        wait: Wait,
    },
    /// Change nothing, and say when it is so.
    Wait {
        /// Which; every agent with which something is under way unless given.
        agent: Option<Address>,
        /// What to wait for.
        awaited: Awaited,
        /// How long.
        wait: Wait,
    },
    /// Stop everything, and keep it so.
    TownStop {
        /// How.
        how: How,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Lift the hold, and start what should run.
    TownStart {
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
}

/// Who asks, why, and for how long they wait.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `person`, or an agent's address.
    pub by: String,
    /// In their words.
    pub reason: Option<String>,
    /// How long they wait for the effect.
    pub wait: Wait,
}

/// Who asks when a person does.
pub const PERSON: &str = "person";

impl Ask {
    pub(super) fn asker(&self) -> Asker {
        if self.by == PERSON { Asker::Person } else { Asker::Program }
    }
}

/// How long a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// To the end.
    ToTheEnd,
    /// Until then, then an error that says how far it got.
    Until(Timestamp),
    /// Not at all.
    No,
}

/// How to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Do not wait for the turn to end.
    pub now: bool,
    /// KILL at once.
    pub force: bool,
}

impl Core {
    pub(super) fn request(&mut self, ticket: Ticket, request: Request, now: Timestamp, turn: &mut Turn) {
        turn.peer = request.by().map(str::to_owned);
        self.carry(ticket, request, now, turn);
        turn.peer = None;
    }

    fn carry(&mut self, ticket: Ticket, request: Request, now: Timestamp, turn: &mut Turn) {
        match request {
            Request::Start { agent, overrides, ask } => {
                self.start(ticket, &agent, overrides, &ask, now, turn)
            }
            Request::Stop { agent, how, ask } => self.stop(ticket, &agent, how, &ask, now, turn),
            Request::Restart { agent, overrides, how, ask } => {
                self.restart(ticket, &agent, overrides, how, &ask, now, turn);
            }
            Request::Reset { agent, ask } => self.reset(ticket, &agent, &ask, now, turn),
            Request::DeclareDead { agent, evidence, ask } => {
                self.declare_dead(ticket, &agent, evidence, &ask, now, turn);
            }
            Request::Enlist { agent } => self.enlist(ticket, &agent, now, turn),
            Request::Admit(admission) => self.admit(ticket, *admission, now, turn),
            Request::Dismiss { agent, .. } => self.dismiss(ticket, &agent, turn),
            Request::Said { instance, state } => self.said(ticket, &instance, state, now, turn),
            Request::Promised { instance, due } => self.promise(ticket, &instance, due, now, turn),
            Request::Rig { rig, what, ask } => self.ask_rig(ticket, &rig, what, &ask, now, turn),
            Request::RigSettled { rig, agents, wait } => self.await_rig(ticket, &rig, &agents, wait, turn),
            Request::Wait { agent, awaited, wait } => {
                self.await_effect(ticket, agent.as_ref(), awaited, wait, turn);
            }
            Request::TownStop { how, ask } => self.town_stop(ticket, how, &ask, now, turn),
            Request::TownStart { ask } => self.town_start(ticket, &ask, now, turn),
        }
    }

    pub(super) fn known(&self, agent: &Address) -> Result<(), RpcError> {
        if self.agents.contains_key(agent) {
            return Ok(());
        }
        if let Some(rig) = agent.rig().filter(|rig| !self.facts.rigs.contains_key(*rig)) {
            return Err(unknown_rig(rig, &self.facts));
        }
        Err(RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}"))
            .hint("gtctl status"))
    }

    fn start(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        overrides: Option<Overrides>,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let result = self.each(agent, now, turn, |machine, situation, turn| {
            machine.judge_by_what_is_known(situation, turn);
            let running = machine.phase == Phase::Running;
            if !running {
                machine.may_start(situation, ask.asker()).map_err(|blocked| blocked.error)?;
            }
            machine.want(Intent::Running, ask, now);
            if let Some(overrides) = overrides {
                machine.overrides = overrides;
            }
            machine.clear(ask, situation, turn);
            machine.passes &= !running;
            match &mut machine.phase {
                Phase::Running => return Ok(true),
                Phase::Draining { then, .. } | Phase::Ending { then } => *then = Then::Start,
                // What is left of the last life goes first; then it starts at once.
                Phase::Dead { next, settled_at, gone, .. } => {
                    *next = policy::Next::Start { delay: std::time::Duration::ZERO };
                    *settled_at = now;
                    let gone = *gone;
                    // The next daemon would do what was decided before.
                    turn.agent_row(machine);
                    if gone {
                        machine.on_time(situation, turn);
                    }
                }
                // Only a person passes a hold after a mass death.
                Phase::Rest | Phase::Waiting { .. } | Phase::Broken
                    if situation.incident.is_some() && !machine.passes =>
                {
                    // What it waited for is forgiven.
                    machine.phase = Phase::Rest;
                    machine.await_incident(situation, turn);
                }
                Phase::Rest | Phase::Waiting { .. } | Phase::Broken => {
                    machine.launch("it was asked for", situation, turn);
                }
                Phase::Starting { .. } | Phase::Adopting => {}
            }
            Ok(false)
        });
        match result {
            None => {}
            Some(Ok(true)) => {
                Self::reply(
                    turn,
                    ticket,
                    Answer::Changed { already: true, accepted: false, survivors: Vec::new() },
                );
            }
            Some(Ok(false)) => self.wait(ticket, agent, Awaited::Started, ask.wait, turn),
            Some(Err(error)) => Self::reply(turn, ticket, Answer::Failed(Box::new(error))),
        }
    }

    pub(super) fn stop(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        how: How,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let at_rest = self.each(agent, now, turn, |machine, situation, turn| {
            machine.want(Intent::Stopped, ask, now);
            turn.agent_row(machine);
            turn.touched(&machine.address);
            machine.call_off("it was stopped", turn);
            let end = End {
                now: how.now,
                force: how.force,
                ..End::new(Then::Rest, &ask.by, "it was asked to stop")
            };
            machine.stop(end, situation, turn)
        });
        match at_rest {
            None => {}
            Some(Some(already)) => {
                Self::reply(
                    turn,
                    ticket,
                    Answer::Changed { already, accepted: false, survivors: Vec::new() },
                );
            }
            Some(None) => self.wait(ticket, agent, Awaited::Stopped, ask.wait, turn),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a request's parts, taken apart once")]
    fn restart(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        overrides: Option<Overrides>,
        how: How,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if self.agents.get(agent).is_some_and(|machine| machine.phase == Phase::Adopting) {
            let why = format!("{agent} is being looked for after a restart of the daemon");
            let error = RpcError::new(ErrorKind::Busy, why).hint("try again in a moment");
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let busy = self.agents.get(agent).is_some_and(|machine| {
            matches!(machine.phase, Phase::Running | Phase::Starting { .. } | Phase::Draining { .. })
        });
        if !busy {
            return self.start(ticket, agent, overrides, ask, now, turn);
        }
        let result = self.each(agent, now, turn, |machine, situation, turn| {
            machine.may_start(situation, ask.asker()).map_err(|blocked| blocked.error)?;
            machine.want(Intent::Running, ask, now);
            if let Some(overrides) = overrides {
                machine.overrides = overrides;
            }
            machine.clear(ask, situation, turn);
            let end = End {
                now: how.now,
                force: how.force,
                ..End::new(Then::Start, &ask.by, "it was asked to restart")
            };
            machine.end(end, situation, turn);
            turn.agent_row(machine);
            Ok(())
        });
        match result {
            None => {}
            Some(Ok(())) => self.wait(ticket, agent, Awaited::Started, ask.wait, turn),
            Some(Err(error)) => Self::reply(turn, ticket, Answer::Failed(Box::new(error))),
        }
    }

    fn reset(&mut self, ticket: Ticket, agent: &Address, ask: &Ask, now: Timestamp, turn: &mut Turn) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let mut lifted = None;
        let already = self.each(agent, now, turn, |machine, situation, turn| {
            machine.judge_by_what_is_known(situation, turn);
            let waits = matches!(machine.phase, Phase::Waiting { .. } | Phase::Broken);
            let blank = machine.memory == policy::Memory::default() && machine.owed.is_none();
            turn.decided(&machine.address, now, "reset", "forgive all failures", &ask.by);
            machine.clear(ask, situation, turn);
            lifted = machine
                .next_account()
                .filter(|account| situation.limits.lift_account(account))
                .map(str::to_owned);
            // Of one that runs there is nothing to pass.
            machine.passes &= waits || matches!(machine.phase, Phase::Dead { .. });
            if let Phase::Dead { next, .. } = &mut machine.phase {
                // What was decided on its death, and not done yet, is forgiven too.
                if !matches!(next, policy::Next::Rest) {
                    *next = policy::Next::Start { delay: std::time::Duration::ZERO };
                }
                turn.agent_row(machine);
            }
            if waits {
                turn.released(machine, "reset", &ask.by, now);
                machine.phase = Phase::Rest;
                machine.start_unless_held("it was reset", situation, turn);
            }
            !waits && blank
        });
        if let Some(account) = lifted {
            self.look_at_all_throttled(&account, now, turn);
        }
        let already = already.unwrap_or(false);
        Self::reply(turn, ticket, Answer::Changed { already, accepted: false, survivors: Vec::new() });
    }
}

impl Machine {
    /// Somebody wants it started, whatever was held against it.
    fn clear(&mut self, ask: &Ask, situation: &Situation<'_>, turn: &mut Turn) {
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

    fn want(&mut self, intent: Intent, ask: &Ask, now: Timestamp) {
        self.wish = Wish { intent, by: ask.by.clone(), reason: ask.reason.clone(), at: now };
        self.passes = false;
    }

    /// Tells whoever waits for a start that it will not come.
    pub(super) fn call_off(&self, why: &str, turn: &mut Turn) {
        let coming = matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Ending { then: Then::Start }
                | Phase::Draining { then: Then::Start, .. }
        );
        if coming {
            turn.outcome(&self.address, Outcome::StartFailed(Box::new(cancelled(&self.address, why))));
        }
    }

    /// Brings it to rest. `Some(already)` when it is there at once, `None` when it takes its time.
    pub(super) fn stop(&mut self, end: End, situation: &mut Situation<'_>, turn: &mut Turn) -> Option<bool> {
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
}
