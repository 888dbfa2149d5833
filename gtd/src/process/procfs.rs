//! Reading `/proc`. Linux only.
//!
//! Owns the raw reads. It must never turn a failed read into an answer: errors go up as they are.

use std::fmt::Write as _;
use std::io;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::id::Pid;
use super::stat::Stat;

/// A stat line is below 1.2 KiB: 52 numbers of at most 20 digits, and a name of at most 64 bytes.
const STAT_BYTES: usize = 4096;

/// `/proc`, opened once and read through one buffer.
pub(crate) struct Proc {
    dir: OwnedFd,
    path: String,
    buffer: Vec<u8>,
}

impl Proc {
    /// Opens `/proc`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc", flags, Mode::empty())?;
        Ok(Self { dir, path: String::with_capacity(32), buffer: vec![0; STAT_BYTES] })
    }

    /// Every process above 1 that `/proc` lists at this moment, without threads.
    pub(crate) fn pids(&self) -> io::Result<Vec<Pid>> {
        let mut pids = Vec::with_capacity(256);
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let name = entry?;
            let number = name.file_name().to_str().ok().and_then(|s| s.parse().ok());
            if let Some(pid) = number.and_then(Pid::new) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// The stat line of one process.
    pub(crate) fn stat(&mut self, pid: Pid) -> io::Result<Stat> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, self.path.as_str(), flags, Mode::empty())?;
        let mut used = 0;
        while let Some(space) = self.buffer.get_mut(used..).filter(|space| !space.is_empty()) {
            match rustix::io::read(&file, space) {
                Ok(0) => break,
                Ok(n) => used += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let line = self.buffer.get(..used).unwrap_or_default();
        if line.is_empty() {
            return Err(Errno::SRCH.into());
        }
        Stat::parse(line)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {error}")))
    }
}

/// The stat line of one process.
pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    Proc::open()?.stat(pid)
}

/// True for the errors with which `/proc/PID` answers when the process is no longer there.
pub(crate) fn is_vanished(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Whether the kernel knows a process or thread of this number; `None` when it will not say.
pub(crate) fn exists(pid: Pid) -> Option<bool> {
    match rustix::process::test_kill_process(pid.rustix()?) {
        Ok(()) | Err(Errno::PERM) => Some(true),
        Err(Errno::SRCH) => Some(false),
        Err(_) => None,
    }
}
