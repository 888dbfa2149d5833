//! For how long an agent was paused lately: time that counts for nothing where something is waited for.
//!
//! Pure. On the supervisor's line of time. Also a pause that nobody looked at while it lasted is in it.

use std::time::Duration;

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::since;

/// Spans that are kept: what is waited for is minutes, and pauses are made by people.
const KEPT: usize = 16;

/// When an agent was paused, the last few times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// Pauses that are over, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spans: Vec<(Timestamp, Timestamp)>,
    /// Since when it is paused now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Timestamp>,
}

impl Stood {
    /// It was never paused.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.spans.is_empty() && self.open.is_none()
    }

    /// A pause holds, or it has not gone on yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Since when it is paused, where it is.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.open
    }

    /// It is paused from now on. True when it was not.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        let first = self.open.is_none();
        self.open.get_or_insert(now);
        first
    }

    /// It goes on. True when it was paused.
    pub(super) fn end(&mut self, now: Timestamp) -> bool {
        let Some(from) = self.open.take() else { return false };
        self.spans.push((from, now.max(from)));
        let surplus = self.spans.len().saturating_sub(KEPT);
        self.spans.drain(..surplus);
        true
    }

    /// When it went on for the last time.
    #[must_use]
    pub fn went_on(&self) -> Option<Timestamp> {
        self.spans.last().map(|(_, to)| *to)
    }

    /// For how long it was paused between two instants.
    #[must_use]
    pub fn within(&self, from: Timestamp, to: Timestamp) -> Duration {
        let open = self.open.map(|at| (at, to));
        let spans = self.spans.iter().copied().chain(open);
        spans.map(|(began, ended)| since(began.max(from), ended.min(to))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn minutes(many: u64) -> Duration {
        Duration::from_secs(many * 60)
    }

    #[test]
    fn only_what_lies_in_a_span_counts_also_of_a_pause_that_goes_on() {
        let mut stood = Stood::default();
        assert!(stood.is_blank() && !stood.end(at(0)));
        assert!(stood.begin(at(10)) && !stood.begin(at(11)) && stood.is_open());
        assert_eq!(stood.within(at(0), at(15)), minutes(5));
        assert_eq!(stood.within(at(12), at(15)), minutes(3));
        assert_eq!(stood.within(at(0), at(9)), Duration::ZERO);
        assert!(stood.end(at(20)) && !stood.is_open() && !stood.is_blank());
        assert_eq!(stood.went_on(), Some(at(20)));
        assert!(stood.begin(at(30)) && stood.end(at(35)));
        for (from, to, expected) in
            [(0, 60, 15), (0, 32, 12), (15, 32, 7), (20, 30, 0), (33, 60, 2), (35, 60, 0), (60, 0, 0)]
        {
            assert_eq!(stood.within(at(from), at(to)), minutes(expected), "{from} {to}");
        }
        let kept: Stood = serde_json::from_value(serde_json::to_value(&stood).unwrap()).unwrap();
        assert_eq!(kept, stood);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut stood = Stood::default();
        for n in 0..1_000 {
            assert!(stood.begin(at(2 * n)) && stood.end(at(2 * n + 1)));
        }
        assert_eq!(stood.spans.len(), KEPT);
        assert_eq!(stood.went_on(), Some(at(1_999)));
    }
}
