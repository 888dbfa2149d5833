//! Whole towns: as other programs leave them, and broken in every way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gtd_proto::{AgentName, RigName, Role};

use super::finding::Severity;
use super::init::init;
use super::snapshot::{read, read_settled};
use super::*;

fn rig(name: &str) -> RigName {
    RigName::new(name).unwrap()
}

/// Leaves of a recorded tree that are directories.
const DIRECTORIES: [&str; 9] =
    [".repo.git", "proj", "boot", "plugins", "formulas", ".git", "commands", ".dolt-data", "pj-witness"];

/// A copy of a recorded town, with all that its list of files has.
fn recorded(name: &str) -> (tempfile::TempDir, Layout) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/towns").join(name);
    let dir = tempfile::tempdir().unwrap();
    let tree = fs::read_to_string(from.join("tree.txt")).unwrap();
    let paths: Vec<PathBuf> = tree.lines().map(|line| line.trim_start_matches("./").into()).collect();
    let parents: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
    for path in &paths {
        let target = dir.path().join(path);
        let leaf = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if parents.contains(path.as_path()) || DIRECTORIES.contains(&leaf.as_str()) || path.as_os_str() == "."
        {
            fs::create_dir_all(&target).unwrap();
        } else {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            match fs::read(from.join(path)) {
                Ok(content) => fs::write(&target, content).unwrap(),
                Err(_) => fs::write(&target, "").unwrap(),
            }
        }
    }
    let layout = Layout::at(dir.path()).unwrap();
    (dir, layout)
}

fn names(names: &[AgentName]) -> Vec<&str> {
    names.iter().map(AgentName::as_str).collect()
}

#[test]
fn the_recorded_town_of_0_4_is_read_without_a_finding() {
    let (_dir, layout) = recorded("town-0.4");
    let town = read_settled(&layout, None);
    assert_eq!(town.findings, []);
    assert_eq!(town.name(), "demo");
    assert_eq!(town.rigs.len(), 1);
    let proj = &town.rigs[&rig("proj")];
    assert_eq!((proj.prefix.as_str(), proj.operational), ("pj", Ok(())));
    assert_eq!(names(proj.polecat_names()), ["chrome", "rust"]);
    assert_eq!(names(proj.crew_names()), Vec::<&str>::new());
    assert_eq!(proj.default_branch.as_deref(), Some("main"));
    assert_eq!(proj.git_url.as_deref(), Some("/src.git"));
    assert_eq!(town.patrol(Role::Witness, Some(&rig("proj"))), Some(true));
    let nux = AgentName::new("rust").unwrap();
    assert_eq!(
        rigs::polecat_workdir(&layout, &rig("proj"), &nux),
        layout.root().join("proj/polecats/rust/proj")
    );
    assert_eq!(rigs::witness_workdir(&layout, &rig("proj")), layout.root().join("proj/witness"));
    assert_eq!(
        marker::find(&layout.root().join("proj/refinery/rig")).unwrap().as_deref(),
        Some(layout.root())
    );
}

#[test]
fn the_recorded_town_of_1_0_is_read_without_a_finding() {
    let (_dir, layout) = recorded("town-1.0");
    let town = read_settled(&layout, None);
    assert_eq!(town.findings, []);
    let proj = &town.rigs[&rig("proj")];
    assert_eq!((proj.prefix.as_str(), proj.operational), ("pj", Ok(())));
    assert_eq!(names(proj.polecat_names()), ["obsidian", "quartz"]);
    assert_eq!(proj.settings.value().unwrap().names.style.as_deref(), Some("minerals"));
    assert_eq!(town.patrol(Role::Refinery, Some(&rig("proj"))), Some(true));
    assert_eq!(town.patrol(Role::Refinery, Some(&rig("other"))), Some(false));
    assert_eq!(town.patrol(Role::Deacon, None), Some(true));
}

fn town(registry: &str) -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    init(&dir.path().join("t"), None, None, false).unwrap();
    let layout = Layout::at(&dir.path().join("t")).unwrap();
    fs::write(layout.rigs_json(), registry).unwrap();
    (dir, layout)
}

fn keys(town: &Snapshot) -> Vec<&str> {
    town.findings.iter().map(|finding| finding.key.as_str()).collect()
}

