//! Many deaths at once: recognised, held where that helps, and over once.

use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, chaos_delay, programs, wait_for, wait_until};
use serde_json::{Value, json};

/// Only the mass-death breaker delays anybody; and a busy machine may take its time to tell of three deaths.
const NO_OTHERS: &str =
    "[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\nsettle = \"300ms\"";
/// Numbers that a test can wait for.
const SHORT: &str = "[mass_death]\nhold = \"1500ms\"\nhold_max = \"30s\"\ncanary = \"500ms\"";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn incidents(town: &Town) -> Vec<Value> {
    town.call("deaths.incidents", json!({}))["items"].as_array().cloned().unwrap_or_default()
}

fn of_kind(town: &Town, kind: &str) -> Vec<Value> {
    town.events(0).into_iter().filter(|event| event["kind"] == kind).collect()
}

#[track_caller]
fn wait_closed(town: &Town, limit: Duration) -> Value {
    wait_for(limit, "one incident, closed", || {
        let all = incidents(town);
        all.first().filter(|incident| all.len() == 1 && incident["state"] == "closed").cloned()
    })
}

/// One event opens it and one closes it, and both are of the same incident.
#[track_caller]
fn assert_told_once(town: &Town, incident: &Value) {
    let (opened, closed) = (of_kind(town, "incident.opened"), of_kind(town, "incident.closed"));
    assert_eq!((opened.len(), closed.len()), (1, 1), "{opened:#?} {closed:#?}");
    let (opened, closed) = (&opened[0]["data"], &closed[0]["data"]);
    assert_eq!(opened["id"], incident["id"]);
    assert_eq!(closed["id"], incident["id"]);
    assert!(opened["count"].is_u64() && opened["window_ms"].is_u64(), "{opened:#}");
    assert!(opened["sessions"].as_array().is_some_and(|all| !all.is_empty()), "{opened:#}");
    assert_eq!(closed["recovered"], incident["recovered"], "{closed:#}");
    assert!(closed["duration_ms"].is_u64(), "{closed:#}");
}

#[track_caller]
fn wait_back(town: &Town, before: &[(String, String, i64)], limit: Duration) {
    for (agent, instance, _) in before {
        town.wait_agent(agent, limit, "back", |now| {
            now["state"] == "running" && now["running"] == true && now["instance"] != **instance
        });
    }
}

fn kill(town: &Town, agents: &[(String, String, i64)]) {
    let processes: Vec<Process> = agents.iter().map(|(agent, ..)| town.process(agent)).collect();
    for process in processes {
        process.kill();
    }
}

#[test]
fn three_of_twenty_killed_within_a_second_are_one_incident_and_back_within_13_s() {
    let rigs = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];
    let town = Setup::new().rigs(&rigs).up();
    let before = town.running();
    assert_eq!(before.len(), 20);
    let began = Instant::now();
    kill(&town, &before[..3]);
    let open = wait_for(QUICK, "an open incident", || {
        let status = town.call("town.status", json!({}));
        status["incidents"].as_array()?.first().cloned()
    });
    assert_eq!((&open["count"], text(&open, "cause")), (&json!(3), "crashes"), "{open:#}");
    let reason = format!("incident {}", text(&open, "id"));
    // Whoever had settled before the third was told is back already; it settles within 20 ms.
    let held = wait_for(QUICK, "somebody is held", || {
        let held = |now: &Value| {
            now["state"] == "backoff" && now["reason"] == *reason && now["next_attempt"].is_string()
        };
        let many = before[..3].iter().filter(|(agent, ..)| held(&town.agent(agent))).count();
        (many > 0).then_some(many)
    });
    assert!(held <= 3);
    let alert = town.alerts().into_iter().find(|alert| text(alert, "key").starts_with("incident:"));
    assert!(alert.is_some_and(|alert| alert["severity"] == "error" && alert["hint"].is_string()));
    wait_back(&town, &before[..3], Duration::from_secs(20));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(12), "10 s of hold, 2 s of canary: {took:?}");
    assert!(took < Duration::from_secs(13), "{took:?}");
    let closed = wait_closed(&town, QUICK);
    assert_eq!((&closed["recovered"], &closed["count"]), (&json!(3), &json!(3)), "{closed:#}");
    assert_told_once(&town, &closed);
    // Tools of the incumbent's read it under its name of old.
    wait_for(QUICK, "its line", || {
        let lines = std::fs::read_to_string(town.path(".events.jsonl")).ok()?;
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told: Vec<Value> = lines.filter(|line| line["type"] == "mass_death").collect();
        (told.len() == 1 && told[0]["payload"]["count"] == 3).then_some(())
    });
    let others = &before[3..];
    assert!(others.iter().all(|other| town.running().contains(other)), "the other 17 went on");
    let exits = town.call("agent.exits", json!({"limit": 10}));
    let named = exits["items"].as_array().unwrap().iter().filter(|exit| exit["incident"] == closed["id"]);
    assert_eq!(named.count(), 3, "{exits:#}");
    assert!(town.call("town.status", json!({}))["incidents"].as_array().unwrap().is_empty());
}

