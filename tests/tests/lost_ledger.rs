//! The ledger lost, in every way: what people wanted is found again, or nothing is done until somebody says so.

use std::fs;
use std::path::PathBuf;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for, wait_until};
use serde_json::{Value, json};

const SNAPSHOT: &str = "daemon/gtd.snapshot.json";

fn town() -> Town {
    let town = Setup::new().rigs(&["a"]).up();
    town.call("witness.stop", json!({"rig": "a", "reason": "looking into it"}));
    wait_for(QUICK, "the stop is in the snapshot", || {
        fs::read_to_string(town.path(SNAPSHOT)).ok()?.contains("looking into it").then_some(())
    });
    town
}

fn break_ledger(town: &Town, how: &str) {
    let file = town.path("daemon/gtd.db");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(town.path(&format!("daemon/gtd.db{suffix}")));
    }
    match how {
        "gone" => fs::remove_file(file).unwrap(),
        "garbage" => fs::write(file, b"no ledger at all\n".repeat(999)).unwrap(),
        length => {
            fs::File::options().write(true).open(file).unwrap().set_len(length.parse().unwrap()).unwrap();
        }
    }
}

fn reasons(town: &Town) -> String {
    town.call("daemon.status", json!({}))["reasons"].to_string()
}

#[test]
fn a_lost_ledger_is_rebuilt_and_the_town_goes_on_without_a_word_from_anybody() {
    let town = town();
    let refinery = town.process("a/refinery");
    for how in
        ["gone", "garbage", "0", "1", "50", "99", "100", "101", "4095", "4096", "4097", "20000", "40960"]
    {
        let (last, stream) = {
            let status = town.call("daemon.status", json!({}));
            (status["seq"].as_u64().unwrap(), status["ledger"]["stream_id"].clone())
        };
        wait_for(QUICK, "the snapshot has followed", || {
            let text = fs::read_to_string(town.path(SNAPSHOT)).ok()?;
            let snapshot: Value = serde_json::from_str(&text).ok()?;
            (snapshot["state"]["stream_id"] == stream).then_some(())
        });
        town.kill_daemon();
        break_ledger(&town, how);
        town.start();
        assert!(reasons(&town).contains("gtd.snapshot.json"), "{how}: {}", reasons(&town));
        town.wait_all_running();
        let witness = town.agent("a/witness");
        assert_eq!((&witness["state"], &witness["intent"]), (&json!("stopped"), &json!("stopped")), "{how}");
        assert_eq!(witness["intent_reason"], "looking into it", "{how}");
        assert_eq!(town.process("a/refinery"), refinery, "{how}: adopted");
        // Another stream, whose numbers nobody has ever seen: an old cursor is told so.
        let page = town.call("events.history", json!({"since": last, "limit": 1}));
        assert_ne!(page["stream_id"], stream, "{how}");
        assert!(page["gap"]["oldest"].as_u64().unwrap() > last, "{how}: {page:#}");
        let follower = town.follow(json!({"since": last}));
        follower
            .wait(CHANGE, "the gap", |frame| frame["gap"]["oldest"].as_u64().is_some_and(|seq| seq > last));
    }
    // It supervises again.
    let instance = town.agent("a/refinery")["instance"].as_str().unwrap().to_owned();
    refinery.kill();
    town.wait_new_instance("a/refinery", &instance);
    assert_eq!(town.starts("a/witness").len(), 1);
    town.assert_never_two();
}

#[test]
fn of_an_older_copy_intents_are_restored_and_nothing_is_started_until_up() {
    let town = town();
    let refinery = town.process("a/refinery");
    town.stop_daemon();
    fs::rename(town.path(SNAPSHOT), town.path(&format!("{SNAPSHOT}.3"))).unwrap();
    fs::write(town.path(SNAPSHOT), "{\"v\":1,").unwrap();
    break_ledger(&town, "garbage");
    town.start();
    assert!(reasons(&town).contains("gtctl up"), "{}", reasons(&town));
    town.wait_agent("a/refinery", CHANGE, "recognised", |agent| agent["running"] == true);
    assert_eq!(town.agent("a/witness")["intent"], "stopped");
    refinery.kill();
    wait_until(QUICK, || !refinery.alive());
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/refinery").len(), 1, "it only looks");
    assert_eq!(town.call_fails("refinery.start", json!({"rig": "a"})).code, 1005);
    // Also the next daemon, which finds a sound ledger.
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts("a/refinery").len(), 1);
    town.call("town.start", json!({}));
    town.wait_state("a/refinery", "running");
    assert_eq!(town.agent("a/witness")["state"], "stopped", "up undoes no single stop");
}

#[test]
fn without_a_snapshot_only_looks_until_up() {
    let town = town();
    let refinery = town.process("a/refinery");
    town.kill_daemon();
    break_ledger(&town, "100");
    fs::remove_file(town.path(SNAPSHOT)).unwrap();
    town.start();
    assert!(reasons(&town).contains("not known"), "{}", reasons(&town));
    town.call("daemon.heartbeat", json!({}));
    town.wait_agent("a/refinery", CHANGE, "seen by its marks", |agent| agent["pid"] == refinery.pid);
    assert_eq!(town.starts("a/witness").len(), 1, "a stop is not undone by forgetting it");
    assert!(refinery.alive());
}

