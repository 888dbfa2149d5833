//! Batches and notifications.

use std::time::Duration;

use gtd::rpc::Limits;
use serde_json::{Value, json};

use crate::common::{Daemon, error, until};

#[tokio::test]
async fn a_batch_is_answered_in_its_order_without_its_notifications() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "daemon.heartbeats", "params": {"limit": 30}},
        {"jsonrpc": "2.0", "method": "daemon.shutdown", "params": {"reason": "quietly"}},
        {"jsonrpc": "2.0", "id": "2", "method": "no.such"},
        1,
        {"jsonrpc": "2.0", "id": 3, "method": "rig.status", "params": {"rig": 5}},
        {"jsonrpc": "2.0", "id": 4, "method": "events.subscribe"},
        {"jsonrpc": "2.0", "id": null, "method": "daemon.status"},
        {"jsonrpc": "2.0", "method": "no.such"},
    ]);
    let replies = client.ask(&batch.to_string()).await;
    let replies = replies.as_array().unwrap();
    assert_eq!(replies.len(), 6);
    assert_eq!(replies[0], json!({"jsonrpc": "2.0", "id": 1, "result": {"slept": 30}}));
    assert_eq!(error(&replies[1]), (-32601, "method_not_found", &json!("2")));
    assert_eq!(error(&replies[2]), (-32600, "invalid_request", &Value::Null));
    assert_eq!(error(&replies[3]), (-32602, "invalid_params", &json!(3)));
    assert_eq!(error(&replies[4]), (-32600, "invalid_request", &json!(4)), "no subscription in a batch");
    assert_eq!(replies[5], json!({"jsonrpc": "2.0", "id": null, "result": {"ok": true}}));
    assert_eq!(daemon.state.done(), ["quietly"]);
    assert_eq!(daemon.counters.subscribers(), 0);
    client.lives().await;
}

#[tokio::test]
async fn an_empty_batch_is_one_error() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    for line in ["[]", " [ ] "] {
        assert_eq!(error(&client.ask(line).await), (-32600, "invalid_request", &Value::Null));
    }
    let reply = client.ask("[1]").await;
    assert_eq!(reply.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_of_notifications_is_done_in_silence() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let batch = json!([
        {"jsonrpc": "2.0", "method": "daemon.shutdown", "params": {"reason": "a"}},
        {"jsonrpc": "2.0", "method": "daemon.shutdown", "params": {"reason": "b"}},
    ]);
    client.send(&batch.to_string()).await;
    client.lives().await;
    until("both are done", || daemon.state.done().len() == 2).await;
}

#[tokio::test]
async fn a_batch_has_at_most_a_thousand_requests() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let batch = |count: usize| {
        let one = json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.status"}).to_string();
        format!("[{}]", vec![one; count].join(","))
    };
    assert_eq!(client.ask(&batch(1000)).await.as_array().unwrap().len(), 1000);
    assert_eq!(error(&client.ask(&batch(1001)).await), (-32600, "invalid_request", &Value::Null));
    client.lives().await;
}

#[tokio::test]
async fn the_requests_of_a_batch_run_side_by_side_and_bounded() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let one = json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.heartbeat"});
    client.send(&json!(vec![one; 20]).to_string()).await;
    until("eight have begun", || daemon.state.begun() == 8).await;
    daemon.state.gate.add_permits(20);
    assert_eq!(client.next().await.as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_batch_whose_replies_are_too_long_says_so_for_those_beyond() {
    let daemon = Daemon::with(Limits { reply_bytes: 256 * 1024, ..Limits::default() });
    let mut client = daemon.connect().await;
    let one = |id| json!({"jsonrpc": "2.0", "id": id, "method": "agent.exits", "params": {"limit": 100}});
    let replies = client.ask(&json!([one(1), one(2), one(3), one(4)]).to_string()).await;
    let replies = replies.as_array().unwrap();
    assert!(replies[0]["result"].is_string() && replies[1]["result"].is_string());
    for reply in &replies[2..] {
        assert_eq!(reply["error"]["data"]["reason"], "reply_too_large");
    }
}

#[tokio::test]
async fn notifications_are_done_and_never_answered() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    for line in [
        r#"{"jsonrpc":"2.0","method":"daemon.shutdown","params":{"reason":"one"}}"#,
        r#"{"jsonrpc":"2.0","method":"no.such"}"#,
        r#"{"jsonrpc":"2.0","method":"rig.status","params":{"rig":5}}"#,
        r#"{"jsonrpc":"2.0","method":"town.status"}"#,
        r#"{"jsonrpc":"2.0","method":"events.subscribe"}"#,
    ] {
        client.send(line).await;
    }
    // Only this one is answered.
    client.lives().await;
    until("the first is done", || daemon.state.done() == ["one"]).await;
    assert_eq!(daemon.counters.subscribers(), 0);
    let silent = tokio::time::timeout(Duration::from_millis(100), client.line()).await;
    assert!(silent.is_err(), "{silent:?}");
}
