//! Bad days of tmux, and people at its panes.

use std::time::{Duration, Instant};

use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, chaos_delay, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A server that hangs is found soon.
const IMPATIENT: &str = "[tmux]\ncommand_timeout = \"300ms\"";
/// No breaker between a death and the return.
const NO_BREAKERS: &str = "[restart]\nburst = 0\nchurn_deaths = 0\n[mass_death]\nthreshold = 0";

fn text<'a>(agent: &'a Value, field: &str) -> &'a str {
    agent[field].as_str().unwrap_or_default()
}

#[track_caller]
fn server_dies_under_agents_that_ignore_hangups(end: impl FnOnce(&Town, Process)) {
    let town = Setup::new()
        .rigs(&["a", "b"])
        .toml(NO_BREAKERS)
        .toml("[stop]\ngrace = \"500ms\"")
        .script(&["ignore:HUP,TERM", "fork:setsid", "idle"])
        .up();
    let before = town.running();
    let old: Vec<Process> = before.iter().map(|(agent, ..)| town.process(agent)).collect();
    let server = town.tmux().server();
    end(&town, server);
    assert!(wait_until(QUICK, || !server.alive()));
    for (agent, instance, _) in &before {
        town.wait_new_instance(agent, instance);
    }
    town.assert_never_two();
    assert!(old.iter().all(|process| !process.alive()), "nothing of the old ones lives on unseen");
    assert_ne!(town.tmux().server(), server);
    let events = town.events(0);
    assert!(events.iter().any(|event| event["kind"] == "tmux.server_died"), "{events:#?}");
    let exits = town.call("agent.exits", json!({"limit": 4}));
    for exit in exits["items"].as_array().unwrap() {
        assert_eq!(exit["cause"], "server_gone", "{exit:#}");
    }
}

#[test]
fn tmux_server_killed_with_agents_that_ignore_sighup_brings_all_back_and_never_two_in_a_directory() {
    server_dies_under_agents_that_ignore_hangups(|_, server| server.kill());
}

#[test]
fn tmux_kill_server_with_agents_that_ignore_sighup_brings_all_back_and_never_two_in_a_directory() {
    server_dies_under_agents_that_ignore_hangups(|town, _| {
        let _ = town.tmux().try_run(&["kill-server"]);
    });
}

#[test]
fn tmux_server_killed_while_the_daemon_is_down_brings_all_back() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).script(&["ignore:HUP", "idle"]).up();
    let before = town.running();
    let server = town.tmux().server();
    town.kill_daemon();
    server.kill();
    town.start();
    for (agent, instance, _) in &before {
        town.wait_new_instance(agent, instance);
    }
    town.assert_never_two();
}

#[test]
fn a_stopped_tmux_server_makes_agents_unknown_and_everything_else_goes_on() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(IMPATIENT).up();
    let before = town.running();
    let process = town.process("a/witness");
    let tmux = town.tmux();
    let server = tmux.server();
    server.signal(Signal::STOP);
    assert!(wait_until(QUICK, || server.stopped()));
    let began = Instant::now();
    let _ = town.try_call("daemon.heartbeat", json!({}));
    assert!(began.elapsed() < CHANGE, "a heartbeat does not hang: {:?}", began.elapsed());
    town.wait_agent("a/witness", CHANGE, "unknown", |agent| agent["state"] == "unknown");
    // The daemon answers as quickly as ever, and other things go on.
    let began = Instant::now();
    let status = town.call("town.status", json!({}));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(status["tmux"][0]["state"], "unresponsive", "{status:#}");
    assert!(process.alive() && server.alive(), "unknown kills nothing");
    town.make_rig("late");
    town.write_registry(&["a", "late"]);
    wait_for(QUICK, "the new rig is seen meanwhile", || {
        let list = town.call("rig.list", json!({}));
        list["items"].as_array()?.iter().find(|rig| rig["name"] == "late").map(|_| ())
    });
    let error = town.call_fails("witness.start", json!({"rig": "late", "wait_ms": 3000}));
    assert!([1009, 1013].contains(&error.code), "{error:?}");
    assert_eq!(town.starts("a/witness").len(), 1, "unknown starts nothing");

    server.signal(Signal::CONT);
    town.wait_state("a/witness", "running");
    town.wait_agent("late/witness", CHANGE, "running", |agent| agent["state"] == "running");
    let after: Vec<_> = town.running().into_iter().filter(|(agent, ..)| agent == "a/witness").collect();
    assert_eq!(after, before, "the same instance, with its pid");
    assert_eq!(town.tmux().server(), server, "no second server was made while the first lived");
    town.assert_never_two();
}

