//! All processes at one moment, and how they descend from one another.
//!
//! Owns the one pass over `/proc` and the questions about kinship. It must never answer from a pass that
//! failed: an unreadable `/proc` is an error, not an empty table. A pass is not atomic, so kinship is believed
//! only where the child is not older than its parent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::Instant;

use jiff::Timestamp;
use rustix::io::Errno;

use super::id::{BootId, Pid, ProcessId};
use super::procfs::{self, Proc};
use super::stat::Stat;

/// Chains of parents longer than this are not followed; `pid_max` is at most 4,194,304 but no real chain
/// comes near a thousand.
const MAX_DEPTH: usize = 4096;

/// Threads that read a table at once, and how many processes one of them reads alone: starting a thread costs as
/// much as five.
const READERS: usize = 4;
const ALONE: usize = 512;

/// One pass over the process table.
#[derive(Clone, Debug)]
pub struct ProcessTable {
    boot: BootId,
    began: Instant,
    at: Timestamp,
    entries: BTreeMap<Pid, Stat>,
    children: HashMap<Pid, Vec<Pid>>,
    groups: HashMap<i32, Vec<Pid>>,
    sessions: HashMap<i32, Vec<Pid>>,
    unreadable: BTreeSet<Pid>,
}

/// A process's parents, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestry {
    /// The parents, up to but without process 1.
    pub chain: Vec<ProcessId>,
    /// True when the chain reaches process 1 (or the edge of our pid namespace); false when a link was
    /// missing or unreadable, so that there may be more.
    pub complete: bool,
}

impl ProcessTable {
    /// Reads the whole table: about 10 µs per process. Processes that vanish meanwhile are left out.
    ///
    /// # Errors
    /// `/proc` cannot be listed, resources run out, or `/proc` does not show ourselves (another pid
    /// namespace's, or hidden).
    pub fn read() -> io::Result<Self> {
        let boot = BootId::current()?;
        let (began, at) = (Instant::now(), Timestamp::now());
        let pids = Proc::open()?.pids()?;
        let mut stats = Vec::with_capacity(pids.len());
        let mut unreadable = BTreeSet::new();
        for part in read_parts(&pids) {
            let (some, hidden) = part?;
            stats.extend(some);
            unreadable.extend(hidden);
        }
        let table = Self { unreadable, began, at, ..Self::from_stats(boot, stats) };
        match Pid::own() {
            Some(own) if !table.entries.contains_key(&own) => {
                Err(io::Error::other(format!("/proc does not show this process, {own}")))
            }
            _ => Ok(table),
        }
    }

    /// A table of given processes, as of now: for tests and simulations.
    pub fn from_stats(boot: BootId, stats: impl IntoIterator<Item = Stat>) -> Self {
        let entries: BTreeMap<Pid, Stat> = stats.into_iter().map(|stat| (stat.pid, stat)).collect();
        let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
        let mut groups: HashMap<i32, Vec<Pid>> = HashMap::new();
        let mut sessions: HashMap<i32, Vec<Pid>> = HashMap::new();
        for stat in entries.values() {
            groups.entry(stat.group).or_default().push(stat.pid);
            sessions.entry(stat.session).or_default().push(stat.pid);
            let parent = stat.parent.and_then(|parent| entries.get(&parent));
            if let Some(parent) = parent.filter(|parent| parent.start <= stat.start) {
                children.entry(parent.pid).or_default().push(stat.pid);
            }
        }
        let (began, at) = (Instant::now(), Timestamp::now());
        Self { boot, began, at, entries, children, groups, sessions, unreadable: BTreeSet::new() }
    }