#[test]
fn a_registry_that_was_never_read_is_unknown_and_not_empty() {
    for bad in ["", "{", "[]", "null", "{}", r#"{"rigs":3}"#, "\u{0}\u{1}", "{\"rigs\":{\"a\":{}}"] {
        let (_dir, layout) = town(bad);
        let town = read(&layout, None);
        assert!(!town.rigs_known(), "{bad}");
        assert!(matches!(town.registry, Known::Unknown { .. }));
        assert_eq!(keys(&town), ["registry"]);
        assert_eq!(town.findings[0].severity, Severity::Error);
    }
    let (_dir, layout) = town("{}");
    fs::remove_file(layout.rigs_json()).unwrap();
    assert!(!read(&layout, None).rigs_known(), "missing");
    fs::create_dir(layout.rigs_json()).unwrap();
    assert!(!read(&layout, None).rigs_known(), "unreadable");
}

#[test]
fn a_registry_that_goes_bad_keeps_what_it_said() {
    let (_dir, layout) = town(r#"{"rigs":{"a-b":{"beads":{"prefix":"ab"}},"a":{}}}"#);
    for rig in ["a", "a-b"] {
        fs::create_dir(layout.root().join(rig)).unwrap();
    }
    let good = read(&layout, None);
    assert_eq!(keys(&good), ["rig:a:prefix"]);
    let mut before = good.clone();
    let ruin: [fn(&Path); 4] = [
        |path| fs::write(path, "{\"rigs\":{").unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for (n, ruin) in ruin.iter().enumerate() {
        ruin(&layout.rigs_json());
        let kept = read(&layout, Some(&before));
        assert_eq!(kept.rigs, good.rigs, "{n}");
        assert_eq!(keys(&kept), ["registry", "rig:a:prefix"], "{n}");
        assert!(kept.rigs_known() && matches!(kept.registry, Known::Kept { .. }));
        // The same state of the files gives the same snapshot: a finding stays one alert.
        assert_eq!(read(&layout, Some(&kept)), kept);
        before = kept;
    }
    fs::remove_dir(layout.rigs_json()).unwrap();
    fs::write(layout.rigs_json(), r#"{"rigs":{"a":{"beads":{"prefix":"a"}}}}"#).unwrap();
    let again = read(&layout, Some(&before));
    assert_eq!((again.rigs.len(), again.findings), (1, vec![]));
}

#[test]
fn odd_rigs_are_findings_and_spoil_nothing() {
    let (_dir, layout) = town(
        r#"{"rigs":{"x":{"beads":{"prefix":"pp-"}},"x-y":{"beads":{"prefix":"PP"}},"../up":{},"gone":{"beads":{"prefix":"g"}},
        "file":{"beads":{"prefix":"f"}}}}"#,
    );
    for rig in ["x", "x-y", "x-y/polecats/b-witness", "x-y/polecats/sp ace"] {
        fs::create_dir_all(layout.root().join(rig)).unwrap();
    }
    fs::write(layout.root().join("file"), "").unwrap();
    let town = read(&layout, None);
    assert_eq!(
        keys(&town),
        [
            "prefix:pp",
            "registry:../up",
            "rig:file:crew",
            "rig:file:directory",
            "rig:file:polecats",
            "rig:gone:directory",
            "rig:x-y:polecats:sp ace"
        ]
    );
    assert_eq!(town.rigs.len(), 4);
    assert_eq!(town.rigs[&rig("gone")].present, Ok(false));
    assert_eq!(names(town.rigs[&rig("x-y")].polecat_names()), ["b-witness"]);
}

#[test]
fn a_state_file_that_goes_bad_bars_starts_and_says_so() {
    let (_dir, layout) = town(r#"{"rigs":{"a":{"beads":{"prefix":"a"}}}}"#);
    fs::create_dir(layout.root().join("a")).unwrap();
    let a = rig("a");
    let state = |town: &Snapshot| town.rigs[&a].operational;
    let good = read(&layout, None);
    assert_eq!(state(&good), Ok(()));
    fs::write(layout.wisp(&a), "{\"values\":").unwrap();
    let bad = read(&layout, Some(&good));
    assert_eq!((state(&bad), keys(&bad)), (Err(Reason::Unreadable), vec!["rig:a:state"]));
    assert_eq!(state(&read(&layout, None)), Err(Reason::Unreadable));
    // What was parked stays parked, for its own reason.
    fs::write(layout.wisp(&a), r#"{"values":{"status":"Parked"}}"#).unwrap();
    let parked = read(&layout, Some(&bad));
    assert_eq!((state(&parked), keys(&parked)), (Err(Reason::Parked), vec![]));
    fs::write(layout.wisp(&a), "").unwrap();
    let bad = read(&layout, Some(&parked));
    assert_eq!((state(&bad), keys(&bad)), (Err(Reason::Parked), vec!["rig:a:state"]));
    fs::remove_file(layout.wisp(&a)).unwrap();
    assert_eq!(state(&read(&layout, Some(&bad))), Ok(()));
    fs::write(layout.wisp(&a), r#"{"values":{"status":"paked"}}"#).unwrap();
    assert_eq!(keys(&read(&layout, Some(&bad))), ["rig:a:state:odd"]);
}

#[test]
fn each_other_file_keeps_what_it_said_too() {
    let (_dir, layout) = town(r#"{"rigs":{"a":{}}}"#);
    fs::create_dir_all(layout.root().join("a/settings")).unwrap();
    fs::create_dir_all(layout.root().join("a/polecats/nux")).unwrap();
    let a = rig("a");
    fs::write(layout.rig_config(&a), r#"{"default_branch":"trunk","beads":{"prefix":"qq-"}}"#).unwrap();
    fs::write(layout.rig_settings(&a), r#"{"agent":"codex"}"#).unwrap();
    fs::write(layout.daemon_json(), r#"{"patrols":{"witness":{"enabled":false}}}"#).unwrap();
    fs::write(layout.settings_json(), r#"{"default_agent":"gemini"}"#).unwrap();
    let good = read(&layout, None);
    assert_eq!(good.findings, []);
    assert_eq!(good.rigs[&a].prefix, "qq");
    for path in [
        layout.rig_config(&a),
        layout.rig_settings(&a),
        layout.daemon_json(),
        layout.settings_json(),
        layout.town_json(),
    ] {
        fs::write(path, "{").unwrap();
    }
    fs::remove_dir_all(layout.polecats(&a)).unwrap();
    fs::write(layout.polecats(&a), "").unwrap();
    let kept = read(&layout, Some(&good));
    assert_eq!(
        keys(&kept),
        ["patrols", "rig:a:config", "rig:a:polecats", "rig:a:settings", "settings", "town"]
    );
    assert_eq!(names(kept.rigs[&a].polecat_names()), ["nux"]);
    assert_eq!(kept.rigs[&a].default_branch.as_deref(), Some("trunk"));
    assert_eq!(kept.rigs[&a].prefix, "qq");
    assert_eq!(kept.rigs[&a].settings.value().unwrap().agent.as_deref(), Some("codex"));
    assert_eq!(kept.settings.value().unwrap().agent.as_deref(), Some("gemini"));
    assert_eq!(kept.patrol(Role::Witness, Some(&a)), Some(false));
    assert_eq!(kept.name(), "t");
    assert_eq!(read(&layout, Some(&kept)), kept);
    let fresh = read(&layout, None);
    assert_eq!(fresh.patrol(Role::Witness, None), None, "what was never read is not known");
    assert!(fresh.settings.value().is_none());
    assert!(fresh.rigs[&a].polecats.value().is_none());
}

#[test]
fn a_large_registry_is_read_and_many_rigs_are_quick() {
    let filler = "x".repeat(10 << 20);
    let (_dir, layout) =
        town(&format!(r#"{{"notes":"{filler}","rigs":{{"a":{{"beads":{{"prefix":"a"}}}}}}}}"#));
    fs::create_dir(layout.root().join("a")).unwrap();
    let began = Instant::now();
    assert_eq!(read(&layout, None).findings, []);
    println!("10 MB registry read in {:?}", began.elapsed());

    let rigs: serde_json::Map<String, serde_json::Value> = (0..200)
        .map(|n| (format!("rig-{n}"), serde_json::json!({"beads": {"prefix": format!("p{n}")}})))
        .collect();
    for rig in rigs.keys() {
        fs::create_dir_all(layout.root().join(rig).join("polecats/nux")).unwrap();
    }
    fs::write(layout.rigs_json(), serde_json::json!({ "rigs": rigs }).to_string()).unwrap();
    let began = Instant::now();
    let town = read(&layout, None);
    println!("200 rigs read in {:?}", began.elapsed());
    assert_eq!((town.rigs.len(), town.findings), (200, vec![]));
}
