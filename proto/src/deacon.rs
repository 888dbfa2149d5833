//! Results about the town's own agents: deacon and mayor, and the boot that looks after the deacon.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Agent, Timestamp};

/// `deacon.status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeaconStatus {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// How it is, by its process and its heartbeat file together.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
    /// What its heartbeat file says; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<DeaconHeartbeat>,
    /// It was told to pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<DeaconPaused>,
}

/// `deacon/heartbeat.json`, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeaconHeartbeat {
    /// When the deacon says that it wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<u64>,
    /// What it did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_action: Option<String>,
    /// How old it is, without the time for which the machine slept; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Texts that were typed for it since it was written, and left unanswered.
    #[serde(default)]
    pub unanswered: u32,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `.runtime/deacon/paused.json`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeaconPaused {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Why the file cannot be read: it then counts as a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How the deacon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It runs, and nothing speaks against it.
    Healthy,
    /// It has been started a short while ago.
    Starting,
    /// It runs, and its heartbeat is late.
    Late,
    /// It runs, and its heartbeat is so old that it is asked whether it is there.
    Stale,
    /// It runs, and its heartbeat is so old that it counts as stuck.
    Stuck,
    /// It was told to pause.
    Paused,
    /// It should run and does not.
    Down,
    /// It is not to run.
    Off,
    /// Whether it runs cannot be told.
    #[serde(other)]
    Unknown,
}

impl Verdict {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Starting => "starting",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Stuck => "stuck",
            Self::Paused => "paused",
            Self::Down => "down",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

/// `boot.triage`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Triage {
    /// How the deacon is.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
    /// What was done about it; with `dry_run` what would be.
    pub actions: Vec<String>,
    /// tmux cannot be used, so that little can be told and done.
    pub degraded: bool,
    /// Nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// `boot.status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BootStatus {
    /// Who looks after the deacon: `mechanical`, `agent` or `off`.
    pub mode: String,
    /// A boot agent runs now.
    pub running: bool,
    /// It has a session, under the name that older tools use.
    pub session_alive: bool,
    /// tmux cannot be used.
    pub degraded: bool,
    /// Its directory.
    pub boot_dir: String,
    /// The last triage, from its file; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<BootRun>,
    /// Why the file cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The boot agent.
    pub agent: Agent,
    /// Before then no other boot agent is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown_until: Option<Timestamp>,
}

/// `deacon/dogs/boot/.boot-status.json`, in the fields that older tools write and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootRun {
    /// A triage is under way.
    #[serde(default)]
    pub running: bool,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// `start`, `wake`, `nudge`, `nothing`, `restart`, `report` or `error`.
    #[serde(default)]
    pub last_action: String,
    /// To whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
