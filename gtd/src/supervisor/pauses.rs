//! What is paused: the whole town, rigs, agents, each until somebody ends that or its time is over.
//!
//! Pure. The book lies over what is wanted and changes nothing of that: its end brings back what was to run. It is
//! one fact of the ledger, written down before anything is frozen, and asked at every start. Nobody of a crew is ever
//! in it. What follows for one agent is in [`super::frost`].

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::pause::Pause as Shown;
use gtd_proto::town::{Alert, Severity};
use gtd_proto::{Address, ErrorKind, RigName, Role, RpcError, State, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::Machine;
use super::planner::{Blocked, Situation, not_operational};
use super::throttle::Asker;
use super::view::alert;
use crate::clock::Timeline;

/// The ledger's fact that keeps the book.
pub const FACT: &str = "pauses";

/// Somebody's pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who wanted it: `person`, or an agent's address.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// It ends by itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Paused {
    /// This one, where there was one before: the one that lasts longer holds, and the later of two alike. Words that
    /// somebody gave are not lost for one that comes without.
    fn joined(&self, before: &Self) -> Self {
        let lasts = |paused: &Self| paused.until.unwrap_or(Timestamp::MAX);
        let (holds, other) = if lasts(before) > lasts(self) { (before, self) } else { (self, before) };
        let says = if holds.reason.is_none() && other.reason.is_some() { other } else { holds };
        Self {
            by: says.by.clone(),
            reason: says.reason.clone(),
            at: before.at.min(self.at),
            until: holds.until,
        }
    }
}

/// What was paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Town,
    /// A rig's agents.
    Rig(RigName),
    /// One agent.
    Agent(Address),
}

impl Extent {
    /// As results name it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Town => "town".to_owned(),
            Self::Rig(rig) => rig.to_string(),
            Self::Agent(agent) => agent.to_string(),
        }
    }

    /// The command that ends it.
    #[must_use]
    pub fn clear(&self) -> String {
        match self {
            Self::Town => "gtctl resume".to_owned(),
            Self::Rig(rig) => format!("gtctl resume {rig}"),
            Self::Agent(agent) => format!("gtctl resume --agent {agent}"),
        }
    }
}

/// A pause that holds for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whose, since when, until when.
    pub paused: Paused,
    /// What was paused.
    pub extent: Extent,
}

impl Standing {
    /// In a few words, without an instant.
    #[must_use]
    pub fn words(&self) -> String {
        let what = match &self.extent {
            Extent::Agent(_) => "paused".to_owned(),
            Extent::Town => "the town is paused".to_owned(),
            Extent::Rig(rig) => format!("rig {rig} is paused"),
        };
        let why = self.paused.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{what}, by {}{why}", self.paused.by)
    }

    /// As results show it, by the supervisor's time.
    #[must_use]
    pub fn shown(&self) -> Shown {
        Shown {
            by: self.paused.by.clone(),
            reason: self.paused.reason.clone(),
            since: self.paused.at,
            until: self.paused.until,
            scope: self.extent.name(),
            clear: self.extent.clear(),
            frozen: false,
            processes: None,
        }
    }
}

/// What somebody asks to be paused, or to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// A rig's agents.
    pub rig: Option<RigName>,
    /// These agents.
    pub agents: BTreeSet<Address>,
}

impl Scope {
    /// The whole town.
    #[must_use]
    pub fn is_town(&self) -> bool {
        self.rig.is_none() && self.agents.is_empty()
    }

    /// Whether an agent is meant. A crew's only by its own name.
    #[must_use]
    pub fn holds(&self, agent: &Address) -> bool {
        let by_place = self.is_town() || (self.rig.is_some() && agent.rig() == self.rig.as_ref());
        self.agents.contains(agent) || (by_place && agent.role() != Role::Crew)
    }
}

/// Nothing is paused.
static NOTHING: Pauses = Pauses {
    town: None,
    rigs: BTreeMap::new(),
    agents: BTreeMap::new(),
    free_rigs: BTreeSet::new(),
    free_agents: BTreeSet::new(),
};

