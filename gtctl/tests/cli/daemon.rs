//! Starting and ending a daemon, with a stand-in for gtd.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs2::FileExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Run, Town, gtd, until};

/// A town with programs of its own, whose daemon is ended with it.
pub struct Home {
    pub town: Town,
    pub gtctl: PathBuf,
}

impl Home {
    pub fn new(mode: &str) -> Self {
        let town = Town::new();
        town.write("mode", mode);
        let gtctl = gtd::install(town.home());
        Self { town, gtctl }
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let mut command = self.town.command_of(&self.gtctl, args);
        let output = command.envs(env.iter().copied()).output().unwrap();
        Run::of(output, &self.town.root())
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.town.root().join("daemon/endpoint.json")).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(Pid::from_raw(i32::try_from(value["pid"].as_i64()?).ok()?))
    }

    pub fn is_locked(&self) -> bool {
        is_locked(&self.town.root())
    }
}

/// Looks without touching: taking the lock to see whether it can be taken would hold it for as long as a program
/// that another test starts meanwhile needs to close what it inherited.
pub fn is_locked(root: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(root.join("daemon/daemon.lock")) else { return false };
    let inode = format!(":{} ", meta.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains(" FLOCK ") && line.contains(&inode))
}

impl Drop for Home {
    fn drop(&mut self) {
        // The lock proves that the recorded pid is still the stand-in's, unless a test lied on purpose.
        if self.is_locked()
            && let Some(pid) = self.pid().filter(|pid| *pid != nix::unistd::getpid())
        {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn start_waits_for_the_handshake_and_stop_for_the_lock() {
    let home = Home::new("");
    let first = home.run(&["daemon", "start"]).expect(0);
    assert!(first.out.starts_with("daemon running, pid "), "{}", first.out);
    assert!(home.is_locked());
    let second = home.run(&["daemon", "start", "--json"]).expect(0);
    assert_eq!(second.json()["result"]["already"], true);
    assert_eq!(second.json()["kind"], "daemon.start");
    let pid = home.pid().unwrap();
    // It has a session of its own, so that closing this terminal does not end it.
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), pid);
    let stopped = home.run(&["daemon", "stop"]).expect(0);
    assert_eq!(stopped.out, format!("daemon stopped, pid {pid}; agents go on\n"));
    assert!(!home.is_locked());
    assert_eq!(home.run(&["daemon", "stop"]).expect(0).out, "no daemon is running\n");
    let planned = home.run(&["daemon", "restart", "--dry-run"]).expect(0).out;
    assert!(planned.contains("start  gtd") && !planned.contains("stop"), "{planned}");
    assert_eq!(home.run(&["daemon", "stop", "--dry-run"]).expect(0).out, "nothing would be done\n");
}

#[test]
fn restart_makes_a_new_process() {
    let home = Home::new("");
    home.run(&["daemon", "start"]).expect(0);
    let before = home.pid();
    let run = home.run(&["daemon", "restart"]).expect(0);
    assert!(run.err.starts_with("daemon stopped, pid "), "{}", run.err);
    assert_ne!(before, home.pid());
    home.run(&["daemon", "stop"]).expect(0);
}

#[test]
fn what_troubles_a_daemon_is_said_when_it_comes_up() {
    let home = Home::new("");
    home.town.write("trouble", "there is no program tmux");
    let run = home.run(&["daemon", "start"]).expect(0);
    assert_eq!(run.err, "warning: there is no program tmux\n");
    home.run(&["daemon", "stop"]).expect(0);
    let run = home.run(&["up"]).expect(0);
    assert!(run.err.ends_with("warning: there is no program tmux\n"), "{}", run.err);
    home.run(&["daemon", "stop"]).expect(0);
}

#[test]
fn why_it_did_not_start() {
    let home = Home::new("bad");
    let run = home.run(&["daemon", "start"]).expect(2);
    assert!(
        run.err.contains("unknown key `heartbeet`") && run.err.contains("settings/gtd.toml, then"),
        "{}",
        run.err
    );
    let home = Home::new("log");
    let run = home.run(&["up"]).expect(1);
    assert!(run.err.contains("exit code 3") && run.err.contains("the disk is on fire"), "{}", run.err);
    let home = Home::new("");
    let lock = File::create(home.town.root().join("daemon/daemon.lock")).unwrap();
    FileExt::lock_exclusive(&lock).unwrap();
    let run = home.run(&["daemon", "start", "--json"]).expect(1);
    let error = &run.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("another process holds"), "{error}");
    assert!(error["data"]["output"][0].as_str().unwrap().contains("lock held by another process"), "{error}");
}

