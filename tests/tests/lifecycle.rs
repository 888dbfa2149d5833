//! Lifecycle requests: agents and people ask, by socket and by mail, and each is done once.

use gtd_tests::hand::hand;
use gtd_tests::{CHANGE, Setup, Town, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

fn setup() -> Setup {
    Setup::new().rigs(&["alpha", "beta"]).no_refineries().command("hand", hand()).role("witness", "hand")
}

fn instance(town: &Town, agent: &str) -> String {
    town.agent(agent)["instance"].as_str().unwrap_or_default().to_owned()
}

fn requests(town: &Town) -> Vec<Value> {
    town.call("lifecycle.list", json!({}))["items"].as_array().cloned().unwrap()
}

/// Waits until no request is open, and the mails of all were put aside.
fn all_done(town: &Town, count: usize) -> Vec<Value> {
    wait_for(CHANGE, "all requests are done with", || {
        let all = requests(town);
        let open = |item: &Value| item["state"] == "accepted" || item["state"] == "acting";
        let inbox = town.call("mail.inbox", json!({"for": "deacon"}));
        (all.len() == count && !all.iter().any(open) && inbox["items"] == json!([])).then_some(all)
    })
}

fn kinds(town: &Town, since: u64, prefix: &str) -> Vec<String> {
    let events = town.events(since);
    let kinds = events.iter().filter_map(|event| event["kind"].as_str());
    kinds.filter(|kind| kind.starts_with(prefix)).map(str::to_owned).collect()
}

/// Instances of an agent that were begun.
fn starts(town: &Town, agent: &str) -> usize {
    let begun = |event: &&Value| event["kind"] == "agent.starting" && event["agent"] == agent;
    town.events(0).iter().filter(begun).count()
}

fn bodies(town: &Town, whose: &str) -> Vec<String> {
    let inbox = town.call("mail.inbox", json!({"for": whose}));
    let all = inbox["items"].as_array().unwrap();
    all.iter().map(|mail| mail["body"].as_str().unwrap().to_owned()).collect()
}

/// Puts a mail into the deacon's box behind the daemon's back.
fn slipped(town: &Town, number: i64, from: &str, subject: &str, body: &str, at: &str) {
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let sql = "INSERT INTO mail (number, id, sender, recipient, subject, body, at)
               VALUES (?1, 'm-' || ?1, ?2, 'deacon', ?3, ?4, ?5)";
    ledger.execute(sql, rusqlite::params![number, from, subject, body, at]).unwrap();
}

#[test]
fn an_agent_that_asks_for_itself_hears_the_answer_before_its_end() {
    let town = setup().up();
    let before = instance(&town, "alpha/witness");
    let seq = town.seq();
    town.inside_begun("alpha/witness", &format!("{} lifecycle request cycle --reason full", town.ctl()));
    let after = town.wait_new_instance("alpha/witness", &before);
    let said = town.inside_said("alpha/witness");
    assert!(said.contains("cycle of alpha/witness is accepted (l-1)"), "{said}");
    assert_eq!(after["intent_reason"], "full", "{after:#}");
    let all = all_done(&town, 1);
    assert_eq!((&all[0]["state"], &all[0]["from"]), (&json!("done"), &json!("alpha/witness")), "{all:#?}");
    assert_eq!(kinds(&town, seq, "lifecycle."), ["lifecycle.requested", "lifecycle.done"]);
    let told = town.wait_event(seq, "lifecycle.requested", "alpha/witness", CHANGE);
    assert!(told["peer"].as_str().unwrap().starts_with("pid "), "{told:#}");
    assert_eq!(starts(&town, "alpha/witness"), 2);
    // A shutdown is not undone by the next step, nor by another daemon.
    town.inside_begun("alpha/witness", &format!("{} lifecycle request shutdown", town.ctl()));
    let stopped = town.wait_state("alpha/witness", "stopped");
    assert!(town.inside_said("alpha/witness").contains("accepted (l-2)"));
    assert_eq!(stopped["intent_by"], "alpha/witness");
    all_done(&town, 2);
    town.call("daemon.heartbeat", json!({}));
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("alpha/witness")["state"], "stopped");
    assert_eq!(starts(&town, "alpha/witness"), 2);
    assert_eq!(starts(&town, "beta/witness"), 1, "nobody else was touched");
}

