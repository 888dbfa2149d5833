//! The store on real files, in real threads, against real kills.

mod commit;
mod convoys;
mod crash;
mod files;
mod history;
mod mail;
mod migration;
mod nudges;
mod recovery;

use std::path::Path;

use gtd_proto::agent::SignalSent;
use gtd_proto::daemon::HeartbeatReport;
use gtd_proto::exit::Usage;
use gtd_proto::explain::Decision;
use gtd_proto::{Address, Cause, Exit, InstanceId, Intent, Timestamp};
use serde_json::json;

use super::start::start;
use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-03-01T12:00:00.123456789Z")
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn key(pid: i32) -> ProcessKey {
    ProcessKey { boot: "b0".into(), pid, start: u64::MAX }
}

fn server_key(pid: i32) -> ServerKey {
    ServerKey { socket: "/t/tmux-0.sock".into(), process: key(pid) }
}

fn agent(name: &str) -> AgentRow {
    AgentRow {
        address: address(name),
        intent: Intent::Running,
        intent_by: "person".into(),
        intent_reason: Some("because \u{1F600}".into()),
        intent_at: noon(),
        overrides: json!({"env": {"A": "1"}}),
        policy: json!({"consecutive": 2}),
        lifetime_restarts: 7,
    }
}

fn instance(name: &str) -> InstanceRow {
    InstanceRow {
        instance: InstanceId::generate(),
        agent: address(name),
        reserved_at: noon(),
        started_at: Some(noon()),
        boot: "b0".into(),
        server: Some(server_key(40)),
        session: Some("$3".into()),
        session_name: Some("gt-a-nux".into()),
        pane: Some("%7".into()),
        shim: Some(key(41)),
        process: Some(key(42)),
        preset: "fake".into(),
        account: None,
        launch: json!({"argv": ["/bin/true"]}),
        ready_at: None,
        captured: json!([]),
        ended: false,
    }
}

fn server(pid: i32) -> ServerRow {
    ServerRow { server: server_key(pid), seen_at: noon(), ours: true, detail: json!({"holder": "$0"}) }
}

fn hold() -> HoldRow {
    HoldRow { by: "person".into(), reason: None, at: noon() }
}

fn event(kind: &'static str, n: u64) -> Write {
    Write::Event(NewEvent::new(noon(), kind, json!({ "n": n })))
}

fn event_of(kind: &'static str, name: &str) -> Write {
    Write::Event(NewEvent::of(noon(), kind, &address(name), json!({})))
}

fn exit(of: &InstanceRow) -> Exit {
    Exit {
        agent: of.agent.clone(),
        instance: of.instance.clone(),
        pid: Some(42),
        started_at: noon(),
        ended_at: noon(),
        uptime_ms: 5,
        code: Some(1),
        signal: None,
        cause: Cause::Crash,
        requested: false,
        counts: true,
        exec_error: None,
        incident: None,
        evidence: None,
        killed: Vec::new(),
        output: vec!["last words".into()],
        usage: Usage::default(),
    }
}

fn signal(name: &str, second: i64) -> SignalSent {
    SignalSent {
        at: Timestamp::from_second(second).unwrap(),
        agent: Some(address(name)),
        instance: None,
        pid: 42,
        start: 7,
        signal: 15,
        evidence: json!({"recorded": true}),
        by: "supervisor".into(),
        because: None,
    }
}

fn decision(second: i64) -> Decision {
    Decision {
        at: Timestamp::from_second(second).unwrap(),
        event: "exit".into(),
        decision: "restart".into(),
        reason: format!("reason {second}"),
    }
}

fn heartbeat(number: u64) -> HeartbeatReport {
    HeartbeatReport { number, started_at: noon(), duration_ms: 3, steps: vec![] }
}

fn quick() -> Options {
    Options { deadline: Duration::from_millis(200), keep: Keep::default() }
}

/// Opens, and insists on a condition.
fn open_sound(dir: &Path, expected: Condition) -> (Ledger, Loaded) {
    let Opened { ledger, condition, state } = open(dir);
    assert_eq!(condition, expected);
    assert!(state.known);
    (ledger, state)
}

/// Runs something with the store's own connection, on its thread.
async fn on_writer<T: Send + 'static>(
    ledger: &Ledger,
    run: impl FnOnce(&mut Connection) -> T + Send + 'static,
) -> T {
    let (tx, rx) = oneshot::channel();
    let run = Box::new(move |conn: &mut Connection| drop(tx.send(run(conn))));
    ledger.jobs.send(Job::Run(run)).ok().unwrap();
    rx.await.unwrap()
}

/// Waits for a condition, at most 10 s.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about: {what}");
}
