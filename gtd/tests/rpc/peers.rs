//! Who is at the other end.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Uid, geteuid};
use serde_json::{Value, json};

use crate::common::{Daemon, error};

#[tokio::test]
async fn methods_learn_their_peer() {
    let daemon = Daemon::start();
    let (mut one, mut two) = (daemon.connect().await, daemon.connect().await);
    let first = one.call("daemon.shutdown", json!({})).await["result"].clone();
    let second = two.call("daemon.shutdown", json!({})).await["result"].clone();
    assert_eq!(first["pid"], std::process::id());
    assert_eq!(first["uid"], geteuid().as_raw());
    assert_ne!(first["connection"], second["connection"]);
    assert_eq!(one.call("daemon.shutdown", json!({})).await["result"]["connection"], first["connection"]);
    // Also within a batch.
    let batch = two.ask(r#"[{"jsonrpc":"2.0","id":1,"method":"daemon.shutdown"}]"#).await;
    assert_eq!(batch[0]["result"]["connection"], second["connection"]);
}

#[tokio::test]
async fn another_user_is_refused() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can connect as somebody else");
        return;
    }
    let daemon = Daemon::start();
    // Let the other user as far as the socket: what keeps it out must be its credentials alone.
    for (path, mode) in
        [(daemon.dir.path(), 0o755), (daemon.socket.parent().unwrap(), 0o755), (&*daemon.socket, 0o666)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = daemon.socket.clone();
    // Credentials belong to a thread; this one ends with them.
    let text = tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || {
            let nobody = Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
        .join()
        .unwrap()
    })
    .await
    .unwrap();
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error(&reply), (1012, "unauthorized", &Value::Null));
    assert_eq!(daemon.counters.connections(), 0);
    daemon.connect().await.lives().await;
}
