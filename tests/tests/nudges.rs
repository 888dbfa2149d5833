//! Text for agents, typed into real panes: once, whole, and never over what a person types.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::time::{Duration, Instant};

use gtd_tests::nudging::*;
use gtd_tests::{CHANGE, QUICK, Setup, Terminal, skipped, wait_for, wait_until};
use serde_json::{Value, json};

#[test]
fn every_text_arrives_once_and_byte_for_byte() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let long = "é;-x \n'\"$#{}%".repeat(65_536 / 14);
    let texts = [
        "-x",
        "--",
        ";",
        "a;",
        "\\;",
        "'quotes' \"and\" `more` $(x) $HOME ~",
        "two\nlines\n\nand more",
        "#{pane_id} #S %H",
        "äß → 🦀 \u{a0}",
        "C-c",
        "Enter",
        &long,
    ];
    for (number, text) in texts.iter().enumerate() {
        // The last turn may not be over yet.
        let id =
            town.call("nudge.send", json!({"agent": WHO, "message": text, "wait_ms": 15_000}))["id"].clone();
        let nudge = wait_nudge(&town, &id, "seen", |nudge| nudge["reached"] == "seen");
        assert_eq!(nudge["attempts"], 1);
        let arrived = wait_until(QUICK, || heard(&town).len() == number + 1);
        assert!(arrived, "{:?}", &text[..text.len().min(40)]);
        assert_eq!(heard(&town)[number], text.as_bytes(), "{:?}", &text[..text.len().min(40)]);
    }
    assert_eq!(heard(&town).len(), texts.len());
    assert_eq!(town.tmux().run(&["list-buffers"]), "");
    // What a terminal would obey is left out.
    queue(&town, "a\u{1b}[201~\u{3}b\tc\r\nd\u{9b}2J\n\n");
    let arrived = wait_until(QUICK, || heard(&town).len() == texts.len() + 1);
    assert!(arrived);
    assert_eq!(heard(&town).last().unwrap(), b"a[201~b c\nd2J");
}

#[test]
fn texts_that_cannot_be_typed_are_refused() {
    let town = typist(&["input:> "]).up();
    let refused = |params: Value| {
        let failure = town.call_fails("nudge.send", params);
        (failure.code, failure.data["path"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused(json!({"agent": WHO, "message": "x".repeat(65_537)})), (-32602, "/message".into()));
    assert_eq!(refused(json!({"agent": WHO, "message": "\u{1b}\n \t"})), (-32602, "/message".into()));
    assert_eq!(refused(json!({"agent": WHO, "message": "x", "key": ""})), (-32602, "/key".into()));
    assert_eq!(
        refused(json!({"agent": WHO, "message": "x", "expires_ms": 0})),
        (-32602, "/expires_ms".into())
    );
    assert_eq!(refused(json!({"agent": "alpha/polecats/nobody", "message": "x"})).0, 1002);
    assert_eq!(refused(json!({"agent": "alpha/crew/me", "message": "x"})).0, 1010);
    assert_eq!(town.call_fails("nudge.cancel", json!({"id": "n-000000000000"})).code, -32602);
    assert_eq!(town.call("nudge.list", json!({"all": true}))["items"], json!([]));
}

#[test]
fn what_is_scrolled_is_left_alone_and_the_text_comes_later() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let (tmux, pane) = (town.tmux(), pane(&town));
    tmux.run(&["copy-mode", "-t", &pane]);
    let nudge = send(&town, "later");
    assert_eq!(nudge["state"], "queued");
    assert!(nudge["why"].as_str().unwrap().contains("scrolls"), "{nudge}");
    let failure = town.call_fails("polecat.inject", json!({"agent": WHO, "message": "now", "wait_ms": 0}));
    assert_eq!((failure.code, failure.kind.as_str()), (1011, "busy"));
    assert_eq!(tmux.run(&["display-message", "-p", "-t", &pane, "#{pane_in_mode}"]), "1");
    assert_eq!(heard(&town).len(), 0);
    tmux.run(&["send-keys", "-t", &pane, "-X", "cancel"]);
    wait_heard(&town, &["later"]);
}

#[test]
fn a_half_typed_line_is_never_fused_with() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let (tmux, pane) = (town.tmux(), pane(&town));
    tmux.run(&["send-keys", "-t", &pane, "-l", "half"]);
    wait_for(QUICK, "it is shown", || {
        tmux.run(&["capture-pane", "-p", "-t", &pane]).contains("> half").then_some(())
    });
    let nudge = send(&town, "whole");
    assert_eq!(nudge["state"], "queued");
    assert!(nudge["why"].as_str().unwrap().contains("not empty"), "{nudge}");
    // The person goes on and sends it off; then it is the text's turn.
    tmux.run(&["send-keys", "-t", &pane, "-l", " done"]);
    tmux.run(&["send-keys", "-t", &pane, "Enter"]);
    wait_heard(&town, &["half done", "whole"]);
}

