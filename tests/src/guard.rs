//! The end of a town: nothing of it may be left behind, however its test went.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::procs::{self, Process};
use crate::reaper;
use crate::town::Town;
use crate::wait::{CHANGE, QUICK, wait_until};

impl Drop for Town {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.show();
        }
        self.clean_up(failed);
    }
}

impl Town {
    /// What a person needs who reads of a failed test.
    fn show(&self) {
        let tail = |text: &str, lines: usize| {
            let all: Vec<&str> = text.lines().collect();
            all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
        };
        eprintln!("--- gtd's terminal\n{}", tail(&self.daemon_output(), 20));
        let log = std::fs::read_to_string(self.path("daemon/gtd.log")).unwrap_or_default();
        eprintln!("--- gtd.log\n{}", tail(&log, 40));
        if self.daemon().is_some() {
            let events: Vec<String> = self.events(0).iter().map(Value::to_string).collect();
            eprintln!("--- events\n{}", tail(&events.join("\n"), 40));
        }
        let journal: Vec<String> =
            self.journal().iter().map(|entry| serde_json::to_string(entry).unwrap_or_default()).collect();
        eprintln!("--- journal\n{}", tail(&journal.join("\n"), 30));
    }

    /// Ends everything of this town: politely, then by identity; a process that had to be ended by hand
    /// although the daemon had said that all were stopped is a failure of its own.
    fn clean_up(&self, failed: bool) {
        let stopped = self.daemon().is_some_and(|daemon| {
            // A daemon that a test has stopped would not answer.
            daemon.signal(Signal::CONT);
            let asked =
                self.try_call("daemon.shutdown", json!({"stop_agents": true, "reason": "end of the test"}));
            asked.is_ok() && wait_until(CHANGE, || !daemon.alive())
        });
        if let Ok(mut held) = self.daemon.lock()
            && let Some(mut child) = held.take()
        {
            if !stopped {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
        let mark = self.base().display().to_string();
        let left = procs::marked(&mark);
        let left_shown: Vec<String> =
            left.iter().map(|process| format!("{process} {}", process.command_line())).collect();
        let survivors = procs::end_marked(&mark);
        reaper::gone(self.base());
        if failed {
            return;
        }
        assert!(survivors.is_empty(), "processes that cannot be ended: {survivors:?}");
        // A tmux server stays when the daemon is told to stop its agents; it holds nothing then but the
        // daemon's own holder session.
        let fine = |line: &str| line.contains("tmux") || line.contains("sleep 2147483647");
        let wrong: Vec<&String> = left_shown.iter().filter(|line| !fine(line)).collect();
        assert!(!stopped || wrong.is_empty(), "left after the daemon had stopped its agents: {wrong:#?}");
    }

    /// Waits until no process of this town is left but the ones that fit; what is left otherwise.
    pub fn left_besides(&self, fits: impl Fn(&Process) -> bool) -> Vec<String> {
        let mark = self.base().display().to_string();
        let mut left = Vec::new();
        wait_until(QUICK, || {
            left = procs::marked(&mark).into_iter().filter(|process| !fits(process)).collect();
            left.is_empty()
        });
        left.iter().map(|process| format!("{process} {}", process.command_line())).collect()
    }
}
