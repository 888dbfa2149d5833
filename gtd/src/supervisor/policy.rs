//! When a dead agent is started again: a table, written as one pure function.
//!
//! Nothing here reads a clock, rolls dice or acts. Time comes in as `now`, chance as a number between
//! -1 and 1, and the answer is a [`Verdict`] with its reason.

use std::time::Duration;

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};

/// The numbers of the policy, from `[restart]` of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Delay before the first restart after a healthy life.
    pub initial: Duration,
    /// Delay before the second restart in a row.
    pub base: Duration,
    /// What each further delay is multiplied with.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// Share of the delay by which chance moves it, up and down.
    pub jitter: f64,
    /// A clean end sooner than this counts as a failure.
    pub min_uptime: Duration,
    /// A life as long as this ends a row of failures.
    pub healthy_after: Duration,
    /// This many failures within `window` lead to quarantine; 0: never.
    pub burst: u32,
    /// The sliding window.
    pub window: Duration,
    /// The first quarantine.
    pub quarantine: Duration,
    /// The longest quarantine, and how long without a failure until the doubling is forgotten.
    pub quarantine_max: Duration,
    /// How long to wait after a death for others before anything is decided.
    pub settle: Duration,
}

impl Default for Numbers {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            initial: Duration::ZERO,
            base: Duration::from_secs(1),
            factor: 2.0,
            max: minutes(5),
            jitter: 0.2,
            min_uptime: Duration::from_secs(10),
            healthy_after: minutes(10),
            burst: 5,
            window: minutes(15),
            quarantine: minutes(30),
            quarantine_max: minutes(24 * 60),
            settle: Duration::from_millis(20),
        }
    }
}

/// What the policy remembers of an agent. Kept in the ledger, so that it outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Failures in a row.
    #[serde(default)]
    pub consecutive: u32,
    /// Times of the failures within the window, oldest first; never more than `burst` of them.
    #[serde(default)]
    pub failures: Vec<Timestamp>,
    /// The last failure, however old.
    #[serde(default)]
    pub last_failure: Option<Timestamp>,
    /// How many quarantines there were in a row: each is twice as long as the one before.
    #[serde(default)]
    pub quarantines: u32,
    /// The present life is the one try after a quarantine.
    #[serde(default)]
    pub half_open: bool,
}

/// How a life ended, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked for it.
    Requested,
    /// By itself, code 0.
    Clean,
    /// The program or its directory cannot be used at all: trying again changes nothing.
    Permanent,
    /// The machine was restarted: no failure of the agent's.
    Reboot,
    /// Anything else.
    Failure,
}

/// What follows from a death.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub next: Next,
    /// It counts against the agent.
    pub counts: bool,
    /// Why, in words for people.
    pub reason: String,
}

/// What to do with a dead agent that should run. Kept in the ledger until it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Nothing: it was asked for.
    Rest,
    /// Start again after this delay, which may be zero.
    Start {
        /// How long from the death.
        delay: Duration,
    },
    /// Leave it for this long, then try once.
    Quarantine {
        /// How long from the death.
        period: Duration,
        /// Failures within the window.
        failures: u32,
    },
    /// Leave it until what is wrong has changed.
    Broken,
}

/// Decides what follows from a death, and remembers it.
///
/// `uptime` is how long the agent's process lived, `chance` a number between -1 and 1.
#[must_use]
pub fn decide(
    memory: &mut Memory,
    ending: Ending,
    uptime: Duration,
    now: Timestamp,
    chance: f64,
    numbers: &Numbers,
) -> Verdict {
    if uptime >= numbers.healthy_after {
        lived_healthily(memory);
    }
    forget(memory, now, numbers);
    let free = |next, reason: &str| Verdict { next, counts: false, reason: reason.to_owned() };
    match ending {
        Ending::Requested => free(Next::Rest, "it was asked to end"),
        Ending::Reboot => free(Next::Start { delay: Duration::ZERO }, "the machine was restarted"),
        Ending::Clean if uptime >= numbers.min_uptime => {
            free(Next::Start { delay: Duration::ZERO }, "it ended by itself, and its role is always on")
        }
        Ending::Permanent => {
            remember(memory, now, numbers);
            Verdict {
                next: Next::Broken,
                counts: true,
                reason: "it cannot be launched until its program and directory are there".to_owned(),
            }
        }
        Ending::Clean | Ending::Failure => {
            let fresh = memory.last_failure.is_none_or(|last| since(last, now) > numbers.healthy_after);
            if fresh {
                memory.consecutive = 0;
            }
            let relapse = memory.half_open;
            remember(memory, now, numbers);
            failed(memory, relapse, chance, numbers)
        }
    }
}

