//! How many starts are under way at once, and who is next: the first in priority, whenever they asked.
//!
//! A place in the queue is taken when the order is given, not when the agent's task gets to it, so that which
//! task runs first decides nothing. It must never lose a permit: one that is dropped goes to the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gtd_proto::{Address, Role};
use tokio::sync::oneshot;

/// An agent's place in the order of starts; the smallest is the first.
#[must_use]
pub fn rank(agent: &Address) -> u8 {
    match agent.role() {
        Role::Deacon => 0,
        Role::Mayor => 1,
        Role::Boot => 2,
        Role::Witness => 3,
        Role::Refinery => 4,
        Role::Polecat => 5,
        Role::Crew | Role::Unknown => 7,
    }
}

/// The same, with what is on its hook: workers with work go before those without.
#[must_use]
pub fn urgency(agent: &Address, hooked: bool) -> u8 {
    rank(agent) + u8::from(agent.role() == Role::Polecat && !hooked)
}

/// The gate that starts go through. Clones share it.
#[derive(Debug, Clone)]
pub struct Waves {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    under_way: usize,
    asked: u64,
    waiting: BTreeMap<(u8, u64), oneshot::Sender<Permit>>,
}

/// A place in the queue.
#[derive(Debug)]
pub struct Place {
    granted: oneshot::Receiver<Permit>,
}

/// One start may be under way, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Option<Waves>,
}

impl Waves {
    /// A gate that lets so many through at once; at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let inner = Inner { limit: limit.max(1), under_way: 0, asked: 0, waiting: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Changes how many are let through at once; what is under way goes on.
    pub fn set_limit(&self, limit: usize) {
        self.with(|inner| inner.limit = limit.max(1));
        self.let_in();
    }

    /// Takes a place for an agent of this rank.
    #[must_use]
    pub fn queue(&self, rank: u8) -> Place {
        let (sender, granted) = oneshot::channel();
        self.with(|inner| {
            inner.asked += 1;
            let key = (rank, inner.asked);
            inner.waiting.insert(key, sender);
        });
        self.let_in();
        Place { granted }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives free permits to those who are next.
    fn let_in(&self) {
        loop {
            let next = self.with(|inner| {
                if inner.under_way >= inner.limit {
                    return None;
                }
                let (_, sender) = inner.waiting.pop_first()?;
                inner.under_way += 1;
                Some(sender)
            });
            let Some(sender) = next else { return };
            if let Err(permit) = sender.send(Permit { gate: Some(self.clone()) }) {
                permit.give_back();
            }
        }
    }
}

impl Permit {
    /// Without looking for who is next: the caller does.
    fn give_back(mut self) {
        if let Some(gate) = self.gate.take() {
            gate.with(|inner| inner.under_way = inner.under_way.saturating_sub(1));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.with(|inner| inner.under_way = inner.under_way.saturating_sub(1));
            gate.let_in();
        }
    }
}

impl Place {
    /// Waits for its turn. Can be called again when the wait was given up.
    pub async fn turn(&mut self) -> Option<Permit> {
        // The gate lives as long as somebody waits at it; without one the daemon is going down.
        (&mut self.granted).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(place: &mut Place) -> Option<Permit> {
        place.granted.try_recv().ok()
    }

    #[test]
    fn the_first_in_priority_is_next_whenever_it_asked() {
        let gate = Waves::new(2);
        let mut first = [gate.queue(5), gate.queue(5)];
        let held: Vec<_> = first.iter_mut().map(|place| granted(place).unwrap()).collect();
        let (mut polecat, mut refinery, mut witness, mut other) =
            (gate.queue(5), gate.queue(4), gate.queue(3), gate.queue(3));
        assert!(
            [&mut polecat, &mut refinery, &mut witness, &mut other].into_iter().all(|p| granted(p).is_none())
        );
        drop(held);
        let wave = (granted(&mut witness).unwrap(), granted(&mut other).unwrap());
        assert!(granted(&mut refinery).is_none());
        drop(wave.0);
        let refinery = granted(&mut refinery).unwrap();
        assert!(granted(&mut polecat).is_none());
        drop((wave.1, refinery));
        assert!(granted(&mut polecat).is_some());
    }

    #[test]
    fn a_place_that_is_given_up_blocks_nobody() {
        let gate = Waves::new(1);
        let mut one = gate.queue(0);
        let permit = granted(&mut one).unwrap();
        let (gone, unheard, mut last) = (gate.queue(0), gate.queue(1), gate.queue(2));
        drop(gone);
        drop(permit);
        // Given to one that never asks for it, and then lets go of it.
        assert!(granted(&mut last).is_none());
        drop(unheard);
        assert!(granted(&mut last).is_some());
        assert_eq!(gate.with(|inner| (inner.under_way, inner.waiting.len())), (0, 0));
    }

    #[test]
    fn the_limit_can_be_raised_while_they_wait() {
        let gate = Waves::new(1);
        let mut places: Vec<Place> = (0..5).map(|_| gate.queue(3)).collect();
        gate.set_limit(3);
        let held: Vec<_> = places.iter_mut().filter_map(granted).collect();
        assert_eq!(held.len(), 3);
        gate.set_limit(1);
        drop(held);
        let held: Vec<_> = places.iter_mut().filter_map(granted).collect();
        assert_eq!(held.len(), 1);
    }
}
