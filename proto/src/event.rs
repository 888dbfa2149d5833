//! Events: what happened, numbered, after it was written down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Address, InstanceId, RigName, Seq, Timestamp};

/// One event. It was committed to the ledger before anybody was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number in the stream.
    pub seq: Seq,
    /// When it happened.
    pub at: Timestamp,
    /// What happened: one of [`kind`], or a kind of a later version.
    pub kind: String,
    /// To which agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// In which rig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig: Option<RigName>,
    /// To which start of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The event that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// Who asked, when somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Facts of this kind of event.
    pub data: serde_json::Value,
}

/// The kinds of events that this version emits.
pub mod kind {
    /// A launch begins. `{reason, attempt}`
    pub const AGENT_STARTING: &str = "agent.starting";
    /// The agent is ready for work. `{pid, startup_ms}`
    pub const AGENT_READY: &str = "agent.ready";
    /// The agent's process ended. The fields of an exit, and `{detected_by, detect_ms, session_name}`
    pub const AGENT_EXITED: &str = "agent.exited";
    /// It will be started again. `{attempt, delay_ms}`
    pub const AGENT_RESTARTING: &str = "agent.restarting";
    /// It waits before the next start. `{next_attempt, attempt, delay_ms}`
    pub const AGENT_BACKOFF: &str = "agent.backoff";
    /// Too many failures. `{expires, failures}`
    pub const AGENT_QUARANTINED: &str = "agent.quarantined";
    /// Its account or the machine forbids a start until a known time.
    /// `{until, reason}` and `{account}` or `{resource, limit, value}`
    pub const AGENT_THROTTLED: &str = "agent.throttled";
    /// A person ended it, and it is left to them. `{until, reason}`; `until` is null when only they end it.
    pub const AGENT_HELD: &str = "agent.held";
    /// A back-off, quarantine, throttle or hold is over before its time, or what it waited for is there.
    /// `{from, why, by}`
    pub const AGENT_RELEASED: &str = "agent.released";
    /// It is stopped, as intended. `{survivors}`
    pub const AGENT_STOPPED: &str = "agent.stopped";
    /// A running instance was recognised after a restart of the daemon. `{pid}`
    pub const AGENT_ADOPTED: &str = "agent.adopted";
    /// The pane is gone, processes are left. `{processes}`
    pub const AGENT_LINGERING: &str = "agent.lingering";
    /// It cannot be observed. `{why}`
    pub const AGENT_UNKNOWN: &str = "agent.unknown";
    /// It said what it does. `{state, detail?, next_due?, conversation?, source, said_at?}`; `said_at` when that was
    /// earlier than it was heard.
    pub const AGENT_REPORTED: &str = "agent.reported";
    /// The conversation that it was to go on with is not there any more; its next start begins a new one.
    /// `{conversation, why}`
    pub const AGENT_CONVERSATION_LOST: &str = "agent.conversation_lost";
    /// It waits for a person; told once for each wait. `{kind, text, source}`
    pub const AGENT_WAITING: &str = "agent.waiting";
    /// It was drained: nothing of it runs, and nothing starts it. `{by, reason}`
    pub const AGENT_DRAINED: &str = "agent.drained";
    /// It was paused, and stands still with everything below its shim. `{by, reason, until, scope, clear, processes}`
    pub const AGENT_PAUSED: &str = "agent.paused";
    /// The end of that: it goes on. `{by, why, processes, paused_ms}`
    pub const AGENT_RESUMED: &str = "agent.resumed";
    /// Our tmux server began. `{socket, pid}`
    pub const TMUX_SERVER_STARTED: &str = "tmux.server_started";
    /// Our tmux server ended. `{socket, pid}`
    pub const TMUX_SERVER_DIED: &str = "tmux.server_died";
    /// The tmux server does not answer, or answers again. `{socket, responsive, why}`
    pub const TMUX_UNRESPONSIVE: &str = "tmux.unresponsive";
    /// A session's name was taken; another was used. `{wanted, used}`
    pub const SESSION_NAME_TAKEN: &str = "session.name_taken";
    /// A rig appeared in the registry. `{path}`
    pub const RIG_DISCOVERED: &str = "rig.discovered";
    /// A rig left the registry. `{}`
    pub const RIG_REMOVED: &str = "rig.removed";
    /// A rig was parked, or its state file bars it otherwise. `{reason, by, why}`
    pub const RIG_PARKED: &str = "rig.parked";
    /// The end of that. `{by, why, still}`: `still` is why its agents may not be started even so
    pub const RIG_UNPARKED: &str = "rig.unparked";
    /// A step of the making of a worker begins. `{step, key, work, worktree, branch, resumed}`
    pub const POLECAT_SPAWNING: &str = "polecat.spawning";
    /// A worker is made, and its agent was started. `{key, work, worktree, branch, agent_preset, account, by, duration_ms}`
    /// and what went otherwise than asked for: `{unhooked, unconfirmed, archived, replaced, taken_from}`
    pub const POLECAT_SPAWNED: &str = "polecat.spawned";
    /// A worker could not be made; nothing of it is left but `kept`. `{key, step, work, error, kept, archived}`
    pub const POLECAT_SPAWN_FAILED: &str = "polecat.spawn_failed";
    /// A worker was removed; what it had is kept. `{by, reason, archived[{ref, commit}], branch, worktree, aside, why,
    /// work}`: `aside` is where its directory was moved to when git cannot keep all of it, for the reason `why`.
    pub const POLECAT_REMOVED: &str = "polecat.removed";
    /// Many agents died together. `{id, count, window_ms, sessions, possible_cause, agents}`
    pub const INCIDENT_OPENED: &str = "incident.opened";
    /// It is over. `{id, recovered, duration_ms, count, cause}`
    pub const INCIDENT_CLOSED: &str = "incident.closed";
    /// A rig was docked. `{reason, by, why}`
    pub const RIG_DOCKED: &str = "rig.docked";
    /// The end of that. `{by, why, still}`
    pub const RIG_UNDOCKED: &str = "rig.undocked";
    /// An agent has work, lives, and gets nowhere. `{rig, agent, work, title, since, idle_ms, pane_tail}`; when it
    /// moves again, `agent.released` with `from: stalled`.
    pub const AGENT_STALLED: &str = "agent.stalled";
    /// Work is on the hook of an agent that does not run and will not be started. `{rig, agent, work, title, since,
    /// why}`; `since` is when it was hooked.
    pub const WORK_ORPHANED: &str = "work.orphaned";
    /// Starting a worker again after a crash does not work: told once in a row of failures.
    /// `{rig, agent, work, title, error, attempt}`
    pub const POLECAT_RESTART_FAILED: &str = "polecat.restart_failed";
    /// Work was put on an agent's hook. `{work, title, store, by, replaced?, taken_from?}`; `by` is `store` when
    /// others did it.
    pub const WORK_HOOKED: &str = "work.hooked";
    /// Work was taken off an agent's hook. `{work, store, by, why}`
    pub const WORK_UNHOOKED: &str = "work.unhooked";
    /// A work item was closed. `{work, title?, store, by, reason?}`
    pub const WORK_CLOSED: &str = "work.closed";
    /// The last item of a convoy was closed, and it with it. `{id, title, work[], watchers[], by}`
    pub const CONVOY_CLOSED: &str = "convoy.closed";
    /// A mail was sent. `{id, from, to, subject}`; the event's agent is who it is for, where that is an agent.
    pub const MAIL_SENT: &str = "mail.sent";
    /// A lifecycle request was taken. `{id, action, from, mail?, state}`
    pub const LIFECYCLE_REQUESTED: &str = "lifecycle.requested";
    /// It is done with: `{id, action, from, mail?, state, reason?}`; `state` is `done`, or `failed` where it was begun
    /// and did not come to its end.
    pub const LIFECYCLE_DONE: &str = "lifecycle.done";
    /// It was refused, and nothing was done. The same fields.
    pub const LIFECYCLE_REFUSED: &str = "lifecycle.refused";
    /// A text for an agent was taken. `{id, from, bytes, expires_at, key?}`
    pub const NUDGE_SENT: &str = "nudge.sent";
    /// A text was typed for an agent and sent off. `{id, reached, attempts, waited_ms}`
    pub const NUDGE_DELIVERED: &str = "nudge.delivered";
    /// The agent reported after a text that it works. `{id}`
    pub const NUDGE_SEEN: &str = "nudge.seen";
    /// A text is not typed any more. `{id, cause, why, reached}`; `cause` is `expired`, `cancelled`, `replaced`,
    /// `instance`, `refused`, `unsent` (it stands in the input line without Enter) or `unclear`.
    pub const NUDGE_DEAD: &str = "nudge.dead";
    /// A round of the heartbeat ended. `{number, duration_ms}`
    pub const HEARTBEAT_COMPLETED: &str = "heartbeat.completed";
    /// Something of ours that nobody needs was removed, on proof. `{kind, pane, session_name, proof}`, or of
    /// processes `{kind, pids, count, survivors, unverified?, by}`
    pub const SWEEP_KILLED: &str = "sweep.killed";
    /// Something looks left behind and was left alone. `{kind, count, processes[{pid, comm, verdict, reason}]}`
    pub const SWEEP_REPORTED: &str = "sweep.reported";
    /// The doctor did something. `{check, class, action, target, outcome, ok, by}`
    pub const DOCTOR_FIXED: &str = "doctor.fixed";
    /// Our configuration was read again. `{file, changed, refused}`
    pub const CONFIG_RELOADED: &str = "config.reloaded";
    /// Our configuration cannot be used; the last good one stays. `{file, key, line, column, message}`
    pub const CONFIG_REJECTED: &str = "config.rejected";
    /// The daemon is up. `{pid, version}`
    pub const DAEMON_STARTED: &str = "daemon.started";
    /// The daemon goes down; agents stay. `{reason}`
    pub const DAEMON_STOPPING: &str = "daemon.stopping";
    /// Something the daemon relies on does not work. `{reason}`
    pub const DAEMON_DEGRADED: &str = "daemon.degraded";
    /// The whole town was stopped, or may run again. `{hold}`
    pub const TOWN_HOLD: &str = "town.hold";
}

/// One frame of a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Frame {
    /// An event.
    Event(Box<Event>),
    /// This many events were dropped because the reader was too slow; what follows is new.
    Lagged {
        /// How many.
        lagged: u64,
    },
    /// The ledger no longer has what was asked for.
    Gap {
        /// Where the stream begins now.
        gap: Gap,
    },
}

/// Events that were asked for and are no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The oldest event that is kept.
    pub oldest: Seq,
}

/// A page of past events, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The events.
    pub items: Vec<Event>,
    /// Pass this as `since` for the next page.
    pub next_since: Seq,
    /// Changes when the ledger was made anew: `seq`s of another stream mean nothing here.
    pub stream_id: String,
    /// Set when events after `since` are no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}
