//! Workers with work: started with it, brought back to it, left alone when it is done.

use std::path::Path;

use gtd_tests::{CHANGE, Setup, Town, wait_for};
use serde_json::{Value, json};

const NUX: &str = "a/polecats/nux";
const SHORT: &str =
    "[restart]\nbase = \"200ms\"\njitter = 0.0\nburst = 3\nquarantine = \"1h\"\n[mass_death]\nthreshold = 0";

fn setup() -> Setup {
    Setup::new().rigs(&["a"]).no_refineries().script(&["env", "obey"])
}

fn up(setup: Setup, workers: &[&str]) -> Town {
    let town = setup.make();
    town.make_workers("a", workers);
    town.start();
    for name in workers {
        town.wait_agent(&format!("a/polecats/{name}"), CHANGE, "known", |_| true);
    }
    town
}

fn leave(town: &Town, name: &str, code: i32) {
    let file = town.journal_dir().join(format!("exit-a-polecats-{name}"));
    let partial = file.with_extension("partial");
    std::fs::write(&partial, code.to_string()).unwrap();
    std::fs::rename(partial, file).unwrap();
}

fn kinds(town: &Town, since: u64, agent: &str) -> Vec<String> {
    let events = town.events(since).into_iter().filter(|event| event["agent"] == agent);
    events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_worker_that_crashes_comes_back_to_the_same_work_place_and_environment() {
    let town = up(setup().agent("other", &["env", "obey"]), &["nux"]);
    let work = town.make_work("a", "Fix the parser");
    let started = town.call(
        "polecat.start",
        json!({"agent": NUX, "work": work, "agent_preset": "other", "env": {"MARK": "kept"}}),
    );
    assert_eq!((&started["state"], &started["hook"]), (&json!("running"), &json!(work)), "{started:#}");
    assert_eq!(started["branch"], "polecat/nux/t", "{started:#}");
    assert_eq!(started["worktree"], json!(town.worktree("a", "nux")), "{started:#}");
    let untouched = |dir: &Path| town.git(dir, &["status", "--porcelain", "--ignored"]);
    std::fs::write(town.worktree("a", "nux").join("half-done"), "x").unwrap();
    let before = untouched(&town.worktree("a", "nux"));
    // The daemon's own start goes on for a moment: its connection to tmux is opened with the first session.
    let count = || town.call("daemon.status", json!({}))["forks"].clone();
    let mut forks = count();
    wait_for(CHANGE, "the daemon is settled", || {
        town.call("daemon.heartbeat", json!({}));
        gtd_tests::chaos_delay(std::time::Duration::from_millis(500));
        let before = std::mem::replace(&mut forks, count());
        (before == forks).then_some(())
    });
    for round in 1..=2 {
        let old = town.agent(NUX);
        let seq = town.seq();
        std::fs::remove_file(town.journal_dir().join("env-a-polecats-nux")).unwrap();
        if round == 1 {
            town.process(NUX).kill()
        } else {
            leave(&town, "nux", 3)
        }
        let new = town.wait_new_instance(NUX, old["instance"].as_str().unwrap());
        assert_eq!((&new["hook"], &new["agent_preset"]), (&json!(work), &json!("other")), "{new:#}");
        assert_eq!(new["restarts"]["lifetime"], json!(round), "{new:#}");
        let exited = town.wait_event(seq, "agent.exited", NUX, CHANGE);
        assert_eq!((&exited["data"]["cause"], &exited["data"]["counts"]), (&json!("crash"), &json!(true)));
        let env = wait_for(CHANGE, "its environment", || {
            std::fs::read_to_string(town.journal_dir().join("env-a-polecats-nux")).ok()
        });
        for line in ["MARK=kept", "GT_POLECAT=nux", "GT_RIG=a", "BD_ACTOR=a/polecats/nux"] {
            assert!(env.lines().any(|found| found == line), "{line}: {env}");
        }
    }
    let places: Vec<_> = town.starts(NUX).iter().map(|start| start.cwd.clone()).collect();
    assert_eq!(places, vec![town.worktree("a", "nux"); 3]);
    assert_eq!(untouched(&town.worktree("a", "nux")), before, "nothing of it was touched");
    // tmux is asked once in a while, by a program, whether it is still the one we know; whoever forks for a restart
    // forks for both.
    let more = count().as_u64().unwrap() - forks.as_u64().unwrap();
    assert!(more <= 1, "a restart forks nothing: {more}");
    town.assert_never_two();
}

#[test]
fn a_worker_that_is_done_is_no_failure_and_stays_away() {
    let town = up(setup(), &["nux", "ace"]);
    let work = town.make_work("a", "Fix the parser");
    town.start_worker(NUX, &work);
    let seq = town.seq();
    town.call("work.close", json!({"id": work}));
    leave(&town, "nux", 0);
    let exited = town.wait_event(seq, "agent.exited", NUX, CHANGE);
    assert_eq!((&exited["data"]["cause"], &exited["data"]["counts"]), (&json!("clean"), &json!(false)));
    let rested = town.wait_state(NUX, "stopped");
    assert_eq!(
        (&rested["intent"], &rested["intent_by"]),
        (&json!("stopped"), &json!("supervisor")),
        "{rested:#}"
    );
    assert_eq!(rested["restarts"]["consecutive"], 0, "{rested:#}");
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.starts(NUX).len(), 1);
    // Work on its hook alone brings nobody back; somebody's word does.
    let next = town.make_work("a", "And the printer");
    town.call("hook.set", json!({"agent": NUX, "work": next}));
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent(NUX)["state"], "stopped");
    town.kill_daemon();
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert_eq!(town.agent(NUX)["state"], "stopped", "nor does another daemon");
    let started = town.call("polecat.start", json!({"agent": "a/nux"}));
    assert_eq!((&started["state"], &started["hook"]), (&json!("running"), &json!(next)), "{started:#}");
    // Without work a crash brings nobody back either.
    town.call("polecat.start", json!({"agent": "a/polecats/ace"}));
    town.process("a/polecats/ace").kill();
    let rested = town.wait_state("a/polecats/ace", "stopped");
    assert!(rested["reason"].as_str().unwrap().contains("no work"), "{rested:#}");
    let report = town.call("daemon.heartbeat", json!({}));
    let health = report["steps"].as_array().unwrap().iter().find(|s| s["name"] == "polecat_health").unwrap();
    let told = health["actions"].to_string();
    assert!(told.contains("a/polecats/ace may be cleaned up"), "{told}");
}

