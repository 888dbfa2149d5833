//! The boot: a mechanical look at the deacon with its file, and an agent only where the look does not know what to do.

use gtd_proto::Timestamp;
use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

const FILE: &str = "deacon/dogs/boot/.boot-status.json";

fn file(town: &Town) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(town.path(FILE)).ok()?).ok()
}

fn beat(town: &Town) {
    town.replace("deacon/heartbeat.json", &json!({"timestamp": Timestamp::now(), "cycle": 1}).to_string());
}

fn step(town: &Town) -> Value {
    let report = town.call("daemon.heartbeat", json!({}));
    report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "boot").unwrap().clone()
}

fn rounds(town: &Town, more: u64) {
    let number = || town.call("daemon.status", json!({}))["heartbeat"]["number"].as_u64().unwrap();
    let before = number();
    wait_for(CHANGE, "some rounds", || (number() >= before + more).then_some(()));
}

#[test]
fn a_triage_looks_at_process_and_heartbeat_and_leaves_the_file_that_tools_read() {
    let town = Setup::new().deacon().toml("[deacon]\nstale = \"1s\"\nstuck = \"1h\"\ngrace = \"0s\"").make();
    town.start();
    town.wait_state("deacon", "running");
    beat(&town);
    let triage = town.call("boot.triage", json!({}));
    assert_eq!(
        (&triage["verdict"], &triage["actions"], &triage["degraded"]),
        (&json!("healthy"), &json!([]), &json!(false)),
        "{triage:#}"
    );
    let status = file(&town).unwrap();
    assert_eq!(
        (&status["running"], &status["last_action"]),
        (&json!(false), &json!("nothing")),
        "{status:#}"
    );
    for key in ["started_at", "completed_at"] {
        let at: Timestamp = status[key].as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(at).as_secs() < 60, "{status:#}");
    }
    assert!(status.get("error").is_none() && status.get("target").is_none(), "{status:#}");

    // Stale: a plan says so and does nothing, a triage asks, another one so soon asks nobody again.
    wait_for(CHANGE, "stale", || {
        let planned = town.call("boot.triage", json!({"dry_run": true}));
        (planned["verdict"] == "stale" && planned["actions"][0] == "ask the deacon whether it is there")
            .then_some(())
    });
    assert_eq!(file(&town).unwrap()["last_action"], "nothing");
    assert!(town.call("nudge.list", json!({"agent": "deacon"}))["items"].as_array().unwrap().is_empty());
    let shown = town.gtctl(&["boot", "triage"]).ok();
    assert!(shown.out.contains("deacon is stale") && shown.out.contains("asked the deacon"), "{shown:?}");
    let status = file(&town).unwrap();
    assert_eq!(
        (&status["last_action"], &status["target"]),
        (&json!("nudge"), &json!("deacon-stale")),
        "{status:#}"
    );
    let again = town.call("boot.triage", json!({}));
    assert_eq!(again["actions"], json!([]), "{again:#}");
    let shown = town.gtctl(&["boot", "status"]).ok();
    assert!(shown.out.contains("mechanical") && shown.out.contains("deacon/dogs/boot"), "{shown:?}");

    // Not to run, and down.
    town.call("deacon.stop", json!({"now": true}));
    assert_eq!(town.call("boot.triage", json!({}))["verdict"], "off");
    assert_eq!(step(&town)["outcome"], "skipped");
    assert_eq!(town.call("boot.status", json!({}))["last_status"]["last_action"], "nothing");
}

#[test]
fn a_deacon_that_does_not_come_up_is_told_of_and_a_torn_file_is_written_over() {
    let town = Setup::new()
        .deacon()
        .role("deacon", "broken")
        .command("broken", json!({"provider": "script", "command": "/nowhere/at-all"}))
        .make();
    std::fs::create_dir_all(town.path("deacon/dogs/boot")).unwrap();
    std::fs::write(town.path(FILE), "{\"runn").unwrap();
    town.start();
    town.wait_state("deacon", "quarantined");
    let step = step(&town);
    assert_eq!(step["outcome"], "ok", "{step:#}");
    assert!(step["actions"][0].as_str().unwrap().starts_with("deacon is down"), "{step:#}");
    let status = file(&town).unwrap();
    assert_eq!(
        (&status["last_action"], &status["target"]),
        (&json!("start"), &json!("deacon")),
        "{status:#}"
    );
    // A look by a person is one for its program as well.
    let triage = town.call("boot.triage", json!({}));
    assert_eq!(triage["verdict"], "down", "{triage:#}");
    std::fs::write(town.path(FILE), "").unwrap();
    let torn = town.call("boot.status", json!({}));
    assert_eq!((&torn["last_status"], &torn["error"]), (&Value::Null, &json!("is empty")), "{torn:#}");
    town.gtctl(&["boot", "status"]).ok();
}

