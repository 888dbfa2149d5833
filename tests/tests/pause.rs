//! Agents that are paused: frozen with everything below them, kept from starting, and let go on, whatever happens
//! meanwhile.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gtd_tests::disk::{SmallDisk, bound_files};
use gtd_tests::{CHANGE, Process, Setup, Town, procs, skipped, wait_for, wait_until};
use serde_json::{Value, json};

/// An agent that forks all the time below itself, and in sessions of their own.
const FAMILY: &str = "setsid sh -c 'while :; do (setsid sleep 0.05 &); sleep 0.02; done' & \
    (setsid sh -c 'while :; do sleep 0.02; done' &) ; while :; do (sleep 0.02 &); sleep 0.02; done";

/// The processes below an agent's shim, and those of them that do not stand still.
#[track_caller]
fn below(town: &Town, agent: &str) -> (Vec<Process>, Vec<Process>) {
    let shim = town.agent(agent)["shim_pid"].as_i64().unwrap_or_else(|| panic!("{agent} has no shim"));
    let all = procs::descendants(i32::try_from(shim).unwrap());
    let all: Vec<Process> = all.into_iter().filter(|process| process.alive()).collect();
    let moving = all.iter().copied().filter(|process| !process.stopped()).collect();
    (all, moving)
}

#[track_caller]
fn assert_still(town: &Town, agent: &str, at_least: usize) {
    // A process that waits in the kernel for a child that was stopped before its exec is stopped when it comes out.
    let (all, moving) = below(town, agent);
    let awake: Vec<String> = moving
        .iter()
        .filter(|process| !has_stop_pending(**process))
        .map(|process| format!("{process} {}", process.command_line()))
        .collect();
    assert!(awake.is_empty(), "{agent}: {awake:?} of {all:?}");
    assert!(all.len() >= at_least, "{agent}: {all:?}");
}

fn has_stop_pending(process: Process) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & (1 << 18) != 0
}

#[track_caller]
fn assert_moving(town: &Town, agent: &str) {
    wait_for(CHANGE, &format!("{agent} goes on"), || {
        let (all, moving) = below(town, agent);
        (!all.is_empty() && all.len() == moving.len()).then_some(())
    });
}

fn setup() -> Setup {
    Setup::new()
        .rigs(&["a", "b"])
        .no_refineries()
        .toml("[mass_death]\nthreshold = 0\n[restart]\nburst = 0\n[stop]\ngrace = \"2s\"")
}

fn family() -> Setup {
    let entry = json!({"provider": "script", "command": "/bin/sh", "args": ["-c", FAMILY], "env": {}});
    setup().command("family", entry).rig_witness("a", "family")
}

#[track_caller]
fn receipt<'a>(change: &'a Value, agent: &str) -> &'a Value {
    let items = change["items"].as_array().unwrap();
    items.iter().find(|item| item["agent"] == agent).unwrap_or_else(|| panic!("{agent}: {change:#}"))
}

