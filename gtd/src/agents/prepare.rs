//! Launches out of the settings as they stand: the one way to one, for starts, restarts and looks.
//!
//! Looks at files and the search path, and changes nothing but the deacon's and the boot's own directories, which it
//! makes where they are missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use gtd_proto::{Address, InstanceId, TownId};

use super::converse::{self, Talk};
use super::environment::{self, Env};
use super::launch::{self, Launch, LaunchError};
use super::order::{Failure, FailureKind, Overrides};
use super::prompt::Work;
use super::resolve::{Choice, ResolveError, Sources, resolve};
use super::runtime::{Prepare, Prepared, sibling};
use super::{accounts, claude_settings, session_name};
use crate::config::Live;
use crate::town::settings::{self, Settings};
use crate::town::{Layout, Snapshot, rigs};

/// Knows what is on the agents' hooks, as last heard: asked at a launch, which waits for no store.
pub trait Hooked: Send + Sync {
    /// The work of an agent.
    fn work(&self, agent: &Address) -> Option<Work>;
}

/// Makes launches from what was last seen of the town.
pub struct Preparer {
    snapshot: RwLock<Arc<Snapshot>>,
    config: Live,
    town_id: TownId,
    socket: PathBuf,
    /// Where reports are left for a daemon that does not answer.
    spool: PathBuf,
    /// The program that agents' hooks call: beside our own.
    gtctl: Option<PathBuf>,
    hooks: OnceLock<Arc<dyn Hooked>>,
    base_env: Env,
    /// What persons gave at the last start of each agent, to look again at what a broken one waits for.
    asked: Mutex<BTreeMap<Address, Overrides>>,
}

impl Preparer {
    /// Takes the daemon's own environment as it is now, as far as agents get any of it.
    #[must_use]
    pub fn new(
        snapshot: Arc<Snapshot>,
        config: Live,
        town_id: TownId,
        socket: PathBuf,
        spool: PathBuf,
    ) -> Self {
        // Variables that are no text could not be passed on in a launch file.
        let ours = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self {
            snapshot: RwLock::new(snapshot),
            config,
            town_id,
            socket,
            spool,
            gtctl: sibling("gtctl"),
            hooks: OnceLock::new(),
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

    /// The launch of an agent whose directory is yet to be made, as the settings stand now: nothing of it is kept.
    ///
    /// # Errors
    /// When the settings name something that is not there, or the program cannot be executed.
    pub fn draft(&self, agent: &Address, overrides: &Overrides) -> Result<Launch, Failure> {
        let (launch, _) = self.launch(agent, &InstanceId::generate(), overrides, None)?;
        launch.look_at_program().map_err(|error| Failure {
            message: format!(
                "its program {}: {}",
                error.path.as_deref().unwrap_or_default(),
                launch::in_words(&error.errno)
            ),
            hint: None,
            kind: FailureKind::Exec(error),
        })?;
        Ok(launch)
    }

    fn launch(
        &self,
        agent: &Address,
        instance: &InstanceId,
        overrides: &Overrides,
        talk: Option<&Talk>,
    ) -> Result<(Launch, Option<claude_settings::Plan>), Failure> {
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
        let settings = self.settings_of(layout, agent, &choice);
        let conversation = talk.map(|talk| {
            converse::choose(talk, &choice.name, account.as_ref().map(|account| account.handle.as_str()))
        });
        let work = self.hooks.get().and_then(|hooks| hooks.work(agent));
        let request = launch::Request {
            agent,
            instance,
            choice: &choice,
            root: layout.root(),
            town: &self.town_id,
            socket: &self.socket,
            spool: &self.spool,
            cwd: &cwd,
            base_env: &self.base_env,
            account: account.as_ref(),
            overrides: &overrides.env,
            conversation: conversation.as_ref(),
            settings_file: settings.as_ref().filter(|plan| plan.used).map(|plan| plan.path.as_path()),
            report_hooks: settings.as_ref().is_some_and(|plan| plan.reports),
            work: work.as_ref(),
        };
        let made = launch::launch(&request).map_err(|error| {
            let message = error.to_string();
            match error {
                LaunchError::Exec { error, hint, .. } => {
                    Failure { message, hint: Some(hint), kind: FailureKind::Exec(*error) }
                }
                LaunchError::Env { .. } => settings_failure(message, "name another variable"),
            }
        })?;
        Ok((made, settings))
    }

    /// The settings file for a program that takes one. Who names one of their own is given no other.
    fn settings_of(
        &self,
        layout: &Layout,
        agent: &Address,
        choice: &Choice,
    ) -> Option<claude_settings::Plan> {
        let flag = choice.preset.settings_flag?;
        let own =
            choice.entry.args.iter().flatten().any(|arg| {
                arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            });
        let gtctl = self.gtctl.as_deref().filter(|_| !own)?;
        Some(claude_settings::plan(claude_settings::path(layout, agent), gtctl))
    }

    /// The deacon and the boot work in directories that are of no use to anybody else; older towns lack them. Where
    /// they cannot be made, the launch says so.
    fn make_own_dir(&self, agent: &Address) {
        if matches!(agent, Address::Deacon | Address::Boot)
            && let Err(error) = std::fs::create_dir_all(rigs::workdir(&self.snapshot().layout, agent))
        {
            tracing::warn!(%agent, %error, "its directory cannot be made");
        }
    }

    /// Who knows what is on the hooks: what an agent has is said in its start-up text.
    pub fn ask_hooks(&self, hooks: Arc<dyn Hooked>) {
        // Asked for once, when everything is put together.
        let _ = self.hooks.set(hooks);
    }
}

impl Prepare for Preparer {
    fn prepare(
        &self,
        agent: &Address,
        instance: &InstanceId,
        overrides: &Overrides,
        talk: Option<&Talk>,
    ) -> Result<Prepared, Failure> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone(), overrides.clone());
        let (launch, settings) = self.launch(agent, instance, overrides, talk)?;
        if talk.is_some() {
            self.make_own_dir(agent);
        }
        usable(&launch)?;
        let snapshot = self.snapshot();
        let prefix = agent.rig().and_then(|rig| snapshot.rigs.get(rig)).map(|rig| rig.prefix.as_str());
        let config = self.config.now();
        Ok(Prepared {
            session_name: session_name::expand(&config.tmux.names, agent, prefix),
            grace: config.stop.grace,
            spare: config.stop.spare.clone(),
            launch,
            settings,
        })
    }

    fn is_mended(&self, agent: &Address) -> bool {
        self.look(agent).is_ok()
    }

    fn look(&self, agent: &Address) -> Result<(), Failure> {
        let overrides = {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.get(agent).cloned().unwrap_or_default()
        };
        usable(&self.launch(agent, &InstanceId::generate(), &overrides, None)?.0)
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

/// Whether its program and directory are there.
fn usable(launch: &Launch) -> Result<(), Failure> {
    launch.look().map_err(|error| Failure {
        message: format!(
            "{} {}: {}",
            if error.op == "chdir" { "its directory" } else { "its program" },
            error.path.as_deref().unwrap_or_default(),
            launch::in_words(&error.errno)
        ),
        hint: None,
        kind: FailureKind::Exec(error),
    })
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
