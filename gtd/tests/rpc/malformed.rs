//! Input that is wrong in every way that we know of.

use serde_json::{Value, json};

use crate::common::{Client, Daemon, error, request};

#[tokio::test]
async fn broken_json_is_answered_and_the_connection_lives() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let cases = [
        "{",
        "not json",
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status""#,
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}}"#,
        r#"{"jsonrpc":"2.0","id":01,"method":"daemon.status"}"#,
        "[1,2",
        "GET",
        "GETX / HTTP/1.1",
        "\u{0}\u{1}\u{2}",
        "{'jsonrpc':'2.0'}",
    ];
    for line in cases {
        let reply = client.ask(line).await;
        assert_eq!(error(&reply), (-32700, "parse_error", &Value::Null), "{line}");
        client.lives().await;
    }
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_its_id() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let cases = [
        ("5", Value::Null),
        ("\"daemon.status\"", Value::Null),
        ("{}", Value::Null),
        (r#"{"jsonrpc":"1.0","id":3,"method":"daemon.status"}"#, json!(3)),
        (r#"{"id":"x","method":"daemon.status"}"#, json!("x")),
        (r#"{"jsonrpc":"2.0","id":3}"#, json!(3)),
        (r#"{"jsonrpc":"2.0","id":3,"method":["daemon.status"]}"#, json!(3)),
        (r#"{"jsonrpc":"2.0","id":[3],"method":"daemon.status"}"#, Value::Null),
        (r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, json!(3)),
    ];
    for (line, id) in cases {
        let reply = client.ask(line).await;
        assert_eq!(error(&reply), (-32600, "invalid_request", &id), "{line}");
    }
    client.lives().await;
}

#[tokio::test]
async fn ids_come_back_byte_for_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let ids = [
        "1",
        "-1",
        "1.5",
        "1.50",
        "0",
        "null",
        "\"\"",
        "\"a\\u0062\\\"\"",
        "98765432109876543210987",
        "1e400",
    ];
    for id in ids {
        for (method, rest) in
            [("daemon.status", "result"), ("no.such", "error"), ("daemon.heartbeats", "result")]
        {
            client.send(&format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"{method}"}}"#)).await;
            let line = client.line().await.unwrap();
            let beginning = format!(r#"{{"jsonrpc":"2.0","id":{id},"{rest}":"#);
            assert!(line.starts_with(&beginning), "{id} {method}: {line}");
        }
    }
}

#[tokio::test]
async fn parameters_are_checked_before_the_method_sees_them() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let cases = [
        (json!({"rig": "a", "x": 1}), "/x"),
        (json!({"rig": 5}), "/rig"),
        (json!({"rig": "a b"}), "/rig"),
        (json!({}), "/rig"),
        (json!([]), "/rig"),
        (json!(["a", "b"]), "/1"),
        (json!(null), ""),
        (json!("a"), ""),
    ];
    for (params, path) in cases {
        let reply = client.call("rig.status", params.clone()).await;
        assert_eq!(error(&reply), (-32602, "invalid_params", &json!(1)), "{params}");
        assert_eq!(reply["error"]["data"]["path"], path, "{params}");
    }
    for params in [json!({"rig": "a"}), json!(["a"]), json!([{"rig": "a"}])] {
        assert_eq!(client.call("rig.status", params).await["result"], json!({"rig": "a"}));
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let reply =
        client.ask(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"rig.status","params":{deep}}}"#)).await;
    assert_eq!(error(&reply).0, -32602);
    client.lives().await;
}

#[tokio::test]
async fn unknown_methods_are_named_with_the_nearest() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = client.call("daemon.statsu", json!({})).await;
    assert_eq!(error(&reply), (-32601, "method_not_found", &json!(1)));
    assert!(reply["error"]["data"]["hint"].as_str().unwrap().contains("daemon.status"), "{reply}");
    assert_eq!(error(&client.call("", json!({})).await).0, -32601);
    // In the table, but not in this registry.
    assert_eq!(error(&client.call("town.stop", json!({})).await).0, -32601);
}

#[tokio::test]
async fn members_beyond_the_four_are_ignored() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = client.ask(r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status","auth":"x","v":[2]}"#).await;
    assert_eq!(reply["result"], json!({"ok": true}));
}

#[tokio::test]
async fn a_line_of_2_mib_is_refused_and_the_next_one_served() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let long =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"rig.status","params":"{}"}}"#, "x".repeat(2 << 20));
    client.send(&long).await;
    let reply = client.next().await;
    assert_eq!(error(&reply), (1018, "request_too_large", &Value::Null));
    client.lives().await;
}

