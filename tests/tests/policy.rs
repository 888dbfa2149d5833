//! Death and return: at once the first time, slower each time after, then not for a while.

use std::time::Duration;

use gtd_tests::{CHANGE, Setup, wait_for};
use serde_json::{Value, json};

const BRIEF: &[&str] = &["after:250", "print:enough", "exit:3"];
const SHORT: &str = "[restart]\nbase = \"200ms\"\nfactor = 2.0\njitter = 0.0\nburst = 4\nquarantine = \"700ms\"\nquarantine_max = \"5s\"\n\
                     [mass_death]\nthreshold = 0";

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["kind"] == kind).collect()
}

#[test]
fn a_death_is_learned_from_the_kernel_and_its_latency_is_on_record() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.agent("a/witness");
    let seq = town.seq();
    town.process("a/witness").kill();
    let exited = town.wait_event(seq, "agent.exited", "a/witness", CHANGE);
    assert_eq!(exited["instance"], before["instance"], "{exited:#}");
    let data = &exited["data"];
    assert!(data["detect_ms"].is_number(), "{exited:#}");
    assert!(data["detected_by"].as_str().is_some_and(|by| !by.is_empty()), "{exited:#}");
    assert_eq!(
        (&data["signal"], &data["cause"], &data["counts"]),
        (&json!(9), &json!("crash"), &json!(true)),
        "{exited:#}"
    );
    let restarting = town.wait_event(seq, "agent.restarting", "a/witness", CHANGE);
    assert_eq!(
        (&restarting["data"]["attempt"], &restarting["data"]["delay_ms"]),
        (&json!(1), &json!(0)),
        "{restarting:#}"
    );
    let ready = town.wait_event(restarting["seq"].as_u64().unwrap(), "agent.ready", "a/witness", CHANGE);
    assert_ne!(ready["instance"], before["instance"], "{ready:#}");
    assert!(ready["data"]["pid"].is_i64() && ready["data"]["startup_ms"].is_u64(), "{ready:#}");
    let kinds: Vec<Value> = town.events(seq).iter().map(|event| event["kind"].clone()).collect();
    assert!(!kinds.contains(&json!("agent.backoff")), "no delay, no back-off: {kinds:?}");
    let agent = town.agent("a/witness");
    assert_eq!(agent["restarts"]["lifetime"], 1, "{agent:#}");
}

#[test]
fn an_agent_that_exits_at_once_backs_off_and_is_quarantined_visibly() {
    let town = Setup::new()
        .rigs(&["a", "calm"])
        .no_refineries()
        .toml(SHORT)
        .agent("brief", BRIEF)
        .rig_witness("a", "brief")
        .make();
    town.start();
    let quarantined = town.wait_event(0, "agent.quarantined", "a/witness", Duration::from_secs(30));
    assert!(quarantined["data"]["failures"].as_u64().is_some_and(|n| n >= 4), "{quarantined:#}");
    assert!(quarantined["data"]["expires"].is_string(), "{quarantined:#}");
    let agent = town.agent("a/witness");
    let until = quarantined["seq"].as_u64().unwrap();
    let events: Vec<Value> = town
        .events(0)
        .into_iter()
        .filter(|e| e["agent"] == "a/witness" && e["seq"].as_u64() <= Some(until))
        .collect();
    let backoffs = of_kind(&events, "agent.backoff");
    assert!(!backoffs.is_empty(), "{events:#?}");
    let delays: Vec<u64> = backoffs.iter().filter_map(|event| event["data"]["delay_ms"].as_u64()).collect();
    assert_eq!(delays, [200, 400], "base, then twice that: {events:#?}");
    for event in &backoffs {
        assert!(event["data"]["next_attempt"].is_string(), "{event:#}");
    }
    let attempts: Vec<u64> = of_kind(&events, "agent.restarting")
        .iter()
        .filter_map(|event| event["data"]["attempt"].as_u64())
        .collect();
    assert_eq!(attempts, [1, 2, 3], "{events:#?}");
    if agent["state"] == "quarantined" {
        assert!(agent["next_attempt"].is_string() && agent["reason"].is_string(), "{agent:#}");
    }
    // The neighbour has nothing to do with it.
    assert_eq!(town.agent("calm/witness")["restarts"]["lifetime"], 0);
    // It half-opens by itself, with one try, and relapses for twice as long.
    let again = wait_for(Duration::from_secs(20), "a second quarantine", || {
        let events = town.events(until);
        of_kind(&events, "agent.quarantined").first().map(|event| (*event).clone())
    });
    let tries = town
        .events(until)
        .into_iter()
        .filter(|e| {
            e["kind"] == "agent.starting"
                && e["agent"] == "a/witness"
                && e["seq"].as_u64() < again["seq"].as_u64()
        })
        .count();
    assert_eq!(tries, 1, "half-open is one try");
}