#[test]
fn a_clean_end_with_open_work_counts_and_backs_off() {
    let town = up(setup().toml(SHORT), &["nux"]);
    let work = town.make_work("a", "Fix the parser");
    let before = town.start_worker(NUX, &work);
    let seq = town.seq();
    leave(&town, "nux", 0);
    let exited = town.wait_event(seq, "agent.exited", NUX, CHANGE);
    assert_eq!((&exited["data"]["cause"], &exited["data"]["counts"]), (&json!("clean"), &json!(true)));
    let again = town.wait_new_instance(NUX, before["instance"].as_str().unwrap());
    assert_eq!(again["restarts"]["consecutive"], 1, "{again:#}");
    let seq = town.seq();
    leave(&town, "nux", 0);
    town.wait_event(seq, "agent.backoff", NUX, CHANGE);
    // Closed while it waits: there is nothing to come back for.
    town.call("work.close", json!({"id": work}));
    let rested = town.wait_state(NUX, "stopped");
    assert_eq!(rested["intent"], "stopped", "{rested:#}");
    assert_eq!(town.starts(NUX).len(), 2);
}

#[test]
fn a_worker_that_ends_at_once_is_quarantined_visibly_told_of_once_and_reset() {
    let town = up(
        setup().toml(SHORT).agent("brief", &["print:no luck", "unless:{J}/well", "exit:3", "obey"]),
        &["nux"],
    );
    let work = town.make_work("a", "Fix the parser");
    let error = town
        .try_call("polecat.start", json!({"agent": NUX, "work": work, "agent_preset": "brief"}))
        .unwrap_err();
    assert_eq!((error.code, &error.data["exit"]["code"]), (1006, &json!(3)), "{error:?}");
    let shown = town.wait_state(NUX, "quarantined");
    assert_eq!((&shown["hook"], &shown["intent"]), (&json!(work), &json!("running")), "{shown:#}");
    assert!(shown["next_attempt"].is_string() && shown["reason"].is_string(), "{shown:#}");
    let failed: Vec<Value> =
        town.events(0).into_iter().filter(|event| event["kind"] == "polecat.restart_failed").collect();
    assert_eq!(failed.len(), 1, "once in a row of failures: {failed:#?}");
    let data = &failed[0]["data"];
    assert_eq!((&data["rig"], &data["agent"], &data["work"]), (&json!("a"), &json!(NUX), &json!(work)));
    assert_eq!((&data["title"], &data["attempt"]), (&json!("Fix the parser"), &json!(2)), "{data:#}");
    assert!(data["error"].as_str().unwrap().contains("code 3"), "{data:#}");
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    town.gtctl(&["reset", "a/nux"]).ok();
    let agent = town.wait_state(NUX, "running");
    assert_eq!((&agent["restarts"]["consecutive"], &agent["hook"]), (&json!(0), &json!(work)), "{agent:#}");
}

