//! How many clients there may be.

use gtd::rpc::Limits;
use gtd::rpc::limits::raise_open_files;
use serde_json::Value;

use crate::common::{Client, Daemon, error, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_served_and_one_too_many_is_told_so() {
    let open = raise_open_files().unwrap();
    if !open.allows(2500) {
        eprintln!("skipped: {open:?} leaves no room for both ends of 1,024 connections");
        return;
    }
    let daemon = Daemon::start();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..1024 {
        clients.push(daemon.connect().await);
    }
    for client in &mut clients {
        client.lives().await;
    }
    assert_eq!(daemon.counters.connections(), 1024);
    for _ in 0..10 {
        let mut late = daemon.connect().await;
        let reply = late.next().await;
        assert_eq!(error(&reply), (1018, "too_busy", &Value::Null));
        assert_eq!(late.line().await, None);
    }
    clients.truncate(1000);
    until("places are free", || daemon.counters.connections() == 1000).await;
    daemon.connect().await.lives().await;
    for client in &mut clients {
        client.lives().await;
    }
    drop(clients);
    until("all have left", || daemon.counters.connections() == 0).await;
}

#[tokio::test]
async fn a_refused_client_hears_it_even_when_it_wrote_first() {
    let daemon = Daemon::with(Limits { connections: 1, ..Limits::default() });
    let mut first = daemon.connect().await;
    first.lives().await;
    for _ in 0..100 {
        let mut late = daemon.connect().await;
        // The server may have closed before this is written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut late.writer, b"{\"jsonrpc\":\"2.0\"}\n").await;
        assert_eq!(error(&late.next().await).1, "too_busy");
    }
    first.lives().await;
}
