//! Each verb's words and JSON, against canned answers.

use gtd_proto::{State, town};
use serde_json::json;

use crate::common::fake::{Fake, Reply};
use crate::common::values::{self, answer, canned};
use crate::common::{Run, Town};

fn fake(town: &Town) -> Fake {
    Fake::start(&town.socket(), canned(town))
}

/// Runs one verb against the canned answers.
fn golden(args: &[&str]) -> String {
    let town = Town::with_endpoint();
    let _fake = fake(&town);
    format!("$ gtctl {}\n{}", args.join(" "), town.gtctl(args).golden())
}

#[test]
fn the_town_at_a_glance() {
    insta::assert_snapshot!(golden(&[]));
}

#[test]
fn an_agent_on_a_card() {
    insta::assert_snapshot!("card_running", golden(&["status", "alpha/witness"]));
    insta::assert_snapshot!("card_backoff", golden(&["status", "alpha/refinery"]));
}

#[test]
fn several_agents_as_a_table() {
    insta::assert_snapshot!(golden(&["status", "alpha"]));
}

#[test]
fn reads_in_words() {
    let lines: Vec<String> = [
        &["witness", "status", "alpha"][..],
        &["refinery", "status", "alpha"],
        &["rig", "list"],
        &["rig", "status", "alpha"],
        &["rig", "status", "beta"],
        &["peek", "alpha/witness", "-n", "5"],
        &["capture", "alpha/witness"],
        &["explain", "alpha/witness"],
        &["exits"],
        &["exits", "alpha/witness", "--output"],
        &["deaths"],
        &["deaths", "incidents"],
        &["signals"],
        &["doctor"],
        &["doctor", "--list"],
        &["doctor", "--fix", "--dry-run"],
        &["orphans", "list"],
        &["session", "list"],
        &["crew", "list"],
        &["work", "list"],
        &["work", "show", "al-k3x"],
        &["hook", "show", "alpha/witness"],
        &["convoy", "list"],
        &["convoy", "status"],
        &["convoy", "status", "hq-cv-3"],
        &["mail", "inbox"],
        &["mail", "inbox", "alpha/witness", "--unread"],
        &["mail", "read", "m-12"],
        &["lifecycle", "list"],
        &["waiting"],
        &["nudge", "list"],
        &["events"],
        &["wait", "alpha/witness"],
        &["wait", "alpha/witness", "--for", "gone"],
        &["daemon", "status"],
        &["daemon", "heartbeat"],
        &["daemon", "heartbeats"],
        &["socket"],
        &["version"],
    ]
    .iter()
    .map(|args| golden(args))
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn changes_in_words() {
    let lines: Vec<String> = [
        &["witness", "start", "alpha"][..],
        &["witness", "spawn", "alpha", "--foreground"],
        &["witness", "stop", "alpha", "--now"],
        &["witness", "restart", "alpha"],
        &["doctor", "--fix"],
        &["orphans", "sweep"],
        &["orphans", "sweep", "--kind", "process"],
        &["reset", "alpha/witness"],
        &["declare-dead", "alpha/witness", "--evidence", "I have looked"],
        &["rig", "park", "alpha", "--reason", "too noisy"],
        &["rig", "park", "alpha", "--no-wait"],
        &["rig", "unpark", "alpha"],
        &["rig", "dock", "alpha"],
        &["rig", "undock", "alpha"],
        &["rig", "remove", "alpha"],
        &["rig", "remove", "alpha", "--yes"],
        &["work", "create", "Fix the parser", "--rig", "alpha", "-p", "1"],
        &["work", "close", "al-k3x", "--reason", "done"],
        &["hook", "set", "alpha/witness", "al-k3x"],
        &["hook", "set", "alpha/witness", "al-k3x", "--force"],
        &["hook", "clear", "alpha/witness"],
        &["convoy", "create", "The parser", "al-k3x", "hq-7", "--notify", "mayor"],
        &["convoy", "add", "hq-cv-3", "al-k3y"],
        &["mail", "send", "alpha/witness", "Look after nux", "-silent for an hour"],
        &["mail", "archive", "m-12"],
        &["lifecycle", "request", "alpha/witness", "cycle"],
        &["lifecycle", "request", "cycle"],
        &["lifecycle", "request", "alpha/witness", "explode"],
        &["drain", "alpha/witness"],
        &["pause", "alpha", "--reason", "what is it doing?"],
        &["pause", "--agent", "alpha/crew/max"],
        &["resume"],
        &["undrain", "alpha/witness"],
        &["nudge", "alpha/witness", "--", "-x;"],
        &["inject", "alpha/witness", "You have mail.", "--key", "mail"],
        &["nudge", "cancel", "n-1f3a5c7e9b0d"],
        &["polecat", "nudge", "alpha/witness", "Go on."],
        &["respond", "alpha/witness", "yes"],
    ]
    .iter()
    .map(|args| golden(args))
    .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_json_answer_is_the_result_in_the_envelope() {
    let town = Town::with_endpoint();
    let _fake = fake(&town);
    let cases: [(&[&str], &str); 60] = [
        (&["status"], "town.status"),
        (&["status", "alpha/witness"], "agent.list"),
        (&["witness", "status", "alpha"], "witness.status"),
        (&["refinery", "status", "alpha"], "refinery.status"),
        (&["rig", "list"], "rig.list"),
        (&["rig", "status", "alpha"], "rig.status"),
        (&["rig", "park", "alpha"], "rig.park"),
        (&["rig", "unpark", "alpha"], "rig.unpark"),
        (&["rig", "dock", "alpha"], "rig.dock"),
        (&["rig", "undock", "alpha"], "rig.undock"),
        (&["rig", "remove", "alpha", "--yes"], "rig.remove"),
        (&["peek", "alpha/witness"], "agent.capture"),
        (&["explain", "alpha/witness"], "agent.explain"),
        (&["exits"], "agent.exits"),
        (&["deaths", "--since", "1h"], "deaths.list"),
        (&["deaths", "incidents"], "deaths.incidents"),
        (&["signals"], "agent.signals"),
        (&["wait", "alpha/witness", "--for", "running"], "agent.wait"),
        (&["daemon", "status"], "daemon.status"),
        (&["daemon", "heartbeat"], "daemon.heartbeat"),
        (&["daemon", "heartbeats"], "daemon.heartbeats"),
        (&["witness", "start", "alpha"], "witness.start"),
        (&["witness", "stop", "alpha"], "witness.stop"),
        (&["witness", "restart", "alpha"], "witness.restart"),
        (&["reset", "alpha/witness"], "agent.reset"),
        (&["declare-dead", "alpha/witness", "--evidence", "x"], "agent.declare_dead"),
        (&["work", "list"], "work.list"),
        (&["work", "show", "al-k3x"], "work.show"),
        (&["work", "create", "x"], "work.create"),
        (&["work", "close", "al-k3x"], "work.close"),
        (&["hook", "show", "alpha/witness"], "hook.show"),
        (&["hook", "set", "alpha/witness", "al-k3x", "--force", "--yes"], "hook.set"),
        (&["hook", "clear", "alpha/witness"], "hook.clear"),
        (&["doctor"], "doctor.run"),
        (&["doctor", "--list"], "doctor.checks"),
        (&["orphans", "list"], "orphans.list"),
        (&["session", "list"], "session.list"),
        (&["crew", "list"], "crew.list"),
        (&["crew", "list", "alpha"], "crew.list"),
        (&["convoy", "create", "x", "hq-1"], "convoy.create"),
        (&["convoy", "add", "hq-cv-3", "hq-1"], "convoy.add"),
        (&["convoy", "status", "hq-cv-3"], "convoy.status"),
        (&["convoy", "status"], "convoy.list"),
        (&["convoy", "list"], "convoy.list"),
        (&["mail", "send", "mayor/", "x"], "mail.send"),
        (&["mail", "inbox"], "mail.inbox"),
        (&["mail", "read", "m-12"], "mail.read"),
        (&["mail", "archive", "m-12"], "mail.archive"),
        (&["lifecycle", "request", "alpha/witness", "stop"], "lifecycle.request"),
        (&["lifecycle", "list", "alpha/witness"], "lifecycle.list"),
        (&["waiting"], "agent.waiting"),
        (&["drain", "alpha/witness"], "agent.drain"),
        (&["pause", "--until", "30m"], "town.pause"),
        (&["resume", "alpha"], "town.resume"),
        (&["undrain", "alpha/witness"], "agent.undrain"),
        (&["nudge", "alpha/witness", "x"], "nudge.send"),
        (&["nudge", "list", "alpha/witness", "--all"], "nudge.list"),
        (&["nudge", "cancel", "n-1f3a5c7e9b0d"], "nudge.cancel"),
        (&["polecat", "inject", "alpha/witness", "x"], "polecat.inject"),
        (&["respond", "alpha/witness", "y"], "agent.respond"),
    ];
    for (args, kind) in cases {
        let run = town.gtctl(&[args, &["--json"]].concat()).expect(0);
        assert_eq!(run.out.lines().count(), 1, "{args:?}");
        let value = run.json();
        assert_eq!(value["schema_version"], 1, "{args:?}");
        assert_eq!(value["kind"], kind, "{args:?}");
        assert_eq!(value["result"]["seq"], 42, "{args:?}");
        assert_eq!(value.as_object().unwrap().len(), 3, "{args:?}");
    }
    let witness = town.gtctl(&["--json", "witness", "status", "alpha"]).json();
    for field in ["running", "rig_name", "session", "monitored_polecats", "agent", "state", "pid"] {
        assert!(!witness["result"][field].is_null(), "{field}");
    }
    let refinery = town.gtctl(&["--json", "refinery", "status", "alpha"]).json();
    assert_eq!(refinery["result"]["queue_length"], 3);
    let socket = town.gtctl(&["--json", "socket"]).json();
    assert_eq!(socket["kind"], "socket");
    assert_eq!(socket["result"]["socket"], "[TOWN]/daemon/gtd.sock");
    assert_eq!(town.gtctl(&["--json", "version"]).json()["result"]["daemon"]["pid"], 4711);
}

#[test]
fn what_a_start_hands_on() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    let args = "witness start alpha --agent claude --account work --env A=1 --env B=x=y --reset-overrides --timeout 90s --reason because";
    town.gtctl(&args.split(' ').collect::<Vec<_>>()).expect(0);
    let expected = json!({
        "rig": "alpha", "agent": "claude", "account": "work", "env": {"A": "1", "B": "x=y"}, "foreground": false,
        "reset_overrides": true, "dry_run": false, "wait_ms": 90_000, "reason": "because",
    });
    assert_eq!(fake.params("witness.start"), expected);
    town.gtctl(&["witness", "stop", "alpha", "--now", "--no-wait"]).expect(0);
    assert_eq!(
        fake.params("witness.stop"),
        json!({"rig": "alpha", "now": true, "force": false, "dry_run": false, "wait_ms": 0})
    );
}

/// What would be done twice has a key of its own.
#[track_caller]
fn without_key(mut params: serde_json::Value) -> serde_json::Value {
    let key = params.as_object_mut().unwrap().remove("idempotency_key").unwrap();
    assert_eq!(key.as_str().map(str::len), Some(36), "{key}");
    params
}

#[test]
fn what_a_convoy_hands_on() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    town.gtctl(&["convoy", "create", "The parser", "al-1", "hq-2", "--notify", "mayor"]).expect(0);
    let expected =
        json!({"title": "The parser", "work": ["al-1", "hq-2"], "watchers": ["mayor"], "dry_run": false});
    assert_eq!(without_key(fake.params("convoy.create")), expected);
    town.gtctl(&["convoy", "add", "hq-cv-3", "al-1", "--dry-run"]).expect(0);
    assert_eq!(fake.params("convoy.add"), json!({"convoy": "hq-cv-3", "work": ["al-1"], "dry_run": true}));
    town.gtctl(&["convoy", "status"]).expect(0);
    assert_eq!(fake.params("convoy.list"), json!({"status": "open"}));
    town.gtctl(&["convoy", "add", "hq-cv-3"]).expect(2);
}

