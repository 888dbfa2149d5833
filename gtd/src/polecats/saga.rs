//! The making of a worker as a row of steps, each written down before it is done: what comes next, forwards and back.
//!
//! Pure: what is written in the journal and what is seen of the world decide; a daemon that was killed at any step
//! is followed by one that reads the journal and asks the same question. Nothing here knows how a step is done.

use std::collections::BTreeMap;

use gtd_proto::{ErrorKind, RpcError};
use serde::{Deserialize, Serialize};

use crate::agents::order::Overrides;

/// A step of the making of a worker. Each can be done twice with the same end as once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Its name, and the work for it, are taken.
    Reserve,
    /// Its worktree is made, on a branch of its own; a leftover in its place is repaired first.
    Tree,
    /// The work is put on its hook.
    Hook,
    /// Its agent is started and waited for.
    Start,
    /// It is told that there is a worker.
    Announce,
}

impl Step {
    /// All steps, in the order in which they are done.
    pub const ALL: [Self; 5] = [Self::Reserve, Self::Tree, Self::Hook, Self::Start, Self::Announce];
    /// Those whose effect is taken back when a later one fails.
    pub const UNDONE: [Self; 4] = [Self::Start, Self::Hook, Self::Tree, Self::Reserve];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Tree => "tree",
            Self::Hook => "hook",
            Self::Start => "start",
            Self::Announce => "announce",
        }
    }

    /// The next one; none after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Reserve => Some(Self::Tree),
            Self::Tree => Some(Self::Hook),
            Self::Hook => Some(Self::Start),
            Self::Start => Some(Self::Announce),
            Self::Announce => None,
        }
    }
}

/// How often the making of one worker is taken up by a new daemon before it is taken back instead: a making that ends
/// its daemon each time must come to an end itself.
pub const TAKEN_UP_AT_MOST: u32 = 3;

/// What is kept of a making in the ledger, beside the worker's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// The step that is under way, or that is to be done next.
    pub step: Step,
    /// It is being taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
    /// Daemons that took it up after the first.
    #[serde(default)]
    pub taken_up: u32,
    /// What was asked for.
    pub wish: Wish,
    /// What went otherwise than asked for.
    #[serde(default)]
    pub notes: Notes,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Preset, account and environment.
    #[serde(default)]
    pub overrides: Overrides,
    /// Take work from others, archive what a leftover has, go on without a store.
    #[serde(default)]
    pub force: bool,
    /// A leftover of this name is repaired.
    #[serde(default)]
    pub repair: bool,
    /// Who wants it.
    pub by: String,
    /// The peer of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Requests with this key mean this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What went otherwise than asked for, and is told with the worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// Who had the work before: they get it back if no worker comes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<String>,
    /// Why the work is not on its hook, although it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhooked: Option<String>,
    /// Where what a leftover had is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<String>,
    /// What did not work out and was not needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// It runs, and did not say in time that it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<RpcError>,
}

/// A making that is being taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Back {
    /// Why.
    pub why: RpcError,
    /// The step that failed.
    pub failed: Step,
    /// Steps whose effect may still be there, the last first.
    pub left: Vec<Step>,
    /// Its worktree is kept, for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why a step could not be taken back, by the last try.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stuck: BTreeMap<Step, String>,
}

/// What is seen of the worker's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// No process of it was ever there.
    Never,
    /// There was one, and nothing of it is left.
    Gone,
    /// Something of it is there, or under way.
    Alive,
    /// It cannot be told.
    Unknown,
}

/// What is seen of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    /// The agent.
    pub agent: Agent,
    /// The ledger was lost and restored: the world may be further than it says.
    pub doubt: bool,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Do this step.
    Do(Step),
    /// Take back what this step did.
    Undo(Step),
    /// Take back its worktree; when an agent may have worked in it, only where nothing was done there.
    Clear {
        /// An agent may have worked in it.
        ran: bool,
    },
    /// Begin to take back: it ended its daemon too often.
    TurnBack,
    /// Look again later.
    Wait(&'static str),
    /// There is nothing more to do: the row goes, or stays for what was kept.
    Finish,
}

/// What comes next.
#[must_use]
pub fn next(journal: &Journal, world: World) -> Next {
    let Some(back) = &journal.back else {
        return if journal.taken_up > TAKEN_UP_AT_MOST { Next::TurnBack } else { Next::Do(journal.step) };
    };
    match (back.left.first(), world.agent) {
        (None, _) => Next::Finish,
        // An end that cannot be observed is none: asked for again until it can.
        (Some(Step::Start), _) => Next::Undo(Step::Start),
        (Some(Step::Tree), Agent::Alive) => Next::Wait("something of its agent is there"),
        (Some(Step::Tree), Agent::Unknown) => {
            Next::Wait("it cannot be told whether something of its agent is there")
        }
        (Some(Step::Tree), agent) => Next::Clear { ran: agent == Agent::Gone || world.doubt },
        (Some(Step::Reserve), _) if back.kept.is_some() => Next::Finish,
        (Some(step), _) => Next::Undo(*step),
    }
}

impl Journal {
    /// The journal of a making that begins.
    #[must_use]
    pub fn new(wish: Wish) -> Self {
        Self { step: Step::Reserve, back: None, taken_up: 0, wish, notes: Notes::default() }
    }

    /// A step failed: from now on, what was done is taken back. `blank`: the step surely did nothing.
    pub fn turn_back(&mut self, failed: Step, why: RpcError, blank: bool) {
        let done = |step: &Step| *step < failed || (*step == failed && !blank);
        let left = Step::UNDONE.into_iter().filter(done).collect();
        self.back = Some(Back { why, failed, left, kept: None, stuck: BTreeMap::new() });
    }

    /// A step was taken back.
    pub fn undone(&mut self, step: Step) {
        if let Some(back) = &mut self.back {
            back.left.retain(|left| *left != step);
            back.stuck.remove(&step);
        }
    }

    /// A step could not be taken back now. What does not depend on it goes on: a store of work that does not answer
    /// keeps no worktree.
    pub fn put_off(&mut self, step: Step, why: String) {
        let Some(back) = &mut self.back else { return };
        back.stuck.insert(step, why);
        if step == Step::Hook
            && let Some(at) = back.left.iter().position(|left| *left == Step::Tree)
        {
            let tree = back.left.remove(at);
            back.left.insert(0, tree);
        }
    }

    /// The worktree stays.
    pub fn keep(&mut self, why: &str) {
        if let Some(back) = &mut self.back {
            back.kept = Some(why.to_owned());
            back.left.retain(|left| *left != Step::Tree);
        }
    }
}

/// Whether an error says nothing about a step: the daemon is going down, and the next one goes on.
#[must_use]
pub fn is_leaving(error: &RpcError) -> bool {
    error.kind == ErrorKind::ShuttingDown
}

#[cfg(test)]
#[path = "saga_tests.rs"]
mod tests;
