//! Which store has whose work: by the `.beads` of a rig, and by the prefix of an id.
//!
//! A directory that cannot be looked at has no store that is known; it has not none.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::{RigName, WorkId};
use serde_json::Value;

use super::bd::Bd;
use super::builtin::Builtin;
use super::store::Store;
use super::{Unknown, Why};
use crate::config::StoreKind;
use crate::supervisor::planner::RigFacts;
use crate::town::{Layout, file};

/// Prefix of what belongs to the town itself.
pub(super) const TOWN: &str = "hq";

/// What is needed to tell which store has what.
#[derive(Debug)]
pub(super) struct Places {
    layout: Arc<Layout>,
    kind: StoreKind,
    timeout: Duration,
    env: Vec<(String, String)>,
    builtin: Arc<Builtin>,
    bds: Mutex<BTreeMap<(PathBuf, String), Arc<Bd>>>,
}

/// Registered rigs.
pub(super) type Rigs = BTreeMap<RigName, RigFacts>;

impl Places {
    pub(super) fn new(
        layout: Arc<Layout>,
        kind: StoreKind,
        timeout: Duration,
        env: Vec<(String, String)>,
        builtin: Arc<Builtin>,
    ) -> Self {
        Self { layout, kind, timeout, env, builtin, bds: Mutex::default() }
    }

    /// The town's own store.
    pub(super) fn of_town(&self) -> Result<Store, Unknown> {
        self.first(&[self.layout.root().to_owned()], TOWN)
    }

    /// A rig's store.
    pub(super) fn of_rig(&self, rig: &RigFacts) -> Result<Store, Unknown> {
        let path = PathBuf::from(&rig.path);
        // Where the repository itself tracks its items, the directory of the rig may have nothing.
        let mut dirs = vec![path.clone(), path.join("mayor/rig")];
        let routed = self.routes()?.into_iter().find(|(prefix, _)| trim(prefix) == rig.prefix);
        if let Some((_, routed)) = routed.filter(|(_, routed)| routed.starts_with(&path)) {
            dirs.insert(0, routed);
        }
        self.first(&dirs, &rig.prefix)
    }

    /// The store of an item, by the longest prefix that fits; what no prefix fits is the town's.
    pub(super) fn of_id(&self, id: &WorkId, rigs: &Rigs) -> Result<Store, Unknown> {
        let routes = self.routes()?;
        let fits =
            |prefix: &str| id.as_str().strip_prefix(trim(prefix)).is_some_and(|rest| rest.starts_with('-'));
        let rig = rigs.values().filter(|rig| fits(&rig.prefix)).max_by_key(|rig| rig.prefix.len());
        let route =
            routes.iter().filter(|(prefix, _)| fits(prefix)).max_by_key(|(prefix, _)| trim(prefix).len());
        match (rig, route) {
            (Some(rig), None) => self.of_rig(rig),
            (Some(rig), Some((prefix, _))) if rig.prefix.len() >= trim(prefix).len() => self.of_rig(rig),
            (_, Some((prefix, dir))) => {
                // A route of a rig that goes by another prefix in the registry, or of the town.
                match rigs.values().find(|rig| dir.starts_with(&rig.path)) {
                    Some(rig) => self.of_rig(rig),
                    None if dir == self.layout.root() => self.of_town(),
                    None => self.first(std::slice::from_ref(dir), trim(prefix)),
                }
            }
            (None, None) => self.of_town(),
        }
    }

    /// All stores, each once: the town's and the rigs'.
    pub(super) fn all(&self, rigs: &Rigs) -> Vec<Result<Store, Unknown>> {
        use super::store::WorkStore as _;
        let mut seen = std::collections::BTreeSet::new();
        let all = std::iter::once(self.of_town()).chain(rigs.values().map(|rig| self.of_rig(rig)));
        all.filter(|store| store.as_ref().map_or(true, |store| seen.insert(store.key().to_owned()))).collect()
    }

    /// Prefixes and directories, as the town's table has them. Lines that are not right are passed over.
    fn routes(&self) -> Result<Vec<(String, PathBuf)>, Unknown> {
        let path = self.layout.routes_jsonl();
        if self.kind == StoreKind::Builtin {
            return Ok(Vec::new());
        }
        let read = file::read(&path);
        let bytes = read.map_err(|why| self.unknown(&path, format!("{} {why}", path.display())))?;
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
        let route = |line: &str| {
            let value: Value = serde_json::from_str(line).ok()?;
            let field = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            let (prefix, path) = (field("prefix")?, Path::new(field("path")?));
            // Only places below the town.
            let within =
                path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            let dir: PathBuf = self.layout.root().join(path).components().collect();
            within.then(|| (prefix.to_owned(), dir))
        };
        Ok(text.lines().filter_map(route).collect())
    }

    fn first(&self, dirs: &[PathBuf], prefix: &str) -> Result<Store, Unknown> {
        if self.kind == StoreKind::Builtin {
            return Ok(Store::Builtin(Arc::clone(&self.builtin)));
        }
        for dir in dirs {
            match std::fs::metadata(dir.join(".beads")) {
                Ok(found) if found.is_dir() => return Ok(self.bd(dir, prefix)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => {
                    return Err(self.unknown(dir, format!("{}/.beads: {error}", dir.display())));
                }
            }
        }
        match (self.kind, dirs.first()) {
            (StoreKind::Bd, Some(dir)) => Ok(self.bd(dir, prefix)),
            _ => Ok(Store::Builtin(Arc::clone(&self.builtin))),
        }
    }

    fn bd(&self, dir: &Path, prefix: &str) -> Store {
        let mut bds = self.bds.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Bd::new(dir, prefix, self.env.iter().cloned(), self.timeout));
        Store::Bd(Arc::clone(bds.entry((dir.to_owned(), prefix.to_owned())).or_insert_with(made)))
    }

    fn unknown(&self, place: &Path, why: String) -> Unknown {
        let store = format!("the store of {}", place.display());
        Unknown { store, what: "be told".to_owned(), why: Why::Broken(why), stderr: String::new() }
    }
}

fn trim(prefix: &str) -> &str {
    prefix.trim_end_matches('-')
}
