//! gtctl where there is no daemon, or where things went badly before: what works, what is refused, and how.

use gtd_tests::{CHANGE, Output, Process, QUICK, Setup, Town, run, wait_for};
use serde_json::json;

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    assert!(!output.err.contains("panicked"), "{output:?}");
    for word in words {
        assert!(output.err.contains(word), "{word:?} is missing: {output:?}");
    }
}

#[test]
fn without_a_daemon_some_verbs_work_and_the_others_say_what_helps() {
    let town = Setup::new().rigs(&["alpha"]).make();
    let version = town.gtctl(&["version"]).ok();
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let socket = town.gtctl(&["socket"]).ok();
    assert!(socket.out.trim().ends_with("daemon/gtd.sock"), "{socket:?}");
    for args in [
        &["status"][..],
        &["status", "--check"],
        &["status", "alpha"],
        &[],
        &["wait", "alpha/witness"],
        &["witness", "start", "alpha"],
        &["rig", "list"],
        &["events"],
        &["peek", "alpha/witness"],
        &["explain", "alpha/witness"],
        &["reset", "alpha/witness"],
        &["daemon", "status"],
        &["exits"],
        &["rpc", "town.status"],
    ] {
        fails(&town.gtctl(args), 69, &["error: ", "hint: gtctl up"]);
        let json = town.gtctl(&[args, &["--json"]].concat());
        let envelope = json.json();
        assert_eq!((json.code, &envelope["error"]["kind"]), (69, &json!("daemon_unreachable")), "{args:?}");
        assert!(json.err.is_empty() || !json.err.contains("error"), "{json:?}");
    }
    // A plan needs nobody either, and starts nothing.
    for args in [&["up", "--dry-run"][..], &["down", "--dry-run"], &["daemon", "start", "--dry-run"]] {
        let plan = town.gtctl(args).ok();
        assert!(plan.out.contains("start"), "{plan:?}");
    }
    assert!(town.socket().is_none() && !town.path("daemon/gtd.db").exists());
    let other = town.base().join("made");
    town.gtctl_bare(&["init", &other.display().to_string()]).ok();
    assert!(other.join("mayor/town.json").is_file());
}

#[test]
fn bad_usage_is_said_clearly_and_ends_with_2() {
    let town = Setup::new().rigs(&["alpha"]).make();
    for (args, word) in [
        (&["nonsense"][..], "nonsense"),
        (&["witness"], "Usage"),
        (&["witness", "start"], "<RIG>"),
        (&["witness", "start", "a b"], "rig name"),
        (&["witness", "start", "alpha", "--timeout", "soon"], "10s"),
        (&["witness", "start", "alpha", "--env", "novalue"], "NAME=VALUE"),
        (&["witness", "stop", "alpha", "--wait", "--no-wait"], "--no-wait"),
        (&["wait"], "<AGENT>"),
        (&["wait", "alpha/witness", "--for", "up"], "ready, idle, gone"),
        (&["status", "--watch", "--check"], "--check"),
        (&["rpc", "town.status", "{"], "JSON"),
        (&["--color", "sometimes"], "auto"),
        (&["peek", "alpha/witness", "-n", "0"], "from 1 to 5000"),
    ] {
        fails(&town.gtctl(args), 2, &[word]);
    }
    let nowhere = town.base().join("h").display().to_string();
    fails(&town.gtctl_bare(&["--town", &nowhere, "status"]), 2, &["error: ", "hint: "]);
}

#[test]
fn what_ends_things_wants_a_yes_anywhere_on_the_line() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let before = town.running();
    fails(&town.gtctl(&["down"]), 2, &["--yes"]);
    fails(&town.gtctl(&["witness", "stop", "alpha", "--force"]), 2, &["--yes"]);
    assert_eq!(town.running(), before);
    town.gtctl(&["--yes", "witness", "stop", "alpha", "--force"]).ok();
    town.gtctl(&["witness", "start", "-y", "alpha"]).ok();
    town.gtctl(&["witness", "restart", "alpha", "--force", "--yes"]).ok();
}

/// Everything of a town whose daemon was killed.
fn orphaned() -> (Town, Vec<Process>) {
    let town = Setup::new().rigs(&["alpha", "beta"]).no_refineries().script(&["fork:setsid", "idle"]).up();
    let mut processes: Vec<Process> = town.running().iter().map(|(agent, ..)| town.process(agent)).collect();
    processes.extend(town.children("setsid"));
    town.kill_daemon();
    assert!(processes.iter().all(|process| process.alive()), "agents outlive their daemon");
    (town, processes)
}