#[tokio::test]
async fn a_line_without_end_is_refused_while_it_streams() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let piece = vec![b'x'; 256 * 1024];
    for _ in 0..5 {
        client.write(&piece).await;
    }
    assert_eq!(error(&client.next().await).1, "request_too_large");
    for _ in 0..64 {
        client.write(&piece).await;
    }
    client.write("\n").await;
    client.lives().await;
}

#[tokio::test]
async fn a_line_of_just_1_mib_is_served() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let frame = |padding: &str| request(&json!(padding), "daemon.status", json!({}));
    let padding = "x".repeat((1 << 20) - frame("").len());
    assert_eq!(frame(&padding).len(), 1 << 20);
    let reply = client.ask(&frame(&padding)).await;
    assert_eq!(reply["result"], json!({"ok": true}));
    assert_eq!(error(&client.ask(&frame(&format!("{padding}x"))).await).1, "request_too_large");
}

#[tokio::test]
async fn half_a_line_then_close_is_a_parse_error() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(r#"{"jsonrpc":"2.0","id":1,"meth"#).await;
    client.half_close().await;
    assert_eq!(error(&client.next().await).0, -32700);
    assert_eq!(client.line().await, None);
    // Gone altogether: nothing to say to nobody, and nothing stays.
    let mut client = daemon.connect().await;
    client.write(r#"{"jsonrpc":"2.0","id":1,"meth"#).await;
    drop(client);
    crate::common::until("all connections end", || daemon.counters.connections() == 0).await;
}

#[tokio::test]
async fn binary_junk_does_no_harm() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    // A fixed generator, so that a failure can be repeated.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut junk = Vec::new();
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        junk.extend_from_slice(&seed.to_le_bytes()[3..]);
    }
    // The first byte is certain to be no HTTP method's.
    junk.insert(0, 0xff);
    junk.push(b'\n');
    client.write(&junk).await;
    client.send(r#"{"jsonrpc":"2.0","id":"after","method":"daemon.status"}"#).await;
    let mut junk_replies = 0;
    loop {
        let reply = client.next().await;
        if reply["id"] == "after" {
            break;
        }
        assert_eq!(reply["id"], Value::Null);
        assert!(error(&reply).0 == -32700 || error(&reply).0 == -32600, "{reply}");
        junk_replies += 1;
    }
    assert!(junk_replies > 0);
}

#[tokio::test]
async fn it_does_not_matter_how_the_bytes_arrive() {
    let daemon = Daemon::start();
    let script = [
        r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}"#,
        "",
        "nonsense",
        r#"[{"jsonrpc":"2.0","id":2,"method":"rig.status","params":["ä"]},7]"#,
        "\r",
        r#"{"jsonrpc":"2.0","id":"\u00e4ß","method":"rig.status","params":{"rig":"a"}}"#,
        "{",
    ]
    .join("\n");
    let mut expected: Option<Vec<String>> = None;
    for size in [script.len(), 1, 2, 3, 7, 50] {
        let mut client = daemon.connect().await;
        for chunk in script.as_bytes().chunks(size) {
            client.write(chunk).await;
            tokio::task::yield_now().await;
        }
        client.half_close().await;
        let mut replies = Vec::new();
        while let Some(line) = client.line().await {
            replies.push(line);
        }
        assert_eq!(replies.len(), 5);
        assert_eq!(&replies, expected.get_or_insert(replies.clone()), "in chunks of {size}");
    }
}

#[tokio::test]
async fn blank_lines_are_ignored_and_crlf_is_a_line_end() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write("\n\r\n  \n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.status\"}\r\n\r\n").await;
    assert_eq!(client.next().await["result"], json!({"ok": true}));
    client.lives().await;
}

#[tokio::test]
async fn a_last_line_without_a_newline_is_served_at_half_close() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write(r#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}"#).await;
    client.half_close().await;
    assert_eq!(client.next().await["result"], json!({"ok": true}));
    assert_eq!(client.line().await, None);
}

#[tokio::test]
async fn http_is_recognised_and_declined_in_its_own_words() {
    let daemon = Daemon::start();
    for first in [
        "GET /healthz HTTP/1.1\r\nHost: gtd\r\n\r\n",
        "POST / HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client: Client = daemon.connect().await;
        let (head, tail) = first.split_at(2);
        client.write(head).await;
        client.write(tail).await;
        let mut text = String::new();
        while let Some(line) = client.line().await {
            text.push_str(&line);
            text.push('\n');
        }
        assert!(text.starts_with("HTTP/1.1 501 "), "{text}");
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(error(&body).0, -32600);
    }
}
