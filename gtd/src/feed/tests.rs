//! The bus over a real ledger.

use gtd_proto::Frame;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ledger::{NewEvent, Write, open};

struct Town {
    _dir: crate::ledger::scratch::Scratch,
    ledger: Ledger,
    bus: Bus,
}

fn town(capacity: usize) -> Town {
    let dir = crate::ledger::scratch::dir();
    let ledger = open(dir.path()).ledger;
    Town { bus: Bus::new(ledger.clone(), capacity), ledger, _dir: dir }
}

fn event(kind: &'static str, agent: &str) -> Write {
    let at = "2026-03-01T12:00:00Z".parse().unwrap();
    Write::Event(NewEvent::of(at, kind, &agent.parse().unwrap(), json!({})))
}

impl Town {
    async fn commit(&self, count: usize) -> Vec<Event> {
        self.ledger.commit((0..count).map(|_| event("x", "deacon")).collect()).await.unwrap()
    }

    async fn tell(&self, count: usize) {
        self.bus.publish(self.commit(count).await);
    }
}

/// A frame as a word: the number of an event, `lagged n`, `gap n`.
async fn next(subscription: &mut Subscription) -> String {
    let frame = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.expect("a frame");
    match frame.expect("no end") {
        Frame::Event(event) => event.seq.to_string(),
        Frame::Lagged { lagged } => format!("lagged {lagged}"),
        Frame::Gap { gap } => format!("gap {}", gap.oldest),
    }
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(next(subscription).await);
    }
    words
}

/// Whether nothing more comes, once everything that was told has been taken.
async fn is_quiet(subscription: &mut Subscription) -> bool {
    tokio::time::timeout(Duration::from_millis(20), subscription.next()).await.is_err()
}

#[tokio::test]
async fn the_past_then_the_present_without_gap_or_duplicate() {
    let town = town(16);
    town.tell(1_203).await;
    let mut from_start = town.bus.subscribe(Some(Seq(0)), None, None);
    let mut from_middle = town.bus.subscribe(Some(Seq(1_201)), None, None);
    let mut new_only = town.bus.subscribe(None, None, None);
    assert_eq!(town.bus.subscribers(), 3);
    town.tell(2).await;
    let all: Vec<String> = (1..=1_205).map(|seq| seq.to_string()).collect();
    assert_eq!(take(&mut from_start, 1_205).await, all);
    assert_eq!(take(&mut from_middle, 4).await, all[1_201..]);
    assert_eq!(take(&mut new_only, 2).await, ["1204", "1205"]);
    for subscription in [&mut from_start, &mut from_middle, &mut new_only] {
        assert!(is_quiet(subscription).await);
    }
}

#[tokio::test]
async fn what_is_committed_is_told_only_when_published() {
    let town = town(16);
    let committed = town.commit(2).await;
    // The answer to a read may already carry the number of an event that is not yet told.
    let mut subscription = town.bus.subscribe(Some(Seq(1)), None, None);
    assert!(is_quiet(&mut subscription).await);
    town.bus.publish(committed);
    assert_eq!(take(&mut subscription, 1).await, ["2"]);
    assert!(is_quiet(&mut subscription).await);
    assert_eq!(town.bus.head(), Seq(2));
}

#[tokio::test]
async fn publishers_may_overtake_each_other_and_die() {
    let town = town(16);
    let mut subscription = town.bus.subscribe(None, None, None);
    let (first, second) = (town.commit(1).await, town.commit(1).await);
    town.bus.publish(second.clone());
    assert!(is_quiet(&mut subscription).await, "the second waits for the first");
    town.bus.publish(first);
    town.bus.publish(second);
    assert_eq!(take(&mut subscription, 2).await, ["1", "2"]);

    // The publisher of the third never comes: after a while it is fetched from the ledger.
    let _lost = town.commit(1).await;
    town.tell(1).await;
    assert_eq!(take(&mut subscription, 2).await, ["3", "4"]);
    assert!(is_quiet(&mut subscription).await);
}

#[tokio::test]
async fn what_is_only_described_is_told_too() {
    let town = town(16);
    let mut subscription = town.bus.subscribe(None, None, None);
    town.ledger.describe(vec![event("heartbeat.completed", "deacon")]).await;
    assert_eq!(take(&mut subscription, 1).await, ["1"]);
}

