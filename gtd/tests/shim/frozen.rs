//! Frozen trees: that everything stands still, that it goes on as it was, and that nothing stays frozen.

use std::sync::Arc;

use gtd::process::record::{By, Phase};
use gtd::process::{
    Capture, EndOptions, ExitWatcher, Look, ProcessId, ProcessTable, Spare, end, observe, stillness,
};
use rustix::process::Signal;

use crate::support::{Case, Shim, Tmux, assert_dead, state, until};

/// Children that fork all the time, some in sessions of their own, each leaving its children to whoever takes them.
const FORKERS: &str = "
    sh -c 'echo $$ > $D/plain; while :; do (sleep 0.01 &) ; sleep 0.01; done' &
    setsid sh -c 'echo $$ > $D/session; while :; do setsid sh -c \"sleep 0.05\" & sleep 0.01; done' &
    (setsid sh -c 'echo $$ > $D/daemon; while :; do (setsid sleep 0.02 &); sleep 0.01; done' &)
    (setsid env -i D=$D /bin/sh -c 'echo $$ > $D/nameless; while :; do (/bin/sleep 0.05 &); /bin/sleep 0.01; done' &)
";

fn still(shim: &ProcessId) -> Option<usize> {
    let still = stillness(shim, None, |_| false).unwrap();
    still.is_whole().then_some(still.processes.len())
}

fn is_pending(id: &ProcessId) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.pid)).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (Signal::USR2.as_raw() - 1)) != 0
}

#[track_caller]
fn freeze(shim: &Shim<'_>) -> usize {
    shim.signal(Signal::USR1);
    let id = shim.id();
    until("everything stands still", || still(&id))
}

#[test]
fn whatever_forks_meanwhile_everything_stands_still_and_stays_so() {
    let case =
        Case::sh(&format!("{FORKERS} echo r > $D/ready; while :; do (sleep 0.01 &); sleep 0.01; done"));
    let shim = case.start();
    case.line("ready");
    let named = ["plain", "session", "daemon", "nameless"].map(|name| case.process(name));
    for _ in 0..5 {
        let many = freeze(&shim);
        assert!(many >= 5, "{many}");
        // One may wait in the kernel for a child that was stopped before its exec, and stops when it comes out.
        assert!(named.iter().all(|id| matches!(state(id), 'T' | 'D')));
        // Nothing is made by what stands still, and nothing wakes up by itself.
        for _ in 0..200 {
            assert_eq!(still(&shim.id()), Some(many));
        }
        let record = until("it is on record", || case.record().filter(|record| !record.frozen.is_empty()));
        assert_eq!(record.frozen.len(), many);
        shim.signal(Signal::USR2);
        for id in named.iter().chain([&shim.agent()]) {
            until("it goes on", || (state(id) != 'T').then_some(()));
        }
        until("that is on record", || case.record().filter(|record| record.frozen.is_empty()));
    }
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert!(record.survivors.is_empty() && record.frozen.is_empty());
    assert!(named.iter().all(|id| observe(id).is_dead()));
}

#[test]
fn what_stood_still_before_stays_so_and_one_that_was_not_frozen_is_not_let_go() {
    let case = Case::sh(
        "sh -c 'echo $$ > $D/stopped; kill -STOP $$; echo on > $D/went; exec sleep 60' & \
         sh -c 'echo $$ > $D/child; exec sleep 60' & wait; sleep 60",
    );
    let shim = case.start();
    let (stopped, child) = (case.process("stopped"), case.process("child"));
    until("it stopped itself", || (state(&stopped) == 'T').then_some(()));
    // Not frozen by anybody: the end of a freeze changes nothing.
    shim.signal(Signal::USR2);
    // Of two signals that wait, the lower number is read first.
    until("it was read", || (!is_pending(&shim.id())).then_some(()));
    freeze(&shim);
    assert_eq!(state(&child), 'T');
    shim.signal(Signal::USR2);
    until("the child goes on", || (state(&child) != 'T').then_some(()));
    until("so does the agent", || (state(&shim.agent()) != 'T').then_some(()));
    assert_eq!(state(&stopped), 'T', "that one is its owner's to let go");
    assert!(!case.path("went").exists());
    shim.signal(Signal::TERM);
    shim.finish();
    assert_dead(&stopped);
}

