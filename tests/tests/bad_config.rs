//! `gtd.toml` on its bad days: at the first start, at a later one, and on a reload.

use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, run, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What people get wrong: the bytes, the place, and words of what they are told.
const BAD: &[(&str, &[u8], &str, &[&str])] = &[
    ("an unknown key", b"[stop]\ngrase = \"1s\"\n", ":2:1", &["grase", "did you mean \"grace\"?"]),
    (
        "a wrong unit",
        b"[stop]\ngrace = \"3 parsecs\"\n",
        ":2:9",
        &["stop.grace", "units are ms, s, m, h and d"],
    ),
    ("a negative duration", b"[restart]\nbase = \"-1s\"\n", ":2:8", &["restart.base", "no duration"]),
    ("no unit", b"[daemon]\nheartbeat_interval = 30\n", ":2:22", &["did you mean \"30s\"?"]),
    ("a torn file", b"[stop]\ngrace = \"2s\"\n[rest", ":3:", &[]),
    ("a torn value", b"[stop]\ngrace = \"2", ":2:", &[]),
    ("no text", b"[stop]\ngrace = \"\xff\xfe\"\n", ":2:10", &["UTF-8"]),
    ("two keys that contradict", b"[restart]\nmax = \"500ms\"\n", ":2:7", &["less than restart.base"]),
];

const GOOD: &str = "[refinery]\nmode = \"off\"\n[stop]\ngrace = \"7s\"\n";

fn put(town: &Town, bytes: &[u8]) {
    std::fs::create_dir_all(town.path("settings")).unwrap();
    std::fs::write(town.path("settings/gtd.toml"), bytes).unwrap();
}

fn grace(town: &Town) -> Value {
    let values = town.call("daemon.config", json!({}))["values"].clone();
    values.as_array().unwrap().iter().find(|value| value["key"] == "stop.grace").unwrap()["value"].clone()
}

fn reasons(town: &Town) -> String {
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"].as_bool().unwrap(), !status["reasons"].as_array().unwrap().is_empty());
    status["reasons"].to_string()
}

#[test]
fn a_bad_file_is_refused_at_its_place_without_a_daemon() {
    let town = Setup::new().make();
    for (what, bytes, place, words) in BAD {
        put(&town, bytes);
        let checked = town.gtctl(&["config", "check"]);
        assert_eq!(checked.code, 2, "{what}: {checked:?}");
        let file = format!("gtd.toml{place}");
        assert!(checked.err.contains(&file), "{what}: {checked:?}");
        assert!(words.iter().all(|word| checked.err.contains(word)), "{what}: {checked:?}");
        // The line itself, unless its bytes cannot be shown.
        if *what != "no text" {
            let line = String::from_utf8_lossy(bytes);
            let number: usize = place.split(':').nth(1).unwrap().parse().unwrap();
            let line = line.lines().nth(number - 1).unwrap();
            assert!(
                checked.err.contains(&format!("│ {line}")) && checked.err.contains('^'),
                "{what}: {checked:?}"
            );
        }
        let error = &town.gtctl(&["config", "check", "--json"]).json()["error"];
        assert_eq!((&error["code"], &error["kind"]), (&json!(1014), &json!("config_invalid")), "{what}");
        assert!(error["data"]["line"].is_u64() && error["data"]["column"].is_u64(), "{what}: {error:#}");
    }
    put(&town, GOOD.as_bytes());
    assert!(town.gtctl(&["config", "check"]).ok().out.contains("can be used: 2 keys are set"));
    std::fs::remove_file(town.path("settings/gtd.toml")).unwrap();
    assert!(town.gtctl(&["config", "check"]).ok().out.contains("defaults"));
}

#[test]
fn at_the_first_start_a_bad_file_ends_with_78_and_nothing_is_begun() {
    let town = Setup::new().rigs(&["a"]).make();
    for (what, bytes, place, _) in BAD {
        put(&town, bytes);
        let mut command = town.command("gtd");
        command.arg("--town").arg(town.root());
        let output = run::run(command, QUICK);
        assert_eq!(output.code, 78, "{what}: {output:?}");
        assert!(output.err.contains(&format!("gtd.toml{place}")), "{what}: {output:?}");
    }
    assert!(town.journal().is_empty());
    put(&town, GOOD.as_bytes());
    town.start();
    town.wait_all_running();
}

