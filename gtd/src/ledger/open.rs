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
use super::row::Loaded;
use super::schema::{APPLICATION_ID, Migration, current, migrate, version};
use super::write::{apply, instant};
use super::{ballast, snapshot};

/// The file's name in the daemon's directory.
pub(super) const FILE: &str = "gtd.db";

/// How the store came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There was no file: a new town.
    Fresh,
    /// The file was there and is sound.
    Existing,
    /// The file was damaged. It was renamed, with what belongs to it, and a new one was made.
    SetAside {
        /// Where it is now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
        /// Where its state was found; intents are lost without.
        restored: Option<Restored>,
    },
    /// The file is gone, and this is no new town: there are snapshots of it.
    Missing {
        /// Where its state was found; intents are lost without.
        restored: Option<Restored>,
    },
    /// The file is of a later version. It is untouched, and there is no store that could serve: the daemon must
    /// not come up.
    Newer {
        /// What to do about it, in a sentence.
        why: String,
    },
    /// The file can be neither used nor replaced. It is untouched, a store in memory serves, and what that
    /// learns is lost when the daemon ends. [`Loaded::known`] says whether the file could at least be read.
    Unavailable {
        /// What is in the way, in a sentence.
        why: String,
    },
}

/// A snapshot that a new file was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot.
    pub from: PathBuf,
    /// When it was written.
    pub written_at: Timestamp,
    /// It is an older copy: what was wanted since is lost, and [`Loaded::known`] is false.
    pub older: bool,
}

/// A new stream's numbers begin so far above what is known of the last one's: no number that somebody has seen
/// is used again, and whoever asks with an old cursor is told of the gap.
const NUMBERS_APART: u64 = 1_000_000;

