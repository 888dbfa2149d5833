//! One struct of parameters per method, read strictly: a field that is not in the struct is refused.
//!
//! The order of the fields is the order of positional parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Activity, Address, InstanceId, Seq, Timestamp};

mod doctor;
mod polecat;
mod rig;
mod standing;

pub use doctor::*;
pub use polecat::*;
pub use rig::*;
pub use standing::*;

pub use crate::convoy::params::*;
pub use crate::drain::params::*;
pub use crate::lifecycle::params::*;
pub use crate::mail::params::*;
pub use crate::nudge::params::*;
pub use crate::pause::params::*;
pub use crate::work::params::*;

/// Parameters of a method.
pub trait Params: Serialize + serde::de::DeserializeOwned + JsonSchema {
    /// Names of the fields, in the order of positional parameters.
    const FIELDS: &'static [&'static str];

    /// The array that the method's registered half takes: one object, unless said otherwise.
    fn into_positional(self) -> Value {
        serde_json::to_value([self]).unwrap_or(Value::Null)
    }
}

/// Structs of parameters, with their fields in the order of positional parameters.
macro_rules! params {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }

        impl $crate::params::Params for $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    )*};
}
pub(crate) use params;

/// The same, for methods that change something and take their time: each ends with these four.
macro_rules! changes {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $crate::params::params! {$(
            $(#[$meta])*
            $name {
                $($(#[$fmeta])* $field: $type,)*
                /// Only say what would be done.
                #[serde(default)]
                dry_run: bool,
                /// How long to wait for the effect, in milliseconds: to its end unless given, 0 not at all.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                wait_ms: Option<u64>,
                /// A request repeated with the same key is done once.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                idempotency_key: Option<String>,
                /// Why, for the record.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                reason: Option<String>,
            }
        )*}
    };
}
pub(crate) use changes;

params! {
    /// No parameters.
    #[derive(Default)]
    None {}

    /// `daemon.hello`
    Hello {
        /// The program that calls, with its version.
        client: String,
        /// The protocol it speaks.
        protocol: u32,
    }

    /// Lists of what was: how many at the most.
    #[derive(Default)]
    Limit {
        /// Newest this many; 20 unless given, at most 1,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }
}

changes! {
    /// `daemon.shutdown`
    #[derive(Default)]
    Shutdown {
        /// Stop the agents first.
        #[serde(default)]
        stop_agents: bool,
    }
}

params! {
    /// `daemon.reload`
    #[derive(Default)]
    Reload {
        /// Only say what would change.
        #[serde(default)]
        dry_run: bool,
        /// Why, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// `daemon.log_level`
    LogLevel {
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
        level: String,
        /// Only say what would change.
        #[serde(default)]
        dry_run: bool,
        /// Why, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
}

changes! {
    /// `town.start`
    #[derive(Default)]
    TownStart {}
}

params! {
    /// `town.stop`
    #[derive(Default)]
    TownStop {
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
        /// Do not wait for turns to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
        /// How long to wait for the effect, in milliseconds: to its end unless given, 0 not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
        /// A request repeated with the same key is done once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        /// Why, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// `agent.list`
    #[derive(Default)]
    AgentList {
        /// An address, a rig, a role or a glob over addresses: all unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selector: Option<String>,
    }

    /// An agent.
    AgentRef {
        /// Its address.
        agent: Address,
    }

    /// `agent.capture`
    AgentCapture {
        /// Its address.
        agent: Address,
        /// Last this many lines: 100 unless given, at most 5,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<u32>,
    }

    /// `agent.explain`
    AgentExplain {
        /// Its address.
        agent: Address,
        /// As of this instant: the decision that stood then, and those before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// Look at its processes, record and pane now, instead of showing what is known.
        // An older daemon does not know it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        probe: bool,
    }

    /// `agent.declare_dead`
    AgentDeclareDead {
        /// Its address.
        agent: Address,
        /// How you know that it is dead; kept with the record of its end.
        evidence: String,
        /// Only look, and say what would be done.
        #[serde(default)]
        dry_run: bool,
        /// A request repeated with the same key is done once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        /// Why, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// `agent.reset`
    AgentReset {
        /// Its address.
        agent: Address,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
        /// A request repeated with the same key is done once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
        /// Why, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    /// `agent.report`: what an agent's own hooks say.
    AgentReport {
        /// Its address; the instance alone is enough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Address>,
        /// Which start says so: reports of an earlier one are ignored.
        instance: InstanceId,
        /// What it says.
        state: ReportState,
        /// Before this instant silence is no stall.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_due: Option<Timestamp>,
        /// The conversation it now leads: the id that its next start takes up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<String>,
        /// A remark; with `waiting`, what it waits for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// When that was, by the wall clock: now unless given. What is older than the last report is ignored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    }

    /// `agent.exits`
    #[derive(Default)]
    AgentExits {
        /// Its address: all agents unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Address>,
        /// Newest this many; 20 unless given, at most 1,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }

    /// `deaths.list`
    #[derive(Default)]
    DeathsList {
        /// Only those that ended at or after this instant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
        /// Newest this many; 20 unless given, at most 1,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }

    /// `agent.signals`
    #[derive(Default)]
    AgentSignals {
        /// Its address: all agents unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Address>,
        /// Only those sent after this instant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    }

    /// `events.history`
    #[derive(Default)]
    EventsHistory {
        /// After this event, exclusive: from the oldest kept unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Seq>,
        /// Only events at or after this instant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_time: Option<Timestamp>,
        /// Globs over kinds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kinds: Option<Vec<String>>,
        /// A selector of agents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// 100 unless given, at most 1,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    }

    /// `events.subscribe`
    #[derive(Default)]
    EventsSubscribe {
        /// After this event, exclusive: only new ones unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Seq>,
        /// Globs over kinds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kinds: Option<Vec<String>>,
        /// A selector of agents.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
    }
}

/// What an agent's hooks can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportState {
    /// The session began: ready for work.
    Started,
    /// A turn began.
    Working,
    /// A turn ended.
    Idle,
    /// A person is needed.
    Waiting,
    /// The session ended.
    Ended,
}

impl ReportState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Started, Self::Working, Self::Idle, Self::Waiting, Self::Ended];

    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }

    /// The activity that follows from it.
    #[must_use]
    pub fn activity(self) -> Activity {
        match self {
            Self::Working => Activity::Working,
            Self::Idle | Self::Started => Activity::Idle,
            Self::Waiting => Activity::Waiting,
            Self::Ended => Activity::Unknown,
        }
    }
}

/// `events.unsubscribe`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// The id that the subscription was answered with.
    pub subscription: String,
}

impl Params for Unsubscribe {
    const FIELDS: &'static [&'static str] = &["subscription"];

    /// jsonrpsee registers this method itself, and takes the bare id.
    fn into_positional(self) -> Value {
        Value::from(vec![self.subscription])
    }
}
