//! Verbs about the daemon and its socket.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::shared::{Plan, Reason};
use super::values::duration;

/// `daemon …`
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run it in the foreground: becomes gtd
    Run(DaemonRun),
    /// Start it in the background and wait until it answers
    Start(Plan),
    /// End it; agents go on
    Stop(DaemonStop),
    /// End it and start it; agents go on
    Restart(DaemonStop),
    /// Its own state
    Status,
    /// Read the configuration again, and print what that changed
    Reload(Reload),
    /// Log more or less until the next start or reload
    LogLevel(LogLevel),
    /// Run one round of checks now and report it
    Heartbeat(Plan),
    /// Past rounds, newest first
    Heartbeats(Heartbeats),
}

/// `daemon run`
#[derive(Debug, Args)]
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
Exit code: 0 all of the file is in force, 2 the file cannot be used and nothing has changed, 7 a value needs more than a reload.")]
pub struct Reload {
    #[command(flatten)]
    pub plan: Plan,
    #[command(flatten)]
    pub reason: Reason,
}

/// `daemon log-level`
#[derive(Debug, Args)]
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
pub struct Heartbeats {
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
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
