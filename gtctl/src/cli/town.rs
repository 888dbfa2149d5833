//! Verbs about a whole town, and its rigs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use gtd_proto::RigName;

use super::shared::{Change, Ending, Plan, Reason, RigName1};
use super::values::duration;

/// `up`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl up
  gtctl up --dry-run")]
pub struct Up {
    #[command(flatten)]
    pub change: Change,
}

/// `down`
#[derive(Debug, Args)]
#[command(after_help = "\
Stops the agents (people's crews stay), our tmux servers where nobody else uses them, and the
daemon, then counts what is left: exit code 7 when something is. Nothing starts until `gtctl up`.

Examples:
  gtctl down
  gtctl down --yes --now --reason 'moving the machine'")]
pub struct Down {
    #[command(flatten)]
    pub ending: Ending,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `init`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl init ~/town && cd ~/town && gtctl up && gtctl rig add alpha https://example.org/alpha.git")]
pub struct Init {
    /// The directory: new, or empty
    pub dir: PathBuf,
    /// The town's name: the directory's unless given
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub plan: Plan,
}

/// `rig …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl rig add alpha https://example.org/alpha.git
  gtctl rig status alpha             its agents, and why it runs or does not
  gtctl rig park alpha               set aside for hours; unpark ends it
  gtctl rig remove alpha --dry-run   what would be ended; its directory stays")]
pub enum Rig {
    /// Clone a repository and register it as a rig
    Add(RigAdd),
    /// All rigs
    #[command(after_help = "\
Example:
  gtctl rig list")]
    List,
    /// One rig with its agents: its state, who made it so, and how to undo that
    #[command(after_help = "\
Example:
  gtctl rig status alpha")]
    Status(RigName1),
    /// Set a rig aside on this machine, for hours: its witness and refinery end
    #[command(after_help = "\
A rig that is parked or docked starts nothing. Its polecats are left to finish, and what should run
is remembered.

Example:
  gtctl rig park alpha --reason 'moving the repository'")]
    Park(RigAside),
    /// The end of a park: brings back what was to run
    #[command(after_help = "\
A witness that a person stopped stays stopped, and a rig that is docked as well stays docked.

Example:
  gtctl rig unpark alpha")]
    Unpark(RigAside),
    /// Set a rig aside for good
    #[command(after_help = "\
A rig that is parked or docked starts nothing. Its polecats are left to finish, and what should run
is remembered.

Example:
  gtctl rig dock alpha --reason 'nobody works on it this quarter'")]
    Dock(RigAside),
    /// The end of a dock: brings back what was to run
    #[command(after_help = "\
A witness that a person stopped stays stopped, and a rig that is parked as well stays parked.

Example:
  gtctl rig undock alpha")]
    Undock(RigAside),
    /// End what runs of a rig and take it out of the registry; its directory stays
    Remove(RigRemove),
}

/// `rig park`, `unpark`, `dock`, `undock`
#[derive(Debug, Args)]
pub struct RigAside {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub change: Change,
}

/// `rig remove`
#[derive(Debug, Args)]
#[command(after_help = "\
Refused while a polecat of it runs, and while its worktrees have work that is nowhere else: changes
that are not committed, stashes, commits that are not pushed. Nothing on disk is ever deleted.

Examples:
  gtctl rig remove alpha --dry-run
  gtctl rig remove alpha --yes")]
pub struct RigRemove {
    /// The rig
    pub rig: RigName,
    /// Also with work in it that is nowhere else
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `rig add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl rig add alpha https://example.org/alpha.git
  gtctl rig add beta ../beta --branch develop")]
pub struct RigAdd {
    /// Its name
    pub name: RigName,
    /// A URL, or the path of a repository
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub source: String,
    /// Prefix of its work items: made from the name unless given
    #[arg(long)]
    pub prefix: Option<String>,
    /// The branch its refinery works on: the repository's own unless given
    #[arg(long, value_name = "BRANCH", alias = "default-branch")]
    pub branch: Option<String>,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Takes a few seconds; needs tmux and git, no network and no model. It ignores every GT_ variable,
touches no other town, and leaves nothing behind.

Example:
  gtctl demo")]
pub struct Demo {
    /// Leave the town's directory where it is
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub plan: Plan,
}
