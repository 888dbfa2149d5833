//! Verbs about workers.

use clap::{Args, Subcommand};
use gtd_proto::{RigName, WorkId};

use super::agents::Attach;
use super::look::Peek;
use super::nudge::PolecatNudge;
use super::shared::{Change, Ending, Overrides};
use super::sling::PolecatSpawn;

/// `polecat …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl polecat spawn alpha --work al-k3x   a new worker, with that work
  gtctl polecat list alpha
  gtctl polecat nudge alpha/nux 'Go on.'
  gtctl polecat stop alpha/nux              its work stays with it
  gtctl polecat remove alpha/nux            once its work is merged")]
pub enum Polecat {
    /// Workers, those who are unwell first
    List(PolecatList),
    /// A worker's card
    Status(PolecatRef),
    /// Make one: a name, a worktree, work on its hook, its agent started
    Spawn(PolecatSpawn),
    /// Put work on its hook, start it and wait until it is ready; starting what runs is no error
    Start(PolecatStart),
    /// Stop its whole process tree; it stays stopped, with its work on its hook
    Stop(PolecatStop),
    /// Stop all workers of a rig, and nobody else
    StopAll(PolecatStopAll),
    /// Stop and start it as a new instance
    Restart(PolecatRestart),
    /// Let go of it: its worktree, its branch and its name; what it has is archived
    Remove(PolecatRemove),
    /// Text for a worker that runs: typed and confirmed, or not typed at all
    #[command(visible_alias = "inject")]
    Nudge(PolecatNudge),
    /// The last lines of its screen
    #[command(
        visible_alias = "capture",
        after_help = "\
Example:
  gtctl polecat peek alpha/nux -n 20"
    )]
    Peek(Peek),
    /// Hand this terminal to its session
    #[command(
        visible_alias = "at",
        after_help = "\
Example:
  gtctl polecat attach alpha/nux"
    )]
    Attach(Attach),
}

/// `polecat list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl polecat list
  gtctl polecat list alpha")]
pub struct PolecatList {
    /// Only of this rig
    pub rig: Option<RigName>,
}

/// `polecat status`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl polecat status alpha/nux")]
pub struct PolecatRef {
    /// The worker: alpha/polecats/nux, or alpha/nux
    #[arg(value_name = "AGENT")]
    pub polecat: String,
}

/// `polecat start`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl polecat start alpha/nux
  gtctl polecat start alpha/nux --work al-k3x --agent claude --timeout 2m")]
pub struct PolecatStart {
    /// The worker: alpha/polecats/nux, or alpha/nux
    #[arg(value_name = "AGENT")]
    pub polecat: String,
    /// What it is to work on: put on its hook before it is started
    #[arg(long, value_name = "ID")]
    pub work: Option<WorkId>,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Take the work from whoever has it, and start also where its store fails
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `polecat stop`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl polecat stop alpha/nux --now --reason 'looking into it'")]
pub struct PolecatStop {
    /// The worker: alpha/polecats/nux, or alpha/nux
    #[arg(value_name = "AGENT")]
    pub polecat: String,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `polecat stop-all`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl polecat stop-all alpha --reason 'release day'")]
pub struct PolecatStopAll {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `polecat restart`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl polecat restart alpha/nux
  gtctl polecat restart alpha/nux --agent codex --reason 'another model'")]
pub struct PolecatRestart {
    /// The worker: alpha/polecats/nux, or alpha/nux
    #[arg(value_name = "AGENT")]
    pub polecat: String,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `polecat remove`
#[derive(Debug, Args)]
#[command(after_help = "\
Refused while it runs, and while it has anything that is not in the default branch: changes that are
not committed, stashes, commits. With --force it is stopped, and all of that is kept first, under
refs/gtd/archive/NAME/TIME/ of the rig's repository. What git cannot keep, such as a repository within
the worktree, is moved aside. Files that git ignores are not kept. Its work is open again.

Examples:
  gtctl polecat remove alpha/nux --dry-run
  gtctl polecat remove alpha/nux --force --yes")]
pub struct PolecatRemove {
    /// The worker: alpha/polecats/nux, or alpha/nux
    #[arg(value_name = "AGENT")]
    pub polecat: String,
    /// Stop it where it runs, and archive what is only in its worktree
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}
