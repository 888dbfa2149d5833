//! Bad input on the socket: every answer is exact, the connection lives, and nobody else notices.

use std::time::Duration;

use gtd_tests::{Setup, Town};
use serde_json::{Value, json};

fn town() -> Town {
    let town = Setup::new().make();
    town.start();
    town
}

/// After whatever was sent, the same connection still serves.
#[track_caller]
fn still_serves(client: &mut gtd_tests::Client) {
    let status = client.call("daemon.status", json!({})).expect("the connection lives");
    assert!(status["pid"].is_i64(), "{status}");
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_default()
}

#[test]
fn broken_json_is_answered_with_parse_error_and_the_connection_lives() {
    let town = town();
    let mut client = town.client();
    for text in ["{", "nonsense", "{\"jsonrpc\":\"2.0\",\"id\":1,", "[1,", "\"open", "{\"a\":1}}", "\u{1}"] {
        let answer = client.line(text);
        assert_eq!(code(&answer), -32700, "{text}: {answer}");
        assert_eq!(answer["id"], Value::Null, "{text}: {answer}");
        assert_eq!(answer["jsonrpc"], "2.0");
    }
    still_serves(&mut client);
}

#[test]
fn what_is_json_but_no_request_is_answered_with_invalid_request() {
    let town = town();
    let mut client = town.client();
    for text in [
        "1",
        "\"text\"",
        "null",
        "[]",
        "{}",
        r#"{"jsonrpc":"1.0","id":1,"method":"town.status"}"#,
        r#"{"id":1,"method":"town.status"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"town.status"}"#,
    ] {
        let answer = client.line(text);
        assert_eq!(code(&answer), -32600, "{text}: {answer}");
    }
    let answer = client.line(r#"{"jsonrpc":"2.0","id":1,"method":"no.such"}"#);
    assert_eq!(code(&answer), -32601, "{answer}");
    still_serves(&mut client);
}

#[test]
fn wrong_types_are_refused_with_the_path_of_the_field() {
    let town = town();
    let mut client = town.client();
    let cases = [
        ("rig.status", json!({"rig": 5}), "/rig"),
        ("rig.status", json!({}), "/rig"),
        ("rig.status", json!({"rig": "a b"}), "/rig"),
        ("witness.start", json!({"rig": "a", "env": {"K": 1}}), "/env/K"),
        ("witness.start", json!({"rig": "a", "wait_ms": -1}), "/wait_ms"),
        ("witness.stop", json!({"rig": "a", "now": "yes"}), "/now"),
        ("agent.exits", json!({"agent": "nowhere"}), "/agent"),
        ("events.history", json!({"kinds": ["a", 2]}), "/kinds/1"),
        ("town.status", json!("text"), ""),
    ];
    for (method, params, path) in cases {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let answer = client.line(&line);
        // Parameters that are neither object nor array make no valid request.
        let codes: &[i64] = if path.is_empty() { &[-32602, -32600] } else { &[-32602] };
        assert!(codes.contains(&code(&answer)), "{line}: {answer}");
        if !path.is_empty() {
            assert_eq!(answer["error"]["data"]["path"], path, "{line}: {answer}");
            assert_eq!(answer["error"]["data"]["kind"], "invalid_params", "{line}: {answer}");
        }
    }
    still_serves(&mut client);
}

#[test]
fn unknown_fields_are_refused_with_their_path() {
    let town = town();
    let mut client = town.client();
    for (method, params, path) in [
        ("town.status", json!({"surplus": 1}), "/surplus"),
        ("witness.start", json!({"rig": "a", "rigs": "b"}), "/rigs"),
        ("rig.status", json!(["a", "b"]), "/1"),
    ] {
        let error = client.call(method, params.clone()).expect_err("refused");
        assert_eq!((error.code, error.kind.as_str()), (-32602, "invalid_params"), "{error:?}");
        assert_eq!(error.data["path"], path, "{method} {params}: {error:?}");
    }
    still_serves(&mut client);
}

#[test]
fn a_line_of_two_mebibytes_is_refused_and_the_connection_lives() {
    let town = town();
    let mut client = town.client();
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"town.status","params":{{"x":"{}"}}}}"#,
        "y".repeat(2 << 20)
    );
    let answer = client.line(&long);
    assert_eq!(code(&answer), 1018, "{answer}");
    assert_eq!(answer["error"]["data"]["kind"], "request_too_large", "{answer}");
    assert_eq!(answer["id"], Value::Null);
    still_serves(&mut client);
    // Also when the line comes in pieces, and other requests follow in the same write.
    client.send_raw("z".repeat(1_500_000).as_bytes()).unwrap();
    client.send_raw(b"\n{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"rpc.discover\"}\n").unwrap();
    let mut answers = [client.read().unwrap(), client.read().unwrap()];
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert_eq!(code(&answers[0]), 1018, "{}", answers[0]["error"]);
    assert_eq!(answers[1]["id"], 8);
    // A megabyte exactly is taken.
    let frame = r#"{"jsonrpc":"2.0","id":9,"method":"rig.status","params":{"rig":""}}"#;
    let fits = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"rig.status","params":{{"rig":"{}"}}}}"#,
        "r".repeat((1 << 20) - frame.len())
    );
    let answer = client.line(&fits);
    assert_eq!((code(&answer), answer["id"].as_i64()), (-32602, Some(9)), "{}", answer["error"]["code"]);
}

