//! Parameters of `rig.*`, `witness.*` and `refinery.*`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changes, params};
use crate::RigName;

params! {
    /// A rig.
    RigRef {
        /// Its name.
        rig: RigName,
    }

    /// `rig.add`
    RigAdd {
        /// Its name: no role word, none of the town's own directories.
        name: RigName,
        /// Where its repository is: a URL or an absolute path.
        source: String,
        /// Prefix of its work items: derived from the name unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// The branch the refinery works on: the repository's own unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_branch: Option<String>,
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

    /// `rig.park`, `rig.unpark`, `rig.dock`, `rig.undock`
    RigAside {
        /// The rig.
        rig: RigName,
        /// Why, for the record and for whoever wonders.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
        /// How long to wait for the effect, in milliseconds: to its end unless given, 0 not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
        /// A request repeated with the same key is done once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    }

    /// `rig.remove`
    RigRemove {
        /// The rig: registered, or with agents that are left of when it was.
        rig: RigName,
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
        /// Also with work in it that is not pushed; the directory stays in any case.
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
}

changes! {
    /// `witness.start`, `refinery.start`
    RigStart {
        /// The rig.
        rig: RigName,
        /// Preset, or entry of `agents` in the settings; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// Account; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// Further environment; sticks for restarts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Accepted for older callers: patrols are not run in the foreground.
        #[serde(default)]
        foreground: bool,
        /// Forget the agent, account and environment of earlier starts.
        #[serde(default)]
        reset_overrides: bool,
    }

    /// `witness.stop`, `refinery.stop`
    RigStop {
        /// The rig.
        rig: RigName,
        /// Do not wait for the turn to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
    }

    /// `witness.restart`, `refinery.restart`
    RigRestart {
        /// The rig.
        rig: RigName,
        /// Preset, or entry of `agents` in the settings; sticks for restarts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
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
}
