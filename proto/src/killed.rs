//! What the daemon ended, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What of an instance the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The agent itself, by way of its shim.
    Agent,
    /// What was left of it when the agent was gone.
    Rest,
    /// Added by a later daemon.
    #[serde(other)]
    Unknown,
}

/// An end that the daemon brought about: the signals on record that have one reason, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Killed {
    /// What.
    pub what: Ended,
    /// When the last of the signals was sent.
    pub at: Timestamp,
    /// Who asked: `person`, an address, or `supervisor`, with by what way behind a colon.
    pub by: String,
    /// In a sentence: `killed by gtd because …`, with who asked and the proof.
    pub because: String,
    /// The processes, up to 50.
    pub pids: Vec<i32>,
    /// How many signals were sent.
    pub signals: u64,
}
