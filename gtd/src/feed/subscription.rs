//! One reader of the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use gtd_proto::{Event, Frame, Seq};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::ledger::{EventFilter, EventQuery, Ledger};

/// Events fetched from the ledger at once.
const PAGE: u32 = 500;

/// A reader's place in the stream. Ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    ledger: Ledger,
    live: Receiver<Arc<Event>>,
    filter: EventFilter,
    /// Everything up to here was dealt with.
    cursor: u64,
    /// Up to here the ledger is read, not the bus.
    fetch_to: u64,
    /// The first page is asked for in any case: it knows whether the cursor is too old, or of another stream.
    first: bool,
    /// It has caught up with the bus; from then on falling behind is the reader's own doing.
    caught_up: bool,
    /// It fell behind: what it missed is counted, not fetched.
    behind: bool,
    ready: VecDeque<Frame>,
}

impl Subscription {
    pub(super) fn new(
        ledger: Ledger,
        live: Receiver<Arc<Event>>,
        filter: EventFilter,
        since: Option<Seq>,
        head: Seq,
    ) -> Self {
        Self {
            ledger,
            live,
            filter,
            cursor: since.unwrap_or(head).0,
            fetch_to: head.0,
            first: since.is_some(),
            caught_up: since.is_none(),
            behind: false,
            ready: VecDeque::new(),
        }
    }

    /// The next frame. `None` when the stream has ended: the daemon goes down, or the past that was asked for
    /// cannot be read. May be dropped while it waits; nothing is lost by that.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.first || self.cursor < self.fetch_to {
                self.fetch().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) => self.take(&event),
                // During the past the present went by: it is in the ledger by now.
                Err(RecvError::Lagged(_)) => self.behind = self.caught_up,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Everything up to here was handed out, or was not asked for.
    #[must_use]
    pub fn seen(&self) -> Option<Seq> {
        (self.ready.is_empty() && !self.first).then_some(Seq(self.cursor))
    }

    fn take(&mut self, event: &Arc<Event>) {
        let seq = event.seq.0;
        if seq <= self.cursor {
            return;
        }
        let missed = seq - self.cursor - 1;
        if missed > 0 && !self.behind {
            self.fetch_to = seq;
            return;
        }
        if missed > 0 {
            self.ready.push_back(Frame::Lagged { lagged: missed });
        }
        self.behind = false;
        self.caught_up = true;
        self.cursor = seq;
        if self.filter.matches(&event.kind, event.agent.as_ref(), event.rig.as_ref()) {
            self.ready.push_back(Frame::Event(Box::new(Event::clone(event))));
        }
    }

    async fn fetch(&mut self) -> Option<()> {
        let query = EventQuery {
            since: Some(Seq(self.cursor)),
            until: Some(Seq(self.fetch_to)),
            since_time: None,
            kinds: self.filter.kinds.clone(),
            selector: self.filter.selector.clone(),
            limit: Some(PAGE),
        };
        let page = match self.ledger.events(query).await {
            Ok(page) => page,
            Err(why) if self.caught_up => {
                // A hole in the present: say how large it is, rather than end a stream that works.
                tracing::warn!(%why, "events could not be fetched for a subscriber");
                self.ready.push_back(Frame::Lagged { lagged: self.fetch_to.saturating_sub(self.cursor) });
                self.cursor = self.fetch_to;
                return Some(());
            }
            Err(why) => {
                tracing::warn!(%why, "past events could not be read for a subscriber");
                return None;
            }
        };
        self.first = false;
        // A cursor of another stream lies anywhere; after its gap this stream's own numbers hold.
        self.cursor = match page.gap {
            Some(_) => page.next_since.0,
            None => page.next_since.0.max(self.cursor),
        };
        self.ready.extend(page.gap.map(|gap| Frame::Gap { gap }));
        self.ready.extend(page.items.into_iter().map(|event| Frame::Event(Box::new(event))));
        Some(())
    }
}