#[test]
fn nothing_is_typed_while_a_person_types() {
    if !Terminal::possible() {
        return skipped("nothing_is_typed_while_a_person_types", "there is no `script`");
    }
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let session = town.agent(WHO)["session"].as_str().unwrap().to_owned();
    let mut terminal = Terminal::attach(&town.tmux(), &session, &town.home());
    let mut typed = String::new();
    let id = queue(&town, "from afar")["id"].clone();
    // Letter by letter, with pauses in which the line may look quiet.
    for letter in "a person".chars() {
        terminal.types(&letter.to_string());
        typed.push(letter);
        gtd_tests::chaos_delay(Duration::from_millis(300));
        assert_eq!(heard(&town).len(), 0);
    }
    terminal.types("\r");
    wait_heard(&town, &["a person", "from afar"]);
    wait_nudge(&town, &id, "seen", |nudge| nudge["reached"] == "seen");
}

#[test]
fn an_agent_that_works_or_waits_gets_it_afterwards() {
    let town = typist(&["input:> "]).up();
    wait_prompt(&town);
    for (state, why) in [("working", "it is working"), ("waiting", "waits for a person")] {
        says(&town, state);
        let before = heard(&town).len();
        let nudge = send(&town, state);
        assert_eq!(nudge["state"], "queued");
        wait_why(&town, &nudge["id"], why);
        assert_eq!(heard(&town).len(), before);
        says(&town, "idle");
        let nudge = wait_nudge(&town, &nudge["id"], "delivered", |nudge| nudge["state"] == "delivered");
        assert_eq!(nudge["reached"], "submitted");
        says(&town, "working");
        wait_nudge(&town, &nudge["id"], "seen", |nudge| nudge["reached"] == "seen");
        says(&town, "idle");
    }
    wait_heard(&town, &["working", "waiting"]);
    let told: Vec<Value> = town
        .events(0)
        .into_iter()
        .filter(|event| event["kind"].as_str().is_some_and(|kind| kind.starts_with("nudge.")))
        .collect();
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["nudge.sent", "nudge.delivered", "nudge.seen", "nudge.sent", "nudge.delivered", "nudge.seen"]
    );
}

#[test]
fn a_program_that_reads_lines_and_never_reports() {
    let town = Setup::new().rigs(&["alpha"]).no_refineries().script(&["lines"]).up();
    let nudge = send(&town, "one\nmessage of\n two lines");
    assert_eq!(
        (nudge["state"].as_str(), nudge["reached"].as_str()),
        (Some("delivered"), Some("typed")),
        "{nudge}"
    );
    // A newline would be the end of a message.
    wait_heard(&town, &["one message of two lines"]);
    let long = "x".repeat(4_094);
    assert_eq!(send(&town, &long)["state"], "delivered");
    wait_heard(&town, &["one message of two lines", &long]);
    let nudge = send(&town, &"x".repeat(4_095));
    assert_eq!(nudge["state"], "dead");
    assert!(nudge["why"].as_str().unwrap().contains("reads lines"), "{nudge}");
    let event = town.wait_event(0, "nudge.dead", WHO, QUICK);
    assert_eq!(event["data"]["cause"], "refused");
}