#[test]
fn down_without_a_daemon_ends_what_the_last_one_left() {
    let (town, processes) = orphaned();
    fails(&town.gtctl(&["down"]), 2, &["--yes"]);
    assert!(processes.iter().all(|process| process.alive()), "nothing before the yes");
    let starts = town.journal().len();
    let down = town.gtctl(&["down", "--yes", "--json"]).ok().json();
    for list in ["sessions", "processes", "files"] {
        assert_eq!(down["result"]["census"][list], json!([]), "{down:#}");
    }
    assert!(processes.iter().all(|process| !process.alive()));
    assert_eq!(town.journal().len(), starts, "nothing was started to be stopped");
    let left = town.left_besides(|_| false);
    assert!(left.is_empty(), "{left:#?}");
    // Down it stays, for a daemon too, until somebody says up.
    town.gtctl(&["daemon", "start"]).ok();
    let status = town.gtctl(&["status"]).ok();
    assert!(status.out.contains("the town is down") && status.out.contains("gtctl up"), "{status:?}");
    assert_eq!(town.gtctl(&["status", "--check"]).code, 3);
    let refused = town.gtctl(&["witness", "start", "alpha"]);
    fails(&refused, 1, &["hint: gtctl up"]);
    let card = town.gtctl(&["status", "alpha/witness"]).ok();
    assert!(card.out.contains("gtctl up"), "{card:?}");
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    town.assert_never_two();
    town.gtctl(&["down", "--yes"]).ok();
    // Down once more: there is nothing, and that is no error.
    let again = town.gtctl(&["down", "--yes"]).ok();
    assert!(again.out.contains("nothing is left"), "{again:?}");
}

#[test]
fn up_after_a_crash_finds_what_runs_and_brings_back_what_does_not() {
    let (town, processes) = orphaned();
    processes[1].kill();
    let kept = processes[0];
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    assert!(kept.alive(), "what ran is taken over");
    town.assert_never_two();
    let status = town.gtctl(&["status", "--json"]).ok().json();
    let daemon = status["result"]["daemon"]["pid"].as_i64().unwrap();
    assert!(Process::of(i32::try_from(daemon).unwrap()).is_some());
    town.gtctl(&["down", "--yes"]).ok();

    // Daemon and tmux server gone together.
    let (town, processes) = orphaned();
    let server = town.tmux().server();
    server.kill();
    wait_for(CHANGE, "the agents end with their terminal", || {
        processes.iter().all(|process| !process.alive()).then_some(())
    });
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    town.assert_never_two();
    town.gtctl(&["down", "--yes"]).ok();
}

#[test]
fn checks_speak_by_their_exit_codes() {
    let town = Setup::new().rigs(&["alpha", "beta"]).no_refineries().up();
    let check = |args: &[&str]| town.gtctl(&[&["status", "--check"], args].concat()).code;
    assert_eq!(check(&[]), 0);
    assert_eq!(check(&["alpha/witness"]), 0);
    assert_eq!(check(&["gamma"]), 4);
    let near = town.gtctl(&["status", "alpha/witnes"]);
    fails(&near, 4, &["did you mean alpha/witness"]);
    for selector in ["alpha", "witness", "alpha/*", "*/witness", "alpha/witness"] {
        let shown = town.gtctl(&["status", selector]).ok();
        assert!(shown.out.contains("alpha/witness"), "{selector}: {shown:?}");
        assert_eq!(
            shown.out.contains("beta/"),
            selector == "witness" || selector == "*/witness",
            "{shown:?}"
        );
    }
    town.gtctl(&["witness", "stop", "alpha"]).ok();
    assert_eq!(check(&["alpha/witness"]), 3);
    // What a person stopped is as intended.
    assert_eq!(check(&[]), 0);
    // One of two that should run cannot be observed: its server is stopped.
    let server = town.tmux().server();
    server.signal(rustix::process::Signal::STOP);
    wait_for(CHANGE, "unknown", || {
        (check(&["beta/witness"]) == 4 || check(&["beta/witness"]) == 5).then_some(())
    });
    assert_eq!(check(&[]), 5);
    server.signal(rustix::process::Signal::CONT);
    wait_for(CHANGE, "well again", || (check(&[]) == 0).then_some(()));
    assert_eq!(town.gtctl(&["status"]).code, 0);
}

#[test]
fn watching_goes_on_over_a_restart_and_ends_at_ctrl_c() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let mut command = town.command("gtctl");
    command.arg("--town").arg(town.root()).args(["status", "--watch"]);
    let out = town.base().join("watched");
    let file = std::fs::File::create(&out).unwrap();
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pictures = || std::fs::read_to_string(&out).unwrap_or_default().matches("AGENT ").count();
    wait_for(QUICK, "a picture", || (pictures() >= 1).then_some(()));
    town.stop_daemon();
    town.start();
    let so_far = pictures();
    wait_for(CHANGE, "further pictures", || (pictures() > so_far + 1).then_some(()));
    let watcher = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    watcher.signal(rustix::process::Signal::INT);
    let status = wait_for(QUICK, "its end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_terminal_is_asked_and_told_in_its_width() {
    let town = Setup::new().rigs(&["alpha", "a-rig-with-a-long-name"]).no_refineries().up();
    for columns in ["40", "60", "100"] {
        let mut command = town.command("gtctl");
        command.arg("--town").arg(town.root()).args(["status", "witness"]).env("COLUMNS", columns);
        let shown = run::run(command, QUICK).ok();
        let widest = shown.out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.parse().unwrap(), "{columns}: {}", shown.out);
        assert!(shown.out.contains("running"), "{}", shown.out);
    }
}
