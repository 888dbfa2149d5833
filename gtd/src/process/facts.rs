//! Further facts about one process: its marker, directory, program and cgroup.
//!
//! Owns the reading of each, always with the identity checked again afterwards, so that a number that changed
//! hands meanwhile cannot lend its facts. None of them proves that a process is ours; a marker corroborates.

use std::io;
use std::path::PathBuf;

use super::id::{Pid, ProcessId};
use super::observe::{Observation, observe};
use super::procfs;

/// Names the town an agent belongs to, in its environment.
pub const TOWN_VARIABLE: &str = "GT_TOWN_ID";
/// Names the instance a process was started for, in its environment.
pub const INSTANCE_VARIABLE: &str = "GT_INSTANCE";

/// What the environment a process was started with says of it. Any child inherits it and anybody may set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// Value of [`TOWN_VARIABLE`].
    pub town: Option<String>,
    /// Value of [`INSTANCE_VARIABLE`].
    pub instance: Option<String>,
}

impl Marker {
    /// The marker in a list of `NAME=value` pieces; `None` without either name.
    pub fn parse<'a>(environment: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut marker = Self::default();
        for piece in environment {
            let mut halves = piece.splitn(2, |b| *b == b'=');
            let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
            let value = || Some(String::from_utf8_lossy(value).into_owned());
            if name == TOWN_VARIABLE.as_bytes() {
                marker.town = value();
            } else if name == INSTANCE_VARIABLE.as_bytes() {
                marker.instance = value();
            }
        }
        (marker != Self::default()).then_some(marker)
    }
}

/// Reads a process's marker. `Absent` when its environment has none (or was overwritten).
pub fn marker(id: &ProcessId) -> Observation<Marker> {
    fact(id, "environment", || {
        let pieces = procfs::environ(id.pid)?;
        Ok(Marker::parse(pieces.iter().map(Vec::as_slice)))
    })
}

/// A process's working directory. The kernel appends ` (deleted)` to one that was removed.
pub fn cwd(id: &ProcessId) -> Observation<PathBuf> {
    fact(id, "working directory", || procfs::link(id.pid, "cwd").map(Some))
}

/// The path of a process's program.
pub fn exe(id: &ProcessId) -> Observation<PathBuf> {
    fact(id, "program", || procfs::link(id.pid, "exe").map(Some))
}

/// The words a process was started with. `Absent` when it shows none.
pub fn arguments(id: &ProcessId) -> Observation<Vec<PathBuf>> {
    fact(id, "command line", || {
        let words = procfs::arguments(id.pid)?;
        Ok((!words.is_empty()).then_some(words))
    })
}

/// Paths of a process's open files that have this name, such as those of locks.
pub fn opened(id: &ProcessId, name: &str) -> Observation<Vec<PathBuf>> {
    fact(id, "open files", || procfs::opened(id.pid, name).map(Some))
}

/// A process's cgroup in the unified hierarchy, such as `/user.slice/…/x.scope`. `Absent` where there is no
/// such hierarchy.
pub fn cgroup(id: &ProcessId) -> Observation<String> {
    fact(id, "cgroup", || Ok(unified(&procfs::cgroup(id.pid)?)))
}

/// Everybody in a cgroup of the unified hierarchy and those below it. `Absent` when there is no such cgroup,
/// which ends with its last process where a service manager made it.
pub fn cgroup_members(path: &str) -> Observation<Vec<Pid>> {
    match procfs::cgroup_procs(path) {
        Ok(Some(pids)) => Observation::Alive(pids),
        Ok(None) => Observation::Absent,
        Err(error) => Observation::Unknown(format!("cannot read the members of cgroup {path}: {error}")),
    }
}

/// The line of the unified hierarchy, number 0 without a controller.
fn unified(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Asks, then makes sure that it was this process that answered.
fn fact<T>(id: &ProcessId, what: &str, ask: impl FnOnce() -> io::Result<Option<T>>) -> Observation<T> {
    let answer = ask();
    match (observe(id), answer) {
        (Observation::Alive(_), Ok(Some(value))) => Observation::Alive(value),
        (Observation::Alive(_), Ok(None)) => Observation::Absent,
        (Observation::Alive(_), Err(error)) => {
            Observation::Unknown(format!("cannot read the {what} of process {id}: {error}"))
        }
        (Observation::Dead(evidence), _) => Observation::Dead(evidence),
        (Observation::Absent, _) => Observation::Absent,
        (Observation::Unknown(why), _) => Observation::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::id::StartTime;
    use proptest::prelude::*;

    #[test]
    fn markers_are_whole_names() {
        let parse = |pieces: &[&str]| Marker::parse(pieces.iter().map(|piece| piece.as_bytes()));
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["XGT_INSTANCE=1", "GT_INSTANCES=2", "GT_INSTANCE"]), None);
        assert_eq!(
            parse(&["A=b", "GT_INSTANCE=i=1", "GT_TOWN_ID=t"]),
            Some(Marker { town: Some("t".into()), instance: Some("i=1".into()) })
        );
    }

    #[test]
    fn the_unified_line_is_found_in_a_hybrid_layout() {
        assert_eq!(unified("12:cpu:/x\n1:name=systemd:/y\n0::/z\n").as_deref(), Some("/z"));
        assert_eq!(unified("1:name=systemd:/y\n"), None);
    }

    #[test]
    fn facts_of_ourselves_and_of_nobody() {
        let own = ProcessId::own().unwrap();
        assert_eq!(cwd(&own), Observation::Alive(std::env::current_dir().unwrap()));
        assert!(exe(&own).is_alive());
        assert!(!marker(&own).is_unknown() && !marker(&own).is_dead());
        assert!(!cgroup(&own).is_unknown());
        if let Observation::Alive(path) = cgroup(&own)
            && let Observation::Alive(members) = cgroup_members(&path)
        {
            assert!(members.contains(&own.pid), "{path}");
        }
        assert_eq!(cgroup_members("/no/such/cgroup"), Observation::Absent);
        assert!(cgroup_members("/a/../b").is_unknown());
        let other = ProcessId { start: StartTime::new(0), ..own };
        assert!(cwd(&other).is_dead() && marker(&other).is_dead() && cgroup(&other).is_dead());
    }

    #[test]
    fn a_childs_marker_is_read() {
        let mut child =
            std::process::Command::new("sleep").arg("300").env(INSTANCE_VARIABLE, "one").spawn().unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let id = crate::process::observe::identify(pid).alive().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut found = None;
        // Between fork and exec the environment is still ours.
        while found.is_none() && std::time::Instant::now() < until {
            found = marker(&id).alive().filter(|marker| marker.instance.as_deref() == Some("one"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is_some());
    }

    proptest! {
        #[test]
        fn no_environment_makes_it_panic(pieces: Vec<Vec<u8>>) {
            let _ = Marker::parse(pieces.iter().map(Vec::as_slice));
        }
    }
}
