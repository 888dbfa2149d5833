//! Keeping what is shown of the hooks up to date: asked of each store at the start, with each heartbeat, and
//! soon after its files have changed.
//!
//! One query per store, each in a task of its own: a store that hangs delays no other. What a store does not
//! say stays as it was last known, with the reason beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use gtd_proto::event::kind;
use gtd_proto::{Address, RigName, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::store::{Done, Store, WorkStore};
use super::{Item, Unknown};
use crate::config::Live;
use crate::ledger::{NewEvent, SeenRow, WorkWrite, Write};
use crate::supervisor::hooks::{HookFact, Hooks, StoreFact};

/// How often the files of stores are looked at: some stat calls.
const LOOK: Duration = Duration::from_secs(5);
/// Items that left a hook and are asked about at the most; the others only left.
const ASKED: usize = 20;
/// How often an answer that a change of ours overtook is asked for anew.
const OVERTAKEN: u32 = 3;

/// Looks at the hooks until the daemon goes down.
pub async fn watch(desk: Arc<Desk>, live: Live, stop: CancellationToken) {
    desk.remember().await;
    let mut seen = BTreeMap::new();
    loop {
        desk.refresh().await;
        let next = tokio::time::Instant::now() + live.now().daemon.heartbeat_interval;
        fingerprints(&desk, &mut seen);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = desk.wanted.notified() => {
                    desk.stirred.notify_one();
                    break;
                }
                () = tokio::time::sleep_until(next) => break,
                () = tokio::time::sleep(LOOK) => if fingerprints(&desk, &mut seen) {
                    desk.stirred.notify_one();
                    break;
                },
            }
        }
    }
}

/// What the files of a store look like.
type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// Looks at the files of all stores; true when something has changed since the last look.
fn fingerprints(desk: &Desk, seen: &mut BTreeMap<String, Fingerprint>) -> bool {
    let stores = desk.stores().into_iter().flatten();
    let now: BTreeMap<String, Fingerprint> = stores
        .filter_map(|store| {
            Some((store.key().to_owned(), fingerprint(Path::new(store.key().strip_prefix("bd:")?))))
        })
        .collect();
    let changed = *seen != now;
    *seen = now;
    changed
}

/// The files in a `.beads`, and the heads of Dolt databases in it, without what a mere question writes.
fn fingerprint(beads: &Path) -> Fingerprint {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).into_iter().flatten().flatten().take(256).map(|entry| entry.path()).collect()
    };
    let quiet = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !["-shm", ".lock", ".log", ".pid"].iter().any(|end| name.ends_with(end))
            && !name.starts_with("daemon")
    };
    let mut files: Vec<PathBuf> =
        entries(beads).into_iter().filter(|path| path.is_file() && quiet(path)).collect();
    for dir in ["dolt", "embeddeddolt"] {
        files.extend(entries(&beads.join(dir)).iter().map(|database| database.join(".dolt/noms/manifest")));
    }
    files.sort();
    let look = |path: PathBuf| {
        let found = std::fs::metadata(&path).ok()?;
        Some((path, found.modified().ok(), found.len()))
    };
    files.into_iter().filter_map(look).collect()
}

