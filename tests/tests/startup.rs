//! Agents that do not start, do not stop, and do not behave.

use std::time::{Duration, Instant};

use gtd_tests::procs::Process;
use gtd_tests::{CHANGE, QUICK, Setup, wait_for, wait_until};
use serde_json::json;

/// Nothing restarts by itself while a test looks at one failure.
const SLOW_RETRY: &str = "[restart]\ninitial = \"60s\"\nbase = \"60s\"";

#[test]
fn agent_command_missing_is_told_with_the_failed_call_and_quarantined() {
    let town = Setup::new()
        .rigs(&["a", "b"])
        .no_refineries()
        .command("absent", json!({"provider": "script", "command": "/no/such/program"}))
        .rig_witness("a", "absent")
        .make();
    town.start();
    let broken = town.wait_state("a/witness", "quarantined");
    assert_eq!(broken["intent"], "running", "{broken:#}");
    assert_eq!(broken["running"], false);
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!((error.code, error.kind.as_str()), (1006, "died_during_startup"), "{error:?}");
    assert_eq!(error.data["exec_error"]["errno"], "ENOENT", "{error:?}");
    assert!(error.data["exec_error"]["op"].as_str().unwrap_or_default().contains("exec"), "{error:?}");
    // The other rig does not care.
    town.wait_state("b/witness", "running");
}

#[test]
fn a_program_that_appears_is_found_by_the_next_heartbeat() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .command("late", json!({"provider": "script", "command": "{T}/late-program", "args": ["{J}"]}))
        .rig_witness("a", "late")
        .make();
    town.start();
    town.wait_state("a/witness", "quarantined");
    std::os::unix::fs::symlink(gtd_tests::programs::program("scripted-agent"), town.path("late-program"))
        .unwrap();
    town.call("daemon.heartbeat", json!({}));
    town.wait_state("a/witness", "running");
}

#[test]
fn agent_that_exits_at_once_is_told_with_code_and_last_lines() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(SLOW_RETRY)
        .agent("brief", &["print:first words", "print:last words", "exit:7"])
        .make();
    town.start();
    town.wait_state("a/witness", "running");
    town.call("witness.stop", json!({"rig": "a"}));
    let error = town.call_fails("witness.start", json!({"rig": "a", "agent": "brief"}));
    assert_eq!((error.code, error.kind.as_str()), (1006, "died_during_startup"), "{error:?}");
    assert_eq!(error.data["exit"]["code"], 7, "{error:?}");
    let output = error.data["output"].to_string();
    assert!(output.contains("last words"), "{error:?}");
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(exits["items"][0]["code"], 7, "{exits:#}");
    assert!(exits["items"][0]["output"].to_string().contains("last words"), "{exits:#}");
    // The intent stays, and the policy goes on.
    assert_eq!(town.agent("a/witness")["intent"], "running");
}

#[test]
fn agent_that_dies_at_once_is_told_with_its_signal() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(SLOW_RETRY)
        .agent("doomed", &["print:going down", "die:ABRT"])
        .make();
    town.start();
    town.wait_state("a/witness", "running");
    town.call("witness.stop", json!({"rig": "a"}));
    let error = town.call_fails("witness.start", json!({"rig": "a", "agent": "doomed"}));
    assert_eq!(error.kind, "died_during_startup", "{error:?}");
    assert_eq!(error.data["exit"]["signal"], 6, "{error:?}");
    assert!(error.data["output"].to_string().contains("going down"), "{error:?}");
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(
        (&exits["items"][0]["signal"], &exits["items"][0]["cause"]),
        (&json!(6), &json!("crash")),
        "{exits:#}"
    );
}

#[test]
fn agent_that_ignores_term_is_killed_after_the_grace() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[stop]\ngrace = \"400ms\"")
        .script(&["ignore:TERM,HUP,INT", "print:deaf", "idle"])
        .up();
    let process = town.process("a/witness");
    let began = Instant::now();
    let stopped = town.call("witness.stop", json!({"rig": "a"}));
    let took = began.elapsed();
    assert!(!process.alive(), "stopped means gone");
    assert_eq!(stopped["state"], "stopped", "{stopped:#}");
    assert!(stopped.get("survivors").is_none(), "{stopped:#}");
    assert!(took >= Duration::from_millis(390), "it had its grace: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(
        (&exits["items"][0]["signal"], &exits["items"][0]["requested"]),
        (&json!(9), &json!(true)),
        "{exits:#}"
    );
}

