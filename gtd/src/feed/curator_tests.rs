//! The feed on its bad days: no line twice, none lost, and nothing read at once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::feed::curated::keep;
use crate::ledger::scratch::{Scratch, dir};

const BOUNDS: Bounds = Bounds { max_bytes: 1 << 30, files: 2 };

struct World {
    dir: Scratch,
    curator: Curator,
    /// What the ledger has, which may be old.
    noted: Option<Value>,
    bounds: Bounds,
    written: u64,
}

impl World {
    fn new() -> Self {
        let dir = dir();
        let mut world = Self {
            curator: Curator::new(files(&dir, BOUNDS), None),
            dir,
            noted: None,
            bounds: BOUNDS,
            written: 0,
        };
        // There was nothing when the feed began.
        assert_eq!(world.curator.step().unwrap(), Step::Done);
        world.note();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn events(&self) -> PathBuf {
        self.path(".events.jsonl")
    }

    fn raw(&self, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.events()).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn line(number: u64) -> String {
        let line = json!({"ts": "2026-03-01T12:00:00Z", "source": "gt", "type": "boot", "actor": "a",
            "payload": {"n": number}, "visibility": "feed"});
        format!("{line}\n")
    }

    fn next(&mut self) -> String {
        self.written += 1;
        Self::line(self.written)
    }

    fn add(&mut self, count: usize) {
        for _ in 0..count {
            let line = self.next();
            self.raw(line.as_bytes());
        }
    }

    fn rotate(&self) {
        for (from, to) in [(".events.jsonl.1", ".events.jsonl.2"), (".events.jsonl", ".events.jsonl.1")] {
            let _ = fs::rename(self.path(from), self.path(to));
        }
    }

    fn note(&mut self) {
        self.noted = serde_json::to_value(&self.curator.known).ok();
    }

    /// Until there is nothing more to do.
    fn run(&mut self) {
        for _ in 0..1_000 {
            if self.curator.step().unwrap() == Step::Done {
                return;
            }
        }
        panic!("it does not end: {:?}", self.curator);
    }

    /// A kill, and another daemon.
    fn restart(&mut self) {
        self.curator = Curator::new(files(&self.dir, self.bounds), self.noted.clone());
    }

    fn told(&self) -> Vec<u64> {
        let mut found = Vec::new();
        for name in [".feed.jsonl.2", ".feed.jsonl.1", ".feed.jsonl"] {
            let text = fs::read(self.path(name)).unwrap_or_default();
            let lines = text.split(|byte| *byte == b'\n');
            let numbers =
                lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()?["payload"]["n"].as_u64());
            found.extend(numbers);
        }
        found
    }

    #[track_caller]
    fn all_told(&self) {
        assert_eq!(self.told(), (1..=self.written).collect::<Vec<_>>());
    }
}

fn files(dir: &Scratch, bounds: Bounds) -> Files {
    let at = |name: &str| dir.path().join(name);
    Files { events: at(".events.jsonl"), feed: at(".feed.jsonl"), bounds }
}

#[test]
fn a_torn_line_is_told_when_its_end_comes() {
    let mut world = World::new();
    let line = world.next();
    let (head, rest) = line.as_bytes().split_at(20);
    world.raw(head);
    world.run();
    assert!(world.told().is_empty());
    world.restart();
    world.run();
    world.raw(rest);
    world.run();
    world.all_told();
}

#[test]
fn a_kill_between_writing_and_noting_tells_nothing_twice() {
    let mut world = World::new();
    world.add(5);
    world.run();
    // Noted is that nothing was read.
    world.restart();
    world.add(3);
    world.run();
    world.all_told();
    // Also after both files were moved away meanwhile.
    world.rotate();
    world.add(2);
    world.run();
    world.rotate();
    world.add(2);
    world.restart();
    world.run();
    world.all_told();
}

#[test]
fn a_line_of_the_feed_that_was_torn_is_written_again_whole() {
    let mut world = World::new();
    world.add(2);
    world.run();
    let feed = world.path(".feed.jsonl");
    let text = fs::read(&feed).unwrap();
    fs::write(&feed, &text[..text.len() - 10]).unwrap();
    world.restart();
    world.run();
    world.all_told();
}

