//! The daemon's own life: its lock, its socket, its signals, its end.

use std::path::Path;
use std::time::Duration;

use gtd_tests::{CHANGE, Process, QUICK, START, Setup, chaos_delay, run, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::json;

/// Names, sizes and times of all files below a directory.
fn state_of(dir: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                found.push((entry.path().display().to_string(), meta.len(), meta.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_second_daemon_names_the_holder_and_touches_nothing() {
    let town = Setup::new().rigs(&["a"]).up();
    let first = town.daemon().unwrap();
    let agents = town.running();
    // The files that change by themselves while nothing happens are left out: the log, and the ledger's own.
    let quiet = |all: Vec<(String, u64, std::time::SystemTime)>| -> Vec<_> {
        all.into_iter().filter(|(name, ..)| !name.contains("gtd.log") && !name.contains("gtd.db")).collect()
    };
    let before = quiet(state_of(town.root()));
    let seq = town.seq();
    let mut second = town.command("gtd");
    second.arg("--town").arg(town.root());
    let output = run::run(second, QUICK);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.err.contains(&first.pid.to_string()), "it names the holder: {output:?}");
    assert_eq!(quiet(state_of(town.root())), before, "it touched nothing");
    assert_eq!(town.running(), agents);
    assert_eq!(town.seq(), seq, "and nothing happened");
    assert!(first.alive());
}

#[test]
fn two_daemons_at_once_leave_one_and_every_agent_once() {
    let town = Setup::new().rigs(&["a", "b"]).make();
    for _ in 0..5 {
        let mut rivals: Vec<std::process::Child> = (0..4)
            .map(|_| {
                let mut command = town.command("gtd");
                command.arg("--town").arg(town.root());
                command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
                command.stderr(std::process::Stdio::null()).spawn().unwrap()
            })
            .collect();
        let mut ended = 0;
        wait_until(CHANGE, || {
            ended = rivals.iter_mut().filter_map(|child| child.try_wait().ok().flatten()).count();
            ended == 3
        });
        assert_eq!(ended, 3, "one daemon stays");
        town.wait_answers();
        town.wait_all_running();
        town.assert_never_two();
        let survivor =
            town.call("daemon.hello", json!({"client": "t", "protocol": 1}))["pid"].as_i64().unwrap();
        let survivor = Process::of(i32::try_from(survivor).unwrap()).unwrap();
        survivor.kill();
        for child in &mut rivals {
            child.wait().unwrap();
        }
    }
    town.start();
    town.wait_all_running();
    town.assert_never_two();
    assert_eq!(town.starts("a/witness").len(), 1, "adopted each time, never started again");
}

#[test]
fn sigterm_ends_the_daemon_with_code_0_and_agents_stay() {
    let town = Setup::new().rigs(&["a"]).up();
    let before = town.running();
    let since = || town.call("witness.status", json!({"rig": "a"}))["since"].clone();
    let began = since();
    let processes: Vec<Process> = ["a/witness", "a/refinery"].iter().map(|a| town.process(a)).collect();
    let status = town.stop_daemon().unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert!(processes.iter().all(|process| process.alive()), "agents go on");
    assert!(
        !town.path("daemon/endpoint.json").exists() || town.try_call("daemon.status", json!({})).is_err()
    );
    town.start();
    town.wait_all_running();
    assert_eq!(town.running(), before, "the same processes, adopted");
    assert_eq!(since(), began, "it ran all the while");
    let events = town.events(0);
    assert!(events.iter().any(|event| event["kind"] == "agent.adopted"), "{events:#?}");
}

#[test]
fn sigusr1_is_harmless_from_the_first_moment() {
    let town = Setup::new().rigs(&["a"]).make();
    let daemon = town.start_unwatched();
    // From the moment at which the pid file names it, the incumbent's tools may send it.
    wait_for(CHANGE, "the pid file", || {
        let text = std::fs::read_to_string(town.path("daemon/daemon.pid")).ok()?;
        (text.trim() == daemon.pid.to_string()).then_some(())
    });
    for _ in 0..50 {
        daemon.signal(Signal::USR1);
        chaos_delay(Duration::from_millis(2));
    }
    town.wait_answers();
    town.wait_all_running();
    let before = town.running();
    for _ in 0..20 {
        daemon.signal(Signal::USR1);
    }
    assert!(daemon.alive());
    town.call("daemon.status", json!({}));
    assert_eq!(town.running(), before);
}

#[test]
fn a_stop_sticks_across_a_restart_of_the_daemon() {
    let town = Setup::new().rigs(&["a"]).up();
    town.call("witness.stop", json!({"rig": "a", "reason": "looking into it"}));
    for round in ["term", "kill"] {
        if round == "term" {
            town.stop_daemon();
        } else {
            town.kill_daemon();
        }
        town.start();
        town.wait_all_running();
        town.call("daemon.heartbeat", json!({}));
        let agent = town.agent("a/witness");
        assert_eq!(
            (&agent["state"], &agent["intent"]),
            (&json!("stopped"), &json!("stopped")),
            "{round}: {agent:#}"
        );
        assert_eq!(agent["intent_reason"], "looking into it", "{round}: {agent:#}");
        assert_eq!(town.agent("a/refinery")["state"], "running");
    }
    assert_eq!(town.starts("a/witness").len(), 1);
    town.call("witness.start", json!({"rig": "a"}));
    town.wait_state("a/witness", "running");
}

#[test]
fn a_stop_is_on_disk_when_it_is_answered_even_if_the_daemon_is_killed_then() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let accepted = town.call("witness.stop", json!({"rig": "a", "wait_ms": 0}));
    town.kill_daemon();
    assert!(accepted["agent"].is_string(), "{accepted:#}");
    town.start();
    town.wait_state("a/witness", "stopped");
    assert_eq!(town.starts("a/witness").len(), 1);
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_stale_endpoint_too() {
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    std::fs::create_dir_all(town.path("daemon")).unwrap();
    // A socket that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(town.path("daemon/gtd.sock")).unwrap());
    std::fs::write(town.path("daemon/daemon.pid"), "1\n").unwrap();
    std::fs::write(town.path("daemon/endpoint.json"), "{torn").unwrap();
    town.start();
    town.wait_all_running();
    town.kill_daemon();
    assert!(town.path("daemon/gtd.sock").exists(), "a killed daemon leaves its socket");
    assert!(town.try_call("daemon.status", json!({})).is_err());
    town.start();
    town.wait_all_running();
    assert_eq!(town.starts("a/witness").len(), 1);
}

#[test]
fn a_town_with_a_long_path_has_its_sockets_elsewhere() {
    let town = Setup::new().rigs(&["a"]).no_refineries().deep(4).up();
    let socket = town.socket().unwrap();
    assert!(socket.as_os_str().len() < 108, "{}", socket.display());
    assert!(socket.starts_with(town.runtime_dir()), "{}", socket.display());
    let before = town.agent("a/witness")["instance"].as_str().unwrap().to_owned();
    let printed = town.gtctl(&["socket"]).ok();
    assert_eq!(printed.out.trim(), socket.display().to_string());
    town.process("a/witness").kill();
    town.wait_new_instance("a/witness", &before);
    assert!(town.tmux().socket.as_os_str().len() < 108);
    town.assert_never_two();
}

#[test]
fn the_socket_and_its_directory_are_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let town = Setup::new().make();
    town.start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&town.socket().unwrap()), 0o600);
    assert_eq!(mode(&town.path("daemon/run")), 0o700);
}

