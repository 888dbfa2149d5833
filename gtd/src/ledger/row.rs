//! What is written and read back: one struct per kind of row.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gtd_proto::agent::SignalSent;
use gtd_proto::daemon::HeartbeatReport;
use gtd_proto::explain::Decision;
use gtd_proto::{Address, Exit, InstanceId, Intent, RigName, Selector, Seq, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conversations::{ConversationRow, ConversationWrite};
use super::convoys::{ConvoyWrite, OpenConvoys};
use super::lifecycle::{LifecycleRow, LifecycleWrite};
use super::mail::{MailWrite, UnreadMail};
use super::nudges::NudgeRow;
use super::polecats::{PolecatRow, PolecatWrite};
use super::work::{OpenWork, WorkWrite};

/// A process as the ledger remembers it: no other process can have the same three values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The boot it belongs to.
    pub boot: String,
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since boot.
    pub start: u64,
}

/// A tmux server: its socket's path, and the process that listened there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerKey {
    /// Path of the socket.
    pub socket: String,
    /// The server's process.
    pub process: ProcessKey,
}

/// An agent: what should be, and what the policy counts. One row per address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRow {
    /// Address.
    pub address: Address,
    /// What should be.
    pub intent: Intent,
    /// Who wanted that.
    pub intent_by: String,
    /// Why, in their words.
    pub intent_reason: Option<String>,
    /// Since when.
    pub intent_at: Timestamp,
    /// Preset, account and environment that a start named and that stick.
    pub overrides: Value,
    /// The counters and deadlines of the restart policy.
    pub policy: Value,
    /// Starts after deaths since the agent was first seen.
    pub lifetime_restarts: u64,
}

/// One start of one agent, from its reservation on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Which start.
    pub instance: InstanceId,
    /// Of which agent.
    pub agent: Address,
    /// When the launch was decided.
    pub reserved_at: Timestamp,
    /// When the agent's process began.
    pub started_at: Option<Timestamp>,
    /// The boot in which it was reserved.
    pub boot: String,
    /// The tmux server that has its pane.
    pub server: Option<ServerKey>,
    /// tmux session id.
    pub session: Option<String>,
    /// The session's name.
    pub session_name: Option<String>,
    /// tmux pane id.
    pub pane: Option<String>,
    /// The pane's process.
    pub shim: Option<ProcessKey>,
    /// The agent's process.
    pub process: Option<ProcessKey>,
    /// Preset or settings entry it was launched with.
    pub preset: String,
    /// Account it runs under.
    pub account: Option<String>,
    /// What it was launched with.
    pub launch: Value,
    /// When it was ready for work.
    pub ready_at: Option<Timestamp>,
    /// Descendants, captured while their descent was provable.
    pub captured: Value,
    /// It is over: nothing of it is known to be alive.
    pub ended: bool,
}

/// A tmux server that we use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its identity.
    pub server: ServerKey,
    /// When we started it, or first saw it.
    pub seen_at: Timestamp,
    /// We started it; false for a server of somebody else's that a town was told to use.
    pub ours: bool,
    /// What else is to be remembered of it: the holder session's id, its version, …
    pub detail: Value,
}

/// The whole town is to stay down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Who wanted that.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Since when.
    pub at: Timestamp,
}

/// An answer kept for a request that may be repeated with the same idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerRow {
    /// The request's key.
    pub key: String,
    /// The method it was a key for.
    pub method: String,
    /// The answer it got.
    pub answer: Value,
    /// When.
    pub at: Timestamp,
}

/// An event before it has its number.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened.
    pub at: Timestamp,
    /// What happened: one of [`gtd_proto::event::kind`].
    pub kind: Cow<'static, str>,
    /// To which agent.
    pub agent: Option<Address>,
    /// In which rig.
    pub rig: Option<RigName>,
    /// To which start of the agent.
    pub instance: Option<InstanceId>,
    /// The event that led to this one.
    pub cause: Option<Seq>,
    /// Who asked.
    pub peer: Option<String>,
    /// Facts of this kind of event.
    pub data: Value,
}

impl NewEvent {
    /// An event of no agent and no rig.
    #[must_use]
    pub fn new(at: Timestamp, kind: impl Into<Cow<'static, str>>, data: Value) -> Self {
        let kind = kind.into();
        Self { at, kind, agent: None, rig: None, instance: None, cause: None, peer: None, data }
    }

    /// An event of an agent, and so of its rig.
    #[must_use]
    pub fn of(at: Timestamp, kind: impl Into<Cow<'static, str>>, agent: &Address, data: Value) -> Self {
        let rig = agent.rig().cloned();
        Self { agent: Some(agent.clone()), rig, ..Self::new(at, kind, data) }
    }
}