#[test]
fn on_a_reload_a_bad_file_changes_nothing_and_is_told_until_it_is_mended() {
    let town = Setup::new().rigs(&["a"]).toml(GOOD).up();
    let before = town.running();
    for (what, bytes, place, _) in BAD {
        put(&town, bytes);
        let since = town.seq();
        let said = town.gtctl(&["daemon", "reload"]);
        assert_eq!(said.code, 2, "{what}: {said:?}");
        assert!(said.err.contains(&format!("gtd.toml{place}")), "{what}: {said:?}");
        let event = town.wait_event(since, "config.rejected", "", QUICK);
        assert!(event["data"]["line"].is_u64() && event["data"]["file"].is_string(), "{event:#}");
        assert_eq!(grace(&town), "7s", "{what}");
        assert!(reasons(&town).contains("gtd.toml"), "{what}");
        let alerts = town.alerts();
        let ours: Vec<&Value> = alerts.iter().filter(|alert| alert["key"] == "config").collect();
        assert_eq!(ours.len(), 1, "{what}: {alerts:#?}");
        assert!(ours[0]["hint"].as_str().unwrap().contains("gtctl config check"));
        let shown = town.gtctl(&["config", "show"]).ok();
        assert!(shown.err.contains("last good values"), "{what}: {shown:?}");
    }
    // A plan tells of the same error, and leaves no trace.
    let since = town.seq();
    let planned = town.call_fails("daemon.reload", json!({"dry_run": true}));
    assert_eq!(planned.code, 1014, "{planned:?}");
    assert_eq!(town.seq(), since);
    put(&town, GOOD.replace("7s", "8s").as_bytes());
    town.gtctl(&["daemon", "reload"]).ok();
    assert_eq!((grace(&town), reasons(&town)), (json!("8s"), "[]".to_owned()));
    assert!(town.alerts().iter().all(|alert| alert["key"] != "config"));
    assert_eq!(town.running(), before, "no agent noticed anything");
}

#[test]
fn a_bad_file_at_a_later_start_leaves_the_last_good_one_in_force_until_it_is_mended() {
    let town = Setup::new().rigs(&["a"]).toml("[stop]\ngrace = \"1s\"").make();
    town.start();
    // The last good one is the one of the last good reload, also after a crash.
    town.replace("settings/gtd.toml", GOOD);
    town.gtctl(&["daemon", "reload"]).ok();
    for (number, (what, bytes, ..)) in BAD.iter().enumerate() {
        if number % 2 == 0 {
            town.kill_daemon()
        } else {
            town.stop_daemon();
        }
        let since = 0;
        put(&town, bytes);
        town.start();
        assert_eq!(grace(&town), "7s", "{what}");
        assert!(reasons(&town).contains("gtd.toml"), "{what}: {}", reasons(&town));
        assert!(town.events(since).iter().any(|event| event["kind"] == "config.rejected"), "{what}");
    }
    put(&town, GOOD.replace("7s", "9s").as_bytes());
    town.daemon().unwrap().signal(Signal::HUP);
    wait_for(QUICK, "the mended file is in force", || {
        (grace(&town) == "9s" && reasons(&town) == "[]").then_some(())
    });
}

#[test]
fn a_directory_or_a_pipe_in_the_files_place_is_an_error_and_nobody_waits() {
    let town = Setup::new().toml(GOOD).make();
    town.start();
    let path = town.path("settings/gtd.toml");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(town.gtctl(&["daemon", "reload"]).code, 2);
    std::fs::remove_dir(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert_eq!(town.gtctl(&["daemon", "reload"]).code, 2);
    assert_eq!(town.gtctl(&["config", "check"]).code, 2);
    assert_eq!(grace(&town), "7s");
    std::fs::remove_file(&path).unwrap();
    // No file is a good one: the defaults.
    town.gtctl(&["daemon", "reload"]).ok();
    assert_eq!((grace(&town), reasons(&town)), (json!("10s"), "[]".to_owned()));
}

#[test]
fn two_reloads_at_once_are_one_after_the_other() {
    let town = Setup::new().toml(GOOD).make();
    town.start();
    let daemon = town.daemon().unwrap();
    for round in 0..10 {
        let since = town.seq();
        let wanted = format!("{}s", 20 + round);
        town.replace("settings/gtd.toml", &GOOD.replace("7s", &wanted));
        daemon.signal(Signal::HUP);
        daemon.signal(Signal::HUP);
        let by_hand = std::thread::scope(|scope| {
            let asked: Vec<_> =
                (0..4).map(|_| scope.spawn(|| town.call("daemon.reload", json!({})))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        // Whoever comes first changes it; the others find nothing to change.
        let changes = |result: &Value| result["changed"].as_array().unwrap().len();
        assert!(by_hand.iter().map(changes).sum::<usize>() <= 1, "{by_hand:#?}");
        let told = || -> Vec<Value> {
            let events = town.events(since);
            events.into_iter().filter(|event| event["kind"] == "config.reloaded").collect()
        };
        assert!(wait_until(QUICK, || told().len() >= 5));
        assert_eq!(told().iter().map(|event| changes(&event["data"])).sum::<usize>(), 1, "{:#?}", told());
        assert_eq!(grace(&town), json!(wanted));
    }
}

#[test]
fn a_storm_of_reloads_of_a_file_that_changes_ends_in_its_last_state() {
    let town = Setup::new().rigs(&["a"]).toml(GOOD).up();
    let before = town.running();
    let daemon = town.daemon().unwrap();
    for round in 0..100_u32 {
        match round % 3 {
            0 => put(&town, b"[stop]\ngrace = \"2"),
            _ => put(&town, GOOD.replace("7s", &format!("{}s", round + 1)).as_bytes()),
        }
        daemon.signal(Signal::HUP);
    }
    town.replace("settings/gtd.toml", &GOOD.replace("7s", "6s"));
    daemon.signal(Signal::HUP);
    wait_for(CHANGE, "the last state", || (grace(&town) == "6s" && reasons(&town) == "[]").then_some(()));
    gtd_tests::wait::chaos_delay(Duration::from_millis(50));
    assert_eq!(grace(&town), "6s");
    assert_eq!(town.running(), before, "no agent noticed anything");
}
