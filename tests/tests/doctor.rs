//! The doctor: a town in which all is well, and one for each thing that can be wrong.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// One check, asked over the socket.
fn check(town: &Town, name: &str) -> Value {
    let report = town.call("doctor.run", json!({"checks": [name]}));
    report["checks"][0].clone()
}

/// What was wrong is told by exactly this check, with a word that names it; before it was well.
#[track_caller]
fn breaks(town: &Town, name: &str, status: &str, word: &str, how: impl FnOnce()) -> Value {
    let before = check(town, name);
    assert!(matches!(before["status"].as_str(), Some("ok" | "skipped")), "before: {before:#}");
    how();
    let mut after = Value::Null;
    let told = wait_until(CHANGE, || {
        after = check(town, name);
        after["status"] == status
    });
    assert!(told, "{after:#}");
    assert!(after.to_string().contains(word), "{word}: {after:#}");
    after
}

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
    assert!(words.out.contains("orphan-processes") && words.out.contains("ok"), "{words:?}");
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
fn what_is_wrong_with_the_towns_files() {
    let town = town();
    let registry = std::fs::read_to_string(town.path("mayor/rigs.json")).unwrap();
    breaks(&town, "registry", "error", "rigs.json", || town.replace("mayor/rigs.json", "{"));
    town.replace("mayor/rigs.json", &registry);
    wait_for(CHANGE, "well again", || (check(&town, "registry")["status"] == "ok").then_some(()));
    breaks(&town, "rig-directories", "warning", "b has no refinery", || {
        std::fs::remove_dir_all(town.path("b/refinery")).unwrap();
    });
    breaks(&town, "names", "error", "same prefix", || {
        let doubled = json!({"version": 1, "rigs": {
            "a": {"git_url": "", "beads": {"prefix": "x"}}, "b": {"git_url": "", "beads": {"prefix": "x"}}}});
        town.replace("mayor/rigs.json", &doubled.to_string());
    });
    town.replace("mayor/rigs.json", &registry);
    breaks(&town, "settings", "error", "wisp", || town.replace(".beads-wisp/config/a.json", "{"));
    breaks(&town, "accounts", "error", "accounts.json", || town.replace("mayor/accounts.json", "[1"));
    breaks(&town, "config", "error", "gtd.toml", || {
        town.replace("settings/gtd.toml", "[sweep]\nmode = \"all\"\n")
    });
    // Of one rig only.
    let of_b = town.call("doctor.run", json!({"checks": ["settings"], "rig": "b"}));
    assert_eq!(of_b["checks"][0]["status"], "ok", "{of_b:#}");
    town.call_fails("doctor.run", json!({"rig": "no-such"}));
}

#[test]
fn what_is_wrong_with_the_daemon_and_its_disk() {
    let town = town();
    breaks(&town, "disk", "error", "nothing is started below", || {
        town.replace("settings/gtd.toml", "[start]\nmin_free_disk = \"1000000GiB\"\n");
    });
    breaks(&town, "logs", "warning", ".events.jsonl", || {
        std::fs::File::create(town.path(".events.jsonl.old")).unwrap().set_len(600 << 20).unwrap();
    });
    breaks(&town, "ledger", "warning", "gtd.db.damaged", || {
        std::fs::write(town.path("daemon/gtd.db.damaged"), b"x").unwrap();
    });
    breaks(&town, "clock", "warning", "endpoint.json", || {
        let file = std::fs::File::options().append(true).open(town.path("daemon/endpoint.json")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    });
    breaks(&town, "socket", "error", "others may use", || {
        let socket = town.socket().unwrap();
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    });
    breaks(&town, "daemon", "warning", "settings/gtd.toml", || {
        town.replace("settings/gtd.toml", "nonsense");
        let _ = town.try_call("daemon.reload", json!({}));
    });
}

#[test]
fn what_is_wrong_with_programs() {
    let town = Setup::new().rigs(&["a"]).no_refineries().env("PATH", "/usr/local/bin:/usr/bin:/bin").up();
    breaks(&town, "agent-binaries", "error", "/no/such", || {
        let gone = json!({"type": "town-settings", "version": 1, "default_agent": "fake",
            "agents": {"fake": {"provider": "script", "command": "/no/such", "args": []}}});
        town.replace("settings/config.json", &gone.to_string());
    });
    let relative = Setup::new().env("PATH", "/usr/local/bin:/usr/bin:/bin:here").make();
    relative.start();
    let found = check(&relative, "path");
    assert_eq!(found["status"], "warning", "{found:#}");
    // Asked without a daemon it is the caller's own.
    let bare = Setup::new().env("PATH", "/no/such").make();
    let run = bare.gtctl(&["doctor", "path"]);
    assert!(run.code == 1 && run.out.contains("cannot be found in PATH"), "{run:?}");
}

#[test]
fn what_is_wrong_with_tmux_and_agents() {
    let bare = json!({"provider": "script", "command": "/usr/bin/env",
        "args": ["-u", "GT_INSTANCE", "-u", "GT_TOWN_ID", "sleep", "5000"]});
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[tmux]\ncommand_timeout = \"300ms\"")
        .command("bare", bare)
        .up();
    breaks(&town, "agent-environment", "warning", "a/witness", || {
        town.call("witness.restart", json!({"rig": "a", "agent": "bare"}));
    });
    let server = town.tmux().server();
    breaks(&town, "tmux", "error", "does not answer", || server.signal(Signal::STOP));
    assert_eq!(check(&town, "zombie-sessions")["status"], "unknown");
    server.signal(Signal::CONT);
    wait_for(CHANGE, "well again", || (check(&town, "tmux")["status"] == "ok").then_some(()));
}