#[test]
fn a_daemon_that_starts_under_a_stopped_tmux_server_waits_for_it() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(IMPATIENT).up();
    let before = town.running();
    let server = town.tmux().server();
    town.kill_daemon();
    server.signal(Signal::STOP);
    town.start();
    let began = Instant::now();
    town.call("town.status", json!({}));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(town.starts("a/witness").len(), 1);
    server.signal(Signal::CONT);
    town.wait_state("a/witness", "running");
    assert_eq!(town.running(), before);
    town.assert_never_two();
}

#[test]
fn a_user_who_splits_the_pane_sees_no_false_death_and_keeps_the_pane() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.agent("a/witness");
    let tmux = town.tmux();
    let note = town.home().join("env-of-the-user");
    let line = format!("env > {}; exec sleep 1000", note.display());
    let shown = tmux.run(&[
        "split-window",
        "-d",
        "-t",
        text(&before, "pane"),
        "-P",
        "-F",
        "#{pane_id} #{pane_pid}",
        &line,
    ]);
    let (pane, pid) = shown.split_once(' ').unwrap();
    let user = Process::of(pid.parse().unwrap()).unwrap();
    let environment = wait_for(QUICK, "the user's environment", || {
        std::fs::read_to_string(&note).ok().filter(|text| text.contains("TMUX_PANE="))
    });
    assert!(!environment.contains("GT_INSTANCE") && !environment.contains("GT_TOWN_ID"), "{environment}");

    let seq = town.seq();
    town.call("daemon.heartbeat", json!({}));
    let after = town.agent("a/witness");
    assert_eq!((&after["instance"], &after["state"]), (&before["instance"], &json!("running")), "{after:#}");
    assert!(!town.events(seq).iter().any(|event| event["kind"] == "agent.exited"), "no false death");

    // A restart takes place in the same session and leaves the user's pane alone.
    town.process("a/witness").kill();
    let new = town.wait_new_instance("a/witness", text(&before, "instance"));
    assert_eq!(new["session"], before["session"], "{new:#}");
    assert!(user.alive(), "the user's pane survives the restart");
    assert!(tmux.run(&["list-panes", "-a", "-F", "#{pane_id}"]).lines().any(|line| line == pane));

    // So does a stop.
    town.call("witness.stop", json!({"rig": "a"}));
    assert!(user.alive(), "and the stop");
    tmux.run(&["kill-pane", "-t", pane]);
    assert!(wait_until(QUICK, || !user.alive()));
}

#[test]
fn a_user_who_closes_the_agents_pane_gets_it_back_and_keeps_their_own() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.agent("a/witness");
    let tmux = town.tmux();
    let shown = tmux.run(&[
        "split-window",
        "-d",
        "-t",
        text(&before, "pane"),
        "-P",
        "-F",
        "#{pane_id}",
        "exec sleep 1000",
    ]);
    tmux.run(&["kill-pane", "-t", text(&before, "pane")]);
    let new = town.wait_new_instance("a/witness", text(&before, "instance"));
    assert_ne!(new["pane"], before["pane"]);
    assert!(tmux.run(&["list-panes", "-a", "-F", "#{pane_id}"]).lines().any(|line| line == shown));
    tmux.run(&["kill-pane", "-t", &shown]);
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(exits["items"][0]["cause"], "pane_closed", "{exits:#}");
    town.assert_never_two();
}