#[test]
fn what_a_mail_hands_on() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    town.gtctl(&["mail", "send", "alpha/nux", "-v says nothing"]).expect(0);
    let expected = json!({"to": "alpha/nux", "subject": "-v says nothing", "body": "", "dry_run": false});
    assert_eq!(without_key(fake.params("mail.send")), expected);
    town.gtctl(&["mail", "inbox"]).expect(0);
    assert_eq!(fake.params("mail.inbox"), json!({"unread": false}), "whose is for the daemon to tell");
    town.gtctl(&["mail", "inbox", "mayor/", "--unread"]).expect(0);
    assert_eq!(fake.params("mail.inbox"), json!({"for": "mayor/", "unread": true}));
    let long = "x".repeat(100_000);
    let run = town.gtctl(&["mail", "send", "mayor/", "s", &long]).expect(2);
    assert!(run.err.contains("at most 65536 bytes"), "{}", run.err);
}

#[test]
fn that_nobody_waits_is_said() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "agent.waiting" => answer(gtd_proto::waiting::WaitingList { items: Vec::new(), unseen: Vec::new() }),
        _ => all(method, params),
    });
    let run = town.gtctl(&["waiting"]).expect(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", "nobody waits for you\n"));
}

#[test]
fn foreground_only_says_that_there_is_none() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    let run = town.gtctl(&["witness", "start", "alpha", "--foreground"]).expect(0);
    assert!(run.err.contains("patrols do not run in the foreground"), "{}", run.err);
    assert!(fake.calls().is_empty());
}

