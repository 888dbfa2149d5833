//! Looking at the process table when agents report: what a turn left behind is seen while its parents still live.
//!
//! One look serves everybody who reports meanwhile, and looks are never closer together than [`APART`]: the table
//! costs some milliseconds on a machine with a thousand processes. Nothing is decided here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::runtime::Runtime;
use crate::process::ProcessTable;

/// At least so far apart are two looks.
const APART: Duration = Duration::from_secs(2);

/// When it was looked last, and whether somebody is about to.
#[derive(Debug, Default)]
pub struct Descent {
    last: Mutex<Option<Instant>>,
    wanted: AtomicBool,
}

impl Descent {
    /// How long until the next look; none when one is coming already.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if self.wanted.swap(true, Ordering::AcqRel) {
            return None;
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Some(last.map_or(Duration::ZERO, |last| (last + APART).saturating_duration_since(now)))
    }

    fn begin(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        // From here on a report asks for another look.
        self.wanted.store(false, Ordering::Release);
    }
}

impl Runtime {
    /// Has the descendants of all agents looked at soon. Returns at once.
    pub fn look_at_descent(&self) {
        let Some(wait) = self.shared().descent.wait(Instant::now()) else { return };
        let runtime = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let shared = Arc::clone(runtime.shared());
            shared.descent.begin(Instant::now());
            let merging = runtime.clone();
            let look = move || ProcessTable::read().map(|table| merging.merge(&table));
            match runtime.looks().look(APART, look).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the process table cannot be read"),
                Err(error) => tracing::warn!(%error, "what agents left behind is not looked at"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reports_are_one_look_and_looks_are_apart() {
        let descent = Descent::default();
        let now = Instant::now();
        assert_eq!(descent.wait(now), Some(Duration::ZERO));
        assert_eq!(descent.wait(now), None, "one is coming");
        descent.begin(now);
        assert_eq!(descent.wait(now + Duration::from_millis(500)), Some(APART - Duration::from_millis(500)));
        descent.begin(now + APART);
        assert_eq!(descent.wait(now + APART * 3), Some(Duration::ZERO));
    }
}
