//! Stop, kill, pause, and what happens to everything below the agent.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use gtd::process::record::By;
use gtd::process::{ProcessId, observe};
use rustix::process::Signal;

use crate::support::{Case, Tmux, assert_dead, kill, state, until};

/// Children of every kind, each writing its number; those that can ignore HUP and TERM.
const FAMILY: &str = "
    sh -c 'echo $$ > $D/plain; exec sleep 60' &
    sh -c 'trap \"\" HUP TERM; echo $$ > $D/deaf; while :; do sleep 1; done' &
    setsid sh -c 'trap \"\" TERM; echo $$ > $D/session; while :; do sleep 1; done' &
    (setsid sh -c 'trap \"\" TERM; sh -c \"echo \\$\\$ > $D/daemon; exec sleep 60\" & exit' &)
    (D=$D setsid env -i D=$D /bin/sh -c 'trap \"\" TERM; echo $$ > $D/nameless; for i in 1 2 3 4 5 6; do /bin/sleep 10; done' &)
    bash -c 'set -m; sh -c \"trap \\\"\\\" TERM; echo \\$\\$ > $D/group; exec sleep 60\" & wait' &
";
const MEMBERS: [&str; 6] = ["plain", "deaf", "session", "daemon", "nameless", "group"];

fn family(case: &Case) -> Vec<ProcessId> {
    MEMBERS.iter().map(|name| case.process(name)).collect()
}

#[test]
fn term_is_passed_to_the_agent() {
    let case = Case::sh(
        "trap 'echo asked > $D/asked; exit 5' TERM; echo ready > $D/ready; while :; do sleep 0.05; done",
    );
    let shim = case.start();
    case.line("ready");
    shim.signal(Signal::TERM);
    let (status, record) = shim.finish();
    assert_eq!(status.code(), Some(5));
    assert_eq!((record.code, record.by), (Some(5), By::Term));
    assert!(case.path("asked").exists());
}

#[test]
fn an_agent_that_ignores_term_is_killed_after_its_grace() {
    let case = Case::sh("trap '' TERM; echo ready > $D/ready; while :; do sleep 1; done");
    let shim = case.start();
    case.line("ready");
    let before = Instant::now();
    shim.signal(Signal::TERM);
    let (status, record) = shim.finish();
    assert!(before.elapsed() >= case.launch.grace);
    assert_eq!(status.code(), Some(128 + 9));
    assert_eq!((record.signal, record.by), (Some(9), By::Term));
}

#[test]
fn quit_kills_at_once() {
    let mut case = Case::sh("trap '' TERM; echo ready > $D/ready; while :; do sleep 1; done");
    case.launch.grace = Duration::from_secs(600);
    let shim = case.start();
    case.line("ready");
    shim.signal(Signal::TERM);
    shim.signal(Signal::QUIT);
    let (_, record) = shim.finish();
    assert_eq!((record.signal, record.by), (Some(9), By::Kill));
}

#[test]
fn nothing_below_the_agent_outlives_it_whoever_ends_it() {
    for (signal, by) in [
        (Some(Signal::TERM), By::Term),
        (Some(Signal::QUIT), By::Kill),
        (Some(Signal::HUP), By::PaneClosed),
        (None, By::Agent),
    ] {
        let case = Case::sh(&format!("{FAMILY} echo $$ > $D/agent; wait; sleep 60"));
        let shim = case.start();
        let family = family(&case);
        let agent = shim.agent();
        match signal {
            Some(signal) => shim.signal(signal),
            None => kill(&agent),
        }
        let (_, record) = shim.finish();
        // Not "soon": when the shim has gone, all is gone.
        for id in family.iter().chain([&agent]) {
            assert!(observe(id).is_dead(), "{signal:?}: {id} lives");
        }
        assert_eq!(record.by, by);
        assert!(record.survivors.is_empty(), "{:?}", record.survivors);
    }
}

#[test]
fn an_agent_that_ends_in_peace_takes_its_family_along() {
    let case = Case::sh(&format!("{FAMILY} while [ ! -e $D/leave ]; do sleep 0.02; done; exit 4"));
    let shim = case.start();
    let family = family(&case);
    let before = Instant::now();
    fs::write(case.path("leave"), "").unwrap();
    let (status, record) = shim.finish();
    assert_eq!((status.code(), record.code, record.by), (Some(4), Some(4), By::Agent));
    assert!(family.iter().all(|id| observe(id).is_dead()));
    assert!(before.elapsed() >= Duration::from_millis(250), "the deaf ones had their time");
}