#[test]
fn what_is_so_already_is_no_error() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "witness.start" => {
            let mut change = values::change(values::agent("alpha/witness", State::Running));
            change.already = true;
            answer(change)
        }
        _ => all(method, params),
    });
    let run = town.gtctl(&["witness", "start", "alpha"]).expect(0);
    assert_eq!(run.out, "alpha/witness is running already, pid 5001\n");
    assert_eq!(run.err, "");
    // What sticks for the next start must not pass for done.
    let run = town.gtctl(&["witness", "start", "alpha", "--agent", "other"]).expect(0);
    assert!(run.err.contains("holds from its next start: gtctl witness restart alpha"), "{}", run.err);
}

#[test]
fn survivors_of_a_stop_are_named_and_give_7() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "witness.stop" => {
            let mut change = values::change(values::agent("alpha/witness", State::Lingering));
            change.survivors = vec!["5003:991".to_owned()];
            answer(change)
        }
        _ => all(method, params),
    });
    let run = town.gtctl(&["witness", "stop", "alpha"]).expect(7);
    assert!(run.out.contains("still alive: 5003:991"), "{}", run.out);
}

#[test]
fn a_plan_is_shown_and_nothing_else_is_asked_for() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "witness.start" | "witness.stop" => {
            let mut change = values::change(values::agent("alpha/witness", State::Stopped));
            change.dry_run = true;
            change.plan = vec![values::step("start", "alpha/witness", "it is stopped")];
            answer(change)
        }
        "rig.add" => answer(town::RigAdded {
            name: "gamma".parse().unwrap(),
            path: "/towns/demo/gamma".to_owned(),
            prefix: "ga".to_owned(),
            default_branch: "main".to_owned(),
            dry_run: true,
            plan: vec![values::step("clone", "/towns/demo/gamma", "a new rig")],
        }),
        "town.start" | "town.stop" => answer(town::TownChange {
            items: Vec::new(),
            census: None,
            plan: vec![values::step("start", "alpha/witness", "its intent is to run")],
            dry_run: true,
        }),
        _ => all(method, params),
    });
    let shown: Vec<String> = [
        &["witness", "start", "alpha", "--dry-run"][..],
        &["witness", "stop", "alpha", "--force", "--dry-run"],
        &["rig", "add", "gamma", "https://example.org/g.git", "--dry-run"],
        &["up", "--dry-run"],
        &["down", "--dry-run"],
        &["daemon", "stop", "--dry-run"],
        &["daemon", "restart", "--dry-run"],
        &["daemon", "heartbeat", "--dry-run"],
        &["demo", "--dry-run"],
    ]
    .iter()
    .map(|args| format!("$ gtctl {}\n{}", args.join(" "), town.gtctl(args).golden()))
    .collect();
    insta::assert_snapshot!(shown.join("\n"));
    for (method, params) in fake.calls() {
        let effect = gtd_proto::method::find(&method).unwrap().effect;
        assert!(effect == gtd_proto::method::Effect::Read || params["dry_run"] == true, "{method} {params}");
    }
}

