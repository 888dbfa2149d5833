//! Tables in, proofs out.

use super::*;
use crate::process::Pid;
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

    fn cgroup_members(&self, path: &str) -> Observation<Vec<Pid>> {
        let pids: &[i32] = match path {
            "/pane" => &[10, 11, 70, 71],
            "/shared" => &[5, 10, 11, 70],
            "/older" => &[10, 11, 70, 72],
            _ => return Observation::Unknown("no".into()),
        };
        Observation::Alive(pids.iter().filter_map(|pid| Pid::new(*pid)).collect())
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
fn a_cgroup_of_its_own_proves_its_members_and_a_shared_one_nothing() {
    for (path, ours) in [("/pane", &[70][..]), ("/shared", &[]), ("/older", &[]), ("/unreadable", &[])] {
        let mut capture = capture();
        capture.set_cgroup(path);
        let orphans = table([named("tmux", stat(5, 1, 1)), stat(70, 1, 70), stat(72, 1, 2)]);
        capture.merge(&orphans, &Pretend);
        let holding = capture.proven(&orphans, &Pretend);
        assert_eq!(pids(&holding), ours, "{path}");
        assert!(holding.targets.iter().all(|target| matches!(target.proof(), Proof::Cgroup { .. })));
    }
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
