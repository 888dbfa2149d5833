//! Mails of other tools about workers that they started.

use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

fn step(town: &Town) -> Value {
    let report = town.call("daemon.heartbeat", json!({}));
    report["steps"].as_array().unwrap().iter().find(|step| step["name"] == "pending_spawns").unwrap().clone()
}

fn started(town: &Town, name: &str) {
    let body = "Session: gt-alpha-nux\nIssue: al-1";
    town.call(
        "mail.send",
        json!({"to": "deacon/", "subject": format!("POLECAT_STARTED {name}"), "body": body}),
    );
}

fn left(town: &Town) -> usize {
    town.call("mail.inbox", json!({"for": "deacon"}))["items"].as_array().unwrap().len()
}

fn begins(town: &Town) -> Vec<Value> {
    let all = town.call("nudge.list", json!({"all": true}));
    let all = all["items"].as_array().unwrap().iter();
    all.filter(|nudge| nudge["text"] == "Begin.").cloned().collect()
}

fn up() -> Town {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    town.make_workers("alpha", &["nux"]);
    let work = town.make_work("alpha", "Fix it");
    town.start_worker("alpha/polecats/nux", &work);
    town.wait_state("alpha/polecats/nux", "running");
    town
}

#[test]
fn a_worker_that_is_ready_is_told_once_to_begin_and_the_mail_put_aside() {
    let town = up();
    started(&town, "alpha/nux");
    let done = step(&town);
    assert_eq!(done["outcome"], "ok", "{done:#}");
    assert!(done["actions"][0].as_str().unwrap().contains("alpha/polecats/nux is told to begin"), "{done:#}");
    let told = begins(&town);
    assert_eq!((told.len(), &told[0]["agent"]), (1, &json!("alpha/polecats/nux")), "{told:#?}");
    assert_eq!(told[0]["instance"], town.agent("alpha/polecats/nux")["instance"]);
    assert_eq!(left(&town), 0);
    assert_eq!(step(&town)["actions"], json!([]));
    assert_eq!(begins(&town).len(), 1);
}

#[test]
fn one_that_has_begun_by_itself_is_left_alone() {
    let town = up();
    let instance = town.agent("alpha/polecats/nux")["instance"].clone();
    for state in ["working", "idle"] {
        town.call("agent.report", json!({"instance": instance, "state": state}));
    }
    started(&town, "alpha/polecats/nux");
    let done = step(&town);
    assert!(done["actions"][0].as_str().unwrap().contains("begun by itself"), "{done:#}");
    assert_eq!((begins(&town).len(), left(&town)), (0, 0));
}

#[test]
fn one_that_does_not_run_or_is_not_there_is_no_reason_to_keep_a_mail() {
    let town = up();
    town.call("polecat.stop", json!({"agent": "alpha/polecats/nux", "now": true}));
    for name in ["alpha/nux", "alpha/nobody", "gamma/nux", "../x"] {
        started(&town, name);
    }
    let done = step(&town);
    assert_eq!(done["actions"].as_array().unwrap().len(), 4, "{done:#}");
    assert_eq!((begins(&town).len(), left(&town)), (0, 0));
    // Older than five minutes.
    town.call("polecat.start", json!({"agent": "alpha/polecats/nux"}));
    town.stop_daemon();
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let sql = "INSERT INTO mail (number, id, sender, recipient, subject, body, at) VALUES
               (90, 'm-90', 'overseer', 'deacon', 'POLECAT_STARTED alpha/nux', '', '2026-01-01T00:00:00.000000000Z')";
    ledger.execute(sql, []).unwrap();
    drop(ledger);
    town.start();
    wait_for(CHANGE, "it was put aside", || {
        step(&town);
        (left(&town) == 0).then_some(())
    });
    assert_eq!(begins(&town).len(), 0);
}

#[test]
fn a_daemon_that_is_killed_in_between_tells_it_once() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().make();
    let drill = town.base().join("drill");
    let town = town.with_env("GTD_DRILL", drill.to_str().unwrap());
    town.make_workers("alpha", &["nux"]);
    town.start();
    let work = town.make_work("alpha", "Fix it");
    town.start_worker("alpha/polecats/nux", &work);
    std::fs::write(&drill, "pending.told").unwrap();
    started(&town, "alpha/nux");
    let _ = town.try_call("daemon.heartbeat", json!({}));
    town.wait_daemon(gtd_tests::START);
    town.start();
    wait_for(CHANGE, "it was put aside", || {
        step(&town);
        (left(&town) == 0).then_some(())
    });
    assert_eq!(begins(&town).len(), 1);
}