#[test]
fn a_whole_tree_stands_still_others_do_not_and_it_goes_on_as_it_was() {
    let town = family().up();
    let (before, seq) = (town.running(), town.seq());
    let paused = town.call("town.pause", json!({"rig": "a", "reason": "what is it doing?"}));
    assert_still(&town, "a/witness", 4);
    assert_moving(&town, "b/witness");
    let items = paused["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "its refinery, too, is kept from starting: {paused:#}");
    let one = receipt(&paused, "a/witness");
    assert_eq!((&one["frozen"], &one["refused"]), (&json!(true), &Value::Null));
    let (all, _) = below(&town, "a/witness");
    assert_eq!(one["processes"], all.len(), "{one:#}");
    assert!(paused["seq"].as_u64().is_some());
    let agent = town.agent("a/witness");
    assert_eq!(
        (&agent["state"], &agent["intent"], &agent["running"]),
        (&json!("paused"), &json!("paused"), &json!(true))
    );
    assert_eq!(
        (&agent["pause"]["by"], &agent["pause"]["clear"]),
        (&json!("person"), &json!("gtctl resume a"))
    );
    let event = town.wait_event(seq, "agent.paused", "a/witness", CHANGE);
    assert_eq!(event["data"]["processes"], one["processes"]);
    assert_eq!(event["data"]["reason"], "what is it doing?");
    // The intent was on record before the effect.
    let signals = town.call("agent.signals", json!({"agent": "a/witness"}));
    let sent = &signals["items"][0];
    assert_eq!(
        (&sent["signal"], &sent["pid"], &sent["by"]),
        (&json!(10), &agent["shim_pid"], &json!("person"))
    );
    let explained = town.gtctl(&["explain", "a/witness"]).ok().out;
    for part in ["is frozen", "rig a is paused, by person", "what is it doing?", "gtctl resume a"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    // Again: it is so already.
    let again = town.call("town.pause", json!({"rig": "a"}));
    assert_eq!(receipt(&again, "a/witness")["already"], true);
    let resumed = town.call("town.resume", json!({"rig": "a"}));
    assert_eq!(receipt(&resumed, "a/witness")["frozen"], false);
    assert_eq!(receipt(&resumed, "a/witness")["processes"], one["processes"]);
    assert_moving(&town, "a/witness");
    let event = town.wait_event(seq, "agent.resumed", "a/witness", CHANGE);
    assert_eq!(event["data"]["by"], "person");
    town.wait_state("a/witness", "running");
    assert_eq!(town.running(), before, "nobody was started anew");
    let kinds: Vec<Value> = town.events(seq).iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "agent.paused").count(), 1, "{kinds:?}");
}

#[test]
fn a_pause_and_its_end_outlive_a_daemon_that_is_killed() {
    let town = family().up();
    let before = town.running();
    town.call("town.pause", json!({"reason": "stop!"}));
    assert_still(&town, "a/witness", 4);
    town.kill_daemon();
    assert!(town.start().alive());
    let agent = town.wait_state("a/witness", "paused");
    assert_eq!(agent["pause"]["reason"], "stop!");
    assert_still(&town, "a/witness", 4);
    assert_still(&town, "b/witness", 1);
    assert_eq!(town.call("town.status", json!({}))["pause"]["by"], "person");
    // One that is killed in between is started by nobody.
    town.wait_state("b/witness", "paused");
    town.process("b/witness").kill();
    let dead = town.wait_agent("b/witness", CHANGE, "dead", |agent| agent["running"] == false);
    assert_eq!(dead["restarts"]["consecutive"], 0, "{dead:#}");
    let exits = town.call("agent.exits", json!({"agent": "b/witness"}));
    assert_eq!((&exits["items"][0]["counts"], &exits["items"][0]["signal"]), (&json!(false), &json!(9)));
    let refused = town.call_fails("witness.start", json!({"rig": "b"}));
    assert_eq!((refused.code, refused.kind.as_str()), (1005, "rig_not_operational"), "{refused:?}");
    assert_eq!((&refused.data["reason"], &refused.data["hint"]), (&json!("paused"), &json!("gtctl resume")));
    let refused = town.call_fails("witness.restart", json!({"rig": "a"}));
    assert_eq!(refused.data["reason"], "paused", "{refused:?}");
    // Without the daemon, and ended by the next one.
    town.kill_daemon();
    let agent = below_pid(&before, "a/witness").unwrap();
    assert!(agent.stopped() || has_stop_pending(agent), "nobody was there to let it go on");
    town.start();
    town.call("town.resume", json!({}));
    assert_moving(&town, "a/witness");
    town.wait_all_running();
    assert_eq!(town.process("a/witness").pid, i32::try_from(before[0].2).unwrap());
    assert_eq!(town.starts("b/witness").len(), 2);
    town.assert_never_two();
}

fn below_pid(running: &[(String, String, i64)], agent: &str) -> Option<Process> {
    let pid = running.iter().find(|(address, ..)| address == agent)?.2;
    Process::of(i32::try_from(pid).ok()?)
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_leaves_nobody_half_way() {
    let town = family().up();
    // Whatever of intent and effect has come about when it dies: the next one makes both agree.
    for round in 0..6_u64 {
        let frozen = round % 2 == 0;
        let method = if frozen { "town.pause" } else { "town.resume" };
        let mut client = town.client();
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}).to_string();
        client.send_raw(format!("{line}\n").as_bytes()).unwrap();
        gtd_tests::chaos_delay(Duration::from_millis(round * 2));
        town.kill_daemon();
        town.start();
        wait_for(CHANGE, "intent and effect agree", || {
            let paused = town.call("town.status", json!({}))["pause"].is_object();
            let state = if paused { "paused" } else { "running" };
            let there = ["a/witness", "b/witness"].iter().all(|agent| {
                town.try_agent(agent).is_some_and(|agent| agent["state"] == state && agent["running"] == true)
            });
            let (all, moving) = below(&town, "a/witness");
            let moving = moving.iter().filter(|process| !has_stop_pending(**process)).count();
            let so = if paused { moving == 0 } else { moving > 0 };
            (there && so && !all.is_empty()).then_some(())
        });
    }
    town.call("town.resume", json!({}));
    assert_moving(&town, "b/witness");
    town.assert_never_two();
}

