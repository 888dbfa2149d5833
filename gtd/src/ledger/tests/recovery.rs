//! Lost files, found again: from snapshots, and from memory.

use std::fs;

use super::*;

fn stopped(name: &str) -> AgentRow {
    AgentRow { intent: Intent::Stopped, ..agent(name) }
}

fn conversation(agent: &str) -> ConversationRow {
    ConversationRow {
        agent: address(agent),
        conversation: "c-1".into(),
        preset: "claude".into(),
        account: Some("work".into()),
        instance: "01958b3e-7a3c-7b1e-8b1a-0123456789ab".parse().unwrap(),
        at: noon(),
    }
}

#[tokio::test]
async fn who_is_forgotten_leaves_no_conversation_to_whoever_gets_the_name() {
    let dir = made().await;
    let Opened { ledger, state, .. } = open(dir.path());
    assert_eq!(state.conversations, [conversation("a/refinery")]);
    ledger.commit(vec![Write::Forget(address("a/refinery"))]).await.unwrap();
    ledger.close().await;
    let Opened { ledger, state, .. } = open(dir.path());
    assert!(state.conversations.is_empty());
    let forget = Write::Conversation(ConversationWrite::Forget(address("a/witness")));
    ledger.commit(vec![forget]).await.unwrap();
    ledger.close().await;
}

/// A ledger that knows something, closed in order.
async fn made() -> scratch::Scratch {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let state = [
        Write::Agent(stopped("a/witness")),
        Write::Agent(agent("a/refinery")),
        Write::Conversation(ConversationWrite::Keep(conversation("a/refinery"))),
        Write::Instance(instance("a/refinery")),
        Write::Server(server(40)),
        Write::Hold(Some(hold())),
        Write::Fact { key: "config".into(), value: Some(json!("text")) },
        Write::Heartbeat(heartbeat(4)),
        event("x", 1),
    ];
    ledger.commit(state.to_vec()).await.unwrap();
    ledger.close().await;
    dir
}

fn lose(dir: &Path, how: &str) {
    let file = dir.join("gtd.db");
    match how {
        "gone" => fs::remove_file(file).unwrap(),
        "garbage" => fs::write(file, "garbage").unwrap(),
        length => {
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length.parse().unwrap()).unwrap()
        }
    }
}

#[tokio::test]
async fn a_lost_file_is_made_anew_of_its_snapshot() {
    for how in ["gone", "garbage", "0", "1", "99", "100", "4096", "5000", "20000"] {
        let dir = made().await;
        let before = open(dir.path());
        before.ledger.close().await;
        lose(dir.path(), how);
        let Opened { ledger, condition, state } = open(dir.path());
        let restored = match condition {
            Condition::SetAside { restored, .. } if how != "gone" => restored,
            Condition::Missing { restored } if how == "gone" => restored,
            other => panic!("{how}: {other:?}"),
        };
        assert!(restored.is_some_and(|restored| !restored.older), "{how}");
        assert!(state.known, "{how}");
        assert_eq!(state.agents, before.state.agents, "{how}");
        assert_eq!(state.instances, before.state.instances, "{how}");
        assert_eq!(state.conversations, [conversation("a/refinery")], "{how}");
        assert_eq!((&state.servers, &state.hold), (&before.state.servers, &before.state.hold), "{how}");
        assert_eq!((&state.facts, state.heartbeat_number), (&before.state.facts, 4), "{how}");
        assert_ne!(state.stream_id, before.state.stream_id, "{how}");
        // Every old cursor is told of the gap.
        let next = ledger.commit(vec![event("x", 2)]).await.unwrap()[0].seq;
        assert!(next.0 > before.state.last_seq.0 + 1_000_000, "{how}");
        for since in [0, 1, before.state.last_seq.0, next.0 + 1] {
            let query = EventQuery { since: Some(Seq(since)), ..EventQuery::default() };
            let page = ledger.events(query).await.unwrap();
            assert_eq!(page.gap.map(|gap| gap.oldest), Some(next), "{how}: since {since}");
            assert_eq!(page.items.len(), 1, "{how}: since {since}");
        }
        ledger.close().await;
        let (_, again) = open_sound(dir.path(), Condition::Existing);
        assert_eq!((again.agents, again.last_seq), (state.agents, next), "{how}");
    }
}

fn work(number: i64, status: &str) -> WorkRow {
    WorkRow {
        number,
        id: format!("a-{number}").parse().unwrap(),
        title: format!("item {number}"),
        description: Some("more".into()),
        status: status.into(),
        assignee: (status == "hooked").then(|| "a/witness".into()),
        priority: 2,
        created_at: noon(),
        created_by: "person".into(),
        updated_at: noon(),
        hooked_at: (status == "hooked").then(noon),
        closed_at: (status == "closed").then(noon),
        closed_why: None,
    }
}

