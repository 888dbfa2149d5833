//! The daemon's own mail over a real ledger, with made-up events.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::ledger::{Loaded, MailRow, NewEvent, Opened, open, scratch};

type Told = Arc<Mutex<Vec<String>>>;

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Heard(Told);

impl Heard {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Post for Heard {
    async fn wake(&self, agent: Address, from: String, id: String) {
        self.note(format!("wake {agent} {from} {id}"));
    }

    fn via(&self, _: &str) -> Option<String> {
        None
    }

    async fn told(&self, _: Address, _: String, _: String, _: String) {}

    async fn undelivered(&self, whose: &str, why: Option<String>) {
        self.note(format!("undelivered {whose} {}", why.is_some()));
    }

    async fn unkept(&self, why: Option<String>) {
        self.note(format!("unkept {}", why.is_some()));
    }
}

/// A daemon's life.
struct Life {
    ledger: Ledger,
    bus: Bus,
    heard: Heard,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
    fact: Option<Value>,
}

impl Life {
    fn begin(dir: &std::path::Path) -> Self {
        let Opened { ledger, state, .. } = open(dir);
        let Loaded { facts, .. } = state;
        let bus = Bus::new(ledger.clone(), 64);
        let fact = facts.get(CURSOR).cloned();
        Self { ledger, bus, heard: Heard::default(), stop: CancellationToken::new(), task: None, fact }
    }

