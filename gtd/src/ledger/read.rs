//! The questions that can be asked. Reads one connection; changes nothing.

use gtd_proto::agent::SignalSent;
use gtd_proto::daemon::HeartbeatReport;
use gtd_proto::event::{Gap, History};
use gtd_proto::explain::Decision;
use gtd_proto::{Address, Event, Exit, InstanceId, RigName, Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use super::error::LedgerError;
use super::row::{AnswerRow, EventFilter, EventQuery};
use super::write::instant;

/// Most items of one answer (`spec/rpc.md`: at most 1,000).
pub(super) const LIMIT_MAX: u32 = 1_000;
/// Items of an answer when no number was given: events.
const EVENTS_DEFAULT: u32 = 100;
/// Items of an answer when no number was given: everything else.
const LIMIT_DEFAULT: u32 = 20;

/// The last number given, also when its event was pruned since.
pub(super) fn last_seq(conn: &Connection) -> Result<u64, LedgerError> {
    let last: Option<i64> = conn
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |row| row.get(0))
        .optional()?;
    Ok(last.and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0))
}

pub(super) fn stream_id(conn: &Connection) -> Result<String, LedgerError> {
    Ok(conn.query_row("SELECT value FROM meta WHERE key = 'stream_id'", [], |row| row.get(0))?)
}

/// The oldest event that is kept, or the number the next one will have.
fn oldest(conn: &Connection, last: u64) -> Result<u64, LedgerError> {
    let oldest: Option<i64> = conn.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?;
    Ok(oldest.and_then(|seq| u64::try_from(seq).ok()).unwrap_or_else(|| last.saturating_add(1)))
}

/// A page of events. A cursor beyond the last event belongs to another stream: the page begins at the oldest
/// event and says so with a gap, as it does when events after the cursor were pruned.
pub(super) fn events(conn: &Connection, query: &EventQuery) -> Result<History, LedgerError> {
    // One snapshot for all the statements: a commit in between would make the page contradict its own end.
    let tx = conn.unchecked_transaction()?;
    let last = last_seq(&tx)?;
    let oldest = oldest(&tx, last)?;
    let since = query.since.map(|since| since.0);
    let gap = since.filter(|since| *since > last || since.saturating_add(1) < oldest);
    let from = match since {
        Some(since) if gap.is_none() => since,
        _ => oldest.saturating_sub(1),
    };
    let until = query.until.map_or(last, |until| until.0.min(last));
    let limit = limit(query.limit, EVENTS_DEFAULT);
    let filter = EventFilter { kinds: query.kinds.clone(), selector: query.selector.clone() };

    let mut items = Vec::new();
    let mut next = from.max(until);
    let mut statement = tx.prepare_cached(
        "SELECT seq, at, kind, agent, rig, instance, cause, peer, data FROM events
         WHERE seq > ?1 AND seq <= ?2 AND at >= ?3 ORDER BY seq",
    )?;
    let since_time = query.since_time.map(instant).unwrap_or_default();
    let mut rows = statement.query(params![signed(from), signed(until), since_time])?;
    while let Some(row) = rows.next()? {
        if items.len() >= limit as usize {
            next = items.last().map_or(next, |event: &Event| event.seq.0);
            break;
        }
        let kind: String = row.get(2)?;
        // Before the names are parsed: most rows of a filtered page end here.
        if !filter.matches_kind(&kind) {
            continue;
        }
        let agent: Option<Address> = parsed(row, 3)?;
        let rig: Option<RigName> = parsed(row, 4)?;
        if filter.matches(&kind, agent.as_ref(), rig.as_ref()) {
            items.push(event(row, kind, agent, rig)?);
        }
    }
    Ok(History {
        items,
        next_since: Seq(next),
        stream_id: stream_id(&tx)?,
        gap: gap.map(|_| Gap { oldest: Seq(oldest) }),
    })
}

fn event(
    row: &Row<'_>,
    kind: String,
    agent: Option<Address>,
    rig: Option<RigName>,
) -> Result<Event, LedgerError> {
    let cause: Option<i64> = row.get(6)?;
    let data: String = row.get(8)?;
    Ok(Event {
        seq: Seq(unsigned(row.get(0)?)),
        at: time(row, 1)?,
        kind,
        agent,
        rig,
        instance: parsed::<InstanceId>(row, 5)?,
        cause: cause.map(|cause| Seq(unsigned(cause))),
        peer: row.get(7)?,
        data: decoded("event", &data)?,
    })
}

/// Black boxes, the newest first.
pub(super) fn exits(
    conn: &Connection,
    agent: Option<&Address>,
    limit: Option<u32>,
) -> Result<Vec<Exit>, LedgerError> {
    json_rows(
        conn,
        "exit",
        "SELECT exit FROM exits WHERE ?1 IS NULL OR agent = ?1 ORDER BY ended_at DESC, id DESC LIMIT ?2",
        "SELECT exit FROM exits WHERE agent = ?1 ORDER BY ended_at DESC, id DESC LIMIT ?2",
        agent,
        self::limit(limit, LIMIT_DEFAULT),
    )
}

