//! Workers that we made, from the reservation of their names on: rows and questions.

use gtd_proto::{Address, AgentName, RigName, Timestamp, WorkId};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Ledger;
use super::error::LedgerError;
use super::read::time;
use super::write::instant;

/// How far a worker's making has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolecatState {
    /// It is being made, or what was made of it is being taken back: the journal says which.
    Spawning,
    /// It is there.
    Ready,
    /// It could not be made, and its worktree was kept for what is in it.
    Abandoned,
    /// It is being removed: the journal says how far that is.
    Removing,
    /// A word of a later version. Nobody acts upon it.
    #[serde(other)]
    Unknown,
}

impl PolecatState {
    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spawning => "spawning",
            Self::Ready => "ready",
            Self::Abandoned => "abandoned",
            Self::Removing => "removing",
            Self::Unknown => "unknown",
        }
    }

    fn of(word: &str) -> Self {
        [Self::Spawning, Self::Ready, Self::Abandoned, Self::Removing]
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(Self::Unknown)
    }
}

/// A worker that we made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolecatRow {
    /// Its rig.
    pub rig: RigName,
    /// Its name within the rig.
    pub name: AgentName,
    /// How far it has come.
    pub state: PolecatState,
    /// Its worktree, an absolute path.
    pub worktree: Option<String>,
    /// The branch that was made for it.
    pub branch: Option<String>,
    /// The work that it was made for.
    pub work: Option<WorkId>,
    /// When its name was reserved.
    pub made_at: Timestamp,
    /// The plan of what is under way with it, and how far that has come.
    pub journal: Option<Value>,
}

impl PolecatRow {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::Polecat(self.rig.clone(), self.name.clone())
    }
}

/// One thing to write about workers.
#[derive(Debug, Clone, PartialEq)]
pub enum PolecatWrite {
    /// Reserves a name, and the work for it: refused when either is taken.
    Reserve(PolecatRow),
    /// Makes or replaces a worker's row.
    Set(PolecatRow),
    /// Removes a worker's row.
    Forget {
        /// Its rig.
        rig: RigName,
        /// Its name.
        name: AgentName,
    },
}

impl Ledger {
    /// Workers that we made, of one rig or all, by name. A row that cannot be understood is an error: it holds a
    /// name that nobody else may get.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn polecats(&self, rig: Option<&RigName>) -> Result<Vec<PolecatRow>, LedgerError> {
        let rig = rig.cloned();
        self.read(move |conn| {
            let mut statement =
                conn.prepare_cached(&format!("{SELECT} WHERE ?1 IS NULL OR rig = ?1 ORDER BY rig, name"))?;
            let mut rows = statement.query([rig.as_ref().map(RigName::as_str)])?;
            let mut found = Vec::new();
            while let Some(found_row) = rows.next()? {
                found.push(row(found_row)?);
            }
            Ok(found)
        })
        .await
    }

    /// A worker that we made.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn polecat(&self, rig: &RigName, name: &AgentName) -> Result<Option<PolecatRow>, LedgerError> {
        let (rig, name) = (rig.clone(), name.clone());
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE rig = ?1 AND name = ?2"))?;
            let mut rows = statement.query([rig.as_str(), name.as_str()])?;
            rows.next()?.map(row).transpose()
        })
        .await
    }
}

const SELECT: &str = "SELECT rig, name, state, worktree, branch, work, made_at, journal FROM polecats";

/// Reads all rows; what cannot be understood is named in `unreadable`.
pub(super) fn all(conn: &Connection, unreadable: &mut Vec<String>) -> Result<Vec<PolecatRow>, LedgerError> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'polecats'";
    if conn.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        // A file of a version that had none, which could not be changed.
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(&format!("{SELECT} ORDER BY rig, name"))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(next) = rows.next()? {
        match row(next) {
            Ok(polecat) => found.push(polecat),
            Err(why) => {
                let (rig, name): (String, String) =
                    (next.get(0).unwrap_or_default(), next.get(1).unwrap_or_default());
                unreadable.push(format!("polecat {rig}/{name}: {why}"));
            }
        }
    }
    Ok(found)
}

fn row(row: &Row<'_>) -> Result<PolecatRow, LedgerError> {
    let text = |column| row.get::<_, String>(column);
    let journal: Option<String> = row.get(7)?;
    let work: Option<String> = row.get(5)?;
    Ok(PolecatRow {
        rig: text(0)?.parse().map_err(|why| LedgerError::value("rig name", why))?,
        name: text(1)?.parse().map_err(|why| LedgerError::value("polecat name", why))?,
        state: PolecatState::of(&text(2)?),
        worktree: row.get(3)?,
        branch: row.get(4)?,
        work: work
            .map(|id| id.parse())
            .transpose()
            .map_err(|why: gtd_proto::id::InvalidName| LedgerError::value("work id", why))?,
        made_at: time(row, 6)?,
        journal: journal
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|why| LedgerError::value("journal", why))?,
    })
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(conn: &Connection, write: &PolecatWrite) -> Result<(), LedgerError> {
    match write {
        PolecatWrite::Reserve(row) => {
            let made = insert(conn, row, "ON CONFLICT DO NOTHING")?;
            if made == 0 {
                let why = format!("{}, or its work, is reserved already", row.address());
                return Err(LedgerError::value("polecat", why));
            }
        }
        PolecatWrite::Set(row) => {
            // Not OR REPLACE: that would also take away another worker that is on its way to the same work.
            insert(
                conn,
                row,
                "ON CONFLICT (rig, name) DO UPDATE SET state = excluded.state, worktree = excluded.worktree,
                   branch = excluded.branch, work = excluded.work, made_at = excluded.made_at,
                   journal = excluded.journal",
            )?;
        }
        PolecatWrite::Forget { rig, name } => {
            conn.prepare_cached("DELETE FROM polecats WHERE rig = ?1 AND name = ?2")?
                .execute(params![rig.as_str(), name.as_str()])?;
        }
    }
    Ok(())
}

fn insert(conn: &Connection, row: &PolecatRow, on_conflict: &str) -> Result<usize, LedgerError> {
    let sql = format!(
        "INSERT INTO polecats (rig, name, state, worktree, branch, work, made_at, journal)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) {on_conflict}"
    );
    let journal = row.journal.as_ref().map(|journal| super::write::json("journal", journal)).transpose()?;
    Ok(conn.prepare_cached(&sql)?.execute(params![
        row.rig.as_str(),
        row.name.as_str(),
        row.state.as_str(),
        row.worktree,
        row.branch,
        row.work.as_ref().map(WorkId::as_str),
        instant(row.made_at),
        journal
    ])?)
}

#[cfg(test)]
#[path = "tests/polecats.rs"]
mod tests;
