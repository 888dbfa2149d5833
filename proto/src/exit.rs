//! The black box of an ended instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::killed::Killed;
use crate::{Address, InstanceId, Timestamp};

/// Why an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody asked for it.
    Requested,
    /// It ended by itself with code 0.
    Clean,
    /// It ended by itself with another code, or by a signal that we did not send.
    Crash,
    /// The program or its directory could not be used at all.
    LaunchError,
    /// The provider's limit was recognised.
    ProviderLimit,
    /// A person ended it at its terminal.
    Person,
    /// Its pane or session was closed.
    PaneClosed,
    /// Its tmux server ended.
    ServerGone,
    /// The kernel ended it for want of memory.
    Oom,
    /// The machine was restarted.
    Reboot,
    /// We ended it; the signals are in the ledger.
    KilledByGtd,
    /// It is not known.
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Clean => "clean",
            Self::Crash => "crash",
            Self::LaunchError => "launch_error",
            Self::ProviderLimit => "provider_limit",
            Self::Person => "person",
            Self::PaneClosed => "pane_closed",
            Self::ServerGone => "server_gone",
            Self::Oom => "oom",
            Self::Reboot => "reboot",
            Self::KilledByGtd => "killed_by_gtd",
            Self::Unknown => "unknown",
        }
    }
}

/// What an instance used, as its parent was told by the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time in user mode.
    #[serde(default)]
    pub user_ms: u64,
    /// Processor time in the kernel.
    #[serde(default)]
    pub system_ms: u64,
    /// Most memory resident at once, in KiB.
    #[serde(default)]
    pub max_rss_kib: u64,
}

/// One ended instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Address.
    pub agent: Address,
    /// Which start.
    pub instance: InstanceId,
    /// The agent's process, if it ever ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended: by its record where there is one, else when we learned of it.
    pub ended_at: Timestamp,
    /// How long it lived.
    pub uptime_ms: u64,
    /// Exit code, when it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal number, when one ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why.
    pub cause: Cause,
    /// Somebody asked for this end.
    pub requested: bool,
    /// It counts against the restart policy.
    pub counts: bool,
    /// The failed system call of a launch error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_error: Option<ExecError>,
    /// The mass death it was part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// What the cause rests on, where that is more than code and signal say: the line of a limit, who was at its
    /// terminal, how memory ran out, who declared it dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What of it the daemon ended, oldest first; empty when it ended nothing. Made from the signals on record when
    /// somebody asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<Killed>,
    /// Last lines of its screen, oldest first.
    pub output: Vec<String>,
    /// What it used.
    pub usage: Usage,
}

/// Why a program could not be executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecError {
    /// The call that failed: `chdir`, `execve`, `fork`, …
    pub op: String,
    /// Its errno by name, such as `ENOENT`.
    pub errno: String,
    /// The path it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