#[test]
fn a_usage_limit_is_no_crash() {
    let limit = "print:You have exhausted your capacity on this model. Your quota will reset after 48m20s.";
    let town = up(setup().agent("limited", &["after:300", limit, "after:100", "exit:1"]), &["nux"]);
    let work = town.make_work("a", "Fix the parser");
    town.call("polecat.start", json!({"agent": NUX, "work": work, "agent_preset": "limited"}));
    let throttled = town.wait_state(NUX, "throttled");
    assert_eq!(
        (&throttled["restarts"]["consecutive"], &throttled["hook"]),
        (&json!(0), &json!(work)),
        "{throttled:#}"
    );
    assert!(throttled["next_attempt"].is_string(), "{throttled:#}");
    let exits = town.call("agent.exits", json!({"agent": NUX, "limit": 1}));
    assert_eq!(exits["items"][0]["cause"], "provider_limit", "{exits:#}");
}

#[test]
fn three_ends_of_three_kinds_are_no_mass_death() {
    let limit = "print:You have exhausted your capacity on this model. Your quota will reset after 48m20s.";
    let town = up(setup().agent("limited", &[limit, "obey"]), &["nux", "ace", "max"]);
    for name in ["nux", "ace", "max"] {
        let work = town.make_work("a", name);
        let preset = if name == "max" { "limited" } else { "fake" };
        let agent = format!("a/polecats/{name}");
        town.call("polecat.start", json!({"agent": agent, "work": work, "agent_preset": preset}));
        if name == "ace" {
            town.call("work.close", json!({"id": work}));
        }
    }
    // A crash, a worker that is done, and a limit.
    town.process(NUX).kill();
    leave(&town, "ace", 0);
    leave(&town, "max", 1);
    town.wait_state("a/polecats/ace", "stopped");
    town.wait_state("a/polecats/max", "throttled");
    town.wait_agent(NUX, CHANGE, "back", |agent| {
        agent["restarts"]["lifetime"] == 1 && agent["running"] == true
    });
    assert_eq!(town.call("deaths.incidents", json!({}))["items"], json!([]));
}

#[test]
fn three_crashes_together_are_an_incident_and_all_come_back_to_their_work() {
    let toml = "[mass_death]\nhold = \"300ms\"\ncanary = \"200ms\"";
    let town = up(setup().toml(toml), &["nux", "ace", "max"]);
    let mut work = Vec::new();
    for name in ["nux", "ace", "max"] {
        let id = town.make_work("a", name);
        town.start_worker(&format!("a/polecats/{name}"), &id);
        work.push((format!("a/polecats/{name}"), id));
    }
    let seq = town.seq();
    let processes: Vec<_> = work.iter().map(|(agent, _)| town.process(agent)).collect();
    processes.iter().for_each(|process| process.kill());
    let opened = town.wait_event(seq, "incident.opened", "", CHANGE);
    assert_eq!(opened["data"]["count"], 3, "{opened:#}");
    for (agent, id) in &work {
        let back = town.wait_agent(agent, CHANGE, "back", |agent| {
            agent["restarts"]["lifetime"] == 1 && agent["state"] == "running"
        });
        assert_eq!(back["hook"], json!(id), "{back:#}");
    }
    town.wait_event(seq, "incident.closed", "", CHANGE);
}

