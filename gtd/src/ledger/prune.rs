//! Keeps history within its bounds of age, rows and bytes, a little at a time. State that holds is never
//! touched: of instances and servers only those that have ended.

use std::time::Duration;

use gtd_proto::Timestamp;
use jiff::SignedDuration;
use rusqlite::{Connection, OptionalExtension, params};

use super::error::LedgerError;
use super::write::instant;

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Older rows go: `[daemon] ledger_max_age`.
    pub max_age: Duration,
    /// At most so many events; of other tables each has its own, smaller bound.
    pub max_events: u64,
    /// Beyond this size of the database the oldest rows of all histories go.
    pub max_bytes: u64,
}

impl Default for Keep {
    /// 90 days as `spec/files.md` has it. 500,000 events of some 400 bytes are about 200 MiB; the bound in
    /// bytes is the one that holds whatever the rows look like.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(90 * 24 * 3600), max_events: 500_000, max_bytes: 512 << 20 }
    }
}

impl Keep {
    /// The bounds of a store in memory, which serves until the disk is usable again.
    pub(super) fn in_memory(self) -> Self {
        Self { max_events: self.max_events.min(20_000), max_bytes: self.max_bytes.min(32 << 20), ..self }
    }
}

/// Rows deleted in one transaction: some milliseconds, which a commit may have to wait.
const STEP: u64 = 1_000;
/// Rows of each history that pruning by bytes leaves alone.
const FLOOR: u64 = 1_000;
/// Pages given back to the file system in one step: 8 MiB.
const VACUUM_PAGES: u32 = 2_000;

struct History {
    table: &'static str,
    id: &'static str,
    at: &'static str,
    /// Which rows may go at all.
    only: &'static str,
    /// At most so many rows; `None` means `Keep::max_events`.
    max_rows: Option<u64>,
}

/// Every table that grows. Bounds other than of events: a decision per event of an agent's life; an exit and
/// an instance per start; a heartbeat each 3 min makes 480 a day; keys of requests are repeated within minutes.
const HISTORIES: &[History] = &[
    History { table: "events", id: "seq", at: "at", only: "1", max_rows: None },
    // Only what is done; open work has no age.
    History {
        table: "work",
        id: "number",
        at: "closed_at",
        only: "status = 'closed'",
        max_rows: Some(100_000),
    },
    History {
        table: "mail",
        id: "number",
        at: "at",
        only: "(read_at IS NOT NULL OR archived_at IS NOT NULL) AND incident IS NULL",
        max_rows: Some(50_000),
    },
    // Only what is over; its list goes with it.
    History {
        table: "convoys",
        id: "number",
        at: "closed_at",
        only: "status = 'closed'",
        max_rows: Some(10_000),
    },
    History {
        table: "lifecycle",
        id: "number",
        at: "updated_at",
        only: "state NOT IN ('accepted', 'acting') AND mail IS NULL",
        max_rows: Some(10_000),
    },
    // What is done with; what is queued dies by its own expiry.
    History {
        table: "nudges",
        id: "number",
        at: "updated_at",
        only: "state IN ('delivered', 'dead')",
        max_rows: Some(10_000),
    },
    History { table: "exits", id: "id", at: "ended_at", only: "1", max_rows: Some(50_000) },
    History { table: "signals", id: "id", at: "at", only: "1", max_rows: Some(100_000) },
    History { table: "decisions", id: "id", at: "at", only: "1", max_rows: Some(200_000) },
    History { table: "heartbeats", id: "id", at: "started_at", only: "1", max_rows: Some(10_000) },
    History { table: "answers", id: "id", at: "at", only: "1", max_rows: Some(10_000) },
    History { table: "instances", id: "id", at: "reserved_at", only: "ended = 1", max_rows: Some(50_000) },
    History {
        table: "servers",
        id: "id",
        at: "seen_at",
        only: "gone_at IS NOT NULL",
        max_rows: Some(10_000),
    },
];

/// Does one step. True when there is more to do.
pub(super) fn step(conn: &mut Connection, keep: &Keep, now: Timestamp) -> Result<bool, LedgerError> {
    let age = SignedDuration::try_from(keep.max_age).unwrap_or(SignedDuration::MAX);
    let cutoff = instant(now.checked_sub(age).unwrap_or(Timestamp::MIN));
    let too_big = used_bytes(conn)? > keep.max_bytes;
    let mut more = false;
    for history in HISTORIES {
        let Some(last) = doomed(conn, history, keep, &cutoff, too_big)? else { continue };
        let History { table, id, only, .. } = history;
        let gone = conn
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {id} IN
                   (SELECT {id} FROM {table} WHERE {only} AND {id} <= ?1 ORDER BY {id} LIMIT {STEP})"
            ))?
            .execute([last])?;
        more |= gone as u64 >= STEP || (too_big && gone > 0);
    }
    let free = freed_pages(conn)?;
    if free > 0 {
        vacuum(conn)?;
        let left = freed_pages(conn)?;
        more |= left > 0 && left < free;
    }
    Ok(more)
}

/// The last row that has to go, if any.
fn doomed(
    conn: &Connection,
    history: &History,
    keep: &Keep,
    cutoff: &str,
    too_big: bool,
) -> Result<Option<i64>, LedgerError> {
    let History { table, id, at, .. } = history;
    let ends: (Option<i64>, Option<i64>) = conn
        .prepare_cached(&format!("SELECT (SELECT min({id}) FROM {table}), (SELECT max({id}) FROM {table})"))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(None) };

    // By age: the run of old rows at the old end. The newest row always stays; and a single row that was
    // dated wrongly keeps others from going, rather than taking them along.
    let young: Option<i64> = conn
        .prepare_cached(&format!("SELECT {id} FROM {table} WHERE {at} >= ?1 ORDER BY {id} LIMIT 1"))?
        .query_row(params![cutoff], |row| row.get(0))
        .optional()?;
    let by_age = young.unwrap_or(last).saturating_sub(1);

    // By rows: numbers have few holes, so that the span of numbers stands for the count, which would have to
    // be counted.
    let rows = |kept: u64| last.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX));
    let by_rows = rows(history.max_rows.unwrap_or(keep.max_events).max(1));

    let by_bytes = if too_big { rows(FLOOR) } else { i64::MIN };
    let doomed = by_age.max(by_rows).max(by_bytes);
    Ok((doomed >= first).then_some(doomed))
}

/// Gives pages back: one with each step of the statement.
fn vacuum(conn: &Connection) -> Result<(), LedgerError> {
    let mut statement = conn.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    Ok(())
}

fn pragma(conn: &Connection, name: &str) -> Result<u64, LedgerError> {
    let value: i64 = conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
    Ok(u64::try_from(value).unwrap_or(0))
}

fn freed_pages(conn: &Connection) -> Result<u64, LedgerError> {
    pragma(conn, "freelist_count")
}

/// Bytes of the database that hold something.
fn used_bytes(conn: &Connection) -> Result<u64, LedgerError> {
    let pages = pragma(conn, "page_count")?.saturating_sub(freed_pages(conn)?);
    Ok(pages.saturating_mul(pragma(conn, "page_size")?))
}
