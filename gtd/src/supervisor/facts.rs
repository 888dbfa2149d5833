//! From what is on disk to what the heart needs to know of it.

use std::time::Duration;

use gtd_proto::town::Alert;
use gtd_proto::{RigName, Role, Timestamp};

use super::planner::{Facts, Mode, RigFacts};
use super::rigs::{FileState, Standing};
use crate::config::{self, Config, DeaconMode};
use crate::ledger::Write;
use crate::town::Snapshot;
use crate::town::memory::Memory;
use crate::town::patrols::Off;

/// The facts of a snapshot, under a configuration. What is wrong is dated `now`; whoever shows it keeps the
/// date of what was wrong before.
#[must_use]
pub fn of(snapshot: &Snapshot, config: &Config, now: Timestamp) -> Facts {
    let rigs = snapshot.rigs.iter().map(|(name, rig)| {
        let mode = |role: Role, mode: config::Mode, idle_ttl: Duration| {
            let off = snapshot.patrol_off(role, Some(name));
            stricter(mode, idle_ttl, off, role, name)
        };
        let facts = RigFacts {
            file: FileState::of(&rig.state),
            standing: Standing::default(),
            witness: mode(Role::Witness, config.witness.mode, config.witness.idle_ttl),
            refinery: mode(Role::Refinery, config.refinery.mode, config.refinery.idle_ttl),
            path: rig.path.to_string_lossy().into_owned(),
            prefix: rig.prefix.clone(),
            polecats: rig.polecat_names().to_vec(),
            crew: rig.crew_names().iter().map(ToString::to_string).collect(),
        };
        (name.clone(), facts)
    });
    let unlisted = snapshot.rigs.iter().filter(|(_, rig)| {
        rig.polecats.error().is_some() || rig.polecats.value().is_some_and(|members| members.missing)
    });
    Facts {
        unlisted: unlisted.map(|(name, _)| name.clone()).collect(),
        known: snapshot.rigs_known(),
        rigs: rigs.collect(),
        deacon: Some(deacon(snapshot, config)),
        name: snapshot.name(),
        root: snapshot.layout.root().to_string_lossy().into_owned(),
        findings: snapshot
            .findings
            .iter()
            .map(|finding| Alert {
                key: finding.key.clone(),
                since: now,
                severity: finding.severity,
                message: finding.message.clone(),
                hint: finding.hint.clone(),
            })
            .collect(),
        read_at: now.checked_sub(snapshot.began.0.elapsed()).unwrap_or(now),
    }
}

/// Whether the deacon is kept running: the stricter of the configuration and the incumbent's switches.
fn deacon(snapshot: &Snapshot, config: &Config) -> Mode {
    match (config.deacon.mode, snapshot.patrol_off(Role::Deacon, None)) {
        (DeaconMode::Off, _) => Mode::Off("[deacon] mode is \"off\" in settings/gtd.toml".to_owned()),
        (DeaconMode::Always, Some(None)) => Mode::Always,
        (DeaconMode::Always, Some(Some(_))) => {
            Mode::Off("the deacon patrol is off in mayor/daemon.json".to_owned())
        }
        (DeaconMode::Always, None) => {
            let why = "mayor/daemon.json cannot be read, and whether it switches the deacon patrol off is not known";
            Mode::Off(why.to_owned())
        }
    }
}

/// The ledger's fact that outlives the daemon: what of the files must be known also when they are torn at its
/// next start. None when it is the same as `last`, which it replaces.
pub fn remembered(snapshot: &Snapshot, last: &mut Option<Memory>) -> Option<Write> {
    let memory = Memory::of(snapshot);
    if last.as_ref() == Some(&memory) {
        return None;
    }
    let value = serde_json::to_value(&memory).ok()?;
    *last = Some(memory);
    // The ledger takes no more in one value; so many rigs are known from their file alone.
    if value.to_string().len() > MEMORY_MAX {
        tracing::warn!("the registry is too long to be remembered: torn at a start, it is no registry");
        return Some(Write::Fact { key: TOWN_FILES.to_owned(), value: None });
    }
    Some(Write::Fact { key: TOWN_FILES.to_owned(), value: Some(value) })
}

/// Name of that fact.
pub const TOWN_FILES: &str = "town_files";

/// Some 8,000 rigs; a value of the ledger has at most 1 MiB.
const MEMORY_MAX: usize = 1_000_000;

/// The configuration and the incumbent's switches both have a say; the stricter wins, and the reason names its
/// file. Switches that could never be read may be off.
fn stricter(
    mode: config::Mode,
    idle_ttl: Duration,
    patrol: Option<Option<Off>>,
    role: Role,
    rig: &RigName,
) -> Mode {
    match (mode, patrol) {
        (config::Mode::Off, _) => Mode::Off(format!("[{role}] mode is \"off\" in settings/gtd.toml")),
        (_, Some(Some(Off::Disabled))) => Mode::Off(format!("the {role} patrol is off in mayor/daemon.json")),
        (_, Some(Some(Off::NotListed))) => {
            Mode::Off(format!("the {role} patrol in mayor/daemon.json is for other rigs than {rig}"))
        }
        (_, None) => Mode::Off(format!(
            "mayor/daemon.json cannot be read, and whether it switches the {role} patrol off is not known"
        )),
        (config::Mode::OnDemand, _) => Mode::OnDemand(idle_ttl),
        (config::Mode::Always, _) => Mode::Always,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_of_two_files_wins_and_is_named() {
        let ttl = Duration::from_secs(60);
        let rig = RigName::new("a").unwrap();
        let cases = [
            (config::Mode::Always, Some(None), Ok(Mode::Always)),
            (config::Mode::OnDemand, Some(None), Ok(Mode::OnDemand(ttl))),
            (config::Mode::Off, Some(None), Err("settings/gtd.toml")),
            (config::Mode::Off, Some(Some(Off::Disabled)), Err("settings/gtd.toml")),
            (config::Mode::Always, Some(Some(Off::Disabled)), Err("off in mayor/daemon.json")),
            (config::Mode::OnDemand, Some(Some(Off::Disabled)), Err("off in mayor/daemon.json")),
            (config::Mode::Always, Some(Some(Off::NotListed)), Err("other rigs than a")),
            (config::Mode::Always, None, Err("cannot be read")),
        ];
        for (mode, patrol, expected) in cases {
            match (stricter(mode, ttl, patrol, Role::Witness, &rig), expected) {
                (Mode::Off(why), Err(word)) => assert!(why.contains(word), "{why}"),
                (other, expected) => assert_eq!(Ok(other), expected),
            }
        }
    }
}
