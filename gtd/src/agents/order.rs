//! What the supervisor asks of an agent's task, and what the task says back.
//!
//! Orders and reports carry the instance they are about; a report about an instance that is no longer the
//! agent's present one is ignored by whoever reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::agent::SignalSent;
use gtd_proto::exit::{ExecError, Usage};
use gtd_proto::{Address, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::converse::Talk;
use super::launch::Conversation;
use crate::process::ProcessId;

/// What a person gave at a start, beside the settings: kept for restarts until a start says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Preset, or entry of `agents` in the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Further environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Where an instance runs: ids that only the agents' module acts upon, and that records show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Path of the tmux server's socket.
    pub socket: String,
    /// The tmux server's process.
    pub server: ProcessId,
    /// Session id, such as `$3`.
    pub session: String,
    /// The session's name, for people.
    pub session_name: String,
    /// Pane id, such as `%7`.
    pub pane: String,
}

/// The facts of one instance that outlive the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// Where it runs.
    pub place: Place,
    /// The pane's process.
    pub shim: ProcessId,
    /// The agent's own process, once it has begun.
    pub process: Option<ProcessId>,
    /// When the agent's process began.
    pub started_at: Option<Timestamp>,
    /// The settings entry or preset it was launched with.
    pub preset: String,
    /// Account it runs under.
    pub account: Option<String>,
    /// Directory it works in.
    pub cwd: String,
    /// How long its shim waits between TERM and KILL.
    #[serde(default)]
    pub grace_ms: u64,
    /// A digest of what it was launched with, part by part, to tell drift.
    #[serde(default)]
    pub launch: BTreeMap<String, String>,
    /// What else it was given.
    #[serde(default, skip_serializing_if = "Outfit::is_blank")]
    pub outfit: Outfit,
}

/// What an instance was given beside program and environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outfit {
    /// The conversation that it began or went on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// The settings file that was generated, or found, for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// What a person should know about that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_note: Option<String>,
    /// Its hooks report to us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reports: bool,
    /// Its start-up text, where its program does not take one as an argument: to be typed once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_type: Option<String>,
}

impl Outfit {
    /// It was given nothing.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

/// A task's next thing to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Start this instance. It is already in the ledger.
    Launch {
        /// The instance.
        instance: InstanceId,
        /// What a person gave.
        overrides: Overrides,
        /// Where the agent's last instance ran: its pane is used again when it is still there.
        before: Option<Place>,
        /// Work is on its hook.
        hooked: bool,
        /// The conversation that it may lead.
        talk: Talk,
    },
    /// After a restart of the daemon: find this instance, or prove that it is not and will not be.
    Adopt {
        /// The instance.
        instance: InstanceId,
        /// What the ledger has of it; nothing when the daemon died before it was placed.
        life: Option<Life>,
        /// When it was reserved.
        reserved_at: Timestamp,
    },
    /// End this instance: TERM, grace, KILL, verified gone.
    End {
        /// The instance.
        instance: InstanceId,
        /// KILL at once.
        force: bool,
        /// Another instance follows: its pane stays.
        keep_pane: bool,
        /// Who wants it, for the record of signals.
        by: String,
    },
    /// Freeze this instance with everything below its shim, or let it go on. The last such order counts.
    Freeze {
        /// The instance.
        instance: InstanceId,
        /// Freeze it; else let it go on.
        frozen: bool,
        /// Names the order in its report.
        number: u64,
        /// Who wants it, for the record of signals.
        by: String,
    },
    /// A person says that this instance, of which nothing can be told, is dead: looked at once more, and let go
    /// of unless something of it lives. Nothing is signalled.
    Abandon {
        /// The instance.
        instance: InstanceId,
        /// Who says so, and how they know.
        evidence: String,
    },
    /// This instance is gone and the ledger says so: its files are of no more use.
    Forget {
        /// The instance.
        instance: InstanceId,
    },
    /// Close the pane that a dead instance left, if nothing new runs in it.
    Close {
        /// Where it is.
        place: Place,
    },
}

/// What a task says.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of which agent.
    pub agent: Address,
    /// Of which of its instances.
    pub instance: InstanceId,
    /// What happened.
    pub what: What,
}

