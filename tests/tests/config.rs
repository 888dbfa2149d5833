//! Every key of the configuration does something, or is marked as not doing it yet. What a key does is shown here,
//! by a reload wherever it is live, or in the test that the table names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use gtd_tests::procs::Process;
use gtd_tests::tmux::Tmux;
use gtd_tests::{CHANGE, QUICK, START, Setup, Town, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const HERE: &str = "tests/tests/config.rs";
const DEACON: &str = "tests/tests/deacon.rs";
const HEART: (&str, &str) = ("gtd/src/daemon/reload.rs", "each_number_reaches_the_heart");

/// Of each key that has an effect: the file and the test that shows it.
const EFFECTS: &[(&str, (&str, &str))] = &[
    ("daemon.heartbeat_interval", (HERE, "the_interval_of_the_heartbeat_changes_at_once")),
    ("daemon.log_level", (HERE, "the_level_of_the_log_changes_at_once")),
    ("daemon.log_max_bytes", (HERE, "the_log_is_bounded_by_size_and_count")),
    ("daemon.log_files", (HERE, "the_log_is_bounded_by_size_and_count")),
    ("daemon.ledger_max_age", (HERE, "history_beyond_its_age_goes")),
    ("tmux.server", (HERE, "the_server_may_be_at_another_socket_and_does_not_change_by_a_reload")),
    ("tmux.command_timeout", (HERE, "the_deadline_of_tmux_commands_changes_at_once")),
    ("tmux.size", (HERE, "new_sessions_get_the_new_size_and_name")),
    ("tmux.names", (HERE, "new_sessions_get_the_new_size_and_name")),
    ("start.timeout", (HERE, "a_start_is_waited_for_no_longer_than_its_timeout")),
    (
        "polecat.max_per_rig",
        ("tests/tests/spawn.rs", "a_spawn_beyond_a_limit_is_refused_with_the_figure_and_a_restart_waits"),
    ),
    ("start.concurrency", ("gtd/src/daemon/reload.rs", "places_for_starts_and_stops_are_as_configured")),
    (
        "stop.drain",
        (
            "tests/tests/agents.rs",
            "a_turn_that_does_not_end_is_waited_for_no_longer_than_the_drain_and_not_at_all_with_now",
        ),
    ),
    ("stop.grace", (HERE, "the_next_launch_has_the_new_grace_and_stops_the_new_number_of_places")),
    ("stop.concurrency", (HERE, "the_next_launch_has_the_new_grace_and_stops_the_new_number_of_places")),
    ("stop.spare", ("tests/tests/startup.rs", "what_the_user_has_spared_outlives_even_a_kill_of_the_shim")),
    ("deacon.mode", (DEACON, "a_deacon_that_is_switched_off_is_left_alone_by_all_but_a_person")),
    ("deacon.stale", (DEACON, "a_deacon_that_falls_silent_is_asked_twice_and_then_restarted_once")),
    ("deacon.stuck", (DEACON, "a_deacon_that_falls_silent_is_asked_twice_and_then_restarted_once")),
    ("deacon.grace", ("gtd/src/supervisor/deacon/judge_tests.rs", "the_table")),
    ("deacon.on_stale", (DEACON, "one_that_answers_or_is_only_to_be_told_of_is_not_restarted")),
    ("boot.mode", ("tests/tests/boot.rs", "where_nobody_is_to_look_nobody_does")),
    (
        "polecat.gupp_after",
        ("tests/tests/workers_health.rs", "one_that_gets_nowhere_is_told_of_once_and_released_when_it_moves"),
    ),
    ("restart.initial", (HERE, "the_numbers_of_restarts_change_at_once")),
    ("restart.base", HEART),
    ("restart.factor", HEART),
    ("restart.max", HEART),
    ("restart.jitter", HEART),
    ("restart.min_uptime", HEART),
    ("restart.healthy_after", HEART),
    ("restart.burst", (HERE, "the_numbers_of_restarts_change_at_once")),
    ("restart.window", HEART),
    ("restart.quarantine", HEART),
    ("restart.quarantine_max", HEART),
    ("restart.settle", HEART),
    ("witness.mode", (HERE, "a_mode_that_is_switched_off_means_hands_off")),
    ("refinery.mode", (HERE, "a_mode_that_is_switched_off_means_hands_off")),
    (
        "restart.churn_deaths",
        (
            "tests/tests/limits.rs",
            "deaths_without_progress_are_quarantined_however_slow_and_reports_of_finished_turns_prevent_it",
        ),
    ),
    ("restart.churn_window", HEART),
    ("restart.hold", HEART),
    ("start.max_agents", ("tests/tests/limits.rs", "a_town_that_has_enough_agents_starts_no_more")),
    (
        "start.min_free_memory",
        (
            "tests/tests/limits.rs",
            "a_machine_without_enough_memory_or_disk_starts_nothing_and_says_what_it_lacks",
        ),
    ),
    (
        "start.min_free_disk",
        (
            "tests/tests/limits.rs",
            "a_machine_without_enough_memory_or_disk_starts_nothing_and_says_what_it_lacks",
        ),
    ),
    ("sweep.mode", ("tests/tests/orphans.rs", "where_only_reports_are_wanted_a_person_decides")),
    ("sweep.min_age", ("tests/tests/orphans.rs", "what_is_younger_than_the_least_age_is_left_to_itself")),
    ("mass_death.threshold", ("tests/tests/incidents.rs", "the_breaker_can_be_switched_off")),
    ("mass_death.share", HEART),
    ("mass_death.window", HEART),
    ("mass_death.hold", ("tests/tests/incidents.rs", "a_canary_that_dies_doubles_the_hold")),
    ("mass_death.hold_max", HEART),
    ("mass_death.canary", ("tests/tests/incidents.rs", "a_canary_that_dies_doubles_the_hold")),
    (
        "witness.idle_ttl",
        (
            "tests/tests/on_demand.rs",
            "who_says_for_long_enough_that_it_idles_is_ended_and_that_is_no_failure",
        ),
    ),
    ("refinery.idle_ttl", ("tests/tests/on_demand.rs", "a_refinery_idles_by_its_own_clock")),
    ("callers.grant", ("tests/tests/callers.rs", "a_grant_is_honoured_and_the_record_says_who_asked")),
    ("work.store", ("tests/tests/work.rs", "the_setting_overrides_what_the_directories_say")),
    ("work.timeout", ("tests/tests/work.rs", "hooks_of_bd_are_shown_with_one_query_and_outlive_its_silence")),
    ("notify", ("tests/tests/outgoing.rs", "a_program_is_told_in_words_and_with_the_event")),
];

/// Puts a file in place and reloads it; fails unless all of it is in force.
#[track_caller]
fn reload(town: &Town, text: &str) -> String {
    town.replace("settings/gtd.toml", text);
    town.gtctl(&["daemon", "reload"]).ok().out
}

#[test]
fn every_key_has_an_effect_or_is_marked_as_not_having_one_yet() {
    let town = Setup::new().make();
    let shown = town.gtctl(&["config", "show", "--json"]).ok().json();
    let values = shown["result"]["values"].as_array().unwrap().clone();
    let of = |not_yet: bool| -> BTreeSet<String> {
        let marked = values.iter().filter(|value| (value["not_yet"] == true) == not_yet);
        marked.map(|value| value["key"].as_str().unwrap().to_owned()).collect()
    };
    let shown: BTreeSet<String> = EFFECTS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(shown.len(), EFFECTS.len(), "each key once");
    assert_eq!(
        of(false),
        shown,
        "keys that are not marked `not yet`, and those of which a test shows the effect"
    );
    assert!(of(true).len() + shown.len() == values.len());
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (key, (file, test)) in EFFECTS {
        let text = std::fs::read_to_string(top.join(file)).unwrap_or_default();
        assert!(text.contains(&format!("fn {test}()")), "{key}: no {test} in {file}");
    }
}

#[test]
fn show_tells_values_origins_and_what_has_no_effect_yet() {
    let town = Setup::new().toml("[stop]\ngrace = \"2s\"\n[metrics]\nlisten = \"127.0.0.1:9\"").make();
    for running in [false, true] {
        if running {
            town.start();
        }
        let shown = town.gtctl(&["config", "show"]).ok();
        let line = |key: &str| shown.out.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        let has = |key: &str, words: &[&str]| words.iter().all(|word| line(key).contains(word));
        assert!(has("stop.grace", &["2s", "file", "duration", "TERM"]), "{shown:?}");
        assert!(has("stop.drain", &["30s", "default"]), "{shown:?}");
        assert!(has("metrics.listen", &["127.0.0.1:9", "file, not yet"]), "{shown:?}");
        assert_eq!(shown.err.contains("no daemon is running"), !running, "{shown:?}");
        let result = town.gtctl(&["config", "show", "--json"]).ok().json()["result"].clone();
        assert_eq!(result["daemon"], running);
    }
    let called = town.call("daemon.config", json!({}));
    let grace =
        called["values"].as_array().unwrap().iter().find(|value| value["key"] == "stop.grace").unwrap();
    assert_eq!((&grace["value"], &grace["origin"]), (&json!("2s"), &json!("file")));
}

#[test]
fn the_interval_of_the_heartbeat_changes_at_once() {
    let town = Setup::new().toml("[daemon]\nheartbeat_interval = \"10h\"").make();
    town.start();
    let rounds = || town.call("daemon.status", json!({}))["heartbeat"]["number"].as_u64().unwrap();
    wait_for(QUICK, "the round of the start", || (rounds() >= 1).then_some(()));
    let printed = reload(&town, "[daemon]\nheartbeat_interval = \"1s\"\n");
    assert!(printed.contains("daemon.heartbeat_interval") && printed.contains("10h → 1s"), "{printed}");
    let before = rounds();
    assert!(wait_until(CHANGE, || rounds() >= before + 2));
    reload(&town, "");
    let next = town.call("daemon.status", json!({}))["heartbeat"]["next"].as_str().unwrap().to_owned();
    let next: gtd_proto::Timestamp = next.parse().unwrap();
    assert!(
        next.duration_since(gtd_proto::Timestamp::now()).as_secs() > 100,
        "three minutes from the last: {next}"
    );
}

#[test]
fn the_level_of_the_log_changes_at_once() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let log = || std::fs::read_to_string(town.path("daemon/gtd.log")).unwrap_or_default();
    let noted = |word: &str| wait_until(QUICK, || log().contains(word));
    let ask = |reason: &str| {
        town.call("witness.start", json!({"rig": "a", "reason": reason}));
        log().matches("DEBUG").count()
    };
    assert_eq!(ask("quiet"), 0, "info is the default");
    reload(&town, "[refinery]\nmode = \"off\"\n[daemon]\nlog_level = \"debug\"\n");
    assert!(wait_until(QUICK, || ask("loud") > 0));
    // By hand, until the next reload.
    let said = town.gtctl(&["daemon", "log-level", "error"]).ok();
    assert!(said.out.contains("debug → error"), "{said:?}");
    assert!(noted("the log's level was set") || log().contains("debug"));
    let same = town.gtctl(&["daemon", "log-level", "error"]).ok();
    assert!(same.out.contains("already"), "{same:?}");
    reload(&town, "[refinery]\nmode = \"off\"\n[daemon]\nlog_level = \"debug\"\n");
    let said = town.gtctl(&["daemon", "log-level", "info", "--dry-run"]).ok();
    assert!(said.out.contains("would set") && said.out.contains("debug → info"), "{said:?}");
    let bad = town.call_fails("daemon.log_level", json!({"level": "loud"}));
    assert_eq!((bad.code, &bad.data["path"]), (-32602, &json!("/level")), "{bad:?}");
}