#[test]
fn a_tmux_server_started_by_the_agent_is_spared_with_all_in_it() {
    let case = Case::sh(
        "tmux -f /dev/null -S $D/tmux new-session -d 'echo $$ > $D/inner; exec sleep 60'; \
         sh -c 'echo $$ > $D/child; exec sleep 60' & wait",
    );
    let tmux = Tmux::new(case.dir.path());
    let shim = case.start();
    let (inner, child) = (case.process("inner"), case.process("child"));
    let server = tmux.server();
    shim.signal(Signal::USR1);
    until("the child is frozen", || (state(&child) == 'T').then_some(()));
    assert_ne!(state(&inner), 'T');
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert!(observe(&child).is_dead());
    assert!(observe(&server).is_alive() && observe(&inner).is_alive());
    let spared: Vec<_> = record.spared.iter().map(|left| left.pid).collect();
    assert!(spared.contains(&server.pid) && spared.contains(&inner.pid), "{:?}", record.spared);
    assert!(record.survivors.is_empty());
    drop(tmux);
    assert_dead(&inner);
}

#[test]
fn listed_programs_and_a_working_gtd_are_spared() {
    let mut case = Case::sh(
        "cp /bin/sleep $D/keepme; cp /bin/sleep $D/gtd; \
         (setsid $D/keepme 60 & echo $! > $D/kept); \
         (exec 9> $D/daemon.lock; flock 9; setsid $D/gtd 60 & echo $! > $D/daemon); \
         (exec 9> $D/other.lock; flock 9; setsid $D/gtd 60 & echo $! > $D/idle); sleep 60",
    );
    case.launch.spare = vec!["keepme".into()];
    let shim = case.start();
    let ids = ["kept", "daemon", "idle"].map(|name| case.process(name));
    // Their names appear with exec.
    for id in &ids {
        until("exec", || observe(id).alive().filter(|stat| stat.comm != "sh" && stat.comm != "setsid"));
    }
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert!(observe(&ids[0]).is_alive() && observe(&ids[1]).is_alive());
    assert!(observe(&ids[2]).is_dead());
    assert_eq!(record.spared.len(), 2, "{:?}", record.spared);
}

#[test]
fn freeze_stops_the_tree_and_thaw_continues_it() {
    let case = Case::sh(&format!(
        "{FAMILY} (n=0; while :; do n=$((n+1)); echo $n > $D/count.tmp; mv $D/count.tmp $D/count; sleep 0.01; done) & wait; sleep 60"
    ));
    let shim = case.start();
    let family = family(&case);
    let agent = shim.agent();
    let count = || fs::read_to_string(case.path("count")).ok()?.trim().parse::<u64>().ok();
    until("it counts", || count().filter(|n| *n > 3));
    shim.signal(Signal::USR1);
    for id in family.iter().chain([&agent]) {
        until("all are stopped", || (state(id) == 'T').then_some(()));
    }
    let frozen_at = count();
    assert_ne!(state(&shim.id()), 'T', "the shim itself works on");
    assert_eq!(count(), frozen_at);
    shim.signal(Signal::USR2);
    until("it counts on", || (count() > frozen_at).then_some(()));
    for id in family.iter().chain([&agent]) {
        until("all go on", || (state(id) != 'T').then_some(()));
    }
    // Frozen processes end, too.
    shim.signal(Signal::USR1);
    until("frozen again", || (state(&agent) == 'T').then_some(()));
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert_eq!(record.signal, Some(15), "it was let go on to die of TERM");
    assert!(family.iter().all(|id| observe(id).is_dead()));
}

#[test]
fn two_hundred_deaf_children_are_ended() {
    let mut case = Case::sh(
        "trap '' TERM; for i in $(seq 200); do setsid sleep 60 & done; echo ready > $D/ready; \
         while :; do sleep 1; done",
    );
    case.launch.grace = Duration::from_millis(50);
    let shim = case.start();
    case.line("ready");
    until("all are there", || (case.marked().len() > 200).then_some(()));
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert!(record.survivors.is_empty());
    assert_eq!(case.marked(), []);
}

#[test]
fn children_that_fork_and_die_all_the_time_are_ended() {
    // Each lives for milliseconds and leaves another; it stops by itself after some thousands.
    let case =
        Case::sh("trap '' TERM; for i in 1 2 3; do setsid $D/churn 4000 & done; while :; do sleep 1; done");
    case.script(
        "churn",
        "#!/bin/sh\ntrap '' TERM HUP\necho x > $D/churned\n[ $1 -gt 0 ] && { setsid $D/churn $(($1 - 1)) & }\nexit 0\n",
    );
    let shim = case.start();
    case.line("churned");
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert!(record.survivors.is_empty());
    assert_eq!(case.marked(), []);
}

#[test]
fn a_signal_during_the_start_is_not_lost() {
    for _ in 0..20 {
        let case = Case::sh("sleep 60");
        let shim = case.start();
        until("the shim began", || case.record());
        shim.signal(Signal::TERM);
        let (status, record) = shim.finish();
        assert_eq!((record.signal, record.by), (Some(15), By::Term));
        assert_eq!((status.code(), status.signal()), (Some(143), None));
    }
}