#[test]
fn what_others_do_to_the_file_loses_and_repeats_nothing() {
    let mut world = World::new();
    world.add(3);
    world.run();
    // Moved away, with a line that came late, and a new one.
    world.add(1);
    world.rotate();
    world.run();
    world.add(2);
    assert_ne!(world.curator.step().unwrap(), Step::Done, "the last writers have their time");
    let late = world.path(".events.jsonl.1");
    let mut file = fs::OpenOptions::new().append(true).open(late).unwrap();
    let line = json!({"ts": "", "source": "gt", "type": "x", "actor": "late", "visibility": "feed"});
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
    world.run();
    world.all_told();
    assert!(fs::read_to_string(world.path(".feed.jsonl")).unwrap().contains("late: x"));
    // Copied and put back; filtered into a new file.
    for keep in [6, 3] {
        let text = fs::read_to_string(world.events()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let kept = lines.iter().skip(lines.len().saturating_sub(keep)).map(|line| format!("{line}\n"));
        fs::write(world.path("copy"), kept.collect::<String>()).unwrap();
        fs::rename(world.path("copy"), world.events()).unwrap();
        world.add(2);
        world.run();
        world.all_told();
    }
    // Cut to nothing where it lies, and grown beyond its old length before anybody looked.
    fs::write(world.events(), "").unwrap();
    world.add(40);
    world.run();
    world.all_told();
    // The same, cut to its end.
    let text = fs::read_to_string(world.events()).unwrap();
    fs::write(world.events(), text.split_inclusive('\n').skip(35).collect::<String>()).unwrap();
    world.add(1);
    world.run();
    world.all_told();
    // Taken away, and there again.
    fs::remove_file(world.events()).unwrap();
    world.run();
    world.add(2);
    world.run();
    world.all_told();
}

#[test]
fn junk_is_passed_over_and_counted() {
    let mut world = World::new();
    world.add(1);
    world.raw(b"junk\n\n[]\n\xff\xfe\n{\"visibility\":\"audit\"}\n");
    world.raw(&vec![b'x'; 3 * source::READ]);
    world.run();
    world.raw(b"\n");
    world.add(1);
    world.run();
    world.all_told();
    assert_eq!(world.curator.known.skipped, 4);
}

#[test]
fn a_feed_that_cannot_be_written_gets_everything_later() {
    let mut world = World::new();
    world.add(2);
    fs::create_dir(world.path(".feed.jsonl")).unwrap();
    for _ in 0..3 {
        let error = world.curator.step().unwrap_err();
        assert!(error.to_string().contains(".feed.jsonl cannot be"), "{error}");
    }
    world.add(2);
    world.restart();
    assert!(world.curator.step().is_err());
    fs::remove_dir(world.path(".feed.jsonl")).unwrap();
    world.run();
    world.all_told();
    // Half of a piece was written when the disk was full.
    let before = fs::read(world.path(".feed.jsonl")).unwrap();
    world.add(3);
    let noted = world.curator.known.clone();
    world.run();
    let after = fs::read(world.path(".feed.jsonl")).unwrap();
    fs::write(world.path(".feed.jsonl"), &after[..before.len() + (after.len() - before.len()) / 2]).unwrap();
    (world.curator.known, world.curator.doubt) = (noted, true);
    world.run();
    world.all_told();
}

#[test]
fn an_events_file_that_cannot_be_read_is_a_trouble_and_then_goes_on() {
    let mut world = World::new();
    fs::create_dir(world.events()).unwrap();
    let error = world.curator.step().unwrap_err();
    assert!(error.to_string().contains(".events.jsonl cannot be read"), "{error}");
    fs::remove_dir(world.events()).unwrap();
    world.add(2);
    world.run();
    world.all_told();
    assert_eq!(fs::metadata(world.path(".feed.jsonl")).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn the_feed_is_moved_away_before_it_is_too_large() {
    let mut world = World::new();
    world.bounds = Bounds { max_bytes: 4_000, files: 3 };
    world.restart();
    for _ in 0..120 {
        world.add(1);
        world.run();
        if world.written.is_multiple_of(7) {
            world.restart();
        }
    }
    let told = world.told();
    assert_eq!(told.last(), Some(&120));
    assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1) && told.len() < 120, "{told:?}");
    for name in [".feed.jsonl", ".feed.jsonl.1", ".feed.jsonl.2"] {
        assert!(fs::metadata(world.path(name)).unwrap().len() <= 4_000, "{name}");
    }
    assert!(!world.path(".feed.jsonl.3").exists());
}

#[test]
fn a_gigabyte_takes_no_gigabyte_and_no_age() {
    for resumed in [false, true] {
        let mut world = World::new();
        if !resumed {
            world.noted = None;
        }
        world.restart();
        let file = File::create(world.events()).unwrap();
        file.set_len(1 << 30).unwrap();
        drop(file);
        world.raw(b"\n");
        world.add(1_000);
        let began = Instant::now();
        world.run();
        world.all_told();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[test]
fn a_town_of_the_incumbent_goes_on_after_its_own_feed() {
    let at = |second: u32, n: u64| {
        let ts = format!("2026-03-01T12:00:{second:02}Z");
        json!({"ts": ts, "source": "gt", "type": "boot", "actor": "a", "payload": {"n": n}, "visibility": "feed"})
            .to_string()
            + "\n"
    };
    let mut world = World::new();
    world.noted = None;
    let events: String = (1..=5).map(|n| at(u32::try_from(n).unwrap(), n)).collect();
    fs::write(world.events(), events).unwrap();
    let theirs: String = (1..=3).map(|n| at(u32::try_from(n).unwrap(), n)).collect();
    fs::write(world.path(".feed.jsonl"), theirs).unwrap();
    world.restart();
    world.run();
    world.written = 5;
    world.all_told();
    // A ledger that was lost.
    world.restart();
    world.add(1);
    world.run();
    world.all_told();
}

#[derive(Debug, Clone)]
enum Do {
    Add(usize),
    Tear,
    Rotate,
    Steps(usize),
    Note,
    Kill,
    Unwritable(bool),
}

fn doing() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (1usize..5).prop_map(Do::Add),
        1 => Just(Do::Tear),
        1 => Just(Do::Rotate),
        4 => (1usize..4).prop_map(Do::Steps),
        2 => Just(Do::Note),
        2 => Just(Do::Kill),
        1 => any::<bool>().prop_map(Do::Unwritable),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens in whatever order: every line is told once, in order.
    #[test]
    fn no_line_twice_and_none_lost(steps in prop::collection::vec(doing(), 1..40)) {
        let mut world = World::new();
        let (mut torn, mut rotations) = (None::<Vec<u8>>, 0);
        let feed = world.path(".feed.jsonl");
        let aside = world.path("aside");
        for step in steps {
            match step {
                Do::Add(count) => {
                    if let Some(rest) = torn.take() {
                        world.raw(&rest);
                    }
                    world.add(count);
                }
                Do::Tear if torn.is_none() => {
                    let line = world.next();
                    let (head, rest) = line.as_bytes().split_at(30);
                    world.raw(head);
                    torn = Some(rest.to_vec());
                }
                // Two at the most are kept.
                Do::Rotate if torn.is_none() && rotations < 2 => {
                    world.rotate();
                    rotations += 1;
                }
                Do::Steps(count) => {
                    for _ in 0..count {
                        let _ = world.curator.step();
                    }
                }
                Do::Note => world.note(),
                Do::Kill => world.restart(),
                Do::Unwritable(true) if !aside.exists() => {
                    if feed.exists() {
                        fs::rename(&feed, &aside).unwrap();
                    } else {
                        fs::write(&aside, "").unwrap();
                    }
                    fs::create_dir(&feed).unwrap();
                }
                Do::Unwritable(false) if aside.exists() => {
                    fs::remove_dir(&feed).unwrap();
                    fs::rename(&aside, &feed).unwrap();
                }
                _ => {}
            }
        }
        if aside.exists() {
            fs::remove_dir(&feed).unwrap();
            fs::rename(&aside, &feed).unwrap();
        }
        if let Some(rest) = torn {
            world.raw(&rest);
        }
        world.run();
        prop_assert_eq!(world.told(), (1..=world.written).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_task_reacts_to_whoever_writes_and_is_silent_at_rest() {
    let dir = dir();
    let ledger = crate::ledger::open(dir.path()).ledger;
    let (stop, troubles) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&troubles);
    let trouble = move |why: Option<String>| {
        heard.lock().unwrap().push(why);
        std::future::ready(())
    };
    let task = tokio::spawn(keep(ledger.clone(), files(&dir, BOUNDS), stop.clone(), trouble));
    let feed = dir.path().join(".feed.jsonl");
    let told = || fs::read_to_string(&feed).unwrap_or_default().lines().count();
    let count = || troubles.lock().unwrap().len();
    for round in 1..=5 {
        for _ in 0..200 {
            let path = dir.path().join(".events.jsonl");
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.write_all(World::line(round).as_bytes()).unwrap();
        }
        let lines = usize::try_from(round).unwrap() * 200;
        for _ in 0..1_000 {
            if told() == lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(told(), lines);
    }
    // Each look says that all is well: nobody looks while nothing happens, not even for what it reads itself.
    let mut before = count();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if count() == before {
            break;
        }
        before = count();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(count(), before);
    assert!(troubles.lock().unwrap().iter().all(Option::is_none));
    stop.cancel();
    task.await.unwrap();
}
