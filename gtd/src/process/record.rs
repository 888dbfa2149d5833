//! The exit record, by which a shim tells how far it and its agent have come.
//!
//! Owns its shape, writing and reading. It is replaced whole at each phase, so a reader never sees half of one;
//! a missing, a damaged and a newer record are different answers, and none of them means that an agent died.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{BootId, Pid, ProcessId, StartTime};
use super::launch::{OLDEST, VERSION, Versioned, describe, read_bounded, replace};
use super::observe::Observation;
use crate::clock;

/// Two clocks that are so close agree: time servers slew them.
const CLOCK_NOISE: Duration = Duration::from_secs(1);

/// How far a shim and its agent have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The shim is there, the agent not yet.
    Launching,
    /// The agent runs.
    Running,
    /// The agent ended; what it left is being ended.
    Ended,
    /// Nothing of it is left but survivors and spared ones; the shim is about to go.
    Gone,
    /// A phase of a later version.
    #[serde(other)]
    Unknown,
}

/// What ended the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Itself, or a signal that the shim did not send.
    Agent,
    /// The shim was asked to end it.
    Term,
    /// The shim was asked to end it at once.
    Kill,
    /// The terminal vanished while the tmux server lived.
    PaneClosed,
    /// The terminal vanished together with the tmux server.
    ServerGone,
    /// A cause of a later version.
    #[serde(other)]
    Unknown,
}

/// A process of the record's boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidStart {
    /// Its number.
    pub pid: Pid,
    /// When it began.
    pub start: StartTime,
}

impl From<&ProcessId> for PidStart {
    fn from(id: &ProcessId) -> Self {
        Self { pid: id.pid, start: id.start }
    }
}

/// A process that is still there at the end, and what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its number.
    pub pid: Pid,
    /// When it began.
    pub start: StartTime,
    /// Its name.
    #[serde(default)]
    pub comm: String,
}

/// Why the agent could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecError {
    /// What failed: `boot_id`, `chdir`, `exec`, `fork` or `read`.
    pub op: String,
    /// The system's error number.
    pub errno: i32,
}

/// Resources that the agent's tree used, as far as the shim collected it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, milliseconds.
    #[serde(default)]
    pub user_ms: u64,
    /// Processor time in the kernel, milliseconds.
    #[serde(default)]
    pub system_ms: u64,
    /// Largest resident size of any one process, bytes.
    #[serde(default)]
    pub max_rss_bytes: u64,
}

/// What a shim says of itself and its agent; replaced at each phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this shape.
    pub v: u32,
    /// The instance.
    pub instance: String,
    /// The boot it ran in.
    pub boot_id: BootId,
    /// How far it has come.
    pub phase: Phase,
    /// The shim.
    pub shim: PidStart,
    /// The agent, once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PidStart>,
    /// Why it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_error: Option<ExecError>,
    /// The agent's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What ended it; `agent` until something else did.
    pub by: By,
    /// When the shim began.
    pub started_at: Timestamp,
    /// When the agent ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When the shim began by the boot clock, microseconds: nobody sets that one. Shims of the first version wrote
    /// neither of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_boot_us: Option<u64>,
    /// When the agent ended by the boot clock, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_boot_us: Option<u64>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
    /// What could not be ended.
    #[serde(default)]
    pub survivors: Vec<Left>,
    /// What was left alive on purpose.
    #[serde(default)]
    pub spared: Vec<Left>,
    /// What stands still below the shim while it is frozen, so that whoever comes after a shim that was killed
    /// knows what to let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<Left>,
}

impl Record {
    /// When the shim began, as the wall clock would have shown it then if it had always shown what it shows now.
    pub fn began(&self) -> Timestamp {
        self.dated(self.started_at, self.began_boot_us)
    }

    /// When the agent ended, likewise.
    pub fn ended(&self) -> Option<Timestamp> {
        self.ended_at.map(|at| self.dated(at, self.ended_boot_us))
    }

    fn dated(&self, wall: Timestamp, boot_us: Option<u64>) -> Timestamp {
        let same_boot = || BootId::current().is_ok_and(|boot| boot == self.boot_id);
        let Some(boot) = boot_us.filter(|_| same_boot()).map(Duration::from_micros) else { return wall };
        let dated = Timestamp::now().checked_sub(clock::ago(boot)).unwrap_or(wall);
        // As it was written, unless somebody has set the clock since: the same record reads the same each time.
        if dated.duration_since(wall).unsigned_abs() < CLOCK_NOISE { wall } else { dated }
    }

    /// The shim's identity.
    pub fn shim_id(&self) -> ProcessId {
        self.identity(self.shim)
    }

    /// The agent's identity, once it was started.
    pub fn agent_id(&self) -> Option<ProcessId> {
        self.agent.map(|agent| self.identity(agent))
    }

    /// What stood still below the shim when it was last frozen.
    pub fn frozen_ids(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.frozen.iter().map(|left| self.identity(PidStart { pid: left.pid, start: left.start }))
    }

    fn identity(&self, process: PidStart) -> ProcessId {
        ProcessId { boot: self.boot_id.clone(), pid: process.pid, start: process.start }
    }
}