#[test]
fn a_person_asks_and_hears_the_outcome() {
    let town = setup().up();
    let before = instance(&town, "alpha/witness");
    let plan =
        town.call("lifecycle.request", json!({"agent": "alpha/witness", "action": "cycle", "dry_run": true}));
    assert_eq!((&plan["dry_run"], &plan["plan"][0]["action"]), (&json!(true), &json!("stop")), "{plan:#}");
    assert_eq!(requests(&town), Vec::<Value>::new());
    assert_eq!(instance(&town, "alpha/witness"), before);
    let asked = json!({"agent": "alpha/witness", "action": "restart", "idempotency_key": "k"});
    let done = town.call("lifecycle.request", asked.clone());
    assert_eq!((&done["state"], &done["id"]), (&json!("done"), &json!("l-1")), "{done:#}");
    let second = instance(&town, "alpha/witness");
    assert_ne!(second, before);
    let again = town.call("lifecycle.request", asked);
    assert_eq!((&again["already"], &again["id"]), (&json!(true), &json!("l-1")), "{again:#}");
    let other = json!({"agent": "alpha/witness", "action": "cycle", "idempotency_key": "k"});
    assert_eq!(town.call_fails("lifecycle.request", other).code, -32602);
    assert_eq!(instance(&town, "alpha/witness"), second);
    let said = town.gtctl(&["lifecycle", "request", "alpha/witness", "shutdown"]).ok().out;
    assert_eq!(said, "shutdown of alpha/witness: done (l-2)\n");
    assert_eq!(town.agent("alpha/witness")["state"], "stopped");
    let list = town.gtctl(&["lifecycle", "list"]).ok().out;
    assert!(list.contains("l-2") && list.contains("shutdown") && list.contains("person"), "{list}");
    // Of one that is stopped a cycle is a start.
    let said = town.gtctl(&["lifecycle", "request", "alpha/witness", "cycle"]).ok().out;
    assert_eq!(said, "cycle of alpha/witness: done (l-3)\n");
    assert_eq!(town.agent("alpha/witness")["state"], "running");
}

#[test]
fn what_may_not_be_is_refused_before_anything_is_touched() {
    let town = setup().make();
    std::fs::create_dir_all(town.path("alpha/crew/max")).unwrap();
    town.start();
    town.wait_all_running();
    town.call("rig.park", json!({"rig": "beta"}));
    let (alpha, seq) = (instance(&town, "alpha/witness"), town.seq());
    for (params, code) in [
        (json!({"agent": "alpha/witness", "action": "explode"}), -32602),
        (json!({"agent": "alpha/witness"}), -32602),
        (json!({"action": "cycle"}), -32602),
        (json!({"agent": "alpha/polecats/none", "action": "cycle"}), 1002),
        (json!({"agent": "gamma/witness", "action": "cycle"}), 1001),
        (json!({"agent": "alpha/crew/max", "action": "shutdown"}), 1010),
        (json!({"agent": "beta/witness", "action": "cycle"}), 1005),
    ] {
        let error = town.call_fails("lifecycle.request", params.clone());
        assert_eq!(error.code, code, "{params}: {error:?}");
    }
    assert_eq!(town.gtctl(&["lifecycle", "request", "cycle"]).code, 2, "of whom?");
    // One agent may not for another.
    let ctl = town.ctl();
    let refused =
        town.inside("alpha/witness", &format!("{ctl} --json lifecycle request beta/witness shutdown"));
    assert_eq!(refused.code, 77, "{refused:?}");
    assert_eq!(kinds(&town, seq, "lifecycle."), Vec::<String>::new());
    assert_eq!((instance(&town, "alpha/witness"), requests(&town)), (alpha, Vec::new()));
}

