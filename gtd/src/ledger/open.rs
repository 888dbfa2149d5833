//! From whatever lies at the path to a store that serves: the file, a new file beside a damaged one that was
//! set aside, or memory. Never deletes, and never writes to a file it does not understand.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_proto::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::LedgerError;
use super::load::load;
use super::row::{Loaded, Write};
use super::schema::{APPLICATION_ID, Migration, current, migrate, version};
use super::write::{apply, instant};

/// The file's name in the daemon's directory.
pub(super) const FILE: &str = "gtd.db";

/// How the store came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There was no file: a new town.
    Fresh,
    /// The file was there and is sound.
    Existing,
    /// The file was damaged. It was renamed, with what belongs to it, and a new one was made: intents are lost.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
    /// The file can be neither used nor replaced. It is untouched, a store in memory serves, and what that
    /// learns is lost when the daemon ends. [`Loaded::known`] says whether the file could at least be read.
    Unavailable {
        /// What is in the way, in a sentence.
        why: String,
    },
}

/// How long one statement waits for another program's lock, such as a `sqlite3` shell's.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Names tried when setting a file aside.
const NAMES_TRIED: u32 = 100;

/// A connection that may write, and what it found.
pub(super) struct Store {
    pub conn: Connection,
    /// Path of the file; `None` in memory.
    pub path: Option<PathBuf>,
    pub condition: Condition,
    pub loaded: Loaded,
}

/// Opens the store of a directory. Fails only when not even a store in memory can be made.
pub(super) fn store(dir: &Path, migrations: &[Migration]) -> Result<Store, LedgerError> {
    let path = dir.join(FILE);
    match from_file(dir, &path, migrations) {
        Ok(store) => Ok(store),
        Err(why) => in_memory(read_only_state(&path, migrations), why, migrations),
    }
}

/// A store in memory, which begins with the state that could be read.
pub(super) fn in_memory(
    state: Option<Loaded>,
    why: String,
    migrations: &[Migration],
) -> Result<Store, LedgerError> {
    let mut conn = Connection::open_in_memory()?;
    prepare(&mut conn, migrations)?;
    let mut loaded = load(&conn)?;
    loaded.known = state.is_some();
    if let Some(state) = state {
        let Loaded { agents, instances, servers, hold, facts, unreadable, heartbeat_number, .. } = state;
        let facts_written =
            facts.clone().into_iter().map(|(key, value)| Write::Fact { key, value: Some(value) });
        let writes: Vec<Write> = (agents.iter().cloned().map(Write::Agent))
            .chain(instances.iter().cloned().map(Write::Instance))
            .chain(servers.iter().cloned().map(Write::Server))
            .chain([Write::Hold(hold.clone())])
            .chain(facts_written)
            .collect();
        apply(&conn, &writes, &mut Vec::new())?;
        loaded = Loaded { agents, instances, servers, hold, facts, unreadable, heartbeat_number, ..loaded };
    }
    Ok(Store { conn, path: None, condition: Condition::Unavailable { why }, loaded })
}

fn from_file(dir: &Path, path: &Path, migrations: &[Migration]) -> Result<Store, String> {
    fs::create_dir_all(dir).map_err(|why| format!("cannot make {}: {why}", dir.display()))?;
    let condition = match look(path, migrations)? {
        Found::Nothing => {
            create(path, migrations).map_err(|why| format!("cannot make {}: {why}", path.display()))?;
            Condition::Fresh
        }
        Found::Damaged(why) => replace(path, why, migrations)?,
        Found::Candidate => match open_file(path, migrations) {
            Ok((conn, loaded)) => {
                return Ok(Store { conn, path: Some(path.into()), condition: Condition::Existing, loaded });
            }
            Err(why) if why.is_damage() => replace(path, why.to_string(), migrations)?,
            Err(why) => return Err(format!("{} cannot be opened: {why}", path.display())),
        },
    };
    let (conn, mut loaded) = open_file(path, migrations)
        .map_err(|why| format!("{} was made and cannot be opened: {why}", path.display()))?;
    loaded.known = condition == Condition::Fresh;
    Ok(Store { conn, path: Some(path.into()), condition, loaded })
}

