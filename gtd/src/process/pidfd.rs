//! A kernel handle on one verified process. Linux only.
//!
//! Owns the order that makes a handle safe: open first, then check that the handle's process is the one on
//! record. Whatever happens to the number afterwards, the handle never means another process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::id::ProcessId;
use super::observe::{Evidence, Observation, observe};
use super::stat::Stat;

/// An open handle and what its process looked like when it was verified.
#[derive(Debug)]
pub(crate) struct Handle {
    fd: OwnedFd,
    /// The process as seen after the handle was opened.
    pub(crate) stat: Stat,
}

/// Why there is no handle.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The process of record is gone.
    Gone(Evidence),
    /// It could not be told.
    Unknown(String),
}

impl Handle {
    /// Opens a handle on exactly this process.
    pub(crate) fn open(id: &ProcessId) -> Result<Self, OpenError> {
        let Some(pid) = id.pid.rustix() else {
            return Err(OpenError::Unknown(format!("{} is no process number", id.pid)));
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Err(OpenError::Gone(Evidence::NoSuchProcess)),
            Err(errno) => {
                // EINVAL and ENOENT also come when the number now is a thread's: then /proc shows another start.
                return Err(match observe(id) {
                    Observation::Dead(evidence) => OpenError::Gone(evidence),
                    _ => OpenError::Unknown(format!("pidfd_open of process {id}: {errno}")),
                });
            }
        };
        let stat = match observe(id) {
            Observation::Alive(stat) => stat,
            Observation::Dead(evidence) => return Err(OpenError::Gone(evidence)),
            Observation::Absent => return Err(OpenError::Gone(Evidence::NoSuchProcess)),
            Observation::Unknown(why) => return Err(OpenError::Unknown(why)),
        };
        let handle = Self { fd, stat };
        // Still running after the look: so the number did not change hands between the two.
        match handle.has_exited() {
            Ok(false) => Ok(handle),
            Ok(true) => Err(OpenError::Gone(Evidence::PidfdFired)),
            Err(errno) => Err(OpenError::Unknown(format!("poll of the pidfd of process {id}: {errno}"))),
        }
    }

    /// Whether the process has ended.
    pub(crate) fn has_exited(&self) -> rustix::io::Result<bool> {
        loop {
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(n) => return Ok(n > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sends a signal to this process and no other.
    pub(crate) fn send(&self, signal: rustix::process::Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.fd, signal)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
