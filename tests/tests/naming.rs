//! Rigs whose names are made of each other's: nothing is ever cut at a hyphen, nothing matched by a prefix.

use gtd_tests::{Setup, Town};
use serde_json::json;

fn town() -> Town {
    Setup::new().rigs(&["a", "a-b", "a-witness"]).up()
}

const ALL: [&str; 6] =
    ["a/witness", "a/refinery", "a-b/witness", "a-b/refinery", "a-witness/witness", "a-witness/refinery"];

/// Stops one agent and looks at all others, in the daemon's words and in tmux' and the kernel's.
#[track_caller]
fn stop_touches_only(town: &Town, target: &str) {
    let before = town.running();
    assert_eq!(before.len(), ALL.len(), "{before:#?}");
    let sessions = town.tmux().sessions();
    let session = town.agent(target)["session_name"].as_str().unwrap().to_owned();
    let (rig, role) = target.split_once('/').unwrap();
    town.call(&format!("{role}.stop"), json!({"rig": rig}));
    let expected: Vec<_> = before.iter().filter(|(agent, ..)| agent != target).cloned().collect();
    assert_eq!(town.running(), expected, "stopping {target} touches no other");
    let mut gone = sessions.clone();
    gone.retain(|name| !town.tmux().sessions().contains(name));
    assert!(gone.is_empty() || gone == [session], "{gone:?} ended");
    town.call(&format!("{role}.start"), json!({"rig": rig}));
    town.assert_never_two();
}

#[test]
fn stopping_one_of_rigs_a_and_a_b_and_a_witness_touches_no_other() {
    let town = town();
    for target in ALL {
        stop_touches_only(&town, target);
    }
    let mut names: Vec<String> = town
        .agents()
        .iter()
        .map(|agent| agent["session_name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), ALL.len(), "every session has a name of its own: {names:?}");
}

#[test]
fn a_death_in_rig_a_restarts_only_its_own_agent() {
    let town = town();
    let before = town.running();
    let died = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &died);
    let others = |all: Vec<(String, String, i64)>| -> Vec<_> {
        all.into_iter().filter(|(agent, ..)| agent != "a/witness").collect()
    };
    assert_eq!(others(town.running()), others(before));
}

#[test]
fn a_selector_of_rig_a_means_rig_a() {
    let town = town();
    let listed = town.call("agent.list", json!({"selector": "a"}));
    let mut names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().filter_map(|agent| agent["agent"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a/refinery", "a/witness"]);
    let shown = town.gtctl(&["status", "a-witness", "--json"]).ok().json();
    assert!(!shown.to_string().contains("a-b/witness"), "{shown:#}");
}
