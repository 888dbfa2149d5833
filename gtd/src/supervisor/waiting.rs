//! Who waits for what, and what they are told.
//!
//! A waiter is answered when what it waits for happens, when it can no longer happen, or at its deadline: never
//! not at all.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::wait::WaitFor;
use gtd_proto::{Activity, Address, ErrorKind, RpcError, State, Timestamp, town};

use super::core::Core;
use super::machine::{Machine, Pause, Phase};
use super::pauses::put_off;
use super::requests::{Request, Wait};
use super::turn::{Answer, Outcome, Ticket, Turn};

/// Clients that may wait for a state at the same time, all together.
pub const WAITERS: usize = 1_024;

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Until it is ready.
    Started,
    /// Until nothing of it is left.
    Stopped,
    /// Until it stands still.
    Frozen,
    /// Until it goes on.
    Thawed,
    /// Until it is so, whatever way it takes.
    Reached(WaitFor),
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Waiter {
    ticket: Ticket,
    until: Option<Timestamp>,
    awaited: Awaited,
    /// More than one agent, or the whole town: every outcome is collected.
    town: bool,
    open: BTreeSet<Address>,
    items: Vec<town::Outcome>,
}

impl Waiter {
    /// Whose answer it is.
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.until
    }

    /// Takes in what happened in a turn; the answer, when it is complete.
    pub(super) fn hear(
        &mut self,
        outcomes: &[(Address, Outcome)],
        agents: &BTreeMap<Address, Machine>,
        now: Timestamp,
    ) -> Option<Answer> {
        if let Awaited::Reached(wanted) = self.awaited {
            return self.look(wanted, agents, now);
        }
        let mut results = Vec::new();
        for (agent, outcome) in outcomes {
            if self.open.contains(agent)
                && let Some(result) = judge(self.awaited, agent, outcome)
            {
                self.open.remove(agent);
                results.push((agent.clone(), result));
            }
        }
        // Whatever way an agent took: where nothing is under way any more, there is nothing to wait for.
        let came_to_rest: Vec<_> = self
            .open
            .iter()
            .filter_map(|agent| Some((agent.clone(), at_rest(self.awaited, agents.get(agent)?)?)))
            .collect();
        for (agent, result) in came_to_rest {
            self.open.remove(&agent);
            results.push((agent, result));
        }
        for (agent, result) in results {
            if !self.town {
                return Some(match result {
                    Ok(survivors) => Answer::Changed { already: false, accepted: false, survivors },
                    Err(error) => Answer::Failed(error),
                });
            }
            self.items.push(match result {
                Ok(survivors) if survivors.is_empty() => outcome_of(&agent, Ok(false)),
                Ok(survivors) => outcome_of(&agent, Err(still_there(&agent, &survivors))),
                Err(error) => outcome_of(&agent, Err(*error)),
            });
        }
        if self.open.is_empty() && self.town {
            self.items.sort_by(|a, b| a.agent.cmp(&b.agent));
            return Some(Answer::Town(std::mem::take(&mut self.items)));
        }
        if self.until.is_some_and(|until| until <= now) {
            if matches!(self.awaited, Awaited::Frozen | Awaited::Thawed) {
                // Each of many has an answer of its own, also those that are late.
                let late = std::mem::take(&mut self.open);
                self.items.extend(
                    late.iter().map(|agent| outcome_of(agent, Err(super::pause_requests::late(agent)))),
                );
                return self.hear(outcomes, agents, now);
            }
            let late = self.open.iter().next().cloned()?;
            let reached = agents.get(&late).map_or("nothing", |machine| machine.state().as_str());
            return Some(Answer::Failed(Box::new(in_time(&late, reached))));
        }
        None
    }

    fn look(&self, wanted: WaitFor, agents: &BTreeMap<Address, Machine>, now: Timestamp) -> Option<Answer> {
        let agent = self.open.iter().next()?;
        let failed = |error| Some(Answer::Failed(Box::new(error)));
        match agents.get(agent) {
            machine if is_so(wanted, machine) => {
                Some(Answer::Changed { already: false, accepted: false, survivors: Vec::new() })
            }
            None => failed(
                RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent} any more"))
                    .hint("gtctl status"),
            ),
            Some(machine) if self.until.is_some_and(|until| until <= now) => {
                let state = machine.state();
                failed(
                    RpcError::new(
                        ErrorKind::Timeout,
                        format!("{agent} was not {wanted} in time; it is {state}"),
                    )
                    .hint(format!("gtctl explain {agent}"))
                    .with("reached", state),
                )
            }
            Some(_) => None,
        }
    }
}

