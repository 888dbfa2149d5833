//! The state once more, as JSON beside the database: what a ledger that was lost is rebuilt from.
//!
//! Owns `gtd.snapshot.json` and its older copies. Written whole (temporary file, sync, rename) on a thread of its
//! own some moments after a change, never by whoever commits. It must never be read while the database is sound,
//! and never holds history.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gtd_proto::{Seq, Timestamp};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Shared;
use super::conversations::{ConversationRow, ConversationWrite};
use super::convoys::OpenConvoys;
use super::error::LedgerError;
use super::lifecycle::{LifecycleRow, LifecycleWrite};
use super::load::load;
use super::mail::UnreadMail;
use super::polecats::{PolecatRow, PolecatWrite};
use super::row::{AgentRow, HoldRow, InstanceRow, Loaded, ServerRow, Write};
use super::work::OpenWork;
use crate::host::files::write_atomic;

/// The file's name in the daemon's directory; older copies are `gtd.snapshot.json.1`, `.2`, …
pub const FILE: &str = "gtd.snapshot.json";
/// Version of the file's shape. One of a later version is not read.
const VERSION: u32 = 1;
/// Older copies kept.
const COPIES: u32 = 6;
/// Bytes of all older copies together: those of a thousand agents have some 2 MiB each. The oldest go first.
const COPIES_BYTES: u64 = 32 << 20;
/// At least so far apart are two copies, or a busy minute would push out everything older.
const COPY_EVERY: Duration = Duration::from_secs(600);
/// A file larger than this is none that we wrote.
const READ_MAX: u64 = 64 << 20;
/// How long after a change it is written: others that follow share the write.
const AFTER: Duration = Duration::from_millis(250);
/// A write may take this share of the time: one of 10 ms is followed by 200 ms of rest.
const REST: u32 = 20;
/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the file holds beside its frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    stream_id: String,
    seq: Seq,
    heartbeat_number: u64,
    hold: Option<HoldRow>,
    agents: Vec<AgentRow>,
    instances: Vec<InstanceRow>,
    servers: Vec<ServerRow>,
    facts: BTreeMap<String, Value>,
    /// A snapshot of an earlier version has none, and is not whole in that.
    #[serde(default)]
    work: OpenWork,
    /// The same of workers.
    #[serde(default)]
    polecats: Vec<PolecatRow>,
    #[serde(default)]
    conversations: Vec<ConversationRow>,
    #[serde(default)]
    mail: UnreadMail,
    #[serde(default)]
    convoys: OpenConvoys,
    #[serde(default)]
    lifecycle: Vec<LifecycleRow>,
    /// Rows that the database could not tell us; they are not in here.
    unreadable: Vec<String>,
}

/// The frame: says of which version the state is, and whether it is whole.
#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    v: u32,
    written_at: Timestamp,
    sum: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// A snapshot that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// What it says.
    pub loaded: Loaded,
    /// Which file it is.
    pub from: PathBuf,
    /// When it was written.
    pub written_at: Timestamp,
    /// It is an older copy: what was wanted after it is not in it.
    pub older: bool,
}

/// The text of a snapshot.
fn text(loaded: &Loaded, now: Timestamp) -> Result<Vec<u8>, LedgerError> {
    let state = State {
        stream_id: loaded.stream_id.clone(),
        seq: loaded.last_seq,
        heartbeat_number: loaded.heartbeat_number,
        hold: loaded.hold.clone(),
        agents: loaded.agents.clone(),
        instances: loaded.instances.clone(),
        servers: loaded.servers.clone(),
        facts: loaded.facts.clone(),
        work: loaded.work.clone(),
        polecats: loaded.polecats.clone(),
        conversations: loaded.conversations.clone(),
        mail: loaded.mail.clone(),
        convoys: loaded.convoys.clone(),
        lifecycle: loaded.lifecycle.clone(),
        unreadable: loaded.unreadable.clone(),
    };
    let value = |why: serde_json::Error| LedgerError::value("snapshot", why);
    let state = serde_json::value::to_raw_value(&state).map_err(value)?;
    let frame = Frame { v: VERSION, written_at: now, sum: sum(state.get()), state: &state };
    serde_json::to_vec(&frame).map_err(value)
}