#[test]
fn a_forced_stop_waits_for_nothing() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["ignore:TERM", "idle"]).up();
    let process = town.process("a/witness");
    let began = Instant::now();
    town.call("witness.stop", json!({"rig": "a", "force": true}));
    assert!(!process.alive());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the grace of 10 s is not for this: {:?}",
        began.elapsed()
    );
}

/// Kinds of children, each of which ignores TERM and HUP.
const KINDS: [&str; 6] = ["plain", "group", "setsid", "double", "bare", "daemon"];

fn with_children(kind: &str) -> gtd_tests::Town {
    with_children_under(kind, "[stop]\ngrace = \"300ms\"")
}

fn with_children_under(kind: &str, toml: &str) -> gtd_tests::Town {
    let fork = format!("fork:{kind}");
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(toml).script(&[&fork, "idle"]).up();
    wait_for(QUICK, "the child is there", || {
        town.children(kind).last().copied().filter(|child| child.alive())
    });
    town
}

#[track_caller]
fn stop_ends(kind: &str) {
    let town = with_children(kind);
    let (agent, child) = (town.process("a/witness"), *town.children(kind).last().unwrap());
    town.call("witness.stop", json!({"rig": "a"}));
    assert!(!agent.alive(), "the agent is gone");
    assert!(!child.alive(), "its {kind} child is gone when the stop is answered");
    let left = town.left_besides(|process| {
        let line = process.command_line();
        line.contains("/gtd ") || line.contains("tmux") || line.contains("sleep 2147483647")
    });
    assert!(left.is_empty(), "{left:#?}");
}

#[track_caller]
fn death_ends(kind: &str) {
    let town = with_children(kind);
    let (agent, child) = (town.process("a/witness"), *town.children(kind).last().unwrap());
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    agent.kill();
    town.wait_new_instance("a/witness", &before);
    assert!(!child.alive(), "its {kind} child went before the next instance came");
    town.assert_never_two();
}

macro_rules! kinds {
    ($($kind:literal: $stop:ident $death:ident;)*) => {$(
        #[test]
        fn $stop() {
            stop_ends($kind);
        }
        #[test]
        fn $death() {
            death_ends($kind);
        }
    )*
        #[test]
        fn every_kind_of_child_has_its_tests() {
            assert_eq!(KINDS, [$($kind),*]);
        }
    };
}

kinds! {
    "plain": stop_ends_a_child death_of_the_agent_ends_its_child;
    "group": stop_ends_a_child_with_its_own_group death_of_the_agent_ends_a_child_with_its_own_group;
    "setsid": stop_ends_a_child_that_called_setsid death_of_the_agent_ends_a_child_that_called_setsid;
    "double": stop_ends_a_child_that_forked_twice death_of_the_agent_ends_a_child_that_forked_twice;
    "bare": stop_ends_a_child_that_emptied_its_environment death_of_the_agent_ends_a_child_that_emptied_its_environment;
    "daemon": stop_ends_a_daemon_that_the_agent_forked death_of_the_agent_ends_a_daemon_that_it_forked;
}

#[test]
fn a_child_of_the_agent_outlives_a_kill_of_the_shim_for_no_longer_than_the_next_instance() {
    let town = with_children("group");
    let status = town.agent("a/witness");
    let child = *town.children("group").last().unwrap();
    // What is captured before the shim dies is what can be proven afterwards.
    town.call("daemon.heartbeat", json!({}));
    let shim = Process::of(i32::try_from(status["shim_pid"].as_i64().unwrap()).unwrap()).unwrap();
    let agent = town.process("a/witness");
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()), "the agent dies with its shim");
    town.wait_new_instance("a/witness", status["instance"].as_str().unwrap());
    assert!(!child.alive(), "no instance is started while a process of the earlier one is proven alive");
    town.assert_never_two();
}