/// Whether an agent is as wanted.
fn is_so(wanted: WaitFor, machine: Option<&Machine>) -> bool {
    let Some(machine) = machine else { return wanted == WaitFor::Gone };
    match wanted {
        WaitFor::State(state) => machine.state() == state,
        WaitFor::Ready => {
            let ready = machine.current.as_ref().is_some_and(|current| current.ready_at.is_some());
            ready && machine.is_alive() && machine.phase == Phase::Running
        }
        WaitFor::Idle => machine.is_alive() && machine.activity == Activity::Idle,
        WaitFor::Gone => machine.current.is_none() && machine.lingering.is_empty(),
    }
}

pub(super) type Judged = Result<Vec<String>, Box<RpcError>>;

/// What a waiter is told about an agent with which nothing is under way.
fn at_rest(awaited: Awaited, machine: &Machine) -> Option<Judged> {
    let resting = matches!(machine.phase, Phase::Rest | Phase::Waiting { .. } | Phase::Broken);
    let address = &machine.address;
    match awaited {
        Awaited::Started if machine.phase == Phase::Running => Some(Ok(Vec::new())),
        // It comes about when the pause is over: nobody is let wait for that.
        Awaited::Started if machine.is_coming() => {
            Some(Err(Box::new(put_off(machine.paused.as_ref()?, address))))
        }
        Awaited::Started if resting => {
            if let (Phase::Waiting { why: Pause::Throttled, .. }, Some(throttle)) =
                (&machine.phase, &machine.throttle)
            {
                return Some(Err(Box::new(throttle.shortage.error(address))));
            }
            let why = machine.reason.as_deref().unwrap_or("something else was asked for");
            let error = RpcError::new(ErrorKind::Busy, format!("{address} was not started: {why}"))
                .hint(format!("gtctl explain {address}"));
            let error = match &machine.paused {
                Some(_) => error.with("reached", State::Paused),
                None => error,
            };
            Some(Err(Box::new(error)))
        }
        Awaited::Stopped if resting => Some(Ok(Vec::new())),
        Awaited::Stopped if machine.phase == Phase::Running => {
            let error = RpcError::new(ErrorKind::Busy, format!("{address} was started again meanwhile"))
                .hint(format!("gtctl status {address}"));
            Some(Err(Box::new(error)))
        }
        Awaited::Frozen => machine.stands_still(),
        Awaited::Thawed => machine.goes_on_again(),
        Awaited::Started | Awaited::Stopped | Awaited::Reached(_) => None,
    }
}

fn judge(awaited: Awaited, agent: &Address, outcome: &Outcome) -> Option<Judged> {
    match (awaited, outcome) {
        (Awaited::Started, Outcome::Started) => Some(Ok(Vec::new())),
        (Awaited::Started, Outcome::StartFailed(error)) => Some(Err(error.clone())),
        (Awaited::Started, Outcome::StartUnconfirmed { reached }) => {
            Some(Err(Box::new(in_time(agent, reached))))
        }
        (Awaited::Stopped, Outcome::Stopped { survivors }) => Some(Ok(survivors.clone())),
        _ => None,
    }
}

fn in_time(agent: &Address, reached: &str) -> RpcError {
    RpcError::new(
        ErrorKind::Timeout,
        format!("{agent} was not confirmed in time; it got as far as {reached}"),
    )
    .hint(format!("gtctl explain {agent}"))
    .with("reached", reached)
}

fn still_there(agent: &Address, survivors: &[String]) -> RpcError {
    let many = survivors.len();
    RpcError::new(ErrorKind::Timeout, format!("{agent}: {many} of its processes could not be ended"))
        .hint(format!("gtctl explain {agent}"))
        .with("reached", "survivors")
        .with("survivors", survivors)
}

