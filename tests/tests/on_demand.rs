//! Roles that policy does not keep running: on demand, off, and switched off in older tools' file.

use std::fs;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

fn on_demand(ttl: &str) -> Setup {
    Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(&format!("[witness]\nmode = \"on_demand\"\nidle_ttl = \"{ttl}\""))
}

fn report(town: &Town, state: &str) {
    let instance = town.agent("a/witness")["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": state}));
}

fn because(town: &Town) -> String {
    town.call("agent.explain", json!({"agent": "a/witness"}))["because"].to_string()
}

#[test]
fn nobody_is_started_on_demand_unless_somebody_asks_and_then_it_is_kept_running() {
    let town = on_demand("1h").make();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    let agent = town.agent("a/witness");
    assert_eq!((&agent["state"], &agent["intent"]), (&json!("stopped"), &json!("stopped")), "{agent:#}");
    assert!(agent["reason"].as_str().unwrap().contains("on_demand"), "{agent:#}");
    assert!(town.starts("a/witness").is_empty());
    town.call("witness.start", json!({"rig": "a"}));
    let before = town.agent("a/witness");
    assert_eq!((&before["intent"], &before["intent_by"]), (&json!("running"), &json!("person")));
    town.process("a/witness").kill();
    let again = town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    // Also when it dies while the daemon is down, and when the daemon is another one.
    town.kill_daemon();
    gtd_tests::procs::Process::of(i32::try_from(again["pid"].as_i64().unwrap()).unwrap()).unwrap().kill();
    town.start();
    town.wait_new_instance("a/witness", again["instance"].as_str().unwrap());
    assert!(because(&town).contains("on demand"));
    town.call("witness.stop", json!({"rig": "a"}));
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("a/witness")["state"], "stopped");
}

#[test]
fn who_says_for_long_enough_that_it_idles_is_ended_and_that_is_no_failure() {
    let town = on_demand("1s").make();
    town.start();
    town.call("witness.start", json!({"rig": "a"}));
    // Silence is no idleness, and neither is work.
    report(&town, "idle");
    report(&town, "working");
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(1_300) {
        assert_eq!(town.agent("a/witness")["running"], true);
        gtd_tests::chaos_delay(Duration::from_millis(50));
    }
    let said = Instant::now();
    report(&town, "idle");
    report(&town, "idle");
    let agent = town.wait_agent("a/witness", CHANGE, "ended", |agent| {
        agent["state"] == "stopped" && agent["running"] == false
    });
    assert!(said.elapsed() >= Duration::from_millis(990), "after {:?}", said.elapsed());
    assert_eq!(
        (&agent["intent"], &agent["intent_by"]),
        (&json!("stopped"), &json!("supervisor")),
        "{agent:#}"
    );
    assert_eq!(agent["restarts"], json!({"lifetime": 0, "consecutive": 0}), "{agent:#}");
    let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
    assert_eq!(
        (&exits["items"][0]["cause"], &exits["items"][0]["counts"]),
        (&json!("requested"), &json!(false)),
        "{exits:#}"
    );
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/witness").len(), 1);
    // It may be asked for again, and its idling of before is forgotten.
    town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(town.agent("a/witness")["running"], true);
    town.assert_never_two();
}

#[test]
fn a_refinery_idles_by_its_own_clock() {
    let modes = "[witness]\nmode = \"off\"\n[refinery]\nmode = \"on_demand\"\nidle_ttl = \"1s\"";
    let town = Setup::new().rigs(&["a"]).toml(modes).make();
    town.start();
    town.call("refinery.start", json!({"rig": "a"}));
    let instance = town.agent("a/refinery")["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": "idle"}));
    town.wait_agent("a/refinery", CHANGE, "ended", |agent| {
        agent["state"] == "stopped" && agent["running"] == false
    });
}

