//! Beginning and end: shutdown, the socket's file, sockets passed in.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use gtd::rpc::{Counters, Endpoint, HoldsLock, Limits, Listening, Server};
use serde_json::json;
use tokio::net::UnixStream;

use crate::common::{Client, Daemon, error, request, until};

#[tokio::test]
async fn a_shutdown_lets_quick_requests_end_and_refuses_new_ones() {
    let mut daemon = Daemon::with(Limits { drain: Duration::from_secs(10), ..Limits::default() });
    let mut busy = daemon.connect().await;
    busy.send(&request(&json!("begun"), "daemon.heartbeat", json!({}))).await;
    until("it has begun", || daemon.state.begun() == 1).await;
    let mut idle = daemon.connect().await;
    idle.lives().await;
    let socket = daemon.socket.clone();
    let handle = daemon.handle.take().unwrap();
    let shutdown = tokio::spawn(handle.shutdown());
    until("the socket is gone", || !socket.exists()).await;
    assert!(UnixStream::connect(&socket).await.is_err());
    let refused = busy.ask(&request(&json!("late"), "daemon.status", json!({}))).await;
    assert_eq!(error(&refused), (1018, "shutting_down", &json!("late")));
    daemon.state.gate.add_permits(1);
    assert_eq!(busy.next().await["result"], json!({"ok": true}));
    assert_eq!(busy.line().await, None);
    assert_eq!(idle.line().await, None);
    let drained = shutdown.await.unwrap();
    assert_eq!((drained.socket_removed, drained.left), (true, 0));
}

#[tokio::test]
async fn what_takes_too_long_is_told_so_when_the_time_is_up() {
    let mut daemon = Daemon::with(Limits { drain: Duration::from_millis(200), ..Limits::default() });
    let mut client = daemon.connect().await;
    client.send(&request(&json!(1.5), "daemon.heartbeat", json!({}))).await;
    let one = json!({"jsonrpc": "2.0", "id": 2, "method": "daemon.heartbeat"});
    client.send(&json!([one]).to_string()).await;
    client.send(&json!({"jsonrpc": "2.0", "method": "daemon.heartbeat"}).to_string()).await;
    let mut subscriber = daemon.connect().await;
    assert!(subscriber.call("events.subscribe", json!({})).await["result"].is_string());
    until("all have begun", || daemon.state.begun() == 3).await;
    let begun = Instant::now();
    let drained = daemon.shutdown().await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!(drained.left, 0);
    let mut replies = [client.next().await, client.next().await];
    replies.sort_by_key(|reply| reply.is_array());
    assert_eq!(error(&replies[0]), (1018, "shutting_down", &json!(1.5)));
    assert_eq!(error(&replies[1][0]), (1018, "shutting_down", &json!(2)));
    assert_eq!(client.line().await, None);
    assert_eq!(subscriber.line().await, None);
    until("the subscription has ended", || daemon.state.ended() == 1).await;
    // What was begun goes on.
    daemon.state.gate.add_permits(3);
    until("all are done", || daemon.state.done().len() == 3).await;
}

#[tokio::test]
async fn an_idle_server_shuts_down_at_once() {
    let mut daemon = Daemon::start();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..50 {
        let mut client = daemon.connect().await;
        client.lives().await;
        clients.push(client);
    }
    let begun = Instant::now();
    assert_eq!(daemon.shutdown().await.left, 0);
    assert!(begun.elapsed() < Limits::default().drain, "{:?}", begun.elapsed());
    for client in &mut clients {
        assert_eq!(client.line().await, None);
    }
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_the_replacement_is_not_removed_by_the_old_one() {
    let mut old = Daemon::start();
    let lock = ();
    let places = Endpoint::candidates(
        old.dir.path(),
        &gtd_proto::TownId::generate(),
        None,
        rustix::process::geteuid(),
    );
    let listening = Endpoint::bind_first(&places, HoldsLock::by(&lock)).unwrap();
    assert_eq!(listening.path(), Some(old.socket.clone()));
    assert!(!old.shutdown().await.socket_removed, "that file is another's now");
    assert!(std::fs::symlink_metadata(&old.socket).unwrap().file_type().is_socket());
    let methods = crate::common::methods(old.state.clone());
    let new =
        Server::start(listening, methods, Limits::default(), Counters::default(), crate::common::everybody())
            .unwrap();
    old.connect().await.lives().await;
    assert!(new.shutdown().await.socket_removed);
    assert!(!old.socket.exists());
}

#[tokio::test]
async fn a_socket_passed_in_is_served_and_left_where_it_is() {
    let daemon = Daemon::start();
    let path = daemon.dir.path().join("passed.sock");
    let listening = Listening::passed_in(UnixListener::bind(&path).unwrap());
    let methods = crate::common::methods(daemon.state.clone());
    let server =
        Server::start(listening, methods, Limits::default(), Counters::default(), crate::common::everybody())
            .unwrap();
    assert_eq!(server.path(), Some(&*path));
    Client::connect(&path).await.lives().await;
    assert!(!server.shutdown().await.socket_removed);
    assert!(path.exists());
}

#[tokio::test]
async fn a_town_deep_in_the_tree_has_its_socket_elsewhere() {
    let daemon = Daemon::start();
    let deep = daemon.dir.path().join("d".repeat(100));
    let runtime = daemon.dir.path().join("run");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir(&runtime).unwrap();
    let id = gtd_proto::TownId::generate();
    let places = Endpoint::candidates(&deep, &id, Some(&runtime), rustix::process::geteuid());
    let lock = ();
    let listening = Endpoint::bind_first(&places, HoldsLock::by(&lock)).unwrap();
    let path = listening.path().unwrap();
    assert_eq!(path, runtime.join("gtd").join(id.as_str()).join("gtd.sock"));
    let methods = crate::common::methods(daemon.state.clone());
    let server =
        Server::start(listening, methods, Limits::default(), Counters::default(), crate::common::everybody())
            .unwrap();
    Client::connect(&path).await.lives().await;
    assert!(server.shutdown().await.socket_removed);
}
