//! Text for agents: what is to be typed, and how far it has got.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, InstanceId, NudgeId, PlanStep, Timestamp};

/// Longest text, in bytes.
pub const MESSAGE_MAX: usize = 64 << 10;

/// What becomes of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NudgeState {
    /// It waits until it can be typed.
    Queued,
    /// It is being typed.
    Delivering,
    /// It was typed and sent off.
    Delivered,
    /// It is not typed any more; `why` says why.
    Dead,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl NudgeState {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// Whether something may still become of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Delivering)
    }
}

/// How far a text has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NudgeReached {
    /// Not beyond the queue.
    Queued,
    /// Into the input line. Of an agent that never reports, no more is known once it was sent off either.
    Typed,
    /// Sent off with Enter.
    Submitted,
    /// The agent reported afterwards that it works.
    Seen,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl NudgeReached {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Typed => "typed",
            Self::Submitted => "submitted",
            Self::Seen => "seen",
            Self::Unknown => "unknown",
        }
    }
}

/// A text for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nudge {
    /// Its id.
    pub id: NudgeId,
    /// For whom.
    pub agent: Address,
    /// The only start of the agent that it is for; any, when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What became of it.
    pub state: NudgeState,
    /// How far it has got.
    pub reached: NudgeReached,
    /// How often typing it was begun.
    pub attempts: u32,
    /// A newer one with the same key takes its place while it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who sent it: `person`, or an agent's address.
    pub from: String,
    /// Its beginning, at most 200 characters.
    pub text: String,
    /// Length of the whole text, in bytes.
    pub bytes: u64,
    /// Why it waits, or why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it dies if it has not been typed.
    pub expires_at: Timestamp,
}

/// The answer to a request about a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NudgeChange {
    /// The text; absent from a plan.
    #[serde(flatten)]
    pub nudge: Option<Nudge>,
    /// It was so already; nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// Parameters of `nudge.*`, `polecat.inject` and `agent.respond`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::params::{changes, params};
    use crate::{Address, InstanceId, NudgeId};

    changes! {
    /// `nudge.send`. `wait_ms` unless given: until it is typed, or it shows that it has to wait.
    NudgeSend {
        /// For whom.
        agent: Address,
        /// The text, at most 64 KiB. Control characters are left out, a tab becomes a blank.
        message: String,
        /// Takes the place of a queued one for this agent with the same key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// How long it may wait to be typed, in milliseconds: an hour unless given, at most 7 days.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        /// Only for this start of the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
    }

    /// `nudge.cancel`
    NudgeCancel {
        /// Its id.
        id: NudgeId,
    }

    /// `polecat.inject`: typed for the running instance and confirmed, or not typed at all. `wait_ms` unless
    /// given: 30 s; 0: now or never.
    PolecatInject {
        /// For whom.
        agent: Address,
        /// The text, at most 64 KiB.
        message: String,
    }

    /// `agent.respond`: typed at once, or not at all.
    AgentRespond {
        /// Who waits for it.
        agent: Address,
        /// The answer, at most 64 KiB.
        text: String,
    }
    }

    params! {
    /// `nudge.list`
    #[derive(Default)]
    NudgeList {
        /// Only of this agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Address>,
        /// Also those that are done with, the latest 100 of them.
        #[serde(default)]
        all: bool,
    }
    }
}
