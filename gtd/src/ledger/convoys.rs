//! Convoys: rows and questions.
//!
//! The end of a convoy, the event that tells of it and the mail about it are one write, and it is made once.

use gtd_proto::{Event, Timestamp, WorkId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::error::LedgerError;
use super::mail::{MailWrite, NewMail};
use super::read::{decoded, time, time_option};
use super::row::NewEvent;
use super::write::{event, instant};

/// More convoys than are made before a snapshot is written, or between two copies of it.
const NUMBERS_APART: i64 = 1_000;
/// The status of one that goes on.
pub const OPEN: &str = "open";
/// The status of one that is over.
pub const CLOSED: &str = "closed";
/// Work that is over, in the words of both stores.
const OVER: &str = "('closed', 'tombstone')";

/// A convoy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvoyRow {
    /// Its number, from which its id was made; never used again.
    pub number: i64,
    /// Its id.
    pub id: WorkId,
    /// What it is about.
    pub title: String,
    /// `open` or `closed`.
    pub status: String,
    /// Who gets mail when it closes, as mailboxes.
    pub watchers: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// The request that it comes of.
    pub key: Option<String>,
}

/// An item that a convoy tracks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedRow {
    /// Which convoy.
    pub convoy: WorkId,
    /// Where in its list.
    pub position: i64,
    /// The item.
    pub work: WorkId,
    /// What it was called when it was added.
    pub title: String,
    /// The store that has it, by its key.
    pub store: String,
    /// The store's kind: `builtin`, `bd`.
    pub kind: String,
    /// How it is, in the store's word.
    pub status: String,
    /// Everything that the store changed before this instant is in `status`.
    pub seen_at: Timestamp,
}

/// Convoys that go on, as far as they must outlive a lost ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenConvoys {
    /// The convoys.
    pub items: Vec<ConvoyRow>,
    /// What they track.
    pub tracked: Vec<TrackedRow>,
    /// The last number that a convoy got.
    pub last_number: i64,
}

/// One thing to write about convoys.
#[derive(Debug, Clone, PartialEq)]
pub enum ConvoyWrite {
    /// Makes a convoy; nothing where one of its key is there.
    Make(ConvoyRow),
    /// Tracks an item, or takes over what is known of it now.
    Track(TrackedRow),
    /// Everything that a store changed before this instant is known.
    Seen {
        /// The store's key.
        store: String,
        /// What was known before this was not looked at, and stays as it is.
        since: Timestamp,
        /// The instant.
        at: Timestamp,
    },
    /// Takes over what the items of the built-in store are: they may be pruned when they are over.
    TakeOver,
    /// Closes a convoy, with its event and its mail; nothing where it is closed already.
    Close {
        /// Which.
        id: WorkId,
        /// When.
        at: Timestamp,
        /// What is told.
        told: Box<NewEvent>,
        /// What is written to its watchers. A box that takes nothing is passed over.
        mails: Vec<NewMail>,
    },
    /// The next convoy gets a larger number than this.
    LastNumber(i64),
}