/// FNV-1a over the state's text: finds what a disk made of it, and is no protection against anybody.
fn sum(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn parse(text: &[u8]) -> Result<(Loaded, Timestamp), String> {
    let frame: Frame<'_> = serde_json::from_slice(text).map_err(|why| why.to_string())?;
    if frame.v > VERSION {
        return Err(format!("it is of version {}, and this gtd knows up to {VERSION}", frame.v));
    }
    if sum(frame.state.get()) != frame.sum {
        return Err("its content is not what was written".to_owned());
    }
    let state: State = serde_json::from_str(frame.state.get()).map_err(|why| why.to_string())?;
    let loaded = Loaded {
        stream_id: state.stream_id,
        last_seq: state.seq,
        known: true,
        agents: state.agents,
        instances: state.instances,
        servers: state.servers,
        hold: state.hold,
        heartbeat_number: state.heartbeat_number,
        facts: state.facts,
        work: state.work,
        polecats: state.polecats,
        conversations: state.conversations,
        mail: state.mail,
        convoys: state.convoys,
        lifecycle: state.lifecycle,
        unreadable: state.unreadable,
    };
    Ok((loaded, frame.written_at))
}

fn numbered(dir: &Path, number: u32) -> PathBuf {
    match number {
        0 => dir.join(FILE),
        n => dir.join(format!("{FILE}.{n}")),
    }
}

fn read(path: &Path) -> Result<(Loaded, Timestamp), String> {
    let found = fs::metadata(path).map_err(|why| why.to_string())?;
    // Asked before opening: a pipe of this name would wait for ever.
    if !found.is_file() || found.len() > READ_MAX {
        return Err("it is no file of ours".to_owned());
    }
    parse(&fs::read(path).map_err(|why| why.to_string())?)
}

/// Whether a directory has a snapshot, readable or not: then it had a ledger.
pub(super) fn exist(dir: &Path) -> bool {
    (0..=COPIES).any(|number| fs::symlink_metadata(numbered(dir, number)).is_ok())
}

/// The newest snapshot of a directory that can be read.
pub(super) fn newest(dir: &Path) -> Option<Found> {
    (0..=COPIES).find_map(|number| {
        let from = numbered(dir, number);
        match read(&from) {
            Ok((loaded, written_at)) => Some(Found { loaded, from, written_at, older: number > 0 }),
            Err(why) => {
                if fs::symlink_metadata(&from).is_ok() {
                    tracing::warn!(path = %from.display(), %why, "a snapshot of the ledger cannot be used");
                }
                None
            }
        }
    })
}

/// What must be written into an empty ledger to make it say what this does.
pub(super) fn writes(loaded: &Loaded) -> Vec<Write> {
    let conversations = loaded.conversations.iter().cloned();
    let conversations = conversations.map(|row| Write::Conversation(ConversationWrite::Keep(row)));
    let facts =
        loaded.facts.iter().map(|(key, value)| Write::Fact { key: key.clone(), value: Some(value.clone()) });
    let requests = loaded.lifecycle.iter().cloned();
    let requests = requests.map(|row| Write::Lifecycle(Box::new(LifecycleWrite::Restore(row))));
    (loaded.agents.iter().cloned().map(Write::Agent))
        .chain(loaded.instances.iter().cloned().map(Write::Instance))
        .chain(loaded.servers.iter().cloned().map(Write::Server))
        .chain([Write::Hold(loaded.hold.clone())])
        .chain(facts)
        .chain(super::work::writes(&loaded.work).into_iter().map(Write::Work))
        .chain(loaded.polecats.iter().cloned().map(PolecatWrite::Set).map(Write::Polecat))
        .chain(conversations)
        .chain(super::mail::writes(&loaded.mail).into_iter().map(Write::Mail))
        .chain(super::convoys::writes(&loaded.convoys).into_iter().map(Write::Convoy))
        .chain(requests)
        .collect()
}

/// Writes a snapshot. The one before becomes a copy, where that is to be looked at, when the last copy is older
/// than that by so much.
fn write(dir: &Path, loaded: &Loaded, now: Timestamp, every: Option<Duration>) -> Result<(), LedgerError> {
    let text = text(loaded, now)?;
    let io = |why: io::Error| LedgerError::Io(why.to_string());
    // One that cannot be read is no copy worth keeping, and must not push out one that is.
    if let Some(every) = every
        && let Ok((_, before)) = read(&numbered(dir, 0))
        && read(&numbered(dir, 1)).map_or(true, |(_, copied)| {
            Duration::try_from(before.duration_since(copied).abs()).unwrap_or(Duration::MAX) >= every
        })
    {
        rotate(dir).map_err(io)?;
    }
    // It names sessions, directories and environments: the user's alone.
    write_atomic(&numbered(dir, 0), &text, 0o600).map_err(io)
}

/// Makes room at `.1`, gives it the present file as a second name, and drops what is too much at the old end.
fn rotate(dir: &Path) -> io::Result<()> {
    let ignore_missing = |done: io::Result<()>| match done {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    ignore_missing(fs::remove_file(numbered(dir, COPIES)))?;
    for number in (1..COPIES).rev() {
        ignore_missing(fs::rename(numbered(dir, number), numbered(dir, number + 1)))?;
    }
    // A link, not a rename: at every instant there is a present one.
    if fs::hard_link(numbered(dir, 0), numbered(dir, 1)).is_err() {
        fs::copy(numbered(dir, 0), numbered(dir, 1))?;
    }
    let mut bytes = 0;
    for number in 1..=COPIES {
        let path = numbered(dir, number);
        bytes += fs::metadata(&path).map_or(0, |found| found.len());
        if number > 1 && bytes > COPIES_BYTES {
            ignore_missing(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// The thread that writes snapshots; it ends, after a last one, when this is dropped or closed.
#[derive(Debug)]
pub(super) struct Snapshots {
    changed: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Nobody writes any: the store is in memory.
    pub(super) fn none() -> Self {
        Self { changed: None, thread: None }
    }

    /// Starts the thread. Where that fails, there are no snapshots, and the log says so.
    pub(super) fn start(file: &Path, shared: Arc<Shared>) -> Self {
        let (Some(dir), file) = (file.parent().map(Path::to_owned), file.to_owned()) else {
            return Self::none();
        };
        let (changed, changes) = mpsc::sync_channel(1);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let started = Connection::open_with_flags(&file, flags)
            .and_then(|conn| conn.busy_timeout(Duration::from_secs(1)).map(|()| conn))
            .map_err(|why| why.to_string())
            .and_then(|conn| {
                let thread = thread::Builder::new().name("gtd-snapshot".to_owned());
                thread.spawn(move || keep(&dir, &conn, &changes, &shared)).map_err(|why| why.to_string())
            });
        match started {
            Ok(thread) => {
                let this = Self { changed: Some(changed), thread: Some(thread) };
                // What the file says now may never have been written out.
                this.changed();
                this
            }
            Err(why) => {
                tracing::error!(%why, "there will be no snapshots of the ledger");
                Self::none()
            }
        }
    }

    /// The state has changed. Never waits.
    pub(super) fn changed(&self) {
        if let Some(changed) = &self.changed
            && let Err(TrySendError::Disconnected(())) = changed.try_send(())
        {
            tracing::debug!("nobody writes snapshots any more");
        }
    }

    /// Writes the last one and ends the thread.
    pub(super) fn close(&mut self) {
        self.changed = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes snapshots did not end in order");
        }
    }
}

/// The thread's life.
fn keep(dir: &Path, conn: &Connection, changes: &Receiver<()>, shared: &Shared) {
    let mut copied: Option<Instant> = None;
    let mut pause = AFTER;
    while let Ok(()) = changes.recv() {
        let mut last = gather(changes, pause);
        loop {
            let began = Instant::now();
            let copy = copied.is_none_or(|at| at.elapsed() >= COPY_EVERY).then_some(COPY_EVERY);
            match load(conn).and_then(|loaded| write(dir, &loaded, Timestamp::now(), copy)) {
                Ok(()) => {
                    copied = if copy.is_some() { Some(began) } else { copied };
                    pause = AFTER.max(began.elapsed() * REST);
                    shared.tell_snapshot(None);
                    break;
                }
                Err(why) => shared.tell_snapshot(Some(why.to_string())),
            }
            if last {
                return;
            }
            last = gather(changes, AGAIN);
        }
        if last {
            return;
        }
    }
}

/// Lets others that come within a while share the write; true when nobody will tell anything any more.
fn gather(changes: &Receiver<()>, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    loop {
        match changes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

#[cfg(test)]
#[path = "tests/snapshot.rs"]
mod tests;
