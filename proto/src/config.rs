//! Results about the daemon's configuration, `settings/gtd.toml`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a value comes from. No key is read from the environment so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Built in.
    Default,
    /// The file.
    File,
    /// The environment.
    Env,
    /// A place that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Origin {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Env => "env",
            Self::Unknown => "unknown",
        }
    }
}

/// One effective value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigValue {
    /// Its key, dotted: `restart.base`.
    pub key: String,
    /// The value as in the file: durations and sizes are texts with their unit.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
    /// What is written there, in a word: `duration`, `size`, `count`, or the words to choose from.
    pub unit: String,
    /// What it means.
    pub doc: String,
    /// It is read and checked, but what it is about does not exist in this version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_yet: bool,
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// The file.
    pub file: String,
    /// Every key, in the order of the documentation.
    pub values: Vec<ConfigValue>,
    /// The file as it is now cannot be used, and this is why: the values are the last good ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// A value that a reload changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Its key, dotted.
    pub key: String,
    /// What it was.
    pub old: Value,
    /// What it is now.
    pub new: Value,
}

/// A value that a reload could not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Its key, dotted.
    pub key: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// What is different from before.
    pub changed: Vec<Changed>,
    /// What stays until the daemon is started again.
    pub refused: Vec<Refused>,
    /// Nothing was done: this is what a reload would come to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The level of the log was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelSet {
    /// What it was.
    pub old: String,
    /// What it is until the daemon is started again or reads its configuration again.
    pub level: String,
    /// Nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
