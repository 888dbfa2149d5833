//! Text for agents: rows and questions.

use gtd_proto::{Address, InstanceId, NudgeId, NudgeReached, NudgeState, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::Ledger;
use super::error::LedgerError;
use super::read::{time, unsigned};
use super::write::instant;

/// A text for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NudgeRow {
    /// Its place in the order, from 1 on; never used again.
    pub number: i64,
    /// Its id.
    pub id: NudgeId,
    /// For whom.
    pub agent: Address,
    /// The only instance that it is for.
    pub instance: Option<InstanceId>,
    /// The instance that it was last begun to be typed for.
    pub typed_for: Option<InstanceId>,
    /// It is tried once, and not a second time.
    pub now_or_never: bool,
    /// The text; of one that is done with only its beginning.
    pub message: String,
    /// Length of the whole text.
    pub bytes: u64,
    /// A newer one with this key replaces it.
    pub key: Option<String>,
    /// Who sent it.
    pub sender: String,
    /// What became of it.
    pub state: NudgeState,
    /// How far it has got.
    pub reached: NudgeReached,
    /// How often typing it was begun.
    pub attempts: u32,
    /// Why it is dead.
    pub why: Option<String>,
    /// When it was sent, by the supervisor's time.
    pub created_at: Timestamp,
    /// When it changed last, by the supervisor's time.
    pub updated_at: Timestamp,
    /// When it dies, by the supervisor's time.
    pub expires_at: Timestamp,
}

/// What the ledger has of texts for agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nudges {
    /// Those of which something may still become, in order.
    pub open: Vec<NudgeRow>,
    /// The last number that one got.
    pub last_number: i64,
    /// Those that cannot be understood.
    pub unreadable: Vec<String>,
}

impl Ledger {
    /// The texts of which something may still become.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn open_nudges(&self) -> Result<Nudges, LedgerError> {
        self.read(|conn| {
            let mut found = Nudges {
                last_number: conn
                    .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'nudges'", [], |row| row.get(0))
                    .optional()?
                    .unwrap_or(0),
                ..Nudges::default()
            };
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT} WHERE state IN ('queued', 'delivering') ORDER BY number"
            ))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match nudge(row) {
                    Ok(row) => found.open.push(row),
                    Err(why) => {
                        let id: String = row.get(1).unwrap_or_default();
                        found.unreadable.push(format!("text {id} for an agent: {why}"));
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// The texts that are done with, the newest first.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn past_nudges(
        &self,
        agent: Option<Address>,
        limit: u32,
    ) -> Result<Vec<NudgeRow>, LedgerError> {
        let agent = agent.map(|agent| agent.to_string());
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT} WHERE state IN ('delivered', 'dead') AND (?1 IS NULL OR agent = ?1)
                   ORDER BY number DESC LIMIT ?2"
            ))?;
            let mut rows = statement.query(params![agent, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(nudge(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// One text, open or done with.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn nudge(&self, id: &NudgeId) -> Result<Option<NudgeRow>, LedgerError> {
        let id = id.clone();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            let mut rows = statement.query([id.as_str()])?;
            rows.next()?.map(nudge).transpose()
        })
        .await
    }

    /// What an instance said last about what it does, in the word of its report; none when it never said anything
    /// that is still kept.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn last_report(&self, instance: &InstanceId) -> Result<Option<String>, LedgerError> {
        let instance = instance.to_string();
        self.read(move |conn| {
            let sql = "SELECT data FROM events WHERE instance = ?1 AND kind = 'agent.reported'
                       ORDER BY seq DESC LIMIT 1";
            let data: Option<String> = conn.query_row(sql, [instance], |row| row.get(0)).optional()?;
            let data = data.and_then(|data| serde_json::from_str::<Value>(&data).ok());
            Ok(data.and_then(|data| data.get("state")?.as_str().map(str::to_owned)))
        })
        .await
    }
}

const SELECT: &str = "SELECT number, id, agent, instance, typed_for, manner, bytes, message, key, sender, state, reached, \
     attempts, why, created_at, updated_at, expires_at FROM nudges";

fn nudge(row: &Row<'_>) -> Result<NudgeRow, LedgerError> {
    let word =
        |column: usize| -> Result<Value, LedgerError> { Ok(Value::from(row.get::<_, String>(column)?)) };
    let instance = |column: usize| -> Result<Option<InstanceId>, LedgerError> {
        let text: Option<String> = row.get(column)?;
        text.map(|text| text.parse().map_err(|why| LedgerError::value("instance id", why))).transpose()
    };
    let (id, agent): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(NudgeRow {
        number: row.get(0)?,
        id: id.parse().map_err(|why| LedgerError::value("nudge id", why))?,
        agent: agent.parse().map_err(|why| LedgerError::value("agent address", why))?,
        instance: instance(3)?,
        typed_for: instance(4)?,
        now_or_never: row.get::<_, String>(5)? == NOW,
        bytes: unsigned(row.get(6)?),
        message: row.get(7)?,
        key: row.get(8)?,
        sender: row.get(9)?,
        state: serde_json::from_value(word(10)?).unwrap_or_default(),
        reached: serde_json::from_value(word(11)?).unwrap_or_default(),
        attempts: u32::try_from(row.get::<_, i64>(12)?).unwrap_or(u32::MAX),
        why: row.get(13)?,
        created_at: time(row, 14)?,
        updated_at: time(row, 15)?,
        expires_at: time(row, 16)?,
    })
}

const NOW: &str = "now";
const QUEUE: &str = "queue";

/// Makes or replaces one, within the transaction of its request.
pub(super) fn apply(conn: &Connection, row: &NudgeRow) -> Result<(), LedgerError> {
    conn.prepare_cached(
        "INSERT INTO nudges (number, id, agent, instance, typed_for, manner, bytes, message, key, sender, state,
           reached, attempts, why, created_at, updated_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
         ON CONFLICT (number) DO UPDATE SET typed_for = excluded.typed_for, message = excluded.message,
           state = excluded.state, reached = excluded.reached, attempts = excluded.attempts, why = excluded.why,
           updated_at = excluded.updated_at",
    )?
    .execute(params![
        row.number,
        row.id.as_str(),
        row.agent.to_string(),
        row.instance.as_ref().map(InstanceId::as_str),
        row.typed_for.as_ref().map(InstanceId::as_str),
        if row.now_or_never { NOW } else { QUEUE },
        i64::try_from(row.bytes).unwrap_or(i64::MAX),
        row.message,
        row.key,
        row.sender,
        row.state.as_str(),
        row.reached.as_str(),
        row.attempts,
        row.why,
        instant(row.created_at),
        instant(row.updated_at),
        instant(row.expires_at)
    ])?;
    Ok(())
}
