//! What agents say of themselves: hooks in generated settings, sub-states, and a spool for when nobody answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const WITNESS: &str = "a/witness";

fn with_claude() -> Town {
    let setup = Setup::new().rigs(&["a"]).no_refineries().claude("claude").role("witness", "claude");
    // The end of a test waits for no turn.
    let town = setup.toml("[stop]\ndrain = \"0s\"").make();
    town.install_claude();
    town
}

fn working_claude() -> Town {
    let town = with_claude();
    town.start();
    town.wait_all_running();
    town.wait_agent(WITNESS, CHANGE, "at work", |agent| agent["activity"] == "working");
    // The first text is told before its hooks have ended.
    wait_for(CHANGE, "the hooks of its start", || (town.claude_hooks().len() == 2).then_some(()));
    // On a busy machine one was sent and left as well.
    assert!(wait_until(QUICK, || left(&town).is_empty()));
    town
}

/// Has it run the hooks of an event, and waits until that is heard: on a busy machine by way of the spool, a moment later.
#[track_caller]
fn event(town: &Town, name: &str, more: &Value, activity: &str) -> Value {
    town.claude_event("witness", name, more);
    town.wait_agent(WITNESS, CHANGE, activity, |agent| agent["activity"] == activity)
}

fn spool(town: &Town) -> PathBuf {
    town.path("daemon/run/reports")
}

fn left(town: &Town) -> Vec<PathBuf> {
    let entries = fs::read_dir(spool(town)).into_iter().flatten().filter_map(Result::ok);
    let mut left: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    left.sort();
    left
}

fn reported(town: &Town, since: u64) -> Vec<Value> {
    let events = town.events(since).into_iter().filter(|event| event["kind"] == "agent.reported");
    events.map(|event| event["data"].clone()).collect()
}

fn observation(town: &Town, what: &str) -> Option<Value> {
    let why = town.call("agent.explain", json!({ "agent": WITNESS }));
    why["observations"].as_array().unwrap().iter().find(|seen| seen["what"] == what).cloned()
}

/// A report as a file of the spool.
fn leave(town: &Town, name: &str, instance: &Value, state: &str, at: gtd_proto::Timestamp) {
    let text = json!({ "instance": instance, "state": state, "at": at }).to_string();
    let temp = spool(town).join(format!(".{name}"));
    fs::write(&temp, text).unwrap();
    fs::rename(&temp, spool(town).join(format!("{name}.json"))).unwrap();
}

