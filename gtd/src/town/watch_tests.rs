//! A watched town whose files really change.

use super::*;
use crate::town::file::{Known, replace};
use crate::town::init::init;
use crate::town::snapshot::read;
use crate::town::wisp::Reason;
use gtd_proto::RigName;
use std::fs;

struct World {
    _base: tempfile::TempDir,
    layout: Layout,
    watch: Watch,
    snapshots: mpsc::Receiver<Arc<Snapshot>>,
}

const LONG: Duration = Duration::from_secs(10);

fn world(rigs: &[&str]) -> World {
    let base = tempfile::tempdir().unwrap();
    init(&base.path().join("t"), None, None, false).unwrap();
    let layout = Layout::at(&base.path().join("t")).unwrap();
    register(&layout, rigs);
    let first = Arc::new(read(&layout, None));
    assert_eq!(first.findings, []);
    let (watch, snapshots) = Watch::start(&layout, first).unwrap();
    World { _base: base, layout, watch, snapshots }
}

fn registry(rigs: &[&str]) -> String {
    let rigs: serde_json::Map<String, serde_json::Value> = rigs
        .iter()
        .enumerate()
        .map(|(n, rig)| ((*rig).to_owned(), serde_json::json!({"beads": {"prefix": format!("p{n}")}})))
        .collect();
    serde_json::json!({ "version": 1, "rigs": rigs }).to_string()
}

fn register(layout: &Layout, rigs: &[&str]) {
    for rig in rigs {
        fs::create_dir_all(layout.root().join(rig)).unwrap();
    }
    replace(&layout.rigs_json(), registry(rigs).as_bytes(), 0o600).unwrap();
}

fn rig(name: &str) -> RigName {
    RigName::new(name).unwrap()
}

impl World {
    /// The first snapshot that is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let found = async {
            loop {
                let snapshot = self.snapshots.recv().await.expect("the watch ended");
                if wanted(&snapshot) {
                    return snapshot;
                }
            }
        };
        tokio::time::timeout(LONG, found).await.unwrap_or_else(|_| panic!("never seen: {what}"))
    }

    fn nothing_waits(&mut self) -> bool {
        self.snapshots.try_recv().is_err()
    }
}

#[tokio::test]
async fn an_atomic_replacement_is_noticed_each_time() {
    let mut world = world(&["a"]);
    for round in 0..20 {
        let name = format!("r-{round}");
        let began = Instant::now();
        register(&world.layout, &["a", &name]);
        let seen = world.until(&name, |snapshot| snapshot.rigs.contains_key(&rig(&name))).await;
        assert_eq!(seen.findings, []);
        assert_eq!(seen.rigs.len(), 2);
        assert!(began.elapsed() < Duration::from_secs(2), "by an event, not by the slow look");
    }
}

#[tokio::test]
async fn a_registry_that_goes_bad_or_missing_keeps_the_rigs() {
    let mut world = world(&["a", "a-b"]);
    let good = registry(&["a", "a-b"]);
    for (what, bad) in
        [("torn", good.get(..20)), ("empty", Some("")), ("no object", Some("[]")), ("gone", None)]
    {
        match bad {
            Some(text) => fs::write(world.layout.rigs_json(), text).unwrap(),
            None => fs::remove_file(world.layout.rigs_json()).unwrap(),
        }
        let seen = world.until(what, |snapshot| matches!(snapshot.registry, Known::Kept { .. })).await;
        assert_eq!(seen.rigs.len(), 2, "{what}");
        assert!(seen.findings.iter().any(|finding| finding.key == "registry"), "{what}");
        register(&world.layout, &["a", "a-b"]);
        let seen = world.until("good again", |snapshot| matches!(snapshot.registry, Known::Good(_))).await;
        assert_eq!(seen.findings, []);
    }
}

#[tokio::test]
async fn a_writer_in_place_is_never_seen_half_way() {
    let mut world = world(&["a"]);
    for name in ["b", "c"] {
        fs::create_dir(world.layout.root().join(name)).unwrap();
    }
    let texts = [registry(&["a"]), registry(&["a", "b"]), registry(&["a", "b", "c"])];
    let path = world.layout.rigs_json();
    let writer = std::thread::spawn(move || {
        for text in texts.iter().take(2).cycle().take(40).chain(texts.last()) {
            let (head, _) = text.split_at(text.len() / 2);
            fs::write(&path, head).unwrap();
            // The time that a slow writer leaves its file torn.
            std::thread::sleep(Duration::from_millis(3));
            fs::write(&path, text).unwrap();
            // Not in step with a reader who comes back every 20 ms: it would meet the torn file each time.
            std::thread::sleep(Duration::from_millis(29));
        }
    });
    world
        .until("the last content", |snapshot| {
            assert_eq!(snapshot.findings, [], "a torn file was taken for a broken one");
            snapshot.rigs.len() == 3
        })
        .await;
    writer.join().unwrap();
}

