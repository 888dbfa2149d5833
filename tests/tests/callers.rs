//! Who asks is who its process is: what an agent may not do, however it asks, and what it may.

use std::path::PathBuf;

use gtd_tests::{CHANGE, Output, QUICK, Setup, Town, programs, run, wait_for, wait_until};
use serde_json::{Value, json};

/// An agent that does what lies in `{J}/do-RIG-ROLE`, and writes down what came of it.
const HAND: &str = r#"
J=$1; me=$GT_RIG-$GT_ROLE; echo ready
while :; do
  if [ -f "$J/do-$me" ]; then
    mv "$J/do-$me" "$J/doing-$me"
    sh "$J/doing-$me" >"$J/out-$me" 2>"$J/err-$me"
    echo $? >"$J/rc.partial-$me"
    mv "$J/rc.partial-$me" "$J/rc-$me"
  fi
  sleep 0.02
done"#;

fn setup() -> Setup {
    let hand = json!({"provider": "script", "command": "/bin/sh", "args": ["-c", HAND, "hand", "{J}"]});
    Setup::new()
        .rigs(&["alpha", "beta"])
        .command("hand", hand)
        .role("witness", "hand")
        .role("refinery", "hand")
}

/// What a script comes to inside of an agent's own process.
#[track_caller]
fn inside(town: &Town, agent: &str, script: &str) -> Output {
    let me = agent.replace('/', "-");
    let at = |name: &str| town.journal_dir().join(format!("{name}-{me}"));
    let rc = at("rc");
    let _ = std::fs::remove_file(&rc);
    let began = std::time::Instant::now();
    std::fs::write(at("order"), script).unwrap();
    std::fs::rename(at("order"), at("do")).unwrap();
    let code = wait_for(CHANGE, &format!("{agent} does: {script}"), || std::fs::read_to_string(&rc).ok());
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap_or_default();
    Output { code: code.trim().parse().unwrap(), out: read("out"), err: read("err"), took: began.elapsed() }
}

fn gtctl(town: &Town) -> String {
    let program: PathBuf = programs::program("gtctl");
    format!("{} --town {}", program.display(), town.root().display())
}

/// The error that a refused `gtctl … --json` prints.
#[track_caller]
fn refused(output: &Output) -> Value {
    assert_eq!(output.code, 77, "{output:?}");
    let envelope = output.json();
    assert_eq!(envelope["error"]["kind"], "forbidden", "{output:?}");
    assert_eq!(envelope["error"]["code"], 1020, "{output:?}");
    envelope["error"].clone()
}

#[test]
fn an_agent_is_refused_what_is_a_persons() {
    let town = setup().up();
    let before = town.running();
    let ctl = gtctl(&town);
    for what in [
        "witness stop beta",
        "witness stop alpha",
        "witness restart beta",
        "refinery stop alpha",
        "down --yes",
        "reset beta/witness",
        "daemon heartbeat",
        "rpc town.stop",
        "rpc daemon.shutdown",
        "rpc town.stop '{\"force\":true}'",
    ] {
        let output = inside(&town, "alpha/witness", &format!("{ctl} --json {what}"));
        let error = refused(&output);
        assert_eq!(error["data"]["class"], "witness", "{what}: {error:#}");
        assert_eq!(error["data"]["agent"], "alpha/witness", "{what}: {error:#}");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("grant")), "{what}: {error:#}");
    }
    // With nothing of ours in between.
    let ask = r#"printf '{"jsonrpc":"2.0","id":1,"method":"witness.stop","params":{"rig":"beta"}}\n'"#;
    if programs::system("socat").is_some() {
        let socket = town.socket().unwrap();
        let raw = inside(
            &town,
            "alpha/witness",
            &format!("{ask} | socat -t10 - UNIX-CONNECT:{}", socket.display()),
        );
        assert_eq!(raw.json()["error"]["code"], 1020, "{raw:?}");
    }
    for what in ["daemon start", "daemon stop", "daemon restart", "daemon run", "daemon stop --force --yes"] {
        let output = inside(&town, "alpha/witness", &format!("{ctl} {what}"));
        assert_eq!(output.code, 77, "{what}: {output:?}");
        // Also where the mark was taken off: the daemon knows its own.
        let output =
            inside(&town, "alpha/witness", &format!("env -u GT_INSTANCE -u GT_TOWN_ID {ctl} {what}"));
        if what.contains("stop") || what.contains("restart") {
            assert_eq!(output.code, 77, "{what} without a mark: {output:?}");
        }
    }
    // Looking is everybody's.
    let seen = inside(&town, "alpha/witness", &format!("{ctl} status --json")).ok();
    assert_eq!(seen.json()["result"]["rigs"][0]["name"], "alpha");
    assert!(town.daemon().is_some());
    assert_eq!(town.running(), before, "nothing came of it");
    // A person may, from outside.
    town.gtctl(&["witness", "stop", "beta"]).ok();
    assert_eq!(town.agent("beta/witness")["intent_by"], "person");
}