#[test]
fn the_log_is_bounded_by_size_and_count() {
    let town = Setup::new().toml("[daemon]\nlog_max_bytes = \"64KiB\"\nlog_files = 2").make();
    let path = |number: &str| town.path(&format!("daemon/gtd.log{number}"));
    std::fs::create_dir_all(town.path("daemon")).unwrap();
    let full = "x".repeat(65_530) + "\n";
    std::fs::write(path(""), &full).unwrap();
    std::fs::write(path(".1"), "older\n").unwrap();
    town.start();
    assert!(wait_until(QUICK, || std::fs::metadata(path(".1")).is_ok_and(|found| found.len() == 65_531)));
    assert!(!path(".2").exists(), "two files are kept");
    reload(&town, "[daemon]\nlog_max_bytes = \"1GiB\"\nlog_files = 3\nlog_level = \"trace\"\n");
    let big = std::fs::OpenOptions::new().append(true).open(path("")).unwrap();
    std::io::Write::write_all(&mut &big, full.as_bytes()).unwrap();
    let before = std::fs::metadata(path("")).unwrap().len();
    town.gtctl(&["daemon", "log-level", "info"]).ok();
    assert!(wait_until(QUICK, || std::fs::metadata(path("")).is_ok_and(|found| found.len() > before)));
    assert!(!path(".2").exists(), "there is room now");
    let shown = town.gtctl(&["logs", "-n", "1"]).ok();
    assert!(shown.out.contains("level was set"), "{shown:?}");
}

