//! Agents that wait for a person, and what they wait for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, Timestamp};

/// What an agent wants of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// A yes or no to something that it is about to do.
    Permission,
    /// Whether a directory, or a mode of working, is to be trusted.
    Trust,
    /// A log-in, or a key.
    Login,
    /// An answer to a question of its own.
    Question,
    /// Nothing in particular: it wants to be told how to go on.
    Input,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

impl WaitKind {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Trust => "trust",
            Self::Login => "login",
            Self::Question => "question",
            Self::Input => "input",
            Self::Unknown => "unknown",
        }
    }
}

/// How it is known that an agent waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitSource {
    /// It said so.
    Reported,
    /// Its screen shows a dialog.
    Pane,
    /// A way that this version does not know.
    #[serde(other)]
    Unknown,
}

impl WaitSource {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Pane => "pane",
            Self::Unknown => "unknown",
        }
    }
}

/// One agent that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The agent.
    pub agent: Address,
    /// Since when, as far as is known.
    pub since: Timestamp,
    /// What it wants.
    pub kind: WaitKind,
    /// In its own words, as far as there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How it is known.
    pub source: WaitSource,
}

/// The agents that wait, and those of which it could not be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingList {
    /// Those that wait, the longest first.
    pub items: Vec<Waiting>,
    /// Running agents whose screen could not be looked at: whether they wait is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Address>,
}
