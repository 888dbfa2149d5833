//! The heart's time: a line that nobody sets, over all daemons of a town.

use std::time::Duration;

use gtd_proto::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{Clock, Shift, later};

/// Where a [`Timeline`] stood at an instant, as kept in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The boot it is of.
    pub boot_id: String,
    /// The boot clock.
    pub boot: Duration,
    /// The wall clock.
    pub wall: Timestamp,
    /// The line.
    pub line: Timestamp,
}

/// The heart's time: one that nobody sets, over all daemons of a town.
///
/// It begins at the wall clock and goes on with the boot clock, suspended time included; a daemon that is started
/// again takes it up where the last one's [`Anchor`] says that it must be now. So every instant that was ever
/// written into the ledger stays comparable, whatever somebody did to the wall clock meanwhile. Over a restart of
/// the machine only the wall clock can tell how much time has passed, and the line never goes back. What people
/// are shown is turned into wall time with [`Timeline::to_wall`].
#[derive(Debug, Clone)]
pub struct Timeline {
    clock: Clock,
    boot_id: String,
    start: Duration,
    line: Timestamp,
}

impl Timeline {
    /// Begins at the wall clock.
    #[must_use]
    pub fn start(clock: Clock) -> Self {
        Self::resume(clock, None, "")
    }

    /// Goes on from an anchor; `boot_id` is that of the present boot.
    #[must_use]
    pub fn resume(clock: Clock, anchor: Option<&Anchor>, boot_id: &str) -> Self {
        let now = clock.now();
        let line = match anchor {
            None => now.wall,
            Some(anchor) if anchor.boot_id == boot_id && anchor.boot <= now.boot => {
                later(anchor.line, now.boot.saturating_sub(anchor.boot))
            }
            Some(anchor) => {
                let apart = anchor.line.duration_since(anchor.wall);
                now.wall.checked_add(apart).unwrap_or(now.wall).max(anchor.line)
            }
        };
        Self { clock, boot_id: boot_id.to_owned(), start: now.boot, line }
    }

    /// A watch over the clocks that the line goes by.
    #[must_use]
    pub fn shifts(&self) -> super::ShiftWatch {
        super::ShiftWatch::new(self.clock.clone())
    }

    /// How long the machine has been suspended since it was started, and the start of it that this is of.
    #[must_use]
    pub fn suspended(&self) -> (&str, Duration) {
        (&self.boot_id, self.clock.suspended())
    }

    /// The present instant of the line.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        later(self.line, self.elapsed())
    }

    /// Time since the line was begun or taken up, suspended time included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.now().boot.saturating_sub(self.start)
    }

    /// What the next daemon needs to go on.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        let now = self.clock.now();
        let line = later(self.line, now.boot.saturating_sub(self.start));
        Anchor { boot_id: self.boot_id.clone(), boot: now.boot, wall: now.wall, line }
    }

    /// How far the wall clock is ahead of the line; nothing while that is noise.
    fn apart(&self) -> SignedDuration {
        let now = self.clock.now();
        let line = later(self.line, now.boot.saturating_sub(self.start));
        let apart = now.wall.duration_since(line);
        if apart.unsigned_abs() < Shift::NOISE { SignedDuration::ZERO } else { apart }
    }

    /// An instant of the line as the wall clock would show it, for people.
    #[must_use]
    pub fn to_wall(&self, at: Timestamp) -> Timestamp {
        at.checked_add(self.apart()).unwrap_or(at)
    }

    /// An instant of the wall clock, as it shows now, on the line.
    #[must_use]
    pub fn from_wall(&self, at: Timestamp) -> Timestamp {
        at.checked_sub(self.apart()).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Now, ShiftWatch, until};
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn noon() -> Now {
        Now { wall: "2026-03-01T12:00:00Z".parse().unwrap(), boot: Duration::from_secs(5_000) }
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_line_goes_on_over_daemons_whatever_the_wall_clock_shows() {
        for wall in ["2026-02-28T12:00:00Z", "2026-03-02T12:00:00Z", "1970-01-01T00:00:00Z"] {
            let clock = Clock::manual(noon());
            let line = Timeline::resume(clock.clone(), None, "b");
            let quarantine = later(line.now(), HOUR);
            clock.advance(10 * MINUTE);
            let anchor = serde_json::to_string(&line.anchor()).unwrap();
            clock.set_wall(wall.parse().unwrap());
            clock.advance(10 * MINUTE);
            let line = Timeline::resume(clock.clone(), Some(&serde_json::from_str(&anchor).unwrap()), "b");
            assert_eq!(until(line.now(), quarantine), 40 * MINUTE, "{wall}");
            // People are shown what their clock will say then.
            assert_eq!(line.to_wall(line.now()), clock.now().wall, "{wall}");
            assert_eq!(line.from_wall(clock.now().wall), line.now(), "{wall}");
            clock.suspend(40 * MINUTE);
            assert_eq!(line.now(), quarantine, "{wall}: asleep counts");
        }
    }

    #[test]
    fn over_a_reboot_the_wall_clock_says_how_long_it_took_and_the_line_never_goes_back() {
        let cases = [
            // What the wall clock shows after the reboot, and what is left of an hour then.
            ("2026-03-01T12:20:00Z", 40 * MINUTE),
            ("2026-03-02T12:00:00Z", Duration::ZERO),
            ("2026-02-28T12:00:00Z", 50 * MINUTE),
            ("1970-01-01T00:00:00Z", 50 * MINUTE),
        ];
        for (wall, left) in cases {
            let clock = Clock::manual(noon());
            let line = Timeline::resume(clock.clone(), None, "one");
            let quarantine = later(line.now(), HOUR);
            clock.advance(10 * MINUTE);
            let anchor = line.anchor();
            clock.reboot(wall.parse().unwrap());
            let line = Timeline::resume(clock.clone(), Some(&anchor), "two");
            assert_eq!(until(line.now(), quarantine), left, "{wall}");
            clock.advance(left);
            assert_eq!(until(line.now(), quarantine), Duration::ZERO, "{wall}: it ends");
        }
    }

    #[test]
    fn eight_hours_of_sleep_pass_on_the_line_and_are_seen() {
        let clock = Clock::manual(noon());
        let (line, mut watch) = (Timeline::start(clock.clone()), ShiftWatch::new(clock.clone()));
        let before = line.now();
        clock.suspend(8 * HOUR);
        assert_eq!(until(before, line.now()), 8 * HOUR);
        let shift = watch.look();
        assert_eq!((shift.suspended, shift.is_wall_jump()), (8 * HOUR, false));
        assert_eq!(line.to_wall(line.now()), clock.now().wall);
    }

    proptest! {
        #[test]
        fn no_setting_of_the_wall_clock_moves_what_is_left(
            steps in proptest::collection::vec((-200_000i64..200_000, 0u32..5_000, any::<bool>()), 1..20)
        ) {
            let clock = Clock::manual(noon());
            let mut line = Timeline::resume(clock.clone(), None, "b");
            let begun = line.now();
            let mut passed = Duration::ZERO;
            for (set, seconds, restart) in steps {
                let wall = clock.now().wall;
                clock.set_wall(wall.checked_add(SignedDuration::from_secs(set)).unwrap());
                clock.advance(Duration::from_secs(seconds.into()));
                passed += Duration::from_secs(seconds.into());
                if restart {
                    line = Timeline::resume(clock.clone(), Some(&line.anchor()), "b");
                }
                prop_assert_eq!(until(begun, line.now()), passed);
                prop_assert!(until(line.to_wall(line.now()), clock.now().wall) < Shift::NOISE);
            }
        }
    }
}
