//! The thread that owns the connection: gathers what waits into one transaction, writes descriptions now and
//! then, and keeps house when there is nothing else to do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use gtd_proto::{Event, Timestamp};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ballast::{Ballast, Made};
use super::error::LedgerError;
use super::rejoin::Rejoin;
use super::row::Write;
use super::snapshot::Snapshots;
use super::write::apply;
use super::{Shared, prune, tell};

/// Requests that share one transaction at the most: some milliseconds of work, so that the first of them does
/// not wait much longer than it would alone.
const GROUP: usize = 256;
/// How long a description may wait for others.
const DESCRIBE_WITHIN: Duration = Duration::from_millis(250);
/// Descriptions written in one transaction: a commit may have to wait for these.
const DESCRIBE_GROUP: usize = 512;
/// After so long without a request the log is looked after.
const IDLE: Duration = Duration::from_secs(1);
/// Size of the log above which it is brought home when idle.
const WAL_IDLE: u64 = 1 << 20;
/// First pruning after the start, and how often after that.
const PRUNE_FIRST: Duration = Duration::from_secs(60);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// How often the ballast is tried to be made while there is none.
const BALLAST_EVERY: Duration = Duration::from_secs(2);
/// How often where something else than want of room keeps it from being made.
const BALLAST_LATER: Duration = Duration::from_secs(600);
/// Between two steps of one pruning, for requests to come in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);

/// Settles between a caller that gives up and the thread that begins: exactly one of them gets it.
#[derive(Debug)]
pub(super) struct Ticket(pub Arc<AtomicU8>);

impl Ticket {
    pub(super) const WAITING: u8 = 0;
    const BEGUN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    fn take(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// True when the write had not begun and now never will.
    pub(super) fn withdraw(&self) -> bool {
        self.take(Self::WITHDRAWN)
    }

    fn begin(&self) -> bool {
        self.take(Self::BEGUN)
    }
}

/// A request to write.
pub(super) struct Commit {
    pub writes: Vec<Write>,
    pub ticket: Ticket,
    pub answer: oneshot::Sender<Result<Vec<Event>, LedgerError>>,
    /// Its place in the queue, given back when it is done.
    pub _place: OwnedSemaphorePermit,
}

pub(super) enum Job {
    Commit(Commit),
    Describe(Vec<Write>),
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
    Close(oneshot::Sender<()>),
}

pub(super) struct Writer {
    conn: Connection,
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    described: Vec<Write>,
    /// Some of `described` replace rows, so that they must not be overtaken.
    described_state: bool,
    flush_at: Option<Instant>,
    idle_at: Option<Instant>,
    prune_at: Instant,
    snapshots: Snapshots,
    ballast: Option<Ballast>,
    ballast_at: Option<Instant>,
    rejoin: Option<Rejoin>,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        jobs: Receiver<Job>,
        shared: Arc<Shared>,
        snapshots: Snapshots,
        rejoin: Option<Rejoin>,
    ) -> Self {
        let ballast = shared.path.parent().filter(|_| rejoin.is_none()).map(Ballast::new);
        let now = Instant::now();
        Self {
            ballast_at: ballast.as_ref().map(|_| now),
            ballast,
            snapshots,
            rejoin,
            conn,
            jobs,
            shared,
            described: Vec::new(),
            described_state: false,
            flush_at: None,
            idle_at: Some(now),
            prune_at: now + PRUNE_FIRST,
        }
    }

