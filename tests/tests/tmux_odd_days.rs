//! What may become of a tmux server's socket and of launches that it was too slow for, while the daemon runs.

use std::process::{Command, Stdio};

use gtd_proto::InstanceId;
use gtd_tests::{CHANGE, Process, QUICK, Setup, Town, programs, wait_for, wait_until};
use serde_json::{Value, json};

const NO_BREAKERS: &str = "[restart]\nburst = 0\nchurn_deaths = 0\n[mass_death]\nthreshold = 0";

fn text<'a>(agent: &'a Value, field: &str) -> &'a str {
    agent[field].as_str().unwrap_or_default()
}

fn alert(town: &Town, key: &str) -> Option<Value> {
    town.alerts().into_iter().find(|alert| alert["key"] == key)
}

#[test]
fn a_socket_that_is_removed_under_a_running_daemon_is_restored_by_itself() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.running();
    let tmux = town.tmux();
    let server = tmux.server();
    for _ in 0..3 {
        std::fs::remove_file(&tmux.socket).unwrap();
        wait_for(CHANGE, "the socket is back", || tmux.try_run(&["list-sessions"]).ok());
        assert_eq!(tmux.server(), server, "the same server");
    }
    assert_eq!(town.running(), before, "nothing was restarted");
    wait_for(CHANGE, "the trouble is over", || alert(&town, "tmux:trouble").is_none().then_some(()));
    // Also as a person sees it: their terminal gets at the session.
    let attach = town.call("agent.attach", json!({"agent": "a/witness"}));
    assert!(attach["argv"].as_array().is_some_and(|argv| !argv.is_empty()), "{attach:#}");
}

#[test]
fn a_socket_that_another_server_takes_is_told_and_neither_server_is_touched() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.agent("a/witness");
    let tmux = town.tmux();
    let ours = tmux.server();
    let usurp = || {
        std::fs::remove_file(&tmux.socket).unwrap();
        let mut command: Command = programs::bare("tmux", &town.home());
        command.arg("-S").arg(&tmux.socket).args(["-f", "/dev/null", "new-session", "-d", "-s", "theirs"]);
        let made = command.args(["sleep", "1000"]).stdin(Stdio::null()).status();
        made.is_ok_and(|status| status.success()) && tmux.server() != ours
    };
    // The daemon may restore the socket in between; then it is taken again.
    assert!((0..20).any(|_| usurp()), "another server has the socket");
    let theirs = tmux.server();
    let told = wait_for(CHANGE, "an alert", || alert(&town, "tmux:trouble"));
    assert!(text(&told, "message").contains("another tmux server"), "{told:#}");
    assert_eq!(town.call("daemon.status", json!({}))["degraded"], true);
    // Work goes on over the connection that there is.
    town.process("a/witness").kill();
    let after = town.wait_new_instance("a/witness", text(&before, "instance"));
    assert_eq!(after["session"], before["session"], "on our server: {after:#}");
    assert_eq!(tmux.sessions(), ["theirs"], "nothing was made on theirs");
    assert!(ours.alive() && theirs.alive());
    // When they are gone, ours gets its socket back, and the alert ends.
    theirs.kill();
    assert!(wait_until(QUICK, || !theirs.alive()));
    wait_for(CHANGE, "our server is on its socket", || {
        let pid = tmux.try_run(&["display-message", "-p", "#{pid}"]).ok()?;
        (pid == ours.pid.to_string()).then_some(())
    });
    wait_for(CHANGE, "the alert ends", || alert(&town, "tmux:trouble").is_none().then_some(()));
    assert_eq!(town.agent("a/witness")["instance"], after["instance"]);
    town.assert_never_two();
}