    /// The boot it was read in.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// When the pass began, for comparing with other instants.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the pass began, as wall time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Every process in the table, zombies included, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = &Stat> {
        self.entries.values()
    }

    /// How many processes it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True for a table without processes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whoever has this number, zombie or not.
    pub fn at_pid(&self, pid: Pid) -> Option<&Stat> {
        self.entries.get(&pid)
    }

    /// Exactly this process, while it is alive.
    pub fn alive(&self, id: &ProcessId) -> Option<&Stat> {
        self.present(id).filter(|stat| !stat.is_gone())
    }

    /// Exactly this process, alive or a zombie.
    pub fn present(&self, id: &ProcessId) -> Option<&Stat> {
        self.entries.get(&id.pid).filter(|stat| id.boot == self.boot && stat.start == id.start)
    }

    /// Members of the process group of this number, zombies included.
    pub fn in_group(&self, group: i32) -> impl Iterator<Item = &Stat> {
        self.groups.get(&group).into_iter().flatten().filter_map(|pid| self.entries.get(pid))
    }

    /// Members of the session of this number, zombies included.
    pub fn in_session(&self, session: i32) -> impl Iterator<Item = &Stat> {
        self.sessions.get(&session).into_iter().flatten().filter_map(|pid| self.entries.get(pid))
    }

    /// True when a process of this number is there but could not be read.
    pub fn is_unreadable(&self, pid: Pid) -> bool {
        self.unreadable.contains(&pid)
    }

    /// The identity of a process of this table.
    pub fn id_of(&self, stat: &Stat) -> ProcessId {
        stat.id(&self.boot)
    }

    /// Living children of exactly this process.
    pub fn children(&self, id: &ProcessId) -> Vec<ProcessId> {
        self.alive(id)
            .into_iter()
            .flat_map(|stat| self.living_children(stat))
            .map(|s| self.id_of(s))
            .collect()
    }

    /// Everything alive below exactly this process, parents before children, without itself.
    pub fn descendants(&self, id: &ProcessId) -> Vec<ProcessId> {
        self.below(id, |_| true).into_iter().map(|stat| self.id_of(stat)).collect()
    }

    /// Everything alive below exactly this process for which `enter` holds; what lies below a process that
    /// is not entered is left out with it. Parents come before children.
    pub fn below(&self, id: &ProcessId, mut enter: impl FnMut(&Stat) -> bool) -> Vec<&Stat> {
        let mut found: Vec<&Stat> = Vec::new();
        let mut seen = BTreeSet::from([id.pid]);
        let mut todo: Vec<&Stat> = self.alive(id).into_iter().collect();
        while let Some(stat) = todo.pop() {
            for child in self.living_children(stat) {
                if seen.insert(child.pid) && enter(child) {
                    found.push(child);
                    todo.push(child);
                }
            }
        }
        found
    }

    /// The parents of whoever has this number; `None` when it is not in the table.
    pub fn ancestors(&self, pid: Pid) -> Option<Ancestry> {
        let mut at = self.entries.get(&pid)?;
        let mut chain = Vec::new();
        while chain.len() < MAX_DEPTH {
            let Some(parent) = at.parent else { return Some(Ancestry { chain, complete: true }) };
            match self.entries.get(&parent) {
                Some(stat) if stat.start <= at.start => {
                    chain.push(self.id_of(stat));
                    at = stat;
                }
                _ => break,
            }
        }
        Some(Ancestry { chain, complete: false })
    }

    fn living_children<'a>(&'a self, stat: &Stat) -> impl Iterator<Item = &'a Stat> {
        self.children
            .get(&stat.pid)
            .into_iter()
            .flatten()
            .filter_map(|pid| self.entries.get(pid))
            .filter(|child| !child.is_gone())
    }
}

/// What was read of some processes: their lines, and whose lines are hidden.
type Part = io::Result<(Vec<Stat>, Vec<Pid>)>;

/// Reads the lines, of many processes by several threads: it is the kernel that takes the time.
fn read_parts(pids: &[Pid]) -> Vec<Part> {
    let size = pids.len().div_ceil(READERS).max(ALONE);
    if pids.len() <= size {
        return vec![read_part(pids)];
    }
    std::thread::scope(|scope| {
        let readers: Vec<_> = pids.chunks(size).map(|part| scope.spawn(|| read_part(part))).collect();
        let failed = |_| Err(io::Error::other("a reader of the process table failed"));
        readers.into_iter().map(|reader| reader.join().unwrap_or_else(failed)).collect()
    })
}

