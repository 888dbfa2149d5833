//! Lifecycle requests: rows and questions.
//!
//! Of each mail and each key there is one request, whoever asks how often; and each change of one is a commit with
//! the event that tells of it.

use gtd_proto::event::kind;
use gtd_proto::lifecycle::{LifecycleAction, LifecycleState};
use gtd_proto::{Address, Event, InstanceId, Timestamp};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Ledger;
use super::error::LedgerError;
use super::read::time;
use super::row::NewEvent;
use super::write::{event, instant};

/// Requests that a snapshot takes along: what a mail asked for is not done again because of a lost ledger.
const KEPT: u32 = 500;

/// The mail that a request came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Whose mailbox the answer goes to, as mail names it.
    pub reply_to: String,
    /// What it is about.
    pub subject: String,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRow {
    /// Its number, from which its id is made.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// Whom it is about, where that is known.
    pub agent: Option<Address>,
    /// What is asked for, where that is known.
    pub action: LifecycleAction,
    /// Who asked: `person`, or an address.
    pub sender: String,
    /// The peer that asked.
    pub peer: Option<String>,
    /// What it comes of: of each there is one request.
    pub key: Option<String>,
    /// The mail that it came with, until that was put aside.
    pub mail: Option<Source>,
    /// How far it has come.
    pub state: LifecycleState,
    /// The agent's instance when it was taken: the present or the last one.
    pub instance: Option<InstanceId>,
    /// Why, in the words of who asked.
    pub why: Option<String>,
    /// Why it was refused or failed.
    pub reason: Option<String>,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// A request before it has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whom it is about, where that is known.
    pub agent: Option<Address>,
    /// What is asked for.
    pub action: LifecycleAction,
    /// Who asks.
    pub sender: String,
    /// The peer that asks.
    pub peer: Option<String>,
    /// What it comes of.
    pub key: Option<String>,
    /// The mail that it came with.
    pub mail: Option<Source>,
    /// The agent's present or last instance.
    pub instance: Option<InstanceId>,
    /// Why, in their words.
    pub why: Option<String>,
    /// It is refused, for this reason.
    pub refused: Option<String>,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it is taken.
    pub now: Timestamp,
}

/// One thing to write about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleWrite {
    /// Takes a request, or refuses it, with the event of either; nothing where one of its key is there.
    Claim(Claim),
    /// What should be is committed with this: from now on it is not asked for again.
    Acting {
        /// Which.
        id: String,
    },
    /// It is done with, with the event `lifecycle.done` or `lifecycle.refused`. The first outcome stays.
    Outcome {
        /// Which.
        id: String,
        /// `done`, `failed` or `refused`.
        state: LifecycleState,
        /// Why.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// Its mail was put aside.
    Answered {
        /// Which.
        id: String,
    },
    /// Puts a request of a lost ledger back.
    Restore(LifecycleRow),
}

const SELECT: &str =
    "SELECT number, id, agent, action, sender, peer, key, mail, state, instance, why, reason, at,
   updated_at FROM lifecycle";

impl Ledger {
    /// One request.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn lifecycle(&self, id: &str) -> Result<Option<LifecycleRow>, LedgerError> {
        let id = id.to_owned();
        self.read(move |conn| one(conn, "id", &id)).await
    }

    /// The request that came of a mail or a key.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn lifecycle_of(&self, key: &str) -> Result<Option<LifecycleRow>, LedgerError> {
        let key = key.to_owned();
        self.read(move |conn| one(conn, "key", &key)).await
    }

    /// Those that are not done with, or whose mail was not put aside yet, in the order in which they came.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn open_lifecycles(&self) -> Result<Vec<LifecycleRow>, LedgerError> {
        self.read(|conn| {
            rows(
                conn,
                &format!(
                    "{SELECT} WHERE state IN ('accepted', 'acting') OR mail IS NOT NULL ORDER BY number"
                ),
                params![],
            )
        })
        .await
    }

    /// All that are open, and so many of the others, the newest first.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn lifecycles(
        &self,
        agent: Option<&Address>,
        limit: u32,
    ) -> Result<Vec<LifecycleRow>, LedgerError> {
        let agent = agent.map(ToString::to_string);
        self.read(move |conn| {
            rows(
                conn,
                &format!(
                    "{SELECT} WHERE (?1 IS NULL OR agent = ?1) AND (state IN ('accepted', 'acting') OR number IN (
                       SELECT number FROM lifecycle WHERE (?1 IS NULL OR agent = ?1)
                         AND state NOT IN ('accepted', 'acting') ORDER BY number DESC LIMIT ?2))
                     ORDER BY number DESC"
                ),
                params![agent, limit],
            )
        })
        .await
    }
}

/// What a snapshot takes along. A row that cannot be understood is named in `unreadable`.
pub(super) fn kept(
    conn: &Connection,
    unreadable: &mut Vec<String>,
) -> Result<Vec<LifecycleRow>, LedgerError> {
    let there: bool = conn.query_row(
        "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'lifecycle'",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE number IN (SELECT number FROM lifecycle ORDER BY number DESC LIMIT {KEPT}) ORDER BY number"
    ))?;
    let mut found = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        match item(row) {
            Ok(item) => all.push(item),
            Err(why) => {
                let id: String = row.get(1).unwrap_or_default();
                unreadable.push(format!("lifecycle request {id}: {why}"));
            }
        }
    }
    Ok(all)
}

fn one(conn: &Connection, column: &str, value: &str) -> Result<Option<LifecycleRow>, LedgerError> {
    Ok(rows(conn, &format!("{SELECT} WHERE {column} = ?1"), params![value])?.pop())
}