#[test]
fn mail_to_the_deacon_is_done_and_answered() {
    let town = setup().up();
    let before = instance(&town, "alpha/witness");
    let send = format!(
        "{} mail send deacon/ 'LIFECYCLE: alpha/witness requesting cycle' '{{\"action\":\"cycle\"}}'",
        town.ctl()
    );
    town.inside_begun("alpha/witness", &send);
    town.wait_new_instance("alpha/witness", &before);
    let all = all_done(&town, 1);
    assert_eq!((&all[0]["state"], &all[0]["mail"]), (&json!("done"), &json!("m-1")), "{all:#?}");
    assert_eq!(bodies(&town, "alpha/witness"), ["cycle of alpha/witness: done."]);
    // A person names whom it is about, and may write one word.
    town.call("mail.send", json!({"to": "deacon", "subject": "lifecycle: beta-witness", "body": "Shutdown"}));
    town.wait_state("beta/witness", "stopped");
    all_done(&town, 2);
    assert_eq!(bodies(&town, "overseer"), ["shutdown of beta/witness: done."]);
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("beta/witness")["state"], "stopped");
    // Other mail of the deacon's is its own, and so is an answer.
    town.call(
        "mail.send",
        json!({"to": "deacon", "subject": "Re: LIFECYCLE: alpha/witness", "body": "cycle"}),
    );
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.call("mail.inbox", json!({"for": "deacon"}))["unread"], 1);
    assert_eq!((requests(&town).len(), starts(&town, "alpha/witness")), (2, 2));
}

#[test]
fn mail_that_cannot_be_done_is_answered_with_the_reason() {
    let town = setup().make();
    std::fs::create_dir_all(town.path("alpha/crew/max")).unwrap();
    town.start();
    town.wait_all_running();
    let before = [instance(&town, "alpha/witness"), instance(&town, "beta/witness")];
    town.call("rig.park", json!({"rig": "beta"}));
    town.wait_state("beta/witness", "stopped");
    let cases = [
        ("LIFECYCLE: alpha/witness", "please\nstop {", "no action"),
        ("LIFECYCLE: alpha/witness", "{\"action\":\"explode\"}", "explode"),
        ("LIFECYCLE: alpha/witness", "", "names no action"),
        ("LIFECYCLE: requesting cycle", "cycle", "about whom"),
        ("LIFECYCLE: gamma/witness", "cycle", "gamma/witness"),
        ("LIFECYCLE: alpha/nobody", "cycle", "alpha/nobody"),
        ("LIFECYCLE: alpha/witness and beta/witness", "cycle", "several"),
        ("LIFECYCLE: alpha/crew/max", "shutdown", "belongs to a person"),
        ("LIFECYCLE: beta/witness", "cycle", "parked"),
    ];
    for (subject, body, _) in &cases {
        town.call("mail.send", json!({"to": "deacon/", "subject": subject, "body": body}));
    }
    // Not for itself, and not its own.
    let send =
        format!("{} mail send deacon 'LIFECYCLE: beta/witness requesting shutdown' shutdown", town.ctl());
    town.inside("alpha/witness", &send).ok();
    let all = all_done(&town, cases.len() + 1);
    assert!(all.iter().all(|item| item["state"] == "refused"), "{all:#?}");
    let said = wait_for(CHANGE, "the answers", || {
        Some(bodies(&town, "overseer")).filter(|all| all.len() == cases.len())
    });
    for (subject, body, word) in cases {
        assert!(said.iter().any(|said| said.contains(word)), "{subject} {body}: {said:#?}");
    }
    assert!(said.iter().all(|said| said.contains("nothing was done")), "{said:#?}");
    let refused = bodies(&town, "alpha/witness");
    assert!(refused[0].contains("may not call lifecycle.request for beta/witness"), "{refused:?}");
    assert_eq!(instance(&town, "alpha/witness"), before[0]);
    assert_eq!(starts(&town, "beta/witness"), 1);
}

#[test]
fn what_is_six_hours_old_is_dropped_with_a_note() {
    let town = setup().up();
    let before = instance(&town, "alpha/witness");
    town.stop_daemon();
    slipped(&town, 1, "alpha/witness", "LIFECYCLE:", "shutdown", "2026-01-01T00:00:00.000000000Z");
    // From one that nobody knows, and of the future.
    slipped(&town, 2, "gamma/witness", "LIFECYCLE:", "shutdown", "2026-01-01T00:00:00.000000000Z");
    town.start();
    let all = all_done(&town, 2);
    assert!(all.iter().all(|item| item["state"] == "refused"), "{all:#?}");
    assert!(bodies(&town, "alpha/witness")[0].contains("older than 6 hours"));
    assert_eq!(instance(&town, "alpha/witness"), before);
}

