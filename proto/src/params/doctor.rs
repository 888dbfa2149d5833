//! Parameters of `doctor.*`, `orphans.*`, `session.*` and `crew.*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changes, params};
use crate::RigName;
use crate::doctor::FixClass;

changes! {
    /// `doctor.run`
    #[derive(Default)]
    DoctorRun {
        /// Names of checks: all unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        checks: Option<Vec<String>>,
        /// Only what concerns this rig, where a check is about rigs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
        /// Put right what can be, as far as its class is allowed, and look again.
        #[serde(default)]
        fix: bool,
        /// With `fix`: only say what would be done.
        #[serde(default)]
        plan_only: bool,
        /// With `fix`: classes beyond `safe`.
        #[serde(default)]
        allow: Vec<FixClass>,
    }

    /// `orphans.sweep`: ends what is proven ours and left over, and nothing else.
    #[derive(Default)]
    OrphansSweep {
        /// `session`, `process`: both unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kinds: Option<Vec<String>>,
    }
}

params! {
    /// `session.capture`
    SessionCapture {
        /// tmux id (`$3`) or exact name of a session.
        session: String,
        /// Last this many lines: 100 unless given, at most 5,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<u32>,
    }

    /// `crew.list`
    #[derive(Default)]
    CrewList {
        /// Only of this rig.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rig: Option<RigName>,
    }
}
