//! Letting go of workers, as somebody asked for: what stands against it, and the order of it.
//!
//! Written down before it is done, and gone on with by the next daemon. Whatever fails before the worktree is gone
//! leaves the worker as it was, but stopped; what fails after that is tried again by the next removal or daemon.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use gtd_proto::event::kind;
use gtd_proto::{Address, AgentName, ErrorKind, PlanStep, RigName, RpcError, State, WorkId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::remove::{Gate, Removed};
use super::saga::is_leaving;
use super::spawn::{Spawner, belongings, ledger_error};
use super::{Seen, TreeError};
use crate::ledger::{NewEvent, PolecatRow, PolecatState, PolecatWrite, Write};
use crate::supervisor::closed::Closed;
use crate::supervisor::requests::{Ask, How, Request, Wait};
use crate::work::{By, WorkError};

/// A worker that somebody wants to be rid of.
#[derive(Debug, Clone)]
pub struct Leave {
    /// Its rig.
    pub rig: RigName,
    /// Its name.
    pub name: AgentName,
    /// With what is only there, and though it runs: that is kept first, and it is stopped.
    pub force: bool,
    /// Who wants it.
    pub by: By,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Gone {
    /// Of its worktree.
    pub tree: Removed,
    /// What was on its hook, and is open again.
    pub work: Option<WorkId>,
}

/// What is written down while a worker is being let go of.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Journal {
    force: bool,
    by: String,
    peer: Option<String>,
    reason: Option<String>,
    /// The state to which it returns when it is kept after all; none where it had no row.
    before: Option<PolecatState>,
}

/// Workers that are being let go of by this daemon.
#[derive(Debug, Default)]
pub(super) struct Leaving(Mutex<BTreeSet<Address>>);

/// One of them, for as long as this is there.
struct Under<'a>(&'a Leaving, Address);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Leave {
    fn agent(&self) -> Address {
        Address::Polecat(self.rig.clone(), self.name.clone())
    }

    fn gate(&self) -> Gate {
        if self.force { Gate::Forced } else { Gate::Merged }
    }

    fn ask(&self) -> Ask {
        let reason = self.by.reason.clone().or_else(|| Some("it is removed".to_owned()));
        Ask { by: self.by.who.clone(), reason, wait: Wait::ToTheEnd }
    }
}

impl Spawner {
    /// What letting go of a worker would do.
    ///
    /// # Errors
    /// What it would be refused with.
    pub async fn plan_leave(&self, leave: &Leave) -> Result<Vec<PlanStep>, RpcError> {
        let agent = leave.agent();
        let (_, mut plan) = self.leavable(leave).await?;
        let step = |action: &str, target: String, why: &str| PlanStep {
            action: action.to_owned(),
            target,
            why: why.to_owned(),
        };
        if self.state(&agent).is_some_and(|state| state != State::Stopped) {
            plan.insert(0, step("stop", agent.to_string(), "it is there still"));
        }
        if let Ok(Some(hooked)) = self.desk.hook_of(&agent).await {
            plan.push(step("unhook", hooked.item.id.to_string(), "it is open again"));
        }
        plan.push(step("forget", agent.to_string(), "its name is free again"));
        Ok(plan)
    }

    /// Lets go of a worker: it is stopped where that is forced, what it has is kept, its worktree and its branch go, its
    /// work is open again, and its name is free.
    ///
    /// # Errors
    /// `agent_not_found`; `busy` while it runs or is being made or removed; `uncommitted_work` for what is only there,
    /// both without force; `work_store` when its hook cannot be told or cleared; git's and the system's.
    pub async fn leave(&self, leave: &Leave) -> Result<Gone, RpcError> {
        let agent = leave.agent();
        let (_under, row) = self.claim(leave).await?;
        let mut tree = None;
        match self.let_go(leave, &mut tree).await {
            Ok(gone) => Ok(gone),
            // The next daemon goes on with it.
            Err(error) if is_leaving(&error) => Err(error),
            Err(error) => {
                // Nothing of it is gone: then it stays, under its name.
                if tree.is_none() {
                    self.kept(&row).await;
                } else {
                    tracing::error!(%agent, %error, "its worktree is gone, and the rest of it is not yet");
                }
                self.handle.open(&agent).await?;
                Err(error)
            }
        }
    }