pub(super) fn outcome_of(agent: &Address, result: Result<bool, RpcError>) -> town::Outcome {
    match result {
        Ok(already) => town::Outcome { agent: agent.clone(), ok: true, already, error: None },
        Err(error) => town::Outcome { agent: agent.clone(), ok: false, already: false, error: Some(error) },
    }
}

impl Request {
    /// Who asks for a change.
    pub(super) fn by(&self) -> Option<&str> {
        match self {
            Self::Start { ask, .. }
            | Self::StartMade { ask, .. }
            | Self::Stop { ask, .. }
            | Self::Restart { ask, .. }
            | Self::Renew { ask, .. }
            | Self::Drain { ask, .. }
            | Self::Undrain { ask, .. }
            | Self::Wake { ask, .. }
            | Self::Reset { ask, .. }
            | Self::DeclareDead { ask, .. }
            | Self::Dismiss { ask, .. }
            | Self::Rig { ask, .. }
            | Self::Pause { ask, .. }
            | Self::TownStop { ask, .. }
            | Self::TownStart { ask } => Some(&ask.by),
            Self::Noted(noted) => noted.request.by(),
            Self::Admit(_)
            | Self::Enlist { .. }
            | Self::Close { .. }
            | Self::Said { .. }
            | Self::Wait { .. }
            | Self::RigSettled { .. } => None,
        }
    }
}

impl Core {
    /// Waits for something that nobody asks for here: a state, or the effect of an earlier request.
    pub(super) fn await_effect(
        &mut self,
        ticket: Ticket,
        agent: Option<&Address>,
        awaited: Awaited,
        wait: Wait,
        turn: &mut Turn,
    ) {
        let fail = |turn: &mut Turn, error| Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        let Some(agent) = agent else {
            let busy = |machine: &&Machine| at_rest(awaited, machine).is_none();
            let open = self.agents.values().filter(busy).map(|machine| machine.address.clone()).collect();
            return self.wait_for_town(ticket, awaited, open, Vec::new(), wait, turn);
        };
        if let Err(error) = self.known(agent) {
            return fail(turn, error);
        }
        let states =
            self.waiters.iter().filter(|waiter| matches!(waiter.awaited, Awaited::Reached(_))).count();
        if matches!(awaited, Awaited::Reached(_)) && states >= WAITERS {
            let why = format!("{states} clients wait for an agent already");
            return fail(
                turn,
                RpcError::new(ErrorKind::TooBusy, why).hint("follow the events instead: events.subscribe"),
            );
        }
        self.wait(ticket, agent, awaited, wait, turn);
    }

    /// Forgets waiters whose clients have left.
    pub fn forget(&mut self, gone: &BTreeSet<Ticket>) {
        self.waiters.retain(|waiter| !gone.contains(&waiter.ticket));
    }

    pub(super) fn wait(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        awaited: Awaited,
        wait: Wait,
        turn: &mut Turn,
    ) {
        if wait == Wait::No {
            return Self::reply(
                turn,
                ticket,
                Answer::Changed { already: false, accepted: true, survivors: Vec::new() },
            );
        }
        self.waiters.push(Waiter {
            ticket,
            until: until(wait),
            awaited,
            town: false,
            open: BTreeSet::from([agent.clone()]),
            items: Vec::new(),
        });
    }

    pub(super) fn wait_for_town(
        &mut self,
        ticket: Ticket,
        awaited: Awaited,
        open: BTreeSet<Address>,
        items: Vec<town::Outcome>,
        wait: Wait,
        turn: &mut Turn,
    ) {
        if wait == Wait::No || open.is_empty() {
            return Self::reply(turn, ticket, Answer::Town(items));
        }
        self.waiters.push(Waiter { ticket, until: until(wait), awaited, town: true, open, items });
    }
}

fn until(wait: Wait) -> Option<Timestamp> {
    match wait {
        Wait::Until(until) => Some(until),
        Wait::ToTheEnd | Wait::No => None,
    }
}
