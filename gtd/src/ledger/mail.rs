//! Mail of the built-in mailbox: rows and questions.
//!
//! A mail and the event that tells of it are one write, and of each request or event that leads to one there is
//! one mail. Nothing that nobody has read is ever removed to make room.

use std::collections::BTreeSet;

use gtd_proto::event::kind;
use gtd_proto::{Address, Event, Seq, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Ledger;
use super::error::LedgerError;
use super::read::{time, time_option};
use super::row::NewEvent;
use super::write::{event, instant};

/// Mails of one box that are not archived, at most.
const BOX_MAX: u64 = 1_000;
/// Their text, in bytes: an inbox must fit into a reply.
const BOX_BYTES: u64 = 4 << 20;
/// So many more the daemon's own mail may be, where others have filled a box.
const OURS_MORE: u64 = 200;
/// Bytes of unread mail that are taken along: a snapshot is written whole after each change.
const UNREAD_BYTES: usize = 4 << 20;
/// More mails than are sent before a snapshot is written, or between two copies of it.
const NUMBERS_APART: i64 = 1_000;

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailRow {
    /// Its number, from which its id is made; never used again.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// Who wrote it.
    pub sender: String,
    /// For whom it is.
    pub recipient: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// When it was sent.
    pub at: Timestamp,
    /// When its recipient read it.
    pub read_at: Option<Timestamp>,
    /// When it was put aside.
    pub archived_at: Option<Timestamp>,
    /// The request or event that it comes of.
    pub key: Option<String>,
    /// What it is about, while that goes on.
    pub incident: Option<String>,
    /// The program that keeps its recipient's box, where that is not us: it waits to be put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// A mail before it has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMail {
    /// Who wrote it.
    pub sender: String,
    /// For whom it is.
    pub recipient: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// When it was sent.
    pub at: Timestamp,
    /// The request or event that it comes of: of each there is one mail.
    pub key: Option<String>,
    /// What it is about: while a mail about that is open there is no second one.
    pub incident: Option<String>,
    /// The daemon wrote it.
    pub ours: bool,
    /// The program that keeps its recipient's box, where that is not us.
    pub via: Option<String>,
    /// The event that led to it.
    pub cause: Option<Seq>,
    /// The peer that sent it.
    pub peer: Option<String>,
}

/// One thing to write about mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailWrite {
    /// Puts a mail into its box, with the event `mail.sent`; nothing where one of its key or its incident is there.
    Send(NewMail),
    /// Its recipient has read it. The first time stays.
    Read {
        /// Which.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// It was put aside. The first time stays.
    Archive {
        /// Which.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// It is in the box that another program keeps, under the id that it has there: it leaves ours.
    Posted {
        /// Which.
        id: String,
        /// Its id there.
        there: String,
        /// When.
        at: Timestamp,
    },
    /// What was written about is over: the next time is another time.
    Over {
        /// The incident.
        incident: String,
    },
    /// Puts a mail of a lost ledger back.
    Restore(MailRow),
    /// The next mail gets a larger number than this.
    LastNumber(i64),
}

/// Mail that nobody has read, as far as it must outlive a lost ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadMail {
    /// The mails, in the order of their numbers.
    pub items: Vec<MailRow>,
    /// The last number that a mail got.
    pub last_number: i64,
    /// Nothing was left out.
    pub whole: bool,
}

/// Reads the unread mail, of too much the newest; what cannot be understood is named in `unreadable`.
pub(super) fn unread(conn: &Connection, unreadable: &mut Vec<String>) -> Result<UnreadMail, LedgerError> {
    let there: bool = conn.query_row(
        "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = 'mail'",
        [],
        |row| row.get(0),
    )?;
    if !there {
        // A file of a version that had none, which could not be changed.
        return Ok(UnreadMail { whole: true, ..UnreadMail::default() });
    }
    let mut mail = UnreadMail { last_number: last_number(conn)?, whole: true, ..UnreadMail::default() };
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT} WHERE (read_at IS NULL AND archived_at IS NULL) OR incident IS NOT NULL ORDER BY number DESC"
    ))?;
    let mut rows = statement.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        match item(row) {
            Ok(item) => {
                bytes += item.subject.len() + item.body.len() + 300;
                if bytes > UNREAD_BYTES {
                    mail.whole = false;
                    break;
                }
                mail.items.push(item);
            }
            Err(why) => {
                let id: String = row.get(1).unwrap_or_default();
                unreadable.push(format!("mail {id}: {why}"));
                mail.whole = false;
            }
        }
    }
    mail.items.reverse();
    Ok(mail)
}

