//! Reading back the state: what should be, and what was known to be. History is only read when asked for.

use gtd_proto::{Intent, Seq};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;

use super::conversations;
use super::error::LedgerError;
use super::mail::unread;
use super::read::{decoded, last_seq, stream_id, time, time_option, unsigned};
use super::row::{AgentRow, HoldRow, InstanceRow, Loaded, ServerKey, ServerRow};
use super::work::open_work;

/// Reads all state. A row that cannot be understood is named in `unreadable` and does not keep the others
/// from being read; a table that cannot be read is an error.
pub(super) fn load(conn: &Connection) -> Result<Loaded, LedgerError> {
    let mut loaded = Loaded {
        stream_id: stream_id(conn)?,
        last_seq: Seq(last_seq(conn)?),
        known: true,
        heartbeat_number: conn
            .query_row("SELECT coalesce(max(number), 0) FROM heartbeats", [], |row| row.get(0))
            .map(unsigned)?,
        hold: hold(conn)?,
        ..Loaded::default()
    };
    let unreadable = &mut loaded.unreadable;
    loaded.agents = rows(
        conn,
        "SELECT address, intent, intent_by, intent_reason, intent_at, overrides, policy, lifetime_restarts
         FROM agents ORDER BY address",
        "agent",
        agent,
        unreadable,
    )?;
    loaded.instances = rows(
        conn,
        "SELECT instance, agent, reserved_at, started_at, boot, server, session, session_name, pane, shim,
           process, preset, account, launch, ready_at, captured, ended
         FROM instances WHERE ended = 0 ORDER BY id",
        "instance",
        instance,
        unreadable,
    )?;
    loaded.servers = rows(
        conn,
        "SELECT socket, process, seen_at, ours, detail FROM servers WHERE gone_at IS NULL ORDER BY id",
        "tmux server",
        server,
        unreadable,
    )?;
    loaded.work = open_work(conn, unreadable)?;
    loaded.polecats = super::polecats::all(conn, unreadable)?;
    loaded.conversations = conversations::all(conn, unreadable)?;
    loaded.mail = unread(conn, unreadable)?;
    loaded.convoys = super::convoys::open(conn, unreadable)?;
    loaded.lifecycle = super::lifecycle::kept(conn, unreadable)?;
    let fact = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, json("fact", row, 1)?));
    loaded.facts =
        rows(conn, "SELECT key, value FROM facts", "fact", fact, unreadable)?.into_iter().collect();
    Ok(loaded)
}

/// Instances of one boot: those that are not over, then the others, the newest first.
pub(super) fn instances_of(
    conn: &Connection,
    boot: &str,
    limit: u32,
) -> Result<Vec<InstanceRow>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT instance, agent, reserved_at, started_at, boot, server, session, session_name, pane, shim,
           process, preset, account, launch, ready_at, captured, ended
         FROM instances WHERE boot = ?1 ORDER BY ended, id DESC LIMIT ?2",
    )?;
    let mut rows = statement.query((boot, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // One that cannot be read proves nothing of anybody.
        found.extend(instance(row).ok());
    }
    Ok(found)
}

/// Whether an instance is not over; none when there is no such row. Of a row that cannot be read otherwise too.
pub(super) fn is_open(conn: &Connection, instance: &str) -> Result<Option<bool>, LedgerError> {
    let mut statement = conn.prepare_cached("SELECT ended FROM instances WHERE instance = ?1")?;
    let mut rows = statement.query([instance])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let ended: bool = row.get(0)?;
    Ok(Some(!ended))
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    what: &str,
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
    unreadable: &mut Vec<String>,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(item) => items.push(item),
            Err(why) => {
                let key: String = row.get(0).unwrap_or_default();
                unreadable.push(format!("{what} {key}: {why}"));
            }
        }
    }
    Ok(items)
}

fn agent(row: &Row<'_>) -> Result<AgentRow, LedgerError> {
    let address: String = row.get(0)?;
    let intent: String = row.get(1)?;
    Ok(AgentRow {
        address: address.parse().map_err(|why| LedgerError::value("agent address", why))?,
        intent: intent_of(&intent),
        intent_by: row.get(2)?,
        intent_reason: row.get(3)?,
        intent_at: time(row, 4)?,
        // An intent counts without these.
        overrides: json("overrides", row, 5).unwrap_or_default(),
        policy: json("policy", row, 6).unwrap_or_default(),
        lifetime_restarts: unsigned(row.get(7)?),
    })
}

/// A word of a later version reads as `Unknown`, on which nobody acts.
fn intent_of(word: &str) -> Intent {
    serde_json::from_value(word.into()).unwrap_or(Intent::Unknown)
}

fn instance(row: &Row<'_>) -> Result<InstanceRow, LedgerError> {
    let (id, agent): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(InstanceRow {
        instance: id.parse().map_err(|why| LedgerError::value("instance id", why))?,
        agent: agent.parse().map_err(|why| LedgerError::value("agent address", why))?,
        reserved_at: time(row, 2)?,
        started_at: time_option(row, 3)?,
        boot: row.get(4)?,
        // That there is an instance counts most: its record and its session tell the rest.
        server: json_option("server", row, 5).unwrap_or_default(),
        session: row.get(6)?,
        session_name: row.get(7)?,
        pane: row.get(8)?,
        shim: json_option("shim", row, 9).unwrap_or_default(),
        process: json_option("process", row, 10).unwrap_or_default(),
        preset: row.get(11)?,
        account: row.get(12)?,
        launch: json("launch", row, 13).unwrap_or_default(),
        ready_at: time_option(row, 14)?,
        captured: json("captured descent", row, 15).unwrap_or_default(),
        ended: row.get(16)?,
    })
}

fn server(row: &Row<'_>) -> Result<ServerRow, LedgerError> {
    Ok(ServerRow {
        server: ServerKey { socket: row.get(0)?, process: json("server process", row, 1)? },
        seen_at: time(row, 2)?,
        ours: row.get(3)?,
        detail: json("server detail", row, 4)?,
    })
}

fn hold(conn: &Connection) -> Result<Option<HoldRow>, LedgerError> {
    let found = conn
        .query_row("SELECT by, reason, at FROM holds WHERE scope = 'town'", [], |row| {
            Ok(time(row, 2).map(|at| (row.get(0), row.get(1), at)))
        })
        .optional()?;
    let Some(found) = found else { return Ok(None) };
    let (by, reason, at) = found?;
    Ok(Some(HoldRow { by: by?, reason: reason?, at }))
}

fn json<T: DeserializeOwned>(what: &'static str, row: &Row<'_>, column: usize) -> Result<T, LedgerError> {
    let text: String = row.get(column)?;
    decoded(what, &text)
}

fn json_option<T: DeserializeOwned>(
    what: &'static str,
    row: &Row<'_>,
    column: usize,
) -> Result<Option<T>, LedgerError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| decoded(what, &text)).transpose()
}