#[test]
fn a_frozen_tree_whose_agent_is_killed_ends_and_so_does_one_that_ignores_term() {
    let case = Case::sh(&format!("{FORKERS} wait; sleep 60"));
    let shim = case.start();
    let named = ["plain", "session", "daemon", "nameless"].map(|name| case.process(name));
    freeze(&shim);
    crate::support::kill(&shim.agent());
    let (_, record) = shim.finish();
    assert_eq!((record.signal, record.by), (Some(9), By::Agent));
    assert!(record.survivors.is_empty() && named.iter().all(|id| observe(id).is_dead()));

    let case = Case::sh("trap '' TERM; echo r > $D/ready; while :; do sleep 0.1; done");
    let shim = case.start();
    case.line("ready");
    freeze(&shim);
    shim.signal(Signal::TERM);
    let (_, record) = shim.finish();
    assert_eq!((record.signal, record.by), (Some(9), By::Term), "it was let go on, and had its grace");
}

#[test]
fn a_frozen_agent_ends_with_its_pane_and_with_its_server() {
    for server in [false, true] {
        let case = Case::sh("setsid sh -c 'echo $$ > $D/child; exec sleep 60' & echo r > $D/ready; sleep 60");
        let tmux = Tmux::new(case.dir.path());
        let pane = tmux.start(&case);
        case.line("ready");
        let child = case.process("child");
        let record = case.record_at(Phase::Running);
        crate::support::signal(&record.shim_id(), Signal::USR1);
        until("everything stands still", || still(&record.shim_id()));
        let words = if server { vec!["kill-server"] } else { vec!["kill-pane", "-t", &pane] };
        tmux.run(&words);
        let record = case.record_at(Phase::Gone);
        assert_eq!(record.by, if server { By::ServerGone } else { By::PaneClosed });
        assert_dead(&child);
        assert_dead(&record.agent_id().unwrap());
    }
}

#[test]
fn what_a_killed_shim_had_frozen_is_known_by_its_record_and_ended() {
    let case = Case::sh(
        "(setsid env -i /bin/sh -c 'echo $$ > '$D'/nameless; exec /bin/sleep 60' &); \
         setsid sh -c 'trap \"\" TERM; echo $$ > $D/deaf; exec sleep 60' & sleep 60",
    );
    let mut shim = case.start();
    let children = ["nameless", "deaf"].map(|name| case.process(name));
    freeze(&shim);
    let record = until("it is on record", || case.record().filter(|record| !record.frozen.is_empty()));
    let agent = shim.agent();
    shim.child.kill().unwrap();
    shim.wait();
    assert_dead(&agent);
    assert!(children.iter().all(|id| state(id) == 'T'), "nobody else would let them go");
    // As the next daemon does, which has nothing but records.
    let mut capture = Capture::new(case.launch.instance.clone(), [record.shim_id(), agent]);
    capture.descended(&record.shim_id(), record.frozen_ids(), record.started_at);
    let look: Arc<dyn Look> = Arc::new(Spare::default());
    capture.merge(&ProcessTable::read().unwrap(), look.as_ref());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let watcher = ExitWatcher::start().unwrap();
    let report = runtime.block_on(end(&watcher, &mut capture, &[], &look, EndOptions::default()));
    assert!(report.is_gone(), "{report:?}");
    assert!(children.iter().all(|id| observe(id).is_dead()));
}

#[test]
fn a_process_in_the_kernel_that_a_stop_waits_for_counts_as_still() {
    // A vfork'ed child that is stopped before its exec keeps its parent in the kernel; dash forks so.
    let case = Case::sh("echo r > $D/ready; while :; do /bin/true; done");
    let shim = case.start();
    case.line("ready");
    for _ in 0..50 {
        freeze(&shim);
        shim.signal(Signal::USR2);
        until("it goes on", || still(&shim.id()).is_none().then_some(()));
    }
    shim.signal(Signal::QUIT);
    shim.finish();
}
