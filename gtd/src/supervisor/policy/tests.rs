//! The table row by row, the numbers, and what holds for all of them.

use super::*;
use proptest::prelude::*;

const SHORT: Duration = Duration::from_secs(30);
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

fn death(ending: Ending, uptime: Duration) -> Death {
    Death { ending, uptime, open_work: false, always_on: true }
}

fn ended(memory: &mut Memory, ending: Ending, uptime: u64, seconds: u64, numbers: &Numbers) -> Verdict {
    decide(memory, &death(ending, Duration::from_secs(uptime)), at(seconds), 0.0, numbers)
}

fn fail(memory: &mut Memory, seconds: u64) -> Next {
    decide(memory, &death(Ending::Failure, SHORT), at(seconds), 0.0, &Numbers::default()).next
}

fn start(seconds: u64) -> Next {
    Next::Start { delay: Duration::from_secs(seconds) }
}

fn quarantine(minutes: u64, failures: u32) -> Next {
    Next::Quarantine { period: Duration::from_secs(minutes * MINUTE), failures }
}

#[test]
fn the_table_says_of_each_death_whether_it_counts_and_what_follows() {
    use Ending::{Clean, Failure, Frozen, Limited, Permanent, Person, Reboot, Requested};
    let limited = Limited(Duration::from_secs(600));
    // ending, uptime in seconds, open work, always on: the row, counts, churns, then
    let cases = [
        (Requested, 1, false, true, 0, false, false, Then::Rest),
        (Requested, 1, true, false, 0, false, false, Then::Rest),
        (Reboot, 1, true, true, 1, false, false, Then::Again),
        (Frozen, 1, true, false, 2, false, false, Then::Again),
        (Person, 1, true, true, 3, false, false, Then::Hold),
        (limited, 1, true, true, 4, false, false, Then::Throttle),
        (Permanent, 0, true, true, 5, true, false, Then::Broken),
        (Clean, 9_999, true, true, 6, true, true, Then::BackOff),
        (Clean, 1, true, false, 6, true, true, Then::BackOff),
        (Clean, 1, false, false, 7, false, false, Then::Rest),
        (Clean, 10, false, true, 8, false, true, Then::Again),
        (Clean, 9, false, true, 9, true, true, Then::BackOff),
        (Failure, 9_999, false, false, 10, true, true, Then::Rest),
        (Failure, 9_999, false, true, 11, true, true, Then::BackOff),
        (Failure, 0, true, false, 11, true, true, Then::BackOff),
    ];
    let mut used = std::collections::BTreeSet::new();
    for (ending, uptime, open_work, always_on, number, counts, churns, then) in cases {
        let death = Death { ending, uptime: Duration::from_secs(uptime), open_work, always_on };
        let found = row(&death, &Numbers::default());
        assert_eq!(found.death, TABLE[number].death, "{death:?}");
        assert_eq!((found.counts, found.churns, found.then), (counts, churns, then), "{death:?}");
        used.insert(number);
    }
    assert_eq!(used.len(), TABLE.len(), "every row has a case");
}

#[test]
fn what_follows_is_what_the_table_says() {
    let limit = Duration::from_secs(7_200);
    let numbers = Numbers { hold: Some(limit), ..Numbers::default() };
    let cases = [
        (Ending::Requested, Next::Rest, false),
        (Ending::Reboot, start(0), false),
        (Ending::Frozen, start(0), false),
        (Ending::Person, Next::Hold { period: Some(limit) }, false),
        (Ending::Limited(limit), Next::Throttle { period: limit }, false),
        (Ending::Permanent, Next::Broken, true),
        (Ending::Failure, start(0), true),
    ];
    for (ending, next, counts) in cases {
        let mut memory = Memory::default();
        let verdict = decide(&mut memory, &death(ending, SHORT), at(0), 0.0, &numbers);
        assert_eq!((verdict.next, verdict.counts), (next, counts), "{ending:?}");
        assert_eq!(memory.consecutive, u32::from(counts), "{ending:?}");
        if !counts {
            assert_eq!(memory, Memory::default(), "{ending:?} is not remembered");
        }
    }
}