/// The kernel needs a moment for a daemon that was killed, and its lock is held until then.
#[test]
fn a_lock_that_comes_free_meanwhile_is_no_reason_to_give_up() {
    let home = Home::new("");
    let lock = File::create(home.town.root().join("daemon/daemon.lock")).unwrap();
    FileExt::lock_exclusive(&lock).unwrap();
    let mut command = home.town.command_of(&home.gtctl, &["up"]);
    let mut up = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    until("a first try", || home.town.root().join("found-the-lock-held").exists());
    drop(lock);
    assert_eq!(up.wait().unwrap().code(), Some(0));
    home.run(&["daemon", "stop"]).expect(0);
}

#[test]
fn two_starts_at_once_make_one_daemon() {
    let home = Home::new("");
    let mut children: Vec<_> = (0..3)
        .map(|_| {
            let mut command = home.town.command_of(&home.gtctl, &["daemon", "start"]);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    home.run(&["daemon", "stop"]).expect(0);
}

#[test]
fn no_gtd_beside_gtctl() {
    let home = Home::new("");
    std::fs::remove_file(home.gtctl.with_file_name("gtd")).unwrap();
    for verb in [&["daemon", "start"][..], &["daemon", "run"], &["up"], &["init", "x"]] {
        let run = home.run(verb).expect(1);
        assert!(run.err.contains("there is no gtd beside gtctl"), "{}", run.err);
    }
}

#[test]
fn an_agent_may_not_start_its_own_supervisor() {
    let home = Home::new("");
    let inside = [("GT_INSTANCE", "01938c3e-6b2a-7c41-9d0e-0a4d0a7c4d5e")];
    for verb in
        [&["daemon", "start"][..], &["daemon", "run"], &["up"], &["down", "--yes"], &["daemon", "restart"]]
    {
        let run = home.run_with(verb, &inside).expect(77);
        assert!(run.err.contains("GT_INSTANCE is set"), "{verb:?} {}", run.err);
    }
    assert!(!home.is_locked());
}

#[test]
fn a_stubborn_daemon_is_killed_only_with_force() {
    let home = Home::new("stubborn");
    home.run(&["daemon", "start"]).expect(0);
    let run = home.run(&["daemon", "stop", "--timeout", "200ms"]).expect(6);
    assert!(run.err.contains("did not end within 200ms") && run.err.contains("--force"), "{}", run.err);
    assert!(home.is_locked());
    let run = home.run(&["daemon", "stop", "--timeout", "200ms", "--force", "--yes"]).expect(0);
    assert!(run.out.starts_with("daemon killed, pid "), "{}", run.out);
    assert!(!home.is_locked());
}

#[test]
fn a_daemon_that_hangs_is_ended_by_its_proven_identity() {
    let home = Home::new("");
    home.run(&["daemon", "start"]).expect(0);
    let pid = home.pid().unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    // There is a daemon: none may be started beside it, nor may a plan say so.
    for args in [&["up", "--dry-run"][..], &["up"], &["down", "--dry-run"], &["daemon", "start"]] {
        let run = home.run(args).expect(69);
        assert!(run.err.starts_with("the daemon has not answered yet"), "{args:?} {}", run.err);
        assert!(
            run.err.ends_with("does not answer\nhint: gtctl daemon restart --force\n"),
            "{args:?} {}",
            run.err
        );
    }
    let run = home.run(&["daemon", "stop", "--timeout", "100ms"]).expect(6);
    assert!(run.err.contains("does not answer: it was told by TERM to end"), "{}", run.err);
    let run = home.run(&["daemon", "stop", "--timeout", "100ms", "--force", "--yes"]).expect(0);
    assert_eq!(run.out, format!("daemon killed, pid {pid}; agents go on\n"));
}

#[test]
fn a_holder_of_the_lock_that_does_not_listen_is_never_signalled() {
    let home = Home::new("");
    let lock = File::create(home.town.root().join("daemon/daemon.lock")).unwrap();
    FileExt::lock_exclusive(&lock).unwrap();
    // The record names a process that is alive and innocent: this one.
    home.town.write(
        "daemon/endpoint.json",
        &serde_json::json!({"socket": home.town.socket(), "pid": std::process::id(), "version": "0", "protocol": 1,
            "town_id": crate::common::TOWN_ID, "started_at": "2026-01-01T00:00:00Z"})
        .to_string(),
    );
    let run = home.run(&["daemon", "stop", "--force", "--yes"]).expect(1);
    assert!(run.err.contains("nothing was signalled"), "{}", run.err);
}

#[test]
fn up_starts_the_daemon_and_down_ends_it() {
    let home = Home::new("");
    let planned = home.run(&["up", "--dry-run"]).expect(0);
    assert!(planned.out.contains("start  gtd "), "{}", planned.out);
    assert!(!home.is_locked());
    let run = home.run(&["up"]).expect(0);
    assert!(run.err.starts_with("starting the daemon\ndaemon running, pid "), "{}", run.err);
    assert_eq!(run.out, "town [TOWN] is up\n");
    assert!(home.is_locked());
    let run = home.run(&["down", "--yes", "--json"]).expect(0);
    assert_eq!(run.json()["kind"], "town.stop");
    let empty = serde_json::json!({"sessions": [], "processes": [], "files": []});
    assert_eq!(run.json()["result"]["census"], empty);
    assert!(!home.is_locked() && !home.town.socket().exists());
    home.run(&["status"]).expect(69);
}

#[test]
fn down_without_a_daemon_starts_one_that_holds() {
    let home = Home::new("");
    let run = home.run(&["down", "--yes"]).expect(0);
    assert!(run.err.contains("starting one that starts nothing"), "{}", run.err);
    assert_eq!(run.out, "town [TOWN] is down, nothing is left\n");
    assert_eq!(std::fs::read_to_string(home.town.root().join("held")).unwrap(), "true");
    assert!(!home.is_locked());
}

#[test]
fn what_is_left_after_down_is_named_and_gives_7() {
    let home = Home::new("");
    home.town.write("left", "$3 gt-alpha-witness (a person is attached)");
    let run = home.run(&["down", "--yes"]).expect(7);
    assert!(run.out.contains("left: session $3 gt-alpha-witness (a person is attached)"), "{}", run.out);
    assert!(!home.is_locked());
}

#[test]
fn init_makes_a_town() {
    let home = Home::new("");
    home.run(&["init", "../other", "--name", "fine"]).expect(0);
    let text = std::fs::read_to_string(home.town.home().join("other/mayor/town.json")).unwrap();
    assert!(text.contains("fine"), "{text}");
    let run = home.run(&["init", "../third", "--json"]).expect(0);
    assert_eq!(run.json()["kind"], "init");
    let run = home.run(&["init", "../third", "--json"]).expect(2);
    assert!(run.json()["error"]["data"]["stderr"].as_str().unwrap().contains("is a town already"));
    home.run(&["init", "../fourth", "--dry-run"]).expect(0);
    assert!(!home.town.home().join("fourth").exists());
}

#[test]
fn daemon_run_becomes_gtd() {
    let home = Home::new("bad");
    // The stand-in's own exit code comes through: nothing is between.
    home.run(&["daemon", "run"]).expect(78);
    let run = home.run(&["daemon", "run", "--dry-run"]).expect(0);
    assert!(run.out.contains("/bin/gtd --town [TOWN]"), "{}", run.out);
}

#[test]
fn a_daemon_that_never_answers_is_a_timeout_with_its_last_words() {
    let home = Home::new("silent");
    let run = home.run(&["daemon", "start"]).expect(6);
    assert!(run.err.contains("runs but does not answer"), "{}", run.err);
    until("the lock", || home.is_locked());
}
