//! Why an agent is as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Agent, Timestamp};

/// A verdict with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The agent.
    pub agent: Agent,
    /// The state in one sentence.
    pub verdict: String,
    /// The facts it rests on.
    pub because: Vec<String>,
    /// What was observed, by whom, and how old that is.
    pub observations: Vec<Observed>,
    /// Past decisions, newest first.
    pub decisions: Vec<Decision>,
    /// What happens next by itself, and what you can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// What was looked at: `agent process`, `pane`, `tmux server`, `rig`, …
    pub what: String,
    /// What was seen.
    pub value: String,
    /// By which means: `pidfd`, `tmux`, `exit record`, `report`, `file`.
    pub source: String,
    /// When.
    pub at: Timestamp,
    /// How long ago that is.
    pub age_ms: u64,
}

/// One decision of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What it answered.
    pub event: String,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub reason: String,
}
