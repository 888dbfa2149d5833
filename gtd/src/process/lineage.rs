//! Where one process comes from: itself and its parents, nearest first, each by identity.
//!
//! Owns the walk up one line of descent, without a pass over all processes. It must never give a line that is
//! shorter than the real one: what cannot be read to its end is unknown.

use super::id::{BootId, Pid, ProcessId};
use super::observe::{Evidence, Observation};
use super::procfs::{self, Proc};
use super::stat::Stat;

/// Parents that are followed at the most; no real line comes near.
const LONGEST: usize = 256;

/// How often a line that changed while it was read is read again.
const TRIES: usize = 8;

/// One process of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kin {
    /// Which.
    pub id: ProcessId,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
}

impl Kin {
    fn of(boot: &BootId, stat: &Stat) -> Self {
        Self { id: stat.id(boot), group: stat.group, session: stat.session }
    }
}

/// What one reading of a line came to.
enum Walk {
    Whole(Vec<Kin>),
    /// A parent ended or was replaced meanwhile: the child has another one now.
    Torn,
    Other(Observation<Vec<Kin>>),
}

/// The process of this number and its parents up to process 1, which is left out. About 10 µs each.
///
/// `Absent` when nobody has the number, `Dead` for a zombie, `Unknown` when the line cannot be read to its end.
#[must_use]
pub fn lineage(pid: Pid) -> Observation<Vec<Kin>> {
    let boot = match BootId::current() {
        Ok(boot) => boot,
        Err(error) => return Observation::Unknown(format!("cannot read the boot id: {error}")),
    };
    let mut proc = match Proc::open() {
        Ok(proc) => proc,
        Err(error) => return Observation::Unknown(format!("cannot open /proc: {error}")),
    };
    for _ in 0..TRIES {
        match walk(&boot, pid, |pid| proc.stat(pid)) {
            Walk::Whole(line) => return Observation::Alive(line),
            Walk::Torn => {}
            Walk::Other(observation) => return observation,
        }
    }
    Observation::Unknown(format!("the parents of process {pid} change faster than they can be read"))
}

fn walk(boot: &BootId, pid: Pid, mut stat: impl FnMut(Pid) -> std::io::Result<Stat>) -> Walk {
    let unknown = |why: String| Walk::Other(Observation::Unknown(why));
    let mut at = match stat(pid) {
        Ok(first) if first.is_gone() => return Walk::Other(Observation::Dead(Evidence::Zombie)),
        Ok(first) => first,
        Err(error) if procfs::is_vanished(&error) => {
            return match procfs::exists(pid) {
                Some(false) => Walk::Other(Observation::Absent),
                _ => unknown(format!("process {pid} exists but /proc does not show it")),
            };
        }
        Err(error) => return unknown(format!("cannot read the state of process {pid}: {error}")),
    };
    let mut line = vec![Kin::of(boot, &at)];
    while let Some(parent) = at.parent {
        if line.len() >= LONGEST {
            return unknown(format!("process {pid} has more than {LONGEST} parents"));
        }
        match stat(parent) {
            Ok(next) if next.start <= at.start => at = next,
            // Younger than its child: the number was given away after the real parent had ended.
            Ok(_) => return Walk::Torn,
            Err(error) if procfs::is_vanished(&error) && procfs::exists(parent) == Some(false) => {
                return Walk::Torn;
            }
            Err(error) => return unknown(format!("cannot read the state of process {parent}: {error}")),
        }
        line.push(Kin::of(boot, &at));
    }
    Walk::Whole(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::table::tests::stat as made;
    use std::io::{Error, ErrorKind};

    fn line(walk: Walk) -> Option<Vec<i32>> {
        match walk {
            Walk::Whole(line) => Some(line.iter().map(|kin| kin.id.pid.get()).collect()),
            _ => None,
        }
    }

    fn of(stats: Vec<Stat>) -> Walk {
        let boot = BootId::new("b");
        walk(&boot, stats[0].pid, |pid| {
            stats.iter().find(|stat| stat.pid == pid).cloned().ok_or_else(|| Error::from(ErrorKind::Other))
        })
    }

    #[test]
    fn a_line_is_whole_or_unknown() {
        assert_eq!(line(of(vec![made(30, 20, 3), made(20, 10, 2), made(10, 1, 1)])), Some(vec![30, 20, 10]));
        assert!(matches!(of(vec![made(30, 20, 3)]), Walk::Other(Observation::Unknown(_))));
        assert!(matches!(of(vec![made(30, 20, 3), made(20, 1, 4)]), Walk::Torn), "a parent is no younger");
        let mut gone = made(30, 20, 3);
        gone.state = 'Z';
        assert!(matches!(of(vec![gone]), Walk::Other(Observation::Dead(_))));
        // Each other's parents, of one age: followed to a bound.
        assert!(matches!(of(vec![made(30, 20, 3), made(20, 30, 3)]), Walk::Other(Observation::Unknown(_))));
    }

    #[test]
    fn our_own_line_leads_through_our_parent() {
        let own = Pid::own().unwrap();
        let line = lineage(own).alive().unwrap();
        assert_eq!(line[0].id, ProcessId::own().unwrap());
        let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        assert_eq!(line.get(1).map(|kin| kin.id.pid.get()), Pid::new(parent).map(Pid::get));
    }

    #[test]
    fn nobody_is_absent_and_a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !lineage(pid).is_dead() {
            assert!(std::time::Instant::now() < until, "never became a zombie");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!lineage(pid).is_alive());
    }
}