#[test]
fn a_peer_of_another_uid_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        return gtd_tests::skipped("a_peer_of_another_uid_is_refused", "only root can become somebody else");
    }
    let (Some(setpriv), Some(socat)) =
        (gtd_tests::programs::system("setpriv"), gtd_tests::programs::system("socat"))
    else {
        return gtd_tests::skipped("a_peer_of_another_uid_is_refused", "setpriv or socat is missing");
    };
    let town = Setup::new().make();
    town.start();
    let socket = town.socket().unwrap();
    // The mode of the file would stop them first; what is tested is the check behind it.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    for dir in socket.ancestors().skip(1).take_while(|dir| dir.starts_with(town.base())) {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = gtd_tests::programs::bare("sh", &town.home());
    command.arg("-c").arg(format!(
        "echo '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"town.status\"}}' | {} --reuid 65534 --regid 65534 --clear-groups {} -t5 - UNIX-CONNECT:{}",
        setpriv.display(),
        socat.display(),
        socket.display()
    ));
    let output = run::run(command, CHANGE);
    assert!(!output.out.contains("\"rigs\""), "{output:?}");
    assert!(output.out.contains("1012") && output.out.contains("unauthorized"), "{output:?}");
    town.call("town.status", json!({}));
}

#[test]
fn a_bad_configuration_at_the_first_start_ends_with_78_and_the_position() {
    let town = Setup::new().toml("[stop]\ngrase = \"1s\"").make();
    let mut command = town.command("gtd");
    command.arg("--town").arg(town.root());
    let output = run::run(command, QUICK);
    assert_eq!(output.code, 78, "{output:?}");
    assert!(output.err.contains("grase") && output.err.contains("gtd.toml"), "{output:?}");
    assert!(output.err.contains('2'), "with the line: {output:?}");
}

