//! What was left behind goes, however it has hidden, and nothing goes when it cannot be told.

use gtd_tests::people::{People, YOUNG, left_over, sweep_all};
use gtd_tests::{CHANGE, Process, QUICK, Setup, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn the_guilty_go_by_the_next_round_however_they_have_hidden() {
    let steps =
        ["fork:plain", "fork:group", "fork:setsid", "fork:double", "fork:bare", "fork:daemon", "idle"];
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &steps);
    assert_eq!(children.len(), 6);
    let mut people = People::new(&town);
    let claude = people.dir().join("claude").display().to_string();
    people.start("a bystander", "claude", town.base(), &[], &[&claude, "1000"]);
    assert!(children.iter().all(|child| child.alive()));
    town.start();
    let gone = wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{:#}", town.call("orphans.list", json!({})));
    let killed = town.wait_event(0, "sweep.killed", "a/witness", CHANGE);
    assert_eq!(killed["data"]["survivors"], json!([]), "{killed:#}");
    people.all_live("the sweep");
    people.never_signalled(&town);
    // Each signal is on record with its proof, and says who sent it.
    let signals = town.call("agent.signals", json!({"agent": "a/witness"}));
    for child in &children {
        let sent: Vec<&Value> =
            signals["items"].as_array().unwrap().iter().filter(|s| s["pid"] == child.pid).collect();
        assert!(!sent.is_empty(), "{child} {signals:#}");
        assert!(sent.iter().all(|signal| signal["evidence"]["proof"]["kind"].is_string()), "{sent:#?}");
        assert!(sent.iter().any(|signal| signal["by"].as_str().unwrap().contains("sweep")), "{sent:#?}");
    }
    let explained = town.call("agent.explain", json!({"agent": "a/witness"}));
    assert!(explained["decisions"].to_string().contains("left over"), "{:#}", explained["decisions"]);
    town.wait_state("a/witness", "running");
}

#[test]
fn a_fork_bomb_of_two_hundred_goes() {
    let bomb = json!({"provider": "script", "command": "/bin/sh", "args": ["-c",
        "trap '' TERM HUP; i=0; while [ $i -lt 200 ]; do sleep 5000 & i=$((i+1)); done; touch {J}/forked; wait; wait"]});
    let setup = Setup::new().toml(YOUNG).command("bomb", bomb).role("witness", "bomb");
    let town = setup.rigs(&["a"]).no_refineries().up();
    wait_for(CHANGE, "all forked", || town.journal_dir().join("forked").exists().then_some(()));
    town.call("daemon.heartbeat", json!({}));
    let agent = town.process("a/witness");
    let shim = Process::of(agent.parent().unwrap()).unwrap();
    let children: Vec<Process> = gtd_tests::procs::descendants(agent.pid);
    assert!(children.len() >= 200, "{}", children.len());
    town.kill_daemon();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    conn.execute("UPDATE instances SET ended = 1 WHERE agent = 'a/witness'", []).unwrap();
    drop(conn);
    assert!(children.iter().filter(|child| child.alive()).count() >= 200);
    town.start();
    let gone = wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone, "{} live", children.iter().filter(|child| child.alive()).count());
}

#[test]
fn what_is_taken_up_again_is_ended_before_the_next_begins() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(YOUNG)
        .script(&["fork:setsid", "fork:bare", "idle"])
        .up();
    town.call("daemon.heartbeat", json!({}));
    let before = town.agent("a/witness");
    let agent = town.process("a/witness");
    let shim = Process::of(agent.parent().unwrap()).unwrap();
    let children: Vec<Process> =
        gtd_tests::procs::descendants(shim.pid).into_iter().filter(|p| *p != agent).collect();
    town.kill_daemon();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive()));
    town.start();
    town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
    assert!(children.iter().all(|child| !child.alive()), "what an earlier daemon saw is remembered");
    town.assert_never_two();
}

