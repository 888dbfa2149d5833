//! Asking for a pause, or for its end, and what those who ask are told.
//!
//! The book is written down before anything is frozen; where the ledger cannot be written that is done later, and
//! freezing waits for nothing. Who is asked for and cannot be frozen is named with the reason; the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gtd_proto::pause::{Pause as Shown, Receipt};
use gtd_proto::{Address, ErrorKind, Intent, RigName, Role, RpcError, Timestamp, town};
use serde_json::Value;

use super::core::Core;
use super::frost::{BY_ITSELF, Stage};
use super::handle::Handle;
use super::machine::{Machine, Phase};
use super::pauses::{FACT, Paused, Pauses, Scope};
use super::policy::after;
use super::requests::{Ask, Request, Wait};
use super::rigs::unknown_rig;
use super::turn::{Answer, Ticket, Turn};
use super::waiting::{Awaited, Judged, outcome_of};
use crate::ledger::Write;

/// How long an answer is waited for by those who did not say: more than a task takes to say that it is late.
const ANSWER: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PauseAsk {
    /// Of whom.
    pub scope: Scope,
    /// Freeze them; else let them go on.
    pub frozen: bool,
    /// It ends by itself then.
    pub until: Option<Timestamp>,
}

impl Core {
    /// Takes up what an earlier daemon kept. With a book that cannot be read nothing is started, and nothing that
    /// stands still let go on, until a person says `up`.
    pub fn recall_pauses(&mut self, facts: &BTreeMap<String, Value>) {
        self.pauses = Pauses::recall(facts.get(FACT)).unwrap_or_else(|error| {
            tracing::error!(%error, "what is paused cannot be read");
            Pauses::default()
        });
    }