#[test]
fn a_session_that_is_closed_is_a_crash_and_comes_back() {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(NO_BREAKERS)
        .script(&["ignore:HUP,TERM", "idle"])
        .toml("[stop]\ngrace = \"300ms\"")
        .up();
    let before = town.agent("a/witness");
    let old = town.process("a/witness");
    town.tmux().run(&["kill-session", "-t", text(&before, "session")]);
    town.wait_new_instance("a/witness", text(&before, "instance"));
    assert!(!old.alive());
    town.assert_never_two();
}

#[test]
fn ctrl_c_typed_into_the_pane_reaches_the_agent_only() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).up();
    let (before, other) = (town.agent("a/witness"), town.agent("a/refinery"));
    town.tmux().run(&["send-keys", "-t", text(&before, "pane"), "C-c"]);
    let new = town.wait_new_instance("a/witness", text(&before, "instance"));
    let exits = town.call("agent.exits", json!({"agent": "a/witness", "limit": 1}));
    assert_eq!(exits["items"][0]["signal"], 2, "{exits:#}");
    assert_eq!(new["session"], before["session"]);
    assert_eq!(town.agent("a/refinery")["pid"], other["pid"]);
}

#[test]
fn ctrl_c_typed_into_the_pane_of_an_agent_that_handles_it_changes_nothing() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["ignore:INT,QUIT", "echo"]).up();
    let before = town.running();
    let pane = text(&town.agent("a/witness"), "pane").to_owned();
    let tmux = town.tmux();
    tmux.run(&["send-keys", "-t", &pane, "C-c"]);
    tmux.run(&["send-keys", "-t", &pane, "C-\\"]);
    tmux.run(&["send-keys", "-t", &pane, "still there", "Enter"]);
    wait_for(QUICK, "the agent hears what is typed", || {
        let shown = town.call("agent.capture", json!({"agent": "a/witness"}));
        shown["lines"].to_string().contains("heard still there").then_some(())
    });
    assert_eq!(town.running(), before, "the same instance");
}

#[test]
fn ctrl_z_typed_into_the_pane_does_not_freeze_the_agent() {
    let town = Setup::new().rigs(&["a"]).no_refineries().script(&["echo"]).up();
    let before = town.running();
    let process = town.process("a/witness");
    let pane = text(&town.agent("a/witness"), "pane").to_owned();
    let tmux = town.tmux();
    for n in 0..5 {
        tmux.run(&["send-keys", "-t", &pane, "C-z"]);
        tmux.run(&["send-keys", "-t", &pane, &format!("word {n}"), "Enter"]);
        wait_for(QUICK, "the agent goes on and hears what is typed", || {
            let shown = town.call("agent.capture", json!({"agent": "a/witness"}));
            shown["lines"].to_string().contains(&format!("heard word {n}")).then_some(())
        });
        assert!(!process.stopped());
    }
    assert_eq!(town.running(), before, "the same instance");
}

#[test]
fn a_removed_tmux_socket_is_restored_and_no_second_server_made() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(IMPATIENT).toml(NO_BREAKERS).up();
    let before = town.agent("a/witness");
    let tmux = town.tmux();
    let server = tmux.server();
    std::fs::remove_file(&tmux.socket).unwrap();
    town.kill_daemon();
    town.start();
    town.wait_state("a/witness", "running");
    assert_eq!(town.agent("a/witness")["instance"], before["instance"], "the same instance");
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", text(&before, "instance"));
    assert_eq!(tmux.server(), server, "the same server, reachable again");
    town.assert_never_two();
}

/// A directory for the daemon's `PATH` in which only what is named is real.
fn path_with(town: &Town, fake_tmux: Option<&str>) -> String {
    let dir = town.base().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    for name in ["sh", "git", "sleep", "env", "cat"] {
        if let Some(real) = gtd_tests::programs::system(name) {
            let _ = std::os::unix::fs::symlink(real, dir.join(name));
        }
    }
    if let Some(script) = fake_tmux {
        gtd_tests::programs::script(&dir.join("tmux"), script);
    }
    dir.display().to_string()
}

