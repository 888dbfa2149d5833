//! Where nothing is ours to end, whatever the record says: tmux servers and all below them, and what we stand on.

use std::collections::{HashMap, HashSet};

use crate::process::id::{Pid, ProcessId};
use crate::process::stat::Stat;
use crate::process::table::ProcessTable;

/// Longest chain of parents; see `table`.
const MAX_DEPTH: usize = 4096;

/// Who stands below which tmux server.
#[derive(Clone, Debug, Default)]
pub struct Shelter {
    servers: HashSet<Pid>,
    below: HashMap<Pid, Option<Pid>>,
}

/// Ourselves and what we stand on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Ourselves and our parents.
    pub line: HashSet<ProcessId>,
    /// Our process group.
    pub group: Option<i32>,
    /// Our session.
    pub session: Option<i32>,
}

impl Own {
    /// That of this process, as the table shows it.
    pub(super) fn in_table(table: &ProcessTable) -> Self {
        let Some((own, stat)) = Pid::own().and_then(|own| Some((own, table.at_pid(own)?))) else {
            return Self::default();
        };
        let mut line: HashSet<ProcessId> =
            table.ancestors(own).map(|a| a.chain).unwrap_or_default().into_iter().collect();
        line.insert(table.id_of(stat));
        Self { line, group: Some(stat.group), session: Some(stat.session) }
    }
}

impl Shelter {
    /// One pass over the table: each process is walked up from once.
    #[must_use]
    pub fn of(table: &ProcessTable, servers: &HashSet<Pid>) -> Self {
        let mut below: HashMap<Pid, Option<Pid>> = HashMap::with_capacity(table.len());
        let mut path: Vec<Pid> = Vec::new();
        for stat in table.iter() {
            path.clear();
            let mut at = stat;
            let found = loop {
                if let Some(known) = below.get(&at.pid) {
                    break *known;
                }
                path.push(at.pid);
                let parent = at.parent.and_then(|parent| table.at_pid(parent));
                match parent.filter(|parent| parent.start <= at.start && path.len() < MAX_DEPTH) {
                    Some(parent) if servers.contains(&parent.pid) => break Some(parent.pid),
                    // A loop, which no real table has.
                    Some(parent) if path.contains(&parent.pid) && path.len() > 64 => break None,
                    Some(parent) => at = parent,
                    None => break None,
                }
            };
            below.extend(path.iter().map(|pid| (*pid, found)));
        }
        Self { servers: servers.clone(), below }
    }

    /// The tmux server above it.
    #[must_use]
    pub fn server_above(&self, pid: Pid) -> Option<Pid> {
        self.below.get(&pid).copied().flatten()
    }

    /// Whether any tmux server is above it.
    #[must_use]
    pub fn is_below(&self, pid: Pid) -> bool {
        self.server_above(pid).is_some()
    }

    /// Why this process is nobody's to end.
    pub(super) fn why(&self, id: &ProcessId, stat: &Stat, own: &Own) -> Option<String> {
        if self.servers.contains(&id.pid) {
            return Some("it is a tmux server".to_owned());
        }
        if let Some(server) = self.server_above(id.pid) {
            return Some(format!("it lies below tmux server {server}"));
        }
        if own.line.contains(id) {
            return Some("it is this process or one above it".to_owned());
        }
        if own.group == Some(stat.group) || own.session == Some(stat.session) {
            return Some("it is in our own group or session".to_owned());
        }
        None
    }
}
