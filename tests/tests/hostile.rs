//! Days on which several things go wrong at once: a store that is locked while people ask, a daemon without
//! descriptors, records that are gone, people's panes that outlive an agent.

use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, chaos_delay, wait_for, wait_until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

/// Holds the ledger's write lock until it is dropped.
fn lock_ledger(town: &Town) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    conn
}

#[test]
fn a_start_is_answered_while_the_ledger_cannot_be_written_and_a_stop_is_not_forgotten() {
    let town = Setup::new().rigs(&["a", "b"]).up();
    town.call("witness.stop", json!({"rig": "a"}));
    let lock = lock_ledger(&town);
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_ne!(error.kind, "transport", "it is answered: {error:?}");
    assert_eq!(town.starts("a/witness").len(), 1, "what is not written down is not begun");
    town.call("refinery.stop", json!({"rig": "b"}));
    drop(lock);
    town.wait_state("a/witness", "running");
    wait_for(CHANGE, "the ledger is in use again", || {
        let reasons = town.call("daemon.status", json!({}))["reasons"].to_string();
        (!reasons.contains("ledger")).then_some(())
    });
    town.kill_daemon();
    town.start();
    assert_eq!(town.wait_state("b/refinery", "stopped")["intent"], "stopped");
    town.assert_never_two();
}

#[test]
fn a_persons_pane_in_the_session_of_a_stopped_agent_keeps_nobody_waiting_after_a_restart() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.agent("a/witness");
    let tmux = town.tmux();
    let pane = tmux.run(&[
        "split-window",
        "-b",
        "-d",
        "-t",
        before["pane"].as_str().unwrap(),
        "-P",
        "-F",
        "#{pane_id}",
        "exec sleep 1000",
    ]);
    town.call("witness.stop", json!({"rig": "a"}));
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    town.call("daemon.heartbeat", json!({}));
    town.wait_state("a/witness", "stopped");
    town.call("witness.start", json!({"rig": "a", "wait_ms": 10000}));
    town.wait_state("a/witness", "running");
    assert!(tmux.run(&["list-panes", "-a", "-F", "#{pane_id}"]).lines().any(|line| line == pane));
    tmux.run(&["kill-pane", "-t", &pane]);
    town.assert_never_two();
}

#[test]
fn up_right_after_a_lost_ledger_finds_what_runs_first() {
    let town = Setup::new().rigs(&["a", "b", "c", "d"]).up();
    let before = town.running();
    for _ in 0..5 {
        town.kill_daemon();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(town.path(&format!("daemon/gtd.db{suffix}")));
        }
        std::fs::write(town.path("daemon/gtd.db"), b"no ledger".repeat(1000)).unwrap();
        town.start_unwatched();
        // As soon as there is somebody to ask.
        wait_for(CHANGE, "up", || town.try_call("town.start", json!({})).ok());
        town.wait_all_running();
        town.assert_never_two();
        let pids = |all: &[(String, String, i64)]| all.iter().map(|one| one.2).collect::<Vec<_>>();
        assert_eq!(pids(&town.running()), pids(&before));
    }
}

#[test]
fn what_the_ledger_has_and_cannot_be_read_is_not_taken_for_a_wish_to_run() {
    let town = Setup::new().rigs(&["a"]).up();
    town.call("witness.stop", json!({"rig": "a"}));
    let refinery = town.process("a/refinery");
    town.stop_daemon();
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let damage = |sql: &str| assert_eq!(conn.execute(sql, []).unwrap(), 1, "{sql}");
    damage("UPDATE agents SET policy = '{' WHERE address = 'a/witness'");
    damage("UPDATE instances SET launch = '{' WHERE agent = 'a/refinery' AND ended = 0");
    town.start();
    town.wait_state("a/refinery", "running");
    assert_eq!(town.process("a/refinery"), refinery, "its record and its session tell who it is");
    town.stop_daemon();
    // And what cannot be read at all.
    damage("UPDATE agents SET intent_by = x'ff' WHERE address = 'a/witness'");
    damage("UPDATE instances SET reserved_at = 'long ago' WHERE agent = 'a/refinery' AND ended = 0");
    town.start();
    town.call("daemon.heartbeat", json!({}));
    chaos_delay(Duration::from_millis(500));
    assert_eq!(town.starts("a/witness").len(), 1, "what was stopped stays stopped");
    assert_eq!(town.starts("a/refinery").len(), 1);
    assert!(refinery.alive());
    town.assert_never_two();
    assert_eq!(town.call("daemon.status", json!({}))["degraded"], true);
}

#[test]
fn a_death_without_a_record_is_on_record_and_its_children_end_before_the_next() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["fork:group", "idle"]).up();
    let before = town.agent("a/witness");
    let (agent, child) = (town.process("a/witness"), *town.children("group").last().unwrap());
    let shim = gtd_tests::Process::of(agent.parent().unwrap()).unwrap();
    town.kill_daemon();
    for entry in std::fs::read_dir(town.path("daemon/run")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|end| end == "record") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    town.start();
    town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
    let known = exits["items"].as_array().unwrap().iter().any(|exit| exit["instance"] == before["instance"]);
    assert!(known, "its end is on record: {exits:#}");
    assert!(!child.alive(), "nothing proven is left when the next one begins");
    town.assert_never_two();
}

#[test]
fn a_daemon_without_descriptors_concludes_nothing() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[restart]\nburst = 0\nchurn_deaths = 0\n[mass_death]\nthreshold = 0")
        .script(&["fork:group", "idle"])
        .up();
    let agent = town.process("a/witness");
    let child = *town.children("group").last().unwrap();
    let shim = gtd_tests::Process::of(agent.parent().unwrap()).unwrap();
    let daemon = Pid::from_raw(town.daemon().unwrap().pid).unwrap();
    // Its captured descent is up to date.
    town.call("daemon.heartbeat", json!({}));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let maximum: u64 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    let few = Rlimit { current: Some(3), maximum: Some(maximum) };
    let before = prlimit(Some(daemon), Resource::Nofile, few).unwrap();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    chaos_delay(Duration::from_millis(1500));
    prlimit(Some(daemon), Resource::Nofile, before).unwrap();
    wait_for(CHANGE, "a new one", || (town.starts("a/witness").len() > 1).then_some(()));
    assert!(!child.alive(), "what was left of it ended first");
    town.wait_state("a/witness", "running");
    town.assert_never_two();
}
