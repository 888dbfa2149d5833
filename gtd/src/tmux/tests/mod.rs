//! Tests against real tmux servers and against programs that pretend to be tmux.

mod bad_days;
mod figures;
mod pretenders;
mod sessions;
mod typing;
mod words;

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::mpsc;

use super::{Driver, DriverConfig, NewSession, ServerChoice, ServerId, TmuxEvent};
use crate::process::observe::{identify, observe};
use crate::process::{ExitWatcher, Observation, Pid, ProcessId};

/// Longest wait for anything: far above what is needed, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A directory with the sockets of a test, and the end of all servers that were started on them.
struct Place {
    dir: tempfile::TempDir,
    /// Servers to be ended at the end, also when the test fails.
    servers: Mutex<Vec<ProcessId>>,
}

impl Place {
    fn new() -> Self {
        // A short path: a socket's must stay below 108 bytes.
        Self {
            dir: tempfile::Builder::new().prefix("gtd-tmux-").tempdir_in("/tmp").unwrap(),
            servers: Mutex::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("s")
    }

    fn config(&self) -> DriverConfig {
        DriverConfig {
            server: ServerChoice::Private(self.socket()),
            config_file: self.path("tmux.conf"),
            command_timeout: Duration::from_secs(10),
            size: (200, 50),
            tmux: real_tmux(),
            town_id: "0190-town".into(),
            launchers: vec![],
            barred: None,
        }
    }

    /// Runs a tmux command on the test's own socket, as a user would, and gives its output.
    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new(real_tmux());
        command.arg("-u").arg("-S").arg(self.socket()).args(["-f", "/dev/null"]).args(args);
        let output = command.env_remove("TMUX").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn track(&self, server: &ServerId) {
        self.servers.lock().unwrap().push(server.process.clone());
    }

    /// Adds the server that answers, whoever started it.
    fn track_any(&self) -> ProcessId {
        let pid = Pid::new(self.tmux(&["display-message", "-p", "#{pid}"]).parse().unwrap()).unwrap();
        let Observation::Alive(process) = identify(pid) else { panic!("the server is not there") };
        self.servers.lock().unwrap().push(process.clone());
        process
    }

    /// Writes a script that stands for tmux.
    fn pretender(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        // Written by another process: a child that a test beside this one is just starting would hold it open for
        // writing, and what is being written cannot be run.
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(
            &mut writer.stdin.take().unwrap(),
            format!("#!/bin/sh\n{body}\n").as_bytes(),
        )
        .unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let servers = self.servers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for process in servers.iter() {
            signal(process, Signal::CONT);
            signal(process, Signal::KILL);
        }
        let end = Instant::now() + LIMIT;
        while servers.iter().any(|process| observe(process).is_alive()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Signals a process of ours, if it is still there.
fn signal(process: &ProcessId, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(process.pid.get()).unwrap();
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
        && observe(process).is_alive()
    {
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// The program under test; another version can be named.
fn real_tmux() -> PathBuf {
    std::env::var_os("GTD_TEST_TMUX").map_or_else(|| "tmux".into(), PathBuf::from)
}

/// A driver and its events.
struct Rig {
    driver: Driver,
    events: mpsc::Receiver<TmuxEvent>,
}

impl Rig {
    async fn open(config: DriverConfig, recorded: Option<ServerId>) -> Self {
        let (sender, events) = mpsc::channel(256);
        let watcher = ExitWatcher::start().unwrap();
        Self { driver: Driver::open(config, watcher, sender, recorded).await, events }
    }

    /// With a server.
    async fn up(place: &Place, config: DriverConfig) -> (Self, ServerId) {
        let rig = Self::open(config, None).await;
        let server = rig.driver.ensure_server().await.unwrap();
        place.track(&server);
        (rig, server)
    }

    /// The next event that this function takes; others are passed over.
    async fn event<T>(&mut self, mut take: impl FnMut(TmuxEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the driver is gone");
                if let Some(found) = take(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, search).await.expect("no such event")
    }
}

/// A session that runs `sleep`.
fn sleeper(name: &str) -> NewSession {
    session(name, "/", &["sleep", "1000"])
}

fn session(name: &str, cwd: impl AsRef<Path>, argv: &[&str]) -> NewSession {
    NewSession {
        name: name.into(),
        cwd: cwd.as_ref().into(),
        argv: argv.iter().map(OsString::from).collect(),
        options: vec![("@gt_instance".into(), format!("i-{name}"))],
    }
}

/// Waits until it holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn proof(pid: Pid) -> ProcessId {
    let Observation::Alive(process) = identify(pid) else { panic!("process {pid} is not there") };
    process
}