    /// Starts the task, which takes its place up.
    async fn deliver(&mut self) {
        let (fact, stop) = (self.fact.take(), self.stop.clone());
        let (fresh, before) = (fact.is_none(), self.ledger.info().commits);
        let task = deliver(self.ledger.clone(), self.bus.clone(), fact, self.heard.clone(), stop);
        self.task = Some(tokio::spawn(task));
        // Its place is written down before anything that happens here.
        for _ in 0..500 {
            if !fresh || self.ledger.info().commits > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("it does not begin");
    }

    async fn happen(&self, kind: &'static str, agent: &str, data: Value) {
        let at = "2026-03-01T12:00:00Z".parse().unwrap();
        let event = NewEvent::of(at, kind, &agent.parse().unwrap(), data);
        let events = self.ledger.commit(vec![Write::Event(event)]).await.unwrap();
        self.bus.publish(events);
    }

    async fn mails(&self, whose: &str) -> Vec<MailRow> {
        let mut rows = self.ledger.mailbox(whose, false).await.unwrap().0;
        rows.reverse();
        rows
    }

    /// Waits for so many mails, and that they do not become more for what happened.
    async fn settled(&self, whose: &str, count: usize) -> Vec<MailRow> {
        for _ in 0..500 {
            if self.mails(whose).await.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Whatever comes after has been followed when this one's mail is there.
        let (marker, before) = ("zeta/polecats/marker", self.mails("zeta/witness").await.len());
        self.happen("agent.stalled", marker, json!({"since": self.ledger.last_seq()})).await;
        for _ in 0..500 {
            if self.mails("zeta/witness").await.len() > before {
                let rows = self.mails(whose).await;
                assert_eq!(rows.len(), count, "{rows:#?}");
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing is followed any more: {:?}", self.heard.all());
    }

    /// Killed: nothing that was not committed is written any more.
    async fn kill(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.stop.cancel();
        self.ledger.close().await;
    }
}

const NUX: &str = "alpha/polecats/nux";

fn failed(attempt: u64) -> Value {
    json!({"agent": NUX, "work": "al-1", "title": "t", "error": "no worktree", "attempt": attempt})
}

#[tokio::test]
async fn one_mail_for_each_incident() {
    let dir = scratch::dir();
    let mut life = Life::begin(dir.path());
    life.deliver().await;
    for attempt in 1..=3 {
        life.happen("polecat.restart_failed", NUX, failed(attempt)).await;
    }
    life.happen("polecat.restart_failed", "alpha/polecats/ace", failed(1)).await;
    let rows = life.settled("alpha/witness", 2).await;
    assert_eq!(rows[0].subject, "CRASHED_POLECAT: alpha/nux restart failed");
    assert_eq!(rows[1].subject, "CRASHED_POLECAT: alpha/ace restart failed");
    assert_eq!(rows[0].sender, "daemon");
    // It came back, and fails another day.
    life.happen("agent.ready", NUX, json!({})).await;
    life.happen("polecat.restart_failed", NUX, failed(1)).await;
    life.happen("polecat.restart_failed", NUX, failed(2)).await;
    life.settled("alpha/witness", 3).await;
    let stalled = |since: &str| json!({"work": "al-1", "title": "t", "since": since, "idle_ms": 1_800_000});
    for since in ["2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"] {
        life.happen("agent.stalled", NUX, stalled(since)).await;
        life.happen("work.orphaned", NUX, stalled(since)).await;
    }
    life.settled("alpha/witness", 7).await;
    life.kill().await;
}

#[tokio::test]
async fn a_daemon_that_dies_between_event_and_mail_writes_it_once() {
    for round in 0..8_u64 {
        let dir = scratch::dir();
        let mut life = Life::begin(dir.path());
        life.deliver().await;
        // Killed before, while, or after it is written.
        life.happen("polecat.restart_failed", NUX, failed(1)).await;
        tokio::time::sleep(Duration::from_micros(round * round * 120)).await;
        life.kill().await;
        for _ in 0..2 {
            let mut next = Life::begin(dir.path());
            next.deliver().await;
            next.settled("alpha/witness", 1).await;
            next.kill().await;
        }
    }
}

#[tokio::test]
async fn what_happened_while_no_daemon_was_there_is_written_about() {
    let dir = scratch::dir();
    let mut life = Life::begin(dir.path());
    life.deliver().await;
    life.kill().await;
    let mut next = Life::begin(dir.path());
    next.happen("work.orphaned", NUX, json!({"work": "al-1", "since": "2026-03-01T10:00:00Z"})).await;
    next.deliver().await;
    let rows = next.settled("alpha/witness", 1).await;
    assert_eq!(rows[0].subject, "ORPHANED_WORK: alpha/polecats/nux has hooked work but is dead");
    next.kill().await;
}

#[tokio::test]
async fn a_full_box_is_told_and_holds_up_nobody_else() {
    let dir = scratch::dir();
    let mut life = Life::begin(dir.path());
    let fill = |n: i32| {
        Write::Mail(MailWrite::Send(NewMail {
            sender: "x".into(),
            recipient: "alpha/witness".into(),
            subject: n.to_string(),
            body: String::new(),
            at: "2026-03-01T12:00:00Z".parse().unwrap(),
            key: None,
            incident: None,
            ours: true,
            via: None,
            cause: None,
            peer: None,
        }))
    };
    life.ledger.commit((0..1_200).map(fill).collect()).await.unwrap();
    life.deliver().await;
    life.happen("polecat.restart_failed", NUX, failed(1)).await;
    life.happen("polecat.restart_failed", "beta/polecats/nux", failed(1)).await;
    life.settled("beta/witness", 1).await;
    assert!(
        life.heard.all().contains(&"undelivered alpha/witness true".to_owned()),
        "{:?}",
        life.heard.all()
    );
    assert_eq!(life.mails("alpha/witness").await.len(), 1_200);
    // There is room again.
    let at = "2026-03-01T12:00:00Z".parse().unwrap();
    life.ledger.commit(vec![Write::Mail(MailWrite::Archive { id: "m-5".into(), at })]).await.unwrap();
    life.happen("agent.stalled", NUX, json!({"since": "1"})).await;
    life.settled("alpha/witness", 1_200).await;
    assert!(
        life.heard.all().contains(&"undelivered alpha/witness false".to_owned()),
        "{:?}",
        life.heard.all()
    );
    life.kill().await;
}

#[tokio::test]
async fn whoever_may_run_on_demand_is_woken_by_mail_and_others_are_not() {
    let dir = scratch::dir();
    let mut life = Life::begin(dir.path());
    life.deliver().await;
    for (to, id) in [("alpha/witness", "m-1"), ("mayor", "m-2"), (NUX, "m-3"), ("alpha/refinery", "m-4")] {
        life.happen("mail.sent", to, json!({"id": id, "from": "overseer", "to": to, "subject": "s"})).await;
    }
    life.settled("alpha/witness", 0).await;
    let woken: Vec<String> = life.heard.all().into_iter().filter(|line| !line.contains("zeta")).collect();
    assert_eq!(woken, ["wake alpha/witness overseer m-1", "wake alpha/refinery overseer m-4"]);
    life.kill().await;
}