#[test]
fn a_start_that_the_snapshot_missed_is_found_by_its_session_and_never_doubled() {
    let town = town();
    // A snapshot of a moment ago: the instance in it is gone, and another runs.
    town.stop_daemon();
    let before = fs::read(town.path(SNAPSHOT)).unwrap();
    town.start();
    town.wait_all_running();
    town.call("refinery.restart", json!({"rig": "a", "now": true}));
    let (instance, process) = (town.agent("a/refinery")["instance"].clone(), town.process("a/refinery"));
    town.kill_daemon();
    fs::write(town.path(SNAPSHOT), before).unwrap();
    break_ledger(&town, "garbage");
    town.start();
    town.wait_all_running();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!((&town.agent("a/refinery")["instance"], town.process("a/refinery")), (&instance, process));
    assert_eq!(town.starts("a/refinery").len(), 2);
    town.assert_never_two();
}

/// Another program's lock: the file can be read and not written.
struct Locked(Option<rusqlite::Connection>);

impl Locked {
    fn new(path: PathBuf) -> Self {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(Some(conn))
    }
}

#[test]
fn a_ledger_that_can_only_be_read_serves_from_memory_and_goes_back_to_its_file() {
    let town = town();
    let refinery = town.process("a/refinery");
    town.stop_daemon();
    let mut lock = Locked::new(town.path("daemon/gtd.db"));
    town.start();
    assert!(reasons(&town).contains("in memory"), "{}", reasons(&town));
    town.wait_agent("a/refinery", CHANGE, "adopted", |agent| agent["pid"] == refinery.pid);
    assert_eq!(town.agent("a/witness")["intent"], "stopped", "it was read");
    let stream = town.call("daemon.status", json!({}))["ledger"]["stream_id"].clone();
    let since = town.seq();
    // A stop works, a start does not.
    town.call("refinery.stop", json!({"rig": "a", "reason": "from memory"}));
    assert!(!refinery.alive());
    assert!(town.try_call("refinery.start", json!({"rig": "a", "wait_ms": 5_000})).is_err());
    town.call("refinery.stop", json!({"rig": "a", "reason": "from memory"}));
    assert_eq!(town.starts("a/refinery").len(), 1);
    lock.0.take();
    wait_for(CHANGE, "it is in its file again", || (reasons(&town) == "[]").then_some(()));
    let status = town.call("daemon.status", json!({}));
    assert_eq!((&status["degraded"], &status["ledger"]["stream_id"]), (&json!(false), &stream), "{status:#}");
    assert!(town.alerts().is_empty(), "{:#?}", town.alerts());
    let told = town.events(since);
    assert!(told.iter().any(|event| event["kind"] == "agent.stopped"), "{told:#?}");
    town.kill_daemon();
    town.start();
    let agent = town.agent("a/refinery");
    assert_eq!(
        (&agent["intent"], &agent["intent_reason"]),
        (&json!("stopped"), &json!("from memory")),
        "{agent:#}"
    );
    assert_eq!(
        town.events(since),
        told.into_iter().chain(town.events(town_last(&town, since))).collect::<Vec<_>>()
    );
    town.call("refinery.start", json!({"rig": "a"}));
    town.wait_state("a/refinery", "running");
    town.assert_never_two();
}

/// The number before the first event of the present daemon.
fn town_last(town: &Town, since: u64) -> u64 {
    let events = town.events(since);
    let began = events.iter().rposition(|event| event["kind"] == "daemon.started").unwrap();
    events[began]["seq"].as_u64().unwrap() - 1
}

#[test]
fn a_ledger_of_a_later_version_is_refused_and_not_touched() {
    let town = town();
    let refinery = town.process("a/refinery");
    town.stop_daemon();
    let file = town.path("daemon/gtd.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    conn.close().unwrap();
    let bytes = fs::read(&file).unwrap();
    let mut command = town.command("gtd");
    command.arg("--town").arg(town.root());
    let output = gtd_tests::run::run(command, CHANGE);
    assert_eq!(output.code, 70, "{output:?}");
    assert!(output.err.contains("version 99") && output.err.contains("newer gtd"), "{output:?}");
    assert!(fs::read(&file).unwrap() == bytes);
    assert!(!town.path("daemon/gtd.db-wal").exists());
    assert!(refinery.alive());
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.pragma_update(None, "user_version", 1).unwrap();
    conn.close().unwrap();
    town.start();
    town.wait_all_running();
    assert_eq!(town.process("a/refinery"), refinery);
}

#[test]
fn the_ledger_of_the_first_daemon_is_taken_up() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../gtd/src/ledger/testdata/v1.db");
    let town = Setup::new().rigs(&["a", "b"]).make();
    fs::create_dir_all(town.path("daemon")).unwrap();
    fs::copy(file, town.path("daemon/gtd.db")).unwrap();
    town.start();
    town.wait_all_running();
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"], false, "{status:#}");
    assert_eq!(status["ledger"]["stream_id"], "742052d4-e04d-4795-b31b-6124c7d19580", "{status:#}");
    let witness = town.agent("a/witness");
    assert_eq!(
        (&witness["state"], &witness["intent_reason"]),
        (&json!("stopped"), &json!("looking into it"))
    );
    assert_eq!(town.agent("b/refinery")["restarts"]["lifetime"], 2);
    let events = town.events(0);
    assert_eq!(events[26]["seq"], 27);
    town.assert_never_two();
}
