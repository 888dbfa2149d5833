//! Sessions without their agent: closed where tmux says that the pane is dead and was ours, left where it is not.

use gtd_proto::InstanceId;
use gtd_tests::people::town_id;
use gtd_tests::{Process, QUICK, Setup, Town, programs, wait_for};
use serde_json::{Value, json};

fn dead(town: &Town, pane: &str) -> Option<bool> {
    let said = town.tmux().try_run(&["display-message", "-p", "-t", pane, "#{pane_id} #{pane_dead}"]).ok()?;
    let (id, dead) = said.split_once(' ')?;
    (id == pane).then_some(dead == "1")
}

/// A dead pane that stays: of our shim on a launch that is gone, or of something else.
fn leave(town: &Town, name: &str, instance: &str, ours: bool) -> String {
    let launch = town.path(&format!("daemon/run/{instance}.launch")).display().to_string();
    let shim = programs::program("gtd-shim").display().to_string();
    let words: Vec<&str> = if ours { vec![&shim, &launch] } else { vec!["sleep", "0.01"] };
    let target = format!("={name}:");
    let mut all = vec!["new-session", "-d", "-s", name, "-P", "-F", "#{pane_id}", "--"];
    all.extend(words);
    all.extend([";", "set-option", "-p", "-t", &target, "remain-on-exit", "on"]);
    let pane = town.tmux().run(&all);
    wait_for(QUICK, "its process has ended", || dead(town, &pane).filter(|dead| *dead));
    pane
}

/// Gives a session our marks.
fn mark(town: &Town, name: &str, instance: &str) {
    let (id, target) = (town_id(town), format!("={name}:"));
    for (option, value) in [("@gt_town", &*id), ("@gt_agent", "old/witness"), ("@gt_instance", instance)] {
        town.tmux().run(&["set-option", "-t", &target, option, value]);
    }
}

fn applied<'a>(report: &'a Value, pane: &str) -> &'a Value {
    let mut all = report["applied"].as_array().unwrap().iter();
    let of = |item: &&Value| {
        item["target"].as_str().is_some_and(|target| target.contains(&format!("pane {pane} ")))
    };
    all.find(of).unwrap_or(&Value::Null)
}

#[test]
fn the_dead_pane_of_a_stopped_agent_is_closed_and_a_persons_window_keeps_a_session() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    let tmux = town.tmux();
    let memo = |town: &Town| {
        let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
        let sql = "SELECT policy FROM agents WHERE address = 'a/witness'";
        let text: String = conn.query_row(sql, [], |row| row.get(0)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let mut place = memo(&town)["place"].clone();
    assert!(place["pane"].is_string(), "{place:#}");
    let instance = InstanceId::generate().to_string();
    town.call("witness.stop", json!({"rig": "a", "now": true}));
    wait_for(QUICK, "its session is closed", || {
        (!tmux.sessions().contains(&"gt-a-witness".to_owned())).then_some(())
    });
    town.kill_daemon();
    // The pane that is on record for a stopped agent is there, and dead. It gets its marks when the daemon has begun,
    // which else would look for that instance itself.
    let pane = leave(&town, "gt-a-witness", &instance, true);
    place["session"] = json!(tmux.run(&["display-message", "-p", "-t", &pane, "#{session_id}"]));
    place["pane"] = json!(pane);
    let mut policy = memo(&town);
    policy["place"] = place;
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let sql = "UPDATE agents SET policy = ?1 WHERE address = 'a/witness'";
    assert_eq!(conn.execute(sql, [policy.to_string()]).unwrap(), 1);
    drop(conn);
    let window = ["new-window", "-d", "-P", "-F", "#{pane_pid}", "-t", "=gt-a-witness:", "exec sleep 5000"];
    let theirs = Process::of(tmux.run(&window).parse().unwrap()).unwrap();
    town.start();
    assert_eq!(town.agent("a/witness")["state"], "stopped");
    mark(&town, "gt-a-witness", &instance);
    // A person works in it: it is no zombie, and what is dead in it is left.
    let check = |fix: bool| town.call("doctor.run", json!({"checks": ["zombie-sessions"], "fix": fix}));
    let looked = check(true);
    assert_eq!((&looked["checks"][0]["status"], &looked["plan"]), (&json!("ok"), &json!([])), "{looked:#}");
    assert_eq!(dead(&town, &pane), Some(true));
    assert!(theirs.alive());
    theirs.kill();
    wait_for(QUICK, "their window is gone", || {
        (tmux.run(&["list-panes", "-s", "-t", "=gt-a-witness:", "-F", "x"]) == "x").then_some(())
    });
    let looked = check(false);
    let sessions = town.call("session.list", json!({}));
    assert_eq!(looked["checks"][0]["status"], "warning", "{looked:#} {sessions:#}");
    assert_eq!(looked["plan"][0]["class"], "safe", "{looked:#}");
    assert_eq!(dead(&town, &pane), Some(true), "looking changes nothing");
    let fixed = check(true);
    assert_eq!(applied(&fixed, &pane)["ok"], true, "{fixed:#}");
    assert_eq!(fixed["checks"][0]["status"], "ok", "{fixed:#}");
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
    let left = |name: &str, ours: bool| {
        let instance = InstanceId::generate().to_string();
        let pane = leave(&town, name, &instance, ours);
        mark(&town, name, &instance);
        pane
    };
    let ours = left("gt-old-witness", true);
    let not = left("gt-old-refinery", false);
    // Ours, but somebody has started something in it since.
    let again = left("gt-old-again", true);
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
    assert!(
        outcome(&not).unwrap()["outcome"].as_str().unwrap().contains("not started with our shim"),
        "{swept:#}"
    );
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