#[test]
fn where_nobody_is_to_look_nobody_does() {
    let town = Setup::new().deacon().toml("[boot]\nmode = \"off\"").make();
    town.start();
    town.wait_state("deacon", "running");
    let step = step(&town);
    assert_eq!(
        (&step["outcome"], &step["error"]),
        (&json!("skipped"), &json!("[boot] mode is \"off\"")),
        "{step:#}"
    );
    assert!(!town.path(FILE).exists());
    assert_eq!(town.call("boot.status", json!({}))["mode"], "off");
}

/// A boot agent that does these steps, in a town whose deacon falls silent and is only told of.
fn puzzled(steps: &[&str]) -> Town {
    let town = Setup::new()
        .deacon()
        .agent("looker", steps)
        .role("boot", "looker")
        .toml("[daemon]\nheartbeat_interval = \"1s\"\n[boot]\nmode = \"agent\"\n[deacon]\nstale = \"1s\"\nstuck = \"2s\"\ngrace = \"0s\"\non_stale = \"alert\"")
        .make();
    town.start();
    town.wait_state("deacon", "running");
    town
}

#[test]
fn an_agent_looks_once_where_the_mechanical_look_is_at_a_loss_and_never_while_all_is_well() {
    let town = puzzled(&["after:300", "exit:0"]);
    for cycle in 0..12 {
        let text = json!({"timestamp": Timestamp::now(), "cycle": cycle}).to_string();
        town.replace("deacon/heartbeat.json", &text);
        assert_ne!(step(&town)["outcome"], "failed");
    }
    assert!(town.starts("boot").is_empty(), "nobody looks while all is well");
    let started = town.wait_event(0, "agent.starting", "boot", CHANGE);
    assert_eq!(started["data"]["reason"], "it was asked for", "{started:#}");
    town.wait_event(0, "agent.exited", "boot", CHANGE);
    // It ends, and is neither started again by policy nor by the next rounds.
    town.wait_state("boot", "stopped");
    rounds(&town, 5);
    assert_eq!(town.starts("boot").len(), 1);
    assert_eq!(town.agent("boot")["intent"], "stopped");
    let status = town.call("boot.status", json!({}));
    assert!(status["cooldown_until"].is_string() && status["running"] == false, "{status:#}");
    town.kill_daemon();
    town.start();
    rounds(&town, 4);
    assert_eq!(town.starts("boot").len(), 1, "another daemon knows when the last one looked");
}

#[test]
fn an_agent_that_takes_too_long_is_ended_by_the_one_way_to_stop() {
    let town = puzzled(&["idle"]);
    beat(&town);
    town.wait_state("boot", "running");
    assert_eq!(town.call("boot.status", json!({}))["session_alive"], true);
    town.stop_daemon();
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let text: String =
        conn.query_row("SELECT value FROM facts WHERE key = 'deacon'", [], |row| row.get(0)).unwrap();
    let mut kept: Value = serde_json::from_str(&text).unwrap();
    let at: Timestamp = kept["boot"]["started"].as_str().unwrap().parse().unwrap();
    kept["boot"]["started"] = json!(at - std::time::Duration::from_secs(301));
    conn.execute("UPDATE facts SET value = ?1 WHERE key = 'deacon'", [kept.to_string()]).unwrap();
    drop(conn);
    let seen = 0u64;
    town.start();
    let exited = town.wait_event(seen, "agent.exited", "boot", CHANGE);
    assert_eq!(
        (&exited["data"]["requested"], &exited["data"]["counts"]),
        (&json!(true), &json!(false)),
        "{exited:#}"
    );
    town.wait_state("boot", "stopped");
    let signals = town.call("agent.signals", json!({"agent": "boot"}));
    assert_eq!(signals["items"][0]["by"], "supervisor", "{signals:#}");
    rounds(&town, 3);
    assert_eq!(town.starts("boot").len(), 1);
}
