//! Verbs that look for what is wrong, and for what was left behind.

use clap::{Args, Subcommand, ValueEnum};
use gtd_proto::RigName;

use super::shared::{Plan, Reason};

/// `doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --fix it only looks. With it, what is safe is put right at once; what interrupts or ends
something is asked for on a terminal, and needs --yes elsewhere. Then it looks again, and that is
the result.
Exit code 0 when nothing is worse than a warning, 1 on errors, 5 when something could not be told.

Examples:
  gtctl doctor
  gtctl doctor disk ledger            two checks
  gtctl doctor --list                 what checks there are
  gtctl doctor --fix --dry-run        what would be done
  gtctl doctor --fix orphan-processes")]
pub struct Doctor {
    /// Checks by name: all unless given
    #[arg(value_name = "CHECK")]
    pub checks: Vec<String>,
    /// Put right what can be, and look again
    #[arg(long)]
    pub fix: bool,
    /// Only what concerns this rig, where a check is about rigs
    #[arg(long)]
    pub rig: Option<RigName>,
    /// Only list the checks
    #[arg(long, conflicts_with_all = ["fix", "rig", "checks", "dry_run"])]
    pub list: bool,
    #[command(flatten)]
    pub plan: Plan,
    #[command(flatten)]
    pub reason: Reason,
}

/// `orphans …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl orphans list              with the evidence; most of it is not ours
  gtctl orphans sweep --dry-run   what would be ended")]
pub enum Orphans {
    /// Sessions and processes that look left behind, whoever they belong to, with the evidence
    #[command(after_help = "\
Only what is called an orphan is proven to be of this town and over; nothing else is ever ended.

Example:
  gtctl orphans list")]
    List,
    /// End what is proven to be of this town and left over
    Sweep(OrphansSweep),
}

/// `orphans sweep`
#[derive(Debug, Args)]
#[command(after_help = "\
Processes get TERM, and KILL after five seconds; dead panes are closed. Each signal is on record.

Examples:
  gtctl orphans sweep --dry-run
  gtctl orphans sweep --kind process")]
pub struct OrphansSweep {
    /// Only these: sessions and processes unless given
    #[arg(long, value_enum)]
    pub kind: Vec<OrphanKind>,
    #[command(flatten)]
    pub plan: Plan,
    #[command(flatten)]
    pub reason: Reason,
}

/// What can be left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrphanKind {
    /// A tmux session
    Session,
    /// A process
    Process,
}

impl OrphanKind {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Process => "process",
        }
    }
}

/// `session …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Sessions are looked at here; the verbs of polecats are understood as well, under the old name.

Examples:
  gtctl session list
  gtctl session list --json")]
pub enum Session {
    /// Every session on the town's tmux server, ours or not, with what proves it
    #[command(after_help = "\
Example:
  gtctl session list")]
    List,
}

/// `crew …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A workspace is a directory RIG/crew/NAME of a person. It is listed and protected, and its person
gets mail; nothing is ever typed, started or ended there.

Examples:
  gtctl crew list alpha
  gtctl mail send alpha/crew/max 'Nux is stuck'")]
pub enum Crew {
    /// People's workspaces; they are listed and protected, never started or ended
    List(CrewList),
}

/// `crew list`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl crew list")]
pub struct CrewList {
    /// Only of this rig
    pub rig: Option<RigName>,
}