#[tokio::test]
async fn a_slow_reader_is_told_how_much_it_missed_and_goes_on() {
    let town = town(8);
    let mut slow = town.bus.subscribe(None, None, None);
    town.tell(1).await;
    assert_eq!(next(&mut slow).await, "1");
    for _ in 0..20 {
        town.tell(1).await;
    }
    assert_eq!(next(&mut slow).await, "lagged 12");
    assert_eq!(take(&mut slow, 8).await, (14..=21).map(|seq| seq.to_string()).collect::<Vec<_>>());
    town.tell(1).await;
    assert_eq!(next(&mut slow).await, "22");

    // One that still reads the past has not fallen behind.
    let mut late = town.bus.subscribe(Some(Seq(20)), None, None);
    assert_eq!(next(&mut late).await, "21");
    for _ in 0..30 {
        town.tell(1).await;
    }
    assert_eq!(take(&mut late, 31).await, (22..=52).map(|seq| seq.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_is_of_no_use_gets_a_gap_and_all_there_is() {
    let town = town(8);
    town.tell(3).await;
    let mut elsewhere = town.bus.subscribe(Some(Seq(900)), None, None);
    town.tell(1).await;
    assert_eq!(take(&mut elsewhere, 5).await, ["gap 1", "1", "2", "3", "4"]);
    assert!(is_quiet(&mut elsewhere).await);
}

#[tokio::test]
async fn filters_hold_for_the_past_and_the_present() {
    let town = town(16);
    let writes = || {
        vec![
            event("agent.ready", "a/witness"),
            event("agent.exited", "a/witness"),
            event("agent.ready", "b/witness"),
        ]
    };
    town.bus.publish(town.ledger.commit(writes()).await.unwrap());
    let mut ready =
        town.bus.subscribe(Some(Seq(0)), Some(vec!["*.ready".into()]), Some("a".parse().unwrap()));
    let mut b = town.bus.subscribe(Some(Seq(0)), Some(vec![]), Some("b/witness".parse().unwrap()));
    town.bus.publish(town.ledger.commit(writes()).await.unwrap());
    assert_eq!(take(&mut ready, 2).await, ["1", "4"]);
    assert_eq!(take(&mut b, 2).await, ["3", "6"]);
    assert!(is_quiet(&mut ready).await && is_quiet(&mut b).await);
}

#[tokio::test]
async fn a_past_that_cannot_be_read_ends_the_stream() {
    let town = town(16);
    town.tell(3).await;
    let mut past = town.bus.subscribe(Some(Seq(1)), None, None);
    town.ledger.clone().close().await;
    assert!(past.next().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of commits, publications, subscriptions and reads: numbers grow, and none is
    /// missing that no frame accounts for.
    #[test]
    fn every_event_is_told_once_or_accounted_for(steps in prop::collection::vec((0u8..4, 1usize..6), 1..40), since in 0u64..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let town = town(4);
            town.tell(3).await;
            let mut subscription = town.bus.subscribe(Some(Seq(since)), None, None);
            let (mut held, mut last, mut read) = (Vec::new(), 3, since);
            for (step, count) in steps {
                match step {
                    0 => { town.tell(count).await; last += count as u64 }
                    1 => { held.push(town.commit(count).await); last += count as u64 }
                    2 => held.drain(..).rev().for_each(|events| town.bus.publish(events)),
                    _ => for _ in 0..count {
                        if read < town.bus.head().0 { read = advance(read, &next(&mut subscription).await) }
                    },
                }
            }
            held.drain(..).rev().for_each(|events| town.bus.publish(events));
            while read < last {
                read = advance(read, &next(&mut subscription).await);
            }
            assert_eq!(read, last);
            assert!(is_quiet(&mut subscription).await);
        });
    }
}

/// Checks a frame against what was read before.
fn advance(read: u64, frame: &str) -> u64 {
    match frame.strip_prefix("lagged ") {
        Some(lagged) => read + lagged.parse::<u64>().unwrap(),
        None => {
            assert_eq!(frame.parse::<u64>().unwrap(), read + 1);
            read + 1
        }
    }
}
