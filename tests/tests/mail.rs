//! Mail: between people and agents, and the daemon's own, on good days and bad ones.

use gtd_tests::disk::SmallDisk;
use gtd_tests::hand::hand;
use gtd_tests::{CHANGE, Setup, Town, skipped, wait_for, wait_until};
use serde_json::{Value, json};

fn setup() -> Setup {
    Setup::new().rigs(&["alpha", "beta"]).no_refineries().command("hand", hand()).role("witness", "hand")
}

fn subjects(town: &Town, whose: &str) -> Vec<String> {
    let inbox = town.call("mail.inbox", json!({"for": whose}));
    let items = inbox["items"].as_array().unwrap();
    items.iter().map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
}

/// Writes an event into the ledger of a town whose daemon does not run.
fn happened(town: &Town, kind: &str, agent: &str, data: &Value) {
    assert!(town.daemon().is_none());
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let rig = agent.split('/').next().unwrap();
    let written = ledger.execute(
        "INSERT INTO events (at, kind, agent, rig, data) VALUES ('2026-03-01T12:00:00.000000000Z', ?1, ?2, ?3, ?4)",
        [kind, agent, rig, &data.to_string()],
    );
    written.unwrap();
}

/// A worker that could not be started again, as the ledger has it.
fn restart_failed(town: &Town) {
    let agent = "alpha/polecats/nux";
    let data =
        json!({"agent": agent, "work": "al-1", "title": "Fix it", "error": "no worktree", "attempt": 1});
    happened(town, "polecat.restart_failed", agent, &data);
}