/// What must be written into an empty ledger to make it say that. Numbers that were given since it was read are
/// not given again.
pub(super) fn writes(mail: &UnreadMail) -> Vec<MailWrite> {
    let last = match (mail.last_number, mail.whole) {
        // Of nothing at all the clock knows more.
        (0, false) => Timestamp::now().as_second(),
        (last, _) => last.saturating_add(NUMBERS_APART),
    };
    mail.items.iter().cloned().map(MailWrite::Restore).chain([MailWrite::LastNumber(last)]).collect()
}

fn last_number(conn: &Connection) -> Result<i64, LedgerError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'mail'";
    Ok(conn.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

impl Ledger {
    /// One mail.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn mail(&self, id: &str) -> Result<Option<MailRow>, LedgerError> {
        let id = id.to_owned();
        self.read(move |conn| one(conn, "id", &id)).await
    }

    /// The mail that came of a request.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn mail_of(&self, key: &str) -> Result<Option<MailRow>, LedgerError> {
        let key = key.to_owned();
        self.read(move |conn| one(conn, "key", &key)).await
    }

    /// What was written about and goes on.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn mail_incidents(&self) -> Result<BTreeSet<String>, LedgerError> {
        self.read(|conn| {
            let mut statement =
                conn.prepare_cached("SELECT incident FROM mail WHERE incident IS NOT NULL")?;
            let found =
                statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<String>, _>>()?;
            Ok(found)
        })
        .await
    }

    /// What waits to be put into boxes of other programs, in the order in which it was written.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn outgoing_mail(&self) -> Result<Vec<MailRow>, LedgerError> {
        self.read(|conn| {
            let sql = format!("{SELECT} WHERE via IS NOT NULL AND posted IS NULL ORDER BY number");
            let mut statement = conn.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                items.push(item(row)?);
            }
            Ok(items)
        })
        .await
    }

    /// What is in a box and not archived, the newest first, and how many of it nobody has read.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub async fn mailbox(&self, whose: &str, only_unread: bool) -> Result<(Vec<MailRow>, u64), LedgerError> {
        let whose = whose.to_owned();
        self.read(move |conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT} WHERE recipient = ?1 AND archived_at IS NULL AND (?2 = 0 OR read_at IS NULL)
                 ORDER BY number DESC"
            ))?;
            let mut rows = statement.query(params![whose, only_unread])?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                items.push(item(row)?);
            }
            let unread = count(conn, &whose)?.1;
            Ok((items, unread))
        })
        .await
    }
}

const SELECT: &str =
    "SELECT number, id, sender, recipient, subject, body, at, read_at, archived_at, key, incident,
   via FROM mail";

fn one(conn: &Connection, column: &str, value: &str) -> Result<Option<MailRow>, LedgerError> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE {column} = ?1"))?;
    let mut rows = statement.query([value])?;
    rows.next()?.map(item).transpose()
}

fn item(row: &Row<'_>) -> Result<MailRow, LedgerError> {
    Ok(MailRow {
        number: row.get(0)?,
        id: row.get(1)?,
        sender: row.get(2)?,
        recipient: row.get(3)?,
        subject: row.get(4)?,
        body: row.get(5)?,
        at: time(row, 6)?,
        read_at: time_option(row, 7)?,
        archived_at: time_option(row, 8)?,
        key: row.get(9)?,
        incident: row.get(10)?,
        via: row.get(11)?,
    })
}

/// Mails of a box that are not archived, those of them that nobody has read, and the bytes of all.
fn count(conn: &Connection, whose: &str) -> Result<(u64, u64, u64), LedgerError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE read_at IS NULL),
          coalesce(sum(length(CAST(subject AS BLOB)) + length(CAST(body AS BLOB))), 0)
        FROM mail WHERE recipient = ?1 AND archived_at IS NULL";
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let counts = |row: &Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), unsigned(row.get(2)?)));
    Ok(conn.prepare_cached(sql)?.query_row([whose], counts)?)
}

