//! Tables, records and facts in; verdicts out.

use std::collections::HashMap;

use proptest::prelude::*;

use super::shelter::Own;
use super::*;
use crate::process::id::Pid;
use crate::process::table::tests::{id, stat, table};

fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
}

fn entry(pid: i32, parent: i32, start: u64, group: i32, session: i32) -> Stat {
    Stat { group, session, ..stat(pid, parent, start) }
}

fn named(comm: &str, stat: Stat) -> Stat {
    Stat { comm: comm.into(), ..stat }
}

/// A world of the given processes: whoever is called `tmux: server` is one.
fn world(stats: impl IntoIterator<Item = Stat>) -> Snapshot {
    let table = table(stats);
    let servers = table.iter().filter(|s| s.comm == "tmux: server").map(|s| s.pid).collect();
    let looked_into = table.iter().map(|s| s.pid).collect();
    Snapshot {
        servers,
        own: Own::default(),
        facts: HashMap::new(),
        looked_into,
        cgroups: HashMap::new(),
        since_boot: Duration::from_secs(1_000),
        table,
    }
}

fn marked(mut world: Snapshot, number: i32, town: &str, instance: &str) -> Snapshot {
    let marker = Marker { town: Some(town.into()), instance: Some(instance.into()) };
    world.facts.entry(pid(number)).or_default().marker = Some(marker);
    world
}

fn looks_like(mut world: Snapshot, number: i32, agent: &str) -> Snapshot {
    let likeness = Likeness { agent: agent.into(), inside: None };
    world.facts.entry(pid(number)).or_default().likeness = Some(likeness);
    world
}

fn record(instance: &str, live: bool, ids: &[(i32, u64)]) -> OnRecord {
    let capture = Capture::new(instance, ids.iter().map(|(pid, start)| id(*pid, *start)));
    OnRecord { instance: instance.into(), agent: "a/witness".into(), live, capture }
}

fn ground() -> Ground {
    Ground { town: "t".into(), panes: HashSet::new() }
}

