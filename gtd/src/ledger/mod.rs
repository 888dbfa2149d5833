//! The durable store: one SQLite file per town, on a thread of its own.
//!
//! Owns the file `gtd.db`, its tables, and the numbering of events. Every request has a deadline, so that a
//! disk that hangs never hangs a caller. It must never delete a file, publish an event, decide anything, or
//! give a number twice.

mod ballast;
mod conversations;
mod convoys;
mod error;
mod lifecycle;
mod load;
mod mail;
mod nudges;
mod open;
mod polecats;
mod prune;
mod read;
mod rejoin;
mod row;
mod schema;
mod snapshot;
mod start;
mod work;
mod write;
mod writer;

#[cfg(test)]
pub(crate) mod scratch;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gtd_proto::agent::SignalSent;
use gtd_proto::daemon::HeartbeatReport;
use gtd_proto::event::History;
use gtd_proto::explain::Decision;
use gtd_proto::{Address, Event, Exit, Seq, Timestamp};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

pub use conversations::{ConversationRow, ConversationWrite};
pub use convoys::{
    CLOSED as CONVOY_CLOSED, ConvoyCounts, ConvoyRow, ConvoyWrite, OPEN as CONVOY_OPEN, OpenConvoys,
    TrackedRow,
};
pub use error::LedgerError;
pub use lifecycle::{Claim, LifecycleRow, LifecycleWrite, Source};
pub use mail::{MailRow, MailWrite, NewMail, UnreadMail};
pub use nudges::{NudgeRow, Nudges};
pub use open::{Condition, Restored};
pub use polecats::{PolecatRow, PolecatState, PolecatWrite};
pub use prune::Keep;
pub use row::{
    AgentRow, AnswerRow, EventFilter, EventQuery, HoldRow, InstanceRow, Loaded, NewEvent, ProcessKey,
    ServerKey, ServerRow, Write,
};
pub use work::{OpenWork, SeenRow, WorkQuery, WorkRow, WorkWrite};

use schema::MIGRATIONS;
use writer::{Commit, Job, Ticket};

/// How long a request may take. A commit takes a millisecond, on a slow disk 30; what takes longer is stuck.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long opening may take: it checks the whole file, which at the most is half a gigabyte.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Requests that may wait at once; further ones wait for their turn within their own deadline.
const QUEUE: usize = 1_024;
/// Reads that may wait at once.
const READ_QUEUE: usize = 64;
/// Writes handed to [`Ledger::describe`] that may wait at once.
const DESCRIBE_QUEUE: usize = 8_192;

/// Numbers that may be set otherwise, above all by tests.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a request may take.
    pub deadline: Duration,
    /// How much history is kept.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: DEADLINE, keep: Keep::default() }
    }
}

/// What [`open()`] found and made.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub ledger: Ledger,
    /// How it came to be; the daemon is degraded unless `Fresh` or `Existing`.
    pub condition: Condition,
    /// What it remembered.
    pub state: Loaded,
}

/// The store's own figures. Kept by its thread: asking costs nothing and never waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Path of the file, also while a store in memory serves in its place.
    pub path: PathBuf,
    /// The store is in memory only.
    pub in_memory: bool,
    /// Bytes of the file and its log, at the last look.
    pub bytes: u64,
    /// Requests that were committed.
    pub commits: u64,
    /// Transactions this took.
    pub transactions: u64,
    /// Descriptions that were dropped: the queue was full, or they could not be written.
    pub dropped: u64,
}

/// Called on the store's thread with events whose writer does not wait for them.
type Tap = Box<dyn Fn(Vec<Event>) + Send + Sync>;

struct Shared {
    path: PathBuf,
    /// It serves from memory: the sentence says why.
    in_memory: Mutex<Option<String>>,
    /// The disk has no room for what must not be lost: the sentence says how much is left.
    full: Mutex<Option<String>>,
    /// Why the last snapshot could not be written.
    snapshot: Mutex<Option<String>>,
    stream_id: String,
    last_seq: AtomicU64,
    bytes: AtomicU64,
    commits: AtomicU64,
    transactions: AtomicU64,
    dropped: AtomicU64,
    described: AtomicUsize,
    keep: Mutex<Keep>,
    keep_changed: AtomicBool,
    tap: OnceLock<Tap>,
}

fn told(slot: &Mutex<Option<String>>) -> Option<String> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn tell(slot: &Mutex<Option<String>>, what: Option<String>) -> bool {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = *slot != what;
    *slot = what;
    changed
}

