//! The doctor itself: what it says of a town in which all is well, that it only looks, what it puts right and what it
//! leaves, and how it reads.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use gtd_tests::doctoring::{Points, at_a_terminal, check};
use gtd_tests::people::left_over;
use gtd_tests::{CHANGE, Setup, Terminal, Town, skipped, wait_for};
use serde_json::{Value, json};

fn town() -> Town {
    Setup::new().rigs(&["a", "b"]).no_refineries().up()
}

#[test]
fn a_town_in_which_all_is_well() {
    let town = town();
    let run = town.gtctl(&["doctor", "--json"]).ok();
    let report = run.json()["result"].clone();
    let bad: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| !matches!(check["status"].as_str(), Some("ok" | "skipped")))
        // What this machine is like is not the town's fault, and other tests' processes are other people's.
        .filter(|check| !matches!(check["name"].as_str(), Some("linger" | "tmux-cgroup" | "disk")))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(
        (&report["plan"], &report["applied"], &report["daemon"]),
        (&json!([]), &json!([]), &json!(true))
    );
    let listed = town.gtctl(&["doctor", "--list", "--json"]).ok().json()["result"]["items"].clone();
    assert_eq!(listed.as_array().unwrap().len(), report["checks"].as_array().unwrap().len());
    // It only looks.
    let before = town.call("agent.signals", json!({}));
    town.gtctl(&["doctor", "--fix"]).ok();
    assert_eq!(town.call("agent.signals", json!({}))["items"], before["items"]);
    let words = town.gtctl(&["doctor"]).ok();
    let well = |line: &&str| line.starts_with("ok ") || line.starts_with("skipped ");
    let lines = words.out.lines().filter(well).count();
    assert_eq!(
        lines,
        report["summary"]["ok"].as_u64().unwrap() as usize
            + report["summary"]["skipped"].as_u64().unwrap() as usize,
        "{words:?}"
    );
    assert_eq!(words.out.contains("all is well"), lines == listed.as_array().unwrap().len(), "{words:?}");
    let wrong = town.gtctl(&["doctor", "dsk"]);
    assert!(wrong.code == 2 && wrong.err.contains("disk"), "{wrong:?}");
}

#[test]
fn every_hint_is_a_command_that_there_is() {
    let town = Setup::new().make();
    for hint in gtd::doctor::Hint::samples() {
        let words: Vec<String> = hint.to_string().split(' ').skip(1).map(str::to_owned).collect();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("--help");
        let run = town.gtctl_bare(&words);
        assert_eq!(run.code, 0, "{hint}: {run:?}");
        assert!(run.out.contains("Usage: gtctl"), "{hint}: {run:?}");
    }
}

#[test]
fn without_a_daemon_it_looks_by_itself_and_mends_nothing() {
    let town = Setup::new().rigs(&["a"]).make();
    let looked = town.gtctl(&["doctor", "--json"]);
    assert_eq!(looked.code, 1, "{looked:?}");
    let report = looked.json()["result"].clone();
    assert_eq!(report["daemon"], false);
    let status = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()["status"].clone()
    };
    assert_eq!((status("daemon"), status("registry")), (json!("error"), json!("ok")));
    assert_eq!(status("orphan-processes"), "skipped");
    assert_eq!(town.gtctl(&["doctor", "registry"]).code, 0);
    assert_eq!(town.gtctl(&["doctor", "--fix"]).code, 69);
    assert_eq!(town.gtctl(&["doctor", "regstry"]).code, 2);
    assert!(!town.path("daemon").exists(), "it has made nothing");
}

