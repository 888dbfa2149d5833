//! Events on their way to whoever listens: the past from the ledger, then the present, without a gap or a
//! duplicate at the joint.
//!
//! Owns the order in which events are told and the pace of those who listen. It must never number an event,
//! tell one that is not in the ledger, or wait for a reader.

mod curate;
pub mod curated;
mod curator;
mod cursor;
pub mod hooks;
mod limiter;
pub mod lines;
mod program;
mod source;
mod subscription;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use gtd_proto::{Event, Selector, Seq};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

pub use cursor::{Cursor, Reader};
pub use subscription::Subscription;

use crate::ledger::{EventFilter, Ledger};

/// How long an event waits for one with a lower number that was committed and not yet published: its
/// publisher is about to, or has died. After that readers fetch the missing one from the ledger themselves.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells committed events to those who subscribed. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    live: broadcast::Sender<Arc<Event>>,
    capacity: usize,
    order: Mutex<Order>,
    runtime: Handle,
}

/// What was told, and what must wait for its turn.
#[derive(Debug)]
struct Order {
    head: u64,
    waiting: BTreeMap<u64, Event>,
    timer: bool,
}

impl Bus {
    /// A bus that keeps `capacity` events for readers that fall behind. Called once per ledger, inside a
    /// tokio runtime: it also tells those events whose writers do not wait for them.
    #[must_use]
    pub fn new(ledger: Ledger, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let order = Order { head: ledger.last_seq().0, waiting: BTreeMap::new(), timer: false };
        let inner = Arc::new(Inner {
            ledger,
            live: broadcast::channel(capacity).0,
            capacity,
            order: Mutex::new(order),
            runtime: Handle::current(),
        });
        let bus: Weak<Inner> = Arc::downgrade(&inner);
        let tapped = inner.ledger.tap(move |events| {
            if let Some(inner) = bus.upgrade() {
                Self(inner).publish(events);
            }
        });
        if !tapped {
            tracing::error!("a second bus was made for one ledger; it will not tell what is only described");
        }
        Self(inner)
    }

    /// Tells events that were committed. Publishers may overtake each other: events are told in the order of
    /// their numbers, and each once. To be called after whoever reads the event's effects can see them.
    pub fn publish(&self, events: Vec<Event>) {
        let mut order = self.0.order.lock().unwrap_or_else(PoisonError::into_inner);
        let head = order.head;
        order
            .waiting
            .extend(events.into_iter().map(|event| (event.seq.0, event)).filter(|(seq, _)| *seq > head));
        loop {
            let turn = order.head.saturating_add(1);
            let Some(event) = order.waiting.remove(&turn) else { break };
            self.tell(&mut order, event);
        }
        if order.waiting.len() > self.0.capacity {
            self.tell_all(&mut order);
        } else if !order.waiting.is_empty() && !order.timer {
            order.timer = true;
            let bus = Arc::downgrade(&self.0);
            self.0.runtime.spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                if let Some(inner) = bus.upgrade() {
                    let bus = Self(inner);
                    let mut order = bus.0.order.lock().unwrap_or_else(PoisonError::into_inner);
                    order.timer = false;
                    bus.tell_all(&mut order);
                }
            });
        }
    }

    fn tell_all(&self, order: &mut Order) {
        for event in std::mem::take(&mut order.waiting).into_values() {
            self.tell(order, event);
        }
    }

    fn tell(&self, order: &mut Order, event: Event) {
        order.head = event.seq.0;
        // An error means that nobody listens.
        let _ = self.0.live.send(Arc::new(event));
    }

    /// Events after `since` (only new ones when absent), of these kinds (globs; none means all) and agents.
    #[must_use]
    pub fn subscribe(
        &self,
        since: Option<Seq>,
        kinds: Option<Vec<String>>,
        selector: Option<Selector>,
    ) -> Subscription {
        let filter = EventFilter { kinds: kinds.unwrap_or_default(), selector };
        // Together under the lock: what is told before is history, what is told after is live.
        let order = self.0.order.lock().unwrap_or_else(PoisonError::into_inner);
        Subscription::new(self.0.ledger.clone(), self.0.live.subscribe(), filter, since, Seq(order.head))
    }

    /// The last event that was told.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.0.order.lock().unwrap_or_else(PoisonError::into_inner).head)
    }

    /// Open subscriptions.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.live.receiver_count()
    }
}
