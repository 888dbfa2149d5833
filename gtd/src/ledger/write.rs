//! How each thing is written. Runs inside a transaction that the caller opened; knows nothing of threads.

use gtd_proto::{Event, Seq, Timestamp};
use rusqlite::{Connection, params};
use serde::Serialize;

use super::conversations::ConversationWrite;
use super::error::LedgerError;
use super::row::{AgentRow, InstanceRow, NewEvent, ServerKey, ServerRow, Write};

/// Longest JSON text of one column, in bytes. The largest that is meant to be there is an exit with the last
/// lines of a screen, some tens of KiB; a runaway value must not fill the disk.
const VALUE_MAX: usize = 1 << 20;

/// Writes one request, and appends its events, numbered, to `events`.
pub(super) fn apply(conn: &Connection, writes: &[Write], events: &mut Vec<Event>) -> Result<(), LedgerError> {
    for write in writes {
        match write {
            Write::Agent(row) => agent(conn, row)?,
            Write::Forget(address) => {
                run(conn, "DELETE FROM agents WHERE address = ?1", params![address.to_string()])?;
                // Who gets its name later begins with nothing of it.
                super::conversations::apply(conn, &ConversationWrite::Forget(address.clone()))?;
            }
            Write::Instance(row) => instance(conn, row)?,
            Write::Exit(exit) => run(
                conn,
                "INSERT INTO exits (instance, agent, ended_at, cause, incident, exit)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (instance) DO UPDATE SET agent = excluded.agent, ended_at = excluded.ended_at,
                   cause = excluded.cause, incident = excluded.incident, exit = excluded.exit",
                params![
                    exit.instance.as_str(),
                    exit.agent.to_string(),
                    instant(exit.ended_at),
                    exit.cause.as_str(),
                    exit.incident,
                    json("exit", exit)?
                ],
            )?,
            Write::Event(new) => events.push(event(conn, new)?),
            Write::Signal(sent) => run(
                conn,
                "INSERT INTO signals (at, agent, pid, signal, sent) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    instant(sent.at),
                    sent.agent.as_ref().map(ToString::to_string),
                    sent.pid,
                    sent.signal,
                    json("signal", sent)?
                ],
            )?,
            Write::Decision { agent, decision } => run(
                conn,
                "INSERT INTO decisions (agent, at, event, decision, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    agent.to_string(),
                    instant(decision.at),
                    decision.event,
                    decision.decision,
                    decision.reason
                ],
            )?,
            Write::Server(row) => server(conn, row)?,
            Write::ServerGone { server, at } => run(
                conn,
                "UPDATE servers SET gone_at = ?3 WHERE socket = ?1 AND process = ?2 AND gone_at IS NULL",
                params![server.socket, process(server)?, instant(*at)],
            )?,
            Write::Hold(None) => run(conn, "DELETE FROM holds WHERE scope = 'town'", [])?,
            Write::Hold(Some(hold)) => run(
                conn,
                "INSERT OR REPLACE INTO holds (scope, by, reason, at) VALUES ('town', ?1, ?2, ?3)",
                params![hold.by, hold.reason, instant(hold.at)],
            )?,
            Write::Heartbeat(report) => run(
                conn,
                "INSERT INTO heartbeats (number, started_at, report) VALUES (?1, ?2, ?3)
                 ON CONFLICT (number) DO UPDATE SET started_at = excluded.started_at, report = excluded.report",
                params![
                    integer("heartbeat number", report.number)?,
                    instant(report.started_at),
                    json("heartbeat report", report)?
                ],
            )?,
            Write::Answer { key, method, answer, at } => run(
                conn,
                "INSERT INTO answers (key, method, answer, at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO NOTHING",
                params![key, method, json("answer", answer)?, instant(*at)],
            )?,
            Write::Work(write) => super::work::apply(conn, write)?,
            Write::Polecat(write) => super::polecats::apply(conn, write)?,
            Write::Conversation(write) => super::conversations::apply(conn, write)?,
            Write::Convoy(write) => super::convoys::apply(conn, write, events)?,
            Write::Mail(write) => super::mail::apply(conn, write, events)?,
            Write::Lifecycle(write) => super::lifecycle::apply(conn, write, events)?,
            Write::Nudge(row) => super::nudges::apply(conn, row)?,
            Write::Fact { key, value: None } => run(conn, "DELETE FROM facts WHERE key = ?1", [key])?,
            Write::Fact { key, value: Some(value) } => run(
                conn,
                "INSERT OR REPLACE INTO facts (key, value) VALUES (?1, ?2)",
                params![key, json("fact", value)?],
            )?,
        }
    }
    Ok(())
}

