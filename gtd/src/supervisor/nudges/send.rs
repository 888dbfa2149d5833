//! Putting texts into the queue, taking them out, and showing them.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::nudge::MESSAGE_MAX;
use gtd_proto::{Address, ErrorKind, Nudge, NudgeId, NudgeReached, NudgeState, RpcError, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::policy::{after, since};
use super::book::Entry;
use super::{BYTES, EXPIRES, IN_ALL, KEY, Nudges, PER_AGENT, Sending, unwritable};
use crate::agents::typing::clean::clean;
use crate::ledger::{LedgerError, NewEvent, NudgeRow, Write};

/// Characters of a text that are shown.
const SHOWN: usize = 200;
/// Bytes of a text that are kept once it is done with.
const KEPT: usize = 4 << 10;
/// How long whoever waits for a text that was sent off also waits for the agent's word that it works.
const FOR_ITS_WORD: Duration = Duration::from_secs(1);

impl Nudges {
    /// The text as it would be typed.
    ///
    /// # Errors
    /// `invalid_params` for one that is too long or has nothing in it; `path` names the parameter.
    pub fn checked(text: &str, path: &str) -> Result<String, RpcError> {
        let refuse = |why: String| RpcError::new(ErrorKind::InvalidParams, why).with("path", path);
        if text.len() > MESSAGE_MAX {
            return Err(refuse(format!(
                "the text has {} bytes, and at most {MESSAGE_MAX} are typed",
                text.len()
            )));
        }
        let text = clean(text);
        if text.trim().is_empty() {
            return Err(refuse("there is nothing in the text that could be typed".to_owned()));
        }
        Ok(text)
    }

    /// Takes a text. It is on disk when this returns.
    ///
    /// # Errors
    /// `invalid_params`; `too_busy` when too much waits already; `internal` when it cannot be written down.
    pub async fn send(&self, sending: Sending) -> Result<NudgeRow, RpcError> {
        let message = Self::checked(&sending.message, "/message")?;
        if sending.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY) {
            let why = format!("a key has between 1 and {KEY} bytes");
            return Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/key"));
        }
        let expires = sending.expires.unwrap_or(EXPIRES.0);
        if expires.is_zero() || expires > EXPIRES.1 {
            let why = "a text may wait for at least a millisecond and at most 7 days";
            return Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/expires_ms"));
        }
        self.writable()?;
        let _changing = self.0.changing.lock().await;
        let now = self.now();
        let replaced = self.replaced(&sending);
        self.room(&sending.agent, message.len(), replaced.as_ref())?;
        let row = self.row(&sending, message, now, after(now, expires));
        let mut writes = vec![Write::Nudge(Box::new(row.clone())), self.sent(&row, sending.peer.clone())];
        let replaced = replaced.map(|old| self.ended(old, "replaced", format!("{} took its place", row.id)));
        if let Some((old, event)) = &replaced {
            writes.extend([Write::Nudge(Box::new(old.clone())), Write::Event(event.clone())]);
        }
        let events = self.0.handle.ledger().commit(writes).await.map_err(|error| unwritable(&error))?;
        self.with_book(|book| {
            if let Some((old, _)) = replaced {
                book.keep(old);
            }
            book.keep(row.clone());
            book.track(&row.agent).due = Some(Instant::now());
        });
        self.0.bus.publish(events);
        self.tell();
        Ok(row)
    }

    /// Takes a text back that was not begun to be typed. True when it was.
    ///
    /// # Errors
    /// `invalid_params` when there is no such text; `busy` while it is being typed; `internal` when it cannot be
    /// written down.
    pub async fn cancel(&self, id: &NudgeId, by: &str) -> Result<bool, RpcError> {
        let _changing = self.0.changing.lock().await;
        let Some(entry) = self.with_book(|book| book.find(id)) else {
            return match self.0.handle.ledger().nudge(id).await {
                Ok(Some(_)) => Ok(false),
                Ok(None) => Err(unknown(id)),
                Err(error) => Err(unwritable(&error)),
            };
        };
        match entry.row.state {
            NudgeState::Queued => {
                let (row, event) = self.ended(entry.row, "cancelled", format!("{by} took it back"));
                self.commit(row, Some(event)).await.map_err(|error| unwritable(&error))?;
                Ok(true)
            }
            NudgeState::Delivering => {
                Err(RpcError::new(ErrorKind::Busy, format!("{id} is being typed")).hint("gtctl nudge list"))
            }
            _ => Ok(false),
        }
    }

    /// A text, as results show it.
    ///
    /// # Errors
    /// `invalid_params` when there is no such text.
    pub async fn show(&self, id: &NudgeId) -> Result<Nudge, RpcError> {
        if let Some(entry) = self.with_book(|book| book.find(id)) {
            return Ok(self.shown(entry));
        }
        match self.0.handle.ledger().nudge(id).await {
            Ok(Some(row)) => Ok(self.shown(Entry { row, waits: None })),
            Ok(None) => Err(unknown(id)),
            Err(error) => Err(unwritable(&error)),
        }
    }

    /// Texts in the order in which they are typed; with `past` so many of those that are done with before them.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn list(&self, agent: Option<&Address>, past: u32) -> Result<Vec<Nudge>, LedgerError> {
        let mut rows = match past {
            0 => Vec::new(),
            past => self.0.handle.ledger().past_nudges(agent.cloned(), past).await?,
        };
        rows.reverse();
        let mut entries: Vec<Entry> = rows.into_iter().map(|row| Entry { row, waits: None }).collect();
        entries.extend(self.with_book(|book| {
            let open = book.open.values().filter(|entry| agent.is_none_or(|agent| entry.row.agent == *agent));
            open.cloned().collect::<Vec<_>>()
        }));
        Ok(entries.into_iter().map(|entry| self.shown(entry)).collect())
    }

    /// Waits until a text is done with, or `until`; without that also until it shows that it has to wait. What was
    /// sent off is given a moment to be seen.
    pub async fn wait(&self, id: &NudgeId, until: Option<Duration>) {
        let mut changes = self.0.changed.subscribe();
        let end = until.map(|until| Instant::now() + until);
        loop {
            let Some(entry) = self.with_book(|book| book.find(id)) else { return };
            let has_to_wait = end.is_none() && entry.waits.as_ref().is_some_and(|(_, soon)| !soon);
            let delivered = entry.row.state == NudgeState::Delivered;
            if !entry.row.state.is_open() || (has_to_wait && entry.row.state == NudgeState::Queued) {
                if delivered && entry.row.reached == NudgeReached::Submitted {
                    let word = Instant::now() + FOR_ITS_WORD;
                    let end = end.map_or(word, |end| end.min(word));
                    let seen = |nudges: &Self| {
                        nudges
                            .with_book(|book| book.find(id))
                            .is_none_or(|e| e.row.reached == NudgeReached::Seen)
                    };
                    while !seen(self) && tokio::time::timeout_at(end, changes.changed()).await.is_ok() {}
                }
                return;
            }
            match end {
                Some(end) if tokio::time::timeout_at(end, changes.changed()).await.is_err() => return,
                Some(_) => {}
                None => drop(changes.changed().await),
            }
        }
    }

    /// Nothing is begun that cannot be written down for good.
    pub(super) fn writable(&self) -> Result<(), RpcError> {
        match self.0.handle.ledger().trouble() {
            None => Ok(()),
            Some(why) => {
                Err(RpcError::internal(format!("a text for an agent cannot be written down: {why}"))
                    .hint("gtctl daemon status"))
            }
        }
    }

    fn replaced(&self, sending: &Sending) -> Option<NudgeRow> {
        let key = sending.key.as_ref()?;
        let same = |row: &NudgeRow| {
            row.agent == sending.agent && row.key.as_ref() == Some(key) && row.state == NudgeState::Queued
        };
        self.with_book(|book| book.open.values().map(|entry| &entry.row).find(|row| same(row)).cloned())
    }

    fn room(&self, agent: &Address, bytes: usize, replaced: Option<&NudgeRow>) -> Result<(), RpcError> {
        let (less, fewer) = replaced.map_or((0, 0), |old| (old.message.len(), 1));
        let (of_agent, all, held) = self.with_book(|book| {
            let of_agent = book.open.values().filter(|entry| entry.row.agent == *agent).count();
            (of_agent, book.open.len(), book.bytes())
        });
        let full = |what: String| {
            Err(RpcError::new(ErrorKind::TooBusy, what).hint("gtctl nudge list, and gtctl nudge cancel ID"))
        };
        if of_agent - fewer.min(of_agent) >= PER_AGENT {
            return full(format!("{of_agent} texts wait for {agent}, and no more than {PER_AGENT} may"));
        }
        if all - fewer.min(all) >= IN_ALL {
            return full(format!("{all} texts wait in this town, and no more than {IN_ALL} may"));
        }
        if (held + bytes).saturating_sub(less) > BYTES {
            return full(format!("texts of {held} bytes wait in this town, and no more than {BYTES} may"));
        }
        Ok(())
    }

    pub(super) fn row(
        &self,
        sending: &Sending,
        message: String,
        now: Timestamp,
        expires: Timestamp,
    ) -> NudgeRow {
        NudgeRow {
            number: self.with_book(super::book::Book::next_number),
            id: NudgeId::generate(),
            agent: sending.agent.clone(),
            instance: sending.instance.clone(),
            typed_for: None,
            now_or_never: false,
            bytes: message.len() as u64,
            message,
            key: sending.key.clone(),
            sender: sending.sender.clone(),
            state: NudgeState::Queued,
            reached: NudgeReached::Queued,
            attempts: 0,
            why: None,
            created_at: now,
            updated_at: now,
            expires_at: expires,
        }
    }

    pub(super) fn sent(&self, row: &NudgeRow, peer: Option<String>) -> Write {
        let mut data = json!({
            "id": row.id, "from": row.sender, "bytes": row.bytes, "expires_at": self.0.handle.dated(row.expires_at),
        });
        if let (Some(key), Value::Object(map)) = (&row.key, &mut data) {
            map.insert("key".to_owned(), json!(key));
        }
        let event = NewEvent::of(self.0.handle.wall(), kind::NUDGE_SENT, &row.agent, data);
        Write::Event(NewEvent { instance: row.instance.clone(), peer, ..event })
    }

    /// A row that is not typed any more, and the event that tells of it.
    pub(super) fn ended(&self, row: NudgeRow, cause: &str, why: String) -> (NudgeRow, NewEvent) {
        let data = json!({ "id": row.id, "cause": cause, "why": why, "reached": row.reached });
        let event = self.event(kind::NUDGE_DEAD, &row, data);
        (NudgeRow { state: NudgeState::Dead, why: Some(why), ..row }, event)
    }

    pub(super) fn event(&self, kind: &'static str, row: &NudgeRow, data: Value) -> NewEvent {
        let instance = row.typed_for.clone().or_else(|| row.instance.clone());
        NewEvent { instance, ..NewEvent::of(self.0.handle.wall(), kind, &row.agent, data) }
    }

    /// Writes a row down as it is to be, with what is told of it, and goes by it from then on. `changing` is held.
    pub(super) async fn commit(
        &self,
        row: NudgeRow,
        event: Option<NewEvent>,
    ) -> Result<NudgeRow, LedgerError> {
        let mut row = NudgeRow { updated_at: self.now(), ..row };
        if !row.state.is_open() {
            let end = KEPT.min(row.message.len());
            let end = (0..=end).rev().find(|at| row.message.is_char_boundary(*at)).unwrap_or(0);
            row.message.truncate(end);
        }
        let write = Write::Nudge(Box::new(row.clone()));
        let writes = std::iter::once(write).chain(event.map(Write::Event)).collect();
        let events = self.0.handle.ledger().commit(writes).await?;
        self.with_book(|book| book.keep(row.clone()));
        self.0.bus.publish(events);
        self.tell();
        Ok(row)
    }

    /// Those who wait look again, and so does the task.
    pub(super) fn tell(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
        self.0.wake.notify_one();
    }

    fn shown(&self, entry: Entry) -> Nudge {
        let Entry { row, waits } = entry;
        let handle = &self.0.handle;
        let waits = waits.filter(|_| row.state == NudgeState::Queued).map(|(why, _)| why);
        Nudge {
            id: row.id,
            agent: row.agent,
            instance: row.instance,
            state: row.state,
            reached: row.reached,
            attempts: row.attempts,
            key: row.key,
            from: row.sender,
            text: row.message.chars().take(SHOWN).collect(),
            bytes: row.bytes,
            why: row.why.or(waits),
            created_at: handle.dated(row.created_at),
            updated_at: handle.dated(row.updated_at),
            expires_at: handle.dated(row.expires_at),
        }
    }

    /// Texts that have waited for too long.
    pub(super) fn expired(&self) -> Vec<Entry> {
        let now = self.now();
        let over = |entry: &&Entry| entry.row.state == NudgeState::Queued && entry.row.expires_at <= now;
        self.with_book(|book| book.open.values().filter(over).cloned().collect())
    }

    /// How long until the first text has waited for too long.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let now = self.now();
        let queued = |entry: &&Entry| entry.row.state == NudgeState::Queued;
        let first =
            self.with_book(|book| book.open.values().filter(queued).map(|e| e.row.expires_at).min())?;
        Some(since(now, first))
    }
}

fn unknown(id: &NudgeId) -> RpcError {
    RpcError::new(ErrorKind::InvalidParams, format!("there is no text {id}"))
        .hint("gtctl nudge list")
        .with("path", "/id")
}
