//! Files of earlier versions, as those versions wrote them.

use super::schema::{Migration, current};
use super::*;

/// What the released version 1 wrote, by now frozen: never edited along with the tables.
const V1: &str = include_str!("../testdata/v1.sql");

fn fixture(dir: &Path) {
    let conn = Connection::open(dir.join("gtd.db")).unwrap();
    conn.execute_batch(V1).unwrap();
}

fn tables(conn: &Connection) -> Vec<(String, String)> {
    let mut statement = conn
        .prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .unwrap();
    let squeeze = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    statement
        .query_map([], |row| Ok((row.get(0)?, squeeze(row.get(1)?))))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test]
async fn what_version_1_wrote_is_read() {
    let dir = scratch::dir();
    fixture(dir.path());
    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.stream_id, "5d0c3a52-6a43-4a36-9d2b-0d6f3f2f7a11");
    assert_eq!((state.last_seq, state.heartbeat_number), (Seq(7), 3));
    assert_eq!(state.agents, [AgentRow { intent_reason: None, ..agent("a/witness") }]);
    assert_eq!(state.instances.len(), 1);
    assert_eq!(state.instances[0].shim, Some(key(41)));
    assert_eq!(state.servers, [server(40)]);
    assert_eq!(state.hold, Some(hold()));
    assert_eq!(state.facts.len(), 1);
    assert_eq!(state.unreadable, Vec::<String>::new());
    let events = ledger.events(EventQuery::default()).await.unwrap().items;
    assert_eq!((events[0].seq, events[0].agent.clone()), (Seq(7), Some(address("a/witness"))));
    assert_eq!(ledger.exits(None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.signals(None, None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.decisions(address("a/witness"), None, None).await.unwrap().len(), 1);
    assert_eq!(ledger.heartbeats(None).await.unwrap().len(), 1);
    assert!(ledger.answer("k").await.unwrap().is_some());
    assert_eq!(ledger.commit(vec![event("x", 1)]).await.unwrap()[0].seq, Seq(8));
}

/// A file of the first daemon that wrote version 1: see `testdata/README.md`.
const V1_FILE: &[u8] = include_bytes!("../testdata/v1.db");

#[tokio::test]
async fn a_file_of_the_first_daemon_opens_with_everything_that_it_knew() {
    let dir = scratch::dir();
    std::fs::write(dir.path().join("gtd.db"), V1_FILE).unwrap();
    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.stream_id, "742052d4-e04d-4795-b31b-6124c7d19580");
    assert_eq!((state.last_seq, state.heartbeat_number), (Seq(27), 1));
    assert_eq!(state.unreadable, Vec::<String>::new());
    let wishes: Vec<(String, Intent, &str, Option<&str>)> = state
        .agents
        .iter()
        .map(|row| {
            (row.address.to_string(), row.intent, row.intent_by.as_str(), row.intent_reason.as_deref())
        })
        .collect();
    let policy = ("supervisor", Some("the role is always on"));
    assert_eq!(
        wishes,
        [
            ("a/refinery".to_owned(), Intent::Running, policy.0, policy.1),
            ("a/witness".to_owned(), Intent::Stopped, "person", Some("looking into it")),
            ("b/refinery".to_owned(), Intent::Running, policy.0, policy.1),
            ("b/witness".to_owned(), Intent::Running, "person", None),
        ]
    );
    assert_eq!(state.agents[3].overrides, json!({"env": {"A": "1"}}));
    let waiting = &state.agents[2].policy["waiting"];
    assert_eq!(waiting, &json!(["2026-11-21T17:21:59.316309829Z", "backoff"]));
    assert_eq!(state.agents[2].lifetime_restarts, 2);
    let open: Vec<String> = state.instances.iter().map(|row| row.agent.to_string()).collect();
    assert_eq!(open, ["a/refinery", "b/witness"]);
    assert!(state.instances.iter().all(|row| row.process.is_some() && row.launch["shim"]["pid"].is_i64()));
    assert_eq!((state.servers.len(), state.hold), (1, None));
    assert!(state.facts["config"].as_str().unwrap().contains("60s"));
    let events = ledger.events(EventQuery::default()).await.unwrap().items;
    assert_eq!((events.len(), events[26].seq), (27, Seq(27)));
    assert_eq!(ledger.exits(None, None).await.unwrap().len(), 4);
    assert_eq!(ledger.signals(None, None, None).await.unwrap().len(), 3);
    assert_eq!(ledger.decisions(address("b/refinery"), None, None).await.unwrap().len(), 4);
    assert_eq!(ledger.heartbeats(None).await.unwrap().len(), 1);
    assert_eq!(ledger.answer("k1").await.unwrap().unwrap().method, "witness.stop");
    assert_eq!(ledger.commit(vec![event("x", 1)]).await.unwrap()[0].seq, Seq(28));
}

