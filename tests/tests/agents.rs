//! What agents say of themselves, and the command lines that known programs are given.

use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, QUICK, Setup, chaos_delay, programs, wait_for, wait_until};
use serde_json::{Value, json};

fn text<'a>(agent: &'a Value, field: &str) -> &'a str {
    agent[field].as_str().unwrap_or_default()
}

#[test]
fn a_report_changes_the_activity_and_one_of_an_earlier_instance_changes_nothing() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let old = town.agent("a/witness");
    for (state, activity) in [("working", "working"), ("idle", "idle"), ("waiting", "waiting")] {
        let told = town.call("agent.report", json!({"instance": old["instance"], "state": state}));
        assert_eq!(told["activity"], activity, "{told:#}");
        town.wait_agent("a/witness", QUICK, activity, |agent| agent["activity"] == activity);
    }
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", text(&old, "instance"));
    let _ = town.try_call("agent.report", json!({"instance": old["instance"], "state": "working"}));
    assert_eq!(town.agent("a/witness")["activity"], "unknown", "what an earlier instance says is stale");
    let error = town.call_fails(
        "agent.report",
        json!({"instance": "01a1feb0-0000-7000-8000-000000000000", "state": "working"}),
    );
    assert_eq!(error.code, 1002, "{error:?}");
}

#[test]
fn a_stop_waits_for_the_end_of_the_turn_of_an_agent_that_said_it_works() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[stop]\ndrain = \"20s\"").up();
    let agent = town.agent("a/witness");
    let process = town.process("a/witness");
    town.call("agent.report", json!({"instance": agent["instance"], "state": "working"}));
    let mut client = town.client();
    let stopping = std::thread::spawn(move || client.call("witness.stop", json!({"rig": "a"})));
    town.wait_state("a/witness", "stopping");
    chaos_delay(Duration::from_millis(300));
    assert!(process.alive(), "it may finish its turn");
    town.call("agent.report", json!({"instance": agent["instance"], "state": "idle"}));
    let began = Instant::now();
    let stopped = stopping.join().unwrap().expect("stopped");
    assert_eq!(stopped["state"], "stopped", "{stopped:#}");
    assert!(began.elapsed() < QUICK, "and not longer: {:?}", began.elapsed());
    assert!(!process.alive());
}

#[test]
fn a_turn_that_does_not_end_is_waited_for_no_longer_than_the_drain_and_not_at_all_with_now() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[stop]\ndrain = \"700ms\"").up();
    for now in [false, true] {
        let agent = town.agent("a/witness");
        town.call("agent.report", json!({"instance": agent["instance"], "state": "working"}));
        let began = Instant::now();
        town.call("witness.stop", json!({"rig": "a", "now": now}));
        let took = began.elapsed();
        assert_eq!(took < Duration::from_millis(650), now, "now {now}: {took:?}");
        assert!(took < CHANGE);
        town.call("witness.start", json!({"rig": "a"}));
    }
}

/// A program that writes down how it was called, and then behaves like one that waits for input.
const PRETENDER: &str = r#"#!/bin/sh
for word in "$@"; do printf '%s\n' "$word"; done > "$0.argv.$GT_ROLE"
printf '\342\235\257 '
exec sleep 1000
"#;

#[test]
fn claude_is_called_as_its_user_would_and_is_ready_at_its_report_or_its_prompt() {
    let own = json!({"provider": "claude", "command": "{T}/claude", "args": ["--settings", "{T}/own.json"]});
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .command("mine", json!({"provider": "claude", "command": "{T}/claude"}))
        .command("own", own)
        .role("witness", "mine")
        .make();
    programs::script(&town.path("claude"), PRETENDER);
    town.start();
    // With our hooks in its settings its own report makes it ready, at once.
    let starting = town.wait_agent("a/witness", CHANGE, "placed", |agent| agent["pid"].is_i64());
    let argv = wait_for(CHANGE, "its arguments", || {
        let argv = std::fs::read_to_string(town.path("claude.argv.witness")).unwrap_or_default();
        argv.lines().any(|word| word == "--dangerously-skip-permissions").then_some(argv)
    });
    assert!(argv.lines().any(|word| word.ends_with("/settings/claude/witness/settings.json")), "{argv}");
    assert!(argv.lines().count() >= 4, "the start-up text is in the launch command: {argv}");
    town.call("agent.report", json!({"instance": starting["instance"], "state": "started"}));
    let ready = town.wait_event(0, "agent.ready", "a/witness", CHANGE);
    assert!(ready["data"]["startup_ms"].as_u64() < Some(1900), "{ready:#}");
    // Settings of somebody's own have no hooks of ours: alive 2 s with its prompt on the screen.
    let seq = town.seq();
    town.call("witness.restart", json!({"rig": "a", "agent": "own"}));
    let ready = town.wait_event(seq, "agent.ready", "a/witness", CHANGE);
    assert!(ready["data"]["startup_ms"].as_u64() >= Some(1900), "{ready:#}");
}

#[test]
fn a_known_program_that_is_not_installed_is_named() {
    let town = Setup::new().rigs(&["a"]).no_refineries().role("witness", "gemini").make();
    town.start();
    let broken = town.wait_state("a/witness", "quarantined");
    assert!(broken["reason"].as_str().is_some_and(|reason| reason.contains("gemini")), "{broken:#}");
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!(error.kind, "died_during_startup", "{error:?}");
    assert_eq!(error.data["exec_error"]["errno"], "ENOENT", "{error:?}");
}

#[test]
fn an_agent_that_nobody_has_described_is_refused_with_those_that_there_are() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    town.call("witness.stop", json!({"rig": "a"}));
    let error = town.call_fails("witness.start", json!({"rig": "a", "agent": "no-such-agent"}));
    assert_eq!((error.code, error.kind.as_str()), (1015, "name_invalid"), "{error:?}");
    assert!(error.message.contains("no-such-agent"), "{error:?}");
    assert_eq!(before.len(), 1);
}

#[test]
fn a_rig_whose_directory_is_missing_is_an_alert_and_its_agents_are_told_so() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().make();
    std::fs::remove_dir_all(town.path("a")).unwrap();
    town.start();
    town.wait_state("b/witness", "running");
    wait_for(CHANGE, "an alert", || {
        town.alerts().into_iter().find(|alert| alert["message"].to_string().contains("missing"))
    });
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert!(error.data["exec_error"]["op"] == "chdir" || error.code == 1005, "{error:?}");
    // Mended, it is found by itself.
    town.wait_state("a/witness", "quarantined");
    town.make_rig("a");
    town.call("daemon.heartbeat", json!({}));
    town.wait_state("a/witness", "running");
}

#[test]
fn a_service_manager_is_told_when_the_daemon_is_ready_and_when_it_stops() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let path = town.base().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let town = town.with_env("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut told = String::new();
    let mut hear = |word: &str| {
        wait_until(CHANGE, || {
            let mut buffer = [0; 4096];
            while let Ok(n) = socket.recv(&mut buffer) {
                told.push_str(&String::from_utf8_lossy(&buffer[..n]));
                told.push('\n');
            }
            told.contains(word)
        })
    };
    town.start();
    assert!(hear("READY=1"));
    // Ready means that it answers.
    town.call("daemon.status", json!({}));
    town.wait_all_running();
    assert!(
        !town.process("a/witness").environment().contains_key("NOTIFY_SOCKET"),
        "agents do not speak to the service manager"
    );
    town.stop_daemon();
    assert!(hear("STOPPING=1"));
}
