//! The registry and the operational state on disk: replaced, torn, missing, invalid, changed by others.

use std::fs;
use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for};
use serde_json::{Value, json};

fn rig(town: &Town, name: &str) -> Option<Value> {
    let list = town.call("rig.list", json!({}));
    list["items"].as_array()?.iter().find(|rig| rig["name"] == name).cloned()
}

#[track_caller]
fn wait_alert(town: &Town, word: &str) -> Value {
    wait_for(CHANGE, &format!("an alert about {word}"), || {
        town.alerts().into_iter().find(|alert| alert.to_string().contains(word))
    })
}

#[track_caller]
fn wait_no_alert(town: &Town) {
    let mut alerts = Vec::new();
    let none = gtd_tests::wait_until(CHANGE, || {
        alerts = town.alerts();
        alerts.is_empty()
    });
    assert!(none, "{alerts:#?}");
}

#[test]
fn a_rig_that_is_registered_by_an_atomic_replace_is_started_at_once() {
    let town = Setup::new().rigs(&["a"]).up();
    let before = town.running();
    let seq = town.seq();
    town.make_rig("b");
    town.write_registry(&["a", "b"]);
    let seen = town.wait_event(seq, "rig.discovered", "", QUICK);
    assert_eq!(seen["rig"], "b", "{seen:#}");
    town.wait_state("b/witness", "running");
    town.wait_state("b/refinery", "running");
    let still: Vec<_> = town.running().into_iter().filter(|(agent, ..)| agent.starts_with("a/")).collect();
    assert_eq!(still, before);
}

#[test]
fn a_torn_registry_keeps_the_last_good_set_and_says_so() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let before = town.running();
    let whole = fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    fs::write(town.path("mayor/rigs.json"), &whole[..whole.len() / 2]).unwrap();
    wait_alert(&town, "rigs.json");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.running(), before, "never \"no rigs\"");
    assert!(rig(&town, "a").is_some() && rig(&town, "b").is_some());
    // Still the set that everything is decided by.
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &before[0].1);
    fs::write(town.path("mayor/rigs.json"), whole).unwrap();
    wait_no_alert(&town);
}

#[test]
fn a_missing_registry_is_not_an_empty_one() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let whole = fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    fs::remove_file(town.path("mayor/rigs.json")).unwrap();
    wait_alert(&town, "rigs.json");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.running(), before);
    // The directory may be gone as a whole, too.
    fs::rename(town.path("mayor"), town.path("mayor-away")).unwrap();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.running(), before);
    fs::rename(town.path("mayor-away"), town.path("mayor")).unwrap();
    town.replace("mayor/rigs.json", &whole);
    wait_no_alert(&town);
    // And it is watched again.
    town.make_rig("b");
    town.write_registry(&["a", "b"]);
    wait_for(CHANGE, "the next change is noticed", || rig(&town, "b"));
}

#[test]
fn an_invalid_registry_at_the_start_starts_nothing_until_it_is_mended() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let good = fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    for bad in ["", "[]", "{\"version\":1}", "{\"version\":1,\"rigs\":[]}", "\u{0}\u{1}junk"] {
        fs::write(town.path("mayor/rigs.json"), bad).unwrap();
        town.start();
        wait_alert(&town, "rigs.json");
        assert!(town.running().is_empty());
        town.stop_daemon();
    }
    town.start();
    town.replace("mayor/rigs.json", &good);
    town.wait_agent("a/witness", CHANGE, "running", |agent| agent["state"] == "running");
    wait_no_alert(&town);
}

#[test]
fn a_registry_that_is_torn_while_the_daemon_is_down_stops_nobody() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let process = town.process("a/witness");
    town.kill_daemon();
    let good = fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    fs::write(town.path("mayor/rigs.json"), "{").unwrap();
    town.start();
    wait_alert(&town, "rigs.json");
    assert!(process.alive());
    town.replace("mayor/rigs.json", &good);
    town.wait_agent("a/witness", CHANGE, "running", |agent| agent["state"] == "running");
    assert_eq!(town.running(), before, "adopted");
    wait_no_alert(&town);
}

#[test]
fn one_bad_entry_of_the_registry_spoils_no_other() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    town.replace(
        "mayor/rigs.json",
        &json!({"version": 1, "rigs": {"bad name/..": {}, "a": {"git_url": "", "added_at": "2026-01-01T00:00:00Z"}}}).to_string(),
    );
    town.start();
    town.wait_agent("a/witness", CHANGE, "running", |agent| agent["state"] == "running");
    wait_alert(&town, "bad name");
}

#[test]
fn a_rig_that_leaves_the_registry_with_agents_running_is_an_alert_and_no_stop() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let before = town.running();
    let process = town.process("b/witness");
    let seq = town.seq();
    town.write_registry(&["a"]);
    let alert = wait_alert(&town, "b");
    town.wait_event(seq, "rig.removed", "", QUICK);
    town.call("daemon.heartbeat", json!({}));
    assert!(process.alive(), "not stopped");
    assert!(alert["hint"].is_string() || alert["message"].is_string(), "{alert:#}");
    // Nor restarted.
    process.kill();
    town.wait_event(seq, "agent.exited", "b/witness", CHANGE);
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("b/witness").len(), 1);
    // Its return brings it back.
    town.write_registry(&["a", "b"]);
    town.wait_new_instance("b/witness", &before[1].1);
    wait_no_alert(&town);
}

