//! What became of an agent's report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Agent;

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// The agent, with the report if that counted.
    #[serde(flatten)]
    pub agent: Agent,
    /// It changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Why it changed nothing, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<String>,
}
