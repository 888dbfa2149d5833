//! `kill -9` of the daemon at any moment: nothing is done twice, nothing is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, What, chaos_delay, wait_until};
use serde_json::json;

/// Deaths by the dozen are the point here: no back-off, no quarantine, no mass-death breaker.
const NO_BREAKERS: &str = "[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\n\
                           [mass_death]\nthreshold = 0\n[stop]\ngrace = \"500ms\"";
/// How many blows each test deals, unless `GTD_TEST_BLOWS` says otherwise.
fn blows() -> u32 {
    std::env::var("GTD_TEST_BLOWS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}
const AGENTS: [&str; 2] = ["a/witness", "a/refinery"];

/// The living instances by what they wrote down themselves, not by what the daemon believes.
fn living(town: &Town) -> BTreeMap<String, Vec<Process>> {
    let mut found: BTreeMap<String, Vec<Process>> = BTreeMap::new();
    for entry in town.journal() {
        if entry.what == What::Start && entry.process.alive() {
            found.entry(entry.agent).or_default().push(entry.process);
        }
    }
    found
}

/// After a blow: a new daemon, everything runs, nobody met, and who lived through it is still the same.
#[track_caller]
fn recover(town: &Town, blow: u32) {
    adopt(town, blow, living(town));
}

/// The same, for these survivors only.
#[track_caller]
fn adopt(town: &Town, blow: u32, survivors: BTreeMap<String, Vec<Process>>) {
    town.start();
    town.wait_all_running();
    town.assert_never_two();
    let now = living(town);
    for agent in AGENTS {
        let running = now.get(agent).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(running.len(), 1, "blow {blow}: {agent} runs once: {running:?}");
        assert_eq!(town.process(agent), running[0], "blow {blow}: {agent} is who the daemon says");
        if let Some(before) = survivors.get(agent) {
            assert_eq!(before.as_slice(), running, "blow {blow}: {agent} was adopted with its pid");
        }
    }
}

#[test]
fn kill_9_of_the_daemon_at_any_moment_of_a_start_never_makes_two_instances() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).make();
    let began = Instant::now();
    town.start();
    town.wait_all_running();
    let whole = began.elapsed().min(Duration::from_secs(2));
    for blow in 0..blows() {
        town.kill_daemon();
        // Everybody dies while nobody looks, so that the next daemon starts them.
        for process in living(&town).into_values().flatten() {
            process.kill();
        }
        assert!(wait_until(QUICK, || living(&town).is_empty()));
        town.start_unwatched();
        chaos_delay(whole * blow / blows() * 5 / 4);
        town.kill_daemon();
        recover(&town, blow);
    }
}

#[test]
fn kill_9_of_the_daemon_at_any_moment_of_a_restart_never_makes_two_instances() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).up();
    for blow in 0..blows() {
        let before = living(&town);
        for role in ["witness", "refinery"] {
            town.call(&format!("{role}.restart"), json!({"rig": "a", "now": true, "wait_ms": 0}));
        }
        chaos_delay(Duration::from_millis(u64::from(blow % 24) * 4));
        town.kill_daemon();
        // Who is new already is kept; who is not is restarted all the same, since that was promised.
        let mut survivors = living(&town);
        survivors.retain(|agent, running| before.get(agent) != Some(running));
        adopt(&town, blow, survivors);
        for agent in AGENTS {
            let old = before[agent][0];
            assert!(
                wait_until(CHANGE, || town.process(agent) != old && !old.alive()),
                "blow {blow}: {agent} is restarted"
            );
        }
        town.wait_all_running();
    }
}

