//! Whatever lies where the file should be.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use super::*;

/// A directory with a ledger of some size in it, closed in order.
async fn made() -> (scratch::Scratch, PathBuf) {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let mut writes: Vec<Write> = (0..300).map(|n| event("some.kind", n)).collect();
    writes.push(Write::Agent(agent("deacon")));
    ledger.commit(writes).await.unwrap();
    ledger.close().await;
    let file = dir.path().join("gtd.db");
    (dir, file)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_with_every_byte_and_a_new_one_serves() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 7] = [
        ("text", |file| fs::write(file, "not a database").unwrap()),
        ("empty", |file| fs::write(file, "").unwrap()),
        ("half", |file| {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("short", |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(50).unwrap()),
        ("garbage inside", |file| {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            let pages = file.metadata().unwrap().len() / 4096;
            for page in 1..pages {
                file.write_at(&[0xa5; 512], page * 4096).unwrap();
            }
        }),
        ("a table is missing", |file| {
            Connection::open(file).unwrap().execute_batch("DROP TABLE agents").unwrap();
        }),
        ("another program's", |file| {
            fs::remove_file(file).unwrap();
            Connection::open(file).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        }),
    ];
    for (name, damage) in cases {
        let (dir, file) = made().await;
        damage(&file);
        // With nothing to rebuild it from: `snapshot.rs` has the other cases.
        fs::remove_file(dir.path().join("gtd.snapshot.json")).unwrap();
        let bytes = fs::read(&file).unwrap();
        let Opened { ledger, condition, state } = open(dir.path());
        let Condition::SetAside { to, why, restored } = condition else { panic!("{name}: {condition:?}") };
        assert!(!why.is_empty() && restored.is_none(), "{name}: {restored:?}");
        assert!(to.file_name().unwrap().to_str().unwrap().starts_with("gtd.db.corrupt-"), "{to:?}");
        if name != "a table is missing" {
            assert!(fs::read(&to).unwrap() == bytes, "{name}");
        }
        assert!(!state.known, "{name}: intents were lost");
        assert!(state.agents.is_empty(), "{name}");
        assert!(state.last_seq.0 > 1_000_000_000, "{name}: no number is told twice: {}", state.last_seq);
        let next = Seq(state.last_seq.0 + 1);
        assert_eq!(ledger.commit(vec![event("x", 1)]).await.unwrap()[0].seq, next);
        ledger.close().await;
        let (_, state) = open_sound(dir.path(), Condition::Existing);
        assert_eq!(state.last_seq, next);
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_set_aside_and_not_replayed() {
    let (dir, file) = made().await;
    fs::remove_file(&file).unwrap();
    fs::remove_file(dir.path().join("gtd.snapshot.json")).unwrap();
    fs::write(dir.path().join("gtd.db-wal"), "old frames").unwrap();
    let Opened { ledger, condition, state } = open(dir.path());
    assert!(matches!(condition, Condition::SetAside { .. }), "{condition:?}");
    assert!(!state.known);
    ledger.close().await;
    let found = names(dir.path());
    assert!(
        found.iter().any(|name| name.starts_with("gtd.db.corrupt-") && name.ends_with("-wal")),
        "{found:?}"
    );
}

#[tokio::test]
async fn two_files_set_aside_in_one_second_have_two_names() {
    let dir = scratch::dir();
    for _ in 0..3 {
        fs::write(dir.path().join("gtd.db"), "no").unwrap();
        open(dir.path()).ledger.close().await;
    }
    let aside = names(dir.path()).iter().filter(|name| name.starts_with("gtd.db.corrupt-")).count();
    assert_eq!(aside, 3);
}

#[tokio::test]
async fn what_cannot_be_replaced_is_left_alone_and_memory_serves() {
    type Obstacle = fn(&Path) -> PathBuf;
    let cases: [(&str, Obstacle); 4] = [
        ("a directory in place", |dir| {
            fs::create_dir(dir.join("gtd.db")).unwrap();
            dir.to_owned()
        }),
        ("a pipe in place", |dir| {
            rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("gtd.db"), rustix::fs::Mode::RUSR).unwrap();
            dir.to_owned()
        }),
        ("a link to nowhere", |dir| {
            std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("gtd.db")).unwrap();
            dir.to_owned()
        }),
        ("the parent is a file", |dir| {
            fs::write(dir.join("file"), "").unwrap();
            dir.join("file/daemon")
        }),
    ];
    for (name, obstacle) in cases {
        let dir = scratch::dir();
        let place = obstacle(dir.path());
        let before = names(dir.path());
        let Opened { ledger, condition, state } = open(&place);
        assert!(matches!(condition, Condition::Unavailable { .. }), "{name}: {condition:?}");
        assert!(!state.known && !state.stream_id.is_empty() && ledger.info().in_memory, "{name}");
        assert_eq!(ledger.stream_id(), state.stream_id);
        let writes = vec![event("x", 1), Write::Agent(agent("deacon"))];
        let first = Seq(state.last_seq.0 + 1);
        assert_eq!(ledger.commit(writes).await.unwrap()[0].seq, first, "{name}");
        assert!(ledger.trouble().is_some_and(|why| why.contains("memory")), "{name}");
        assert_eq!(ledger.events(EventQuery::default()).await.unwrap().items.len(), 1, "{name}");
        ledger.close().await;
        assert_eq!(names(dir.path()), before, "{name}");
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_not_touched() {
    let (dir, file) = made().await;
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let (bytes, before) = (fs::read(&file).unwrap(), names(dir.path()));
    let Opened { ledger, condition, state } = open(dir.path());
    let Condition::Newer { why } = condition else { panic!("{condition:?}") };
    assert!(why.contains("version 99") && why.contains("newer gtd"), "{why}");
    assert!(!state.known);
    ledger.close().await;
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(names(dir.path()), before);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_still_says_what_should_run() {
    let (dir, file) = made().await;
    // Root may write where modes forbid it; another program's lock stops root as well.
    let other = Connection::open(&file).unwrap();
    other.execute_batch("PRAGMA locking_mode = normal; BEGIN IMMEDIATE").unwrap();
    let Opened { ledger, condition, state } = open(dir.path());
    assert!(matches!(condition, Condition::Unavailable { .. }), "{condition:?}");
    assert!(state.known, "it was readable");
    assert_eq!(state.agents, [agent("deacon")]);
    assert_eq!(state.last_seq, Seq(1_000_300).max(state.last_seq), "above every number that was told");
    let (_, other_state) = (drop(other), open(dir.path()).state);
    assert_ne!(other_state.stream_id, state.stream_id, "events in memory are another stream");
    drop(ledger);
}

#[tokio::test]
async fn a_row_that_is_not_understood_does_not_hide_the_others() {
    let (dir, file) = made().await;
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch(
        "INSERT INTO agents SELECT 'a/b/c/d', intent, intent_by, intent_reason, intent_at, overrides, policy, 0 FROM agents;
         INSERT INTO agents SELECT 'mayor', 'dreaming', intent_by, intent_reason, intent_at, overrides, policy, 0
           FROM agents WHERE address = 'deacon'",
    )
    .unwrap();
    drop(conn);
    let (_, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.unreadable.len(), 1);
    assert!(state.unreadable[0].contains("a/b/c/d"), "{:?}", state.unreadable);
    assert_eq!(
        state.agents.iter().map(|row| row.intent).collect::<Vec<_>>(),
        [Intent::Running, Intent::Unknown]
    );
}

#[tokio::test]
async fn a_close_in_order_leaves_one_file_which_is_its_users_alone() {
    let (dir, file) = made().await;
    let ours = ["gtd.ballast", "gtd.db", "gtd.snapshot.json"];
    assert_eq!(names(dir.path()), ours);
    for name in ours {
        assert_eq!(fs::metadata(file.with_file_name(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn opening_that_hangs_ends_in_memory() {
    let dir = scratch::dir();
    let Opened { ledger, condition, state } = start(dir.path(), quick(), Duration::ZERO, MIGRATIONS);
    assert!(matches!(condition, Condition::Unavailable { .. }), "{condition:?}");
    assert!(!state.known && ledger.info().in_memory);
    assert!(ledger.commit(vec![event("x", 1)]).await.unwrap()[0].seq > Seq(1));
    // The thread that came too late closes what it opened, and is done.
    eventually("the file is closed again", || names(dir.path()).contains(&"gtd.db".to_owned())).await;
}
