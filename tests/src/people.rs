//! People and their programs beside a town, and what an instance left behind: for tests of whom a sweep touches.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::procs::descendants;
use crate::{Process, QUICK, Setup, Town, programs, wait_for, wait_until};

/// Swept as soon as it is found.
pub const YOUNG: &str = "[sweep]\nmin_age = \"1s\"";

/// Processes of a person, outside of our session; ended by identity.
pub struct People {
    pub dir: PathBuf,
    children: Vec<Child>,
    processes: Vec<(&'static str, Process)>,
}

impl Drop for People {
    fn drop(&mut self) {
        for child in &mut self.children {
            // What a wrapper has started, first: it has no parents afterwards.
            i32::try_from(child.id())
                .map(descendants)
                .unwrap_or_default()
                .into_iter()
                .for_each(Process::kill);
            let _ = child.kill();
            let _ = child.wait();
        }
        self.processes.iter().for_each(|(_, process)| process.kill());
    }
}

impl People {
    /// Nobody yet, with programs called `claude`, `code`, `gtd-shim` and `node` of their own.
    ///
    /// # Panics
    /// When these cannot be made.
    pub fn new(town: &Town) -> Self {
        let dir = town.base().join("people");
        std::fs::create_dir_all(&dir).expect("a directory");
        let programs =
            [("claude", "/bin/sleep"), ("code", "/bin/sh"), ("gtd-shim", "/bin/sh"), ("node", "/bin/sleep")];
        for (name, program) in programs {
            // By another process: see `programs::script`.
            let copied = Command::new("cp").arg(program).arg(dir.join(name)).status().expect("cp");
            assert!(copied.success(), "a copy of {program}");
        }
        Self { dir, children: Vec::new(), processes: Vec::new() }
    }

    /// Where their programs are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of one of their programs.
    pub fn program(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Everybody, with what they are.
    pub fn processes(&self) -> &[(&'static str, Process)] {
        &self.processes
    }

    /// Lets go of those that do not fit: they are somebody else's to end.
    pub fn forget(&mut self, fits: impl FnMut(&(&'static str, Process)) -> bool) {
        self.processes.retain(fits);
    }

    /// Starts something in a session of its own and waits until the process called `comm` is there.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn start(
        &mut self,
        what: &'static str,
        comm: &str,
        cwd: &Path,
        env: &[(&str, &str)],
        words: &[&str],
    ) -> Process {
        let mut command: Command = programs::bare("setsid", &self.dir);
        command.args(words).current_dir(cwd).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("a program");
        let pid = i32::try_from(child.id()).expect("pids are small");
        self.children.push(child);
        let process = wait_for(QUICK, what, || {
            let mut all = descendants(pid);
            all.extend(Process::of(pid));
            all.into_iter().find(|process| is_called(*process, comm))
        });
        self.processes.push((what, process));
        process
    }

    /// Somebody who was started by other means.
    pub fn seen(&mut self, what: &'static str, process: Process) {
        self.processes.push((what, process));
    }

    /// Nobody has died.
    ///
    /// # Panics
    /// When somebody has.
    #[track_caller]
    pub fn all_live(&self, after: &str) {
        for (what, process) in &self.processes {
            assert!(process.alive(), "{what} did not survive {after}");
        }
    }

    /// No signal on record went to one of them.
    ///
    /// # Panics
    /// When one did.
    #[track_caller]
    pub fn never_signalled(&self, town: &Town) {
        let signals = town.call("agent.signals", json!({}));
        for signal in signals["items"].as_array().expect("a list") {
            let of = |(_, process): &&(&str, Process)| {
                signal["pid"] == process.pid && signal["start"] == json!(process.start)
            };
            assert!(!self.processes.iter().any(|one| of(&one)), "{signal:#}");
        }
    }
}

/// Whether a process calls itself so.
pub fn is_called(process: Process, comm: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).is_ok_and(|name| name.trim() == comm)
}

/// The town's id, as markers name it.
///
/// # Panics
/// When its daemon does not answer.
pub fn town_id(town: &Town) -> String {
    let hello = town.call("daemon.hello", json!({"client": "t", "protocol": 1}));
    hello["town_id"].as_str().expect("an id").to_owned()
}

/// A marker in an environment.
pub fn marks<'a>(town: &'a str, instance: &'a str) -> [(&'static str, &'a str); 2] {
    [("GT_TOWN_ID", town), ("GT_INSTANCE", instance)]
}

/// Writes over a part of a process's environment where it lies in its memory, as a program may do to itself.
///
/// # Panics
/// When it is not there, of another length, or cannot be written.
pub fn patch(process: Process, old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let pid = process.pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after = stat.rsplit(") ").next().expect("fields behind the name");
    // Field 50 of all, of which two are before.
    let begin: u64 = after.split(' ').nth(47).expect("env_start").parse().expect("a number");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).expect("an environment");
    let at = environ.windows(old.len()).position(|part| part == old.as_bytes()).expect("the old text");
    let mut memory =
        std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).expect("memory");
    memory.seek(SeekFrom::Start(begin + u64::try_from(at).expect("small"))).expect("a place");
    memory.write_all(new.as_bytes()).expect("it can be written");
    let now = std::fs::read(format!("/proc/{pid}/environ")).expect("an environment");
    assert!(now.windows(new.len()).any(|part| part == new.as_bytes()));
}

/// Everything that could end something: rounds, a sweep, and a doctor who may do all.
pub fn sweep_all(town: &Town) {
    for _ in 0..2 {
        let _ = town.try_call("daemon.heartbeat", json!({}));
    }
    let _ = town.try_call("orphans.sweep", json!({}));
    let allow = json!(["safe", "disruptive", "destructive"]);
    town.call("doctor.run", json!({"fix": true, "allow": allow}));
}

/// What the list of what was left behind says of a process; null where it says nothing.
///
/// # Panics
/// When there is no list.
pub fn item(town: &Town, process: Process) -> Value {
    let list = town.call("orphans.list", json!({}));
    let mut items = list["items"].as_array().expect("a list").iter();
    items.find(|item| item["pid"] == process.pid).cloned().unwrap_or(Value::Null)
}

/// A town whose witness `a/witness` has left children behind; see [`leave_over`].
pub fn left_over(setup: Setup, steps: &[&str]) -> (Town, Vec<Process>, Process) {
    let town = setup.rigs(&["a"]).no_refineries().script(steps).up();
    let (children, agent) = leave_over(&town, "a/witness");
    (town, children, agent)
}

/// An agent's shim is killed while no daemon runs, and the ledger says that the instance is over: what lives on of
/// its children is left over, and nobody but a sweep will end it. The children, and the agent that was.
///
/// # Panics
/// When it does not come to that.
#[track_caller]
pub fn leave_over(town: &Town, address: &str) -> (Vec<Process>, Process) {
    // Its descent is looked at while it can be seen.
    town.call("daemon.heartbeat", json!({}));
    let agent = town.process(address);
    let shim = Process::of(agent.parent().expect("a shim")).expect("a shim");
    let children: Vec<Process> = descendants(shim.pid).into_iter().filter(|p| *p != agent).collect();
    assert!(!children.is_empty());
    town.kill_daemon();
    shim.kill();
    assert!(wait_until(QUICK, || !agent.alive() && !shim.alive()));
    let conn = rusqlite::Connection::open(town.path("daemon/gtd.db")).expect("the ledger");
    let changed = conn.execute("UPDATE instances SET ended = 1 WHERE agent = ?1", [address]);
    assert!(changed.expect("the ledger can be written") >= 1);
    (children, agent)
}
