//! Agents that are taken out of service and put back.

use std::time::Duration;

use gtd_tests::{CHANGE, Setup, Town};
use serde_json::{Value, json};

fn town() -> Town {
    Setup::new().rigs(&["a", "b"]).no_refineries().toml("[stop]\ndrain = \"200ms\"").up()
}

fn report(town: &Town, agent: &str, state: &str) {
    let instance = town.agent(agent)["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": state}));
}

fn drained(town: &Town, agent: &str) -> Value {
    town.wait_agent(agent, CHANGE, "drained", |agent| {
        agent["state"] == "stopped" && agent["running"] == false && agent["drain"]["done"] == true
    })
}

fn told(town: &Town, agent: &str) -> usize {
    let events = town.events(0);
    events.iter().filter(|event| event["kind"] == "agent.drained" && event["agent"] == agent).count()
}

#[test]
fn a_turn_is_waited_for_and_then_nothing_starts_it_before_it_is_put_back() {
    let town = town();
    let before = town.agent("a/witness");
    let pid = town.process("a/witness");
    report(&town, "a/witness", "working");
    let accepted =
        town.gtctl(&["drain", "a/witness", "--no-wait", "--reason", "new settings", "--json"]).ok().json();
    assert_eq!(accepted["result"]["accepted"], true, "{accepted:#}");
    let draining = town.wait_state("a/witness", "stopping");
    assert_eq!(
        (&draining["drain"]["by"], &draining["drain"]["reason"], &draining["drain"]["done"]),
        (&json!("person"), &json!("new settings"), &json!(false)),
        "{draining:#}"
    );
    // Longer than a stop would wait, and over a daemon's death.
    town.kill_daemon();
    town.start();
    let again = town.wait_state("a/witness", "stopping");
    assert_eq!(again["instance"], before["instance"]);
    gtd_tests::chaos_delay(Duration::from_millis(600));
    assert!(pid.alive(), "its turn has not ended");
    // It takes nothing new.
    let work = town.call("work.create", json!({"title": "t", "rig": "a"}))["id"].clone();
    for dry_run in [false, true] {
        let error =
            town.call_fails("hook.set", json!({"agent": "a/witness", "work": work, "dry_run": dry_run}));
        assert_eq!((error.code, &error.data["hint"]), (1011, &json!("gtctl undrain a/witness")), "{error:?}");
    }
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!((error.code, &error.data["hint"]), (1011, &json!("gtctl undrain a/witness")), "{error:?}");
    let waits = std::thread::scope(|scope| {
        let asked = scope.spawn(|| town.call("agent.drain", json!({"agent": "a/witness"})));
        report(&town, "a/witness", "waiting");
        assert!(pid.alive(), "a question is not the end of a turn");
        report(&town, "a/witness", "idle");
        asked.join().unwrap()
    });
    assert_eq!(waits["state"], "stopped", "{waits:#}");
    let agent = drained(&town, "a/witness");
    assert_eq!((&agent["reason"], &agent["intent"]), (&json!("drained"), &json!("running")), "{agent:#}");
    assert!(!pid.alive());
    assert_eq!(told(&town, "a/witness"), 1);
    for _ in 0..2 {
        town.kill_daemon();
        town.start();
        town.call("daemon.heartbeat", json!({}));
        town.call("agent.reset", json!({"agent": "a/witness"}));
        drained(&town, "a/witness");
    }
    for method in ["witness.start", "witness.restart"] {
        let error = town.call_fails(method, json!({"rig": "a"}));
        assert_eq!(error.code, 1011, "{method}: {error:?}");
    }
    let shown = town.gtctl(&["status"]).ok();
    assert!(shown.out.contains("drained"), "{}", shown.out);
    let card = town.gtctl(&["status", "a/witness"]).ok();
    assert!(card.out.contains("gtctl undrain a/witness"), "{}", card.out);
    assert_eq!(town.call("agent.drain", json!({"agent": "a/witness"}))["already"], true);
    assert_eq!((town.starts("a/witness").len(), told(&town, "a/witness")), (1, 1));
    let back = town.gtctl(&["undrain", "a/witness"]).ok();
    assert!(back.out.starts_with("undrained a/witness: running"), "{}", back.out);
    let agent = town.agent("a/witness");
    assert_eq!((&agent["running"], agent.get("drain")), (&json!(true), None), "{agent:#}");
    assert_ne!(agent["instance"], before["instance"]);
    assert_eq!(town.gtctl(&["undrain", "a/witness"]).ok().out, "a/witness is not drained\n");
    town.call("hook.set", json!({"agent": "a/witness", "work": work}));
    town.assert_never_two();
}

