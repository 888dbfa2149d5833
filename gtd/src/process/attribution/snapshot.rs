//! One look at all processes and what must be known of some of them: one pass, no program started.
//!
//! The environment is read of those only that stand outside of every tmux server; below one nothing can follow
//! from it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::likeness::{self, Likeness};
use super::remembered;
use super::shelter::{Own, Shelter};
use crate::process::facts::{self, Marker};
use crate::process::id::{Pid, ProcessId};
use crate::process::observe::{Observation, observe};
use crate::process::procfs::{self, Proc};
use crate::process::spare::{Look, SparedAs, is_tmux_server};
use crate::process::stat::Stat;
use crate::process::table::ProcessTable;

/// The kernel's flag for its own threads (`PF_KTHREAD` in `linux/sched.h`), which have no environment.
const KERNEL: u64 = 0x0020_0000;
/// One clock tick (`USER_HZ` is 100 wherever Linux runs).
const TICK: Duration = Duration::from_millis(10);
/// Words of a command line that are kept, and characters of each.
const WORDS: (usize, usize) = (8, 200);
/// Threads that read environments: it is waiting for the kernel, and the table has thousands.
const READERS: usize = 4;

/// All processes at one moment, with what was read of some.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The table.
    pub table: ProcessTable,
    /// The tmux servers in it.
    pub servers: HashSet<Pid>,
    /// Ourselves.
    pub own: Own,
    /// What was read of those about which there is something to know.
    pub facts: HashMap<Pid, Facts>,
    /// Whose environment was read.
    pub looked_into: HashSet<Pid>,
    /// Members of cgroups that are on record.
    pub cgroups: HashMap<String, Observation<Vec<Pid>>>,
    /// Time since the machine was started.
    pub since_boot: Duration,
}

/// What was read of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its marker.
    pub marker: Option<Marker>,
    /// Why its environment could not be read.
    pub unread: Option<String>,
    /// What it looks like.
    pub likeness: Option<Likeness>,
    /// Its directory.
    pub cwd: Option<PathBuf>,
    /// Its words.
    pub arguments: Vec<String>,
}

impl Snapshot {
    /// Looks at all processes. Blocks for about 20 µs per process outside of tmux.
    ///
    /// # Errors
    /// The table cannot be read whole.
    pub fn read() -> io::Result<Self> {
        let table = ProcessTable::read()?;
        let servers: HashSet<Pid> =
            table.iter().filter(|stat| is_tmux_server(stat)).map(|stat| stat.pid).collect();
        let own = Own::in_table(&table);
        let shelter = Shelter::of(&table, &servers);
        let candidates: Vec<&Stat> = table
            .iter()
            .filter(|stat| !stat.is_gone() && stat.flags & KERNEL == 0 && !shelter.is_below(stat.pid))
            .collect();
        let looked_into = candidates.iter().map(|stat| stat.pid).collect();
        let facts = read_all(&table, &candidates)?;
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = Duration::new(
            u64::try_from(since_boot.tv_sec).unwrap_or(0),
            u32::try_from(since_boot.tv_nsec).unwrap_or(0),
        );
        Ok(Self { servers, own, facts, looked_into, cgroups: HashMap::new(), since_boot, table })
    }

    /// How long ago a process of it began.
    #[must_use]
    pub fn age(&self, stat: &Stat) -> Duration {
        let ticks = u32::try_from(stat.start.get()).unwrap_or(u32::MAX);
        self.since_boot.saturating_sub(TICK.saturating_mul(ticks))
    }
}

fn read_all(table: &ProcessTable, candidates: &[&Stat]) -> io::Result<HashMap<Pid, Facts>> {
    let size = candidates.len().div_ceil(READERS).max(64);
    std::thread::scope(|scope| {
        let readers: Vec<_> = candidates
            .chunks(size)
            .map(|chunk| {
                scope.spawn(move || {
                    let mut reader = Reader { proc: Proc::open()?, buffer: Vec::new() };
                    let read = |stat: &&Stat| Some((stat.pid, reader.read(table, stat)?));
                    Ok::<_, io::Error>(chunk.iter().filter_map(read).collect::<Vec<_>>())
                })
            })
            .collect();
        let mut all = HashMap::new();
        for reader in readers {
            let failed = |_| Err(io::Error::other("a reader of environments failed"));
            all.extend(reader.join().unwrap_or_else(failed)?);
        }
        Ok(all)
    })
}

/// Reads one process after the other.
struct Reader {
    proc: Proc,
    buffer: Vec<u8>,
}

impl Reader {
    /// What is worth keeping of one process: a marker, a likeness, or that it would not be looked at.
    fn read(&mut self, table: &ProcessTable, stat: &Stat) -> Option<Facts> {
        let id = table.id_of(stat);
        let (marker, unread) = match self.marker(id.pid) {
            Ok(marker) => (marker, None),
            Err(error) if procfs::is_vanished(&error) => return None,
            Err(error) => (None, Some(error.to_string())),
        };
        let worth = marker.is_some() || likeness::worth_reading(&stat.comm);
        let arguments = if worth { words(&id) } else { Vec::new() };
        let likeness = likeness::likeness(&stat.comm, &arguments);
        if marker.is_none() && likeness.is_none() && unread.is_none() {
            return None;
        }
        let cwd = if unread.is_none() { facts::cwd(&id).alive() } else { None };
        // What was read is the process's own only if it is still the one of the table.
        let still = matches!(observe(&id), Observation::Alive(_));
        still.then_some(Facts { marker, unread, likeness, cwd, arguments })
    }

    fn marker(&mut self, pid: Pid) -> io::Result<Option<Marker>> {
        let used = self.proc.environ(pid, &mut self.buffer)?;
        let read = self.buffer.get(..used).unwrap_or_default();
        // Most have none, and are done with after one search.
        let may = String::from_utf8_lossy(read).contains("GT_");
        Ok(if may { Marker::parse(read.split(|b| *b == 0)) } else { None })
    }
}

fn words(id: &ProcessId) -> Vec<String> {
    let words = facts::arguments(id).alive().unwrap_or_default();
    let text = |word: PathBuf| word.to_string_lossy().chars().take(WORDS.1).collect();
    words.into_iter().take(WORDS.0).map(text).collect()
}

/// Looks at a snapshot instead of the world.
pub struct Recollection<'a>(pub &'a Snapshot);

impl Look for Recollection<'_> {
    fn spared(&self, stat: &Stat) -> Option<SparedAs> {
        self.0.servers.contains(&stat.pid).then_some(SparedAs::TmuxServer)
    }

    fn marker(&self, id: &ProcessId) -> Observation<Marker> {
        remembered(self.0, id)
    }

    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>> {
        let unknown = || Observation::Unknown("it was not looked at".to_owned());
        self.0.cgroups.get(path).cloned().unwrap_or_else(unknown)
    }
}
