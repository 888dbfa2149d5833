//! What goes out: events to those who ask, lines for older tools, and programs that are told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use gtd_tests::{CHANGE, QUICK, Setup, Town, wait_for, wait_until};
use serde_json::{Value, json};

/// Deaths on purpose, as many as one likes.
const NO_BREAKERS: &str = "[restart]\nburst = 0\nhealthy_after = \"100ms\"";

fn kill(town: &Town, agent: &str) -> Value {
    let before = town.agent(agent);
    let since = town.seq();
    town.process(agent).kill();
    town.wait_new_instance(agent, before["instance"].as_str().unwrap());
    town.wait_event(since, "agent.exited", agent, QUICK)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ids(path: &Path) -> Vec<u64> {
    let of = |line: &Value| line["id"].as_str()?.rsplit('-').next()?.parse().ok();
    lines(path).iter().filter_map(of).collect()
}

// Events.

#[test]
fn history_by_number_time_kind_and_agent() {
    let town = Setup::new().rigs(&["a", "b"]).toml(NO_BREAKERS).up();
    let exit = kill(&town, "a/witness");
    let (seq, at) = (exit["seq"].as_u64().unwrap(), exit["at"].as_str().unwrap());
    let ask = |params: Value| -> Vec<Value> {
        let page = town.call("events.history", params);
        assert!(page["stream_id"].is_string() && page["next_since"].is_u64(), "{page:#}");
        page["items"].as_array().unwrap().clone()
    };
    let since_time = ask(json!({"since_time": at, "limit": 1000}));
    assert_eq!(since_time[0]["seq"], json!(seq), "at that instant or after");
    let exits = ask(json!({"kinds": ["agent.ex*"], "agent": "a"}));
    assert_eq!(exits.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [seq]);
    assert!(ask(json!({"kinds": ["agent.exited"], "agent": "b"})).is_empty());
    assert!(ask(json!({"kinds": ["agent.exited"], "agent": "*/refinery"})).is_empty());
    assert_eq!(ask(json!({"since": seq - 1, "limit": 1})).len(), 1);
    let both = ask(json!({"kinds": ["agent.exited", "daemon.*"]}));
    let kinds: BTreeSet<&str> = both.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["agent.exited", "daemon.started"]));
    // Pages lead on to the end, each event once.
    let (mut since, mut seen) = (0, Vec::new());
    loop {
        let page = town.call("events.history", json!({"since": since, "limit": 3}));
        seen.extend(page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()));
        let next = page["next_since"].as_u64().unwrap();
        if next <= since {
            break;
        }
        since = next;
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]) && seen.contains(&seq), "{seen:?}");
    assert_eq!(town.call_fails("events.history", json!({"agent": ""})).code, -32602);
    // A cursor of another stream is told so.
    let gap = town.call("events.history", json!({"since": 1_000_000}));
    assert!(gap["gap"]["oldest"].is_u64(), "{gap:#}");
}

#[test]
fn a_subscription_with_globs_gets_past_and_present_and_a_gap_for_a_cursor_of_no_use() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml(NO_BREAKERS).up();
    let past = town.follow(json!({"since": 0, "kinds": ["daemon.*"]}));
    past.wait(QUICK, "the past", |event| event["kind"] == "daemon.started");
    let exits = town.follow(json!({"kinds": ["agent.exited"], "agent": "a"}));
    let lost = town.follow(json!({"since": 1_000_000}));
    lost.wait(QUICK, "the gap", |frame| frame["gap"]["oldest"].is_u64());
    let of_b = kill(&town, "b/witness");
    let of_a = kill(&town, "a/witness");
    let (_, event) = exits.wait(QUICK, "the first exit", |_| true);
    assert_eq!(event["seq"], of_a["seq"], "b's was not asked for: {of_b:#}");
}

#[test]
fn the_client_shows_events_by_time_kind_and_agent() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml(NO_BREAKERS).up();
    kill(&town, "a/witness");
    let shown =
        town.gtctl(&["events", "--since", "5m", "--kind", "agent.exi*", "--agent", "a", "--json"]).ok();
    let kinds: Vec<Value> =
        shown.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, [json!("agent.exited")]);
    let none = town.gtctl(&["events", "--since", "5m", "--kind", "agent.exited", "--agent", "b"]).ok();
    assert_eq!(none.out, "");
}

// Lines.

