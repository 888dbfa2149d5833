//! `.feed.jsonl` out of `.events.jsonl`: whoever writes there, whatever becomes of the files, and whenever the daemon
//! is killed.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use gtd_tests::disk::SmallDisk;
use gtd_tests::{CHANGE, QUICK, Setup, Town, chaos_delay, skipped, wait_for, wait_until};
use serde_json::{Value, json};

fn setup() -> Setup {
    Setup::new().rigs(&["a"]).no_refineries().toml("[restart]\nburst = 0")
}

/// A line as the incumbent's tools write it, in one write.
fn event(kind: &str, actor: &str, payload: &Value) -> String {
    let ts = gtd_proto::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let line = json!({"ts": ts, "source": "gt", "type": kind, "actor": actor, "payload": payload, "visibility": "feed"});
    format!("{line}\n")
}

fn numbered(number: u64) -> String {
    event("boot", "gt", &json!({"n": number}))
}

fn append(town: &Town, bytes: &[u8]) {
    let path = town.path(".events.jsonl");
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn add(town: &Town, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        append(town, numbered(number).as_bytes());
    }
}

fn feed(town: &Town) -> Vec<Value> {
    let mut lines = Vec::new();
    for name in [".feed.jsonl.2", ".feed.jsonl.1", ".feed.jsonl"] {
        let text = std::fs::read_to_string(town.path(name)).unwrap_or_default();
        lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
    }
    lines
}

fn numbers(town: &Town) -> Vec<u64> {
    feed(town).iter().filter_map(|line| line["payload"]["n"].as_u64()).collect()
}

#[track_caller]
fn wait_numbers(town: &Town, last: u64) {
    let all: Vec<u64> = (1..=last).collect();
    assert!(wait_until(CHANGE, || numbers(town) == all), "{:?}", numbers(town));
}

fn summaries(town: &Town) -> Vec<String> {
    feed(town).iter().filter_map(|line| line["summary"].as_str().map(str::to_owned)).collect()
}

fn rename(town: &Town, from: &str, to: &str) {
    std::fs::rename(town.path(from), town.path(to)).unwrap();
}

#[test]
fn ours_and_theirs_become_what_the_incumbent_would_tell() {
    let town = setup().up();
    let seq = town.seq();
    town.process("a/witness").kill();
    town.wait_event(seq, "agent.exited", "a/witness", QUICK);
    let death = wait_for(QUICK, "our own death", || {
        feed(&town).into_iter().find(|line| line["type"] == "session_death")
    });
    let summary = death["summary"].as_str().unwrap();
    assert!(summary.starts_with("Session ") && summary.contains("terminated: crash"), "{death:#}");
    assert!(death["ts"].as_str().unwrap().ends_with('Z') && death["source"] == "gt", "{death:#}");
    let sling = json!({"bead": "al-1", "target": "a/polecats/nux"});
    for (kind, actor, payload) in [
        ("sling", "mayor", sling.clone()),
        ("sling", "mayor", sling.clone()),
        ("sling", "mayor", sling),
        ("done", "a/nux", json!({"bead": "al-1", "branch": "b"})),
        ("done", "a/nux", json!({"bead": "al-1", "branch": "b"})),
        ("mail", "overseer", json!({"to": "deacon/", "subject": "hello"})),
    ] {
        append(&town, event(kind, actor, &payload).as_bytes());
    }
    append(
        &town,
        event("patrol_started", "a/witness", &json!({"rig": "a"}))
            .replace("\"feed\"", "\"audit\"")
            .as_bytes(),
    );
    append(&town, event("handoff", "a/nux", &json!({})).as_bytes());
    assert!(wait_until(QUICK, || summaries(&town).iter().any(|line| line.contains("handed off"))));
    let theirs: Vec<String> =
        summaries(&town).into_iter().filter(|summary| !summary.starts_with("Session ")).collect();
    assert_eq!(
        theirs,
        [
            "mayor assigned al-1 to a/polecats/nux",
            "mayor assigned al-1 to a/polecats/nux",
            "mayor dispatching work to 3 agents",
            "a/nux completed work on al-1",
            "overseer → deacon/: hello",
            "a/nux handed off to fresh session",
        ]
    );
}

#[test]
fn what_is_written_while_the_daemon_is_down_or_killed_comes_once() {
    let town = setup().up();
    add(&town, 1..=5);
    wait_numbers(&town, 5);
    town.kill_daemon();
    // Moved away twice meanwhile.
    add(&town, 6..=10);
    rename(&town, ".events.jsonl", ".events.jsonl.1");
    add(&town, 11..=15);
    rename(&town, ".events.jsonl.1", ".events.jsonl.2");
    rename(&town, ".events.jsonl", ".events.jsonl.1");
    add(&town, 16..=20);
    let _daemon = town.start();
    wait_numbers(&town, 20);
    // Killed at whatever instant, again and again, while others write.
    for round in 0..6u64 {
        add(&town, 21 + round * 50..=70 + round * 50);
        chaos_delay(Duration::from_millis(7 * round));
        town.kill_daemon();
        let _daemon = town.start();
    }
    wait_numbers(&town, 320);
}

#[test]
fn torn_lines_junk_and_lines_without_an_end() {
    let town = setup().up();
    add(&town, 1..=1);
    wait_numbers(&town, 1);
    let line = numbered(2);
    let (head, rest) = line.as_bytes().split_at(25);
    append(&town, head);
    town.kill_daemon();
    let _daemon = town.start();
    assert_eq!(numbers(&town), [1]);
    append(&town, rest);
    wait_numbers(&town, 2);
    append(&town, b"junk\n\xff\xfe\n\n[1]\nnull\n{\"visibility\":\"feed\",\"ts\":5}\n");
    append(&town, &vec![b'x'; 3 << 20]);
    append(&town, b"\n");
    add(&town, 3..=4);
    wait_numbers(&town, 4);
    assert_eq!(feed(&town).iter().filter(|line| line["payload"]["n"].is_null()).count(), 0);
}

