//! Convoys: work that belongs together, and is over when the last of it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers::answers;
use crate::{PlanStep, Timestamp, WorkId};

/// Most items that one convoy tracks.
pub const WORK_MAX: usize = 500;
/// Most that are told of one convoy's end.
pub const WATCHERS_MAX: usize = 20;

/// One item of a convoy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConvoyWork {
    /// Its id.
    pub id: WorkId,
    /// The store's word for how it is, as last known: `open`, `hooked`, `closed`, ...
    pub status: String,
    /// What is to be done, as it was called when it was added.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Who keeps it: `builtin`, `bd`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
}

/// A convoy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Convoy {
    /// Its id: `hq-cv-3`.
    pub id: WorkId,
    /// What it is about, in a line.
    pub title: String,
    /// `open` or `closed`.
    pub status: String,
    /// What it tracks, in the order in which it was added.
    pub work: Vec<ConvoyWork>,
    /// Who gets mail when it closes: addresses, or `overseer` for the person.
    pub watchers: Vec<String>,
    /// How many of its items are not closed.
    #[serde(default)]
    pub open: u64,
    /// Who made it: an address, or `overseer`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Why nothing new is known of some of its items: their store does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

answers! {
/// The answer to making a convoy, or adding to one.
ConvoyChange {
    /// The convoy afterwards; absent from a plan to make one, and when the change was not waited for.
    #[serde(flatten)]
    convoy: Option<Convoy>,
}
}

/// Parameters of `convoy.*`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::WorkId;
    use crate::params::{changes, params};

    changes! {
    /// `convoy.create`
    ConvoyCreate {
        /// What it is about, in a line.
        title: String,
        /// Ids of what it tracks, of any store; none is a convoy that waits for its first.
        #[serde(default)]
        work: Vec<WorkId>,
        /// Who gets mail when it closes, beside who makes it: addresses, or `overseer` for the person.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        watchers: Vec<String>,
    }

    /// `convoy.add`
    ConvoyAdd {
        /// The convoy's id.
        convoy: WorkId,
        /// Ids of what it is to track as well.
        work: Vec<WorkId>,
    }
    }

    params! {
    /// `convoy.status`
    ConvoyRef {
        /// The convoy's id.
        convoy: WorkId,
    }

    /// `convoy.list`
    #[derive(Default)]
    ConvoyList {
        /// Only those that are `open` or `closed`: all unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
    }
    }
}
