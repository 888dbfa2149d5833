//! What looking at something can yield.
//!
//! Owns the four answers and the kinds of evidence for a death. It must never let an error pass for one of
//! the other three.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{BootId, Pid, ProcessId, StartTime};
use super::procfs;
use super::stat::Stat;

/// The answer to a question about the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation<T> {
    /// It is there, and this is what was seen.
    Alive(T),
    /// It was there once and is proven gone.
    Dead(Evidence),
    /// There is nothing of the kind.
    Absent,
    /// It could not be observed; the text says why. Never to be read as any of the others.
    Unknown(String),
}

impl<T> Observation<T> {
    /// What was seen, when it is there.
    pub fn alive(self) -> Option<T> {
        match self {
            Self::Alive(value) => Some(value),
            _ => None,
        }
    }

    /// True only for [`Observation::Alive`].
    pub const fn is_alive(&self) -> bool {
        matches!(self, Self::Alive(_))
    }

    /// True only for [`Observation::Dead`].
    pub const fn is_dead(&self) -> bool {
        matches!(self, Self::Dead(_))
    }

    /// True only for [`Observation::Unknown`].
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The same answer about something derived from what was seen.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observation<U> {
        match self {
            Self::Alive(value) => Observation::Alive(f(value)),
            Self::Dead(evidence) => Observation::Dead(evidence),
            Self::Absent => Observation::Absent,
            Self::Unknown(why) => Observation::Unknown(why),
        }
    }
}

/// Why a process is known to be dead. As JSON: an object tagged by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// Every thread has ended; its parent has not yet collected it.
    Zombie,
    /// The kernel knows no process of that number.
    NoSuchProcess,
    /// The number now belongs to a process that began at another time.
    StartDiffers {
        /// The start time on record.
        recorded: StartTime,
        /// The start time of the one that has the number now.
        found: StartTime,
    },
    /// It belongs to another boot of the machine.
    OtherBoot {
        /// The boot on record.
        recorded: BootId,
        /// The running boot.
        current: BootId,
    },
    /// Its pidfd became readable.
    PidfdFired,
    /// An exit record says so.
    Record {
        /// The record's phase, `ended` or `gone`.
        phase: String,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zombie => f.write_str("it is a zombie"),
            Self::NoSuchProcess => f.write_str("the kernel knows no such process"),
            Self::StartDiffers { recorded, found } => {
                write!(f, "its number belongs to another process, started at {found} instead of {recorded}")
            }
            Self::OtherBoot { recorded, current } => {
                write!(f, "it ran in boot {recorded}, and this is boot {current}")
            }
            Self::PidfdFired => f.write_str("its pidfd fired"),
            Self::Record { phase } => write!(f, "its exit record says `{phase}`"),
        }
    }
}

/// Looks at a process of record. `Dead` when the identity is proven gone (also as a zombie, or when the
/// number was given to another); never `Absent`.
pub fn observe(id: &ProcessId) -> Observation<Stat> {
    if let Some(other) = other_boot(id) {
        return other;
    }
    match identify_stat(id.pid) {
        Observation::Alive(stat) if stat.start != id.start => {
            Observation::Dead(Evidence::StartDiffers { recorded: id.start, found: stat.start })
        }
        Observation::Alive(stat) => Observation::Alive(stat),
        Observation::Absent => Observation::Dead(Evidence::NoSuchProcess),
        other => other,
    }
}

/// Who has this number now. `Absent` when nobody has, `Dead` for a zombie.
pub fn identify(pid: Pid) -> Observation<ProcessId> {
    let boot = match BootId::current() {
        Ok(boot) => boot,
        Err(error) => return Observation::Unknown(format!("cannot read the boot id: {error}")),
    };
    identify_stat(pid).map(|stat| ProcessId { boot, pid, start: stat.start })
}

/// Who has this number now, if that is a child of this process. A number that was told is given to somebody else soon
/// after its process has ended.
#[must_use]
pub fn identify_child(pid: Pid, parent: Pid) -> Observation<ProcessId> {
    let boot = match BootId::current() {
        Ok(boot) => boot,
        Err(error) => return Observation::Unknown(format!("cannot read the boot id: {error}")),
    };
    match identify_stat(pid) {
        Observation::Alive(stat) if stat.parent != Some(parent) => Observation::Absent,
        other => other.map(|stat| ProcessId { boot, pid, start: stat.start }),
    }
}

/// `Some` unless the identity belongs to the running boot.
pub(crate) fn other_boot<T>(id: &ProcessId) -> Option<Observation<T>> {
    match BootId::current() {
        Ok(current) if current == id.boot => None,
        Ok(current) => Some(Observation::Dead(Evidence::OtherBoot { recorded: id.boot.clone(), current })),
        Err(error) => Some(Observation::Unknown(format!("cannot read the boot id: {error}"))),
    }
}

fn identify_stat(pid: Pid) -> Observation<Stat> {
    match procfs::stat(pid) {
        Ok(stat) if stat.is_gone() => Observation::Dead(Evidence::Zombie),
        Ok(stat) => Observation::Alive(stat),
        // No entry may also mean that /proc hides it or is not mounted: the kernel has the last word.
        Err(error) if procfs::is_vanished(&error) => match procfs::exists(pid) {
            Some(false) => Observation::Absent,
            _ => Observation::Unknown(format!("process {pid} exists but /proc does not show it")),
        },
        Err(error) => Observation::Unknown(format!("cannot read the state of process {pid}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessId {
        ProcessId::own().unwrap()
    }

    #[test]
    fn a_number_of_somebody_elses_child_is_not_meant() {
        let own = own();
        let parent = Pid::new(std::os::unix::process::parent_id().cast_signed()).unwrap();
        assert_eq!(identify_child(own.pid, parent), Observation::Alive(own.clone()));
        assert_eq!(identify_child(own.pid, own.pid), Observation::Absent);
    }

    #[test]
    fn a_living_process_is_alive_and_identified() {
        assert!(observe(&own()).is_alive());
        assert_eq!(identify(own().pid), Observation::Alive(own()));
    }

    #[test]
    fn another_start_or_boot_is_dead_with_its_evidence() {
        let mut id = own();
        id.start = StartTime::new(id.start.get() + 1);
        assert!(matches!(observe(&id), Observation::Dead(Evidence::StartDiffers { .. })));
        let mut id = own();
        id.boot = BootId::new("an earlier one");
        assert!(matches!(observe(&id), Observation::Dead(Evidence::OtherBoot { .. })));
    }

    #[test]
    fn a_zombie_is_dead_and_a_collected_one_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while identify(pid) != Observation::Dead(Evidence::Zombie) {
            assert!(std::time::Instant::now() < until, "never became a zombie");
            std::thread::yield_now();
        }
        let stat = procfs::stat(pid).unwrap();
        let id = ProcessId { start: stat.start, pid, ..own() };
        assert_eq!(observe(&id), Observation::Dead(Evidence::Zombie));
        child.wait().unwrap();
        assert!(observe(&id).is_dead());
    }
}
