//! Days on which several things go wrong at once: a store that is locked while people ask, a daemon without
//! descriptors, records that are gone, people's panes that outlive an agent.

use std::time::Duration;

use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::json;

/// Holds the ledger's write lock until it is dropped.
fn lock_ledger(town: &Town) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    conn
}

#[test]
fn a_start_is_answered_while_the_ledger_cannot_be_written_and_a_stop_is_not_forgotten() {
    let town = Setup::new().rigs(&["a", "b"]).up();
    town.call("witness.stop", json!({"rig": "a"}));
    let lock = lock_ledger(&town);
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_ne!(error.kind, "transport", "it is answered: {error:?}");
    assert_eq!(town.starts("a/witness").len(), 1, "what is not written down is not begun");
    town.call("refinery.stop", json!({"rig": "b"}));
    drop(lock);
    town.wait_state("a/witness", "running");
    wait_for(CHANGE, "the ledger is in use again", || {
        let reasons = town.call("daemon.status", json!({}))["reasons"].to_string();
        (!reasons.contains("ledger")).then_some(())
    });
    town.kill_daemon();
    town.start();
    assert_eq!(town.wait_state("b/refinery", "stopped")["intent"], "stopped");
    town.assert_never_two();
}
