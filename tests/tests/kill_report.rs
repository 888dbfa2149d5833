//! "Killed by gtd because …": whoever we ended, there is no looking for why.

use gtd_tests::people::{YOUNG, leave_over, left_over};
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, wait_for, wait_until};
use serde_json::{Value, json};

/// All four places tell of it: signals, exits, explain, in JSON and on the screen.
#[track_caller]
fn told(town: &Town, agent: &str, words: &[&str]) {
    let fits =
        |text: &str| text.contains("killed by gtd because") && words.iter().all(|word| text.contains(word));
    let signals = town.call("agent.signals", json!({"agent": agent}));
    let said = |item: &Value| item["because"].as_str().is_some_and(fits);
    assert!(signals["items"].as_array().unwrap().iter().any(said), "{words:?}: {signals:#}");
    let explained = town.call("agent.explain", json!({"agent": agent}));
    assert!(
        explained["because"].as_array().unwrap().iter().any(|why| why.as_str().is_some_and(fits)),
        "{words:?}: {explained:#}"
    );
    for verb in ["signals", "explain"] {
        let shown = town.gtctl(&[verb, agent]).ok().out;
        assert!(shown.lines().any(fits), "{verb} {words:?}: {shown}");
    }
}

/// The newest exit of an agent tells of it.
#[track_caller]
fn exit_tells(town: &Town, agent: &str, what: &str, words: &[&str]) {
    let exits = town.call("agent.exits", json!({"agent": agent}));
    let fits =
        |text: &str| text.contains("killed by gtd because") && words.iter().all(|word| text.contains(word));
    let said = |killed: &Value| killed["what"] == what && killed["because"].as_str().is_some_and(fits);
    let mut of = exits["items"].as_array().unwrap().iter().flat_map(|exit| exit["killed"].as_array());
    assert!(of.any(|killed| killed.iter().any(said)), "{words:?}: {exits:#}");
    let shown = town.gtctl(&["exits", agent]).ok().out;
    assert!(shown.lines().any(fits), "{shown}");
}

#[test]
fn a_stop_a_restart_and_a_deadline_are_told_with_who_asked_and_the_proof() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[stop]\ndrain = \"300ms\"")
        .script(&["report:working", "idle"])
        .up();
    let proof = "proof: it was recorded when it was started";
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    town.call("witness.restart", json!({"rig": "a", "now": true}));
    town.wait_new_instance("a/witness", &before);
    let words = ["it was asked to restart", "by person", proof];
    told(&town, "a/witness", &words);
    exit_tells(&town, "a/witness", "agent", &words);

    town.wait_agent("a/witness", CHANGE, "works", |agent| agent["activity"] == "working");
    town.call("witness.stop", json!({"rig": "a", "reason": "hand-over"}));
    let words = ["its turn did not end in time", "it was asked to stop, by person", "hand-over", proof];
    told(&town, "a/witness", &words);
    exit_tells(&town, "a/witness", "agent", &words);

    town.call("witness.start", json!({"rig": "a"}));
    town.wait_state("a/witness", "running");
    town.call("witness.stop", json!({"rig": "a", "now": true, "reason": "for the night"}));
    let words = ["it was asked to stop (for the night)", "by person", proof];
    told(&town, "a/witness", &words);
    exit_tells(&town, "a/witness", "agent", &words);
}

#[test]
fn a_sweep_of_the_heartbeat_says_so() {
    let (town, children, _) = left_over(Setup::new().toml(YOUNG), &["fork:group", "idle"]);
    town.start();
    let gone = wait_until(CHANGE, || {
        town.call("daemon.heartbeat", json!({}));
        children.iter().all(|child| !child.alive())
    });
    assert!(gone);
    town.wait_event(0, "sweep.killed", "a/witness", CHANGE);
    told(&town, "a/witness", &["is over", "by supervisor: orphan sweep", "proof: it "]);
}