#[test]
fn the_file_of_events_is_moved_cut_replaced_and_taken_away_under_our_eyes() {
    let town = setup().up();
    add(&town, 1..=10);
    wait_numbers(&town, 10);
    rename(&town, ".events.jsonl", "elsewhere.jsonl");
    add(&town, 11..=20);
    wait_numbers(&town, 20);
    // Cut short in place, and its last lines kept by a tool that writes a new file.
    std::fs::write(town.path(".events.jsonl"), "").unwrap();
    add(&town, 21..=30);
    wait_numbers(&town, 30);
    let text = std::fs::read_to_string(town.path(".events.jsonl")).unwrap();
    std::fs::write(town.path("tail"), text.split_inclusive('\n').skip(7).collect::<String>()).unwrap();
    rename(&town, "tail", ".events.jsonl");
    add(&town, 31..=40);
    wait_numbers(&town, 40);
    std::fs::remove_file(town.path(".events.jsonl")).unwrap();
    add(&town, 41..=45);
    wait_numbers(&town, 45);
}

#[test]
fn several_writers_at_once_lose_nothing_among_kills() {
    let town = setup().up();
    let mut killed = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let town = &town;
                scope.spawn(move || {
                    for number in 0..250 {
                        append(town, numbered(writer * 1_000 + number).as_bytes());
                        if number % 25 == 0 {
                            chaos_delay(Duration::from_millis(20));
                        }
                    }
                })
            })
            .collect();
        while killed < 3 || writers.iter().any(|writer| !writer.is_finished()) {
            chaos_delay(Duration::from_millis(60));
            town.kill_daemon();
            let _daemon = town.start();
            killed += 1;
        }
    });
    assert!(wait_until(CHANGE, || numbers(&town).len() >= 1_000), "{}", numbers(&town).len());
    let all = numbers(&town);
    let different: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), different.len()), (1_000, 1_000), "each once");
}

#[test]
fn a_gigabyte_is_neither_read_at_once_nor_waited_for() {
    let town = setup().make();
    let file = std::fs::File::create(town.path(".events.jsonl")).unwrap();
    // Nothing but holes: a line that is too long.
    file.set_len(1 << 30).unwrap();
    drop(file);
    append(&town, b"\n");
    add(&town, 1..=3);
    let began = Instant::now();
    let _daemon = town.start();
    wait_numbers(&town, 3);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let status = town.call("daemon.status", json!({}));
    assert!(status["rss_bytes"].as_u64().unwrap() < 200 << 20, "{status:#}");
    // And one that grew so while the daemon was down.
    town.kill_daemon();
    let file = OpenOptions::new().write(true).open(town.path(".events.jsonl")).unwrap();
    file.set_len(2 << 30).unwrap();
    drop(file);
    append(&town, b"\n");
    add(&town, 4..=6);
    let began = Instant::now();
    let _daemon = town.start();
    wait_numbers(&town, 6);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_feed_that_cannot_be_written_is_an_alert_and_loses_nothing() {
    let town = setup().up();
    let alert = || {
        let status = town.call("town.status", json!({}));
        status["alerts"].as_array().unwrap().iter().any(|alert| alert["key"] == "feed_file")
    };
    std::fs::create_dir(town.path(".feed.jsonl")).unwrap();
    add(&town, 1..=5);
    assert!(wait_until(QUICK, alert), "{}", town.daemon_output());
    town.kill_daemon();
    let _daemon = town.start();
    add(&town, 6..=7);
    assert!(wait_until(QUICK, alert));
    std::fs::remove_dir(town.path(".feed.jsonl")).unwrap();
    wait_numbers(&town, 7);
    assert!(wait_until(CHANGE, || !alert()));
    // Agents do not notice.
    assert_eq!(town.agent("a/witness")["state"], "running");
}

#[test]
fn a_disk_that_is_full_for_a_while_tears_no_line_of_the_feed() {
    let town = setup().make();
    let elsewhere = town.base().join("disk");
    let disk = match SmallDisk::mount(&elsewhere, 1) {
        Ok(disk) => disk,
        Err(why) => return skipped("a_disk_that_is_full_for_a_while_tears_no_line_of_the_feed", &why),
    };
    std::os::unix::fs::symlink(elsewhere.join("feed"), town.path(".feed.jsonl")).unwrap();
    let _daemon = town.start();
    add(&town, 1..=10);
    wait_numbers(&town, 10);
    disk.fill();
    add(&town, 11..=400);
    let alert = || {
        let status = town.call("town.status", json!({}));
        status["alerts"].as_array().unwrap().iter().any(|alert| alert["key"] == "feed_file")
    };
    assert!(wait_until(CHANGE, alert));
    disk.empty();
    wait_numbers(&town, 400);
}

#[test]
fn the_feed_has_an_end() {
    let town = setup().up();
    let payload = json!({"text": "x".repeat(100_000)});
    let line = event("boot", "gt", &payload);
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    // Some 40 MB: four times what one file holds.
    for _ in 0..40 {
        append(&town, line.repeat(10).as_bytes());
    }
    add(&town, 1..=1);
    assert!(wait_until(CHANGE, || numbers(&town).contains(&1)));
    for name in [".feed.jsonl", ".feed.jsonl.1", ".feed.jsonl.2"] {
        assert!(size(&town.path(name)) <= 10 << 20, "{name}");
    }
    assert!(!town.path(".feed.jsonl.3").exists());
}
