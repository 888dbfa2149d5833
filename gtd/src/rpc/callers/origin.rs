//! Who is at the other end of a connection: its process and all parents, as the kernel showed them when it came.
//!
//! Read once for a connection and never again: a number may be given away, and parents change. What the
//! processes' marks say is read only when it is needed, because that can take a lock of theirs.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gtd_proto::{InstanceId, TownId};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::OnceCell;

use crate::process::facts::marker;
use crate::process::{Kin, Observation, Pid, ProcessId, lineage};
use crate::rpc::peer::Peer;

/// How long reading marks may take: the kernel may hold a process's memory locked.
const MARKS: Duration = Duration::from_secs(1);

/// What is known of where a connection comes from.
#[derive(Debug)]
pub(in crate::rpc) struct Origin {
    line: Result<Vec<Kin>, String>,
    mark: OnceCell<Option<InstanceId>>,
}

impl Origin {
    /// Looks at who opened a connection. To be called as soon as it was accepted; some 10 µs for each parent.
    pub(in crate::rpc) fn of(stream: &impl AsFd, peer: &Peer) -> Self {
        Self { line: look(stream, peer), mark: OnceCell::new() }
    }

    /// The process and its parents, nearest first.
    ///
    /// # Errors
    /// Why they are not known.
    pub(super) fn line(&self) -> Result<&[Kin], &str> {
        self.line.as_deref().map_err(String::as_str)
    }

    /// The instance of this town that the nearest marked process of the line names. Any child inherits a mark
    /// and anybody may set one: it proves nothing, and yet nobody who carries one is taken for a person.
    ///
    /// # Errors
    /// It cannot be told in time; asked again, it is looked at again.
    pub(super) async fn mark(&self, town: &TownId) -> Result<Option<InstanceId>, String> {
        let Ok(line) = &self.line else { return Ok(None) };
        let ids: Vec<ProcessId> = line.iter().map(|kin| kin.id.clone()).collect();
        let town = town.to_string();
        let read = || in_time(tokio::task::spawn_blocking(move || first_mark(&ids, &town)));
        self.mark.get_or_try_init(read).await.cloned()
    }
}

/// What was not read is not taken for nothing.
async fn in_time<E>(
    reading: impl Future<Output = Result<Option<InstanceId>, E>>,
) -> Result<Option<InstanceId>, String> {
    match tokio::time::timeout(MARKS, reading).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) | Err(_) => {
            Err("whether it carries an agent's mark (GT_INSTANCE) could not be read in time".to_owned())
        }
    }
}

fn first_mark(ids: &[ProcessId], town: &str) -> Option<InstanceId> {
    ids.iter().find_map(|id| match marker(id) {
        Observation::Alive(mark) if mark.town.as_deref() == Some(town) => {
            mark.instance.and_then(|instance| InstanceId::new(instance).ok())
        }
        _ => None,
    })
}

fn look(stream: &impl AsFd, peer: &Peer) -> Result<Vec<Kin>, String> {
    let raw = peer.pid.map(|pid| pid.as_raw_nonzero().get());
    let pid = raw.and_then(Pid::new).ok_or("it runs in another pid namespace")?;
    let handle = match getsockopt(stream, PeerPidfd) {
        Ok(handle) => Some(handle),
        // Before Linux 6.5 there is none: then the number is believed, which the line's own checks narrow.
        Err(Errno::ENOPROTOOPT | Errno::EINVAL) => None,
        Err(Errno::ESRCH | Errno::ENODATA) => return Err("it is gone".to_owned()),
        Err(errno) => return Err(format!("the kernel gives no handle on it: {errno}")),
    };
    let line = match lineage(pid) {
        Observation::Alive(line) => line,
        Observation::Dead(_) | Observation::Absent => return Err("it is gone".to_owned()),
        Observation::Unknown(why) => return Err(why),
    };
    match handle {
        // Still there after the look: so the number was its own while its parents were read.
        Some(handle) if has_ended(&handle) => Err("it is gone".to_owned()),
        _ => Ok(line),
    }
}

fn has_ended(handle: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    // An error is no answer, and then the line is not believed.
    !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_that_cannot_be_read_is_not_taken_for_none() {
        let never = std::future::pending::<Result<Option<InstanceId>, ()>>();
        assert!(in_time(never).await.is_err());
        assert!(in_time(std::future::ready(Err(()))).await.is_err());
        assert_eq!(in_time(std::future::ready(Ok::<_, ()>(None))).await, Ok(None));
    }
}
