//! Everything below a shim: looking and signalling.
//!
//! Owns the walk. Because the shim is the child subreaper, its descendants are all there is of the agent,
//! however they daemonised. Signals go to processes seen below us in the same breath, through the one
//! primitive.

use std::collections::HashSet;
use std::io;

use jiff::Timestamp;

use crate::process::guard::Guard;
use crate::process::id::{BootId, Pid, ProcessId};
use crate::process::procfs::{self, Proc};
use crate::process::record::Left;
use crate::process::signal::{Proof, Signal, Target, send};
use crate::process::spare::{Look as _, Spare};
use crate::process::stat::Stat;
use crate::process::table::ProcessTable;

/// Looks at most so often for processes that appear while others are being stopped.
const SWEEPS: usize = 20;
/// A record lists at most so many processes.
const LISTED: usize = 256;

/// The processes below a shim.
pub(super) struct Tree {
    own: ProcessId,
    agent: Option<ProcessId>,
    guard: Guard,
    spare: Spare,
    proc: Proc,
    children_files: bool,
    asked: HashSet<(ProcessId, Signal)>,
    forced_before: bool,
}

/// One look at the tree, parents before children, without the dead.
#[derive(Default)]
pub(super) struct View {
    /// What is the agent's.
    pub(super) ours: Vec<Stat>,
    /// What is spared, with all below it.
    pub(super) spared: Vec<Stat>,
    /// False when something may have been missed.
    pub(super) complete: bool,
}

impl Tree {
    pub(super) fn new(own: ProcessId, guard: Guard, spare: Spare) -> io::Result<Self> {
        Ok(Self {
            own,
            agent: None,
            guard,
            spare,
            proc: Proc::open()?,
            children_files: procfs::has_children_files(),
            asked: HashSet::new(),
            forced_before: false,
        })
    }

    /// Names the agent, which is never spared for its name.
    pub(super) fn set_agent(&mut self, agent: ProcessId) {
        self.agent = Some(agent);
    }

    /// Looks. An error leaves the view incomplete, never empty and complete.
    pub(super) fn look(&mut self) -> View {
        let found = if self.children_files { self.walk() } else { self.table() };
        found.unwrap_or_default()
    }

    /// Asks every process that has not been asked yet, parents first.
    pub(super) fn ask(&mut self, signals: &[Signal]) {
        let view = self.look();
        for stat in &view.ours {
            for signal in signals {
                if self.asked.insert((self.id(stat), *signal)) {
                    self.signal(stat, *signal);
                }
            }
        }
    }

    /// Stops everything, parents first so that none sees its children stop, until a look finds nothing new.
    pub(super) fn freeze(&mut self) {
        let mut stopped = HashSet::new();
        for _ in 0..SWEEPS {
            let view = self.look();
            let fresh: Vec<&Stat> = view.ours.iter().filter(|stat| stopped.insert(self.id(stat))).collect();
            if fresh.is_empty() && view.complete {
                return;
            }
            for stat in fresh {
                self.signal(stat, Signal::Stop);
            }
        }
    }

    /// Lets everything go on, children first.
    pub(super) fn thaw(&mut self) {
        let view = self.look();
        for stat in view.ours.iter().rev() {
            self.signal(stat, Signal::Cont);
        }
    }

    /// Lets the stopped members of one group go on.
    pub(super) fn resume_group(&mut self, group: Pid) {
        let view = self.look();
        for stat in view.ours.iter().rev().filter(|stat| stat.group == group.get()) {
            self.signal(stat, Signal::Cont);
        }
    }

    /// Kills everything. From the second time on it stops everything first: what is left then is being
    /// made faster than it is killed, and a stopped process makes no more.
    pub(super) fn kill(&mut self) {
        if self.forced_before {
            self.freeze();
        }
        self.forced_before = true;
        let view = self.look();
        for stat in &view.ours {
            self.signal(stat, Signal::Kill);
        }
    }

    /// A list for the record.
    pub(super) fn list(stats: &[Stat]) -> Vec<Left> {
        let left = |stat: &Stat| Left { pid: stat.pid, start: stat.start, comm: stat.comm.clone() };
        stats.iter().take(LISTED).map(left).collect()
    }

    fn id(&self, stat: &Stat) -> ProcessId {
        stat.id(&self.own.boot)
    }

    /// Whatever is refused is looked at again in the next round, and reported in the end.
    fn signal(&self, stat: &Stat, signal: Signal) {
        let id = self.id(stat);
        let proof = if self.agent.as_ref() == Some(&id) {
            Proof::Recorded
        } else {
            Proof::Descendant { ancestor: self.own.clone(), captured_at: Timestamp::now() }
        };
        let _ = send(&self.guard, &Target::new(id, proof), signal);
    }

    fn is_spared(&self, stat: &Stat) -> bool {
        self.agent.as_ref() != Some(&self.id(stat)) && self.spare.spared(stat).is_some()
    }

    /// From us downwards through the kernel's lists of children: its cost is that of our own tree.
    fn walk(&mut self) -> io::Result<View> {
        let mut view = View { complete: true, ..View::default() };
        let mut seen = HashSet::from([self.own.pid]);
        let mut todo = vec![(self.own.pid, false)];
        while let Some((parent, spared)) = todo.pop() {
            let children = match procfs::children(parent) {
                Ok(children) => children,
                Err(error) if procfs::is_vanished(&error) => {
                    // Its children have a new parent, which may have been looked at already.
                    view.complete = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for pid in children {
                let stat = match self.proc.stat(pid) {
                    // Still a child of the one that listed it, so the number did not change hands.
                    Ok(stat) if stat.parent == Some(parent) => stat,
                    Ok(_) => {
                        view.complete = false;
                        continue;
                    }
                    Err(error) if procfs::is_vanished(&error) => continue,
                    Err(error) => return Err(error),
                };
                if stat.is_gone() || !seen.insert(pid) {
                    continue;
                }
                let spared = spared || self.is_spared(&stat);
                todo.push((pid, spared));
                if spared { view.spared.push(stat) } else { view.ours.push(stat) }
            }
        }
        Ok(view)
    }

    /// The same from a whole table, for kernels without those lists.
    fn table(&self) -> io::Result<View> {
        let table = ProcessTable::read()?;
        let mut view = View { complete: true, ..View::default() };
        let mut roots = Vec::new();
        let ours = table.below(&self.own, |stat| {
            let spared = self.is_spared(stat);
            if spared {
                roots.push(stat.clone());
            }
            !spared
        });
        view.ours.extend(ours.into_iter().cloned());
        for root in roots {
            view.spared.extend(table.below(&table.id_of(&root), |_| true).into_iter().cloned());
            view.spared.push(root);
        }
        Ok(view)
    }
}

/// A guard for us: our ancestors, of which the tmux server is one.
pub(super) fn guard(own: &ProcessId) -> io::Result<Guard> {
    let boot = BootId::current()?;
    let mut proc = Proc::open()?;
    let mut ancestors = Vec::new();
    let mut at = proc.stat(own.pid)?;
    while let Some(parent) = at.parent {
        at = match proc.stat(parent) {
            Ok(stat) => stat,
            Err(error) if procfs::is_vanished(&error) => break,
            Err(error) => return Err(error),
        };
        ancestors.push(at.id(&boot));
    }
    Ok(Guard::of_shim(own.pid, ancestors))
}
