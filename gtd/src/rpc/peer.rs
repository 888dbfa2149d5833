//! Who is at the other end of a connection, as the kernel says.
//!
//! This is what a connection was opened by. What class of caller that makes is decided elsewhere; here only
//! other users are kept out.

use std::fmt;

use rustix::process::{Pid, Uid};
use tokio::net::unix::UCred;

/// The number of a connection: it grows by one with each, and is never used again while the daemon lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The process that opened a connection, read once when it was accepted (`SO_PEERCRED`). Methods find it in
/// the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id then; none when it lives in another pid namespace. The process may have ended since,
    /// and its number may have been given to another one.
    pub pid: Option<Pid>,
    /// Its effective user.
    pub uid: Uid,
    /// The connection.
    pub connection_id: ConnectionId,
}

impl Peer {
    /// The peer of credentials that the kernel gave.
    #[must_use]
    pub fn new(credentials: UCred, connection_id: ConnectionId) -> Self {
        let pid = credentials.pid().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        Self { pid, uid: Uid::from_raw(credentials.uid()), connection_id }
    }

    /// Whether this peer may talk to a daemon of the given user: that user itself, and root.
    #[must_use]
    pub fn admitted_by(&self, ours: Uid) -> bool {
        self.uid == ours || self.uid.is_root()
    }
}

impl fmt::Display for Peer {
    /// `pid 4711 uid 1000`, the form that events and the ledger carry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {} uid {}", pid.as_raw_nonzero(), self.uid.as_raw()),
            None => write!(f, "pid unknown uid {}", self.uid.as_raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_are_admitted() {
        let peer =
            |uid| Peer { pid: Pid::from_raw(7), uid: Uid::from_raw(uid), connection_id: ConnectionId(1) };
        let cases =
            [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false), (0, 0, true)];
        for (theirs, ours, admitted) in cases {
            assert_eq!(peer(theirs).admitted_by(Uid::from_raw(ours)), admitted, "{theirs} {ours}");
        }
        assert_eq!(peer(5).to_string(), "pid 7 uid 5");
        assert_eq!(Peer { pid: None, ..peer(5) }.to_string(), "pid unknown uid 5");
    }
}
