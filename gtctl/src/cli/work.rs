//! Verbs about work items and hooks.

use clap::{Args, Subcommand};
use gtd_proto::{RigName, WorkId};

use super::shared::Change;

/// `work …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl work create 'Fix the parser' --rig alpha
  gtctl work list --rig alpha
  gtctl work show al-k3x
  gtctl work close al-k3x --reason merged
  gtctl sling al-k3x alpha                 give it to a new worker")]
pub enum Work {
    /// Make a work item
    Create(WorkCreate),
    /// One work item
    Show(WorkShow),
    /// Work items, the most urgent first
    List(WorkList),
    /// Close a work item; a hook that it is on is empty then
    Close(WorkClose),
}

/// `work create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl work create 'Fix the parser' --rig alpha --priority 1
  gtctl work create -- '--verbose prints nothing'")]
pub struct WorkCreate {
    /// What is to be done, in a line
    pub title: String,
    /// The rig whose work it is: the town's own unless given
    #[arg(long)]
    pub rig: Option<RigName>,
    /// More of it
    #[arg(long, short = 'd', value_name = "TEXT", allow_hyphen_values = true)]
    pub description: Option<String>,
    /// 0, the most urgent, to 4: 2 unless given
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(u8).range(0..=4))]
    pub priority: Option<u8>,
    #[command(flatten)]
    pub change: Change,
}

/// `work show`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl work show al-k3x")]
pub struct WorkShow {
    /// The item's id, whole
    pub id: WorkId,
}

/// `work list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl work list --rig alpha
  gtctl work list --status closed
  gtctl work list --assignee alpha/polecats/nux")]
pub struct WorkList {
    /// Only of this rig: of the town and all rigs unless given
    #[arg(long)]
    pub rig: Option<RigName>,
    /// Only of this status: everything that is not closed unless given
    #[arg(long)]
    pub status: Option<String>,
    /// Only of this assignee
    #[arg(long, value_name = "WHO")]
    pub assignee: Option<String>,
}

/// `work close`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl work close al-k3x --reason 'merged'")]
pub struct WorkClose {
    /// The item's id, whole
    pub id: WorkId,
    #[command(flatten)]
    pub change: Change,
}

/// `hook …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl hook show alpha/polecats/nux
  gtctl hook set alpha/polecats/nux al-k3x
  gtctl hook clear alpha/polecats/nux")]
pub enum Hook {
    /// What is on an agent's hook, asked of its store now
    Show(HookShow),
    /// Put work on an agent's hook
    Set(HookSet),
    /// Take the work off an agent's hook; the work is open then
    Clear(HookClear),
}

/// `hook show`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl hook show alpha/polecats/nux")]
pub struct HookShow {
    /// The agent
    pub agent: String,
}

/// `hook set`
#[derive(Debug, Args)]
#[command(after_help = "\
An item is on one hook, and a hook has one item: what another agent has, or what the hook has
already, is only replaced with --force.

Example:
  gtctl hook set alpha/polecats/nux al-k3x")]
pub struct HookSet {
    /// The agent
    pub agent: String,
    /// The work's id, whole
    pub work: WorkId,
    /// Take it from whoever has it, and take off what the hook has
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `hook clear`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl hook clear alpha/polecats/nux")]
pub struct HookClear {
    /// The agent
    pub agent: String,
    #[command(flatten)]
    pub change: Change,
}