fn failed(memory: &mut Memory, relapse: bool, chance: f64, numbers: &Numbers) -> Verdict {
    let in_window = u32::try_from(memory.failures.len()).unwrap_or(u32::MAX);
    if numbers.burst > 0 && (relapse || in_window >= numbers.burst) {
        let period = quarantine_period(memory.quarantines, numbers);
        memory.quarantines = memory.quarantines.saturating_add(1);
        memory.half_open = true;
        let window = humantime::format_duration(numbers.window);
        let reason = if relapse {
            "it failed again at the one try after its quarantine".to_owned()
        } else {
            format!("it failed {in_window} times within {window}")
        };
        return Verdict { next: Next::Quarantine { period, failures: in_window }, counts: true, reason };
    }
    let delay = delay(memory.consecutive, chance, numbers);
    let reason = match memory.consecutive {
        1 => "it failed for the first time in a while".to_owned(),
        n => format!("it failed {n} times in a row"),
    };
    Verdict { next: Next::Start { delay }, counts: true, reason }
}

/// The delay before the restart that follows the `n`th failure in a row.
fn delay(n: u32, chance: f64, numbers: &Numbers) -> Duration {
    if n <= 1 {
        return numbers.initial;
    }
    let exponent = i32::try_from(n - 2).unwrap_or(i32::MAX).min(1_000);
    let plain = numbers.base.as_secs_f64() * numbers.factor.max(1.0).powi(exponent);
    let moved = plain.min(numbers.max.as_secs_f64()) * (1.0 + numbers.jitter * chance.clamp(-1.0, 1.0));
    Duration::try_from_secs_f64(moved).unwrap_or(numbers.max).min(numbers.max)
}

fn quarantine_period(before: u32, numbers: &Numbers) -> Duration {
    let doubled = 2u32.saturating_pow(before.min(31));
    numbers.quarantine.saturating_mul(doubled).min(numbers.quarantine_max)
}

/// To be told when a life has lasted `healthy_after`: the row of failures is over, and a half-open try has
/// succeeded. The window slides on by itself, and the doubling of quarantines is forgotten only after
/// `quarantine_max` without a failure.
pub fn lived_healthily(memory: &mut Memory) {
    memory.consecutive = 0;
    memory.half_open = false;
}

/// A person's start, or a reset: everything is forgiven.
pub fn forgive(memory: &mut Memory) {
    *memory = Memory::default();
}

fn remember(memory: &mut Memory, now: Timestamp, numbers: &Numbers) {
    memory.consecutive = memory.consecutive.saturating_add(1);
    memory.failures.push(now);
    memory.last_failure = Some(now);
    let keep = usize::try_from(numbers.burst.max(1)).unwrap_or(usize::MAX);
    let surplus = memory.failures.len().saturating_sub(keep);
    memory.failures.drain(..surplus);
}

/// Drops what is too old to matter.
fn forget(memory: &mut Memory, now: Timestamp, numbers: &Numbers) {
    memory.failures.retain(|at| since(*at, now) <= numbers.window);
    if memory.last_failure.is_some_and(|last| since(last, now) > numbers.quarantine_max) {
        memory.quarantines = 0;
    }
}

/// How long `earlier` is before `later`; zero when it is not.
#[must_use]
pub fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or(Duration::ZERO)
}

