//! Writing: durability, grouping, deadlines, a full disk.

use std::sync::mpsc;
use std::time::Instant;

use super::*;

/// Keeps the store's thread from doing anything until something is sent, as a disk does that hangs.
fn hang(ledger: &Ledger) -> Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let run = move |_: &mut Connection| {
        let _ = wait.recv();
    };
    ledger.jobs.send(Job::Run(Box::new(run))).ok().unwrap();
    go
}

#[tokio::test]
async fn state_comes_back_as_it_was_written_also_without_a_close() {
    let dir = scratch::dir();
    let (ledger, state) = open_sound(dir.path(), Condition::Fresh);
    let stream = state.stream_id.clone();
    let running = instance("a/polecats/nux");
    let over = InstanceRow { ended: true, ..instance("a/witness") };
    let fact = |value| Write::Fact { key: "boot".into(), value };
    let writes = vec![
        Write::Agent(agent("a/polecats/nux")),
        Write::Agent(agent("deacon")),
        Write::Agent(agent("a/polecats/gone")),
        Write::Forget(address("a/polecats/gone")),
        Write::Instance(running.clone()),
        Write::Instance(over),
        Write::Server(server(40)),
        Write::Server(server(39)),
        Write::ServerGone { server: server_key(39), at: noon() },
        Write::Hold(Some(hold())),
        Write::Heartbeat(heartbeat(12)),
        fact(Some(json!("b0"))),
        Write::Fact { key: "old".into(), value: None },
        event("x", 1),
        event("x", 2),
    ];
    let events = ledger.commit(writes).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ledger.last_seq(), Seq(2));
    drop(ledger);

    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.stream_id, stream);
    assert_eq!(state.last_seq, Seq(2));
    assert_eq!(state.agents, [agent("a/polecats/nux"), agent("deacon")]);
    assert_eq!(state.instances, std::slice::from_ref(&running));
    assert_eq!(state.servers, [server(40)]);
    assert_eq!(state.hold, Some(hold()));
    assert_eq!(state.heartbeat_number, 12);
    assert_eq!(state.facts, [("boot".to_owned(), json!("b0"))].into());
    assert_eq!(state.unreadable, Vec::<String>::new());

    let ended = InstanceRow { ended: true, ready_at: Some(noon()), ..running };
    let stopped = AgentRow { intent: Intent::Stopped, intent_reason: None, ..agent("deacon") };
    let writes = vec![Write::Instance(ended), Write::Agent(stopped.clone()), Write::Hold(None), fact(None)];
    ledger.commit(writes).await.unwrap();
    ledger.close().await;

    let (_, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.instances, []);
    assert_eq!(state.agents[1], stopped);
    assert_eq!((state.hold, state.facts.len()), (None, 0));
}

