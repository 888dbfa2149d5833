//! The rules of a hook: an item is on one hook, and a hook has one item. What another has is taken only by force.

use gtd_proto::event::kind;
use gtd_proto::{Address, Timestamp, WorkId};
use serde_json::json;

use super::desk::{By, Desk, event};
use super::store::{Store, WorkStore};
use super::{Item, Unknown, WorkError};
use crate::ledger::NewEvent;

/// What a hook has.
#[derive(Debug, Clone, PartialEq)]
pub struct Hooked {
    /// The work.
    pub item: Item,
    /// Kind of its store.
    pub store: &'static str,
    /// Since when, as far as is known.
    pub since: Option<Timestamp>,
    /// Further items that the store has for the agent.
    pub also: Vec<WorkId>,
}

/// What became of a change of a hook.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hooking {
    /// What the hook has now.
    pub now: Option<Hooked>,
    /// What it had before.
    pub replaced: Option<WorkId>,
    /// Who had the work before.
    pub taken_from: Option<String>,
    /// It was so already.
    pub already: bool,
}

impl Desk {
    /// What an agent has on its hook, asked now. Stores of other rigs are asked only when they had something
    /// for it.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn hook_of(&self, agent: &Address) -> Result<Option<Hooked>, WorkError> {
        let mut found: Vec<(Item, &'static str)> = Vec::new();
        for store in self.stores_of(agent)? {
            let items = store.hooks().await?;
            found.extend(
                items
                    .into_iter()
                    .filter(|item| item.hook().as_ref() == Some(agent))
                    .map(|item| (item, store.kind())),
            );
        }
        Ok(self.hooked(agent, found))
    }

    /// Puts an item on an agent's hook.
    ///
    /// # Errors
    /// [`WorkError::NotFound`], [`WorkError::Over`]; without `force` also [`WorkError::Held`] and
    /// [`WorkError::Occupied`]; the store's.
    pub async fn hook(
        &self,
        agent: &Address,
        id: &WorkId,
        force: bool,
        by: &By,
    ) -> Result<Hooking, WorkError> {
        let store = self.places.of_id(id, &self.rigs())?;
        let elsewhere = {
            let _turn = self.turn(&store).await?;
            let plan = self.plan(&store, agent, id, force).await?;
            if plan.already && (!force || plan.replaced().is_none()) {
                let hooking = plan.hooking(self, agent, store.kind(), None);
                return Ok(Hooking { replaced: None, taken_from: None, ..hooking });
            }
            let now = self.handle.wall();
            let mut told = Vec::new();
            if let Some(previous) = plan.item.hook().filter(|previous| previous != agent) {
                let data = json!({"work": id, "store": store.kind(), "by": by.who, "why": format!("it went to {agent}")});
                told.push(event(NewEvent::of(now, kind::WORK_UNHOOKED, &previous, data), by));
            }
            for other in &plan.release {
                let data = json!({"work": other, "store": store.kind(), "by": by.who, "why": format!("{id} took its place")});
                told.push(event(NewEvent::of(now, kind::WORK_UNHOOKED, agent, data), by));
            }
            let mut data = json!({"work": id, "title": plan.item.title, "store": store.kind(), "by": by.who});
            if let (Some(replaced), Some(map)) = (plan.replaced(), data.as_object_mut()) {
                map.insert("replaced".to_owned(), json!(replaced));
            }
            if let (Some(holder), Some(map)) = (plan.taken_from(agent), data.as_object_mut()) {
                map.insert("taken_from".to_owned(), json!(holder));
            }
            told.push(event(NewEvent::of(now, kind::WORK_HOOKED, agent, data), by));
            let done = store.hook(id, agent, &plan.release, &told).await;
            let item = self.changed(&store, done, told).await?;
            let elsewhere = plan.elsewhere.clone();
            (plan.hooking(self, agent, store.kind(), Some(item)), elsewhere)
        };
        let (hooking, elsewhere) = elsewhere;
        // After the new one is safe, and not while its store waits for us.
        for (store, other) in elsewhere {
            let _turn = self.turn(&store).await?;
            self.release(&store, &other, agent, by, &format!("{id} took its place")).await?;
        }
        Ok(hooking)
    }

    /// Takes everything off an agent's hook.
    ///
    /// # Errors
    /// When a store does not answer, or refuses.
    pub async fn unhook(&self, agent: &Address, by: &By) -> Result<Hooking, WorkError> {
        let mut released = Vec::new();
        for store in self.stores_of(agent)? {
            let _turn = self.turn(&store).await?;
            let items = store.hooks().await?;
            for item in items.into_iter().filter(|item| item.hook().as_ref() == Some(agent)) {
                self.release(&store, &item.id, agent, by, by.reason.as_deref().unwrap_or("it was asked for"))
                    .await?;
                released.push(item.id);
            }
        }
        let already = released.is_empty();
        Ok(Hooking { replaced: released.into_iter().next(), already, ..Hooking::default() })
    }