#[test]
fn idling_goes_on_while_the_daemon_is_another_one() {
    let town = on_demand("3s").make();
    town.start();
    town.call("witness.start", json!({"rig": "a"}));
    let process = town.process("a/witness");
    report(&town, "idle");
    let said = Instant::now();
    town.kill_daemon();
    town.start();
    town.wait_agent("a/witness", CHANGE, "ended", |agent| {
        agent["state"] == "stopped" && agent["running"] == false
    });
    assert!(!process.alive());
    assert!(said.elapsed() >= Duration::from_millis(2_900), "after {:?}", said.elapsed());
}

#[test]
fn off_is_hands_off_a_person_may_start_it_and_nobody_restarts_it() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[witness]\nmode = \"off\"").make();
    town.start();
    town.call("witness.start", json!({"rig": "a"}));
    town.call("rig.park", json!({"rig": "a"}));
    assert_eq!(town.agent("a/witness")["state"], "stopped");
    town.call("rig.unpark", json!({"rig": "a"}));
    assert_eq!(town.agent("a/witness")["running"], true, "somebody had started it");
    let seq = town.seq();
    town.process("a/witness").kill();
    town.wait_event(seq, "agent.exited", "a/witness", CHANGE);
    let agent = town.wait_state("a/witness", "stopped");
    assert!(agent["reason"].as_str().unwrap().contains("settings/gtd.toml"), "{agent:#}");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/witness").len(), 2);
    assert!(because(&town).contains("settings/gtd.toml"));
}

fn reason(town: &Town, rig: &str) -> Value {
    town.agent(&format!("{rig}/witness"))["intent_reason"].clone()
}

#[test]
fn patrols_that_are_switched_off_on_disk_are_left_alone_from_then_on() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let before = town.running();
    town.replace("mayor/daemon.json", r#"{"patrols":{"witness":{"enabled":false}}}"#);
    wait_for(CHANGE, "the switch is seen", || {
        reason(&town, "a").as_str().filter(|why| why.contains("off in mayor/daemon.json")).map(str::to_owned)
    });
    assert_eq!(town.running(), before, "what runs is left alone");
    let seq = town.seq();
    town.process("a/witness").kill();
    town.wait_event(seq, "agent.exited", "a/witness", CHANGE);
    town.wait_state("a/witness", "stopped");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/witness").len(), 1, "not restarted");
    assert!(because(&town).contains("mayor/daemon.json"), "{}", because(&town));
    // For other rigs only.
    town.replace("mayor/daemon.json", r#"{"patrols":{"witness":{"rigs":["b"]}}}"#);
    wait_for(CHANGE, "the list is seen", || {
        reason(&town, "a").as_str().filter(|why| why.contains("other rigs than a")).map(str::to_owned)
    });
    assert_eq!(reason(&town, "b"), "the role is always on");
    assert_eq!(town.agent("a/witness")["state"], "stopped");
    // Torn at the next start: what was off stays off, by the last good reading.
    town.stop_daemon();
    fs::write(town.path("mayor/daemon.json"), "{").unwrap();
    town.start();
    wait_for(CHANGE, "an alert", || town.alerts().into_iter().find(|alert| alert["key"] == "patrols"));
    assert_eq!(
        (town.agent("a/witness")["state"].clone(), town.agent("b/witness")["running"].clone()),
        (json!("stopped"), json!(true))
    );
    fs::remove_file(town.path("mayor/daemon.json")).unwrap();
    town.wait_state("a/witness", "running");
}

#[test]
fn switches_that_were_never_read_may_be_off() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    fs::write(town.path("mayor/daemon.json"), "{").unwrap();
    town.start();
    let agent = town.agent("a/witness");
    assert!(agent["reason"].as_str().unwrap().contains("mayor/daemon.json cannot be read"), "{agent:#}");
    assert_eq!(agent["state"], "stopped");
    town.replace("mayor/daemon.json", "{}");
    town.wait_state("a/witness", "running");
}
