//! Work items of the built-in store, and the last known hooks of other stores: rows and questions.

use gtd_proto::{Address, Timestamp, WorkId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::error::LedgerError;
use super::read::{time, time_option};
use super::write::instant;

/// A work item of the built-in store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRow {
    /// Its number, from which its id was made; never used again.
    pub number: i64,
    /// Its id.
    pub id: WorkId,
    /// What is to be done.
    pub title: String,
    /// More of it.
    pub description: Option<String>,
    /// `open`, `hooked` or `closed`.
    pub status: String,
    /// Address of who has it.
    pub assignee: Option<String>,
    /// 0 is the most urgent.
    pub priority: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Since when it is on a hook.
    pub hooked_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// Why it was closed, in their words.
    pub closed_why: Option<String>,
}

/// What was last seen on an agent's hook in a store outside the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRow {
    /// Whose hook.
    pub agent: Address,
    /// The store, by the place where it is.
    pub store: String,
    /// The work.
    pub work: WorkId,
    /// Its title.
    pub title: String,
    /// Since when it was there, as far as we know.
    pub since: Timestamp,
    /// When it was seen there last with something about it changed.
    pub seen_at: Timestamp,
}

/// Bytes of text in open items that are taken along: a snapshot is written whole after each change.
const OPEN_BYTES: usize = 8 << 20;

/// The state of work, as far as it must outlive a lost ledger: what is done is history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    /// Items that are not closed, what is on a hook first.
    pub items: Vec<WorkRow>,
    /// The last known hooks of stores outside the ledger.
    pub seen: Vec<SeenRow>,
    /// The last number that an item got.
    pub last_number: i64,
    /// Nothing was left out.
    pub whole: bool,
}

/// Reads the open work; what cannot be understood is named in `unreadable`.
pub(super) fn open_work(conn: &Connection, unreadable: &mut Vec<String>) -> Result<OpenWork, LedgerError> {
    let tables: i64 = conn.query_row(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('work', 'hooks_seen')",
        [],
        |row| row.get(0),
    )?;
    if tables < 2 {
        // A file of a version that had none, which could not be changed.
        return Ok(OpenWork { whole: true, ..OpenWork::default() });
    }
    let mut work =
        OpenWork { seen: seen(conn)?, last_number: last_number(conn)?, whole: true, ..OpenWork::default() };
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE status <> 'closed' ORDER BY status <> 'hooked', priority, number"
    ))?;
    let mut rows = statement.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        match item(row) {
            Ok(item) => {
                bytes += item.title.len() + item.description.as_ref().map_or(0, String::len) + 500;
                if bytes > OPEN_BYTES {
                    work.whole = false;
                    break;
                }
                work.items.push(item);
            }
            Err(why) => {
                let id: String = row.get(1).unwrap_or_default();
                unreadable.push(format!("work item {id}: {why}"));
                work.whole = false;
            }
        }
    }
    Ok(work)
}

/// What must be written into an empty ledger to make it say that. Numbers that were given since it was read are
/// not given again.
pub(super) fn writes(work: &OpenWork) -> Vec<WorkWrite> {
    // A snapshot is some moments old; of nothing at all the clock knows more.
    let last = match (work.last_number, work.whole) {
        (0, false) => Timestamp::now().as_second(),
        (last, _) => last.saturating_add(NUMBERS_APART),
    };
    (work.items.iter().cloned().map(WorkWrite::Item))
        .chain(work.seen.iter().cloned().map(WorkWrite::Seen))
        .chain([WorkWrite::LastNumber(last)])
        .collect()
}

/// More items than are made before a snapshot is written, or between two copies of it.
const NUMBERS_APART: i64 = 1_000;

fn last_number(conn: &Connection) -> Result<i64, LedgerError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'work'";
    Ok(conn.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn seen(conn: &Connection) -> Result<Vec<SeenRow>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT agent, store, work, title, since, seen_at FROM hooks_seen ORDER BY agent, store",
    )?;
    let mut rows = statement.query([])?;
    let mut seen = Vec::new();
    while let Some(row) = rows.next()? {
        seen.push(SeenRow {
            agent: named(row, 0, "agent address")?,
            store: row.get(1)?,
            work: named(row, 2, "work id")?,
            title: row.get(3)?,
            since: time(row, 4)?,
            seen_at: time(row, 5)?,
        });
    }
    Ok(seen)
}

/// One thing to write about work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkWrite {
    /// Makes or replaces a work item.
    Item(WorkRow),
    /// Remembers what a store outside the ledger has on an agent's hook.
    Seen(SeenRow),
    /// Forgets that: the store has nothing there any more.
    Unseen {
        /// Whose hook.
        agent: Address,
        /// The store, by the place where it is.
        store: String,
    },
    /// Keeps what an agent of the built-in store is said to be doing.
    AgentState {
        /// The agent.
        agent: Address,
        /// A word.
        state: String,
        /// When it was said.
        at: Timestamp,
    },
    /// The next item gets a larger number than this.
    LastNumber(i64),
}

/// Which work items are meant.
#[derive(Debug, Clone, Default)]
pub struct WorkQuery {
    /// Only of this status; everything that is not closed unless given.
    pub status: Option<String>,
    /// Only of this assignee.
    pub assignee: Option<String>,
    /// Only those that changed at or after this instant, of every status unless one is given.
    pub since: Option<Timestamp>,
}