enum Found {
    Nothing,
    Damaged(String),
    Candidate,
}

/// What can be told without letting SQLite touch anything.
fn look(path: &Path, migrations: &[Migration]) -> Result<Found, String> {
    let cannot = |what: &str, why: &io::Error| format!("cannot {what} {}: {why}", path.display());
    match fs::symlink_metadata(path).and_then(|_| fs::metadata(path)) {
        // Asked before anything is opened: opening a pipe would wait for ever.
        Ok(found) if !found.is_file() => {
            return Err(format!("{} is a directory or a special file; move it away", path.display()));
        }
        Ok(_) => {}
        Err(why) if fs::symlink_metadata(path).is_ok() => return Err(cannot("follow", &why)),
        // A log without its database would be replayed into a new one.
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Ok(match beside(path, "-wal").exists() || beside(path, "-journal").exists() {
                true => Found::Damaged("its log is there and the file itself is not".to_owned()),
                false => Found::Nothing,
            });
        }
        Err(why) => return Err(cannot("look at", &why)),
    }
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(100).read_to_end(&mut header))
        .map_err(|why| cannot("read", &why))?;
    // We never leave an empty file: a new one gets its name when it is complete.
    if header.is_empty() {
        return Ok(Found::Damaged("the file is empty".to_owned()));
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Ok(Found::Damaged("the file is no SQLite database".to_owned()));
    }
    // The header's fields, at 60 and 68, big-endian (SQLite file format, section 1.3).
    let field = |at: usize| {
        header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes)
    };
    newer(path, field(60), migrations)?;
    if field(68) != APPLICATION_ID {
        return Ok(Found::Damaged("the file is a database of another program".to_owned()));
    }
    Ok(Found::Candidate)
}

fn newer(path: &Path, version: i32, migrations: &[Migration]) -> Result<(), String> {
    let known = current(migrations);
    if version <= known {
        return Ok(());
    }
    Err(format!(
        "{} has schema version {version}, and this gtd knows versions up to {known}; run the newer gtd, or move the \
         file away to begin anew",
        path.display()
    ))
}

/// Makes a complete database under another name, and gives it its own at the end: a crash on the way leaves
/// no half-made ledger.
fn create(path: &Path, migrations: &[Migration]) -> Result<(), LedgerError> {
    let io = |why: io::Error| LedgerError::Io(why.to_string());
    let new = beside(path, ".new");
    for rest in [new.clone(), beside(&new, "-wal"), beside(&new, "-shm"), beside(&new, "-journal")] {
        // What an earlier attempt of ours left; nobody else uses these names.
        match fs::remove_file(&rest) {
            Ok(()) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(io(why)),
        }
    }
    // Launch values may hold secrets of an environment: the file is the user's alone.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(io)?;
    let mut conn = Connection::open(&new)?;
    prepare(&mut conn, migrations)?;
    conn.close().map_err(|(_, why)| why)?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&new, path).map_err(io)?;
    sync_dir(path).map_err(io)
}

/// Opens an existing file for writing, checks it, brings it to today's schema and reads the state.
fn open_file(path: &Path, migrations: &[Migration]) -> Result<(Connection, Loaded), LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(LOCK_WAIT)?;
    // The header may be older than the log: look again, and leave both as they are if it is newer after all.
    if let Err(why) = newer(path, version(&conn)?, migrations) {
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        return Err(LedgerError::Io(why));
    }
    check(&conn)?;
    keep_copy(&conn, path, migrations)?;
    prepare(&mut conn, migrations)?;
    let loaded = load(&conn)?;
    // Better to learn now than at the first death that nothing can be written.
    conn.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('opened_at', ?1)",
        [instant(Timestamp::now())],
    )?;
    Ok((conn, loaded))
}

fn check(conn: &Connection) -> Result<(), LedgerError> {
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(LedgerError::Damaged(verdict)) }
}