fn rows(
    conn: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<LifecycleRow>, LedgerError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(item(row)?);
    }
    Ok(all)
}

fn item(row: &Row<'_>) -> Result<LifecycleRow, LedgerError> {
    let word = |column: usize| Ok::<_, LedgerError>(Value::from(row.get::<_, String>(column)?));
    let (agent, instance): (Option<String>, Option<String>) = (row.get(2)?, row.get(9)?);
    let mail: Option<String> = row.get(7)?;
    let mail = mail.map(|text| serde_json::from_str(&text)).transpose();
    Ok(LifecycleRow {
        number: row.get(0)?,
        id: row.get(1)?,
        agent: agent
            .map(|agent| agent.parse().map_err(|why| LedgerError::value("agent address", why)))
            .transpose()?,
        action: serde_json::from_value(word(3)?).map_err(|why| LedgerError::value("action", why))?,
        sender: row.get(4)?,
        peer: row.get(5)?,
        key: row.get(6)?,
        mail: mail.map_err(|why| LedgerError::value("mail of a request", why))?,
        state: serde_json::from_value(word(8)?).map_err(|why| LedgerError::value("state", why))?,
        instance: instance
            .map(|instance| instance.parse().map_err(|why| LedgerError::value("instance id", why)))
            .transpose()?,
        why: row.get(10)?,
        reason: row.get(11)?,
        at: time(row, 12)?,
        updated_at: time(row, 13)?,
    })
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(
    conn: &Connection,
    write: &LifecycleWrite,
    events: &mut Vec<Event>,
) -> Result<(), LedgerError> {
    match write {
        LifecycleWrite::Claim(claim) => return self::claim(conn, claim, events),
        LifecycleWrite::Acting { id } => {
            conn.prepare_cached(
                "UPDATE lifecycle SET state = 'acting' WHERE id = ?1 AND state = 'accepted'",
            )?
            .execute([id])?;
        }
        LifecycleWrite::Outcome { id, state, reason, at } => {
            let changed = conn
                .prepare_cached(
                    "UPDATE lifecycle SET state = ?2, reason = ?3, updated_at = ?4
                     WHERE id = ?1 AND state IN ('accepted', 'acting')",
                )?
                .execute(params![id, state.as_str(), reason, instant(*at)])?;
            if changed > 0
                && let Some(row) = one(conn, "id", id)?
            {
                let kind = match state {
                    LifecycleState::Refused => kind::LIFECYCLE_REFUSED,
                    _ => kind::LIFECYCLE_DONE,
                };
                events.push(event(conn, &told(&row, kind, *at))?);
            }
        }
        LifecycleWrite::Answered { id } => {
            conn.prepare_cached("UPDATE lifecycle SET mail = NULL WHERE id = ?1")?.execute([id])?;
        }
        LifecycleWrite::Restore(row) => {
            insert(conn, row)?;
        }
    }
    Ok(())
}

fn claim(conn: &Connection, claim: &Claim, events: &mut Vec<Event>) -> Result<(), LedgerError> {
    let known: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM lifecycle WHERE key = ?1)")?
        .query_row([&claim.key], |row| row.get(0))?;
    if known {
        return Ok(());
    }
    let last: i64 = conn.query_row(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'lifecycle'), 0)",
        [],
        |row| row.get(0),
    )?;
    let number = last.saturating_add(1);
    let row = LifecycleRow {
        number,
        id: format!("l-{number}"),
        agent: claim.agent.clone(),
        action: claim.action,
        sender: claim.sender.clone(),
        peer: claim.peer.clone(),
        key: claim.key.clone(),
        mail: claim.mail.clone(),
        state: claim.refused.as_ref().map_or(LifecycleState::Accepted, |_| LifecycleState::Refused),
        instance: claim.instance.clone(),
        why: claim.why.clone(),
        reason: claim.refused.clone(),
        at: claim.at,
        updated_at: claim.now,
    };
    insert(conn, &row)?;
    events.push(event(conn, &told(&row, kind::LIFECYCLE_REQUESTED, claim.now))?);
    if claim.refused.is_some() {
        events.push(event(conn, &told(&row, kind::LIFECYCLE_REFUSED, claim.now))?);
    }
    Ok(())
}

fn insert(conn: &Connection, row: &LifecycleRow) -> Result<(), LedgerError> {
    let mail = row.mail.as_ref().map(serde_json::to_string).transpose();
    let mail = mail.map_err(|why| LedgerError::value("mail of a request", why))?;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO lifecycle (number, id, agent, action, sender, peer, key, mail, state, instance, why,
           reason, at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        row.number,
        row.id,
        row.agent.as_ref().map(ToString::to_string),
        row.action.as_str(),
        row.sender,
        row.peer,
        row.key,
        mail,
        row.state.as_str(),
        row.instance.as_ref().map(InstanceId::as_str),
        row.why,
        row.reason,
        instant(row.at),
        instant(row.updated_at)
    ])?;
    Ok(())
}

fn told(row: &LifecycleRow, kind: &'static str, at: Timestamp) -> NewEvent {
    NewEvent {
        rig: row.agent.as_ref().and_then(|agent| agent.rig().cloned()),
        agent: row.agent.clone(),
        peer: row.peer.clone(),
        ..NewEvent::new(
            at,
            kind,
            json!({
                "id": row.id,
                "action": row.action,
                "from": row.sender,
                "mail": row.mail.as_ref().map(|mail| &mail.id),
                "state": row.state,
                "reason": row.reason,
            }),
        )
    }
}
