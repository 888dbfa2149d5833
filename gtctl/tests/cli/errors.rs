//! How failures are said, and which exit code each has.

use std::os::unix::net::UnixListener;

use gtd_proto::{ErrorKind, RpcError};
use serde_json::json;

use crate::common::Town;
use crate::common::fake::{Fake, Reply};
use crate::common::values::{self, answer, canned};

fn failing(town: &Town, error: RpcError) -> Fake {
    let all = canned(town);
    Fake::start(&town.socket(), move |method, params| match method {
        "witness.start" => Reply::Error(error.clone()),
        _ => all(method, params),
    })
}

#[test]
fn errors_of_the_daemon_in_words_and_json() {
    let cases = [
        RpcError::new(ErrorKind::RigNotFound, "no rig \"alpha\" is registered")
            .hint("gtctl rig list")
            .with("known", ["beta", "gamma"]),
        RpcError::new(ErrorKind::DiedDuringStartup, "alpha/witness died during startup")
            .hint("gtctl exits alpha/witness")
            .with("exit", json!({"code": 3}))
            .with("output", ["loading\u{1b}[2J", "cannot find the model"]),
        RpcError::new(ErrorKind::DiedDuringStartup, "alpha/witness could not be started")
            .with("exec_error", json!({"op": "execve", "errno": "ENOENT", "path": "/no/such"})),
        RpcError::new(ErrorKind::RigNotOperational, "rig alpha is not operational: parked")
            .with("reason", "parked")
            .hint("gtctl rig unpark alpha"),
        RpcError::new(ErrorKind::Timeout, "alpha/witness was not ready within 2s").with("reached", "alive"),
        RpcError::new(ErrorKind::ConfigInvalid, "the settings cannot be used")
            .with("file", "/t/settings/config.json")
            .with("line", 3)
            .with("column", 7),
        RpcError::new(ErrorKind::Git, "the clone failed")
            .with("command", "git clone x")
            .with("stderr", "fatal: no\nsuch host\n"),
    ];
    let shown: Vec<String> = cases
        .into_iter()
        .map(|error| {
            let town = Town::with_endpoint();
            let _fake = failing(&town, error);
            let args = ["witness", "start", "alpha"];
            let (words, json) = (town.gtctl(&args), town.gtctl(&["--json", "witness", "start", "alpha"]));
            assert_eq!(words.code, json.code);
            assert!(json.err.is_empty());
            format!("{}{}", words.golden(), json.out)
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_kind_of_error_ends_with_its_code() {
    for kind in ErrorKind::ALL {
        let town = Town::with_endpoint();
        let _fake = failing(&town, RpcError::new(*kind, "x"));
        let expected = match kind.code() {
            1001 | 1002 => 4,
            1004 => 3,
            1010 | 1012 | 1020 => 77,
            1013 => 6,
            -32602 | 1014 | 1015 => 2,
            _ if *kind == ErrorKind::ShuttingDown => 69,
            _ => 1,
        };
        let run = town.gtctl(&["witness", "start", "alpha", "--json"]);
        assert_eq!(run.code, Some(expected), "{kind:?}");
        assert_eq!(run.json()["error"]["kind"], kind.as_str());
        assert_eq!(run.json()["error"]["code"], kind.code());
    }
}

#[test]
fn no_daemon() {
    let quiet = Town::new();
    let run = quiet.gtctl(&["status"]).expect(69);
    assert_eq!(run.err, "error: no daemon is running: there is no [TOWN]/daemon/gtd.sock\nhint: gtctl up\n");
    let run = quiet.gtctl(&["--json"]).expect(69);
    assert_eq!(run.json()["error"]["kind"], "daemon_unreachable");
    assert_eq!(run.json()["error"]["hint"], "gtctl up");

    let stale = Town::with_endpoint();
    drop(UnixListener::bind(stale.socket()).unwrap());
    let run = stale.gtctl(&["peek", "alpha/witness"]).expect(69);
    assert!(run.err.starts_with("error: no daemon is running: nobody listens on"), "{}", run.err);
}

#[test]
fn a_hint_names_the_town_where_it_would_not_be_found_without() {
    let town = Town::new();
    let root = town.root();
    let root = root.to_str().unwrap();
    let from = |dir: &std::path::Path| {
        let mut command = town.command(&["--town", root, "status"]);
        crate::common::Run::of(command.current_dir(dir).output().unwrap(), &town.root()).expect(69).err
    };
    assert!(from(town.home()).ends_with("hint: gtctl --town [TOWN] up\n"), "{}", from(town.home()));
    assert!(from(&town.root()).ends_with("hint: gtctl up\n"), "{}", from(&town.root()));
}

#[test]
fn no_town() {
    let town = Town::new();
    let mut command = town.command(&["status"]);
    let run =
        crate::common::Run::of(command.current_dir(town.home()).output().unwrap(), &town.root()).expect(2);
    assert!(run.err.contains("is not in a town: no mayor/town.json there or above"), "{}", run.err);
    assert!(run.err.contains("hint: name one with --town DIR"), "{}", run.err);
    let mut command = town.command(&["status"]);
    let run = command.env("GT_ROOT", "/nowhere/at/all").output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    let mut command = town.command(&["status", "--town", "/"]);
    assert_eq!(command.output().unwrap().status.code(), Some(2));
}

#[test]
fn another_protocol_or_another_town_is_refused() {
    type Edit = fn(&mut gtd_proto::daemon::Hello);
    let other_town: Edit = |hello| hello.town_id = "11111111-2222-4333-8444-555555555555".parse().unwrap();
    for edit in [(|hello| hello.protocol = 2) as Edit, other_town] {
        let town = Town::with_endpoint();
        let mut hello = values::hello(&town);
        edit(&mut hello);
        let fake = Fake::start(&town.socket(), move |_, _| answer(&hello));
        let run = town.gtctl(&["witness", "stop", "alpha"]).expect(76);
        assert!(run.err.starts_with("error: the daemon "), "{}", run.err);
        let methods: Vec<String> = fake.calls().into_iter().map(|(method, _)| method).collect();
        assert_eq!(methods, ["daemon.hello"]);
    }
}

#[test]
fn a_socket_that_was_named_needs_no_town() {
    let town = Town::with_endpoint();
    let mut hello = values::hello(&town);
    hello.town_id = "11111111-2222-4333-8444-555555555555".parse().unwrap();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "daemon.hello" => answer(&hello),
        _ => all(method, params),
    });
    let socket = town.socket().display().to_string();
    town.gtctl(&["--socket", &socket, "status"]).expect(0);
    let mut command = town.command(&["status"]);
    assert_eq!(command.env("GT_SOCKET", &socket).output().unwrap().status.code(), Some(0));
    let root = town.root().display().to_string();
    town.gtctl(&["--socket", &socket, "--town", &root, "status"]).expect(76);
}

#[test]
fn a_town_that_never_had_a_daemon_is_not_the_one_behind_a_socket() {
    let town = Town::with_endpoint();
    let _ = std::fs::remove_file(town.root().join("daemon/town-id"));
    let mut hello = values::hello(&town);
    hello.town = "/somewhere/else".to_owned();
    let _fake = Fake::start(&town.socket(), move |_, _| answer(&hello));
    let (root, socket) = (town.root().display().to_string(), town.socket().display().to_string());
    let run = town.gtctl(&["--socket", &socket, "--town", &root, "status"]).expect(76);
    assert!(run.err.contains("serves the town /somewhere/else, not"), "{}", run.err);
}

#[test]
fn what_is_missing_is_named_in_json_too() {
    let run = Town::new().gtctl(&["peek", "--json"]).expect(2);
    let message = run.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "the following required arguments were not provided: <AGENT>");
}

