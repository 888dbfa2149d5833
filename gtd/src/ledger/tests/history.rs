//! Reading the past, and forgetting it.

use super::*;

async fn page(ledger: &Ledger, query: EventQuery) -> (Vec<u64>, u64, Option<u64>) {
    let page = ledger.events(query).await.unwrap();
    assert_eq!(page.stream_id, ledger.stream_id());
    let seqs = page.items.iter().map(|event| event.seq.0).collect();
    (seqs, page.next_since.0, page.gap.map(|gap| gap.oldest.0))
}

fn since(seq: u64) -> EventQuery {
    EventQuery { since: Some(Seq(seq)), ..EventQuery::default() }
}

#[tokio::test]
async fn pages_follow_each_other_and_filters_skip() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let mut rigged = NewEvent::new(noon(), "rig.parked", json!({}));
    rigged.rig = Some("a".parse().unwrap());
    let mut late = NewEvent::new(at("2026-03-01T13:00:00Z"), "x", json!({"a": [1, null]}));
    (late.cause, late.peer, late.instance) =
        (Some(Seq(1)), Some("pid 1".into()), Some(InstanceId::generate()));
    let committed = ledger
        .commit(vec![
            event_of("agent.ready", "a/witness"),
            event_of("agent.exited", "a/polecats/nux"),
            event_of("agent.ready", "b/witness"),
            Write::Event(rigged),
            Write::Event(late),
        ])
        .await
        .unwrap();
    assert_eq!(
        ledger.events(EventQuery::default()).await.unwrap().items,
        committed,
        "what was told is what is kept"
    );

    let kinds = |kinds: &[&str]| EventQuery {
        kinds: kinds.iter().map(ToString::to_string).collect(),
        ..EventQuery::default()
    };
    let agents = |text: &str| EventQuery { selector: Some(text.parse().unwrap()), ..EventQuery::default() };
    let limit = |query: EventQuery, n| EventQuery { limit: Some(n), ..query };
    let until = |query: EventQuery, seq| EventQuery { until: Some(Seq(seq)), ..query };
    let after = |text: &str| EventQuery { since_time: Some(at(text)), ..EventQuery::default() };
    let cases = [
        ("all", EventQuery::default(), vec![1, 2, 3, 4, 5], 5, None),
        ("from the start", since(0), vec![1, 2, 3, 4, 5], 5, None),
        ("a page", limit(since(0), 2), vec![1, 2], 2, None),
        ("the next", limit(since(2), 2), vec![3, 4], 4, None),
        ("the last", limit(since(4), 2), vec![5], 5, None),
        ("nothing new", since(5), vec![], 5, None),
        ("another stream's cursor", limit(since(6), 2), vec![1, 2], 2, Some(1)),
        ("up to", until(since(1), 3), vec![2, 3], 3, None),
        ("up to before", until(since(4), 3), vec![], 4, None),
        ("kinds", kinds(&["agent.*"]), vec![1, 2, 3], 5, None),
        ("either kind", kinds(&["x", "*.exited"]), vec![2, 5], 5, None),
        ("a page of kinds", limit(kinds(&["agent.*"]), 2), vec![1, 2], 2, None),
        ("a rig", agents("a"), vec![1, 2, 4], 5, None),
        ("a role", agents("witness"), vec![1, 3], 5, None),
        ("a glob", agents("a/*"), vec![1, 2], 5, None),
        ("an instant", after("2026-03-01T12:30:00Z"), vec![5], 5, None),
        ("this very instant", after("2026-03-01T13:00:00Z"), vec![5], 5, None),
        ("no limit at all", limit(since(0), 0), vec![1], 1, None),
    ];
    for (name, query, seqs, next, gap) in cases {
        assert_eq!(page(&ledger, query).await, (seqs, next, gap), "{name}");
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_of_the_agent() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let (nux, deacon) = (instance("a/polecats/nux"), instance("deacon"));
    let later = Exit { ended_at: at("2026-03-02T12:00:00Z"), ..exit(&nux) };
    let decided = |agent: &str, second| Write::Decision { agent: address(agent), decision: decision(second) };
    let answer = |answer| Write::Answer { key: "k".into(), method: "m".into(), answer, at: noon() };
    ledger
        .commit(vec![
            Write::Exit(Box::new(exit(&nux))),
            Write::Exit(Box::new(exit(&deacon))),
            Write::Exit(Box::new(later.clone())),
            Write::Signal(signal("deacon", 10)),
            Write::Signal(signal("a/polecats/nux", 20)),
            Write::Signal(signal("deacon", 30)),
            decided("deacon", 10),
            decided("deacon", 20),
            decided("mayor", 30),
            Write::Heartbeat(heartbeat(1)),
            Write::Heartbeat(heartbeat(2)),
            answer(json!({"first": true})),
            answer(json!({"first": false})),
        ])
        .await
        .unwrap();
    assert_eq!(ledger.exits(None, None).await.unwrap(), [later.clone(), exit(&deacon)]);
    assert_eq!(ledger.exits(Some(address("deacon")), Some(5)).await.unwrap(), [exit(&deacon)]);
    assert_eq!(ledger.exits(None, Some(1)).await.unwrap(), [later]);
    assert_eq!(
        ledger.signals(Some(address("deacon")), None, None).await.unwrap(),
        [signal("deacon", 30), signal("deacon", 10)]
    );
    let recent = ledger.signals(None, Some(Timestamp::from_second(10).unwrap()), None).await.unwrap();
    assert_eq!(recent, [signal("deacon", 30), signal("a/polecats/nux", 20)]);
    assert_eq!(ledger.decisions(address("deacon"), None, None).await.unwrap(), [decision(20), decision(10)]);
    let then = Some(Timestamp::from_second(15).unwrap());
    assert_eq!(ledger.decisions(address("deacon"), then, None).await.unwrap(), [decision(10)]);
    assert_eq!(ledger.heartbeats(Some(1)).await.unwrap(), [heartbeat(2)]);
    assert_eq!(ledger.answer("k").await.unwrap().unwrap().answer, json!({"first": true}));
    assert_eq!(ledger.answer("other").await.unwrap(), None);
}