#[test]
fn an_agent_reports_for_itself_and_for_nobody_else() {
    let town = setup().no_refineries().up();
    let ctl = gtctl(&town);
    let say = |instance: &str| {
        format!(r#"{ctl} --json rpc agent.report "{{\"instance\":\"{instance}\",\"state\":\"idle\"}}""#)
    };
    inside(&town, "alpha/witness", &say("$GT_INSTANCE")).ok();
    town.wait_agent("alpha/witness", QUICK, "idle", |agent| agent["activity"] == "idle");
    let other = town.agent("beta/witness")["instance"].as_str().unwrap().to_owned();
    let output = inside(&town, "alpha/witness", &say(&other));
    assert_eq!(output.code, 77, "{output:?}");
    assert_eq!(town.agent("beta/witness")["activity"], "unknown");
    // The first thing that an agent does may be to report: before tmux has told where it runs.
    let town = Setup::new()
        .rigs(&["alpha"])
        .no_refineries()
        .command(
            "eager",
            json!({"provider": "script", "command": "/bin/sh", "args": ["-c", format!(
                "{} --town {{T}} rpc agent.report \"{{\\\"instance\\\":\\\"$GT_INSTANCE\\\",\\\"state\\\":\\\"idle\\\"}}\" >{{J}}/said 2>&1; sleep 600",
                programs::program("gtctl").display()
            )]}),
        )
        .role("witness", "eager")
        .up();
    let agent = town.wait_agent("alpha/witness", QUICK, "idle", |agent| agent["activity"] == "idle");
    assert_eq!(agent["state"], "running", "{agent:#}");
}

#[test]
fn who_went_into_the_background_is_still_its_agent() {
    let town = setup().no_refineries().up();
    let ctl = gtctl(&town);
    let stop = format!("{ctl} --json witness stop beta");
    let out = |name: &str| town.journal_dir().join(name);
    for (name, how) in [
        ("plain", format!("{stop} >{} 2>&1", out("plain").display())),
        // Of another session, with nobody's environment, and its parents gone.
        ("setsid", format!("setsid -f env -i {stop} >{} 2>&1", out("setsid").display())),
        ("double", format!("( ( env -i {stop} >{} 2>&1 & ) & )", out("double").display())),
        (
            "late",
            format!(
                "setsid -f sh -c 'until [ -f {0}.go ]; do sleep 0.02; done; exec env -i {stop}' >{0} 2>&1",
                out("late").display()
            ),
        ),
    ] {
        inside(&town, "alpha/witness", &how);
        if name == "late" {
            std::fs::write(out("late.go"), "").unwrap();
        }
        let answer = wait_for(QUICK, name, || {
            let text = std::fs::read_to_string(out(name)).ok()?;
            serde_json::from_str::<Value>(text.lines().next()?).ok()
        });
        assert_eq!(answer["error"]["code"], 1020, "{name}: {answer:#}");
        assert_eq!(answer["error"]["data"]["class"], "witness", "{name}: {answer:#}");
    }
    assert_eq!(town.agent("beta/witness")["state"], "running");
    // A later daemon knows its agents again, from the ledger, before they are looked for.
    town.kill_daemon();
    town.start();
    let error = refused(&inside(&town, "alpha/witness", &stop));
    assert_eq!(error["data"]["class"], "witness", "{error:#}");
}

#[test]
fn a_mark_alone_makes_nobody_an_agent_and_takes_a_persons_word_away() {
    let town = setup().no_refineries().up();
    let agent = town.agent("alpha/witness");
    let id = town.call("daemon.hello", json!({"client": "tests", "protocol": 1}))["town_id"].clone();
    let with = |town_id: &str, args: &[&str]| {
        let mut command = town.command("gtctl");
        command.arg("--town").arg(town.root()).arg("--json").args(args);
        command.env("GT_TOWN_ID", town_id).env("GT_INSTANCE", agent["instance"].as_str().unwrap());
        run::run(command, CHANGE)
    };
    let id = id.as_str().unwrap();
    let error = refused(&with(id, &["witness", "stop", "beta"]));
    assert_eq!(error["data"]["class"], "unknown", "{error:#}");
    assert!(error["message"].as_str().unwrap().contains("GT_INSTANCE"), "{error:#}");
    let report = json!({"instance": agent["instance"], "state": "idle"}).to_string();
    refused(&with(id, &["rpc", "agent.report", &report]));
    with(id, &["status"]).ok();
    // What another town's agent carries says nothing here.
    with("01938c3e-6b2a-4c41-9d0e-0a4d0a7c4d5e", &["witness", "stop", "beta"]).ok();
}

#[test]
fn a_grant_is_honoured_and_the_record_says_who_asked() {
    let town = setup().toml("[callers]\ngrant = [\"alpha/refinery: witness.*\"]").up();
    let ctl = gtctl(&town);
    let seq = town.seq();
    let error = refused(&inside(&town, "alpha/refinery", &format!("{ctl} --json witness stop beta")));
    assert!(error["hint"].as_str().unwrap().contains("own rig"), "{error:#}");
    refused(&inside(&town, "beta/refinery", &format!("{ctl} --json witness stop beta")));
    let before = town.agent("alpha/witness")["instance"].as_str().unwrap().to_owned();
    inside(
        &town,
        "alpha/refinery",
        &format!("{ctl} witness restart alpha --force --yes --reason 'it hangs'"),
    )
    .ok();
    town.wait_new_instance("alpha/witness", &before);
    inside(&town, "alpha/refinery", &format!("{ctl} witness stop alpha")).ok();
    let agent = town.wait_state("alpha/witness", "stopped");
    assert_eq!(agent["intent_by"], "alpha/refinery", "{agent:#}");
    let signals = town.call("agent.signals", json!({"agent": "alpha/witness"}));
    let by: Vec<&Value> = signals["items"].as_array().unwrap().iter().map(|sent| &sent["by"]).collect();
    assert!(!by.is_empty() && by.iter().all(|by| **by == "alpha/refinery"), "{signals:#}");
    town.call("witness.start", json!({"rig": "alpha"}));
    let started = town.events(seq).into_iter().rfind(|event| event["kind"] == "agent.starting").unwrap();
    assert_eq!(started["peer"], "person", "{started:#}");
}

#[test]
fn agents_that_ask_do_not_slow_down_a_person() {
    let town = setup().up();
    let ctl = gtctl(&town);
    let storm = format!("for i in 1 2 3 4 5 6 7 8 9 10; do {ctl} witness stop beta & done; wait");
    for agent in ["alpha/witness", "alpha/refinery", "beta/refinery"] {
        let me = agent.replace('/', "-");
        std::fs::write(town.journal_dir().join(format!("do-{me}")), &storm).unwrap();
    }
    let mut slowest = std::time::Duration::ZERO;
    let done = |agent: &str| town.journal_dir().join(format!("rc-{}", agent.replace('/', "-"))).exists();
    assert!(wait_until(CHANGE, || {
        let began = std::time::Instant::now();
        town.call("town.status", json!({}));
        slowest = slowest.max(began.elapsed());
        done("alpha/witness") && done("alpha/refinery") && done("beta/refinery")
    }));
    assert!(slowest < std::time::Duration::from_secs(1), "{slowest:?}");
    assert_eq!(town.agent("beta/witness")["state"], "running");
}
