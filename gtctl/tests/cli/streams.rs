//! Events, pipes that break, and Ctrl-C.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::fake::{Fake, Reply};
use crate::common::values::{self, answer, canned};
use crate::common::{Town, until};

/// A daemon with one subscription, whose frames the test sends.
fn feeding(town: &Town) -> (Fake, Sender<Value>) {
    let (send, receive) = channel::<Value>();
    let feed: Mutex<Option<Receiver<Value>>> = Mutex::new(Some(receive));
    let all = canned(town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "events.subscribe" => Reply::Feed(feed.lock().unwrap().take().unwrap()),
        _ => all(method, params),
    });
    (fake, send)
}

fn follow(town: &Town, args: &[&str]) -> Child {
    town.command(&[&["events", "-f"], args].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn frame(seq: u64) -> Value {
    let event = values::event(seq, "agent.ready", "alpha/witness", json!({"pid": 1, "startup_ms": 2}));
    serde_json::to_value(event).unwrap()
}

#[test]
fn a_stream_is_bare_events_one_a_line_as_they_come() {
    let town = Town::with_endpoint();
    let (fake, send) = feeding(&town);
    let mut child =
        follow(&town, &["--json", "--since", "7", "--kind", "agent.*", "--kind", "x", "--agent", "alpha"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for (sent, key) in
        [(frame(8), "seq"), (json!({"lagged": 3}), "lagged"), (json!({"gap": {"oldest": 20}}), "gap")]
    {
        send.send(sent.clone()).unwrap();
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line[key], sent[key]);
    }
    assert_eq!(
        fake.params("events.subscribe"),
        json!({"since": 7, "kinds": ["agent.*", "x"], "agent": "alpha"})
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_stream_since_a_time_begins_in_the_past() {
    let town = Town::with_endpoint();
    let (fake, _send) = feeding(&town);
    let mut child = follow(&town, &["--since", "5m"]);
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(5).map(Result::unwrap).collect();
    assert!(lines[0].contains("agent.exited") && lines[4].contains("daemon.degraded"), "{lines:?}");
    until("the subscription", || fake.calls().iter().any(|(method, _)| method == "events.subscribe"));
    assert_eq!(fake.params("events.subscribe"), json!({"since": 44}));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_filter_goes_through_all_pages_and_keeps_the_last() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "events.history" => {
            let since = params["since"].as_u64().unwrap_or(0);
            let items: Vec<_> = (since + 1..=(since + 2).min(5))
                .map(|seq| values::event(seq, "agent.ready", "alpha/witness", json!({})))
                .collect();
            answer(values::history(items))
        }
        _ => all(method, params),
    });
    let run = town.gtctl(&["events", "--json", "--agent", "alpha", "-n", "3"]).expect(0);
    let seqs: Vec<u64> = run
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert!(fake.calls().len() < 8);
}

#[test]
fn the_end_of_the_daemon_is_no_quiet_end() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "events.subscribe" => Reply::HangUp,
        _ => all(method, params),
    });
    town.gtctl(&["events", "-f"]).expect(69);
}

#[test]
fn a_reader_that_leaves_ends_us_quietly() {
    let town = Town::with_endpoint();
    let _fake = Fake::start(&town.socket(), canned(&town));
    for args in [&["status"][..], &["status", "--json"], &["--help"], &["events"], &["rpc", "town.status"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = town.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_reader_that_leaves_in_the_middle_of_a_stream() {
    let town = Town::with_endpoint();
    let (_fake, send) = feeding(&town);
    let mut child = follow(&town, &["--json"]);
    send.send(frame(1)).unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    // The next event finds the pipe broken.
    let mut seq = 2;
    until("the end", || {
        let _ = send.send(frame(seq));
        seq += 1;
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(141));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn ctrl_c_ends_with_130() {
    let town = Town::with_endpoint();
    let (fake, _send) = feeding(&town);
    let mut child = follow(&town, &[]);
    until("the subscription", || fake.calls().iter().any(|(method, _)| method == "events.subscribe"));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_long_start_is_waited_for_and_told_of() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| {
        if method == "witness.start" {
            // Longer than the first remark of the client; a condition could not be seen from here.
            std::thread::sleep(Duration::from_millis(5_300));
        }
        all(method, params)
    });
    let run = town.gtctl(&["witness", "start", "alpha"]).expect(0);
    assert_eq!(run.err, "  still starting, 5s so far\n");
    assert_eq!(run.out, "started alpha/witness: running, pid 5001\n");
}
