//! Parameters of `doctor.*`, `orphans.*`, `session.*` and `crew.*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changes, params};
use crate::RigName;
use crate::doctor::FixClass;

/// A class that a fix may be allowed. Unlike [`FixClass`] it is read strictly: a word that nobody knows allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllowClass {
    /// Nothing that anybody uses; always allowed.
    Safe,
    /// It interrupts something that runs.
    Disruptive,
    /// It ends or removes what cannot be had back.
    Destructive,
}

impl From<AllowClass> for FixClass {
    fn from(class: AllowClass) -> Self {
        match class {
            AllowClass::Safe => Self::Safe,
            AllowClass::Disruptive => Self::Disruptive,
            AllowClass::Destructive => Self::Destructive,
        }
    }
}

impl From<FixClass> for AllowClass {
    fn from(class: FixClass) -> Self {
        match class {
            FixClass::Safe => Self::Safe,
            FixClass::Disruptive => Self::Disruptive,
            FixClass::Destructive => Self::Destructive,
        }
    }
}

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
        allow: Vec<AllowClass>,
        /// With `fix`: only these targets of the plan, as it names them; all unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        targets: Option<Vec<String>>,
        /// Requests with the same word, of at most 64 bytes, share one look at the town for ten seconds, so that checks
        /// can be asked for one by one. Without it each request looks anew; a fix always does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        look: Option<String>,
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