#[test]
fn what_is_wrong_with_work() {
    let town = town();
    breaks(&town, "worktrees", "warning", "nux", || {
        std::fs::create_dir_all(town.path("a/polecats/nux/a")).unwrap();
    });
    let work =
        town.call("work.create", json!({"title": "x"}))["work"]["id"].as_str().unwrap_or_default().to_owned();
    let work = if work.is_empty() {
        town.call("work.list", json!({}))["items"][0]["id"].as_str().unwrap().to_owned()
    } else {
        work
    };
    wait_for(CHANGE, "the worker is known", || {
        town.try_call("hook.set", json!({"agent": "a/polecats/nux", "work": work})).ok()
    });
    let found = breaks(&town, "stale-hooks", "warning", "a/polecats/nux", || {
        std::fs::remove_dir_all(town.path("a/polecats/nux")).unwrap();
    });
    assert_eq!(found["hint"], "gtctl hook clear a/polecats/nux");
}

#[test]
fn files_of_instances_that_are_over_are_removed_and_those_of_others_stay() {
    let town = town();
    let run = town.path("daemon/run");
    let old = run.join("018f3b5e-7a3c-7b1e-8b1a-0123456789ab.record");
    let live = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let kept = [run.join(format!("{live}.record")), run.join("notes.record")];
    std::fs::write(&old, "torn").unwrap();
    std::fs::write(&kept[1], "x").unwrap();
    for path in [&old, &kept[0], &kept[1]] {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    }
    let found = check(&town, "stale-files");
    assert_eq!((&found["status"], &found["fix"]["class"]), (&json!("warning"), &json!("safe")), "{found:#}");
    assert_eq!(found["fix"]["items"].as_array().unwrap().len(), 1, "{found:#}");
    let planned = town.gtctl(&["doctor", "--fix", "--dry-run", "stale-files", "--json"]).ok().json();
    assert_eq!(planned["result"]["applied"], json!([]));
    assert!(old.exists(), "a plan changes nothing");
    let fixed = town.gtctl(&["doctor", "--fix", "stale-files", "--json"]).ok().json()["result"].clone();
    assert_eq!(
        (&fixed["applied"][0]["ok"], &fixed["checks"][0]["status"]),
        (&json!(true), &json!("ok")),
        "{fixed:#}"
    );
    assert!(!old.exists() && kept.iter().all(|path| path.exists()));
    std::fs::remove_file(&kept[1]).unwrap();
}