#[test]
fn a_rig_that_is_parked_during_a_restart_keeps_its_workers_away_until_it_is_not() {
    let town = up(setup().toml("[restart]\ninitial = \"1500ms\""), &["nux", "ace"]);
    let (one, two) = (town.make_work("a", "one"), town.make_work("a", "two"));
    town.start_worker(NUX, &one);
    town.start_worker("a/polecats/ace", &two);
    let seq = town.seq();
    town.process(NUX).kill();
    town.wait_event(seq, "agent.backoff", NUX, CHANGE);
    town.call("rig.park", json!({"rig": "a"}));
    let rested = town.wait_state(NUX, "stopped");
    assert_eq!(
        (&rested["reason"], &rested["intent"]),
        (&json!("rig parked"), &json!("running")),
        "{rested:#}"
    );
    assert_eq!(town.agent("a/polecats/ace")["state"], "running", "what runs goes on");
    let error = town.try_call("polecat.start", json!({"agent": NUX})).unwrap_err();
    assert_eq!((error.code, &error.data["reason"]), (1005, &json!("parked")), "{error:?}");
    let other = town.make_work("a", "three");
    let error =
        town.try_call("polecat.start", json!({"agent": NUX, "work": other, "force": true})).unwrap_err();
    assert_eq!(error.code, 1005, "{error:?}");
    assert_eq!(town.agent(NUX)["hook"], json!(one), "what cannot be started gets no work");
    town.call("daemon.heartbeat", json!({}));
    assert!(!kinds(&town, seq, NUX).contains(&"work.orphaned".to_owned()), "it comes back with its rig");
    town.call("rig.unpark", json!({"rig": "a"}));
    let back = town.wait_state(NUX, "running");
    assert_eq!(back["hook"], json!(one), "{back:#}");
}

#[test]
fn down_and_up_and_another_daemon_bring_back_those_who_were_to_run() {
    let town = up(setup(), &["nux", "ace", "max"]);
    let work = town.make_work("a", "one");
    town.start_worker(NUX, &work);
    town.call("polecat.start", json!({"agent": "a/polecats/ace"}));
    town.call("polecat.start", json!({"agent": "a/polecats/max"}));
    town.call("polecat.stop", json!({"agent": "a/polecats/max"}));
    town.kill_daemon();
    town.start();
    assert_eq!(town.wait_state(NUX, "running")["hook"], json!(work));
    town.call("town.stop", json!({}));
    assert_eq!(town.agent(NUX)["state"], "stopped");
    town.call("town.start", json!({}));
    for agent in [NUX, "a/polecats/ace"] {
        town.wait_state(agent, "running");
    }
    assert_eq!(town.agent("a/polecats/max")["state"], "stopped");
    town.assert_never_two();
}

#[test]
fn a_start_is_checked_in_full_before_anything_is_touched() {
    let town = up(setup(), &["nux", "ace"]);
    let work = town.make_work("a", "one");
    let refused = |params: Value| {
        let error = town.try_call("polecat.start", params.clone()).unwrap_err();
        assert_eq!(town.agent(NUX)["hook"], Value::Null, "{params}");
        error
    };
    let error = refused(json!({"agent": "a/polecats/nix", "work": work}));
    assert_eq!((error.code, &error.data["nearest"]), (1002, &json!(["a/polecats/nux"])), "{error:?}");
    assert_eq!(refused(json!({"agent": "b/polecats/nux", "work": work})).code, 1001);
    assert_eq!(refused(json!({"agent": "a/witness", "work": work})).kind, "name_invalid");
    assert_eq!(refused(json!({"agent": NUX, "work": "a-nope"})).code, 1007);
    let closed = town.make_work("a", "closed");
    town.call("work.close", json!({"id": closed}));
    assert_eq!(refused(json!({"agent": NUX, "work": closed})).code, 1007);
    town.call("hook.set", json!({"agent": "a/polecats/ace", "work": work}));
    let error = refused(json!({"agent": NUX, "work": work}));
    assert_eq!((error.code, &error.data["holder"]), (1011, &json!("a/polecats/ace")), "{error:?}");
    let free = town.make_work("a", "free");
    let error = refused(json!({"agent": NUX, "work": free, "agent_preset": "nobody"}));
    assert_eq!(error.kind, "name_invalid", "{error:?}");
    std::fs::rename(town.worktree("a", "nux"), town.base().join("moved")).unwrap();
    let error = refused(json!({"agent": NUX, "work": free}));
    assert_eq!(
        (error.code, &error.data["exec_error"]["op"], &error.data["exec_error"]["errno"]),
        (1006, &json!("chdir"), &json!("ENOENT")),
        "{error:?}"
    );
    std::fs::rename(town.base().join("moved"), town.worktree("a", "nux")).unwrap();
    assert!(town.starts(NUX).is_empty());
    let plan =
        town.call("polecat.start", json!({"agent": NUX, "work": work, "force": true, "dry_run": true}));
    let actions: Vec<&Value> = plan["plan"].as_array().unwrap().iter().map(|step| &step["action"]).collect();
    assert_eq!(actions, ["unhook", "hook", "start"], "{plan:#}");
    let forced = town.call("polecat.start", json!({"agent": NUX, "work": work, "force": true}));
    assert_eq!((&forced["hook"], &town.agent("a/polecats/ace")["hook"]), (&json!(work), &Value::Null));
    // Asked twice.
    let again = town.call("polecat.start", json!({"agent": NUX, "work": work}));
    assert_eq!((&again["already"], &again["instance"]), (&json!(true), &forced["instance"]), "{again:#}");
    let error = town.try_call("polecat.start", json!({"agent": NUX, "work": free})).unwrap_err();
    assert_eq!(error.code, 1011, "{error:?}");
}

