//! Where work is asked about and changed: picks the store, and tells what happened. The rules of a hook are in
//! `hooking`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, RigName, Timestamp, WorkId};
use serde_json::json;
use tokio::sync::{MutexGuard, Notify};

use super::bd::Bd;
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
    /// It lacks none of those that are not closed all the same.
    pub open_kept: bool,
    /// Our own environment, of which programs get a part.
    pub env: Vec<(String, String)>,
}

/// The town's work, for everybody.
pub struct Desk {
    pub(super) places: Places,
    pub(super) handle: Handle,
    pub(super) bus: Bus,
    timeout: Duration,
    /// One at a time tells what happened.
    pub(super) recording: tokio::sync::Mutex<()>,
    /// Grows with each change that we make: what a store said before the change is out of date then.
    pub(super) epoch: AtomicU64,
    /// Somebody wants the hooks to be looked at.
    pub(super) wanted: Notify,
    /// Something may have changed in a store that others write to as well. Whoever waits for it is one.
    pub(super) stirred: Notify,
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

impl Desk {
    /// The desk of a town.
    #[must_use]
    pub fn new(layout: Arc<Layout>, handle: Handle, bus: Bus, options: Options) -> Self {
        let Options { kind, timeout, lost, open_kept, env } = options;
        let builtin = Arc::new(Builtin::new(handle.ledger().clone(), lost, open_kept));
        Self {
            places: Places::new(layout, kind, timeout, env, builtin),
            handle,
            bus,
            timeout,
            recording: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
            wanted: Notify::new(),
            stirred: Notify::new(),
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

    /// Lets the store of a worker's work write down what it holds back, as seen from a directory. Best effort.
    pub async fn flush(&self, worker: &Address, dir: &Path) {
        let flushed = match self.store(worker.rig()) {
            Ok(Store::Bd(bd)) => bd.flush(dir).await.map(|_| ()),
            Ok(Store::Builtin(_)) => Ok(()),
            Err(unknown) => Err(unknown),
        };
        if let Err(unknown) = flushed {
            tracing::warn!(agent = %worker, %unknown, "stopped without its items being written down");
        }
    }

    /// The store that has an item, by its id.
    pub(super) fn store_of(&self, id: &WorkId) -> Result<Store, Unknown> {
        self.places.of_id(id, &self.rigs())
    }

    /// The `bd` program's store that keeps the mailboxes of a rig, or of the town's own; none where we keep them. Where
    /// the town itself has such a store all mail is there: so the incumbent's tools look for it.
    #[must_use]
    pub fn mailroom(&self, rig: Option<&RigName>) -> Option<Arc<Bd>> {
        let bd = |store: Result<Store, Unknown>| match store {
            Ok(Store::Bd(bd)) => Some(bd),
            Ok(Store::Builtin(_)) | Err(_) => None,
        };
        let town = || bd(self.places.of_town());
        match rig {
            None => town(),
            Some(rig) => bd(self.store(Some(rig))).map(|own| town().unwrap_or(own)),
        }
    }

    /// The store of a message, by its id.
    #[must_use]
    pub fn mailroom_of(&self, id: &str) -> Option<Arc<Bd>> {
        match self.places.of_id(&WorkId::new(id).ok()?, &self.rigs()) {
            Ok(Store::Bd(bd)) => Some(bd),
            Ok(Store::Builtin(_)) | Err(_) => None,
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
        let now = self.handle.wall();
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

    /// Waits for its turn to change something in a store.
    pub(super) async fn turn<'a>(&self, store: &'a Store) -> Result<MutexGuard<'a, ()>, Unknown> {
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
    pub(super) async fn changed(
        &self,
        store: &Store,
        done: Result<Done, WorkError>,
        told: Vec<NewEvent>,
    ) -> Result<Item, WorkError> {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        match done {
            Ok(done) => {
                refresh::record(self, store, &done, told).await;
                if self.lacks_homes() {
                    self.wanted.notify_one();
                }
                Ok(done.item)
            }
            Err(error) => {
                self.wanted.notify_one();
                Err(error)
            }
        }
    }

    /// There is a rig of which it is not on show yet which store answers for it: it was added a moment ago.
    fn lacks_homes(&self) -> bool {
        self.handle
            .view()
            .read(|shown| shown.facts.rigs.keys().any(|rig| !shown.hooks.homes.contains_key(rig)))
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

    /// Known agents and what they have, as last shown.
    #[must_use]
    pub fn known(&self) -> BTreeMap<Address, String> {
        self.handle.view().read(|shown| {
            let all = shown.hooks.stores.values().flat_map(|store| store.hooks.keys());
            all.filter_map(|agent| Some((agent.clone(), shown.hooks.work(agent)?))).collect()
        })
    }
}

pub(super) fn event(mut new: NewEvent, by: &By) -> NewEvent {
    new.peer.clone_from(&by.peer);
    new
}
