//! What belongs to an instance: recorded, descended, or of a recorded process's group or session.
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
        Self { instance: instance.into(), recorded, seen: BTreeMap::new(), unproven: BTreeMap::new() }
    }

    /// The instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Adds a recorded process, such as the agent once its shim has told of it.
    pub fn record(&mut self, id: ProcessId) {
        self.recorded.entry(id).or_insert(None);
    }

    /// Notes that a recorded process was alive until this instant, as its watch reported.
    pub fn alive_until(&mut self, id: &ProcessId, at: Instant) {
        if let Some(last) = self.recorded.get_mut(id) {
            *last = (*last).max(Some(at));
        }
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
    fn of(self, stat: &Stat) -> i32 {
        match self {
            Self::Group => stat.group,
            Self::Session => stat.session,
        }
    }

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
    table
        .iter()
        .filter(|stat| kind.of(stat) == leader.pid.get() && stat.pid != leader.pid)
        .filter(|stat| stat.start >= leader.start && !stat.is_gone())
        .collect()
}

/// Whether it lies below a spared process that began after the leader; the tmux server that the leader itself
/// runs in is older.
fn below_spared(table: &ProcessTable, id: &ProcessId, leader: &ProcessId, look: &dyn Look) -> bool {
    let Some(ancestry) = table.ancestors(id.pid) else { return false };
    let mut parents = ancestry.chain.iter().filter_map(|parent| table.alive(parent));
    parents.any(|stat| stat.start >= leader.start && stat.pid != leader.pid && look.spared(stat).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::facts::Marker;
    use crate::process::table::tests::{id, stat, table};
    use proptest::prelude::*;

    /// Spares what is called `tmux`; processes above 100 carry the marker of instance `i`.
    struct Pretend;

    impl Look for Pretend {
        fn spared(&self, stat: &Stat) -> Option<SparedAs> {
            (stat.comm == "tmux").then_some(SparedAs::TmuxServer)
        }

        fn marker(&self, id: &ProcessId) -> Observation<Marker> {
            match id.pid.get() {
                101.. => Observation::Alive(Marker { town: None, instance: Some("i".into()) }),
                91..=100 => Observation::Alive(Marker { town: None, instance: Some("other".into()) }),
                81..=90 => Observation::Unknown("no".into()),
                _ => Observation::Absent,
            }
        }
    }

    /// pid, parent, start, group, session.
    fn entry(pid: i32, parent: i32, start: u64, group: i32, session: i32) -> Stat {
        Stat { group, session, ..stat(pid, parent, start) }
    }

    fn named(comm: &str, stat: Stat) -> Stat {
        Stat { comm: comm.into(), ..stat }
    }

    /// Tmux 5, shim 10, agent 11.
    fn base() -> Vec<Stat> {
        vec![named("tmux", stat(5, 1, 1)), stat(10, 5, 10), entry(11, 10, 11, 11, 10)]
    }

    fn capture() -> Capture {
        Capture::new("i", [id(10, 10), id(11, 11)])
    }

    fn with(more: impl IntoIterator<Item = Stat>) -> ProcessTable {
        table(base().into_iter().chain(more))
    }

    fn pids(holding: &Holding) -> Vec<i32> {
        holding.targets.iter().map(|target| target.id().pid.get()).collect()
    }

    fn proof(holding: &Holding, pid: i32) -> &'static str {
        let target = holding.targets.iter().find(|target| target.id().pid.get() == pid).unwrap();
        match target.proof() {
            Proof::Recorded => "recorded",
            Proof::Descendant { .. } => "descendant",
            Proof::Group { .. } => "group",
            Proof::Session { .. } => "session",
            _ => "other",
        }
    }

    #[test]
    fn descent_is_remembered_by_identity_after_the_ancestors_are_gone() {
        let mut capture = capture();
        capture.merge(&with([stat(20, 11, 20), stat(21, 20, 21)]), &Pretend);
        // Shim and agent die; both children get init for a parent, and the number of one a new owner.
        let later = table([stat(20, 1, 20), stat(21, 1, 99), stat(30, 20, 30)]);
        capture.merge(&later, &Pretend);
        let holding = capture.proven(&later, &Pretend);
        assert_eq!(pids(&holding), [20, 30]);
        assert_eq!((proof(&holding, 20), proof(&holding, 30)), ("descendant", "descendant"));
    }

    #[test]
    fn nothing_is_proven_by_a_reused_number() {
        let mut capture = capture();
        capture.merge(&with([]), &Pretend);
        // 11 is a stranger now, with children and a group.
        let later = table([entry(11, 1, 50, 11, 11), entry(60, 11, 60, 11, 11), entry(61, 1, 61, 11, 11)]);
        capture.merge(&later, &Pretend);
        assert_eq!(capture.proven(&later, &Pretend), Holding::default());
        // Nor when the boot is another.
        let elsewhere = ProcessTable::from_stats(crate::process::BootId::new("c"), base());
        let mut capture = Capture::new("i", [id(10, 10), id(11, 11)]);
        capture.merge(&elsewhere, &Pretend);
        assert_eq!(capture.proven(&elsewhere, &Pretend), Holding::default());
    }

    #[test]
    fn group_and_session_hold_while_the_number_is_certain() {
        // Leader there: certain.
        let mut sure = capture();
        let seen = with([entry(20, 1, 20, 11, 10), entry(21, 1, 21, 21, 10), entry(22, 1, 5, 11, 10)]);
        sure.merge(&seen, &Pretend);
        let holding = sure.proven(&seen, &Pretend);
        assert_eq!(pids(&holding), [10, 11, 20, 21], "22 is older than the leader");
        assert_eq!((proof(&holding, 20), proof(&holding, 21)), ("session", "session"));

        // Leaders gone a moment ago, as a watch told: certain.
        let orphans = table([entry(20, 1, 20, 11, 10)]);
        let mut recent = capture();
        recent.alive_until(&id(11, 11), Instant::now());
        recent.merge(&orphans, &Pretend);
        assert_eq!(pids(&recent.proven(&orphans, &Pretend)), [20]);

        // Gone for who knows how long, but a proven member has kept the number.
        let mut witnessed = capture();
        witnessed.merge(&with([stat(30, 11, 30), entry(31, 11, 31, 11, 10)]), &Pretend);
        witnessed.recorded.values_mut().for_each(|last| *last = None);
        let orphans = table([entry(31, 1, 31, 11, 10), entry(32, 1, 32, 11, 10)]);
        witnessed.merge(&orphans, &Pretend);
        assert_eq!(pids(&witnessed.proven(&orphans, &Pretend)), [31, 32]);

        // Nothing to go by: only the marker decides, and the rest is reported.
        let orphans = table([
            entry(20, 1, 20, 11, 10),
            entry(85, 1, 20, 11, 10),
            entry(95, 1, 20, 11, 10),
            entry(105, 1, 20, 11, 10),
            entry(106, 1, 20, 106, 106),
        ]);
        let mut doubtful = capture();
        doubtful.merge(&orphans, &Pretend);
        let holding = doubtful.proven(&orphans, &Pretend);
        assert_eq!(pids(&holding), [105], "a marker alone, as of 106, is no proof");
        let reported: Vec<i32> = holding.unproven.iter().map(|(id, _)| id.pid.get()).collect();
        assert_eq!(reported, [20, 85, 95]);
    }

    #[test]
    fn servers_are_spared_with_all_below_and_their_parent_is_not() {
        let mut capture = capture();
        let seen = with([
            stat(20, 11, 20),
            named("tmux", stat(30, 10, 30)),
            stat(31, 30, 31),
            stat(32, 31, 32),
            // In the agent's session, below the spared one.
            entry(33, 31, 33, 33, 10),
        ]);
        capture.merge(&seen, &Pretend);
        let holding = capture.proven(&seen, &Pretend);
        assert_eq!(pids(&holding), [10, 11, 20]);
        let spared: Vec<i32> = holding.spared.iter().map(|(id, _)| id.pid.get()).collect();
        assert_eq!(spared, [30, 31, 32, 33]);
        assert_eq!(holding.spared[0].1, SparedAs::TmuxServer);
        // A remembered process that turns out to be a server is spared from then on.
        let mut seen: Vec<Stat> = seen.iter().cloned().collect();
        seen.iter_mut().filter(|stat| stat.pid.get() == 20).for_each(|stat| stat.comm = "tmux".into());
        let seen = table(seen);
        capture.merge(&seen, &Pretend);
        assert_eq!(pids(&capture.proven(&seen, &Pretend)), [10, 11]);
    }

    #[test]
    fn the_tmux_server_above_is_never_among_the_targets() {
        let mut capture = capture();
        let seen = with([stat(40, 5, 40), entry(41, 5, 41, 11, 10)]);
        capture.merge(&seen, &Pretend);
        // 41 sits in the agent's group though its parent is the server: ours. 5 and 40 are not.
        assert_eq!(pids(&capture.proven(&seen, &Pretend)), [10, 11, 41]);
    }

    proptest! {
        /// Whatever the tables, every target descends from, or shares group or session with, what was
        /// recorded; strangers with families of their own are never among them.
        #[test]
        fn strangers_are_never_targets(
            ours in proptest::collection::vec((0_usize..12, 20_u64..40), 1..12),
            strangers in proptest::collection::vec((0_usize..12, 1_u64..60), 1..12),
            killed in proptest::collection::vec(any::<bool>(), 12),
        ) {
            // Ours are 20.., below the agent or one another; strangers 60.., below init or one another.
            let mut all = base();
            for (n, (parent, start)) in ours.iter().enumerate() {
                let parent = if *parent < n { 20 + i32::try_from(*parent).unwrap() } else { 11 };
                all.push(stat(20 + i32::try_from(n).unwrap(), parent, *start));
            }
            for (n, (parent, start)) in strangers.iter().enumerate() {
                let parent = if *parent < n { 60 + i32::try_from(*parent).unwrap() } else { 1 };
                all.push(stat(60 + i32::try_from(n).unwrap(), parent, *start));
            }
            let mut capture = capture();
            let first = table(all.clone());
            capture.merge(&first, &Pretend);
            // Some of ours die, agent and shim among them; strangers take over their numbers.
            for (n, dead) in killed.iter().enumerate() {
                let pid = [10, 11].get(n).copied().unwrap_or(18 + i32::try_from(n).unwrap());
                if *dead {
                    for entry in all.iter_mut().filter(|entry| entry.parent.map(|p| p.get()) == Some(pid)) {
                        entry.parent = None;
                    }
                    let place = all.iter_mut().find(|entry| entry.pid.get() == pid);
                    if let Some(place) = place {
                        *place = stat(pid, 1, 1000);
                    }
                }
            }
            let second = table(all);
            capture.merge(&second, &Pretend);
            for target in capture.proven(&second, &Pretend).targets {
                let pid = target.id().pid.get();
                prop_assert!((10..60).contains(&pid), "{pid} is a stranger");
                prop_assert!(target.id().start.get() < 1000, "{pid} took over a number");
            }
        }
    }
}