#[tokio::test]
async fn open_work_and_hooks_outlive_a_lost_file_and_no_number_comes_again() {
    for how in ["gone", "garbage"] {
        let dir = made().await;
        let (ledger, _) = open_sound(dir.path(), Condition::Existing);
        let seen = SeenRow {
            agent: address("a/refinery"),
            store: "/town/a".into(),
            work: "pj-8od".parse().unwrap(),
            title: "theirs".into(),
            since: noon(),
            seen_at: noon(),
        };
        let rows = [work(1, "open"), work(2, "hooked"), work(3, "closed")];
        let mut writes: Vec<Write> = rows.into_iter().map(|row| Write::Work(WorkWrite::Item(row))).collect();
        writes.push(Write::Work(WorkWrite::Seen(seen.clone())));
        ledger.commit(writes).await.unwrap();
        ledger.close().await;
        lose(dir.path(), how);
        let Opened { ledger, state, .. } = open(dir.path());
        assert!(state.work.whole, "{how}");
        assert_eq!(
            ledger.work_items(WorkQuery::default()).await.unwrap(),
            [work(1, "open"), work(2, "hooked")]
        );
        assert_eq!(ledger.hooks_seen().await.unwrap(), [seen], "{how}");
        let (next, open) = ledger.work_numbers().await.unwrap();
        assert!(next > 3 && open == 2, "{how}: {next} {open}");
        ledger.close().await;
    }
}

#[tokio::test]
async fn more_open_work_than_a_snapshot_holds_is_said_not_to_be_whole() {
    let dir = made().await;
    let (ledger, _) = open_sound(dir.path(), Condition::Existing);
    let large = |number| WorkRow { description: Some("x".repeat(60_000)), ..work(number, "open") };
    for number in 1..=200 {
        ledger.commit(vec![Write::Work(WorkWrite::Item(large(number)))]).await.unwrap();
    }
    ledger.commit(vec![Write::Work(WorkWrite::Item(work(201, "hooked")))]).await.unwrap();
    ledger.close().await;
    assert!(fs::metadata(dir.path().join("gtd.snapshot.json")).unwrap().len() < 16 << 20);
    lose(dir.path(), "gone");
    let Opened { ledger, state, .. } = open(dir.path());
    assert!(!state.work.whole && !state.work.items.is_empty());
    // What is on a hook comes first.
    assert_eq!(state.work.items[0].number, 201);
    assert!(ledger.work_numbers().await.unwrap().0 > 201);
    ledger.close().await;
}

#[tokio::test]
async fn of_an_older_copy_everything_is_taken_and_nothing_relied_upon() {
    let dir = made().await;
    fs::rename(dir.path().join("gtd.snapshot.json"), dir.path().join("gtd.snapshot.json.2")).unwrap();
    fs::write(dir.path().join("gtd.snapshot.json"), "{\"v\":1").unwrap();
    lose(dir.path(), "garbage");
    let Opened { condition, state, .. } = open(dir.path());
    let Condition::SetAside { restored: Some(restored), .. } = condition else { panic!("{condition:?}") };
    assert!(restored.older && restored.from.ends_with("gtd.snapshot.json.2"));
    assert!(!state.known, "a stop that came after the copy is not in it");
    assert_eq!(state.agents.len(), 2);
    assert!(state.agents.contains(&stopped("a/witness")));
}

#[tokio::test]
async fn without_any_snapshot_that_can_be_read_nothing_is_known() {
    for how in ["gone", "garbage"] {
        let dir = made().await;
        fs::write(dir.path().join("gtd.snapshot.json"), "torn").unwrap();
        lose(dir.path(), how);
        let state = open(dir.path()).state;
        assert!(!state.known && state.agents.is_empty(), "{how}");
    }
}