#[test]
fn the_next_instance_gets_what_is_bound_to_none() {
    let town = typist(&["input:> "]).up();
    wait_prompt(&town);
    says(&town, "working");
    let instance = town.agent(WHO)["instance"].clone();
    let (any, bound) = (
        queue(&town, "for anybody"),
        json!({"agent": WHO, "message": "for you", "instance": instance, "wait_ms": 0}),
    );
    let bound = town.call("nudge.send", bound);
    town.process(WHO).signal(rustix::process::Signal::KILL);
    town.wait_new_instance(WHO, instance.as_str().unwrap());
    let bound = wait_nudge(&town, &bound["id"], "dead", |nudge| nudge["state"] == "dead");
    assert!(bound["why"].as_str().unwrap().contains("is over"), "{bound}");
    assert_eq!(town.wait_event(0, "nudge.dead", WHO, QUICK)["data"]["cause"], "instance");
    wait_nudge(&town, &any["id"], "delivered", |nudge| nudge["state"] == "delivered");
    wait_heard(&town, &["for anybody"]);
}

#[test]
fn what_waits_for_too_long_is_given_up_and_a_newer_one_replaces_an_older() {
    let town = typist(&["input:> "]).up();
    wait_prompt(&town);
    says(&town, "working");
    let short = town.call("nudge.send", json!({"agent": WHO, "message": "short", "expires_ms": 300}));
    let keyed = |text: &str| {
        town.call("nudge.send", json!({"agent": WHO, "message": text, "key": "mail", "wait_ms": 0}))
    };
    let (old, other, new) = (keyed("1 mail"), queue(&town, "other"), keyed("2 mails"));
    let dead = wait_nudge(&town, &short["id"], "dead", |nudge| nudge["state"] == "dead");
    assert!(dead["why"].as_str().unwrap().contains("expired"), "{dead}");
    let replaced = nudge(&town, &old["id"]);
    assert_eq!(replaced["state"], "dead");
    assert!(replaced["why"].as_str().unwrap().contains(new["id"].as_str().unwrap()), "{replaced}");
    let gone = town.call("nudge.cancel", json!({"id": other["id"]}));
    assert_eq!((gone["state"].as_str(), gone["already"].as_bool()), (Some("dead"), None));
    assert_eq!(town.call("nudge.cancel", json!({"id": other["id"]}))["already"], true);
    says(&town, "idle");
    wait_heard(&town, &["2 mails"]);
    let causes: Vec<Value> = town
        .events(0)
        .into_iter()
        .filter(|event| event["kind"] == "nudge.dead")
        .map(|event| event["data"]["cause"].clone())
        .collect();
    assert_eq!(causes.len(), 3);
    for cause in ["expired", "replaced", "cancelled"] {
        assert!(causes.contains(&json!(cause)), "{causes:?}");
    }
}

#[test]
fn the_queue_is_bounded_and_outlives_the_daemon() {
    let town = typist(&["input:> "]).up();
    wait_prompt(&town);
    says(&town, "working");
    let mut client = town.client();
    for number in 0..100 {
        client
            .call("nudge.send", json!({"agent": WHO, "message": format!("{number}"), "wait_ms": 0}))
            .unwrap();
    }
    let failure = town.call_fails("nudge.send", json!({"agent": WHO, "message": "one more", "wait_ms": 0}));
    assert_eq!((failure.code, failure.kind.as_str()), (1018, "too_busy"));
    town.kill_daemon();
    town.start();
    town.wait_state(WHO, "running");
    let listed = town.call("nudge.list", json!({"agent": WHO}));
    let texts: Vec<String> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|nudge| nudge["text"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    // What the agent said before the daemon was killed still holds.
    wait_why(&town, &listed["items"][0]["id"], "it is working");
}

#[test]
fn two_senders_at_once_do_not_mix() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let texts: Vec<String> = (0..6).map(|number| format!("text {number} {}", "x".repeat(500))).collect();
    std::thread::scope(|scope| {
        for text in &texts {
            scope.spawn({
                let town = &town;
                move || town.call("nudge.send", json!({"agent": WHO, "message": text, "wait_ms": 15_000}))
            });
        }
    });
    let all = wait_until(CHANGE, || heard(&town).len() >= texts.len());
    assert!(all, "{}", heard(&town).len());
    let mut arrived = self::texts(&town);
    arrived.sort();
    assert_eq!(arrived, texts);
}