#[test]
fn rig_add_makes_paths_absolute() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "rig.add" => answer(town::RigAdded {
            name: "gamma".parse().unwrap(),
            path: "/towns/demo/gamma".to_owned(),
            prefix: "ga".to_owned(),
            default_branch: "main".to_owned(),
            dry_run: false,
            plan: Vec::new(),
        }),
        _ => all(method, params),
    });
    std::fs::create_dir(town.root().join("source")).unwrap();
    let run = town.gtctl(&["rig", "add", "gamma", "source", "--prefix", "ga", "--branch", "main"]).expect(0);
    assert_eq!(run.out, "added rig gamma at /towns/demo/gamma: branch main, prefix ga\n");
    assert_eq!(fake.params("rig.add")["source"], town.root().join("source").display().to_string());
}

#[test]
fn check_says_it_by_the_exit_code() {
    type Edit = fn(&mut town::TownStatus);
    let cases: [(&str, Edit, i32); 8] = [
        ("all is well", |_| (), 0),
        ("one of two fails", |s| s.rigs[0].refinery = values::backoff("alpha/refinery"), 5),
        (
            "one is stopped on purpose",
            |s| s.rigs[0].refinery = values::agent("alpha/refinery", State::Stopped),
            0,
        ),
        ("the daemon is degraded", |s| s.daemon.degraded = true, 5),
        ("an incident is open", |s| s.incidents.push(values::incident(true)), 5),
        ("the town is held down", |s| s.daemon.hold = true, 3),
        (
            "none runs",
            |s| {
                s.rigs[0].witness = values::backoff("alpha/witness");
                s.rigs[0].refinery = values::backoff("alpha/refinery");
            },
            3,
        ),
        ("one cannot be observed", |s| s.rigs[0].witness = values::agent("alpha/witness", State::Unknown), 5),
    ];
    for (what, edit, code) in cases {
        let town = Town::with_endpoint();
        let mut status = values::well(&town.root());
        edit(&mut status);
        let all = canned(&town);
        let _fake = Fake::start(&town.socket(), move |method, params| match method {
            "town.status" => answer(&status),
            _ => all(method, params),
        });
        assert_eq!(town.gtctl(&["status", "--check"]).code, Some(code), "{what}");
        assert_eq!(town.gtctl(&["status"]).code, Some(0), "{what}");
    }
}

