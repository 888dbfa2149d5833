//! What is known of the agents' hooks: told by whoever asks the stores of work, shown and explained here.
//!
//! Must never ask a store itself: a store may hang, and what is shown may not.

use std::collections::BTreeMap;

use gtd_proto::explain::Observed;
use gtd_proto::{Address, RigName, Timestamp};

use super::handle::Shared;
use super::policy::since;
use super::turn::millis;
use super::view::Shown;
use crate::agents::prepare::Hooked;
use crate::agents::prompt::Work;

/// What one store has on an agent's hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFact {
    /// Id of the work.
    pub work: String,
    /// Its title.
    pub title: String,
    /// Since when, as far as is known.
    pub since: Timestamp,
    /// Further ids, which only others can have put there.
    pub also: Vec<String>,
}

/// What one store last said of all hooks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreFact {
    /// Where this is from: `ledger`, `bd 1.0.5 in /town/alpha`.
    pub source: String,
    /// When it last answered; none when it has not answered since the daemon started.
    pub at: Option<Timestamp>,
    /// Why it does not answer now.
    pub error: Option<String>,
    /// Hooks, as of its last answer, or of an earlier daemon's.
    pub hooks: BTreeMap<Address, HookFact>,
}

/// The hooks of all agents, by store. Empty before any store was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// What each store said, by a key that tells stores apart.
    pub stores: BTreeMap<String, StoreFact>,
    /// The key of the store that has a rig's own work, where that can be told.
    pub homes: BTreeMap<RigName, String>,
}

impl Hooks {
    /// What an agent has, as last known, and which store said so. Of several the one that was hooked last.
    #[must_use]
    pub fn of(&self, agent: &Address) -> Option<(&StoreFact, &HookFact)> {
        let all = self.stores.values().filter_map(|store| Some((store, store.hooks.get(agent)?)));
        all.max_by_key(|(_, hook)| hook.since)
    }

    /// The id of the work that an agent has, as last known.
    #[must_use]
    pub fn work(&self, agent: &Address) -> Option<String> {
        self.of(agent).map(|(_, hook)| hook.work.clone())
    }
}

impl Hooked for Shared {
    fn work(&self, agent: &Address) -> Option<Work> {
        self.view.read(|shown| {
            let (_, hook) = shown.hooks.of(agent)?;
            Some(Work { id: hook.work.clone(), title: hook.title.clone() })
        })
    }
}

impl Shown {
    /// Takes over what the stores say, also for the agents that are shown already.
    pub(super) fn take_hooks(&mut self, hooks: Hooks) {
        self.hooks = hooks;
        for (address, agent) in &mut self.agents {
            agent.hook = self.hooks.work(address);
        }
    }
}

/// The observation of an agent's hook: what it holds, by which store, and how old that is.
pub(super) fn observed(agent: &Address, shown: &Shown, now: Timestamp) -> Option<Observed> {
    let make = |value: String, source: &str, at: Timestamp| Observed {
        what: "hook".to_owned(),
        value,
        source: source.to_owned(),
        at,
        age_ms: millis(since(at, now)),
    };
    if let Some((store, hook)) = shown.hooks.of(agent) {
        let HookFact { work, title, also, .. } = hook;
        let more = if also.is_empty() { String::new() } else { format!(", and also {}", also.join(", ")) };
        let doubt = match (&store.error, store.at) {
            (Some(error), _) => format!("; not known now: {error}"),
            (None, None) => "; not asked yet".to_owned(),
            (None, Some(_)) => String::new(),
        };
        let at = store.at.unwrap_or(hook.since);
        return Some(make(format!("{work}: {title}{more}{doubt}"), &store.source, at));
    }
    // Empty only when every store says so: any of them may have something for any agent.
    let stores = shown.hooks.stores.values();
    let silent = stores.clone().find_map(|store| Some((store, store.error.as_ref()?)));
    if let Some((store, error)) = silent {
        return Some(make(format!("not known: {error}"), &store.source, store.at.unwrap_or(now)));
    }
    let oldest = stores.min_by_key(|store| store.at)?;
    Some(make("empty".to_owned(), &oldest.source, oldest.at?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn store(at: Option<Timestamp>, error: Option<&str>, hooks: &[(&str, &str, i64)]) -> StoreFact {
        let hook = |(agent, work, since): &(&str, &str, i64)| {
            let fact = HookFact {
                work: (*work).to_owned(),
                title: "t".to_owned(),
                since: self::at(*since),
                also: Vec::new(),
            };
            (agent.parse().unwrap(), fact)
        };
        StoreFact {
            source: "s".to_owned(),
            at,
            error: error.map(str::to_owned),
            hooks: hooks.iter().map(hook).collect(),
        }
    }

    fn shown(stores: &[StoreFact]) -> Shown {
        let stores = stores.iter().enumerate().map(|(n, store)| (n.to_string(), store.clone())).collect();
        Shown { hooks: Hooks { stores, ..Hooks::default() }, ..Shown::default() }
    }

    #[test]
    fn a_hook_is_empty_only_when_every_store_says_so() {
        let agent: Address = "a/witness".parse().unwrap();
        let value =
            |stores: &[StoreFact]| observed(&agent, &shown(stores), at(100)).map(|o| (o.value, o.age_ms));
        let good = || store(Some(at(90)), None, &[]);
        assert_eq!(value(&[]), None, "nobody was asked");
        assert_eq!(value(&[good(), store(None, None, &[])]), None, "one was not asked yet");
        assert_eq!(value(&[good(), store(Some(at(80)), None, &[])]), Some(("empty".into(), 20_000)));
        let broken = store(Some(at(50)), Some("no answer"), &[]);
        assert_eq!(value(&[good(), broken]), Some(("not known: no answer".into(), 50_000)));
    }

    #[test]
    fn what_was_last_known_is_shown_with_its_age_and_its_doubt() {
        let agent: Address = "a/witness".parse().unwrap();
        let value =
            |stores: &[StoreFact]| observed(&agent, &shown(stores), at(100)).map(|o| (o.value, o.age_ms));
        let hooks = &[("a/witness", "a-1", 10)];
        assert_eq!(value(&[store(Some(at(99)), None, hooks)]), Some(("a-1: t".into(), 1_000)));
        let late = store(Some(at(40)), Some("late"), hooks);
        assert_eq!(value(&[late]), Some(("a-1: t; not known now: late".into(), 60_000)));
        assert_eq!(value(&[store(None, None, hooks)]), Some(("a-1: t; not asked yet".into(), 90_000)));
        let newer = store(Some(at(99)), None, &[("a/witness", "b-1", 20)]);
        assert_eq!(value(&[store(Some(at(99)), None, hooks), newer]), Some(("b-1: t".into(), 1_000)));
    }
}
