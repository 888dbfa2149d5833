//! Convoys: work of any store that belongs together, and is over when the last of it is.
//!
//! Kept in the ledger, whatever store the work is in. Owns what may be made and added, and what is shown; when one
//! closes is in `watching`. Must never close one on what a store did not say.

mod watching;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gtd_proto::convoy::{Convoy, ConvoyWork, WATCHERS_MAX, WORK_MAX};
use gtd_proto::{ErrorKind, RpcError, WorkId};
use tokio::sync::Notify;

pub use watching::watch;

use super::desk::Desk;
use super::store::WorkStore as _;
use super::{TITLE_MAX, WorkError};
use crate::feed::Bus;
use crate::ledger::{
    CONVOY_CLOSED, CONVOY_OPEN, ConvoyRow, ConvoyWrite, Ledger, LedgerError, TrackedRow, Write,
};
use crate::supervisor::Handle;

/// Convoys that go on, at most.
const OPEN_MAX: i64 = 1_000;
/// Items that all of these track together, at most: they are compared after each change.
const TRACKED_MAX: i64 = 20_000;
/// Convoys that are listed.
const LIST_MAX: u32 = 500;

/// What cannot be done with a convoy.
#[derive(Debug, thiserror::Error)]
pub enum ConvoyError {
    /// There is none of this id.
    #[error("there is no convoy {0}")]
    NotFound(WorkId),
    /// It is over.
    #[error("convoy {0} is closed, and tracks nothing more")]
    Closed(WorkId),
    /// A value that cannot be used.
    #[error("{why}")]
    Invalid {
        /// Which parameter, as a JSON pointer.
        path: &'static str,
        /// Why not.
        why: String,
    },
    /// There are too many.
    #[error("{0}")]
    Full(String),
    /// Its work cannot be tracked.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The ledger cannot be used.
    #[error("convoys cannot be kept: {0}")]
    Ledger(String),
}

impl From<LedgerError> for ConvoyError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error.to_string())
    }
}

impl From<ConvoyError> for RpcError {
    fn from(error: ConvoyError) -> Self {
        let text = error.to_string();
        match error {
            ConvoyError::NotFound(id) => {
                Self::new(ErrorKind::WorkNotFound, text).hint("gtctl convoy list").with("convoy", id)
            }
            ConvoyError::Closed(id) => Self::new(ErrorKind::WorkNotFound, text)
                .hint("make another: gtctl convoy create TITLE WORK")
                .with("convoy", id)
                .with("status", CONVOY_CLOSED),
            ConvoyError::Invalid { path, .. } => Self::new(ErrorKind::InvalidParams, text).with("path", path),
            ConvoyError::Full(_) => Self::new(ErrorKind::TooBusy, text).hint("gtctl convoy list"),
            ConvoyError::Work(error) => error.into(),
            ConvoyError::Ledger(_) => Self::internal(text).hint("gtctl daemon status"),
        }
    }
}

/// A convoy that is to be made.
#[derive(Debug, Clone)]
pub struct NewConvoy {
    /// What it is about.
    pub title: String,
    /// What it tracks.
    pub work: Vec<WorkId>,
    /// Who gets mail when it closes, as mailboxes; whoever makes it is among them.
    pub watchers: Vec<String>,
    /// Who makes it, as a mailbox.
    pub by: String,
    /// The key of the request.
    pub key: Option<String>,
}

/// The convoys of a town.
pub struct Convoys {
    desk: Arc<Desk>,
    handle: Handle,
    bus: Bus,
    /// One at a time changes something.
    changing: tokio::sync::Mutex<()>,
    /// Something was changed here.
    changed: Notify,
    /// Why stores do not answer, by their keys.
    silent: Mutex<BTreeMap<String, String>>,
}

impl Convoys {
    /// The convoys of a town.
    #[must_use]
    pub fn new(desk: Arc<Desk>, handle: Handle, bus: Bus) -> Self {
        Self {
            desk,
            handle,
            bus,
            changing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            silent: Mutex::default(),
        }
    }

    fn ledger(&self) -> &Ledger {
        self.handle.ledger()
    }

    /// What is changed in memory would be gone when the file can be used again.
    fn in_file(&self) -> Result<(), ConvoyError> {
        match self.ledger().info().in_memory {
            true => Err(ConvoyError::Ledger("the ledger's file cannot be used".to_owned())),
            false => Ok(()),
        }
    }