#[test]
fn from_a_person_to_an_agent_and_back() {
    let town = setup().up();
    let seq = town.seq();
    let sent =
        town.gtctl(&["mail", "send", "alpha/witness/", "Look after nux", "-silent\nfor an hour", "--json"]);
    let mail = sent.ok().json()["result"].clone();
    assert_eq!((&mail["from"], &mail["to"]), (&json!("overseer"), &json!("alpha/witness")), "{mail:#}");
    assert_eq!((&mail["body"], &mail["read"]), (&json!("-silent\nfor an hour"), &json!(false)));
    let id = mail["id"].as_str().unwrap();
    let told = town.wait_event(seq, "mail.sent", "alpha/witness", CHANGE);
    assert_eq!(
        told["data"],
        json!({"id": id, "from": "overseer", "to": "alpha/witness", "subject": "Look after nux"})
    );
    // A person's look takes nothing off the agent's list.
    let look = town.call("mail.read", json!({"id": id}));
    assert_eq!((&look["read"], &look["already"]), (&json!(false), &json!(true)), "{look:#}");
    assert_eq!(town.call("mail.inbox", json!({"for": "alpha/witness"}))["unread"], 1);
    // The agent's own, without saying whose.
    let ctl = town.ctl();
    let own = town.inside("alpha/witness", &format!("{ctl} --json mail inbox")).ok().json();
    assert_eq!(
        (&own["result"]["for"], &own["result"]["unread"]),
        (&json!("alpha/witness"), &json!(1)),
        "{own:#}"
    );
    let read = town.inside("alpha/witness", &format!("{ctl} mail read {id}")).ok();
    assert!(read.out.contains("From: overseer") && read.out.contains("  for an hour"), "{}", read.out);
    let inbox = town.call("mail.inbox", json!({"for": "alpha/witness"}));
    assert_eq!((&inbox["unread"], &inbox["items"][0]["read"]), (&json!(0), &json!(true)), "{inbox:#}");
    assert_eq!(town.call("mail.inbox", json!({"for": "alpha/witness", "unread": true}))["items"], json!([]));
    // Another agent may look, and may not mark or put aside.
    town.inside("beta/witness", &format!("{ctl} mail inbox alpha/witness")).ok();
    for verb in ["read", "archive"] {
        assert_eq!(town.inside("beta/witness", &format!("{ctl} mail {verb} {id}")).code, 77, "{verb}");
    }
    // The answer, under the agent's own name whatever it says.
    let body = "what was asked\nis done";
    town.inside("alpha/witness", &format!("printf '{body}' | {ctl} mail send human 'Looked after' -")).ok();
    let inbox = town.gtctl(&["mail", "inbox", "--json"]).ok().json()["result"].clone();
    assert_eq!((&inbox["for"], &inbox["unread"]), (&json!("overseer"), &json!(1)), "{inbox:#}");
    let answer = &inbox["items"][0];
    assert_eq!((&answer["from"], &answer["body"]), (&json!("alpha/witness"), &json!(body)), "{answer:#}");
    let id = answer["id"].as_str().unwrap();
    assert_eq!(town.call("mail.read", json!({"id": id}))["read"], true);
    assert_eq!(town.call("mail.read", json!({"id": id}))["already"], true);
    assert_eq!(town.call("mail.archive", json!({"id": id, "dry_run": true}))["plan"][0]["action"], "archive");
    assert_eq!(town.call("mail.archive", json!({"id": id}))["archived"], true);
    assert_eq!(town.call("mail.archive", json!({"id": id}))["already"], true);
    let none = town.gtctl(&["mail", "inbox"]).ok();
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", "no mail for overseer\n"));
    // Nothing of it is lost with the daemon.
    town.kill_daemon();
    town.start();
    assert_eq!(subjects(&town, "alpha/witness"), ["Look after nux"]);
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    std::fs::create_dir_all(town.path("alpha/polecats/nux/alpha")).unwrap();
    town.call("daemon.heartbeat", json!({}));
    let long = "x".repeat(65_537);
    let cases = [
        (json!({"to": "alpha/witness", "subject": ""}), -32602, "/subject"),
        (json!({"to": "alpha/witness", "subject": " \n "}), -32602, "/subject"),
        (json!({"to": "alpha/witness", "subject": "a\nb"}), -32602, "/subject"),
        (json!({"to": "alpha/witness", "subject": "s", "body": long}), -32602, "/body"),
        (json!({"to": "alpha/witness", "subject": "s", "body": "\u{1b}[2J"}), -32602, "/body"),
        (json!({"to": "alpha/witness"}), -32602, "/subject"),
        (json!({"to": "alpha/witness", "subject": "s", "from": "mayor"}), -32602, "/from"),
        (json!({"to": "", "subject": "s"}), -32602, "/to"),
        (json!({"to": "alpha/witnes", "subject": "s"}), 1002, ""),
        (json!({"to": "nobody", "subject": "s"}), 1002, ""),
        (json!({"to": "gamma/witness", "subject": "s"}), 1001, ""),
        (json!({"to": "daemon", "subject": "s"}), 1002, ""),
    ];
    for (params, code, path) in cases {
        let error = town.call_fails("mail.send", params.clone());
        assert_eq!(error.code, code, "{params}: {error:?}");
        assert_eq!(error.data["path"].as_str().unwrap_or_default(), path, "{params}: {error:?}");
    }
    let near = town.call_fails("mail.send", json!({"to": "alpha/witnes", "subject": "s"}));
    assert_eq!(near.data["nearest"], json!(["alpha/witness"]), "{near:?}");
    // Longer than any request: the line is thrown away, and the connection lives.
    let mut client = town.client();
    let params = json!({"to": "mayor", "subject": "s", "body": "x".repeat(2 << 20)});
    let huge =
        client.line(&json!({"jsonrpc": "2.0", "id": 1, "method": "mail.send", "params": params}).to_string());
    assert_eq!(huge["error"]["data"]["kind"], "request_too_large", "{huge:#}");
    client.call("mail.inbox", json!({})).unwrap();
    let said = town.gtctl(&["mail", "send", "mayor/", "s", &"x".repeat(100_000)]);
    assert_eq!(said.code, 2, "{said:?}");
    for method in ["mail.read", "mail.archive"] {
        for id in ["m-99", "", "12", "../x"] {
            let error = town.call_fails(method, json!({"id": id}));
            assert_eq!(
                (error.code, &error.data["path"]),
                (-32602, &json!("/id")),
                "{method} {id}: {error:?}"
            );
        }
    }
    let error = town.call_fails("mail.inbox", json!({"for": "alpha/nix"}));
    assert_eq!(error.code, 1002, "{error:?}");
    assert_eq!(town.gtctl(&["mail", "inbox", "gamma/witness"]).code, 4);
    assert!(subjects(&town, "mayor").is_empty() && subjects(&town, "alpha/witness").is_empty());
}