/// Everything that is due, at once.
async fn prune(ledger: &Ledger, keep: Keep, now: Timestamp) {
    on_writer(ledger, move |conn| {
        let steps = (0..1_000).take_while(|_| prune::step(conn, &keep, now).unwrap()).count();
        assert!(steps < 1_000, "pruning ends");
    })
    .await;
}

#[tokio::test]
async fn old_history_goes_numbers_do_not_come_again_and_state_stays() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let old = "2026-01-01T00:00:00Z";
    let day = |text: &str, n: u64| Write::Event(NewEvent::new(at(text), "x", json!({ "n": n })));
    let open_instance = InstanceRow { reserved_at: at(old), ..instance("a/witness") };
    let over = InstanceRow { ended: true, ..InstanceRow { reserved_at: at(old), ..instance("a/witness") } };
    let mut writes: Vec<Write> = (0..1_500).map(|n| day(old, n)).collect();
    writes.extend([
        Write::Instance(open_instance.clone()),
        Write::Instance(over),
        Write::Agent(AgentRow { intent_at: at(old), ..agent("deacon") }),
        Write::Server(ServerRow { seen_at: at(old), ..server(40) }),
        Write::Decision { agent: address("deacon"), decision: decision(10) },
        Write::Decision { agent: address("deacon"), decision: decision(20) },
        day("2026-05-30T00:00:00Z", 0),
        // Dated wrongly, and yet not a reason to lose what came before.
        day("1970-01-01T00:00:00Z", 0),
    ]);
    ledger.commit(writes).await.unwrap();
    prune(&ledger, Keep::default(), at("2026-06-01T00:00:00Z")).await;

    assert_eq!(page(&ledger, EventQuery::default()).await, (vec![1_501, 1_502], 1_502, None));
    assert_eq!(page(&ledger, since(1_400)).await, (vec![1_501, 1_502], 1_502, Some(1_501)));
    assert_eq!(page(&ledger, since(1_500)).await, (vec![1_501, 1_502], 1_502, None));
    assert_eq!(
        ledger.decisions(address("deacon"), None, None).await.unwrap(),
        [decision(20)],
        "the newest stays"
    );
    on_writer(&ledger, |conn| conn.execute_batch("DELETE FROM events").unwrap()).await;
    assert_eq!(page(&ledger, since(7)).await, (vec![], 1_502, Some(1_503)));
    ledger.close().await;

    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!((state.last_seq, state.instances, state.agents.len()), (Seq(1_502), vec![open_instance], 1));
    assert_eq!(state.servers.len(), 1);
    assert_eq!(ledger.commit(vec![event("x", 0)]).await.unwrap()[0].seq, Seq(1_503));
}

