//! What belongs to an instance: recorded, descended, or of a recorded process's group, session or
//! cgroup.
//!
//! Owns the reasoning from tables to proofs; pure but for what it asks through [`Look`]. It must never take a
//! process for ours because of its name, its marker alone, or a number that may have been given away.
//!
//! Ancestry is believed while it leads to a living proven process, and remembered by identity after that. A
//! group or session number is believed while something shows that it cannot have been used again: its
//! recorded leader is there, or a proven member is, or the leader was seen alive a moment ago. Without that, a
//! member whose marker names the instance is accepted, for itself and what it starts but not as a witness for
//! others, and any other is only reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::id::ProcessId;
use super::observe::Observation;
use super::signal::{Proof, Target};
use super::spare::{Look, SparedAs};
use super::stat::Stat;
use super::table::ProcessTable;

/// A number cannot come round again this soon: measured 1.2 s for all of `pid_max` 32,768, the smallest in
/// use, by a program that did nothing but fork.
const REUSE: Duration = Duration::from_millis(500);
/// Most processes remembered for one instance; a fork bomb is ended long before.
const MOST: usize = 16_384;

/// The processes of one instance, as far as they were seen.
#[derive(Clone, Debug)]
pub struct Capture {
    instance: String,
    recorded: BTreeMap<ProcessId, Option<Instant>>,
    seen: BTreeMap<ProcessId, Seen>,
    unproven: BTreeMap<ProcessId, String>,
    cgroup: Option<String>,
}

#[derive(Clone, Debug)]
struct Seen {
    proof: Proof,
    /// Whether its own place in a group or session shows that the number was not used again.
    witness: bool,
}

/// What of an instance is alive in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Proven ours, recorded ones first.
    pub targets: Vec<Target>,
    /// Ours by proof but spared, with all below.
    pub spared: Vec<(ProcessId, SparedAs)>,
    /// Looks like ours but is not proven: to be reported, never signalled. With the reason.
    pub unproven: Vec<(ProcessId, String)>,
}

impl Capture {
    /// Begins with the recorded processes of an instance: shim and agent, or the adopted pane's process.
    pub fn new(instance: impl Into<String>, recorded: impl IntoIterator<Item = ProcessId>) -> Self {
        let recorded = recorded.into_iter().map(|id| (id, None)).collect();
        let instance = instance.into();
        Self { instance, recorded, seen: BTreeMap::new(), unproven: BTreeMap::new(), cgroup: None }
    }

    /// The instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Adds a recorded process, such as the agent once its shim has told of it.
    pub fn record(&mut self, id: ProcessId) {
        self.recorded.entry(id).or_insert(None);
    }

    /// Names the cgroup that was recorded for this instance alone, such as its pane's scope.
    pub fn set_cgroup(&mut self, path: impl Into<String>) {
        self.cgroup = Some(path.into());
    }

    /// Takes over what was seen below a recorded process while that lived.
    pub fn descended(
        &mut self,
        ancestor: &ProcessId,
        seen: impl IntoIterator<Item = ProcessId>,
        captured_at: Timestamp,
    ) {
        for id in seen {
            let proof = Proof::Descendant { ancestor: ancestor.clone(), captured_at };
            self.remember(id, Seen { proof, witness: true });
        }
    }

    /// Notes that a recorded process was alive until this instant, as its watch reported.
    pub fn alive_until(&mut self, id: &ProcessId, at: Instant) {
        if let Some(last) = self.recorded.get_mut(id) {
            *last = (*last).max(Some(at));
        }
    }

    /// The recorded process that began first, in the latest boot among them.
    pub fn oldest(&self) -> Option<&ProcessId> {
        self.recorded.keys().min_by_key(|id| id.start)
    }

    /// What was seen to belong to the recorded processes, and why.
    pub fn seen(&self) -> impl Iterator<Item = (&ProcessId, &Proof)> {
        self.seen.iter().map(|(id, seen)| (id, &seen.proof))
    }

    /// Takes in what an earlier daemon saw, by identity.
    pub fn restore(&mut self, id: ProcessId, proof: Proof) {
        self.remember(id, Seen { proof, witness: false });
    }

    /// Whether a table has anything that this could hold: its processes, what was seen of them, or anybody in
    /// groups and sessions of their numbers. A quick no for the many instances that left nothing.
    pub fn may_have_left(&self, table: &ProcessTable) -> bool {
        let led = |id: &ProcessId| {
            let number = id.pid.get();
            table.in_group(number).chain(table.in_session(number)).any(|stat| stat.start >= id.start)
        };
        let recorded = self.recorded.keys().filter(|id| id.boot == *table.boot());
        self.cgroup.is_some()
            || self.seen.keys().any(|id| table.alive(id).is_some())
            || recorded.into_iter().any(|id| table.alive(id).is_some() || led(id))
    }

