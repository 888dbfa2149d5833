//! The launch file, by which a daemon tells a shim what to start.
//!
//! Owns its shape, version, writing and reading, and for the record too how a file is replaced. A launch file
//! holds secrets: it is 0600, its `Debug` and errors show no values, and whoever reads it deletes it. Old shims
//! outlive upgrades: what version *v* wrote is read by *v* and *v + 1*, unknown fields are ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::BootId;

/// The version we write.
pub const VERSION: u32 = 1;
/// The oldest version we read.
pub const OLDEST: u32 = 1;
/// Largest file that is read. The kernel gives a program 6 MiB of arguments and environment at most.
const MAX_BYTES: u64 = 8 << 20;
/// Variables an agent keeps from the pane where the launch file names none.
pub const ENV_KEEP: [&str; 6] =
    ["TERM", "TMUX", "TMUX_PANE", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION"];

/// What a shim is to start. Written by the daemon, deleted by the shim.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Version of this shape.
    pub v: u32,
    /// The instance this start makes.
    pub instance: String,
    /// The agent's address.
    pub agent: String,
    /// The boot it was written in; in another it is void.
    pub boot_id: BootId,
    /// Program and arguments. A program without a slash is looked for in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The agent's environment, whole but for `env_keep`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables taken from the pane unless `env` has them.
    #[serde(default = "env_keep")]
    pub env_keep: Vec<String>,
    /// The agent's working directory.
    pub cwd: PathBuf,
    /// Time between TERM and KILL.
    #[serde(rename = "grace_ms", with = "millis")]
    pub grace: Duration,
    /// The agent's `oom_score_adj`, -1000 to 1000; without it the pane's stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
    /// Where the record is to be kept.
    pub record: PathBuf,
    /// Further programs to spare at the end.
    #[serde(default)]
    pub spare: Vec<String>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("instance", &self.instance)
            .field("agent", &self.agent)
            .field("program", &self.argv.first())
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

fn env_keep() -> Vec<String> {
    ENV_KEEP.iter().map(ToString::to_string).collect()
}

/// Why a launch file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It cannot be read.
    #[error("cannot read launch file {path}: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was taken away before it could be claimed: the start was called off, or somebody else has it.
    #[error("launch file {path} is not ours to use: {error}")]
    CalledOff {
        /// Which.
        path: PathBuf,
        /// Why it could not be deleted.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("launch file {path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It is of a version this program does not read.
    #[error("launch file {path} has version {v}; this program reads {OLDEST} to {VERSION}")]
    OtherVersion {
        /// Which.
        path: PathBuf,
        /// Its version.
        v: u32,
    },
}

/// Only the version, which every version has.
#[derive(Deserialize)]
pub(super) struct Versioned {
    pub(super) v: u32,
}

/// Writes a launch file, readable by its owner only, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_launch(path: &Path, launch: &Launch) -> io::Result<()> {
    replace(path, &serde_json::to_vec(launch)?)
}

/// Reads a launch file and deletes it, whatever is in it. Who has deleted it may use it; nobody else.
///
/// # Errors
/// See [`LaunchError`].
pub fn take_launch(path: &Path) -> Result<Launch, LaunchError> {
    let read = read_bounded(path);
    // Deleting is the claim: the daemon calls a start off by deleting the file itself, and only one of us can.
    let claim = if read.is_ok() { std::fs::remove_file(path) } else { Ok(()) };
    let path = || path.to_owned();
    let bytes = read.map_err(|error| LaunchError::Read { path: path(), error })?;
    claim.map_err(|error| LaunchError::CalledOff { path: path(), error })?;
    let damaged = |error: serde_json::Error| LaunchError::Damaged { path: path(), why: describe(&error) };
    let Versioned { v } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if !(OLDEST..=VERSION).contains(&v) {
        return Err(LaunchError::OtherVersion { path: path(), v });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// Where a file is wrong, without quoting it: it may hold secrets.
pub(super) fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or of another kind",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Io => "it cannot be read",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_BYTES) {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// A new file beside the old one, then a rename. Not synced: the facts in it die with the boot anyway.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!(".{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut beside = path.as_os_str().to_owned();
    beside.push(unique);
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        std::fs::rename(&beside, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn launch(record: PathBuf) -> Launch {
        Launch {
            v: VERSION,
            instance: "i1".into(),
            agent: "rig/witness".into(),
            boot_id: BootId::new("b"),
            argv: vec!["/bin/true".into()],
            env: BTreeMap::from([("TOKEN".into(), "hush".into())]),
            env_keep: vec!["TERM".into()],
            cwd: "/".into(),
            grace: Duration::from_millis(1500),
            oom_score_adj: Some(500),
            record,
            spare: vec![],
        }
    }

    #[test]
    fn a_launch_file_is_private_taken_once_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("launch");
        let launch = launch(dir.path().join("record"));
        write_launch(&path, &launch).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains(r#""grace_ms":1500"#));
        assert_eq!(take_launch(&path).unwrap(), launch);
        assert!(matches!(take_launch(&path), Err(LaunchError::Read { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        assert!(!format!("{launch:?}").contains("hush"));
    }

    #[test]
    fn damaged_launch_files_are_deleted_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("launch");
        for (text, version) in [(r#"{"v":1,"env":"hush"}"#, false), ("hush", false), (r#"{"v":2}"#, true)] {
            std::fs::write(&path, text).unwrap();
            let error = take_launch(&path).unwrap_err();
            assert_eq!(matches!(error, LaunchError::OtherVersion { .. }), version, "{error}");
            assert!(!error.to_string().contains("hush"), "{error}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn defaults_and_unknown_fields() {
        let text = r#"{"v":1,"instance":"i","agent":"a","boot_id":"b","argv":["x"],"cwd":"/","grace_ms":1,"record":"/r","later":{}}"#;
        let launch: Launch = serde_json::from_str(text).unwrap();
        assert_eq!(launch.env_keep, ENV_KEEP);
        assert_eq!(launch.oom_score_adj, None);
    }
}