/// Black boxes of ends that nobody asked for, the newest first.
pub(super) fn deaths(
    conn: &Connection,
    since: Option<Timestamp>,
    limit: Option<u32>,
) -> Result<Vec<Exit>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT exit FROM exits WHERE cause <> 'requested' AND ended_at >= ?1
         ORDER BY ended_at DESC, id DESC LIMIT ?2",
    )?;
    let since = since.map(instant).unwrap_or_default();
    let mut rows = statement.query(params![since, self::limit(limit, LIMIT_DEFAULT)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        items.push(decoded("exit", &text)?);
    }
    Ok(items)
}

/// Signals we sent, the newest first.
pub(super) fn signals(
    conn: &Connection,
    agent: Option<&Address>,
    since: Option<Timestamp>,
    limit: Option<u32>,
) -> Result<Vec<SignalSent>, LedgerError> {
    let mut sent: Vec<SignalSent> = json_rows(
        conn,
        "signal",
        "SELECT sent FROM signals WHERE ?1 IS NULL ORDER BY id DESC LIMIT ?2",
        "SELECT sent FROM signals WHERE agent = ?1 ORDER BY id DESC LIMIT ?2",
        agent,
        self::limit(limit, LIMIT_DEFAULT),
    )?;
    sent.retain(|signal| since.is_none_or(|since| signal.at > since));
    Ok(sent)
}

/// Signals to these agents since an instant, the oldest first; of each the last `most`.
pub(super) fn signals_to(
    conn: &Connection,
    agents: &[Address],
    since: Timestamp,
    most: u32,
) -> Result<Vec<SignalSent>, LedgerError> {
    let mut statement = conn
        .prepare_cached("SELECT sent FROM signals WHERE agent = ?1 AND at >= ?2 ORDER BY id DESC LIMIT ?3")?;
    let mut sent = Vec::new();
    for agent in agents {
        let from = sent.len();
        let mut rows = statement.query(params![agent.to_string(), instant(since), most])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            sent.push(decoded("signal", &text)?);
        }
        sent.get_mut(from..).unwrap_or_default().reverse();
    }
    Ok(sent)
}

/// Reports of rounds, the newest first.
pub(super) fn heartbeats(conn: &Connection, limit: Option<u32>) -> Result<Vec<HeartbeatReport>, LedgerError> {
    let sql = "SELECT report FROM heartbeats WHERE ?1 IS NULL ORDER BY number DESC LIMIT ?2";
    json_rows(conn, "heartbeat report", sql, sql, None, self::limit(limit, LIMIT_DEFAULT))
}

/// Decisions about an agent, the newest first.
pub(super) fn decisions(
    conn: &Connection,
    agent: &Address,
    until: Option<Timestamp>,
    limit: Option<u32>,
) -> Result<Vec<Decision>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT at, event, decision, reason FROM decisions
         WHERE agent = ?1 AND (?2 IS NULL OR at <= ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = self::limit(limit, LIMIT_DEFAULT);
    let mut rows = statement.query(params![agent.to_string(), until.map(instant), limit])?;
    let mut decisions = Vec::new();
    while let Some(row) = rows.next()? {
        decisions.push(Decision {
            at: time(row, 0)?,
            event: row.get(1)?,
            decision: row.get(2)?,
            reason: row.get(3)?,
        });
    }
    Ok(decisions)
}

/// The answer kept under an idempotency key.
pub(super) fn answer(conn: &Connection, key: &str) -> Result<Option<AnswerRow>, LedgerError> {
    let mut statement = conn.prepare_cached("SELECT method, answer, at FROM answers WHERE key = ?1")?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let answer: String = row.get(1)?;
    Ok(Some(AnswerRow {
        key: key.to_owned(),
        method: row.get(0)?,
        answer: decoded("answer", &answer)?,
        at: time(row, 2)?,
    }))
}

fn json_rows<T: DeserializeOwned>(
    conn: &Connection,
    what: &'static str,
    all: &str,
    of_agent: &str,
    agent: Option<&Address>,
    limit: u32,
) -> Result<Vec<T>, LedgerError> {
    let mut statement = conn.prepare_cached(if agent.is_some() { of_agent } else { all })?;
    let mut rows = statement.query(params![agent.map(ToString::to_string), limit])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        items.push(decoded(what, &text)?);
    }
    Ok(items)
}

fn limit(given: Option<u32>, default: u32) -> u32 {
    given.unwrap_or(default).clamp(1, LIMIT_MAX)
}

pub(super) fn decoded<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|why| LedgerError::value(what, why))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, LedgerError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|why| LedgerError::value("instant", why))
}

pub(super) fn time_option(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, LedgerError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|why| LedgerError::value("instant", why))).transpose()
}

/// A name of a later version that does not parse here is left out: the event is still worth showing.
fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<Option<T>, LedgerError> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}
