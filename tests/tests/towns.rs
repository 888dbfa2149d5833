//! Towns that the incumbent made, both generations: recognised as they are.

use std::fs;
use std::path::{Path, PathBuf};

use gtd_tests::{Setup, skipped};
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
