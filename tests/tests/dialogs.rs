//! Agents that wait for a person: by their own word, or by a dialog on their screen.

use std::time::{Duration, Instant};

use gtd_tests::procs::Process;
use gtd_tests::{CHANGE, Setup, Town, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A screen with Claude Code's question, as far as a script can paint it.
const DIALOG: &[&str] = &[
    "print:────────────",
    "print: Bash command",
    "print:   rm -rf build",
    "print: Do you want to proceed?",
    "print: ❯ 1. Yes",
    "print:   2. No, and tell Claude what to do differently",
    "print: Esc to cancel",
];

fn setup() -> Setup {
    Setup::new()
        .rigs(&["a", "b"])
        .no_refineries()
        .agent("asks", DIALOG)
        .agent("works", &["print:❯ "])
        .rig_witness("a", "asks")
        .rig_witness("b", "works")
}

fn waiting(town: &Town) -> Vec<Value> {
    town.call("agent.waiting", json!({}))["items"].as_array().unwrap().clone()
}

fn report(town: &Town, agent: &str, state: &str, detail: Value) {
    let instance = town.agent(agent)["instance"].clone();
    town.call("agent.report", json!({"instance": instance, "state": state, "detail": detail}));
}

fn told(town: &Town) -> Vec<Value> {
    town.events(0).into_iter().filter(|event| event["kind"] == "agent.waiting").collect()
}

#[test]
fn a_dialog_on_a_screen_is_found_and_told_once() {
    let town = setup().make();
    let notes = town.path("notes");
    let script = format!("echo \"$1 $2\" >>{}", notes.display());
    let toml = format!(
        "[[notify]]\non = [\"agent.waiting\"]\nexec = [\"/bin/sh\", \"-c\", {script:?}, \"sh\", \"{{agent}}\", \"{{title}}\"]\n"
    );
    town.replace("settings/gtd.toml", &toml);
    town.start();
    town.wait_all_running();
    let found = wait_for(CHANGE, "the dialog", || {
        let all = waiting(&town);
        (!all.is_empty()).then_some(all)
    });
    let [one] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(
        (&one["agent"], &one["kind"], &one["source"]),
        (&json!("a/witness"), &json!("permission"), &json!("pane"))
    );
    assert_eq!(one["text"], "Bash command · rm -rf build · Do you want to proceed?");
    let agent = town.agent("a/witness");
    assert_eq!((&agent["activity"], &agent["state"]), (&json!("waiting"), &json!("running")), "{agent:#}");
    let said = town.gtctl(&["waiting"]).ok();
    assert!(said.out.starts_with("AGENT") && said.out.contains("rm -rf build"), "{said:?}");
    let why = town.call("agent.explain", json!({"agent": "a/witness"}))["because"].to_string();
    assert!(why.contains("waits for a person (permission, pane)"), "{why}");
    // However often it is looked at, and by whichever daemon.
    for _ in 0..3 {
        waiting(&town);
        town.call("daemon.heartbeat", json!({}));
    }
    town.kill_daemon();
    town.start();
    town.wait_all_running();
    assert_eq!(waiting(&town).len(), 1);
    town.call("daemon.heartbeat", json!({}));
    let events = told(&town);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["data"]["kind"], "permission");
    let note = wait_for(CHANGE, "the program", || {
        std::fs::read_to_string(&notes).ok().filter(|text| !text.is_empty())
    });
    assert_eq!(note, "a/witness a/witness waits for you: permission\n");
    // It goes on.
    report(&town, "a/witness", "working", Value::Null);
    assert!(waiting(&town).is_empty(), "what works is not looked at");
    let nobody = town.gtctl(&["waiting"]).ok();
    assert_eq!((nobody.out.as_str(), nobody.err.as_str()), ("", "nobody waits for you\n"));
}

#[test]
fn a_heartbeat_finds_it_without_anybody_asking() {
    let town = setup().up();
    let seq = wait_for(CHANGE, "a heartbeat with a word", || {
        town.call("daemon.heartbeat", json!({}));
        told(&town).first().and_then(|event| event["seq"].as_u64())
    });
    assert!(seq > 0);
    assert_eq!(told(&town)[0]["agent"], "a/witness");
    let forks = town.call("daemon.status", json!({}))["forks"].as_u64().unwrap();
    for _ in 0..5 {
        town.call("daemon.heartbeat", json!({}));
    }
    assert_eq!(town.call("daemon.status", json!({}))["forks"].as_u64().unwrap(), forks, "no fork for a look");
}

#[test]
fn its_own_word_counts_more_than_its_screen_and_a_wait_ends_with_the_instance() {
    let town = setup().up();
    report(&town, "b/witness", "waiting", json!("Claude needs your permission to use Bash"));
    let all = waiting(&town);
    let one = all.iter().find(|item| item["agent"] == "b/witness").unwrap();
    assert_eq!((&one["kind"], &one["source"]), (&json!("permission"), &json!("reported")), "{one:#}");
    assert_eq!(one["text"], "Claude needs your permission to use Bash");
    for _ in 0..2 {
        report(&town, "b/witness", "waiting", json!("Claude needs your permission to use Bash"));
    }
    let of_b = |events: Vec<Value>| events.into_iter().filter(|event| event["agent"] == "b/witness").count();
    assert_eq!(of_b(told(&town)), 1);
    let before = town.agent("b/witness")["instance"].as_str().unwrap().to_owned();
    town.process("b/witness").kill();
    town.wait_new_instance("b/witness", &before);
    assert!(waiting(&town).iter().all(|item| item["agent"] != "b/witness"));
    report(&town, "b/witness", "waiting", Value::Null);
    assert_eq!(of_b(told(&town)), 2, "another instance, another wait");
    report(&town, "b/witness", "idle", Value::Null);
    assert!(waiting(&town).iter().all(|item| item["agent"] != "b/witness"));
}

#[test]
fn who_cannot_be_looked_at_is_not_said_not_to_wait() {
    let town = setup().toml("[tmux]\ncommand_timeout = \"500ms\"").up();
    let server: Process = town.tmux().server();
    report(&town, "a/witness", "working", Value::Null);
    server.signal(Signal::STOP);
    let began = Instant::now();
    let list = town.call("agent.waiting", json!({}));
    let took = began.elapsed();
    let said = town.gtctl(&["waiting"]);
    server.signal(Signal::CONT);
    assert_eq!((&list["items"], &list["unseen"]), (&json!([]), &json!(["b/witness"])), "{list:#}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(said.err.contains("not known of b/witness") && !said.err.contains("nobody"), "{said:?}");
    wait_for(CHANGE, "it is looked at again", || {
        town.call("agent.waiting", json!({})).get("unseen").is_none().then_some(())
    });
}