#[tokio::test]
async fn a_migration_of_it_that_fails_half_way_leaves_every_byte() {
    let dir = scratch::dir();
    std::fs::write(dir.path().join("gtd.db"), V1_FILE).unwrap();
    let opened = start(dir.path(), Options::default(), OPEN_DEADLINE, BROKEN);
    assert!(matches!(opened.condition, Condition::Unavailable { .. }), "{:?}", opened.condition);
    assert!(opened.ledger.trouble().is_some_and(|why| why.contains("schema version 2")));
    opened.ledger.close().await;
    let rows = |bytes: &[u8]| {
        let at = scratch::dir();
        std::fs::write(at.path().join("x.db"), bytes).unwrap();
        let conn = Connection::open(at.path().join("x.db")).unwrap();
        let version: i32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        let policies: String = conn
            .query_row("SELECT group_concat(address || policy) FROM agents", [], |row| row.get(0))
            .unwrap();
        (version, policies)
    };
    assert_eq!(rows(&std::fs::read(dir.path().join("gtd.db")).unwrap()), rows(V1_FILE));
    let next = start(dir.path(), Options::default(), OPEN_DEADLINE, next());
    assert_eq!(next.condition, Condition::Existing, "and the mended program goes on with it");
    assert_eq!(next.state.agents.len(), 4);
}

#[test]
fn the_first_migration_still_makes_what_version_1_had() {
    let made = Connection::open_in_memory().unwrap();
    made.execute_batch(MIGRATIONS[0].sql).unwrap();
    let had = Connection::open_in_memory().unwrap();
    had.execute_batch(V1).unwrap();
    assert_eq!(tables(&made), tables(&had));
    assert!(MIGRATIONS.iter().zip(1..).all(|(step, version)| step.version == version));
}

/// Rows of version 3 that version 4 reads: mail has more columns since.
#[tokio::test]
async fn what_version_3_wrote_is_read() {
    let dir = scratch::dir();
    {
        let mut conn = Connection::open(dir.path().join("gtd.db")).unwrap();
        conn.execute_batch(V1).unwrap();
        schema::migrate(&mut conn, &MIGRATIONS[..3]).unwrap();
        conn.execute_batch(
            "INSERT INTO mail (id, sender, recipient, subject, body, at, key, incident) VALUES
               ('m-1', 'daemon', 'overseer', 's', 'b', '2026-01-02T03:04:05Z', 'k', 'i');
             INSERT INTO polecats (rig, name, state, made_at) VALUES
               ('a', 'nux', 'ready', '2026-01-02T03:04:05Z');
             INSERT INTO conversations (agent, conversation, preset, instance, at) VALUES
               ('a/witness', 'c', 'claude', '018f3b5e-7a3c-7b1e-8b1a-0123456789ab', '2026-01-02T03:04:05Z');",
        )
        .unwrap();
    }
    let (ledger, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.unreadable, Vec::<String>::new());
    assert_eq!((state.polecats.len(), state.conversations.len(), state.lifecycle.len()), (1, 1, 0));
    assert_eq!(state.agents, [AgentRow { intent_reason: None, ..agent("a/witness") }]);
    let mail = ledger.mail("m-1").await.unwrap().unwrap();
    assert_eq!((mail.subject.as_str(), mail.via), ("s", None));
    assert_eq!(ledger.outgoing_mail().await.unwrap(), []);
    assert_eq!(ledger.mail_incidents().await.unwrap(), ["i".to_owned()].into());
    assert_eq!(ledger.open_lifecycles().await.unwrap(), []);
}

/// What a later program would bring: today's steps, and one more.
fn next() -> &'static [Migration] {
    let mut steps: Vec<Migration> =
        MIGRATIONS.iter().map(|step| Migration { version: step.version, sql: step.sql }).collect();
    let sql = "ALTER TABLE agents ADD COLUMN note TEXT; UPDATE agents SET policy = '{}'";
    steps.push(Migration { version: current(MIGRATIONS) + 1, sql });
    steps.leak()
}

const BROKEN: &[Migration] = &[
    Migration { version: 1, sql: MIGRATIONS[0].sql },
    Migration {
        version: 2,
        sql: "UPDATE agents SET policy = '{}'; ALTER TABLE nowhere ADD COLUMN note TEXT",
    },
];

#[tokio::test]
async fn a_later_version_migrates_keeps_a_copy_and_is_not_opened_by_the_earlier_one() {
    let dir = scratch::dir();
    fixture(dir.path());
    let opened = start(dir.path(), Options::default(), OPEN_DEADLINE, next());
    assert_eq!(opened.condition, Condition::Existing);
    assert_eq!(opened.state.agents[0].policy, json!({}));
    opened.ledger.close().await;

    let copy = Connection::open(dir.path().join("gtd.db.v1")).unwrap();
    let policy: String = copy.query_row("SELECT policy FROM agents", [], |row| row.get(0)).unwrap();
    assert_eq!(policy, r#"{"consecutive":2}"#);

    let back = open(dir.path());
    assert!(matches!(back.condition, Condition::Newer { .. }), "{:?}", back.condition);
}

#[tokio::test]
async fn a_step_that_fails_changes_nothing_and_sets_nothing_aside() {
    let dir = scratch::dir();
    fixture(dir.path());
    let opened = start(dir.path(), Options::default(), OPEN_DEADLINE, BROKEN);
    let Condition::Unavailable { why } = opened.condition else { panic!("{:?}", opened.condition) };
    assert!(why.contains("schema version 2"), "{why}");
    opened.ledger.close().await;
    let (_, state) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(state.agents[0].policy, json!({"consecutive": 2}));
}