    /// Whether this process was remembered: it descended from a proven one, or shared its group, session or cgroup.
    pub fn has_seen(&self, id: &ProcessId) -> bool {
        self.seen.contains_key(id)
    }

    /// How many processes are remembered beside the recorded ones.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// True when none is remembered beside the recorded ones.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Takes in a table: remembers what now descends from a proven process or shares its group or session,
    /// forgets what is gone. What lies at or below a spared process is not remembered.
    pub fn merge(&mut self, table: &ProcessTable, look: &dyn Look) {
        for (id, last) in &mut self.recorded {
            if table.alive(id).is_some() {
                *last = (*last).max(Some(table.began()));
            }
        }
        self.seen.retain(|id, _| table.alive(id).is_some() || table.is_unreadable(id.pid));
        // One after the other: descent finds members for the groups, and groups find roots for descent.
        self.merge_descent(table, look);
        self.merge_members(table, look);
        self.merge_cgroup(table, look);
        self.merge_descent(table, look);
    }

    /// What is alive now. A recorded process is never spared for its name.
    pub fn proven(&self, table: &ProcessTable, look: &dyn Look) -> Holding {
        let mut spared: BTreeMap<ProcessId, SparedAs> = BTreeMap::new();
        for id in self.seen.keys().filter(|id| !self.recorded.contains_key(*id)) {
            let Some(why) = table.alive(id).and_then(|stat| look.spared(stat)) else { continue };
            for below in table.descendants(id) {
                spared.entry(below).or_insert(SparedAs::Below);
            }
            spared.insert(id.clone(), why);
        }
        // What is spared without ever having been remembered, directly below what is ours.
        for root in self.recorded.keys().chain(self.seen.keys()) {
            for child in table.children(root) {
                if self.seen.contains_key(&child) || self.recorded.contains_key(&child) {
                    continue;
                }
                if let Some(why) = table.alive(&child).and_then(|stat| look.spared(stat)) {
                    for below in table.descendants(&child) {
                        spared.entry(below).or_insert(SparedAs::Below);
                    }
                    spared.entry(child).or_insert(why);
                }
            }
        }
        let recorded = self.recorded.keys().map(|id| (id, &Proof::Recorded));
        let seen = self.seen.iter().filter(|(id, _)| !self.recorded.contains_key(*id));
        let seen = seen.map(|(id, seen)| (id, &seen.proof));
        let targets = recorded
            .chain(seen)
            .filter(|(id, _)| table.alive(id).is_some() && !spared.contains_key(*id))
            .map(|(id, proof)| Target::new(id.clone(), proof.clone()))
            .collect();
        let unproven = self
            .unproven
            .iter()
            .filter(|(id, _)| table.alive(id).is_some() && !spared.contains_key(*id))
            .map(|(id, why)| (id.clone(), why.clone()))
            .collect();
        Holding { targets, spared: spared.into_iter().collect(), unproven }
    }

    /// Everything below what is proven and alive.
    fn merge_descent(&mut self, table: &ProcessTable, look: &dyn Look) {
        let roots: Vec<ProcessId> = self.recorded.keys().chain(self.seen.keys()).cloned().collect();
        let mut walked = BTreeSet::new();
        for root in roots {
            let Some(stat) = table.alive(&root) else { continue };
            if walked.contains(&root) || (!self.recorded.contains_key(&root) && look.spared(stat).is_some()) {
                continue;
            }
            let below = table.below(&root, |stat| {
                self.recorded.contains_key(&table.id_of(stat)) || look.spared(stat).is_none()
            });
            let witness = self.seen.get(&root).is_none_or(|seen| seen.witness);
            for stat in below {
                let id = table.id_of(stat);
                walked.insert(id.clone());
                let proof = Proof::Descendant { ancestor: root.clone(), captured_at: table.at() };
                self.remember(id, Seen { proof, witness });
            }
        }
    }

    /// Members of the recorded processes' groups and sessions.
    fn merge_members(&mut self, table: &ProcessTable, look: &dyn Look) {
        self.unproven.clear();
        let leaders: Vec<(ProcessId, Option<Instant>)> =
            self.recorded.iter().map(|(id, last)| (id.clone(), *last)).collect();
        for (leader, last) in leaders {
            for kind in [Kind::Session, Kind::Group] {
                let members = members(table, &leader, kind);
                let Some(sure) = self.certainty(table, &leader, last, &members) else { continue };
                for stat in members {
                    let id = table.id_of(stat);
                    if self.recorded.contains_key(&id) || self.seen.contains_key(&id) {
                        continue;
                    }
                    if look.spared(stat).is_some() || below_spared(table, &id, &leader, look) {
                        continue;
                    }
                    match if sure { Ok(()) } else { self.corroborated(&id, &leader, kind, look) } {
                        Ok(()) => self.remember(id, Seen { proof: kind.proof(&leader), witness: sure }),
                        Err(why) => drop(self.unproven.insert(id, why)),
                    }
                }
            }
        }
    }