#[test]
fn a_dead_pane_of_a_launch_that_was_called_off_is_swept_and_a_persons_is_not() {
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().toml(NO_BREAKERS).up();
    let tmux = town.tmux();
    town.call("witness.stop", json!({"rig": "a"}));
    wait_for(QUICK, "its session is closed", || {
        (!tmux.sessions().contains(&"gt-a-witness".into())).then_some(())
    });
    // A person's pane in a session of ours, with its marks, dead and kept.
    let other = town.agent("b/witness");
    let theirs = tmux.run(&[
        "split-window",
        "-d",
        "-t",
        text(&other, "pane"),
        "-P",
        "-F",
        "#{pane_id}",
        "exec sleep 1000",
    ]);
    tmux.run(&["set-option", "-p", "-t", &theirs, "remain-on-exit", "on"]);
    let pid = tmux.run(&["display-message", "-p", "-t", &theirs, "#{pane_pid}"]).parse().unwrap();
    Process::of(pid).unwrap().kill();
    let dead = |pane: &str| tmux.try_run(&["display-message", "-p", "-t", pane, "#{pane_dead}"]);
    wait_for(QUICK, "it is dead", || (dead(&theirs).ok()? == "1").then_some(()));

    // What is left when tmux makes, late, the session of a launch that was called off: our shim finds no launch
    // file and ends, in a pane with our marks of an instance that nobody knows. And one that is not of our shim.
    let status = town.call("town.status", json!({}));
    let leave = |name: &str, program: &[&str]| {
        let instance = InstanceId::generate().to_string();
        let launch = town.path(&format!("daemon/run/{instance}.launch")).display().to_string();
        let mut words = vec!["new-session", "-d", "-s", name, "-P", "-F", "#{pane_id}", "--"];
        words.extend(program.iter().map(|word| if *word == "LAUNCH" { launch.as_str() } else { word }));
        let target = format!("={name}:");
        for option in
            [["@gt_town", text(&status, "town_id")], ["@gt_agent", "a/witness"], ["@gt_instance", &instance]]
        {
            words.extend([";", "set-option", "-t", &target, option[0], option[1]]);
        }
        words.extend([";", "set-option", "-p", "-t", &target, "remain-on-exit", "on"]);
        let pane = tmux.run(&words);
        wait_for(QUICK, "it is dead", || (dead(&pane).ok()? == "1").then_some(()));
        pane
    };
    let shim = programs::program("gtd-shim").display().to_string();
    let ours = leave("gt-a-witness", &[&shim, "LAUNCH"]);
    let strange = leave("strange", &["/bin/sh", "-c", "sleep 0.2; exit 1"]);
    town.call("witness.start", json!({"rig": "a"}));
    let before = town.running();
    for _ in 0..3 {
        town.call("daemon.heartbeat", json!({}));
    }
    wait_for(QUICK, "it is swept", || dead(&ours).ok().is_none_or(|dead| dead.is_empty()).then_some(()));
    let swept: Vec<Value> =
        town.events(0).into_iter().filter(|event| event["kind"] == "sweep.killed").collect();
    assert_eq!(swept.len(), 1, "{swept:#?}");
    assert_eq!((text(&swept[0]["data"], "pane"), &swept[0]["agent"]), (ours.as_str(), &json!("a/witness")));
    assert_eq!(dead(&strange).as_deref(), Ok("1"), "what our shim did not run in stays");
    assert_eq!(town.running(), before);
    assert_eq!(dead(&theirs).as_deref(), Ok("1"), "the person's dead pane stays");
    assert_eq!(town.agent("b/witness")["instance"], other["instance"]);
    tmux.run(&["kill-pane", "-t", &theirs]);
    tmux.run(&["kill-pane", "-t", &strange]);
    town.assert_never_two();
}

#[test]
fn a_daemon_that_is_to_do_without_tmux_does_everything_else_and_says_why() {
    let town = Setup::new().rigs(&["a"]).no_refineries().env("GT_DEGRADED", "true").make();
    town.start();
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"], true);
    assert!(status["reasons"].to_string().contains("GT_DEGRADED"), "{status:#}");
    let error = town.call_fails("witness.start", json!({"rig": "a"}));
    assert_eq!(error.code, 1009, "{error:?}");
    let hint = error.data["hint"].to_string();
    assert!(error.message.contains("GT_DEGRADED") && !hint.contains("install"), "{error:?}");
    town.call("work.create", json!({"title": "t"}));
    town.call("daemon.heartbeat", json!({}));
    assert_ne!(town.agent("a/witness")["state"], "running");
    assert!(!town.path("daemon/run/tmux-0.sock").exists(), "no server was started");
}
