//! The shim in a real pane: the terminal, its keys, and its disappearance.

use std::time::{Duration, Instant};

use gtd::process::record::{By, Phase};
use gtd::process::{Observation, observe};

use crate::support::{Case, Tmux, assert_dead, kill, state, until};

#[test]
fn the_pane_shows_the_agent_and_keys_reach_only_it() {
    let case = Case::new(&[
        "/bin/bash",
        "-c",
        "trap 'echo int > $D/int' INT; trap 'echo quit > $D/quit' QUIT; cd /; echo r > $D/ready; while :; do read -t 0.05 x; done",
    ]);
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    until("the agent has the foreground", || {
        (tmux.show(&pane, "#{pane_current_command}") == "bash").then_some(())
    });
    assert_eq!(tmux.show(&pane, "#{pane_current_path}"), "/");
    let record = case.record_at(Phase::Running);
    assert_eq!(tmux.show(&pane, "#{pane_pid}"), record.shim.pid.to_string());
    tmux.run(&["send-keys", "-t", &pane, "C-c"]);
    case.line("int");
    tmux.run(&["send-keys", "-t", &pane, "C-\\"]);
    case.line("quit");
    assert!(observe(&record.shim_id()).is_alive() && observe(&record.agent_id().unwrap()).is_alive());
}

#[test]
fn ctrl_c_ends_an_agent_that_lets_it() {
    let case = Case::sh("echo r > $D/ready; exec sleep 60");
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    until("it sleeps", || (tmux.show(&pane, "#{pane_current_command}") == "sleep").then_some(()));
    tmux.run(&["send-keys", "-t", &pane, "C-c"]);
    let record = case.record_at(Phase::Gone);
    assert_eq!((record.signal, record.by), (Some(2), By::Agent));
}

#[test]
fn an_agent_that_was_stopped_from_the_keyboard_goes_on() {
    // It waits without children: one stopped between vfork and exec would keep a shell in the kernel, where
    // it does not stop, so that nobody could notice.
    let case = Case::new(&[
        "/bin/bash",
        "-c",
        "trap 'echo c > $D/continued' CONT; echo r > $D/ready; while :; do read -t 0.05 x; done",
    ]);
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    let agent = case.record_at(Phase::Running).agent_id().unwrap();
    for _ in 0..3 {
        let _ = std::fs::remove_file(case.path("continued"));
        tmux.run(&["send-keys", "-t", &pane, "C-z"]);
        case.line("continued");
        until("it runs", || matches!(state(&agent), 'S' | 'R').then_some(()));
    }
}

#[test]
fn a_sigstop_of_somebodys_is_left_alone() {
    let case = Case::sh("echo r > $D/ready; kill -STOP $$; echo x > $D/went-on; exec sleep 60");
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    let agent = case.record_at(Phase::Running).agent_id().unwrap();
    until("it is stopped", || (state(&agent) == 'T').then_some(()));
    // The shim has handled the stop once it has handled what came after it.
    let shim = case.record().unwrap().shim_id();
    until("the shim sleeps", || (state(&shim) == 'S').then_some(()));
    assert_eq!(state(&agent), 'T');
    assert!(!case.path("went-on").exists());
    tmux.run(&["kill-pane", "-t", &pane]);
    assert_eq!(case.record_at(Phase::Gone).by, By::PaneClosed);
}

#[test]
fn a_background_reader_does_not_keep_the_shim_busy() {
    // The agent gives the terminal to a child that keeps it, then reads: stopped by TTIN, brought back.
    let case = Case::new(&["/usr/bin/python3", "-c", "
import os, signal, sys, time
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0); os.tcsetpgrp(0, os.getpid()); open(os.environ['D'] + '/ready', 'w').write('r\\n'); time.sleep(60)
while not os.path.exists(os.environ['D'] + '/ready'): time.sleep(0.01)
line = sys.stdin.readline()
open(os.environ['D'] + '/read', 'w').write(line)
time.sleep(60)
"]);
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    let agent = case.record_at(Phase::Running).agent_id().unwrap();
    until("it has the terminal", || match observe(&agent) {
        Observation::Alive(stat) => (stat.foreground == agent.pid.get() && stat.state == 'S').then_some(()),
        _ => None,
    });
    tmux.run(&["send-keys", "-t", &pane, "hello", "Enter"]);
    assert_eq!(case.line("read"), "hello");
}

/// An agent and children that ignore the hang-up.
const DEAF: &str = "trap '' HUP; setsid sh -c 'trap \"\" HUP TERM; echo $$ > $D/child; while :; do sleep 1; done' & \
    echo $$ > $D/agent; while :; do sleep 1; done";

#[test]
fn a_closed_pane_and_a_dead_server_are_told_apart_and_leave_nothing() {
    for (what, by) in [
        ("kill-pane", By::PaneClosed),
        ("kill-session", By::PaneClosed),
        ("kill-server", By::ServerGone),
        ("KILL", By::ServerGone),
    ] {
        let case = Case::sh(DEAF);
        let tmux = Tmux::new(case.dir.path());
        let pane = tmux.start(&case);
        let (agent, child, server) = (case.process("agent"), case.process("child"), tmux.server());
        let shim = case.record_at(Phase::Running).shim_id();
        match what {
            "KILL" => kill(&server),
            "kill-server" => drop(tmux.run(&[what])),
            _ => drop(tmux.run(&[what, "-t", &pane])),
        }
        let record = case.record_at(Phase::Gone);
        assert_eq!(record.by, by, "{what}");
        assert!(record.survivors.is_empty(), "{what}");
        assert_dead(&shim);
        for id in [&agent, &child] {
            assert!(observe(id).is_dead(), "{what}: {id} lives");
        }
        assert_eq!(case.marked(), [], "{what}");
    }
}

#[test]
fn an_obedient_agent_goes_with_its_pane_without_waiting_for_the_grace() {
    let mut case = Case::sh("echo r > $D/ready; exec sleep 60");
    case.launch.grace = Duration::from_secs(600);
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    case.line("ready");
    let before = Instant::now();
    tmux.run(&["kill-pane", "-t", &pane]);
    let record = case.record_at(Phase::Gone);
    assert_eq!((record.by, record.signal), (By::PaneClosed, Some(1)));
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_shell_as_agent_has_its_job_control() {
    let case = Case::new(&["/bin/bash", "--norc", "-i"]);
    let tmux = Tmux::new(case.dir.path());
    let pane = tmux.start(&case);
    until("a shell is there", || (tmux.show(&pane, "#{pane_current_command}") == "bash").then_some(()));
    tmux.run(&["send-keys", "-t", &pane, "sleep 60", "Enter"]);
    until("a job runs", || (tmux.show(&pane, "#{pane_current_command}") == "sleep").then_some(()));
    tmux.run(&["send-keys", "-t", &pane, "C-z"]);
    until("the shell is back", || (tmux.show(&pane, "#{pane_current_command}") == "bash").then_some(()));
    tmux.run(&["send-keys", "-t", &pane, "jobs > $D/jobs; exit 3", "Enter", "exit 3", "Enter"]);
    assert!(case.line("jobs").contains("Stopped"));
    let record = case.record_at(Phase::Gone);
    assert_eq!(record.code, Some(3));
    assert!(record.survivors.is_empty());
}
