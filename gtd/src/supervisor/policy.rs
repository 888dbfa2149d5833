//! When a dead agent is started again: a table, written as one pure function.
//!
//! Nothing here reads a clock, rolls dice or acts. Time comes in as `now`, chance as a number between
//! -1 and 1, and the answer is a [`Verdict`] with its reason. The table itself is [`TABLE`]: the first row that
//! fits a death says whether it counts and what follows; the numbers then say when.

mod numbers;

use std::time::Duration;

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};

pub use numbers::Numbers;

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
    /// Times of the deaths since it last got anywhere, oldest first; never more than `churn_deaths` of them.
    #[serde(default)]
    pub deaths: Vec<Timestamp>,
    /// How many quarantines there were in a row: each is twice as long as the one before.
    #[serde(default)]
    pub quarantines: u32,
    /// The end of the last quarantine: while it lasted, nothing could fail.
    #[serde(default)]
    pub resumed: Option<Timestamp>,
    /// The present life is the one try after a quarantine.
    #[serde(default)]
    pub half_open: bool,
}

/// How a life ended, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked for it: a stop, a drain, a pause, a parked rig.
    Requested,
    /// The machine was restarted: no failure of the agent's.
    Reboot,
    /// It was frozen by a pause, and ended from outside: no failure of the agent's.
    Frozen,
    /// A person ended it at its terminal.
    Person,
    /// Its provider's limit was recognised; it is lifted after this time.
    Limited(Duration),
    /// The program or its directory cannot be used at all: trying again changes nothing.
    Permanent,
    /// By itself, code 0.
    Clean,
    /// Anything else.
    Failure,
}

/// A death, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// How it ended.
    pub ending: Ending,
    /// How long the agent's process lived.
    pub uptime: Duration,
    /// Work was on its hook that is not closed.
    pub open_work: bool,
    /// Its role is kept running whether there is work or not.
    pub always_on: bool,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Nothing: it was asked for, or there is nothing left to do.
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
        /// Failures, or deaths without progress, that led to it.
        failures: u32,
    },
    /// Leave it to the person who ended it.
    Hold {
        /// How long from the death; `None` is until somebody brings it back.
        period: Option<Duration>,
    },
    /// Wait until its account may go on.
    Throttle {
        /// How long from the death.
        period: Duration,
    },
    /// Leave it until what is wrong has changed.
    Broken,
}

/// What a row of the table leads to; the numbers make a [`Next`] of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays ended.
    Rest,
    /// It is started again at once.
    Again,
    /// It is started again after a delay that grows with each failure, or quarantined.
    BackOff,
    /// It stays ended until its person wants it back.
    Hold,
    /// It waits for its account.
    Throttle,
    /// It waits for its program and its directory.
    Broken,
}

/// One row: which deaths, whether they count, and what follows.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which deaths, in words.
    pub death: &'static str,
    /// Which deaths. Of several rows that fit, the first one holds.
    pub fits: fn(&Death, &Numbers) -> bool,
    /// It is a failure: for the row of failures and the window.
    pub counts: bool,
    /// It is one of the deaths without progress that make slow churn.
    pub churns: bool,
    /// What follows.
    pub then: Then,
    /// Why, in words for people.
    pub why: &'static str,
}

macro_rules! table {
    ($($death:literal, $fits:expr => $counts:literal, $churns:literal, $then:ident, $why:literal;)*) => {
        /// The restart policy.
        pub const TABLE: &[Row] = &[$(Row {
            death: $death,
            fits: $fits,
            counts: $counts,
            churns: $churns,
            then: Then::$then,
            why: $why,
        }),*];
    };
}

#[rustfmt::skip]
table! {
//  which death                              fits                                                      counts churns then
    "requested: stop, drain, pause, park",   |d, _| d.ending == Ending::Requested                   => false, false, Rest,     "it was asked to end";
    "restart of the machine",                |d, _| d.ending == Ending::Reboot                      => false, false, Again,    "the machine was restarted";
    "killed while frozen by a pause",        |d, _| d.ending == Ending::Frozen                      => false, false, Again,    "it was paused: what ended it came from outside";
    "a person's",                            |d, _| d.ending == Ending::Person                      => false, false, Hold,     "a person ended it at its terminal";
    "provider limit recognised",             |d, _| matches!(d.ending, Ending::Limited(_))          => false, false, Throttle, "its account has reached a limit of its provider";
    "launch error that does not pass",       |d, _| d.ending == Ending::Permanent                   => true,  false, Broken,   "it cannot be launched until its program and directory are there";
    "clean, with open work",                 |d, _| d.ending == Ending::Clean && d.open_work        => true,  true,  BackOff,  "it ended with open work";
    "clean, nothing to do, not always on",   |d, _| d.ending == Ending::Clean && !d.always_on       => false, false, Rest,     "it ended by itself, and nothing is left to do";
    "clean, always on, lived long enough",   |d, n| d.ending == Ending::Clean && d.uptime >= n.min_uptime
                                                                                                    => false, true,  Again,    "it ended by itself, and its role is always on";
    "clean, always on, too soon",            |d, _| d.ending == Ending::Clean                       => true,  true,  BackOff,  "it ended by itself too soon";
    "a failure, with nothing to do",          |d, _| d.ending == Ending::Failure && !d.open_work && !d.always_on
                                                                                                    => true,  true,  Rest,     "it failed, and nothing is left to do";
    "anything else",                         |_, _| true                                            => true,  true,  BackOff,  "it failed";
}