impl Desk {
    /// Shows what the daemon before us knew of other stores, until they are asked.
    pub(super) async fn remember(&self) {
        let rows = match self.handle.ledger().hooks_seen().await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "the last known hooks cannot be read");
                return;
            }
        };
        let mut hooks = self.shown();
        for row in rows {
            let source = || format!("{}, as last seen", row.store.replacen("bd:", "bd in ", 1));
            let store = hooks
                .stores
                .entry(row.store.clone())
                .or_insert_with(|| StoreFact { source: source(), ..StoreFact::default() });
            let work = row.work.to_string();
            let fact = HookFact { work, title: row.title, since: row.since, also: Vec::new() };
            store.hooks.insert(row.agent, fact);
        }
        self.handle.hooks_are(hooks).await;
    }

    /// Asks every store once.
    pub async fn refresh(self: &Arc<Self>) {
        let stores = self.stores();
        let known = self.handle.view().read(|shown| shown.facts.known);
        self.find_homes().await;
        let mut asked = tokio::task::JoinSet::new();
        let mut keys = Vec::new();
        let mut whole = known;
        for store in stores {
            match store {
                Ok(store) => {
                    keys.push(store.key().to_owned());
                    let desk = Arc::clone(self);
                    asked.spawn(async move { desk.refresh_one(store).await });
                }
                Err(error) => {
                    whole = false;
                    tracing::warn!(%error, "hooks are not known");
                }
            }
        }
        while asked.join_next().await.is_some() {}
        if whole {
            // Stores of rigs that are no longer registered.
            let _recording = self.recording.lock().await;
            let mut hooks = self.shown();
            let before = hooks.stores.len();
            hooks.stores.retain(|key, _| keys.contains(key));
            if hooks.stores.len() != before {
                self.handle.hooks_are(hooks).await;
            }
        }
    }

    /// Which store has a rig's own work: only that one can say that a hook is empty.
    async fn find_homes(&self) {
        let rigs = self.rigs();
        let home = |rig: &RigName| Some((rig.clone(), self.store(Some(rig)).ok()?.key().to_owned()));
        let homes: BTreeMap<RigName, String> = rigs.keys().filter_map(home).collect();
        let _recording = self.recording.lock().await;
        let mut hooks = self.shown();
        if hooks.homes != homes {
            hooks.homes = homes;
            self.handle.hooks_are(hooks).await;
        }
    }

    async fn refresh_one(&self, store: Store) {
        for _ in 0..OVERTAKEN {
            let epoch = self.epoch.load(Ordering::Acquire);
            let answer = store.hooks().await;
            // Changes of ours go on meanwhile: what was true before one is not told after it.
            let _changing = match tokio::time::timeout(LOOK, store.changing().lock()).await {
                Ok(guard) => guard,
                Err(_) => continue,
            };
            if self.epoch.load(Ordering::Acquire) == epoch {
                self.absorb(&store, answer).await;
                return;
            }
        }
    }

    fn shown(&self) -> Hooks {
        self.handle.view().read(|shown| shown.hooks.clone())
    }

    async fn absorb(&self, store: &Store, answer: Result<Vec<Item>, Unknown>) {
        let now = self.handle.wall();
        let _recording = self.recording.lock().await;
        let mut hooks = self.shown();
        let fact = hooks.stores.entry(store.key().to_owned()).or_default();
        fact.source = store.source();
        let items = match answer {
            Ok(items) => items,
            Err(error) => {
                if fact.error.is_none() {
                    tracing::warn!(%error, "hooks are not known");
                }
                fact.error = Some(error.to_string());
                self.handle.hooks_are(hooks).await;
                return;
            }
        };
        let next = facts(items, &fact.hooks, now);
        let told = match store {
            Store::Builtin(_) => Vec::new(),
            Store::Bd(_) => self.differences(store, &fact.hooks, &next, now).await,
        };
        let mut writes = rows(store, &fact.hooks, &next, now);
        writes.extend(told.into_iter().map(Write::Event));
        fact.hooks = next;
        fact.at = Some(now);
        fact.error = None;
        self.commit(hooks, writes).await;
    }

    /// What others did to the hooks of a store.
    async fn differences(
        &self,
        store: &Store,
        before: &BTreeMap<Address, HookFact>,
        after: &BTreeMap<Address, HookFact>,
        now: Timestamp,
    ) -> Vec<NewEvent> {
        let mut told = Vec::new();
        let kept =
            |agent: &Address, fact: &HookFact| after.get(agent).is_some_and(|next| next.work == fact.work);
        for (index, (agent, fact)) in before.iter().filter(|(agent, fact)| !kept(agent, fact)).enumerate() {
            let asked = match fact.work.parse() {
                Ok(id) if index < ASKED => store.item(&id).await.ok().flatten(),
                _ => None,
            };
            let over = asked.filter(Item::is_over);
            let why = if over.is_some() { "the work was closed" } else { "the store has it there no more" };
            let data = json!({"work": fact.work, "store": store.kind(), "by": "store", "why": why});
            told.push(NewEvent::of(now, kind::WORK_UNHOOKED, agent, data));
            if over.is_some() {
                let data =
                    json!({"work": fact.work, "title": fact.title, "store": store.kind(), "by": "store"});
                told.push(NewEvent::of(now, kind::WORK_CLOSED, agent, data));
            }
        }
        let new =
            after.iter().filter(|(agent, fact)| before.get(agent).is_none_or(|old| old.work != fact.work));
        for (agent, fact) in new {
            let data = json!({"work": fact.work, "title": fact.title, "store": store.kind(), "by": "store"});
            told.push(NewEvent::of(now, kind::WORK_HOOKED, agent, data));
        }
        told
    }

    /// Writes down, shows, tells, in this order. What could not be written is found again at the next look.
    async fn commit(&self, hooks: Hooks, writes: Vec<Write>) {
        match self.handle.ledger().commit(writes).await {
            Ok(events) => {
                self.handle.hooks_are(hooks).await;
                self.publish(events);
            }
            Err(error) => tracing::warn!(%error, "hooks were not written down"),
        }
    }
}