#[test]
fn delays_grow_from_nothing_and_then_quarantine_takes_over() {
    let mut memory = Memory::default();
    assert_eq!(fail(&mut memory, 0), start(0));
    assert_eq!(fail(&mut memory, 60), start(1));
    assert_eq!(fail(&mut memory, 120), start(2));
    assert_eq!(fail(&mut memory, 180), start(4));
    assert_eq!(fail(&mut memory, 240), quarantine(30, 5));
    // Half-open: one try, and its failure doubles the period whatever the window says.
    assert_eq!(fail(&mut memory, 240 + 31 * 60), quarantine(60, 1));
    assert_eq!(fail(&mut memory, 240 + 92 * 60), quarantine(120, 1));
    assert_eq!(memory.quarantines, 3);
}

#[test]
fn the_window_slides() {
    let numbers = Numbers { churn_deaths: 0, ..Numbers::default() };
    // Failures 14 minutes apart: never five within fifteen minutes, and never a row either.
    let mut memory = Memory::default();
    for n in 0..50 {
        assert_eq!(ended(&mut memory, Ending::Failure, 30, n * 14 * MINUTE, &numbers).next, start(0), "{n}");
    }
    // Four minutes apart: at most four within any fifteen minutes.
    let mut memory = Memory::default();
    for n in 0..50 {
        let next = ended(&mut memory, Ending::Failure, 30, n * 4 * MINUTE, &numbers).next;
        assert!(matches!(next, Next::Start { .. }), "failure {n}");
    }
}

#[test]
fn slow_churn_is_quarantined_though_it_never_fills_the_window() {
    // A death every five minutes: four within any fifteen minutes, the sixth without anything between.
    let mut memory = Memory::default();
    for n in 0..5 {
        assert!(matches!(fail(&mut memory, n * 5 * MINUTE), Next::Start { .. }), "death {n}");
    }
    let sixth = ended(&mut memory, Ending::Failure, 290, 25 * MINUTE, &Numbers::default());
    assert_eq!(sixth.next, quarantine(30, 6));
    assert!(sixth.reason.contains("6 times within 6h without getting anywhere"), "{}", sixth.reason);
    // A finished turn between is progress, and so is a healthy life: then it may go on for ever.
    let mut memory = Memory::default();
    for n in 0..100 {
        if n % 5 == 0 {
            progressed(&mut memory);
        }
        assert!(matches!(fail(&mut memory, n * 5 * MINUTE), Next::Start { .. }), "death {n}");
    }
    // Six deaths in more than six hours are none of the kind.
    let mut memory = Memory::default();
    for n in 0..50 {
        assert!(matches!(fail(&mut memory, n * 73 * MINUTE), Next::Start { .. }), "death {n}");
    }
}

#[test]
fn an_agent_that_only_ever_ends_cleanly_after_a_minute_is_slow_churn_too() {
    let numbers = Numbers::default();
    let mut memory = Memory::default();
    for n in 0..5 {
        let verdict = ended(&mut memory, Ending::Clean, 60, n * 61, &numbers);
        assert_eq!((verdict.next, verdict.counts), (start(0), false), "end {n}");
    }
    assert_eq!(ended(&mut memory, Ending::Clean, 60, 5 * 61, &numbers).next, quarantine(30, 6));
    // The one try ends the same way: twice as long, and so on to the longest; it never starts in step for ever.
    let mut now = 5 * 61 + 31 * MINUTE;
    for minutes in [60, 120, 240] {
        assert_eq!(ended(&mut memory, Ending::Clean, 60, now, &numbers).next, quarantine(minutes, 6));
        now += (minutes + 2) * MINUTE;
    }
}

