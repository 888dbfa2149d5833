//! What is asked before a worker is made: all that can be known of a request is known before anything is.
//!
//! Only looks. What is quick is asked a second time when the name is given, because others are made meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::{Address, AgentName, ErrorKind, RigName, RpcError, State, WorkId};

use super::saga::Wish;
use super::spawn::{Spawner, Wanted, ledger_error};
use super::{Gate, NewTree, TreeError, names};
use crate::agents::order::FailureKind;
use crate::ledger::{PolecatRow, PolecatState};
use crate::supervisor::requests::PERSON;
use crate::supervisor::workers::Admission;
use crate::work::WorkError;

/// Everything that is found out before anything is made.
pub(super) struct Checked {
    pub(super) tree: NewTree,
    pub(super) agent: Address,
    pub(super) repair: bool,
    pub(super) taken_from: Option<String>,
    pub(super) launch: (String, Option<String>),
}

/// Who it is to be.
pub(super) struct Chosen {
    pub(super) agent: Address,
    pub(super) name: AgentName,
    /// Something of an earlier one is there.
    pub(super) leftover: bool,
    /// Preset and account.
    pub(super) launch: (String, Option<String>),
}

impl Spawner {
    /// Finds out everything that can be found out. Changes nothing.
    pub(super) async fn check(&self, wanted: &Wanted) -> Result<Checked, RpcError> {
        self.handle.view().read(|shown| shown.rig(&wanted.rig).map(drop))?;
        let Chosen { agent, name, leftover, launch } = self.choose(wanted).await?;
        let mut taken_from = None;
        if let Some(work) = &wanted.work {
            taken_from = match self.desk.would_hook(&agent, work, wanted.wish.force).await {
                Ok(would) => would.taken_from.filter(|_| !would.already),
                Err(WorkError::Unknown(why)) if wanted.wish.force => {
                    tracing::warn!(%agent, %work, %why, "its work was not looked at: the spawn is forced");
                    None
                }
                Err(error) => return Err(error.into()),
            };
        }
        let tree = self.trees.planned(&wanted.rig, &name, wanted.work.as_ref(), self.handle.wall())?;
        Ok(Checked { tree, agent, repair: leftover, taken_from, launch })
    }

    /// What is quick to find out, and may be otherwise a moment later.
    pub(super) async fn choose(&self, wanted: &Wanted) -> Result<Chosen, RpcError> {
        let rows = self.handle.ledger().polecats(None).await.map_err(|error| ledger_error(&error))?;
        let (name, leftover) = self.name(wanted, &rows).await?;
        let agent = Address::Polecat(wanted.rig.clone(), name.clone());
        let launch = self.launchable(&agent, &wanted.wish)?;
        self.admit(&agent, launch.1.clone(), &wanted.wish, &rows).await?;
        if let Some(work) = &wanted.work {
            on_its_way(work, &rows)?;
        }
        if leftover {
            self.repairable(&agent, &name, wanted.wish.force).await?;
        }
        Ok(Chosen { agent, name, leftover, launch })
    }

    /// The worker's name, and whether something of an earlier one of that name is there.
    async fn name(&self, wanted: &Wanted, rows: &[PolecatRow]) -> Result<(AgentName, bool), RpcError> {
        let rig = &wanted.rig;
        let taken = self.taken(rig, rows).await?;
        if let Some(given) = &wanted.name {
            let name = names::checked(given).map_err(|bad| {
                RpcError::new(ErrorKind::NameInvalid, bad.to_string())
                    .hint("choose another --name, or leave it to the pool")
            })?;
            let agent = Address::Polecat(rig.clone(), name.clone());
            self.free(&agent, rows)?;
            // Names that differ only in case are one on some disks.
            let twin = taken
                .iter()
                .find(|other| **other != name && other.as_str().eq_ignore_ascii_case(name.as_str()));
            if let Some(twin) = twin {
                let text = format!("rig {rig} has a polecat {twin} already");
                return Err(RpcError::new(ErrorKind::NameTaken, text).hint("choose another --name"));
            }
            let leftover = taken.contains(&name);
            return Ok((name, leftover));
        }
        let snapshot = self.prepare.snapshot();
        let settings = snapshot.rigs.get(rig).map(|rig| &rig.settings);
        let pool = match settings {
            Some(settings) => names::Pool::of(rig, settings),
            None => {
                return Err(self
                    .handle
                    .view()
                    .read(|shown| crate::supervisor::rigs::unknown_rig(rig, &shown.facts)));
            }
        };
        let pool = pool.map_err(|error| {
            RpcError::new(ErrorKind::ConfigInvalid, error.to_string())
                .hint(format!("mend {rig}/settings/config.json, or give a --name"))
                .with("file", format!("{rig}/settings/config.json"))
        })?;
        Ok((pool.choose(&taken), false))
    }

