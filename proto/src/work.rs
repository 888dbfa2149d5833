//! Work items and hooks: what there is to do, and who has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers::answers;
use crate::{Address, PlanStep, Timestamp, WorkId};

/// A work item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Work {
    /// Its id.
    pub id: WorkId,
    /// What is to be done, in a line.
    pub title: String,
    /// More of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `open`, `hooked`, `in_progress`, `blocked`, `closed`, or a word of the store's own.
    pub status: String,
    /// Who has it: an address, or whatever the store has there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// 0 is the most urgent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Who keeps it: `builtin`, `bd`.
    pub store: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

/// What is on an agent's hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookShown {
    /// The agent.
    pub agent: Address,
    /// The work; null when the hook is empty.
    pub work: Option<Work>,
    /// Since when, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Further items that the store has for this agent, which only others can have put there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<WorkId>,
}

answers! {
/// The answer to a change of a work item.
WorkChange {
    /// The item after the change; absent from a plan to make one, and when the making was not waited for.
    #[serde(flatten)]
    work: Option<Work>,
}

/// The answer to a change of a hook.
HookChange {
    /// The agent.
    agent: Address,
    /// What its hook has now; null when it is empty.
    work: Option<Work>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// What it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<WorkId>,
    /// Who had the work before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_from: Option<String>,
}
}

/// Parameters of `work.*` and `hook.*`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::params::{changes, params};
    use crate::{Address, RigName, WorkId};

    changes! {
    /// `work.create`
    WorkCreate {
        /// What is to be done, in a line.
        title: String,
        /// The rig whose work it is: the town's own unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
        /// More of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// 0, the most urgent, to 4; 2 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<u8>,
    }
    }

    params! {
    /// A work item.
    WorkRef {
        /// Its id, whole.
        id: WorkId,
    }

    /// `work.list`
    #[derive(Default)]
    WorkList {
        /// Only of this status: everything that is not closed unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        /// Only of this assignee, as the store writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assignee: Option<String>,
        /// Only of this rig: of the town and all rigs unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
    }
    }

    changes! {
    /// `work.close`
    WorkClose {
        /// Its id, whole.
        id: WorkId,
    }

    /// `hook.set`
    HookSet {
        /// Whose hook.
        agent: Address,
        /// What to put there.
        work: WorkId,
        /// Also when another agent has it, which then loses it, or when the hook holds something else.
        #[serde(default)]
        force: bool,
    }

    /// `hook.clear`
    HookClear {
        /// Whose hook.
        agent: Address,
    }
    }
}