impl Shared {
    fn is_in_memory(&self) -> bool {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn tell_snapshot(&self, why: Option<String>) {
        let failed = why.clone();
        if tell(&self.snapshot, why) {
            match failed {
                Some(why) => tracing::error!(%why, "the ledger's snapshot was not written"),
                None => tracing::info!("the ledger's snapshot can be written again"),
            }
        }
    }
}

/// The store. Clones share it; its threads end with the last of them, after what was committed is on disk.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    reads: Sender<Job>,
    writing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    deadline: Duration,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

/// Opens the store of a town's `daemon` directory, making it where there is none. Blocks for as long as the
/// file needs to be checked, at most 30 s. Never fails: where the file cannot be used, memory serves.
#[must_use]
pub fn open(dir: &Path) -> Opened {
    open_with(dir, Options::default())
}

/// [`open()`] with other numbers.
#[must_use]
pub fn open_with(dir: &Path, options: Options) -> Opened {
    start::start(dir, options, OPEN_DEADLINE, MIGRATIONS)
}

impl Ledger {
    /// Writes all or nothing, and answers when it is on disk, with the events, numbered. Requests that wait
    /// at the same time share one transaction; each has its own result.
    ///
    /// # Errors
    /// Nothing was written, except after [`LedgerError::Timeout`] with `begun`, when it is not known.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Event>, LedgerError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let ticket = Arc::new(AtomicU8::new(Ticket::WAITING));
        let (answer, answered) = oneshot::channel();
        let request = async {
            let place = Arc::clone(&self.writing).acquire_owned().await.map_err(|_| LedgerError::Closed)?;
            let commit = Commit { writes, ticket: Ticket(Arc::clone(&ticket)), answer, _place: place };
            self.jobs.send(Job::Commit(commit)).map_err(|_| LedgerError::Closed)?;
            answered.await.map_err(|_| LedgerError::Closed)?
        };
        tokio::time::timeout(self.deadline, request).await.unwrap_or_else(|_| {
            Err(LedgerError::Timeout { after: self.deadline, begun: !Ticket(ticket).withdraw() })
        })
    }

    /// Writes within about 250 ms, without waiting for it: only for what merely describes. When too much
    /// waits already, or the disk is full, it is dropped and counted. Events among it reach the tap.
    pub async fn describe(&self, writes: Vec<Write>) {
        let count = writes.len();
        let waiting = self.shared.described.fetch_add(count, Ordering::AcqRel);
        if waiting.saturating_add(count) > DESCRIBE_QUEUE || self.jobs.send(Job::Describe(writes)).is_err() {
            self.shared.described.fetch_sub(count, Ordering::AcqRel);
            self.shared.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Registers who is told of committed events that no caller gets: those of [`Ledger::describe`], and of
    /// a commit whose caller stopped waiting. Called on the store's thread, in order, and must not block.
    /// There is one; a second one is refused with `false`.
    pub fn tap(&self, tap: impl Fn(Vec<Event>) + Send + Sync + 'static) -> bool {
        self.shared.tap.set(Box::new(tap)).is_ok()
    }

    /// A page of events, oldest first, in one consistent view.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn events(&self, query: EventQuery) -> Result<History, LedgerError> {
        self.read(move |conn| read::events(conn, &query)).await
    }

    /// Black boxes of ended instances, of one agent or all, the newest first; 20 unless given, at most 1,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn exits(&self, agent: Option<Address>, limit: Option<u32>) -> Result<Vec<Exit>, LedgerError> {
        self.read(move |conn| read::exits(conn, agent.as_ref(), limit)).await
    }

    /// Black boxes of ends that nobody asked for, since an instant, the newest first; 20 unless given, at most
    /// 1,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn deaths(
        &self,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<Exit>, LedgerError> {
        self.read(move |conn| read::deaths(conn, since, limit)).await
    }

    /// Signals we sent after an instant, for one agent or all, the newest first; 20 unless given, at most 1,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn signals(
        &self,
        agent: Option<Address>,
        since: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<SignalSent>, LedgerError> {
        self.read(move |conn| read::signals(conn, agent.as_ref(), since, limit)).await
    }

