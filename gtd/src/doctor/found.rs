//! What a check says: how it is, why, what helps, and what could be done about it.

use gtd_proto::doctor::{CheckStatus, FixClass};
use serde_json::{Map, Value};

use super::hint::Hint;
use crate::tmux::{PaneId, ServerId};

/// Details that are kept; more are counted.
const DETAILS: usize = 100;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it went.
    pub status: CheckStatus,
    /// In a line.
    pub message: String,
    /// One line for each thing.
    pub details: Vec<String>,
    /// The facts behind it.
    pub evidence: Map<String, Value>,
    /// What helps.
    pub hint: Option<Hint>,
    /// What could be done.
    pub steps: Vec<(FixClass, Step)>,
}

/// One thing that could be done.
#[derive(Debug, Clone)]
pub struct Step {
    /// How.
    pub remedy: Remedy,
    /// To what, in words.
    pub target: String,
    /// Why that is right.
    pub evidence: Map<String, Value>,
}

/// What the doctor can do. Each looks again before it acts.
#[derive(Debug, Clone)]
pub enum Remedy {
    /// End what is left of an instance that is over.
    Sweep {
        /// The instance.
        instance: String,
    },
    /// Close a dead pane that was started with our shim on a launch of ours.
    ClosePane {
        /// On which server.
        server: ServerId,
        /// The pane.
        pane: PaneId,
        /// The instance that its mark names.
        instance: String,
    },
    /// Remove a file that an instance which is over left in the run directory.
    RemoveFile {
        /// The file.
        path: std::path::PathBuf,
        /// The instance.
        instance: String,
    },
}

impl Remedy {
    /// What is done, in a word or two.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Sweep { .. } => "end processes",
            Self::ClosePane { .. } => "close pane",
            Self::RemoveFile { .. } => "remove file",
        }
    }
}

impl Found {
    fn new(status: CheckStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: Vec::new(),
            evidence: Map::new(),
            hint: None,
            steps: Vec::new(),
        }
    }

    /// All is well.
    pub fn ok(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Ok, message)
    }

    /// Something is odd.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Warning, message)
    }

    /// Something does not work.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Error, message)
    }

    /// It could not be told.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Unknown, message)
    }

    /// There is nothing to look at here.
    pub fn skipped(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Skipped, message)
    }

    /// Adds lines.
    #[must_use]
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let mut more = 0_usize;
        for line in lines {
            if self.details.len() < DETAILS {
                self.details.push(line);
            } else {
                more += 1;
            }
        }
        if more > 0 {
            self.details.push(format!("and {more} more"));
        }
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.evidence.insert(name.to_owned(), value.into());
        self
    }

    /// Says what helps.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds what could be done.
    #[must_use]
    pub fn fix(mut self, class: FixClass, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps.into_iter().map(|step| (class, step)));
        self
    }
}

/// `1 process`, `2 processes`.
pub(super) fn many(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {several}") }
}