#[test]
fn three_deaths_by_three_causes_within_30_s_are_one_incident() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .no_refineries()
        .toml(NO_OTHERS)
        .toml(SHORT)
        .script(&["obey"])
        .up();
    let before = town.running();
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &before[0].1);
    assert!(incidents(&town).is_empty(), "one death is none");
    std::fs::write(town.journal_dir().join("exit-b-witness"), "3").unwrap();
    town.wait_new_instance("b/witness", &before[1].1);
    assert!(incidents(&town).is_empty(), "nor are two");
    // Further deaths of the same agents are no further agents.
    let again = text(&town.agent("a/witness"), "instance").to_owned();
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &again);
    assert!(incidents(&town).is_empty(), "nor is an agent that dies twice");
    town.tmux().run(&["kill-pane", "-t", text(&town.agent("c/witness"), "pane")]);
    let open = wait_for(QUICK, "an incident", || incidents(&town).first().cloned());
    assert_eq!(
        open["agents"],
        json!(["a/witness", "b/witness", "c/witness"]),
        "the latest death of each: {open:#}"
    );
    wait_back(&town, &before[2..3], CHANGE);
    let closed = wait_closed(&town, QUICK);
    assert_told_once(&town, &closed);
    let exits = town.call("deaths.list", json!({}));
    let exits = exits["items"].as_array().unwrap();
    let mut causes: Vec<&str> = exits
        .iter()
        .filter(|exit| exit["incident"] == closed["id"])
        .map(|exit| text(exit, "cause"))
        .collect();
    causes.sort_unstable();
    assert_eq!(causes, ["crash", "crash", "pane_closed"], "{exits:#?}");
    assert_eq!(exits.len(), 4, "the first death of the first one is listed, and belongs to none");
}

#[test]
fn a_tmux_server_killed_with_many_agents_is_one_incident_without_a_hold() {
    let rigs = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];
    let town = Setup::new().rigs(&rigs).up();
    let before = town.running();
    let began = Instant::now();
    let server = town.tmux().server();
    server.kill();
    wait_back(&town, &before, CHANGE);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "nothing is held: {took:?}");
    let closed = wait_closed(&town, QUICK);
    assert_eq!(
        (text(&closed, "cause"), &closed["count"], &closed["recovered"]),
        ("tmux_server", &json!(20), &json!(20)),
        "{closed:#}"
    );
    assert_told_once(&town, &closed);
    let started = of_kind(&town, "tmux.server_started").len();
    assert_eq!(started, 2, "the first, and one new one");
    town.assert_never_two();
}

