//! Starting the store's threads: one that opens the file and owns it, one that reads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::error::LedgerError;
use super::open::{self, Condition};
use super::rejoin::Rejoin;
use super::row::Loaded;
use super::schema::Migration;
use super::snapshot::Snapshots;
use super::writer::{Job, Writer};
use super::{Ledger, Opened, Options, QUEUE, READ_QUEUE, Shared};

/// How long a store in memory may take to make: it needs no disk.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);

/// Opens the store on a thread of its own; in memory when that does not end within `patience`.
pub(super) fn start(
    dir: &Path,
    options: Options,
    patience: Duration,
    migrations: &'static [Migration],
) -> Opened {
    let path = dir.join(open::FILE);
    let place = dir.to_owned();
    match on_thread(path.clone(), options, patience, migrations, move || open::store(&place, migrations)) {
        Ok(opened) => return opened,
        Err(why) => tracing::error!(path = %path.display(), %why, "the ledger's file cannot be opened"),
    }
    let why = format!("opening {} did not end within {patience:?}", path.display());
    let told = why.clone();
    let memory = on_thread(path.clone(), options, MEMORY_PATIENCE, migrations, move || {
        open::in_memory(None, why, migrations)
    });
    memory.unwrap_or_else(|why| closed(path, options, &format!("{told}; nor is there memory for one: {why}")))
}

/// Opens a store on the thread that will own it, and waits for that.
fn on_thread(
    path: PathBuf,
    options: Options,
    patience: Duration,
    migrations: &'static [Migration],
    open: impl FnOnce() -> Result<open::Store, LedgerError> + Send + 'static,
) -> Result<Opened, LedgerError> {
    let (opened_tx, opened_rx) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("gtd-ledger".to_owned());
    let spawned = thread.spawn(move || {
        let store = match open() {
            Ok(store) => store,
            Err(why) => return drop(opened_tx.try_send(Err(why))),
        };
        let in_memory = match &store.condition {
            Condition::Unavailable { why } => Some(format!("the ledger is kept in memory only: {why}")),
            _ => None,
        };
        let (ledger, jobs) = handle(path, options, in_memory, &store.loaded);
        let shared = Arc::clone(&ledger.shared);
        let (ledger, snapshots) = match &store.path {
            Some(file) => (with_reader(ledger, file.clone()), Snapshots::start(file, Arc::clone(&shared))),
            None => (ledger, Snapshots::none()),
        };
        let rejoin = store.path.is_none().then(|| Rejoin::new(migrations, store.loaded.known));
        let writer = Writer::new(store.conn, jobs, shared, snapshots, rejoin);
        let opened = Opened { ledger, condition: store.condition, state: store.loaded };
        // Nobody waits any more: opening took too long. The file is closed again, and left alone.
        if opened_tx.try_send(Ok(opened)).is_ok() {
            writer.run();
        }
    });
    spawned.map_err(|why| LedgerError::Io(format!("cannot start its thread: {why}")))?;
    opened_rx.recv_timeout(patience).unwrap_or(Err(LedgerError::Timeout { after: patience, begun: true }))
}

fn handle(
    path: PathBuf,
    options: Options,
    in_memory: Option<String>,
    loaded: &Loaded,
) -> (Ledger, mpsc::Receiver<Job>) {
    let shared = Shared {
        path,
        in_memory: Mutex::new(in_memory),
        full: Mutex::new(None),
        snapshot: Mutex::new(None),
        stream_id: loaded.stream_id.clone(),
        last_seq: AtomicU64::new(loaded.last_seq.0),
        bytes: AtomicU64::new(0),
        commits: AtomicU64::new(0),
        transactions: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        described: AtomicUsize::new(0),
        keep: Mutex::new(options.keep),
        keep_changed: AtomicBool::new(false),
        tap: OnceLock::new(),
    };
    let (jobs, receiver) = mpsc::channel();
    let ledger = Ledger {
        shared: Arc::new(shared),
        reads: jobs.clone(),
        jobs,
        writing: Arc::new(Semaphore::new(QUEUE)),
        reading: Arc::new(Semaphore::new(READ_QUEUE)),
        deadline: options.deadline,
    };
    (ledger, receiver)
}

/// Gives reads a thread and a connection of their own: a long question must not keep a death from being
/// written. Without one the writer's thread answers.
fn with_reader(ledger: Ledger, file: PathBuf) -> Ledger {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let (reads, receiver) = mpsc::channel::<Job>();
    let thread = thread::Builder::new().name("gtd-ledger-read".to_owned());
    let reader = move |mut conn: Connection| {
        let mut closing = None;
        while let Ok(job) = receiver.recv() {
            match job {
                Job::Run(run) => run(&mut conn),
                Job::Close(answer) => {
                    closing = Some(answer);
                    break;
                }
                Job::Commit(_) | Job::Describe(_) => {}
            }
        }
        drop(conn);
        if let Some(answer) = closing {
            let _ = answer.send(());
        }
    };
    let spawned = Connection::open_with_flags(file, flags)
        .and_then(|conn| conn.busy_timeout(Duration::from_secs(1)).map(|()| conn))
        .map_err(|why| why.to_string())
        .and_then(|conn| thread.spawn(move || reader(conn)).map_err(|why| why.to_string()));
    match spawned {
        Ok(_) => Ledger { reads, ..ledger },
        Err(why) => {
            tracing::warn!(%why, "the ledger reads on its writer's thread");
            ledger
        }
    }
}

/// A store whose every request fails.
fn closed(path: PathBuf, options: Options, why: &str) -> Opened {
    let state = Loaded { stream_id: uuid::Uuid::new_v4().to_string(), ..Loaded::default() };
    let (ledger, _) = handle(path, options, Some(why.to_owned()), &state);
    Opened { ledger, condition: Condition::Unavailable { why: why.to_owned() }, state }
}
