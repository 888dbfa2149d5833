//! The two clocks, and deadlines that survive a wall clock set by hand, a suspended machine and a reboot.
//!
//! Everything that decides takes a [`Now`] as an argument; only the edges ask a [`Clock`]. Nothing here
//! sleeps or does I/O beyond reading a clock.

mod line;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

pub use line::{Anchor, Timeline};

/// One instant, told by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock: comparable over reboots, but people and time servers set it.
    pub wall: Timestamp,
    /// Time since boot, suspended time included: nobody sets it, but it means nothing after a reboot.
    pub boot: Duration,
}

/// Which of the two clocks a deadline holds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Holds {
    /// So much time must pass.
    Span,
    /// The wall clock must show this.
    Wall,
}

/// An instant in the future that is told by both clocks.
///
/// A deadline made with [`Deadline::after`] waits for a span of time: setting the wall clock changes what it
/// looks like, not when it is due. One made with [`Deadline::at`] waits for the wall clock, because the
/// instant came from outside (a provider's reset time, `until` of a request). Stored as JSON; after a
/// reboot, or when it is not known whether there was one, [`Deadline::rebased`] must be called once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// When the wall clock should show it.
    wall: Timestamp,
    /// When the boot clock shows it, in the boot in which it was made or rebased.
    boot: Duration,
    /// The span asked for: the most that can be left.
    span: Duration,
    holds: Holds,
}

impl Deadline {
    /// Due when `span` has passed, suspended time included.
    #[must_use]
    pub fn after(now: Now, span: Duration) -> Self {
        Self { wall: later(now.wall, span), boot: now.boot.saturating_add(span), span, holds: Holds::Span }
    }

    /// Due when the wall clock shows `wall`, or has been set beyond it.
    #[must_use]
    pub fn at(now: Now, wall: Timestamp) -> Self {
        let span = until(now.wall, wall);
        Self { wall, boot: now.boot.saturating_add(span), span, holds: Holds::Wall }
    }

    /// What is left: zero when it is due.
    #[must_use]
    pub fn remaining(&self, now: Now) -> Duration {
        match self.holds {
            Holds::Span => self.boot.saturating_sub(now.boot),
            Holds::Wall => until(now.wall, self.wall),
        }
    }

    /// Whether it is due.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.remaining(now).is_zero()
    }

    /// The instant to show: what the wall clock will say when it is due, as far as is known now.
    #[must_use]
    pub fn wall(&self, now: Now) -> Timestamp {
        match self.holds {
            Holds::Span if self.is_due(now) => self.wall,
            Holds::Span => later(now.wall, self.remaining(now)),
            Holds::Wall => self.wall,
        }
    }

    /// The same deadline on the clocks of another boot. Only the wall clock can say how much time has
    /// passed; a wall clock that went backwards meanwhile cannot make it wait longer than it was to at first.
    #[must_use]
    pub fn rebased(self, now: Now) -> Self {
        let left = match self.holds {
            Holds::Span => until(now.wall, self.wall).min(self.span),
            Holds::Wall => until(now.wall, self.wall),
        };
        let wall = match self.holds {
            Holds::Span if left.is_zero() => self.wall,
            Holds::Span => later(now.wall, left),
            Holds::Wall => self.wall,
        };
        Self { wall, boot: now.boot.saturating_add(left), ..self }
    }
}

/// `at` plus `span`, at most the last instant there is.
fn later(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

/// From one instant to another; zero when the other is past.
fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// How far apart the clocks have drifted between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shift {
    /// Time for which the machine did not run.
    pub suspended: Duration,
    /// How far the wall clock was set forwards (or, negative, backwards) besides.
    pub wall: SignedDuration,
}

impl Shift {
    /// Below this a shift is the ordinary slew of a time server and the reading of three clocks one after
    /// the other.
    const NOISE: Duration = Duration::from_secs(1);

    /// The machine was suspended between the two looks.
    #[must_use]
    pub fn is_resume(&self) -> bool {
        self.suspended >= Self::NOISE
    }

