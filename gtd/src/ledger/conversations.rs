//! The conversation that each agent's next start goes on with: rows and questions.

use gtd_proto::{Address, InstanceId, Timestamp};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::error::LedgerError;
use super::read::time;
use super::write::instant;

/// A conversation that an agent leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRow {
    /// Whose.
    pub agent: Address,
    /// Its id, as the program knows it.
    pub conversation: String,
    /// The settings entry or preset that leads it; empty until the launch says.
    pub preset: String,
    /// The account that it is led under.
    pub account: Option<String>,
    /// The instance that led it last.
    pub instance: InstanceId,
    /// When that was written down.
    pub at: Timestamp,
}

/// One thing to write about conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationWrite {
    /// Makes or replaces an agent's row.
    Keep(ConversationRow),
    /// Its next start begins a new one.
    Forget(Address),
}

impl ConversationWrite {
    /// Whose row it is.
    pub(crate) fn agent(&self) -> &Address {
        match self {
            Self::Keep(row) => &row.agent,
            Self::Forget(agent) => agent,
        }
    }
}

/// All rows. One that cannot be understood is named in `unreadable`: its agent begins a new conversation.
pub(super) fn all(
    conn: &Connection,
    unreadable: &mut Vec<String>,
) -> Result<Vec<ConversationRow>, LedgerError> {
    let tables: i64 = conn.query_row(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'conversations'",
        [],
        |row| row.get(0),
    )?;
    if tables == 0 {
        // A file of a version that had none, which could not be changed.
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare(
        "SELECT agent, conversation, preset, account, instance, at FROM conversations ORDER BY agent",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(row) => found.push(row),
            Err(why) => {
                let agent: String = row.get(0).unwrap_or_default();
                unreadable.push(format!("conversation of {agent}: {why}"));
            }
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<ConversationRow, LedgerError> {
    let (agent, instance): (String, String) = (row.get(0)?, row.get(4)?);
    Ok(ConversationRow {
        agent: agent.parse().map_err(|why| LedgerError::value("agent address", why))?,
        conversation: row.get(1)?,
        preset: row.get(2)?,
        account: row.get(3)?,
        instance: instance.parse().map_err(|why| LedgerError::value("instance id", why))?,
        at: time(row, 5)?,
    })
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(conn: &Connection, write: &ConversationWrite) -> Result<(), LedgerError> {
    match write {
        ConversationWrite::Keep(row) => conn
            .prepare_cached(
                "INSERT OR REPLACE INTO conversations (agent, conversation, preset, account, instance, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                row.agent.to_string(),
                row.conversation,
                row.preset,
                row.account,
                row.instance.as_str(),
                instant(row.at)
            ])?,
        ConversationWrite::Forget(agent) => {
            conn.prepare_cached("DELETE FROM conversations WHERE agent = ?1")?.execute([agent.to_string()])?
        }
    };
    Ok(())
}
