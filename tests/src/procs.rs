//! Processes by identity: pid and start time, read from `/proc`; signals go through a pidfd.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::wait::chaos_delay;

/// One process: the pid says where to look, the start time who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process number.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.start)
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: char,
    parent: i32,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name in parentheses may hold anything; the fields go on after the last one.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

impl Process {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: stat(pid)?.start })
    }

    /// This process itself.
    ///
    /// # Panics
    /// When `/proc` is not there.
    pub fn own() -> Self {
        Self::of(i32::try_from(std::process::id()).expect("pids are small")).expect("/proc is mounted")
    }

    fn now(self) -> Option<Stat> {
        stat(self.pid).filter(|stat| stat.start == self.start)
    }

    /// Whether it lives; a zombie does not.
    pub fn alive(self) -> bool {
        self.now().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether it is stopped, by a signal or a debugger.
    pub fn stopped(self) -> bool {
        self.now().is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// Its parent's pid.
    pub fn parent(self) -> Option<i32> {
        self.now().map(|stat| stat.parent)
    }

    /// Its arguments, with blanks between them.
    pub fn command_line(self) -> String {
        std::fs::read(format!("/proc/{}/cmdline", self.pid))
            .map(|raw| String::from_utf8_lossy(&raw).replace('\0', " "))
            .unwrap_or_default()
    }

    /// The environment that it was started with.
    pub fn environment(self) -> BTreeMap<String, String> {
        let raw = std::fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        raw.split(|byte| *byte == 0)
            .filter_map(|pair| {
                let pair = String::from_utf8_lossy(pair).into_owned();
                pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect()
    }

    /// Its working directory.
    pub fn directory(self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }

    /// Sends a signal to exactly this process; nothing when it is gone.
    pub fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // The descriptor holds whoever has the pid now; only the start time says that it is who is meant.
        if self.now().is_some() {
            let _ = pidfd_send_signal(fd, signal);
        }
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }
}

/// All processes that there are.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
        .collect()
}

/// Processes whose arguments or environment carry a mark: a path that a test has made with a random name.
/// Whoever carries it was started by that test or by something that it started.
pub fn marked(mark: &str) -> Vec<Process> {
    let own = Process::own();
    all()
        .into_iter()
        .filter(|process| *process != own && process.alive())
        .filter(|process| {
            let carries = |file: &str| {
                std::fs::read(format!("/proc/{}/{file}", process.pid))
                    .is_ok_and(|raw| raw.windows(mark.len()).any(|part| part == mark.as_bytes()))
            };
            carries("cmdline") || carries("environ")
        })
        .collect()
}

/// Ends everything that carries a mark: daemons first, for they would start others again. What could not be
/// ended.
pub fn end_marked(mark: &str) -> Vec<Process> {
    let mut left = Vec::new();
    let mut empty = 0;
    for _ in 0..200 {
        left = marked(mark);
        // One that is being executed has no arguments for a moment, and one that forks may be listed too late:
        // only what is empty twice is.
        empty = if left.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            break;
        }
        left.sort_by_key(|process| !process.command_line().contains("/gtd "));
        for process in &left {
            process.kill();
        }
        chaos_delay(Duration::from_millis(10));
    }
    left
}

/// The children, and their children, of a process.
pub fn descendants(of: i32) -> Vec<Process> {
    let all: Vec<(Process, i32)> = all().into_iter().filter_map(|p| Some((p, p.parent()?))).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for (process, its_parent) in &all {
            if *its_parent == parent && !found.contains(process) {
                found.push(*process);
                parents.push(process.pid);
            }
        }
    }
    found
}