/// What happened to an instance.
#[derive(Debug, Clone)]
pub enum What {
    /// It has a pane; its agent may not have begun yet.
    Placed(Box<Life>),
    /// Its agent's process is proven alive.
    Alive {
        /// All that is known.
        life: Box<Life>,
        /// It was found running after a restart of the daemon.
        adopted: bool,
    },
    /// The agent is ready for work.
    Ready,
    /// The launch did not come to a process of the agent, and never will.
    NotLaunched(Failure),
    /// The agent's process ended.
    Ended(Box<Ending>),
    /// Nothing of the instance is left but what is listed.
    Gone {
        /// Processes proven ours that are still alive.
        survivors: Vec<ProcessId>,
    },
    /// Adoption: there is no such instance and there will be none.
    Never,
    /// It cannot be told whether it lives.
    Unknown {
        /// Why.
        why: String,
    },
    /// The pane is gone and proven processes live on; they are being ended.
    Lingering {
        /// The processes.
        processes: Vec<ProcessId>,
    },
    /// How far an order to freeze it, or to let it go on, has come.
    Frost(Frosted),
    /// It was found after a restart of the daemon, and stands still.
    Still,
    /// Signals that were sent.
    Signals(Vec<SignalSent>),
    /// Another session had the wanted name.
    NameTaken {
        /// The name wanted.
        wanted: String,
        /// The name used.
        used: String,
    },
}

/// How far an order to freeze an instance, or to let it go on, has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frosted {
    /// Which order.
    pub number: u64,
    /// Processes that it was about.
    pub processes: u64,
    /// Why it is not done; the task goes on trying. Without, a look has shown that it is.
    pub trouble: Option<String>,
}

/// Why a launch failed before there was a process of the agent.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words, with the object.
    pub message: String,
    /// What helps.
    pub hint: Option<String>,
    /// Whose fault it is.
    pub kind: FailureKind,
}

/// Whose fault a failed launch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// The settings name something that does not exist: trying again changes nothing.
    Settings,
    /// The program or the directory cannot be used.
    Exec(ExecError),
    /// tmux did not do its part; the agent has failed in nothing.
    Tmux,
    /// Something of ours, such as a file that could not be written.
    Ours,
    /// It was called off.
    Cancelled,
}

/// How an agent's process ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The agent's process, when it is known.
    pub pid: Option<i32>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal number.
    pub signal: Option<i32>,
    /// Who ended it, by the shim's record.
    pub by: EndedBy,
    /// The failed call of a launch error.
    pub exec_error: Option<ExecError>,
    /// Last lines of its screen.
    pub output: Vec<String>,
    /// What it used.
    pub usage: Usage,
    /// When somebody attached to its session was last active, as far as is known; only of ends with code 0.
    pub client_activity: Option<Timestamp>,
    /// What it said of a limit of its provider.
    pub limit: Option<ProviderLimit>,
    /// The kernel killed for want of memory meanwhile.
    pub oom: Option<Oom>,
    /// Who declared it dead, and how they know.
    pub said: Option<String>,
    /// By which means we know: `pidfd`; of one that ended while no daemon looked, `record`, or `procfs` where there is
    /// none; `boot id`; `person`.
    pub detected_by: &'static str,
    /// From the end to our knowing, when both instants are known.
    pub detect_ms: Option<f64>,
}

/// An end for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oom {
    /// The kernel counted it in the instance's own cgroup.
    Certain,
    /// The kernel counted one on this machine.
    Likely,
}

/// What an agent's last lines said of a limit of its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderLimit {
    /// The line that says so.
    pub line: String,
    /// How long from the end until it is lifted, when that was said.
    pub wait: Option<Duration>,
}

/// Who ended an agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Itself.
    Agent,
    /// The shim, asked by TERM.
    Term,
    /// The shim, by KILL.
    Kill,
    /// Its pane was closed.
    PaneClosed,
    /// Its tmux server ended.
    ServerGone,
    /// The machine was restarted.
    Reboot,
    /// A person says that it ended.
    Declared,
    /// Nothing says.
    Unknown,
}
