//! The one way to signal a process.
//!
//! Owns the proofs and the sending. Every signal of the daemon and of the shim goes through
//! [`send`], which can address nothing but one process whose identity it has just verified, which refuses
//! what the guard protects, and which returns evidence to be recorded. A number at or below 1, a group or a
//! name cannot be expressed.

use jiff::Timestamp;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::facts;
use super::guard::Guard;
use super::id::ProcessId;
use super::observe::{Evidence, Observation};
use super::pidfd::{Handle, OpenError};
use super::spare::is_tmux_server;
use super::stat::Stat;

/// The signals we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Please end. To a shim: end the tree, by force after its grace.
    Term,
    /// To a shim: end the tree now.
    Quit,
    /// End now; cannot be refused.
    Kill,
    /// The terminal is gone.
    Hup,
    /// To a shim: freeze. To a tmux server of ours: make the socket anew.
    Usr1,
    /// To a shim: thaw.
    Usr2,
    /// Stop; cannot be refused.
    Stop,
    /// Go on.
    Cont,
}

impl Signal {
    /// Its number on this machine.
    pub fn number(self) -> i32 {
        self.rustix().as_raw()
    }

    fn rustix(self) -> rustix::process::Signal {
        match self {
            Self::Term => rustix::process::Signal::TERM,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Kill => rustix::process::Signal::KILL,
            Self::Hup => rustix::process::Signal::HUP,
            Self::Usr1 => rustix::process::Signal::USR1,
            Self::Usr2 => rustix::process::Signal::USR2,
            Self::Stop => rustix::process::Signal::STOP,
            Self::Cont => rustix::process::Signal::CONT,
        }
    }
}

/// Why a process is ours to signal. As JSON: an object tagged by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// Its identity was recorded when we started or adopted it.
    Recorded,
    /// It was seen below a proven process, by identity.
    Descendant {
        /// The proven process.
        ancestor: ProcessId,
        /// When the ancestry was seen.
        captured_at: Timestamp,
    },
    /// It is in the process group of a recorded process, and no older.
    Group {
        /// The recorded process.
        leader: ProcessId,
    },
    /// It is in the session of a recorded process, and no older.
    Session {
        /// The recorded process.
        leader: ProcessId,
    },
    /// It is in the cgroup recorded for its instance.
    Cgroup {
        /// Path in the unified hierarchy.
        path: String,
    },
    /// It is a tmux server that we started. Permits [`Signal::Usr1`] only, which makes it restore its socket.
    Server {
        /// The socket it was started with.
        socket: String,
    },
}

/// A process together with the proof that it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    id: ProcessId,
    proof: Proof,
}

impl Target {
    /// A process that may be signalled because of this proof. What can be checked of the proof is checked
    /// again by [`send`].
    pub const fn new(id: ProcessId, proof: Proof) -> Self {
        Self { id, proof }
    }

    /// Who.
    pub const fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Why.
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }
}

/// Evidence of a signal that was sent, for the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// To whom.
    pub target: ProcessId,
    /// What it called itself, for the reader.
    pub comm: String,
    /// What.
    pub signal: Signal,
    /// Why it is ours.
    pub proof: Proof,
    /// When.
    pub at: Timestamp,
}

/// Why a signal was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is this process.
    #[error("it is this very process")]
    Ourselves,
    /// It is an ancestor of ours or a known tmux server.
    #[error("process {0} is one we stand on, an ancestor or a tmux server")]
    Protected(ProcessId),
    /// It is in our own group or session.
    #[error("process {0} is in our own group or session")]
    OurSession(ProcessId),
    /// It is a tmux server.
    #[error("process {0} is a tmux server")]
    TmuxServer(ProcessId),
    /// The proof does not hold, or not for this signal.
    #[error("process {id} is not proven ours: {why}")]
    Unproven {
        /// Who.
        id: ProcessId,
        /// What is missing.
        why: String,
    },
    /// It is gone, which is often what was wanted.
    #[error("the process is gone: {0}")]
    Gone(Evidence),
    /// The kernel does not let us.
    #[error("not permitted to signal process {0}")]
    NotPermitted(ProcessId),
    /// It could not be told who it is.
    #[error("the process cannot be verified: {0}")]
    Unknown(String),
}

