//! Text for agents: a durable queue, and one task that has it typed when the time has come.
//!
//! Owns the rows of the queue and every change of them, one after the other, each written down before it is acted
//! upon. Who wants something typed asks here; what may be typed when is [`crate::agents::typing`]'s to say. It must
//! never have a text typed twice: where it cannot be told how far one came, it is not tried again.

mod book;
mod deliver;
mod first_words;
mod now;
mod queue;
mod recover;
mod send;

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::{Address, InstanceId, RpcError, Timestamp};
use tokio::sync::{Notify, Semaphore, watch};

use self::book::Book;
pub use self::deliver::Step;
use super::handle::Handle;
use crate::agents::typing::rules::Said;
use crate::feed::Bus;
use crate::ledger::{LedgerError, Nudges as Kept};

/// Texts of one agent that may wait at once.
const PER_AGENT: usize = 100;
/// Texts of all agents that may wait at once.
const IN_ALL: usize = 2_000;
/// Bytes of all texts that wait: they are held in memory.
const BYTES: usize = 16 << 20;
/// How long a text may wait unless said otherwise, and at most.
const EXPIRES: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(7 * 24 * 3_600));
/// Longest key, in bytes.
const KEY: usize = 200;
/// Texts that are typed at the same time, each for another agent: tmux does one thing after the other anyway.
const AT_ONCE: usize = 8;

/// What is to be typed, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// For whom.
    pub agent: Address,
    /// The text, as it was given.
    pub message: String,
    /// Takes the place of a queued one with the same key.
    pub key: Option<String>,
    /// How long it may wait.
    pub expires: Option<Duration>,
    /// The only instance that it is for.
    pub instance: Option<InstanceId>,
    /// Who sends it.
    pub sender: String,
    /// The peer, for the record.
    pub peer: Option<String>,
}

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Nudges(Arc<Inner>);

struct Inner {
    handle: Handle,
    bus: Bus,
    book: std::sync::Mutex<Book>,
    /// Held while a row is changed: each change is seen by the next.
    changing: tokio::sync::Mutex<()>,
    /// There is something to look at.
    wake: Notify,
    /// Counts changes, for those who wait for one.
    changed: watch::Sender<u64>,
    budget: Arc<Semaphore>,
}

impl Nudges {
    /// The queue as the ledger has it. What an earlier daemon was about to type is looked into first.
    #[must_use]
    pub fn new(handle: Handle, bus: Bus, kept: Kept) -> Self {
        for why in &kept.unreadable {
            tracing::error!("a row of the ledger cannot be read: {why}");
        }
        Self(Arc::new(Inner {
            handle,
            bus,
            book: std::sync::Mutex::new(Book::new(kept)),
            changing: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
            budget: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }

    fn with_book<R>(&self, f: impl FnOnce(&mut Book) -> R) -> R {
        f(&mut self.0.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn now(&self) -> Timestamp {
        self.0.handle.now()
    }

    /// How long this daemon has run: what looks are compared by.
    fn clock(&self) -> Duration {
        self.0.handle.uptime()
    }

    /// What an instance said last: the view knows, and after a restart of the daemon the ledger does.
    async fn said(&self, agent: &gtd_proto::Agent) -> Result<Said, LedgerError> {
        use gtd_proto::Activity::{Idle, Unknown, Waiting, Working};
        let Some(instance) = &agent.instance else { return Ok(Said::Nothing) };
        Ok(match agent.activity {
            Working => Said::Working,
            Idle => Said::Idle,
            Waiting => Said::Waiting,
            Unknown => {
                if let Some(said) = self.with_book(|book| book.said(&agent.agent, instance)) {
                    return Ok(said);
                }
                let word = self.0.handle.ledger().last_report(instance).await?;
                let said = word.map_or(Said::Nothing, |word| said_by(&word));
                self.with_book(|book| book.has_said(&agent.agent, instance, said));
                said
            }
        })
    }
}

/// The word of a report.
fn said_by(word: &str) -> Said {
    match word {
        "working" => Said::Working,
        "waiting" => Said::Waiting,
        "ended" => Said::Ended,
        // A word of a later version is no word of being busy; what it types into is looked at.
        _ => Said::Idle,
    }
}

fn unwritable(error: &LedgerError) -> RpcError {
    RpcError::internal(format!("a text for an agent cannot be written down: {error}"))
        .hint("gtctl daemon status")
}
