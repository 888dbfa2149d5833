//! Rigs that are parked, docked and removed by a person: through the socket, over deaths of the daemon, and beside
//! other programs that write the same files.

use std::fs;
use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for};
use serde_json::{Value, json};

fn wisp(town: &Town) -> Value {
    serde_json::from_slice(&fs::read(town.path(".beads-wisp/config/a.json")).unwrap()).unwrap()
}

fn rig(town: &Town) -> Value {
    town.call("rig.status", json!({"rig": "a"}))
}

fn stopped(town: &Town, agent: &str) {
    let agent = town.agent(agent);
    assert_eq!((&agent["state"], &agent["running"]), (&json!("stopped"), &json!(false)), "{agent:#}");
}

#[test]
fn a_park_ends_the_standing_agents_and_its_end_brings_back_what_was_to_run() {
    let town = Setup::new().rigs(&["a", "b"]).up();
    let others: Vec<_> = town.running().into_iter().filter(|(agent, ..)| agent.starts_with("b/")).collect();
    town.call("refinery.stop", json!({"rig": "a", "reason": "enough of it"}));
    let seq = town.seq();
    let witness = town.process("a/witness");
    let before = town.agent("a/witness");
    town.replace(".beads-wisp/config/a.json", r#"{"rig":"a","own":7,"values":{"x":1},"blocked":["y"]}"#);
    let parked = town.call("rig.park", json!({"rig": "a", "reason": "too noisy"}));
    // All of it is there when the answer is.
    assert!(!witness.alive());
    assert_eq!((&parked["operational"], &parked["reason"]), (&json!(false), &json!("parked")), "{parked:#}");
    assert_eq!(
        (&parked["parked"]["by"], &parked["parked"]["reason"]),
        (&json!("person"), &json!("too noisy")),
        "{parked:#}"
    );
    assert_eq!(parked["items"], json!([{"agent": "a/witness", "ok": true}]), "{parked:#}");
    assert!(parked["seq"].is_u64() && parked["already"].is_null());
    assert_eq!(
        wisp(&town),
        json!({"rig": "a", "own": 7, "values": {"x": 1, "status": "parked"}, "blocked": ["y"]})
    );
    stopped(&town, "a/witness");
    assert_eq!(town.agent("a/witness")["intent"], "running", "the intent is as it was");
    assert_eq!(town.agent("a/witness")["reason"], "rig parked");
    let event = town.wait_event(seq, "rig.parked", "", QUICK);
    assert_eq!((&event["rig"], &event["data"]["why"]), (&json!("a"), &json!("too noisy")), "{event:#}");
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(
        (&exits["items"][0]["cause"], &exits["items"][0]["counts"]),
        (&json!("requested"), &json!(false))
    );

    let signals = town.call("agent.signals", json!({"agent": "a/witness"}));
    assert_eq!(signals["items"][0]["by"], "person", "{signals:#}");

    let again = town.call("rig.park", json!({"rig": "a"}));
    assert_eq!(again["already"], true, "{again:#}");
    assert_eq!(again["parked"]["reason"], "too noisy", "the first word stands: {again:#}");
    town.call("daemon.heartbeat", json!({}));
    for (method, agent) in
        [("witness.start", "a/witness"), ("refinery.start", "a/refinery"), ("witness.restart", "a/witness")]
    {
        let error = town.call_fails(method, json!({"rig": "a"}));
        assert_eq!((error.code, error.kind.as_str()), (1005, "rig_not_operational"), "{error:?}");
        assert_eq!(
            (&error.data["reason"], &error.data["hint"]),
            (&json!("parked"), &json!("gtctl rig unpark a"))
        );
        stopped(&town, agent);
    }

    let freed = town.call("rig.unpark", json!({"rig": "a"}));
    assert_eq!(freed["operational"], true, "{freed:#}");
    assert_eq!(freed["items"], json!([{"agent": "a/witness", "ok": true}]), "{freed:#}");
    let now = town.agent("a/witness");
    assert_eq!(now["running"], true, "it is waited for: {now:#}");
    assert_ne!(now["instance"], before["instance"]);
    assert_eq!(wisp(&town), json!({"rig": "a", "own": 7, "values": {"x": 1}, "blocked": ["y"]}));
    let refinery = town.agent("a/refinery");
    assert_eq!((&refinery["state"], &refinery["intent_reason"]), (&json!("stopped"), &json!("enough of it")));
    assert_eq!(town.call("rig.unpark", json!({"rig": "a"}))["already"], true);
    town.wait_event(seq, "rig.unparked", "", QUICK);
    let kinds =
        town.events(seq).iter().filter(|event| event["kind"].as_str().unwrap().starts_with("rig.")).count();
    assert_eq!(kinds, 2, "nothing is told twice");
    assert_eq!(
        town.running().into_iter().filter(|(agent, ..)| agent.starts_with("b/")).collect::<Vec<_>>(),
        others
    );
    town.assert_never_two();
}

#[test]
fn docked_is_told_as_docked_and_an_unpark_does_not_undock() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let seq = town.seq();
    let docked = town.call("rig.dock", json!({"rig": "a", "reason": "retired"}));
    assert_eq!(
        (&docked["reason"], &docked["docked"]["reason"]),
        (&json!("docked"), &json!("retired")),
        "{docked:#}"
    );
    assert!(
        !town.path(".beads-wisp/config/a.json").exists(),
        "the dock is the rig's own, not this machine's"
    );
    town.wait_event(seq, "rig.docked", "", QUICK);
    stopped(&town, "a/witness");
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!(
        (&error.data["reason"], &error.data["hint"]),
        (&json!("docked"), &json!("gtctl rig undock a"))
    );

    town.call("rig.park", json!({"rig": "a"}));
    assert_eq!(rig(&town)["reason"], "parked");
    let freed = town.call("rig.unpark", json!({"rig": "a"}));
    assert_eq!((&freed["operational"], &freed["reason"]), (&json!(false), &json!("docked")), "{freed:#}");
    stopped(&town, "a/witness");
    town.stop_daemon();
    town.start();
    assert_eq!(rig(&town)["reason"], "docked", "also to the next daemon");
    stopped(&town, "a/witness");
    let free = town.call("rig.undock", json!({"rig": "a"}));
    assert_eq!(free["operational"], true, "{free:#}");
    town.wait_state("a/witness", "running");
    let told: Vec<Value> = town
        .events(seq)
        .iter()
        .map(|event| event["kind"].clone())
        .filter(|kind| kind.as_str().unwrap().starts_with("rig."))
        .collect();
    assert_eq!(told, ["rig.docked", "rig.parked", "rig.unparked", "rig.undocked"]);

    // What somebody docked in the file is not lost under a park, and is undone by the same word.
    town.replace(".beads-wisp/config/a.json", r#"{"values":{"Status":"Docked"}}"#);
    wait_for(CHANGE, "docked by the file", || {
        Some(rig(&town)).filter(|rig| rig["docked"]["by"] == "state file")
    });
    assert_eq!(town.agent("a/witness")["running"], true, "a file stops nothing");
    town.call("rig.park", json!({"rig": "a"}));
    town.call("rig.unpark", json!({"rig": "a"}));
    assert_eq!(rig(&town)["reason"], "docked");
    town.call("rig.undock", json!({"rig": "a"}));
    town.wait_state("a/witness", "running");
    town.replace(".beads-wisp/config/a.json", r#"{"values":{"status":"docked"}}"#);
    wait_for(CHANGE, "docked again", || Some(rig(&town)).filter(|rig| rig["reason"] == "docked"));
    assert_eq!(town.call("rig.undock", json!({"rig": "a"}))["operational"], true);
    assert_eq!(wisp(&town), json!({"values": {}}));
}

#[test]
fn a_rig_that_is_parked_while_its_witness_starts_has_no_witness() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .agent("slow", &["idle"])
        .command(
            "slow",
            json!({"provider": "script", "command": "/bin/sleep", "args": ["1000"], "ready_after_ms": 60000}),
        )
        .rig_witness("a", "slow")
        .make();
    town.start();
    town.wait_agent("a/witness", CHANGE, "alive and starting", |agent| {
        agent["state"] == "starting" && agent["running"] == true
    });
    let process = town.process("a/witness");
    let mut starter = town.client();
    let waiting = std::thread::spawn(move || starter.call("witness.start", json!({"rig": "a"})));
    let parked = town.call("rig.park", json!({"rig": "a"}));
    assert_eq!(parked["operational"], false);
    assert!(!process.alive());
    stopped(&town, "a/witness");
    if let Err(error) = waiting.join().unwrap() {
        assert_eq!((error.code, &error.data["reason"]), (1005, &json!("parked")), "{error:?}");
    }
    let seq = town.seq();
    town.call("daemon.heartbeat", json!({}));
    let started = town.events(seq).into_iter().find(|event| event["kind"] == "agent.starting");
    assert_eq!(started, None);
}

#[test]
fn a_park_holds_whenever_the_daemon_is_killed_around_it() {
    for delay in [0u64, 1, 2, 4, 8, 16, 40] {
        let town = Setup::new().rigs(&["a"]).no_refineries().up();
        let process = town.process("a/witness");
        let mut client = town.client();
        let asking =
            std::thread::spawn(move || client.call("rig.park", json!({"rig": "a", "reason": "r"})).is_ok());
        gtd_tests::chaos_delay(Duration::from_millis(delay));
        town.kill_daemon();
        let answered = asking.join().unwrap();
        let starts = town.starts("a/witness").len();
        town.start();
        let now = rig(&town);
        let parked = now["reason"] == "parked";
        assert!(parked || !answered, "what was answered is so: {now:#}");
        if parked {
            // Also where it was killed before it had ended anything or written the file.
            town.wait_agent("a/witness", CHANGE, "ended", |agent| {
                agent["state"] == "stopped" && agent["running"] == false
            });
            assert!(!process.alive());
            wait_for(QUICK, "the file says so", || {
                fs::read_to_string(town.path(".beads-wisp/config/a.json"))
                    .ok()
                    .filter(|text| text.contains("parked"))
            });
            town.call("daemon.heartbeat", json!({}));
            assert_eq!(town.starts("a/witness").len(), starts, "nothing was started");
            assert_eq!(town.call("rig.unpark", json!({"rig": "a"}))["operational"], true);
        }
        town.wait_state("a/witness", "running");
        town.assert_never_two();
    }
}

#[test]
fn older_tools_park_and_unpark_by_the_file_and_a_lost_file_unparks_nothing() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    town.call("rig.park", json!({"rig": "a"}));
    let file = town.path(".beads-wisp/config/a.json");
    fs::remove_file(&file).unwrap();
    let alert = wait_for(CHANGE, "an alert", || {
        town.alerts().into_iter().find(|alert| alert["key"] == "rig:a:state:missing")
    });
    assert_eq!(alert["hint"], "gtctl rig unpark a", "{alert:#}");
    assert_eq!(rig(&town)["reason"], "parked");
    town.kill_daemon();
    town.start();
    assert_eq!(rig(&town)["reason"], "parked", "the ledger remembers");
    // Torn: still parked, and said so.
    fs::write(&file, "{torn").unwrap();
    wait_for(CHANGE, "an alert", || town.alerts().into_iter().find(|alert| alert["key"] == "rig:a:state"));
    assert_eq!(rig(&town)["reason"], "parked");
    // A file without the word: somebody has taken it out.
    town.replace(".beads-wisp/config/a.json", r#"{"rig":"a","values":{},"blocked":[]}"#);
    town.wait_state("a/witness", "running");
    assert_eq!(rig(&town)["operational"], true);
    wait_for(CHANGE, "no alert", || town.alerts().is_empty().then_some(()));
    town.kill_daemon();
    town.start();
    town.wait_state("a/witness", "running");
    // Parked by the file, nothing stops; the same by request does.
    town.replace(".beads-wisp/config/a.json", r#"{"values":{"status":"PARK"}}"#);
    wait_for(CHANGE, "parked", || Some(rig(&town)).filter(|rig| rig["reason"] == "parked"));
    assert_eq!(rig(&town)["parked"]["by"], "state file");
    assert_eq!(town.agent("a/witness")["running"], true);
    let parked = town.call("rig.park", json!({"rig": "a"}));
    assert!(parked["already"].is_null() && parked["parked"]["by"] == "person", "{parked:#}");
    stopped(&town, "a/witness");
}

#[test]
fn a_park_whose_file_cannot_be_written_holds_all_the_same() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    // In place of the directory there is a file.
    fs::write(town.path(".beads-wisp"), "").unwrap();
    let parked = town.call("rig.park", json!({"rig": "a"}));
    assert_eq!(parked["reason"], "parked");
    stopped(&town, "a/witness");
    let alert =
        wait_for(QUICK, "an alert", || town.alerts().into_iter().find(|alert| alert["key"] == "rig:a:file"));
    assert!(alert["message"].as_str().unwrap().contains("a.json"), "{alert:#}");
    town.kill_daemon();
    town.start();
    assert_eq!(rig(&town)["reason"], "parked");
    fs::remove_file(town.path(".beads-wisp")).unwrap();
    wait_for(gtd_tests::START, "written after all", || fs::read(town.path(".beads-wisp/config/a.json")).ok());
    wait_for(CHANGE, "no alert", || town.alerts().is_empty().then_some(()));
    // A torn file is not written over, and what bars the rig then is that nobody can read it.
    fs::write(town.path(".beads-wisp/config/a.json"), "{torn").unwrap();
    wait_for(CHANGE, "an alert", || town.alerts().into_iter().find(|alert| alert["key"] == "rig:a:state"));
    let still = town.call("rig.unpark", json!({"rig": "a"}));
    assert_eq!(
        (&still["operational"], &still["reason"]),
        (&json!(false), &json!("state file unreadable")),
        "{still:#}"
    );
    assert_eq!(fs::read_to_string(town.path(".beads-wisp/config/a.json")).unwrap(), "{torn");
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!(error.data["reason"], "state file unreadable", "{error:?}");
    town.replace(".beads-wisp/config/a.json", r#"{"values":{"status":"parked"}}"#);
    town.wait_state("a/witness", "running");
    wait_for(CHANGE, "the word is taken out", || (wisp(&town) == json!({"values": {}})).then_some(()));
}

#[test]
fn a_plan_a_key_and_a_deadline_are_kept_to() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .script(&["ignore:TERM", "idle"])
        .toml("[stop]\ngrace = \"3s\"")
        .up();
    let before = town.running();
    let plan = town.call("rig.park", json!({"rig": "a", "dry_run": true}));
    let steps: Vec<&str> =
        plan["plan"].as_array().unwrap().iter().filter_map(|step| step["action"].as_str()).collect();
    assert_eq!((steps, &plan["dry_run"]), (vec!["park", "stop"], &json!(true)), "{plan:#}");
    assert_eq!((town.running(), &rig(&town)["operational"]), (before, &json!(true)));
    let late = town.call_fails("rig.park", json!({"rig": "a", "wait_ms": 50}));
    assert_eq!((late.code, &late.data["reached"]), (1013, &json!("stopping")), "{late:?}");
    assert_eq!(rig(&town)["reason"], "parked", "it goes on");
    town.wait_agent("a/witness", CHANGE, "ended", |agent| {
        agent["state"] == "stopped" && agent["running"] == false
    });
    let accepted = town.call("rig.unpark", json!({"rig": "a", "wait_ms": 0, "idempotency_key": "k"}));
    assert_eq!(accepted["accepted"], true, "{accepted:#}");
    town.wait_state("a/witness", "running");
    town.call("rig.park", json!({"rig": "a"}));
    let kept = town.call("rig.unpark", json!({"rig": "a", "idempotency_key": "k"}));
    assert_eq!(kept["accepted"], true, "the kept answer: {kept:#}");
    assert_eq!(rig(&town)["reason"], "parked", "and nothing was done again");
    assert_eq!(town.call_fails("rig.park", json!({"rig": "nope"})).code, 1001);
    assert_eq!(town.call_fails("rig.park", json!({"rig": "a", "extra": 1})).code, -32602);
}

#[test]
fn gtctl_says_who_parked_a_rig_since_when_and_how_to_undo_it() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let parked = town.gtctl(&["rig", "park", "a", "--reason", "too noisy"]).ok();
    assert_eq!(parked.out, "parked rig a\n  undo it with `gtctl rig unpark a`\n  stopped a/witness\n");
    let list = town.gtctl(&["rig", "list"]).ok();
    assert!(list.out.contains("by person: too noisy"), "{}", list.out);
    let card = town.gtctl(&["rig", "status", "a"]).ok();
    for words in ["rig a - parked", "by person", "too noisy", "gtctl rig unpark a"] {
        assert!(card.out.contains(words), "{words}: {}", card.out);
    }
    let refused = town.gtctl(&["witness", "start", "a"]);
    assert_eq!((refused.code, refused.err.contains("hint: gtctl rig unpark a")), (1, true), "{refused:?}");
    let explained = town.gtctl(&["explain", "a/witness"]).ok();
    assert!(
        explained.out.contains("parked, by person (too noisy); undo it with: gtctl rig unpark a"),
        "{}",
        explained.out
    );
    let freed = town.gtctl(&["rig", "unpark", "a"]).ok();
    assert!(freed.out.starts_with("unparked rig a: operational\n  started a/witness\n"), "{}", freed.out);
    let asks = town.gtctl(&["rig", "remove", "a"]);
    assert_eq!(asks.code, 2, "{asks:?}");
    let gone = town.gtctl(&["rig", "remove", "a", "--yes"]).ok();
    assert!(gone.out.contains("left as it is"), "{}", gone.out);
    assert_eq!(town.gtctl(&["rig", "status", "a"]).code, 4);
}
