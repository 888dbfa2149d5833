//! Sending, reading and putting aside.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gtd_proto::mail::{BODY_MAX, Inbox, Mail, SUBJECT_MAX};
use gtd_proto::{ErrorKind, RpcError};

use super::address::Mailbox;
use crate::feed::Bus;
use crate::ledger::{LedgerError, MailRow, MailWrite, NewMail, Write};
use crate::supervisor::Handle;
use crate::work::Desk;
use crate::work::bd::Bd;

/// How long what one step of a heartbeat read is good for the next.
const SHARED: Duration = Duration::from_secs(1);

/// Who sends, reads or puts aside.
#[derive(Debug, Clone)]
pub struct From {
    /// Their own box.
    pub own: Mailbox,
    /// The peer of the socket, for the record.
    pub peer: Option<String>,
}

/// What waits in a box.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The mails, the newest first.
    pub items: Vec<Mail>,
    /// Why there may be more.
    pub trouble: Option<String>,
}

/// The mailbox of a town, for everybody. Cheap to clone.
#[derive(Clone)]
pub struct Office(Arc<Inner>);

struct Inner {
    handle: Handle,
    bus: Bus,
    desk: Arc<Desk>,
    /// The deacon's mail as one step of a heartbeat has read it, for the next.
    shared: std::sync::Mutex<Option<(std::time::Instant, Vec<Mail>)>>,
}

impl Office {
    /// The office of a town.
    #[must_use]
    pub fn new(handle: Handle, bus: Bus, desk: Arc<Desk>) -> Self {
        Self(Arc::new(Inner { handle, bus, desk, shared: std::sync::Mutex::default() }))
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    pub(super) fn publish(&self, events: Vec<gtd_proto::Event>) {
        self.0.bus.publish(events);
    }

    /// The box that a text means.
    ///
    /// # Errors
    /// See [`Mailbox::named`].
    pub fn named(&self, text: &str, path: &'static str) -> Result<Mailbox, RpcError> {
        self.0.handle.view().read(|shown| Mailbox::named(text, path, shown))
    }

    /// A mail as it may be sent: its subject in one line.
    ///
    /// # Errors
    /// `invalid_params`, with the path of what cannot be used.
    pub fn checked(subject: &str, body: &str) -> Result<String, RpcError> {
        let invalid =
            |path: &str, why: String| RpcError::new(ErrorKind::InvalidParams, why).with("path", path);
        let subject = subject.trim();
        if subject.is_empty() {
            return Err(invalid("/subject", "a mail needs a subject".to_owned()));
        }
        if subject.len() > SUBJECT_MAX {
            let why = format!("a subject has at most {SUBJECT_MAX} bytes, and this one {}", subject.len());
            return Err(invalid("/subject", why).hint("put it into the body"));
        }
        if subject.chars().any(char::is_control) {
            return Err(invalid("/subject", "a subject is one line of text".to_owned()));
        }
        if body.len() > BODY_MAX {
            let why = format!("a body has at most {BODY_MAX} bytes, and this one {}", body.len());
            return Err(invalid("/body", why).hint("put it into a file, and its path into the mail"));
        }
        if body.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(invalid("/body", "a body is plain text, without control characters".to_owned()));
        }
        Ok(subject.to_owned())
    }

    /// Sends a mail. A request that was repeated with its key sends none, and is given the one that there is: then
    /// the answer says `true`.
    ///
    /// # Errors
    /// `too_busy` when the box is full of mail that nobody has read; `internal` when the ledger cannot be written.
    pub async fn send(
        &self,
        from: &From,
        to: &Mailbox,
        subject: String,
        body: String,
        key: Option<String>,
    ) -> Result<(Mail, bool), RpcError> {
        let key = key.map(|key| format!("asked:{key}"));
        if let Some(room) = self.room(to) {
            return Ok((self.send_there(&room, from, to, (subject, body), key).await?, false));
        }
        self.in_file()?;
        let new = NewMail {
            sender: from.own.to_string(),
            recipient: to.to_string(),
            subject,
            body,
            at: self.0.handle.wall(),
            key: key.clone(),
            incident: None,
            ours: false,
            via: None,
            cause: None,
            peer: from.peer.clone(),
        };
        let events = self.write(MailWrite::Send(new)).await?;
        let id = events.first().and_then(|event| event.data.get("id")?.as_str().map(str::to_owned));
        self.0.bus.publish(events);
        let row = match (&id, &key) {
            (Some(id), _) => self.0.handle.ledger().mail(id).await,
            (None, Some(key)) => self.0.handle.ledger().mail_of(key).await,
            (None, None) => Ok(None),
        };
        match row.map_err(|error| unread(&error))? {
            Some(row) => Ok((shown(row), id.is_none())),
            None => Err(RpcError::internal("the mail was sent, and is not there")),
        }
    }

