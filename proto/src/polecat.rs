//! Results about workers that are not of one agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::town::Outcome;
use crate::{Address, PlanStep, WorkId};

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

/// Something that was kept of a worker, in the rig's repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedRef {
    /// Its ref: `refs/gtd/archive/<name>/<time>/tip`, `…/uncommitted`, `…/staged`, `…/stash-1`, …
    #[serde(rename = "ref")]
    pub name: String,
    /// The commit.
    pub commit: String,
}

/// What became of a worker that was to be removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolecatRemoved {
    /// The worker.
    pub agent: Address,
    /// What of it is kept.
    #[serde(default)]
    pub archived: Vec<ArchivedRef>,
    /// The branch that is gone; its tip is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The directory that is gone, or was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// Where the directory was moved to, because git cannot keep all that is in it. Nobody but a person removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<String>,
    /// Why it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was on its hook, and is open again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkId>,
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
