//! The file of lines: its words, and its bad days.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use super::*;
use crate::ledger::{Ledger, NewEvent, Write, open as open_ledger};

const SMALL: Bounds = Bounds { max_bytes: 2_000, files: 3 };

fn event(kind: &str, agent: Option<&str>, data: Value) -> Event {
    let agent: Option<gtd_proto::Address> = agent.map(|agent| agent.parse().unwrap());
    Event {
        seq: Seq(7),
        at: "2026-03-01T12:00:00.987Z".parse().unwrap(),
        kind: kind.to_owned(),
        rig: agent.as_ref().and_then(|agent| agent.rig().cloned()),
        agent,
        instance: None,
        cause: None,
        peer: None,
        data,
    }
}

#[test]
fn lines_are_in_the_words_of_the_incumbent() {
    let sessions = ["gt-alpha-max", "gt-alpha-nux"];
    let opened =
        json!({"id": "i", "count": 2, "window_ms": 30_000, "sessions": sessions, "possible_cause": "oom"});
    let died = json!({"session_name": "gt-a-witness", "cause": "crash", "signal": 9});
    let cases = [
        (
            event("incident.opened", None, opened),
            r#"{"ts":"2026-03-01T12:00:00Z","source":"gt","type":"mass_death","actor":"daemon","payload":{"count":2,"window":"30s","sessions":["gt-alpha-max","gt-alpha-nux"],"possible_cause":"oom"},"visibility":"feed","id":"abc123-7"}"#,
        ),
        (
            event("agent.exited", Some("a/witness"), died),
            r#"{"ts":"2026-03-01T12:00:00Z","source":"gt","type":"session_death","actor":"daemon","payload":{"session":"gt-a-witness","agent":"a/witness","reason":"crash (signal 9)","caller":"gtd"},"visibility":"feed","id":"abc123-7"}"#,
        ),
        (
            event("polecat.spawned", Some("a/polecats/nux"), json!({})),
            r#"{"ts":"2026-03-01T12:00:00Z","source":"gt","type":"spawn","actor":"daemon","payload":{"rig":"a","polecat":"nux"},"visibility":"feed","id":"abc123-7"}"#,
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(line(&event, "abc-123").unwrap(), expected);
        assert!(KINDS.contains(&event.kind.as_str()));
    }
    assert_eq!(line(&event("agent.ready", Some("a/witness"), json!({})), "s"), None);
    let without = line(&event("incident.opened", None, json!({"possible_cause": null})), "s").unwrap();
    assert!(!without.contains("possible_cause"), "{without}");
}

struct Feed {
    dir: crate::ledger::scratch::Scratch,
    ledger: Ledger,
    bus: Bus,
    stop: CancellationToken,
    troubles: Arc<Mutex<Vec<String>>>,
    troubled: Arc<Mutex<bool>>,
}

impl Feed {
    fn new() -> Self {
        let dir = crate::ledger::scratch::dir();
        let ledger = open_ledger(dir.path()).ledger;
        let bus = Bus::new(ledger.clone(), 64);
        let stop = CancellationToken::new();
        Self { dir, ledger, bus, stop, troubles: Arc::default(), troubled: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(".events.jsonl")
    }

    /// Starts the task as a daemon does whose last noted place is `at`.
    async fn start(&mut self, at: u64, bounds: Bounds) {
        self.stop = CancellationToken::new();
        let stream = self.ledger.stream_id();
        let fact = json!({"stream": stream, "seq": at});
        let cursor = Cursor::open(self.ledger.clone(), CURSOR.to_owned(), Some(&fact), Seq(0)).await;
        let (troubles, troubled) = (Arc::clone(&self.troubles), Arc::clone(&self.troubled));
        let trouble = move |why: Option<String>| {
            *troubled.lock().unwrap() = why.is_some();
            troubles.lock().unwrap().extend(why);
            std::future::ready(())
        };
        tokio::spawn(keep(self.bus.clone(), cursor, stream, self.path(), bounds, self.stop.clone(), trouble));
    }

    async fn die(&self, count: usize) {
        let at = "2026-03-01T12:00:00Z".parse().unwrap();
        let agent = "a/witness".parse().unwrap();
        let one = |_| Write::Event(NewEvent::of(at, "agent.exited", &agent, json!({"cause": "crash"})));
        let events = self.ledger.commit((0..count).map(one).collect()).await.unwrap();
        self.bus.publish(events);
    }

    /// Numbers of all our lines, oldest first.
    fn numbers(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for number in (0..4).rev() {
            let text = std::fs::read(numbered(&self.path(), number)).unwrap_or_default();
            for line in text.split(|byte| *byte == b'\n') {
                let value: Value = serde_json::from_slice(line).unwrap_or_default();
                let id = value["id"].as_str().unwrap_or_default();
                found.extend(id.rsplit('-').next().and_then(|seq| seq.parse::<u64>().ok()));
            }
        }
        found
    }

    async fn wait(&self, what: &str, fits: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if fits(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: {:?} {:?}", self.numbers(), self.troubles.lock().unwrap());
    }

    async fn wait_numbers(&self, last: u64) {
        self.wait("lines", |feed| feed.numbers() == (1..=last).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn events_are_appended_once_also_after_a_crash_before_the_place_was_noted() {
    let mut feed = Feed::new();
    feed.die(3).await;
    feed.start(0, Bounds::default()).await;
    feed.wait_numbers(3).await;
    feed.die(2).await;
    feed.wait_numbers(5).await;
    feed.stop.cancel();
    // The next daemon finds the place of the first one's beginning, and the lines in the file.
    feed.die(2).await;
    feed.start(0, Bounds::default()).await;
    feed.wait_numbers(7).await;
    feed.die(1).await;
    feed.wait_numbers(8).await;
}

#[tokio::test]
async fn the_file_is_bounded_and_moved_in_numbers() {
    let mut feed = Feed::new();
    feed.start(0, SMALL).await;
    for n in 1..=40 {
        feed.die(1).await;
        feed.wait("the line", |feed| feed.numbers().last() == Some(&n)).await;
    }
    let sizes: Vec<u64> =
        (0..3).map(|n| std::fs::metadata(numbered(&feed.path(), n)).unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 2_000), "{sizes:?}");
    assert!(!numbered(&feed.path(), 3).exists());
    let kept = feed.numbers();
    assert_eq!(kept, (kept[0]..=40).collect::<Vec<_>>(), "the last ones, without a hole");
}

#[tokio::test]
async fn a_torn_line_stays_by_itself_and_others_may_append() {
    let mut feed = Feed::new();
    std::fs::write(feed.path(), "{\"type\":\"sling\"}\n{\"type\":\"do").unwrap();
    feed.start(0, Bounds::default()).await;
    feed.die(1).await;
    feed.wait_numbers(1).await;
    let mut other = OpenOptions::new().append(true).open(feed.path()).unwrap();
    other.write_all(b"{\"type\":\"mail\"}\n").unwrap();
    feed.die(1).await;
    feed.wait_numbers(2).await;
    let text = std::fs::read_to_string(feed.path()).unwrap();
    let good = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert_eq!((text.lines().count(), good), (5, 4), "{text}");
}

#[tokio::test]
async fn a_file_that_others_take_away_or_move_is_made_anew() {
    let mut feed = Feed::new();
    feed.start(0, Bounds::default()).await;
    feed.die(1).await;
    feed.wait_numbers(1).await;
    std::fs::remove_file(feed.path()).unwrap();
    feed.die(1).await;
    feed.wait("the second alone", |feed| feed.numbers() == [2]).await;
    std::fs::rename(feed.path(), feed.dir.path().join("moved")).unwrap();
    feed.die(1).await;
    feed.wait("the third alone", |feed| feed.numbers() == [3]).await;
    std::fs::write(feed.path(), "").unwrap();
    feed.die(1).await;
    feed.wait("the fourth alone", |feed| feed.numbers() == [4]).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_nothing_is_lost() {
    let mut feed = Feed::new();
    // Root may write to what is read-only; a directory in the file's place is in everybody's way.
    std::fs::create_dir(feed.path()).unwrap();
    feed.start(0, Bounds::default()).await;
    feed.die(2).await;
    feed.wait("the trouble", |feed| *feed.troubled.lock().unwrap()).await;
    assert!(feed.troubles.lock().unwrap()[0].contains(".events.jsonl cannot be written"));
    feed.die(1).await;
    std::fs::remove_dir(feed.path()).unwrap();
    feed.wait_numbers(3).await;
    feed.wait("the end of the trouble", |feed| !*feed.troubled.lock().unwrap()).await;

    if !rustix::process::getuid().is_root() {
        std::fs::set_permissions(feed.path(), Permissions::from_mode(0o444)).unwrap();
        feed.die(1).await;
        feed.wait("the trouble", |feed| *feed.troubled.lock().unwrap()).await;
        std::fs::set_permissions(feed.path(), Permissions::from_mode(0o644)).unwrap();
        feed.wait_numbers(4).await;
    }
}

#[test]
fn a_pipe_in_the_files_place_is_not_waited_for() {
    let dir = crate::ledger::scratch::dir();
    let path = dir.path().join(".events.jsonl");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    assert!(append(&path, b"x\n", SMALL).is_err());
    assert!(already(&path, "s").is_empty());
}
