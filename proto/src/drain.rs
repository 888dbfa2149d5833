//! Taking an agent out of service after its turn, and putting it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// An agent is being drained, or was and is kept from starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// Who wanted it: `person`, or an agent's address.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Nothing of it runs any more. False while its turn is waited for.
    pub done: bool,
}

/// Parameters of `agent.drain` and `agent.undrain`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::Address;
    use crate::params::changes;

    changes! {
    /// `agent.drain`, `agent.undrain`
    AgentDrain {
        /// Its address.
        agent: Address,
    }
    }
}
