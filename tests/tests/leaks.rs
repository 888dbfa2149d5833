//! Nothing piles up, nothing leaks out.

use std::time::Duration;

use gtd_tests::{Process, QUICK, Setup, Town, chaos_delay, procs, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

const NO_BREAKERS: &str = "[restart]\nbase = \"10ms\"\nmax = \"10ms\"\nburst = 0\nchurn_deaths = 0\n\
                           [mass_death]\nthreshold = 0\n[stop]\ngrace = \"500ms\"";

fn open_files(process: Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid)).map_or(0, Iterator::count)
}

fn files(town: &Town, dir: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(town.path(dir))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn thirty_deaths_leave_no_zombie_no_open_file_and_no_litter() {
    // Without a settle window the restart comes so soon that tmux may not have seen the death yet.
    let breakers = NO_BREAKERS.replace("[mass_death]", "settle = \"0s\"\n[mass_death]");
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(&breakers).up();
    let daemon = town.daemon().unwrap();
    let die = || {
        let before = town.agent("a/witness");
        town.process("a/witness").kill();
        let new = town.wait_new_instance("a/witness", before["instance"].as_str().unwrap());
        assert_eq!(new["pane"], before["pane"], "it comes back in its own pane: {new:#}");
        town.call("agent.reset", json!({"agent": "a/witness"}));
    };
    die();
    let (fds, run) = (open_files(daemon), files(&town, "daemon/run").len());
    for _ in 0..30 {
        die();
    }
    // A connection of a test that was just closed may take a moment.
    let mut now = 0;
    let few = wait_until(QUICK, || {
        now = open_files(daemon);
        now <= fds + 2
    });
    assert!(few, "open files: {fds}, then {now}");
    let left = files(&town, "daemon/run");
    assert!(left.len() <= run + 1, "{left:#?}");
    let children = procs::descendants(daemon.pid);
    let zombies: Vec<&Process> = children.iter().filter(|child| !child.alive()).collect();
    assert!(zombies.is_empty(), "{zombies:?}");
    let panes = town.tmux().run(&["list-panes", "-a", "-F", "#{pane_id}"]);
    assert!(panes.lines().count() <= 2, "one pane, and one of the daemon's own: {panes}");
    town.assert_never_two();
}

#[test]
fn what_an_agent_is_started_with_is_in_no_command_line_and_in_no_file_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let secret = "hunter2-and-more";
    town.call("witness.restart", json!({"rig": "a", "env": {"TOKEN": secret}}));
    assert_eq!(town.process("a/witness").environment().get("TOKEN").map(String::as_str), Some(secret));
    let mark = town.base().display().to_string();
    for process in procs::marked(&mark) {
        assert!(!process.command_line().contains(secret), "{}", process.command_line());
    }
    let mut open = vec![town.root().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                open.push(path);
            } else if meta.is_file() {
                let holds =
                    std::fs::read(&path).unwrap().windows(secret.len()).any(|part| part == secret.as_bytes());
                let shut = meta.permissions().mode() & 0o077 == 0;
                assert!(!holds || shut, "{} holds it, mode {:o}", path.display(), meta.permissions().mode());
            }
        }
    }
    let launches: Vec<String> =
        files(&town, "daemon/run").into_iter().filter(|name| name.ends_with(".launch")).collect();
    assert!(launches.is_empty(), "read and gone: {launches:?}");
    // Nor do the user's own windows in that session get it.
    let session = town.agent("a/witness")["session"].as_str().unwrap().to_owned();
    let shown = town.tmux().run(&["show-environment", "-t", &session]);
    assert!(!shown.contains(secret), "{shown}");
}

#[test]
fn an_agent_that_somebody_has_stopped_is_not_dead() {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml(NO_BREAKERS).up();
    let before = town.running();
    let process = town.process("a/witness");
    process.signal(Signal::STOP);
    assert!(wait_until(QUICK, || process.stopped()));
    let seq = town.seq();
    town.call("daemon.heartbeat", json!({}));
    chaos_delay(Duration::from_millis(300));
    assert!(process.stopped(), "it is left as it is");
    assert_eq!(town.running(), before);
    assert!(!town.events(seq).iter().any(|event| event["kind"] == "agent.exited"));
    process.signal(Signal::CONT);
    // A stop of one that is stopped still ends it.
    process.signal(Signal::STOP);
    town.call("witness.stop", json!({"rig": "a"}));
    assert!(!process.alive());
}

#[test]
fn everything_of_ours_killed_at_once_comes_back_once() {
    let town = Setup::new().rigs(&["a"]).toml(NO_BREAKERS).script(&["ignore:HUP,TERM", "idle"]).up();
    for blow in 0..8 {
        let before = town.running();
        let server = town.tmux().server();
        let daemon = town.daemon().unwrap();
        let shim = i32::try_from(town.agent("a/witness")["shim_pid"].as_i64().unwrap()).unwrap();
        let shim = Process::of(shim).unwrap();
        // In another order each time, and with another pause.
        let mut targets = [server, daemon, shim];
        targets.rotate_left(blow % 3);
        for target in targets {
            target.kill();
            chaos_delay(Duration::from_millis(3 * blow as u64));
        }
        town.kill_daemon();
        town.start();
        for (agent, instance, _) in &before {
            town.wait_new_instance(agent, instance);
        }
        town.wait_all_running();
        town.assert_never_two();
    }
}

#[test]
fn a_run_directory_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    std::fs::create_dir_all(town.path("daemon/run")).unwrap();
    std::fs::set_permissions(town.path("daemon/run"), PermissionsExt::from_mode(0o777)).unwrap();
    let process = town.start_unwatched();
    let refused = wait_until(QUICK, || !process.alive());
    assert!(refused, "it goes on");
    let status = town.wait_daemon(QUICK).unwrap();
    assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
    assert!(town.daemon_output().contains("daemon/run"), "{}", town.daemon_output());
    assert!(town.starts("a/witness").is_empty());
    wait_for(QUICK, "mended, it starts", || {
        std::fs::set_permissions(town.path("daemon/run"), PermissionsExt::from_mode(0o700)).ok()
    });
    town.start();
    town.wait_all_running();
}