#[test]
fn kill_9_of_the_daemon_right_after_a_death_loses_neither_the_death_nor_the_restart() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).up();
    for blow in 0..blows() {
        let before = town.agent("a/witness");
        town.process("a/witness").kill();
        chaos_delay(Duration::from_micros(u64::from(blow % 24) * 2_000 + u64::from(blow / 24) * 137));
        town.kill_daemon();
        recover(&town, blow);
        town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
        // Exactly one exit of that instance is on record.
        let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1000}));
        let of_it = exits["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|exit| exit["instance"] == before["instance"])
            .count();
        assert_eq!(of_it, 1, "blow {blow}: {exits:#}");
        let events = town.events(0);
        let told = events
            .iter()
            .filter(|event| event["kind"] == "agent.exited" && event["instance"] == before["instance"])
            .count();
        assert_eq!(told, 1, "blow {blow}: told once");
    }
}

#[test]
fn kill_9_of_the_daemon_again_and_again_leaves_running_agents_alone() {
    let town = Setup::new().rigs(&["a", "b"]).up();
    let before = town.running();
    for _ in 0..10 {
        town.kill_daemon();
        town.start();
    }
    town.wait_all_running();
    assert_eq!(town.running(), before, "the same instances with the same pids");
    for agent in ["a/witness", "a/refinery", "b/witness", "b/refinery"] {
        assert_eq!(town.starts(agent).len(), 1);
    }
    town.assert_never_two();
    // An adopted agent is watched like any other.
    let instance = town.agent("b/refinery")["instance"].as_str().unwrap().to_owned();
    town.process("b/refinery").kill();
    town.wait_new_instance("b/refinery", &instance);
}

#[test]
fn an_exit_while_the_daemon_is_down_is_known_afterwards_with_its_cause() {
    let town = Setup::new().rigs(&["a"]).script(&["print:before the end", "obey"]).up();
    let (witness, refinery) = (town.agent("a/witness"), town.agent("a/refinery"));
    let (by_code, by_signal) = (town.process("a/witness"), town.process("a/refinery"));
    town.kill_daemon();
    std::fs::write(town.journal_dir().join("exit-a-witness"), "7").unwrap();
    by_signal.kill();
    assert!(wait_until(QUICK, || !by_code.alive() && !by_signal.alive()));
    let died = gtd_tests::journal::now_ns() / 1_000_000;
    chaos_delay(Duration::from_millis(300));
    town.start();
    let exit_of = |agent: &str, instance: &serde_json::Value| {
        gtd_tests::wait_for(CHANGE, "the exit is on record", || {
            let exits = town.try_call("agent.exits", json!({"agent": agent})).ok()?;
            exits["items"].as_array()?.iter().find(|exit| exit["instance"] == *instance).cloned()
        })
    };
    let exit = exit_of("a/witness", &witness["instance"]);
    assert_eq!(
        (&exit["code"], &exit["cause"], &exit["requested"]),
        (&json!(7), &json!("crash"), &json!(false)),
        "{exit:#}"
    );
    let ended: gtd_proto::Timestamp = exit["ended_at"].as_str().unwrap().parse().unwrap();
    let ended = u128::try_from(ended.as_millisecond()).unwrap();
    assert!(ended <= died + 20, "dated by its record, not by when we looked: {ended} {died}");
    let exit = exit_of("a/refinery", &refinery["instance"]);
    assert_eq!((&exit["signal"], &exit["cause"]), (&json!(9), &json!("crash")), "{exit:#}");
    town.wait_new_instance("a/witness", witness["instance"].as_str().unwrap());
    town.wait_new_instance("a/refinery", refinery["instance"].as_str().unwrap());
    town.assert_never_two();
}

#[test]
fn a_stop_asked_for_is_finished_by_the_next_daemon() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[stop]\ngrace = \"1s\"")
        .script(&["ignore:TERM,HUP,INT", "fork:setsid", "idle"])
        .up();
    let (agent, child) = (town.process("a/witness"), *town.children("setsid").last().unwrap());
    town.call("witness.stop", json!({"rig": "a", "wait_ms": 0}));
    town.kill_daemon();
    town.start();
    town.wait_state("a/witness", "stopped");
    assert!(!agent.alive() && !child.alive());
    assert_eq!(town.starts("a/witness").len(), 1);
}