#[test]
fn where_only_reports_are_wanted_a_person_decides() {
    let setup = Setup::new().toml("[sweep]\nmin_age = \"1s\"\nmode = \"report\"");
    let (town, children, _) = left_over(setup, &["fork:group", "fork:setsid", "idle"]);
    town.start();
    let reported = town.wait_event(0, "sweep.reported", "", CHANGE);
    assert_eq!(reported["data"]["count"], 2, "{reported:#}");
    town.call("daemon.heartbeat", json!({}));
    assert!(children.iter().all(|child| child.alive()));
    let list = town.call("orphans.list", json!({}));
    let owned: Vec<&Value> =
        list["items"].as_array().unwrap().iter().filter(|item| item["owned"] == true).collect();
    assert_eq!(owned.len(), 2, "{list:#}");
    for item in &owned {
        assert_eq!((&item["verdict"], &item["agent"]), (&json!("orphan"), &json!("a/witness")));
        assert!(
            item["evidence"]["proof"]["kind"].is_string() && item["age_ms"].as_u64().is_some(),
            "{item:#}"
        );
    }
    let planned = town.gtctl(&["orphans", "sweep", "--dry-run"]).ok();
    assert!(planned.out.contains("would be ended"), "{planned:?}");
    // Beyond what is safe: not without a yes.
    let fixed = town.gtctl(&["doctor", "--fix", "orphan-processes", "--json"]).ok().json()["result"].clone();
    assert_eq!(
        (&fixed["applied"], &fixed["plan"][0]["class"]),
        (&json!([]), &json!("disruptive")),
        "{fixed:#}"
    );
    assert!(children.iter().all(|child| child.alive()));
    let fixed =
        town.gtctl(&["doctor", "--fix", "--yes", "orphan-processes", "--json"]).ok().json()["result"].clone();
    assert_eq!(fixed["applied"][0]["ok"], true, "{fixed:#}");
    assert_eq!(fixed["checks"][0]["status"], "ok", "the second look is the result: {fixed:#}");
    assert!(children.iter().all(|child| !child.alive()));
    let event = town.wait_event(0, "doctor.fixed", "", CHANGE);
    assert_eq!(event["data"]["check"], "orphan-processes");
}

#[test]
fn what_is_younger_than_the_least_age_is_left_to_itself() {
    let setup = Setup::new().toml("[sweep]\nmin_age = \"10h\"");
    let (town, children, _) = left_over(setup, &["fork:group", "idle"]);
    town.start();
    town.call("daemon.heartbeat", json!({}));
    town.call("daemon.heartbeat", json!({}));
    assert!(children.iter().all(|child| child.alive()));
    // A person who asks does not wait.
    let swept = town.call("orphans.sweep", json!({"kinds": ["process"]}));
    assert_eq!(swept["items"][0]["ok"], true, "{swept:#}");
    assert!(children.iter().all(|child| !child.alive()));
}

#[test]
fn while_tmux_cannot_be_asked_nothing_is_swept() {
    let setup = Setup::new().toml(&format!("{YOUNG}\n[tmux]\ncommand_timeout = \"300ms\""));
    let (town, children, _) = left_over(setup, &["fork:group", "idle"]);
    let server = town.tmux().server();
    server.signal(Signal::STOP);
    town.start();
    let report = town.call("daemon.heartbeat", json!({}));
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "orphan_sweep").unwrap();
    assert_eq!(step["outcome"], "failed", "{step:#}");
    town.call_fails("orphans.list", json!({}));
    town.call_fails("orphans.sweep", json!({}));
    let looked =
        town.call("doctor.run", json!({"checks": ["orphan-processes", "orphan-sessions"], "fix": true}));
    for check in looked["checks"].as_array().unwrap() {
        assert_eq!(check["status"], "unknown", "{check:#}");
    }
    assert_eq!(town.gtctl(&["doctor", "orphan-processes"]).code, 5);
    assert!(children.iter().all(|child| child.alive()));
    server.signal(Signal::CONT);
    let gone = wait_until(CHANGE, || {
        let _ = town.try_call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone);
}

#[test]
fn a_copy_of_a_town_sweeps_nothing_of_its_original() {
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &["fork:group", "fork:setsid", "idle"]);
    // The copy's ledger has all of it on record.
    let copy = Setup::new().rigs(&["a"]).no_refineries().toml(YOUNG).make();
    for file in ["gtd.db", "town-id"] {
        std::fs::create_dir_all(copy.path("daemon")).unwrap();
        for end in ["", "-wal"] {
            let name = format!("daemon/{file}{end}");
            if town.path(&name).exists() {
                std::fs::copy(town.path(&name), copy.path(&name)).unwrap();
            }
        }
    }
    copy.start();
    copy.call("town.start", json!({}));
    sweep_all(&copy);
    assert!(children.iter().all(|child| child.alive()), "they are another town's");
    let signals = copy.call("agent.signals", json!({}));
    assert!(signals["items"].as_array().unwrap().iter().all(|s| children.iter().all(|c| s["pid"] != c.pid)));
    town.start();
    assert!(wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    }));
}
