//! Verbs that agents run, about themselves.

use clap::{Args, Subcommand, ValueEnum};
use gtd_proto::Timestamp;
use gtd_proto::params::ReportState;

use super::shared::Plan;
use super::values::ahead;

/// `agent …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Run by an agent's hooks; its environment says which agent it is.

Examples:
  gtctl agent report working
  gtctl agent report waiting --detail 'may I delete the branch?'")]
pub enum AgentVerb {
    /// Say what this agent does; its hooks call it
    Report(AgentReport),
}

/// `agent report`
#[derive(Debug, Args)]
#[command(after_help = "\
Run by an agent: its environment says who it is, and stdin what its hook's event says.
It ends with 0 whatever happens and prints nothing into a turn. What the daemon does not
take in time is left in its spool.

Examples:
  gtctl agent report working
  gtctl agent report waiting --detail 'may I delete the branch?'
  gtctl agent report idle --next-due 30m       silent until then, and no stall")]
pub struct AgentReport {
    /// What it does
    pub state: StateWord,
    /// A remark; with `waiting`, what it waits for
    #[arg(long, value_name = "TEXT")]
    pub detail: Option<String>,
    /// The id of the conversation that its next start goes on with
    #[arg(long, value_name = "ID")]
    pub conversation: Option<String>,
    /// Until then silence is no stall: RFC 3339, or so long from now; at most a day
    #[arg(long, value_name = "WHEN", value_parser = ahead)]
    pub next_due: Option<Timestamp>,
    #[command(flatten)]
    pub plan: Plan,
}

/// What can be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateWord {
    /// The session began: ready for work
    Started,
    /// A turn began
    Working,
    /// A turn ended
    Idle,
    /// A person is needed
    Waiting,
    /// The session ended
    Ended,
}

impl From<StateWord> for ReportState {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Started => Self::Started,
            StateWord::Working => Self::Working,
            StateWord::Idle => Self::Idle,
            StateWord::Waiting => Self::Waiting,
            StateWord::Ended => Self::Ended,
        }
    }
}

/// `prime`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl prime                        run by an agent, for itself
  gtctl prime alpha/polecats/nux     what that agent would be told")]
pub struct Prime {
    /// The agent: the one that runs it unless given
    pub agent: Option<String>,
}