fn read_part(pids: &[Pid]) -> Part {
    let mut proc = Proc::open()?;
    let (mut stats, mut hidden) = (Vec::with_capacity(pids.len()), Vec::new());
    for pid in pids {
        match proc.stat(*pid) {
            Ok(stat) => stats.push(stat),
            Err(error) if procfs::is_vanished(&error) => {}
            Err(error) if is_about_one(&error) => hidden.push(*pid),
            Err(error) => return Err(error),
        }
    }
    Ok((stats, hidden))
}

/// Errors that concern one process only, such as one that `hidepid` hides.
fn is_about_one(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        || matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::process::id::StartTime;
    use proptest::prelude::*;

    /// A sleeping process in a group and session of its own.
    pub(crate) fn stat(pid: i32, parent: i32, start: u64) -> Stat {
        Stat {
            pid: Pid::new(pid).unwrap(),
            comm: "x".into(),
            state: 'S',
            parent: Pid::new(parent),
            group: pid,
            session: pid,
            tty: 0,
            foreground: -1,
            flags: 0,
            utime: 0,
            stime: 0,
            threads: 1,
            start: StartTime::new(start),
            rss_pages: 1,
            exit_code: 0,
        }
    }

    pub(crate) fn table(stats: impl IntoIterator<Item = Stat>) -> ProcessTable {
        ProcessTable::from_stats(BootId::new("b"), stats)
    }

    pub(crate) fn id(pid: i32, start: u64) -> ProcessId {
        ProcessId { boot: BootId::new("b"), pid: Pid::new(pid).unwrap(), start: StartTime::new(start) }
    }

    fn pids(ids: &[ProcessId]) -> Vec<i32> {
        let mut pids: Vec<i32> = ids.iter().map(|id| id.pid.get()).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn kinship_follows_parents_of_the_same_identity() {
        let mut zombie = stat(14, 11, 9);
        zombie.state = 'Z';
        let table = table([
            stat(10, 1, 1),
            stat(11, 10, 2),
            stat(12, 11, 3),
            stat(13, 10, 3),
            zombie,
            // Older than the process that now has its parent's number: no child of it.
            stat(20, 13, 2),
        ]);
        assert_eq!(pids(&table.descendants(&id(10, 1))), [11, 12, 13]);
        assert_eq!(pids(&table.children(&id(10, 1))), [11, 13]);
        assert_eq!(table.descendants(&id(10, 2)), [], "another start is another process");
        assert_eq!(
            table.ancestors(Pid::new(12).unwrap()).unwrap(),
            Ancestry { chain: vec![id(11, 2), id(10, 1)], complete: true }
        );
        assert!(!table.ancestors(Pid::new(20).unwrap()).unwrap().complete);
        assert_eq!(table.ancestors(Pid::new(99).unwrap()), None);
        assert!(table.alive(&id(14, 9)).is_none() && table.present(&id(14, 9)).is_some());
        let mut other = id(10, 1);
        other.boot = BootId::new("c");
        assert!(table.present(&other).is_none());
    }

    #[test]
    fn what_is_not_entered_is_left_out_with_all_below() {
        let table = table([stat(10, 1, 1), stat(11, 10, 2), stat(12, 11, 3), stat(13, 10, 3)]);
        let below = table.below(&id(10, 1), |stat| stat.pid.get() != 11);
        assert_eq!(below.iter().map(|s| s.pid.get()).collect::<Vec<_>>(), [13]);
    }

    #[test]
    fn the_real_table_has_us_and_our_parents() {
        let table = ProcessTable::read().unwrap();
        let own = ProcessId::own().unwrap();
        assert!(table.alive(&own).is_some());
        let ancestry = table.ancestors(own.pid).unwrap();
        for parent in &ancestry.chain {
            assert!(table.descendants(parent).contains(&own));
        }
    }

    proptest! {
        #[test]
        fn no_parents_make_it_loop(parents in proptest::collection::vec((2_i32..40, 0_u64..3), 38)) {
            let stats = parents.iter().zip(2..).map(|((parent, start), pid)| stat(pid, *parent, *start));
            let table = table(stats);
            for entry in table.iter() {
                let own = table.id_of(entry);
                let below = table.descendants(&own);
                prop_assert!(below.len() < 38);
                prop_assert!(!below.contains(&own));
                table.ancestors(entry.pid).unwrap();
            }
        }
    }
}