fn verdicts(found: &Attribution) -> Vec<(i32, Verdict)> {
    let mut all: Vec<_> = found.items.iter().map(|item| (item.id.pid.get(), item.verdict)).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_is_left_of_one_that_is_over_is_ours_and_what_runs_is_no_candidate() {
    let world = world([
        named("tmux: server", stat(5, 1, 1)),
        // Lives.
        stat(10, 5, 10),
        entry(11, 10, 11, 11, 10),
        entry(12, 11, 12, 11, 10),
        // Over: its agent's number still leads a group, by a zombie that holds it.
        Stat { state: 'Z', ..entry(21, 1, 21, 21, 20) },
        entry(22, 1, 22, 21, 20),
    ]);
    let records = [record("live", true, &[(10, 10), (11, 11)]), record("over", false, &[(20, 20), (21, 21)])];
    let found = attribute(&world, &records, &ground());
    assert_eq!(verdicts(&found), [(22, Verdict::Orphan)]);
    assert_eq!((found.live, found.looked), (3, 6));
    let item = &found.items[0];
    assert!(matches!(item.proof, Some(Proof::Group { .. } | Proof::Session { .. })), "{item:?}");
    assert_eq!((item.agent.as_deref(), item.instance.as_deref()), (Some("a/witness"), Some("over")));
    assert!(item.age > Duration::from_secs(990));
}

#[test]
fn what_was_seen_below_it_is_ours_after_it_went_away() {
    let mut over = record("over", false, &[(20, 20)]);
    let captured_at = jiff::Timestamp::UNIX_EPOCH;
    over.capture.restore(id(30, 30), Proof::Descendant { ancestor: id(20, 20), captured_at });
    let found = attribute(&world([stat(30, 1, 30), stat(31, 30, 31)]), &[over.clone()], &ground());
    assert_eq!(verdicts(&found), [(30, Verdict::Orphan), (31, Verdict::Orphan)]);
    // The number comes round.
    let found = attribute(&world([stat(30, 1, 999), stat(31, 30, 1000)]), &[over], &ground());
    assert_eq!(verdicts(&found), []);
}

#[test]
fn a_marker_alone_is_a_reason_to_report() {
    let records = [record("over", false, &[(20, 20)]), record("live", true, &[(10, 10)])];
    let say = |number: i32, start: u64, town: &str, instance: &str| {
        let world = marked(world([stat(10, 1, 10), stat(number, 1, start)]), number, town, instance);
        let found = attribute(&world, &records, &ground());
        let item = found.items.into_iter().next().unwrap();
        assert!(item.proof.is_none());
        (item.verdict, item.reason)
    };
    let cases = [
        ((50, 500, "t", "over"), Verdict::Unproved, "only its marker"),
        ((50, 5, "t", "over"), Verdict::Unproved, "older than that instance"),
        ((50, 500, "t", "live"), Verdict::Unproved, "does not descend"),
        ((50, 500, "t", "nobody"), Verdict::Unproved, "not on record"),
        ((50, 500, "another", "over"), Verdict::OtherTown, "another"),
        // A prefix is another name.
        ((50, 500, "t2", "over"), Verdict::OtherTown, "t2"),
    ];
    for ((number, start, town, instance), verdict, word) in cases {
        let (found, reason) = say(number, start, town, instance);
        assert_eq!(found, verdict, "{reason}");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn nothing_at_or_below_a_tmux_server_or_above_us_is_anybodys_to_end() {
    let records = [record("over", false, &[(5, 1), (11, 11), (40, 2)])];
    let mut world = world([
        named("tmux: server", stat(5, 1, 1)),
        stat(11, 5, 11),
        stat(12, 11, 12),
        stat(40, 1, 2),
        stat(41, 40, 3),
    ]);
    world.own = Own { line: [id(40, 2), id(41, 3)].into(), group: Some(41), session: Some(41) };
    let world = marked(looks_like(world, 12, "claude"), 5, "t", "over");
    let found = attribute(&world, &records, &ground());
    assert!(found.items.iter().all(|item| item.verdict == Verdict::Protected), "{:#?}", found.items);
    assert_eq!(found.items.len(), 5, "each proven one is shown with what protects it");
}

#[test]
fn other_peoples_agents_are_shown_and_told_from_helpers() {
    let world = world([
        named("bash", stat(30, 1, 3)),
        named("claude", stat(31, 30, 4)),
        named("code", stat(40, 1, 3)),
        named("claude", stat(41, 40, 4)),
        named("tmux: server", stat(5, 1, 1)),
        named("claude", stat(6, 5, 2)),
    ]);
    let world = [31, 41, 6].into_iter().fold(world, |world, number| looks_like(world, number, "claude"));
    let found = attribute(&world, &[], &ground());
    assert_eq!(verdicts(&found), [(31, Verdict::NotOurs), (41, Verdict::Helper)]);
    let shown = found.of(Verdict::NotOurs).next().unwrap();
    assert_eq!(shown.ancestry, [(pid(30), "bash".to_owned())]);
}

#[test]
fn the_process_of_somebodys_pane_is_sheltered_by_who_it_is() {
    let records = [record("over", false, &[(20, 20)])];
    let world = world([stat(20, 1, 20)]);
    let ground = Ground { panes: [id(20, 20)].into(), ..ground() };
    assert_eq!(verdicts(&attribute(&world, &records, &ground)), [(20, Verdict::Protected)]);
}

#[test]
fn a_look_at_this_machine_finds_ourselves_protected_and_nothing_ours() {
    let snapshot = Snapshot::read().unwrap();
    assert!(snapshot.own.line.iter().any(|id| Some(id.pid) == Pid::own()));
    let found = attribute(&snapshot, &[], &ground());
    assert!(found.looked > 1);
    assert_eq!(found.of(Verdict::Orphan).count(), 0);
}

proptest! {
    /// Whatever the table, the marks and the looks: only what a record proves is ours, and nothing below a server is.
    #[test]
    fn only_records_prove(
        shape in proptest::collection::vec((2_i32..60, 0_u64..40, 0_u8..4, 0_i32..60), 58),
        recorded in proptest::collection::vec((2_i32..60, 0_u64..40), 0..4),
        live in any::<bool>(),
        marks in proptest::collection::vec((2_i32..60, any::<bool>()), 0..10),
    ) {
        let stats = shape.iter().zip(2..).map(|((parent, start, kind, session), pid)| {
            let stat = entry(pid, *parent, *start, *session, *session);
            if *kind == 0 { named("tmux: server", stat) } else { stat }
        });
        let mut world = world(stats);
        for (number, ours) in marks {
            world = marked(world, number, if ours { "t" } else { "u" }, "over");
            world = looks_like(world, number, "claude");
        }
        let records = [record("over", live, &recorded)];
        let found = attribute(&world, &records, &ground());
        let shelter = Shelter::of(&world.table, &world.servers);
        for item in found.of(Verdict::Orphan) {
            prop_assert!(!live && !recorded.is_empty());
            prop_assert!(!world.servers.contains(&item.id.pid) && !shelter.is_below(item.id.pid));
            prop_assert!(item.proof.is_some());
        }
        prop_assert!(found.items.iter().all(|item| item.verdict == Verdict::Orphan || item.proof.is_none()));
        // Without records nothing is ours, whatever it is called and carries.
        let without = attribute(&world, &[], &ground());
        prop_assert_eq!(without.of(Verdict::Orphan).count(), 0);
    }

    /// Who stands below a server is found as by walking up from each.
    #[test]
    fn shelter_is_ancestry(shape in proptest::collection::vec((2_i32..40, 0_u64..6, 0_u8..5), 38)) {
        let stats = shape.iter().zip(2..).map(|((parent, start, kind), pid)| {
            let stat = stat(pid, *parent, *start);
            if *kind == 0 { named("tmux: server", stat) } else { stat }
        });
        let world = world(stats);
        let shelter = Shelter::of(&world.table, &world.servers);
        for entry in world.table.iter() {
            let chain = world.table.ancestors(entry.pid).unwrap().chain;
            // In a loop, which no real table has, the walks may end at different places.
            if chain.len() < 64 {
                let above = chain.iter().any(|parent| world.servers.contains(&parent.pid));
                prop_assert_eq!(shelter.is_below(entry.pid), above);
            }
        }
    }
}