#[test]
fn a_repeated_request_sends_once_and_a_planned_one_not_at_all() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    let plan = town.call("mail.send", json!({"to": "mayor/", "subject": "s", "dry_run": true}));
    assert_eq!((&plan["plan"][0]["action"], &plan["plan"][0]["target"]), (&json!("send"), &json!("mayor")));
    let params = json!({"to": "mayor/", "subject": "once", "idempotency_key": "k"});
    let first = town.call("mail.send", params.clone());
    assert_eq!(town.call("mail.send", params.clone())["id"], first["id"]);
    town.kill_daemon();
    // Also where only the mail was written down, and not yet the answer.
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    assert_eq!(ledger.execute("DELETE FROM answers", []).unwrap(), 1);
    drop(ledger);
    town.start();
    let again = town.call("mail.send", params);
    assert_eq!((&again["id"], &again["already"]), (&first["id"], &json!(true)), "{again:#}");
    let accepted = town.call("mail.send", json!({"to": "mayor", "subject": "later", "wait_ms": 0}));
    assert_eq!((&accepted["accepted"], &accepted["id"]), (&json!(true), &Value::Null), "{accepted:#}");
    wait_for(CHANGE, "it is there", || (subjects(&town, "mayor") == ["later", "once"]).then_some(()));
}

#[test]
fn a_daemon_that_is_killed_between_the_event_and_the_mail_writes_it_once() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    town.kill_daemon();
    restart_failed(&town);
    for round in 0..8 {
        // At any moment of its start, before anybody knows whether the mail is written.
        let process = town.start_unwatched();
        gtd_tests::chaos_delay(std::time::Duration::from_millis(round * 12));
        assert!(process.alive());
        town.kill_daemon();
    }
    town.start();
    let inbox = wait_for(CHANGE, "the mail", || {
        let inbox = town.call("mail.inbox", json!({"for": "alpha/witness"}));
        (inbox["unread"] != 0).then_some(inbox)
    });
    let mail = &inbox["items"][0];
    assert_eq!(mail["subject"], "CRASHED_POLECAT: alpha/nux restart failed");
    assert_eq!((&mail["from"], &mail["at"]), (&json!("daemon"), &json!("2026-03-01T12:00:00Z")), "{mail:#}");
    let body = mail["body"].as_str().unwrap();
    assert!(
        body.contains("hook_bead: al-1 (Fix it)\n") && body.contains("restart_error: no worktree\n"),
        "{body}"
    );
    // Another failure of the same incident, and another incident.
    town.kill_daemon();
    restart_failed(&town);
    let stalled =
        json!({"work": "al-1", "title": "Fix it", "since": "2026-03-01T11:00:00Z", "idle_ms": 2_520_000});
    happened(&town, "agent.stalled", "alpha/polecats/nux", &stalled);
    happened(&town, "agent.stalled", "alpha/polecats/nux", &stalled);
    town.start();
    wait_for(CHANGE, "the other mail", || (subjects(&town, "alpha/witness").len() > 1).then_some(()));
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(
        subjects(&town, "alpha/witness"),
        ["GUPP_VIOLATION: alpha/polecats/nux stuck for 42m0s", "CRASHED_POLECAT: alpha/nux restart failed"]
    );
    let told: Vec<Value> = town.events(0).into_iter().filter(|event| event["kind"] == "mail.sent").collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told.iter().all(|event| event["cause"].is_u64()), "{told:#?}");
}

