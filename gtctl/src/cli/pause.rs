//! `pause` and `resume`.

use clap::Args;
use gtd_proto::{RigName, Timestamp};

use super::shared::Change;
use super::values::ahead;

/// `pause`
#[derive(Debug, Args)]
#[command(after_help = "\
Every process below the agents' shims is stopped where it stands, and nothing of what is paused is
started or taken for stalled, until `gtctl resume`, or until the time given. It works at once, also
while the ledger cannot be written, and outlives the daemon. People's crews are never touched. Exit
code 7 when somebody could not be frozen.

Examples:
  gtctl pause --reason 'who pushes to main?'
  gtctl pause alpha --until 30m
  gtctl pause --agent alpha/witness --until 2027-01-31T12:00:00Z
  gtctl pause --dry-run")]
pub struct Pause {
    /// Only this rig's agents; the whole town unless a rig or agents are given
    pub rig: Option<RigName>,
    /// Only this agent; may be given several times
    #[arg(long = "agent", value_name = "AGENT", conflicts_with = "rig")]
    pub agents: Vec<String>,
    /// It ends by itself after this time, or at this instant
    #[arg(long, value_name = "TIME", value_parser = ahead)]
    pub until: Option<Timestamp>,
    #[command(flatten)]
    pub change: Change,
}

/// `resume`
#[derive(Debug, Args)]
#[command(after_help = "\
Without rig and agents, everything that is paused goes on. A rig, or an agent, may go on while the
rest stays as it is. What died meanwhile and should run is started.

Examples:
  gtctl resume
  gtctl resume alpha
  gtctl resume --agent alpha/witness")]
pub struct Resume {
    /// Only this rig's agents
    pub rig: Option<RigName>,
    /// Only this agent; may be given several times
    #[arg(long = "agent", value_name = "AGENT")]
    pub agents: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}
