//! A socket that somebody else made: served, named, and never removed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use gtd_tests::run::run;
use gtd_tests::served::{Served, manager, one_rig, same_agents, tmux_server};
use gtd_tests::{CHANGE, Process, QUICK, START, programs, skipped, wait_for, wait_until};
use serde_json::json;

/// The socket is never removed by who only was lent it.
#[track_caller]
fn socket_stays(path: &Path, inode: u64) {
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::symlink_metadata(path).map(|meta| meta.ino()).ok(), Some(inode), "{}", path.display());
}

#[test]
fn a_socket_that_was_passed_in_is_served_named_and_left() {
    use std::os::unix::fs::MetadataExt;
    if programs::system("systemd-socket-activate").is_none() {
        skipped("socket activation", "there is no systemd-socket-activate");
        return;
    }
    let town = one_rig().script(&["env", "idle"]).make();
    let socket = town.base().join("passed.sock");
    let around = town.command("gtd");
    let mut command = Command::new("systemd-socket-activate");
    command.env_clear().envs(around.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.arg("-l").arg(&socket).arg("--fdname=gtd").arg(programs::program("gtd"));
    command.arg("--town").arg(town.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let daemon = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
    wait_for(QUICK, "it is bound", || socket.exists().then_some(()));
    let inode = fs::symlink_metadata(&socket).unwrap().ino();
    assert!(!town.path("daemon/endpoint.json").exists(), "nothing is started before somebody wants it");
    // The first client starts it and waits.
    let connect = || gtd_tests::Client::connect(&socket).ok();
    let mut client = wait_for(QUICK, "it listens", connect);
    let hello = client.call("daemon.hello", json!({"client": "t", "protocol": 1})).unwrap();
    assert_eq!(hello["pid"], daemon.pid);
    // A client that waits is answered as soon as it can be, the file a moment later.
    assert_eq!(wait_for(QUICK, "endpoint.json", || town.socket()), socket);
    assert!(!town.path("daemon/gtd.sock").exists());
    assert!(daemon.command_line().contains("/gtd "), "{}", daemon.command_line());
    town.wait_all_running();
    let environment = town.process("a/witness").environment();
    assert_eq!(environment.get("GT_SOCKET").map(String::as_str), socket.to_str());
    assert!(!environment.keys().any(|name| name.starts_with("LISTEN_")), "{environment:?}");
    // No child holds the descriptor.
    for process in [town.process("a/witness"), tmux_server(&town)] {
        for entry in fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().flatten() {
            let to = fs::read_link(entry.path()).unwrap_or_default();
            let listening = fs::read_to_string("/proc/net/unix").unwrap();
            let number = to.to_string_lossy().trim_start_matches("socket:[").trim_end_matches(']').to_owned();
            let line = listening.lines().find(|line| line.contains(&format!(" {number} ")));
            assert!(!line.is_some_and(|line| line.ends_with("passed.sock")), "{process} holds {to:?}");
        }
    }
    // The kernel names the daemon as who listens, so gtctl trusts it.
    let agents = town.running();
    let mut command = town.command("gtctl");
    command.arg("--town").arg(town.root()).args(["daemon", "stop"]);
    let ended = run(command, START).ok();
    assert_eq!(ended.out, format!("daemon stopped, pid {}; agents go on\n", daemon.pid));
    assert!(wait_until(CHANGE, || child.try_wait().unwrap().is_some()));
    socket_stays(&socket, inode);
    town.start();
    same_agents(&town, &agents);
}

#[test]
fn a_socket_held_by_the_manager_starts_the_daemon_and_lets_nobody_fail() {
    use std::os::unix::fs::MetadataExt;
    let town = one_rig().make();
    let Some(manager) = manager("socket unit", &town, "h") else { return };
    let town = manager.around(town);
    town.gtctl(&["daemon", "install", "--listen", "--now"]).ok();
    town.wait_all_running();
    let served = Served { manager, town };
    let (manager, town, unit) = (&served.manager, &served.town, served.unit());
    let socket = town.path("daemon/gtd.sock");
    assert_eq!(town.socket(), Some(socket.clone()));
    let inode = fs::symlink_metadata(&socket).unwrap().ino();
    let (agents, mut daemon) = (town.running(), served.daemon());
    // Whoever asks while it is replaced gets an answer from one or the other.
    std::thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            for _ in 0..3 {
                manager.systemctl(&["restart", &unit]).ok();
            }
        });
        let mut asked = 0;
        while !restarts.is_finished() {
            UnixStream::connect(&socket).expect("somebody listens at any moment");
            asked += 1;
        }
        assert!(asked > 10, "{asked}");
    });
    socket_stays(&socket, inode);
    daemon = served.adopted(daemon, &agents);
    // Killed, and asked for at once.
    daemon.kill();
    let said = town.gtctl(&["status"]).ok();
    assert!(said.out.contains("a/witness"), "{said:?}");
    daemon = served.adopted(daemon, &agents);
    socket_stays(&socket, inode);
    // A stop is a stop: no client brings it back.
    town.gtctl(&["daemon", "stop"]).ok();
    assert!(!daemon.alive());
    assert_eq!(town.gtctl(&["status"]).code, 69);
    assert_eq!(manager.property(&unit, "ActiveState"), "inactive");
    assert!(!socket.exists(), "the manager has removed what it had made");
    town.gtctl(&["daemon", "start"]).ok();
    same_agents(town, &agents);
    town.gtctl(&["down", "--yes"]).ok();
    assert_eq!(town.gtctl(&["status"]).code, 69);
}
