//! Programs that live on when an agent's tree is ended, with everything below them.
//!
//! Owns the recognition of tmux servers, of a gtd at work, and of what the user listed. Sparing is the one
//! place where names count, because here a mistake lets something live; it must never be a reason to signal.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::facts::{self, Marker};
use super::id::{Pid, ProcessId};
use super::observe::Observation;
use super::procfs;
use super::stat::Stat;
use super::table::ProcessTable;
use crate::host::drill;

/// The kernel keeps this much of a process's name (`TASK_COMM_LEN` less the final zero).
const COMM_BYTES: usize = 15;
/// The file a working gtd holds locked.
const DAEMON_LOCK: &str = "daemon.lock";

/// Why a process is spared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SparedAs {
    /// A tmux server: other people's sessions live in it.
    TmuxServer,
    /// A gtd that holds a `daemon.lock`.
    Daemon,
    /// The user's configuration names this program.
    Named(String),
    /// It lies below a spared process.
    Below,
}

/// What capturing and stopping ask of the world beyond the table; a trait so that both can be tested purely.
pub trait Look: Send + Sync {
    /// Why this process is to be spared, if it is.
    fn spared(&self, stat: &Stat) -> Option<SparedAs>;
    /// Its marker.
    fn marker(&self, id: &ProcessId) -> Observation<Marker>;
    /// Who is in a cgroup.
    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>>;
    /// Where this process stands, proven or not, is nobody's to end. Asked of each target in the table that the
    /// signal is sent by.
    fn shelters(&self, _table: &ProcessTable, _id: &ProcessId) -> bool {
        false
    }
    /// A pause point: what is to be signalled is decided, and nothing is sent yet.
    fn decided(&self, _id: &ProcessId) {}
}

/// A [`Spare`] whose names may change while others look.
#[derive(Debug, Default)]
pub struct LiveSpare(RwLock<Arc<Spare>>);

impl LiveSpare {
    /// As [`Spare::new`].
    pub fn new(names: &[String]) -> Self {
        Self(RwLock::new(Arc::new(Spare::new(names))))
    }

    /// Spares programs of these names from now on.
    pub fn set(&self, names: &[String]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Spare::new(names));
    }

    fn now(&self) -> Arc<Spare> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Look for LiveSpare {
    fn spared(&self, stat: &Stat) -> Option<SparedAs> {
        self.now().spared(stat)
    }

    fn marker(&self, id: &ProcessId) -> Observation<Marker> {
        self.now().marker(id)
    }

    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>> {
        self.now().cgroup_members(path)
    }

    fn decided(&self, id: &ProcessId) {
        drill::hold("signal", || format!("{} {}", id.pid, id.start.get()));
    }
}

/// Looks at real processes.
#[derive(Clone, Debug, Default)]
pub struct Spare {
    names: BTreeSet<String>,
}

impl Spare {
    /// Spares tmux servers, working gtds, and programs of these names (`[stop] spare`).
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(Into::into).filter(|name: &String| !name.is_empty()).collect() }
    }

    fn named(&self, comm: &str, program: &str) -> Option<SparedAs> {
        let name = self.names.iter().find(|name| name.as_str() == program || cut(name) == comm)?;
        Some(SparedAs::Named(name.clone()))
    }
}

impl Look for Spare {
    fn spared(&self, stat: &Stat) -> Option<SparedAs> {
        // Reading the program's link costs as much as the rest: only where the name gives a hint.
        if is_tmux_server(stat) {
            return Some(SparedAs::TmuxServer);
        }
        if is_working_daemon(stat) {
            return Some(SparedAs::Daemon);
        }
        if self.names.is_empty() {
            return None;
        }
        self.named(&stat.comm, &procfs::program(stat.pid).unwrap_or_default())
    }

    fn marker(&self, id: &ProcessId) -> Observation<Marker> {
        facts::marker(id)
    }

    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>> {
        facts::cgroup_members(path)
    }
}

/// Whether this process is a tmux server, or a tmux that has not said yet what it will be.
pub fn is_tmux_server(stat: &Stat) -> bool {
    may_be_tmux_server(&stat.comm, || procfs::program(stat.pid).unwrap_or_default())
}

/// A tmux server names itself `tmux: server`, after the file it was started from and cut short by the
/// kernel; for a moment after its start it is only `tmux`. Clients (`tmux: client`) are nobody's sessions.
fn may_be_tmux_server(comm: &str, program: impl FnOnce() -> String) -> bool {
    if comm.starts_with("tmux") && comm.contains(": s") {
        return true;
    }
    (comm.starts_with("tmux") && !comm.contains(": ") || comm.ends_with(": server"))
        && program().starts_with("tmux")
}

/// A gtd at work holds its lock. Where its open files cannot be read it is taken to hold it.
fn is_working_daemon(stat: &Stat) -> bool {
    stat.comm.starts_with("gtd")
        && stat.comm != "gtd-shim"
        && procfs::holds_lock_on(stat.pid, DAEMON_LOCK).unwrap_or(true)
}

/// A name as the kernel would cut it.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(COMM_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmux_servers_are_recognised_under_their_names() {
        for (comm, program, spared) in [
            ("tmux: server", "tmux", true),
            ("tmux: server", "renamed", true),
            ("tmux3.5a: serve", "tmux3.5a", true),
            ("tmux", "tmux", true),
            ("tmux", "bash", false),
            ("tmuxinator", "ruby", false),
            ("tmux: client", "tmux", false),
            ("x: server", "tmux-next", true),
            ("x: server", "x", false),
            ("claude", "tmux", false),
        ] {
            assert_eq!(may_be_tmux_server(comm, || program.to_owned()), spared, "{comm} {program}");
        }
    }

    #[test]
    fn listed_names_match_program_or_cut_name() {
        let spare = Spare::new(["emacs", "a-very-long-program-name", ""]);
        assert_eq!(spare.named("emacs", "emacs-29"), Some(SparedAs::Named("emacs".into())));
        assert_eq!(spare.named("renamed", "emacs"), Some(SparedAs::Named("emacs".into())));
        assert!(spare.named("a-very-long-pro", "").is_some());
        assert_eq!(spare.named("", ""), None);
        assert_eq!(spare.named("emac", "em"), None);
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aaaaaaaaaaaaaaé"), "aaaaaaaaaaaaaa");
        assert_eq!(cut("short"), "short");
    }
}