#[test]
fn files_of_instances_that_are_over_are_removed_and_those_of_others_stay() {
    let town = town();
    let run = town.path("daemon/run");
    let [old, torn] = STALE.map(|id| run.join(format!("{id}.launch")));
    let live = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    // A damaged record is no proof that its shim is gone: neither it nor the launch beside it is touched.
    let record = torn.with_extension("record");
    let kept = [run.join(format!("{live}.record")), run.join("notes.record"), torn, record];
    for path in &kept[1..] {
        std::fs::write(path, "{").unwrap();
    }
    kept.iter().for_each(|path| age(path));
    let found = check(&town, "stale-files");
    assert_eq!((&found["status"], &found["fix"]), (&json!("warning"), &Value::Null), "{found:#}");
    assert!(found["details"].to_string().contains("its record is damaged"), "{found:#}");
    std::fs::write(&old, "{}").unwrap();
    age(&old);
    let found = check(&town, "stale-files");
    assert_eq!((&found["status"], &found["fix"]["class"]), (&json!("warning"), &json!("safe")), "{found:#}");
    assert_eq!(found["fix"]["items"].as_array().unwrap().len(), 1, "{found:#}");
    let planned = town.gtctl(&["doctor", "--fix", "--dry-run", "stale-files", "--json"]).ok().json();
    assert_eq!(planned["result"]["applied"], json!([]));
    assert!(old.exists(), "a plan changes nothing");
    let fixed = town.gtctl(&["doctor", "--fix", "stale-files", "--json"]).ok().json()["result"].clone();
    assert_eq!(
        (&fixed["applied"][0]["ok"], &fixed["applied"].as_array().map(Vec::len)),
        (&json!(true), &Some(1)),
        "{fixed:#}"
    );
    assert!(!old.exists() && kept.iter().all(|path| path.exists()));
    for path in &kept[1..] {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(check(&town, "stale-files")["status"], "ok");
}

/// Instances that no daemon had.
const STALE: [&str; 2] = ["018f3b5e-7a3c-7b1e-8b1a-0123456789ab", "018f3b5e-7a3c-7b1e-8b1a-0123456789ac"];

/// Makes a file an hour old.
fn age(path: &std::path::Path) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
}

/// A file that one check reads, and that never ends.
fn unreadable(town: &Town) -> std::path::PathBuf {
    let entry = town.path("a/.repo.git/worktrees/x");
    std::fs::create_dir_all(&entry).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, entry.join("gitdir"), 0o600.into()).unwrap();
    entry.join("gitdir")
}

#[test]
fn a_check_that_hangs_is_shown_last_with_its_time_and_the_others_do_not_wait() {
    let town = town();
    let fifo = unreadable(&town);
    let mut command = town.command("gtctl");
    command.arg("--town").arg(town.root()).arg("doctor").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Vec<String> = lines.by_ref().take_while(|line| !line.contains(" incumbent ")).collect();
    assert!(child.try_wait().unwrap().is_none(), "it goes on while these are read");
    assert!(!first.iter().any(|line| line.contains("worktrees ")), "{first:#?}");
    let rest: Vec<String> = lines.collect();
    let late = rest.iter().find(|line| line.starts_with("unknown  worktrees ")).unwrap();
    assert!(late.contains("took longer than 5s") && late.contains("(took 5."), "{late}");
    assert!(rest.iter().any(|line| line == "  hint: gtctl doctor worktrees"), "{rest:#?}");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    // Whoever reads it is let go.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    while std::fs::File::options().write(true).custom_flags(nonblock).open(&fifo).is_ok() {}
    std::fs::remove_file(&fifo).unwrap();
}

