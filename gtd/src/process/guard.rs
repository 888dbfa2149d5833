//! What must never be signalled, whatever the proof.
//!
//! Owns the list of what we stand on. Without a whole list there is no guard, and without a guard no signal.

use std::collections::BTreeSet;

use super::id::{BootId, Pid, ProcessId};
use super::procfs::Proc;
use super::signal::Refused;
use super::stat::Stat;
use super::table::ProcessTable;

/// Nobody stands on more ancestors; a list that goes on for longer runs in a circle.
const DEEPEST: usize = 4_096;

/// What must never be signalled: ourselves and everything we stand on.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    own: Option<Pid>,
    group: Option<i32>,
    session: Option<i32>,
    protected: BTreeSet<ProcessId>,
}

/// Why no guard could be made; without one nothing is signalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot tell which processes to protect: {0}")]
pub struct GuardError(String);

impl Guard {
    /// Protects us, our group and session, our ancestors, and these processes (the tmux servers we know of;
    /// any other tmux server is recognised when it comes to it).
    ///
    /// # Errors
    /// The table does not show our own ancestry whole.
    pub fn from_table(
        table: &ProcessTable,
        servers: impl IntoIterator<Item = ProcessId>,
    ) -> Result<Self, GuardError> {
        let mut protected: BTreeSet<ProcessId> = servers.into_iter().collect();
        let Some(own) = Pid::own() else {
            // As process 1 of a container we are no possible target and have no ancestors in it.
            return Ok(Self { protected, ..Self::default() });
        };
        let stat = table.at_pid(own).ok_or_else(|| GuardError(format!("no entry for ourselves, {own}")))?;
        let ancestry = table.ancestors(own).filter(|ancestry| ancestry.complete);
        let ancestry =
            ancestry.ok_or_else(|| GuardError(format!("the parents of process {own} cannot all be read")))?;
        protected.extend(ancestry.chain);
        Ok(Self { own: Some(own), group: Some(stat.group), session: Some(stat.session), protected })
    }

    /// The same by a look at our own ancestors alone: what it costs does not grow with the machine.
    ///
    /// # Errors
    /// Our own ancestry cannot be read whole.
    pub fn of_us(servers: impl IntoIterator<Item = ProcessId>) -> Result<Self, GuardError> {
        let mut protected: BTreeSet<ProcessId> = servers.into_iter().collect();
        let Some(own) = Pid::own() else { return Ok(Self { protected, ..Self::default() }) };
        let unread = |error: std::io::Error| GuardError(format!("the parents of process {own}: {error}"));
        let boot = BootId::current().map_err(unread)?;
        let mut proc = Proc::open().map_err(unread)?;
        let stat = proc.stat(own).map_err(unread)?;
        let (group, session, mut at) = (stat.group, stat.session, stat);
        for _ in 0..DEEPEST {
            let Some(parent) = at.parent else {
                return Ok(Self { own: Some(own), group: Some(group), session: Some(session), protected });
            };
            // One that ends meanwhile leaves us without a whole list: no guard, and the caller tries again.
            at = proc.stat(parent).map_err(unread)?;
            protected.insert(at.id(&boot));
        }
        Err(GuardError(format!("process {own} has more than {DEEPEST} ancestors")))
    }

    /// The guard of a shim, whose agent shares its session.
    pub(crate) fn of_shim(own: Pid, ancestors: impl IntoIterator<Item = ProcessId>) -> Self {
        Self { own: Some(own), group: None, session: None, protected: ancestors.into_iter().collect() }
    }

    /// True for this very process.
    pub(super) fn is_own(&self, id: &ProcessId) -> bool {
        self.own == Some(id.pid)
    }

    /// Why this process, as it looks now, is protected.
    pub(super) fn protects(&self, id: &ProcessId, stat: &Stat) -> Option<Refused> {
        if self.is_own(id) {
            return Some(Refused::Ourselves);
        }
        if self.protected.contains(id) {
            return Some(Refused::Protected(id.clone()));
        }
        if self.group == Some(stat.group) || self.session == Some(stat.session) {
            return Some(Refused::OurSession(id.clone()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::table::tests::{id, stat, table};

    #[test]
    fn a_look_at_our_ancestors_alone_protects_the_same() {
        let whole = Guard::from_table(&ProcessTable::read().unwrap(), [id(7, 1)]).unwrap();
        let alone = Guard::of_us([id(7, 1)]).unwrap();
        assert_eq!(alone.protected, whole.protected);
        assert_eq!((alone.own, alone.group, alone.session), (whole.own, whole.group, whole.session));
    }

    #[test]
    fn without_our_whole_ancestry_there_is_no_guard() {
        let own = Pid::own().unwrap().get();
        assert!(Guard::from_table(&table([stat(own + 1, 1, 1)]), []).is_err());
        // A parent that is not in the table.
        assert!(Guard::from_table(&table([stat(own, own + 1, 1)]), []).is_err());
        let guard = Guard::from_table(&table([stat(own, 1, 1)]), [id(7, 1)]).unwrap();
        assert!(guard.protects(&id(7, 1), &stat(7, 1, 1)).is_some());
        assert!(guard.protects(&id(8, 1), &stat(8, 1, 1)).is_none());
    }
}
