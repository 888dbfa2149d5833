//! No room: nothing is begun that cannot be written down, what is asked to end ends, and all is well again by
//! itself.

use std::time::Duration;

use gtd_tests::disk::{SmallDisk, bound_files};
use gtd_tests::{CHANGE, Process, Setup, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

const BALLAST: &str = "daemon/gtd.ballast";

fn town() -> Town {
    Setup::new()
        .rigs(&["a", "b", "c"])
        .no_refineries()
        .toml("[mass_death]\nthreshold = 0\n[stop]\ngrace = \"2s\"")
        .make()
}

/// A town whose `daemon` directory is a disk of its own; `None`, loudly, where that is not allowed.
fn on_a_small_disk(test: &str) -> Option<(Town, SmallDisk)> {
    let town = town();
    match SmallDisk::mount(&town.path("daemon"), 80) {
        Ok(disk) => {
            town.start();
            town.wait_all_running();
            wait_for(CHANGE, "the ballast", || {
                (std::fs::metadata(town.path(BALLAST)).ok()?.len() == 16 << 20).then_some(())
            });
            Some((town, disk))
        }
        Err(why) => {
            skipped(test, &why);
            None
        }
    }
}

fn ledger_alert(town: &Town) -> Option<Value> {
    town.alerts().into_iter().find(|alert| alert["key"] == "ledger")
}

#[track_caller]
fn wait_sound(town: &Town) {
    wait_for(CHANGE, "the alert is taken back", || ledger_alert(town).is_none().then_some(()));
    wait_for(CHANGE, "the daemon is not degraded", || {
        (town.call("daemon.status", json!({}))["degraded"] == false).then_some(())
    });
}

/// What holds while nothing can be written, and afterwards. `full` and `room` change that.
#[track_caller]
fn lives_through(town: &Town, full: impl Fn(), room: impl Fn()) {
    let (a, b, c) = (town.process("a/witness"), town.process("b/witness"), town.process("c/witness"));
    full();
    // A death is noticed, and no start follows that nobody could remember.
    a.kill();
    town.wait_agent("a/witness", CHANGE, "waits", |agent| {
        agent["state"] == "backoff" && agent["running"] == false
    });
    wait_for(CHANGE, "people are told", || ledger_alert(town));
    assert_eq!(town.starts("a/witness").len(), 1);
    full();
    // A stop needs no permission from a disk.
    let stopped = town.call("witness.stop", json!({"rig": "b", "reason": "no room"}));
    assert_eq!(stopped["state"], "stopped", "{stopped:#}");
    assert!(!b.alive());
    let refused = town.try_call("witness.start", json!({"rig": "b", "wait_ms": 10_000}));
    assert!(refused.is_err() || refused.as_ref().is_ok_and(|agent| agent["running"] == false), "{refused:?}");
    assert_eq!(town.starts("b/witness").len(), 1, "it was not started");
    town.call("witness.stop", json!({"rig": "b", "reason": "no room"}));
    assert!(c.alive(), "who is not asked to end goes on");
    assert!(town.agents().len() >= 3, "questions are answered");
    room();
    wait_sound(town);
    town.wait_new_instance("a/witness", "");
    assert_eq!(town.agent("b/witness")["state"], "stopped");
    // What was wanted meanwhile is on the disk by now.
    town.kill_daemon();
    town.start();
    town.wait_all_running();
    let agent = town.agent("b/witness");
    assert_eq!(
        (&agent["intent"], &agent["intent_reason"]),
        (&json!("stopped"), &json!("no room")),
        "{agent:#}"
    );
    assert_eq!(town.starts("b/witness").len(), 1);
    assert_eq!(town.process("c/witness"), c);
    let seqs: Vec<u64> = town.events(0).iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    town.assert_never_two();
}

#[test]
fn a_full_disk_ends_in_room_again_and_nothing_is_lost() {
    let Some((town, disk)) = on_a_small_disk("a_full_disk_ends_in_room_again_and_nothing_is_lost") else {
        return;
    };
    let ballast = || town.path(BALLAST).exists();
    assert!(ballast());
    lives_through(
        &town,
        || disk.fill(),
        || {
            assert!(!ballast(), "its room was needed");
            disk.empty();
        },
    );
    wait_for(CHANGE, "the ballast is back", || ballast().then_some(()));
    town.call("town.stop", json!({}));
    town.stop_daemon();
}

/// The same without a disk of our own: beyond a size no file of the daemon's may grow.
#[test]
fn writes_that_fail_end_in_writes_that_do_not_and_nothing_is_lost() {
    let town = town();
    town.start();
    town.wait_all_running();
    let daemon = town.daemon().unwrap();
    lives_through(&town, || bound_files(daemon, Some(1)), || bound_files(daemon, None));
}

#[test]
fn a_stop_on_a_full_disk_outlives_the_daemon_when_only_the_ballast_is_left() {
    let name = "a_stop_on_a_full_disk_outlives_the_daemon_when_only_the_ballast_is_left";
    let Some((town, disk)) = on_a_small_disk(name) else { return };
    disk.fill();
    town.call("witness.stop", json!({"rig": "a", "reason": "no room"}));
    wait_for(CHANGE, "people are told", || ledger_alert(&town));
    town.kill_daemon();
    disk.empty();
    town.start();
    let agent = town.agent("a/witness");
    assert_eq!(
        (&agent["intent"], &agent["intent_reason"]),
        (&json!("stopped"), &json!("no room")),
        "{agent:#}"
    );
    town.call("town.stop", json!({}));
    town.stop_daemon();
}

#[test]
fn a_daemon_comes_up_on_a_full_disk_and_recovers_when_there_is_room() {
    let name = "a_daemon_comes_up_on_a_full_disk_and_recovers_when_there_is_room";
    let Some((town, disk)) = on_a_small_disk(name) else { return };
    town.call("witness.stop", json!({"rig": "a", "reason": "for good"}));
    let before: Vec<Process> = ["b/witness", "c/witness"].iter().map(|agent| town.process(agent)).collect();
    for ballast in [true, false] {
        town.kill_daemon();
        if !ballast {
            let _ = std::fs::remove_file(town.path(BALLAST));
        }
        disk.fill();
        // Not even its own small files can be written: the endpoint is the last daemon's, at the same place.
        let daemon = town.start_unwatched();
        let answers = wait_until(CHANGE, || {
            let hello = town.try_call("daemon.hello", json!({"client": "t", "protocol": 1}));
            hello.is_ok_and(|hello| hello["pid"] == daemon.pid)
        });
        assert!(answers, "ballast: {ballast}; it said: {}", town.daemon_output());
        wait_for(CHANGE, "people are told", || ledger_alert(&town));
        town.call("daemon.heartbeat", json!({}));
        assert!(before.iter().all(|process| process.alive()), "ballast: {ballast}");
        assert_eq!(town.starts("a/witness").len(), 1, "ballast: {ballast}");
        disk.empty();
        wait_sound(&town);
        assert_eq!(town.agent("a/witness")["intent"], "stopped", "ballast: {ballast}");
        for (agent, process) in ["b/witness", "c/witness"].iter().zip(&before) {
            town.wait_agent(agent, CHANGE, "adopted", |agent| agent["pid"] == process.pid);
        }
        wait_for(Duration::from_secs(10), "the ballast is back", || {
            town.path(BALLAST).exists().then_some(())
        });
    }
    let before = town.agent("b/witness")["instance"].as_str().unwrap().to_owned();
    town.process("b/witness").kill();
    town.wait_new_instance("b/witness", &before);
    town.assert_never_two();
    town.call("town.stop", json!({}));
    town.stop_daemon();
}
