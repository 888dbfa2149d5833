//! Mail where the work is kept with `bd`: its boxes are there, and the daemon's own mail gets there once, however long
//! that takes.

use gtd_tests::hand::hand;
use gtd_tests::mail_bd::MailBd;
use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

fn town() -> (Town, MailBd) {
    let setup = Setup::new().rigs(&["alpha", "beta"]).no_refineries();
    let setup = setup.command("hand", hand()).role("witness", "hand");
    let town = setup.make();
    for dir in ["", "alpha", "beta"] {
        std::fs::create_dir_all(town.path(dir).join(".beads")).unwrap();
    }
    let bd = MailBd::new(town.base());
    let path = bd.path();
    (town.with_env("PATH", &path), bd)
}

fn restart_failed(town: &Town) {
    assert!(town.daemon().is_none());
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let data =
        json!({"agent": "alpha/polecats/nux", "work": "al-1", "title": "Fix \"it\"", "error": "no worktree"});
    let sql = "INSERT INTO events (at, kind, agent, rig, data) VALUES
               ('2026-03-01T12:00:00.000000000Z', 'polecat.restart_failed', 'alpha/polecats/nux', 'alpha', ?1)";
    ledger.execute(sql, [data.to_string()]).unwrap();
}

fn crashes(bd: &MailBd) -> Vec<Value> {
    let all = bd.messages().into_iter();
    all.filter(|mail| mail["title"].as_str().unwrap().starts_with("CRASHED_POLECAT")).collect()
}

#[test]
fn the_daemons_own_mail_waits_for_its_store_and_gets_there_once() {
    let (town, bd) = town();
    let drill = town.base().join("drill");
    let town = town.with_env("GTD_DRILL", drill.to_str().unwrap());
    town.start();
    town.wait_all_running();
    town.kill_daemon();
    restart_failed(&town);
    bd.works(false);
    town.start();
    let alert = wait_for(CHANGE, "people are told", || {
        town.alerts().into_iter().find(|one| one["key"] == "mail:store")
    });
    assert!(alert["message"].as_str().unwrap().contains("does not work today"), "{alert:#}");
    // Neither the store nor the daemon is there for a while.
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "it is told again", || town.alerts().into_iter().find(|one| one["key"] == "mail:store"));
    // The next one puts it there, and is killed before it can say so.
    std::fs::write(&drill, "mail.posted").unwrap();
    bd.works(true);
    town.wait_daemon(gtd_tests::START);
    assert_eq!(crashes(&bd).len(), 1);
    town.start();
    town.call("daemon.heartbeat", json!({}));
    let there = crashes(&bd);
    assert_eq!(there.len(), 1, "{there:#?}");
    assert_eq!(there[0]["assignee"], "alpha/witness", "{there:#?}");
    assert!(there[0]["labels"].as_array().unwrap().contains(&json!("from:daemon")), "{there:#?}");
    assert!(
        there[0]["description"].as_str().unwrap().contains("hook_bead: al-1 (Fix \"it\")\n"),
        "{there:#?}"
    );
    wait_for(CHANGE, "the alert is taken back", || {
        town.alerts().iter().all(|one| one["key"] != "mail:store").then_some(())
    });
    let inbox = wait_for(CHANGE, "it has left our box", || {
        let inbox = town.call("mail.inbox", json!({"for": "alpha/witness"}));
        (inbox["items"].as_array().unwrap().len() == 1).then_some(inbox)
    });
    assert_eq!((&inbox["items"][0]["from"], &inbox["unread"]), (&json!("daemon"), &json!(1)), "{inbox:#}");
    // It is the same incident, for which there is one.
    town.kill_daemon();
    restart_failed(&town);
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(crashes(&bd).len(), 1);
}