#[test]
fn a_parked_rig_is_not_started_and_a_start_is_refused() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().make();
    town.replace(
        ".beads-wisp/config/a.json",
        &json!({"rig": "a", "values": {"status": "parked"}, "blocked": []}).to_string(),
    );
    town.start();
    town.wait_state("b/witness", "running");
    let parked = rig(&town, "a").unwrap();
    assert_eq!((&parked["operational"], &parked["reason"]), (&json!(false), &json!("parked")), "{parked:#}");
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1005, "rig_not_operational"), "{error:?}");
    assert_eq!(error.data["reason"], "parked", "{error:?}");
    assert_eq!(town.agent("a/witness")["state"], "stopped");
    assert!(town.starts("a/witness").is_empty());
    // The end of it brings back what was to run.
    let seq = town.seq();
    town.replace(".beads-wisp/config/a.json", &json!({"rig": "a", "values": {}, "blocked": []}).to_string());
    town.wait_event(seq, "rig.unparked", "", CHANGE);
    town.wait_state("a/witness", "running");
}

#[test]
fn parking_a_rig_on_disk_stops_nothing_that_runs_but_bars_its_restart() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let seq = town.seq();
    town.replace(
        ".beads-wisp/config/a.json",
        &json!({"rig": "a", "values": {"status": "parked"}}).to_string(),
    );
    town.wait_event(seq, "rig.parked", "", CHANGE);
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.running(), before);
    town.process("a/witness").kill();
    let agent = town.wait_state("a/witness", "stopped");
    assert!(agent["reason"].as_str().unwrap_or_default().contains("parked"), "{agent:#}");
    assert_eq!(agent["intent"], "running", "the intent is unchanged: {agent:#}");
}

#[test]
fn every_way_to_bar_a_rig_has_its_reason() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[witness]\nmode = \"off\"").make();
    town.start();
    for (state, reason) in [
        ("{torn".to_owned(), "state file unreadable"),
        (json!({"values": {"status": "docked"}}).to_string(), "docked"),
        (json!({"values": {}, "blocked": ["auto_restart"]}).to_string(), "auto_restart is blocked"),
        (json!({"values": {"auto_restart": false}}).to_string(), "auto_restart is disabled"),
        (json!({"values": {"status": "PARKED"}}).to_string(), "parked"),
    ] {
        town.replace(".beads-wisp/config/a.json", &state);
        wait_for(CHANGE, reason, || rig(&town, "a").filter(|rig| rig["reason"] == reason));
        let error = town.call_fails("witness.start", json!({"rig": "a"}));
        assert_eq!((error.code, &error.data["reason"]), (1005, &json!(reason)), "{error:?}");
    }
    // What was set aside stays so when its file is torn; that is an alert, for nobody meant it.
    town.replace(".beads-wisp/config/a.json", "{torn");
    wait_alert(&town, "a.json");
    assert_eq!(rig(&town, "a").unwrap()["operational"], false);
    fs::remove_file(town.path(".beads-wisp/config/a.json")).unwrap();
    wait_for(CHANGE, "operational again", || rig(&town, "a").filter(|rig| rig["operational"] == true));
    wait_no_alert(&town);
}

#[test]
fn a_storm_of_writes_to_the_registry_ends_in_its_last_state() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[witness]\nmode = \"off\"").make();
    town.start();
    town.make_rig("b");
    for n in 0..300 {
        if n % 3 == 0 {
            fs::write(town.path("mayor/rigs.json"), "{\"version\":1,\"rigs\":{\"a\"").unwrap();
        } else {
            town.write_registry(if n % 2 == 0 { &["a"] } else { &["a", "b"] });
        }
    }
    town.write_registry(&["a", "b"]);
    wait_for(Duration::from_secs(10), "the last state", || rig(&town, "b"));
    wait_no_alert(&town);
}

/// What a file can be in place of the registry: each is no registry, and none is an empty one.
const NO_REGISTRIES: [&[u8]; 6] =
    [b"", b"{\"version\":1,\"rigs\":{\"a\"", b"[]", b"null", b"{\"version\":1}", b"\x00\xff\xfe junk"];

#[test]
fn whatever_stands_in_place_of_the_registry_the_last_good_one_counts() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let path = town.path("mayor/rigs.json");
    let good = fs::read(&path).unwrap();
    for bad in NO_REGISTRIES {
        fs::write(&path, bad).unwrap();
        wait_alert(&town, "rigs.json");
        assert_eq!(town.running(), before);
        assert!(rig(&town, "a").is_some(), "{bad:?}");
        town.replace("mayor/rigs.json", std::str::from_utf8(&good).unwrap());
        wait_no_alert(&town);
    }
    // Not readable: tests may run as root, whom no mode stops.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    wait_alert(&town, "rigs.json");
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &before[0].1);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &good).unwrap();
    wait_no_alert(&town);
}