    /// Members of the recorded cgroup. One that holds a tmux server, or anybody older than what was recorded,
    /// is not this instance's alone, and proves nothing.
    fn merge_cgroup(&mut self, table: &ProcessTable, look: &dyn Look) {
        let Some(path) = self.cgroup.clone() else { return };
        let Some(oldest) =
            self.recorded.keys().filter(|id| id.boot == *table.boot()).map(|id| id.start).min()
        else {
            return;
        };
        let Observation::Alive(pids) = look.cgroup_members(&path) else { return };
        let members: Vec<&Stat> =
            pids.into_iter().filter_map(|pid| table.at_pid(pid)).filter(|stat| !stat.is_gone()).collect();
        let foreign = |stat: &&Stat| {
            stat.start < oldest || look.spared(stat).is_some_and(|why| why == SparedAs::TmuxServer)
        };
        if members.iter().any(foreign) {
            return;
        }
        for stat in members.into_iter().filter(|stat| look.spared(stat).is_none()) {
            let proof = Proof::Cgroup { path: path.clone() };
            self.remember(table.id_of(stat), Seen { proof, witness: true });
        }
    }

    /// Whether the leader's number certainly still means the recorded leader; `None` when it certainly does
    /// not, because somebody else has it.
    fn certainty(
        &self,
        table: &ProcessTable,
        leader: &ProcessId,
        last: Option<Instant>,
        members: &[&Stat],
    ) -> Option<bool> {
        if leader.boot != *table.boot() {
            return None;
        }
        match table.at_pid(leader.pid) {
            Some(stat) if stat.start != leader.start => return None,
            // Even a zombie keeps the number.
            Some(_) => return Some(true),
            None => {}
        }
        let witnessed =
            members.iter().any(|stat| self.seen.get(&table.id_of(stat)).is_some_and(|seen| seen.witness));
        let recently = last.is_some_and(|at| Instant::now().saturating_duration_since(at) < REUSE);
        Some(witnessed || recently)
    }

    fn corroborated(
        &self,
        id: &ProcessId,
        leader: &ProcessId,
        kind: Kind,
        look: &dyn Look,
    ) -> Result<(), String> {
        let member = format!("it is in the {} of recorded process {leader}, which is gone", kind.name());
        match look.marker(id) {
            Observation::Alive(marker) if marker.instance.as_deref() == Some(self.instance.as_str()) => {
                Ok(())
            }
            Observation::Alive(marker) => Err(match marker.instance {
                Some(other) => format!("{member}, and its marker names instance {other}"),
                None => format!("{member}, and its marker names no instance"),
            }),
            Observation::Absent => Err(format!("{member}, and it has no marker")),
            Observation::Dead(evidence) => Err(format!("{member}, and it ended: {evidence}")),
            Observation::Unknown(why) => Err(format!("{member}, and its marker is unknown: {why}")),
        }
    }

    fn remember(&mut self, id: ProcessId, seen: Seen) {
        if self.seen.len() < MOST && !self.recorded.contains_key(&id) {
            self.seen.entry(id).or_insert(seen);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Group,
    Session,
}

impl Kind {
    fn proof(self, leader: &ProcessId) -> Proof {
        let leader = leader.clone();
        match self {
            Self::Group => Proof::Group { leader },
            Self::Session => Proof::Session { leader },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Session => "session",
        }
    }
}

/// Living members of a recorded process's group or session, no older than it, without itself.
fn members<'a>(table: &'a ProcessTable, leader: &ProcessId, kind: Kind) -> Vec<&'a Stat> {
    let ours = |stat: &&Stat| stat.pid != leader.pid && stat.start >= leader.start && !stat.is_gone();
    match kind {
        Kind::Group => table.in_group(leader.pid.get()).filter(ours).collect(),
        Kind::Session => table.in_session(leader.pid.get()).filter(ours).collect(),
    }
}

/// Whether it lies below a spared process that began after the leader; the tmux server that the leader itself
/// runs in is older.
fn below_spared(table: &ProcessTable, id: &ProcessId, leader: &ProcessId, look: &dyn Look) -> bool {
    let Some(ancestry) = table.ancestors(id.pid) else { return false };
    let mut parents = ancestry.chain.iter().filter_map(|parent| table.alive(parent));
    parents.any(|stat| stat.start >= leader.start && stat.pid != leader.pid && look.spared(stat).is_some())
}

#[cfg(test)]
mod tests;