#[test]
fn a_tmux_server_killed_under_agents_that_take_their_time_is_still_one_incident() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .toml("[stop]\ngrace = \"1500ms\"")
        .agent("slow", &["ignore:HUP,TERM", "idle"])
        .role("refinery", "slow")
        .up();
    let before = town.running();
    town.tmux().server().kill();
    wait_back(&town, &before, CHANGE);
    let closed = wait_closed(&town, QUICK);
    assert_eq!((text(&closed, "cause"), &closed["count"]), ("tmux_server", &json!(8)), "{closed:#}");
    assert_told_once(&town, &closed);
    town.assert_never_two();
}

#[test]
fn kill_9_of_the_daemon_while_an_incident_is_open_moves_no_deadline() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .no_refineries()
        .toml(NO_OTHERS)
        .toml("[mass_death]\nhold = \"4s\"\ncanary = \"500ms\"")
        .up();
    let before = town.running();
    let began = Instant::now();
    kill(&town, &before[..3]);
    let open = wait_for(QUICK, "an incident", || incidents(&town).first().cloned());
    town.kill_daemon();
    chaos_delay(Duration::from_millis(500));
    town.start();
    let again = incidents(&town);
    assert_eq!((again.len(), &again[0]["id"], &again[0]["opened_at"]), (1, &open["id"], &open["opened_at"]));
    assert_eq!(again[0]["held_until"], open["held_until"], "{again:#?}");
    assert!(before[..3].iter().all(|(agent, ..)| town.starts(agent).len() == 1), "nobody was started early");
    // And again, while one goes first.
    wait_for(CHANGE, "somebody goes first", || {
        incidents(&town).first()?["canary"].as_str().map(str::to_owned)
    });
    town.kill_daemon();
    town.start();
    wait_back(&town, &before[..3], CHANGE);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(4_400) && took < Duration::from_secs(12), "{took:?}");
    let closed = wait_closed(&town, QUICK);
    assert_told_once(&town, &closed);
    assert_eq!(closed["recovered"], 3, "{closed:#}");
    town.assert_never_two();
}

#[test]
fn deaths_while_the_daemon_is_down_are_an_incident_of_their_own_dates() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .no_refineries()
        .toml(NO_OTHERS)
        .toml("[mass_death]\nhold = \"60s\"")
        .up();
    let before = town.running();
    let processes: Vec<Process> = before.iter().map(|(agent, ..)| town.process(agent)).collect();
    town.kill_daemon();
    for process in &processes[..3] {
        process.kill();
    }
    assert!(wait_until(QUICK, || processes[..3].iter().all(|process| !process.alive())));
    town.start();
    let open = wait_for(QUICK, "an incident", || incidents(&town).first().cloned());
    assert_eq!((&open["count"], text(&open, "state")), (&json!(3), "holding"), "{open:#}");
    assert!(before[..3].iter().all(|(agent, ..)| town.starts(agent).len() == 1), "nobody was started before");
    // A person is not held up: by a start, nor by a reset.
    town.call("witness.start", json!({"rig": "a"}));
    town.call("agent.reset", json!({"agent": "b/witness"}));
    wait_back(&town, &before[..2], CHANGE);
    assert_eq!(town.agent("c/witness")["state"], "backoff");
    let shown = town.gtctl(&["deaths", "incidents"]).ok();
    assert!(shown.out.contains("holding") && shown.out.contains("crashes"), "{shown:?}");
    // With the last one stopped nobody waits any more.
    town.call("witness.stop", json!({"rig": "c"}));
    let closed = wait_closed(&town, QUICK);
    assert_eq!(closed["recovered"], 2, "{closed:#}");
    assert_told_once(&town, &closed);
}

