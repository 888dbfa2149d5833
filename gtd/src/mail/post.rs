//! The task that turns events into the daemon's own mail, and wakes those who run on demand and got some.
//!
//! Owns the promise: one mail for each incident, whenever the daemon is killed and whatever the disk does. A mail
//! and how far the stream was read are one commit.

use std::collections::BTreeSet;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::mail::DAEMON;
use gtd_proto::{Address, Event};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::letters::{Follows, KINDS, Letter, follows};
use crate::feed::{Bus, Cursor, Reader};
use crate::ledger::{Ledger, LedgerError, MailWrite, NewMail, Write};

/// Name of the ledger's fact that holds how far the stream was read.
pub const CURSOR: &str = "mail";

/// What the subject of an answer to a request begins with.
pub const ANSWER: &str = "Re: l-";

/// How soon a ledger that cannot be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the place in the stream is noted while there is nothing to do.
const IDLE: Duration = Duration::from_secs(600);

/// What the task needs of others.
pub trait Post: Send + Sync {
    /// The program that keeps a box, where that is not us.
    fn via(&self, whose: &str) -> Option<String>;
    /// There is mail for an agent: `from` wrote it, `id` is its name.
    fn wake(&self, agent: Address, from: String, id: String) -> impl Future<Output = ()> + Send;
    /// An agent has new mail: it may be told so.
    fn told(
        &self,
        agent: Address,
        from: String,
        id: String,
        subject: String,
    ) -> impl Future<Output = ()> + Send;
    /// A mail of the daemon's could not be put into a box, for the reason given; `None` when one could again.
    fn undelivered(&self, whose: &str, why: Option<String>) -> impl Future<Output = ()> + Send;
    /// The ledger takes no mail, for the reason given; `None` when it does again.
    fn unkept(&self, why: Option<String>) -> impl Future<Output = ()> + Send;
}

/// Roles that may run on demand, and so are woken by mail.
pub const WAKES: fn(&Address) -> bool = |agent| matches!(agent, Address::Witness(_) | Address::Refinery(_));

/// Writes and wakes until it is cancelled. `fact` is the ledger's at the start, under [`CURSOR`].
pub async fn deliver(
    ledger: Ledger,
    bus: Bus,
    fact: Option<Value>,
    post: impl Post,
    stop: CancellationToken,
) {
    if !in_file(&ledger, &post, &stop).await {
        return;
    }
    let head = bus.head();
    let cursor = Cursor::open(ledger.clone(), CURSOR.to_owned(), fact.as_ref(), head).await;
    if fact.is_none()
        && let Err(error) = ledger.commit(vec![cursor.mark(head)]).await
    {
        // Then the next daemon begins where it begins.
        tracing::warn!(%error, "where the daemon's mail begins was not written down");
    }
    let mut delivery = Delivery { ledger, bus, cursor, post, open: None, kept: true, full: BTreeSet::new() };
    stop.run_until_cancelled(delivery.run()).await;
}

