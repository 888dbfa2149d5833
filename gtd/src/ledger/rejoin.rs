//! The way back from memory to the file.
//!
//! A store that serves from memory tries the file again and again; when it can be used, what memory has learnt
//! since goes into it in one transaction, under the numbers that were told. It must never put what memory holds
//! in the place of what a file says, unless memory began with what that file said.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::LedgerError;
use super::open::{self, Refused, Store};
use super::schema::Migration;
use super::{Shared, tell};

/// How often the file is tried.
const AGAIN: Duration = Duration::from_secs(3);
/// How soon an attempt that is under way is looked at: opening a sound file takes milliseconds.
const SOON: Duration = Duration::from_millis(50);
/// How often where only a restart helps.
const LATER: Duration = Duration::from_secs(3_600);

/// Attempts to use the file.
pub(super) struct Rejoin {
    migrations: &'static [Migration],
    /// Memory began with the file's state.
    known: bool,
    due: Instant,
    under_way: Option<Receiver<Result<Store, Refused>>>,
}

impl Rejoin {
    pub(super) fn new(migrations: &'static [Migration], known: bool) -> Self {
        Self { migrations, known, due: Instant::now() + AGAIN, under_way: None }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Goes a step on; the connection to the file once everything is in it.
    pub(super) fn attempt(&mut self, memory: &mut Connection, shared: &Shared) -> Option<Connection> {
        let Some(opening) = &self.under_way else {
            self.begin(&shared.path);
            return None;
        };
        let opened = match opening.try_recv() {
            Ok(opened) => opened,
            Err(TryRecvError::Empty) => {
                self.due = Instant::now() + SOON;
                return None;
            }
            Err(TryRecvError::Disconnected) => {
                Err(Refused::Unusable("opening it did not end in order".to_owned()))
            }
        };
        self.under_way = None;
        self.due = Instant::now() + AGAIN;
        let store = match opened {
            Ok(store) => store,
            Err(Refused::Newer(why) | Refused::Unusable(why)) => {
                tell(&shared.in_memory, Some(format!("the ledger is kept in memory only: {why}")));
                return None;
            }
        };
        if !self.known && (!store.loaded.agents.is_empty() || store.loaded.hold.is_some()) {
            // It says what should run, and the daemon has never heard of it.
            self.due = Instant::now() + LATER;
            let why = "the ledger is kept in memory only; its file can be read again and says what should run: \
                       gtctl daemon restart";
            tell(&shared.in_memory, Some(why.to_owned()));
            return None;
        }
        match merge(memory, &shared.path) {
            Ok(()) => Some(store.conn),
            Err(why) => {
                tracing::warn!(%why, "what is in memory could not be brought to the ledger's file");
                None
            }
        }
    }

    fn begin(&mut self, path: &Path) {
        let (Some(dir), path, migrations) =
            (path.parent().map(Path::to_owned), path.to_owned(), self.migrations)
        else {
            return;
        };
        let (opened, opening) = mpsc::sync_channel(1);
        // It checks the whole file, and may hang with its disk: not on the thread that everybody waits for.
        let thread = thread::Builder::new().name("gtd-ledger-open".to_owned());
        let spawned = thread.spawn(move || drop(opened.send(open::from_file(&dir, &path, migrations))));
        self.due = Instant::now() + SOON;
        match spawned {
            Ok(_) => self.under_way = Some(opening),
            Err(why) => {
                self.due = Instant::now() + AGAIN;
                tracing::warn!(%why, "the ledger's file was not tried");
            }
        }
    }
}

/// State is replaced, histories are added to. Numbers of events are those that were told.
const MERGE: &str = "
    BEGIN IMMEDIATE;
    UPDATE disk.meta SET value = (SELECT value FROM main.meta WHERE key = 'stream_id') WHERE key = 'stream_id';
    DELETE FROM disk.agents;
    INSERT INTO disk.agents SELECT * FROM main.agents;
    DELETE FROM disk.holds;
    INSERT INTO disk.holds SELECT * FROM main.holds;
    DELETE FROM disk.facts;
    INSERT INTO disk.facts SELECT * FROM main.facts;
    UPDATE disk.instances SET ended = 1 WHERE ended = 0
        AND agent IN (SELECT agent FROM main.instances WHERE ended = 0)
        AND instance NOT IN (SELECT instance FROM main.instances);
    INSERT OR REPLACE INTO disk.instances (instance, agent, reserved_at, started_at, boot, server, session,
            session_name, pane, shim, process, preset, account, launch, ready_at, captured, ended)
        SELECT instance, agent, reserved_at, started_at, boot, server, session, session_name, pane, shim, process,
            preset, account, launch, ready_at, captured, ended FROM main.instances ORDER BY id;
    INSERT OR REPLACE INTO disk.servers (socket, process, seen_at, ours, detail, gone_at)
        SELECT socket, process, seen_at, ours, detail, gone_at FROM main.servers ORDER BY id;
    INSERT INTO disk.events SELECT * FROM main.events ORDER BY seq;
    INSERT OR REPLACE INTO disk.exits (instance, agent, ended_at, cause, incident, exit)
        SELECT instance, agent, ended_at, cause, incident, exit FROM main.exits ORDER BY id;
    INSERT INTO disk.signals (at, agent, pid, signal, sent)
        SELECT at, agent, pid, signal, sent FROM main.signals ORDER BY id;
    INSERT INTO disk.decisions (agent, at, event, decision, reason)
        SELECT agent, at, event, decision, reason FROM main.decisions ORDER BY id;
    INSERT OR REPLACE INTO disk.heartbeats (number, started_at, report)
        SELECT number, started_at, report FROM main.heartbeats ORDER BY id;
    INSERT OR IGNORE INTO disk.answers (key, method, answer, at)
        SELECT key, method, answer, at FROM main.answers ORDER BY id;
    DELETE FROM disk.sqlite_sequence WHERE name = 'events';
    INSERT INTO disk.sqlite_sequence SELECT name, seq FROM main.sqlite_sequence WHERE name = 'events';
    COMMIT;";

/// Brings what is in memory into the file, all or nothing. A number that the file already has fails it.
fn merge(memory: &Connection, path: &Path) -> Result<(), LedgerError> {
    memory.execute("ATTACH DATABASE ?1 AS disk", [path.to_string_lossy()])?;
    let merged = memory.execute_batch(MERGE);
    if merged.is_err() && !memory.is_autocommit() {
        memory.execute_batch("ROLLBACK")?;
    }
    memory.execute_batch("DETACH DATABASE disk")?;
    Ok(merged?)
}
