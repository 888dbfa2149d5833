//! One process's line in `/proc/PID/stat`.
//!
//! Owns the parser, which is pure. The name in the line is whatever the process chose, spaces, brackets and
//! newlines included, so the fields are counted from the *last* closing bracket.

use serde::{Deserialize, Serialize};

use super::id::{BootId, Pid, ProcessId, StartTime};

/// The kernel's flag for a process that has begun to exit (`PF_EXITING` in `linux/sched.h`).
const EXITING: u64 = 0x4;

/// What one look at `/proc/PID/stat` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: Pid,
    /// Its name of at most 15 bytes, chosen by itself; lossily decoded. It proves nothing.
    pub comm: String,
    /// State letter: `R S D T t Z X I` and others.
    pub state: char,
    /// Its parent; `None` for process 1, the kernel, or a parent outside our pid namespace.
    pub parent: Option<Pid>,
    /// Its process group, 0 when outside our pid namespace.
    pub group: i32,
    /// Its session, 0 when outside our pid namespace.
    pub session: i32,
    /// Device number of its terminal, 0 for none.
    pub tty: i32,
    /// Foreground group of its terminal, -1 for none.
    pub foreground: i32,
    /// Kernel flags (`PF_*`).
    pub flags: u64,
    /// Time in user mode, clock ticks, its own threads only.
    pub utime: u64,
    /// Time in the kernel, clock ticks, its own threads only.
    pub stime: u64,
    /// Number of threads not yet collected.
    pub threads: i64,
    /// When it began.
    pub start: StartTime,
    /// Resident pages.
    pub rss_pages: i64,
    /// Wait status, once it is a zombie; 0 before, or where we may not see it.
    pub exit_code: i32,
}

/// Why a line of `/proc/PID/stat` was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No name in brackets.
    #[error("no name in brackets")]
    NoName,
    /// A field is missing or not a number.
    #[error("field {0} is missing or not a number")]
    Field(usize),
    /// The line is of a process that cannot be ours, such as process 1.
    #[error("process number {0} is not above 1")]
    Pid(i64),
}

impl Stat {
    /// Parses one line.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let open = line.iter().position(|b| *b == b'(').ok_or(ParseError::NoName)?;
        let close = line.iter().rposition(|b| *b == b')').ok_or(ParseError::NoName)?;
        let number = line.get(..open).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
        let number: i64 = number.trim().parse().map_err(|_| ParseError::Field(1))?;
        let pid = i32::try_from(number).ok().and_then(Pid::new).ok_or(ParseError::Pid(number))?;
        let comm = line.get(open + 1..close).ok_or(ParseError::NoName)?;
        let rest =
            line.get(close + 1..).and_then(|b| std::str::from_utf8(b).ok()).ok_or(ParseError::Field(3))?;

        let mut fields = Fields { rest: rest.split_ascii_whitespace(), next: 3 };
        let state = fields.text(3)?.chars().next().ok_or(ParseError::Field(3))?;
        let parent: i32 = fields.number(4)?;
        Ok(Self {
            pid,
            comm: String::from_utf8_lossy(comm).into_owned(),
            state,
            parent: Pid::new(parent),
            group: fields.number(5)?,
            session: fields.number(6)?,
            tty: fields.number(7)?,
            foreground: fields.number(8)?,
            flags: fields.number(9)?,
            utime: fields.number(14)?,
            stime: fields.number(15)?,
            threads: fields.number(20)?,
            start: StartTime::new(fields.number(22)?),
            rss_pages: fields.number(24)?,
            // Field 52 came with Linux 3.5.
            exit_code: fields.number(52).unwrap_or(0),
        })
    }

    /// True when the whole process has ended. A zombie leader with other threads still running is alive.
    pub const fn is_gone(&self) -> bool {
        matches!(self.state, 'X' | 'x') || (self.state == 'Z' && self.threads <= 1)
    }

    /// True when it has begun to exit or has ended.
    pub const fn is_exiting(&self) -> bool {
        self.is_gone() || self.flags & EXITING != 0
    }

    /// True when it is stopped by a signal.
    pub const fn is_stopped(&self) -> bool {
        self.state == 'T'
    }

    /// Its identity in this boot.
    pub fn id(&self, boot: &BootId) -> ProcessId {
        ProcessId { boot: boot.clone(), pid: self.pid, start: self.start }
    }
}

