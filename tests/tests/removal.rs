//! Rigs that leave a town: removed by a person, taken out of the registry, renamed.

use std::fs;
use std::path::Path;
use std::process::Command;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for};
use serde_json::{Value, json};

fn rigs(town: &Town) -> Vec<String> {
    let list = town.call("rig.list", json!({}));
    list["items"].as_array().unwrap().iter().map(|rig| rig["name"].as_str().unwrap().to_owned()).collect()
}

fn registry(town: &Town) -> Value {
    serde_json::from_slice(&fs::read(town.path("mayor/rigs.json")).unwrap()).unwrap()
}

fn git(dir: &Path, args: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    let done = Command::new("git").args(who).args(args).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_removed_rig_runs_no_more_is_out_of_the_registry_and_lies_where_it_lay() {
    let town = Setup::new().rigs(&["a", "b"]).up();
    let mut registered = registry(&town);
    registered["own"] = json!({"kept": [1, 2.5]});
    registered["rigs"]["b"]["more"] = json!(true);
    town.replace("mayor/rigs.json", &registered.to_string());
    fs::write(town.path("a/precious"), "work").unwrap();
    let (witness, refinery) = (town.process("a/witness"), town.process("a/refinery"));
    let others: Vec<_> = town.running().into_iter().filter(|(agent, ..)| agent.starts_with("b/")).collect();
    let plan = town.call("rig.remove", json!({"rig": "a", "dry_run": true}));
    let actions: Vec<&str> =
        plan["plan"].as_array().unwrap().iter().filter_map(|step| step["action"].as_str()).collect();
    assert_eq!(actions, ["stop", "stop", "unregister", "forget"], "{plan:#}");
    assert!(witness.alive() && rigs(&town) == ["a", "b"]);

    let seq = town.seq();
    let gone = town.call("rig.remove", json!({"rig": "a", "reason": "finished"}));
    assert_eq!(gone["path"], town.path("a").display().to_string(), "{gone:#}");
    assert_eq!(gone["items"].as_array().unwrap().len(), 2, "{gone:#}");
    assert!(!witness.alive() && !refinery.alive());
    assert_eq!(rigs(&town), ["b"]);
    assert_eq!(fs::read_to_string(town.path("a/precious")).unwrap(), "work");
    registered["rigs"].as_object_mut().unwrap().remove("a");
    assert_eq!(registry(&town), registered, "everything else is kept");
    assert!(town.agents().iter().all(|agent| agent["rig"] == "b"));
    town.wait_event(seq, "rig.removed", "", QUICK);
    assert_eq!(town.call_fails("rig.remove", json!({"rig": "a"})).code, 1001);
    assert_eq!(town.call_fails("witness.start", json!({"rig": "a"})).code, 1001);
    assert_eq!(town.alerts(), Vec::<Value>::new());
    assert_eq!(town.running(), others);
    town.kill_daemon();
    town.start();
    assert!(town.agents().iter().all(|agent| agent["rig"] == "b"), "forgotten for good");
    // What is registered anew begins anew.
    town.write_registry(&["a", "b"]);
    town.wait_state("a/witness", "running");
}

#[test]
fn work_that_is_nowhere_else_is_not_lost_sight_of() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let work = town.path("a/polecats/nux/a");
    fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "-q"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "one"]);
    fs::write(work.join("f"), "").unwrap();
    let before = town.running();
    let error = town.call_fails("rig.remove", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1008, "uncommitted_work"), "{error:?}");
    assert_eq!(error.data["summary"], "polecats/nux: 1 uncommitted change, 1 unpushed commit", "{error:?}");
    // Nor when it cannot be told.
    fs::write(work.join(".git/HEAD"), "junk").unwrap();
    let error = town.call_fails("rig.remove", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1017, "git"), "{error:?}");
    assert_eq!(town.running(), before);
    town.call("rig.remove", json!({"rig": "a", "force": true}));
    assert!(work.join("f").exists(), "left where it is");
    assert!(rigs(&town).is_empty());
}

#[test]
fn a_registry_that_cannot_be_edited_keeps_the_rig_and_all_of_it() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let good = fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    fs::write(town.path("mayor/rigs.json"), &good[..good.len() / 2]).unwrap();
    let error = town.call_fails("rig.remove", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1014, "config_invalid"), "{error:?}");
    assert_eq!(town.running(), before, "nothing was ended for it");
    town.replace("mayor/rigs.json", &good);
    town.call("rig.remove", json!({"rig": "a"}));
    assert!(rigs(&town).is_empty());
}

#[test]
fn a_removal_is_finished_by_the_next_daemon() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .script(&["ignore:TERM", "idle"])
        .toml("[stop]\ngrace = \"2s\"")
        .up();
    let process = town.process("a/witness");
    let accepted = town.call("rig.remove", json!({"rig": "a", "wait_ms": 0}));
    assert_eq!(accepted["accepted"], true, "{accepted:#}");
    assert_eq!(town.call("rig.status", json!({"rig": "a"}))["removing"], true);
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1011, "busy"), "{error:?}");
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "it is gone", || rigs(&town).is_empty().then_some(()));
    assert!(!process.alive());
    assert_eq!(registry(&town)["rigs"], json!({}));
    assert!(town.agents().is_empty());
    assert_eq!(town.starts("a/witness").len(), 1);
}

#[test]
fn what_is_left_of_a_rig_that_was_taken_out_of_the_registry_is_ended_by_its_removal() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let process = town.process("b/witness");
    town.write_registry(&["a"]);
    let alert = wait_for(CHANGE, "an alert", || {
        town.alerts().into_iter().find(|alert| alert["key"] == "agent:b/witness")
    });
    assert!(alert["hint"].as_str().unwrap().contains("gtctl rig remove b"), "{alert:#}");
    assert!(process.alive(), "not stopped for it");
    town.kill_daemon();
    town.start();
    town.wait_agent("b/witness", CHANGE, "found again", |agent| agent["running"] == true);
    assert!(process.alive());
    town.call("rig.remove", json!({"rig": "b"}));
    assert!(!process.alive());
    assert_eq!(town.alerts(), Vec::<Value>::new());
    assert!(town.agents().iter().all(|agent| agent["rig"] == "a"));
}

#[test]
fn a_renamed_rig_is_another_rig_and_nobody_is_taken_for_somebody_else() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let old = town.process("a/witness");
    let before = town.running();
    fs::rename(town.path("a"), town.path("a-b")).unwrap();
    town.rigs_moved("a", "a-b");
    town.write_registry(&["a-b"]);
    let new = town.wait_state("a-b/witness", "running");
    assert!(old.alive(), "the old one is left alone until somebody says otherwise");
    assert_ne!(new["pid"], before[0].2);
    assert_ne!(new["session_name"], town.agent("a/witness")["session_name"]);
    wait_for(CHANGE, "an alert", || {
        town.alerts().into_iter().find(|alert| alert["key"] == "agent:a/witness")
    });
    town.call("rig.remove", json!({"rig": "a"}));
    assert!(!old.alive());
    let still = town.agent("a-b/witness");
    assert_eq!((&still["instance"], &still["running"]), (&new["instance"], &json!(true)), "{still:#}");
    assert_eq!(town.starts("a-b/witness").len(), 1);
    assert_eq!(registry(&town)["rigs"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a-b"]);
}