#[test]
fn check_of_one_agent() {
    for (state, code) in [(State::Running, 0), (State::Stopped, 3), (State::Backoff, 3), (State::Unknown, 4)]
    {
        let town = Town::with_endpoint();
        let all = canned(&town);
        let _fake = Fake::start(&town.socket(), move |method, params| match method {
            "agent.list" => answer(gtd_proto::Items { items: vec![values::agent("alpha/witness", state)] }),
            _ => all(method, params),
        });
        assert_eq!(town.gtctl(&["status", "alpha/witness", "--check"]).code, Some(code), "{state}");
    }
}

#[test]
fn an_agent_is_named_by_address_or_by_what_fits_only_one() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    town.gtctl(&["peek", "*/witness"]).expect(2);
    town.gtctl(&["peek", "a*/witness"]).expect(0);
    assert_eq!(fake.params("agent.capture")["agent"], "alpha/witness");
    let none = town.gtctl(&["explain", "gamma"]).expect(4);
    assert_eq!(none.err, "error: no agent fits \"gamma\"\nhint: gtctl status\n");
    let many = town.gtctl(&["exits", "alpha"]).expect(2);
    assert!(many.err.contains("fits 2 agents: alpha/witness, alpha/refinery\n"), "{}", many.err);

    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "agent.list" => {
            let worker = |n: u32| values::agent(&format!("alpha/polecats/w{n}"), State::Running);
            answer(gtd_proto::Items { items: (1..=20).map(worker).collect() })
        }
        _ => all(method, params),
    });
    let many = town.gtctl(&["polecat", "stop", "alpha"]).expect(2);
    assert!(many.err.contains("fits 20 agents: ") && many.err.contains("w6 and 14 more\n"), "{}", many.err);
    assert!(many.err.ends_with("such as alpha/polecats/w20\n"), "{}", many.err);
}

