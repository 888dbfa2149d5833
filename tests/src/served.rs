//! Towns that are run by a real service manager of their own, and what is asked of them in tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::manager::UserManager;
use crate::procs::Process;
use crate::wait::{START, wait_for};
use crate::{Setup, Town, skipped};

/// What [`Town::running`] says: agent, instance, process.
pub type Running = Vec<(String, String, i64)>;

/// A manager for a home directory of this town's person, or the word that the test was skipped.
///
/// # Panics
/// When the directory cannot be made.
pub fn manager(test: &str, town: &Town, home: &str) -> Option<UserManager> {
    let home = town.base().join(home);
    fs::create_dir_all(&home).expect("make a directory");
    UserManager::start(&home).map_err(|why| skipped(test, &why)).ok()
}

/// A town with one rig, whose agents may die as often as a test wants.
pub fn one_rig() -> Setup {
    Setup::new().rigs(&["a"]).toml("[restart]\nburst = 0")
}

/// A town that is run by a manager of its own.
pub struct Served {
    /// First, so that it goes first: it would bring the daemon back.
    pub manager: UserManager,
    /// The town.
    pub town: Town,
}

impl Served {
    /// A town as a service, with its agents running, or the word that the test was skipped. The settings are for its
    /// unit.
    pub fn up(test: &str, setup: Setup, settings: &str) -> Option<Self> {
        let town = setup.make();
        let manager = manager(test, &town, "h")?;
        let town = manager.around(town);
        if !settings.is_empty() {
            manager.settings(settings);
        }
        town.gtctl(&["daemon", "install", "--now"]).ok();
        town.wait_all_running();
        Some(Self { manager, town })
    }

    /// The name of the town's unit, as gtctl says it.
    #[track_caller]
    pub fn unit(&self) -> String {
        unit_of(&self.town)
    }

    /// The daemon as its manager knows it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn daemon(&self) -> Process {
        self.manager.main_process(&self.unit()).expect("the service has a main process")
    }

    /// Waits for another daemon than one that was, and fails unless it has the same agents.
    #[track_caller]
    pub fn adopted(&self, before: Process, agents: &Running) -> Process {
        let after = wait_for(START, "another daemon", || {
            self.manager.main_process(&self.unit()).filter(|now| *now != before && now.alive())
        });
        self.town.wait_answers();
        same_agents(&self.town, agents);
        after
    }
}

/// Fails unless every agent is the same process of the same instance.
#[track_caller]
pub fn same_agents(town: &Town, agents: &Running) {
    assert!(!agents.is_empty());
    town.wait_all_running();
    assert_eq!(&town.running(), agents, "every agent is the same process of the same instance");
    town.assert_never_two();
}

/// The name of a town's unit, as gtctl says it.
///
/// # Panics
/// When it says none.
#[track_caller]
pub fn unit_of(town: &Town) -> String {
    let said: Value = town.gtctl(&["daemon", "install", "--dry-run", "--json"]).ok().json();
    said["result"]["unit"].as_str().expect("a unit's name").to_owned()
}

/// The unit in whose control group a process is.
///
/// # Panics
/// When the process is gone.
#[track_caller]
pub fn unit_around(process: Process) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).expect("the process lives");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The town's tmux server.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn tmux_server(town: &Town) -> Process {
    let status = town.call("town.status", json!({}));
    let pid = status["tmux"][0]["pid"].as_i64().unwrap_or_else(|| panic!("no server: {status:#}"));
    Process::of(i32::try_from(pid).expect("pids are small")).expect("the server lives")
}

/// All files and directories below a directory.
pub fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}
