//! Results about the daemon itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PlanStep, Seq, Timestamp, TownId};

/// The first answer on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The daemon's version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Root directory of the town.
    pub town: String,
    /// Identity of the town.
    pub town_id: TownId,
    /// The daemon's process.
    pub pid: i32,
}

/// The daemon's own state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// Its process.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Root directory of the town.
    pub town: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// Something it relies on does not work.
    pub degraded: bool,
    /// What.
    pub reasons: Vec<String>,
    /// Its rounds.
    pub heartbeat: HeartbeatState,
    /// Open connections.
    pub connections: u64,
    /// Open subscriptions.
    pub subscribers: u64,
    /// Its store.
    pub ledger: LedgerState,
    /// Programs it has started since it began.
    pub forks: u64,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// The heartbeat's rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatState {
    /// Number of the last round; counts on over restarts of the daemon.
    pub number: u64,
    /// When it began.
    pub last: Option<Timestamp>,
    /// When the next one is due.
    pub next: Option<Timestamp>,
    /// Rounds that were left out because the one before was still under way.
    pub overruns: u64,
}

/// The ledger's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerState {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The last event.
    pub seq: Seq,
    /// Identity of the stream.
    pub stream_id: String,
}

/// One round of the heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatReport {
    /// Its number.
    pub number: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// Its steps, in order.
    pub steps: Vec<HeartbeatStep>,
}

/// The names of the steps, in their order.
pub const HEARTBEAT_STEPS: [&str; 12] = [
    "deacon",
    "boot",
    "deacon_heartbeat",
    "witnesses",
    "refineries",
    "pending_spawns",
    "lifecycle",
    "gupp",
    "orphaned_work",
    "polecat_health",
    "orphan_sweep",
    "state",
];

/// One step of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatStep {
    /// One of [`HEARTBEAT_STEPS`].
    pub name: String,
    /// What became of it.
    pub outcome: StepOutcome,
    /// How long it took.
    pub duration_ms: u64,
    /// What it did.
    pub actions: Vec<String>,
    /// What went wrong, or why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Done.
    Ok,
    /// Not done, for a reason that is no failure.
    Skipped,
    /// Failed.
    Failed,
    /// Did not end in time.
    Timeout,
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The answer to a request that the daemon end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShuttingDown {
    /// The daemon's process, to be waited for.
    pub pid: i32,
    /// Its agents stay.
    pub agents_stay: bool,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// `<town>/daemon/endpoint.json`: where a running daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Path of the socket.
    pub socket: String,
    /// The daemon's process.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Identity of the town.
    pub town_id: TownId,
    /// When it began.
    pub started_at: Timestamp,
}
