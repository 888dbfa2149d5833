//! Limits of the process. Raises what may be raised, and says what it found.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit that the daemon was started with. Programs that it starts are to get this one back: one
    /// that uses `select` breaks on descriptors above 1,023. `None`: unlimited.
    pub found: Option<u64>,
    /// The soft limit now.
    pub now: Option<u64>,
    /// The hard limit.
    pub hard: Option<u64>,
    /// Why it could not be raised.
    pub error: Option<String>,
}

/// An agent needs three pidfds, a connection and some slack; a thousand agents fit well below this.
const ENOUGH: u64 = 65_536;

/// Raises the soft limit of open files to the hard one, at most to 65,536.
#[must_use]
pub fn raise_open_files() -> OpenFiles {
    let found = getrlimit(Resource::Nofile);
    let wanted = found.maximum.map_or(ENOUGH, |hard| hard.min(ENOUGH));
    let mut report = OpenFiles { found: found.current, now: found.current, hard: found.maximum, error: None };
    if found.current.is_none_or(|soft| soft >= wanted) {
        return report;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: found.maximum }) {
        Ok(()) => report.now = Some(wanted),
        Err(why) => report.error = Some(format!("cannot raise the limit of open files to {wanted}: {why}")),
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_goes_up_to_the_hard_one_and_never_down() {
        let report = raise_open_files();
        assert_eq!(report.error, None);
        assert!(report.now.unwrap_or(u64::MAX) >= report.found.unwrap_or(u64::MAX));
        assert!(report.now.unwrap_or(u64::MAX) >= report.hard.unwrap_or(u64::MAX).min(ENOUGH));
        assert_eq!(getrlimit(Resource::Nofile).current, report.now);
        let again = raise_open_files();
        assert_eq!((again.found, again.now), (report.now, report.now));
    }
}