    /// What is in a box, the newest first.
    ///
    /// # Errors
    /// `internal` when the ledger cannot be read.
    pub async fn inbox(&self, whose: &Mailbox, only_unread: bool) -> Result<Inbox, RpcError> {
        let read = self.0.handle.ledger().mailbox(&whose.to_string(), only_unread).await;
        let (rows, mut unread) = read.map_err(|error| unread(&error))?;
        let mut items: Vec<Mail> = rows.into_iter().map(shown).collect();
        if let Some(room) = self.room(whose) {
            // What lay with us before, and what is on its way there, is theirs as well.
            let mut there = self.kept_there(whose, &room).await?;
            unread += u64::try_from(there.iter().filter(|mail| !mail.read).count()).unwrap_or(u64::MAX);
            there.retain(|mail| !(only_unread && mail.read));
            items.append(&mut there);
            items.sort_by_key(|mail| std::cmp::Reverse(mail.at));
        }
        Ok(Inbox { whose: whose.to_string(), unread, items })
    }

    /// One mail.
    ///
    /// # Errors
    /// `invalid_params` when there is none of this id; `internal` when the ledger cannot be read.
    pub async fn mail(&self, id: &str) -> Result<Mail, RpcError> {
        if let Some(row) = self.0.handle.ledger().mail(id).await.map_err(|error| unread(&error))? {
            return Ok(shown(row));
        }
        match self.message(id).await? {
            Some((mail, _)) => Ok(mail),
            None => Err(RpcError::new(
                ErrorKind::InvalidParams,
                format!("there is no mail {:?}", id.chars().take(40).collect::<String>()),
            )
            .hint("gtctl mail inbox lists the ids")
            .with("path", "/id")),
        }
    }

    /// One mail, read by somebody: it counts as read when that is who it is for. The answer says `true` when it
    /// changes nothing.
    ///
    /// # Errors
    /// As [`Self::mail`], and when the ledger cannot be written.
    pub async fn read(&self, id: &str, by: &From) -> Result<(Mail, bool), RpcError> {
        let mail = self.mail(id).await?;
        // Somebody else's look takes nothing off their list.
        if mail.read || mail.to != by.own.to_string() {
            return Ok((mail, true));
        }
        if let Some(room) = self.there(id) {
            let read = room.message_read(id).await?;
            return Ok((Mail { read: read.read, ..mail }, false));
        }
        self.in_file()?;
        self.write(MailWrite::Read { id: id.to_owned(), at: self.0.handle.wall() }).await?;
        Ok((Mail { read: true, ..mail }, false))
    }

    /// Puts a mail aside. The answer says `true` when it was so already.
    ///
    /// # Errors
    /// As [`Self::mail`], and when the ledger cannot be written.
    pub async fn archive(&self, id: &str, by: &From) -> Result<(Mail, bool), RpcError> {
        let mail = self.mail(id).await?;
        if mail.archived {
            return Ok((mail, true));
        }
        if let Some(room) = self.there(id) {
            Self::may_touch(&mail, by)?;
            room.message_aside(id).await?;
            return Ok((Mail { archived: true, read: true, ..mail }, false));
        }
        self.in_file()?;
        self.write(MailWrite::Archive { id: id.to_owned(), at: self.0.handle.wall() }).await?;
        Ok((Mail { archived: true, ..mail }, false))
    }

    /// The program that keeps a box, where that is not us.
    #[must_use]
    pub fn via(&self, whose: &Mailbox) -> Option<String> {
        self.room(whose).map(|_| "bd".to_owned())
    }

    /// The store that has a message of this id; none for ids of our own.
    fn there(&self, id: &str) -> Option<Arc<Bd>> {
        let ours = id.strip_prefix("m-").is_some_and(|number| number.parse::<u64>().is_ok());
        if ours { None } else { self.0.desk.mailroom_of(id) }
    }