#[test]
fn a_bad_configuration_later_leaves_the_daemon_on_the_last_good_one() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    town.stop_daemon();
    std::fs::write(town.path("settings/gtd.toml"), "[stop\n").unwrap();
    town.start();
    town.wait_all_running();
    let status = town.call("daemon.status", json!({}));
    assert_eq!(status["degraded"], true, "{status:#}");
    assert!(status["reasons"].to_string().contains("gtd.toml"), "{status:#}");
    // The last good one had switched refineries off.
    assert!(town.agents().iter().all(|agent| agent["agent"] != "a/refinery" || agent["state"] == "stopped"));
}

#[test]
fn a_directory_that_is_no_town_is_a_usage_error() {
    let town = Setup::new().empty().make();
    let mut command = town.command("gtd");
    command.arg("--town").arg(town.root());
    let output = run::run(command, QUICK);
    assert_eq!(output.code, 2, "{output:?}");
    assert!(std::fs::read_dir(town.root()).unwrap().next().is_none(), "and nothing was written into it");
}

#[test]
fn the_heartbeat_reports_its_twelve_steps() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let report = town.call("daemon.heartbeat", json!({}));
    let names: Vec<&str> =
        report["steps"].as_array().unwrap().iter().filter_map(|step| step["name"].as_str()).collect();
    assert_eq!(
        names,
        [
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
            "state"
        ]
    );
    for step in report["steps"].as_array().unwrap() {
        let outcome = step["outcome"].as_str().unwrap();
        assert!(["ok", "skipped"].contains(&outcome), "{step:#}");
    }
    wait_for(QUICK, "the round is listed", || {
        let list = town.call("daemon.heartbeats", json!({"limit": 1}));
        (list["items"][0]["number"] == report["number"]).then_some(())
    });
    // Numbers go on over a restart.
    town.stop_daemon();
    town.start();
    let next = town.call("daemon.heartbeat", json!({}));
    assert!(next["number"].as_u64() > report["number"].as_u64(), "{next:#}");
    // What the incumbent's tools read.
    let state: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(town.path("daemon/state.json")).unwrap()).unwrap();
    assert_eq!(
        (&state["running"], state["pid"].as_i64()),
        (&json!(true), town.daemon().map(|d| i64::from(d.pid)))
    );
    for field in ["started_at", "last_heartbeat", "heartbeat_count"] {
        assert!(!state[field].is_null(), "{field}: {state:#}");
    }
}

#[test]
fn a_lock_file_that_somebody_removed_lets_no_second_daemon_in() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    town.wait_all_running();
    let agents = town.running();
    let lock = town.path("daemon/daemon.lock");
    let second = || {
        let mut gtd = town.command("gtd");
        gtd.arg("--town").arg(town.root());
        gtd_tests::run::run(gtd, START)
    };
    // "A stale lock": people remove it, and tools that clean directories.
    std::fs::remove_file(&lock).unwrap();
    let refused = second();
    assert!(refused.code == 1 && refused.err.contains("already running"), "{refused:?}");
    let held_again = || lock.exists() && town.gtctl(&["daemon", "status"]).code == 0 && second().code == 1;
    assert!(wait_until(QUICK, held_again), "the first one holds it again");
    assert_eq!(town.running(), agents);
}
