//! What crosses gtd's socket, and nothing else: ids, parameters, results, events, error codes and the
//! method traits that daemon and clients share.
//!
//! Changes here are additive. [`PROTOCOL`] grows when they are not. This crate does no I/O, reads no
//! clock and knows nothing of tmux, processes or files beyond the fields that show them.

pub mod agent;
mod answers;
pub mod config;
pub mod convoy;
pub mod daemon;
pub mod deacon;
pub mod deaths;
pub mod doctor;
pub mod drain;
pub mod error;
pub mod event;
pub mod exit;
pub mod explain;
pub mod id;
pub mod killed;
pub mod lifecycle;
pub mod mail;
pub mod method;
pub mod nearest;
pub mod nudge;
pub mod params;
pub mod pause;
pub mod polecat;
pub mod report;
pub mod rpc;
pub mod selector;
pub mod town;
pub mod wait;
pub mod waiting;
pub mod work;

pub use agent::{Activity, Agent, Change, Intent, PlanStep, Restarts, State};
pub use deaths::{Incident, IncidentCause, IncidentState};
pub use error::{ErrorKind, RpcError};
pub use event::{Event, Frame};
pub use exit::{Cause, Exit};
pub use id::{Address, AgentName, InstanceId, InvalidName, NudgeId, RigName, Role, Seq, TownId, WorkId};
pub use nudge::{Nudge, NudgeReached, NudgeState};
pub use selector::Selector;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instant on the wire: RFC 3339, UTC.
pub type Timestamp = jiff::Timestamp;

/// The version of the protocol. A client whose number differs from the daemon's stops with exit code 76.
pub const PROTOCOL: u32 = 1;

/// A result that is an object, with the number of the last event committed before it was made: a client
/// may read, then subscribe from `seq` and miss nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply<T> {
    /// The result's own fields, at the top level of the object.
    #[serde(flatten)]
    pub body: T,
    /// Last committed event at the time of the answer.
    pub seq: Seq,
}

impl<T> Reply<T> {
    /// A result with the number of the last event from before it was made.
    pub fn at(seq: Seq, body: T) -> Self {
        Self { body, seq }
    }
}

/// A list as a result: never null, in a stable order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Items<T> {
    /// The items.
    pub items: Vec<T>,
}