#[test]
fn history_beyond_its_age_goes() {
    let town = Setup::new().make();
    town.start();
    town.stop_daemon();
    let past = gtd_proto::Timestamp::now() - Duration::from_secs(2 * 3600);
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    ledger.execute("UPDATE events SET at = ?1", [format!("{past:.9}")]).unwrap();
    drop(ledger);
    town.start();
    let limit = gtd_proto::Timestamp::now() - Duration::from_secs(5400);
    let is_old =
        |event: &&Value| event["at"].as_str().unwrap().parse::<gtd_proto::Timestamp>().unwrap() < limit;
    let old = || town.events(0).iter().filter(is_old).count();
    town.call("daemon.heartbeat", json!({}));
    assert!(old() > 0, "ninety days are the default");
    reload(&town, "[daemon]\nledger_max_age = \"1h\"\n");
    assert!(wait_until(CHANGE, || old() == 0), "{:#?}", town.events(0));
}

#[test]
fn the_server_may_be_at_another_socket_and_does_not_change_by_a_reload() {
    let setup = Setup::new().rigs(&["a"]).no_refineries().make();
    let socket = setup.path("own.sock");
    let text = format!("[refinery]\nmode = \"off\"\n[tmux]\nserver = {:?}\n", socket.display().to_string());
    setup.replace("settings/gtd.toml", &text);
    setup.start();
    setup.wait_all_running();
    let shown = || setup.call("town.status", json!({}))["tmux"][0]["socket"].clone();
    assert_eq!(shown(), json!(socket.display().to_string()));
    assert!(!Tmux::new(socket.clone(), &setup.home()).sessions().is_empty());
    // The rest of the file is in force; this is refused, with the reason.
    setup.replace("settings/gtd.toml", "[refinery]\nmode = \"off\"\n[stop]\ngrace = \"1s\"\n");
    let answer = setup.gtctl(&["daemon", "reload", "--json"]);
    assert_eq!(answer.code, 7, "{answer:?}");
    let result = &answer.json()["result"];
    assert_eq!(result["refused"][0]["key"], "tmux.server", "{result:#}");
    assert!(result["refused"][0]["reason"].as_str().unwrap().contains("restart the daemon"), "{result:#}");
    assert_eq!(result["changed"], json!([{"key": "stop.grace", "old": "10s", "new": "1s"}]));
    assert_eq!(shown(), json!(socket.display().to_string()));
}