impl Ledger {
    /// Work items of the built-in store, the most urgent and then the oldest first.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn work_items(&self, query: WorkQuery) -> Result<Vec<WorkRow>, LedgerError> {
        self.read(move |conn| items(conn, &query)).await
    }

    /// One work item of the built-in store.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn work_item(&self, id: &WorkId) -> Result<Option<WorkRow>, LedgerError> {
        let id = id.clone();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            let mut rows = statement.query([id.as_str()])?;
            rows.next()?.map(item).transpose()
        })
        .await
    }

    /// The number that the next work item gets, and how many there are that are not closed.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn work_numbers(&self) -> Result<(i64, i64), LedgerError> {
        self.read(|conn| {
            let last = last_number(conn)?;
            let open =
                conn.query_row("SELECT count(*) FROM work WHERE status <> 'closed'", [], |row| row.get(0))?;
            Ok((last.saturating_add(1), open))
        })
        .await
    }

    /// The last known hooks of stores outside the ledger.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn hooks_seen(&self) -> Result<Vec<SeenRow>, LedgerError> {
        self.read(seen).await
    }

    /// What an agent of the built-in store was last said to be doing.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn work_agent_state(&self, agent: &Address) -> Result<Option<String>, LedgerError> {
        let agent = agent.to_string();
        self.read(move |conn| {
            let sql = "SELECT state FROM work_agents WHERE agent = ?1";
            Ok(conn.query_row(sql, [agent], |row| row.get(0)).optional()?)
        })
        .await
    }
}

const SELECT: &str =
    "SELECT number, id, title, description, status, assignee, priority, created_at, created_by,
   updated_at, hooked_at, closed_at, closed_why FROM work";

fn items(conn: &Connection, query: &WorkQuery) -> Result<Vec<WorkRow>, LedgerError> {
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE CASE WHEN ?1 IS NOT NULL THEN status = ?1 ELSE ?3 IS NOT NULL OR status <> 'closed' END
           AND (?2 IS NULL OR assignee = ?2) AND (?3 IS NULL OR updated_at >= ?3) ORDER BY priority, number"
    ))?;
    let mut rows = statement.query(params![query.status, query.assignee, query.since.map(instant)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(item(row)?);
    }
    Ok(items)
}

fn item(row: &Row<'_>) -> Result<WorkRow, LedgerError> {
    Ok(WorkRow {
        number: row.get(0)?,
        id: named(row, 1, "work id")?,
        title: row.get(2)?,
        description: row.get(3)?,
        status: row.get(4)?,
        assignee: row.get(5)?,
        priority: row.get(6)?,
        created_at: time(row, 7)?,
        created_by: row.get(8)?,
        updated_at: time(row, 9)?,
        hooked_at: time_option(row, 10)?,
        closed_at: time_option(row, 11)?,
        closed_why: row.get(12)?,
    })
}

fn named<T: std::str::FromStr>(row: &Row<'_>, column: usize, what: &'static str) -> Result<T, LedgerError>
where
    T::Err: ToString,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|why: T::Err| LedgerError::value(what, why))
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(conn: &Connection, write: &WorkWrite) -> Result<(), LedgerError> {
    match write {
        WorkWrite::Item(row) => conn
            .prepare_cached(
                "INSERT INTO work (number, id, title, description, status, assignee, priority, created_at,
                   created_by, updated_at, hooked_at, closed_at, closed_why)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (number) DO UPDATE SET title = excluded.title, description = excluded.description,
                   status = excluded.status, assignee = excluded.assignee, priority = excluded.priority,
                   updated_at = excluded.updated_at, hooked_at = excluded.hooked_at,
                   closed_at = excluded.closed_at, closed_why = excluded.closed_why",
            )?
            .execute(params![
                row.number,
                row.id.as_str(),
                row.title,
                row.description,
                row.status,
                row.assignee,
                row.priority,
                instant(row.created_at),
                row.created_by,
                instant(row.updated_at),
                row.hooked_at.map(instant),
                row.closed_at.map(instant),
                row.closed_why
            ])?,
        WorkWrite::Seen(row) => conn
            .prepare_cached(
                "INSERT OR REPLACE INTO hooks_seen (agent, store, work, title, since, seen_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                row.agent.to_string(),
                row.store,
                row.work.as_str(),
                row.title,
                instant(row.since),
                instant(row.seen_at)
            ])?,
        WorkWrite::Unseen { agent, store } => conn
            .prepare_cached("DELETE FROM hooks_seen WHERE agent = ?1 AND store = ?2")?
            .execute(params![agent.to_string(), store])?,
        WorkWrite::LastNumber(last) => {
            conn.prepare_cached("DELETE FROM sqlite_sequence WHERE name = 'work' AND seq < ?1")?.execute([last])?;
            conn.prepare_cached(
                "INSERT INTO sqlite_sequence (name, seq)
                 SELECT 'work', ?1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'work')",
            )?
            .execute([last])?
        }
        WorkWrite::AgentState { agent, state, at } => conn
            .prepare_cached("INSERT OR REPLACE INTO work_agents (agent, state, at) VALUES (?1, ?2, ?3)")?
            .execute(params![agent.to_string(), state, instant(*at)])?,
    };
    Ok(())
}
