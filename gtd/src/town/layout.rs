//! Where everything of a town lies.
//!
//! Owns the paths; must never look whether anything is there, except for resolving the root.

use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, RigName, TownId};

/// Longest path of a Unix socket, without the final NUL: `sun_path` has 108 bytes on Linux, 104 elsewhere.
pub const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The paths of one town, all below its resolved root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

macro_rules! paths {
    ($($(#[doc = $doc:literal])* $name:ident => $path:literal;)*) => {
        impl Layout {
            $($(#[doc = $doc])*
            #[must_use]
            pub fn $name(&self) -> PathBuf {
                self.root.join($path)
            })*
        }
    };
}

paths! {
    /// Marks the root.
    town_json => "mayor/town.json";
    /// The registry of rigs.
    rigs_json => "mayor/rigs.json";
    /// Accounts.
    accounts_json => "mayor/accounts.json";
    /// Switches of patrols.
    daemon_json => "mayor/daemon.json";
    /// The mayor's directory.
    mayor_dir => "mayor";
    /// The town's settings.
    settings_json => "settings/config.json";
    /// The town's own presets.
    agents_json => "settings/agents.json";
    /// The daemon's configuration.
    gtd_toml => "settings/gtd.toml";
    /// The directory of settings.
    settings_dir => "settings";
    /// The directory of the rigs' operational state.
    wisp_dir => ".beads-wisp/config";
    /// The town's work store, when it is `bd`.
    beads_dir => ".beads";
    /// Prefixes of work items by path.
    routes_jsonl => ".beads/routes.jsonl";
    /// The deacon's directory.
    deacon_dir => "deacon";
    /// What the deacon writes on each of its rounds.
    deacon_heartbeat => "deacon/heartbeat.json";
    /// There while the deacon is paused.
    deacon_paused => ".runtime/deacon/paused.json";
    /// The directory of the deacon's helper.
    boot_dir => "deacon/dogs/boot";
    /// The verdict of the last triage.
    boot_status => "deacon/dogs/boot/.boot-status.json";
    /// Role definitions.
    roles_dir => "roles";
    /// The daemon's directory.
    daemon_dir => "daemon";
    /// The lock that only one daemon holds.
    daemon_lock => "daemon/daemon.lock";
    /// The daemon's process, for information.
    daemon_pid => "daemon/daemon.pid";
    /// The daemon's state, for older tools.
    state_json => "daemon/state.json";
    /// The log.
    log => "daemon/gtd.log";
    /// The ledger.
    ledger => "daemon/gtd.db";
    /// Where the socket is.
    endpoint_json => "daemon/endpoint.json";
    /// The configuration of our tmux server.
    tmux_conf => "daemon/tmux.conf";
    /// The identity of the town.
    town_id => "daemon/town-id";
    /// Raw events, for older tools.
    events_jsonl => ".events.jsonl";
    /// Curated events, for older tools.
    feed_jsonl => ".feed.jsonl";
}

impl Layout {
    /// The paths of the town at a directory, with symbolic links resolved.
    ///
    /// # Errors
    /// When the directory cannot be resolved.
    pub fn at(root: &Path) -> io::Result<Self> {
        Ok(Self { root: std::fs::canonicalize(root)? })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A rig's operational state.
    #[must_use]
    pub fn wisp(&self, rig: &RigName) -> PathBuf {
        self.wisp_dir().join(format!("{rig}.json"))
    }

    /// A rig's directory.
    #[must_use]
    pub fn rig(&self, rig: &RigName) -> PathBuf {
        self.root.join(rig.as_str())
    }

    /// What a rig was made from.
    #[must_use]
    pub fn rig_config(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join("config.json")
    }

    /// A rig's settings.
    #[must_use]
    pub fn rig_settings(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join("settings/config.json")
    }

    /// A rig's own presets.
    #[must_use]
    pub fn rig_agents(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join("settings/agents.json")
    }

    /// A rig's bare repository.
    #[must_use]
    pub fn repo(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join(".repo.git")
    }

    /// The directory of a rig's workers.
    #[must_use]
    pub fn polecats(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join("polecats")
    }

    /// A worker's directory; its clone is below (see [`super::rigs::polecat_workdir`]).
    #[must_use]
    pub fn polecat(&self, rig: &RigName, name: &AgentName) -> PathBuf {
        self.polecats(rig).join(name.as_str())
    }

    /// The directory of people's workspaces in a rig.
    #[must_use]
    pub fn crew_dir(&self, rig: &RigName) -> PathBuf {
        self.rig(rig).join("crew")
    }

    /// A person's workspace.
    #[must_use]
    pub fn crew(&self, rig: &RigName, name: &AgentName) -> PathBuf {
        self.crew_dir(rig).join(name.as_str())
    }

    /// The directory of sockets, launch files and exit records: `daemon/run`, unless the path of a socket
    /// in it would be too long for the platform; then below `runtime` (`$XDG_RUNTIME_DIR`), else in `/tmp`.
    #[must_use]
    pub fn run_dir(&self, id: &TownId, runtime: Option<&Path>, uid: u32) -> PathBuf {
        self.place(&self.daemon_dir().join("run"), "tmux-00.sock", id, runtime, uid)
    }

    /// The daemon's socket, by the same rule.
    #[must_use]
    pub fn socket(&self, id: &TownId, runtime: Option<&Path>, uid: u32) -> PathBuf {
        self.place(&self.daemon_dir(), "gtd.sock", id, runtime, uid).join("gtd.sock")
    }

    fn place(&self, near: &Path, file: &str, id: &TownId, runtime: Option<&Path>, uid: u32) -> PathBuf {
        let fits = |dir: &Path| dir.join(file).as_os_str().len() <= SOCKET_PATH_MAX;
        if fits(near) {
            return near.to_owned();
        }
        runtime
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("gtd").join(id.as_str()))
            .filter(|dir| fits(dir))
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/gtd-{uid}/{id}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_where_they_fit() {
        let id = TownId::generate();
        let near = Layout { root: "/t".into() };
        assert_eq!(near.socket(&id, None, 7), Path::new("/t/daemon/gtd.sock"));
        assert_eq!(near.run_dir(&id, None, 7), Path::new("/t/daemon/run"));
        let far = Layout { root: format!("/{}", "x".repeat(100)).into() };
        let run = Path::new("/run/user/7");
        assert_eq!(far.socket(&id, Some(run), 7), run.join(format!("gtd/{id}/gtd.sock")));
        assert_eq!(far.run_dir(&id, None, 7), Path::new(&format!("/tmp/gtd-7/{id}")));
        let long = format!("/{}", "r".repeat(100));
        assert_eq!(far.run_dir(&id, Some(Path::new(&long)), 7), Path::new(&format!("/tmp/gtd-7/{id}")));
    }

    #[test]
    fn a_link_to_a_town_is_the_town() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("town")).unwrap();
        std::os::unix::fs::symlink("town", dir.path().join("link")).unwrap();
        let one = Layout::at(&dir.path().join("town")).unwrap();
        assert_eq!(Layout::at(&dir.path().join("link")).unwrap(), one);
        assert!(Layout::at(&dir.path().join("none")).is_err());
    }
}
