//! Work on the hook of an agent that will not do it: told once, and kept in sight until it is taken care of.
//!
//! Pure. Judged with each round on what the stores said last; a store that does not answer orphans nothing. Whoever
//! is about to be started again, or waits for its rig, its account or its person, keeps its work.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, Intent, Role, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::core::Core;
use super::hooks::HookFact;
use super::machine::{Machine, Pause, Phase};
use super::policy::since;
use super::turn::Turn;
use crate::ledger::{NewEvent, Write};

/// The ledger's fact that keeps what was told.
const FACT: &str = "orphaned_work";
/// A quarantine that goes on for longer than this leaves its work to others.
const LONG: Duration = Duration::from_secs(3_600);
/// Kept at most: what is told again after a restart of the daemon does less harm than a fact that is not kept.
const MOST: usize = 500;

/// Work on the hook of an agent that will not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The work.
    pub work: String,
    /// Its title.
    pub title: String,
    /// Since when it is on the hook.
    pub since: Timestamp,
    /// Why nobody does it.
    pub why: String,
    /// It was told. What is on the hook of somebody unknown is looked at twice: they may just be being made.
    pub told: bool,
}

impl Core {
    /// Takes up what an earlier daemon told.
    pub fn recall_orphans(&mut self, facts: &BTreeMap<String, Value>) {
        let kept = facts.get(FACT).and_then(|fact| serde_json::from_value(fact.clone()).ok());
        self.orphaned = kept.unwrap_or_default();
    }

    /// Looks for such work, and tells what is new.
    pub(super) fn look_for_orphans(&mut self, now: Timestamp, turn: &mut Turn) {
        if self.hold.is_some() || self.is_only_looking() || !self.facts.known {
            return;
        }
        let mut found = BTreeMap::new();
        for store in self.hooks.stores.values() {
            let silent = store.error.is_some() || store.at.is_none();
            for (agent, fact) in &store.hooks {
                if silent {
                    // It may be so still, and is not told anew.
                    let known = self.orphaned.get(agent).filter(|known| known.work == fact.work);
                    found.extend(known.map(|known| (agent.clone(), known.clone())));
                } else if let Some(orphan) = self.orphan(agent, fact, now) {
                    found.insert(agent.clone(), orphan);
                }
            }
        }
        // A store that was not asked yet, as by a new daemon, is as silent as one that fails.
        let unasked = |agent: &Address| {
            let registered = agent.rig().is_none_or(|rig| self.facts.rigs.contains_key(rig));
            self.hooks.stores.is_empty() || (registered && !self.hooks.has_answered(agent))
        };
        for (agent, known) in &self.orphaned {
            if !found.contains_key(agent) && unasked(agent) && self.hooks.of(agent).is_none() {
                found.insert(agent.clone(), known.clone());
            }
        }
        for (agent, orphan) in found.iter().take(MOST) {
            let before = self.orphaned.get(agent).filter(|known| known.work == orphan.work);
            if orphan.told && !before.is_some_and(|known| known.told) {
                tell(agent, orphan, now, turn);
            }
        }
        if found != self.orphaned {
            let keep: BTreeMap<&Address, &Orphan> = found.iter().take(MOST).collect();
            let value = (!keep.is_empty()).then(|| json!(keep));
            turn.writes.push(Write::Fact { key: FACT.to_owned(), value });
            turn.changed.extend(found.keys().filter(|agent| self.agents.contains_key(*agent)).cloned());
            self.orphaned = found;
        }
    }

    fn orphan(&self, agent: &Address, fact: &HookFact, now: Timestamp) -> Option<Orphan> {
        // Nobody of the town's own is looked after yet, and crews have their people.
        if !matches!(agent.role(), Role::Polecat | Role::Witness | Role::Refinery) {
            return None;
        }
        let known = self.agents.get(agent);
        let why = match known {
            Some(machine) if machine.is_done(fact) => None,
            Some(machine) => self.forsaken(machine, now),
            None => Some("there is no such agent".to_owned()),
        }?;
        let seen = self.orphaned.get(agent).is_some_and(|before| before.work == fact.work);
        Some(Orphan {
            work: fact.work.clone(),
            title: fact.title.clone(),
            since: fact.since,
            why,
            told: known.is_some() || seen,
        })
    }

    /// Why an agent will not do what is on its hook, if it will not.
    fn forsaken(&self, machine: &Machine, now: Timestamp) -> Option<String> {
        let unregistered = machine.address.rig().is_some_and(|rig| !self.facts.rigs.contains_key(rig));
        match machine.phase {
            Phase::Rest if machine.wish.intent != Intent::Running => {
                let why = machine.wish.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                Some(format!("it is {}, by {}{why}", machine.wish.intent.as_str(), machine.wish.by))
            }
            Phase::Rest if unregistered => Some("its rig is not registered".to_owned()),
            Phase::Broken => Some("it cannot be launched".to_owned()),
            Phase::Waiting { until, why: Pause::Quarantine } if since(now, until) > LONG => {
                Some("it is quarantined for more than an hour".to_owned())
            }
            _ => None,
        }
    }
}

fn tell(agent: &Address, orphan: &Orphan, now: Timestamp, turn: &mut Turn) {
    let Orphan { work, title, since, why, .. } = orphan;
    let data = json!({
        "rig": agent.rig(), "agent": agent, "work": work, "title": title, "since": since, "why": why,
    });
    turn.writes.push(Write::Event(NewEvent::of(now, kind::WORK_ORPHANED, agent, data)));
}