#[test]
fn without_a_daemon_a_check_that_hangs_keeps_nobody_either() {
    let town = Setup::new().rigs(&["a"]).make();
    unreadable(&town);
    let said = town.gtctl(&["doctor"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("error    daemon "), "{said:?}");
    let place = |name: &str| lines.iter().position(|line| line.contains(&format!(" {name} "))).unwrap();
    assert!(place("worktrees") > place("incumbent"), "{said:?}");
    assert!(lines[place("worktrees")].contains("(took 5."), "{said:?}");
    assert_eq!(said.code, 1);
}

#[test]
fn what_a_request_may_say_is_read_strictly() {
    let town = town();
    for (params, path) in [
        (json!({"fix": true, "allow": ["safe", "everything"]}), "/allow/1"),
        (json!({"checks": ["dsk"]}), "/checks"),
        (json!({"look": ""}), "/look"),
        (json!({"look": "x".repeat(65)}), "/look"),
    ] {
        let failure = town.call_fails("doctor.run", params.clone());
        assert_eq!((failure.code, &failure.data["path"]), (-32602, &json!(path)), "{params} {failure:?}");
    }
    // One look, several checks: the second does not see what was broken after the first.
    let looked = |checks: Value, look: &str| {
        let report = town.call("doctor.run", json!({"checks": checks, "look": look}));
        report["checks"][0]["status"].clone()
    };
    assert_eq!(looked(json!(["registry"]), "one"), "ok");
    town.replace("mayor/rigs.json", "{");
    assert_eq!(looked(json!(["registry"]), "one"), "ok");
    assert_eq!(looked(json!(["registry"]), "two"), "error");
    assert_eq!(check(&town, "registry")["status"], "error");
}

#[test]
fn what_has_changed_since_the_plan_is_left_and_said() {
    if !cfg!(debug_assertions) {
        skipped("changed since the plan", "the daemon was built without points");
        return;
    }
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let dir = town.base().join("points");
    let town = town.with_env("GTD_TEST_POINTS", dir.to_str().unwrap());
    let points = Points::below(dir);
    town.start();
    town.wait_all_running();
    let run = town.path("daemon/run");
    let stale = STALE.map(|id| run.join(format!("{id}.launch")));
    for path in &stale {
        std::fs::write(path, "{}").unwrap();
        age(path);
    }
    points.hold("doctor.apply");
    let fixed = std::thread::scope(|scope| {
        let fixing = scope.spawn(|| town.call("doctor.run", json!({"checks": ["stale-files"], "fix": true})));
        points.wait_reached("doctor.apply");
        // The record of a shim that lives is there now.
        let live = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
        std::fs::copy(run.join(format!("{live}.record")), stale[0].with_extension("record")).unwrap();
        points.go("doctor.apply");
        fixing.join().unwrap()
    });
    let applied = &fixed["applied"];
    let of = |path: &std::path::Path| {
        let path = path.display().to_string();
        applied.as_array().unwrap().iter().find(|item| item["target"] == path).cloned().unwrap()
    };
    assert_eq!(of(&stale[0])["ok"], false, "{fixed:#}");
    assert_eq!(of(&stale[0])["outcome"], "left: its shim lives");
    assert_eq!(of(&stale[1])["ok"], true, "{fixed:#}");
    assert!(stale[0].exists() && !stale[1].exists());
    std::fs::remove_file(&stale[0]).unwrap();
    std::fs::remove_file(stale[0].with_extension("record")).unwrap();
}

#[test]
fn what_is_more_than_safe_wants_a_yes_for_each() {
    let setup = Setup::new().toml("[sweep]\nmin_age = \"1s\"\nmode = \"report\"");
    let (town, children, _) = left_over(setup, &["fork:group", "fork:setsid", "idle"]);
    town.start();
    wait_for(CHANGE, "it is found", || {
        (check(&town, "orphan-processes")["status"] == "warning").then_some(())
    });
    let planned = town.gtctl(&["doctor", "--fix", "--dry-run", "orphan-processes"]).ok();
    assert!(
        planned.out.contains("COULD BE DONE\n  orphan-processes (disruptive) end processes"),
        "{planned:?}"
    );
    // Nobody can be asked.
    let left = town.gtctl(&["doctor", "--fix", "orphan-processes"]).ok();
    assert!(left.out.contains("LEFT") && left.out.contains("that was not allowed"), "{left:?}");
    assert!(left.err.contains("gtctl doctor --fix --yes"), "{left:?}");
    // What is not named is not touched.
    let params =
        json!({"checks": ["orphan-processes"], "fix": true, "allow": ["disruptive"], "targets": ["x"]});
    assert_eq!(town.call("doctor.run", params)["applied"], json!([]));
    assert!(children.iter().all(|child| child.alive()));
    if !Terminal::possible() {
        skipped("a yes at a terminal", "there is no script");
        return;
    }
    let said = at_a_terminal(&town, &["doctor", "--fix", "orphan-processes"], "n\n");
    assert!(said.out.contains("This is disruptive. [y/N]") && said.out.contains("LEFT"), "{said:?}");
    assert!(children.iter().all(|child| child.alive()));
    let said = at_a_terminal(&town, &["doctor", "--fix", "orphan-processes"], "y\n");
    assert!(said.out.contains("DONE") && !said.out.contains("LEFT"), "{said:?}");
    assert!(said.out.contains("all is well") && said.code == 0, "the second look is the result: {said:?}");
    assert!(children.iter().all(|child| !child.alive()));
}
