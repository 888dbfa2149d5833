//! The deacon and the mayor: kept as they are wanted, and the deacon's heartbeat file judged without harm.

use std::time::Duration;

use gtd_proto::Timestamp;
use gtd_tests::{CHANGE, QUICK, Setup, Town, programs, typist, wait_for, wait_until};
use serde_json::{Value, json};

const WHO: &str = "deacon";

/// A town whose deacon has an input line, and is judged within seconds.
fn judged(steps: &[&str], more: &str) -> Setup {
    judged_by(steps, ("1s", "2s"), more)
}

/// The same, stale and stuck after so long.
fn judged_by(steps: &[&str], (stale, stuck): (&str, &str), more: &str) -> Setup {
    let mut args = vec!["{J}".to_owned()];
    args.extend(steps.iter().map(|step| (*step).to_owned()));
    let entry = json!({
        "provider": "script", "command": programs::program("scripted-agent"), "args": args,
        "tmux": {"ready_prompt_prefix": "> "},
    });
    let toml = format!(
        "[daemon]\nheartbeat_interval = \"1s\"\n[deacon]\nstale = \"{stale}\"\nstuck = \"{stuck}\"\ngrace = \"0s\"\n{more}"
    );
    Setup::new().deacon().command("typist", entry).role("deacon", "typist").toml(&toml)
}

fn beat(town: &Town, at: Timestamp, cycle: u64) {
    let text = json!({"timestamp": at, "cycle": cycle, "last_action": "health-scan", "healthy_agents": 0, "unhealthy_agents": 0});
    town.replace("deacon/heartbeat.json", &text.to_string());
}

fn checks(town: &Town) -> usize {
    let heard = typist::heard(&town.journal_dir(), WHO);
    let text = b"HEALTH_CHECK: heartbeat stale, respond to confirm responsiveness";
    heard.iter().filter(|heard| heard.as_slice() == text.as_slice()).count()
}

fn instance(town: &Town) -> String {
    town.agent(WHO)["instance"].as_str().unwrap_or_default().to_owned()
}

/// Some rounds later.
fn rounds(town: &Town, more: u64) {
    let number = || town.call("daemon.status", json!({}))["heartbeat"]["number"].as_u64().unwrap();
    let before = number();
    wait_for(CHANGE, "some rounds", || (number() >= before + more).then_some(()));
}