#[tokio::test]
async fn a_snapshot_follows_each_change_soon_and_by_itself() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.commit(vec![Write::Agent(agent("deacon"))]).await.unwrap();
    let has = |intent: Intent| {
        let found = snapshot::newest(dir.path());
        found.is_some_and(|found| found.loaded.agents.first().is_some_and(|row| row.intent == intent))
    };
    eventually("the agent is in it", || has(Intent::Running)).await;
    ledger.commit(vec![Write::Agent(stopped("deacon"))]).await.unwrap();
    eventually("the stop is in it", || has(Intent::Stopped)).await;
    let written = || fs::metadata(dir.path().join("gtd.snapshot.json")).unwrap().modified().unwrap();
    let before = written();
    for n in 0..50 {
        ledger.commit(vec![event("x", n)]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(written(), before, "what merely tells changes no state");
    assert_eq!(ledger.snapshot_trouble(), None);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_is_said_and_written_later() {
    let dir = scratch::dir();
    fs::create_dir(dir.path().join("gtd.snapshot.json")).unwrap();
    let ledger = open(dir.path()).ledger;
    ledger.commit(vec![Write::Agent(agent("deacon"))]).await.unwrap();
    eventually("it is said", || ledger.snapshot_trouble().is_some()).await;
    assert_eq!(ledger.trouble(), None, "the ledger itself is sound");
    fs::remove_dir(dir.path().join("gtd.snapshot.json")).unwrap();
    eventually("it is written", || ledger.snapshot_trouble().is_none()).await;
    assert_eq!(snapshot::newest(dir.path()).unwrap().loaded.agents, [agent("deacon")]);
}

#[tokio::test]
async fn from_memory_everything_goes_back_into_the_file_under_the_same_numbers() {
    let dir = made().await;
    // Another program's lock keeps us out of a file that we can read.
    let other = Connection::open(dir.path().join("gtd.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let Opened { ledger, condition, state } = open(dir.path());
    assert!(matches!(condition, Condition::Unavailable { .. }) && state.known, "{condition:?}");
    let row = InstanceRow { ended: true, ..state.instances[0].clone() };
    let writes = vec![
        Write::Agent(stopped("a/refinery")),
        Write::Forget(address("a/witness")),
        Write::Instance(row.clone()),
        Write::Exit(Box::new(exit(&row))),
        Write::Hold(None),
        Write::Fact { key: "config".into(), value: None },
        Write::Decision { agent: address("a/refinery"), decision: decision(1) },
        Write::Signal(signal("a/refinery", 1)),
        Write::Heartbeat(heartbeat(5)),
        Write::Answer { key: "k".into(), method: "m".into(), answer: json!(1), at: noon() },
        event("in.memory", 1),
    ];
    let told = ledger.commit(writes).await.unwrap();
    drop(other);
    eventually("it is back", || ledger.trouble().is_none()).await;
    assert!(!ledger.info().in_memory);
    let after = ledger.commit(vec![event("in.file", 2)]).await.unwrap();
    assert_eq!(after[0].seq.0, told[0].seq.0 + 1, "the stream goes on");
    let page =
        ledger.events(EventQuery { since: Some(state.last_seq), ..EventQuery::default() }).await.unwrap();
    assert_eq!(page.items, [told, after].concat());
    assert_eq!(page.stream_id, state.stream_id);
    ledger.close().await;

    let (ledger, again) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(again.stream_id, state.stream_id);
    assert_eq!(again.agents, [stopped("a/refinery")]);
    assert_eq!((again.instances.len(), again.hold, again.facts.len()), (0, None, 0));
    assert_eq!(again.heartbeat_number, 5);
    assert_eq!(again.servers, [server(40)]);
    assert_eq!(ledger.exits(None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.signals(None, None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.decisions(address("a/refinery"), None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.heartbeats(None).await.unwrap().len(), 2);
    assert!(ledger.answer("k").await.unwrap().is_some());
    let kinds: Vec<String> = ledger
        .events(EventQuery::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(kinds, ["x", "in.memory", "in.file"]);
}

#[tokio::test]
async fn memory_that_knew_nothing_never_replaces_what_a_file_says() {
    let dir = made().await;
    fs::remove_file(dir.path().join("gtd.snapshot.json")).unwrap();
    fs::rename(dir.path().join("gtd.db"), dir.path().join("away")).unwrap();
    fs::create_dir(dir.path().join("gtd.db")).unwrap();
    let Opened { ledger, state, .. } = open(dir.path());
    assert!(!state.known);
    ledger.commit(vec![Write::Agent(agent("deacon"))]).await.unwrap();
    fs::remove_dir(dir.path().join("gtd.db")).unwrap();
    fs::rename(dir.path().join("away"), dir.path().join("gtd.db")).unwrap();
    eventually("it asks for a restart", || ledger.trouble().is_some_and(|why| why.contains("restart"))).await;
    assert!(ledger.info().in_memory);
    ledger.close().await;
    let (_, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.agents.len(), 2);
}

#[tokio::test]
async fn memory_that_knew_nothing_becomes_the_file_where_there_is_none() {
    let dir = scratch::dir();
    fs::create_dir(dir.path().join("gtd.db")).unwrap();
    let Opened { ledger, state, .. } = open(dir.path());
    assert!(!state.known);
    ledger.commit(vec![Write::Agent(agent("deacon"))]).await.unwrap();
    fs::remove_dir(dir.path().join("gtd.db")).unwrap();
    eventually("it is in its file", || ledger.trouble().is_none()).await;
    ledger.close().await;
    let (_, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.agents, [agent("deacon")]);
}