#[test]
fn a_canary_that_dies_doubles_the_hold() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .no_refineries()
        .toml(NO_OTHERS)
        .toml(SHORT)
        .agent("weak", &["unless:{J}/well", "die:KILL", "idle"])
        .role("witness", "weak")
        .make();
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    town.start();
    town.wait_all_running();
    let before = town.running();
    std::fs::remove_file(town.journal_dir().join("well")).unwrap();
    kill(&town, &before[..3]);
    // The first to go dies at once: once, twice; nobody else goes meanwhile.
    wait_for(CHANGE, "two that went first and died", || {
        let exits = of_kind(&town, "agent.exited");
        (exits.iter().filter(|exit| exit["agent"] == "a/witness").count() >= 3).then_some(())
    });
    std::fs::write(town.journal_dir().join("well"), "").unwrap();
    for agent in ["b/witness", "c/witness"] {
        assert_eq!(town.starts(agent).len(), 1, "{agent} waits");
    }
    let starts = town.starts("a/witness");
    let gap =
        |a: usize, b: usize| Duration::from_nanos(u64::try_from(starts[b].at_ns - starts[a].at_ns).unwrap());
    let second = gap(1, 2);
    assert!(second >= Duration::from_millis(2_950), "1.5 s, doubled: {second:?}");
    wait_back(&town, &before[..3], Duration::from_secs(20));
    let closed = wait_closed(&town, QUICK);
    assert_told_once(&town, &closed);
    assert_eq!(text(&closed, "canary"), "a/witness", "{closed:#}");
    let opened: gtd_proto::Timestamp = text(&closed, "opened_at").parse().unwrap();
    let over: gtd_proto::Timestamp = text(&closed, "closed_at").parse().unwrap();
    let lasted = Duration::try_from(over.duration_since(opened)).unwrap();
    assert!(lasted >= Duration::from_millis(1_500 + 3_000 + 6_000), "holds of 1.5, 3 and 6 s: {lasted:?}");
}

#[test]
fn requested_stops_and_clean_ends_are_no_incident() {
    let town = Setup::new()
        .rigs(&["a", "b", "c", "d"])
        .toml(NO_OTHERS)
        .toml("min_uptime = \"0s\"\n[mass_death]\nhold = \"60s\"")
        .script(&["obey"])
        .up();
    let before = town.running();
    for (agent, ..) in &before {
        let (rig, role) = agent.split_once('/').unwrap();
        if role == "refinery" {
            town.call("refinery.restart", json!({"rig": rig, "now": true, "wait_ms": 0}));
        } else {
            std::fs::write(town.journal_dir().join(format!("exit-{rig}-{role}")), "0").unwrap();
        }
    }
    wait_back(&town, &before, CHANGE);
    for rig in ["a", "b", "c", "d"] {
        town.call("witness.stop", json!({"rig": rig, "force": true}));
    }
    assert!(incidents(&town).is_empty() && of_kind(&town, "incident.opened").is_empty());
    let deaths = town.call("deaths.list", json!({}));
    let causes: Vec<&str> =
        deaths["items"].as_array().unwrap().iter().map(|exit| text(exit, "cause")).collect();
    assert_eq!(causes, ["clean"; 4], "what was asked for is no death: {deaths:#}");
}

#[test]
fn the_breaker_can_be_switched_off() {
    let town =
        Setup::new().rigs(&["a", "b", "c", "d"]).toml(NO_OTHERS).toml("[mass_death]\nthreshold = 0").up();
    let before = town.running();
    kill(&town, &before);
    wait_back(&town, &before, CHANGE);
    assert!(incidents(&town).is_empty());
}

#[test]
fn deaths_are_listed_since_an_instant_newest_first() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml(NO_OTHERS).script(&["obey"]).up();
    let before = town.running();
    town.process("a/witness").kill();
    wait_back(&town, &before[..1], CHANGE);
    let between = gtd_proto::Timestamp::now();
    std::fs::write(town.journal_dir().join("exit-b-witness"), "7").unwrap();
    wait_back(&town, &before[1..], CHANGE);
    let listed = |params: Value| {
        let list = town.call("deaths.list", params);
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|exit| text(exit, "agent").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(json!({})), ["b/witness", "a/witness"]);
    assert_eq!(listed(json!({"limit": 1})), ["b/witness"]);
    assert_eq!(listed(json!({"since": between})), ["b/witness"]);
    let shown = town.gtctl(&["deaths", "--since", "1h"]).ok();
    assert!(
        shown.out.contains("crash") && shown.out.contains("signal 9") && shown.out.contains("code 7"),
        "{shown:?}"
    );
    let json = town.gtctl(&["deaths", "--since", "1h", "--json"]).ok().json();
    assert_eq!(
        (&json["kind"], json["result"]["items"].as_array().unwrap().len()),
        (&json!("deaths.list"), 2)
    );
    assert!(town.gtctl(&["deaths", "incidents"]).ok().out.is_empty());
}

