//! Verbs about convoys.

use clap::{Args, Subcommand};
use gtd_proto::WorkId;

use super::shared::Change;

/// `convoy …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl convoy create 'The parser' al-k3x al-k3y
  gtctl convoy add hq-cv-3 al-k3z
  gtctl convoy status                      all that are open
  gtctl convoy status hq-cv-3")]
pub enum Convoy {
    /// Make a convoy: work that is over when the last of it is
    Create(ConvoyCreate),
    /// Let a convoy track more work
    Add(ConvoyAdd),
    /// One convoy, or all that are open
    Status(ConvoyStatus),
    /// Convoys, the open ones first, then the newest
    List(ConvoyList),
}

/// `convoy create`
#[derive(Debug, Args)]
#[command(after_help = "\
WORK may be of any store, and of several. When the last of it is closed, the convoy closes, once,
and whoever made it gets mail, and those that --notify names. Without WORK it waits for its first.

Examples:
  gtctl convoy create 'The parser' al-k3x al-k3y hq-7
  gtctl convoy create 'The parser' al-k3x --notify mayor --notify alpha/witness")]
pub struct ConvoyCreate {
    /// What it is about, in a line
    pub title: String,
    /// Ids of what it tracks
    pub work: Vec<WorkId>,
    /// Who gets mail as well when it closes
    #[arg(long, value_name = "WHO")]
    pub notify: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

/// `convoy add`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl convoy add hq-cv-3 al-k3z hq-8")]
pub struct ConvoyAdd {
    /// The convoy's id
    pub convoy: WorkId,
    /// Ids of what it is to track as well
    #[arg(required = true)]
    pub work: Vec<WorkId>,
    #[command(flatten)]
    pub change: Change,
}

/// `convoy status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl convoy status hq-cv-3
  gtctl convoy status             all that are open")]
pub struct ConvoyStatus {
    /// The convoy's id
    pub convoy: Option<WorkId>,
}

/// `convoy list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl convoy list
  gtctl convoy list --status closed")]
pub struct ConvoyList {
    /// Only those that are `open` or `closed`
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
}
