//! A damaged ledger: set aside, never deleted; the daemon comes up degraded and says so.

use std::fs;

use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::json;

/// Files in the daemon's directory that hold exactly these bytes.
fn files_with(town: &Town, bytes: &[u8]) -> Vec<String> {
    fs::read_dir(town.path("daemon"))
        .unwrap()
        .flatten()
        .filter(|entry| fs::read(entry.path()).is_ok_and(|content| content == bytes))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_corrupt_ledger_is_set_aside_and_the_daemon_comes_up_degraded_and_says_so() {
    let town = Setup::new().rigs(&["a"]).up();
    town.call("witness.stop", json!({"rig": "a"}));
    let survivor = town.process("a/refinery");
    town.stop_daemon();
    let junk = b"this is no ledger, and never was one\n".repeat(500);
    fs::write(town.path("daemon/gtd.db"), &junk).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(town.path(&format!("daemon/gtd.db{suffix}")));
    }
    town.start();
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"], true, "{status:#}");
    assert!(status["reasons"].to_string().contains("ledger"), "{status:#}");
    let aside = files_with(&town, &junk);
    assert_eq!(aside.len(), 1, "set aside, byte for byte: {aside:?}");
    assert_ne!(aside[0], "gtd.db");
    assert!(status["reasons"].to_string().contains(&aside[0]), "it says where: {status:#}");
    // Nobody is harmed, and the stop of a person is not undone by forgetting it.
    town.call("daemon.heartbeat", json!({}));
    assert!(survivor.alive());
    assert_eq!(town.starts("a/witness").len(), 1, "what was stopped stays stopped");
    assert_eq!(town.starts("a/refinery").len(), 1);
    let shown = town.gtctl(&["status"]);
    assert!(shown.out.contains("ledger") || shown.err.contains("ledger"), "people are told: {shown:?}");
    // A person says that it may go on.
    town.call("town.start", json!({}));
    town.wait_state("a/refinery", "running");
    assert_eq!(town.process("a/refinery"), survivor, "recognised by its record");
    town.assert_never_two();
}

#[test]
fn a_torn_ledger_is_survived_at_any_length() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let survivor = town.process("a/witness");
    for keep in [0_u64, 1, 50, 100, 4096, 5000] {
        town.kill_daemon();
        let file = fs::File::options().write(true).open(town.path("daemon/gtd.db")).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(keep.min(length)).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(town.path(&format!("daemon/gtd.db{suffix}")));
        }
        town.start();
        let status = town.call("daemon.status", json!({}));
        assert!(status["pid"].is_i64());
        assert!(survivor.alive(), "kept {keep} bytes");
        assert_eq!(town.starts("a/witness").len(), 1, "kept {keep} bytes");
        town.wait_agent("a/witness", CHANGE, "seen by its record", |agent| agent["running"] == true);
    }
}

#[test]
fn a_ledger_that_cannot_be_written_is_said() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    // A directory where the file should be: also root cannot write it.
    fs::create_dir_all(town.path("daemon/gtd.db/in-the-way")).unwrap();
    town.start();
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"], true, "{status:#}");
    assert!(status["reasons"].to_string().contains("ledger"), "{status:#}");
    assert!(town.path("daemon").is_dir());
}

#[test]
fn events_are_numbered_without_a_gap_and_never_used_twice_across_kills() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..3 {
        town.call("witness.restart", json!({"rig": "a"}));
        let all: Vec<u64> = town.events(0).iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert!(all.starts_with(&seen), "what was told before stays as it was");
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
        seen = all;
        town.kill_daemon();
        town.start();
    }
    let page = town.call("events.history", json!({"since": 0, "limit": 2}));
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["next_since"], page["items"][1]["seq"]);
    assert!(page["stream_id"].is_string());
}

#[test]
fn a_subscriber_gets_everything_after_its_number_and_goes_on() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let follower = town.follow(json!({"since": 0}));
    let past: Vec<u64> = town.events(0).iter().filter_map(|event| event["seq"].as_u64()).collect();
    for seq in &past {
        let (_, event) = follower.wait(CHANGE, "a past event", |_| true);
        assert_eq!(event["seq"].as_u64(), Some(*seq), "in order, none left out");
    }
    let instance = town.agent("a/witness")["instance"].clone();
    town.process("a/witness").kill();
    let (_, event) = follower.wait(CHANGE, "the death", |event| event["kind"] == "agent.exited");
    assert_eq!(event["instance"], instance, "{event:#}");
    let filtered = town.follow(json!({"kinds": ["agent.ready"], "agent": "a/witness", "since": 0}));
    let (_, event) = filtered.wait(CHANGE, "only what was asked for", |_| true);
    assert_eq!(event["kind"], "agent.ready", "{event:#}");
    wait_for(CHANGE, "subscribers are counted", || {
        (town.call("daemon.status", json!({}))["subscribers"] == 2).then_some(())
    });
    drop(follower);
    wait_for(CHANGE, "and end with their connection", || {
        (town.call("daemon.status", json!({}))["subscribers"] == 1).then_some(())
    });
}
