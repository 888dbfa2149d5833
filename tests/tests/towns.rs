//! Towns that the incumbent made, both generations: recognised as they are.

use std::fs;
use std::path::{Path, PathBuf};

use gtd_tests::run::run;
use gtd_tests::{CHANGE, Setup, skipped, wait_for};
use serde_json::json;

fn fixture(name: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/towns").join(name);
    dir.join("mayor/town.json").is_file().then_some(dir)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn is_discovered_without_an_alert(name: &str) {
    let Some(dir) = fixture(name) else { return skipped(name, "its recording is not there") };
    let town = Setup::new().empty().make();
    copy(&dir, town.root());
    // Where a work's directory is empty, the recording could not keep it.
    for dir in ["proj/witness", "proj/refinery/rig", "proj/polecats", "proj/crew"] {
        fs::create_dir_all(town.path(dir)).unwrap();
    }
    let theirs = town.path("settings/gtd.toml");
    fs::write(theirs, "[witness]\nmode = \"off\"\n[refinery]\nmode = \"off\"\n[deacon]\nmode = \"off\"\n")
        .unwrap();
    let read = |file: &str| fs::read(town.path(file)).ok();
    let kept = ["mayor/town.json", "mayor/rigs.json", "mayor/daemon.json", ".beads-wisp/config/proj.json"];
    let before: Vec<_> = kept.iter().map(|file| read(file)).collect();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    let status = town.call("town.status", json!({}));
    assert_eq!(status["alerts"], json!([]), "{status:#}");
    assert_eq!(status["name"], "demo", "{status:#}");
    let rigs = status["rigs"].as_array().unwrap();
    assert_eq!(rigs.len(), 1, "{status:#}");
    assert_eq!((&rigs[0]["name"], &rigs[0]["operational"]), (&json!("proj"), &json!(true)), "{status:#}");
    assert_eq!(rigs[0]["prefix"], "pj", "{status:#}");
    let daemon = town.call("daemon.status", json!({}));
    assert_eq!(daemon["degraded"], false, "{daemon:#}");
    let after: Vec<_> = kept.iter().map(|file| read(file)).collect();
    assert_eq!(after, before, "files of others are never rewritten");
}

#[test]
fn a_town_of_the_first_generation_is_discovered_without_an_alert() {
    is_discovered_without_an_alert("town-0.4");
}

#[test]
fn a_town_of_the_second_generation_is_discovered_without_an_alert() {
    is_discovered_without_an_alert("town-1.0");
}

/// Every kind of character that a shell, tmux, a format string or a URL would take for something else.
const ODD: &str = "to wn's \"x\" #{pid} %s $HOME `id` \\ ü€ 東 ;&|*?[~";

#[test]
fn a_town_whose_path_means_something_to_every_other_program_works_like_any_other() {
    let town = Setup::new().named(ODD).rigs(&["a"]).script(&["echo"]).up();
    assert_eq!(town.call("town.status", json!({}))["root"], town.root().display().to_string());
    let before = town.running();
    assert_eq!(before.len(), 2);
    for agent in ["a/witness", "a/refinery"] {
        let start = &town.starts(agent)[0];
        assert!(start.cwd.starts_with(town.root()), "{start:?}");
    }
    // Its screen, and the words that hand it to a person.
    let screen = town.gtctl(&["peek", "a/witness"]).ok();
    assert!(screen.out.contains("scripted agent a/witness ready"), "{screen:?}");
    let attach = town.call("agent.attach", json!({"agent": "a/witness"}));
    let argv: Vec<String> = attach["argv"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect();
    let session = town.agent("a/witness")["session"].as_str().unwrap().to_owned();
    assert!(argv.iter().any(|word| word.contains(&session)), "{argv:?}");
    // The same words, with another command of tmux at their end, reach the session.
    let at = argv.iter().position(|word| word.starts_with("attach")).unwrap();
    let mut ask = std::process::Command::new(&argv[0]);
    ask.args(&argv[1..at])
        .args(["display-message", "-p", "-t", &session, "#{session_id}"])
        .env_remove("TMUX");
    assert_eq!(run(ask, CHANGE).ok().out.trim(), session);
    // Deaths, and a daemon that dies.
    town.process("a/witness").kill();
    let again = town.wait_new_instance("a/witness", &before[1].1);
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "found again", || town.try_agent("a/witness").filter(|agent| agent["running"] == true));
    assert_eq!(town.agent("a/witness")["instance"], again["instance"]);
    // What is read and written there.
    town.call("rig.park", json!({"rig": "a"}));
    assert!(fs::read_to_string(town.path(".beads-wisp/config/a.json")).unwrap().contains("parked"));
    town.call("rig.unpark", json!({"rig": "a"}));
    town.wait_state("a/witness", "running");
    town.assert_never_two();
    let down = town.gtctl(&["down", "--yes"]).ok();
    assert!(down.out.contains("nothing is left"), "{down:?}");
    assert!(town.daemon().is_none());
    // And from nothing, by the client alone.
    let up = town.gtctl(&["up"]).ok();
    assert!(up.code == 0, "{up:?}");
    assert_eq!(town.agent("a/witness")["running"], true);
    town.gtctl(&["down", "--yes"]).ok();
}