    /// Every name of a rig that something has.
    async fn taken(&self, rig: &RigName, rows: &[PolecatRow]) -> Result<BTreeSet<AgentName>, RpcError> {
        let dir = self.prepare.snapshot().layout.polecats(rig);
        let there = crate::town::rigs::members(&dir).map_err(|why| {
            RpcError::internal(format!(
                "the names of rig {rig}'s polecats are not known: {} {why}",
                dir.display()
            ))
        })?;
        let in_git = self.trees.names_in_git(rig).await?;
        let shown = self.handle.view().read(|shown| {
            let mine = shown.agents.values().filter(|agent| agent.rig.as_ref() == Some(rig));
            mine.filter(|agent| agent.state != State::Stopped)
                .filter(|agent| matches!(agent.agent, Address::Polecat(..)))
                .filter_map(|agent| agent.name.clone())
                .collect::<Vec<_>>()
        });
        // Of one that is there by its row alone nothing is left, unless it is on its way.
        let on_their_way = rows.iter().filter(|row| {
            row.rig == *rig && !matches!(row.state, PolecatState::Ready | PolecatState::Abandoned)
        });
        let rows = on_their_way.map(|row| row.name.clone());
        Ok(there.names.into_iter().chain(in_git).chain(shown).chain(rows).collect())
    }

    /// Nobody of that name runs, or is on the way.
    fn free(&self, agent: &Address, rows: &[PolecatRow]) -> Result<(), RpcError> {
        let row = rows.iter().find(|row| row.address() == *agent);
        if let Some(row) =
            row.filter(|row| !matches!(row.state, PolecatState::Ready | PolecatState::Abandoned))
        {
            let doing = match row.state {
                PolecatState::Removing => "being removed",
                _ => "being made",
            };
            let error = RpcError::new(ErrorKind::Busy, format!("{agent} is {doing}"));
            return Err(error.hint(format!("gtctl events -f --agent {agent}")).with("holder", agent));
        }
        let state = self.handle.view().agent(agent).map(|shown| (shown.running, shown.state));
        match state {
            Some((true, _) | (_, State::Running)) => {
                Err(RpcError::new(ErrorKind::AlreadyRunning, format!("{agent} runs already"))
                    .hint(format!("gtctl status {agent}, or choose another --name")))
            }
            None | Some((_, State::Stopped)) => Ok(()),
            Some((_, state)) => {
                Err(RpcError::new(ErrorKind::Busy, format!("{agent} is there already: it is {state}"))
                    .hint(format!("gtctl polecat stop {agent}, or choose another --name"))
                    .with("holder", agent))
            }
        }
    }

    /// What an earlier worker of that name has may be let go of.
    async fn repairable(&self, agent: &Address, name: &AgentName, force: bool) -> Result<(), RpcError> {
        let Some(rig) = agent.rig() else { return Ok(()) };
        let gate = if force { Gate::Forced } else { Gate::Pushed };
        match self.trees.would_remove(rig, name, gate).await {
            Ok(_) | Err(TreeError::Absent { .. }) => Ok(()),
            Err(error @ (TreeError::Work { .. } | TreeError::Unknown { .. })) => Err(RpcError::from(error)
                .hint("push it, choose another --name, or --force: what it has is archived first")),
            Err(error) => Err(error.into()),
        }
    }

    /// What it would be launched as: preset and account.
    fn launchable(&self, agent: &Address, wish: &Wish) -> Result<(String, Option<String>), RpcError> {
        let failure = match self.prepare.draft(agent, &wish.overrides) {
            Ok(launch) => return Ok((launch.preset, launch.account)),
            Err(failure) => failure,
        };
        let message = format!("{agent} cannot be launched so: {}", failure.message);
        let error = match failure.kind {
            FailureKind::Exec(error) => {
                RpcError::new(ErrorKind::DiedDuringStartup, message).with("exec_error", error)
            }
            FailureKind::Settings => RpcError::new(ErrorKind::NameInvalid, message),
            FailureKind::Tmux | FailureKind::Ours | FailureKind::Cancelled => RpcError::internal(message),
        };
        Err(match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    /// The rig, the machine and the account have room for one more, those included that are on their way.
    async fn admit(
        &self,
        agent: &Address,
        account: Option<String>,
        wish: &Wish,
        rows: &[PolecatRow],
    ) -> Result<(), RpcError> {
        let mut coming: BTreeMap<RigName, u32> = BTreeMap::new();
        self.handle.view().read(|shown| {
            for row in rows.iter().filter(|row| row.state == PolecatState::Spawning) {
                let counted =
                    shown.agents.get(&row.address()).is_some_and(|agent| agent.state != State::Stopped);
                if !counted {
                    *coming.entry(row.rig.clone()).or_default() += 1;
                }
            }
        });
        let by_person = wish.by == PERSON;
        self.handle.admit(Admission { agent: agent.clone(), account, by_person, coming }).await
    }
}

/// The work is not on its way to another worker.
fn on_its_way(work: &WorkId, rows: &[PolecatRow]) -> Result<(), RpcError> {
    let other =
        rows.iter().find(|row| row.state == PolecatState::Spawning && row.work.as_ref() == Some(work));
    match other {
        None => Ok(()),
        Some(row) => {
            let holder = row.address();
            let error = RpcError::new(
                ErrorKind::Busy,
                format!("{work} is on its way to {holder}, which is being made"),
            );
            Err(error.hint(format!("gtctl events -f --agent {holder}")).with("holder", holder))
        }
    }
}