#[test]
fn boxes_are_read_and_written_where_the_incumbent_has_them() {
    let (town, bd) = town();
    town.start();
    town.wait_all_running();
    let seq = town.seq();
    let sent =
        town.call("mail.send", json!({"to": "alpha/witness/", "subject": "Look", "body": "two\n\"lines\""}));
    let id = sent["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("hq-"), "{sent:#}");
    town.wait_event(seq, "mail.sent", "alpha/witness", CHANGE);
    let there = bd.messages();
    assert_eq!(
        (&there[0]["assignee"], &there[0]["labels"][0]),
        (&json!("alpha/witness"), &json!("from:overseer"))
    );
    let ctl = town.ctl();
    let own = town.inside("alpha/witness", &format!("{ctl} --json mail inbox")).ok().json()["result"].clone();
    assert_eq!((&own["unread"], &own["items"][0]["body"]), (&json!(1), &json!("two\n\"lines\"")), "{own:#}");
    // A person's look, and another agent's, mark nothing.
    assert_eq!(town.call("mail.read", json!({"id": id}))["read"], false);
    town.inside("beta/witness", &format!("{ctl} mail read {id}")).ok();
    assert_eq!(town.inside("beta/witness", &format!("{ctl} mail archive {id}")).code, 77);
    assert_eq!(town.call("mail.inbox", json!({"for": "alpha/witness"}))["unread"], 1);
    town.inside("alpha/witness", &format!("{ctl} mail read {id}")).ok();
    assert_eq!(town.call("mail.inbox", json!({"for": "alpha/witness"}))["unread"], 0);
    town.inside("alpha/witness", &format!("{ctl} mail archive {id}")).ok();
    assert_eq!(town.call("mail.inbox", json!({"for": "alpha/witness"}))["items"], json!([]));
    assert_eq!(bd.messages()[0]["status"], "closed");
    // A request that is repeated sends once, also where nobody lived to hear of the first.
    let params = json!({"to": "mayor", "subject": "once", "idempotency_key": "k,1"});
    let first = town.call("mail.send", params.clone());
    town.kill_daemon();
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    ledger.execute("DELETE FROM answers", []).unwrap();
    drop(ledger);
    town.start();
    assert_eq!(town.call("mail.send", params)["id"], first["id"]);
    // A store that says nothing is no empty box.
    bd.works(false);
    assert_eq!(town.call_fails("mail.inbox", json!({"for": "mayor"})).kind, "work_store");
    assert_eq!(town.call_fails("mail.send", json!({"to": "mayor", "subject": "s"})).kind, "work_store");
    bd.works(true);
    assert_eq!(town.call_fails("mail.read", json!({"id": "hq-99"})).code, -32602);
}

#[test]
fn a_lifecycle_mail_of_the_incumbents_is_done_once_and_answered() {
    let (town, bd) = town();
    town.start();
    town.wait_all_running();
    let before = town.agent("alpha/witness")["instance"].as_str().unwrap().to_owned();
    let title = "--title=LIFECYCLE: alpha/witness requesting cycle";
    let labels = "--labels=from:alpha/witness,thread:thread-1";
    bd.run(&[
        "create",
        title,
        "--type",
        "message",
        "--assignee=deacon/",
        "--description=cycle",
        labels,
        "--json",
    ]);
    let lists =
        |bd: &MailBd| bd.calls().iter().filter(|call| call.contains("--type message --status open")).count();
    let asked = lists(&bd);
    let report = town.call("daemon.heartbeat", json!({}));
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "lifecycle").unwrap();
    assert!(step["actions"][0].as_str().unwrap().contains("cycle of alpha/witness"), "{step:#}");
    assert_eq!(lists(&bd), asked + 1, "one query for all steps");
    town.wait_new_instance("alpha/witness", &before);
    let answer = wait_for(CHANGE, "the answer", || {
        bd.messages().into_iter().find(|mail| mail["title"].as_str().unwrap().starts_with("Re: l-1 (done)"))
    });
    assert_eq!(
        (&answer["assignee"], &answer["description"]),
        (&json!("alpha/witness"), &json!("cycle of alpha/witness: done."))
    );
    assert!(bd.messages().iter().any(|mail| mail["status"] == "closed"), "it was put aside");
    let after = town.agent("alpha/witness")["instance"].clone();
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("alpha/witness")["instance"], after);
    assert_eq!(bd.messages().len(), 2);
    // A store that is down says so in the report, and harms nobody.
    bd.works(false);
    let report = town.call("daemon.heartbeat", json!({}));
    let steps = report["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == "lifecycle").unwrap();
    assert_eq!(step["outcome"], "failed", "{step:#}");
    assert!(step["error"].as_str().unwrap().contains("does not work today"), "{step:#}");
    assert_eq!(town.agent("alpha/witness")["state"], "running");
}
