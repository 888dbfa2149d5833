//! A town that was copied or moved: two directories never share agents.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gtd_tests::{CHANGE, Process, Setup, Town, chaos_delay, wait_for};
use serde_json::{Value, json};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success() || done.code() == Some(1), "a log may change while it is copied: {done}");
}

fn town_id(town: &Town) -> String {
    let text = std::fs::read_to_string(town.path("daemon/town-id")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned()
}

/// Starts the daemon of a copy, whose `endpoint.json` names the original's until it writes its own.
#[track_caller]
fn start(town: &Town) -> Process {
    let daemon = town.start_unwatched();
    wait_for(CHANGE, "the copy's own endpoint", || {
        let text = std::fs::read_to_string(town.path("daemon/endpoint.json")).ok()?;
        let endpoint: Value = serde_json::from_str(&text).ok()?;
        (endpoint["pid"] == daemon.pid).then_some(())
    });
    town.wait_answers();
    daemon
}

/// It knows that it is a copy, shows no agent as its own, and starts none.
#[track_caller]
fn only_looks(town: &Town) {
    let status = town.call("daemon.status", json!({}));
    assert!(status["reasons"].to_string().contains("gtctl up") || status["degraded"] == false, "{status:#}");
    town.call("daemon.heartbeat", json!({}));
    assert!(town.agents().iter().all(|agent| agent["running"] == false), "{:#?}", town.agents());
    let refused = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!(refused.code, 1005, "{refused:?}");
    town.call("witness.stop", json!({"rig": "a"}));
}

#[test]
fn the_daemon_of_a_copy_touches_nobody_and_the_original_does_not_notice() {
    let town = Setup::new().rigs(&["a"]).up();
    let agents: Vec<Process> = ["a/witness", "a/refinery"].iter().map(|agent| town.process(agent)).collect();
    let (before, id, daemon) = (town.running(), town_id(&town), town.daemon().unwrap());
    let other = Setup::new().empty().make();
    copy(town.root(), other.root());
    for round in ["first", "killed", "ended"] {
        start(&other);
        assert_ne!(town_id(&other), id, "{round}");
        only_looks(&other);
        assert!(agents.iter().all(|process| process.alive()), "{round}");
        match round {
            "first" => other.kill_daemon(),
            _ => drop(other.stop_daemon()),
        }
    }
    start(&other);
    let sent = other.call("agent.signals", json!({}))["items"].as_array().unwrap().len();
    let copied = town.call("agent.signals", json!({}))["items"].as_array().unwrap().len();
    assert_eq!(sent, copied, "it has sent none of its own");
    // The original goes on as if nothing were.
    assert_eq!(town_id(&town), id);
    assert!(daemon.alive());
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.running(), before);
    let instance = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    agents[0].kill();
    town.wait_new_instance("a/witness", &instance);
    assert!(agents[1].alive());
    // A person says that the copy is a town of its own: it has agents of its own then.
    other.call("town.start", json!({}));
    other.call("witness.start", json!({"rig": "a"}));
    other.wait_state("a/witness", "running");
    let own = other.process("a/witness");
    assert_ne!(own, town.process("a/witness"));
    assert_eq!(own.directory().unwrap(), other.path("a/witness"));
    other.call("town.stop", json!({}));
    assert!(!own.alive());
    assert!(agents[1].alive() && town.process("a/witness").alive());
    town.assert_never_two();
}

#[test]
fn a_copy_whose_daemon_is_killed_at_any_moment_of_its_first_start_stays_a_copy() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let agent = town.process("a/witness");
    for blow in 0..8 {
        let other = Setup::new().empty().make();
        copy(town.root(), other.root());
        let daemon = other.start_unwatched();
        chaos_delay(Duration::from_millis(blow * 12));
        daemon.kill();
        other.wait_daemon(CHANGE);
        start(&other);
        only_looks(&other);
        assert!(agent.alive(), "blow {blow}");
    }
    assert_eq!(town.process("a/witness"), agent);
    assert_eq!(town.starts("a/witness").len(), 1);
}

#[test]
fn a_town_that_was_moved_only_looks_until_a_person_says_up() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let agent = town.process("a/witness");
    town.stop_daemon();
    let moved = Setup::new().empty().make();
    copy(town.root(), moved.root());
    for entry in std::fs::read_dir(town.root()).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    start(&moved);
    let status = moved.call("daemon.status", json!({}));
    assert!(status["reasons"].to_string().contains("copied or moved"), "{status:#}");
    only_looks(&moved);
    assert!(agent.alive());
    moved.call("town.start", json!({}));
    moved.call("witness.start", json!({"rig": "a"}));
    moved.wait_state("a/witness", "running");
    assert_ne!(moved.process("a/witness"), agent);
    assert!(agent.alive(), "of the old place, and nobody's to end");
    moved.call("town.stop", json!({}));
    assert!(agent.alive());
    agent.kill();
}

#[test]
fn a_town_renamed_on_its_own_disk_keeps_its_id_and_its_agents() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let (agent, id) = (town.process("a/witness"), town_id(&town));
    town.stop_daemon();
    let away = town.base().join("away");
    std::fs::rename(town.root(), &away).unwrap();
    std::fs::rename(&away, town.root()).unwrap();
    town.start();
    town.wait_all_running();
    assert_eq!((town_id(&town), town.process("a/witness")), (id, agent));
}
