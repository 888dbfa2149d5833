//! Workers: agents that exist because they were made, not because their rig does.
//!
//! A worker is known by its directory, or because whoever made it says so before the directory is seen. Nobody
//! but a request ever wants one to run. Must never forget one of which something is left.

use std::collections::BTreeMap;

use gtd_proto::{Address, Agent, ErrorKind, Intent, RigName, RpcError, State, Timestamp};

use super::core::Core;
use super::handle::Handle;
use super::machine::{Machine, Phase};
use super::pauses::put_off;
use super::requests::{Ask, Request};
use super::rigs::unknown_rig;
use super::throttle::Asker;
use super::turn::{Answer, Ticket, Turn};
use super::view::Shown;
use crate::agents::order::Overrides;
use crate::ledger::Write;

/// A new worker that somebody wants to start.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Which.
    pub agent: Address,
    /// The account that it would run under.
    pub account: Option<String>,
    /// A person wants it.
    pub by_person: bool,
    /// Workers that are being made and do not run yet, by rig: they count as if they did.
    pub coming: BTreeMap<RigName, u32>,
}

/// What is shown of a worker beside what the heart knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Its worktree.
    pub worktree: Option<String>,
    /// The branch that was made for it.
    pub branch: Option<String>,
    /// It is being removed, and takes nothing new.
    pub leaving: bool,
    /// Something about how it came to be that a person should know, while it is at rest.
    pub note: Option<String>,
}

impl Shown {
    /// What belongs to a worker, or no longer does.
    pub(super) fn belongs(&mut self, agent: &Address, what: Option<Belongings>) {
        match what {
            Some(what) => self.belongings.insert(agent.clone(), what),
            None => self.belongings.remove(agent),
        };
        if let Some(mut shown) = self.agents.get(agent).cloned() {
            self.dress(&mut shown);
            self.agents.insert(agent.clone(), shown);
        }
    }

    /// A worker that is being removed takes nothing new.
    #[must_use]
    pub fn is_leaving(&self, agent: &Address) -> bool {
        self.belongings.get(agent).is_some_and(|belongings| belongings.leaving)
    }

    /// Shows an agent with what belongs to it.
    pub(super) fn dress(&self, agent: &mut Agent) {
        let Some(belongings) = self.belongings.get(&agent.agent) else { return };
        if agent.worktree.is_none() {
            agent.worktree.clone_from(&belongings.worktree);
        }
        if agent.branch.is_none() {
            agent.branch.clone_from(&belongings.branch);
        }
        if agent.state == State::Stopped && belongings.note.is_some() {
            agent.reason.clone_from(&belongings.note);
        }
    }
}

pub(super) const DONE: Answer = Answer::Changed { already: false, accepted: false, survivors: Vec::new() };

impl Core {
    /// Takes in which workers there are.
    pub(super) fn learn_workers(&mut self, now: Timestamp, turn: &mut Turn) {
        // Those whom the ledger remembers are shown from the start, also when nothing happens to them.
        let known = self.agents.keys().filter(|agent| matches!(agent, Address::Polecat(..)));
        turn.changed.extend(known.cloned());
        for (rig, facts) in &self.facts.rigs {
            for name in &facts.polecats {
                let agent = Address::Polecat(rig.clone(), name.clone());
                if !self.agents.contains_key(&agent) {
                    turn.touched(&agent);
                    self.agents.insert(agent.clone(), Machine::new(agent, now));
                }
            }
        }
        let gone: Vec<Address> = self
            .agents
            .values()
            .filter(|machine| self.has_gone(machine))
            .map(|m| m.address.clone())
            .collect();
        for agent in gone {
            self.forget_worker(&agent, turn);
        }
    }

    /// Its directory is not there, nobody wants it to run, and nothing of it is left.
    fn has_gone(&self, machine: &Machine) -> bool {
        let Address::Polecat(rig, name) = &machine.address else { return false };
        let Some(facts) = self.facts.rigs.get(rig) else { return false };
        // What was made since the files were read cannot be missing from them.
        let seen = self.facts.read_at > machine.since && !self.facts.unlisted.contains(rig);
        seen && !facts.polecats.contains(name) && machine.wish.is_of_policy() && is_still(machine)
    }

    /// Counts what limits starts.
    pub(super) fn count_running(&mut self) {
        self.limits.running = 0;
        self.limits.workers.clear();
        for machine in self.agents.values().filter(|machine| machine.current.is_some()) {
            self.limits.running = self.limits.running.saturating_add(1);
            if let Address::Polecat(rig, _) = &machine.address {
                let of_rig = self.limits.workers.entry(rig.clone()).or_default();
                *of_rig = of_rig.saturating_add(1);
            }
        }
    }

