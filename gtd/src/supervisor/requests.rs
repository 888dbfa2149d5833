//! What people and agents ask for, and who waits for what.

use std::collections::BTreeSet;

use gtd_proto::{Address, ErrorKind, InstanceId, Intent, RigName, RpcError, Timestamp};

use super::closed::Closed;
use super::core::Core;
use super::machine::{Phase, Then};
use super::moves::End;
use super::noted::Noted;
use super::pause_requests::PauseAsk;
use super::policy;
use super::reports::Said;
use super::rig_requests::RigAsk;
use super::rigs::unknown_rig;
use super::throttle::Asker;
use super::turn::{Answer, Ticket, Turn};
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
    /// Start a worker that was made to run. A pause that has come since only delays that.
    StartMade {
        /// Which.
        agent: Address,
        /// What to launch it with from now on.
        overrides: Overrides,
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
    /// End this instance, and start another in its place; what is wanted of the agent stays as it is.
    Renew {
        /// Which.
        agent: Address,
        /// Only this instance of it.
        instance: InstanceId,
        /// Who asks, and why. Nobody waits.
        ask: Ask,
    },
    /// Let an agent end its turn, end it, and keep it away.
    Drain {
        /// Which.
        agent: Address,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// The end of that.
    Undrain {
        /// Which.
        agent: Address,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Something is there for an agent that runs on demand.
    Wake {
        /// Which.
        agent: Address,
        /// Who wants it, and why. Nobody waits.
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
    /// A worker is being made or removed, and nobody else starts it; or no longer.
    Close {
        /// Which.
        agent: Address,
        /// What is under way with it.
        closed: Option<Closed>,
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
        said: Said,
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
    /// One of the others, with a row that is committed together with what it decides.
    Noted(Box<Noted>),
    /// Stop everything, and keep it so.
    TownStop {
        /// How.
        how: How,
        /// Who asks, why, and how long they wait.
        ask: Ask,
    },
    /// Freeze what runs, and start nothing; or let it go on.
    Pause {
        /// What.
        what: PauseAsk,
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

    pub(super) fn carry(&mut self, ticket: Ticket, request: Request, now: Timestamp, turn: &mut Turn) {
        match request {
            Request::Renew { agent, instance, ask } => self.renew(ticket, &agent, &instance, &ask, now, turn),
            Request::Start { agent, overrides, ask } => {
                self.start(ticket, &agent, overrides, &ask, now, turn)
            }
            Request::StartMade { agent, overrides, ask } => {
                self.start_made(ticket, &agent, overrides, &ask, now, turn);
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
            Request::Close { agent, closed } => self.close(ticket, &agent, closed, now, turn),
            Request::Admit(admission) => self.admit(ticket, *admission, now, turn),
            Request::Dismiss { agent, .. } => self.dismiss(ticket, &agent, turn),
            Request::Said { instance, said } => self.said(ticket, &instance, &said, now, turn),
            Request::Drain { agent, ask } => self.drain(ticket, &agent, &ask, now, turn),
            Request::Undrain { agent, ask } => self.undrain(ticket, &agent, &ask, now, turn),
            Request::Wake { agent, ask } => self.wake(ticket, &agent, &ask, now, turn),
            Request::Rig { rig, what, ask } => self.ask_rig(ticket, &rig, what, &ask, now, turn),
            Request::RigSettled { rig, agents, wait } => self.await_rig(ticket, &rig, &agents, wait, turn),
            Request::Wait { agent, awaited, wait } => {
                self.await_effect(ticket, agent.as_ref(), awaited, wait, turn);
            }
            Request::Noted(noted) => self.noted(ticket, *noted, now, turn),
            Request::TownStop { how, ask } => self.town_stop(ticket, how, &ask, now, turn),
            Request::Pause { what, ask } => self.pause_or_resume(ticket, what, &ask, now, turn),
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

    pub(super) fn start(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        overrides: Option<Overrides>,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        self.meet(agent, now, turn);
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let result = self.each(agent, now, turn, |machine, situation, turn| {
            machine.judge_by_what_is_known(situation, turn);
            let running = machine.phase == Phase::Running;
            if !running || machine.paused.is_some() {
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
        self.meet(agent, now, turn);
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