/// The last row, for those who ask the table with something that no row fits. There is nothing of the kind.
const ANYTHING_ELSE: Row = Row {
    death: "anything else",
    fits: |_, _| true,
    counts: true,
    churns: true,
    then: Then::BackOff,
    why: "it failed",
};

/// The row that a death falls under.
#[must_use]
pub fn row(death: &Death, numbers: &Numbers) -> Row {
    TABLE.iter().find(|row| (row.fits)(death, numbers)).copied().unwrap_or(ANYTHING_ELSE)
}

/// Decides what follows from a death, and remembers it.
///
/// `chance` is a number between -1 and 1.
#[must_use]
pub fn decide(memory: &mut Memory, death: &Death, now: Timestamp, chance: f64, numbers: &Numbers) -> Verdict {
    if death.uptime >= numbers.healthy_after {
        lived_healthily(memory);
    }
    forget(memory, now, numbers);
    let row = row(death, numbers);
    let relapse = memory.half_open && row.counts;
    if row.counts {
        remember(memory, now, numbers);
    }
    if row.churns {
        memory.deaths.push(now);
        keep_last(&mut memory.deaths, numbers.churn_deaths);
    }
    let quarantine = matches!(row.then, Then::Again | Then::BackOff)
        .then(|| breaker(memory, relapse, &row, numbers))
        .flatten();
    let (next, reason) = match (quarantine, row.then) {
        (Some((failures, reason)), _) => {
            let period = quarantine_period(memory.quarantines, numbers);
            memory.quarantines = memory.quarantines.saturating_add(1);
            memory.half_open = true;
            memory.resumed = Some(after(now, period));
            (Next::Quarantine { period, failures }, reason)
        }
        (None, Then::BackOff) => {
            let often = match memory.consecutive {
                0 | 1 => "for the first time in a while".to_owned(),
                n => format!("{n} times in a row"),
            };
            (
                Next::Start { delay: delay(memory.consecutive, chance, numbers) },
                format!("{} {often}", row.why),
            )
        }
        (None, then) => (plain(then, death, numbers), row.why.to_owned()),
    };
    Verdict { next, counts: row.counts, reason }
}

fn plain(then: Then, death: &Death, numbers: &Numbers) -> Next {
    match then {
        Then::Rest => Next::Rest,
        Then::Again | Then::BackOff => Next::Start { delay: Duration::ZERO },
        Then::Hold => Next::Hold { period: numbers.hold },
        Then::Broken => Next::Broken,
        Then::Throttle => match death.ending {
            Ending::Limited(period) => Next::Throttle { period },
            _ => Next::Throttle { period: Duration::ZERO },
        },
    }
}

/// Whether it is too much, and what of.
fn breaker(memory: &Memory, relapse: bool, row: &Row, numbers: &Numbers) -> Option<(u32, String)> {
    if numbers.burst == 0 {
        return None;
    }
    let many = |times: &[Timestamp]| u32::try_from(times.len()).unwrap_or(u32::MAX);
    let (failures, deaths) = (many(&memory.failures), many(&memory.deaths));
    if relapse {
        return Some((failures, "it failed again at the one try after its quarantine".to_owned()));
    }
    if row.counts && failures >= numbers.burst {
        let window = humantime::format_duration(numbers.window);
        return Some((failures, format!("it failed {failures} times within {window}")));
    }
    if row.churns && numbers.churn_deaths > 0 && deaths >= numbers.churn_deaths {
        let window = humantime::format_duration(numbers.churn_window);
        let reason = format!("it ended {deaths} times within {window} without getting anywhere between");
        return Some((deaths, reason));
    }
    None
}

/// The delay before the restart that follows the `n`th failure in a row.
fn delay(n: u32, chance: f64, numbers: &Numbers) -> Duration {
    if n <= 1 {
        return numbers.initial.min(numbers.max);
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
    progressed(memory);
}

/// To be told when it got somewhere: a finished turn, another work item. What it did before it died the next
/// time was not nothing.
pub fn progressed(memory: &mut Memory) {
    memory.deaths.clear();
}

/// A person's start, or a reset: everything is forgiven.
pub fn forgive(memory: &mut Memory) {
    *memory = Memory::default();
}

fn remember(memory: &mut Memory, now: Timestamp, numbers: &Numbers) {
    if memory.last_failure.is_none_or(|last| since(last, now) > numbers.healthy_after) {
        memory.consecutive = 0;
    }
    memory.consecutive = memory.consecutive.saturating_add(1);
    memory.failures.push(now);
    memory.last_failure = Some(now);
    keep_last(&mut memory.failures, numbers.burst);
}

fn keep_last(times: &mut Vec<Timestamp>, most: u32) {
    let keep = usize::try_from(most.max(1)).unwrap_or(usize::MAX);
    let surplus = times.len().saturating_sub(keep);
    times.drain(..surplus);
}

/// Drops what is too old to matter.
fn forget(memory: &mut Memory, now: Timestamp, numbers: &Numbers) {
    memory.failures.retain(|at| since(*at, now) <= numbers.window);
    memory.deaths.retain(|at| since(*at, now) <= numbers.churn_window);
    // While it was quarantined it could not fail: that time proves nothing.
    let proven_since = memory.last_failure.max(memory.resumed);
    if proven_since.is_some_and(|since_then| since(since_then, now) > numbers.quarantine_max) {
        memory.quarantines = 0;
        memory.half_open = false;
        memory.resumed = None;
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
mod tests;
