//! Parameters of `deacon.*`, `mayor.*` and `boot.*`: agents of the town, of which there is one each.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{changes, params};

changes! {
    /// `deacon.start`, `mayor.start`
    #[derive(Default)]
    StandingStart {
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
    }

    /// `deacon.stop`, `mayor.stop`
    #[derive(Default)]
    StandingStop {
        /// Do not wait for the turn to end.
        #[serde(default)]
        now: bool,
        /// Do not wait at all: KILL at once.
        #[serde(default)]
        force: bool,
    }

    /// `deacon.restart`, `mayor.restart`
    #[derive(Default)]
    StandingRestart {
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

params! {
    /// `boot.triage`
    #[derive(Default)]
    BootTriage {
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
}

impl From<super::RigStart> for StandingStart {
    fn from(of: super::RigStart) -> Self {
        Self {
            agent: of.agent,
            account: of.account,
            env: of.env,
            reset_overrides: of.reset_overrides,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        }
    }
}

impl From<super::RigStop> for StandingStop {
    fn from(of: super::RigStop) -> Self {
        Self {
            now: of.now,
            force: of.force,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        }
    }
}

impl From<super::RigRestart> for StandingRestart {
    fn from(of: super::RigRestart) -> Self {
        Self {
            agent: of.agent,
            account: of.account,
            env: of.env,
            reset_overrides: of.reset_overrides,
            now: of.now,
            force: of.force,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        }
    }
}