    /// What is paused.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    pub(super) fn pause_or_resume(
        &mut self,
        ticket: Ticket,
        what: PauseAsk,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let PauseAsk { scope, frozen, until } = what;
        if let Err(error) = self.may_mean(&scope) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let awaited = if frozen { Awaited::Frozen } else { Awaited::Thawed };
        let settled = |machine: &Machine| {
            let so = if frozen { machine.stands_still() } else { machine.goes_on_again() };
            matches!(so, Some(Ok(_)))
        };
        let meant: BTreeMap<Address, bool> = self
            .agents
            .values()
            .filter(|machine| scope.holds(&machine.address) && machine.address.role() != Role::Crew)
            .map(|machine| {
                let already = machine.paused.is_some() == frozen && settled(machine);
                (machine.address.clone(), already)
            })
            .collect();
        let before = self.pauses.clone();
        if frozen {
            let paused = Paused { by: ask.by.clone(), reason: ask.reason.clone(), at: now, until };
            self.pauses.pause(&scope, &paused);
        } else {
            self.pauses.resume(&scope);
        }
        if before != self.pauses {
            self.keep_pauses(turn);
        }
        let why = ask.reason.clone().unwrap_or_else(|| "it was asked for".to_owned());
        self.apply_pauses(&ask.by, &why, now, turn);
        let crew = scope.agents.iter().filter(|agent| agent.role() == Role::Crew);
        let mut items: Vec<town::Outcome> =
            crew.map(|agent| outcome_of(agent, Err(protected(agent)))).collect();
        let mut open = BTreeSet::new();
        for (agent, already) in meant {
            let there = self.agents.get(&agent).is_some_and(settled);
            if there || ask.wait == Wait::No {
                items.push(outcome_of(&agent, Ok(already)));
            } else {
                open.insert(agent);
            }
        }
        let wait = match ask.wait {
            Wait::ToTheEnd => Wait::Until(after(now, ANSWER)),
            other => other,
        };
        items.sort_by(|a, b| a.agent.cmp(&b.agent));
        self.wait_for_town(ticket, awaited, open, items, wait, turn);
    }

    /// Whether there is everybody who is meant.
    fn may_mean(&self, scope: &Scope) -> Result<(), RpcError> {
        // A pause may outlast its rig, and is ended all the same.
        let there = |rig: &RigName| self.facts.rigs.contains_key(rig) || self.pauses.rig(rig).is_some();
        if let Some(rig) = scope.rig.as_ref().filter(|rig| !there(rig)) {
            return Err(unknown_rig(rig, &self.facts));
        }
        for agent in &scope.agents {
            let crew = match agent {
                Address::Crew(rig, name) => {
                    let facts = self.facts.rigs.get(rig);
                    facts.is_some_and(|facts| facts.crew.iter().any(|one| one == name.as_str()))
                }
                _ => false,
            };
            // One that is not seen at present is let go on all the same.
            if !crew && !self.pauses.names(agent) {
                self.known(agent)?;
            }
        }
        Ok(())
    }

    /// Holds every agent against what is paused, and ends what is over.
    pub(super) fn tend_pauses(&mut self, now: Timestamp, turn: &mut Turn) {
        if !self.pauses.is_empty() {
            let Self { pauses, agents, facts, .. } = self;
            // Who is only not seen is not gone: its rig, or its workers, could not be read.
            let unseen = |rig: &RigName| !facts.rigs.contains_key(rig) || facts.unlisted.contains(rig);
            let there = |agent: &Address| agents.contains_key(agent) || agent.rig().is_some_and(unseen);
            if facts.known && pauses.forget(there) {
                self.keep_pauses(turn);
            }
            if self.pauses.pass(now) {
                self.keep_pauses(turn);
                return self.apply_pauses(BY_ITSELF, "its time is over", now, turn);
            }
        }
        self.apply_pauses(BY_ITSELF, "nothing holds it", now, turn);
    }

    /// A rig was removed, with everybody in it.
    pub(super) fn forget_pauses_of(&mut self, rig: &RigName, turn: &mut Turn) {
        if self.pauses.forget(|agent| agent.rig() != Some(rig)) {
            self.keep_pauses(turn);
        }
    }

    fn apply_pauses(&mut self, by: &str, why: &str, now: Timestamp, turn: &mut Turn) {
        let nothing = self.pauses.is_empty();
        let touched: Vec<Address> = self
            .agents
            .values()
            .filter(|machine| {
                let held = machine.paused.is_some() || machine.frost.is_some() || machine.stood.is_open();
                !nothing || held
            })
            .map(|machine| machine.address.clone())
            .collect();
        for agent in touched {
            let standing = self.pauses.of(&agent);
            self.each(&agent, now, turn, |machine, situation, turn| {
                machine.tend_pause(standing, (by, why), situation, turn);
            });
        }
    }

    /// Writes the book down.
    pub(super) fn keep_pauses(&self, turn: &mut Turn) {
        // Of several in a turn only the last counts.
        turn.writes.retain(|write| !matches!(write, Write::Fact { key, .. } if key == FACT));
        turn.writes.push(Write::Fact { key: FACT.to_owned(), value: self.pauses.fact() });
    }
}

impl Machine {
    /// Whether it stands still, or why it does not; nothing while that is not known yet.
    pub(super) fn stands_still(&self) -> Option<Judged> {
        if self.paused.is_none() {
            return self.busy("was let go on meanwhile");
        }
        let frost = self.frost.as_ref();
        if let Some(trouble) = frost.and_then(|frost| frost.trouble.as_deref()) {
            return self.busy(&format!("could not be frozen so far: {trouble}"));
        }
        match self.phase {
            Phase::Rest | Phase::Waiting { .. } | Phase::Broken | Phase::Dead { .. } => Some(Ok(Vec::new())),
            Phase::Ending { .. } => self.busy("is being ended"),
            _ if self.unsure.is_some() => {
                self.busy("cannot be told about; it is frozen as soon as it is found")
            }
            _ if frost.is_some_and(|frost| frost.stage == Stage::Frozen) => Some(Ok(Vec::new())),
            Phase::Adopting | Phase::Starting { .. } | Phase::Running | Phase::Draining { .. } => None,
        }
    }

