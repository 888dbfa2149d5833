//! Verbs about lifecycle requests.

use clap::{Args, Subcommand};

use super::shared::Change;
use super::values::whole;

/// `lifecycle …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl lifecycle request alpha/witness cycle   end, and begin anew
  gtctl lifecycle list                          requests, and what came of them")]
pub enum Lifecycle {
    /// Ask for the end, or a new start, of an agent; an agent may ask for itself
    Request(LifecycleRequest),
    /// Requests, newest first, with what became of them
    List(LifecycleList),
}

/// `lifecycle request`
#[derive(Debug, Args)]
#[command(
    override_usage = "gtctl lifecycle request [OPTIONS] [AGENT] ACTION",
    after_help = "\
ACTION is one of
  cycle      end, and begin anew with an empty head; its work stays
  restart    end, and start again: a worker goes on with its conversation
  shutdown   end, and stay ended until somebody starts it

Within an agent AGENT may be left out: it is the agent itself. Then the answer comes first, and its
end after it. An agent that may not do this for another one may still write to the deacon.

Examples:
  gtctl lifecycle request cycle                  run by an agent, for itself
  gtctl lifecycle request alpha/witness restart
  gtctl lifecycle request alpha/nux shutdown --reason 'nothing left to do'"
)]
pub struct LifecycleRequest {
    /// Whom it is about, or what to do
    #[arg(value_name = "AGENT")]
    pub first: String,
    /// What to do: cycle, restart or shutdown
    #[arg(value_name = "ACTION")]
    pub second: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

/// `lifecycle list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl lifecycle list
  gtctl lifecycle list alpha/witness -n 5")]
pub struct LifecycleList {
    /// About this agent only
    pub agent: Option<String>,
    /// At most so many of those that are done with
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = whole(1, 1_000), allow_negative_numbers = true)]
    pub limit: Option<u32>,
}
