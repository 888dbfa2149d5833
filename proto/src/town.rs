//! Results about the whole town and its rigs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, Agent, Incident, PlanStep, RigName, RpcError, Timestamp, TownId};

/// The whole town.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TownStatus {
    /// Its name, from `mayor/town.json`.
    pub name: String,
    /// Its root directory.
    pub root: String,
    /// Its identity.
    pub town_id: TownId,
    /// The daemon that answers.
    pub daemon: DaemonBrief,
    /// Our tmux servers.
    pub tmux: Vec<TmuxServer>,
    /// Its rigs, by name.
    pub rigs: Vec<Rig>,
    /// Agents of the town itself.
    pub agents: Vec<Agent>,
    /// Open mass deaths.
    pub incidents: Vec<Incident>,
    /// What a person should know of.
    pub alerts: Vec<Alert>,
    /// How many agents are in which state.
    pub summary: BTreeMap<String, u64>,
    /// The whole town is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<crate::pause::Pause>,
}

/// The daemon, in a town's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonBrief {
    /// Its process.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// Something it relies on does not work.
    pub degraded: bool,
    /// What.
    pub reasons: Vec<String>,
    /// The town was stopped as a whole; nothing is started until `gtctl up`.
    #[serde(default)]
    pub hold: bool,
}

/// A tmux server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TmuxServer {
    /// Path of its socket.
    pub socket: String,
    /// Its process, if known.
    pub pid: Option<i32>,
    /// Whether it answers.
    pub state: TmuxState,
    /// Sessions on it at the last listing, without our own holder.
    pub sessions: u64,
}

/// Whether a tmux server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TmuxState {
    /// It answers.
    Up,
    /// There is none.
    Down,
    /// It lives and does not answer, or tmux cannot be used at all.
    Unresponsive,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A rig.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rig {
    /// Its name.
    pub name: RigName,
    /// Its directory.
    pub path: String,
    /// Agents may be started in it.
    pub operational: bool,
    /// Why not: the first of several reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// It is parked: set aside on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Aside>,
    /// It is docked: set aside for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docked: Option<Aside>,
    /// It is being removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// It is paused as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<crate::pause::Pause>,
    /// Prefix of its work items.
    pub prefix: String,
    /// Its witness.
    pub witness: Agent,
    /// Its refinery.
    pub refinery: Agent,
    /// Its workers.
    pub polecats: Vec<Agent>,
    /// People's workspaces in it, by name.
    pub crew: Vec<String>,
}

/// Who set a rig aside, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aside {
    /// Who: `person`, an agent's address, or `state file` where somebody wrote it there.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When; of a state file, when it was first seen so.
    pub at: Timestamp,
}

/// The answer to a change of a rig's standing: the rig, and what became of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RigChange {
    /// The rig after the change, or as it is when nothing was waited for.
    #[serde(flatten)]
    pub rig: Rig,
    /// It was so already; nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Answered before the effect (`wait_ms` is 0): follow the events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// The agents that were ended, or started again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Outcome>,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// The answer to `rig.remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RigRemoved {
    /// The rig's name.
    pub name: RigName,
    /// Its directory, which stays where it is.
    pub path: String,
    /// What else of it is left on disk, never deleted: paths.
    pub left: Vec<String>,
    /// Answered before the effect (`wait_ms` is 0): follow the events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// The agents that were ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Outcome>,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// Something a person should know of: opened and closed once, however often it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// What it is about, stable: `rig:alpha`, `tmux`, `ledger`, `agent:alpha/witness`.
    pub key: String,
    /// Since when.
    pub since: Timestamp,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Warning,
    /// Something does not work.
    Error,
    /// A severity that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What became of one of many targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The agent.
    pub agent: Address,
    /// It worked.
    pub ok: bool,
    /// It was so already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// What is left of a town after a stop. Everything empty: nothing is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Census {
    /// Sessions of ours, and servers of ours that stay because somebody else uses them.
    pub sessions: Vec<String>,
    /// Processes of ours, `pid:start program`.
    pub processes: Vec<String>,
    /// Sockets, pid files and launch files of ours.
    pub files: Vec<String>,
}

impl Census {
    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.processes.is_empty() && self.files.is_empty()
    }
}

/// The answer to a start or a stop of the whole town.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TownChange {
    /// What became of each agent.
    pub items: Vec<Outcome>,
    /// After a stop: what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<Census>,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The answer to `rig.add`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RigAdded {
    /// The rig's name.
    pub name: RigName,
    /// Its directory.
    pub path: String,
    /// Prefix of its work items.
    pub prefix: String,
    /// The branch that its refinery works on.
    pub default_branch: String,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
}

/// A witness' or a refinery's status: the agent, and what older tools read beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleStatus {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// The rig's name, under the name that older tools use.
    pub rig_name: RigName,
    /// Of a witness: the rig's workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitored_polecats: Option<Vec<String>>,
    /// Of a refinery: merge requests waiting; absent where no work store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<u64>,
}
