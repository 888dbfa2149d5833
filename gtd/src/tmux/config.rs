//! What the driver is told at its start, and what it tells a server that it starts.
//!
//! Owns the choice of server, the text of our tmux configuration and the environment of tmux processes. It
//! must never let a variable through that is not on the list: a server keeps its first environment for life
//! and hands it to every pane.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::quote::sanitise_name;
use crate::host::unit::Launcher;

/// How a driver is set up.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Which server to use.
    pub server: ServerChoice,
    /// Where our configuration for a private server is written before each start of one.
    pub config_file: PathBuf,
    /// How long any one command may take.
    pub command_timeout: Duration,
    /// Columns and rows of a session that nobody has attached to.
    pub size: (u16, u16),
    /// The program: a path, or a bare name to be found on the `PATH`.
    pub tmux: PathBuf,
    /// Marks our holder session, so that towns can share a server.
    pub town_id: String,
    /// Ways to start a server elsewhere than in our own unit, best first. When none works it is started as our
    /// own child. Usually empty.
    pub launchers: Vec<Launcher>,
    /// tmux is not to be used although it may be there: what a person said, and how that ends.
    pub barred: Option<(String, String)>,
}

/// Which tmux server a town uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// One of our own, on this socket, with our configuration.
    Private(PathBuf),
    /// The user's default server.
    Default,
    /// The user's server of this name (`tmux -L`).
    Named(String),
    /// The server on this socket, whoever started it.
    Socket(PathBuf),
}

impl DriverConfig {
    /// The socket of the server that is to be worked with.
    pub fn socket(&self) -> PathBuf {
        let uid = rustix::process::getuid().as_raw();
        self.server.socket(std::env::var_os("TMUX_TMPDIR").as_deref(), uid)
    }
}

impl ServerChoice {
    /// The socket of that server. `tmpdir` is the value of `TMUX_TMPDIR`, in which tmux looks for named ones
    /// and otherwise in `/tmp`.
    pub fn socket(&self, tmpdir: Option<&OsStr>, uid: u32) -> PathBuf {
        let named = |name: &str| {
            let base = tmpdir.filter(|dir| !dir.is_empty()).map_or(Path::new("/tmp"), Path::new);
            base.join(format!("tmux-{uid}")).join(name)
        };
        match self {
            Self::Private(path) | Self::Socket(path) => path.clone(),
            Self::Default => named("default"),
            Self::Named(name) => named(name),
        }
    }

    /// Whether the server and its options are ours.
    pub const fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }
}

/// The configuration of a private server. Key bindings and looks are tmux's defaults, so that people find what
/// they know; only the session's name is shown in full, since it says whom one is looking at.
pub fn config_text((columns, rows): (u16, u16)) -> String {
    format!(
        "\
# Written by gtd before it starts this tmux server; changes made here are lost.

# The server goes when its last session goes. Our holder session keeps it until then.
set -s exit-empty on
# Nobody is attached most of the time, and that is no reason to end anything.
set -s exit-unattached off
set -g destroy-unattached off
# Panes that people open close as they expect; gtd sets this on its own panes, one by one.
set -g remain-on-exit off
# Memory is lines times panes: 2,000 wide lines are about 2 MB in the worst case.
set -g history-limit 2000
# Variables of a terminal that attaches must not flow into agents that start later.
set -g update-environment ''
# The title of the user's terminal is the user's.
set -g set-titles off
# A window that nobody looks at has this size; one that somebody looks at follows the latest client.
set -g default-size {columns}x{rows}
set -g window-size latest
# Windows keep their names: each change is a notice to control clients, and a server before 3.7 does not survive
# one in the moment when such a client connects.
set -g automatic-rename off
set -g allow-rename off
# The session's name says whose it is: tmux would cut it after ten letters.
set -g status-left-length 60
# Colours that the terminal descriptions of every system know about.
set -s default-terminal screen-256color
# An empty session that is killed takes its client back to the shell, not into another agent's session.
set -g detach-on-destroy on
"
    )
}

/// The name of the session we keep on a server for our connection.
pub(super) fn holder_name(town_id: &str) -> String {
    sanitise_name(&format!("_gtd-{town_id}"))
}

/// What the holder runs: every system has it, it reads nothing, wakes for nothing and ends after 68 years.
/// (`infinity` is not understood everywhere; two words, so that tmux starts it without a shell.)
pub(super) const HOLDER_COMMAND: [&str; 2] = ["sleep", "2147483647"];

/// Variables that a tmux process of ours may have. No `TERM` (there is no terminal), no `TMUX` (it would name
/// another server), nothing of an agent we may have been started by.
const ALLOWED: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// Where to look for programs when there is no `PATH` at all.
const FALLBACK_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The allowed part of an environment.
pub(super) fn scrubbed(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let allowed =
        |name: &OsStr| name.to_str().is_some_and(|name| ALLOWED.contains(&name) || name.starts_with("LC_"));
    let mut kept: Vec<_> = vars.into_iter().filter(|(name, _)| allowed(name)).collect();
    if !kept.iter().any(|(name, _)| name == "PATH") {
        kept.push(("PATH".into(), FALLBACK_PATH.into()));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets() {
        let socket = |choice: ServerChoice, tmpdir: Option<&str>| choice.socket(tmpdir.map(OsStr::new), 1000);
        assert_eq!(socket(ServerChoice::Default, None), Path::new("/tmp/tmux-1000/default"));
        assert_eq!(socket(ServerChoice::Default, Some("")), Path::new("/tmp/tmux-1000/default"));
        assert_eq!(socket(ServerChoice::Named("w".into()), Some("/run/x")), Path::new("/run/x/tmux-1000/w"));
        assert_eq!(socket(ServerChoice::Private("/a".into()), Some("/run/x")), Path::new("/a"));
        assert_eq!(socket(ServerChoice::Socket("/b".into()), None), Path::new("/b"));
    }

    #[test]
    fn only_listed_variables_pass() {
        let given = [
            ("PATH", "/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("LANG", "de_DE.UTF-8"),
            ("GT_TOWN_ID", "x"),
            ("GT_INSTANCE", "x"),
            ("TMUX", "/tmp/x,1,0"),
            ("TMUX_PANE", "%1"),
            ("CLAUDECODE", "1"),
            ("TERM", "xterm"),
            ("NODE_OPTIONS", "--inspect"),
            ("ANTHROPIC_API_KEY", "secret"),
        ];
        let kept = scrubbed(given.map(|(k, v)| (k.into(), v.into())));
        let names: Vec<_> = kept.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["PATH", "LC_ALL", "LANG"]);
        assert_eq!(scrubbed([]), [("PATH".into(), FALLBACK_PATH.into())]);
    }

    #[test]
    fn every_setting_has_its_reason_above() {
        let text = config_text((200, 50));
        let mut reason = false;
        for line in text.lines().filter(|line| !line.is_empty()) {
            assert!(line.is_ascii());
            if line.starts_with('#') {
                reason = true;
            } else {
                assert!(reason && line.starts_with("set "), "{line}");
            }
        }
        assert!(text.contains("default-size 200x50"));
        assert!(!text.contains("bind"));
    }
}
