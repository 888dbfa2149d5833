//! Requests that meet on one agent: whatever wins, everybody is answered and there are never two.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use gtd_tests::{CHANGE, Failure, QUICK, Setup, Town, chaos_delay, wait_until};
use serde_json::{Value, json};

/// Asks on a connection and a thread of its own.
fn asked(town: &Town, method: &'static str, params: Value) -> JoinHandle<Result<Value, Failure>> {
    let mut client = town.client();
    thread::spawn(move || client.call(method, params))
}

/// One process at most, and as many as the agent's state says.
#[track_caller]
fn settled(town: &Town, state: &str) {
    town.wait_state("a/witness", state);
    let alive = usize::from(state == "running");
    assert!(wait_until(QUICK, || town.running().len() == alive), "{:?}", town.running());
    town.assert_never_two();
}

#[test]
fn a_stop_during_a_start_calls_it_off_and_both_are_answered() {
    // A script is ready after 200 ms: for so long the start is under way.
    for pause in [0, 5, 20, 60, 120, 190] {
        let town = Setup::new().rigs(&["a"]).no_refineries().toml("[witness]\nmode = \"on_demand\"").make();
        town.start();
        let start = asked(&town, "witness.start", json!({"rig": "a"}));
        chaos_delay(Duration::from_millis(pause));
        let stop = asked(&town, "witness.stop", json!({"rig": "a", "now": true}));
        stop.join().unwrap().unwrap_or_else(|error| panic!("after {pause} ms: {error:?}"));
        match start.join().unwrap() {
            // Told so, unless the stop was first; then the start came after it, and stands.
            Err(error) => {
                assert_eq!(error.code, 1011, "{error:?}");
                settled(&town, "stopped");
            }
            Ok(_) => settled(&town, "running"),
        }
    }
}

#[test]
fn a_start_during_a_stop_comes_when_nothing_is_left() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .script(&["ignore:TERM", "idle"])
        .toml("[stop]\ngrace = \"1s\"")
        .up();
    let before = town.agent("a/witness")["instance"].clone();
    let stop = asked(&town, "witness.stop", json!({"rig": "a", "now": true}));
    town.wait_agent("a/witness", QUICK, "being ended", |agent| agent["state"] == "stopping");
    let start = asked(&town, "witness.start", json!({"rig": "a"}));
    start.join().unwrap().unwrap();
    // What the stop was for is not what is so in the end: it is told, one way or the other.
    let _ = stop.join().unwrap();
    assert_ne!(town.agent("a/witness")["instance"], before);
    settled(&town, "running");
}

#[test]
fn two_restarts_at_once_come_to_one_agent() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let first = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let both = [(); 2].map(|()| asked(&town, "witness.restart", json!({"rig": "a", "now": true})));
    for one in both {
        one.join().unwrap().unwrap();
    }
    town.wait_agent("a/witness", CHANGE, "another instance", |agent| agent["instance"] != *first);
    settled(&town, "running");
}

#[test]
fn eight_who_want_different_things_all_get_an_answer() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let methods = ["witness.restart", "witness.stop", "witness.start", "witness.restart"];
    let asked: Vec<_> =
        methods.iter().cycle().take(8).map(|method| asked(&town, method, json!({"rig": "a"}))).collect();
    for one in asked {
        if let Err(error) = one.join().unwrap() {
            assert_eq!(error.code, 1011, "{error:?}");
        }
    }
    // The last word is on record, and it is so.
    let wanted = if town.agent("a/witness")["intent"] == "running" { "running" } else { "stopped" };
    settled(&town, wanted);
}
