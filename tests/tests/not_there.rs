//! What is not there, and what could not be: each verb that is asked for something says so with the same exit code.

use gtd_tests::{CHANGE, Setup, wait_until};

/// No such agent, or rig.
const NO_SUCH: i32 = 4;
/// Asked for, understood, and not to be had: no such work, convoy, mail or text.
const FAILED: i32 = 1;
/// It cannot be the name of any.
const USAGE: i32 = 2;

/// What is typed behind `gtctl`, and how it ends.
const TYPED: &[(&str, i32)] = &[
    // Agents, by address, by short name, and by what fits none.
    ("status nope", NO_SUCH),
    ("status alpha/polecats/nope", NO_SUCH),
    ("status nope/witness", NO_SUCH),
    ("status alpha/crew/nope", NO_SUCH),
    ("polecat status alpha/nope", NO_SUCH),
    ("polecat status alpha/polecats/nope", NO_SUCH),
    ("polecat peek alpha/nope", NO_SUCH),
    ("peek nope", NO_SUCH),
    ("peek alpha/polecats/nope", NO_SUCH),
    ("attach alpha/polecats/nope", NO_SUCH),
    ("explain nope", NO_SUCH),
    ("explain alpha/polecats/nope", NO_SUCH),
    ("explain alpha/crew/nope", NO_SUCH),
    ("exits nope", NO_SUCH),
    ("exits alpha/polecats/nope", NO_SUCH),
    ("signals alpha/polecats/nope", NO_SUCH),
    ("wait alpha/polecats/nope", NO_SUCH),
    ("prime alpha/polecats/nope", NO_SUCH),
    ("hook show nope", NO_SUCH),
    ("hook show alpha/polecats/nope", NO_SUCH),
    ("hook show nope/witness", NO_SUCH),
    ("lifecycle list nope", NO_SUCH),
    ("lifecycle list alpha/polecats/nope", NO_SUCH),
    ("nudge list alpha/polecats/nope", NO_SUCH),
    ("mail inbox nope", NO_SUCH),
    ("mail inbox nope/witness", NO_SUCH),
    // Rigs.
    ("rig status nope", NO_SUCH),
    ("witness status nope", NO_SUCH),
    ("refinery status nope", NO_SUCH),
    ("polecat list nope", NO_SUCH),
    ("crew list nope", NO_SUCH),
    ("work list --rig nope", NO_SUCH),
    ("doctor --rig nope", NO_SUCH),
    // Things that have an id.
    ("work show al-nope", FAILED),
    ("work close al-nope", FAILED),
    ("hook set alpha/witness al-nope", FAILED),
    ("convoy status nope", FAILED),
    ("convoy status hq-cv-99", FAILED),
    ("convoy add hq-cv-99 al-1", FAILED),
    ("mail read m-99", FAILED),
    ("mail read nope", FAILED),
    ("mail archive m-99", FAILED),
    ("nudge cancel n-000000000000", FAILED),
    // What can be none of these.
    ("rig status a:b", USAGE),
    ("witness status a:b", USAGE),
    ("crew list a:b", USAGE),
    ("work show a:b", USAGE),
    ("convoy status a:b", USAGE),
    ("mail read ../x", USAGE),
    ("mail archive -- -x", USAGE),
    ("nudge cancel nope", USAGE),
    ("wait alpha/witness --for nope", USAGE),
    ("doctor nope", USAGE),
    ("config show nope", USAGE),
];

#[test]
fn every_verb_ends_alike_for_what_is_not_there_and_for_what_cannot_be() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    for (typed, code) in TYPED {
        let words: Vec<&str> = typed.split(' ').collect();
        let run = town.gtctl(&words);
        assert_eq!(run.code, *code, "{typed}: {run:?}");
        assert!(run.out.is_empty() && run.err.starts_with("error: "), "{typed}: {run:?}");
        let json = town.gtctl(&[&["--json"], words.as_slice()].concat());
        assert_eq!(json.code, *code, "{typed}: {json:?}");
        let said: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(said["kind"], "error", "{typed}");
        // What is wrong, and what helps: somebody who reads `no` asks `which then?`.
        assert!(*code == USAGE || said["error"]["hint"].is_string(), "{typed}: {said}");
    }
}

#[test]
fn a_persons_workspace_is_named_as_one_whoever_asks() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    std::fs::create_dir_all(town.path("alpha/crew/max")).unwrap();
    // It is noticed, which takes some milliseconds.
    assert!(wait_until(CHANGE, || town.gtctl(&["crew", "list"]).out.contains("alpha/crew/max")));
    for (typed, code) in [
        ("nudge alpha/crew/max hello", 77),
        ("nudge alpha/max hello", 77),
        ("polecat nudge alpha/max hello", 77),
        ("respond alpha/crew/max yes", 77),
        ("lifecycle request alpha/crew/max cycle", 77),
        ("status alpha/crew/max", NO_SUCH),
        ("status alpha/max", NO_SUCH),
        ("peek alpha/max", NO_SUCH),
        ("explain alpha/crew/max", NO_SUCH),
        ("polecat stop alpha/max", USAGE),
    ] {
        let run = town.gtctl(&typed.split(' ').collect::<Vec<_>>());
        assert_eq!(run.code, code, "{typed}: {run:?}");
        assert!(run.err.contains("mail send alpha/crew/max SUBJECT"), "{typed}: {run:?}");
        assert!(run.err.contains("crew list shows"), "{typed}: {run:?}");
    }
    // What the hint says can be done.
    assert_eq!(town.gtctl(&["mail", "send", "alpha/crew/max", "Nux is stuck"]).code, 0);
}