#[test]
fn instant_ends_with_code_0_and_1_are_quarantined_at_the_fifth() {
    for ending in [Ending::Clean, Ending::Failure] {
        let (mut memory, mut now) = (Memory::default(), 0);
        let numbers = Numbers::default();
        let mut starts = 0;
        loop {
            starts += 1;
            match ended(&mut memory, ending, 0, now, &numbers).next {
                Next::Start { delay } => now += delay.as_secs(),
                Next::Quarantine { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((starts, now), (5, 7), "{ending:?}");
    }
}

#[test]
fn a_healthy_life_ends_the_row() {
    let mut memory = Memory::default();
    for n in 0..4 {
        fail(&mut memory, n);
    }
    let healthy = Numbers::default().healthy_after.as_secs();
    let verdict = ended(&mut memory, Ending::Failure, healthy, 1_000, &Numbers::default());
    assert_eq!(verdict.next, start(0));
    assert_eq!((memory.consecutive, memory.deaths.len()), (1, 1));
}

#[test]
fn the_doubling_is_forgotten_after_a_day_without_failure() {
    let mut memory = Memory { quarantines: 4, last_failure: Some(at(0)), ..Memory::default() };
    assert_eq!(fail(&mut memory, DAY + 1), start(0));
    assert_eq!(memory.quarantines, 0);
}

#[test]
fn the_longest_quarantine_is_not_forgotten_by_serving_it() {
    let mut memory = Memory { quarantines: 9, half_open: true, ..Memory::default() };
    assert_eq!(fail(&mut memory, 0), quarantine(24 * 60, 1));
    // It was a day without a failure, and the agent was not even there.
    assert_eq!(fail(&mut memory, DAY + 60), quarantine(24 * 60, 1));
    // A day after that one's end, it is.
    assert_eq!(fail(&mut memory, 3 * DAY + 200), start(0));
    assert_eq!((memory.quarantines, memory.half_open), (0, false));
}

#[test]
fn a_burst_of_zero_switches_quarantine_off_and_churn_can_be_switched_off_alone() {
    let off = Numbers { burst: 0, ..Numbers::default() };
    let mut memory = Memory::default();
    for n in 0..100 {
        let next = ended(&mut memory, Ending::Failure, 30, n, &off).next;
        assert!(matches!(next, Next::Start { .. }), "failure {n}");
    }
    assert!(memory.failures.len() <= 1 && memory.deaths.len() <= 6);
    let no_churn = Numbers { churn_deaths: 0, ..Numbers::default() };
    let mut memory = Memory::default();
    for n in 0..100 {
        let next = ended(&mut memory, Ending::Failure, 30, n * 5 * MINUTE, &no_churn).next;
        assert!(matches!(next, Next::Start { .. }), "failure {n}");
    }
    assert_eq!(ended(&mut Memory::default(), Ending::Failure, 30, 0, &no_churn).next, start(0));
}

#[test]
fn a_memory_of_an_earlier_version_is_read() {
    let old = r#"{"consecutive":2,"failures":[],"last_failure":null,"quarantines":1,"half_open":true}"#;
    let memory: Memory = serde_json::from_str(old).unwrap();
    assert_eq!((memory.consecutive, memory.quarantines, memory.half_open), (2, 1, true));
    assert!(memory.deaths.is_empty());
}

fn any_numbers() -> impl Strategy<Value = Numbers> {
    (0u32..8, 0u32..8, 1u64..3_600, 1u64..40_000, 1u64..3_000, 1u64..100_000, 0f64..1.0, 1f64..10.0).prop_map(
        |(burst, churn_deaths, window, churn_window, quarantine, quarantine_max, jitter, factor)| Numbers {
            burst,
            churn_deaths,
            window: Duration::from_secs(window),
            churn_window: Duration::from_secs(churn_window),
            quarantine: Duration::from_secs(quarantine),
            quarantine_max: Duration::from_secs(quarantine_max),
            jitter,
            factor,
            ..Numbers::default()
        },
    )
}

fn any_death() -> impl Strategy<Value = Death> {
    let ending = prop_oneof![
        Just(Ending::Requested),
        Just(Ending::Reboot),
        Just(Ending::Person),
        (0u64..100_000).prop_map(|s| Ending::Limited(Duration::from_secs(s))),
        Just(Ending::Permanent),
        Just(Ending::Clean),
        Just(Ending::Failure),
        Just(Ending::Failure),
    ];
    (ending, 0u64..1_500, any::<bool>(), any::<bool>()).prop_map(|(ending, uptime, open_work, always_on)| {
        Death { ending, uptime: Duration::from_secs(uptime), open_work, always_on }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn whatever_dies_however_nothing_waits_too_long_and_every_breaker_opens_again(
        numbers in any_numbers(),
        deaths in proptest::collection::vec((any_death(), 0u64..10_000, -1.0f64..1.0), 1..60),
    ) {
        let mut memory = Memory::default();
        let mut now = 0;
        for (death, gap, chance) in deaths {
            now += gap;
            let verdict = decide(&mut memory, &death, at(now), chance, &numbers);
            match verdict.next {
                Next::Start { delay } => prop_assert!(delay <= numbers.max),
                Next::Quarantine { period, failures } => {
                    prop_assert!(numbers.burst > 0);
                    prop_assert!(period <= numbers.quarantine_max);
                    prop_assert!(period >= numbers.quarantine.min(numbers.quarantine_max));
                    prop_assert!(failures > 0);
                    prop_assert!(memory.half_open, "its end is one try");
                    // It is over by itself, and a healthy life after it forgives.
                    now += period.as_secs();
                    let mut well = memory.clone();
                    lived_healthily(&mut well);
                    prop_assert!(!well.half_open && well.consecutive == 0 && well.deaths.is_empty());
                }
                Next::Throttle { period } => prop_assert_eq!(death.ending, Ending::Limited(period)),
                Next::Hold { period } => {
                    prop_assert_eq!(death.ending, Ending::Person);
                    prop_assert_eq!(period, numbers.hold);
                }
                Next::Broken => prop_assert_eq!(death.ending, Ending::Permanent),
                Next::Rest => prop_assert!(!verdict.counts || !(death.open_work || death.always_on)),
            }
            prop_assert!(memory.failures.len() <= usize::try_from(numbers.burst.max(1)).unwrap());
            prop_assert!(memory.deaths.len() <= usize::try_from(numbers.churn_deaths.max(1)).unwrap());
            prop_assert!(!verdict.reason.is_empty());
        }
    }

    #[test]
    fn quarantine_needs_its_failures_within_the_window(
        gaps in proptest::collection::vec(0u64..1_000, 1..60),
    ) {
        let numbers = Numbers { churn_deaths: 0, ..Numbers::default() };
        let mut memory = Memory::default();
        let (mut now, mut seen) = (0u64, Vec::new());
        for gap in gaps {
            now += gap;
            seen.push(now);
            let within = seen.iter().filter(|t| now - **t <= numbers.window.as_secs()).count();
            let half_open = memory.half_open;
            let next = ended(&mut memory, Ending::Failure, 30, now, &numbers).next;
            let quarantined = matches!(next, Next::Quarantine { .. });
            prop_assert_eq!(quarantined, half_open || within >= 5);
        }
    }

    #[test]
    fn churn_needs_its_deaths_within_its_window_and_nothing_between(
        steps in proptest::collection::vec((0u64..9_000, any::<bool>(), 0u8..4), 1..60),
    ) {
        // A burst that never fills: only churn can quarantine.
        let numbers = Numbers { burst: 1_000, ..Numbers::default() };
        let mut memory = Memory::default();
        let (mut now, mut since_progress) = (0u64, Vec::new());
        for (gap, clean, progress) in steps {
            now += gap;
            if progress == 0 {
                progressed(&mut memory);
                since_progress.clear();
            }
            since_progress.push(now);
            let within =
                since_progress.iter().filter(|t| now - **t <= numbers.churn_window.as_secs()).count();
            let half_open = memory.half_open;
            let ending = if clean { Ending::Clean } else { Ending::Failure };
            let verdict = ended(&mut memory, ending, 60, now, &numbers);
            let quarantined = matches!(verdict.next, Next::Quarantine { .. });
            prop_assert_eq!(quarantined, (half_open && !clean) || within >= 6);
        }
    }

    #[test]
    fn a_longer_life_is_never_judged_harder(death in any_death(), more in 0u64..2_000, gap in 0u64..2_000) {
        let numbers = Numbers::default();
        let mut memory = Memory::default();
        let _ = fail(&mut memory, 0);
        let mut other = memory.clone();
        let longer = Death { uptime: death.uptime + Duration::from_secs(more), ..death };
        let short = decide(&mut memory, &death, at(gap), 0.0, &numbers);
        let long = decide(&mut other, &longer, at(gap), 0.0, &numbers);
        prop_assert!(short.counts || !long.counts);
        if let (Next::Start { delay: a }, Next::Start { delay: b }) = (short.next, long.next) {
            prop_assert!(b <= a);
        }
    }
}
