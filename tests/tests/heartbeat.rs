//! The round as a whole: its steps in their order, what fails or hangs in it, what it costs, and what reaches the
//! daemon meanwhile.

use std::process::Stdio;
use std::time::{Duration, Instant};

use gtd_tests::bd::StandIn;
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, chaos_delay, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

const STEPS: [&str; 12] = [
    "deacon",
    "boot",
    "deacon_heartbeat",
    "witnesses",
    "refineries",
    "pending_spawns",
    "lifecycle",
    "gupp",
    "orphaned_work",
    "polecat_health",
    "orphan_sweep",
    "state",
];

fn steps(report: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
    report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (text(step, "name"), text(step, "outcome")))
        .collect()
}

fn outcome(report: &Value, name: &str) -> String {
    steps(report).into_iter().find(|(step, _)| step == name).unwrap().1
}

#[test]
fn a_round_has_its_steps_in_order_and_is_kept_for_later() {
    let town = Setup::new().deacon().rigs(&["a"]).up();
    town.wait_state("deacon", "running");
    let report = town.call("daemon.heartbeat", json!({}));
    let names: Vec<String> = steps(&report).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, STEPS);
    for step in report["steps"].as_array().unwrap() {
        assert!(step["duration_ms"].is_u64() && step["actions"].is_array(), "{step:#}");
        // What was left out says why.
        assert_eq!(step["outcome"] != "ok", step["error"].is_string(), "{step:#}");
    }
    for name in
        ["deacon", "boot", "witnesses", "refineries", "gupp", "orphaned_work", "polecat_health", "state"]
    {
        assert_eq!(outcome(&report, name), "ok", "{report:#}");
    }
    let printed = town.gtctl(&["daemon", "heartbeat"]).ok();
    for name in STEPS {
        assert!(printed.out.contains(name), "{printed:?}");
    }
    assert!(printed.out.contains("deacon is starting"), "{printed:?}");
    let number = report["number"].as_u64().unwrap();
    let event = town.wait_event(0, "heartbeat.completed", "", CHANGE);
    assert!(event["data"]["duration_ms"].is_u64(), "{event:#}");
    town.stop_daemon();
    town.start();
    let past = town.call("daemon.heartbeats", json!({"limit": 1000}));
    let kept =
        past["items"].as_array().unwrap().iter().find(|item| item["number"] == number).unwrap().clone();
    assert_eq!(kept["steps"], report["steps"]);
    let after = town.call("daemon.heartbeat", json!({}));
    assert!(after["number"].as_u64().unwrap() > number + 1, "numbers go on");
    assert_eq!(town.call("daemon.heartbeats", json!({"limit": 2}))["items"].as_array().unwrap().len(), 2);
    let listed = town.gtctl(&["daemon", "heartbeats", "--limit", "3"]).ok();
    assert_eq!(listed.out.lines().count(), 4, "{listed:?}");
    let state: Value =
        serde_json::from_str(&std::fs::read_to_string(town.path("daemon/state.json")).unwrap()).unwrap();
    assert_eq!(
        (&state["running"], state["heartbeat_count"].as_u64().unwrap() > number),
        (&json!(true), true),
        "{state:#}"
    );
}

/// A town in which a test may have steps hang or fail.
fn drilled() -> Town {
    let town = Setup::new().deacon().rigs(&["a"]).no_refineries().make();
    let order = town.base().join("drill").display().to_string();
    let town = town.with_env("GTD_DRILL", &order);
    town.start();
    town.wait_all_running();
    // The round of the start is over: the next order is not for it.
    town.call("daemon.heartbeat", json!({}));
    town
}

fn order(town: &Town, what: &str) {
    std::fs::write(town.base().join("drill"), what).unwrap();
}

#[test]
fn a_step_that_fails_is_told_of_and_harms_no_other() {
    let town = drilled();
    for name in STEPS {
        order(&town, &format!("fail {name}"));
        let report = town.call("daemon.heartbeat", json!({}));
        assert_eq!(steps(&report).len(), STEPS.len());
        for (step, outcome) in steps(&report) {
            assert_eq!(outcome == "failed", step == name, "{report:#}");
        }
    }
    order(&town, "fail boot");
    assert_eq!(town.gtctl(&["daemon", "heartbeat"]).code, 7);
    town.gtctl(&["daemon", "heartbeat"]).ok();
}