/// Waits until the ledger is in its file: what is there is not known before, and what is written would be gone.
async fn in_file(ledger: &Ledger, post: &impl Post, stop: &CancellationToken) -> bool {
    if !ledger.info().in_memory {
        return !stop.is_cancelled();
    }
    post.unkept(Some("the ledger's file cannot be used".to_owned())).await;
    while ledger.info().in_memory {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
    post.unkept(None).await;
    true
}

struct Delivery<P> {
    ledger: Ledger,
    bus: Bus,
    cursor: Cursor,
    post: P,
    /// Incidents that were written about and go on; not known before they were asked for.
    open: Option<BTreeSet<String>>,
    /// The last mail could be written down.
    kept: bool,
    /// Boxes that took no mail at the last time.
    full: BTreeSet<String>,
}

impl<P: Post> Delivery<P> {
    async fn run(&mut self) {
        let mut reader = Reader::new(self.bus.clone(), KINDS.map(str::to_owned).to_vec(), self.cursor.at());
        loop {
            tokio::select! {
                event = reader.next() => self.follow(event).await,
                () = tokio::time::sleep(IDLE) => self.cursor.reach(reader.seen()).await,
            }
        }
    }

    async fn follow(&mut self, event: Event) {
        match follows(&event) {
            Follows::Letter(letter) => self.write(&event, letter).await,
            Follows::Over(incident) => {
                if self.is_open(&incident).await {
                    self.commit(&event, MailWrite::Over { incident: incident.clone() }).await;
                    self.open.get_or_insert_default().remove(&incident);
                } else {
                    self.cursor.reach(event.seq).await;
                }
            }
            Follows::Nothing => {
                if event.kind == kind::MAIL_SENT
                    && let Some(agent) = event.agent.clone()
                {
                    let text = |name: &str| {
                        event.data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
                    };
                    let (from, id, subject) = (text("from"), text("id"), text("subject"));
                    if WAKES(&agent) {
                        self.post.wake(agent.clone(), from.clone(), id.clone()).await;
                    }
                    // An answer is found when it is looked for.
                    if from != DAEMON || !subject.starts_with(ANSWER) {
                        self.post.told(agent, from, id, subject).await;
                    }
                }
                self.cursor.reach(event.seq).await;
            }
        }
    }

    async fn write(&mut self, event: &Event, letter: Letter) {
        let Letter { to, subject, body, occasion, incident } = letter;
        // Not by its stream, which is another one after a while in memory only.
        let key = occasion.unwrap_or_else(|| format!("event:{}:{}", event.seq, event.at));
        // Before, so that a kill in between leaves a name too many rather than one too few.
        if let Some(incident) = &incident {
            self.is_open(incident).await;
            self.open.get_or_insert_default().insert(incident.clone());
        }
        let new = NewMail {
            sender: DAEMON.to_owned(),
            via: self.post.via(&to),
            recipient: to,
            subject,
            body,
            at: event.at,
            key: Some(key),
            incident,
            ours: true,
            cause: Some(event.seq),
            peer: None,
        };
        self.commit(event, MailWrite::Send(new)).await;
    }

    /// Whether a mail about this was written and it goes on. Asked of the ledger once, however long that takes.
    async fn is_open(&mut self, incident: &str) -> bool {
        loop {
            if let Some(open) = &self.open {
                return open.contains(incident);
            }
            match self.ledger.mail_incidents().await {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    tracing::warn!(%error, "what was written about before cannot be read");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Commits something together with the place in the stream, however long that takes.
    async fn commit(&mut self, event: &Event, write: MailWrite) {
        let whose = match &write {
            MailWrite::Send(new) => Some(new.recipient.clone()),
            _ => None,
        };
        loop {
            let writes = vec![Write::Mail(write.clone()), self.cursor.mark(event.seq)];
            let done = match self.ledger.commit(writes).await {
                Ok(events) => {
                    self.bus.publish(events);
                    self.cursor.marked(event.seq);
                    if let Some(whose) = &whose
                        && self.full.remove(whose)
                    {
                        self.post.undelivered(whose, None).await;
                    }
                    Ok(())
                }
                // Neither is mended by trying again. The event is in the history, and people are told.
                Err(error @ (LedgerError::BoxFull { .. } | LedgerError::Value { .. })) => {
                    tracing::error!(%error, seq = %event.seq, kind = %event.kind, "a mail was not delivered");
                    let whose = whose.clone().unwrap_or_default();
                    let why = format!("{error}; event {} ({}) is not in it", event.seq, event.kind);
                    self.post.undelivered(&whose, Some(why)).await;
                    self.full.insert(whose);
                    self.cursor.reach(event.seq).await;
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            match done {
                Ok(()) if self.kept => return,
                Ok(()) => {
                    self.kept = true;
                    return self.post.unkept(None).await;
                }
                Err(why) => {
                    if std::mem::replace(&mut self.kept, false) {
                        tracing::warn!(%why, "the daemon's mail waits for the ledger");
                    }
                    self.post.unkept(Some(why)).await;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "post_tests.rs"]
mod tests;