    /// Goes on with what an earlier daemon has begun.
    pub(super) async fn leave_again(&self, row: PolecatRow) {
        let agent = row.address();
        let journal = row.journal.clone().map(serde_json::from_value::<Journal>);
        let Some(Ok(journal)) = journal else {
            tracing::error!(%agent, "how this worker was to be removed cannot be read; it is left as it is");
            return;
        };
        let by = By { who: journal.by, peer: journal.peer, reason: journal.reason };
        let leave = Leave { rig: row.rig, name: row.name, force: journal.force, by };
        match self.leave(&leave).await {
            Ok(_) => tracing::info!(%agent, "removed, as an earlier daemon was asked to"),
            Err(error) => tracing::warn!(%agent, %error, "not removed, as an earlier daemon was asked to"),
        }
    }

    fn state(&self, agent: &Address) -> Option<State> {
        self.handle.view().agent(agent).map(|shown| shown.state)
    }

    /// Sees that nothing stands against it; gives its row, and what would be done to its worktree.
    async fn leavable(&self, leave: &Leave) -> Result<(Option<PolecatRow>, Vec<PlanStep>), RpcError> {
        let (agent, rig, name) = (leave.agent(), &leave.rig, &leave.name);
        let row = self.handle.ledger().polecat(rig, name).await.map_err(|error| ledger_error(&error))?;
        let busy = |doing: &str, hint: String| {
            Err(RpcError::new(ErrorKind::Busy, format!("{agent} cannot be removed: it {doing}")).hint(hint))
        };
        if row.as_ref().is_some_and(|row| row.state == PolecatState::Spawning) {
            return busy("is being made", format!("gtctl events -f --agent {agent}"));
        }
        let state = self.state(&agent);
        if let Some(state) = state.filter(|state| *state != State::Stopped && !leave.force) {
            let hint = format!("gtctl polecat stop {agent}, or --force to stop it first");
            return busy(&format!("is {}", state.as_str()), hint).map_err(|error| error.with("state", state));
        }
        let plan = match self.trees.would_remove(rig, name, leave.gate()).await {
            Ok(plan) => plan,
            Err(TreeError::Absent { .. }) if row.is_some() => Vec::new(),
            Err(TreeError::Absent { .. }) if state.is_some_and(|state| state != State::Stopped) => Vec::new(),
            Err(TreeError::Absent { .. }) => {
                let error = RpcError::new(ErrorKind::AgentNotFound, format!("there is no polecat {agent}"));
                return Err(error.hint(format!("gtctl polecat list {rig}")));
            }
            Err(error) => return Err(error.into()),
        };
        // Found out before anything is gone.
        if !leave.force {
            self.desk.hook_of(&agent).await?;
        }
        Ok((row, plan))
    }

