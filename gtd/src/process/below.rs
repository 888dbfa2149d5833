//! What lies below a process at this moment, and whether it stands still.
//!
//! Owns the walk through the kernel's lists of children; its cost is that of the tree, not of the machine. An
//! error leaves a view incomplete, never empty and complete. It signals nothing.

use std::collections::HashSet;
use std::io;

use super::id::{Pid, ProcessId};
use super::procfs::{self, Proc};
use super::stat::Stat;
use super::table::ProcessTable;

/// One look at a tree, parents before children, without the dead.
#[derive(Debug, Default)]
pub struct View {
    /// What belongs to the one at the top.
    pub ours: Vec<Stat>,
    /// What is spared, with all below it.
    pub spared: Vec<Stat>,
    /// False when something may have been missed.
    pub complete: bool,
}

/// What is below `top`, through the kernel's lists of children where it has them, else out of a whole table.
///
/// # Errors
/// The kernel did not answer.
pub fn below(top: &ProcessId, proc: &mut Proc, is_spared: impl Fn(&Stat) -> bool) -> io::Result<View> {
    if procfs::has_children_files() { walk(top, proc, is_spared) } else { table(top, is_spared) }
}

/// From the top downwards. Each process is looked at before its children are: below one that was seen standing
/// still nothing can appear any more.
fn walk(top: &ProcessId, proc: &mut Proc, is_spared: impl Fn(&Stat) -> bool) -> io::Result<View> {
    let mut view = View { complete: true, ..View::default() };
    let mut seen = HashSet::from([top.pid]);
    let mut todo = vec![(top.pid, false)];
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
            let stat = match proc.stat(pid) {
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
            let spared = spared || is_spared(&stat);
            todo.push((pid, spared));
            if spared { view.spared.push(stat) } else { view.ours.push(stat) }
        }
    }
    Ok(view)
}

/// The same from a whole table, for kernels without those lists.
fn table(top: &ProcessId, is_spared: impl Fn(&Stat) -> bool) -> io::Result<View> {
    let table = ProcessTable::read()?;
    let mut view = View { complete: true, ..View::default() };
    let mut roots = Vec::new();
    let ours = table.below(top, |stat| {
        let spared = is_spared(stat);
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

/// Whether a process stands still: stopped, or in the kernel with a stop waiting for it, so that it cannot do
/// anything of its own before it is stopped. Of a process whose first thread has ended, the others are asked.
pub fn is_still(stat: &Stat) -> bool {
    match stat.state {
        'T' | 't' => true,
        'D' => procfs::stop_is_pending(stat.pid).unwrap_or(false),
        'Z' => {
            let states = procfs::thread_states(stat.pid);
            states.is_ok_and(|states| states.iter().all(|state| matches!(state, 'T' | 't' | 'Z' | 'X')))
        }
        _ => false,
    }
}

/// Whether everything below a shim stands still.
#[derive(Debug, Default)]
pub struct Stillness {
    /// What is there, whether it stands still or not.
    pub processes: Vec<ProcessId>,
    /// What does not stand still: number, name and state letter.
    pub moving: Vec<(Pid, String, char)>,
    /// False when something may have been missed.
    pub complete: bool,
}

impl Stillness {
    /// There is something, all of it was seen, and it stands still.
    pub fn is_whole(&self) -> bool {
        self.complete && self.moving.is_empty() && !self.processes.is_empty()
    }
}

/// Looks at everything below a shim. The agent itself is never spared for its name.
///
/// # Errors
/// The kernel did not answer, or the shim is not there any more.
pub fn stillness(
    shim: &ProcessId,
    agent: Option<&ProcessId>,
    is_spared: impl Fn(&Stat) -> bool,
) -> io::Result<Stillness> {
    let mut proc = Proc::open()?;
    let gone = || io::Error::new(io::ErrorKind::NotFound, "its shim is gone");
    let top =
        proc.stat(shim.pid).map_err(|error| if procfs::is_vanished(&error) { gone() } else { error })?;
    if top.start != shim.start || top.is_gone() {
        return Err(gone());
    }
    let is_agent = |stat: &Stat| agent.is_some_and(|id| id.pid == stat.pid && id.start == stat.start);
    let view = below(shim, &mut proc, |stat| !is_agent(stat) && is_spared(stat))?;
    let moving = view.ours.iter().filter(|stat| !is_still(stat));
    Ok(Stillness {
        moving: moving.map(|stat| (stat.pid, stat.comm.clone(), stat.state)).collect(),
        processes: view.ours.iter().map(|stat| stat.id(&shim.boot)).collect(),
        complete: view.complete,
    })
}
