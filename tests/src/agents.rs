//! Looking at a town's agents: through the daemon, and through what they wrote down themselves.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::journal::{self, Entry, What};
use crate::procs::Process;
use crate::tmux::Tmux;
use crate::town::Town;
use crate::wait::{CHANGE, START, wait_until};

impl Town {
    /// Every agent that the daemon lists.
    #[track_caller]
    pub fn agents(&self) -> Vec<Value> {
        self.call("agent.list", json!({}))["items"].as_array().cloned().unwrap_or_default()
    }

    /// One agent.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn agent(&self, address: &str) -> Value {
        let found = self.try_agent(address);
        found.unwrap_or_else(|| panic!("no agent {address}"))
    }

    /// One agent, if the daemon answers and has it.
    pub fn try_agent(&self, address: &str) -> Option<Value> {
        let list = self.try_call("agent.list", json!({"selector": address})).ok()?;
        list["items"].as_array()?.iter().find(|agent| agent["agent"] == address).cloned()
    }

    /// Waits until an agent fits.
    #[track_caller]
    pub fn wait_agent(
        &self,
        address: &str,
        limit: Duration,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = wait_until(limit, || {
            last = self.try_agent(address);
            last.as_ref().is_some_and(&fits)
        });
        let last = last.unwrap_or(Value::Null);
        assert!(found, "not within {limit:?}: {address} {what}; it is {last:#}");
        last
    }

    /// Waits until an agent is in a state.
    #[track_caller]
    pub fn wait_state(&self, address: &str, state: &str) -> Value {
        self.wait_agent(address, CHANGE, state, |agent| agent["state"] == state)
    }

    /// Waits until an agent runs as another instance than the given one (empty: as any).
    #[track_caller]
    pub fn wait_new_instance(&self, address: &str, before: &str) -> Value {
        self.wait_agent(address, CHANGE, "running anew", |agent| {
            agent["state"] == "running" && agent["running"] == true && agent["instance"] != before
        })
    }

    /// Waits until every agent that should run does, with its rigs known.
    #[track_caller]
    pub fn wait_all_running(&self) {
        let rigs = self.rigs.lock().expect("no panic while held").clone();
        let mut seen = Vec::new();
        let all = wait_until(START, || {
            let Ok(list) = self.try_call("agent.list", json!({})) else { return false };
            seen = list["items"].as_array().cloned().unwrap_or_default();
            let up = |agent: &Value| agent["running"] == true && agent["state"] == "running";
            rigs.iter().all(|rig| seen.iter().any(|agent| agent["agent"] == format!("{rig}/witness")))
                && seen.iter().filter(|agent| should_run(agent)).all(up)
        });
        let brief: Vec<String> =
            seen.iter().map(|a| format!("{} {} {}", a["agent"], a["state"], a["reason"])).collect();
        assert!(all, "not all agents run: {brief:#?}");
    }

    /// The process of a running agent, by what the daemon says.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn process(&self, address: &str) -> Process {
        let agent = self.agent(address);
        let pid = agent["pid"].as_i64().unwrap_or_else(|| panic!("{address} has no process: {agent:#}"));
        Process::of(i32::try_from(pid).expect("pids are small")).expect("a running agent's process is there")
    }

    /// Ids that change when an agent is started anew, of all running agents.
    #[track_caller]
    pub fn running(&self) -> Vec<(String, String, i64)> {
        let mut all: Vec<(String, String, i64)> = self
            .agents()
            .iter()
            .filter(|agent| agent["running"] == true)
            .map(|agent| {
                let text = |field: &str| agent[field].as_str().unwrap_or_default().to_owned();
                (text("agent"), text("instance"), agent["pid"].as_i64().unwrap_or_default())
            })
            .collect();
        all.sort();
        all
    }

    /// What agents wrote down.
    pub fn journal(&self) -> Vec<Entry> {
        journal::read(&self.journal_dir())
    }

    /// Starts of an agent (`rig/role`) that were written down.
    pub fn starts(&self, agent: &str) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| entry.what == What::Start && entry.agent == agent).collect()
    }

    /// Children of a kind that were written down.
    pub fn children(&self, kind: &str) -> Vec<Process> {
        let all = self.journal();
        all.iter().filter(|e| e.what == What::Child && e.detail == kind).map(|e| e.process).collect()
    }

    /// Fails when two instances of an agent ever met.
    #[track_caller]
    pub fn assert_never_two(&self) {
        let met: Vec<Entry> =
            self.journal().into_iter().filter(|entry| entry.what == What::Violation).collect();
        assert!(met.is_empty(), "two instances at once: {met:#?}");
    }

    /// The town's first tmux server.
    pub fn tmux(&self) -> Tmux {
        let listed = self.try_call("town.status", json!({})).ok();
        let socket = listed
            .and_then(|status| Some(PathBuf::from(status["tmux"][0]["socket"].as_str()?)))
            .unwrap_or_else(|| self.path("daemon/run/tmux-0.sock"));
        Tmux::new(socket, &self.home())
    }

    /// Open alerts.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Value> {
        self.call("town.status", json!({}))["alerts"].as_array().cloned().unwrap_or_default()
    }
}

/// Whether an agent is to run, and nothing lasting bars it.
fn should_run(agent: &Value) -> bool {
    let reason = agent["reason"].as_str().unwrap_or_default();
    let barred = agent["state"] == "stopped" && (reason.contains("mode is") || reason.contains("parked"));
    agent["intent"] == "running" && !barred
}
