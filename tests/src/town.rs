//! A throwaway town with its daemon, and the guard that leaves nothing of it behind.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::client::{Client, Failure, Follower};
use crate::procs::Process;
use crate::run::{Output, run};
use crate::setup::Setup;
use crate::wait::{START, wait_for, wait_until};
use crate::{programs, reaper};

/// A throwaway town. Dropping it ends whatever runs in it and checks that nothing is left.
pub struct Town {
    base: tempfile::TempDir,
    root: PathBuf,
    env: Vec<(String, String)>,
    pub(crate) rigs: Mutex<Vec<String>>,
    pub(crate) daemon: Mutex<Option<Child>>,
}

impl Town {
    pub(crate) fn bare(setup: &Setup) -> Self {
        let base =
            tempfile::Builder::new().prefix("gt").rand_bytes(8).tempdir_in("/tmp").expect("a directory");
        let mut root = base.path().to_owned();
        for _ in 0..setup.depth {
            root.push("d".repeat(30));
        }
        root.push(&setup.name);
        let root = setup.root.clone().unwrap_or(root);
        let town = Self {
            base,
            root,
            env: setup.env.clone(),
            rigs: Mutex::new(setup.rigs.clone()),
            daemon: Mutex::new(None),
        };
        reaper::born(town.base());
        std::fs::create_dir_all(&town.root).expect("make the town");
        for dir in [town.home(), town.journal_dir()] {
            std::fs::create_dir_all(dir).expect("make a directory");
        }
        std::fs::DirBuilder::new().mode(0o700).create(town.runtime_dir()).expect("make a directory");
        town
    }

    /// The town's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the town.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The directory around everything of this test; its name is random, and the mark of all its processes.
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// The home directory of the town's person.
    pub fn home(&self) -> PathBuf {
        self.base().join("h")
    }

    /// `XDG_RUNTIME_DIR` of the daemon and of clients.
    pub fn runtime_dir(&self) -> PathBuf {
        self.base().join("x")
    }

    /// Where scripted agents write down that they live.
    pub fn journal_dir(&self) -> PathBuf {
        self.base().join("j")
    }