#[tokio::test]
async fn a_request_is_written_whole_or_not_at_all_and_takes_no_other_along() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let huge = Write::Event(NewEvent::new(noon(), "x", json!("x".repeat(2 << 20))));
    // Held back, so that all three share one transaction.
    let go = hang(&ledger);
    let before = ledger.info();
    let requests = async {
        tokio::join!(
            ledger.commit(vec![event("a", 1), event("a", 2)]),
            ledger.commit(vec![event("b", 3), Write::Agent(agent("deacon")), huge]),
            ledger.commit(vec![event("c", 4)]),
        )
    };
    let release = async {
        eventually("all three wait", || ledger.writing.available_permits() == QUEUE - 3).await;
        go.send(()).unwrap();
    };
    let ((a, b, c), ()) = tokio::join!(requests, release);
    assert_eq!(a.unwrap().len(), 2);
    assert!(matches!(b, Err(LedgerError::Value { what: "event", .. })), "{b:?}");
    assert_eq!(c.unwrap()[0].seq, Seq(3), "the number of what was not written is free");
    let after = ledger.info();
    assert_eq!((after.commits - before.commits, after.transactions - before.transactions), (2, 1));
    let kinds: Vec<String> = ledger
        .events(EventQuery::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, ["a", "a", "c"]);
    drop(ledger);
    assert_eq!(open(dir.path()).state.agents, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_transactions() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let one_by_one = Instant::now();
    for n in 0..100 {
        ledger.commit(vec![event("single", n)]).await.unwrap();
    }
    let alone = one_by_one.elapsed() / 100;

    let before = ledger.info();
    let start = Instant::now();
    let writers: Vec<_> = (0..64)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    ledger.commit(vec![event("shared", n)]).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let took = start.elapsed();
    let after = ledger.info();
    let (commits, transactions) = (after.commits - before.commits, after.transactions - before.transactions);
    println!(
        "alone {alone:?} each; 64 writers: {commits} commits in {transactions} transactions, {:.0}/s",
        f64::from(u32::try_from(commits).unwrap()) / took.as_secs_f64()
    );
    assert_eq!(commits, 3_200);
    assert!(transactions * 2 < commits, "{transactions} transactions");
    assert_eq!(ledger.last_seq(), Seq(3_300));
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hang_the_caller() {
    let dir = scratch::dir();
    let ledger = open_with(dir.path(), quick()).ledger;
    let (orphans_tx, orphans) = mpsc::channel();
    assert!(ledger.tap(move |events| drop(orphans_tx.send(events))));
    assert!(!ledger.tap(|_| ()), "there is one tap");

    let go = hang(&ledger);
    let start = Instant::now();
    let late = ledger.commit(vec![event("never", 1)]).await;
    assert!(matches!(late, Err(LedgerError::Timeout { begun: false, .. })), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(ledger.last_seq(), Seq(0), "cached: needs no disk");
    // Other questions still have their own thread.
    assert_eq!(ledger.events(EventQuery::default()).await.unwrap().items, []);

    // One whose caller goes away without a word is written, and others are told.
    let gone = tokio::time::timeout(Duration::from_millis(50), ledger.commit(vec![event("orphan", 2)])).await;
    assert!(gone.is_err());
    go.send(()).unwrap();
    let told = orphans.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((told[0].seq, told[0].kind.as_str()), (Seq(1), "orphan"));
    assert_eq!(ledger.commit(vec![event("after", 3)]).await.unwrap()[0].seq, Seq(2));
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_its_own_and_passes() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.commit(vec![event("x", 0)]).await.unwrap();
    let pages: i64 = on_writer(&ledger, |conn| {
        conn.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))
            .and_then(|pages| {
                conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))
            })
            .unwrap()
    })
    .await;
    let big = || Write::Event(NewEvent::new(noon(), "big", json!("x".repeat(100_000))));
    for _ in 0..3 {
        assert_eq!(ledger.commit(vec![big(), event("y", 1)]).await, Err(LedgerError::DiskFull));
    }
    ledger.describe(vec![big()]).await;
    eventually("the description is dropped", || ledger.info().dropped == 1).await;
    on_writer(&ledger, move |conn| {
        conn.query_row(&format!("PRAGMA max_page_count = {}", pages + 1_000), [], |_| Ok(())).unwrap();
    })
    .await;
    let events = ledger.commit(vec![big(), event("y", 1)]).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn descriptions_are_written_soon_told_to_the_tap_and_never_overtake_or_undo_a_commit() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let (tx, told) = mpsc::channel();
    ledger.tap(move |events| drop(tx.send(events)));
    ledger.describe(vec![event("described", 1)]).await;
    let told = told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!((told[0].seq, ledger.last_seq()), (Seq(1), Seq(1)));

    let first = instance("a/witness");
    let ended = InstanceRow { ended: true, ..first.clone() };
    ledger.describe(vec![Write::Instance(first)]).await;
    ledger.commit(vec![Write::Instance(ended)]).await.unwrap();
    ledger.close().await;
    assert_eq!(open(dir.path()).state.instances, []);
}

#[tokio::test]
async fn too_many_descriptions_are_dropped_and_counted() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let go = hang(&ledger);
    for n in 0..(DESCRIBE_QUEUE as u64 + 100) {
        ledger.describe(vec![event("x", n)]).await;
    }
    assert_eq!(ledger.info().dropped, 100);
    go.send(()).unwrap();
    eventually("the others are written", || ledger.last_seq() == Seq(DESCRIBE_QUEUE as u64)).await;
    ledger.describe(vec![event("x", 0)]).await;
    eventually("there is room again", || ledger.last_seq() == Seq(DESCRIBE_QUEUE as u64 + 1)).await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.describe(vec![event("x", 1)]).await;
    let other = ledger.clone();
    ledger.close().await;
    assert_eq!(other.commit(vec![event("x", 2)]).await, Err(LedgerError::Closed));
    eventually("the reader ends too", || other.reads.send(Job::Describe(vec![])).is_err()).await;
    assert_eq!(other.events(EventQuery::default()).await, Err(LedgerError::Closed));
    assert_eq!(open(dir.path()).state.last_seq, Seq(1), "what waited was written");
}
