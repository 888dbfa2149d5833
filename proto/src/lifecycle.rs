//! Lifecycle requests: an agent, or somebody for it, asks to be ended or begun anew.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, PlanStep, Timestamp};

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleAction {
    /// End, and start anew: what it had in its head is left behind, what is on its hook stays there.
    Cycle,
    /// End, and start again: a worker goes on with its conversation.
    Restart,
    /// End, and stay ended until somebody starts it.
    Shutdown,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl LifecycleAction {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cycle => "cycle",
            Self::Restart => "restart",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for LifecycleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LifecycleAction {
    type Err = UnknownAction;

    /// In any case of letters; `stop` is the incumbent's other word for `shutdown`.
    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        match text.trim().to_ascii_lowercase().as_str() {
            "cycle" => Ok(Self::Cycle),
            "restart" => Ok(Self::Restart),
            "shutdown" | "stop" => Ok(Self::Shutdown),
            _ => Err(UnknownAction),
        }
    }
}

/// A word that is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an action is cycle, restart or shutdown")]
pub struct UnknownAction;

/// How far a request has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleState {
    /// It is written down; nothing was done yet.
    Accepted,
    /// What should be is written down, and being brought about.
    Acting,
    /// It is so.
    Done,
    /// It was begun, and did not come to its end; `reason` says why.
    Failed,
    /// Nothing was done; `reason` says why.
    Refused,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl LifecycleState {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Acting => "acting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Something may still become of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Accepted | Self::Acting)
    }
}

impl fmt::Display for LifecycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lifecycle {
    /// Its id: `l-12`.
    pub id: String,
    /// Whom it is about; absent where a mail did not say that in a way that was understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// What was asked for.
    pub action: LifecycleAction,
    /// Who asked: an agent's address, or `person`.
    pub from: String,
    /// The mail that asked for it; absent where it came over the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// How far it has come.
    pub state: LifecycleState,
    /// Why it was refused, or did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LifecycleChange {
    /// The request as it stands; absent from a plan.
    #[serde(flatten)]
    pub request: Option<Lifecycle>,
    /// It was asked for before, with the same key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Answered before the effect: an agent that asks for itself would not live to hear of it. Follow the events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// Parameters of `lifecycle.*`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::LifecycleAction;
    use crate::Address;
    use crate::params::{changes, params};

    changes! {
    /// `lifecycle.request`
    LifecycleRequest {
        /// Whom it is about.
        agent: Address,
        /// `cycle`, `restart` or `shutdown`.
        action: LifecycleAction,
    }
    }

    params! {
    /// `lifecycle.list`
    #[derive(Default)]
    LifecycleList {
        /// About this agent only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Address>,
        /// At most so many of those that are done with, the newest; 20 unless given, at most 1,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_their_own() {
        for action in [LifecycleAction::Cycle, LifecycleAction::Restart, LifecycleAction::Shutdown] {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
        assert_eq!(" STOP\n".parse(), Ok(LifecycleAction::Shutdown));
        for no in ["", "unknown", "kill", "cycle now"] {
            assert_eq!(no.parse::<LifecycleAction>(), Err(UnknownAction), "{no}");
        }
        let later: LifecycleState = serde_json::from_value("paused".into()).unwrap();
        assert_eq!(later, LifecycleState::Unknown);
        assert!(LifecycleState::Acting.is_open() && !LifecycleState::Failed.is_open());
    }
}
