//! How much of a span of time the machine slept through.
//!
//! Pure. The kernel tells how long it has slept since it was started; what is kept is when that grew. A span of which
//! the beginning lies before everything that was noted counts as slept through as far as it can be: nobody is
//! taken for stuck because of a night that nobody saw.

use std::time::Duration;

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};

/// Entries that are kept: sleeps of more than a day, for a machine that naps every ten minutes.
const KEPT: usize = 200;

/// When the time that was slept through grew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naps {
    /// The start of the machine that this is of.
    #[serde(default)]
    boot: String,
    /// From this instant of the supervisor's time on, that much had been slept through.
    #[serde(default)]
    totals: Vec<(Timestamp, Duration)>,
}

impl Naps {
    /// So much has been slept through by now. True when that is news.
    pub(super) fn note(&mut self, boot: &str, total: Duration, now: Timestamp) -> bool {
        if self.boot != boot {
            *self = Self { boot: boot.to_owned(), totals: Vec::new() };
        }
        if self.totals.last().is_some_and(|(_, last)| total.saturating_sub(*last) < NOISE) {
            return false;
        }
        self.totals.push((now, total));
        let surplus = self.totals.len().saturating_sub(KEPT);
        self.totals.drain(..surplus);
        true
    }

    /// How much was slept through since an instant.
    pub(super) fn since(&self, at: Timestamp) -> Duration {
        let Some((_, now)) = self.totals.last() else { return Duration::ZERO };
        let then = self.totals.iter().rev().find(|(from, _)| *from <= at);
        now.saturating_sub(then.map_or(Duration::ZERO, |(_, total)| *total))
    }
}

/// What two clocks that are read one after the other may differ by.
const NOISE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + minute * 60).unwrap()
    }

    #[test]
    fn only_what_was_slept_since_counts() {
        let mut naps = Naps::default();
        assert_eq!(naps.since(at(0)), Duration::ZERO);
        assert!(naps.note("b", HOUR, at(0)));
        assert!(!naps.note("b", HOUR + Duration::from_millis(3), at(5)));
        assert!(naps.note("b", 9 * HOUR, at(500)));
        assert_eq!(naps.since(at(501)), Duration::ZERO);
        assert_eq!(naps.since(at(6)), 8 * HOUR);
        // Before anything was noted: all that there was.
        assert_eq!(naps.since(at(-1)), 9 * HOUR);
        // Another start of the machine.
        assert!(naps.note("c", Duration::ZERO, at(600)));
        assert_eq!(naps.since(at(6)), Duration::ZERO);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut naps = Naps::default();
        for n in 0..1_000u32 {
            naps.note("b", HOUR * n, at(i64::from(n)));
        }
        assert_eq!(naps.totals.len(), KEPT);
        assert_eq!(naps.since(at(998)), HOUR);
    }
}
