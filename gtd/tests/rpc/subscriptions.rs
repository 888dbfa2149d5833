//! Subscriptions on raw lines.

use std::time::{Duration, Instant};

use gtd::rpc::Limits;
use serde_json::{Value, json};

use crate::common::{Client, Daemon, PATIENCE, error, request, until};

async fn subscribe(client: &mut Client, params: Value) -> String {
    let reply = client.call("events.subscribe", params).await;
    reply["result"].as_str().unwrap_or_else(|| panic!("the id is a string: {reply}")).to_owned()
}

fn frame(subscription: &str, result: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "events.event", "params": {"subscription": subscription, "result": result}})
}

#[tokio::test]
async fn the_reply_comes_before_the_first_frame_and_is_a_string() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    for round in 0..50 {
        let id = subscribe(&mut client, json!({"since": 3, "agent": "end"})).await;
        for number in 1..=3 {
            assert_eq!(client.next().await, frame(&id, number), "round {round}");
        }
    }
    until("all have ended", || daemon.counters.subscribers() == 0).await;
    client.lives().await;
}

#[tokio::test]
async fn frames_come_in_order_to_every_subscriber() {
    let daemon = Daemon::start();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = daemon.connect().await;
        let id = subscribe(&mut client, json!({})).await;
        clients.push((client, id));
    }
    assert_eq!(daemon.counters.subscribers(), 5);
    for number in 0..500 {
        daemon.state.events.send(number).unwrap();
    }
    for (client, id) in &mut clients {
        for number in 0..500 {
            assert_eq!(client.next().await, frame(id, number));
        }
        client.lives().await;
    }
    drop(clients);
    until("all have ended", || daemon.state.ended() == 5 && daemon.counters.subscribers() == 0).await;
}

#[tokio::test]
async fn a_subscription_goes_on_after_half_close_and_ends_with_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let id = subscribe(&mut client, json!({})).await;
    client.half_close().await;
    // Long enough for the connection to look after its client more than once.
    for number in 0..3 {
        let quiet = tokio::time::timeout(Duration::from_millis(300), client.line()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        daemon.state.events.send(number).unwrap();
        assert_eq!(client.next().await, frame(&id, number));
    }
    drop(client);
    // No event is needed for the end to be noticed.
    until("it has ended", || daemon.state.ended() == 1 && daemon.counters.connections() == 0).await;
}

#[tokio::test]
async fn only_its_own_connection_can_end_a_subscription() {
    let daemon = Daemon::start();
    let (mut owner, mut stranger) = (daemon.connect().await, daemon.connect().await);
    let id = subscribe(&mut owner, json!({})).await;
    let other = subscribe(&mut stranger, json!({})).await;
    assert_ne!(id, other);
    let end = |id: &str| json!({"subscription": id});
    assert_eq!(stranger.call("events.unsubscribe", end(&id)).await["result"], false);
    assert_eq!(stranger.call("events.unsubscribe", end("nonsense")).await["result"], false);
    daemon.state.events.send(7).unwrap();
    assert_eq!(owner.next().await, frame(&id, 7));
    assert_eq!(stranger.next().await, frame(&other, 7));
    assert_eq!(owner.call("events.unsubscribe", end(&id)).await["result"], true);
    assert_eq!(owner.call("events.unsubscribe", end(&id)).await["result"], false);
    until("it has ended", || daemon.counters.subscribers() == 1).await;
    daemon.state.events.send(8).unwrap();
    assert_eq!(stranger.next().await, frame(&other, 8));
    owner.lives().await;
    let numeric = owner.call("events.unsubscribe", json!({"subscription": 5})).await;
    assert_eq!(error(&numeric).0, -32602);
}

#[tokio::test]
async fn a_subscription_may_be_refused_by_its_method() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = client.call("events.subscribe", json!({"agent": "reject"})).await;
    assert_eq!(error(&reply), (1002, "agent_not_found", &json!(1)));
    let reply = client.call("events.subscribe", json!({"agent": "drop"})).await;
    assert_eq!(error(&reply), (-32603, "internal", &json!(1)));
    let reply = client.call("events.subscribe", json!({"since": -1})).await;
    assert_eq!(error(&reply), (-32602, "invalid_params", &json!(1)));
    assert_eq!(daemon.counters.subscribers(), 0);
    client.lives().await;
}

#[tokio::test]
async fn subscriptions_of_one_connection_are_bounded() {
    let daemon = Daemon::with(Limits { subscriptions: 3, ..Limits::default() });
    let mut client = daemon.connect().await;
    let first = subscribe(&mut client, json!({})).await;
    for _ in 0..2 {
        subscribe(&mut client, json!({})).await;
    }
    let reply = client.call("events.subscribe", json!({})).await;
    assert_eq!(error(&reply), (1018, "too_busy", &json!(1)));
    client.call("events.unsubscribe", json!([first])).await;
    until("it has ended", || daemon.counters.subscribers() == 2).await;
    subscribe(&mut client, json!({})).await;
}

#[tokio::test]
async fn a_subscriber_that_never_reads_is_cut_and_costs_nobody() {
    let daemon = Daemon::with(Limits { write_timeout: Duration::from_millis(300), ..Limits::default() });
    let mut deaf = daemon.connect().await;
    deaf.send(&request(&json!(1), "events.subscribe", json!({"agent": "flood"}))).await;
    until("it is subscribed", || daemon.counters.subscribers() == 1).await;
    let mut other = daemon.connect().await;
    let begun = Instant::now();
    while daemon.state.ended() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it is never cut");
        other.lives().await;
    }
    until("it is cut", || daemon.counters.connections() == 1 && daemon.counters.subscribers() == 0).await;
    other.lives().await;
}