    /// Signals we sent to these agents since an instant, the oldest of each first; of each the last 5,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn signals_to(
        &self,
        agents: Vec<Address>,
        since: Timestamp,
    ) -> Result<Vec<SignalSent>, LedgerError> {
        // A fork bomb's end is a thousand signals and more, of which five in a row are still told whole.
        self.read(move |conn| read::signals_to(conn, &agents, since, 5_000)).await
    }

    /// Decisions about an agent up to an instant, the newest first; 20 unless given, at most 1,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn decisions(
        &self,
        agent: Address,
        until: Option<Timestamp>,
        limit: Option<u32>,
    ) -> Result<Vec<Decision>, LedgerError> {
        self.read(move |conn| read::decisions(conn, &agent, until, limit)).await
    }

    /// Reports of rounds, the newest first; 20 unless given, at most 1,000.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn heartbeats(&self, limit: Option<u32>) -> Result<Vec<HeartbeatReport>, LedgerError> {
        self.read(move |conn| read::heartbeats(conn, limit)).await
    }

    /// Instances that began in one boot, the newest first, those that are over included.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn instances_of(&self, boot: &str, limit: u32) -> Result<Vec<InstanceRow>, LedgerError> {
        let boot = boot.to_owned();
        self.read(move |conn| load::instances_of(conn, &boot, limit)).await
    }

    /// Whether the ledger has an instance as not over; none when it does not know it.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn is_open(&self, instance: &gtd_proto::InstanceId) -> Result<Option<bool>, LedgerError> {
        let instance = instance.to_string();
        self.read(move |conn| load::is_open(conn, &instance)).await
    }

    /// The answer kept under an idempotency key.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn answer(&self, key: &str) -> Result<Option<AnswerRow>, LedgerError> {
        let key = key.to_owned();
        self.read(move |conn| read::answer(conn, &key)).await
    }

    /// A fact of the whole daemon, as it is now.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn fact(&self, key: &str) -> Result<Option<serde_json::Value>, LedgerError> {
        let key = key.to_owned();
        self.read(move |conn| read::fact(conn, &key)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let request = async {
            let place = Arc::clone(&self.reading).acquire_owned().await.map_err(|_| LedgerError::Closed)?;
            let run = move |conn: &mut Connection| {
                // Whoever asked may have given up while the question waited.
                if !answer.is_closed() {
                    let _ = answer.send(question(conn));
                }
                drop(place);
            };
            self.reads.send(Job::Run(Box::new(run))).map_err(|_| LedgerError::Closed)?;
            answered.await.map_err(|_| LedgerError::Closed)?
        };
        let late = |_| Err(LedgerError::Timeout { after: self.deadline, begun: false });
        tokio::time::timeout(self.deadline, request).await.unwrap_or_else(late)
    }

    /// The last committed event. No I/O.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.shared.last_seq.load(Ordering::Acquire))
    }

    /// Identity of the stream of events: another one when the file was made anew. No I/O.
    #[must_use]
    pub fn stream_id(&self) -> String {
        self.shared.stream_id.clone()
    }

    /// The store's own figures. No I/O.
    #[must_use]
    pub fn info(&self) -> Info {
        let Shared { path, bytes, commits, transactions, dropped, .. } = &*self.shared;
        Info {
            path: path.clone(),
            in_memory: self.shared.is_in_memory(),
            bytes: bytes.load(Ordering::Relaxed),
            commits: commits.load(Ordering::Relaxed),
            transactions: transactions.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
        }
    }

    /// What is wrong with the store although it takes what it is given: it is in memory, or writes into the last
    /// room that there is. Nothing should be begun meanwhile. No I/O.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        told(&self.shared.in_memory).or_else(|| told(&self.shared.full))
    }

    /// Why the state is not kept a second time, outside the database; also what a person may not know: it will be
    /// tried again. No I/O.
    #[must_use]
    pub fn snapshot_trouble(&self) -> Option<String> {
        told(&self.shared.snapshot)
    }

    /// Sets how much history is kept, from the next pruning on.
    pub fn set_keep(&self, keep: Keep) {
        *self.shared.keep.lock().unwrap_or_else(PoisonError::into_inner) = keep;
        self.shared.keep_changed.store(true, Ordering::Release);
        // Only wakes the thread, which is then due to look.
        let _ = self.jobs.send(Job::Describe(Vec::new()));
    }

    /// Writes what waits, brings the log home and closes the file; at most for one and a half deadlines. Clones of this
    /// handle get [`LedgerError::Closed`] from then on.
    pub async fn close(self) {
        let close = async |jobs: &Sender<Job>| {
            let (answer, answered) = oneshot::channel();
            if jobs.send(Job::Close(answer)).is_ok() {
                let _ = answered.await;
            }
        };
        // Reads first, unless they hang: the last connection to close tidies the log away, and only a writer can.
        if !self.shared.is_in_memory() {
            let _ = tokio::time::timeout(self.deadline / 2, close(&self.reads)).await;
        }
        let _ = tokio::time::timeout(self.deadline, close(&self.jobs)).await;
    }
}