    /// Writes the registry whole, by rename.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_registry(&self, rigs: &[&str]) {
        let mut map = Map::new();
        for rig in rigs {
            let prefix: String = rig.chars().filter(char::is_ascii_alphanumeric).take(4).collect();
            map.insert((*rig).to_owned(), json!({"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": prefix}}));
        }
        self.replace("mayor/rigs.json", &format!("{:#}\n", json!({"version": 1, "rigs": map})));
    }

    /// Replaces a file of the town by rename.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replace(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
        let partial = path.with_extension("partial");
        std::fs::write(&partial, text).expect("write a file");
        std::fs::rename(&partial, &path).expect("rename a file");
    }

    /// Makes a rig's directories.
    ///
    /// # Panics
    /// When they cannot be made.
    pub fn make_rig(&self, rig: &str) {
        for dir in ["witness", "refinery/rig", "polecats", "crew", "settings"] {
            std::fs::create_dir_all(self.path(rig).join(dir)).expect("make a rig");
        }
        let mut rigs = self.rigs.lock().expect("no panic while held");
        if !rigs.iter().any(|known| known == rig) {
            rigs.push(rig.to_owned());
        }
    }

    /// A rig's directory was moved by a test.
    ///
    /// # Panics
    /// When another thread panicked.
    pub fn rigs_moved(&self, from: &str, to: &str) {
        let mut rigs = self.rigs.lock().expect("no panic while held");
        rigs.retain(|known| known != from);
        rigs.push(to.to_owned());
    }

    /// Sets a variable in the surroundings of everything of ours that is started from now on.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    // The daemon.

    /// A command of ours in this town's surroundings.
    pub fn command(&self, name: &str) -> Command {
        let mut command = programs::bare(programs::program(name), &self.home());
        command.env("XDG_RUNTIME_DIR", self.runtime_dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(&self) -> Process {
        let process = self.start_unwatched();
        self.wait_answers();
        process
    }

    /// Starts the daemon and does not wait.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn start_unwatched(&self) -> Process {
        let out =
            File::options().create(true).append(true).open(self.base().join("gtd.out")).expect("a file");
        let mut command = self.command("gtd");
        command.arg("--town").arg(&self.root).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("a second handle")).stderr(out).process_group(0);
        let child = command.spawn().expect("start gtd");
        let process =
            Process::of(i32::try_from(child.id()).expect("pids are small")).expect("our child has an entry");
        let before = self.daemon.lock().expect("no panic while held").replace(child);
        if let Some(mut before) = before {
            let _ = before.wait();
        }
        process
    }

    /// Waits until the daemon answers.
    #[track_caller]
    pub fn wait_answers(&self) {
        let answers = wait_until(START, || {
            self.try_call("daemon.hello", json!({"client": "tests", "protocol": 1})).is_ok()
        });
        assert!(answers, "the daemon does not answer; it said: {}", self.daemon_output());
    }

    /// What the daemon wrote to its terminal.
    pub fn daemon_output(&self) -> String {
        std::fs::read_to_string(self.base().join("gtd.out")).unwrap_or_default()
    }

    /// The daemon that this test started last, if it lives.
    pub fn daemon(&self) -> Option<Process> {
        let held = self.daemon.lock().ok()?;
        let pid = i32::try_from(held.as_ref()?.id()).ok()?;
        Process::of(pid).filter(|process| process.alive())
    }

    /// `kill -9` of the daemon; returns when it is gone.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::KILL);
    }

    /// SIGTERM to the daemon; returns how it ended.
    pub fn stop_daemon(&self) -> Option<ExitStatus> {
        self.end_daemon(Signal::TERM)
    }

    #[track_caller]
    fn end_daemon(&self, signal: Signal) -> Option<ExitStatus> {
        if let Some(process) = self.daemon() {
            process.signal(signal);
        }
        self.wait_daemon(START)
    }

    /// Waits until the daemon has ended; `None` when there was none.
    ///
    /// # Panics
    /// When it goes on.
    #[track_caller]
    pub fn wait_daemon(&self, limit: Duration) -> Option<ExitStatus> {
        let mut held = self.daemon.lock().expect("no panic while held");
        let mut child = held.take()?;
        let mut status = None;
        let ended = wait_until(limit, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        if !ended {
            *held = Some(child);
            drop(held);
            panic!("the daemon has not ended within {limit:?}");
        }
        status
    }

    // The socket.

    /// The socket that `endpoint.json` names.
    pub fn socket(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(self.path("daemon/endpoint.json")).ok()?;
        let endpoint: Value = serde_json::from_str(&text).ok()?;
        Some(PathBuf::from(endpoint["socket"].as_str()?))
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// When the daemon does not take it.
    #[track_caller]
    pub fn client(&self) -> Client {
        let socket = self.socket().expect("endpoint.json names a socket");
        Client::connect(&socket).expect("connect")
    }

    /// A subscription of its own.
    #[track_caller]
    pub fn follow(&self, params: Value) -> Follower {
        Follower::new(&self.socket().expect("endpoint.json names a socket"), params)
    }

    /// Calls a method on a fresh connection.
    ///
    /// # Errors
    /// The daemon's, or one of kind `transport` when it is not there.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let gone =
            |message: String| Failure { code: 0, kind: "transport".to_owned(), message, data: Value::Null };
        let socket = self.socket().ok_or_else(|| gone("no endpoint.json".to_owned()))?;
        Client::connect(&socket).map_err(|error| gone(error.to_string()))?.call(method, params)
    }

    /// Calls a method that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params.clone()).unwrap_or_else(|error| panic!("{method} {params}: {error:?}"))
    }

    /// Calls a method that must fail.
    ///
    /// # Panics
    /// When it succeeds.
    #[track_caller]
    pub fn call_fails(&self, method: &str, params: Value) -> Failure {
        match self.try_call(method, params.clone()) {
            Ok(result) => panic!("{method} {params} succeeded: {result}"),
            Err(error) => error,
        }
    }

    /// All events after a number.
    pub fn events(&self, since: u64) -> Vec<Value> {
        let mut found = Vec::new();
        let mut since = since;
        loop {
            let Ok(page) = self.try_call("events.history", json!({"since": since, "limit": 1000})) else {
                break;
            };
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let full = items.len() == 1000;
            found.extend(items);
            since = page["next_since"].as_u64().unwrap_or(since);
            if !full {
                break;
            }
        }
        found
    }

    /// The number of the last event.
    #[track_caller]
    pub fn seq(&self) -> u64 {
        self.call("daemon.status", json!({}))["seq"].as_u64().expect("seq")
    }

    /// Waits for an event of a kind about an agent (empty: any) after a number.
    #[track_caller]
    pub fn wait_event(&self, since: u64, kind: &str, agent: &str, limit: Duration) -> Value {
        wait_for(limit, &format!("event {kind} {agent} after {since}"), || {
            self.events(since)
                .into_iter()
                .find(|event| event["kind"] == kind && (agent.is_empty() || event["agent"] == agent))
        })
    }

    // The client program.

    /// Runs `gtctl --town ROOT ARGS…`.
    #[track_caller]
    pub fn gtctl(&self, args: &[&str]) -> Output {
        let root = self.root.display().to_string();
        let mut all = vec!["--town", &root];
        all.extend(args);
        self.gtctl_bare(&all)
    }

    /// Runs `gtctl ARGS…` in the town's root.
    #[track_caller]
    pub fn gtctl_bare(&self, args: &[&str]) -> Output {
        let mut command = self.command("gtctl");
        command.args(args).current_dir(&self.root);
        run(command, Duration::from_secs(60))
    }
}