#[test]
fn a_server_that_is_stopped_keeps_texts_waiting() {
    let town = typist(&["reports", "input:> "]).toml("[tmux]\ncommand_timeout = \"1s\"").up();
    wait_prompt(&town);
    let server = town.tmux().server();
    server.signal(rustix::process::Signal::STOP);
    let id = queue(&town, "patience")["id"].clone();
    let why = wait_nudge(&town, &id, "waiting for tmux", |nudge| {
        nudge["why"].as_str().is_some_and(|why| why.contains("tmux"))
    });
    assert_ne!(why["state"], "dead", "{why}");
    server.signal(rustix::process::Signal::CONT);
    wait_heard(&town, &["patience"]);
    wait_nudge(&town, &id, "seen", |nudge| nudge["reached"] == "seen");
}

/// Killed after each step; whatever the next daemon finds, the text is typed once, and sent off.
#[test]
fn a_daemon_that_is_killed_at_any_step_never_has_it_typed_twice() {
    for step in gtd::supervisor::nudges::Step::ALL {
        let setup = typist(&["input:> "]);
        let town = setup.make();
        let drill = town.base().join("drill");
        let town = town.with_env("GTD_DRILL", drill.to_str().unwrap());
        town.start();
        town.wait_all_running();
        wait_prompt(&town);
        says(&town, "idle");
        std::fs::write(&drill, step.name()).unwrap();
        let id = town.try_call("nudge.send", json!({"agent": WHO, "message": "once"}));
        assert!(id.is_err(), "{step:?}: the daemon was not killed");
        town.wait_daemon(QUICK);
        assert!(!drill.exists(), "{step:?}");
        town.start();
        let settled = wait_until(CHANGE, || {
            let all = town.call("nudge.list", json!({"all": true}));
            let all = all["items"].as_array().unwrap();
            all.len() == 1 && all[0]["state"] == "delivered"
        });
        assert!(settled, "{step:?}: {:#}", town.call("nudge.list", json!({"all": true})));
        wait_heard(&town, &["once"]);
        // And it stays so.
        says(&town, "working");
        says(&town, "idle");
        send(&town, "next");
        wait_heard(&town, &["once", "next"]);
        assert_eq!(town.tmux().run(&["list-buffers"]), "", "{step:?}");
    }
}

/// Killed between the text and its Enter; somebody types on in the meantime. What then stands there is theirs.
#[test]
fn what_a_person_typed_on_is_not_sent_off_for_them() {
    if !Terminal::possible() {
        return skipped("what_a_person_typed_on_is_not_sent_off_for_them", "there is no `script`");
    }
    let town = typist(&["input:> "]).make();
    let drill = town.base().join("drill");
    let town = town.with_env("GTD_DRILL", drill.to_str().unwrap());
    town.start();
    town.wait_all_running();
    wait_prompt(&town);
    says(&town, "idle");
    let (session, tmux) = (town.agent(WHO)["session"].as_str().unwrap().to_owned(), town.tmux());
    std::fs::write(&drill, gtd::supervisor::nudges::Step::TypedRecorded.name()).unwrap();
    assert!(town.try_call("nudge.send", json!({"agent": WHO, "message": "ours"})).is_err());
    town.wait_daemon(QUICK);
    let mut terminal = Terminal::attach(&tmux, &session, &town.home());
    terminal.types(" and theirs");
    wait_for(QUICK, "it is shown", || {
        tmux.run(&["capture-pane", "-p", "-t", &session]).contains("> ours and theirs").then_some(())
    });
    town.start();
    let dead = town.wait_event(0, "nudge.dead", WHO, CHANGE);
    assert_eq!((&dead["data"]["cause"], &dead["data"]["reached"]), (&json!("unsent"), &json!("typed")));
    // The next one waits for them.
    says(&town, "idle");
    let id = queue(&town, "next")["id"].clone();
    wait_why(&town, &id, "");
    assert_eq!(heard(&town).len(), 0);
    terminal.types("\r");
    wait_heard(&town, &["ours and theirs", "next"]);
}