    /// What would come of putting an item on an agent's hook.
    ///
    /// # Errors
    /// As [`Desk::hook`].
    pub async fn would_hook(&self, agent: &Address, id: &WorkId, force: bool) -> Result<Hooking, WorkError> {
        let store = self.places.of_id(id, &self.rigs())?;
        let plan = self.plan(&store, agent, id, force).await?;
        Ok(plan.hooking(self, agent, store.kind(), None))
    }

    async fn release(
        &self,
        store: &Store,
        id: &WorkId,
        agent: &Address,
        by: &By,
        why: &str,
    ) -> Result<(), WorkError> {
        let data = json!({"work": id, "store": store.kind(), "by": by.who, "why": why});
        let told = vec![event(NewEvent::of(self.handle.wall(), kind::WORK_UNHOOKED, agent, data), by)];
        let done = store.unhook(id, agent, &told).await;
        self.changed(store, done, told).await.map(drop)
    }

    /// Looks at everything that a change of a hook depends on. Changes nothing.
    async fn plan(
        &self,
        store: &Store,
        agent: &Address,
        id: &WorkId,
        force: bool,
    ) -> Result<Plan, WorkError> {
        let item = store.item(id).await?.ok_or_else(|| WorkError::NotFound(id.clone()))?;
        if item.is_over() {
            return Err(WorkError::Over { id: id.clone(), status: item.status });
        }
        let already = item.hook().as_ref() == Some(agent);
        let mine = |item: &Item| item.hook().as_ref() == Some(agent) && item.id != *id;
        let mut release: Vec<WorkId> = Vec::new();
        let mut elsewhere = Vec::new();
        for other in self.stores_of(agent)? {
            let here = other.key() == store.key();
            if here {
                continue;
            }
            let items = other.hooks().await?;
            elsewhere.extend(items.into_iter().filter(mine).map(|item| (other.clone(), item.id)));
        }
        release.extend(store.hooks().await?.into_iter().filter(mine).map(|item| item.id));
        let plan = Plan { item, release, elsewhere, already };
        if !force {
            if let Some(holder) = plan.taken_from(agent) {
                return Err(WorkError::Held { id: id.clone(), holder });
            }
            if let Some(held) = plan.replaced().filter(|_| !plan.already) {
                return Err(WorkError::Occupied { agent: agent.clone(), held });
            }
        }
        Ok(plan)
    }

    /// The store of an agent's rig, and every other in which it is known to have something.
    fn stores_of(&self, agent: &Address) -> Result<Vec<Store>, Unknown> {
        let home = self.store(agent.rig())?;
        let known: Vec<String> = self.handle.view().read(|shown| {
            let stores = shown.hooks.stores.iter();
            stores.filter(|(_, fact)| fact.hooks.contains_key(agent)).map(|(key, _)| key.clone()).collect()
        });
        let mut all = vec![home];
        for store in self.stores().into_iter().flatten() {
            if known.iter().any(|key| key == store.key())
                && all.iter().all(|other| other.key() != store.key())
            {
                all.push(store);
            }
        }
        Ok(all)
    }

    fn hooked(&self, agent: &Address, mut found: Vec<(Item, &'static str)>) -> Option<Hooked> {
        let fact = self.handle.view().read(|shown| shown.hooks.of(agent).map(|(_, hook)| hook.clone()));
        let since = |item: &Item| {
            let known = fact.as_ref().filter(|fact| fact.work == item.id.as_str()).map(|fact| fact.since);
            item.hooked_at.or(known).or(item.updated_at)
        };
        found.sort_by_key(|(item, _)| since(item));
        let (item, store) = found.pop()?;
        let also = found.into_iter().rev().map(|(item, _)| item.id).collect();
        Some(Hooked { since: since(&item), item, store, also })
    }
}

/// What a change of a hook meets.
struct Plan {
    item: Item,
    /// Other items of the agent in the same store.
    release: Vec<WorkId>,
    /// And in other stores.
    elsewhere: Vec<(Store, WorkId)>,
    already: bool,
}

impl Plan {
    fn replaced(&self) -> Option<WorkId> {
        self.release.first().or_else(|| self.elsewhere.first().map(|(_, id)| id)).cloned()
    }

    fn taken_from(&self, agent: &Address) -> Option<String> {
        let holder = self.item.holder()?;
        (super::assignee(holder).as_ref() != Some(agent)).then(|| holder.to_owned())
    }

    fn hooking(self, desk: &Desk, agent: &Address, store: &'static str, item: Option<Item>) -> Hooking {
        let (replaced, taken_from) = (self.replaced(), self.taken_from(agent));
        let now = desk.hooked(agent, vec![(item.unwrap_or(self.item), store)]);
        Hooking { now, replaced, taken_from, already: self.already }
    }
}
