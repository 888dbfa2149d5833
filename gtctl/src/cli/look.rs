//! Verbs that only look.

use std::time::Duration;

use clap::{Args, ValueEnum};
use gtd_proto::wait::WaitFor;

use super::values::{Since, duration, instant, since, whole};

/// `status`
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  gtctl status                 the whole town, what is unwell first
  gtctl status alpha/witness   one agent: why it is so, and what you can do
  gtctl status 'alpha/*'       the agents that fit
  gtctl status --check         exit code 0 well, 3 down, 5 degraded; for scripts")]
pub struct Status {
    /// An address, a rig, a role, or a glob over addresses
    pub selector: Option<String>,
    /// Look again every 2 seconds
    #[arg(long, short = 'w', conflicts_with = "check")]
    pub watch: bool,
    /// Also say it by the exit code: 0 well, 3 not running, 4 unknown, 5 degraded
    #[arg(long)]
    pub check: bool,
}

/// `peek`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl peek alpha/witness -n 20")]
pub struct Peek {
    /// The agent
    pub agent: String,
    /// How many lines, at most 5,000
    #[arg(short = 'n', long, default_value_t = 100, value_parser = whole(1, 5000), allow_negative_numbers = true)]
    pub lines: u32,
}

/// `explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl explain alpha/witness
  gtctl explain alpha/witness --at 10m   as it was ten minutes ago
  gtctl explain alpha/witness --probe    look at processes, record and pane now")]
pub struct Explain {
    /// The agent
    pub agent: String,
    /// As of this instant: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = instant, allow_hyphen_values = true)]
    pub at: Option<gtd_proto::Timestamp>,
    /// Look at its processes, its record and its pane now
    #[arg(long, conflicts_with = "at")]
    pub probe: bool,
}

/// `events`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl events                   the last 100
  gtctl events --since 5m --kind 'agent.*'
  gtctl events -f --agent alpha --json | jq -r .kind
  gtctl events -f --since 41     all after event 41, then as it happens")]
pub struct Events {
    /// Go on with events as they happen
    #[arg(short, long)]
    pub follow: bool,
    /// After this event's number, or since so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = since, allow_hyphen_values = true)]
    pub since: Option<Since>,
    /// Only kinds that fit this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub kind: Vec<String>,
    /// Only agents that fit this selector
    #[arg(long, value_name = "SEL")]
    pub agent: Option<String>,
    /// How many, when --since is not given
    #[arg(short = 'n', long, default_value_t = 100, value_parser = whole(1, u32::MAX), allow_negative_numbers = true, conflicts_with_all = ["follow", "since"])]
    pub limit: u32,
}

/// `exits`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl exits
  gtctl exits alpha/witness -n 1 --output")]
pub struct Exits {
    /// The agent: all unless given
    pub agent: Option<String>,
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = whole(1, 1000), allow_negative_numbers = true)]
    pub limit: u32,
    /// With the last lines of each screen
    #[arg(long)]
    pub output: bool,
}

/// `deaths`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl deaths --since 1h         what ended unasked within the last hour
  gtctl deaths incidents          mass deaths: what they were, and who came back")]
pub struct Deaths {
    /// One by one unless given
    #[arg(value_enum)]
    pub what: Option<DeathsWhat>,
    /// Only since this instant: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = instant, allow_hyphen_values = true)]
    pub since: Option<gtd_proto::Timestamp>,
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = whole(1, 1000), allow_negative_numbers = true)]
    pub limit: u32,
}

/// What `deaths` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeathsWhat {
    /// Mass deaths, open and closed
    Incidents,
}

/// `signals`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl signals --since 1h
  gtctl signals alpha/witness")]
pub struct Signals {
    /// The agent: all unless given
    pub agent: Option<String>,
    /// Only since this instant: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = instant, allow_hyphen_values = true)]
    pub since: Option<gtd_proto::Timestamp>,
}

/// `wait`
#[derive(Debug, Args)]
#[command(after_help = "\
Also waits for any state: running, stopped, quarantined, … What is so already is answered at once.
Exit code 6 when it was not so in time.

Examples:
  gtctl wait alpha/witness
  gtctl wait alpha/witness --for idle --timeout 30m
  gtctl wait alpha/refinery --for gone")]
pub struct Wait {
    /// The agent
    pub agent: String,
    /// For what: ready, idle, gone, or a state
    #[arg(long = "for", value_name = "WHAT", default_value = "ready")]
    pub wanted: WaitFor,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}