    /// The wall clock was set between the two looks.
    #[must_use]
    pub fn is_wall_jump(&self) -> bool {
        self.wall.unsigned_abs() >= Self::NOISE
    }
}

/// All three clocks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    now: Now,
    /// Time since boot without suspended time.
    awake: Duration,
}

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<Mutex<Reading>>),
}

/// Where the time comes from: the system, or a test.
#[derive(Debug, Clone)]
pub struct Clock(Source);

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until a test moves it.
    #[must_use]
    pub fn manual(now: Now) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(Reading { now, awake: now.boot }))))
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.reading().now
    }

    /// How long the machine has been suspended since it was started.
    #[must_use]
    pub fn suspended(&self) -> Duration {
        let reading = self.reading();
        reading.now.boot.saturating_sub(reading.awake)
    }

    fn reading(&self) -> Reading {
        match &self.0 {
            Source::System => Reading {
                now: Now { wall: Timestamp::now(), boot: since_boot(Counting::Always) },
                awake: since_boot(Counting::Awake),
            },
            Source::Manual(reading) => *reading.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        if let Source::Manual(reading) = &self.0 {
            change(&mut reading.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Lets time pass. Only a manual clock can be moved: this and its siblings do nothing to the system's.
    pub fn advance(&self, span: Duration) {
        self.change(|reading| {
            reading.now.wall = later(reading.now.wall, span);
            reading.now.boot = reading.now.boot.saturating_add(span);
            reading.awake = reading.awake.saturating_add(span);
        });
    }

    /// Lets time pass while the machine is suspended.
    pub fn suspend(&self, span: Duration) {
        self.change(|reading| {
            reading.now.wall = later(reading.now.wall, span);
            reading.now.boot = reading.now.boot.saturating_add(span);
        });
    }

    /// Sets the wall clock, and nothing else.
    pub fn set_wall(&self, wall: Timestamp) {
        self.change(|reading| reading.now.wall = wall);
    }

    /// Restarts the machine: the boot clock begins again, the wall clock shows `wall`.
    pub fn reboot(&self, wall: Timestamp) {
        self.change(|reading| {
            *reading = Reading { now: Now { wall, boot: Duration::ZERO }, awake: Duration::ZERO };
        });
    }
}

/// Notices that the machine was suspended, or that somebody set the wall clock.
#[derive(Debug)]
pub struct ShiftWatch {
    clock: Clock,
    last: Reading,
}

impl ShiftWatch {
    /// Looks for the first time.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let last = clock.reading();
        Self { clock, last }
    }

    /// What happened to the clocks since the last look.
    pub fn look(&mut self) -> Shift {
        let (before, after) = (self.last, self.clock.reading());
        self.last = after;
        let boot = after.now.boot.saturating_sub(before.now.boot);
        let awake = after.awake.saturating_sub(before.awake);
        let wall = after.now.wall.duration_since(before.now.wall);
        let passed = SignedDuration::try_from(boot).unwrap_or(SignedDuration::MAX);
        Shift { suspended: boot.saturating_sub(awake), wall: wall.saturating_sub(passed) }
    }
}

/// How long ago, by the boot clock, something happened that was dated by it.
#[must_use]
pub fn ago(boot: Duration) -> Duration {
    since_boot(Counting::Always).saturating_sub(boot)
}

enum Counting {
    /// Suspended time counts.
    Always,
    /// It does not.
    Awake,
}

fn since_boot(counting: Counting) -> Duration {
    use rustix::time::ClockId;
    #[cfg(target_os = "linux")]
    let id = match counting {
        Counting::Always => ClockId::Boottime,
        Counting::Awake => ClockId::Monotonic,
    };
    // On macOS the monotonic clock counts suspended time, and rustix names no other: a resume shows as nothing.
    #[cfg(not(target_os = "linux"))]
    let id = match counting {
        Counting::Always | Counting::Awake => ClockId::Monotonic,
    };
    let time = rustix::time::clock_gettime(id);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn noon() -> Now {
        Now { wall: "2026-03-01T12:00:00Z".parse().unwrap(), boot: Duration::from_secs(5_000) }
    }

    #[test]
    fn a_span_does_not_care_what_the_wall_clock_shows() {
        let clock = Clock::manual(noon());
        let deadline = Deadline::after(clock.now(), 10 * MINUTE);
        clock.advance(4 * MINUTE);
        clock.set_wall("2031-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(deadline.remaining(clock.now()), 6 * MINUTE);
        assert_eq!(deadline.wall(clock.now()).to_string(), "2031-01-01T00:06:00Z");
        clock.set_wall("1999-01-01T00:00:00Z".parse().unwrap());
        clock.suspend(6 * MINUTE);
        assert!(deadline.is_due(clock.now()));
    }

    #[test]
    fn an_instant_does() {
        let clock = Clock::manual(noon());
        let deadline = Deadline::at(clock.now(), "2026-03-01T13:00:00Z".parse().unwrap());
        assert_eq!(deadline.remaining(clock.now()), 60 * MINUTE);
        clock.set_wall("2026-03-01T12:59:00Z".parse().unwrap());
        assert_eq!(deadline.remaining(clock.now()), MINUTE);
        clock.set_wall("2026-03-01T14:00:00Z".parse().unwrap());
        assert!(deadline.is_due(clock.now()));
        assert_eq!(deadline.wall(clock.now()).to_string(), "2026-03-01T13:00:00Z");
    }

    #[test]
    fn after_a_reboot_the_wall_clock_says_what_is_left_within_the_span_asked_for() {
        let clock = Clock::manual(noon());
        let deadline = Deadline::after(clock.now(), 30 * MINUTE);
        let cases = [
            ("2026-03-01T12:20:00Z", 10 * MINUTE),
            ("2026-03-01T13:00:00Z", Duration::ZERO),
            ("1970-01-01T00:00:00Z", 30 * MINUTE),
        ];
        for (wall, left) in cases {
            clock.reboot(wall.parse().unwrap());
            let stored: Deadline = serde_json::from_str(&serde_json::to_string(&deadline).unwrap()).unwrap();
            assert_eq!(stored.rebased(clock.now()).remaining(clock.now()), left, "{wall}");
        }
    }

    #[test]
    fn suspends_and_set_clocks_are_told_apart() {
        let clock = Clock::manual(noon());
        let mut watch = ShiftWatch::new(clock.clone());
        clock.advance(MINUTE);
        assert_eq!(watch.look(), Shift::default());
        clock.suspend(MINUTE);
        let shift = watch.look();
        assert!(shift.is_resume() && !shift.is_wall_jump(), "{shift:?}");
        clock.set_wall("2026-03-01T11:00:00Z".parse().unwrap());
        let shift = watch.look();
        assert!(!shift.is_resume() && shift.is_wall_jump(), "{shift:?}");
        assert!(shift.wall.is_negative());
    }

    #[test]
    fn the_system_clock_goes_forwards_and_sees_no_shift_by_itself() {
        let clock = Clock::system();
        let mut watch = ShiftWatch::new(clock.clone());
        let first = clock.now();
        assert!(!first.boot.is_zero());
        assert!(clock.now().boot >= first.boot);
        assert!(!watch.look().is_resume());
    }

    proptest! {
        #[test]
        fn no_deadline_overflows_or_waits_longer_than_it_was_to(
            span in any::<u64>(), wall in -30_000_000_000i64..200_000_000_000, boot in any::<u32>(), passed in any::<u32>()
        ) {
            let now = Now { wall: Timestamp::from_second(wall).unwrap(), boot: Duration::from_secs(boot.into()) };
            let clock = Clock::manual(now);
            let span = Duration::from_secs(span);
            let deadline = Deadline::after(now, span);
            clock.advance(Duration::from_secs(passed.into()));
            prop_assert!(deadline.remaining(clock.now()) <= span);
            prop_assert!(deadline.rebased(clock.now()).remaining(clock.now()) <= span);
            prop_assert_eq!(deadline.is_due(clock.now()), Duration::from_secs(passed.into()) >= span);
        }
    }
}
