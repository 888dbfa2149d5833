//! Which processes were seen to belong to an instance, kept for the next daemon: a child that has left its session
//! is known by its descent alone, and that is over when its parents are.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::Timestamp;
use serde_json::{Value, json};

use super::Handle;
use crate::ledger::{InstanceRow, Write};
use crate::process::{BootId, Capture, Observation, Pid, ProcessId, Proof, StartTime, observe};

/// Name of the ledger's fact.
pub const CAPTURED: &str = "captured";
/// Most processes kept: with 30 bytes each well below what the ledger takes in one value.
const MOST: usize = 20_000;

/// What was seen, by instance: pid and start time.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Captured {
    by_instance: BTreeMap<String, BTreeSet<(i32, u64)>>,
    loaded: bool,
}

impl Captured {
    /// Writes down what the agents' tasks remember now; what an instance that is gone had stays as long as it
    /// lives. Writes nothing when nothing is different.
    pub(super) async fn keep(&mut self, handle: &Handle) {
        let Ok(boot) = BootId::current() else { return };
        if !self.loaded {
            let Ok(fact) = handle.ledger().fact(CAPTURED).await else { return };
            self.by_instance = fact.map(|fact| read(&fact, &boot)).unwrap_or_default();
            self.loaded = true;
        }
        let mut now: BTreeMap<String, BTreeSet<(i32, u64)>> = BTreeMap::new();
        for (_, capture) in handle.runtime().captures() {
            let seen = capture.seen().filter(|(id, _)| id.boot == boot);
            let seen: BTreeSet<_> = seen.map(|(id, _)| (id.pid.get(), id.start.get())).collect();
            now.insert(capture.instance().to_owned(), seen);
        }
        for (instance, processes) in &self.by_instance {
            if !now.contains_key(instance) {
                let left = processes.iter().copied().filter(|process| may_live(&boot, *process)).collect();
                now.insert(instance.clone(), left);
            }
        }
        now.retain(|_, processes| !processes.is_empty());
        let mut room = MOST;
        for processes in now.values_mut() {
            if processes.len() > room {
                *processes = processes.iter().take(room).copied().collect();
            }
            room -= processes.len();
        }
        if now != self.by_instance {
            self.by_instance = now;
            let value = (!self.by_instance.is_empty())
                .then(|| json!({ "boot": boot, "at": handle.now(), "instances": self.by_instance }));
            handle.write(vec![Write::Fact { key: CAPTURED.to_owned(), value }]).await;
        }
    }
}

fn may_live(boot: &BootId, process: (i32, u64)) -> bool {
    identity(boot, process)
        .is_some_and(|id| !matches!(observe(&id), Observation::Dead(_) | Observation::Absent))
}

fn identity(boot: &BootId, (pid, start): (i32, u64)) -> Option<ProcessId> {
    Some(ProcessId { boot: boot.clone(), pid: Pid::new(pid)?, start: StartTime::new(start) })
}

fn read(fact: &Value, boot: &BootId) -> BTreeMap<String, BTreeSet<(i32, u64)>> {
    if fact.get("boot").and_then(Value::as_str) != Some(boot.as_str()) {
        return BTreeMap::new();
    }
    let instances = fact.get("instances").cloned().unwrap_or_default();
    serde_json::from_value(instances).unwrap_or_default()
}

/// Gives an instance back what was seen of it.
pub(super) fn restore(capture: &mut Capture, fact: &Value, boot: &BootId) {
    let Some(of_it) = fact.pointer(&format!("/instances/{}", capture.instance())) else { return };
    if fact.get("boot").and_then(Value::as_str) != Some(boot.as_str()) {
        return;
    }
    let processes: Vec<(i32, u64)> = serde_json::from_value(of_it.clone()).unwrap_or_default();
    let at: Timestamp = fact
        .get("at")
        .and_then(|at| serde_json::from_value(at.clone()).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let Some(ancestor) = capture.oldest().cloned() else { return };
    for id in processes.into_iter().filter_map(|process| identity(boot, process)) {
        // Descent leads from older to younger; anything else is a damaged row.
        if id.start >= ancestor.start {
            let proof = Proof::Descendant { ancestor: ancestor.clone(), captured_at: at };
            capture.restore(id, proof);
        }
    }
}

/// What an earlier daemon saw of the instances that are taken up again.
#[must_use]
pub fn recalled(rows: &[InstanceRow], fact: Option<&Value>) -> Vec<(gtd_proto::Address, Capture)> {
    let (Some(fact), Ok(boot)) = (fact, BootId::current()) else { return Vec::new() };
    rows.iter()
        .map(|row| {
            let ids = [&row.shim, &row.process].into_iter().flatten().filter_map(super::process_id);
            let mut capture = Capture::new(row.instance.to_string(), ids.collect::<Vec<_>>());
            restore(&mut capture, fact, &boot);
            (row.agent.clone(), capture)
        })
        .filter(|(_, capture)| !capture.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(boot: &str) -> Value {
        json!({ "boot": boot, "at": "2026-01-01T00:00:00Z", "instances": { "i": [[30, 9], [31, 2], [0, 9]] } })
    }

    #[test]
    fn only_what_is_younger_and_of_this_boot_is_taken_back() {
        let boot = BootId::new("b");
        let began = ProcessId { boot: boot.clone(), pid: Pid::new(20).unwrap(), start: StartTime::new(5) };
        let restored = |fact: &Value, instance: &str| {
            let mut capture = Capture::new(instance, [began.clone()]);
            restore(&mut capture, fact, &boot);
            capture.seen().map(|(id, _)| id.pid.get()).collect::<Vec<_>>()
        };
        assert_eq!(restored(&fact("b"), "i"), [30]);
        assert!(restored(&fact("c"), "i").is_empty(), "another boot");
        assert!(restored(&fact("b"), "j").is_empty());
        assert!(restored(&Value::Null, "i").is_empty() && restored(&json!({"boot": "b"}), "i").is_empty());
        assert_eq!(read(&fact("b"), &boot)["i"].len(), 3);
    }
}