#[test]
fn what_the_user_has_spared_outlives_even_a_kill_of_the_shim() {
    let town = with_children_under("group", "[stop]\ngrace = \"300ms\"\nspare = [\"scripted-agent\"]");
    let status = town.agent("a/witness");
    let child = *town.children("group").last().unwrap();
    town.call("daemon.heartbeat", json!({}));
    Process::of(i32::try_from(status["shim_pid"].as_i64().unwrap()).unwrap()).unwrap().kill();
    town.wait_new_instance("a/witness", status["instance"].as_str().unwrap());
    assert!(child.alive(), "[stop] spare names it");
    wait_for(QUICK, "the next instance has a child too", || (town.children("group").len() > 1).then_some(()));
    town.call("witness.stop", json!({"rig": "a"}));
    let spared: Vec<Process> = town.children("group").into_iter().filter(|child| child.alive()).collect();
    assert_eq!(spared.len(), 2, "a stop spares what the user has named as well");
    spared.iter().for_each(|child| child.kill());
}

#[test]
fn a_flood_of_output_does_not_disturb_the_daemon() {
    let town =
        Setup::new().rigs(&["a"]).no_refineries().script(&["flood:200000", "print:flood over", "idle"]).up();
    wait_for(CHANGE, "the flood ends on the screen", || {
        let shown = town.call("agent.capture", json!({"agent": "a/witness", "lines": 5}));
        shown["lines"].to_string().contains("flood over").then_some(())
    });
    let began = Instant::now();
    town.call("town.status", json!({}));
    assert!(began.elapsed() < QUICK);
}

#[test]
fn a_start_is_idempotent_and_a_stop_too() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.running();
    let again = town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(again["already"], true, "{again:#}");
    assert_eq!(town.running(), before, "nothing was started");
    town.call("witness.stop", json!({"rig": "a"}));
    let again = town.call("witness.stop", json!({"rig": "a"}));
    assert_eq!(again["already"], true, "{again:#}");
    let error = town.call_fails("witness.start", json!({"rig": "nowhere"}));
    assert_eq!((error.code, error.kind.as_str()), (1001, "rig_not_found"), "{error:?}");
    assert_eq!(error.data["known"], json!(["a"]), "{error:?}");
}

#[test]
fn a_restart_is_one_operation_with_a_new_instance() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let (agent, old) = (town.agent("a/witness"), town.process("a/witness"));
    let new = town.call("witness.restart", json!({"rig": "a", "env": {"FLAVOUR": "mint"}}));
    assert_eq!(new["state"], "running", "{new:#}");
    assert_ne!(new["instance"], agent["instance"]);
    assert!(!old.alive());
    assert_eq!(town.process("a/witness").environment().get("FLAVOUR").map(String::as_str), Some("mint"));
    // What was asked for sticks for the next instance too.
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", new["instance"].as_str().unwrap());
    assert_eq!(town.process("a/witness").environment().get("FLAVOUR").map(String::as_str), Some("mint"));
    town.assert_never_two();
}

#[test]
fn the_agents_environment_is_made_from_a_list_not_from_the_daemons() {
    let town =
        Setup::new().rigs(&["a"]).no_refineries().env("DAEMON_SECRET", "x").script(&["env", "idle"]).up();
    let environment = town.process("a/witness").environment();
    assert!(!environment.contains_key("DAEMON_SECRET"), "{environment:#?}");
    for (name, value) in [("GT_ROLE", "witness"), ("GT_RIG", "a"), ("GT_ROOT", town.root().to_str().unwrap())]
    {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{environment:#?}");
    }
    let agent = town.agent("a/witness");
    assert_eq!(environment.get("GT_INSTANCE").map(String::as_str), agent["instance"].as_str());
    for name in ["GT_TOWN_ID", "GT_SOCKET", "TERM", "TMUX", "TMUX_PANE", "PATH", "HOME"] {
        assert!(environment.contains_key(name), "{name} is missing: {environment:#?}");
    }
}

#[test]
fn the_agent_begins_with_a_clean_signal_state() {
    let sleep = gtd_tests::programs::system("sleep").expect("sleep");
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .command("plain", json!({"provider": "script", "command": sleep, "args": ["1000"]}))
        .role("witness", "plain")
        .up();
    let status = std::fs::read_to_string(format!("/proc/{}/status", town.agent("a/witness")["pid"])).unwrap();
    for field in ["SigBlk", "SigIgn"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
}