/// Why the file cannot be used.
pub(super) enum Refused {
    /// It is of a later version.
    Newer(String),
    /// Something is in the way.
    Unusable(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Unusable(why)
    }
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
    let opened = match from_file(dir, &path, migrations) {
        Err(Refused::Unusable(_)) if ballast::release_if_full(dir) => {
            tracing::error!(path = %path.display(), "the disk of the ledger is full; its ballast was given up");
            from_file(dir, &path, migrations)
        }
        opened => opened,
    };
    match opened {
        Ok(store) => Ok(store),
        Err(Refused::Newer(why)) => {
            let store = in_memory(None, why.clone(), migrations)?;
            Ok(Store { condition: Condition::Newer { why }, ..store })
        }
        Err(Refused::Unusable(why)) => {
            let state = read_only_state(&path, migrations).or_else(|| {
                let found = snapshot::newest(dir)?;
                Some(Loaded { known: !found.older, ..found.loaded })
            });
            in_memory(state, why, migrations)
        }
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
    let loaded = take_over(&conn, state.unwrap_or_default())?;
    Ok(Store { conn, path: None, condition: Condition::Unavailable { why }, loaded })
}

/// Writes a state that was found elsewhere into a new ledger, as the beginning of a new stream.
fn take_over(conn: &Connection, state: Loaded) -> Result<Loaded, LedgerError> {
    apply(conn, &snapshot::writes(&state), &mut Vec::new())?;
    // Without anything known of the last numbers the clock stands in: a town has fewer events than seconds.
    let clock = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let first = clock.max(state.last_seq.0.saturating_add(NUMBERS_APART));
    conn.execute("DELETE FROM sqlite_sequence WHERE name = 'events'", [])?;
    conn.execute(
        "INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?1)",
        [i64::try_from(first).unwrap_or(0)],
    )?;
    let Loaded { known, heartbeat_number, unreadable, work, .. } = state;
    let mut loaded = Loaded { known, heartbeat_number, unreadable, ..load(conn)? };
    loaded.work.whole &= work.whole;
    Ok(loaded)
}

/// Opens the file, or makes a new one: of the state in the snapshots, where the old one is lost.
pub(super) fn from_file(dir: &Path, path: &Path, migrations: &[Migration]) -> Result<Store, Refused> {
    fs::create_dir_all(dir).map_err(|why| format!("cannot make {}: {why}", dir.display()))?;
    let lost = match look(path, migrations)? {
        Found::Nothing if snapshot::exist(dir) => None,
        Found::Nothing => {
            create(path, migrations, None).map_err(|why| format!("cannot make {}: {why}", path.display()))?;
            return made(path, migrations, Condition::Fresh, true);
        }
        Found::Damaged(why) => Some(why),
        Found::Candidate => match open_file(path, migrations) {
            Ok((conn, loaded)) => {
                return Ok(Store { conn, path: Some(path.into()), condition: Condition::Existing, loaded });
            }
            Err(why) if why.is_damage() => Some(why.to_string()),
            Err(LedgerError::Newer(why)) => return Err(Refused::Newer(why)),
            Err(why) => return Err(format!("{} cannot be opened: {why}", path.display()).into()),
        },
    };
    rebuild(dir, path, lost, migrations)
}

fn made(path: &Path, migrations: &[Migration], condition: Condition, known: bool) -> Result<Store, Refused> {
    let (conn, loaded) = open_file(path, migrations)
        .map_err(|why| format!("{} was made and cannot be opened: {why}", path.display()))?;
    Ok(Store { conn, path: Some(path.into()), condition, loaded: Loaded { known, ..loaded } })
}

enum Found {
    Nothing,
    Damaged(String),
    Candidate,
}

/// What can be told without letting SQLite touch anything.
fn look(path: &Path, migrations: &[Migration]) -> Result<Found, Refused> {
    let cannot = |what: &str, why: &io::Error| format!("cannot {what} {}: {why}", path.display());
    match fs::symlink_metadata(path).and_then(|_| fs::metadata(path)) {
        // Asked before anything is opened: opening a pipe would wait for ever.
        Ok(found) if !found.is_file() => {
            return Err(format!("{} is a directory or a special file; move it away", path.display()).into());
        }
        Ok(_) => {}
        Err(why) if fs::symlink_metadata(path).is_ok() => return Err(cannot("follow", &why).into()),
        // A log without its database would be replayed into a new one.
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Ok(match beside(path, "-wal").exists() || beside(path, "-journal").exists() {
                true => Found::Damaged("its log is there and the file itself is not".to_owned()),
                false => Found::Nothing,
            });
        }
        Err(why) => return Err(cannot("look at", &why).into()),
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
    newer(path, field(60), migrations).map_err(Refused::Newer)?;
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
fn create(path: &Path, migrations: &[Migration], state: Option<Loaded>) -> Result<(), LedgerError> {
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
    if let Some(state) = state {
        let tx = conn.transaction()?;
        take_over(&tx, state)?;
        tx.commit()?;
    }
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
        return Err(LedgerError::Newer(why));
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

/// Renames a damaged file out of the way, with its log, and makes a new one of the newest snapshot, if any.
fn rebuild(
    dir: &Path,
    path: &Path,
    lost: Option<String>,
    migrations: &[Migration],
) -> Result<Store, Refused> {
    // First, so that what cannot be replaced is not taken away.
    let found = snapshot::newest(dir);
    let restored = found.as_ref().map(|found| Restored {
        from: found.from.clone(),
        written_at: found.written_at,
        older: found.older,
    });
    let condition = match lost {
        None => Condition::Missing { restored },
        Some(why) => {
            let to = set_aside(path).map_err(|error| {
                format!("{} is damaged ({why}) and cannot be renamed: {error}", path.display())
            })?;
            Condition::SetAside { to, why, restored }
        }
    };
    let known = found.as_ref().is_some_and(|found| !found.older);
    let state = found.map(|found| found.loaded).unwrap_or_default();
    let (unreadable, heartbeat_number) = (state.unreadable.clone(), state.heartbeat_number);
    let whole = known && state.work.whole;
    create(path, migrations, Some(state)).map_err(|error| match &condition {
        Condition::SetAside { to, why, .. } => format!(
            "{} was damaged ({why}), is now {}, and no new one can be made: {error}",
            path.display(),
            to.display()
        ),
        _ => format!("{} is gone, and no new one can be made: {error}", path.display()),
    })?;
    let mut store = made(path, migrations, condition, known)?;
    store.loaded.work.whole &= whole;
    Ok(Store { loaded: Loaded { unreadable, heartbeat_number, ..store.loaded }, ..store })
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
