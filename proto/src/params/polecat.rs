//! Parameters of the methods about workers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changes, params};
use crate::{Address, RigName, WorkId};

params! {
    /// `polecat.list`
    #[derive(Default)]
    PolecatList {
        /// Of this rig: of all rigs unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
    }
}

changes! {
    /// `polecat.spawn`
    PolecatSpawn {
        /// The rig.
        rig: RigName,
        /// The work that it gets on its hook: none unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<WorkId>,
        /// Its name: the next one of the rig's pool unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Preset, or entry of `agents` in the settings; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_preset: Option<String>,
        /// Account; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// Further environment; sticks for restarts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Take the work from whoever has it, archive what a leftover of that name still has, and go on where the
        /// store of work does not answer.
        #[serde(default)]
        force: bool,
    }

    /// `polecat.start`
    PolecatStart {
        /// The worker.
        agent: Address,
        /// What it is to work on: put on its hook before it is started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        work: Option<WorkId>,
        /// Preset, or entry of `agents` in the settings; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_preset: Option<String>,
        /// Account; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// Further environment; sticks for restarts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Forget the agent, account and environment of earlier starts.
        #[serde(default)]
        reset_overrides: bool,
        /// Take the work from whoever has it, replace what is on the hook, and start also where the work cannot be
        /// put on the hook because its store fails.
        #[serde(default)]
        force: bool,
    }

    /// `polecat.stop`
    PolecatStop {
        /// The worker.
        agent: Address,
        /// Do not wait for the turn to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
    }

    /// `polecat.stop_all`
    PolecatStopAll {
        /// The rig.
        rig: RigName,
        /// Do not wait for turns to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
    }

    /// `polecat.restart`
    PolecatRestart {
        /// The worker.
        agent: Address,
        /// Preset, or entry of `agents` in the settings; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_preset: Option<String>,
        /// Account; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// Further environment; sticks for restarts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Forget the agent, account and environment of earlier starts.
        #[serde(default)]
        reset_overrides: bool,
        /// Do not wait for the turn to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
    }

    /// `polecat.remove`
    PolecatRemove {
        /// The worker.
        agent: Address,
        /// Stop it where it runs, and keep what is only in its worktree, where nothing else has it.
        #[serde(default)]
        force: bool,
    }
}
