//! Something about a town's files that a person should know of.

pub use gtd_proto::town::Severity;

/// One finding. The same state of the files gives the same findings, word for word, so that a finding can
/// be opened and closed as one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, stable and unique: `registry`, `rig:alpha:state`.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding that something does not work.
    pub fn error(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), severity: Severity::Error, message: message.into(), hint: None }
    }

    /// A finding that something is odd.
    pub fn warning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, message) }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