/// Sends one signal to one process: opens a handle, verifies identity, guard and proof as they are now, and
/// sends through the handle.
///
/// # Errors
/// [`Refused`] says why nothing was sent; [`Refused::Gone`] carries the evidence of the death.
pub fn send(guard: &Guard, target: &Target, signal: Signal) -> Result<Sent, Refused> {
    let id = &target.id;
    if guard.is_own(id) {
        return Err(Refused::Ourselves);
    }
    let handle = Handle::open(id).map_err(|error| match error {
        OpenError::Gone(evidence) => Refused::Gone(evidence),
        OpenError::Unknown(why) => Refused::Unknown(why),
    })?;
    let stat = &handle.stat;
    let server = is_tmux_server(stat);
    if let Proof::Server { .. } = target.proof {
        may_restore_socket(id, server, signal)?;
    } else {
        if let Some(refused) = guard.protects(id, stat) {
            return Err(refused);
        }
        if server {
            return Err(Refused::TmuxServer(id.clone()));
        }
        holds(&target.proof, id, stat).map_err(|why| Refused::Unproven { id: id.clone(), why })?;
        in_cgroup(&target.proof, id)?;
    }
    match handle.send(signal.rustix()) {
        Ok(()) => Ok(Sent {
            target: id.clone(),
            comm: stat.comm.clone(),
            signal,
            proof: target.proof.clone(),
            at: Timestamp::now(),
        }),
        Err(Errno::SRCH) => Err(Refused::Gone(Evidence::NoSuchProcess)),
        Err(Errno::PERM) => Err(Refused::NotPermitted(id.clone())),
        Err(errno) => Err(Refused::Unknown(format!("signal to process {id}: {errno}"))),
    }
}

fn may_restore_socket(id: &ProcessId, server: bool, signal: Signal) -> Result<(), Refused> {
    let why = match (server, signal) {
        (true, Signal::Usr1) => return Ok(()),
        (true, _) => "a tmux server of ours may only be asked to restore its socket",
        (false, _) => "it is no tmux server",
    };
    Err(Refused::Unproven { id: id.clone(), why: why.into() })
}

/// The part of a proof that the process's own line can still confirm.
fn holds(proof: &Proof, id: &ProcessId, stat: &Stat) -> Result<(), String> {
    let related = |other: &ProcessId, what: &str| {
        if other == id {
            return Err(format!("it cannot be its own {what}"));
        }
        if other.boot != id.boot || other.start > id.start {
            return Err(format!("it is older than the {what} {other}"));
        }
        Ok(())
    };
    match proof {
        Proof::Recorded | Proof::Cgroup { .. } | Proof::Server { .. } => Ok(()),
        Proof::Descendant { ancestor, .. } => related(ancestor, "ancestor"),
        Proof::Group { leader } if stat.group == leader.pid.get() => related(leader, "group leader"),
        Proof::Group { leader } => Err(format!("it is in group {}, not in {}", stat.group, leader.pid)),
        Proof::Session { leader } if stat.session == leader.pid.get() => related(leader, "session leader"),
        Proof::Session { leader } => Err(format!("it is in session {}, not in {}", stat.session, leader.pid)),
    }
}

/// Whether a process proven by a cgroup is still in it.
fn in_cgroup(proof: &Proof, id: &ProcessId) -> Result<(), Refused> {
    let Proof::Cgroup { path } = proof else { return Ok(()) };
    match facts::cgroup(id) {
        Observation::Alive(now) if is_within(&now, path) => Ok(()),
        Observation::Alive(now) => {
            Err(Refused::Unproven { id: id.clone(), why: format!("it is in cgroup {now}, not in {path}") })
        }
        Observation::Absent => {
            Err(Refused::Unproven { id: id.clone(), why: format!("it is in no cgroup, not in {path}") })
        }
        Observation::Dead(evidence) => Err(Refused::Gone(evidence)),
        Observation::Unknown(why) => Err(Refused::Unknown(why)),
    }
}