#[test]
fn every_death_is_a_line_in_the_words_of_the_incumbent_also_over_a_crash() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let path = town.path(".events.jsonl");
    let mut deaths = Vec::new();
    for round in 0..6 {
        let exit = kill(&town, "a/witness");
        deaths.push(exit["seq"].as_u64().unwrap());
        if round % 2 == 1 {
            town.kill_daemon();
            town.start();
            town.wait_all_running();
        }
    }
    wait_for(QUICK, "a line of each death, once", || (ids(&path) == deaths).then_some(()));
    let line = &lines(&path)[0];
    assert_eq!(
        (&line["type"], &line["source"], &line["visibility"]),
        (&json!("session_death"), &json!("gt"), &json!("feed"))
    );
    let payload = &line["payload"];
    assert_eq!(
        (&payload["session"], &payload["agent"], &payload["caller"]),
        (&json!("gt-a-witness"), &json!("a/witness"), &json!("gtd"))
    );
    assert!(payload["reason"].as_str().unwrap().contains("signal 9"), "{line:#}");
    assert_eq!(line["ts"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
}

#[test]
fn a_death_while_the_daemon_was_down_has_its_line_too() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let process = town.process("a/witness");
    town.kill_daemon();
    process.kill();
    town.start();
    town.wait_new_instance("a/witness", &before);
    wait_for(QUICK, "its line", || (ids(&town.path(".events.jsonl")).len() == 1).then_some(()));
}

#[test]
fn a_file_of_lines_that_is_in_the_way_is_an_alert_and_nothing_is_lost() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).make();
    let path = town.path(".events.jsonl");
    std::fs::create_dir(&path).unwrap();
    town.start();
    town.wait_all_running();
    let first = kill(&town, "a/witness")["seq"].as_u64().unwrap();
    let told = || town.alerts().iter().any(|alert| alert["key"] == "events_file");
    assert!(wait_until(QUICK, told));
    let status = town.call("daemon.status", json!({}));
    assert!(
        status["degraded"] == true && status["reasons"].to_string().contains(".events.jsonl"),
        "{status:#}"
    );
    let second = kill(&town, "a/witness")["seq"].as_u64().unwrap();
    std::fs::remove_dir(&path).unwrap();
    assert!(wait_until(CHANGE, || ids(&path) == [first, second]));
    assert!(wait_until(QUICK, || !told()));
}

// Programs.