#[test]
fn an_injection_is_confirmed_or_not_typed_at_all() {
    let town = typist(&["input:> "]).up();
    wait_prompt(&town);
    says(&town, "idle");
    let done = town.call("polecat.inject", json!({"agent": WHO, "message": "now", "wait_ms": 0}));
    assert_eq!((done["state"].as_str(), done["reached"].as_str()), (Some("delivered"), Some("submitted")));
    says(&town, "working");
    let failure = town.call_fails("polecat.inject", json!({"agent": WHO, "message": "late", "wait_ms": 300}));
    assert_eq!((failure.code, &failure.data["reached"]), (1013, &json!("queued")));
    says(&town, "idle");
    town.call("polecat.inject", json!({"agent": WHO, "message": "again"}));
    wait_heard(&town, &["now", "again"]);
    town.call("witness.stop", json!({"rig": "alpha", "now": true}));
    assert_eq!(town.call_fails("polecat.inject", json!({"agent": WHO, "message": "x"})).code, 1004);
    assert_eq!(heard(&town).len(), 2);
}

#[test]
fn a_person_answers_an_agent_that_waits() {
    let town = typist(&["input:Really? "]).up();
    let respond = |text: &str| town.try_call("agent.respond", json!({"agent": WHO, "text": text}));
    let failure = respond("y").unwrap_err();
    assert_eq!((failure.code, failure.kind.as_str()), (1011, "busy"));
    assert!(failure.data["hint"].as_str().unwrap().contains("gtctl nudge"), "{failure:?}");
    says(&town, "waiting");
    assert_eq!(respond("y").unwrap()["state"], "delivered");
    wait_heard(&town, &["y"]);
    says(&town, "idle");
    assert_eq!(respond("n").unwrap_err().code, 1011);
    town.call("witness.stop", json!({"rig": "alpha", "now": true}));
    assert_eq!(respond("n").unwrap_err().code, 1004);
    assert_eq!(heard(&town).len(), 1);
}

#[test]
fn what_would_be_done_is_said_and_done_once_for_a_key() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let plan = town.call("nudge.send", json!({"agent": WHO, "message": "x", "dry_run": true}));
    assert_eq!((plan["dry_run"].as_bool(), plan["plan"][0]["target"].as_str()), (Some(true), Some(WHO)));
    for _ in 0..3 {
        town.call("nudge.send", json!({"agent": WHO, "message": "once", "idempotency_key": "k"}));
    }
    send(&town, "last");
    wait_heard(&town, &["once", "last"]);
}

/// Run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_long_a_text_takes() {
    let town = typist(&["reports", "input:> "]).up();
    wait_prompt(&town);
    let mut spans = Vec::new();
    for number in 0..50 {
        let began = Instant::now();
        queue(&town, &format!("text {number}"));
        wait_for(QUICK, "it has arrived", || (heard(&town).len() > number).then_some(()));
        spans.push(began.elapsed());
        wait_prompt(&town);
    }
    spans.sort();
    println!("send to the agent, one that reports: median {:?}, longest {:?}", spans[25], spans[49]);
    let town = Setup::new().rigs(&["alpha"]).no_refineries().script(&["lines"]).up();
    let began = Instant::now();
    send(&town, "text");
    wait_heard(&town, &["text"]);
    println!("one that never reports: {:?}", began.elapsed());
}
