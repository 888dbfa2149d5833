//! Results about workers that are not of one agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PlanStep;
use crate::town::Outcome;

/// What became of several workers: a failure of one stops no other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolecatsChange {
    /// Each worker, by address.
    pub items: Vec<Outcome>,
    /// Answered before the effect (`wait_ms` is 0): follow the events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}