/// Walks the fields after the name by the numbers that proc(5) gives them.
struct Fields<'a> {
    rest: std::str::SplitAsciiWhitespace<'a>,
    next: usize,
}

impl<'a> Fields<'a> {
    fn text(&mut self, field: usize) -> Result<&'a str, ParseError> {
        let skip = field.checked_sub(self.next).ok_or(ParseError::Field(field))?;
        self.next = field + 1;
        self.rest.nth(skip).ok_or(ParseError::Field(field))
    }

    fn number<T: std::str::FromStr>(&mut self, field: usize) -> Result<T, ParseError> {
        self.text(field)?.parse().map_err(|_| ParseError::Field(field))
    }
}

/// How a process ended, as `wait` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStatus {
    /// It called exit with this code, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl WaitStatus {
    /// Decodes the kernel's wait status; `None` for a status that is no ending.
    pub const fn from_raw(raw: i32) -> Option<Self> {
        match raw & 0x7f {
            0 => Some(Self::Code((raw >> 8) & 0xff)),
            0x7f => None,
            signal => Some(Self::Signal(signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(pid: i64, comm: &[u8], start: u64) -> Vec<u8> {
        let mut line = format!("{pid} (").into_bytes();
        line.extend_from_slice(comm);
        line.extend_from_slice(b") S 40 41 42 34816 43 4194304 1 2 3 4 15 16 5 6 20 0 21 0 ");
        line.extend_from_slice(format!("{start} 1000 77").as_bytes());
        for _ in 25..=51 {
            line.extend_from_slice(b" 9");
        }
        line.extend_from_slice(b" 256\n");
        line
    }

    #[test]
    fn fields_are_the_ones_proc5_numbers() {
        let stat = Stat::parse(&line(39, b"a) R 1 (b c", 123_456)).unwrap();
        assert_eq!(stat.pid.get(), 39);
        assert_eq!(stat.comm, "a) R 1 (b c");
        assert_eq!((stat.state, stat.parent), ('S', Pid::new(40)));
        assert_eq!((stat.group, stat.session, stat.tty, stat.foreground), (41, 42, 34816, 43));
        assert_eq!((stat.utime, stat.stime, stat.threads), (15, 16, 21));
        assert_eq!((stat.start.get(), stat.rss_pages, stat.exit_code), (123_456, 77, 256));
    }

    #[test]
    fn our_own_line_parses() {
        let stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(stat.pid, Pid::own().unwrap());
        assert!(!stat.is_gone() && !stat.is_exiting());
    }

    #[test]
    fn broken_lines_are_errors() {
        for (bad, error) in [
            (&b""[..], ParseError::NoName),
            (b"12 no brackets", ParseError::NoName),
            (b"12 )x( S 1", ParseError::Field(1)),
            (b"1 (init) S 0", ParseError::Pid(1)),
            (b"x (y) S 0", ParseError::Field(1)),
            (b"12 (y) S 0 1", ParseError::Field(6)),
            (b"12 (y)", ParseError::Field(3)),
        ] {
            assert_eq!(Stat::parse(bad).unwrap_err(), error, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_dead_leader_with_living_threads_is_alive() {
        let mut stat = Stat::parse(&line(39, b"x", 1)).unwrap();
        stat.state = 'Z';
        assert!(!stat.is_gone());
        stat.threads = 1;
        assert!(stat.is_gone());
    }

    #[test]
    fn wait_statuses() {
        assert_eq!(WaitStatus::from_raw(0), Some(WaitStatus::Code(0)));
        assert_eq!(WaitStatus::from_raw(256), Some(WaitStatus::Code(1)));
        assert_eq!(WaitStatus::from_raw(9), Some(WaitStatus::Signal(9)));
        assert_eq!(WaitStatus::from_raw(0x8b), Some(WaitStatus::Signal(11)));
        assert_eq!(WaitStatus::from_raw(0x137f), None);
    }

    proptest! {
        #[test]
        fn any_name_leaves_the_fields_alone(pid in 2_i64..4_000_000, start: u64, comm: Vec<u8>) {
            let stat = Stat::parse(&line(pid, &comm, start)).unwrap();
            prop_assert_eq!(i64::from(stat.pid.get()), pid);
            prop_assert_eq!(stat.start.get(), start);
            prop_assert_eq!(stat.comm, String::from_utf8_lossy(&comm));
            prop_assert_eq!(stat.exit_code, 256);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Stat::parse(&bytes);
        }
    }
}