    /// A convoy as it may be made, with what its work is called and in which store it is.
    ///
    /// # Errors
    /// [`ConvoyError::Invalid`]; work that is not there, or over; a store that does not answer.
    pub async fn checked(&self, new: &NewConvoy) -> Result<Vec<TrackedRow>, ConvoyError> {
        let invalid = |path, why: &str| Err(ConvoyError::Invalid { path, why: why.to_owned() });
        if new.title.trim().is_empty() {
            return invalid("/title", "the title is empty");
        }
        if new.title.len() > TITLE_MAX || new.title.contains(char::is_control) {
            return invalid("/title", "a title is one line of at most 500 bytes");
        }
        if new.watchers.len() > WATCHERS_MAX {
            return invalid("/watchers", "a convoy has at most 20 watchers");
        }
        self.in_file()?;
        let (tracked, _) = self.tracked(&new.work, &[]).await?;
        Ok(tracked)
    }

    /// Rows for work that is not tracked yet; the convoy and its place in it are still to be filled in. The number
    /// says how much of it was.
    async fn tracked(
        &self,
        work: &[WorkId],
        there: &[TrackedRow],
    ) -> Result<(Vec<TrackedRow>, usize), ConvoyError> {
        let mut new: Vec<&WorkId> = Vec::new();
        for id in work {
            if !new.contains(&id) && !there.iter().any(|row| row.work == *id) {
                new.push(id);
            }
        }
        if new.len() + there.len() > WORK_MAX {
            let why = format!("a convoy tracks at most {WORK_MAX} items");
            return Err(ConvoyError::Invalid { path: "/work", why });
        }
        let mut rows = Vec::new();
        for id in &new {
            // Before the store is asked: what happens from now on is seen at the next look.
            let seen_at = self.handle.wall();
            let store = self.desk.store_of(id).map_err(WorkError::from)?;
            let asked = store.item(id).await.map_err(WorkError::from)?;
            let item = asked.ok_or_else(|| WorkError::NotFound((*id).clone()))?;
            if item.is_over() {
                return Err(WorkError::Over { id: (*id).clone(), status: item.status }.into());
            }
            rows.push(TrackedRow {
                convoy: (*id).clone(),
                position: 0,
                work: item.id,
                title: item.title,
                store: store.key().to_owned(),
                kind: store.kind().to_owned(),
                status: item.status,
                seen_at,
            });
        }
        Ok((rows, work.len() - new.len()))
    }

    /// Makes a convoy. A request that was repeated with its key makes none, and is given the one that there is: then
    /// the answer says `true`.
    ///
    /// # Errors
    /// As [`Self::checked`]; too many convoys; the ledger.
    pub async fn create(&self, new: NewConvoy) -> Result<(Convoy, bool), ConvoyError> {
        let key = new.key.as_ref().map(|key| format!("asked:{key}"));
        if let Some(key) = &key
            && let Some(found) = self.ledger().convoy_of(key).await?
        {
            return Ok((self.shown(found), true));
        }
        let rows = self.checked(&new).await?;
        let changing = self.changing.lock().await;
        self.room(rows.len(), true).await?;
        let number = self.ledger().convoy_counts().await?.next;
        let id = WorkId::new(format!("hq-cv-{number}"));
        let id = id.map_err(|error| ConvoyError::Ledger(error.to_string()))?;
        let mut watchers: Vec<String> = Vec::new();
        for watcher in new.watchers {
            if !watchers.contains(&watcher) {
                watchers.push(watcher);
            }
        }
        let row = ConvoyRow {
            number,
            id: id.clone(),
            title: new.title.trim().to_owned(),
            status: CONVOY_OPEN.to_owned(),
            watchers,
            created_by: new.by,
            created_at: self.handle.wall(),
            closed_at: None,
            key,
        };
        let tracked = placed(rows, &id, 0);
        let writes = std::iter::once(ConvoyWrite::Make(row)).chain(tracked).map(Write::Convoy);
        self.ledger().commit(writes.collect()).await?;
        drop(changing);
        self.changed.notify_one();
        Ok((self.show(&id).await?, false))
    }

