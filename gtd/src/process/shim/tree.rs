//! Everything below a shim: looking and signalling.
//!
//! Owns the walk. Because the shim is the child subreaper, its descendants are all there is of the agent,
//! however they daemonised. Signals go to processes seen below us in the same breath, through the one
//! primitive.

use std::collections::HashSet;
use std::io;

use jiff::Timestamp;

use crate::process::below::{View, below, is_still};
use crate::process::guard::Guard;
use crate::process::id::{BootId, Pid, ProcessId};
use crate::process::procfs::{self, Proc};
use crate::process::record::Left;
use crate::process::signal::{Proof, Signal, Target, send};
use crate::process::spare::{Look as _, Spare};
use crate::process::stat::Stat;

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
    asked: HashSet<(ProcessId, Signal)>,
    forced_before: bool,
    frost: Frost,
}

/// What a freeze has done.
#[derive(Default)]
struct Frost {
    /// What was stopped by us, or stood still already.
    stopped: HashSet<ProcessId>,
    /// What stood still before: it is nobody's to let go but theirs who stopped it.
    before: HashSet<ProcessId>,
}

impl Tree {
    pub(super) fn new(own: ProcessId, guard: Guard, spare: Spare) -> io::Result<Self> {
        Ok(Self {
            own,
            agent: None,
            guard,
            spare,
            proc: Proc::open()?,
            asked: HashSet::new(),
            forced_before: false,
            frost: Frost::default(),
        })
    }

    /// Names the agent, which is never spared for its name.
    pub(super) fn set_agent(&mut self, agent: ProcessId) {
        self.agent = Some(agent);
    }

    /// Looks. An error leaves the view incomplete, never empty and complete.
    pub(super) fn look(&mut self) -> View {
        let (agent, spare, boot) = (&self.agent, &self.spare, &self.own.boot);
        let is_spared = |stat: &Stat| agent.as_ref() != Some(&stat.id(boot)) && spare.spared(stat).is_some();
        below(&self.own, &mut self.proc, is_spared).unwrap_or_default()
    }

    /// Asks every process that has not been asked yet, parents first.
    pub(super) fn ask(&mut self, signals: &[Signal]) {
        // Who is asked to end is not kept from it.
        self.frost = Frost::default();
        let view = self.look();
        for stat in &view.ours {
            for signal in signals {
                if self.asked.insert((self.id(stat), *signal)) {
                    self.signal(stat, *signal);
                }
            }
        }
    }

    /// Stops everything, parents first so that none sees its children stop, until a look finds nothing new. What
    /// was stopped before is let be: somebody may have let it go on since. Returns what stands still, once a whole
    /// look found nothing else.
    pub(super) fn freeze(&mut self) -> Option<Vec<Left>> {
        let mut frost = std::mem::take(&mut self.frost);
        let mut still = None;
        for _ in 0..SWEEPS {
            let view = self.look();
            let fresh: Vec<&Stat> =
                view.ours.iter().filter(|stat| frost.stopped.insert(self.id(stat))).collect();
            if fresh.is_empty() && view.complete {
                still = view.ours.iter().all(is_still).then(|| Self::list(&view.ours));
                break;
            }
            for stat in fresh {
                // An agent that stopped itself would have been continued by us.
                if stat.is_stopped() && self.agent.as_ref() != Some(&self.id(stat)) {
                    frost.before.insert(self.id(stat));
                } else {
                    self.signal(stat, Signal::Stop);
                }
            }
        }
        self.frost = frost;
        still
    }

    /// Lets go on what [`Self::freeze`] stopped, children first. False while something may have been missed: to be
    /// repeated then.
    pub(super) fn thaw(&mut self) -> bool {
        let frost = std::mem::take(&mut self.frost);
        let mut continued = HashSet::new();
        for _ in 0..SWEEPS {
            let view = self.look();
            let ours = |id: &ProcessId| frost.stopped.contains(id) && !frost.before.contains(id);
            let held = view.ours.iter().rev().filter(|stat| ours(&self.id(stat)));
            let fresh: Vec<&Stat> = held.filter(|stat| continued.insert(self.id(stat))).collect();
            if fresh.is_empty() && view.complete {
                return true;
            }
            for stat in fresh {
                self.signal(stat, Signal::Cont);
            }
        }
        self.frost = frost;
        false
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
        self.frost = Frost::default();
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