#[test]
fn the_last_good_registry_outlives_the_daemon() {
    // It is killed more often here than policy puts up with.
    let patient = "[restart]\nburst = 0\nbase = \"10ms\"\nmax = \"50ms\"";
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml(patient).up();
    let path = town.path("mayor/rigs.json");
    let good = fs::read_to_string(&path).unwrap();
    for (n, bad) in NO_REGISTRIES.iter().enumerate() {
        let before = town.running();
        let victim = town.process("b/witness");
        town.kill_daemon();
        victim.kill();
        match n {
            0 => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, bad).unwrap(),
        }
        town.start();
        wait_alert(&town, "rigs.json");
        assert!(rig(&town, "a").is_some() && rig(&town, "b").is_some(), "never \"no rigs\"");
        town.wait_new_instance("b/witness", &before[1].1);
        town.wait_state("a/witness", "running");
        assert_eq!(town.running()[0], before[0], "adopted");
        town.replace("mayor/rigs.json", &good);
        wait_no_alert(&town);
    }
    // A good one is believed, also when it says that there are none.
    town.stop_daemon();
    town.write_registry(&[]);
    town.start();
    assert_eq!(town.call("rig.list", json!({}))["items"], json!([]));
    town.write_registry(&["a", "b"]);
    wait_no_alert(&town);
    town.assert_never_two();
}

#[test]
fn a_registry_of_ten_megabytes_is_read_and_edited() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let mut registry: Value =
        serde_json::from_slice(&fs::read(town.path("mayor/rigs.json")).unwrap()).unwrap();
    registry["notes"] = json!("x".repeat(10 << 20));
    town.replace("mayor/rigs.json", &registry.to_string());
    town.start();
    town.wait_state("a/witness", "running");
    wait_no_alert(&town);
    town.make_rig("b");
    registry["rigs"]["b"] = registry["rigs"]["a"].clone();
    registry["rigs"]["b"]["beads"]["prefix"] = json!("bb");
    town.replace("mayor/rigs.json", &registry.to_string());
    town.wait_state("b/witness", "running");
    town.call("rig.remove", json!({"rig": "b"}));
    registry["rigs"].as_object_mut().unwrap().remove("b");
    let after: Value = serde_json::from_slice(&fs::read(town.path("mayor/rigs.json")).unwrap()).unwrap();
    assert_eq!(after, registry);
    town.stop_daemon();
    town.start();
    assert_eq!(town.agent("a/witness")["running"], true);
}

#[test]
fn rigs_with_hyphens_and_rigs_of_one_prefix_are_told_apart() {
    let town = Setup::new().rigs(&["a", "a-b", "a-b-witness"]).no_refineries().up();
    // All three are registered with one prefix from here on.
    let mut registry: Value =
        serde_json::from_slice(&fs::read(town.path("mayor/rigs.json")).unwrap()).unwrap();
    for rig in ["a", "a-b", "a-b-witness"] {
        registry["rigs"][rig]["beads"]["prefix"] = json!("x-");
    }
    town.replace("mayor/rigs.json", &registry.to_string());
    let alert = wait_alert(&town, "same prefix");
    assert_eq!(alert["key"], "prefix:x", "{alert:#}");
    let before = town.running();
    assert_eq!(before.len(), 3);
    let names: std::collections::BTreeSet<String> =
        town.agents().iter().filter_map(|agent| agent["session_name"].as_str().map(str::to_owned)).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    town.call("rig.park", json!({"rig": "a-b"}));
    let left: Vec<_> = town.running();
    assert_eq!(left, [before[0].clone(), before[2].clone()], "and nobody of the others");
    town.call("rig.unpark", json!({"rig": "a-b"}));
    town.process("a-b-witness/witness").kill();
    town.wait_new_instance("a-b-witness/witness", &before[2].1);
    assert_eq!(town.running()[0], before[0]);
    town.assert_never_two();
}

#[test]
fn a_rig_whose_directory_is_gone_is_an_alert_and_spoils_no_other() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let process = town.process("a/witness");
    fs::rename(town.path("a"), town.path("a-away")).unwrap();
    let alert = wait_alert(&town, "is missing");
    assert_eq!(alert["key"], "rig:a:directory", "{alert:#}");
    town.call("daemon.heartbeat", json!({}));
    assert!(process.alive(), "what runs is not ended for it");
    process.kill();
    let broken = town.wait_state("a/witness", "quarantined");
    assert_eq!(broken["intent"], "running", "{broken:#}");
    assert_eq!(town.agent("b/witness")["running"], true);
    town.stop_daemon();
    town.start();
    wait_alert(&town, "is missing");
    assert!(!town.path("a").exists(), "nothing makes it anew");
    fs::rename(town.path("a-away"), town.path("a")).unwrap();
    wait_for(gtd_tests::START, "it is started when a round finds the directory", || {
        town.call("daemon.heartbeat", json!({}));
        town.try_agent("a/witness").filter(|agent| agent["running"] == true)
    });
    wait_no_alert(&town);
}