#[tokio::test]
async fn directories_may_appear_go_and_come_back() {
    let mut world = world(&["a"]);
    let layout = world.layout.clone();
    // The directory of state files is new.
    fs::remove_dir_all(layout.root().join(".beads-wisp")).unwrap();
    fs::create_dir_all(layout.wisp_dir()).unwrap();
    fs::write(layout.wisp(&rig("a")), r#"{"values":{"status":"parked"}}"#).unwrap();
    let parked = |snapshot: &Snapshot| snapshot.rigs[&rig("a")].operational == Err(Reason::Parked);
    world.until("parked", parked).await;
    fs::remove_file(layout.wisp(&rig("a"))).unwrap();
    world.until("unparked", |snapshot| snapshot.rigs[&rig("a")].operational.is_ok()).await;
    // The whole mayor directory is renamed away and made anew.
    fs::rename(layout.mayor_dir(), layout.root().join("old")).unwrap();
    world.until("kept", |snapshot| matches!(snapshot.registry, Known::Kept { .. })).await;
    fs::create_dir(layout.mayor_dir()).unwrap();
    fs::copy(layout.root().join("old/town.json"), layout.town_json()).unwrap();
    register(&layout, &["a", "b"]);
    world
        .until("the new registry", |snapshot| snapshot.rigs.len() == 2 && snapshot.findings.is_empty())
        .await;
    // Workers, settings and crew in a rig that was not there at the start.
    fs::create_dir_all(layout.root().join("b/polecats/nux")).unwrap();
    world.until("a worker", |snapshot| snapshot.rigs[&rig("b")].polecat_names().len() == 1).await;
    fs::create_dir(layout.root().join("b/polecats/ace")).unwrap();
    world.until("another", |snapshot| snapshot.rigs[&rig("b")].polecat_names().len() == 2).await;
    fs::create_dir_all(layout.root().join("b/settings")).unwrap();
    fs::write(layout.rig_settings(&rig("b")), r#"{"agent":"codex"}"#).unwrap();
    world
        .until("settings", |snapshot| {
            snapshot.rigs[&rig("b")].settings.value().unwrap().agent.as_deref() == Some("codex")
        })
        .await;
    fs::write(layout.rig_settings(&rig("b")), r#"{"agent":"#).unwrap();
    let kept = world.until("torn settings", |snapshot| !snapshot.findings.is_empty()).await;
    assert_eq!(kept.rigs[&rig("b")].settings.value().unwrap().agent.as_deref(), Some("codex"));
}

#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let mut world = world(&["a"]);
    for _ in 0..10 {
        register(&world.layout, &["a"]);
        fs::write(world.layout.events_jsonl(), "{}").unwrap();
        world.watch.look();
    }
    // A change that must be told comes after; nothing may come before it.
    register(&world.layout, &["a", "b"]);
    let seen = tokio::time::timeout(LONG, world.snapshots.recv()).await.unwrap().unwrap();
    assert_eq!(seen.rigs.len(), 2);
    assert!(world.nothing_waits());
}

#[tokio::test]
async fn a_receiver_that_does_not_listen_gets_the_newest() {
    let mut world = world(&["a"]);
    for round in 0..WAITING + 6 {
        let name = format!("r{round}");
        register(&world.layout, &["a", &name]);
        // Each is read before the next is made: as many snapshots as rounds.
        let until = Instant::now() + LONG;
        while world.snapshots.len() <= round.min(WAITING - 1) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let last = rig(&format!("r{}", WAITING + 5));
    world.until("the newest", |snapshot| snapshot.rigs.contains_key(&last)).await;
}

#[tokio::test]
async fn the_watch_ends_when_it_is_dropped() {
    let World { watch, mut snapshots, _base, .. } = world(&["a"]);
    drop(watch);
    let ended = tokio::time::timeout(LONG, snapshots.recv()).await.unwrap();
    assert!(ended.is_none());
}

#[test]
fn our_own_reading_is_no_event() {
    let event = |kind, path: &str| notify::Event::new(kind).add_path(path.into());
    let access = |kind| EventKind::Access(kind);
    let modify = EventKind::Modify(notify::event::ModifyKind::Any);
    assert!(!matters(&event(access(AccessKind::Open(AccessMode::Any)), "/t/mayor/rigs.json")));
    assert!(!matters(&event(access(AccessKind::Close(AccessMode::Read)), "/t/mayor/rigs.json")));
    assert!(matters(&event(access(AccessKind::Close(AccessMode::Write)), "/t/mayor/rigs.json")));
    assert!(matters(&event(modify, "/t/mayor/rigs.json")));
    assert!(!matters(&event(modify, "/t/.events.jsonl")));
    assert!(matters(&event(EventKind::Create(notify::event::CreateKind::Folder), "/t/.beads-wisp")));
    assert!(matters(&notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
}
