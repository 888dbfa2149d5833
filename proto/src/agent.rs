//! An agent as results show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, AgentName, InstanceId, RigName, Role, Timestamp};

/// Where an agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not to run, and not running.
    Stopped,
    /// An instance is reserved and its launch under way.
    Starting,
    /// The agent's process is proven alive.
    Running,
    /// Being ended: drain, TERM, grace, KILL, verified gone.
    Stopping,
    /// Will be started again at `next_attempt`.
    Backoff,
    /// A provider or the machine limits it until a known time.
    Throttled,
    /// Too many failures; tried once more at `next_attempt`.
    Quarantined,
    /// A person ended it; a start, or new work, brings it back.
    Held,
    /// Frozen by request.
    Paused,
    /// Its pane is gone, processes of the instance are proven alive.
    Lingering,
    /// Cannot be observed, and is therefore left alone. Also what a client makes of a state it does not know.
    #[serde(other)]
    Unknown,
}

impl State {
    /// All states, in the order in which people are shown them.
    pub const ALL: [Self; 11] = [
        Self::Quarantined,
        Self::Unknown,
        Self::Lingering,
        Self::Backoff,
        Self::Throttled,
        Self::Held,
        Self::Paused,
        Self::Stopping,
        Self::Starting,
        Self::Running,
        Self::Stopped,
    ];

    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Throttled => "throttled",
            Self::Quarantined => "quarantined",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Lingering => "lingering",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a running agent says that it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// A turn is under way.
    Working,
    /// Between turns.
    Idle,
    /// Waiting for a person.
    Waiting,
    /// It has not said.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Activity {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
        }
    }
}

/// What should be, whatever is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// It should run.
    Running,
    /// It should not run; a person's stop outlives restarts of the daemon.
    #[default]
    Stopped,
    /// It should be frozen.
    Paused,
    /// Its rig is parked.
    Parked,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Intent {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Parked => "parked",
            Self::Unknown => "unknown",
        }
    }
}

/// How often an agent had to be started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restarts {
    /// Since the agent was first seen; only shown.
    pub lifetime: u64,
    /// Failures in a row; drives the policy, and is cleared by a healthy run, a reset or a person's start.
    pub consecutive: u32,
}

/// One agent: what it is, what should be, what is, and the ids under which it can be looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// Address.
    pub agent: Address,
    /// Role of the address.
    pub role: Role,
    /// Rig of the address, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig: Option<RigName>,
    /// Name within the rig, if the role has names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<AgentName>,
    /// Where it is in its life.
    pub state: State,
    /// What it says that it does.
    pub activity: Activity,
    /// Its remark on that: of one that waits, what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_detail: Option<String>,
    /// Since when it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_since: Option<Timestamp>,
    /// True exactly while the agent's process is proven alive.
    pub running: bool,
    /// What should be.
    pub intent: Intent,
    /// Who wanted that: `person`, `supervisor`, an agent's address.
    pub intent_by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent_reason: Option<String>,
    /// The present or the last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Path of the tmux server's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// tmux session id, such as `$3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The session's name, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// tmux pane id, such as `%7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pane: Option<String>,
    /// When the session was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Windows of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<u32>,
    /// Last output or input in the session, as tmux saw it at the last listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Timestamp>,
    /// The agent's own process; null unless proven alive.
    pub pid: Option<i32>,
    /// The pane's process, parent of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shim_pid: Option<i32>,
    /// When the present instance's process began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Since when the agent has been in this state.
    pub since: Timestamp,
    /// Starts after deaths.
    pub restarts: Restarts,
    /// When it will be tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// Why it is in this state, in a sentence's piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id of the work on its hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Directory it works in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// Branch of that directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The preset or settings entry it is launched with.
    pub agent_preset: String,
    /// Account it runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Whether somebody looks at its session, at the last listing.
    pub attached: bool,
    /// It is taken out of service, until somebody puts it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<crate::drain::Drain>,
    /// It is paused, alone or with its rig or the town: frozen while it runs, and not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<crate::pause::Pause>,
    /// Parts of the launch that today's configuration would make otherwise: `argv`, `env`, `cwd`.
    pub stale: Vec<String>,
}

/// One step of a plan that was asked for with `dry_run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanStep {
    /// What would be done: `start`, `stop`, `terminate`, `remove`, …
    pub action: String,
    /// To what.
    pub target: String,
    /// Why, or with what effect.
    pub why: String,
}

/// The answer to a start, a stop, a restart or a reset: the agent, and what became of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The agent after the change, or as it is when nothing was waited for.
    #[serde(flatten)]
    pub agent: Agent,
    /// It was so already; nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Answered before the effect (`wait_ms` ran out at 0): follow the events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Nothing was done; `plan` says what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// With `dry_run`: the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanStep>,
    /// Of a stop: processes that are still alive, `pid:start`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<String>,
}

/// The last lines of an agent's screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    /// Lines, oldest first, without trailing blank ones.
    pub lines: Vec<String>,
    /// Older lines exist that were not asked for.
    pub truncated: bool,
}

/// How to look at an agent's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attach {
    /// Address.
    pub agent: Address,
    /// Program and arguments to run in the foreground of a terminal that is not inside the same tmux server.
    pub argv: Vec<String>,
    /// The same for a terminal inside that server.
    pub argv_inside: Vec<String>,
    /// Path of the tmux server's socket: equal to the first field of `$TMUX` when inside.
    pub server: String,
}

/// A signal that the daemon sent, with its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalSent {
    /// When.
    pub at: Timestamp,
    /// For which agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// Which instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// To which process.
    pub pid: i32,
    /// That process' start time, in clock ticks since boot.
    pub start: u64,
    /// Signal number.
    pub signal: i32,
    /// Why the process is ours, and why it was signalled.
    pub evidence: serde_json::Value,
    /// Who asked: `person`, an address, or `supervisor`, with by what way behind a colon.
    pub by: String,
    /// All of this in a sentence: `killed by gtd because …`. Made when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}
