//! Launches out of the settings as they stand: the one way to one, for starts, restarts and looks.
//!
//! Looks at files and the search path, and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use gtd_proto::{Address, InstanceId, TownId};

use super::environment::{self, Env};
use super::launch::{self, Launch, LaunchError};
use super::order::{Failure, FailureKind, Overrides};
use super::resolve::{ResolveError, Sources, resolve};
use super::runtime::{Prepare, Prepared};
use super::{accounts, session_name};
use crate::config::Live;
use crate::town::settings::{self, Settings};
use crate::town::{Snapshot, rigs};

/// Makes launches from what was last seen of the town.
pub struct Preparer {
    snapshot: RwLock<Arc<Snapshot>>,
    config: Live,
    town_id: TownId,
    socket: PathBuf,
    base_env: Env,
    /// What persons gave at the last start of each agent, to look again at what a broken one waits for.
    asked: Mutex<BTreeMap<Address, Overrides>>,
}

impl Preparer {
    /// Takes the daemon's own environment as it is now, as far as agents get any of it.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, config: Live, town_id: TownId, socket: PathBuf) -> Self {
        // Variables that are no text could not be passed on in a launch file.
        let ours = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self {
            snapshot: RwLock::new(snapshot),
            config,
            town_id,
            socket,
            base_env: environment::allowed(ours),
            asked: Mutex::default(),
        }
    }

    /// The town looks different.
    pub fn see(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// The town as it was last seen.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn launch(
        &self,
        agent: &Address,
        instance: &InstanceId,
        overrides: &Overrides,
    ) -> Result<Launch, Failure> {
        let snapshot = self.snapshot();
        let layout = &snapshot.layout;
        let mut sources = Sources::of(&snapshot, agent.rig()).map_err(|error| resolve_failure(&error))?;
        // Who edits the settings and starts an agent in the next moment means the new ones, which the watch may
        // not have seen yet.
        let town = fresh(&layout.settings_json(), &layout.agents_json());
        let rig = agent.rig().and_then(|rig| fresh(&layout.rig_settings(rig), &layout.rig_agents(rig)));
        sources.town = town.as_ref().unwrap_or(sources.town);
        sources.rig = sources.rig.map(|seen| rig.as_ref().unwrap_or(seen));
        let choice = resolve(&sources, agent.role(), overrides.agent.as_deref())
            .map_err(|error| resolve_failure(&error))?;
        let home = self.base_env.get("HOME").map(PathBuf::from);
        let account = accounts::read(&layout.accounts_json(), home.as_deref())
            .and_then(|accounts| accounts.choose(overrides.account.as_deref(), None))
            .map_err(|error| settings_failure(error.to_string(), "look at mayor/accounts.json"))?;
        let cwd = rigs::workdir(layout, agent);
        let request = launch::Request {
            agent,
            instance,
            choice: &choice,
            root: layout.root(),
            town: &self.town_id,
            socket: &self.socket,
            cwd: &cwd,
            base_env: &self.base_env,
            account: account.as_ref(),
            overrides: &overrides.env,
            conversation: None,
            settings_file: None,
            report_hooks: false,
            work: None,
        };
        launch::launch(&request).map_err(|error| {
            let message = error.to_string();
            match error {
                LaunchError::Exec { error, hint, .. } => {
                    Failure { message, hint: Some(hint), kind: FailureKind::Exec(*error) }
                }
                LaunchError::Env { .. } => settings_failure(message, "name another variable"),
            }
        })
    }
}

impl Prepare for Preparer {
    fn prepare(
        &self,
        agent: &Address,
        instance: &InstanceId,
        overrides: &Overrides,
    ) -> Result<Prepared, Failure> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone(), overrides.clone());
        let launch = self.launch(agent, instance, overrides)?;
        launch.look().map_err(|error| Failure {
            message: format!(
                "{} {}: {}",
                if error.op == "chdir" { "its directory" } else { "its program" },
                error.path.as_deref().unwrap_or_default(),
                launch::in_words(&error.errno)
            ),
            hint: None,
            kind: FailureKind::Exec(error),
        })?;
        let snapshot = self.snapshot();
        let prefix = agent.rig().and_then(|rig| snapshot.rigs.get(rig)).map(|rig| rig.prefix.as_str());
        let config = self.config.now();
        Ok(Prepared {
            session_name: session_name::expand(&config.tmux.names, agent, prefix),
            grace: config.stop.grace,
            spare: config.stop.spare.clone(),
            launch,
        })
    }

    fn is_mended(&self, agent: &Address) -> bool {
        let overrides = {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.get(agent).cloned().unwrap_or_default()
        };
        self.launch(agent, &InstanceId::generate(), &overrides).is_ok_and(|launch| launch.look().is_ok())
    }

    fn prompt(&self, agent: &Address, entry: &str) -> Option<String> {
        self.prompt_of(agent, entry)
    }
}

impl Preparer {
    /// How the input line begins, by the settings as they were last seen: they name it, or it is the preset's.
    fn prompt_of(&self, agent: &Address, entry: &str) -> Option<String> {
        let snapshot = self.snapshot();
        let sources = Sources::of(&snapshot, agent.rig()).ok()?;
        let choice = resolve(&sources, agent.role(), Some(entry)).ok()?;
        choice.entry.ready_prompt_prefix.or_else(|| choice.preset.prompt_prefix.map(str::to_owned))
    }
}

/// Settings as they are on the disk. None where the file is missing or cannot be read: it may be about to be
/// replaced, and what was seen last holds.
fn fresh(config: &Path, agents: &Path) -> Option<Settings> {
    config.is_file().then(|| settings::read(config, agents).ok()).flatten()
}

fn settings_failure(message: String, hint: &str) -> Failure {
    Failure { message, hint: Some(hint.to_owned()), kind: FailureKind::Settings }
}

fn resolve_failure(error: &ResolveError) -> Failure {
    settings_failure(error.to_string(), "look at settings/config.json, and the rig's own")
}