/// A copy of the file as the older version left it, so that one can go back.
fn keep_copy(conn: &Connection, path: &Path, migrations: &[Migration]) -> Result<(), LedgerError> {
    let from = version(conn)?;
    if from == 0 || from >= current(migrations) {
        return Ok(());
    }
    let copy = beside(path, &format!(".v{from}"));
    if !copy.exists() {
        conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    }
    Ok(())
}

/// Settings and tables.
fn prepare(conn: &mut Connection, migrations: &[Migration]) -> Result<(), LedgerError> {
    conn.busy_timeout(LOCK_WAIT)?;
    // Before the first table, or it has no effect: lets pruning give pages back.
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    // Answers with the mode in force: in memory, and on file systems without shared memory, another one, which
    // is as durable and only slower.
    conn.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    // Elsewhere without effect: on macOS an ordinary sync stops at the disk's own cache.
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    // The log is brought home when nothing is to do; this is for times when there is always something: 16 MiB.
    conn.query_row("PRAGMA wal_autocheckpoint = 4000", [], |_| Ok(()))?;
    conn.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    conn.set_prepared_statement_cache_capacity(64);
    // A step that fails is our mistake, not the file's: nothing of it was written, and nothing is set aside.
    migrate(conn, migrations).map_err(|why| {
        LedgerError::Io(format!("it cannot be brought to schema version {}: {why}", current(migrations)))
    })?;
    conn.execute(
        "INSERT OR IGNORE INTO meta (key, value) VALUES ('stream_id', ?1), ('made_at', ?2)",
        [uuid::Uuid::new_v4().to_string(), instant(Timestamp::now())],
    )?;
    Ok(())
}

/// Renames a damaged file out of the way, with its log, and makes a new one.
fn replace(path: &Path, why: String, migrations: &[Migration]) -> Result<Condition, String> {
    let to = set_aside(path)
        .map_err(|error| format!("{} is damaged ({why}) and cannot be renamed: {error}", path.display()))?;
    create(path, migrations).map_err(|error| {
        format!(
            "{} was damaged ({why}), is now {}, and no new one can be made: {error}",
            path.display(),
            to.display()
        )
    })?;
    Ok(Condition::SetAside { to, why })
}

fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let ends = ["", "-wal", "-shm", "-journal"];
    let free = |name: &PathBuf| ends.iter().all(|end| fs::symlink_metadata(beside(name, end)).is_err());
    let to = (0..NAMES_TRIED)
        .map(|n| match n {
            0 => beside(path, &format!(".corrupt-{stamp}")),
            n => beside(path, &format!(".corrupt-{stamp}.{n}")),
        })
        .find(free)
        .ok_or_else(|| io::Error::other("too many files were set aside in this second"))?;
    for end in ends {
        match fs::rename(beside(path, end), beside(&to, end)) {
            Ok(()) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
    }
    sync_dir(path)?;
    Ok(to)
}

/// The state of a file that cannot be written to.
fn read_only_state(path: &Path, migrations: &[Migration]) -> Option<Loaded> {
    // What is not ours, or too new, is not even opened: SQLite would put files beside it.
    let Ok(Found::Candidate) = look(path, migrations) else { return None };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = |conn: Connection| {
        conn.busy_timeout(LOCK_WAIT)?;
        match version(&conn)? {
            found if found == current(migrations) => check(&conn).and_then(|()| load(&conn)),
            found => Err(LedgerError::Damaged(format!("schema version {found}"))),
        }
    };
    let plain = Connection::open_with_flags(path, flags).map_err(LedgerError::from).and_then(read);
    if let Ok(loaded) = plain {
        return Some(loaded);
    }
    // Without its index the log cannot be read, and without the log the state may be an old one, in which what
    // a person stopped still runs. Only a file without a log is complete by itself.
    if fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0) {
        return None;
    }
    let uri = format!("file:{}?immutable=1", escaped(path));
    let conn = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).ok()?;
    read(conn).ok()
}

/// A path as SQLite's URIs want it.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// A path with something appended to its last part.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
