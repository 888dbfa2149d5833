//! Workers: agents that exist because they were made, not because their rig does.
//!
//! A worker is known by its directory, or because whoever made it says so before the directory is seen. Nobody
//! but a request ever wants one to run. Must never forget one of which something is left.

use gtd_proto::{Address, ErrorKind, RpcError, Timestamp};

use super::core::Core;
use super::handle::Handle;
use super::machine::{Machine, Phase};
use super::requests::{Ask, Request};
use super::rigs::unknown_rig;
use super::turn::{Answer, Ticket, Turn};
use crate::ledger::Write;

const DONE: Answer = Answer::Changed { already: false, accepted: false, survivors: Vec::new() };

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
        let seen = self.facts.read_at > machine.since;
        seen && !facts.polecats.contains(name) && machine.wish.is_of_policy() && is_still(machine)
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