#[test]
fn a_start_that_never_ran_gives_its_work_back() {
    let entry = json!({"provider": "script", "command": "{J}/missing", "args": []});
    let town = up(setup().command("broken", entry).toml("[start]\nmax_agents = 1"), &["nux"]);
    let work = town.make_work("a", "one");
    // The witness has the only place.
    let error = town.try_call("polecat.start", json!({"agent": NUX, "work": work})).unwrap_err();
    assert_eq!(error.code, 1019, "{error:?}");
    let left = || {
        let agent = town.agent(NUX);
        (agent["hook"].clone(), agent["intent"].clone(), agent["state"].clone())
    };
    assert_eq!(left(), (Value::Null, json!("stopped"), json!("stopped")));
    town.call("witness.stop", json!({"rig": "a"}));
    let broken = json!({"agent": NUX, "work": work, "agent_preset": "broken"});
    let error = town.try_call("polecat.start", broken).unwrap_err();
    assert!(error.data.get("exec_error").is_some(), "{error:?}");
    assert_eq!(left(), (Value::Null, json!("stopped"), json!("stopped")));
    assert_eq!(town.call("work.show", json!({"id": work}))["status"], "open");
    let started = town.call("polecat.start", json!({"agent": NUX, "work": work, "reset_overrides": true}));
    assert_eq!(started["hook"], json!(work), "{started:#}");
}

#[test]
fn a_daemon_that_dies_between_hook_and_launch_leaves_work_that_is_told_of_and_can_be_started() {
    let town = up(setup(), &["nux"]);
    let work = town.make_work("a", "one");
    // What a start does first; then the daemon is killed.
    town.call("hook.set", json!({"agent": NUX, "work": work}));
    town.kill_daemon();
    town.start();
    wait_for(CHANGE, "its hook", || (town.agent(NUX)["hook"] == json!(work)).then_some(()));
    assert_eq!(town.agent(NUX)["state"], "stopped");
    let told = wait_for(CHANGE, "work.orphaned", || {
        town.call("daemon.heartbeat", json!({}));
        town.events(0).into_iter().find(|event| event["kind"] == "work.orphaned")
    });
    assert_eq!((&told["agent"], &told["data"]["work"]), (&json!(NUX), &json!(work)), "{told:#}");
    assert_eq!((&told["data"]["rig"], &told["data"]["title"]), (&json!("a"), &json!("one")), "{told:#}");
    assert!(told["data"]["since"].is_string(), "{told:#}");
    town.call("daemon.heartbeat", json!({}));
    town.kill_daemon();
    town.start();
    for _ in 0..3 {
        town.call("daemon.heartbeat", json!({}));
    }
    let all = town.events(0);
    assert_eq!(all.iter().filter(|event| event["kind"] == "work.orphaned").count(), 1, "once, over daemons");
    let started = town.call("polecat.start", json!({"agent": NUX, "work": work}));
    assert_eq!((&started["state"], &started["hook"]), (&json!("running"), &json!(work)), "{started:#}");
    // And a worker that is killed as it begins goes on with its work.
    town.process(NUX).kill();
    let back = town.wait_new_instance(NUX, started["instance"].as_str().unwrap());
    assert_eq!(back["hook"], json!(work), "{back:#}");
}

