//! A pause that comes while something is being started or begun anew: it is delayed, and told so.

use std::path::PathBuf;

use gtd_tests::{CHANGE, Failure, Setup, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

const RIG: &str = "a";

fn town(setup: Setup) -> Town {
    let town = setup.rigs(&[RIG]).no_refineries().make();
    town.make_repo(RIG, 3);
    town.start();
    town.wait_all_running();
    town
}

fn work(town: &Town) -> String {
    town.call("work.create", json!({"title": "Fix it", "rig": RIG}))["id"].as_str().unwrap().to_owned()
}

fn hook(town: &Town, agent: &str) -> Value {
    town.call("hook.show", json!({"agent": agent}))["work"]["id"].clone()
}

fn spawn(town: &Town, name: &str, work: &str) -> std::thread::JoinHandle<Failure> {
    let mut client = town.client();
    let params = json!({"rig": RIG, "name": name, "work": work});
    std::thread::spawn(move || client.call("polecat.spawn", params).expect_err("it is only delayed"))
}

/// It is there, with its work, and runs once nothing is paused.
#[track_caller]
fn delayed(town: &Town, agent: &str, work: &str, told: Option<Failure>) {
    if let Some(told) = told {
        assert_eq!((told.code, &told.data["reached"]), (1013, &json!("paused")), "{told:?}");
        assert_eq!(
            (&told.data["hint"], &told.data["agent"]),
            (&json!("gtctl resume a"), &json!(agent)),
            "{told:?}"
        );
    }
    let shown = town.agent(agent);
    assert_eq!((&shown["intent"], &shown["pause"]["scope"]), (&json!("paused"), &json!(RIG)), "{shown:#}");
    assert!(std::path::Path::new(shown["worktree"].as_str().unwrap()).is_dir(), "{shown:#}");
    assert_eq!(hook(town, agent), work);
    let count = |kind: &str| {
        let events = town.events(0);
        events.iter().filter(|event| event["kind"] == kind && event["agent"] == agent).count()
    };
    assert_eq!((count("polecat.spawned"), count("polecat.spawn_failed")), (1, 0));
    town.call("town.resume", json!({}));
    town.wait_state(agent, "running");
    assert_eq!(hook(town, agent), work);
    assert_eq!(count("agent.starting"), 1, "started once");
    town.assert_never_two();
}

#[test]
fn a_pause_before_a_new_worker_is_started_only_delays_that_also_over_a_restart_of_the_daemon() {
    let name = "a_pause_before_a_new_worker_is_started_only_delays_that_also_over_a_restart_of_the_daemon";
    if !cfg!(debug_assertions) {
        return skipped(name, "the daemon was built without points");
    }
    let dir = tempfile::Builder::new().prefix("gt-points").tempdir().unwrap();
    let points: PathBuf = dir.path().to_owned();
    let town = town(Setup::new().env("GTD_TEST_POINTS", &points.display().to_string()));
    for killed in [false, true] {
        let (name, work) = (if killed { "rex" } else { "nux" }, work(&town));
        std::fs::write(points.join("start.before"), "hold").unwrap();
        let told = spawn(&town, name, &work);
        assert!(wait_until(CHANGE, || points.join("start.before.reached").exists()), "it is not reached");
        town.call("town.pause", json!({"rig": RIG, "reason": "hot"}));
        if killed {
            town.kill_daemon();
        }
        std::fs::write(points.join("start.before.go"), "").unwrap();
        let agent = format!("{RIG}/polecats/{name}");
        if killed {
            town.start();
            let _ = told.join();
            // The next daemon goes on with it, and nobody asks.
            town.wait_event(0, "polecat.spawned", &agent, CHANGE);
            delayed(&town, &agent, &work, None);
        } else {
            delayed(&town, &agent, &work, Some(told.join().unwrap()));
        }
        for file in ["start.before.reached", "start.before.go"] {
            std::fs::remove_file(points.join(file)).unwrap();
        }
    }
}

#[test]
fn a_pause_while_a_new_worker_comes_up_only_delays_that() {
    let slow =
        json!({"provider": "script", "command": "/bin/sleep", "args": ["1000"], "ready_after_ms": 3000});
    let town = town(Setup::new().command("slow", slow).role("polecat", "slow"));
    let work = work(&town);
    let told = spawn(&town, "nux", &work);
    let agent = format!("{RIG}/polecats/nux");
    wait_for(CHANGE, "it is being started", || {
        town.try_agent(&agent).filter(|agent| agent["state"] == "starting" && agent["running"] == true)
    });
    town.call("town.pause", json!({"rig": RIG}));
    delayed(&town, &agent, &work, Some(told.join().unwrap()));
}

#[test]
fn a_cycle_that_a_pause_overtakes_is_done_after_it_and_told_only_then() {
    let slow = r#"trap 'sleep 1; exit 0' TERM; echo ready; while :; do sleep 0.02; done"#;
    let slow = json!({"provider": "script", "command": "/bin/sh", "args": ["-c", slow]});
    let town = town(Setup::new().command("slow", slow).role("witness", "slow"));
    let who = "a/witness";
    let state = |number: usize| {
        let list = town.call("lifecycle.list", json!({}));
        let items = list["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), number, "{list:#}");
        items[0].clone()
    };
    for (number, killed) in [(1, false), (2, true)] {
        let before = town.agent(who)["instance"].as_str().unwrap().to_owned();
        town.call("lifecycle.request", json!({"agent": who, "action": "cycle", "wait_ms": 0}));
        wait_for(CHANGE, "it is being ended", || {
            (state(number)["state"] == "acting" && town.agent(who)["state"] == "stopping").then_some(())
        });
        town.call("town.pause", json!({"reason": "hot", "wait_ms": 0}));
        if killed {
            town.kill_daemon();
            town.start();
        }
        wait_for(CHANGE, "it is at rest, or stands still", || {
            let shown = town.agent(who);
            (shown["state"] == "stopped" || shown["pause"]["frozen"] == true).then_some(())
        });
        town.call("daemon.heartbeat", json!({}));
        let open = state(number);
        assert_eq!((&open["state"], &open["reason"]), (&json!("acting"), &Value::Null), "{open:#}");
        town.call("town.resume", json!({}));
        town.wait_new_instance(who, &before);
        wait_for(CHANGE, "it is told", || (state(number)["state"] != "acting").then_some(()));
        let done = state(number);
        assert_eq!((&done["state"], &done["reason"]), (&json!("done"), &Value::Null), "{done:#}");
    }
    town.assert_never_two();
}