#[test]
fn the_deadline_of_tmux_commands_changes_at_once() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[tmux]\ncommand_timeout = \"60s\"").up();
    reload(&town, "[refinery]\nmode = \"off\"\n[tmux]\ncommand_timeout = \"300ms\"\n");
    let server = town.tmux().server();
    server.signal(Signal::STOP);
    assert!(wait_until(QUICK, || server.stopped()));
    let began = Instant::now();
    let error = town.call_fails("agent.capture", json!({"agent": "a/witness"}));
    assert_eq!(error.code, 1009, "{error:?}");
    assert!(began.elapsed() < CHANGE, "{:?}", began.elapsed());
    server.signal(Signal::CONT);
    town.wait_state("a/witness", "running");
}

#[test]
fn new_sessions_get_the_new_size_and_name() {
    let text = |name: &str, size: &str| {
        format!(
            "[refinery]\nmode = \"off\"\n[tmux]\nsize = \"{size}\"\nnames = {{ role = \"{name}-{{rig}}-{{role}}\" }}\n"
        )
    };
    let town = Setup::new().rigs(&["a"]).make();
    town.replace("settings/gtd.toml", &text("first", "101x31"));
    town.start();
    town.wait_all_running();
    let size = |name: &str| {
        town.tmux().run(&[
            "display-message",
            "-p",
            "-t",
            &format!("={name}:"),
            "#{window_width}x#{window_height}",
        ])
    };
    assert_eq!(size("first-a-witness"), "101x31");
    reload(&town, &text("second", "102x32"));
    assert_eq!(town.agent("a/witness")["session_name"], "first-a-witness", "what runs keeps its own");
    town.call("witness.stop", json!({"rig": "a"}));
    wait_for(QUICK, "the old session goes", || {
        town.tmux().sessions().iter().all(|n| n != "first-a-witness").then_some(())
    });
    town.call("witness.start", json!({"rig": "a"}));
    assert_eq!(town.agent("a/witness")["session_name"], "second-a-witness");
    assert_eq!(size("second-a-witness"), "102x32");
}

