//! From what is on disk to what the heart needs to know of it.

use gtd_proto::town::Alert;
use gtd_proto::{Role, Timestamp};

use super::planner::{Facts, Mode, RigFacts};
use crate::config::{self, Config};
use crate::town::Snapshot;

/// The facts of a snapshot, under a configuration. What is wrong is dated `now`; whoever shows it keeps the
/// date of what was wrong before.
#[must_use]
pub fn of(snapshot: &Snapshot, config: &Config, now: Timestamp) -> Facts {
    let rigs = snapshot.rigs.iter().map(|(name, rig)| {
        let mode = |role: Role, mode: config::Mode| stricter(mode, snapshot.patrol(role, Some(name)), role);
        let facts = RigFacts {
            barred: rig.operational.as_ref().err().map(|reason| reason.as_str().to_owned()),
            witness: mode(Role::Witness, config.witness.mode),
            refinery: mode(Role::Refinery, config.refinery.mode),
            path: rig.path.to_string_lossy().into_owned(),
            prefix: rig.prefix.clone(),
            polecats: rig.polecat_names().to_vec(),
            crew: rig.crew_names().iter().map(ToString::to_string).collect(),
        };
        (name.clone(), facts)
    });
    Facts {
        known: snapshot.rigs_known(),
        rigs: rigs.collect(),
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
    }
}

/// The configuration and the incumbent's switches both have a say; the stricter wins.
fn stricter(mode: config::Mode, patrol: Option<bool>, role: Role) -> Mode {
    match (mode, patrol) {
        (config::Mode::Off, _) => Mode::Off(format!("[{role}] mode is \"off\"")),
        (config::Mode::OnDemand, _) => {
            Mode::Off(format!("[{role}] mode is \"on_demand\", and nobody asked for it"))
        }
        (config::Mode::Always, Some(false)) => {
            Mode::Off(format!("the {role} patrol is off in mayor/daemon.json"))
        }
        (config::Mode::Always, _) => Mode::Always,
    }
}