/// Reads the convoys that go on; what cannot be understood is named in `unreadable`.
pub(super) fn open(conn: &Connection, unreadable: &mut Vec<String>) -> Result<OpenConvoys, LedgerError> {
    let there: bool = conn.query_row(
        "SELECT count(*) = 2 FROM sqlite_master WHERE type = 'table' AND name IN ('convoys', 'convoy_work')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        // A file of a version that had none, which could not be changed.
        return Ok(OpenConvoys::default());
    }
    let mut all = OpenConvoys { last_number: last_number(conn)?, ..OpenConvoys::default() };
    let mut statement = conn.prepare_cached(&format!("{CONVOYS} WHERE status = 'open' ORDER BY number"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(1).unwrap_or_default();
        match convoy(row).and_then(|found| Ok((tracked(conn, &found.id)?, found))) {
            Ok((work, found)) => {
                all.items.push(found);
                all.tracked.extend(work);
            }
            Err(why) => unreadable.push(format!("convoy {id}: {why}")),
        }
    }
    Ok(all)
}

/// What must be written into an empty ledger to make it say that. Numbers that were given since it was read are
/// not given again.
pub(super) fn writes(open: &OpenConvoys) -> Vec<ConvoyWrite> {
    let last = ConvoyWrite::LastNumber(open.last_number.saturating_add(NUMBERS_APART));
    let last = (open.last_number > 0).then_some(last);
    (open.items.iter().cloned().map(ConvoyWrite::Make))
        .chain(open.tracked.iter().cloned().map(ConvoyWrite::Track))
        .chain(last)
        .collect()
}

fn last_number(conn: &Connection) -> Result<i64, LedgerError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'convoys'";
    Ok(conn.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConvoyCounts {
    /// The number that the next convoy gets.
    pub next: i64,
    /// Convoys that go on.
    pub open: i64,
    /// Items that these track.
    pub tracked: i64,
}

impl Ledger {
    /// Convoys with what they track, the open ones first, then the newest.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoys(
        &self,
        status: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(ConvoyRow, Vec<TrackedRow>)>, LedgerError> {
        let status = status.map(str::to_owned);
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{CONVOYS} WHERE ?1 IS NULL OR status = ?1 ORDER BY status <> 'open', number DESC LIMIT ?2"
            ))?;
            let mut rows = statement.query(params![status, limit])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let found = convoy(row)?;
                let work = tracked(conn, &found.id)?;
                all.push((found, work));
            }
            Ok(all)
        })
        .await
    }

    /// One convoy with what it tracks.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoy(&self, id: &WorkId) -> Result<Option<(ConvoyRow, Vec<TrackedRow>)>, LedgerError> {
        let id = id.to_string();
        self.read(move |conn| one(conn, "id", &id)).await
    }

    /// The convoy that came of a request.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoy_of(&self, key: &str) -> Result<Option<(ConvoyRow, Vec<TrackedRow>)>, LedgerError> {
        let key = key.to_owned();
        self.read(move |conn| one(conn, "key", &key)).await
    }

    /// How many there are.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoy_counts(&self) -> Result<ConvoyCounts, LedgerError> {
        self.read(|conn| {
            let open = "SELECT count(*) FROM convoys WHERE status = 'open'";
            let tracked = "SELECT count(*) FROM convoy_work WHERE convoy IN
                (SELECT id FROM convoys WHERE status = 'open')";
            Ok(ConvoyCounts {
                next: last_number(conn)?.saturating_add(1),
                open: conn.query_row(open, [], |row| row.get(0))?,
                tracked: conn.query_row(tracked, [], |row| row.get(0))?,
            })
        })
        .await
    }

    /// Open convoys that track something, and of which everything is over.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoys_over(&self) -> Result<Vec<(ConvoyRow, Vec<TrackedRow>)>, LedgerError> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{CONVOYS} WHERE status = 'open' AND EXISTS (SELECT 1 FROM convoy_work t WHERE t.convoy = convoys.id)
                   AND NOT EXISTS (SELECT 1 FROM convoy_work t
                     LEFT JOIN work w ON w.id = t.work AND t.kind = 'builtin'
                     WHERE t.convoy = convoys.id AND coalesce(w.status, t.status) NOT IN {OVER})
                 ORDER BY number"
            ))?;
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let found = convoy(row)?;
                let work = tracked(conn, &found.id)?;
                all.push((found, work));
            }
            Ok(all)
        })
        .await
    }

    /// What open convoys track outside of the ledger.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoy_work_elsewhere(&self) -> Result<Vec<TrackedRow>, LedgerError> {
        self.read(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{TRACKED} WHERE t.kind <> 'builtin' AND t.convoy IN (SELECT id FROM convoys WHERE status = 'open')"
            ))?;
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(item(row)?);
            }
            Ok(all)
        })
        .await
    }

    /// Whether items of the built-in store are otherwise than convoys know them.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn convoy_work_differs(&self) -> Result<bool, LedgerError> {
        self.read(|conn| {
            let sql = "SELECT EXISTS (SELECT 1 FROM convoy_work t JOIN work w ON w.id = t.work
                WHERE t.kind = 'builtin' AND w.status <> t.status)";
            Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
        })
        .await
    }
}

const CONVOYS: &str =
    "SELECT number, id, title, status, watchers, created_by, created_at, closed_at, key FROM convoys";
const TRACKED: &str =
    "SELECT t.convoy, t.position, t.work, t.title, t.store, t.kind, coalesce(w.status, t.status),
   t.seen_at FROM convoy_work t LEFT JOIN work w ON w.id = t.work AND t.kind = 'builtin'";

fn one(
    conn: &Connection,
    column: &str,
    value: &str,
) -> Result<Option<(ConvoyRow, Vec<TrackedRow>)>, LedgerError> {
    let mut statement = conn.prepare_cached(&format!("{CONVOYS} WHERE {column} = ?1"))?;
    let mut rows = statement.query([value])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let found = convoy(row)?;
    let work = tracked(conn, &found.id)?;
    Ok(Some((found, work)))
}

fn tracked(conn: &Connection, convoy: &WorkId) -> Result<Vec<TrackedRow>, LedgerError> {
    let mut statement = conn.prepare_cached(&format!("{TRACKED} WHERE t.convoy = ?1 ORDER BY t.position"))?;
    let mut rows = statement.query([convoy.as_str()])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(item(row)?);
    }
    Ok(all)
}