#[test]
fn half_a_line_and_then_the_end_disturbs_nobody() {
    let town = town();
    for half in [&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"meth"[..], b"", b" ", b"\"", b"{", &[0xff, 0xfe]] {
        let mut client = town.client();
        client.send_raw(half).unwrap();
        drop(client);
    }
    // Closing one side only: what is owed still comes, also for a last line without its newline.
    let mut client = town.client();
    client.send_raw(br#"{"jsonrpc":"2.0","id":1,"method":"daemon.status"}"#).unwrap();
    client.half_close();
    let answer = client.read().expect("the last line is served");
    assert_eq!(answer["id"], 1);
    assert!(client.read_line().is_none(), "then the connection ends");

    let mut client = town.client();
    client.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"meth").unwrap();
    client.half_close();
    let answer = client.read().expect("half a request is answered");
    assert_eq!(code(&answer), -32700, "{answer}");
    still_serves(&mut town.client());
}

#[test]
fn binary_junk_is_answered_and_survived() {
    let town = town();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..20 {
        let mut client = town.client();
        client.patience(Duration::from_secs(5));
        let junk: Vec<u8> = (0..4096 + round * 997)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            })
            .collect();
        client.send_raw(&junk).unwrap();
        client.send_raw(b"\n").unwrap();
        client.half_close();
        let mut answers = 0;
        while let Some(answer) = client.read() {
            let code = code(&answer);
            assert!([-32700, -32600].contains(&code), "{answer}");
            answers += 1;
        }
        assert!(answers > 0, "junk is answered");
    }
    still_serves(&mut town.client());
    assert!(town.daemon().is_some());
}

#[test]
fn batches_notifications_and_ids_are_as_the_standard_says() {
    let town = town();
    let mut client = town.client();
    let answer = client.line(
        r#"[{"jsonrpc":"2.0","id":1,"method":"daemon.status"},5,{"jsonrpc":"2.0","method":"daemon.status"},{"jsonrpc":"2.0","id":2,"method":"no.such"}]"#,
    );
    let answers = answer.as_array().expect("a batch is answered by an array");
    assert_eq!(answers.len(), 3, "{answer}");
    assert!(answers.iter().any(|a| a["id"] == 1 && a["result"]["pid"].is_i64()), "{answer}");
    assert!(answers.iter().any(|a| a["id"] == 2 && code(a) == -32601), "{answer}");
    assert!(answers.iter().any(|a| a["id"].is_null() && code(a) == -32600), "{answer}");

    // A batch of notifications and a notification get no answer: the next one that comes is the next call's.
    client.send_raw(b"[{\"jsonrpc\":\"2.0\",\"method\":\"daemon.status\"}]\n\r\n\n").unwrap();
    client.send_raw(b"{\"jsonrpc\":\"2.0\",\"method\":\"daemon.status\"}\r\n").unwrap();
    for id in ["-1", "1.5", "\"text\"", "null", "18446744073709551615", "\"\\u00e9\""] {
        client
            .send_raw(
                format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"daemon.status\"}}\n").as_bytes(),
            )
            .unwrap();
        let line = client.read_line().expect("an answer");
        let given: Value = serde_json::from_str(id).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], given, "{line}");
        assert!(line.contains(&format!("\"id\":{id}")), "ids are echoed as given: {line}");
    }
}

#[test]
fn a_thousand_connections_are_served_and_the_surplus_is_told_so() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 4096 || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return gtd_tests::skipped("a_thousand_connections…", "this process may not open as many files");
    }
    let town = town();
    let mut open: Vec<gtd_tests::Client> = (0..1024).map(|_| town.client()).collect();
    for client in &mut open {
        let answer = client.call("daemon.hello", json!({"client": "tests", "protocol": 1}));
        assert!(answer.is_ok(), "{answer:?}");
    }
    let mut surplus = town.client();
    let answer = surplus.read().expect("the surplus one is told");
    assert_eq!(
        (code(&answer), answer["error"]["data"]["kind"].as_str()),
        (1018, Some("too_busy")),
        "{answer}"
    );
    assert!(surplus.read_line().is_none(), "and closed");
    open.truncate(1000);
    gtd_tests::wait_for(gtd_tests::QUICK, "a place becomes free", || {
        town.client().call("daemon.status", json!({})).ok()
    });
}

#[test]
fn the_documented_table_is_served_by_discover() {
    let town = town();
    let document = town.call("rpc.discover", json!({}));
    let names: Vec<&str> =
        document["methods"].as_array().unwrap().iter().filter_map(|m| m["name"].as_str()).collect();
    for name in ["daemon.hello", "town.status", "witness.start", "agent.explain", "events.subscribe"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    // Every method of the table is there: none answers that it is not.
    let mut client = town.client();
    for name in names.iter().filter(|name| !name.contains("shutdown") && !name.contains("subscribe")) {
        if let Err(error) = client.call(name, json!({"no_such_field": true})) {
            assert_ne!(error.code, -32601, "{name}");
        }
    }
}