    /// Serves until it is closed, or until the last handle is gone.
    pub(super) fn run(mut self) {
        let closing = loop {
            self.look_after();
            match self.jobs.recv_timeout(self.next_duty().saturating_duration_since(Instant::now())) {
                Ok(job) => {
                    if let Some(closing) = self.serve(job) {
                        break Some(closing);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
        };
        self.finish(closing);
    }

    fn next_duty(&self) -> Instant {
        let rejoin = self.rejoin.as_ref().map(Rejoin::due);
        let duties = [self.flush_at, self.idle_at, self.ballast_at, rejoin];
        duties.into_iter().flatten().fold(self.prune_at, Instant::min)
    }

    /// Serves a job and what waits behind it. `Some` when the store is to be closed.
    fn serve(&mut self, first: Job) -> Option<oneshot::Sender<()>> {
        let mut group = Vec::new();
        let mut next = Some(first);
        let mut closing = None;
        while let Some(job) = next.take() {
            match job {
                Job::Commit(commit) => group.push(commit),
                Job::Describe(writes) => {
                    // What replaces a row must stay behind the commits that came before it.
                    if writes.iter().any(Write::is_state) {
                        self.commit(std::mem::take(&mut group));
                    }
                    self.describe(writes);
                }
                Job::Run(run) => {
                    self.commit(std::mem::take(&mut group));
                    run(&mut self.conn);
                }
                Job::Close(answer) => {
                    closing = Some(answer);
                    break;
                }
            }
            if group.len() < GROUP {
                next = self.jobs.try_recv().ok();
            }
        }
        self.commit(group);
        closing
    }

    fn commit(&mut self, group: Vec<Commit>) {
        let group: Vec<Commit> = group.into_iter().filter(|commit| commit.ticket.begin()).collect();
        if group.is_empty() {
            return;
        }
        if self.described_state {
            self.flush(usize::MAX);
        }
        let requests: Vec<&[Write]> = group.iter().map(|commit| commit.writes.as_slice()).collect();
        match self.transaction(&requests) {
            Ok(results) => {
                self.shared.transactions.fetch_add(1, Ordering::Relaxed);
                for (commit, result) in group.into_iter().zip(results) {
                    if let Ok(events) = &result {
                        self.shared.commits.fetch_add(1, Ordering::Relaxed);
                        self.advance(events);
                    }
                    // Nobody waits any more, and yet it happened: others must hear of it.
                    if let Err(Ok(events)) = commit.answer.send(result) {
                        self.hand_over(events);
                    }
                }
            }
            Err(why) => {
                for commit in group {
                    let _ = commit.answer.send(Err(why.clone()));
                }
            }
        }
        self.idle_at = Some(Instant::now() + IDLE);
    }

    fn describe(&mut self, writes: Vec<Write>) {
        if self.shared.keep_changed.swap(false, Ordering::AcqRel) {
            self.prune_at = Instant::now();
        }
        if writes.is_empty() {
            return;
        }
        self.described_state |= writes.iter().any(Write::is_state);
        self.described.extend(writes);
        self.flush_at.get_or_insert_with(|| Instant::now() + DESCRIBE_WITHIN);
    }

    /// Writes at most so many descriptions. What fails is dropped and counted: it must not pile up in memory
    /// while the disk is full.
    fn flush(&mut self, at_most: usize) {
        let count = self.described.len().min(at_most);
        let writes: Vec<Write> = self.described.drain(..count).collect();
        if self.described.is_empty() {
            self.described_state = false;
            self.flush_at = None;
        }
        if writes.is_empty() {
            return;
        }
        // Each is a request of its own: one that cannot be written takes no other along.
        let requests: Vec<&[Write]> = writes.chunks(1).collect();
        let mut events = Vec::new();
        let mut failed = 0u64;
        match self.transaction(&requests) {
            Ok(results) => {
                self.shared.transactions.fetch_add(1, Ordering::Relaxed);
                for result in results {
                    match result {
                        Ok(more) => events.extend(more),
                        Err(why) => {
                            failed += 1;
                            tracing::debug!(%why, "a description was not kept");
                        }
                    }
                }
            }
            Err(why) => {
                failed = count as u64;
                tracing::warn!(%why, count, "descriptions were not kept");
            }
        }
        self.shared.described.fetch_sub(count, Ordering::AcqRel);
        self.shared.dropped.fetch_add(failed, Ordering::Relaxed);
        self.advance(&events);
        self.hand_over(events);
        self.idle_at = Some(Instant::now() + IDLE);
    }

    /// Writes; on a full disk once more after the ballast was given up.
    fn transaction(&mut self, requests: &[&[Write]]) -> Result<Results, LedgerError> {
        let mut written = transaction(&mut self.conn, requests);
        if let (Err(LedgerError::DiskFull), Some(ballast)) = (&written, &mut self.ballast) {
            let gave_up = ballast.release();
            self.ballast_at = Some(Instant::now() + BALLAST_EVERY);
            if gave_up {
                tracing::error!("the disk of the ledger is full; its ballast was given up");
                written = transaction(&mut self.conn, requests);
            }
            tell(&self.shared.full, Some("the disk of the ledger is full".to_owned()));
        }
        if written.is_ok() && requests.iter().any(|writes| writes.iter().any(Write::is_state)) {
            self.snapshots.changed();
        }
        written
    }

    /// Makes the ballast where there is none, when there is room.
    fn trim(&mut self) {
        let Some(ballast) = &mut self.ballast else { return };
        let full = match ballast.make() {
            Made::There => {
                self.ballast_at = None;
                None
            }
            Made::NoRoom(why) => {
                self.ballast_at = Some(Instant::now() + BALLAST_EVERY);
                Some(format!("the disk of the ledger is full or nearly so: {why}"))
            }
            Made::Failed(why) => {
                tracing::warn!(%why, "the ledger has no ballast");
                self.ballast_at = Some(Instant::now() + BALLAST_LATER);
                None
            }
        };
        if tell(&self.shared.full, full.clone()) {
            match full {
                Some(why) => tracing::error!("{why}"),
                None => tracing::info!("the ledger has room again"),
            }
        }
    }

    /// Goes back to the file, when it can be used again.
    fn try_rejoin(&mut self) {
        let Some(rejoin) = &mut self.rejoin else { return };
        let Some(joined) = rejoin.attempt(&mut self.conn, &self.shared) else { return };
        self.rejoin = None;
        self.conn = joined;
        self.snapshots = Snapshots::start(&self.shared.path, Arc::clone(&self.shared));
        self.ballast = self.shared.path.parent().map(Ballast::new);
        self.ballast_at = self.ballast.as_ref().map(|_| Instant::now());
        self.idle_at = Some(Instant::now());
        tell(&self.shared.in_memory, None);
        tracing::info!(path = %self.shared.path.display(), "the ledger is in its file again");
    }

    fn advance(&self, events: &[Event]) {
        if let Some(last) = events.last() {
            self.shared.last_seq.fetch_max(last.seq.0, Ordering::AcqRel);
        }
    }

    fn hand_over(&self, events: Vec<Event>) {
        if let (Some(tap), false) = (self.shared.tap.get(), events.is_empty()) {
            tap(events);
        }
    }

    /// Does what is due.
    fn look_after(&mut self) {
        let now = Instant::now();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(DESCRIBE_GROUP);
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = None;
            if self.size("-wal") > WAL_IDLE {
                checkpoint(&self.conn, "PASSIVE");
            }
            self.measure();
        }
        if self.prune_at <= now {
            self.prune();
        }
        if self.ballast_at.is_some_and(|at| at <= now) {
            self.trim();
        }
        if self.rejoin.as_ref().is_some_and(|rejoin| rejoin.due() <= now) {
            self.try_rejoin();
        }
    }

    fn prune(&mut self) {
        let keep = *self.shared.keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let keep = if self.shared.is_in_memory() { keep.in_memory() } else { keep };
        let more = prune::step(&mut self.conn, &keep, Timestamp::now()).unwrap_or_else(|why| {
            tracing::warn!(%why, "the ledger's history was not pruned");
            false
        });
        self.prune_at = Instant::now() + if more { PRUNE_PAUSE } else { PRUNE_EVERY };
        self.idle_at.get_or_insert_with(|| Instant::now() + IDLE);
    }

    fn measure(&self) {
        let bytes = match self.shared.is_in_memory() {
            true => self.conn.query_row(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                [],
                |row| row.get::<_, i64>(0),
            ),
            false => Ok(i64::try_from(self.size("") + self.size("-wal")).unwrap_or(i64::MAX)),
        };
        let bytes = bytes.ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    fn size(&self, end: &str) -> u64 {
        let mut path = self.shared.path.clone().into_os_string();
        path.push(end);
        Path::new(&path).metadata().map_or(0, |found| found.len())
    }

    fn finish(mut self, closing: Option<oneshot::Sender<()>>) {
        self.flush(usize::MAX);
        self.snapshots.close();
        checkpoint(&self.conn, "TRUNCATE");
        if let Err((_, why)) = self.conn.close() {
            tracing::warn!(%why, "the ledger was not closed in order");
        }
        if let Some(answer) = closing {
            let _ = answer.send(());
        }
    }
}

fn checkpoint(conn: &Connection, mode: &str) {
    let done = conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    if let Err(why) = done {
        tracing::warn!(%why, "the ledger's log was not brought home");
    }
}

/// One result per request of a transaction that was committed.
type Results = Vec<Result<Vec<Event>, LedgerError>>;

/// Writes several requests in one transaction, each all or nothing. An error of the whole means that nothing
/// was written.
fn transaction(conn: &mut Connection, requests: &[&[Write]]) -> Result<Results, LedgerError> {
    let written = attempt(conn, requests);
    if written.is_err() && !conn.is_autocommit() {
        // When even this fails the next BEGIN will say so.
        let _ = run(conn, "ROLLBACK");
    }
    written
}

fn attempt(conn: &Connection, requests: &[&[Write]]) -> Result<Results, LedgerError> {
    run(conn, "BEGIN IMMEDIATE")?;
    let mut results = Vec::with_capacity(requests.len());
    for writes in requests {
        run(conn, "SAVEPOINT request")?;
        let mut events = Vec::new();
        match apply(conn, writes, &mut events) {
            Ok(()) => results.push(Ok(events)),
            // SQLite may give up the whole transaction, as on a full disk.
            Err(why) if conn.is_autocommit() => return Err(why),
            Err(why) => {
                run(conn, "ROLLBACK TO request")?;
                results.push(Err(why));
            }
        }
        run(conn, "RELEASE request")?;
    }
    run(conn, "COMMIT")?;
    Ok(results)
}

fn run(conn: &Connection, sql: &str) -> Result<(), LedgerError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}