#[test]
fn dead_panes_with_marks_set_by_hand_are_told_and_left() {
    let town = town();
    let id = town.call("daemon.hello", json!({"client": "t", "protocol": 1}))["town_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let tmux = town.tmux();
    let found = breaks(&town, "orphan-sessions", "warning", "gt-old-witness", || {
        tmux.run(&[
            "new-session",
            "-d",
            "-s",
            "gt-old-witness",
            "sleep 5000",
            ";",
            "set-option",
            "-p",
            "remain-on-exit",
            "on",
        ]);
        for (option, value) in [
            ("@gt_town", id.as_str()),
            ("@gt_agent", "old/witness"),
            ("@gt_instance", "018f3b5e-7a3c-7b1e-8b1a-0123456789ab"),
        ] {
            tmux.run(&["set-option", "-t", "=gt-old-witness:", option, value]);
        }
        let pid = tmux.run(&["list-panes", "-t", "=gt-old-witness:", "-F", "#{pane_pid}"]).parse().unwrap();
        Process::of(pid).unwrap().kill();
        wait_for(QUICK, "a dead pane", || {
            (tmux.run(&["list-panes", "-t", "=gt-old-witness:", "-F", "#{pane_dead}"]) == "1").then_some(())
        });
    });
    assert_eq!(found["status"], "warning");
    let fixed = town.call("doctor.run", json!({"checks": ["orphan-sessions"], "fix": true}));
    assert_eq!(fixed["applied"][0]["ok"], false, "{fixed:#}");
    assert!(
        fixed["applied"][0]["outcome"].as_str().unwrap().contains("not started with our shim"),
        "{fixed:#}"
    );
    assert!(tmux.sessions().iter().any(|name| name == "gt-old-witness"));
    tmux.run(&["kill-session", "-t", "=gt-old-witness"]);
}

#[test]
fn neighbours_are_told() {
    let (town, other) = (town(), Setup::new().make());
    other.start();
    let found = check(&town, "other-towns");
    assert!(found["details"].to_string().contains(&other.root().display().to_string()), "{found:#}");
    let listed = town.gtctl(&["towns", "--json"]).ok().json()["result"]["items"].clone();
    let of = |root: &std::path::Path| {
        let root = root.display().to_string();
        listed.as_array().unwrap().iter().find(|town| town["root"] == root).cloned().unwrap_or_default()
    };
    assert_eq!(
        (&of(town.root())["here"], &of(other.root())["here"]),
        (&json!(true), &json!(false)),
        "{listed:#}"
    );
    assert_eq!(of(other.root())["pid"], other.daemon().unwrap().pid);
    other.stop_daemon();
    let listed = other.gtctl(&["towns", "--json"]).ok().json()["result"]["items"].clone();
    let own = other.root().display().to_string();
    let down = listed.as_array().unwrap().iter().find(|town| town["root"] == own).unwrap();
    assert_eq!((&down["running"], &down["pid"]), (&json!(false), &Value::Null));
    // The system that gtd takes over from, at work on this town.
    let gt = town.base().join("gt");
    std::fs::copy(programs::program("scripted-agent"), &gt).unwrap();
    let mut child = None;
    breaks(&town, "incumbent", "error", "gt daemon stop", || {
        let mut command = programs::bare(gt.display().to_string(), &town.home());
        command.args(["daemon", "run"]).current_dir(town.root());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        child = Some(command.spawn().unwrap());
    });
    let mut child = child.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn people_and_their_sessions_are_listed() {
    let town = town();
    std::fs::create_dir_all(town.path("a/crew/max")).unwrap();
    town.tmux().run(&["new-session", "-d", "-s", "gt-a-crew-max", "echo hello; exec sleep 5000"]);
    let crew = wait_for(CHANGE, "max", || {
        let crew = town.call("crew.list", json!({"rig": "a"}));
        crew["items"][0]["session_name"].is_string().then(|| crew["items"][0].clone())
    });
    assert_eq!(
        (&crew["agent"], &crew["session_name"]),
        (&json!("a/crew/max"), &json!("gt-a-crew-max")),
        "{crew:#}"
    );
    assert_eq!(town.call("crew.list", json!({"rig": "b"}))["items"], json!([]));
    let screen = wait_for(CHANGE, "its screen", || {
        let screen = town.call("session.capture", json!({"session": crew["session"]}));
        screen["lines"].to_string().contains("hello").then_some(screen)
    });
    assert_eq!(screen["truncated"], false);
    assert_eq!(
        town.call_fails("session.capture", json!({"session": "gt-a-crew"})).kind,
        "not_running",
        "no prefix"
    );
    let shown = town.gtctl(&["session", "list"]).ok();
    assert!(shown.out.contains("gt-a-crew-max") && shown.out.contains("gt-a-witness"), "{shown:?}");
    town.tmux().run(&["kill-session", "-t", "=gt-a-crew-max"]);
}