#[test]
fn a_step_that_hangs_is_cut_off_and_holds_up_neither_requests_nor_signals() {
    let town = drilled();
    let daemon = town.daemon().unwrap();
    order(&town, "hang boot");
    let (report, meanwhile) = std::thread::scope(|scope| {
        let round = scope.spawn(|| town.call("daemon.heartbeat", json!({})));
        wait_for(QUICK, "it hangs", || (!town.base().join("drill").exists()).then_some(()));
        let began = Instant::now();
        town.call("town.status", json!({}));
        town.call("witness.restart", json!({"rig": "a", "now": true}));
        // HUP: the configuration is read meanwhile. USR1: so are requests that came by mail.
        let asked = json!({"to": "deacon/", "subject": "LIFECYCLE: a/witness", "body": "restart"});
        town.call("mail.send", asked);
        town.replace("settings/gtd.toml", "[refinery]\nmode = \"off\"\n[stop]\ngrace = \"3s\"\n");
        daemon.signal(Signal::HUP);
        daemon.signal(Signal::USR1);
        let read = || {
            let shown = town.call("daemon.config", json!({}));
            let values = shown["values"].as_array().unwrap().clone();
            values.iter().any(|value| value["key"] == "stop.grace" && value["value"] == "3s").then_some(())
        };
        wait_for(QUICK, "the configuration is in force", read);
        wait_for(QUICK, "what was asked for by mail is done", || {
            let requests = town.call("lifecycle.list", json!({}));
            (requests["items"][0]["state"] == "done").then_some(())
        });
        let meanwhile = (began.elapsed(), round.is_finished());
        (round.join().unwrap(), meanwhile)
    });
    assert!(!meanwhile.1 && meanwhile.0 < Duration::from_secs(12), "{meanwhile:?}");
    for (step, outcome) in steps(&report) {
        assert_eq!(outcome == "timeout", step == "boot", "{report:#}");
    }
    // TERM in the middle of one: it ends at once, leaves its agents, and nothing of itself.
    order(&town, "hang gupp");
    let mut asking = town.command("gtctl");
    asking.arg("--town").arg(town.root()).args(["daemon", "heartbeat"]).stderr(Stdio::null());
    let mut asking = asking.spawn().unwrap();
    wait_for(CHANGE, "it hangs", || (!town.base().join("drill").exists()).then_some(()));
    let before = town.running();
    let began = Instant::now();
    let status = town.stop_daemon().unwrap();
    assert!(
        status.success() && began.elapsed() < Duration::from_secs(5),
        "{status:?} after {:?}",
        began.elapsed()
    );
    assert!(!asking.wait().unwrap().success(), "who asked for that round is told that it came to nothing");
    town.start();
    town.wait_all_running();
    assert_eq!(town.running(), before);
}

#[test]
fn rounds_that_take_longer_than_their_interval_are_left_out_and_counted() {
    let town = Setup::new().deacon().toml("[daemon]\nheartbeat_interval = \"1s\"").make();
    let order_file = town.base().join("drill").display().to_string();
    let town = town.with_env("GTD_DRILL", &order_file);
    town.start();
    town.wait_state("deacon", "running");
    let state = || town.call("daemon.status", json!({}))["heartbeat"].clone();
    let before = state();
    order(&town, "hang deacon_heartbeat");
    wait_for(CHANGE, "it hangs", || (!town.base().join("drill").exists()).then_some(()));
    let after = wait_for(Duration::from_secs(30), "overruns are counted", || {
        let now = state();
        (now["overruns"].as_u64().unwrap() >= before["overruns"].as_u64().unwrap() + 10).then_some(now)
    });
    let rounds = after["number"].as_u64().unwrap() - before["number"].as_u64().unwrap();
    assert!(rounds < 12, "what was left out is not made up for: {before} {after}");
    // For a while nobody could look: the next round only looks.
    wait_for(CHANGE, "a round of grace", || {
        let reports = town.call("daemon.heartbeats", json!({"limit": 20}))["items"].clone();
        let graced = |report: &Value| report["steps"][11]["actions"].to_string().contains("a round of grace");
        reports.as_array().unwrap().iter().any(graced).then_some(())
    });
}

/// Page faults of the children that a process has waited for: none of a process that had none.
fn of_children(process: Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[8].parse::<u64>().unwrap() + fields[10].parse::<u64>().unwrap()
}

