//! Sessions without their agent: closed where tmux says that the pane is dead and was ours, left where it is not.

use gtd_proto::InstanceId;
use gtd_tests::people::town_id;
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

fn dead(town: &Town, pane: &str) -> Option<bool> {
    let said = town.tmux().try_run(&["display-message", "-p", "-t", pane, "#{pane_id} #{pane_dead}"]).ok()?;
    let (id, dead) = said.split_once(' ')?;
    (id == pane).then_some(dead == "1")
}

/// A pane with our marks of an instance that is over: our shim on a launch that is gone, or something else.
fn leave(town: &Town, name: &str, ours: bool) -> String {
    let tmux = town.tmux();
    let instance = InstanceId::generate().to_string();
    let launch = town.path(&format!("daemon/run/{instance}.launch")).display().to_string();
    let shim = programs::program("gtd-shim").display().to_string();
    let words: Vec<&str> = if ours { vec![&shim, &launch] } else { vec!["sleep", "0.01"] };
    let target = format!("={name}:");
    let (id, mut all) = (town_id(town), vec!["new-session", "-d", "-s", name, "-P", "-F", "#{pane_id}", "--"]);
    all.extend(words);
    all.extend([";", "set-option", "-p", "-t", &target, "remain-on-exit", "on"]);
    for (option, value) in [("@gt_town", &*id), ("@gt_agent", "old/witness"), ("@gt_instance", &instance)] {
        all.extend([";", "set-option", "-t", &target, option, value]);
    }
    let pane = tmux.run(&all);
    wait_for(QUICK, "its process has ended", || dead(town, &pane).filter(|dead| *dead));
    pane
}

fn applied<'a>(report: &'a Value, pane: &str) -> &'a Value {
    let mut all = report["applied"].as_array().unwrap().iter();
    let of = |item: &&Value| item["target"].as_str().is_some_and(|target| target.contains(&format!("pane {pane} ")));
    all.find(of).unwrap_or(&Value::Null)
}

#[test]
fn the_dead_pane_of_a_stopped_agent_is_named_and_closed_and_a_persons_window_stays() {
    let setup = Setup::new().rigs(&["a", "b"]).no_refineries();
    let town = setup.toml("[tmux]\ncommand_timeout = \"300ms\"").up();
    let tmux = town.tmux();
    let pane = town.agent("a/witness")["pane"].as_str().unwrap().to_owned();
    let agent = town.process("a/witness");
    // tmux hangs while the agent is stopped: its pane cannot be closed.
    let server = tmux.server();
    server.signal(Signal::STOP);
    town.call("witness.stop", json!({"rig": "a", "now": true, "wait_ms": 0}));
    wait_for(CHANGE, "it has ended", || (!agent.alive()).then_some(()));
    town.wait_agent("a/witness", CHANGE, "rests", |agent| agent["state"] == "stopped");
    server.signal(Signal::CONT);
    wait_for(QUICK, "its pane is dead", || dead(&town, &pane).filter(|dead| *dead));
    let checks = json!(["zombie-sessions", "orphan-sessions"]);
    let looked = wait_for(CHANGE, "tmux answers again", || {
        let looked = town.call("doctor.run", json!({"checks": checks}));
        looked["checks"].as_array()?.iter().all(|check| check["status"] != "unknown").then_some(looked)
    });
    assert!(looked.to_string().contains("gt-a-witness"), "{looked:#}");
    assert_eq!(looked["plan"][0]["class"], "safe", "{looked:#}");
    let fixed = town.call("doctor.run", json!({"checks": checks, "fix": true}));
    assert_eq!(applied(&fixed, &pane)["ok"], true, "{fixed:#}");
    assert!(fixed["checks"].as_array().unwrap().iter().all(|check| check["status"] == "ok"), "{fixed:#}");
    assert_eq!(dead(&town, &pane), None, "it is closed");
    assert!(town.process("b/witness").alive());
    // The agent comes back in a pane of its own.
    town.call("witness.start", json!({"rig": "a"}));
    town.wait_state("a/witness", "running");
}

#[test]
fn a_dead_pane_of_our_shim_is_closed_and_what_only_looks_like_one_is_not() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let tmux = town.tmux();
    let ours = leave(&town, "gt-old-witness", true);
    let not = leave(&town, "gt-old-refinery", false);
    // Ours, but somebody has started something in it since.
    let again = leave(&town, "gt-old-again", true);
    tmux.run(&["respawn-pane", "-t", &again, "exec sleep 5000"]);
    let pid: i32 = tmux.run(&["display-message", "-p", "-t", &again, "#{pane_pid}"]).parse().unwrap();
    let living = Process::of(pid).unwrap();
    let swept = town.call("orphans.sweep", json!({"kinds": ["session"]}));
    let outcome = |pane: &str| {
        let mut items = swept["items"].as_array().unwrap().iter();
        items.find(|item| item["target"].as_str().unwrap().contains(&format!("pane {pane} "))).cloned()
    };
    assert_eq!(outcome(&ours).unwrap()["ok"], true, "{swept:#}");
    assert_eq!(dead(&town, &ours), None);
    assert!(outcome(&not).unwrap()["outcome"].as_str().unwrap().contains("not started with our shim"), "{swept:#}");
    assert_eq!(dead(&town, &not), Some(true));
    assert!(outcome(&again).is_none(), "what lives is no candidate: {swept:#}");
    assert!(living.alive());
    let allow = json!(["safe", "disruptive", "destructive"]);
    town.call("doctor.run", json!({"fix": true, "allow": allow}));
    assert!(living.alive() && dead(&town, &not) == Some(true));
    for name in ["gt-old-refinery", "gt-old-again"] {
        tmux.run(&["kill-session", "-t", &format!("={name}")]);
    }
}