#[test]
fn starts_go_by_priority_in_waves_of_the_concurrency() {
    let town = Setup::new().rigs(&["a", "b", "c", "d"]).toml("[start]\nconcurrency = 1").up();
    let order = |since: usize| {
        let mut starts: Vec<_> = town.journal().into_iter().filter(|e| e.detail.is_empty()).collect();
        starts.sort_by_key(|entry| entry.at_ns);
        starts.into_iter().skip(since).map(|entry| entry.agent).collect::<Vec<_>>()
    };
    let expected = [
        "a/witness",
        "b/witness",
        "c/witness",
        "d/witness",
        "a/refinery",
        "b/refinery",
        "c/refinery",
        "d/refinery",
    ];
    assert_eq!(order(0), expected);
    town.call("town.stop", json!({"force": true}));
    town.call("town.start", json!({}));
    assert_eq!(order(8), expected, "and again by `up`");
}

/// A program that a user started in a terminal of their own, with an agent's environment copied.
fn users_program(town: &Town, agent: &str) -> (std::process::Child, Process) {
    let mut command = programs::bare("sleep", &town.home());
    command.env_clear().envs(town.process(agent).environment()).arg("1000");
    use std::os::unix::process::CommandExt;
    let child = command.process_group(0).spawn().unwrap();
    let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    let marked = wait_until(QUICK, || process.environment().contains_key("GT_INSTANCE"));
    assert!(marked, "it carries the mark: {:?}", process.environment());
    (child, process)
}

#[test]
fn a_users_program_that_inherited_the_mark_survives_every_path() {
    let town = Setup::new().rigs(&["a", "b", "c"]).no_refineries().toml(NO_OTHERS).toml(SHORT).up();
    let (mut child, user) = users_program(&town, "a/witness");
    let lives = |after: &str| assert!(user.alive(), "gone after {after}");
    town.call("witness.restart", json!({"rig": "a", "force": true}));
    lives("a restart");
    town.call("witness.stop", json!({"rig": "a"}));
    lives("a stop");
    town.call("witness.start", json!({"rig": "a"}));
    let before = town.running();
    kill(&town, &before);
    wait_back(&town, &before, Duration::from_secs(30));
    lives("a mass death");
    // Also where the shim can tell nothing any more, and everything is looked for by proof.
    let before = town.running();
    let shim = town.agent("a/witness")["shim_pid"].as_i64().unwrap();
    Process::of(i32::try_from(shim).unwrap()).unwrap().kill();
    wait_back(&town, &before[..1], Duration::from_secs(30));
    lives("the death of a shim");
    let before = town.running();
    town.tmux().server().kill();
    wait_back(&town, &before, Duration::from_secs(30));
    lives("the death of the tmux server");
    town.kill_daemon();
    town.start();
    town.wait_all_running();
    town.call("daemon.heartbeat", json!({}));
    lives("a crash of the daemon and a heartbeat");
    let down = town.call("town.stop", json!({"force": true}));
    lives("down");
    let listed = down["census"]["processes"].to_string();
    assert!(listed.contains(&format!("{}@", user.pid)), "it is reported: {down:#}");
    let signals = town.call("agent.signals", json!({}));
    let aimed = signals["items"].as_array().unwrap().iter().any(|sent| sent["pid"] == user.pid);
    assert!(!aimed, "{signals:#}");
    user.kill();
    let _ = child.wait();
}