#[test]
fn a_signal_has_them_looked_for_at_once_and_a_heartbeat_does_as_well() {
    let town = setup().toml("[daemon]\nheartbeat_interval = \"1h\"").up();
    let before = instance(&town, "alpha/witness");
    let now = gtd_proto::Timestamp::now();
    // Nobody is told of it, as of a mail in another program's store.
    slipped(&town, 1, "overseer", "LIFECYCLE: alpha/witness", "cycle", &format!("{now:.9}"));
    town.daemon().unwrap().signal(Signal::USR1);
    let second = town.wait_new_instance("alpha/witness", &before);
    all_done(&town, 1);
    let later = now.checked_add(std::time::Duration::from_secs(3_600)).unwrap();
    slipped(&town, 50, "overseer", "LIFECYCLE: alpha/witness", "cycle", &format!("{later:.9}"));
    let report = town.call("daemon.heartbeat", json!({}));
    let step = report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "lifecycle").unwrap();
    assert_eq!(step["outcome"], "ok", "{step:#}");
    assert!(step["actions"][0].as_str().unwrap().contains("cycle of alpha/witness"), "{step:#}");
    town.wait_new_instance("alpha/witness", second["instance"].as_str().unwrap());
    all_done(&town, 2);
    let quiet = town.call("daemon.heartbeat", json!({}));
    let step = quiet["steps"].as_array().unwrap().iter().find(|step| step["name"] == "lifecycle").unwrap();
    assert_eq!((&step["outcome"], &step["actions"]), (&json!("ok"), &json!([])), "{step:#}");
}

/// Where a daemon is killed on its way from a mail to its answer.
const POINTS: [&str; 6] = ["intake", "claimed", "acting", "effect", "outcome", "answered"];

fn killed_at(point: &str, action: &str) {
    let town = setup().make();
    let drill = town.base().join("drill");
    let town = town.with_env("GTD_DRILL", drill.to_str().unwrap());
    town.start();
    town.wait_all_running();
    let before = instance(&town, "alpha/witness");
    std::fs::write(&drill, format!("lifecycle.{point}")).unwrap();
    let params = json!({"to": "deacon", "subject": "LIFECYCLE: alpha/witness", "body": action});
    let _ = town.try_call("mail.send", params);
    town.wait_daemon(gtd_tests::START);
    assert!(!drill.exists(), "{point} was not reached");
    town.start();
    let all = all_done(&town, 1);
    assert_eq!(all[0]["state"], "done", "{point} {action}: {all:#?}");
    let agent = town.agent("alpha/witness");
    match action {
        "shutdown" => assert_eq!((&agent["state"], starts(&town, "alpha/witness")), (&json!("stopped"), 1)),
        _ => {
            town.wait_new_instance("alpha/witness", &before);
            assert_eq!(starts(&town, "alpha/witness"), 2, "{point}: done once");
        }
    }
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(kinds(&town, 0, "lifecycle."), ["lifecycle.requested", "lifecycle.done"], "{point}");
    assert_eq!(bodies(&town, "overseer").len(), 1, "{point}: answered once");
    town.call("lifecycle.request", json!({"agent": "alpha/witness", "action": "shutdown"}));
}

#[test]
fn a_daemon_that_is_killed_at_any_step_of_a_cycle_neither_loses_nor_repeats_it() {
    for point in POINTS {
        killed_at(point, "cycle");
    }
}

#[test]
fn a_daemon_that_is_killed_at_any_step_of_a_shutdown_neither_loses_nor_repeats_it() {
    for point in POINTS {
        killed_at(point, "shutdown");
    }
}

#[test]
fn an_end_that_a_killed_daemon_took_along_is_asked_for_again() {
    // Its end takes so long that the daemon is killed in the middle of it.
    let slow = r#"trap 'sleep 2; exit 0' TERM; echo ready; while :; do sleep 0.02; done"#;
    let slow = json!({"provider": "script", "command": "/bin/sh", "args": ["-c", slow]});
    let town =
        Setup::new().rigs(&["alpha"]).no_refineries().command("slow", slow).role("witness", "slow").up();
    let before = instance(&town, "alpha/witness");
    let asked = json!({"agent": "alpha/witness", "action": "cycle", "wait_ms": 0});
    town.call("lifecycle.request", asked);
    wait_for(CHANGE, "it is being done", || {
        (requests(&town)[0]["state"] == "acting" && town.agent("alpha/witness")["state"] == "stopping")
            .then_some(())
    });
    town.kill_daemon();
    town.start();
    town.wait_new_instance("alpha/witness", &before);
    let all = all_done(&town, 1);
    assert_eq!(all[0]["state"], "done", "{all:#?}");
    assert_eq!(starts(&town, "alpha/witness"), 2);
}
