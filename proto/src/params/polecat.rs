//! Parameters of `polecat.*`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::changes;
use crate::{RigName, WorkId};

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
}