impl Machine {
    /// Whether it might be started now if it were not paused: what is asked of it then comes to pass when the pause is
    /// over, because it lies over what is wanted.
    ///
    /// # Errors
    /// What else bars its start.
    pub(super) fn may_start_but_for_a_pause(
        &self,
        situation: &mut Situation<'_>,
        asker: Asker,
    ) -> Result<(), Blocked> {
        let pauses = std::mem::replace(&mut situation.pauses, &NOTHING);
        let allowed = self.may_start(situation, asker);
        situation.pauses = pauses;
        allowed
    }
}

/// Everything that is paused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    town: Option<Paused>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rigs: BTreeMap<RigName, Paused>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    agents: BTreeMap<Address, Paused>,
    /// Rigs that go on although the town is paused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    free_rigs: BTreeSet<RigName>,
    /// Agents that go on although their rig, or the town, is paused.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    free_agents: BTreeSet<Address>,
}

impl Pauses {
    /// As the ledger keeps it. A fact that cannot be read is a newer daemon's, or damaged.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn recall(fact: Option<&Value>) -> Result<Self, String> {
        fact.map_or(Ok(Self::default()), |fact| {
            serde_json::from_value(fact.clone()).map_err(|error| error.to_string())
        })
    }

    /// For the ledger; nothing where nothing is paused.
    #[must_use]
    pub fn fact(&self) -> Option<Value> {
        (!self.is_empty()).then(|| serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// Nothing is paused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.town.is_none() && self.rigs.is_empty() && self.agents.is_empty()
    }

    /// The pause of the whole town.
    #[must_use]
    pub fn town(&self) -> Option<Standing> {
        self.town.clone().map(|paused| Standing { paused, extent: Extent::Town })
    }

    /// The pause of a rig as a whole.
    #[must_use]
    pub fn rig(&self, rig: &RigName) -> Option<Standing> {
        self.rigs.get(rig).cloned().map(|paused| Standing { paused, extent: Extent::Rig(rig.clone()) })
    }

    /// The pause that holds for an agent: of several, the one that lasts longest.
    #[must_use]
    pub fn of(&self, agent: &Address) -> Option<Standing> {
        if self.is_empty() || agent.role() == Role::Crew {
            return None;
        }
        let free = self.free_agents.contains(agent);
        let free_rig = agent.rig().is_some_and(|rig| self.free_rigs.contains(rig));
        let town = self.town().filter(|_| !free && !free_rig);
        let rig = agent.rig().and_then(|rig| self.rig(rig)).filter(|_| !free);
        let own = self.agents.get(agent).cloned();
        let own = own.map(|paused| Standing { paused, extent: Extent::Agent(agent.clone()) });
        let lasts = |standing: &Standing| standing.paused.until.unwrap_or(Timestamp::MAX);
        own.into_iter().chain(rig).chain(town).reduce(|a, b| if lasts(&b) > lasts(&a) { b } else { a })
    }

    /// Adds a pause. Where the same is paused already there is one from then on, since when it was.
    pub fn pause(&mut self, scope: &Scope, paused: &Paused) {
        let renewed = |old: Option<&Paused>| old.map_or_else(|| paused.clone(), |old| paused.joined(old));
        if scope.is_town() {
            self.town = Some(renewed(self.town.as_ref()));
            self.free_rigs.clear();
            self.free_agents.clear();
        }
        if let Some(rig) = &scope.rig {
            let new = renewed(self.rigs.get(rig));
            self.rigs.insert(rig.clone(), new);
            self.free_agents.retain(|agent| agent.rig() != Some(rig));
        }
        for agent in scope.agents.iter().filter(|agent| agent.role() != Role::Crew) {
            let new = renewed(self.agents.get(agent));
            self.agents.insert(agent.clone(), new);
        }
    }

    /// Lets go on what is meant, whatever holds it: a rig or an agent also while more than itself is paused.
    pub fn resume(&mut self, scope: &Scope) {
        if scope.is_town() {
            *self = Self::default();
            return;
        }
        if let Some(rig) = &scope.rig {
            self.rigs.remove(rig);
            self.agents.retain(|agent, _| agent.rig() != Some(rig));
            self.free_rigs.insert(rig.clone());
        }
        for agent in &scope.agents {
            self.agents.remove(agent);
            if self.of(agent).is_some() {
                self.free_agents.insert(agent.clone());
            }
        }
        self.tidy();
    }

    /// Ends what is over. Whether something was.
    pub fn pass(&mut self, now: Timestamp) -> bool {
        let over = |paused: &Paused| paused.until.is_some_and(|until| until <= now);
        let before = (self.town.is_some(), self.rigs.len(), self.agents.len());
        self.town = self.town.take().filter(|paused| !over(paused));
        self.rigs.retain(|_, paused| !over(paused));
        self.agents.retain(|_, paused| !over(paused));
        let changed = before != (self.town.is_some(), self.rigs.len(), self.agents.len());
        if changed {
            self.tidy();
        }
        changed
    }

    /// Forgets agents that are not there any more. Whether there were such.
    pub fn forget(&mut self, known: impl Fn(&Address) -> bool) -> bool {
        let before = (self.agents.len(), self.free_agents.len());
        self.agents.retain(|agent, _| known(agent));
        self.free_agents.retain(known);
        before != (self.agents.len(), self.free_agents.len())
    }

    /// Somebody has paused it by itself, or has let it go on by itself.
    #[must_use]
    pub fn names(&self, agent: &Address) -> bool {
        self.agents.contains_key(agent) || self.free_agents.contains(agent)
    }

    /// When the next pause is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let all = self.town.iter().chain(self.rigs.values()).chain(self.agents.values());
        all.filter_map(|paused| paused.until).min()
    }

    /// What is let go on although something wider is paused means nothing without that.
    fn tidy(&mut self) {
        let Self { town, rigs, free_rigs, free_agents, .. } = self;
        if town.is_none() {
            free_rigs.clear();
        }
        free_agents.retain(|agent| town.is_some() || agent.rig().is_some_and(|rig| rigs.contains_key(rig)));
    }

    /// Why an agent may not be started, if that is why.
    pub(super) fn bar(&self, agent: &Address) -> Result<(), Blocked> {
        let Some(standing) = self.of(agent) else { return Ok(()) };
        Err(refusal(agent, &standing))
    }

    /// What a person should know of as long as it lasts.
    pub(super) fn alerts(&self, wall: Timestamp, line: &Timeline) -> Vec<Alert> {
        let rigs = self.rigs.keys().filter_map(|rig| self.rig(rig));
        let mut told: Vec<Alert> = self
            .town()
            .into_iter()
            .chain(rigs)
            .map(|standing| {
                let until = standing.paused.until.map(|until| line.to_wall(until));
                let until =
                    until.map_or("until somebody ends it".to_owned(), |until| format!("until {until:.0}"));
                let message = format!("{}; {until}", standing.words());
                let key = format!("paused:{}", standing.extent.name());
                alert(key, Severity::Warning, message, &standing.extent.clear(), wall)
            })
            .collect();
        if let Some((first, more)) = self.agents.keys().next().map(|first| (first, self.agents.len() - 1)) {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("{first}{more}: paused");
            let hint = Extent::Agent(first.clone()).clear();
            told.push(alert("paused:agents", Severity::Warning, message, &hint, wall));
        }
        told
    }
}

/// What those hear who wait for a start that a pause has overtaken: it is not called off.
pub(super) fn put_off(standing: &Standing, agent: &Address) -> RpcError {
    let words = standing.words();
    RpcError::new(
        ErrorKind::Timeout,
        format!("{agent} was not started yet: {words}; it is when that is over"),
    )
    .hint(standing.extent.clear())
    .with("reached", State::Paused)
    .with("agent", agent)
}

/// The refusal that a start of somebody paused meets.
pub(super) fn refusal(agent: &Address, standing: &Standing) -> Blocked {
    not_operational(agent, "paused", &standing.words(), &standing.extent.clear())
}

#[cfg(test)]
#[path = "pauses_tests.rs"]
mod tests;
