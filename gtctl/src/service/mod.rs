//! The daemon as a service of the user's manager: systemd on Linux, launchd on macOS.
//!
//! Owns the files of the service and the calls of the manager's programs. It must never touch a file that it has not
//! written, nor a unit that is not the town's.

mod captured;
mod escape;
mod files;
mod launchd;
mod run;
mod state;
mod systemd;

use std::path::{Path, PathBuf};

pub use captured::{gtd, path};
pub use files::{Change, File, remove};
pub use state::State;

use crate::failure::Failure;

/// The service of one town.
#[derive(Debug, Clone)]
pub enum Service {
    /// Units of systemd.
    Systemd(systemd::Units),
    /// An agent of launchd.
    Launchd(launchd::Agent),
}

impl Service {
    /// That of a town, installed or not.
    ///
    /// # Errors
    /// When it cannot have one here.
    pub fn of(root: &Path) -> Result<Self, Failure> {
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let home = || {
            set("HOME").ok_or_else(|| Failure::failed("HOME is not set, so there is no place for a service"))
        };
        if cfg!(target_os = "macos") {
            let uid = rustix::process::getuid().as_raw();
            return Ok(Self::Launchd(launchd::Agent::of(root, &home()?, uid)));
        }
        let config = match set("XDG_CONFIG_HOME") {
            Some(dir) => dir,
            None => home()?.join(".config"),
        };
        Ok(Self::Systemd(systemd::Units::of(root, &config)?))
    }

    /// That of a town, if it is installed.
    #[must_use]
    pub fn installed(root: &Path) -> Option<Self> {
        Self::of(root).ok().filter(Self::is_installed)
    }

    /// Whether it is installed.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        match self {
            Self::Systemd(units) => units.installed(),
            Self::Launchd(agent) => agent.installed(),
        }
    }

    /// Its name for its manager.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Systemd(units) => &units.service,
            Self::Launchd(agent) => &agent.label,
        }
    }

    /// The files as they should be.
    ///
    /// # Errors
    /// When they cannot be written for this town, or the manager has no such thing.
    pub fn files(&self, gtd: &Path, path: &str, socket: bool) -> Result<Vec<File>, Failure> {
        match self {
            Self::Systemd(units) => units.files(gtd, path, socket),
            Self::Launchd(_) if socket => Err(Failure::usage("launchd cannot hold gtd's socket")),
            Self::Launchd(agent) => agent.files(gtd, path),
        }
    }

    /// What is to be enabled yet.
    #[must_use]
    pub fn to_enable(&self, socket: bool) -> Vec<&str> {
        match self {
            Self::Systemd(units) => units.to_enable(socket),
            Self::Launchd(agent) if agent.installed() => Vec::new(),
            Self::Launchd(agent) => vec![&agent.label],
        }
    }

    /// The units that are in use.
    #[must_use]
    pub fn units(&self) -> Vec<&str> {
        match self {
            Self::Systemd(units) => units.units(),
            Self::Launchd(agent) => vec![&agent.label],
        }
    }

    /// The files that are to go.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        match self {
            Self::Systemd(units) => units.leftovers(),
            Self::Launchd(agent) => agent.leftovers(),
        }
    }

    /// Asks whether there is a manager to talk to.
    ///
    /// # Errors
    /// When there is none.
    pub async fn reachable(&self) -> Result<(), Failure> {
        match self {
            Self::Systemd(units) => units.reachable().await,
            Self::Launchd(_) => Ok(()),
        }
    }

    /// Tells the manager of new files, and what to start by itself.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn enable(&self, units: &[&str]) -> Result<(), Failure> {
        match self {
            Self::Systemd(own) => own.enable(units).await,
            Self::Launchd(agent) => agent.enable().await,
        }
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn disable(&self) -> Result<(), Failure> {
        match self {
            Self::Systemd(units) => units.disable().await,
            Self::Launchd(_) => Ok(()),
        }
    }

    /// Tells the manager that files are gone.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn forget(&self) -> Result<(), Failure> {
        match self {
            Self::Systemd(units) => units.forget().await,
            Self::Launchd(_) => Ok(()),
        }
    }

    /// Starts the daemon, whatever became of it before.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self) -> Result<(), Failure> {
        match self {
            Self::Systemd(units) => units.start().await,
            Self::Launchd(agent) => agent.start().await,
        }
    }

    /// Tells the manager to end the daemon and to keep it down.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn stop(&self) -> Result<(), Failure> {
        match self {
            Self::Systemd(units) => units.stop().await,
            Self::Launchd(agent) => agent.stop().await,
        }
    }

    /// Tells the manager to replace the daemon; false where it has no such thing.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn restart(&self) -> Result<bool, Failure> {
        match self {
            Self::Systemd(units) => units.restart().await.map(|()| true),
            Self::Launchd(_) => Ok(false),
        }
    }

    /// How it is.
    ///
    /// # Errors
    /// When the manager does not say.
    pub async fn state(&self) -> Result<State, Failure> {
        match self {
            Self::Systemd(units) => units.state().await,
            Self::Launchd(agent) => agent.state().await,
        }
    }

    /// What to know about the end of the user's session, where something is.
    #[must_use]
    pub fn about_logout(&self) -> Option<&'static str> {
        match self {
            Self::Systemd(_) if !systemd::lingers() => Some(
                "the manager, the daemon and its agents end with your last logout; to let them go on: loginctl enable-linger",
            ),
            Self::Systemd(_) | Self::Launchd(_) => None,
        }
    }
}

/// What is wrong with the service of a town whose daemon does not answer, added to the failure that says so.
pub async fn explain(failure: Failure, root: &Path) -> Failure {
    let Some(service) = Service::installed(root) else { return failure };
    // Why that cannot be told is of no use to whoever wanted something else.
    let Ok(state) = service.state().await else { return failure };
    match state.trouble() {
        Some(trouble) => failure
            .more(&format!("; its service {} {trouble}", service.name()))
            .with(
                "service",
                serde_json::json!({ "unit": service.name(), "gave_up": state.gave_up(), "trouble": trouble }),
            )
            .hint("gtctl daemon start"),
        None => failure,
    }
}
