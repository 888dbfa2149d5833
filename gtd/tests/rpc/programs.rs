//! The one-liners of the documentation, with the real socat.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::common::{Daemon, PATIENCE, error, until};

fn socat(arguments: &[&str]) -> Option<Child> {
    let child = Command::new("socat")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no socat");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn once(daemon: &Daemon, input: &str) -> Option<Value> {
    let address = format!("UNIX-CONNECT:{}", daemon.socket.display());
    let mut child = socat(&["-t30", "-", &address])?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn echo_into_socat_gets_the_reply() {
    let daemon = Daemon::start();
    for input in [
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}",
    ] {
        let Some(reply) = once(&daemon, input).await else { return };
        assert_eq!(reply["result"], json!({"ok": true}));
    }
    let slow = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"daemon.heartbeats\",\"params\":{\"limit\":900}}\n";
    assert_eq!(once(&daemon, slow).await.unwrap()["result"], json!({"slept": 900}));
    let wrong = once(
        &daemon,
        "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"witness.star\",\"params\":{\"rig\":\"a\"}}\n",
    );
    assert_eq!(error(&wrong.await.unwrap()), (-32601, "method_not_found", &json!(3)));
}

#[tokio::test]
async fn socat_follows_a_subscription_until_it_is_ended() {
    let daemon = Daemon::start();
    let address = format!("UNIX-CONNECT:{}", daemon.socket.display());
    for arguments in [["-t600", "-", &address], ["-t600", "STDIO,ignoreeof", &address]] {
        let ended = daemon.state.ended();
        let Some(mut child) = socat(&arguments) else { return };
        let mut input = child.stdin.take().unwrap();
        input
            .write_all(
                b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"events.subscribe\",\"params\":{\"since\":0}}\n",
            )
            .await
            .unwrap();
        drop(input);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async || {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
            serde_json::from_str::<Value>(&line).unwrap()
        };
        assert!(next().await["result"].is_string());
        until("it is subscribed", || daemon.counters.subscribers() == 1).await;
        daemon.state.events.send(1).unwrap();
        assert_eq!(next().await["params"]["result"], 1);
        let quiet = timeout(Duration::from_millis(700), next()).await;
        assert!(quiet.is_err());
        daemon.state.events.send(2).unwrap();
        assert_eq!(next().await["params"]["result"], 2);
        timeout(PATIENCE, child.kill()).await.unwrap().unwrap();
        until("it has ended", || daemon.state.ended() == ended + 1).await;
        until("nobody is left", || daemon.counters.subscribers() == 0 && daemon.counters.connections() == 0)
            .await;
    }
}
