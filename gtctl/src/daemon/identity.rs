//! A process, proven to be the one that is meant: pid and start time. Signals go through a pidfd that was
//! opened before the proof, so that a pid that was given to another process in between cannot be hit.

use std::io;

/// A process that was seen alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since boot.
    pub start: u64,
}

/// What is sent to a proven process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Please end.
    Term,
    /// End.
    Kill,
}

impl Identity {
    /// Looks at a process.
    ///
    /// # Errors
    /// When there is none, or it has ended and only waits to be reaped.
    pub fn of(pid: i32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse(&text).map(|start| Self { pid, start }).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Whether it is still the same process.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// Sends a signal to this process and to no other.
    ///
    /// # Errors
    /// When it is gone, or may not be signalled.
    #[cfg(target_os = "linux")]
    pub fn signal(self, what: Sent) -> io::Result<()> {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        // Neither init, nor "all of a group", nor ourselves can be meant.
        if self.pid <= 1 || self.pid.unsigned_abs() == std::process::id() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let pidfd = pidfd_open(Pid::from_raw(self.pid).ok_or_else(gone)?, PidfdFlags::empty())?;
        if !self.is_alive() {
            return Err(gone());
        }
        let signal = match what {
            Sent::Term => Signal::TERM,
            Sent::Kill => Signal::KILL,
        };
        Ok(pidfd_send_signal(&pidfd, signal)?)
    }

    /// Sends nothing: without pidfds there is no proof at the instant of the signal.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn signal(self, _what: Sent) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// A variable of the environment that the process was started with.
    ///
    /// # Errors
    /// When the environment cannot be read.
    pub fn variable(self, name: &str) -> io::Result<Option<String>> {
        let all = std::fs::read(format!("/proc/{}/environ", self.pid))?;
        let found = all.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        });
        Ok(found)
    }
}

/// The start time in `/proc/PID/stat`, unless the process is a zombie. The name in parentheses may contain
/// anything, so it is counted from the last closing one.
fn parse(stat: &str) -> Option<u64> {
    let after = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // `starttime` is field 22 of the line; the state is field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_with_parentheses_and_zombies() {
        let line = |name: &str, state: &str| {
            let rest: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
            format!("7 ({name}) {state} {}", rest.join(" "))
        };
        assert_eq!(parse(&line("sh", "S")), Some(22));
        assert_eq!(parse(&line("a) S 1 (b", "R")), Some(22));
        assert_eq!(parse(&line("sh", "Z")), None);
        assert_eq!(parse("7 (sh"), None);
    }

    #[test]
    fn a_signal_hits_the_proven_process_and_nothing_else() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let me = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let earlier = Identity { start: me.start - 1, ..me };
        assert!(earlier.signal(Sent::Kill).is_err());
        assert!(me.is_alive());
        me.signal(Sent::Term).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!me.is_alive());
        assert!(me.signal(Sent::Kill).is_err());
        for pid in [-1, 0, 1, i32::try_from(std::process::id()).unwrap()] {
            assert!(Identity { pid, start: 0 }.signal(Sent::Term).is_err());
        }
    }
}