#[test]
fn a_start_is_waited_for_no_longer_than_its_timeout() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .command(
            "slow",
            json!({"provider": "script", "command": "/bin/sleep", "args": ["1000"], "ready_after_ms": 60000}),
        )
        .rig_witness("a", "slow")
        .make();
    town.start();
    reload(&town, "[refinery]\nmode = \"off\"\n[start]\ntimeout = \"1s\"\n");
    town.wait_agent("a/witness", CHANGE, "alive", |agent| agent["running"] == true);
    let began = Instant::now();
    let error = town.call_fails("witness.restart", json!({"rig": "a"}));
    assert_eq!((error.code, &error.data["reached"]), (1013, &json!("alive")), "{error:?}");
    assert!(began.elapsed() < CHANGE, "{:?}", began.elapsed());
}

#[test]
fn the_next_launch_has_the_new_grace_and_stops_the_new_number_of_places() {
    let rigs = ["a", "b", "c"];
    let town = Setup::new().rigs(&rigs).no_refineries().script(&["ignore:TERM,HUP", "idle"]).make();
    town.replace("settings/gtd.toml", "[refinery]\nmode = \"off\"\n[stop]\ngrace = \"60s\"\n");
    town.start();
    town.wait_all_running();
    reload(&town, "[refinery]\nmode = \"off\"\n[stop]\ngrace = \"700ms\"\nconcurrency = 1\n");
    for rig in rigs {
        town.call("witness.restart", json!({"rig": rig, "force": true}));
    }
    let processes: Vec<Process> = rigs.iter().map(|rig| town.process(&format!("{rig}/witness"))).collect();
    let began = Instant::now();
    town.call("town.stop", json!({"now": true}));
    let took = began.elapsed();
    assert!(processes.iter().all(|process| !process.alive()));
    assert!(took >= Duration::from_millis(2_050), "one after the other, each with its grace: {took:?}");
    assert!(took < START, "{took:?}");
}