    /// Writes down that it is to go. Nobody else begins with it, or with its name, from then on.
    async fn claim(&self, leave: &Leave) -> Result<(Under<'_>, PolecatRow), RpcError> {
        let agent = leave.agent();
        let gate = self.gate(&leave.rig);
        let _turn = gate.lock().await;
        if !self.leaving.0.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone()) {
            let error = RpcError::new(ErrorKind::Busy, format!("{agent} is being removed"));
            return Err(error.hint(format!("gtctl events -f --agent {agent}")));
        }
        let under = Under(&self.leaving, agent);
        let (row, _) = self.leavable(leave).await?;
        // One that an earlier daemon began has said what it was before.
        let before = match &row {
            Some(row) if row.state == PolecatState::Removing => {
                let journal =
                    row.journal.clone().and_then(|journal| serde_json::from_value::<Journal>(journal).ok());
                journal.and_then(|journal| journal.before)
            }
            Some(row) => Some(row.state),
            None => None,
        };
        let By { who, peer, reason } = leave.by.clone();
        let journal = Journal { force: leave.force, by: who, peer, reason, before };
        let journal = serde_json::to_value(journal).map_err(|error| {
            RpcError::internal(format!("the journal of a removal cannot be written: {error}"))
        })?;
        let row = row.unwrap_or_else(|| PolecatRow {
            rig: leave.rig.clone(),
            name: leave.name.clone(),
            state: PolecatState::Removing,
            worktree: None,
            branch: None,
            work: None,
            made_at: self.handle.wall(),
            journal: None,
        });
        let row = PolecatRow { state: PolecatState::Removing, journal: Some(journal), ..row };
        // Forgotten, it is seen again by its directory, as long as that is there.
        self.handle.close(&under.1, Closed::Removing).await?;
        if let Err(error) = self.commit(vec![Write::Polecat(PolecatWrite::Set(row.clone()))]).await {
            self.handle.open(&under.1).await?;
            return Err(error);
        }
        self.handle.belongs(&row.address(), Some(belongings(&row, Some("it is being removed".to_owned()))));
        Ok((under, row))
    }

    async fn let_go(&self, leave: &Leave, tree: &mut Option<Removed>) -> Result<Gone, RpcError> {
        let agent = leave.agent();
        self.points.reach("remove.claimed").await?;
        if self.state(&agent).is_some_and(|state| state != State::Stopped) {
            let how = How { now: true, force: false };
            let stop = Request::Stop { agent: agent.clone(), how, ask: leave.ask() };
            let stopped = self.handle.change(&agent, stop).await?;
            if !stopped.survivors.is_empty() {
                let text = format!(
                    "{agent} cannot be removed: {} of its processes live on",
                    stopped.survivors.len()
                );
                let error = RpcError::new(ErrorKind::Timeout, text).hint(format!("gtctl explain {agent}"));
                return Err(error.with("reached", "survivors").with("survivors", stopped.survivors));
            }
        }
        // Nobody starts it any more.
        self.dismiss_if_known(leave).await?;
        self.points.reach("remove.stopped").await?;
        let removed = match self.trees.remove(&leave.rig, &leave.name, leave.gate(), self.handle.wall()).await
        {
            Ok(removed) => removed,
            Err(TreeError::Absent { .. }) => Removed::default(),
            Err(error) => return Err(error.into()),
        };
        *tree = Some(removed.clone());
        self.points.reach("remove.tree").await?;
        let work = match self.desk.unhook(&agent, &leave.by).await {
            Ok(hooking) => hooking.replaced,
            Err(WorkError::Unknown(why)) if leave.force => {
                tracing::warn!(%agent, %why, "its hook could not be cleared: the removal is forced");
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.points.reach("remove.unhooked").await?;
        // It may have been seen once more before its directory was gone.
        self.dismiss_if_known(leave).await?;
        // Before its name is free: whoever has it next closes it.
        self.handle.open(&agent).await?;
        self.commit(vec![
            Write::Polecat(PolecatWrite::Forget { rig: leave.rig.clone(), name: leave.name.clone() }),
            Write::Event(self.told(leave, &removed, work.as_ref())),
        ])
        .await?;
        self.handle.belongs(&agent, None);
        Ok(Gone { tree: removed, work })
    }

    async fn dismiss_if_known(&self, leave: &Leave) -> Result<(), RpcError> {
        match self.handle.dismiss(&leave.agent(), leave.ask()).await {
            Err(error) if !matches!(error.kind, ErrorKind::AgentNotFound | ErrorKind::RigNotFound) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// It stays: its row says so again, and the supervisor knows it.
    async fn kept(&self, row: &PolecatRow) {
        let agent = row.address();
        let journal = row.journal.clone().and_then(|journal| serde_json::from_value::<Journal>(journal).ok());
        let before = journal.and_then(|journal| journal.before);
        let (write, row) = match before {
            Some(state) => {
                let row = PolecatRow { state, journal: None, ..row.clone() };
                (PolecatWrite::Set(row.clone()), Some(row))
            }
            None => (PolecatWrite::Forget { rig: row.rig.clone(), name: row.name.clone() }, None),
        };
        if let Err(error) = self.commit(vec![Write::Polecat(write)]).await {
            tracing::warn!(%agent, %error, "that it stays could not be written down");
        }
        self.handle.belongs(&agent, row.map(|row| belongings(&row, None)));
        let there = matches!(&agent, Address::Polecat(rig, name)
            if self.trees.inspect(rig, name).await.is_ok_and(|seen| seen != Seen::Absent));
        if there && let Err(error) = self.handle.enlist(&agent).await {
            tracing::warn!(%agent, %error, "the supervisor does not know it again");
        }
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), RpcError> {
        let events = self.handle.ledger().commit(writes).await.map_err(|error| ledger_error(&error))?;
        self.bus.publish(events);
        Ok(())
    }

    fn told(&self, leave: &Leave, removed: &Removed, work: Option<&WorkId>) -> NewEvent {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let archived: Vec<serde_json::Value> =
            removed.archived.iter().map(|kept| json!({"ref": kept.name, "commit": kept.commit})).collect();
        let data = json!({
            "by": leave.by.who,
            "reason": leave.by.reason,
            "archived": archived,
            "branch": removed.branch,
            "worktree": removed.directory.as_deref().map(text),
            "aside": removed.aside.as_deref().map(text),
            "why": removed.why,
            "work": work,
        });
        let mut event = NewEvent::of(self.handle.wall(), kind::POLECAT_REMOVED, &leave.agent(), data);
        event.peer.clone_from(&leave.by.peer);
        event
    }
}
