//! What scripted agents write down: one line of JSON per fact, in one file per town.
//!
//! Agents and tests share these types. The journal is how a test proves that two instances never ran at once.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::procs::Process;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An agent began.
    Start,
    /// A child of an agent began; `detail` is its kind.
    Child,
    /// An agent found that another living process holds the lock of its place. Never allowed.
    Violation,
    /// A remark.
    Note,
}

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    pub what: What,
    /// Who writes.
    pub process: Process,
    /// `GT_INSTANCE`.
    pub instance: String,
    /// `GT_RIG` and `GT_ROLE`, as `rig/role`.
    pub agent: String,
    /// Working directory.
    pub cwd: PathBuf,
    /// Nanoseconds since 1970.
    pub at_ns: u128,
    /// More about it.
    pub detail: String,
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default()
}

/// The journal's file in a directory.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("journal.jsonl")
}

/// Adds a line, whole: writers do not tear each other's lines.
///
/// # Errors
/// When the file cannot be written.
pub fn append(dir: &Path, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    OpenOptions::new().create(true).append(true).open(file(dir))?.write_all(&line)
}

/// All lines so far.
pub fn read(dir: &Path) -> Vec<Entry> {
    std::fs::read_to_string(file(dir))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