fn alert(town: &Town) -> Option<String> {
    let alerts = town.alerts();
    let found = alerts.iter().find(|alert| alert["key"] == "deacon:heartbeat")?;
    Some(found["message"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn step(town: &Town, name: &str) -> Value {
    let report = town.call("daemon.heartbeat", json!({}));
    report["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap().clone()
}

#[test]
fn the_deacon_is_there_with_the_town_and_comes_back_until_a_person_stops_it() {
    let town = Setup::new().deacon().rigs(&["a"]).no_refineries().up();
    let agent = town.wait_state(WHO, "running");
    assert_eq!((&agent["role"], &agent["intent_by"]), (&json!("deacon"), &json!("supervisor")), "{agent:#}");
    assert_eq!(
        agent["worktree"],
        json!(town.path("deacon").canonicalize().unwrap()),
        "it works in its directory"
    );
    town.process(WHO).kill();
    let again = town.wait_new_instance(WHO, agent["instance"].as_str().unwrap());
    assert_eq!(again["restarts"]["lifetime"], 1, "{again:#}");
    let step = step(&town, "deacon");
    assert_eq!(
        (&step["outcome"], &step["actions"][0]),
        (&json!("ok"), &json!("deacon is running")),
        "{step:#}"
    );

    town.gtctl(&["deacon", "stop"]).ok();
    assert_eq!(town.agent(WHO)["state"], "stopped");
    town.call("daemon.heartbeat", json!({}));
    town.stop_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    let stopped = town.agent(WHO);
    assert_eq!(
        (&stopped["state"], &stopped["intent_by"]),
        (&json!("stopped"), &json!("person")),
        "{stopped:#}"
    );
    let status = town.call("deacon.status", json!({}));
    assert_eq!(status["verdict"], "off", "{status:#}");

    town.gtctl(&["deacon", "start"]).ok();
    let started = town.wait_state(WHO, "running");
    let restarted = town.gtctl(&["deacon", "restart"]).ok();
    assert!(restarted.out.contains("restarted deacon"), "{restarted:?}");
    town.wait_new_instance(WHO, started["instance"].as_str().unwrap());
    let shown = town.gtctl(&["deacon", "status"]).ok();
    assert!(shown.out.contains("deacon of the town") && shown.out.contains("Health"), "{shown:?}");
    let argv = town.call("agent.attach", json!({"agent": WHO}));
    assert!(argv["argv"][0].as_str().unwrap().contains("tmux"), "{argv:#}");
    let plan = town.gtctl(&["deacon", "attach", "--dry-run"]).ok();
    assert!(plan.out.contains("attach"), "{plan:?}");
    town.assert_never_two();
}

#[test]
fn a_deacon_that_is_switched_off_is_left_alone_by_all_but_a_person() {
    let town = Setup::new().deacon().rigs(&["a"]).no_refineries().toml("[deacon]\nmode = \"off\"").up();
    assert!(town.try_agent(WHO).is_none(), "nobody has started it");
    let skipped = step(&town, "deacon");
    assert_eq!(skipped["outcome"], "skipped");
    assert!(skipped["error"].as_str().unwrap().contains("[deacon] mode"), "{skipped:#}");
    town.gtctl(&["deacon", "start"]).ok();
    let agent = town.wait_state(WHO, "running");
    // What a person wants is kept, whatever policy says.
    town.process(WHO).kill();
    let again = town.wait_agent(WHO, CHANGE, "ended", |now| {
        now["instance"] != agent["instance"] || now["running"] == false
    });
    assert_eq!(again["intent"], "running", "{again:#}");
    // Switched on, it is looked after.
    town.replace("settings/gtd.toml", "[deacon]\nmode = \"always\"\n[refinery]\nmode = \"off\"\n");
    town.call("daemon.reload", json!({}));
    town.wait_state(WHO, "running");
}

#[test]
fn the_mayor_is_kept_as_its_person_wants_it_and_never_forced() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    assert!(town.try_agent("mayor").is_none());
    let status = town.call("mayor.status", json!({}));
    assert_eq!((&status["state"], &status["running"]), (&json!("stopped"), &json!(false)), "{status:#}");
    assert_eq!(town.call("mayor.stop", json!({}))["already"], true);
    town.gtctl(&["up"]).ok();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("mayor")["state"], "stopped", "nobody has started it");
    let started = town.gtctl(&["mayor", "start"]).ok();
    assert!(started.out.contains("started mayor"), "{started:?}");
    let agent = town.agent("mayor");
    assert_eq!(
        (&agent["intent_by"], &agent["worktree"]),
        (&json!("person"), &json!(town.root().canonicalize().unwrap()))
    );
    assert_eq!(town.call("mayor.start", json!({}))["already"], true);
    town.process("mayor").kill();
    let again = town.wait_new_instance("mayor", agent["instance"].as_str().unwrap());
    // It is wanted, and there is again after the whole town was stopped.
    town.call("town.stop", json!({}));
    assert_eq!(town.agent("mayor")["state"], "stopped");
    town.call("town.start", json!({}));
    town.wait_new_instance("mayor", again["instance"].as_str().unwrap());
    town.gtctl(&["mayor", "stop"]).ok();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent("mayor")["state"], "stopped");
    town.assert_never_two();
}

#[test]
fn a_deacon_that_falls_silent_is_asked_twice_and_then_restarted_once() {
    let town = judged(&["input:> "], "").make();
    town.start();
    let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
    beat(&town, Timestamp::now(), 1);
    let seq = town.seq();
    town.wait_new_instance(WHO, &first);
    let exited = town.wait_event(seq, "agent.exited", WHO, CHANGE);
    assert_eq!(
        (&exited["data"]["requested"], &exited["data"]["counts"]),
        (&json!(true), &json!(false)),
        "{exited:#}"
    );
    assert_eq!(checks(&town), 2);
    let signals = town.call("agent.signals", json!({"agent": WHO}));
    assert_eq!(signals["items"][0]["by"], "supervisor", "{signals:#}");
    let told = town.call("agent.explain", json!({"agent": WHO}));
    let decisions = told["decisions"].to_string();
    assert!(decisions.contains("asked twice whether it is there"), "{decisions}");
    // The file is an earlier instance's now: the new one is asked, and not ended for it.
    let second = instance(&town);
    wait_for(CHANGE, "asked twice more", || (checks(&town) == 4).then_some(()));
    let message =
        wait_for(CHANGE, "an alert", || alert(&town).filter(|message| message.contains("another's")));
    assert!(message.contains("stuck"), "{message}");
    rounds(&town, 3);
    assert_eq!((instance(&town), checks(&town)), (second, 4), "no more questions, no restart");
    // It writes again: all is well.
    beat(&town, Timestamp::now(), 2);
    wait_for(CHANGE, "no alert", || alert(&town).is_none().then_some(()));
    town.assert_never_two();
}

#[test]
fn one_that_answers_or_is_only_to_be_told_of_is_not_restarted() {
    for (steps, more, word) in [
        (&["report:started", "reports", "input:> "][..], "", "it answered"),
        (&["input:> "][..], "on_stale = \"alert\"\n", "on_stale is"),
    ] {
        let town = judged(steps, more).make();
        town.start();
        let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
        beat(&town, Timestamp::now(), 1);
        let message = wait_for(CHANGE, "an alert", || alert(&town).filter(|message| message.contains(word)));
        assert!(message.contains("stuck") || message.contains("stale"), "{message}");
        let asked = checks(&town);
        assert!((1..=2).contains(&asked), "{asked}");
        rounds(&town, 4);
        assert_eq!((instance(&town), checks(&town)), (first, asked), "{word}");
    }
}

#[test]
fn a_pause_is_obeyed_also_one_that_cannot_be_read() {
    let town = judged(&["input:> "], "").make();
    town.replace(".runtime/deacon/paused.json", r#"{"paused":true,"reason":"upgrade","paused_by":"human"}"#);
    town.start();
    let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
    beat(&town, Timestamp::now(), 1);
    rounds(&town, 5);
    let status = town.call("deacon.status", json!({}));
    assert_eq!(
        (&status["verdict"], &status["paused"]["reason"]),
        (&json!("paused"), &json!("upgrade")),
        "{status:#}"
    );
    assert!(town.gtctl(&["deacon", "status"]).ok().out.contains("upgrade"));
    assert_eq!(alert(&town), None);
    for torn in ["", "{", "[]"] {
        town.replace(".runtime/deacon/paused.json", torn);
        rounds(&town, 3);
        assert_eq!(town.call("deacon.status", json!({}))["verdict"], "paused", "{torn:?}");
        assert!(alert(&town).unwrap().contains("counts as a pause"), "{torn:?}");
    }
    assert_eq!((instance(&town), checks(&town)), (first, 0));
    std::fs::remove_file(town.path(".runtime/deacon/paused.json")).unwrap();
    // What is said of the file goes with it, at the next look.
    assert_ne!(town.call("deacon.status", json!({}))["verdict"], "paused");
    wait_for(CHANGE, "no alert about the file", || {
        alert(&town).is_none_or(|message| !message.contains("pause")).then_some(())
    });
    wait_for(CHANGE, "it is asked", || (checks(&town) > 0).then_some(()));
}

#[test]
fn what_it_was_paused_for_is_not_held_against_it() {
    let town = judged_by(&["input:> "], ("6s", "8s"), "").make();
    town.start();
    let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
    let written = Timestamp::now();
    beat(&town, written, 1);
    town.call("town.pause", json!({"agents": [WHO]}));
    let old = Duration::from_secs(9);
    wait_for(CHANGE, "its heartbeat is old", || {
        (Timestamp::now().duration_since(written) > old.try_into().unwrap()).then_some(())
    });
    assert_eq!(town.call("deacon.status", json!({}))["verdict"], "off");
    town.call("town.resume", json!({"agents": [WHO]}));
    let status = town.call("deacon.status", json!({}));
    assert!(matches!(status["verdict"].as_str(), Some("healthy" | "late")), "{status:#}");
    assert_eq!((instance(&town), checks(&town)), (first, 0));
    wait_for(CHANGE, "it is looked after again", || (checks(&town) > 0).then_some(()));
}

#[test]
fn a_pause_between_two_rounds_is_not_held_against_it() {
    let town = judged_by(&["input:> "], ("6s", "8s"), "").make();
    let toml = std::fs::read_to_string(town.path("settings/gtd.toml")).unwrap();
    let seldom = toml.replace("heartbeat_interval = \"1s\"", "heartbeat_interval = \"1h\"");
    assert_ne!(toml, seldom);
    town.replace("settings/gtd.toml", &seldom);
    town.start();
    let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
    let written = Timestamp::now();
    beat(&town, written, 1);
    assert_eq!(town.call("deacon.status", json!({}))["verdict"], "healthy");
    town.call("town.pause", json!({"agents": [WHO]}));
    let old = Duration::from_secs(9);
    wait_for(CHANGE, "its heartbeat is old", || {
        (Timestamp::now().duration_since(written) > old.try_into().unwrap()).then_some(())
    });
    town.call("town.resume", json!({"agents": [WHO]}));
    // Nobody has looked at it while it was paused.
    let status = town.call("deacon.status", json!({}));
    assert!(matches!(status["verdict"].as_str(), Some("healthy" | "late")), "{status:#}");
    assert_eq!((instance(&town), checks(&town)), (first, 0));
}

#[test]
fn a_file_that_is_corrupt_empty_or_from_the_future_ends_nobody() {
    let town = judged(&["input:> "], "").make();
    town.start();
    let first = town.wait_state(WHO, "running")["instance"].as_str().unwrap().to_owned();
    assert_eq!(step(&town, "deacon_heartbeat")["outcome"], "skipped", "there is none");
    for bad in ["", "{\"timestamp\":\"2026-0", "[1]", "{\"timestamp\":\"yesterday\"}", "{\"timestamp\":7}"] {
        std::fs::write(town.path("deacon/heartbeat.json"), bad).unwrap();
        let step = step(&town, "deacon_heartbeat");
        assert_eq!(step["outcome"], "failed", "{bad:?}: {step:#}");
        assert!(step["error"].as_str().unwrap().contains("deacon/heartbeat.json"), "{step:#}");
        rounds(&town, 2);
        assert!(alert(&town).unwrap().contains("says nothing"), "{bad:?}");
    }
    assert_eq!((instance(&town), checks(&town)), (first.clone(), 0));
    // A day ahead: it is as old as it has been seen, is asked about, and nobody is ended for it.
    beat(&town, Timestamp::now() + Duration::from_secs(86_400), 1);
    wait_for(CHANGE, "no alert", || {
        (town.call("deacon.status", json!({}))["heartbeat"]["cycle"] == 1).then_some(())
    });
    let status = town.call("deacon.status", json!({}));
    assert!(status["heartbeat"]["age_ms"].as_u64().unwrap() < 20_000, "{status:#}");
    std::fs::remove_file(town.path("deacon/heartbeat.json")).unwrap();
    rounds(&town, 2);
    assert_eq!(alert(&town), None);
    assert_eq!(instance(&town), first);
}

#[test]
fn what_was_seen_outlives_the_daemon() {
    let town = judged(&["input:> "], "on_stale = \"alert\"\n").make();
    town.start();
    town.wait_state(WHO, "running");
    beat(&town, Timestamp::now(), 1);
    wait_for(CHANGE, "asked twice", || (checks(&town) == 2).then_some(()));
    wait_for(CHANGE, "known", || {
        (town.call("deacon.status", json!({}))["heartbeat"]["unanswered"] == 2).then_some(())
    });
    town.kill_daemon();
    town.start();
    town.wait_state(WHO, "running");
    rounds(&town, 3);
    let status = town.call("deacon.status", json!({}));
    assert_eq!(status["heartbeat"]["unanswered"], 2, "{status:#}");
    assert_eq!(checks(&town), 2, "it is not asked again by another daemon");
    assert!(wait_until(QUICK, || alert(&town).is_some()));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let town = Setup::new().deacon().make();
    town.start();
    town.wait_state(WHO, "running");
    for method in ["deacon.status", "mayor.status", "boot.status"] {
        town.call(method, json!({}));
    }
    let refused = town.call_fails("deacon.start", json!({"agent": "no-such-preset"}));
    assert_eq!(refused.kind, "name_invalid", "{refused:?}");
    let refused = town.call_fails("mayor.start", json!({"rig": "a"}));
    assert_eq!(refused.data["path"], "/rig", "{refused:?}");
    town.call("town.stop", json!({}));
    let refused = town.call_fails("mayor.start", json!({}));
    assert_eq!((refused.code, &refused.data["reason"]), (1005, &json!("town is down")), "{refused:?}");
    assert_eq!(town.call("deacon.status", json!({}))["verdict"], "off");
}