/// The children that it has now, by all of its threads.
fn children(process: Process) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid)).unwrap().flatten();
    let of =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flat_map(|task| of(task).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

const RIGS: [&str; 3] = ["a", "b", "c"];

/// Three rigs and ten agents: a deacon, three witnesses, three refineries, three polecats at work.
fn ten(setup: Setup) -> Setup {
    setup.deacon().rigs(&RIGS)
}

#[track_caller]
fn ten_run(town: &Town) {
    let running = || town.agents().iter().filter(|agent| agent["running"] == true).count();
    assert!(wait_until(CHANGE, || running() == 10), "{}", running());
}

#[test]
fn an_idle_round_starts_no_program_whoever_is_looked_after() {
    let town = ten(Setup::new()).up();
    for rig in RIGS {
        town.make_workers(rig, &["nux"]);
        let work = town.make_work(rig, "Fix the parser");
        town.call("polecat.start", json!({"agent": format!("{rig}/polecats/nux"), "work": work}));
    }
    ten_run(&town);
    let daemon = town.daemon().unwrap();
    let round = || {
        let before = (of_children(daemon), town.call("daemon.status", json!({}))["forks"].clone());
        let report = town.call("daemon.heartbeat", json!({}));
        assert!(
            steps(&report).iter().all(|(_, outcome)| outcome == "ok" || outcome == "skipped"),
            "{report:#}"
        );
        let after = (of_children(daemon), town.call("daemon.status", json!({}))["forks"].clone());
        before == after
    };
    // The start goes on for a moment: its connection to tmux is opened with the first session.
    let settled = wait_until(CHANGE, || {
        chaos_delay(Duration::from_millis(200));
        round()
    });
    assert!(settled, "no round without a program");
    // tmux is asked once in a while, by a program, whether it is still the one we know.
    let quiet = (0..10).filter(|_| round()).count();
    assert!(quiet >= 9, "{quiet} of 10 rounds started no program");
    assert!(children(daemon).len() <= 1, "no more than the connection to tmux: {:?}", children(daemon));
}

#[test]
fn with_bd_an_idle_round_asks_each_store_once() {
    let dir = tempfile::tempdir().unwrap();
    let stand_in = StandIn::new(dir.path(), "1.0.5");
    // Nothing is on any hook.
    stand_in.does("1.0.5", json!({"swap": {"list": "nothing matches"}}));
    let town = ten(Setup::new()).toml("[daemon]\nheartbeat_interval = \"2s\"").make();
    for rig in RIGS {
        std::fs::create_dir_all(town.path(rig).join(".beads")).unwrap();
    }
    let path = stand_in.path();
    let town = town.with_env("PATH", &path);
    town.start();
    town.wait_all_running();
    let number = || town.call("daemon.status", json!({}))["heartbeat"]["number"].as_u64().unwrap();
    // A whole number of rounds, counted from the middle of one interval.
    let first = number();
    wait_for(CHANGE, "a round", || (number() >= first + 2).then_some(()));
    chaos_delay(Duration::from_millis(700));
    let (from, calls) = (number(), stand_in.calls().len());
    wait_for(CHANGE, "three rounds", || (number() >= from + 3).then_some(()));
    chaos_delay(Duration::from_millis(700));
    let (rounds, asked) = (number() - from, stand_in.calls().len() - calls);
    let asked = u64::try_from(asked).unwrap();
    let stores = 3;
    assert!(
        asked <= rounds * stores && asked >= (rounds - 1) * stores,
        "{asked} queries in {rounds} rounds of {stores} stores: {:#?}",
        stand_in.calls().get(calls..)
    );
    // Rounds that somebody asks for ask no store at all: what is known of the hooks is of the last interval.
    let before = stand_in.calls().len();
    town.replace("settings/gtd.toml", "[daemon]\nheartbeat_interval = \"10h\"\n");
    town.call("daemon.reload", json!({}));
    chaos_delay(Duration::from_millis(2_500));
    let settled = stand_in.calls().len();
    for _ in 0..5 {
        town.call("daemon.heartbeat", json!({}));
    }
    assert_eq!(stand_in.calls().len(), settled, "{before} before");
}

#[test]
fn nothing_of_the_daemons_own_surroundings_reaches_an_agent() {
    let leaks = [
        ("GT_ROLE", "polecat"),
        ("GT_RIG", "elsewhere"),
        ("GT_POLECAT", "nobody"),
        ("GT_CREW", "nobody"),
        ("GT_ROOT", "/elsewhere"),
        ("GT_TOWN_ROOT", "/elsewhere"),
        ("GT_INSTANCE", "01958b3e-7a3c-7b1e-8b1a-0123456789ab"),
        ("GT_TOWN_ID", "elsewhere"),
        ("GT_SOCKET", "/elsewhere/gtd.sock"),
        ("GT_SECRET", "leaked"),
        ("BD_ACTOR", "leaked"),
        ("BEADS_DB", "leaked"),
        ("TMUX", "/elsewhere/tmux,1,0"),
        ("TMUX_PANE", "%99"),
        ("TMUX_TMPDIR", "/elsewhere"),
        ("CLAUDECODE", "1"),
        ("CLAUDE_CODE", "1"),
        ("CLAUDE_CODE_ENTRYPOINT", "cli"),
        ("NOTIFY_SOCKET", "/elsewhere/notify"),
    ];
    let mut setup = Setup::new().deacon().rigs(&["a"]).no_refineries().script(&["env", "idle"]);
    for (name, value) in leaks {
        setup = setup.env(name, value);
    }
    let town = setup.make();
    town.start();
    let calls = ["deacon", "a/witness"];
    for agent in calls {
        town.wait_state(agent, "running");
        let own = town.agent(agent);
        let file = town.journal_dir().join(format!("env-{}", agent.replace('/', "-")));
        let env = wait_for(CHANGE, "its environment", || std::fs::read_to_string(&file).ok());
        for (name, value) in leaks {
            let line = format!("{name}={value}");
            assert!(!env.lines().any(|found| found == line), "{agent} got {line}");
        }
        let has =
            |line: String| assert!(env.lines().any(|found| found == line), "{agent} lacks {line}: {env}");
        has(format!("GT_INSTANCE={}", own["instance"].as_str().unwrap()));
        has(format!("GT_ROLE={}", own["role"].as_str().unwrap()));
        for unknown in
            ["GT_SECRET", "GT_CREW", "GT_POLECAT", "CLAUDECODE", "CLAUDE_CODE", "BEADS_DB", "NOTIFY_SOCKET"]
        {
            assert!(
                !env.lines().any(|found| found.starts_with(&format!("{unknown}="))),
                "{agent} got {unknown}"
            );
        }
    }
}

#[test]
fn a_town_that_is_reached_through_a_link_is_the_same_town() {
    let town = Setup::new().deacon().rigs(&["a"]).no_refineries().up();
    town.wait_state("deacon", "running");
    let link = town.base().join("link");
    std::os::unix::fs::symlink(town.root(), &link).unwrap();
    let link = link.display().to_string();
    let status = town.gtctl_bare(&["--town", &link, "status", "--json"]).ok().json();
    assert_eq!(status["result"]["root"], json!(town.root().canonicalize().unwrap()));
    town.gtctl_bare(&["--town", &link, "deacon", "restart"]).ok();
    // Another daemon by that way finds the lock held.
    let mut second = town.command("gtd");
    second.args(["--town", &link]);
    let refused = gtd_tests::run::run(second, Duration::from_secs(20));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("already running"), "{refused:?}");
    let before = town.running();
    town.stop_daemon();
    // And one that is started by that way has the agents that there are.
    town.gtctl_bare(&["--town", &link, "daemon", "start"]).ok();
    wait_for(CHANGE, "the same agents", || (town.running() == before).then_some(()));
    town.gtctl_bare(&["--town", &link, "down", "--yes"]).ok();
}