fn agent(conn: &Connection, row: &AgentRow) -> Result<(), LedgerError> {
    run(
        conn,
        "INSERT OR REPLACE INTO agents (address, intent, intent_by, intent_reason, intent_at, overrides, policy,
           lifetime_restarts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.address.to_string(),
            row.intent.as_str(),
            row.intent_by,
            row.intent_reason,
            instant(row.intent_at),
            json("overrides", &row.overrides)?,
            json("policy", &row.policy)?,
            integer("lifetime restarts", row.lifetime_restarts)?
        ],
    )
}

fn instance(conn: &Connection, row: &InstanceRow) -> Result<(), LedgerError> {
    run(
        conn,
        "INSERT INTO instances (instance, agent, reserved_at, started_at, boot, server, session, session_name,
           pane, shim, process, preset, account, launch, ready_at, captured, ended)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
         ON CONFLICT (instance) DO UPDATE SET agent = excluded.agent, reserved_at = excluded.reserved_at,
           started_at = excluded.started_at, boot = excluded.boot, server = excluded.server,
           session = excluded.session, session_name = excluded.session_name, pane = excluded.pane,
           shim = excluded.shim, process = excluded.process, preset = excluded.preset,
           account = excluded.account, launch = excluded.launch, ready_at = excluded.ready_at,
           captured = excluded.captured, ended = excluded.ended",
        params![
            row.instance.as_str(),
            row.agent.to_string(),
            instant(row.reserved_at),
            row.started_at.map(instant),
            row.boot,
            row.server.as_ref().map(|server| json("server", server)).transpose()?,
            row.session,
            row.session_name,
            row.pane,
            row.shim.as_ref().map(|shim| json("shim", shim)).transpose()?,
            row.process.as_ref().map(|process| json("process", process)).transpose()?,
            row.preset,
            row.account,
            json("launch", &row.launch)?,
            row.ready_at.map(instant),
            json("captured descent", &row.captured)?,
            row.ended
        ],
    )
}

fn server(conn: &Connection, row: &ServerRow) -> Result<(), LedgerError> {
    run(
        conn,
        "INSERT INTO servers (socket, process, seen_at, ours, detail) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (socket, process) DO UPDATE SET seen_at = excluded.seen_at, ours = excluded.ours,
           detail = excluded.detail, gone_at = NULL",
        params![
            row.server.socket,
            process(&row.server)?,
            instant(row.seen_at),
            row.ours,
            json("server detail", &row.detail)?
        ],
    )
}

pub(super) fn event(conn: &Connection, new: &NewEvent) -> Result<Event, LedgerError> {
    let cause = new.cause.map(|cause| integer("cause", cause.0)).transpose()?;
    run(
        conn,
        "INSERT INTO events (at, kind, agent, rig, instance, cause, peer, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            instant(new.at),
            new.kind,
            new.agent.as_ref().map(ToString::to_string),
            new.rig.as_ref().map(|rig| rig.as_str()),
            new.instance.as_ref().map(|instance| instance.as_str()),
            cause,
            new.peer,
            json("event", &new.data)?
        ],
    )?;
    let seq =
        u64::try_from(conn.last_insert_rowid()).map_err(|why| LedgerError::value("event number", why))?;
    Ok(Event {
        seq: Seq(seq),
        at: new.at,
        kind: new.kind.clone().into_owned(),
        agent: new.agent.clone(),
        rig: new.rig.clone(),
        instance: new.instance.clone(),
        cause: new.cause,
        peer: new.peer.clone(),
        data: new.data.clone(),
    })
}

fn run(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<(), LedgerError> {
    conn.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

/// An instant as text that sorts like the instants do.
pub(super) fn instant(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The JSON of a server's process: part of the row's key, so it must come out the same each time.
fn process(server: &ServerKey) -> Result<String, LedgerError> {
    json("server process", &server.process)
}

pub(super) fn json(what: &'static str, value: &impl Serialize) -> Result<String, LedgerError> {
    let text = serde_json::to_string(value).map_err(|why| LedgerError::value(what, why))?;
    if text.len() > VALUE_MAX {
        return Err(LedgerError::value(
            what,
            format!("it has {} bytes, at most {VALUE_MAX} are kept", text.len()),
        ));
    }
    Ok(text)
}

fn integer(what: &'static str, value: u64) -> Result<i64, LedgerError> {
    i64::try_from(value).map_err(|why| LedgerError::value(what, why))
}
