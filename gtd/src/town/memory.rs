//! What of a town's files has to outlive the daemon: which rigs there were and which patrols were off, by the
//! last good reading.
//!
//! A file that is torn when the daemon starts is then no worse than one that is torn while it runs. Must never
//! be believed over a file that can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::file::Known;
use super::layout::Layout;
use super::patrols::Patrols;
use super::registry::{Entry, Registry};
use super::snapshot::{Began, Snapshot};

use gtd_proto::RigName;

/// What is remembered of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The registered rigs, if they were ever known.
    #[serde(default)]
    rigs: Option<BTreeMap<RigName, Entry>>,
    /// The switches, if they were ever known.
    #[serde(default)]
    patrols: Option<Patrols>,
}

impl Memory {
    /// What a snapshot knows: from now, or from before.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            rigs: snapshot.registry.value().map(|registry| registry.rigs.clone()),
            patrols: snapshot.patrols.value().cloned(),
        }
    }

    /// A snapshot to be given as the one before the first.
    #[must_use]
    pub fn recalled(self, layout: &Layout) -> Snapshot {
        let never = || "was not read yet".to_owned();
        let registry = self.rigs.map(|rigs| Registry { rigs, findings: Vec::new() });
        Snapshot {
            layout: layout.clone(),
            town: Known::Unknown { error: never() },
            registry: Known::settle(registry.ok_or_else(never), None),
            rigs: BTreeMap::new(),
            patrols: Known::settle(self.patrols.ok_or_else(never), None),
            settings: Known::Unknown { error: never() },
            findings: Vec::new(),
            failures: BTreeSet::new(),
            began: Began(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot;
    use super::*;

    #[test]
    fn what_was_known_is_known_to_the_next_daemon_until_the_files_say_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        std::fs::create_dir(layout.mayor_dir()).unwrap();
        std::fs::write(layout.rigs_json(), r#"{"rigs":{"a":{"git_url":"u","beads":{"prefix":"x"}}}}"#)
            .unwrap();
        std::fs::write(layout.daemon_json(), r#"{"patrols":{"witness":false}}"#).unwrap();
        let good = snapshot::read(&layout, None);
        let kept = serde_json::to_value(Memory::of(&good)).unwrap();

        std::fs::write(layout.rigs_json(), "{").unwrap();
        std::fs::write(layout.daemon_json(), "").unwrap();
        let blind = snapshot::read(&layout, None);
        assert!(!blind.rigs_known() && blind.patrols.value().is_none());
        let memory: Memory = serde_json::from_value(kept.clone()).unwrap();
        let recalled = snapshot::read(&layout, Some(&memory.clone().recalled(&layout)));
        assert_eq!(recalled.rigs.keys().collect::<Vec<_>>(), good.rigs.keys().collect::<Vec<_>>());
        assert_eq!(recalled.patrols.value(), good.patrols.value());
        assert!(recalled.registry.error().is_some(), "and it is said to be old");
        assert_eq!(Memory::of(&recalled), memory);

        std::fs::write(layout.rigs_json(), r#"{"rigs":{}}"#).unwrap();
        let now = snapshot::read(&layout, Some(&memory.recalled(&layout)));
        assert!(now.rigs.is_empty(), "a good file is always right");
        assert_eq!(serde_json::from_str::<Memory>("{}").unwrap(), Memory::default());
        assert!(
            !snapshot::read(&layout, Some(&Memory::default().recalled(&layout)))
                .rigs
                .contains_key(&RigName::new("a").unwrap())
        );
    }
}