#[test]
fn all_workers_of_a_rig_are_stopped_and_nobody_else() {
    let setup = Setup::new().rigs(&["a", "a-bullet"]).no_refineries().script(&["obey"]);
    let town = setup.make();
    town.make_workers("a", &["bullet", "bullet-farmer"]);
    town.make_workers("a-bullet", &["nux"]);
    town.start();
    town.wait_all_running();
    for agent in ["a/polecats/bullet", "a/polecats/bullet-farmer", "a-bullet/polecats/nux"] {
        town.wait_agent(agent, CHANGE, "known", |_| true);
        town.call("polecat.start", json!({"agent": agent}));
    }
    // One name begins with the other's.
    town.gtctl(&["polecat", "stop", "a/bullet"]).ok();
    assert_eq!(town.agent("a/polecats/bullet")["state"], "stopped");
    assert_eq!(town.agent("a/polecats/bullet-farmer")["running"], true);
    assert!(town.process("a/polecats/bullet-farmer").alive());
    let plan = town.call("polecat.stop_all", json!({"rig": "a", "dry_run": true}));
    assert_eq!(plan["plan"].as_array().unwrap().len(), 1, "{plan:#}");
    let stopped = town.call("polecat.stop_all", json!({"rig": "a"}));
    let items = stopped["items"].as_array().unwrap();
    assert_eq!(
        items
            .iter()
            .map(|item| (item["agent"].clone(), item["ok"].clone(), item["already"].clone()))
            .collect::<Vec<_>>(),
        [
            (json!("a/polecats/bullet"), json!(true), json!(true)),
            (json!("a/polecats/bullet-farmer"), json!(true), Value::Null)
        ],
        "{stopped:#}"
    );
    for agent in ["a/witness", "a-bullet/witness", "a-bullet/polecats/nux"] {
        assert_eq!(town.agent(agent)["running"], true, "{agent}");
    }
    assert_eq!(town.try_call("polecat.stop_all", json!({"rig": "b"})).unwrap_err().code, 1001);
    let list = town.call("polecat.list", json!({"rig": "a"}));
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list:#}");
    let restarted = town.call("polecat.restart", json!({"agent": "a-bullet/nux"}));
    assert_eq!(restarted["state"], "running", "{restarted:#}");
    let lines = town.call("polecat.capture", json!({"agent": "a-bullet/nux"}));
    assert!(lines["lines"].to_string().contains("scripted agent"), "{lines:#}");
    assert_eq!(town.try_call("polecat.capture", json!({"agent": "a/bullet"})).unwrap_err().code, 1004);
    let shown = town.gtctl(&["polecat", "list", "a-bullet"]).ok();
    assert!(shown.out.contains("a-bullet/polecats/nux") && shown.out.contains("BRANCH"), "{shown:?}");
    town.gtctl(&["session", "capture", "a-bullet/nux"]).ok();
    town.gtctl(&["polecat", "status", "a-bullet/nux"]).ok();
    assert_eq!(town.gtctl(&["polecat", "stop-all", "a-bullet", "--now"]).ok().code, 0);
    let error = town.call_fails("rig.remove", json!({"rig": "nope"}));
    assert_eq!(error.code, 1001, "{error:?}");
}

#[test]
fn a_rig_with_workers_that_run_is_not_removed() {
    let town = up(setup(), &["nux"]);
    town.call("polecat.start", json!({"agent": NUX}));
    let error = town.call_fails("rig.remove", json!({"rig": "a", "force": true}));
    assert_eq!((error.code, &error.data["running"]), (1011, &json!([NUX])), "{error:?}");
    assert_eq!(town.agent(NUX)["running"], true);
    town.call("polecat.stop", json!({"agent": NUX}));
    std::fs::write(town.worktree("a", "nux").join("half-done"), "x").unwrap();
    let error = town.call_fails("rig.remove", json!({"rig": "a"}));
    assert_eq!(error.code, 1008, "{error:?}");
}