    /// Whether it goes on, or why it does not; nothing while that is not known yet.
    pub(super) fn goes_on_again(&self) -> Option<Judged> {
        if self.paused.is_some() {
            return self.busy("was paused again meanwhile");
        }
        match &self.frost {
            None => Some(Ok(Vec::new())),
            Some(_) if self.unsure.is_some() => {
                self.busy("cannot be told about; it is let go on as soon as it is found")
            }
            Some(frost) => {
                let trouble = frost.trouble.as_deref()?;
                self.busy(&format!("could not go on so far: {trouble}"))
            }
        }
    }

    fn busy(&self, why: &str) -> Option<Judged> {
        let error = RpcError::new(ErrorKind::Busy, format!("{} {why}", self.address));
        Some(Err(Box::new(error.hint(format!("gtctl explain {}", self.address)))))
    }

    /// Its pause as results show it.
    pub(super) fn shown_pause(&self) -> Option<Shown> {
        let standing = self.paused.as_ref()?;
        let frost = self.frost.as_ref().filter(|_| self.is_frozen());
        Some(Shown {
            frozen: frost.is_some(),
            processes: frost.map(|frost| frost.processes),
            ..standing.shown()
        })
    }

    /// What is wanted of it: a pause lies over what should run.
    pub fn shown_intent(&self) -> (Intent, String, Option<String>) {
        match &self.paused {
            Some(standing) if self.wish.intent == Intent::Running => {
                (Intent::Paused, standing.paused.by.clone(), standing.paused.reason.clone())
            }
            _ => (self.wish.intent, self.wish.by.clone(), self.wish.reason.clone()),
        }
    }
}

/// The refusal that a person's own agent meets.
fn protected(agent: &Address) -> RpcError {
    let why = format!("{agent} belongs to a person: it was not started by this daemon, and is never frozen");
    RpcError::new(ErrorKind::Protected, why)
}

/// What those are told who wait for an agent that takes too long.
pub(super) fn late(agent: &Address) -> RpcError {
    RpcError::new(ErrorKind::Timeout, format!("{agent} was not seen so in time; the daemon goes on"))
        .hint(format!("gtctl explain {agent}"))
}

impl Handle {
    /// Freezes what is meant, or lets it go on: what became of each agent.
    ///
    /// # Errors
    /// `rig_not_found`, `agent_not_found`; then nothing was done.
    pub async fn pause_or_resume(&self, what: PauseAsk, ask: Ask) -> Result<Vec<Receipt>, RpcError> {
        let frozen = what.frozen;
        let processes = |agent: &Address| self.paused_processes(agent);
        let before: BTreeMap<Address, u64> = self.view().read(|shown| {
            let paused = shown.agents.values().filter_map(|agent| {
                let processes = agent.pause.as_ref()?.processes?;
                Some((agent.agent.clone(), processes))
            });
            paused.collect()
        });
        let outcomes = self.change_town(Request::Pause { what, ask }).await?;
        let receipts = outcomes.into_iter().map(|outcome| {
            let (still, now) = processes(&outcome.agent);
            let gone_on = before.get(&outcome.agent).copied().filter(|_| !frozen && outcome.ok);
            Receipt {
                frozen: still,
                processes: gone_on.or(now).unwrap_or(0),
                already: outcome.already,
                refused: outcome.error.map(|error| error.message),
                agent: outcome.agent,
            }
        });
        Ok(receipts.collect())
    }

    /// Whether an agent stands still, and how many processes do.
    fn paused_processes(&self, agent: &Address) -> (bool, Option<u64>) {
        let pause = self.view().agent(agent).and_then(|agent| agent.pause);
        pause.map_or((false, None), |pause| (pause.frozen, pause.processes))
    }
}
