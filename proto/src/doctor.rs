//! What the doctor finds and does, and what was left behind: sessions, processes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Address, InstanceId, RigName, Timestamp};

/// A check that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckInfo {
    /// Its name, as `doctor.run` takes it.
    pub name: String,
    /// What it belongs to, such as `daemon` or `cleanup`.
    pub category: String,
    /// What it looks at, in a line.
    pub summary: String,
    /// It can say nothing while no daemon runs.
    pub needs_daemon: bool,
    /// Something that it finds can be put right by the doctor.
    pub fixable: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// All is well.
    Ok,
    /// It cannot be looked at here, and that is nobody's fault.
    Skipped,
    /// Something is odd.
    Warning,
    /// Something does not work.
    Error,
    /// It could not be told; also a status that this version does not know.
    #[serde(other)]
    Unknown,
}

impl CheckStatus {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

/// What putting something right may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FixClass {
    /// Nothing that anybody uses.
    Safe,
    /// It interrupts something that runs.
    Disruptive,
    /// It ends or removes what cannot be had back; also a class that this version does not know.
    #[serde(other)]
    Destructive,
}

impl FixClass {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Disruptive => "disruptive",
            Self::Destructive => "destructive",
        }
    }
}

/// One thing that the doctor would do, or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FixItem {
    /// The check that found it.
    pub check: String,
    /// What it may cost.
    pub class: FixClass,
    /// What is done.
    pub action: String,
    /// To what.
    pub target: String,
    /// Why that is right.
    pub evidence: Map<String, Value>,
    /// What came of it, or why it was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Whether it did what it was to do; absent while it was not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
}

/// What could be put right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    /// The gravest class of the items.
    pub class: FixClass,
    /// One for each thing.
    pub items: Vec<FixItem>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// The check.
    pub name: String,
    /// What it belongs to.
    pub category: String,
    /// How it went.
    pub status: CheckStatus,
    /// What it found, in a line.
    pub message: String,
    /// One line for each thing.
    pub details: Vec<String>,
    /// The facts behind it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub evidence: Map<String, Value>,
    /// The command that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What the doctor could do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// How long it took.
    pub duration_ms: u64,
}

/// What the doctor found, and what it did about it. After a fix, `checks` is the second look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The checks, in the order in which they are shown.
    pub checks: Vec<CheckResult>,
    /// What could be done.
    pub plan: Vec<FixItem>,
    /// What was done.
    pub applied: Vec<FixItem>,
    /// How many checks went how.
    pub summary: BTreeMap<String, u64>,
    /// Whether a daemon was there to be asked.
    pub daemon: bool,
}

impl Report {
    /// Counts the checks by how they went.
    pub fn count(&mut self) {
        self.summary.clear();
        for check in &self.checks {
            *self.summary.entry(check.status.as_str().to_owned()).or_insert(0) += 1;
        }
    }
}

/// Something that looks left behind, whoever it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Orphan {
    /// `session` or `process`.
    pub kind: String,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When it began, in clock ticks since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The session's tmux id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The name of the session or the process, chosen by itself.
    pub name: String,
    /// It is proven ours, and left over.
    pub owned: bool,
    /// `orphan`, `zombie`, `unproved`, `protected`, `other_town`, `helper` or `not_ours`. Only the first two may be
    /// ended by a sweep.
    pub verdict: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Parents, marker, group, terminal, words, proof: whatever is known.
    pub evidence: Map<String, Value>,
    /// Its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// How long ago it began.
    pub age_ms: u64,
    /// The agent it belongs to, or says it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// The instance it belongs to, or says it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
}

/// All that looks left behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Orphans {
    /// What is proven ours first.
    pub items: Vec<Orphan>,
    /// Processes looked at.
    pub processes: u64,
    /// Sessions looked at.
    pub sessions: u64,
    /// Processes that belong to agents that run.
    pub live: u64,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepResult {
    /// One for each instance or session.
    pub items: Vec<SweptItem>,
    /// Nothing was done.
    pub dry_run: bool,
    /// What was found and left alone: how many, by verdict.
    pub left: BTreeMap<String, u64>,
}

/// One thing that was swept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweptItem {
    /// `session` or `process`.
    pub kind: String,
    /// The pane or the instance.
    pub target: String,
    /// Whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// Processes concerned, `pid:start`.
    pub processes: Vec<String>,
    /// One line for each of them: number, name, age, directory, and why it is ours and left over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What came of it.
    pub outcome: String,
    /// Nothing of it is left.
    pub ok: bool,
    /// What is left, `pid:start`.
    pub survivors: Vec<String>,
}

/// A session of the tmux server, ours or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// The server's socket.
    pub server: String,
    /// Its tmux id.
    pub session: String,
    /// Its name.
    pub session_name: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Its windows.
    pub windows: u32,
    /// When something last happened in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Timestamp>,
    /// Its panes.
    pub panes: Vec<SessionPane>,
    /// Somebody looks at it.
    pub attached: bool,
    /// The agent it belongs to, or says it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// It is proven ours.
    pub owned: bool,
    /// What proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// What is to be thought of it.
    pub verdict: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// A pane of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPane {
    /// Its tmux id.
    pub pane: String,
    /// The process that tmux started in it.
    pub pid: Option<i32>,
    /// That process has ended.
    pub dead: bool,
}

/// A person's workspace in a rig.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CrewMember {
    /// Its address.
    pub agent: Address,
    /// The rig.
    pub rig: RigName,
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// The tmux session that is called like it, or carries its mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// That session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// Somebody looks at that session.
    pub attached: bool,
}
