//! Connections that wait cost nothing. Alone in its process, whose processor time it looks at.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use gtd::rpc::callers::NoAgents;
use gtd::rpc::{Callers, Counters, Limits, Listening, Server};
use gtd_proto::TownId;
use jsonrpsee::RpcModule;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_that_waits_does_not_spin() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("gtd.sock");
    let mut methods = RpcModule::new(());
    methods
        .register_async_method("daemon.status", |_, _, _| async {
            std::future::pending::<()>().await;
            0
        })
        .unwrap();
    let callers = Callers::new(Arc::new(NoAgents), TownId::generate(), Vec::new());
    let listening = Listening::passed_in(UnixListener::bind(&socket).unwrap());
    let server = Server::start(listening, methods, Limits::default(), Counters::default(), callers).unwrap();
    let mut clients = Vec::new();
    for half_closed in [true, false] {
        for count in [1, 64, 100] {
            let mut client = UnixStream::connect(&socket).await.unwrap();
            let line = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n".repeat(count);
            client.write_all(line.as_bytes()).await.unwrap();
            if half_closed {
                client.shutdown().await.unwrap();
            }
            clients.push(client);
        }
    }
    let before = processor_time();
    // Nothing is to be read: this is the time over which to measure.
    let quiet = timeout(Duration::from_secs(1), clients[0].read_u8()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(200), "waiting used {used:?} of a second");
    assert_eq!(server.counters().connections(), 6);
    drop(server);
}