#[test]
fn what_a_person_sweeps_or_has_the_doctor_mend_bears_their_name() {
    let report = "[sweep]\nmin_age = \"1s\"\nmode = \"report\"";
    let (town, children, _) = left_over(Setup::new().toml(report), &["fork:group", "idle"]);
    town.start();
    town.wait_all_running();
    // What would be done is shown process by process, and nothing is done.
    let planned = town.gtctl(&["orphans", "sweep", "--dry-run"]).ok().out;
    assert!(
        planned.contains("1 process of a/witness") && planned.contains(&children[0].pid.to_string()),
        "{planned}"
    );
    assert!(children[0].alive());
    let fixed = town
        .call("doctor.run", json!({"checks": ["orphan-processes"], "fix": true, "allow": ["disruptive"]}));
    assert_eq!(fixed["applied"][0]["ok"], true, "{fixed:#}");
    told(&town, "a/witness", &["is over", "by person: doctor", "proof: it "]);

    let (children, _) = leave_over(&town, "a/witness");
    town.start();
    town.wait_all_running();
    let listed = town.gtctl(&["orphans", "list"]).ok().out;
    let line = listed.lines().find(|line| line.starts_with("orphan ")).unwrap_or_default();
    assert!(
        line.contains(&children[0].pid.to_string()) && line.contains("that instance of a/witness is over"),
        "{listed}"
    );
    let swept = town.gtctl(&["orphans", "sweep"]).ok().out;
    assert!(swept.contains("nothing is left") && !children[0].alive(), "{swept}");
    told(&town, "a/witness", &["is over", "by person: orphans sweep", "proof: it "]);
}

#[test]
fn what_was_left_of_an_agent_that_died_is_told_with_its_exit() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["fork:group", "fork:setsid", "idle"]).up();
    town.call("daemon.heartbeat", json!({}));
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let agent = town.process("a/witness");
    Process::of(agent.parent().unwrap()).unwrap().kill();
    town.wait_new_instance("a/witness", &before);
    let words = ["its agent had ended, and this was left of it", "left over after its shim", "proof: it "];
    told(&town, "a/witness", &words);
    exit_tells(&town, "a/witness", "rest", &words);
    // It died by itself: nothing says that we killed the agent.
    let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
    let killed = exits["items"][0]["killed"].as_array().unwrap();
    assert!(killed.iter().all(|one| one["what"] == "rest"), "{exits:#}");
}

#[test]
fn a_death_by_a_stop_that_a_dead_daemon_had_begun_is_known_for_what_it_is() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml("[stop]\ngrace = \"2s\"")
        .script(&["ignore:TERM", "idle"])
        .up();
    let agent = town.process("a/witness");
    town.call("witness.stop", json!({"rig": "a", "now": true, "wait_ms": 0}));
    wait_for(QUICK, "it was told to end", || {
        let signals = town.call("agent.signals", json!({"agent": "a/witness"}));
        (!signals["items"].as_array()?.is_empty()).then_some(())
    });
    town.kill_daemon();
    assert!(wait_until(CHANGE, || !agent.alive()), "its shim goes on without a daemon");
    town.start();
    let exits = wait_for(CHANGE, "its exit", || {
        let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
        (!exits["items"].as_array()?.is_empty()).then_some(exits)
    });
    assert_eq!(exits["items"][0]["cause"], "killed_by_gtd", "{exits:#}");
    exit_tells(&town, "a/witness", "agent", &["it was asked to stop", "by person"]);
    // Nobody had asked this daemon for it, so it is among the deaths, with why.
    let deaths = town.call("deaths.list", json!({}));
    assert!(deaths["items"][0]["killed"][0]["because"].as_str().unwrap().contains("by person"), "{deaths:#}");
    let shown = town.gtctl(&["deaths"]).ok().out;
    assert!(shown.contains("killed by gtd because it was asked to stop"), "{shown}");
}

#[test]
fn an_end_that_somebody_else_brought_about_by_the_shim_is_not_called_ours() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let agent = town.process("a/witness");
    Process::of(agent.parent().unwrap()).unwrap().signal(rustix::process::Signal::TERM);
    town.wait_new_instance("a/witness", &before);
    let exits = town.call("agent.exits", json!({"agent": "a/witness"}));
    let exit = &exits["items"][0];
    assert!(exit.get("killed").is_none(), "{exit:#}");
    assert!(exit["evidence"].as_str().unwrap().contains("no signal of ours is on record"), "{exit:#}");
}
