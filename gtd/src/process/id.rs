//! What names a process: boot, pid and start time together.
//!
//! Owns the newtypes. A pid alone comes round again (measured: 1.2 s with `pid_max` 32,768), so nothing here
//! lets a bare pid stand for a process, and no value at or below 1 can exist: `kill(0)`, `kill(-1)` and
//! negative pids mean groups or everybody.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// The kernel's random id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A process number above 1. It says where to look, not who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

/// A number that cannot be a [`Pid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("process number {0} is not above 1")]
pub struct BadPid(pub i32);

impl Pid {
    /// The pid, when it is above 1.
    pub const fn new(raw: i32) -> Option<Self> {
        if raw > 1 { Some(Self(raw)) } else { None }
    }

    /// The number as the kernel knows it.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Our own pid; `None` when we are process 1 of a container.
    pub fn own() -> Option<Self> {
        i32::try_from(std::process::id()).ok().and_then(Self::new)
    }

    /// The same number for calls into rustix.
    pub(crate) fn rustix(self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.0)
    }
}

impl TryFrom<i32> for Pid {
    type Error = BadPid;

    fn try_from(raw: i32) -> Result<Self, BadPid> {
        Self::new(raw).ok_or(BadPid(raw))
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> Self {
        pid.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a process began: clock ticks since boot, field 22 of `/proc/PID/stat` (10 ms each on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(u64);

impl StartTime {
    /// Wraps a number of ticks.
    pub const fn new(ticks: u64) -> Self {
        Self(ticks)
    }

    /// The number of ticks.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StartTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which boot of the machine a process belongs to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(Arc<str>);

impl BootId {
    /// Wraps an id that was read from a record.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id of the running boot, from `/proc/sys/kernel/random/boot_id`. Read once and kept; a failure is
    /// not kept.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub fn current() -> io::Result<Self> {
        static CURRENT: OnceLock<BootId> = OnceLock::new();
        if let Some(id) = CURRENT.get() {
            return Ok(id.clone());
        }
        let text = std::fs::read_to_string(BOOT_ID)?;
        let id = text.trim();
        if id.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID} is empty")));
        }
        Ok(CURRENT.get_or_init(|| Self(id.into())).clone())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of one process, which no other process ever has. As JSON: `{boot, pid, start}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The boot it belongs to.
    pub boot: BootId,
    /// Its number.
    pub pid: Pid,
    /// When it began.
    pub start: StartTime,
}

impl ProcessId {
    /// Our own identity.
    ///
    /// # Errors
    /// `/proc` cannot be read, or we are process 1.
    pub fn own() -> io::Result<Self> {
        let pid = Pid::own().ok_or_else(|| io::Error::other("this process is number 1"))?;
        let stat = super::procfs::stat(pid)?;
        Ok(Self { boot: BootId::current()?, pid, start: stat.start })
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_or_below_one_cannot_exist() {
        for raw in [i32::MIN, -2, -1, 0, 1] {
            assert_eq!(Pid::new(raw), None);
            assert!(serde_json::from_str::<Pid>(&raw.to_string()).is_err(), "{raw}");
        }
        assert_eq!(Pid::new(2).map(Pid::get), Some(2));
        assert!(serde_json::from_str::<Pid>("4294967298").is_err());
    }

    #[test]
    fn identity_round_trips_as_plain_fields() {
        let id = ProcessId { boot: BootId::new("b"), pid: Pid::new(7).unwrap(), start: StartTime::new(9) };
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, r#"{"boot":"b","pid":7,"start":9}"#);
        assert_eq!(serde_json::from_str::<ProcessId>(&json).unwrap(), id);
        assert_eq!(id.to_string(), "7@9");
    }

    #[test]
    fn own_identity_is_this_boot() {
        let own = ProcessId::own().unwrap();
        assert_eq!(own.boot, BootId::current().unwrap());
        assert_eq!(own.pid.get(), i32::try_from(std::process::id()).unwrap());
    }
}
