//! Files that make a daemon the one that people reach, and that others take away while it runs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use gtd_tests::{CHANGE, QUICK, Setup, Town, run, wait_for};
use serde_json::{Value, json};

fn so(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(CHANGE, what, || is_so().then_some(()));
}

fn gone(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn hello() -> Value {
    json!({"client": "tests", "protocol": 1})
}

/// A second daemon, which must not get the town.
#[track_caller]
fn refused(town: &Town) {
    let mut second = town.command("gtd");
    second.arg("--town").arg(town.root());
    let output = run::run(second, QUICK);
    assert!(output.code == 1 && output.err.contains("already running"), "{output:?}");
}

#[test]
fn what_is_taken_away_is_made_again_and_connections_stay() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let (daemon, agents) = (town.daemon().unwrap(), town.running());
    let [socket, lock, endpoint, pid] =
        ["gtd.sock", "daemon.lock", "endpoint.json", "daemon.pid"].map(|name| town.path("daemon").join(name));
    let mut open = town.client();
    gone(&socket);
    so("the socket is there again", || socket.exists());
    assert_eq!(town.call("daemon.hello", hello())["protocol"], 1);
    assert_eq!(open.call("daemon.hello", hello()).unwrap()["protocol"], 1, "who was connected still is");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Something that is no socket is left, and the socket comes when it has gone.
    gone(&socket);
    std::fs::write(&socket, "mine").unwrap();
    let log = town.path("daemon/gtd.log");
    so("it is told", || {
        std::fs::read_to_string(&log).unwrap().contains("the socket is gone, and cannot be made again")
    });
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
    assert!(
        open.call("daemon.status", json!({})).unwrap()["reasons"].to_string().contains("the socket is gone")
    );
    gone(&socket);
    so("the socket is there again", || socket.exists());
    so("all is well again", || town.call("daemon.status", json!({}))["reasons"] == json!([]));
    // The lock: nobody else gets the town.
    gone(&lock);
    so("the lock is there again", || lock.exists());
    refused(&town);
    gone(&endpoint);
    gone(&pid);
    so("the daemon can be found again", || endpoint.exists() && pid.exists());
    assert_eq!(town.daemon(), Some(daemon));
    assert_eq!(town.running(), agents);
    town.assert_never_two();
}

#[test]
fn a_daemon_that_lost_its_lock_to_another_ends_and_leaves_it_everything() {
    let town = Setup::new().rigs(&["a"]).no_refineries().up();
    let agents = town.running();
    // Until a second one has it: the first may be faster, and has it again.
    let mut second = wait_for(CHANGE, "another daemon has the lock", || {
        gone(&town.path("daemon/daemon.lock"));
        let mut second = town.command("gtd");
        second.arg("--town").arg(town.root());
        second.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut second = second.spawn().unwrap();
        let pid = json!(second.id());
        wait_for(CHANGE, "it is up, or refused", || {
            let up = town.try_call("daemon.status", json!({})).is_ok_and(|status| status["pid"] == pid);
            if up { Some(true) } else { second.try_wait().unwrap().map(|_| false) }
        })
        .then_some(second)
    });
    assert_eq!(town.wait_daemon(CHANGE).unwrap().code(), Some(1), "the first has ended");
    town.wait_all_running();
    assert_eq!(town.running(), agents, "every agent is still the same");
    assert_eq!(town.call("daemon.status", json!({}))["pid"], json!(second.id()));
    refused(&town);
    town.assert_never_two();
    town.call("daemon.shutdown", json!({}));
    assert!(second.wait().unwrap().success());
}