#[test]
fn two_towns_on_one_machine_have_a_deacon_each() {
    let make = || Setup::new().deacon().rigs(&["a"]).no_refineries().up();
    let (one, two) = (make(), make());
    for town in [&one, &two] {
        town.wait_state("deacon", "running");
    }
    let (mine, theirs) = (one.running(), two.running());
    assert_eq!(one.agent("deacon")["session_name"], two.agent("deacon")["session_name"], "by one name");
    assert_ne!(one.agent("deacon")["server"], two.agent("deacon")["server"], "on servers of their own");
    one.call("deacon.restart", json!({"now": true}));
    one.process("a/witness").kill();
    one.wait_all_running();
    for town in [&one, &two] {
        town.call("daemon.heartbeat", json!({}));
    }
    assert_eq!(two.running(), theirs, "nothing of the other is touched");
    assert_ne!(one.running(), mine);
    one.gtctl(&["down", "--yes"]).ok();
    assert_eq!(two.running(), theirs);
    two.call("daemon.heartbeat", json!({}));
    assert_eq!(two.running(), theirs);
}

#[test]
fn down_while_agents_are_starting_leaves_nobody() {
    let town = Setup::new().deacon().rigs(&["a", "b", "c"]).toml("[start]\nconcurrency = 1").make();
    for delay in [0u64, 5, 20, 60, 150, 400] {
        town.start();
        if delay > 0 {
            town.call("town.start", json!({"wait_ms": 0}));
        }
        chaos_delay(Duration::from_millis(delay));
        let down = town.gtctl(&["down", "--now", "--yes"]);
        assert_eq!(down.code, 0, "{down:?}");
        town.wait_daemon(CHANGE);
        let alive: Vec<String> = town
            .journal()
            .iter()
            .filter(|entry| entry.process.alive())
            .map(|entry| entry.agent.clone())
            .collect();
        assert!(alive.is_empty(), "after {delay} ms: {alive:?}");
    }
    // The hold stays: who comes up then starts nobody.
    town.start();
    town.call("daemon.heartbeat", json!({}));
    assert!(town.running().is_empty());
    town.gtctl(&["up"]).ok();
    town.wait_all_running();
    town.wait_state("deacon", "running");
    town.assert_never_two();
}
