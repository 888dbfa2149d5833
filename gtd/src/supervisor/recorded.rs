//! Which processes are on record for which agent, for finding out who asks.
//!
//! It holds identities only, never a bare number, and forgets an instance with its end.

use std::collections::{BTreeMap, HashMap};

use gtd_proto::Address;

use super::machine::Machine;
use crate::process::{Kin, Pid, ProcessId, observe};

/// The recorded processes of all present instances: shims and agents.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recorded {
    by_pid: HashMap<Pid, (ProcessId, Address)>,
    of: BTreeMap<Address, Vec<ProcessId>>,
}

impl Recorded {
    /// Takes in what an agent's record says now.
    pub(super) fn see(&mut self, machine: &Machine) {
        let life = machine.current.as_ref().and_then(|current| current.life.as_ref());
        let now: Vec<ProcessId> = life
            .into_iter()
            .flat_map(|life| std::iter::once(&life.shim).chain(&life.process))
            .cloned()
            .collect();
        self.set(&machine.address, now);
    }

    fn set(&mut self, agent: &Address, now: Vec<ProcessId>) {
        if self.of.get(agent).map_or(now.is_empty(), |before| *before == now) {
            return;
        }
        for old in self.of.remove(agent).into_iter().flatten() {
            // Meanwhile the number may be another agent's.
            if self.by_pid.get(&old.pid).is_some_and(|(id, _)| *id == old) {
                self.by_pid.remove(&old.pid);
            }
        }
        for id in &now {
            self.by_pid.insert(id.pid, (id.clone(), agent.clone()));
        }
        if !now.is_empty() {
            self.of.insert(agent.clone(), now);
        }
    }

    /// Whether any process of the agent is on record.
    #[must_use]
    pub fn has(&self, agent: &Address) -> bool {
        self.of.contains_key(agent)
    }

    /// The agent of this very process.
    #[must_use]
    pub fn owner(&self, id: &ProcessId) -> Option<&Address> {
        self.by_pid.get(&id.pid).filter(|(recorded, _)| recorded == id).map(|(_, agent)| agent)
    }

    /// The agent whose living recorded process leads the session or group of this process, which is no older.
    #[must_use]
    pub fn leader_of(&self, kin: &Kin) -> Option<&Address> {
        [kin.session, kin.group].into_iter().filter_map(Pid::new).find_map(|number| {
            let (leader, agent) = self.by_pid.get(&number)?;
            let theirs = leader.boot == kin.id.boot && leader.start <= kin.id.start;
            (theirs && observe(leader).is_alive()).then_some(agent)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{BootId, StartTime};

    fn id(pid: i32, start: u64) -> ProcessId {
        ProcessId { boot: BootId::new("b"), pid: Pid::new(pid).unwrap(), start: StartTime::new(start) }
    }

    #[test]
    fn a_number_alone_is_nobodys() {
        let (a, b): (Address, Address) = ("a/witness".parse().unwrap(), "b/witness".parse().unwrap());
        let mut all = Recorded::default();
        all.set(&a, vec![id(7, 1), id(8, 1)]);
        assert_eq!(all.owner(&id(7, 1)), Some(&a));
        assert_eq!(all.owner(&id(7, 2)), None);
        // The number comes round and is another agent's before the first one's end is heard.
        all.set(&b, vec![id(7, 9)]);
        assert_eq!((all.owner(&id(7, 1)), all.owner(&id(7, 9))), (None, Some(&b)));
        all.set(&a, Vec::new());
        assert_eq!((all.owner(&id(8, 1)), all.owner(&id(7, 9))), (None, Some(&b)));
        assert!(!all.has(&a) && all.has(&b));
    }

    #[test]
    fn a_session_is_its_living_leaders() {
        let own = ProcessId::own().unwrap();
        let agent: Address = "a/witness".parse().unwrap();
        let mut all = Recorded::default();
        all.set(&agent, vec![own.clone()]);
        let kin = |start: u64, session: i32| Kin {
            id: ProcessId { pid: Pid::new(77).unwrap(), start: StartTime::new(start), ..own.clone() },
            group: 0,
            session,
        };
        let pid = own.pid.get();
        assert_eq!(all.leader_of(&kin(own.start.get() + 5, pid)), Some(&agent));
        assert_eq!(all.leader_of(&kin(own.start.get() - 1, pid)), None, "older than its leader");
        assert_eq!(all.leader_of(&kin(own.start.get() + 5, 1)), None);
        let gone = ProcessId { start: StartTime::new(own.start.get() - 2), ..own.clone() };
        all.set(&agent, vec![gone]);
        assert_eq!(all.leader_of(&kin(own.start.get() + 5, pid)), None, "the leader is gone");
    }
}