/// What looking for a record can yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordLook {
    /// Here it is.
    Found(Box<Record>),
    /// There is no such file.
    Missing,
    /// The file is there but is no record; the text says why.
    Torn(String),
    /// A version that we do not read.
    OtherVersion(u32),
    /// The file could not be read.
    Unreadable(String),
}

impl RecordLook {
    /// As an observation: `Absent` only for a file that is not there.
    pub fn into_observation(self) -> Observation<Record> {
        match self {
            Self::Found(record) => Observation::Alive(*record),
            Self::Missing => Observation::Absent,
            Self::Torn(why) => Observation::Unknown(format!("the exit record is damaged: {why}")),
            Self::OtherVersion(v) => Observation::Unknown(format!("the exit record has version {v}")),
            Self::Unreadable(why) => Observation::Unknown(format!("the exit record cannot be read: {why}")),
        }
    }
}

/// Writes a record, replacing the last one whole.
///
/// # Errors
/// The file cannot be written; the last record is then still there.
pub fn write_record(path: &Path, record: &Record) -> io::Result<()> {
    replace(path, &serde_json::to_vec(record)?)
}

/// Looks for a record.
pub fn read_record(path: &Path) -> RecordLook {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return RecordLook::Missing,
        Err(error) => return RecordLook::Unreadable(error.to_string()),
    };
    match serde_json::from_slice::<Versioned>(&bytes) {
        Ok(Versioned { v }) if !(OLDEST..=VERSION).contains(&v) => RecordLook::OtherVersion(v),
        Ok(_) => match serde_json::from_slice(&bytes) {
            Ok(record) => RecordLook::Found(Box::new(record)),
            Err(error) => RecordLook::Torn(describe(&error)),
        },
        Err(error) => RecordLook::Torn(describe(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_boot_clock_dated_does_not_care_that_the_wall_clock_was_set() {
        let text = r#"{"v":1,"instance":"i","boot_id":"b","phase":"gone","shim":{"pid":9,"start":8},"by":"agent","started_at":"2026-01-02T03:04:05Z","ended_at":"2026-01-02T03:04:06Z"}"#;
        let old: Record = serde_json::from_str(text).unwrap();
        assert_eq!(
            (old.began(), old.ended()),
            (old.started_at, old.ended_at),
            "the wall clock is all there is"
        );
        let boot = clock::Clock::system().now().boot;
        let ago = |seconds| u64::try_from((boot - Duration::from_millis(seconds)).as_micros()).ok();
        let other = Record { began_boot_us: ago(20), ended_boot_us: ago(5), ..old };
        assert_eq!(other.began(), other.started_at, "another boot's clock says nothing");
        // Began a day and some milliseconds ago by a wall clock that was set forward since, or back.
        let now = Timestamp::now();
        for (set, day) in [("back", 86_400), ("forward", -86_400)] {
            let then = now.checked_add(jiff::SignedDuration::from_secs(day)).unwrap();
            let record = Record {
                boot_id: BootId::current().unwrap(),
                started_at: then,
                ended_at: Some(then),
                ..other.clone()
            };
            let lived = record.ended().unwrap().duration_since(record.began()).as_millis();
            assert!((14..=17).contains(&lived), "{set}: {lived} ms");
            assert!(now.duration_since(record.began()).abs().as_secs() < 5, "{set}");
        }
        // One that agrees reads as it was written.
        let began = now.checked_sub(Duration::from_millis(20)).unwrap();
        let record = Record { boot_id: BootId::current().unwrap(), started_at: began, ..other };
        assert_eq!(record.began(), began);
    }

    #[test]
    fn a_record_is_found_missing_torn_or_of_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        assert_eq!(read_record(&path), RecordLook::Missing);
        let first = r#"{"v":1,"instance":"i","boot_id":"b","phase":"launching","shim":{"pid":9,"start":8},"by":"agent","started_at":"2026-01-02T03:04:05Z"}"#;
        std::fs::write(&path, first).unwrap();
        let RecordLook::Found(record) = read_record(&path) else { panic!("not found") };
        assert_eq!((record.shim_id().pid.get(), record.agent_id()), (9, None));
        write_record(&path, &record).unwrap();
        assert_eq!(read_record(&path), RecordLook::Found(record));
        for end in 0..first.len() {
            std::fs::write(&path, &first[..end]).unwrap();
            assert!(matches!(read_record(&path), RecordLook::Torn(_)), "{}", &first[..end]);
        }
        std::fs::write(&path, first.replace(r#""v":1"#, r#""v":3"#)).unwrap();
        assert_eq!(read_record(&path), RecordLook::OtherVersion(3));
        std::fs::write(&path, first.replace("launching", "resting").replace(r#""agent""#, r#""fate""#))
            .unwrap();
        let RecordLook::Found(record) = read_record(&path) else { panic!("not found") };
        assert_eq!((record.phase, record.by), (Phase::Unknown, By::Unknown));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read_record(&path), RecordLook::Unreadable(_)));
        assert!(read_record(&path).into_observation().is_unknown());
    }
}