/// Shows and tells a change of ours. `told` is what is still to be told, unless the store did with the change.
pub(super) async fn record(desk: &Desk, store: &Store, done: &Done, told: Vec<NewEvent>) {
    let now = desk.handle.wall();
    let _recording = desk.recording.lock().await;
    let mut hooks = desk.shown();
    let fact = hooks.stores.entry(store.key().to_owned()).or_default();
    fact.source = store.source();
    let mut next = fact.hooks.clone();
    // Whoever had the item has it no more, and whoever has it now has nothing else.
    next.retain(|_, hook| hook.work != done.item.id.as_str());
    for event in told.iter().filter(|event| event.kind == kind::WORK_UNHOOKED) {
        let gone = event.data.get("work").and_then(|work| work.as_str());
        next.retain(|agent, hook| Some(agent) != event.agent.as_ref() || Some(hook.work.as_str()) != gone);
    }
    if let Some(agent) = done.item.hook() {
        let work = done.item.id.to_string();
        let since = done.item.hooked_at.unwrap_or(now);
        next.insert(agent, HookFact { work, title: done.item.title.clone(), since, also: Vec::new() });
    }
    let mut writes = rows(store, &fact.hooks, &next, now);
    fact.hooks = next;
    match &done.told {
        Some(events) => {
            desk.handle.hooks_are(hooks).await;
            desk.publish(events.clone());
        }
        None => {
            writes.extend(told.into_iter().map(Write::Event));
            desk.commit(hooks, writes).await;
        }
    }
}

/// The hooks of agents among items, with what was known of them before.
fn facts(
    items: Vec<Item>,
    before: &BTreeMap<Address, HookFact>,
    now: Timestamp,
) -> BTreeMap<Address, HookFact> {
    let mut all: BTreeMap<Address, Vec<Item>> = BTreeMap::new();
    for item in items {
        if let Some(agent) = item.hook() {
            all.entry(agent).or_default().push(item);
        }
    }
    let since = |agent: &Address, item: &Item| {
        let known = before.get(agent).filter(|fact| fact.work == item.id.as_str()).map(|fact| fact.since);
        item.hooked_at.or(known).or(item.updated_at).unwrap_or(now)
    };
    let fact = |(agent, mut items): (Address, Vec<Item>)| {
        items.sort_by_key(|item| (since(&agent, item), item.id.clone()));
        let last = items.pop()?;
        let hook = HookFact {
            since: since(&agent, &last),
            work: last.id.to_string(),
            title: last.title,
            also: items.into_iter().rev().map(|item| item.id.to_string()).collect(),
        };
        Some((agent, hook))
    };
    all.into_iter().filter_map(fact).collect()
}

/// Rows that remember the hooks of a store outside the ledger: those that are different now.
fn rows(
    store: &Store,
    before: &BTreeMap<Address, HookFact>,
    after: &BTreeMap<Address, HookFact>,
    now: Timestamp,
) -> Vec<Write> {
    if matches!(store, Store::Builtin(_)) {
        return Vec::new();
    }
    let key = || store.key().to_owned();
    let gone = before
        .keys()
        .filter(|agent| !after.contains_key(agent))
        .map(|agent| WorkWrite::Unseen { agent: agent.clone(), store: key() });
    let new =
        after.iter().filter(|(agent, fact)| before.get(agent) != Some(fact)).filter_map(|(agent, fact)| {
            Some(WorkWrite::Seen(SeenRow {
                agent: agent.clone(),
                store: key(),
                work: fact.work.parse().ok()?,
                title: fact.title.clone(),
                since: fact.since,
                seen_at: now,
            }))
        });
    gone.chain(new).map(Write::Work).collect()
}
