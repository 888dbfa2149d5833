//! Conversations: workers go on with theirs, patrols begin anew, and one that is gone is given up once.

use std::fs;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for};
use rusqlite::params;
use serde_json::{Value, json};

const NUX: &str = "a/polecats/nux";

/// A town with a worker that has work.
fn town() -> Town {
    let setup = Setup::new().rigs(&["a"]).no_refineries().claude("claude").claude("other");
    let town = setup
        .toml("[witness]\nmode = \"off\"\n[restart]\nburst = 0\n[stop]\ndrain = \"0s\"")
        .role("polecat", "claude")
        .make();
    town.install_claude();
    town.start();
    town.make_workers("a", &["nux"]);
    let work = town.make_work("a", "Go on with it");
    town.start_worker(NUX, &work);
    wait_starts(&town, 1);
    town
}

fn wait_starts(town: &Town, n: usize) -> Value {
    let starts =
        wait_for(CHANGE, &format!("start {n}"), || Some(town.claude_starts()).filter(|all| all.len() >= n));
    starts[n - 1].clone()
}

/// Waits until the worker's last start has reported, so that it is known what it leads.
fn settled(town: &Town, start: &Value) {
    town.wait_agent(NUX, CHANGE, "at work", |agent| {
        agent["instance"] == start["instance"] && agent["activity"] == "working"
    });
}

fn kept(town: &Town) -> Option<(String, String, String)> {
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let sql = "SELECT conversation, preset, instance FROM conversations WHERE agent = ?1";
    ledger.query_row(sql, params![NUX], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).ok()
}

fn conversation(start: &Value) -> String {
    start["conversation"].as_str().unwrap().to_owned()
}

#[test]
fn a_worker_that_died_goes_on_with_its_conversation_also_by_another_daemon() {
    let town = town();
    let first = wait_starts(&town, 1);
    assert_eq!(first["resumed"], false);
    let argv = first["argv"].to_string();
    assert!(
        argv.contains("--session-id") && argv.contains("a/settings/claude/polecat/settings.json"),
        "{argv}"
    );
    settled(&town, &first);
    let instance = first["instance"].as_str().unwrap().to_owned();
    assert_eq!(kept(&town), Some((conversation(&first), "claude".into(), instance)));

    town.process(NUX).kill();
    let second = wait_starts(&town, 2);
    assert_eq!(
        (second["resumed"].clone(), conversation(&second)),
        (json!(true), conversation(&first)),
        "{second}"
    );
    assert!(second["prompt"].as_str().unwrap().contains("started again"), "{second}");
    settled(&town, &second);

    // It was cleared, and leads another one since.
    town.claude_event("polecat", "SessionStart", &json!({ "source": "clear", "session_id": "another-1" }));
    fs::write(town.journal_dir().join("conversations/another-1"), "").unwrap();
    town.kill_daemon();
    let pid = i32::try_from(second["pid"].as_i64().unwrap()).unwrap();
    gtd_tests::procs::Process::of(pid).unwrap().kill();
    town.start();
    let third = wait_starts(&town, 3);
    assert_eq!(
        (third["resumed"].clone(), conversation(&third).as_str()),
        (json!(true), "another-1"),
        "{third}"
    );
}

#[test]
fn a_conversation_that_is_gone_is_given_up_once_with_an_event() {
    let town = town();
    let first = wait_starts(&town, 1);
    settled(&town, &first);
    let since = town.seq();
    fs::remove_file(town.journal_dir().join("conversations").join(conversation(&first))).unwrap();
    town.process(NUX).kill();
    let second = wait_starts(&town, 2);
    assert_eq!(second["resumed"], true);
    // It ended at once; the next one begins anew, and only one was tried.
    let third = wait_starts(&town, 3);
    assert_eq!(third["resumed"], false, "{third}");
    assert_ne!(conversation(&third), conversation(&first));
    settled(&town, &third);
    let lost = town.wait_event(since, "agent.conversation_lost", NUX, QUICK);
    assert_eq!(lost["data"]["conversation"], conversation(&first).as_str());
    assert!(lost["data"]["why"].as_str().unwrap().contains("No conversation found"), "{lost}");
    assert_eq!(kept(&town).map(|kept| kept.0), Some(conversation(&third)));
    // From then on it goes on with the new one.
    town.process(NUX).kill();
    let fourth = wait_starts(&town, 4);
    assert_eq!(
        (fourth["resumed"].clone(), conversation(&fourth)),
        (json!(true), conversation(&third)),
        "{fourth}"
    );
    let all = town.events(since);
    assert_eq!(all.iter().filter(|event| event["kind"] == "agent.conversation_lost").count(), 1);
}

#[test]
fn another_program_begins_a_conversation_of_its_own() {
    let town = town();
    let first = wait_starts(&town, 1);
    settled(&town, &first);
    let text = fs::read_to_string(town.path("settings/config.json")).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["role_agents"]["polecat"] = json!("other");
    town.replace("settings/config.json", &settings.to_string());
    town.process(NUX).kill();
    let second = wait_starts(&town, 2);
    assert_eq!(second["resumed"], false, "{second}");
    assert_ne!(conversation(&second), conversation(&first));
    settled(&town, &second);
    assert_eq!(kept(&town).map(|kept| kept.1), Some("other".to_owned()));
}

#[test]
fn a_crash_after_it_had_spoken_loses_nothing() {
    let town = town();
    let first = wait_starts(&town, 1);
    settled(&town, &first);
    let since = town.seq();
    for n in 2..=3 {
        town.order_claude("polecat", &json!({ "exit": 1 }));
        let next = wait_starts(&town, n);
        assert_eq!(
            (next["resumed"].clone(), conversation(&next)),
            (json!(true), conversation(&first)),
            "{next}"
        );
        settled(&town, &next);
    }
    assert!(!town.events(since).iter().any(|event| event["kind"] == "agent.conversation_lost"));
}

#[test]
fn a_patrol_begins_anew_each_time() {
    let setup = Setup::new().rigs(&["a"]).no_refineries().claude("claude").role("witness", "claude");
    let town = setup.toml("[stop]\ndrain = \"0s\"").make();
    town.install_claude();
    town.start();
    town.wait_agent("a/witness", CHANGE, "at work", |agent| agent["activity"] == "working");
    town.process("a/witness").kill();
    let second = wait_starts(&town, 2);
    assert_eq!(second["resumed"], false, "{second}");
    assert_ne!(conversation(&second), conversation(&town.claude_starts()[0]));
}