/// A program that writes its arguments and its input down, a directory per event.
fn witness_script(town: &Town, more: &str) -> String {
    let path = town.base().join("notify.sh");
    let out = town.base().join("told");
    std::fs::create_dir_all(&out).unwrap();
    let script = format!(
        "#!/bin/sh\nd=$(mktemp -d '{}/XXXXXX')\nprintf '%s\\n' \"$@\" > $d/args\ncat > $d/input\nenv > $d/env\necho $5 >> '{}/order'\n{more}\n",
        out.display(),
        out.display()
    );
    // By a shell of its own: a file that we hold open for writing could not be executed.
    let mut child = std::process::Command::new("sh")
        .args(["-ec", "cat > \"$1\"; chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    path.display().to_string()
}

fn hook(on: &str, program: &str) -> String {
    format!(
        "[[notify]]\non = [{on:?}]\nexec = [{program:?}, \"{{title}}\", \"{{body}}\", \"{{kind}}\", \"{{agent}}\", \"{{seq}}\"]\n"
    )
}

fn told(town: &Town) -> Vec<u64> {
    let text = std::fs::read_to_string(town.base().join("told/order")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_program_is_told_in_words_and_with_the_event() {
    let town = Setup::new().rigs(&["a"]).no_refineries().env("SECRET", "hush").make();
    let program = witness_script(&town, "");
    let base = format!("[refinery]\nmode = \"off\"\n{NO_BREAKERS}\n");
    town.replace("settings/gtd.toml", &base);
    town.start();
    town.wait_all_running();
    // Hooks are live: one that is put in hears of what is new.
    town.replace("settings/gtd.toml", &format!("{base}{}", hook("agent.exited", &program)));
    let reloaded = town.gtctl(&["daemon", "reload"]).ok();
    assert!(reloaded.out.contains("notify"), "{reloaded:?}");
    let exit = kill(&town, "a/witness");
    wait_for(QUICK, "the program has run", || (told(&town) == [exit["seq"].as_u64().unwrap()]).then_some(()));
    let entries = std::fs::read_dir(town.base().join("told")).unwrap().flatten();
    let dir = entries.map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let args = read("args");
    assert!(args.starts_with("a/witness ended: ") && args.contains("gtctl explain a/witness"), "{args}");
    assert!(args.contains("\nagent.exited\na/witness\n"), "{args}");
    let event: Value = serde_json::from_str(&read("input")).unwrap();
    assert_eq!((&event["seq"], &event["data"]["signal"]), (&exit["seq"], &json!(9)));
    let env = read("env");
    assert!(!env.contains("SECRET") && !env.contains("GT_INSTANCE") && env.contains("GT_TOWN_ROOT"), "{env}");
    // And one that is taken out hears no more.
    town.replace("settings/gtd.toml", &base);
    town.gtctl(&["daemon", "reload"]).ok();
    kill(&town, "a/witness");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(told(&town).len(), 1);
}

#[test]
fn programs_that_hang_fail_or_are_missing_are_alerts_and_block_nothing() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let good = witness_script(&town, "");
    let hooks = [
        "[[notify]]\non = [\"agent.*\"]\nexec = [\"/bin/sleep\", \"1000\"]\n",
        "[[notify]]\non = [\"agent.*\"]\nexec = [\"/bin/sh\", \"-c\", \"echo no network >&2; exit 3\"]\n",
        "[[notify]]\non = [\"agent.*\"]\nexec = [\"/no/such/program\"]\n",
    ];
    let text = format!(
        "[refinery]\nmode = \"off\"\n{NO_BREAKERS}\n{}{}",
        hooks.concat(),
        hook("agent.exited", &good)
    );
    town.replace("settings/gtd.toml", &text);
    town.start();
    town.wait_all_running();
    let exit = kill(&town, "a/witness");
    wait_for(QUICK, "the good one has run", || {
        told(&town).contains(&exit["seq"].as_u64().unwrap()).then_some(())
    });
    let alert = |words: &[&str]| {
        town.alerts().iter().any(|alert| {
            let message = alert["message"].as_str().unwrap_or_default();
            words.iter().all(|word| message.contains(word))
        })
    };
    assert!(wait_until(QUICK, || alert(&["/bin/sh", "no network"])));
    assert!(wait_until(QUICK, || alert(&["/no/such/program", "cannot be started"])));
    // The ten seconds of the one that hangs, and some.
    assert!(
        wait_until(Duration::from_secs(20), || alert(&["/bin/sleep", "10s", "killed"])),
        "{:#?}",
        town.alerts()
    );
    assert_eq!(
        town.call("daemon.status", json!({}))["degraded"],
        false,
        "the town does its work all the same"
    );
    // Mended, the alerts go.
    town.replace("settings/gtd.toml", &format!("[refinery]\nmode = \"off\"\n{NO_BREAKERS}\n"));
    town.gtctl(&["daemon", "reload"]).ok();
    assert!(wait_until(CHANGE, || town.alerts().is_empty()), "{:#?}", town.alerts());
}

#[test]
fn a_flood_of_events_runs_few_programs() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    let program = witness_script(&town, "");
    let text = format!("[refinery]\nmode = \"off\"\n{}", hook("agent.reported", &program));
    town.replace("settings/gtd.toml", &text);
    town.start();
    town.wait_all_running();
    let instance = town.agent("a/witness")["instance"].clone();
    let since = town.seq();
    for round in 0..300 {
        let state = if round % 2 == 0 { "working" } else { "idle" };
        town.call("agent.report", json!({"agent": "a/witness", "instance": instance, "state": state}));
    }
    let reported = || town.events(since).iter().filter(|event| event["kind"] == "agent.reported").count();
    assert!(wait_until(QUICK, || reported() >= 300));
    assert!(wait_until(QUICK, || !told(&town).is_empty()));
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(told(&town).len(), 1, "the edge, and no repetition within a minute");
}

#[test]
fn what_was_not_told_when_the_daemon_was_killed_is_told_by_the_next() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    // Slow, so that the blow comes while it runs.
    let program = witness_script(&town, &format!("test -e '{}/go' || sleep 1000", town.base().display()));
    let text = format!("[refinery]\nmode = \"off\"\n{NO_BREAKERS}\n{}", hook("agent.exited", &program));
    town.replace("settings/gtd.toml", &text);
    town.start();
    town.wait_all_running();
    let first = kill(&town, "a/witness")["seq"].as_u64().unwrap();
    assert!(wait_until(QUICK, || told(&town) == [first]));
    town.kill_daemon();
    std::fs::write(town.base().join("go"), "").unwrap();
    town.start();
    assert!(wait_until(CHANGE, || told(&town) == [first, first]), "told again: {:?}", told(&town));
    // The dead daemon's own program: nobody is left who could prove that it is his.
    for process in gtd_tests::procs::marked(&town.base().display().to_string()) {
        if process.command_line().contains("sleep 1000") || process.command_line().contains("notify.sh") {
            process.kill();
        }
    }
}