/// Whether a cgroup is this one or below it. The root holds everybody and proves nothing.
fn is_within(now: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    !path.is_empty() && now.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::id::Pid;
    use crate::process::id::StartTime;
    use crate::process::observe::identify;
    use crate::process::table::ProcessTable;
    use crate::process::table::tests::id;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    /// A sleeper in a group of its own, ended on drop.
    struct Sleeper(Child, ProcessId);

    impl Sleeper {
        fn new(group: bool) -> Self {
            let mut command = Command::new("sleep");
            command.arg("300");
            if group {
                command.process_group(0);
            }
            let child = command.spawn().unwrap();
            let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
            let id = identify(pid).alive().unwrap();
            Self(child, id)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn recorded(id: &ProcessId) -> Target {
        Target::new(id.clone(), Proof::Recorded)
    }

    #[test]
    fn we_our_ancestors_and_our_session_are_refused() {
        let table = ProcessTable::read().unwrap();
        let guard = Guard::from_table(&table, []).unwrap();
        let own = ProcessId::own().unwrap();
        assert_eq!(send(&guard, &recorded(&own), Signal::Cont), Err(Refused::Ourselves));
        for parent in table.ancestors(own.pid).unwrap().chain {
            let refused = send(&guard, &recorded(&parent), Signal::Cont).unwrap_err();
            assert_eq!(refused, Refused::Protected(parent));
        }
        let sleeper = Sleeper::new(false);
        let refused = send(&guard, &recorded(&sleeper.1), Signal::Cont).unwrap_err();
        assert_eq!(refused, Refused::OurSession(sleeper.1.clone()));
    }

    #[test]
    fn a_reused_number_is_not_signalled() {
        let mut sleeper = Sleeper::new(true);
        let guard = Guard::of_shim(ProcessId::own().unwrap().pid, []);
        let stale = ProcessId { start: StartTime::new(sleeper.1.start.get() - 1), ..sleeper.1.clone() };
        assert!(matches!(
            send(&guard, &recorded(&stale), Signal::Kill),
            Err(Refused::Gone(Evidence::StartDiffers { .. }))
        ));
        assert!(sleeper.0.try_wait().unwrap().is_none());
        let sent = send(&guard, &recorded(&sleeper.1), Signal::Kill).unwrap();
        assert_eq!((sent.target, sent.signal), (sleeper.1.clone(), Signal::Kill));
        sleeper.0.wait().unwrap();
        assert!(matches!(send(&guard, &recorded(&sleeper.1), Signal::Kill), Err(Refused::Gone(_))));
    }

    #[test]
    fn known_servers_are_refused_and_server_proof_permits_only_the_socket() {
        let sleeper = Sleeper::new(true);
        let guard = Guard::of_shim(ProcessId::own().unwrap().pid, [sleeper.1.clone()]);
        let refused = send(&guard, &recorded(&sleeper.1), Signal::Term).unwrap_err();
        assert_eq!(refused, Refused::Protected(sleeper.1.clone()));
        let server = Target::new(sleeper.1.clone(), Proof::Server { socket: "/s".into() });
        assert!(matches!(send(&guard, &server, Signal::Usr1), Err(Refused::Unproven { .. })));
        assert!(may_restore_socket(&sleeper.1, true, Signal::Usr1).is_ok());
        assert!(may_restore_socket(&sleeper.1, true, Signal::Term).is_err());
    }

    #[test]
    fn a_proof_that_no_longer_holds_is_refused() {
        let sleeper = Sleeper::new(true);
        let guard = Guard::of_shim(ProcessId::own().unwrap().pid, []);
        let other = ProcessId::own().unwrap();
        let own_group = sleeper.1.clone();
        let later = ProcessId { start: StartTime::new(u64::MAX), ..other.clone() };
        for proof in [
            Proof::Group { leader: other.clone() },
            Proof::Session { leader: sleeper.1.clone() },
            Proof::Group { leader: own_group },
            Proof::Descendant { ancestor: sleeper.1.clone(), captured_at: Timestamp::now() },
            Proof::Descendant { ancestor: later, captured_at: Timestamp::now() },
            Proof::Cgroup { path: "/no/such".into() },
            Proof::Cgroup { path: "/".into() },
        ] {
            let target = Target::new(sleeper.1.clone(), proof);
            let result = send(&guard, &target, Signal::Kill);
            assert!(matches!(result, Err(Refused::Unproven { .. })), "{target:?} {result:?}");
        }
        let ours = Target::new(
            sleeper.1.clone(),
            Proof::Descendant { ancestor: other, captured_at: Timestamp::now() },
        );
        send(&guard, &ours, Signal::Cont).unwrap();
    }

    #[test]
    fn cgroups_are_compared_by_whole_names() {
        assert!(is_within("/a/b", "/a/b") && is_within("/a/b/c", "/a/b/"));
        assert!(!is_within("/a/bc", "/a/b") && !is_within("/a", "/a/b") && !is_within("/a", "/"));
    }

    #[test]
    fn evidence_is_plain_json() {
        let sent = Sent {
            target: id(7, 9),
            comm: "x".into(),
            signal: Signal::Term,
            proof: Proof::Group { leader: id(6, 8) },
            at: Timestamp::UNIX_EPOCH,
        };
        let json = serde_json::to_string(&sent).unwrap();
        assert_eq!(
            json,
            r#"{"target":{"boot":"b","pid":7,"start":9},"comm":"x","signal":"TERM","proof":{"kind":"group","leader":{"boot":"b","pid":6,"start":8}},"at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(serde_json::from_str::<Sent>(&json).unwrap(), sent);
    }
}