#[test]
fn a_change_of_mind_lets_the_turn_go_on() {
    let town = town();
    let pid = town.process("a/witness");
    report(&town, "a/witness", "working");
    town.call("agent.drain", json!({"agent": "a/witness", "wait_ms": 0}));
    let plan = town.call("agent.undrain", json!({"agent": "a/witness", "dry_run": true}));
    assert_eq!(plan["plan"][0]["action"], "undrain", "{plan:#}");
    let back = town.call("agent.undrain", json!({"agent": "a/witness"}));
    assert_eq!((&back["state"], &back["pid"]), (&json!("running"), &json!(pid.pid)), "{back:#}");
    report(&town, "a/witness", "idle");
    town.call("daemon.heartbeat", json!({}));
    assert!(pid.alive());
    assert_eq!((town.starts("a/witness").len(), told(&town, "a/witness")), (1, 0));
}

#[test]
fn who_does_not_say_that_it_works_is_ended_at_once_and_a_stop_outlives_the_drain() {
    let town = town();
    let plan = town.call("agent.drain", json!({"agent": "b/witness", "dry_run": true}));
    assert!(plan["plan"][0]["why"].as_str().unwrap().starts_with("at once"), "{plan:#}");
    assert_eq!(town.agent("b/witness")["running"], true, "only a plan");
    let done = town.call("agent.drain", json!({"agent": "b/witness", "idempotency_key": "k"}));
    assert_eq!((&done["state"], &done["drain"]["done"]), (&json!("stopped"), &json!(true)), "{done:#}");
    assert_eq!(
        town.call("agent.drain", json!({"agent": "b/witness", "idempotency_key": "k"}))["state"],
        "stopped"
    );
    town.call("witness.stop", json!({"rig": "b", "reason": "for good"}));
    let back = town.call("agent.undrain", json!({"agent": "b/witness"}));
    assert_eq!((&back["state"], &back["intent"]), (&json!("stopped"), &json!("stopped")), "{back:#}");
    assert_eq!(back["reason"], "for good", "{back:#}");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("b/witness").len(), 1);
    for method in ["agent.drain", "agent.undrain"] {
        assert_eq!(town.call_fails(method, json!({"agent": "a/polecats/nope"})).code, 1002);
    }
}

#[test]
fn a_drain_that_was_asked_for_survives_a_daemon_that_is_killed_at_any_moment_of_it() {
    let town = town();
    for round in 0..6 {
        // A daemon that finds it at rest does not know which start of it was the last.
        let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
        let seq = town.seq();
        town.call("agent.drain", json!({"agent": "a/witness", "wait_ms": 0}));
        gtd_tests::chaos_delay(Duration::from_millis(round * 4));
        town.kill_daemon();
        town.start();
        drained(&town, "a/witness");
        let since = town.events(seq);
        let told = since.iter().filter(|event| event["kind"] == "agent.drained").count();
        assert_eq!(told, 1, "round {round}: {since:#?}");
        // Told no second time by what comes after.
        town.call("daemon.heartbeat", json!({}));
        town.call("agent.undrain", json!({"agent": "a/witness", "wait_ms": 0}));
        if round % 2 == 1 {
            town.kill_daemon();
            town.start();
        }
        town.wait_new_instance("a/witness", &before);
    }
    town.assert_never_two();
}
