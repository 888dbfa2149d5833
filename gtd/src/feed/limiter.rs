//! How often one hook runs: the edge is told at once, repetitions are counted, and what was counted is told.
//!
//! Pure: the present instant is given. Must never swallow an event without counting it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gtd_proto::{Event, Seq};
use serde_json::Value;

/// The numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// The same thing is told once in this time, and what was left out is told after it.
    pub(super) window: Duration,
    /// Most runs of one hook in that time, beside the one that tells what was left out.
    pub(super) most: usize,
}

impl Default for Rate {
    /// A person reads ten notifications a minute, if that.
    fn default() -> Self {
        Self { window: Duration::from_secs(60), most: 10 }
    }
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Run,
    Counted,
}

/// Events that were left out and not yet told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LeftOut {
    /// The last of them.
    pub(super) last: Event,
    /// How many there were before that one.
    pub(super) more: u64,
    first: Seq,
    due: Instant,
}

/// The state of one hook.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    /// When each thing was told last.
    told: BTreeMap<String, Instant>,
    runs: VecDeque<Instant>,
    left_out: Option<LeftOut>,
}

/// What two events have in common that tell the same thing.
fn key(event: &Event) -> String {
    let fact =
        ["id", "reason", "message"].iter().find_map(|name| event.data.get(*name).and_then(Value::as_str));
    let agent = event.agent.as_ref().map(ToString::to_string).unwrap_or_default();
    // Of an agent the same kind is the same thing, whatever it gives as its reason.
    let fact = fact.filter(|_| event.agent.is_none()).unwrap_or_default();
    let rig = event.rig.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{} {agent} {rig} {fact}", event.kind)
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, told: BTreeMap::new(), runs: VecDeque::new(), left_out: None }
    }

    /// An event came.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> Verdict {
        let window = self.rate.window;
        self.told.retain(|_, at| now.saturating_duration_since(*at) < window);
        self.forget_runs(now);
        let key = key(event);
        // Incidents are bounded by what makes them, and each is worth a word.
        let urgent = event.kind.starts_with("incident.");
        let again = self.told.contains_key(&key);
        if !again && (urgent || self.runs.len() < self.rate.most) {
            self.told.insert(key, now);
            self.runs.push_back(now);
            return Verdict::Run;
        }
        self.left_out = Some(match self.left_out.take() {
            Some(before) => LeftOut { last: event.clone(), more: before.more + 1, ..before },
            None => LeftOut { last: event.clone(), more: 0, first: event.seq, due: now + window },
        });
        Verdict::Counted
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.left_out.as_ref().map(|left_out| left_out.due)
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: Instant) -> Option<LeftOut> {
        let told = self.left_out.take_if(|left_out| left_out.due <= now)?;
        // It counts as told just now, so that what goes on comes once in a window.
        self.told.insert(key(&told.last), now);
        Some(told)
    }

    /// Everything before this event was told.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.left_out.as_ref().map(|left_out| left_out.first)
    }

    fn forget_runs(&mut self, now: Instant) {
        while self.runs.front().is_some_and(|at| now.saturating_duration_since(*at) >= self.rate.window) {
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(seq: u64, kind: &str, agent: &str, data: Value) -> Event {
        Event {
            seq: Seq(seq),
            at: "2026-03-01T12:00:00Z".parse().unwrap(),
            kind: kind.to_owned(),
            agent: agent.parse().ok(),
            rig: None,
            instance: None,
            cause: None,
            peer: None,
            data,
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_edge_is_told_repetitions_are_counted_and_told_once() {
        let mut limiter = Limiter::new(Rate::default());
        let zero = Instant::now();
        assert_eq!(limiter.take(&event(1, "agent.quarantined", "a/witness", json!({})), zero), Verdict::Run);
        assert_eq!(limiter.take(&event(2, "agent.quarantined", "b/witness", json!({})), zero), Verdict::Run);
        for n in 3..8 {
            let again = event(n, "agent.quarantined", "a/witness", json!({"reason": n.to_string()}));
            assert_eq!(limiter.take(&again, zero + secs(n)), Verdict::Counted);
        }
        assert_eq!((limiter.oldest(), limiter.due()), (Some(Seq(3)), Some(zero + secs(63))));
        assert_eq!(limiter.tell(zero + secs(62)), None);
        let told = limiter.tell(zero + secs(63)).unwrap();
        assert_eq!((told.last.seq, told.more), (Seq(7), 4));
        assert_eq!((limiter.oldest(), limiter.due(), limiter.tell(zero + secs(90))), (None, None, None));
        // It goes on: once a window.
        let again = event(9, "agent.quarantined", "a/witness", json!({}));
        assert_eq!(limiter.take(&again, zero + secs(100)), Verdict::Counted);
        // It stopped, and comes back: an edge.
        limiter.tell(zero + secs(200));
        assert_eq!(limiter.take(&again, zero + secs(300)), Verdict::Run);
    }

    #[test]
    fn a_flood_of_different_things_is_bounded_and_incidents_are_not() {
        let mut limiter = Limiter::new(Rate::default());
        let zero = Instant::now();
        let runs = (0..500)
            .filter(|n| {
                let agent = format!("r{n}/witness");
                limiter.take(&event(*n + 1, "agent.exited", &agent, json!({})), zero) == Verdict::Run
            })
            .count();
        assert_eq!(runs, 10);
        for n in 0..20 {
            let incident = event(600 + n, "incident.opened", "", json!({"id": format!("i{n}")}));
            assert_eq!(limiter.take(&incident, zero), Verdict::Run);
            assert_eq!(limiter.take(&incident, zero), Verdict::Counted, "the same one again");
        }
        assert_eq!(limiter.tell(zero + secs(60)).unwrap().more, 490 + 20 - 1);
    }

    proptest! {
        /// Whatever comes when: every event is run or counted, and what was counted is told.
        #[test]
        fn nothing_is_swallowed(steps in prop::collection::vec((0u64..30, 0usize..4), 1..200)) {
            let mut limiter = Limiter::new(Rate { window: secs(60), most: 3 });
            let mut now = Instant::now();
            let (mut run, mut told, mut seq) = (0, 0, 0);
            for (wait, what) in steps {
                now += secs(wait);
                told += limiter.tell(now).map_or(0, |left_out| left_out.more + 1);
                seq += 1;
                let event = event(seq, "agent.exited", &format!("r{what}/witness"), json!({}));
                run += u64::from(limiter.take(&event, now) == Verdict::Run);
                prop_assert_eq!(limiter.oldest().is_some(), limiter.due().is_some());
            }
            told += limiter.tell(now + secs(60)).map_or(0, |left_out| left_out.more + 1);
            prop_assert_eq!(run + told, seq);
            prop_assert!(limiter.told.len() <= 4);
        }
    }
}
