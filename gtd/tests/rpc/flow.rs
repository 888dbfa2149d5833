//! Many requests at once, half-closed connections, clients that do not read.

use std::time::{Duration, Instant};

use gtd::rpc::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::common::{Daemon, PATIENCE, error, request, until};

fn many(count: usize, method: &str, params: &Value) -> String {
    (0..count).map(|id| request(&json!(id), method, params.clone()) + "\n").collect()
}

#[tokio::test]
async fn ten_thousand_requests_are_answered_though_the_client_reads_last() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(many(10_000, "daemon.status", &json!({}))).await;
    for id in 0..10_000 {
        assert_eq!(client.next().await, json!({"jsonrpc": "2.0", "id": id, "result": {"ok": true}}));
    }
}

#[tokio::test]
async fn more_than_the_buffer_holds_is_answered_as_fast_as_it_is_read() {
    let daemon = Daemon::start();
    let client = daemon.connect().await;
    let (mut reader, mut writer) = (client.reader, client.writer);
    let lines = many(2000, "agent.exits", &json!({"limit": 16}));
    let writing = tokio::spawn(async move { writer.write_all(lines.as_bytes()).await.map(|()| writer) });
    let mut line = String::new();
    for id in 0..2000 {
        line.clear();
        tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await.unwrap().unwrap();
        assert!(line.starts_with(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},")), "{}", &line[..60]);
        assert!(line.len() > 16 * 1024);
    }
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_calls_run_side_by_side_64_at_a_time() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(many(200, "daemon.heartbeat", &json!({}))).await;
    until("64 have begun", || daemon.state.begun() == 64).await;
    // Others are served meanwhile.
    daemon.connect().await.lives().await;
    assert_eq!(daemon.state.begun(), 64);
    daemon.state.gate.add_permits(1);
    until("one has followed", || daemon.state.begun() == 65).await;
    let begun = Instant::now();
    daemon.state.gate.add_permits(199);
    let mut ids: Vec<u64> = Vec::new();
    for _ in 0..200 {
        ids.push(client.next().await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<u64>>());
    assert!(begun.elapsed() < PATIENCE);
    client.lives().await;
}

#[tokio::test]
async fn a_slow_call_holds_up_no_quick_one_on_the_same_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.send(&request(&json!("slow"), "daemon.heartbeat", json!({}))).await;
    client.lives().await;
    daemon.state.gate.add_permits(1);
    assert_eq!(client.next().await["id"], "slow");
}

#[tokio::test]
async fn a_half_closed_client_gets_what_it_is_owed_and_then_the_end() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(many(100, "daemon.heartbeat", &json!({}))).await;
    client.half_close().await;
    until("some have begun", || daemon.state.begun() == 64).await;
    daemon.state.gate.add_permits(100);
    for _ in 0..100 {
        assert_eq!(client.next().await["result"], json!({"ok": true}));
    }
    assert_eq!(client.line().await, None);
    until("the connection ends", || daemon.counters.connections() == 0).await;
}

#[tokio::test]
async fn what_was_begun_runs_on_when_the_client_leaves() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.send(&request(&json!(1), "daemon.heartbeat", json!({}))).await;
    until("it has begun", || daemon.state.begun() == 1).await;
    drop(client);
    until("the connection ends", || daemon.counters.connections() == 0).await;
    assert!(daemon.state.done().is_empty());
    daemon.state.gate.add_permits(1);
    until("it is done", || daemon.state.done() == ["heartbeat"]).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_full_connection_is_noticed() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(many(100, "daemon.heartbeat", &json!({}))).await;
    until("as many have begun as may", || daemon.state.begun() == 64).await;
    drop(client);
    until("the connection ends", || daemon.counters.connections() == 0).await;
    daemon.state.gate.add_permits(64);
    until("those begun are done", || daemon.state.done().len() == 64).await;
}

#[tokio::test]
async fn requests_of_clients_that_left_still_count() {
    let daemon = Daemon::with(Limits { total_in_flight: 3, ..Limits::default() });
    let mut first = daemon.connect().await;
    first.write(many(3, "daemon.heartbeat", &json!({}))).await;
    until("all have begun", || daemon.state.begun() == 3).await;
    drop(first);
    let mut second = daemon.connect().await;
    assert_eq!(error(&second.call("daemon.status", json!({})).await), (1018, "too_busy", &json!(1)));
    daemon.state.gate.add_permits(3);
    until("all are done", || daemon.state.done().len() == 3).await;
    second.lives().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let daemon = Daemon::with(Limits { write_timeout: Duration::from_millis(300), ..Limits::default() });
    let mut client = daemon.connect().await;
    client.write(many(1000, "agent.exits", &json!({"limit": 64}))).await;
    until("it is cut", || daemon.counters.connections() == 0).await;
    daemon.connect().await.lives().await;
}

#[tokio::test]
async fn a_slow_but_honest_reader_is_not_cut() {
    let daemon = Daemon::with(Limits { write_timeout: Duration::from_secs(1), ..Limits::default() });
    let mut client = daemon.connect().await;
    client.send(&request(&json!(1), "agent.exits", json!({"limit": 2048}))).await;
    let begun = Instant::now();
    let mut bytes = 0;
    let mut pause = tokio::time::interval(Duration::from_millis(40));
    while bytes < 2048 * 1024 {
        pause.tick().await;
        // At most a buffer's 8 KiB would take too long: take what is there, up to 64 KiB, in each interval.
        for _ in 0..8 {
            let taken =
                tokio::time::timeout(PATIENCE, client.reader.fill_buf()).await.unwrap().unwrap().len();
            assert!(taken > 0, "cut after {bytes} bytes");
            client.reader.consume(taken);
            bytes += taken;
            if bytes >= 2048 * 1024 {
                break;
            }
        }
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "the whole took longer than the timeout");
}

#[tokio::test]
async fn a_result_of_20_mb_is_refused_and_one_within_the_bound_is_not() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = client.call("agent.exits", json!({"limit": 20 * 1024})).await;
    assert_eq!(error(&reply), (-32603, "internal", &json!(1)));
    assert_eq!(reply["error"]["data"]["reason"], "reply_too_large");
    let reply = client.call("agent.exits", json!({"limit": 15 * 1024})).await;
    assert_eq!(reply["result"].as_str().unwrap().len(), 15 * 1024 * 1024);
    client.lives().await;
}

#[tokio::test]
async fn a_method_that_panics_takes_nothing_with_it() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = client.call("town.status", json!({})).await;
    assert_eq!(error(&reply), (-32603, "internal", &json!(1)));
    client.lives().await;
}
