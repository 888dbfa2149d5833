//! Freezing agents for a while, with everything below them, and letting them go on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, PlanStep, Timestamp};

/// An agent, a rig or the town is paused: what runs of it is frozen, and nothing of it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Who wanted it: `person`, or an agent's address.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself then; without, somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What was paused: `town`, a rig's name, or an agent's address.
    pub scope: String,
    /// The command that ends it.
    pub clear: String,
    /// Of an agent: it was seen standing still, with everything below its shim.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// Of an agent that is frozen: how many processes stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
}

/// What became of one agent at a pause or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The agent.
    pub agent: Address,
    /// It stands still now, by a look at its processes.
    pub frozen: bool,
    /// How many processes were frozen, or let go on. 0: nothing of it runs.
    pub processes: u64,
    /// It was so already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Why it is not as was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The answer to a pause, or to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseChange {
    /// Each agent that it is about, by address.
    pub items: Vec<Receipt>,
    /// What would be done, of a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
    /// Nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Parameters of `town.pause` and `town.resume`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::params::changes;
    use crate::{Address, RigName, Timestamp};

    changes! {
    /// `town.pause`
    #[derive(Default)]
    TownPause {
        /// This rig's agents; without rig and agents, the whole town.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
        /// These agents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agents: Option<Vec<Address>>,
        /// It ends by itself at this instant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    }

    /// `town.resume`
    #[derive(Default)]
    TownResume {
        /// This rig's agents; without rig and agents, everything that is paused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
        /// These agents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agents: Option<Vec<Address>>,
    }
    }
}
