//! Waiting on conditions, with a deadline and a sentence for when it is missed.

use std::time::{Duration, Instant};

/// For what should be there at once: an answer, a file, an event that follows another.
pub const QUICK: Duration = Duration::from_secs(5);
/// For one change of an agent: a start, a stop, a restart.
pub const CHANGE: Duration = Duration::from_secs(15);
/// For a daemon, or a whole town, to come up on a machine that is busy with other tests.
pub const START: Duration = Duration::from_secs(20);

/// How long to pause between two looks.
const POLL: Duration = Duration::from_millis(5);

/// Looks until the condition holds; `false` when the time is over.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Looks until there is something; panics with `what` when the time is over.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Lets time pass on purpose: where the moment of a blow is what a test varies, or where it must show that
/// something does *not* happen; and between two looks where no condition can be waited for.
pub fn chaos_delay(time: Duration) {
    std::thread::sleep(time);
}