/// `at` moved by a duration, or as far as instants go.
#[must_use]
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHORT: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
    }

    fn fail(memory: &mut Memory, seconds: u64) -> Next {
        decide(memory, Ending::Failure, SHORT, at(seconds), 0.0, &Numbers::default()).next
    }

    fn start(seconds: u64) -> Next {
        Next::Start { delay: Duration::from_secs(seconds) }
    }

    #[test]
    fn delays_grow_from_nothing_and_then_quarantine_takes_over() {
        let mut memory = Memory::default();
        assert_eq!(fail(&mut memory, 0), start(0));
        assert_eq!(fail(&mut memory, 60), start(1));
        assert_eq!(fail(&mut memory, 120), start(2));
        assert_eq!(fail(&mut memory, 180), start(4));
        let quarantine =
            |minutes: u64, failures| Next::Quarantine { period: Duration::from_secs(minutes * 60), failures };
        assert_eq!(fail(&mut memory, 240), quarantine(30, 5));
        // Half-open: one try, and its failure doubles the period whatever the window says.
        assert_eq!(fail(&mut memory, 240 + 31 * 60), quarantine(60, 1));
        assert_eq!(fail(&mut memory, 240 + 92 * 60), quarantine(120, 1));
        assert_eq!(memory.quarantines, 3);
    }

    #[test]
    fn the_window_slides() {
        let mut memory = Memory::default();
        // Failures 14 minutes apart: never five within fifteen minutes, and never a row either.
        for n in 0..50 {
            assert_eq!(fail(&mut memory, n * 14 * 60), start(0), "failure {n}");
        }
        // Four minutes apart: at most four within any fifteen minutes.
        let mut memory = Memory::default();
        for n in 0..50 {
            assert!(matches!(fail(&mut memory, n * 4 * 60), Next::Start { .. }), "failure {n}");
        }
    }

    #[test]
    fn a_healthy_life_ends_the_row() {
        let numbers = Numbers::default();
        let mut memory = Memory::default();
        for n in 0..4 {
            fail(&mut memory, n);
        }
        let verdict = decide(&mut memory, Ending::Failure, numbers.healthy_after, at(1_000), 0.0, &numbers);
        assert_eq!(verdict.next, start(0));
        assert_eq!(memory.consecutive, 1);
    }

    #[test]
    fn the_doubling_is_forgotten_after_a_day_without_failure() {
        let mut memory = Memory { quarantines: 4, last_failure: Some(at(0)), ..Memory::default() };
        let day = 24 * 3600;
        assert_eq!(fail(&mut memory, day + 1), start(0));
        assert_eq!(memory.quarantines, 0);
    }

    #[test]
    fn clean_ends_count_only_when_they_come_too_soon() {
        let numbers = Numbers::default();
        let mut memory = Memory::default();
        let soon = decide(&mut memory, Ending::Clean, Duration::from_secs(9), at(0), 0.0, &numbers);
        assert!(soon.counts);
        let later = decide(&mut memory, Ending::Clean, Duration::from_secs(10), at(20), 0.0, &numbers);
        assert!(!later.counts);
        assert_eq!(later.next, start(0));
        assert_eq!(memory.consecutive, 1);
    }

    #[test]
    fn what_was_asked_for_or_a_reboot_does_not_count() {
        let numbers = Numbers::default();
        for (ending, next) in [(Ending::Requested, Next::Rest), (Ending::Reboot, start(0))] {
            let mut memory = Memory::default();
            let verdict = decide(&mut memory, ending, SHORT, at(0), 0.0, &numbers);
            assert_eq!((verdict.next, verdict.counts), (next, false));
            assert_eq!(memory, Memory::default());
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_not_tried_again_by_the_clock() {
        let mut memory = Memory::default();
        let verdict = decide(&mut memory, Ending::Permanent, Duration::ZERO, at(0), 0.0, &Numbers::default());
        assert_eq!((verdict.next, verdict.counts), (Next::Broken, true));
    }

    #[test]
    fn burst_zero_switches_quarantine_off() {
        let numbers = Numbers { burst: 0, ..Numbers::default() };
        let mut memory = Memory::default();
        for n in 0..100 {
            let verdict = decide(&mut memory, Ending::Failure, SHORT, at(n), 0.0, &numbers);
            assert!(matches!(verdict.next, Next::Start { .. }), "failure {n}");
        }
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_the_longest_and_every_breaker_opens_again(
            gaps in proptest::collection::vec(0u64..4_000, 1..80),
            chance in -1.0f64..1.0,
        ) {
            let numbers = Numbers::default();
            let mut memory = Memory::default();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let verdict = decide(&mut memory, Ending::Failure, SHORT, at(now), chance, &numbers);
                match verdict.next {
                    Next::Start { delay } => prop_assert!(delay <= numbers.max),
                    Next::Quarantine { period, .. } => {
                        prop_assert!(period >= numbers.quarantine && period <= numbers.quarantine_max);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                prop_assert!(memory.failures.len() <= 5);
            }
        }

        #[test]
        fn quarantine_needs_its_failures_within_the_window(gaps in proptest::collection::vec(0u64..1_000, 1..60)) {
            let numbers = Numbers::default();
            let mut memory = Memory::default();
            let (mut now, mut seen) = (0u64, Vec::new());
            for gap in gaps {
                now += gap;
                seen.push(now);
                let within = seen.iter().filter(|t| now - **t <= numbers.window.as_secs()).count();
                let half_open = memory.half_open;
                let verdict = decide(&mut memory, Ending::Failure, SHORT, at(now), 0.0, &numbers);
                let quarantined = matches!(verdict.next, Next::Quarantine { .. });
                prop_assert_eq!(quarantined, half_open || within >= 5);
            }
        }
    }
}