/// Removes what was read, the oldest first, until there is room for one more of so many bytes.
fn make_room(conn: &Connection, whose: &str, bytes: u64, ours: bool) -> Result<(), LedgerError> {
    let (most, most_bytes) =
        if ours { (BOX_MAX + OURS_MORE, BOX_BYTES + BOX_BYTES / 8) } else { (BOX_MAX, BOX_BYTES) };
    loop {
        let (all, unread, used) = count(conn, whose)?;
        if all < most && used.saturating_add(bytes) <= most_bytes {
            return Ok(());
        }
        let gone = conn
            .prepare_cached(
                "DELETE FROM mail WHERE number = (SELECT min(number) FROM mail WHERE recipient = ?1
                   AND archived_at IS NULL AND read_at IS NOT NULL AND incident IS NULL)",
            )?
            .execute([whose])?;
        if gone == 0 {
            return Err(LedgerError::BoxFull { whose: whose.to_owned(), unread });
        }
    }
}

/// Writes one thing, within the transaction of its request.
pub(super) fn apply(
    conn: &Connection,
    write: &MailWrite,
    events: &mut Vec<Event>,
) -> Result<(), LedgerError> {
    match write {
        MailWrite::Send(new) => return send(conn, new, events),
        MailWrite::Read { id, at } => conn
            .prepare_cached("UPDATE mail SET read_at = ?2 WHERE id = ?1 AND read_at IS NULL")?
            .execute(params![id, instant(*at)])?,
        MailWrite::Archive { id, at } => conn
            .prepare_cached("UPDATE mail SET archived_at = ?2 WHERE id = ?1 AND archived_at IS NULL")?
            .execute(params![id, instant(*at)])?,
        MailWrite::Posted { id, there, at } => conn
            .prepare_cached(
                "UPDATE mail SET posted = ?2, archived_at = coalesce(archived_at, ?3) WHERE id = ?1",
            )?
            .execute(params![id, there, instant(*at)])?,
        MailWrite::Over { incident } => conn
            .prepare_cached("UPDATE mail SET incident = NULL WHERE incident = ?1")?
            .execute([incident])?,
        MailWrite::Restore(row) => conn
            .prepare_cached(
                "INSERT OR IGNORE INTO mail (number, id, sender, recipient, subject, body, at, read_at, archived_at,
                   key, incident, via) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                row.number,
                row.id,
                row.sender,
                row.recipient,
                row.subject,
                row.body,
                instant(row.at),
                row.read_at.map(instant),
                row.archived_at.map(instant),
                row.key,
                row.incident,
                // What was put aside is where it was to go.
                row.via.as_ref().filter(|_| row.archived_at.is_none())
            ])?,
        MailWrite::LastNumber(last) => {
            conn.prepare_cached("DELETE FROM sqlite_sequence WHERE name = 'mail' AND seq < ?1")?.execute([last])?;
            conn.prepare_cached(
                "INSERT INTO sqlite_sequence (name, seq)
                 SELECT 'mail', ?1 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'mail')",
            )?
            .execute([last])?
        }
    };
    Ok(())
}

fn send(conn: &Connection, new: &NewMail, events: &mut Vec<Event>) -> Result<(), LedgerError> {
    let known: bool = conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM mail WHERE key = ?1) OR EXISTS (SELECT 1 FROM mail WHERE incident = ?2)",
        )?
        .query_row(params![new.key, new.incident], |row| row.get(0))?;
    if known {
        return Ok(());
    }
    let bytes = u64::try_from(new.subject.len() + new.body.len()).unwrap_or(u64::MAX);
    make_room(conn, &new.recipient, bytes, new.ours)?;
    let number = last_number(conn)?.saturating_add(1);
    let id = format!("m-{number}");
    conn.prepare_cached(
        "INSERT INTO mail (number, id, sender, recipient, subject, body, at, key, incident, via)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        number,
        id,
        new.sender,
        new.recipient,
        new.subject,
        new.body,
        instant(new.at),
        new.key,
        new.incident,
        new.via
    ])?;
    let agent: Option<Address> = new.recipient.parse().ok();
    let told = NewEvent {
        rig: agent.as_ref().and_then(|agent| agent.rig().cloned()),
        agent,
        cause: new.cause,
        peer: new.peer.clone(),
        ..NewEvent::new(
            new.at,
            kind::MAIL_SENT,
            json!({ "id": id, "from": new.sender, "to": new.recipient, "subject": new.subject }),
        )
    };
    events.push(event(conn, &told)?);
    Ok(())
}
