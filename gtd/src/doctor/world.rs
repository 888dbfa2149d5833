//! The one look that all checks share, gathered once before any of them.
//!
//! Without a daemon it is what files and processes tell; only a daemon knows the rest. Gathering changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::{Address, Agent, InstanceId, RigName, Timestamp, TownId};

use super::checks::Service;
use crate::agents::runtime::Prepare;
use crate::config::Config;
use crate::host::installed;
use crate::ledger::Info;
use crate::process::ProcessTable;
use crate::supervisor::Handle;
use crate::supervisor::hooks::Hooks;
use crate::supervisor::orphans::{Blind, Seen};
use crate::tmux::ServerState;
use crate::town::{Layout, Snapshot, snapshot, town_id};

/// What the checks look at.
pub struct World {
    /// The town's paths.
    pub layout: Layout,
    /// Its files, read anew.
    pub town: Snapshot,
    /// Its configuration as the file stands, or why it cannot be used.
    pub config: Result<Arc<Config>, String>,
    /// Only this rig is meant, where a check is about rigs.
    pub rig: Option<RigName>,
    /// The search path of this process, which agents get.
    pub path: Option<String>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// All processes, or why they cannot be listed.
    pub table: Result<ProcessTable, String>,
    /// The town's id, if it has one.
    pub town_id: Option<TownId>,
    /// When it was looked.
    pub now: Timestamp,
    /// Its unit of the user's service manager, or why that cannot be told.
    pub service: Result<Option<Service>, String>,
    /// What only a daemon knows.
    pub live: Option<Live>,
}

/// How long the whole look may take: files on a disk that hangs are never read.
const GATHER: Duration = Duration::from_secs(10);

/// What only a daemon knows.
pub struct Live {
    /// Agents as they are shown, after all else was looked at.
    pub agents: Vec<Agent>,
    /// Their instances before that: one that was replaced meanwhile cannot be judged by what was seen.
    pub before: BTreeMap<Address, Option<InstanceId>>,
    /// What does not work.
    pub reasons: Vec<String>,
    /// When the daemon began.
    pub started_at: Timestamp,
    /// The town is held.
    pub held: bool,
    /// What was left behind, or why that cannot be told.
    pub orphans: Result<Seen, Blind>,
    /// What agents have on their hooks.
    pub hooks: Hooks,
    /// The ledger's figures.
    pub ledger: Info,
    /// What is wrong with it.
    pub ledger_trouble: Option<String>,
    /// Why its snapshot was not written.
    pub snapshot_trouble: Option<String>,
    /// The tmux server.
    pub tmux: ServerState,
    /// tmux's version.
    pub tmux_version: Option<String>,
    /// What tmux's driver complains of.
    pub tmux_complaint: Option<String>,
    /// The server is the town's own.
    pub tmux_private: bool,
    /// Makes launches, for a look whether an agent could be started. It reads files, which is for a check to wait for.
    pub prepare: Arc<dyn Prepare>,
    /// Where launch files and records are.
    pub run_dir: PathBuf,
}

impl World {
    /// What files, processes and the service manager tell.
    ///
    /// # Errors
    /// When the directory cannot be resolved, or its files are not read in time.
    pub async fn without_daemon(root: &Path, rig: Option<RigName>) -> io::Result<Self> {
        let owned = root.to_owned();
        let gathering = tokio::task::spawn_blocking(move || Self::of_files(&owned, rig));
        let (world, service) = tokio::join!(in_time(gathering), service(root));
        Ok(Self { service, ..world? })
    }

    /// What files and processes tell. Blocks.
    fn of_files(root: &Path, rig: Option<RigName>) -> io::Result<Self> {
        let layout = Layout::at(root)?;
        let town = snapshot::read_settled(&layout, None);
        let config = Config::load(&layout.gtd_toml()).map(Arc::new).map_err(|error| error.to_string());
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Ok(Self {
            town,
            config,
            rig,
            path: variable("PATH"),
            home: variable("HOME").map(PathBuf::from),
            table: ProcessTable::read().map_err(|error| error.to_string()),
            town_id: town_id::read(&layout).ok().flatten(),
            now: Timestamp::now(),
            service: Ok(None),
            live: None,
            layout,
        })
    }

    /// The same, with what the daemon knows.
    ///
    /// # Errors
    /// As [`Self::without_daemon`].
    pub async fn with_daemon(
        handle: &Handle,
        prepare: &Arc<dyn Prepare>,
        root: &Path,
        rig: Option<RigName>,
        reasons: Vec<String>,
        started_at: Timestamp,
    ) -> io::Result<Self> {
        let before: BTreeMap<Address, Option<InstanceId>> = handle.view().read(|shown| {
            let agents = shown.agents.values();
            agents.map(|agent| (agent.agent.clone(), agent.instance.clone())).collect()
        });
        let owned = root.to_owned();
        let gathered = tokio::task::spawn_blocking(move || Self::of_files(&owned, rig));
        let (gathered, orphans, service) =
            tokio::join!(in_time(gathered), handle.look_for_orphans(), service(root));
        let world = gathered?;
        let (agents, held, hooks) = handle.view().read(|shown| {
            (shown.agents.values().cloned().collect::<Vec<_>>(), shown.hold.is_some(), shown.hooks.clone())
        });
        let (ledger, driver) = (handle.ledger(), handle.runtime().driver());
        let live = Live {
            agents,
            before,
            reasons,
            started_at,
            held,
            orphans,
            hooks,
            ledger: ledger.info(),
            ledger_trouble: ledger.trouble(),
            snapshot_trouble: ledger.snapshot_trouble(),
            tmux: driver.state(),
            tmux_version: driver.version().map(|version| version.to_string()),
            tmux_complaint: driver.complaint(),
            tmux_private: driver.is_private(),
            prepare: Arc::clone(prepare),
            run_dir: handle.runtime().shared().run_dir.clone(),
        };
        Ok(Self { live: Some(live), now: handle.wall(), service, ..world })
    }

    /// Whether a rig is meant.
    #[must_use]
    pub fn means(&self, rig: &RigName) -> bool {
        self.rig.as_ref().is_none_or(|only| only == rig)
    }

    /// Whether an agent is meant: those of the town are when no rig was named.
    #[must_use]
    pub fn means_agent(&self, agent: &Address) -> bool {
        match (&self.rig, agent.rig()) {
            (None, _) => true,
            (Some(only), rig) => rig == Some(only),
        }
    }
}

async fn in_time<T>(gathering: tokio::task::JoinHandle<io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(GATHER, gathering).await {
        Ok(gathered) => gathered.map_err(io::Error::other)?,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("its files were not read within {GATHER:?}; the disk may hang"),
        )),
    }
}

/// The unit that is installed, and what its manager says. Nobody is asked where none is installed.
async fn service(root: &Path) -> Result<Option<Service>, String> {
    let Some(units) = installed::units_dir() else { return Ok(None) };
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let Some(installed) = installed::find(&root, &units).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let told = installed::ask(&installed.unit).await;
    Ok(Some(Service { installed, told }))
}
