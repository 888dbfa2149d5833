//! Ending what belonged to a shim that was itself killed, and to processes that never had one.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gtd::process::{
    Capture, EndOptions, EndReport, ExitWatcher, Guard, Look, ProcessId, ProcessTable, Proof, Refused,
    Signal, Spare, Target, end, observe, send,
};

use crate::support::{Case, Tmux, assert_dead, until};

const OPTIONS: EndOptions = EndOptions { grace: Duration::from_millis(300), force: Duration::from_secs(5) };

fn look() -> Arc<dyn Look> {
    Arc::new(Spare::default())
}

fn captured(case: &Case, recorded: &[ProcessId]) -> Capture {
    let mut capture = Capture::new(case.launch.instance.clone(), recorded.iter().cloned());
    capture.merge(&ProcessTable::read().unwrap(), look().as_ref());
    capture
}

fn run(capture: &mut Capture, servers: &[ProcessId]) -> EndReport {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let watcher = ExitWatcher::start().unwrap();
    runtime.block_on(end(&watcher, capture, servers, &look(), OPTIONS))
}

#[test]
fn what_was_captured_is_ended_after_the_shim_was_killed() {
    let case = Case::sh(
        "setsid sh -c 'trap \"\" TERM; echo $$ > $D/deaf; while :; do sleep 1; done' & \
         (setsid env -i /bin/sh -c 'echo $$ > '$D'/nameless; exec /bin/sleep 60' &); \
         sh -c 'echo $$ > $D/group; exec sleep 60' & wait",
    );
    let mut shim = case.start();
    let children = ["deaf", "nameless", "group"].map(|name| case.process(name));
    let agent = shim.agent();
    let mut capture = captured(&case, &[shim.id(), agent.clone()]);
    shim.child.kill().unwrap();
    shim.wait();
    assert_dead(&agent);
    assert!(children.iter().all(|id| observe(id).is_alive()));
    let report = run(&mut capture, &[]);
    assert!(report.is_gone(), "{report:?}");
    assert!(children.iter().all(|id| observe(id).is_dead()));
    let signals: Vec<_> = report.signals.iter().map(|sent| (sent.target.clone(), sent.signal)).collect();
    assert!(signals.contains(&(children[0].clone(), Signal::Kill)));
    assert!(!signals.contains(&(children[1].clone(), Signal::Kill)), "TERM was enough for it");
    assert!(report.refused.is_empty() && report.unproven.is_empty(), "{report:?}");
}

#[test]
fn what_was_never_captured_is_found_by_group_or_only_reported() {
    let case = Case::sh(
        "while [ ! -e $D/go ]; do sleep 0.01; done; \
         sh -c 'echo $$ > $D/group; exec sleep 60' & \
         setsid sh -c 'echo $$ > $D/lost; exec sleep 60' & wait",
    );
    let mut shim = case.start();
    let agent = shim.agent();
    let mut capture = captured(&case, &[shim.id(), agent.clone()]);
    std::fs::write(case.path("go"), "").unwrap();
    let (group, lost) = (case.process("group"), case.process("lost"));
    shim.child.kill().unwrap();
    shim.wait();
    assert_dead(&agent);
    let report = run(&mut capture, &[]);
    assert!(report.is_gone());
    assert!(observe(&group).is_dead());
    assert!(observe(&lost).is_alive(), "a marker alone is no proof");
    assert!(report.signals.iter().all(|sent| sent.target == group || sent.target.pid != lost.pid));
}

#[test]
fn spared_servers_and_strangers_live_on() {
    let case = Case::sh(
        "tmux -f /dev/null -S $D/tmux new-session -d 'echo $$ > $D/inner; exec sleep 60'; \
         sh -c 'echo $$ > $D/child; exec sleep 60' & wait",
    );
    let tmux = Tmux::new(case.dir.path());
    let mut shim = case.start();
    let (inner, child) = (case.process("inner"), case.process("child"));
    let server = tmux.server();
    let agent = shim.agent();
    let mut stranger = Command::new("setsid")
        .args(["sleep", "60"])
        .env("GT_INSTANCE", &case.launch.instance)
        .spawn()
        .unwrap();
    let mut capture = captured(&case, &[shim.id(), agent]);
    shim.child.kill().unwrap();
    shim.wait();
    let report = run(&mut capture, &[]);
    assert!(report.is_gone());
    assert!(observe(&child).is_dead());
    assert!(observe(&server).is_alive() && observe(&inner).is_alive());
    assert!(stranger.try_wait().unwrap().is_none());
    // The primitive itself refuses a server, whatever the proof.
    let guard = Guard::from_table(&ProcessTable::read().unwrap(), []).unwrap();
    let target = Target::new(server.clone(), Proof::Recorded);
    assert_eq!(send(&guard, &target, Signal::Kill), Err(Refused::TmuxServer(server)));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn processes_that_never_had_a_shim_are_ended_by_recorded_identity() {
    // As an adopted session: a pane of a server, no shim in it.
    let case = Case::sh("");
    let tmux = Tmux::new(case.dir.path());
    let script = case.script(
        "adopted",
        "#!/bin/sh\ntrap '' TERM HUP\ncd ${0%/*}\nsetsid sh -c 'echo $$ > child; exec sleep 60' &\necho $$ > agent\nwhile :; do sleep 1; done\n",
    );
    tmux.run(&["new-session", "-d", "-s", "keep", "sleep 120"]);
    tmux.run(&["new-session", "-d", "--", script.to_str().unwrap()]);
    let (agent, child, server) = (case.process("agent"), case.process("child"), tmux.server());
    let mut capture = captured(&case, std::slice::from_ref(&agent));
    let report = run(&mut capture, std::slice::from_ref(&server));
    assert!(report.is_gone(), "{report:?}");
    assert!(observe(&agent).is_dead() && observe(&child).is_dead() && observe(&server).is_alive());
    let proof = report.signals.iter().find(|sent| sent.target == agent).map(|sent| sent.proof.clone());
    assert_eq!(proof, Some(Proof::Recorded));
}

#[test]
fn a_flood_of_children_is_ended_without_a_shim() {
    let case = Case::sh(
        "trap '' TERM; for i in $(seq 100); do sleep 60 & done; for i in 1 2 3; do $D/churn 3000 & done; \
         while :; do sleep 0.1; done",
    );
    case.script("churn", "#!/bin/sh\ntrap '' TERM HUP\necho x > $D/churned\n[ $1 -gt 0 ] && { $D/churn $(($1 - 1)) & }\nexit 0\n");
    let mut shim = case.start();
    case.line("churned");
    let agent = shim.agent();
    let mut capture = captured(&case, &[shim.id(), agent]);
    shim.child.kill().unwrap();
    shim.wait();
    let report = run(&mut capture, &[]);
    assert!(report.is_gone(), "{:?} {:?}", report.survivors, report.unverified);
    until("nothing is left", || case.marked().is_empty().then_some(()));
}

#[test]
fn nothing_to_end_is_an_end() {
    let case = Case::sh("exit 0");
    let mut shim = case.start();
    let record = gtd::process::record::Phase::Gone;
    let record = case.record_at(record);
    shim.wait();
    let mut capture = captured(&case, &[record.shim_id(), record.agent_id().unwrap()]);
    let report = run(&mut capture, &[]);
    assert!(report.is_gone() && report.signals.is_empty());
}
