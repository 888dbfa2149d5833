//! A daemon that sees other processes than those it is told of: in a container, a sandbox, a pid namespace.

use std::process::{Child, Command, Stdio};

use gtd_tests::{Process, QUICK, START, Setup, Town, programs, skipped, wait_until};

/// A program in a pid namespace of its own; all of it ends with this.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(town: &Town, words: &[&str]) -> Self {
        let mut command: Command = programs::bare("unshare", &town.home());
        command.env("XDG_RUNTIME_DIR", town.runtime_dir()).stdin(Stdio::null());
        let out = std::fs::File::create(town.base().join("elsewhere.out")).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(words);
        Self(command.spawn().unwrap())
    }

    fn said(town: &Town) -> String {
        std::fs::read_to_string(town.base().join("elsewhere.out")).unwrap_or_default()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this machine lets us make such a namespace.
fn can() -> bool {
    let made = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
    made.is_ok_and(|status| status.success())
}

#[test]
fn a_daemon_that_cannot_see_the_agents_does_not_take_them_for_dead() {
    if !can() {
        skipped("another view of the processes", "pid namespaces cannot be made here");
        return;
    }
    let town = Setup::new().rigs(&["a", "b"]).no_refineries().up();
    town.wait_all_running();
    let agents: Vec<(String, String, i64)> = town.running();
    let before: Vec<Process> = agents.iter().map(|(agent, ..)| town.process(agent)).collect();
    let since = town.seq();
    town.kill_daemon();
    // As in a container that shares the town's directory.
    let gtd = programs::program("gtd").display().to_string();
    let root = town.root().display().to_string();
    // Not as process 1, which is another story.
    let line = format!("{gtd} --town {root}; echo ended with $?");
    let mut elsewhere = Elsewhere::start(&town, &["sh", "-c", &line]);
    let ended = wait_until(START, || elsewhere.0.try_wait().unwrap().is_some());
    let said = Elsewhere::said(&town);
    drop(elsewhere);
    assert!(ended, "it supervises what it cannot see: {said}");
    assert!(said.contains("pid namespace"), "{said}");
    town.start();
    town.wait_all_running();
    assert_eq!(town.running(), agents, "they were adopted, none was started a second time");
    assert!(before.iter().all(|process| process.alive()));
    let exits: Vec<_> =
        town.events(since).into_iter().filter(|event| event["kind"] == "agent.exited").collect();
    assert!(exits.is_empty(), "{exits:#?}");
}

#[test]
fn a_stranger_with_the_number_of_a_tmux_server_in_a_container_gets_no_signal() {
    if !can() {
        skipped("another view of the processes", "pid namespaces cannot be made here");
        return;
    }
    let town = Setup::new().rigs(&["a"]).no_refineries().make();
    std::fs::create_dir_all(town.path("daemon/run")).unwrap();
    let socket = town.path("daemon/run/tmux-0.sock").display().to_string();
    let mut stranger = Command::new("sleep").arg("300").spawn().unwrap();
    let id = Process::of(i32::try_from(stranger.id()).unwrap()).unwrap();
    // tmux forks twice on its way to being a server, so that this gives it the stranger's number there.
    let line = format!(
        "echo {} > /proc/sys/kernel/ns_last_pid; tmux -S {socket} -f /dev/null new-session -d 'sleep 300'; \
         tmux -S {socket} display-message -p '#{{pid}}'; sleep 300",
        id.pid - 3
    );
    let elsewhere = Elsewhere::start(&town, &["sh", "-c", &line]);
    let number = id.pid.to_string();
    let up = wait_until(QUICK, || !Elsewhere::said(&town).trim().is_empty());
    assert!(up && Elsewhere::said(&town).trim() == number, "{} {}", number, Elsewhere::said(&town));
    let _daemon = town.start_unwatched();
    let _ = wait_until(QUICK, || town.try_call("daemon.status", serde_json::json!({})).is_ok());
    drop(elsewhere);
    let hit = wait_until(QUICK, || stranger.try_wait().unwrap().is_some());
    let status = stranger.try_wait().unwrap();
    let _ = stranger.kill();
    let _ = stranger.wait();
    assert!(!hit, "a stranger was signalled: {status:?}");
}
