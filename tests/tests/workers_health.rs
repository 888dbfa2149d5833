//! Workers that get nowhere, and workers whose store of work does not answer.

use std::time::Duration;

use gtd_tests::bd::StandIn;
use gtd_tests::{CHANGE, Setup, Town, wait_until};
use serde_json::{Value, json};

const NUX: &str = "a/polecats/nux";

#[test]
fn one_that_gets_nowhere_is_told_of_once_and_released_when_it_moves() {
    let toml = "[polecat]\ngupp_after = \"1s\"\n[daemon]\nheartbeat_interval = \"1s\"";
    let town =
        Setup::new().rigs(&["a"]).no_refineries().toml(toml).script(&["print:thinking", "obey"]).make();
    town.make_workers("a", &["nux", "ace"]);
    town.start();
    for agent in [NUX, "a/polecats/ace"] {
        town.wait_agent(agent, CHANGE, "known", |_| true);
    }
    let work = town.make_work("a", "one");
    let agent = town.start_worker(NUX, &work);
    town.call("polecat.start", json!({"agent": "a/polecats/ace"}));
    let report = |state: &str, more: Value| {
        let mut params = json!({"instance": agent["instance"], "state": state});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        town.call("agent.report", params)
    };
    report("working", json!({}));
    let seq = town.seq();
    let stalled = town.wait_event(seq, "agent.stalled", NUX, CHANGE);
    let data = &stalled["data"];
    assert_eq!((&data["rig"], &data["agent"], &data["work"]), (&json!("a"), &json!(NUX), &json!(work)));
    assert_eq!(data["title"], "one", "{data:#}");
    assert!(data["idle_ms"].as_u64().unwrap() >= 1_000 && data["since"].is_string(), "{data:#}");
    assert!(data["pane_tail"].to_string().contains("thinking"), "{data:#}");
    assert!(town.agent(NUX)["reason"].as_str().unwrap().contains("no progress"), "{:#}", town.agent(NUX));
    let told = |since, agent: &str| {
        let events = town.events(since).into_iter();
        events.filter(|event| event["agent"] == agent && event["kind"] == "agent.stalled").count()
    };
    let stalls = |since| told(since, NUX);
    for _ in 0..3 {
        town.call("daemon.heartbeat", json!({}));
    }
    town.kill_daemon();
    town.start();
    town.wait_state(NUX, "running");
    let before = town.seq();
    town.wait_event(before, "heartbeat.completed", "", CHANGE);
    town.wait_event(town.seq(), "heartbeat.completed", "", CHANGE);
    assert_eq!(stalls(seq), 1, "once in a stall, over daemons");
    // The end of a turn is progress; its own word puts the next alert off.
    report("working", json!({}));
    let seq = town.seq();
    report("idle", json!({"next_due": "2100-01-01T00:00:00Z"}));
    let released = town.wait_event(seq, "agent.released", NUX, CHANGE);
    assert_eq!(released["data"]["from"], "stalled", "{released:#}");
    let later = wait_until(Duration::from_millis(2_500), || stalls(seq) > 0);
    assert!(!later, "it said when it is due");
    assert_eq!(told(0, "a/polecats/ace"), 0, "it has nothing to do");
}

// bd.

/// A town whose rig `proj` has a `.beads`, with a stand-in for `bd` in front of the daemon's `PATH`.
fn with_bd(version: &str, toml: &str) -> (Town, StandIn, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = StandIn::new(dir.path(), version);
    let town = Setup::new()
        .rigs(&["proj"])
        .no_refineries()
        .script(&["obey"])
        .env("PATH", &stand_in.path())
        .toml(toml)
        .make();
    std::fs::create_dir_all(town.path("proj/.beads")).unwrap();
    std::fs::create_dir_all(town.path(".beads")).unwrap();
    let route = json!({"prefix": "pj-", "path": "proj"});
    std::fs::write(town.path(".beads/routes.jsonl"), format!("{route}\n")).unwrap();
    let rig =
        json!({"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": "pj"}});
    town.replace("mayor/rigs.json", &json!({"version": 1, "rigs": {"proj": rig}}).to_string());
    town.make_workers("proj", &["obsidian"]);
    (town, stand_in, dir)
}

#[test]
fn while_bd_hangs_a_crash_is_followed_by_a_restart_and_a_clean_end_by_doubt() {
    let (town, stand_in, _dir) = with_bd("1.0.5", "[work]\ntimeout = \"400ms\"");
    town.start();
    let agent = "proj/polecats/obsidian";
    town.wait_agent(agent, CHANGE, "with its hook", |agent| agent["hook"] == "pj-8od");
    let started = town.call("polecat.start", json!({"agent": agent}));
    stand_in.does("1.0.5", json!({"mode": "hang"}));
    let began = std::time::Instant::now();
    town.process(agent).kill();
    let back = town.wait_new_instance(agent, started["instance"].as_str().unwrap());
    assert_eq!(back["hook"], "pj-8od", "{back:#}");
    // Nobody was asked: two reads of the store alone would take longer.
    assert!(began.elapsed() < Duration::from_millis(750), "{:?}", began.elapsed());
    // "It is done" needs an answer.
    let seq = town.seq();
    let file = town.journal_dir().join("exit-proj-polecats-obsidian");
    std::fs::write(&file, "0").unwrap();
    let exited = town.wait_event(seq, "agent.exited", agent, CHANGE);
    assert_eq!((&exited["data"]["cause"], &exited["data"]["counts"]), (&json!("clean"), &json!(true)));
    town.wait_new_instance(agent, back["instance"].as_str().unwrap());
    town.assert_never_two();
}

#[test]
fn a_worker_of_a_rig_that_was_added_just_now_stays_away_once_its_work_is_done() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["obey"]).make();
    town.start();
    town.make_repo("source", 3);
    let source = town.origin("source").display().to_string();
    town.call("rig.add", json!({"name": "late", "source": source}));
    let work = town.make_work("late", "one");
    let worker = town.call("polecat.spawn", json!({"rig": "late", "work": work}));
    let address = worker["agent"].as_str().unwrap().to_owned();
    town.call("work.close", json!({"id": work}));
    // One that is killed in the same moment may come back once; then it is known that nothing is left to do.
    for _ in 0..3 {
        let before = town.agent(&address)["instance"].clone();
        town.process(&address).kill();
        let now = town.wait_agent(&address, CHANGE, "stopped or back", |agent| {
            agent["state"] == "stopped" || (agent["running"] == true && agent["instance"] != before)
        });
        if now["state"] == "stopped" {
            return;
        }
    }
    panic!("it comes back again and again: {:#}", town.agent(&address));
}