#[test]
fn a_pause_ends_by_itself_also_when_its_time_passes_while_no_daemon_is_there() {
    let town = setup().up();
    let (before, seq) = (town.running(), town.seq());
    let paused = town.gtctl(&["pause", "a", "--until", "2s", "--reason", "a breath"]).ok();
    assert!(paused.out.contains("frozen: 1 process"), "{}", paused.out);
    let agent = town.agent("a/witness");
    assert!(agent["pause"]["until"].is_string(), "{agent:#}");
    let shown = town.gtctl(&["status"]).ok().out;
    for part in ["paused", "until 20", "by person", "a breath", "gtctl resume a"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let event = town.wait_event(seq, "agent.resumed", "a/witness", CHANGE);
    assert_eq!(
        (&event["data"]["by"], &event["data"]["why"]),
        (&json!("supervisor"), &json!("its time is over"))
    );
    assert_moving(&town, "a/witness");
    let until = jiff_in(1_500);
    town.call("town.pause", json!({"until": until}));
    town.kill_daemon();
    let frozen = below_pid(&before, "a/witness").unwrap();
    assert!(frozen.stopped());
    wait_until(CHANGE, || jiff_in(0) > until);
    assert!(frozen.stopped(), "nobody was there to let it go on");
    town.start();
    assert_moving(&town, "a/witness");
    town.wait_all_running();
    assert_eq!(town.running(), before);
    assert!(town.call("town.status", json!({}))["pause"].is_null());
    let past = town.call_fails("town.pause", json!({"until": "2020-01-01T00:00:00Z"}));
    assert_eq!((past.code, &past.data["path"]), (-32602, &json!("/until")));
}

/// An instant so many milliseconds from now.
fn jiff_in(ms: u64) -> String {
    let at = gtd_proto::Timestamp::now() + Duration::from_millis(ms);
    format!("{at:.3}")
}

#[test]
fn a_dry_run_does_nothing_and_says_what_would_be_done() {
    let town = setup().up();
    let seq = town.seq();
    let plan = town.call("town.pause", json!({"dry_run": true}));
    let steps = plan["plan"].as_array().unwrap();
    let freezes = steps.iter().filter(|step| step["action"] == "freeze").count();
    assert_eq!(
        (freezes, &plan["dry_run"], plan["items"].as_array().unwrap().len()),
        (2, &json!(true), 0),
        "{plan:#}"
    );
    let said = town.gtctl(&["pause", "a", "--dry-run", "--until", "30m"]).ok().out;
    assert!(said.contains("freeze") && said.contains("a/witness") && !said.contains("b/witness"), "{said}");
    town.call("town.pause", json!({"rig": "a"}));
    let plan = town.call("town.resume", json!({"dry_run": true}));
    let steps = plan["plan"].as_array().unwrap();
    let actions: Vec<(&Value, &Value)> =
        steps.iter().map(|step| (&step["action"], &step["target"])).collect();
    assert!(actions.contains(&(&json!("let go on"), &json!("a/witness"))), "{plan:#}");
    assert!(actions.contains(&(&json!("let start"), &json!("a/refinery"))), "{plan:#}");
    assert_eq!(town.agent("a/witness")["state"], "paused");
    assert_moving(&town, "b/witness");
    let unknown = town.call_fails("town.pause", json!({"rig": "nobody"}));
    assert_eq!(unknown.code, 1001);
    let unknown = town.call_fails("town.pause", json!({"agents": ["b/witness", "b/polecats/nobody"]}));
    assert_eq!(unknown.code, 1002);
    assert_moving(&town, "b/witness");
    let events = town.events(seq);
    let paused: Vec<&Value> = events.iter().filter(|event| event["kind"] == "agent.paused").collect();
    assert_eq!(paused.len(), 1, "{paused:#?}");
}

/// A process of a person's, in a pane of the town's own tmux server.
struct Person(Child);

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crew_the_tmux_server_and_panes_of_people_are_never_touched() {
    let town = setup().make();
    std::fs::create_dir_all(town.path("a/crew/max")).unwrap();
    town.start();
    town.wait_all_running();
    let tmux = town.tmux();
    let own = town.base().join("person");
    let script = format!("echo $$ > {}; exec sleep 300", own.display());
    tmux.run(&["new-session", "-d", "-s", "gt-a-crew-max", &script]);
    // And a pane of theirs beside an agent.
    let session = town.agent("a/witness")["session"].as_str().unwrap().to_owned();
    let beside = town.base().join("beside");
    let script = format!("echo $$ > {}; exec sleep 300", beside.display());
    tmux.run(&["new-window", "-d", "-t", &session, &script]);
    let theirs = [own, beside].map(|file| {
        wait_for(CHANGE, "a person's process", || {
            std::fs::read_to_string(&file).ok()?.trim().parse().ok().and_then(Process::of)
        })
    });
    let stranger =
        Command::new("sleep").arg("300").env("GT_TOWN_ID", "x").stdout(Stdio::null()).spawn().unwrap();
    let stranger = Person(stranger);
    let server =
        i32::try_from(town.call("town.status", json!({}))["tmux"][0]["pid"].as_i64().unwrap()).unwrap();
    let run = town.gtctl(&["pause", "--json"]);
    let change: Value = serde_json::from_str(&run.ok().out).unwrap();
    assert!(change["result"]["items"].as_array().unwrap().iter().all(|item| item["agent"] != "a/crew/max"));
    let named = town.gtctl(&["pause", "--agent", "a/crew/max", "--agent", "a/witness"]);
    assert_eq!(named.code, 7, "{named:?}");
    assert!(named.out.contains("belongs to a person"), "{}", named.out);
    assert_still(&town, "a/witness", 1);
    let pid = i32::try_from(stranger.0.id()).unwrap();
    for process in theirs.into_iter().chain([Process::of(server).unwrap(), Process::of(pid).unwrap()]) {
        assert!(process.alive() && !process.stopped(), "{process} {}", process.command_line());
    }
    let signals = town.call("agent.signals", json!({}));
    let shims: Vec<Value> = town.agents().iter().map(|agent| agent["shim_pid"].clone()).collect();
    for sent in signals["items"].as_array().unwrap() {
        assert!(shims.contains(&sent["pid"]), "{sent:#}");
    }
    town.call("town.resume", json!({}));
    assert_moving(&town, "a/witness");
    theirs.into_iter().for_each(Process::kill);
}

#[test]
fn what_is_paused_can_be_stopped_and_stays_so() {
    let town = setup()
        .agent("deaf", &["ignore:TERM,HUP", "fork:setsid", "report:working", "idle"])
        .rig_witness("a", "deaf")
        .toml("[start]\ntimeout = \"30s\"")
        .up();
    town.call("town.pause", json!({}));
    assert_still(&town, "a/witness", 2);
    let (all, _) = below(&town, "a/witness");
    let stopped = town.call("witness.stop", json!({"rig": "a"}));
    assert_eq!((&stopped["state"], &stopped["survivors"]), (&json!("stopped"), &Value::Null), "{stopped:#}");
    assert!(all.iter().all(|process| !process.alive()));
    // The whole town, with the daemon.
    let down = town.gtctl(&["down", "--yes", "--now"]);
    assert_eq!(down.code, 0, "{down:?}");
    town.wait_daemon(CHANGE);
    town.start();
    town.call("town.start", json!({}));
    assert_eq!(town.agent("b/witness")["running"], false, "the pause outlives it");
    town.call("town.resume", json!({}));
    town.wait_state("b/witness", "running");
    assert_eq!(town.agent("a/witness")["state"], "stopped", "a person stopped it");
    town.assert_never_two();
}

#[test]
fn a_frozen_agent_whose_pane_is_closed_or_whose_shim_is_killed_leaves_nothing_frozen() {
    let town = family().up();
    for by_pane in [true, false] {
        town.call("town.pause", json!({"rig": "a"}));
        assert_still(&town, "a/witness", 4);
        let agent = town.agent("a/witness");
        let (all, _) = below(&town, "a/witness");
        if by_pane {
            town.tmux().run(&["kill-pane", "-t", agent["pane"].as_str().unwrap()]);
        } else {
            // Without a daemon, so that only the record knows what it had frozen.
            town.kill_daemon();
            Process::of(i32::try_from(agent["shim_pid"].as_i64().unwrap()).unwrap()).unwrap().kill();
            town.start();
        }
        wait_for(CHANGE, "nothing of it is left", || {
            all.iter().all(|process| !process.alive()).then_some(())
        });
        let dead = town.wait_agent("a/witness", CHANGE, "not running", |agent| agent["state"] == "stopped");
        assert!(dead["reason"].as_str().is_some_and(|why| why.contains("paused")), "{dead:#}");
        assert_eq!(dead["restarts"]["consecutive"], 0, "{dead:#}");
        town.call("town.resume", json!({}));
        town.wait_new_instance("a/witness", agent["instance"].as_str().unwrap());
        town.wait_all_running();
    }
    town.assert_never_two();
}

#[test]
fn nobody_is_told_that_what_is_paused_makes_no_progress_and_no_text_is_typed() {
    let town = setup().toml("[polecat]\ngupp_after = \"1s\"").make();
    town.start();
    town.make_workers("a", &["nux", "rex"]);
    town.wait_all_running();
    let (nux, rex) = ("a/polecats/nux", "a/polecats/rex");
    for worker in [nux, rex] {
        let work = town.make_work("a", "Fix it");
        town.start_worker(worker, &work);
    }
    town.call("town.pause", json!({"agents": [nux]}));
    let seq = town.seq();
    town.call("nudge.send", json!({"agent": nux, "message": "Go on.", "wait_ms": 0}));
    let refused = town.call_fails("polecat.inject", json!({"agent": nux, "message": "Go on."}));
    assert_eq!((refused.code, &refused.data["hint"]), (1011, &json!("gtctl resume --agent a/polecats/nux")));
    // The one beside it is told about: rounds are made, and time passes.
    wait_for(CHANGE, "the other one counts as stalled", || {
        town.call("daemon.heartbeat", json!({}));
        town.events(seq).into_iter().find(|event| event["kind"] == "agent.stalled" && event["agent"] == rex)
    });
    let told =
        |kind: &str| town.events(seq).iter().any(|event| event["kind"] == kind && event["agent"] == nux);
    assert!(!told("agent.stalled"));
    assert_eq!(town.agent(nux)["state"], "paused");
    let waits = town.call("nudge.list", json!({"agent": nux}));
    let one = &waits["items"][0];
    assert_eq!((&one["state"], &one["attempts"]), (&json!("queued"), &json!(0)), "{waits:#}");
    assert!(one["why"].as_str().is_some_and(|why| why.contains("it is paused")), "{waits:#}");
    let alerts = town.alerts();
    assert!(alerts.iter().any(|alert| alert["key"] == "paused:agents"), "{alerts:#?}");
    assert!(!alerts.iter().any(|alert| alert["key"] == format!("agent:{nux}")), "{alerts:#?}");
    // A worker of a paused rig is not begun either.
    town.call("town.pause", json!({"rig": "a"}));
    town.make_workers("a", &["new"]);
    let refused = town.call_fails("polecat.start", json!({"agent": "a/polecats/new"}));
    assert_eq!((refused.code, &refused.data["hint"]), (1005, &json!("gtctl resume a")), "{refused:?}");
    // One agent goes on although its rig is paused.
    town.call("town.resume", json!({"agents": [nux]}));
    assert_moving(&town, nux);
    assert_eq!(town.agent(rex)["state"], "paused");
    town.call("town.resume", json!({}));
    assert_moving(&town, rex);
}

/// What holds while nothing can be written.
#[track_caller]
fn pauses_without_a_ledger(town: &Town, full: impl Fn(), room: impl Fn()) {
    full();
    let paused = town.call("town.pause", json!({"rig": "a", "reason": "no room"}));
    assert_eq!(receipt(&paused, "a/witness")["frozen"], true, "{paused:#}");
    assert_still(town, "a/witness", 1);
    full();
    let resumed = town.call("town.resume", json!({"rig": "a"}));
    assert!(receipt(&resumed, "a/witness")["refused"].is_null(), "{resumed:#}");
    assert_moving(town, "a/witness");
    town.call("town.pause", json!({"rig": "a", "reason": "no room"}));
    assert_still(town, "a/witness", 1);
    assert_moving(town, "b/witness");
    room();
    wait_for(CHANGE, "the ledger is sound", || {
        (!town.alerts().iter().any(|alert| alert["key"] == "ledger")).then_some(())
    });
    // What was wanted meanwhile is on the disk by now.
    town.kill_daemon();
    town.start();
    let agent = town.wait_state("a/witness", "paused");
    assert_eq!(agent["pause"]["reason"], "no room");
    town.call("town.resume", json!({}));
    assert_moving(town, "a/witness");
}

#[test]
fn a_full_disk_keeps_nobody_from_pausing() {
    let town = setup().make();
    match SmallDisk::mount(&town.path("daemon"), 80) {
        Err(why) => skipped("a_full_disk_keeps_nobody_from_pausing", &why),
        Ok(disk) => {
            town.start();
            town.wait_all_running();
            pauses_without_a_ledger(&town, || disk.fill(), || disk.empty());
            town.call("town.stop", json!({}));
            town.stop_daemon();
        }
    }
}

#[test]
fn a_ledger_that_cannot_be_written_keeps_nobody_from_pausing_and_nothing_stays_frozen_for_ever() {
    let town = family().up();
    let daemon = town.daemon().unwrap();
    pauses_without_a_ledger(&town, || bound_files(daemon, Some(1)), || bound_files(daemon, None));
    // One that dies before it could write down its pause: the next one knows of none, and lets go.
    let daemon = town.daemon().unwrap();
    bound_files(daemon, Some(1));
    town.call("town.pause", json!({}));
    assert_still(&town, "a/witness", 1);
    town.kill_daemon();
    town.start();
    assert_moving(&town, "a/witness");
    assert_moving(&town, "b/witness");
    town.wait_all_running();
}