#[test]
fn rpc_prints_the_bare_result() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "rpc.discover" => Reply::Result(json!({"of a later version": [1, {"x": null}]})),
        _ => all(method, params),
    });
    let run = town.gtctl(&["rpc", "rpc.discover"]).expect(0);
    assert_eq!(run.out, "{\"of a later version\":[1,{\"x\":null}]}\n");
    town.gtctl(&["rpc", "agent.capture", r#"{"agent":"alpha/witness"}"#]).expect(0);
    town.gtctl(&["rpc", "agent.capture", r#"["alpha/witness",5]"#]).expect(0);
    town.gtctl(&["rpc", "witness.stop", r#"{"rig":"alpha"}"#, "--dry-run"]).expect(0);
    assert_eq!(fake.params("witness.stop"), json!({"rig": "alpha", "dry_run": true}));
    town.gtctl(&["rpc", "witness.stop", "{"]).expect(2);
    town.gtctl(&["rpc", "witness.stop", "5"]).expect(2);
    town.gtctl(&["rpc", "daemon.heartbeat", "--dry-run"]).expect(2);
    town.gtctl(&["rpc", "events.subscribe"]).expect(2);
    town.gtctl(&["rpc", "no.such"]).expect(1);
    let wrong = town.gtctl(&["rpc", "rig.status", r#"{"rig":5}"#, "--json"]).expect(2);
    assert_eq!(wrong.json()["error"]["data"]["path"], "/rig");
}

#[test]
fn rpc_reads_parameters_from_stdin() {
    use std::io::Write;
    let town = Town::with_endpoint();
    let fake = fake(&town);
    let mut child = town
        .command(&["rpc", "rig.status", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"rig\":\"alpha\"}").unwrap();
    Run::of(child.wait_with_output().unwrap(), &town.root()).expect(0);
    assert_eq!(fake.params("rig.status"), json!({"rig": "alpha"}));
}

#[test]
fn attach_in_json_only_says_how() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "agent.attach" => answer(way()),
        _ => all(method, params),
    });
    let run = town.gtctl(&["attach", "alpha/witness", "--json"]).expect(0);
    assert_eq!(run.json()["result"]["argv"][0], "/bin/echo");
    let refused = town.gtctl(&["attach", "alpha/witness"]).expect(2);
    assert!(refused.err.contains("hint: in a terminal: /bin/echo outside '$3'"), "{}", refused.err);
}

#[test]
fn attach_inside_the_same_server_switches_its_client() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "agent.attach" => answer(way()),
        _ => all(method, params),
    });
    let run = |tmux: &str, extra: &[&str]| {
        let mut command = town.command(&[&["attach", "alpha/witness"], extra].concat());
        Run::of(command.env("TMUX", tmux).output().unwrap(), &town.root())
    };
    assert_eq!(run("/run/town/tmux-0.sock,123,0", &[]).expect(0).out, "inside $3\n");
    let refused = run("/tmp/tmux-1000/default,123,0", &[]).expect(77);
    assert!(refused.err.contains("another tmux server (/tmp/tmux-1000/default)"), "{}", refused.err);
}

fn way() -> gtd_proto::agent::Attach {
    let argv = |words: [&str; 3]| words.map(str::to_owned).to_vec();
    gtd_proto::agent::Attach {
        agent: "alpha/witness".parse().unwrap(),
        argv: argv(["/bin/echo", "outside", "$3"]),
        argv_inside: argv(["/bin/echo", "inside", "$3"]),
        server: "/run/town/tmux-0.sock".to_owned(),
    }
}

#[test]
fn witness_attach_starts_what_does_not_run_and_takes_the_rig_from_the_directory() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let fake = Fake::start(&town.socket(), move |method, params| match method {
        "witness.status" => answer(town::RoleStatus {
            agent: values::agent("alpha/witness", State::Stopped),
            rig_name: "alpha".parse().unwrap(),
            monitored_polecats: None,
            queue_length: None,
        }),
        "agent.attach" => answer(way()),
        _ => all(method, params),
    });
    let inside = town.root().join("alpha/refinery");
    std::fs::create_dir_all(&inside).unwrap();
    let mut command = town.command(&["witness", "at", "--agent", "claude"]);
    command.current_dir(&inside).env("TMUX", "/run/town/tmux-0.sock,1,0");
    let run = Run::of(command.output().unwrap(), &town.root()).expect(0);
    assert_eq!(run.err, "Started witness session for alpha\n");
    assert_eq!(run.out, "inside $3\n");
    assert_eq!(fake.params("witness.start")["agent"], "claude");
    let nowhere = town.gtctl(&["witness", "attach"]).expect(2);
    assert!(nowhere.err.starts_with("error: name a rig"), "{}", nowhere.err);
}

#[test]
fn version_and_socket_need_no_daemon() {
    let town = Town::new();
    assert_eq!(town.gtctl(&["version"]).expect(0).out, "gtctl 0.1.0, protocol 1\n");
    assert_eq!(town.gtctl(&["socket"]).expect(0).out, "[TOWN]/daemon/gtd.sock\n");
    let mut command = town.command(&["version", "--json"]);
    let elsewhere = Run::of(command.current_dir("/").output().unwrap(), &town.root()).expect(0);
    assert!(elsewhere.json()["result"]["daemon"].is_null());
}

#[test]
fn watch_looks_again_and_survives_a_restart_of_the_daemon() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let looks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&looks);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "town.status" if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => Reply::HangUp,
        _ => all(method, params),
    });
    let mut child = town
        .command(&["status", "--watch", "--json"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::common::until("a second look", || looks.load(std::sync::atomic::Ordering::SeqCst) >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_text_goes_out_as_it_was_given() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    let args = [
        "nudge",
        "alpha/witness",
        "-x; 'y'\n",
        "--key",
        "k",
        "--expires",
        "2m",
        "--no-wait",
        "--this-instance",
    ];
    town.gtctl(&args).expect(0);
    let sent = fake.params("nudge.send");
    assert_eq!(sent["message"], "-x; 'y'\n");
    assert_eq!(
        (&sent["key"], &sent["expires_ms"], &sent["wait_ms"]),
        (&json!("k"), &json!(120_000), &json!(0))
    );
    assert!(sent["instance"].is_string(), "{sent}");
    let mut command = town.command(&["respond", "alpha/witness", "-"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), "from afar\n".as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fake.params("agent.respond")["text"], "from afar\n");
    // A verb of its own, and an agent is missing.
    town.gtctl(&["nudge"]).expect(2);
    town.gtctl(&["nudge", "alpha/witness"]).expect(2);
}

#[test]
fn a_wait_says_for_what_and_how_long() {
    let town = Town::with_endpoint();
    let fake = fake(&town);
    town.gtctl(&["wait", "alpha/witness", "--for", "idle", "--timeout", "90s"]).expect(0);
    let asked = json!({"agent": "alpha/witness", "for": "idle", "timeout_ms": 90_000});
    assert_eq!(fake.params("agent.wait"), asked);
    let wrong = town.gtctl(&["wait", "alpha/witness", "--for", "up"]).expect(2);
    assert!(wrong.err.contains("neither ready, idle, gone"), "{}", wrong.err);
}

#[test]
fn what_fits_nothing_is_answered_with_what_is_near() {
    let town = Town::with_endpoint();
    let _fake = fake(&town);
    for (given, near) in [
        ("alpha/witnes", "alpha/witness"),
        ("apha", "alpha"),
        ("refinry", "refinery"),
        ("beta/refinary", "beta/refinery"),
    ] {
        let run = town.gtctl(&["status", given]).expect(4);
        assert!(run.err.contains(&format!("did you mean {near}")), "{given}: {}", run.err);
        let run = town.gtctl(&["status", given, "--json"]).expect(4);
        assert_eq!(run.json()["error"]["data"]["nearest"][0], near, "{given}");
    }
    let run = town.gtctl(&["status", "somebody"]).expect(4);
    assert!(run.err.contains("hint: gtctl status") && !run.err.contains("mean"), "{}", run.err);
}
