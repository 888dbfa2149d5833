//! Verbs that make workers, and give them work.

use clap::Args;
use gtd_proto::{RigName, WorkId};

use super::shared::Change;
use super::values::{assignment, rig_alone};

/// `sling`
#[derive(Debug, Args)]
#[command(after_help = "\
A rig gets a new polecat: a name, a worktree on a branch of its own, the work on its hook, its
agent started. A polecat gets the work on its hook and is started. Where no polecat comes of it,
nothing of it is left; work that was made for it with --new stays, open, and is named.

Examples:
  gtctl sling al-k3x alpha
  gtctl sling al-k3x alpha --agent codex --account work --env LOG=debug
  gtctl sling al-k3x alpha/polecats/nux
  gtctl sling 'Fix the parser' alpha
  gtctl sling --new Refactor alpha --name nux")]
pub struct Sling {
    /// The work's id, whole; with --new, or with a space in it, a title: the work is made first
    #[arg(value_name = "WORK")]
    pub work: String,
    /// A rig, or a polecat: alpha, alpha/polecats/nux, alpha/nux
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// WORK is a title: make the work first
    #[arg(long)]
    pub new: bool,
    /// The new polecat's name: the next one of the rig's unless given
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub launch: Launch,
    /// Take the work from whoever has it, archive what a leftover of that name still has, and start also where the
    /// store of work fails
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `polecat spawn`
#[derive(Debug, Args)]
#[command(after_help = "\
Where no polecat comes of it, nothing of it is left, unless its agent ran and did something: then
its worktree is kept, and the error says where.

Examples:
  gtctl polecat spawn alpha
  gtctl polecat spawn alpha --work al-k3x --name nux --agent codex")]
pub struct PolecatSpawn {
    /// The rig
    #[arg(value_parser = rig_alone)]
    pub rig: RigName,
    /// The work that it gets on its hook, by its id
    #[arg(long, value_name = "ID")]
    pub work: Option<WorkId>,
    /// Its name: the next one of the rig's unless given
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub launch: Launch,
    /// Take the work from whoever has it, archive what a leftover of that name still has, and start also where the
    /// store of work fails
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub change: Change,
}

/// What a worker is launched with. Sticks for restarts until a start names others.
#[derive(Debug, Clone, Default, Args)]
pub struct Launch {
    /// A preset, or an entry of `agents` in the settings
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// The account it runs under: GT_ACCOUNT, else the default of mayor/accounts.json
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Further environment; may be given several times
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    pub env: Vec<(String, String)>,
}
