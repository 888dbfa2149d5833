//! What waits for a ledger that cannot be written: kept small without losing what a person wanted.
//!
//! Rows that replace one another are kept once each, in their last state: they are the intents. What merely
//! tells is kept up to a number. It must never drop an intent.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::{Address, InstanceId};

use crate::ledger::Write;

/// Rows that tell what happened, kept at most.
const TOLD: usize = 10_000;

/// What a row replaces.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Agent(&'a Address),
    Instance(&'a InstanceId),
    Hold,
    Fact(&'a str),
    Conversation(&'a Address),
}

fn key(write: &Write) -> Option<Key<'_>> {
    match write {
        Write::Agent(row) => Some(Key::Agent(&row.address)),
        Write::Forget(address) => Some(Key::Agent(address)),
        Write::Instance(row) => Some(Key::Instance(&row.instance)),
        Write::Hold(_) => Some(Key::Hold),
        Write::Fact { key, .. } => Some(Key::Fact(key)),
        Write::Conversation(write) => Some(Key::Conversation(write.agent())),
        _ => None,
    }
}

/// Leaves out what later rows replace, instances that were reserved and given up without ever having been
/// written down, and the latest of what merely tells where it is too much.
pub(super) fn shorten(writes: &mut Vec<Write>) {
    let last: BTreeMap<Key<'_>, usize> =
        writes.iter().enumerate().filter_map(|(at, write)| Some((key(write)?, at))).collect();
    let reserved: BTreeSet<&InstanceId> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Instance(row) if !row.ended && row.launch.is_null() => Some(&row.instance),
            _ => None,
        })
        .collect();
    let mut told = 0;
    let keep: Vec<bool> = writes
        .iter()
        .enumerate()
        .map(|(at, write)| match (write, key(write)) {
            (Write::Instance(row), _) if row.ended && reserved.contains(&row.instance) => false,
            (_, Some(key)) => last.get(&key) == Some(&at),
            (write, None) if write.is_state() => true,
            (_, None) => {
                told += 1;
                told <= TOLD
            }
        })
        .collect();
    let mut keep = keep.into_iter();
    writes.retain(|_| keep.next().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::{Intent, Timestamp};

    use crate::ledger::{AgentRow, InstanceRow, NewEvent};

    fn agent(name: &str, intent: Intent) -> Write {
        Write::Agent(AgentRow {
            address: name.parse().unwrap(),
            intent,
            intent_by: "person".into(),
            intent_reason: None,
            intent_at: Timestamp::UNIX_EPOCH,
            overrides: serde_json::Value::Null,
            policy: serde_json::Value::Null,
            lifetime_restarts: 0,
        })
    }

    fn instance(id: &InstanceId, ended: bool) -> Write {
        Write::Instance(InstanceRow {
            instance: id.clone(),
            agent: "a/witness".parse().unwrap(),
            reserved_at: Timestamp::UNIX_EPOCH,
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
            launch: serde_json::Value::Null,
            ready_at: None,
            captured: serde_json::Value::Null,
            ended,
        })
    }

    #[test]
    fn a_stop_is_kept_however_much_is_told_before_it() {
        let told = || Write::Event(NewEvent::new(Timestamp::UNIX_EPOCH, "x", serde_json::Value::Null));
        let mut writes: Vec<Write> = std::iter::repeat_with(told).take(2 * TOLD).collect();
        writes.push(agent("a/witness", Intent::Running));
        writes.push(agent("a/witness", Intent::Stopped));
        writes.push(agent("b/witness", Intent::Running));
        shorten(&mut writes);
        assert_eq!(writes.len(), TOLD + 2);
        assert!(writes.contains(&agent("a/witness", Intent::Stopped)));
        assert!(!writes.contains(&agent("a/witness", Intent::Running)));
    }

    #[test]
    fn launches_that_were_refused_leave_nothing_and_others_their_end() {
        let (refused, ended) = (InstanceId::generate(), InstanceId::generate());
        let mut writes = Vec::new();
        for _ in 0..100 {
            let one = InstanceId::generate();
            writes.extend([instance(&one, false), instance(&one, true)]);
        }
        writes.extend([instance(&refused, false), instance(&ended, true), instance(&refused, true)]);
        shorten(&mut writes);
        assert_eq!(writes, [instance(&ended, true)]);
    }
}
