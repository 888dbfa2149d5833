//! Ending what was left over of instances that are over: the one way, for the heartbeat, for requests and for
//! the doctor.
//!
//! Owns the choice of what is swept and the protection of what is not. It must never end anything that a
//! [`Capture`] does not prove at the instant of the signal, nor anything that stands below a tmux server or in a
//! pane that is not an agent's of ours, whatever is proven of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::attribution::{Attribution, Ground, Judged, OnRecord, Verdict};
use super::exit::ExitWatcher;
use super::facts::Marker;
use super::id::{Pid, ProcessId};
use super::observe::Observation;
use super::procfs::exists;
use super::spare::{Look, SparedAs, is_tmux_server};
use super::stat::Stat;
use super::stop::{EndOptions, EndReport, end};
use super::table::ProcessTable;

/// What a sweep did to what was left of one instance.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Which instance.
    pub instance: String,
    /// Of which agent.
    pub agent: String,
    /// What was ended, or was to be, as it was judged before.
    pub targets: Vec<Judged>,
    /// What came of it.
    pub report: EndReport,
}

/// The instances that are to be swept: those of which something proven is left that is older than `min_age`. A
/// process that was made a moment ago may be one of a stop that is under way; its older kin tell that it is not.
#[must_use]
pub fn chosen<'a>(
    seen: &'a Attribution,
    on_record: &'a [OnRecord],
    min_age: Duration,
) -> Vec<(&'a OnRecord, Vec<&'a Judged>)> {
    let over = on_record.iter().filter(|one| !one.live);
    let with_targets = over.map(|one| {
        let of_it = |item: &&Judged| item.instance.as_deref() == Some(one.instance.as_str());
        (one, seen.of(Verdict::Orphan).filter(of_it).collect::<Vec<_>>())
    });
    with_targets.filter(|(_, targets)| targets.iter().any(|target| target.age >= min_age)).collect()
}

/// Ends what is left of one instance: TERM, grace, KILL, verified.
pub async fn sweep(
    watcher: &ExitWatcher,
    one: &OnRecord,
    targets: Vec<Judged>,
    servers: &[ProcessId],
    ground: &Ground,
    look: &Arc<dyn Look>,
    options: EndOptions,
) -> Swept {
    let look: Arc<dyn Look> = Arc::new(Careful { look: Arc::clone(look), panes: ground.panes.clone() });
    let mut capture = one.capture.clone();
    let report = end(watcher, &mut capture, servers, &look, options).await;
    Swept { instance: one.instance.clone(), agent: one.agent.clone(), targets, report }
}

/// Looks as another does, and shelters what stands below tmux servers and in other people's panes.
struct Careful {
    look: Arc<dyn Look>,
    panes: HashSet<ProcessId>,
}

impl Look for Careful {
    fn spared(&self, stat: &Stat) -> Option<SparedAs> {
        self.look.spared(stat)
    }

    fn marker(&self, id: &ProcessId) -> Observation<Marker> {
        self.look.marker(id)
    }

    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>> {
        self.look.cgroup_members(path)
    }

    fn shelters(&self, table: &ProcessTable, id: &ProcessId) -> bool {
        // First who it is, then where it stands now.
        if self.panes.contains(id) || self.look.shelters(table, id) {
            return true;
        }
        let Some(ancestry) = table.ancestors(id.pid) else { return false };
        // A parent that is there and is not shown to us may be a tmux server, or what leads to one.
        let last = ancestry.chain.last().unwrap_or(id);
        let above = table.at_pid(last.pid).and_then(|stat| stat.parent);
        if above.is_some_and(|pid| table.at_pid(pid).is_none() && exists(pid) != Some(false)) {
            return true;
        }
        ancestry
            .chain
            .iter()
            .any(|parent| self.panes.contains(parent) || table.present(parent).is_some_and(is_tmux_server))
    }

    fn decided(&self, id: &ProcessId) {
        self.look.decided(id);
    }
}

#[cfg(test)]
mod tests;
