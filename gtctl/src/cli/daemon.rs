//! Verbs about the daemon and its socket.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::shared::{Plan, Reason};
use super::values::{duration, whole};

/// `daemon …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl daemon status
  gtctl daemon restart         after an upgrade of gtd; agents go on
  gtctl daemon reload          after a change of settings/gtd.toml
  gtctl daemon install --now   start it with your session, watched over
  gtctl daemon heartbeats -n 5")]
pub enum Daemon {
    /// Run it in the foreground: becomes gtd
    Run(DaemonRun),
    /// Start it in the background and wait until it answers
    #[command(after_help = "\
Example:
  gtctl daemon start")]
    Start(Plan),
    /// End it; agents go on
    #[command(after_help = "\
Examples:
  gtctl daemon stop
  gtctl daemon stop --force             also when it hangs")]
    Stop(DaemonStop),
    /// End it and start it; agents go on
    #[command(after_help = "\
Examples:
  gtctl daemon restart                  after an upgrade of gtd
  gtctl daemon restart --force          also when it hangs")]
    Restart(DaemonStop),
    /// Its own state
    #[command(after_help = "\
Example:
  gtctl daemon status")]
    Status,
    /// Read the configuration again, and print what that changed
    Reload(Reload),
    /// Log more or less until the next start or reload
    LogLevel(LogLevel),
    /// Run one round of checks now and report it
    #[command(after_help = "\
Example:
  gtctl daemon heartbeat")]
    Heartbeat(Plan),
    /// Past rounds, newest first
    Heartbeats(Heartbeats),
    /// Make it a service that starts with your session and is watched over
    Install(Install),
    /// Take the service away: the daemon ends, agents go on
    #[command(after_help = "\
Example:
  gtctl daemon uninstall --yes")]
    Uninstall(Plan),
}

/// `daemon install`
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "\
The service belongs to your own manager: systemd, or launchd on macOS.
What is installed already is brought up to date where gtd or your PATH have changed.

Examples:
  gtctl daemon install --dry-run   show the files and what would be done
  gtctl daemon install --now       and let it run as a service from now on")]
pub struct Install {
    /// Also start it, in the place of a daemon that runs
    #[arg(long)]
    pub now: bool,
    /// Let the manager listen: the first client starts the daemon, and none fails during a restart
    #[arg(long)]
    pub listen: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon run`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl daemon run            as a service manager would start it")]
pub struct DaemonRun {
    /// Start in a session of its own, away from this terminal
    #[arg(long, hide = true)]
    pub new_session: bool,
    /// Start nothing until `gtctl up`
    #[arg(long)]
    pub hold: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon stop`, `daemon restart`
#[derive(Debug, Clone, Copy, Args)]
pub struct DaemonStop {
    /// How long to wait for its end
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// KILL it after that, if it is proven to be the one that holds the socket
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon reload`
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 all of the file is in force, 2 the file cannot be used and nothing has changed, 7 a value needs more than a reload.

Example:
  gtctl config check && gtctl daemon reload")]
pub struct Reload {
    #[command(flatten)]
    pub plan: Plan,
    #[command(flatten)]
    pub reason: Reason,
}

/// `daemon log-level`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl daemon log-level debug && gtctl logs -f")]
pub struct LogLevel {
    /// How much is logged
    #[arg(value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    pub level: String,
    #[command(flatten)]
    pub plan: Plan,
    #[command(flatten)]
    pub reason: Reason,
}

/// `daemon heartbeats`
#[derive(Debug, Args)]
#[command(after_help = "\
What every round of a town that is well says is left out; --wide and --json have it.

Examples:
  gtctl daemon heartbeats -n 5
  gtctl daemon heartbeats -n 1 --wide     every step of the last round")]
pub struct Heartbeats {
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = whole(1, 1000), allow_negative_numbers = true)]
    pub limit: u32,
    /// Every step of each, with all that it did
    #[arg(long)]
    pub wide: bool,
}

/// `rpc`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl rpc town.status | jq '.rigs[].name'
  gtctl rpc witness.start '{\"rig\":\"alpha\",\"wait_ms\":0}'
  gtctl rpc rpc.discover | jq -r '.methods[].name'")]
pub struct Rpc {
    /// The method
    pub method: String,
    /// Its parameters, an object or an array; `-` reads them from stdin
    pub params: Option<String>,
    #[command(flatten)]
    pub plan: Plan,
}
