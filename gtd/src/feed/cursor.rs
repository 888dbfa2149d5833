//! A place in the stream that outlives the daemon, and reading on from there.
//!
//! Owns the promise that whoever reads so gets every event at least once. Must never move a place past an
//! event that its reader has not said to be done with.

use std::time::Duration;

use gtd_proto::{Event, Frame, Seq};
use serde_json::{Value, json};

use super::{Bus, Subscription};
use crate::ledger::{Ledger, Write};

/// Pause before a past that could not be read is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// A place in the stream, kept as a fact of the ledger.
#[derive(Debug)]
pub struct Cursor {
    ledger: Ledger,
    key: String,
    at: Seq,
}

impl Cursor {
    /// Takes a place up again from the ledger's fact, or begins at `head` and writes that down. A fact of another stream means that all
    /// of this one is new.
    pub async fn open(ledger: Ledger, key: String, fact: Option<&Value>, head: Seq) -> Self {
        let stream = ledger.stream_id();
        let seq = fact.and_then(|fact| fact.get("seq")).and_then(Value::as_u64);
        let same = fact.and_then(|fact| fact.get("stream")).and_then(Value::as_str) == Some(stream.as_str());
        let at = match seq {
            Some(seq) if same && seq <= ledger.last_seq().0 => Seq(seq),
            Some(_) => Seq(0),
            None => head,
        };
        let cursor = Self { ledger, key, at };
        if seq.is_none() {
            cursor.keep().await;
        }
        cursor
    }

    /// Everything up to here is done with.
    #[must_use]
    pub fn at(&self) -> Seq {
        self.at
    }

    /// Everything up to there is done with. Written within a quarter of a second; a daemon that is killed before
    /// begins again at the old place.
    pub async fn reach(&mut self, seq: Seq) {
        if seq > self.at {
            self.at = seq;
            self.keep().await;
        }
    }

    /// The row that says that everything up to there is done with: to be committed together with what was done,
    /// and to be followed by [`Self::marked`].
    #[must_use]
    pub fn mark(&self, seq: Seq) -> Write {
        let value = json!({ "stream": self.ledger.stream_id(), "seq": seq });
        Write::Fact { key: self.key.clone(), value: Some(value) }
    }

    /// That row was committed.
    pub fn marked(&mut self, seq: Seq) {
        self.at = self.at.max(seq);
    }

    async fn keep(&self) {
        let value = json!({ "stream": self.ledger.stream_id(), "seq": self.at });
        self.ledger.describe(vec![Write::Fact { key: self.key.clone(), value: Some(value) }]).await;
    }

    /// Forgets the place: its reader is gone for good.
    pub async fn forget(self) {
        self.ledger.describe(vec![Write::Fact { key: self.key, value: None }]).await;
    }
}

/// Reads events of some kinds from a place on, every one of them, however slow it is.
#[derive(Debug)]
pub struct Reader {
    bus: Bus,
    kinds: Vec<String>,
    subscription: Subscription,
    last: Seq,
}

impl Reader {
    /// Reads on after `since`; `kinds` are globs.
    #[must_use]
    pub fn new(bus: Bus, kinds: Vec<String>, since: Seq) -> Self {
        let subscription = bus.subscribe(Some(since), Some(kinds.clone()), None);
        Self { bus, kinds, subscription, last: since }
    }

    /// The next event. May be dropped while it waits; nothing is lost by that.
    pub async fn next(&mut self) -> Event {
        loop {
            match self.subscription.next().await {
                Some(Frame::Event(event)) => {
                    self.last = event.seq;
                    return *event;
                }
                Some(Frame::Gap { gap }) => {
                    tracing::warn!(kinds = ?self.kinds, oldest = %gap.oldest, "events were pruned before they were passed on");
                }
                // What a slow reader has missed is in the ledger.
                Some(Frame::Lagged { .. }) => self.begin_again(),
                None => {
                    tokio::time::sleep(AGAIN).await;
                    self.begin_again();
                }
            }
        }
    }

    /// Everything up to here was given out by [`Reader::next`], or is of other kinds.
    #[must_use]
    pub fn seen(&self) -> Seq {
        self.subscription.seen().unwrap_or(self.last).max(self.last)
    }

    fn begin_again(&mut self) {
        self.subscription = self.bus.subscribe(Some(self.last), Some(self.kinds.clone()), None);
    }
}