#[test]
fn claude_reports_by_hooks_in_settings_that_are_there_before_it_is() {
    let town = working_claude();
    let file = town.path("a/settings/claude/witness/settings.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let settings: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(settings["skipDangerousModePermissionPrompt"], true);
    let gtctl = gtd_tests::programs::program("gtctl");
    let command = settings["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().unwrap();
    assert_eq!(command, format!("'{}' agent report idle", gtctl.display()));
    let start = town.claude_starts().remove(0);
    let argv: Vec<&str> = start["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(argv.windows(2).any(|two| two == ["--settings", file.to_str().unwrap()]), "{argv:?}");
    assert!(start["prompt"].as_str().unwrap().contains("witness of the rig a"), "{start}");
    // Ready by its first report, not by a time that has passed.
    let ready = town.wait_event(0, "agent.ready", WITNESS, QUICK);
    assert!(ready["data"]["startup_ms"].as_u64().unwrap() < 2_000, "{ready}");

    let since = town.seq();
    event(&town, "Stop", &json!({}), "idle");
    let message = "Claude needs your permission to use Bash";
    let asks = json!({ "message": message, "notification_type": "permission_prompt" });
    let agent = event(&town, "Notification", &asks, "waiting");
    assert_eq!(
        (&agent["activity"], &agent["activity_detail"]),
        (&json!("waiting"), &json!(message)),
        "{agent:#}"
    );
    let waits = town.wait_event(since, "agent.waiting", WITNESS, QUICK);
    assert_eq!(waits["data"], json!({ "kind": "permission", "text": message, "source": "reported" }));
    let card = town.gtctl(&["status", WITNESS]).ok().out;
    assert!(card.contains("waiting for a person") && card.contains(message), "{card}");
    assert!(town.gtctl(&["status"]).ok().out.contains("waiting"));

    // Nothing happens while it goes on waiting, and idling again is no waiting.
    let since = town.seq();
    town.claude_event("witness", "Notification", &asks);
    let idles = json!({ "message": "Claude is waiting for your input", "notification_type": "idle_prompt" });
    event(&town, "Notification", &idles, "idle");
    assert!(!town.events(since).iter().any(|event| event["kind"] == "agent.waiting"));
    // A question of its own to its person.
    let asks = json!({ "tool_name": "AskUserQuestion", "tool_input": { "questions": [{ "question": "left or right?" }] } });
    let agent = event(&town, "PreToolUse", &asks, "waiting");
    assert_eq!(agent["activity_detail"], "left or right?");
    event(&town, "PostToolUse", &asks, "working");
    town.claude_event("witness", "SessionEnd", &json!({ "reason": "clear" }));
    assert_eq!(town.agent(WITNESS)["activity"], "working");

    let earlier = observation(&town, "earlier reports").unwrap();
    assert!(earlier["value"].as_str().unwrap().starts_with("waiting "), "{earlier}");
    let activity = observation(&town, "activity").unwrap();
    assert_eq!((&activity["value"], &activity["source"]), (&json!("working"), &json!("report")));
    assert!(activity["age_ms"].as_u64().unwrap() < 60_000);
    for hook in town.claude_hooks() {
        assert_eq!(
            (&hook["code"], &hook["out"], &hook["err"]),
            (&json!(0), &json!(""), &json!("")),
            "{hook}"
        );
    }
    assert!(wait_until(QUICK, || left(&town).is_empty()));
    assert!(!spool(&town).join("errors.log").exists(), "something was refused");
}

#[test]
fn settings_of_somebodys_are_left_used_and_told_and_ours_are_refreshed() {
    let town = with_claude();
    let file = town.path("a/settings/claude/witness/settings.json");
    let theirs = r#"{ "hooks": {}, "mine": true }"#;
    town.replace("a/settings/claude/witness/settings.json", theirs);
    town.start();
    // Nothing reports, so that it is ready by its age; it runs with what its person wrote.
    let agent = town.wait_agent(WITNESS, CHANGE, "alive", |agent| agent["running"] == true);
    assert_eq!(fs::read_to_string(&file).unwrap(), theirs);
    assert!(town.claude_starts()[0]["argv"].to_string().contains("settings.json"));
    let alert = wait_for(QUICK, "an alert", || {
        town.alerts().into_iter().find(|alert| alert["key"].as_str().unwrap().starts_with("settings:"))
    });
    assert!(alert["message"].as_str().unwrap().contains("left as it is"), "{alert}");
    assert!(observation(&town, "settings").unwrap()["value"].as_str().unwrap().contains("left as it is"));
    // Taken away, it is generated at the next start, and the alert goes.
    fs::remove_file(&file).unwrap();
    town.call("witness.restart", json!({ "rig": "a", "now": true }));
    let agent = town.wait_new_instance(WITNESS, agent["instance"].as_str().unwrap());
    let ours = fs::read_to_string(&file).unwrap();
    assert!(ours.contains("agent report started"));
    assert!(!town.alerts().iter().any(|alert| alert["key"].as_str().unwrap().starts_with("settings:")));
    // Edited between two starts, it is somebody's again.
    let edited = ours.replace("\"timeout\": 5", "\"timeout\": 6");
    assert_ne!(edited, ours);
    town.replace("a/settings/claude/witness/settings.json", &edited);
    town.call("witness.restart", json!({ "rig": "a", "now": true }));
    town.wait_new_instance(WITNESS, agent["instance"].as_str().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), edited);
    // It still reports, so it is heard.
    town.wait_agent(WITNESS, CHANGE, "at work", |agent| agent["activity"] == "working");
}

#[test]
fn what_was_said_while_no_daemon_was_there_is_heard_in_its_order() {
    let town = working_claude();
    let before = town.agent(WITNESS);
    let since = town.seq();
    town.kill_daemon();
    for (event, more) in [
        ("Stop", json!({})),
        ("UserPromptSubmit", json!({ "prompt": "x" })),
        ("Notification", json!({ "message": "a question" })),
    ] {
        let hook = town.claude_event("witness", event, &more);
        assert_eq!(
            (&hook["code"], &hook["out"], &hook["err"]),
            (&json!(0), &json!(""), &json!("")),
            "{hook}"
        );
    }
    let files = left(&town);
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    town.start();
    let agent = town.wait_agent(WITNESS, CHANGE, "waiting", |agent| agent["activity"] == "waiting");
    assert_eq!((&agent["instance"], &agent["activity_detail"]), (&before["instance"], &json!("a question")));
    let said = wait_for(QUICK, "three reports", || Some(reported(&town, since)).filter(|all| all.len() == 3));
    let states: Vec<&str> = said.iter().filter_map(|data| data["state"].as_str()).collect();
    assert_eq!(states, ["idle", "working", "waiting"]);
    assert!(said.iter().all(|data| data["source"] == "spool" && data["said_at"].is_string()), "{said:?}");
    assert!(wait_until(QUICK, || left(&town).is_empty()));
    assert_eq!(observation(&town, "activity").unwrap()["source"], "spool");
    // The next daemon knows it without being told again.
    town.stop_daemon();
    town.start();
    let agent = town.wait_agent(WITNESS, CHANGE, "running", |agent| agent["state"] == "running");
    assert_eq!((&agent["activity"], &agent["activity_detail"]), (&json!("waiting"), &json!("a question")));
}

#[test]
fn a_daemon_that_does_not_answer_costs_the_agent_little_and_loses_nothing() {
    let town = working_claude();
    let since = town.seq();
    let daemon = town.daemon().unwrap();
    daemon.signal(Signal::STOP);
    let began = Instant::now();
    let hook = town.claude_event("witness", "Stop", &json!({}));
    assert_eq!((&hook["code"], &hook["out"]), (&json!(0), &json!("")), "{hook}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?} {hook}", began.elapsed());
    assert_eq!(left(&town).len(), 1);
    daemon.signal(Signal::CONT);
    town.wait_agent(WITNESS, CHANGE, "idle", |agent| agent["activity"] == "idle");
    assert!(wait_until(QUICK, || left(&town).is_empty()));
    // What was sent and then left as well counts once.
    event(&town, "UserPromptSubmit", &json!({}), "working");
    let states: Vec<Value> = reported(&town, since).iter().map(|data| data["state"].clone()).collect();
    assert_eq!(states, [json!("idle"), json!("working")]);
}

#[test]
fn what_an_earlier_instance_says_counts_for_nothing_and_is_told_so() {
    let town = working_claude();
    let old = town.agent(WITNESS)["instance"].clone();
    town.process(WITNESS).kill();
    let new = town.wait_new_instance(WITNESS, old.as_str().unwrap())["instance"].clone();
    wait_for(CHANGE, "the hooks of both starts", || (town.claude_hooks().len() == 4).then_some(()));
    town.wait_agent(WITNESS, CHANGE, "at work", |agent| agent["activity"] == "working");
    let since = town.seq();
    let answer = town.call("agent.report", json!({ "agent": WITNESS, "instance": old, "state": "idle" }));
    assert_eq!((&answer["already"], &answer["activity"]), (&json!(true), &json!("working")), "{answer:#}");
    assert!(answer["ignored"].as_str().unwrap().contains("earlier instance"), "{answer:#}");
    let unknown = town.call_fails("agent.report", json!({ "instance": old, "state": "idle" }));
    assert_eq!(unknown.kind, "agent_not_found");
    // The same by way of the spool; and what was overtaken.
    let now = gtd_proto::Timestamp::now();
    leave(&town, "00000000000000000001-1", &old, "waiting", now);
    leave(&town, "00000000000000000002-1", &new, "ended", "2026-01-01T00:00:00Z".parse().unwrap());
    assert!(wait_until(QUICK, || left(&town).is_empty()));
    assert!(reported(&town, since).is_empty());
    let answer =
        town.call("agent.report", json!({ "instance": new, "state": "idle", "at": "2026-01-01T00:00:00Z" }));
    assert!(answer["ignored"].as_str().unwrap().contains("later report"), "{answer:#}");
    assert_eq!(town.agent(WITNESS)["activity"], "working");
    let answer = town.call("agent.report", json!({ "instance": new, "state": "idle" }));
    assert_eq!((&answer["already"], &answer["ignored"]), (&Value::Null, &Value::Null));
    assert_eq!(answer["activity"], "idle");
}

#[test]
fn a_thousand_files_of_junk_in_the_spool_are_set_aside_and_the_one_report_is_heard() {
    let town = working_claude();
    let instance = town.agent(WITNESS)["instance"].clone();
    town.kill_daemon();
    for n in 0..1_000 {
        let text: &[u8] = match n % 4 {
            0 => b"",
            1 => b"{\"instance\":",
            2 => b"\xff\xfe\0",
            _ => b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        };
        fs::write(spool(&town).join(format!("{n:020}-1.json")), text).unwrap();
    }
    fs::create_dir(spool(&town).join("directory.json")).unwrap();
    leave(&town, "99999999999999999999-1", &instance, "idle", gtd_proto::Timestamp::now());
    town.start();
    town.wait_agent(WITNESS, CHANGE, "idle", |agent| agent["activity"] == "idle");
    assert!(wait_until(QUICK, || left(&town).iter().all(|path| path.is_dir())), "{:?}", left(&town).len());
    let kept = fs::read_dir(spool(&town).join("junk")).unwrap().count();
    assert!((1..=100).contains(&kept), "{kept}");
    // It goes on hearing, also with the directory gone.
    assert!(wait_until(QUICK, || fs::remove_dir_all(spool(&town)).is_ok()));
    event(&town, "UserPromptSubmit", &json!({}), "working");
    let daemon = town.daemon().unwrap();
    daemon.signal(Signal::STOP);
    town.claude_event("witness", "Stop", &json!({}));
    daemon.signal(Signal::CONT);
    town.wait_agent(WITNESS, CHANGE, "idle", |agent| agent["activity"] == "idle");
}

#[test]
fn a_promise_to_be_silent_is_shown_bounded_and_kept_while_it_idles() {
    let town = working_claude();
    let instance = town.agent(WITNESS)["instance"].clone();
    let due = gtd_proto::Timestamp::now() + Duration::from_secs(1_800);
    town.call("agent.report", json!({ "instance": instance, "state": "idle", "next_due": due }));
    let told = || observation(&town, "next due").map(|seen| seen["value"].as_str().unwrap().to_owned());
    assert_eq!(told().unwrap(), format!("{due:.0}"));
    // The next daemon goes by it too, and idling again takes nothing back.
    town.kill_daemon();
    town.start();
    town.wait_agent(WITNESS, CHANGE, "running", |agent| agent["state"] == "running");
    town.call("agent.report", json!({ "instance": instance, "state": "idle" }));
    assert_eq!(told().unwrap(), format!("{due:.0}"));
    town.call("agent.report", json!({ "instance": instance, "state": "working" }));
    assert_eq!(told(), None);
    town.call(
        "agent.report",
        json!({ "instance": instance, "state": "idle", "next_due": "9999-01-01T00:00:00Z" }),
    );
    let told: gtd_proto::Timestamp = told().unwrap().parse().unwrap();
    assert!(told <= gtd_proto::Timestamp::now() + Duration::from_secs(24 * 3_600 + 5), "{told}");
}

#[test]
fn bad_reports_are_refused_with_the_path_or_made_harmless() {
    let town = working_claude();
    let instance = town.agent(WITNESS)["instance"].clone();
    let report = |more: Value| {
        let mut params = json!({ "instance": instance, "state": "waiting" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for (more, path) in [
        (json!({ "conversation": "--dangerous" }), "/conversation"),
        (json!({ "conversation": "a b" }), "/conversation"),
        (json!({ "conversation": "" }), "/conversation"),
        (json!({ "conversation": "x".repeat(129) }), "/conversation"),
        (json!({ "state": "dancing" }), "/state"),
        (json!({ "instance": "x" }), "/instance"),
        (json!({ "next_due": "soon" }), "/next_due"),
        (json!({ "at": 5 }), "/at"),
        (json!({ "more": 1 }), "/more"),
    ] {
        let error = town.call_fails("agent.report", report(more.clone()));
        assert_eq!((error.code, error.data["path"].as_str()), (-32602, Some(path)), "{more}");
    }
    assert_eq!(town.agent(WITNESS)["activity"], "working");
    let detail = format!("\u{1b}[31m{}\n\0{}", "x".repeat(10), "\u{e9}".repeat(100_000));
    town.call("agent.report", report(json!({ "detail": detail })));
    let shown = town.agent(WITNESS)["activity_detail"].as_str().unwrap().to_owned();
    assert!(shown.chars().count() <= 1_000 && !shown.chars().any(char::is_control), "{}", shown.len());
}

#[test]
fn a_report_costs_the_agent_less_than_fifty_milliseconds() {
    let town = working_claude();
    let before = town.claude_hooks().len();
    for (event, times) in [("UserPromptSubmit", 50), ("Stop", 50)] {
        town.order_claude("witness", &json!({ "event": event, "times": times }));
    }
    wait_for(CHANGE, "all hooks", || (town.claude_hooks().len() >= before + 100).then_some(()));
    let mut all: Vec<f64> =
        town.claude_hooks().split_off(before).iter().filter_map(|hook| hook["ms"].as_f64()).collect();
    all.sort_by(f64::total_cmp);
    let (median, worst) = (all[all.len() / 2], all[all.len() * 99 / 100]);
    println!("a report through sh and gtctl: median {median:.1} ms, p99 {worst:.1} ms");
    assert!(median < 50.0, "median {median} ms");
}

#[test]
fn an_agent_learns_from_prime_who_it_is_and_what_it_has_to_do() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let agent = town.agent(WITNESS);
    let work = town.call(
        "work.create",
        json!({ "title": "mend the gate", "description": "the\nlatch\u{1b}[2J", "rig": "a" }),
    );
    town.call("hook.set", json!({ "agent": WITNESS, "work": work["id"] }));
    let socket = town.socket().unwrap();
    let run = |args: &[&str], instance: Option<&str>| {
        let mut command = town.command("gtctl");
        command.args(args).current_dir(town.root()).stdin(Stdio::null());
        if let Some(instance) = instance {
            command
                .env("GT_INSTANCE", instance)
                .env("GT_SOCKET", &socket)
                .env("GT_ROLE", "witness")
                .env("GT_RIG", "a");
        }
        gtd_tests::run::run(command, Duration::from_secs(20))
    };
    let instance = agent["instance"].as_str().unwrap();
    let mut times = Vec::new();
    for _ in 0..20 {
        let told = run(&["prime"], Some(instance)).ok();
        times.push(told.took);
        for part in [
            "You are the witness of the rig a",
            "mend the gate",
            "| latch",
            "What to do:",
            "gtctl hook show a/witness",
        ] {
            assert!(told.out.contains(part), "{part}: {}", told.out);
        }
        assert!(!told.out.contains('\u{1b}'), "{:?}", told.out);
    }
    times.sort();
    println!("gtctl prime: median {:?}", times[times.len() / 2]);
    assert!(times[times.len() / 2] < Duration::from_millis(200), "{times:?}");
    let json = run(&["--json", "prime"], Some(instance)).ok().json();
    assert_eq!((&json["kind"], &json["result"]["work"]["title"]), (&json!("prime"), &json!("mend the gate")));
    assert_eq!(json["result"]["agent"]["agent"], WITNESS);
    assert!(run(&["prime", WITNESS], None).ok().out.contains("witness"));
    let nobody = run(&["prime"], None);
    assert_eq!(nobody.code, 2, "{nobody:?}");
    town.stop_daemon();
    let gone = run(&["prime"], Some(instance));
    assert_eq!((gone.code, gone.out.as_str()), (69, ""), "{gone:?}");
    assert!(gone.err.contains("no daemon"), "{gone:?}");
}
