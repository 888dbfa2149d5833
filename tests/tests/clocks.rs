//! Somebody sets the clock between two daemons: no wait becomes longer or shorter for it. A test cannot set the
//! machine's clock; the ledger is made to say what it would say if it had been another one then.

use gtd_proto::Timestamp;
use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// Moves every instant in a value.
fn moved(value: &mut Value, seconds: i64) {
    match value {
        Value::String(text) => {
            if let Ok(at) = text.parse::<Timestamp>() {
                *text = Timestamp::from_nanosecond(at.as_nanosecond() + i128::from(seconds) * 1_000_000_000)
                    .unwrap()
                    .to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| moved(item, seconds)),
        Value::Object(fields) => fields.values_mut().for_each(|field| moved(field, seconds)),
        _ => {}
    }
}

/// What a daemon would have written while the wall clock showed so much more.
fn was_ahead(town: &Town, seconds: i64) {
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let change = |read: &str, write: &str| {
        let rows: Vec<(String, String)> = conn
            .prepare(read)
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(!rows.is_empty());
        for (key, text) in rows {
            let mut value: Value = serde_json::from_str(&text).unwrap();
            moved(&mut value, seconds);
            conn.execute(write, [value.to_string(), key]).unwrap();
        }
    };
    change("SELECT address, policy FROM agents", "UPDATE agents SET policy = ?1 WHERE address = ?2");
    change("SELECT key, value FROM facts WHERE key = 'clock'", "UPDATE facts SET value = ?1 WHERE key = ?2");
}

#[test]
fn a_quarantine_is_neither_eternal_nor_over_when_the_clock_was_set_by_a_day() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .script(&["exit:1"])
        .toml("[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 3\nquarantine = \"40m\"\n[mass_death]\nthreshold = 0")
        .make();
    town.start();
    town.wait_state("a/witness", "quarantined");
    let starts = town.starts("a/witness").len();
    let first: Timestamp = town.agent("a/witness")["next_attempt"].as_str().unwrap().parse().unwrap();
    for ahead in [DAY, -DAY, -DAY, DAY, DAY] {
        town.stop_daemon();
        was_ahead(&town, ahead);
        town.start();
        let agent = town.wait_state("a/witness", "quarantined");
        let next: Timestamp = agent["next_attempt"].as_str().unwrap().parse().unwrap();
        let off = next.duration_since(first).as_secs();
        assert!(
            off.abs() <= 2,
            "ahead {ahead}: by people's clock it ends when it was to: {off} s off: {agent:#}"
        );
        town.call("daemon.heartbeat", json!({}));
        assert_eq!(town.starts("a/witness").len(), starts, "ahead {ahead}");
        // What is told is dated by the clock on the wall.
        let last = town.events(0).pop().unwrap();
        let at: Timestamp = last["at"].as_str().unwrap().parse().unwrap();
        let age = Timestamp::now().duration_since(at).as_secs();
        assert!((-1..30).contains(&age), "ahead {ahead}: {last:#}");
        let status = town.call("daemon.status", json!({}));
        let began: Timestamp = status["started_at"].as_str().unwrap().parse().unwrap();
        assert!((-1..30).contains(&Timestamp::now().duration_since(began).as_secs()), "{status:#}");
        assert!(status["uptime_ms"].as_u64().unwrap() < 30_000, "{status:#}");
    }
    town.call("agent.reset", json!({"agent": "a/witness"}));
    wait_for(CHANGE, "a person's word ends it", || (town.starts("a/witness").len() > starts).then_some(()));
}