#[test]
fn a_reset_and_a_persons_start_clear_a_quarantine() {
    let toml = SHORT.replace("700ms", "1h").replace("quarantine_max = \"5s\"", "quarantine_max = \"24h\"");
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(&toml)
        .agent("brief", &["unless:{J}/well", "exit:3", "idle"])
        .role("witness", "brief")
        .make();
    town.start();
    let agent = town.wait_agent("a/witness", Duration::from_secs(30), "quarantined", |agent| {
        agent["state"] == "quarantined"
    });
    assert!(agent["next_attempt"].is_string() && agent["reason"].is_string(), "{agent:#}");
    assert_eq!(agent["intent"], "running");
    let shown = town.gtctl(&["explain", "a/witness"]).ok();
    assert!(shown.out.contains("quarantine"), "{shown:?}");
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    town.call("agent.reset", json!({"agent": "a/witness"}));
    let agent = town.wait_agent("a/witness", CHANGE, "running", |agent| agent["state"] == "running");
    assert_eq!(agent["restarts"]["consecutive"], 0, "{agent:#}");
    // Once more, and this time a person starts it.
    std::fs::remove_file(town.journal_dir().join("well")).unwrap();
    town.process("a/witness").kill();
    town.wait_agent("a/witness", Duration::from_secs(30), "quarantined", |agent| {
        agent["state"] == "quarantined"
    });
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    let started = town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(started["state"], "running", "{started:#}");
    assert_eq!(started["restarts"]["consecutive"], 0, "{started:#}");
}

#[test]
fn a_quarantine_outlives_the_daemon() {
    let toml = SHORT.replace("700ms", "1h").replace("quarantine_max = \"5s\"", "quarantine_max = \"24h\"");
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(&toml).script(&["exit:3"]).make();
    town.start();
    let before = town.wait_agent("a/witness", Duration::from_secs(30), "quarantined", |agent| {
        agent["state"] == "quarantined"
    });
    let starts = town.starts("a/witness").len();
    town.kill_daemon();
    town.start();
    let after = town.wait_state("a/witness", "quarantined");
    assert_eq!(after["next_attempt"], before["next_attempt"], "the same deadline");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/witness").len(), starts);
}

#[test]
fn a_clean_exit_of_an_agent_that_is_always_on_brings_it_back() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["obey"]).up();
    let before = town.agent("a/witness");
    std::fs::write(town.journal_dir().join("exit-a-witness"), "0").unwrap();
    town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(
        (&exits["items"][0]["code"], &exits["items"][0]["cause"]),
        (&json!(0), &json!("clean")),
        "{exits:#}"
    );
}

#[test]
fn a_role_that_is_off_is_left_alone() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    town.call("daemon.heartbeat", json!({}));
    assert!(town.starts("a/refinery").is_empty());
    let agent = town.agent("a/refinery");
    assert_eq!(agent["state"], "stopped", "{agent:#}");
    // A person may start it all the same.
    town.call("refinery.start", json!({"rig": "a"}));
    town.wait_state("a/refinery", "running");
}

#[test]
fn stop_outranks_a_pending_restart() {
    let town =
        Setup::new().rigs(&["a"]).no_refineries().toml("[restart]\ninitial = \"2s\"\nbase = \"2s\"").up();
    let seq = town.seq();
    town.process("a/witness").kill();
    town.wait_event(seq, "agent.exited", "a/witness", CHANGE);
    town.wait_state("a/witness", "backoff");
    town.call("witness.stop", json!({"rig": "a"}));
    gtd_tests::chaos_delay(Duration::from_millis(2500));
    assert_eq!(town.agent("a/witness")["state"], "stopped");
    assert_eq!(town.starts("a/witness").len(), 1);
}

#[test]
fn every_signal_that_was_sent_is_on_record_with_its_evidence() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let agent = town.agent("a/witness");
    town.call("witness.stop", json!({"rig": "a"}));
    let sent = town.call("agent.signals", json!({"agent": "a/witness"}));
    let sent = sent["items"].as_array().unwrap();
    assert!(!sent.is_empty());
    for signal in sent {
        assert_eq!(signal["instance"], agent["instance"], "{signal:#}");
        assert!(
            signal["start"].is_u64() && signal["signal"].is_i64() && signal["by"].is_string(),
            "{signal:#}"
        );
        assert!(!signal["evidence"].is_null(), "{signal:#}");
    }
}
