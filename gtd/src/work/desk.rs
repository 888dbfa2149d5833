//! Where work is asked about and changed: picks the store, keeps the rules of a hook, and tells what happened.
//!
//! An item is on one hook, and a hook has one item. What another has is taken only by force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, RigName, Timestamp, WorkId};
use serde_json::json;
use tokio::sync::{MutexGuard, Notify};

use super::builtin::Builtin;
use super::places::{Places, Rigs, TOWN};
use super::refresh;
use super::store::{Done, Store, WorkStore};
use super::{DESCRIPTION_MAX, Filter, Item, NewItem, TITLE_MAX, Unknown, Why, WorkError};
use crate::config::StoreKind;
use crate::feed::Bus;
use crate::ledger::NewEvent;
use crate::supervisor::Handle;
use crate::town::Layout;

/// Longest list that is given.
const LIST_MAX: usize = 10_000;

/// What a desk is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// `[work] store`
    pub kind: StoreKind,
    /// `[work] timeout`
    pub timeout: Duration,
    /// Why the ledger may lack work items that there were, if it may.
    pub lost: Option<String>,
    /// Our own environment, of which programs get a part.
    pub env: Vec<(String, String)>,
}

/// The town's work, for everybody.
pub struct Desk {
    places: Places,
    pub(super) handle: Handle,
    pub(super) bus: Bus,
    timeout: Duration,
    /// One at a time tells what happened.
    pub(super) recording: tokio::sync::Mutex<()>,
    /// Grows with each change that we make: what a store said before the change is out of date then.
    pub(super) epoch: AtomicU64,
    /// Somebody wants the hooks to be looked at.
    pub(super) wanted: Notify,
}

