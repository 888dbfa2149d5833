//! Each of the doctor's checks: exactly the thing that it is about is broken, and it says so.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use gtd_tests::doctoring::{breaks, check};
use gtd_tests::run::run;
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, skipped, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The test in which each check's own thing is broken.
const BROKEN: &[(&str, &str)] = &[
    ("daemon", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("socket", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("ledger", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("clock", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("disk", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("logs", "doctor_checks::what_is_wrong_with_the_daemon_and_its_disk"),
    ("config", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("registry", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("rig-directories", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("names", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("settings", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("accounts", "doctor_checks::what_is_wrong_with_the_towns_files"),
    ("path", "doctor_checks::what_is_wrong_with_programs"),
    ("service", "units::a_start_limit_that_was_reached_is_said_and_one_command_clears_it"),
    ("service-path", "installing::a_manager_with_a_bare_path_finds_what_was_on_the_path_of_who_installed"),
    ("agent-binaries", "doctor_checks::what_is_wrong_with_programs"),
    ("tmux", "doctor_checks::what_is_wrong_with_tmux_and_agents"),
    ("tmux-cgroup", "units::without_systemd_run_the_tmux_server_is_in_the_unit_and_the_status_says_so"),
    ("linger", "doctor_checks::a_login_that_does_not_linger_is_told"),
    ("worktrees", "doctor_checks::what_is_wrong_with_work"),
    ("stale-hooks", "doctor_checks::what_is_wrong_with_work"),
    ("agent-environment", "doctor_checks::what_is_wrong_with_tmux_and_agents"),
    ("orphan-sessions", "doctor_checks::dead_panes_with_marks_set_by_hand_are_told_and_left"),
    ("zombie-sessions", "doctor_checks::the_session_of_an_agent_that_stays_dead_is_told"),
    ("orphan-processes", "orphans::where_only_reports_are_wanted_a_person_decides"),
    ("stale-files", "doctor::files_of_instances_that_are_over_are_removed_and_those_of_others_stay"),
    ("other-towns", "doctor_checks::a_second_daemon_of_this_town_is_told"),
    ("incumbent", "doctor_checks::neighbours_are_told"),
];

#[test]
fn every_check_has_a_test_that_breaks_its_thing() {
    let checks: Vec<&str> = gtd::doctor::all().iter().map(|check| check.name).collect();
    assert_eq!(checks, BROKEN.iter().map(|(check, _)| *check).collect::<Vec<_>>());
    for (check, test) in BROKEN {
        let (file, name) = test.split_once("::").unwrap();
        let file = format!("{}/tests/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).unwrap();
        let body = text.split_once(&format!("\nfn {name}() {{\n")).unwrap_or_else(|| panic!("no {test}")).1;
        let body = body.split("\n}\n").next().unwrap();
        assert!(body.contains(&format!("\"{check}\"")), "{test} does not ask {check}");
    }
}

fn town() -> Town {
    Setup::new().rigs(&["a", "b"]).no_refineries().up()
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
    // Those that are switched off need no program.
    let off = Setup::new().rigs(&["a"]).no_refineries().toml("[witness]\nmode = \"off\"").make();
    let gone = json!({"type": "town-settings", "version": 1, "default_agent": "fake",
        "agents": {"fake": {"provider": "script", "command": "/no/such", "args": []}}});
    off.replace("settings/config.json", &gone.to_string());
    off.start();
    assert_eq!(check(&off, "agent-binaries")["status"], "ok");
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

#[test]
fn a_second_daemon_of_this_town_is_told() {
    let town = town();
    let gtd = town.base().join("gtd");
    std::fs::copy(programs::program("scripted-agent"), &gtd).unwrap();
    let mut child = None;
    breaks(&town, "other-towns", "error", "several daemons", || {
        let lock = std::fs::File::open(town.path("daemon/daemon.lock")).unwrap();
        let mut command = programs::bare(gtd.display().to_string(), &town.home());
        command.arg(town.journal_dir()).arg("idle").stdin(lock).stdout(Stdio::null()).stderr(Stdio::null());
        child = Some(command.spawn().unwrap());
    });
    let mut child = child.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_session_of_an_agent_that_stays_dead_is_told() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    breaks(&town, "zombie-sessions", "warning", "gt-a-witness", || {
        // What is parked on the disk is not stopped, and not started again.
        town.replace(".beads-wisp/config/a.json", r#"{"values":{"status":"parked"}}"#);
        wait_for(CHANGE, "it is parked", || {
            (town.call("rig.status", json!({"rig": "a"}))["operational"] == false).then_some(())
        });
        town.process("a/witness").kill();
        town.wait_state("a/witness", "stopped");
    });
    // Who pauses it wants it left as it is.
    town.call("town.pause", json!({}));
    assert_eq!(check(&town, "zombie-sessions")["status"], "ok");
    town.call("town.resume", json!({}));
    assert_eq!(check(&town, "zombie-sessions")["status"], "warning");
    // Its next start takes the session over.
    town.call("rig.unpark", json!({"rig": "a"}));
    town.wait_all_running();
    wait_for(CHANGE, "well again", || (check(&town, "zombie-sessions")["status"] == "ok").then_some(()));
}

#[test]
fn a_login_that_does_not_linger_is_told() {
    let town = Setup::new().make();
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::Path::new);
    let root = root.into_iter().find(|dir| dir.join("cgroup.procs").is_file());
    let name = town.base().file_name().unwrap().to_str().unwrap().to_owned();
    // A person whom no machine has, in a session of theirs.
    let Some(group) = root.map(|dir| dir.join(format!("session-{name}.scope"))) else {
        skipped("linger", "there is no unified hierarchy");
        return;
    };
    if let Err(error) = std::fs::create_dir(&group) {
        skipped("linger", &format!("no control group can be made: {error}"));
        return;
    }
    let mut command = programs::bare("sh", &town.home());
    command
        .env("USER", &name)
        .args(["-ec", "echo $$ >$1/cgroup.procs; shift; exec \"$@\"", "sh"])
        .arg(&group);
    command.arg(programs::program("gtd")).arg("--town").arg(town.root());
    command.args(["--check", "--json", "--only", "linger"]);
    let said: Value = run(command, CHANGE).json();
    wait_for(QUICK, "the group is empty", || std::fs::remove_dir(&group).is_ok().then_some(()));
    let found = &said["checks"][0];
    assert_eq!(
        (&found["name"], &found["status"], &found["hint"]),
        (&json!("linger"), &json!("warning"), &json!("gtctl doctor linger")),
        "{said:#}"
    );
    assert!(found["message"].to_string().contains(&format!("loginctl enable-linger {name}")), "{said:#}");
}