/// Starts a daemon whose `tmux` is something else, looks, and then puts the real one there.
#[track_caller]
fn without_a_good_tmux(fake: Option<&str>, look: impl FnOnce(&Town)) {
    let town = Setup::new()
        .rigs(&["a"])
        .no_refineries()
        .toml(IMPATIENT)
        .toml("[daemon]\nheartbeat_interval = \"1s\"")
        .make();
    let path = path_with(&town, fake);
    let town = town.with_env("PATH", &path);
    town.start();
    let began = Instant::now();
    let status = town.call("town.status", json!({}));
    assert!(began.elapsed() < Duration::from_secs(1), "it answers: {:?}", began.elapsed());
    assert_eq!(status["rigs"][0]["name"], "a", "{status:#}");
    wait_for(CHANGE, "degraded, and says why", || {
        let status = town.call("daemon.status", json!({}));
        (status["degraded"] == true && status["reasons"].to_string().contains("tmux")).then_some(())
    });
    let error = town.call_fails("witness.start", json!({"rig": "a", "wait_ms": 5000}));
    assert!([1009, 1013].contains(&error.code), "{error:?}");
    look(&town);
    // It leaves degraded mode by itself when tmux comes back.
    let real = gtd_tests::programs::system("tmux").unwrap();
    let _ = std::fs::remove_file(town.base().join("bin/tmux"));
    std::os::unix::fs::symlink(real, town.base().join("bin/tmux")).unwrap();
    town.wait_agent("a/witness", Duration::from_secs(30), "running", |agent| agent["state"] == "running");
    wait_for(CHANGE, "no longer degraded", || {
        (town.call("daemon.status", json!({}))["degraded"] == false).then_some(())
    });
}

#[test]
fn a_tmux_that_hangs_leaves_the_daemon_degraded_until_it_is_mended() {
    without_a_good_tmux(Some("#!/bin/sh\nexec sleep 1000\n"), |town| {
        // Nothing that hangs is left lying about.
        chaos_delay(Duration::from_millis(500));
        let hanging = gtd_tests::procs::descendants(town.daemon().unwrap().pid);
        assert!(hanging.len() <= 3, "{hanging:?}");
    });
}

#[test]
fn a_missing_tmux_leaves_the_daemon_degraded_until_it_is_installed() {
    without_a_good_tmux(None, |_| ());
}

#[test]
fn a_tmux_that_is_too_old_is_named_with_its_version() {
    without_a_good_tmux(Some("#!/bin/sh\necho tmux 3.1c\n"), |town| {
        let status = town.call("daemon.status", json!({}));
        let reasons = status["reasons"].to_string();
        assert!(reasons.contains("3.1") && reasons.contains("3.2"), "{reasons}");
    });
}

#[test]
fn a_tmux_that_fails_leaves_the_daemon_degraded_until_it_is_mended() {
    without_a_good_tmux(
        Some("#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n"),
        |_| (),
    );
}

#[test]
fn a_tmux_that_prints_junk_leaves_the_daemon_degraded_until_it_is_mended() {
    without_a_good_tmux(Some("#!/bin/sh\nprintf '\\377\\001%%begin junk\\n\\n'\n"), |_| ());
}

#[test]
fn a_tmux_that_is_good_by_its_version_and_prints_junk_is_believed_nothing() {
    let script = "#!/bin/sh\ncase \"$1\" in -V) echo tmux 3.4 ;; *) printf '%%%%begin 1 2 3\\n\\377junk $1 %%7\\n' ;; esac\n";
    without_a_good_tmux(Some(script), |town| {
        assert!(town.starts("a/witness").is_empty());
        assert_eq!(town.agent("a/witness")["running"], false);
    });
}
