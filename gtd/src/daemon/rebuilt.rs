//! After the ledger was rebuilt: a snapshot is some moments old, and the sessions know better what runs.
//!
//! Changes only what was loaded, before anything is decided on it.

use gtd_proto::{Address, InstanceId, Timestamp};
use serde_json::Value;

use crate::ledger::{Condition, InstanceRow, Loaded, Write};
use crate::tmux::Listing;

/// Whether what was loaded is of a snapshot.
pub(super) fn is(condition: &Condition) -> bool {
    matches!(condition, Condition::SetAside { .. } | Condition::Missing { .. })
}

/// Living panes with this town's marks: which agent, and which start of it.
pub(super) fn marks(listing: &Listing, town: &str) -> Vec<(Address, InstanceId)> {
    let panes = listing.panes.iter().filter(|pane| !pane.dead);
    let ours = panes.filter(|pane| pane.options.get("@gt_town").is_some_and(|mark| mark == town));
    ours.filter_map(|pane| {
        Some((pane.options.get("@gt_agent")?.parse().ok()?, pane.options.get("@gt_instance")?.parse().ok()?))
    })
    .collect()
}

/// Puts instances that began after the snapshot in the place of the older ones that it has: two starts of one
/// agent would be told apart too late. What has to be written for that.
pub(super) fn catch_up(state: &mut Loaded, marks: Vec<(Address, InstanceId)>, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    for (agent, instance) in marks {
        // Ids begin with the time at which they were made.
        let older = |row: &InstanceRow| row.agent == agent && row.instance.as_str() < instance.as_str();
        if !state.instances.iter().any(older) || state.instances.iter().any(|row| row.instance == instance) {
            continue;
        }
        for row in state.instances.extract_if(.., |row| older(row)) {
            writes.push(Write::Instance(InstanceRow { ended: true, ..row }));
        }
        let row = InstanceRow {
            instance,
            agent,
            reserved_at: now,
            started_at: None,
            boot: String::new(),
            server: None,
            session: None,
            session_name: None,
            pane: None,
            shim: None,
            process: None,
            preset: String::new(),
            account: None,
            launch: Value::Null,
            ready_at: None,
            captured: Value::Null,
            ended: false,
        };
        writes.push(Write::Instance(row.clone()));
        state.instances.push(row);
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(agent: &str, instance: &InstanceId) -> InstanceRow {
        let mut state = Loaded::default();
        let old: InstanceId = "00000000-0000-7000-8000-000000000000".parse().unwrap();
        state.instances.push(InstanceRow {
            instance: old,
            agent: agent.parse().unwrap(),
            reserved_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            boot: "b".into(),
            server: None,
            session: None,
            session_name: None,
            pane: None,
            shim: None,
            process: None,
            preset: String::new(),
            account: None,
            launch: Value::Null,
            ready_at: None,
            captured: Value::Null,
            ended: false,
        });
        InstanceRow { instance: instance.clone(), ..state.instances.remove(0) }
    }

    #[test]
    fn a_start_after_the_snapshot_takes_the_place_of_the_one_before_it() {
        let ids: Vec<InstanceId> =
            (1..=3).map(|n| format!("01a1ff20-0000-7000-8000-00000000000{n}").parse().unwrap()).collect();
        let witness: Address = "a/witness".parse().unwrap();
        let cases = [
            // Recorded, marked: what is open afterwards, and how many rows that takes.
            (vec![&ids[0]], vec![&ids[1]], vec![&ids[1]], 2),
            (vec![&ids[1]], vec![&ids[1]], vec![&ids[1]], 0),
            // A mark that is older than what is recorded is of a pane that nobody has closed yet.
            (vec![&ids[1]], vec![&ids[0]], vec![&ids[1]], 0),
            // One of which nothing is recorded is found by the survey.
            (vec![], vec![&ids[0]], vec![], 0),
            (vec![&ids[0]], vec![&ids[2], &ids[1]], vec![&ids[2]], 2),
        ];
        for (recorded, marked, open, rows) in cases {
            let mut state = Loaded {
                instances: recorded.iter().map(|id| row("a/witness", id)).collect(),
                ..Loaded::default()
            };
            state.instances.push(row("b/witness", &ids[0]));
            let marks = marked.iter().map(|id| (witness.clone(), InstanceId::clone(id))).collect();
            let writes = catch_up(&mut state, marks, Timestamp::UNIX_EPOCH);
            let found: Vec<&InstanceId> =
                state.instances.iter().filter(|row| row.agent == witness).map(|row| &row.instance).collect();
            assert_eq!((found, writes.len()), (open, rows), "{recorded:?} {marked:?}");
            assert!(state.instances.iter().any(|row| row.agent.to_string() == "b/witness"));
        }
    }
}