#[test]
fn mail_wakes_a_witness_that_runs_on_demand_and_none_that_a_person_stopped() {
    let toml = "[witness]\nmode = \"on_demand\"\nidle_ttl = \"1h\"";
    let town = Setup::new().rigs(&["alpha", "beta"]).no_refineries().toml(toml).make();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("alpha/witness")["state"], "stopped");
    // By the daemon's own, also of what happened while it was down.
    town.kill_daemon();
    restart_failed(&town);
    town.start();
    let woken = town.wait_new_instance("alpha/witness", "");
    assert_eq!((&woken["intent"], &woken["intent_by"]), (&json!("running"), &json!("daemon")), "{woken:#}");
    assert!(woken["intent_reason"].as_str().unwrap().contains("m-1"), "{woken:#}");
    town.call("mail.send", json!({"to": "beta/witness", "subject": "wake up"}));
    town.wait_new_instance("beta/witness", "");
    town.call("witness.stop", json!({"rig": "beta"}));
    let seq = town.seq();
    town.call("mail.send", json!({"to": "beta/witness", "subject": "wake up"}));
    town.wait_event(seq, "mail.sent", "beta/witness", CHANGE);
    // What follows a later event has followed the earlier one.
    town.call("mail.send", json!({"to": "alpha/witness", "subject": "you as well"}));
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("beta/witness")["state"], "stopped");
    assert!(town.events(seq).iter().all(|event| event["kind"] != "agent.starting"));
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_nothing_doubled() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().make();
    let disk = match SmallDisk::mount(&town.path("daemon"), 80) {
        Ok(disk) => disk,
        Err(why) => return skipped("on_a_full_disk_nothing_is_lost_and_nothing_doubled", &why),
    };
    let ballast = "daemon/gtd.ballast";
    let has_ballast = || std::fs::metadata(town.path(ballast)).is_ok_and(|found| found.len() == 16 << 20);
    town.start();
    town.wait_all_running();
    wait_for(CHANGE, "the ballast", || has_ballast().then_some(()));
    town.call("mail.send", json!({"to": "mayor", "subject": "before"}));
    town.kill_daemon();
    restart_failed(&town);
    std::fs::remove_file(town.path(ballast)).unwrap();
    disk.fill();
    let daemon = town.start_unwatched();
    let answers = wait_until(CHANGE, || {
        let hello = town.try_call("daemon.hello", json!({"client": "t", "protocol": 1}));
        hello.is_ok_and(|hello| hello["pid"] == daemon.pid)
    });
    assert!(answers, "{}", town.daemon_output());
    let refused = town.call_fails("mail.send", json!({"to": "mayor", "subject": "on a full disk"}));
    assert_eq!(refused.kind, "internal", "{refused:?}");
    assert!(refused.message.contains("mail cannot be kept"), "{refused:?}");
    assert!(!subjects(&town, "alpha/witness").iter().any(|subject| subject.starts_with("CRASHED")));
    wait_for(CHANGE, "people are told", || town.alerts().into_iter().find(|alert| alert["key"] == "mail"));
    disk.empty();
    wait_for(CHANGE, "the daemon's own is written", || {
        (subjects(&town, "alpha/witness") == ["CRASHED_POLECAT: alpha/nux restart failed"]).then_some(())
    });
    wait_for(CHANGE, "the alert is taken back", || {
        town.alerts().iter().all(|alert| alert["key"] != "mail").then_some(())
    });
    town.call("mail.send", json!({"to": "mayor", "subject": "after"}));
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(subjects(&town, "alpha/witness"), ["CRASHED_POLECAT: alpha/nux restart failed"]);
    assert_eq!(subjects(&town, "mayor"), ["after", "before"]);
    town.call("town.stop", json!({}));
    town.stop_daemon();
}

#[test]
fn unread_mail_outlives_a_lost_ledger() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().up();
    town.call("mail.send", json!({"to": "alpha/witness", "subject": "keep this"}));
    town.stop_daemon();
    std::fs::remove_file(town.path("daemon/gtd.db")).unwrap();
    town.start();
    assert_eq!(subjects(&town, "alpha/witness"), ["keep this"]);
    let next = town.call("mail.send", json!({"to": "alpha/witness", "subject": "and this"}));
    assert_ne!(next["id"], "m-1");
    assert_eq!(subjects(&town, "alpha/witness"), ["and this", "keep this"]);
}
