//! Mass deaths: many agents that died together, and what is done about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, Timestamp};

/// Many agents that died within a short time, taken as one thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Its name; exits that belong to it carry it.
    pub id: String,
    /// When it was recognised.
    pub opened_at: Timestamp,
    /// When everything that should run again did, or was left to its own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// How many agents died.
    pub count: u64,
    /// Deaths within so long belong together.
    pub window_ms: u64,
    /// Names of their sessions, in the order of the agents.
    pub sessions: Vec<String>,
    /// The agents that died.
    pub agents: Vec<Address>,
    /// What it probably was.
    pub cause: IncidentCause,
    /// The agent that was, or will be, started before the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Address>,
    /// How many of the agents were alive again when it was closed, or are now.
    pub recovered: u64,
    /// How far it is.
    pub state: IncidentState,
    /// While restarts are held: until when at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
}

impl Incident {
    /// It is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != IncidentState::Closed
    }
}

/// What a mass death probably was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentCause {
    /// The tmux server ended.
    TmuxServer,
    /// The machine ran out of memory.
    Oom,
    /// The machine had just been resumed.
    Resume,
    /// All used one account, which the provider had just limited.
    Account,
    /// Many crashes, for reasons of their own or one that does not show.
    Crashes,
    /// It cannot be told.
    #[serde(other)]
    Unknown,
}

impl IncidentCause {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TmuxServer => "tmux_server",
            Self::Oom => "oom",
            Self::Resume => "resume",
            Self::Account => "account",
            Self::Crashes => "crashes",
            Self::Unknown => "unknown",
        }
    }
}

/// How far an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Nothing is restarted for a while.
    Holding,
    /// One agent was started; the others follow when it lives.
    Canary,
    /// The agents are being started again.
    Releasing,
    /// It is over.
    Closed,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl IncidentState {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Canary => "canary",
            Self::Releasing => "releasing",
            Self::Closed => "closed",
            Self::Unknown => "unknown",
        }
    }
}