fn work_id(row: &Row<'_>, column: usize) -> Result<WorkId, LedgerError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|why| LedgerError::value("work id", why))
}

fn convoy(row: &Row<'_>) -> Result<ConvoyRow, LedgerError> {
    let watchers: String = row.get(4)?;
    Ok(ConvoyRow {
        number: row.get(0)?,
        id: work_id(row, 1)?,
        title: row.get(2)?,
        status: row.get(3)?,
        watchers: decoded("watchers", &watchers)?,
        created_by: row.get(5)?,
        created_at: time(row, 6)?,
        closed_at: time_option(row, 7)?,
        key: row.get(8)?,
    })
}

fn item(row: &Row<'_>) -> Result<TrackedRow, LedgerError> {
    Ok(TrackedRow {
        convoy: work_id(row, 0)?,
        position: row.get(1)?,
        work: work_id(row, 2)?,
        title: row.get(3)?,
        store: row.get(4)?,
        kind: row.get(5)?,
        status: row.get(6)?,
        seen_at: time(row, 7)?,
    })
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(
    conn: &Connection,
    write: &ConvoyWrite,
    events: &mut Vec<Event>,
) -> Result<(), LedgerError> {
    match write {
        ConvoyWrite::Close { id, at, told, mails } => return close(conn, id, *at, told, mails, events),
        ConvoyWrite::Make(row) => {
            let watchers = serde_json::to_string(&row.watchers);
            let watchers = watchers.map_err(|why| LedgerError::value("watchers", why))?;
            conn.prepare_cached(
                "INSERT INTO convoys (number, id, title, status, watchers, created_by, created_at, closed_at, key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                row.number,
                row.id.as_str(),
                row.title,
                row.status,
                watchers,
                row.created_by,
                instant(row.created_at),
                row.closed_at.map(instant),
                row.key
            ])?
        }
        // Only of a convoy that is there: another request may have been first with its key.
        ConvoyWrite::Track(row) => conn
            .prepare_cached(
                "INSERT INTO convoy_work (convoy, position, work, title, store, kind, status, seen_at)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM convoys WHERE id = ?1)
                 ON CONFLICT DO UPDATE SET status = excluded.status, seen_at = excluded.seen_at",
            )?
            .execute(params![
                row.convoy.as_str(),
                row.position,
                row.work.as_str(),
                row.title,
                row.store,
                row.kind,
                row.status,
                instant(row.seen_at)
            ])?,
        ConvoyWrite::Seen { store, since, at } => conn
            .prepare_cached(
                "UPDATE convoy_work SET seen_at = ?2 WHERE store = ?1 AND seen_at >= ?3 AND convoy IN
                   (SELECT id FROM convoys WHERE status = 'open')",
            )?
            .execute(params![store, instant(*at), instant(*since)])?,
        ConvoyWrite::TakeOver => conn
            .prepare_cached(
                "UPDATE convoy_work SET status = (SELECT w.status FROM work w WHERE w.id = convoy_work.work)
                 WHERE kind = 'builtin' AND EXISTS (SELECT 1 FROM work w
                   WHERE w.id = convoy_work.work AND w.status <> convoy_work.status)",
            )?
            .execute([])?,
        ConvoyWrite::LastNumber(last) => {
            conn.prepare_cached("DELETE FROM sqlite_sequence WHERE name = 'convoys' AND seq < ?1")?
                .execute([last])?;
            conn.prepare_cached(
                "INSERT INTO sqlite_sequence (name, seq)
                 SELECT 'convoys', ?1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'convoys')",
            )?
            .execute([last])?
        }
    };
    Ok(())
}

fn close(
    conn: &Connection,
    id: &WorkId,
    at: Timestamp,
    told: &NewEvent,
    mails: &[NewMail],
    events: &mut Vec<Event>,
) -> Result<(), LedgerError> {
    let closed = conn
        .prepare_cached(
            "UPDATE convoys SET status = 'closed', closed_at = ?2 WHERE id = ?1 AND status = 'open'",
        )?
        .execute(params![id.as_str(), instant(at)])?;
    if closed == 0 {
        return Ok(());
    }
    let told = event(conn, told)?;
    let cause = Some(told.seq);
    events.push(told);
    for mail in mails {
        let mail = MailWrite::Send(NewMail { cause, ..mail.clone() });
        match super::mail::apply(conn, &mail, events) {
            // The end is an end all the same; it is in the history.
            Err(LedgerError::BoxFull { whose, unread }) => {
                tracing::warn!(whose, unread, %id, "a box was full: the end of a convoy is not in it");
            }
            other => other?,
        }
    }
    Ok(())
}