    /// Lets a convoy track more. True when it tracks all of that already.
    ///
    /// # Errors
    /// One that is not there or closed; as [`Self::create`].
    pub async fn add(&self, id: &WorkId, work: &[WorkId]) -> Result<(Convoy, bool), ConvoyError> {
        self.in_file()?;
        let (_, there) = self.open(id).await?;
        let (rows, _) = self.tracked(work, &there).await?;
        if rows.is_empty() {
            return Ok((self.show(id).await?, true));
        }
        let changing = self.changing.lock().await;
        // It may have closed while its new work was asked about.
        let (_, there) = self.open(id).await?;
        let rows: Vec<TrackedRow> =
            rows.into_iter().filter(|row| !there.iter().any(|old| old.work == row.work)).collect();
        if rows.len() + there.len() > WORK_MAX {
            let why = format!("a convoy tracks at most {WORK_MAX} items");
            return Err(ConvoyError::Invalid { path: "/work", why });
        }
        self.room(rows.len(), false).await?;
        let last = there.iter().map(|row| row.position).max().unwrap_or(-1);
        let writes = placed(rows, id, last.saturating_add(1)).map(Write::Convoy);
        self.ledger().commit(writes.collect()).await?;
        drop(changing);
        self.changed.notify_one();
        Ok((self.show(id).await?, false))
    }

    /// What would be added, or why it cannot be.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn would_add(&self, id: &WorkId, work: &[WorkId]) -> Result<Vec<TrackedRow>, ConvoyError> {
        self.in_file()?;
        let (_, there) = self.open(id).await?;
        Ok(self.tracked(work, &there).await?.0)
    }

    async fn open(&self, id: &WorkId) -> Result<(ConvoyRow, Vec<TrackedRow>), ConvoyError> {
        match self.ledger().convoy(id).await? {
            Some((row, _)) if row.status != CONVOY_OPEN => Err(ConvoyError::Closed(id.clone())),
            Some(found) => Ok(found),
            None => Err(ConvoyError::NotFound(id.clone())),
        }
    }

    async fn room(&self, more: usize, convoy: bool) -> Result<(), ConvoyError> {
        let counts = self.ledger().convoy_counts().await?;
        if convoy && counts.open >= OPEN_MAX {
            return Err(ConvoyError::Full(format!("{} convoys are open; that is enough", counts.open)));
        }
        let tracked = counts.tracked.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
        if tracked > TRACKED_MAX {
            let why = format!("open convoys may track {TRACKED_MAX} items together");
            return Err(ConvoyError::Full(why));
        }
        Ok(())
    }

    /// One convoy.
    ///
    /// # Errors
    /// [`ConvoyError::NotFound`]; the ledger.
    pub async fn show(&self, id: &WorkId) -> Result<Convoy, ConvoyError> {
        match self.ledger().convoy(id).await? {
            Some(found) => Ok(self.shown(found)),
            None => Err(ConvoyError::NotFound(id.clone())),
        }
    }

    /// Convoys, the open ones first, then the newest.
    ///
    /// # Errors
    /// [`ConvoyError::Invalid`] for a status that no convoy has; the ledger.
    pub async fn list(&self, status: Option<&str>) -> Result<Vec<Convoy>, ConvoyError> {
        if status.is_some_and(|status| status != CONVOY_OPEN && status != CONVOY_CLOSED) {
            let why = "a convoy is open or closed".to_owned();
            return Err(ConvoyError::Invalid { path: "/status", why });
        }
        let found = self.ledger().convoys(status, LIST_MAX).await?;
        Ok(found.into_iter().map(|found| self.shown(found)).collect())
    }

    fn shown(&self, (row, tracked): (ConvoyRow, Vec<TrackedRow>)) -> Convoy {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = tracked.iter().find_map(|row| silent.get(&row.store)).cloned();
        let over = |row: &TrackedRow| matches!(row.status.as_str(), "closed" | "tombstone");
        Convoy {
            id: row.id,
            title: row.title,
            open: tracked.iter().filter(|row| !over(row)).count() as u64,
            unknown: unknown.filter(|_| row.status == CONVOY_OPEN),
            status: row.status,
            work: tracked.into_iter().map(of).collect(),
            watchers: row.watchers,
            created_by: row.created_by,
            created_at: Some(row.created_at),
            closed_at: row.closed_at,
        }
    }
}

fn of(row: TrackedRow) -> ConvoyWork {
    ConvoyWork { id: row.work, status: row.status, title: row.title, store: row.kind }
}

/// Rows in the list of a convoy, from a place on.
fn placed(rows: Vec<TrackedRow>, convoy: &WorkId, from: i64) -> impl Iterator<Item = ConvoyWrite> {
    let convoy = convoy.clone();
    rows.into_iter().zip(from..).map(move |(row, position)| {
        ConvoyWrite::Track(TrackedRow { convoy: convoy.clone(), position, ..row })
    })
}
