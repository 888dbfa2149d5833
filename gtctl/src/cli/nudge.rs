//! Verbs that give text to agents.

use std::time::Duration;

use clap::{Args, Subcommand};
use gtd_proto::NudgeId;

use super::shared::{Change, Plan, Reason};
use super::values::duration;

/// `nudge`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
The text is typed when the agent is between turns and its input line is empty, and waits until
then. The answer says how far it got. A message of `-` is read from standard input.

Examples:
  gtctl nudge alpha/witness 'You have mail.'
  gtctl nudge alpha/witness 'You have 3 mails.' --key mail
  gtctl nudge list
  git diff | gtctl nudge alpha/polecats/nux -"
)]
pub struct Nudge {
    /// What else there is to do with texts.
    #[command(subcommand)]
    pub what: Option<NudgeWhat>,
    /// The agent
    #[arg(required = true)]
    pub agent: Option<String>,
    /// The text, at most 64 KiB
    #[arg(required = true, allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Take the place of a text for this agent that waits with the same key
    #[arg(long)]
    pub key: Option<String>,
    /// How long it may wait: an hour unless given, at most 7 days
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub expires: Option<Duration>,
    /// Only for the instance that runs now
    #[arg(long)]
    pub this_instance: bool,
    #[command(flatten)]
    pub change: Change,
}

/// `nudge …`
#[derive(Debug, Subcommand)]
pub enum NudgeWhat {
    /// Texts that wait, in the order in which they are typed
    List(NudgeList),
    /// Take a text back that waits
    Cancel(NudgeCancel),
}

/// `nudge list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl nudge list
  gtctl nudge list alpha/witness --all")]
pub struct NudgeList {
    /// Only for this agent
    pub agent: Option<String>,
    /// Also those that are done with
    #[arg(long)]
    pub all: bool,
}

/// `nudge cancel`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl nudge cancel n-1f3a5c7e9b0d")]
pub struct NudgeCancel {
    /// The text's id
    pub id: NudgeId,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `respond`
#[derive(Debug, Args)]
#[command(after_help = "\
Only for an agent that says that it waits for a person; typed at once, or refused. A text of `-` is
read from standard input.

Examples:
  gtctl respond alpha/polecats/nux yes
  gtctl respond alpha/polecats/nux 2")]
pub struct Respond {
    /// The agent
    pub agent: String,
    /// The answer
    #[arg(allow_hyphen_values = true)]
    pub text: String,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `polecat nudge`
#[derive(Debug, Args)]
#[command(after_help = "\
Waits 30 s for the input line to be free unless told otherwise; with --no-wait it is now or never.

Examples:
  gtctl polecat nudge alpha/polecats/nux 'Go on.'
  gtctl polecat nudge alpha/polecats/nux 'Go on.' --no-wait")]
pub struct PolecatNudge {
    /// The worker
    pub agent: String,
    /// The text, at most 64 KiB; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    pub message: String,
    #[command(flatten)]
    pub change: Change,
}