#[test]
fn what_a_daemon_may_do_instead_of_answering() {
    type Instead = fn() -> Reply;
    let cases: [(&str, Instead, i32); 4] = [
        ("hangs up", || Reply::HangUp, 69),
        ("says why and hangs up", || refusal(1018, "too_busy"), 1),
        ("does not know us", || refusal(1012, "unauthorized"), 77),
        ("answers nonsense", || Reply::Result(json!({"name": 5})), 76),
    ];
    for (what, reply, code) in cases {
        let town = Town::with_endpoint();
        let all = canned(&town);
        let _fake = Fake::start(&town.socket(), move |method, params| match method {
            "town.status" => reply(),
            _ => all(method, params),
        });
        let run = town.gtctl(&["status"]);
        assert_eq!(run.code, Some(code), "{what}: {}", run.err);
        assert!(run.err.starts_with("error: "), "{what}: {}", run.err);
    }
}

/// What was lost on the way may have been done: a daemon that takes a request and is gone before it answers.
#[test]
fn a_request_that_was_lost_may_have_been_taken() {
    let lost = |args: &[&str], lost: &'static str| {
        let town = Town::with_endpoint();
        let all = canned(&town);
        let fake = Fake::start(&town.socket(), move |method, params| match method {
            _ if method == lost => Reply::HangUp,
            _ => all(method, params),
        });
        let (words, json) =
            (town.gtctl(args).expect(69), town.gtctl(&[args, &["--json"]].concat()).expect(69));
        assert_eq!(json.json()["error"]["kind"], "daemon_lost", "{args:?}");
        (words.err, json.json()["error"].clone(), fake.params(lost))
    };
    // What only looks is asked again.
    for (args, method) in [
        (&["status"][..], "town.status"),
        (&["work", "list"], "work.list"),
        (&["rpc", "town.status"], "town.status"),
    ] {
        let (words, ..) = lost(args, method);
        assert_eq!(
            words,
            "error: lost the daemon: it closed the connection\n\
             hint: nothing was changed: try again; where nobody answers then, gtctl up\n",
        );
    }
    // What changes something may have been taken.
    for (args, method) in [
        (&["witness", "stop", "alpha"][..], "witness.stop"),
        (&["rig", "park", "alpha"], "rig.park"),
        (&["convoy", "add", "hq-cv-3", "al-1"], "convoy.add"),
        (&["rpc", "witness.stop", r#"{"rig":"alpha"}"#], "witness.stop"),
    ] {
        let (words, ..) = lost(args, method);
        assert_eq!(
            words,
            "error: lost the daemon: it closed the connection; it may have taken the request all the same\n\
             hint: see `gtctl status` and `gtctl events --since 5m` before you repeat it\n",
        );
    }
    // What would be done twice has a key, under which it is not.
    for (args, method) in [
        (&["work", "create", "Fix the parser"][..], "work.create"),
        (&["convoy", "create", "The parser"], "convoy.create"),
        (&["mail", "send", "mayor/", "Done"], "mail.send"),
        (&["nudge", "alpha/witness", "Go on."], "nudge.send"),
        (&["polecat", "nudge", "alpha/witness", "Go on."], "polecat.inject"),
        (&["polecat", "spawn", "alpha"], "polecat.spawn"),
    ] {
        let (words, error, params) = lost(args, method);
        let key = error["data"]["idempotency_key"].as_str().unwrap();
        assert_eq!(params["idempotency_key"], key, "{args:?}");
        let again =
            "hint: see `gtctl status` and `gtctl events --since 5m`, or repeat the command with --once ";
        assert!(words.contains(again) && error["hint"].as_str().unwrap().ends_with(key), "{words} {error}");
        let town = Town::with_endpoint();
        let fake = Fake::start(&town.socket(), canned(&town));
        town.gtctl(&[args, &["--once", key]].concat());
        assert_eq!(fake.params(method)["idempotency_key"], key, "{args:?}");
    }
    let (town, long) = (Town::with_endpoint(), "x".repeat(300));
    for key in ["", "two words", &long] {
        town.gtctl(&["work", "create", "x", "--once", key]).expect(2);
    }
}

fn refusal(code: i32, kind: &str) -> Reply {
    let error = json!({"jsonrpc": "2.0", "id": null,
        "error": {"code": code, "message": "not now", "data": {"kind": kind}}});
    Reply::Raw(error.to_string())
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up_on() {
    let town = Town::with_endpoint();
    let _fake = Fake::start(&town.socket(), |_, _| Reply::Silence);
    let began = std::time::Instant::now();
    let run = town.gtctl(&["version"]).expect(0);
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    assert_eq!(run.out, "gtctl 0.1.0, protocol 1\n");
    let run = town.gtctl(&["status"]).expect(69);
    assert!(run.err.contains("does not answer"), "{}", run.err);
}

#[test]
fn usage_errors() {
    let town = Town::with_endpoint();
    let fake = Fake::start(&town.socket(), canned(&town));
    let cases: [&[&str]; 9] = [
        &["nonsense"],
        &["witness"],
        &["witness", "start"],
        &["witness", "start", "a b"],
        &["witness", "start", "alpha", "--env", "X"],
        &["witness", "start", "alpha", "--timeout", "soon"],
        &["peek", "alpha/witness", "-n", "0"],
        &["events", "--since", "soon"],
        &["convoy", "nonsense"],
    ];
    for args in cases {
        let run = town.gtctl(args).expect(2);
        assert!(run.out.is_empty() && !run.err.is_empty(), "{args:?}");
    }
    let run = town.gtctl(&["witness", "start", "a b", "--json"]).expect(2);
    assert_eq!(run.json()["error"]["kind"], "usage");
    assert!(fake.calls().is_empty());
}

#[test]
fn what_ends_things_is_not_done_unasked() {
    let town = Town::with_endpoint();
    let fake = Fake::start(&town.socket(), canned(&town));
    let cases: [&[&str]; 4] = [
        &["down"],
        &["witness", "stop", "alpha", "--force"],
        &["witness", "restart", "alpha", "--force"],
        &["daemon", "stop", "--force"],
    ];
    for args in cases {
        let run = town.gtctl(args).expect(2);
        assert!(run.err.contains("--yes"), "{args:?} {}", run.err);
    }
    assert!(fake.calls().is_empty());
    town.gtctl(&["witness", "stop", "alpha", "--force", "--yes"]).expect(0);
    assert_eq!(fake.params("witness.stop")["force"], true);
}