    /// The same as [`Self::deacons_mail`], and what it found is for the next that asks for it within a moment: the
    /// steps of a heartbeat ask a store once.
    pub async fn deacons_mail_for_two(&self) -> Waiting {
        let before = self.0.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, items)) = before.filter(|(at, _)| at.elapsed() < SHARED) {
            return Waiting { items, trouble: None };
        }
        let found = self.deacons_mail().await;
        if found.trouble.is_none() {
            let mut shared = self.0.shared.lock().unwrap_or_else(PoisonError::into_inner);
            *shared = Some((std::time::Instant::now(), found.items.clone()));
        }
        found
    }

    /// Everything in the deacon's box that was not put aside, the newest first, as far as it can be read.
    pub async fn deacons_mail(&self) -> Waiting {
        let deacon = Mailbox::Agent(gtd_proto::Address::Deacon);
        match self.inbox(&deacon, false).await {
            Ok(inbox) => Waiting { items: inbox.items, trouble: None },
            // What lies with us is there, whatever another store says.
            Err(error) => {
                let ours = self.0.handle.ledger().mailbox(&deacon.to_string(), false).await;
                let items = ours.map(|(rows, _)| rows.into_iter().map(shown).collect()).unwrap_or_default();
                Waiting { items, trouble: Some(error.message) }
            }
        }
    }

    /// Puts a mail aside, or says what has to be committed for that.
    ///
    /// # Errors
    /// Why it cannot be put aside now.
    pub async fn aside(&self, id: &str) -> Result<Option<Write>, String> {
        if let Some(room) = self.there(id) {
            return match room.message(id).await {
                Ok(Some(mail)) if !mail.archived => room.message_aside(id).await.map(|_| None),
                Ok(_) => Ok(None),
                Err(unknown) => Err(unknown),
            }
            .map_err(|unknown| unknown.to_string());
        }
        Ok(Some(Write::Mail(MailWrite::Archive { id: id.to_owned(), at: self.0.handle.wall() })))
    }

    /// What is written in memory would be gone when the file can be used again.
    fn in_file(&self) -> Result<(), RpcError> {
        match self.0.handle.ledger().info().in_memory {
            true => Err(RpcError::internal("mail cannot be kept: the ledger's file cannot be used")
                .hint("gtctl daemon status")),
            false => Ok(()),
        }
    }

    async fn write(&self, write: MailWrite) -> Result<Vec<gtd_proto::Event>, RpcError> {
        self.0.handle.ledger().commit(vec![Write::Mail(write)]).await.map_err(|error| match error {
            LedgerError::BoxFull { ref whose, unread } => {
                RpcError::new(ErrorKind::TooBusy, error.to_string())
                    .hint(format!("read or archive some of it: gtctl mail inbox {whose}"))
                    .with("for", whose)
                    .with("unread", unread)
            }
            error => RpcError::internal(format!("mail cannot be kept: {error}")).hint("gtctl daemon status"),
        })
    }
}

fn unread(error: &LedgerError) -> RpcError {
    RpcError::internal(format!("mail cannot be read: {error}")).hint("gtctl daemon status")
}

fn shown(row: MailRow) -> Mail {
    Mail {
        id: row.id,
        from: row.sender,
        to: row.recipient,
        subject: row.subject,
        body: row.body,
        at: row.at,
        read: row.read_at.is_some(),
        archived: row.archived_at.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mail_may_be() {
        let long = "ä".repeat(SUBJECT_MAX);
        let big = "x".repeat(BODY_MAX + 1);
        for (subject, body, path) in [
            ("", "b", "/subject"),
            (" \t ", "b", "/subject"),
            (long.as_str(), "b", "/subject"),
            ("two\nlines", "b", "/subject"),
            ("bell\u{7}", "b", "/subject"),
            ("s", big.as_str(), "/body"),
            ("s", "escape \u{1b}[2J", "/body"),
            ("s", "nul \0", "/body"),
        ] {
            let error = Office::checked(subject, body).unwrap_err();
            assert_eq!(
                (error.kind, &error.data["path"]),
                (ErrorKind::InvalidParams, &path.into()),
                "{error:?}"
            );
        }
        assert_eq!(Office::checked("  s \u{1F600} ", "a\r\n\tb\n").unwrap(), "s \u{1F600}");
        assert_eq!(Office::checked("s", "").unwrap(), "s");
        assert!(Office::checked("s", &"x".repeat(BODY_MAX)).is_ok());
    }
}