#[test]
fn the_numbers_of_restarts_change_at_once() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    reload(&town, "[refinery]\nmode = \"off\"\n[restart]\ninitial = \"4m\"\njitter = 0\nburst = 0\n");
    town.process("a/witness").kill();
    let waiting = town.wait_agent("a/witness", CHANGE, "waiting for a new try", |agent| {
        agent["state"] == "backoff" && agent["next_attempt"].is_string()
    });
    let next: gtd_proto::Timestamp = waiting["next_attempt"].as_str().unwrap().parse().unwrap();
    let left = next.duration_since(gtd_proto::Timestamp::now()).as_secs();
    assert!((200..=240).contains(&left), "{waiting:#}");
    reload(&town, "[refinery]\nmode = \"off\"\n[restart]\nburst = 2\n");
    town.call("witness.start", json!({"rig": "a"}));
    for _ in 0..2 {
        let before = town.agent("a/witness");
        if before["state"] == "quarantined" {
            break;
        }
        town.process("a/witness").kill();
        town.wait_agent("a/witness", CHANGE, "another life", |agent| {
            agent["instance"] != before["instance"] && agent["running"] == true
                || agent["state"] == "quarantined"
        });
    }
    town.wait_state("a/witness", "quarantined");
}

#[test]
fn a_mode_that_is_switched_off_means_hands_off() {
    let town = Setup::new().rigs(&["a"]).up();
    for (role, other) in [("witness", "refinery"), ("refinery", "witness")] {
        let agent = format!("a/{role}");
        let (process, bystander) = (town.process(&agent), town.process(&format!("a/{other}")));
        reload(&town, &format!("[{role}]\nmode = \"off\"\n"));
        assert!(process.alive(), "what runs is left alone");
        process.kill();
        let stopped = town.wait_state(&agent, "stopped");
        assert!(stopped["reason"].as_str().unwrap().contains("mode"), "{stopped:#}");
        // A person may start it all the same.
        town.call(&format!("{role}.start"), json!({"rig": "a"}));
        town.process(&agent).kill();
        town.wait_state(&agent, "stopped");
        reload(&town, "");
        town.wait_state(&agent, "running");
        assert!(bystander.alive(), "and nobody else was touched");
    }
    town.assert_never_two();
}

#[test]
fn a_reload_that_changes_nothing_says_so_and_a_plan_changes_nothing() {
    let town = Setup::new().toml("[stop]\ngrace = \"2s\"").make();
    town.start();
    assert!(town.gtctl(&["daemon", "reload"]).ok().out.contains("nothing is different"));
    town.replace("settings/gtd.toml", "[stop]\ngrace = \"3s\"\n");
    let since = town.seq();
    let planned = town.gtctl(&["daemon", "reload", "--dry-run"]).ok();
    assert!(planned.out.contains("would change") && planned.out.contains("2s → 3s"), "{planned:?}");
    let grace = || {
        let values: Value = town.call("daemon.config", json!({}))["values"].clone();
        let all: BTreeMap<String, Value> = values
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (value["key"].as_str().unwrap().to_owned(), value["value"].clone()))
            .collect();
        all["stop.grace"].clone()
    };
    assert_eq!(grace(), "2s");
    assert!(town.events(since).iter().all(|event| event["kind"] != "config.reloaded"));
    // The same by signal, as `systemctl reload` sends it.
    town.daemon().unwrap().signal(Signal::HUP);
    let event = town.wait_event(since, "config.reloaded", "", QUICK);
    assert_eq!(event["data"]["changed"], json!([{"key": "stop.grace", "old": "2s", "new": "3s"}]));
    assert_eq!(grace(), "3s");
}