    /// Says whether a new worker could be started now. Changes nothing.
    pub(super) fn admit(&mut self, ticket: Ticket, wanted: Admission, now: Timestamp, turn: &mut Turn) {
        let Admission { agent, account, by_person, coming } = wanted;
        for (rig, more) in coming {
            self.limits.running = self.limits.running.saturating_add(more);
            let of_rig = self.limits.workers.entry(rig).or_default();
            *of_rig = of_rig.saturating_add(more);
        }
        let before = self.agents.remove(&agent);
        let mut machine = before.clone().unwrap_or_else(|| Machine::new(agent.clone(), now));
        machine.overrides.account = account;
        self.agents.insert(agent.clone(), machine);
        // Whether the name is somebody's is not asked here: another one is found for it.
        let closed = self.closed.remove(&agent);
        let asker = if by_person { Asker::Person } else { Asker::Program };
        let allowed =
            self.each(&agent, now, turn, |machine, situation, _| machine.may_start(situation, asker));
        self.closed.extend(closed.map(|closed| (agent.clone(), closed)));
        match before {
            Some(machine) => self.agents.insert(agent, machine),
            None => self.agents.remove(&agent),
        };
        self.count_running();
        let answer = match allowed {
            Some(Err(blocked)) => Answer::Failed(Box::new(blocked.error)),
            _ => DONE,
        };
        Self::reply(turn, ticket, answer);
    }

    /// Starts a worker that was made to run; where it is paused, that is wanted, and comes about at the end of that.
    pub(super) fn start_made(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        overrides: Overrides,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let standing = self.pauses.of(agent).filter(|_| self.known(agent).is_ok());
        let Some(standing) = standing else {
            return self.start(ticket, agent, Some(overrides), ask, now, turn);
        };
        let error = self.each(agent, now, turn, |machine, situation, turn| {
            if let Err(blocked) = machine.may_start_but_for_a_pause(situation, ask.asker()) {
                return blocked.error;
            }
            machine.want(Intent::Running, ask, now);
            machine.overrides = overrides;
            machine.clear(ask, situation, turn);
            // It passes no limit that holds when the pause is over.
            machine.passes = false;
            machine.reconcile(situation, turn);
            put_off(&standing, agent)
        });
        if let Some(error) = error {
            Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
    }

    /// Makes a worker known, whose directory may not have been seen yet.
    pub(super) fn enlist(&mut self, ticket: Ticket, agent: &Address, now: Timestamp, turn: &mut Turn) {
        let Address::Polecat(rig, _) = agent else {
            let error = RpcError::new(ErrorKind::NameInvalid, format!("{agent} is no worker"));
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        };
        if !self.facts.rigs.contains_key(rig) {
            let error = unknown_rig(rig, &self.facts);
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        turn.touched(agent);
        let machine = self.agents.entry(agent.clone()).or_insert_with(|| Machine::new(agent.clone(), now));
        if is_still(machine) && machine.wish.is_of_policy() {
            machine.since = now;
        }
        Self::reply(turn, ticket, DONE);
    }

    /// Forgets a worker of which nothing is left.
    pub(super) fn dismiss(&mut self, ticket: Ticket, agent: &Address, turn: &mut Turn) {
        let answer = match self.agents.get(agent) {
            None => Answer::Changed { already: true, accepted: false, survivors: Vec::new() },
            Some(_) if !matches!(agent, Address::Polecat(..)) => {
                let error = RpcError::new(ErrorKind::NameInvalid, format!("{agent} is no worker"));
                Answer::Failed(Box::new(error))
            }
            Some(machine) if !is_still(machine) => {
                let why = format!("{agent} is not at rest: it is {}", machine.state().as_str());
                let hint = format!("gtctl polecat stop {agent}");
                Answer::Failed(Box::new(RpcError::new(ErrorKind::Busy, why).hint(hint)))
            }
            Some(_) => {
                self.forget_worker(agent, turn);
                DONE
            }
        };
        Self::reply(turn, ticket, answer);
    }

    fn forget_worker(&mut self, agent: &Address, turn: &mut Turn) {
        if let Some(mut machine) = self.agents.remove(agent) {
            machine.close_pane(turn);
            turn.touched(agent);
            turn.writes.push(Write::Forget(agent.clone()));
        }
    }
}

/// Nothing of it is there, and nothing is under way.
pub(super) fn is_still(machine: &Machine) -> bool {
    let resting = matches!(machine.phase, Phase::Rest | Phase::Waiting { .. } | Phase::Broken);
    resting && machine.current.is_none()
}

impl Handle {
    /// Whether a new worker could be started now, whose directory is not there yet.
    ///
    /// # Errors
    /// The error that its start would get: `rig_not_found`, `rig_not_operational`, `tmux_unavailable`, `throttled`.
    pub async fn admit(&self, admission: Admission) -> Result<(), RpcError> {
        self.ask(Request::Admit(Box::new(admission))).await.map(|_| ())
    }

    /// Shows what belongs to a worker, or that it does no longer.
    pub fn belongs(&self, agent: &Address, what: Option<Belongings>) {
        self.view().change(|shown| shown.belongs(agent, what));
    }

    /// Makes a worker known to the supervisor, whose directory may not have been seen yet. It is not started.
    ///
    /// # Errors
    /// `rig_not_found`.
    pub async fn enlist(&self, agent: &Address) -> Result<(), RpcError> {
        self.ask(Request::Enlist { agent: agent.clone() }).await.map(|_| ())
    }

    /// Lets the supervisor forget a worker that is at rest, with its intent and its history of failures.
    ///
    /// # Errors
    /// `busy` when something of it is left or under way.
    pub async fn dismiss(&self, agent: &Address, ask: Ask) -> Result<(), RpcError> {
        self.ask(Request::Dismiss { agent: agent.clone(), ask }).await.map(|_| ())
    }
}