/// Who wants something, for the record.
#[derive(Debug, Clone, Default)]
pub struct By {
    /// `person`, an address, …
    pub who: String,
    /// The peer of the socket.
    pub peer: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
}

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
    /// The desk of a town.
    #[must_use]
    pub fn new(layout: Arc<Layout>, handle: Handle, bus: Bus, options: Options) -> Self {
        let Options { kind, timeout, lost, env } = options;
        let builtin = Arc::new(Builtin::new(handle.ledger().clone(), lost));
        Self {
            places: Places::new(layout, kind, timeout, env, builtin),
            handle,
            bus,
            timeout,
            recording: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
            wanted: Notify::new(),
        }
    }

    pub(super) fn rigs(&self) -> Rigs {
        self.handle.view().read(|shown| shown.facts.rigs.clone())
    }

    /// All stores of the town, each once.
    pub(super) fn stores(&self) -> Vec<Result<Store, Unknown>> {
        self.places.all(&self.rigs())
    }

    /// The store of a rig's work, or of the town's own.
    ///
    /// # Errors
    /// When it cannot be told: of a rig that is not registered it cannot.
    pub fn store(&self, rig: Option<&RigName>) -> Result<Store, Unknown> {
        let Some(rig) = rig else { return self.places.of_town() };
        match self.rigs().get(rig) {
            Some(facts) => self.places.of_rig(facts),
            None => Err(Unknown {
                store: format!("the store of rig {rig}"),
                what: "be told".to_owned(),
                why: Why::Broken("the rig is not registered".to_owned()),
                stderr: String::new(),
            }),
        }
    }

    /// One item.
    ///
    /// # Errors
    /// [`WorkError::NotFound`] in the store's own words only, else [`WorkError::Unknown`].
    pub async fn item(&self, id: &WorkId) -> Result<(Item, &'static str), WorkError> {
        let store = self.places.of_id(id, &self.rigs())?;
        let item = store.item(id).await?.ok_or_else(|| WorkError::NotFound(id.clone()))?;
        Ok((item, store.kind()))
    }

    /// Items of a rig, or of the town and all rigs, the most urgent first.
    ///
    /// # Errors
    /// When one of the stores does not answer: a list without a part of it would look whole.
    pub async fn list(
        &self,
        rig: Option<&RigName>,
        filter: &Filter,
    ) -> Result<Vec<(Item, &'static str)>, WorkError> {
        let stores = match rig {
            Some(rig) => vec![self.store(Some(rig))?],
            None => self.stores().into_iter().collect::<Result<Vec<Store>, Unknown>>()?,
        };
        let asked = stores.iter().map(|store| async move { Ok((store.list(filter).await?, store)) });
        let answers: Vec<Result<(Vec<Item>, &Store), WorkError>> =
            futures_util::future::join_all(asked).await;
        let mut all = Vec::new();
        // The built-in store has the items of all rigs in one table.
        let prefix = rig.and_then(|rig| self.rigs().get(rig).map(|facts| format!("{}-", facts.prefix)));
        for answer in answers {
            let (items, store) = answer?;
            let kind = store.kind();
            let ours = |item: &Item| {
                kind == "bd"
                    || prefix.as_ref().is_none_or(|prefix| item.id.as_str().starts_with(prefix.as_str()))
            };
            all.extend(items.into_iter().filter(ours).map(|item| (item, kind)));
        }
        all.sort_by_key(|(item, _)| item.priority.unwrap_or(i64::MAX));
        all.truncate(LIST_MAX);
        Ok(all)
    }

    /// Makes an item.
    ///
    /// # Errors
    /// [`WorkError::Invalid`] for a text that is no title; the store's.
    pub async fn create(
        &self,
        rig: Option<&RigName>,
        title: &str,
        description: Option<String>,
        priority: Option<u8>,
        by: &By,
    ) -> Result<(Item, &'static str), WorkError> {
        let new = self.checked(rig, title, description, priority, by)?;
        let store = self.store(rig)?;
        let _turn = self.turn(&store).await?;
        let done = store.create(&new).await?;
        self.publish(done.told.unwrap_or_default());
        Ok((done.item, store.kind()))
    }

    /// What a new item would be, or why it cannot be made.
    ///
    /// # Errors
    /// [`WorkError::Invalid`].
    pub fn checked(
        &self,
        rig: Option<&RigName>,
        title: &str,
        description: Option<String>,
        priority: Option<u8>,
        by: &By,
    ) -> Result<NewItem, WorkError> {
        let invalid = |path, why: &str| Err(WorkError::Invalid { path, why: why.to_owned() });
        let title = title.trim();
        if title.is_empty() {
            return invalid("/title", "the title is empty");
        }
        if title.len() > TITLE_MAX || title.contains(char::is_control) {
            return invalid(
                "/title",
                "a title is one line of at most 500 bytes; the rest is the description",
            );
        }
        if description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_MAX || text.contains('\0')) {
            return invalid("/description", "the description is longer than 64 KiB, or no text");
        }
        if priority.is_some_and(|priority| priority > 4) {
            return invalid("/priority", "priorities go from 0, the most urgent, to 4");
        }
        let prefix = rig.and_then(|rig| self.rigs().get(rig).map(|facts| facts.prefix.clone()));
        Ok(NewItem {
            title: title.to_owned(),
            description: description.filter(|text| !text.is_empty()),
            priority,
            prefix: prefix.unwrap_or_else(|| TOWN.to_owned()),
            by: by.who.clone(),
        })
    }

    /// Closes an item. True when it was closed already.
    ///
    /// # Errors
    /// As [`Desk::item`], and when the store refuses.
    pub async fn close(&self, id: &WorkId, by: &By) -> Result<(Item, &'static str, bool), WorkError> {
        let store = self.places.of_id(id, &self.rigs())?;
        let _turn = self.turn(&store).await?;
        let item = store.item(id).await?.ok_or_else(|| WorkError::NotFound(id.clone()))?;
        if item.is_over() {
            return Ok((item, store.kind(), true));
        }
        let now = self.handle.now();
        let agent = item.hook();
        let mut told = Vec::new();
        if let Some(agent) = &agent {
            let data = json!({"work": id, "store": store.kind(), "by": by.who, "why": "the work was closed"});
            told.push(event(NewEvent::of(now, kind::WORK_UNHOOKED, agent, data), by));
        }
        let data = json!({
            "work": id, "title": item.title, "store": store.kind(), "by": by.who, "reason": by.reason,
        });
        told.push(event(self.of_item(now, kind::WORK_CLOSED, agent.as_ref(), data), by));
        let reason = by.reason.as_deref().unwrap_or_default();
        let done = self.changed(&store, store.close(id, reason, &told).await, told).await?;
        Ok((done, store.kind(), false))
    }

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
            if plan.already {
                return Ok(plan.hooking(self, agent, store.kind(), None));
            }
            let now = self.handle.now();
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
        let told = vec![event(NewEvent::of(self.handle.now(), kind::WORK_UNHOOKED, agent, data), by)];
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
            if let Some(held) = plan.replaced() {
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

    /// Waits for its turn to change something in a store.
    async fn turn<'a>(&self, store: &'a Store) -> Result<MutexGuard<'a, ()>, Unknown> {
        // A change is at most a handful of calls, each within the timeout.
        let waiting = tokio::time::timeout(self.timeout.saturating_mul(3), store.changing().lock()).await;
        waiting.map_err(|_| Unknown {
            store: store.source(),
            what: "take a change".to_owned(),
            why: Why::Crowded,
            stderr: String::new(),
        })
    }

    /// Tells of a change, and shows it. A change that failed may have happened in part: that is looked at.
    async fn changed(
        &self,
        store: &Store,
        done: Result<Done, WorkError>,
        told: Vec<NewEvent>,
    ) -> Result<Item, WorkError> {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        match done {
            Ok(done) => {
                refresh::record(self, store, &done, told).await;
                Ok(done.item)
            }
            Err(error) => {
                self.wanted.notify_one();
                Err(error)
            }
        }
    }

    pub(super) fn publish(&self, events: Vec<gtd_proto::Event>) {
        if !events.is_empty() {
            self.bus.publish(events);
        }
    }

    fn of_item(
        &self,
        now: Timestamp,
        kind: &'static str,
        agent: Option<&Address>,
        data: serde_json::Value,
    ) -> NewEvent {
        match agent {
            Some(agent) => NewEvent::of(now, kind, agent, data),
            None => NewEvent::new(now, kind, data),
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Known agents and what they have, as last shown.
    #[must_use]
    pub fn known(&self) -> BTreeMap<Address, String> {
        self.handle.view().read(|shown| {
            let all = shown.hooks.stores.values().flat_map(|store| store.hooks.keys());
            all.filter_map(|agent| Some((agent.clone(), shown.hooks.work(agent)?))).collect()
        })
    }
}

fn event(mut new: NewEvent, by: &By) -> NewEvent {
    new.peer.clone_from(&by.peer);
    new
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