#[tokio::test]
async fn rows_and_bytes_are_bounded_and_given_back() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    for _ in 0..10 {
        let big = || Write::Event(NewEvent::new(noon(), "x", json!("x".repeat(1_000))));
        ledger.commit((0..1_000).map(|_| big()).collect()).await.unwrap();
    }
    prune(&ledger, Keep { max_events: 6_000, ..Keep::default() }, noon()).await;
    assert_eq!(
        page(&ledger, EventQuery { limit: Some(1), ..since(0) }).await,
        (vec![4_001], 4_001, Some(4_001))
    );
    prune(&ledger, Keep { max_bytes: 3 << 20, ..Keep::default() }, noon()).await;
    ledger.clone().close().await;
    let bytes = std::fs::metadata(dir.path().join("gtd.db")).unwrap().len();
    assert!((1 << 20..4 << 20).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn a_hundred_thousand_rows_go_in_small_steps_and_neither_file_nor_log_grows_beyond_its_bound() {
    const ROWS: u64 = 100_000;
    let dir = scratch::dir();
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |found| found.len());
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let open: Vec<InstanceRow> = (0..50).map(|n| instance(&format!("r{n}/witness"))).collect();
    let mut state: Vec<Write> = open.iter().cloned().map(Write::Instance).collect();
    state.extend((0..50).map(|n| Write::Agent(agent(&format!("r{n}/witness")))));
    ledger.commit(state).await.unwrap();
    let mut log = 0;
    for batch in 0..ROWS / 2_000 {
        let agent = address("r1/witness");
        let rows = (0..1_000).flat_map(|n| {
            let decision = Write::Decision { agent: agent.clone(), decision: decision(10) };
            [event("some.kind", batch * 1_000 + n), decision]
        });
        ledger.commit(rows.collect()).await.unwrap();
        log = log.max(size("gtd.db-wal"));
    }
    // 4,000 pages until it is brought home, and what one transaction adds to that.
    assert!(log < 24 << 20, "the log had {log} bytes");
    let full = size("gtd.db") + size("gtd.db-wal");
    let keep = Keep { max_bytes: 4 << 20, ..Keep::default() };
    let (steps, longest) = on_writer(&ledger, move |conn| {
        let mut longest = Duration::ZERO;
        let mut steps = 0;
        loop {
            let began = std::time::Instant::now();
            let more = prune::step(conn, &keep, noon()).unwrap();
            longest = longest.max(began.elapsed());
            steps += 1;
            assert!(steps < 1_000, "pruning ends");
            if !more {
                return (steps, longest);
            }
        }
    })
    .await;
    assert!(steps > 10, "a commit may come in between: {steps} steps");
    assert!(longest < Duration::from_secs(1), "the longest step took {longest:?}");
    ledger.clone().close().await;
    let left = size("gtd.db");
    assert!(left < 6 << 20 && left * 2 < full, "{left} of {full} bytes are left");
    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!((state.instances.len(), state.agents.len()), (50, 50), "state has no age and no bound");
    assert_eq!(state.last_seq, Seq(ROWS / 2));
    // Room that was given up is used again.
    for n in 0..20 {
        ledger.commit((0..500).map(|m| event("x", n * 500 + m)).collect()).await.unwrap();
        on_writer(&ledger, move |conn| while prune::step(conn, &keep, noon()).unwrap() {}).await;
    }
    ledger.close().await;
    assert!(size("gtd.db") < 6 << 20, "{} bytes", size("gtd.db"));
}

#[tokio::test]
async fn changed_bounds_take_effect_at_once() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.commit((0..10).map(|n| event("x", n)).collect()).await.unwrap();
    ledger.set_keep(Keep { max_events: 3, max_age: Duration::MAX, ..Keep::default() });
    for _ in 0..500 {
        if page(&ledger, EventQuery::default()).await.0 == [8, 9, 10] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was pruned");
}