/// One thing to write. All writes of one request are written together, or none is.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a request has a handful of these, and they are moved once")]
pub enum Write {
    /// Replaces the agent's row.
    Agent(AgentRow),
    /// Removes an agent that no longer exists; its history stays.
    Forget(Address),
    /// Replaces the instance's row.
    Instance(InstanceRow),
    /// Keeps the black box of an ended instance; a second one of the same instance replaces the first.
    Exit(Box<Exit>),
    /// Appends an event, which gets the next number.
    Event(NewEvent),
    /// Keeps a signal we sent.
    Signal(SignalSent),
    /// Keeps a decision about an agent.
    Decision {
        /// The agent.
        agent: Address,
        /// What was decided, and why.
        decision: Decision,
    },
    /// Replaces the server's row.
    Server(ServerRow),
    /// Marks a server as ended.
    ServerGone {
        /// Its identity.
        server: ServerKey,
        /// When it ended, or when we learned of it.
        at: Timestamp,
    },
    /// Sets or lifts the hold on the whole town.
    Hold(Option<HoldRow>),
    /// Keeps the report of a round.
    Heartbeat(HeartbeatReport),
    /// Keeps an answer for repetitions of its request; the first answer under a key stays.
    Answer {
        /// The request's key.
        key: String,
        /// The method it was a key for.
        method: String,
        /// The answer it got.
        answer: Value,
        /// When.
        at: Timestamp,
    },
    /// Writes something about work.
    Work(WorkWrite),
    /// Writes something about workers.
    Polecat(PolecatWrite),
    /// Writes something about the conversation that an agent leads.
    Conversation(ConversationWrite),
    /// Writes something about convoys.
    Convoy(ConvoyWrite),
    /// Writes something about mail.
    Mail(MailWrite),
    /// Writes something about a lifecycle request.
    Lifecycle(Box<LifecycleWrite>),
    /// Makes or replaces a text for an agent.
    Nudge(Box<NudgeRow>),
    /// Sets or (with `None`) removes a fact of the whole daemon under a name: an open incident, the last good
    /// configuration, the boot it was written in.
    Fact {
        /// The name.
        key: String,
        /// The fact.
        value: Option<Value>,
    },
}

impl Write {
    /// It replaces a row, so that the order among writes matters; what is not state only adds to a history.
    pub(crate) fn is_state(&self) -> bool {
        match self {
            Self::Agent(_)
            | Self::Forget(_)
            | Self::Instance(_)
            | Self::Server(_)
            | Self::ServerGone { .. }
            | Self::Hold(_)
            | Self::Work(_)
            | Self::Polecat(_)
            | Self::Conversation(_)
            | Self::Convoy(_)
            | Self::Mail(_)
            | Self::Lifecycle(_)
            | Self::Nudge(_)
            | Self::Fact { .. } => true,
            Self::Exit(_)
            | Self::Event(_)
            | Self::Signal(_)
            | Self::Decision { .. }
            | Self::Heartbeat(_)
            | Self::Answer { .. } => false,
        }
    }
}

/// What the ledger remembered when it was opened.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// Identity of the stream of events.
    pub stream_id: String,
    /// The last event.
    pub last_seq: Seq,
    /// False when what should run could not be read: the file was damaged, is of a later version, or cannot be
    /// opened. The daemon then knows of no intent, and may only observe until a person says what should run.
    pub known: bool,
    /// All agents.
    pub agents: Vec<AgentRow>,
    /// The instances that have not ended.
    pub instances: Vec<InstanceRow>,
    /// The servers that have not ended.
    pub servers: Vec<ServerRow>,
    /// The hold on the whole town.
    pub hold: Option<HoldRow>,
    /// Number of the last round.
    pub heartbeat_number: u64,
    /// Facts of the whole daemon.
    pub facts: BTreeMap<String, Value>,
    /// Work that is not done, and who has what.
    pub work: OpenWork,
    /// Workers that we made.
    pub polecats: Vec<PolecatRow>,
    /// The conversations that agents lead.
    pub conversations: Vec<ConversationRow>,
    /// Mail that nobody has read.
    pub mail: UnreadMail,
    /// Convoys that go on.
    pub convoys: OpenConvoys,
    /// The last lifecycle requests.
    pub lifecycle: Vec<LifecycleRow>,
    /// Rows that are there and cannot be understood, each in a sentence; they stay in the file.
    pub unreadable: Vec<String>,
}

/// Which events are meant.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Globs over kinds; none means all.
    pub kinds: Vec<String>,
    /// Which agents, or a rig; none means all, also events of no agent.
    pub selector: Option<Selector>,
}

impl EventFilter {
    /// Whether an event is meant.
    #[must_use]
    pub fn matches(&self, kind: &str, agent: Option<&Address>, rig: Option<&RigName>) -> bool {
        self.matches_kind(kind) && self.matches_agent(agent, rig)
    }

    /// Whether events of this kind are meant.
    #[must_use]
    pub fn matches_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|glob| gtd_proto::selector::glob(glob, kind))
    }

    fn matches_agent(&self, agent: Option<&Address>, rig: Option<&RigName>) -> bool {
        self.selector.as_ref().is_none_or(|selector| match agent {
            Some(agent) => selector.matches(agent),
            None => rig.is_some_and(|rig| rig.as_str() == selector.as_str()),
        })
    }
}

/// A question about past events.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// After this event, exclusive; from the oldest kept unless given.
    pub since: Option<Seq>,
    /// Up to this event, inclusive; to the last unless given.
    pub until: Option<Seq>,
    /// Only events at or after this instant.
    pub since_time: Option<Timestamp>,
    /// Globs over kinds; none means all.
    pub kinds: Vec<String>,
    /// Which agents, or a rig; none means all, also events of no agent.
    pub selector: Option<Selector>,
    /// At most so many: 100 unless given, at most 1,000.
    pub limit: Option<u32>,
}
