//! Making workers: what is asked before anything is, the reservation of a name, and who waits for what becomes of it.
//!
//! One allocator for the daemon: names, work and places are given under its gate, so that no two makings ever share
//! one. Each making runs in a task of its own, which outlives whoever asked for it; see [`super::making`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, ErrorKind, PlanStep, RigName, RpcError, WorkId};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::asking::Chosen;
use super::leaving::Leaving;
use super::points::Points;
use super::saga::{Journal, Step, Wish};
use super::{NewTree, Trees};
use crate::agents::prepare::Preparer;
use crate::feed::Bus;
use crate::ledger::{LedgerError, NewEvent, PolecatRow, PolecatState, PolecatWrite, Write};
use crate::supervisor::Handle;
use crate::supervisor::closed::Closed;
use crate::supervisor::workers::{Admission, Belongings};
use crate::work::Desk;

/// A worker that somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its rig.
    pub rig: RigName,
    /// The work that it gets.
    pub work: Option<WorkId>,
    /// Its name, if that is not the allocator's to choose.
    pub name: Option<String>,
    /// The rest.
    pub wish: Wish,
}

/// How far a making has come, for whoever waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It is at this step.
    At(Step),
    /// It has come to its end; taking back may go on.
    Ended(Result<(), Box<RpcError>>),
}

/// A making that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The worker.
    pub agent: Address,
    /// Its worktree.
    pub worktree: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    progress: watch::Receiver<Progress>,
}

impl Begun {
    /// The step it is at.
    #[must_use]
    pub fn at(&self) -> Option<Step> {
        match &*self.progress.borrow() {
            Progress::At(step) => Some(*step),
            Progress::Ended(_) => None,
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Why no worker came of it; `shutting_down` when the next daemon goes on with it.
    pub async fn ended(&mut self) -> Result<(), RpcError> {
        loop {
            if let Progress::Ended(result) = &*self.progress.borrow_and_update() {
                return result.clone().map_err(|error| *error);
            }
            if self.progress.changed().await.is_err() {
                return Err(leaving());
            }
        }
    }
}

/// A making that is under way.
struct Active {
    begun: Begun,
    key: Option<String>,
}

/// Makes workers. One for the daemon.
pub struct Spawner {
    pub(super) handle: Handle,
    pub(super) desk: Arc<Desk>,
    pub(super) bus: Bus,
    pub(super) trees: Arc<Trees>,
    pub(super) points: Points,
    pub(super) stop: CancellationToken,
    /// The ledger was lost and restored: it may say less than is so.
    pub(super) doubt: bool,
    pub(super) prepare: Arc<Preparer>,
    active: Mutex<BTreeMap<Address, Active>>,
    /// One name at a time is given in each rig: a rig whose disk hangs delays no other.
    gates: Mutex<BTreeMap<RigName, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) leaving: Leaving,
}

/// How soon a new daemon looks again whether it may go on with what it found.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

impl Spawner {
    /// The spawner of a town. `doubt`: the ledger was lost and restored.
    #[must_use]
    pub fn new(
        handle: Handle,
        desk: Arc<Desk>,
        bus: Bus,
        prepare: Arc<Preparer>,
        trees: Arc<Trees>,
        doubt: bool,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle,
            desk,
            bus,
            trees,
            points: Points::from_env(),
            stop,
            doubt,
            prepare,
            active: Mutex::default(),
            gates: Mutex::default(),
            leaving: Leaving::default(),
        })
    }

    /// Takes up what an earlier daemon did not end. To be called once, before anybody can ask for anything.
    pub async fn take_up(self: &Arc<Self>, rows: Vec<PolecatRow>) {
        for row in rows {
            let agent = row.address();
            let note = match row.state {
                PolecatState::Abandoned => Some("its spawn failed, and its worktree was kept".to_owned()),
                PolecatState::Spawning => Some("it is being made".to_owned()),
                PolecatState::Removing => Some("it is being removed".to_owned()),
                _ => None,
            };
            self.handle.belongs(&agent, Some(belongings(&row, note)));
            let closed = match row.state {
                PolecatState::Spawning => Some(Closed::Making),
                PolecatState::Removing => Some(Closed::Removing),
                _ => None,
            };
            if let Some(closed) = closed
                && let Err(error) = self.handle.close(&agent, closed).await
            {
                tracing::warn!(%agent, %error, "what is under way with this worker bars nobody's start");
            }
            if row.state == PolecatState::Removing {
                let spawner = Arc::clone(self);
                tokio::spawn(async move {
                    if spawner.may_go_on(&agent).await {
                        spawner.leave_again(row).await;
                    }
                });
                continue;
            }
            if row.state != PolecatState::Spawning {
                continue;
            }
            let journal = row.journal.clone().map(serde_json::from_value::<Journal>);
            let Some(Ok(mut journal)) = journal else {
                // Of a later version: it keeps its name, and nobody touches it.
                tracing::error!(%agent, "how far the making of this worker has come cannot be read; it is left as it is");
                continue;
            };
            journal.taken_up = journal.taken_up.saturating_add(1);
            let spawner = Arc::clone(self);
            let progress = self.register(&row, &journal);
            tokio::spawn(async move {
                if spawner.may_go_on(&agent).await {
                    spawner.run(row, journal, progress).await;
                }
            });
        }
    }

    /// Until it is known what should run, nothing is made and nothing is taken back.
    async fn may_go_on(&self, agent: &Address) -> bool {
        let mut pause = LOOK.0;
        loop {
            let wanted =
                Admission { agent: agent.clone(), account: None, by_person: true, coming: BTreeMap::new() };
            let unclear = match self.handle.admit(wanted).await {
                Err(error) if error.kind == ErrorKind::RigNotOperational => {
                    matches!(
                        error.data.get("reason").and_then(|reason| reason.as_str()),
                        Some("town is down" | "state file unreadable")
                    )
                }
                Err(error) => super::saga::is_leaving(&error),
                Ok(()) => false,
            };
            if !unclear {
                return true;
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK.1),
            }
        }
    }

    /// What the making of a worker would do.
    ///
    /// # Errors
    /// What it would be refused with.
    pub async fn plan(&self, wanted: &Wanted) -> Result<(Address, NewTree, Vec<PlanStep>), RpcError> {
        let checked = self.check(wanted).await?;
        let step =
            |action: &str, target: String, why: String| PlanStep { action: action.to_owned(), target, why };
        let agent = checked.agent.to_string();
        let mut plan = Vec::new();
        if checked.repair {
            plan.push(step(
                "repair",
                agent.clone(),
                "what an earlier polecat of that name has is archived first".into(),
            ));
        }
        plan.push(step(
            "add a worktree",
            checked.tree.path.to_string_lossy().into_owned(),
            format!("on the new branch {}", checked.tree.branch),
        ));
        if let Some(work) = &wanted.work {
            let from = checked.taken_from.as_ref().map(|holder| format!(", taken from {holder}"));
            plan.push(step("hook", work.to_string(), format!("for {agent}{}", from.unwrap_or_default())));
        }
        let (preset, account) = checked.launch;
        let account = account.map(|account| format!(", account {account}")).unwrap_or_default();
        plan.push(step("start", agent, format!("as {preset}{account}")));
        Ok((checked.agent, checked.tree, plan))
    }

    /// Begins to make a worker: what is wrong with the request is found out before anything is made. Two requests with
    /// the same key mean the same worker.
    ///
    /// # Errors
    /// Whatever it is refused with; nothing was made.
    pub async fn begin(self: &Arc<Self>, wanted: Wanted) -> Result<Begun, RpcError> {
        if let Some(begun) = self.under_way(wanted.wish.key.as_deref()) {
            return Ok(begun);
        }
        // Slow questions first, beside each other: a store may take its time.
        let checked = self.check(&wanted).await?;
        let gate = self.gate(&wanted.rig);
        let _turn = gate.lock().await;
        let (row, journal) = self.reserve(wanted, checked.taken_from).await?;
        let progress = self.register(&row, &journal);
        let begun = Begun {
            agent: row.address(),
            worktree: row.worktree.clone(),
            branch: row.branch.clone(),
            progress: progress.subscribe(),
        };
        let spawner = Arc::clone(self);
        tokio::spawn(async move { spawner.run(row, journal, progress).await });
        Ok(begun)
    }

    /// What is under way for requests with this key.
    #[must_use]
    pub fn under_way(&self, key: Option<&str>) -> Option<Begun> {
        let key = key?;
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let same = active.values().find(|active| active.key.as_deref() == Some(key));
        same.map(|active| active.begun.clone())
    }

    /// Whoever holds it gives and takes back the names of a rig.
    pub(super) fn gate(&self, rig: &RigName) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(rig.clone()).or_default())
    }

    fn register(&self, row: &PolecatRow, journal: &Journal) -> watch::Sender<Progress> {
        let (sender, progress) = watch::channel(Progress::At(journal.step));
        let agent = row.address();
        let (worktree, branch) = (row.worktree.clone(), row.branch.clone());
        let begun = Begun { agent: agent.clone(), worktree, branch, progress };
        let key = journal.wish.key.clone();
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(agent, Active { begun, key });
        sender
    }

    pub(super) fn unregister(&self, agent: &Address) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }

    /// Writes down that there is to be a worker. Under the gate.
    async fn reserve(
        &self,
        mut wanted: Wanted,
        taken_from: Option<String>,
    ) -> Result<(PolecatRow, Journal), RpcError> {
        // Others may have been made since it was checked.
        let Chosen { name, leftover, .. } = self.choose(&wanted).await?;
        let tree = self.trees.planned(&wanted.rig, &name, wanted.work.as_ref(), self.handle.wall())?;
        wanted.wish.repair = leftover;
        let mut journal = Journal::new(wanted.wish);
        journal.notes.taken_from = taken_from;
        let row = PolecatRow {
            rig: tree.rig,
            name: tree.name,
            state: PolecatState::Spawning,
            worktree: Some(tree.path.to_string_lossy().into_owned()),
            branch: Some(tree.branch),
            work: wanted.work,
            made_at: self.handle.wall(),
            journal: None,
        };
        self.points.reach("reserve.before").await?;
        let written = PolecatRow { journal: encoded(&journal)?, ..row.clone() };
        // Of an earlier one of that name there may be a row that says where it was.
        let forget = PolecatWrite::Forget { rig: row.rig.clone(), name: row.name.clone() };
        // Its directory is seen before it is whole: nobody else starts what is being made.
        let agent = row.address();
        self.handle.close(&agent, Closed::Making).await?;
        let committed = self
            .handle
            .ledger()
            .commit(vec![
                Write::Polecat(forget),
                Write::Polecat(PolecatWrite::Reserve(written)),
                Write::Event(self.event(
                    kind::POLECAT_SPAWNING,
                    &row,
                    &journal,
                    json!({ "step": Step::Reserve }),
                )),
            ])
            .await;
        match committed {
            Ok(events) => self.bus.publish(events),
            Err(error) => {
                self.handle.open(&agent).await?;
                return Err(ledger_error(&error));
            }
        }
        self.handle.belongs(&agent, Some(belongings(&row, Some("it is being made".to_owned()))));
        Ok((row, journal))
    }

    pub(super) fn event(
        &self,
        kind: &'static str,
        row: &PolecatRow,
        journal: &Journal,
        mut data: serde_json::Value,
    ) -> NewEvent {
        if let Some(map) = data.as_object_mut() {
            map.insert("key".to_owned(), json!(journal.wish.key));
            map.insert("work".to_owned(), json!(row.work));
            map.insert("worktree".to_owned(), json!(row.worktree));
            map.insert("branch".to_owned(), json!(row.branch));
            map.insert("by".to_owned(), json!(journal.wish.by));
        }
        let mut event = NewEvent::of(self.handle.wall(), kind, &row.address(), data);
        event.peer.clone_from(&journal.wish.peer);
        event
    }
}

pub(super) fn belongings(row: &PolecatRow, note: Option<String>) -> Belongings {
    let leaving = row.state == PolecatState::Removing;
    Belongings { worktree: row.worktree.clone(), branch: row.branch.clone(), leaving, note }
}

pub(super) fn encoded(journal: &Journal) -> Result<Option<serde_json::Value>, RpcError> {
    let value = serde_json::to_value(journal);
    value
        .map(Some)
        .map_err(|error| RpcError::internal(format!("the journal of a spawn cannot be written: {error}")))
}

pub(super) fn leaving() -> RpcError {
    RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down; the next one goes on with it")
        .hint("gtctl daemon start")
}

pub(super) fn ledger_error(error: &LedgerError) -> RpcError {
    match error {
        LedgerError::Closed => leaving(),
        LedgerError::DiskFull => RpcError::internal(format!("no polecat is made: {error}")).hint("df -h"),
        _ => RpcError::internal(format!("no polecat is made: {error}")).hint("gtctl daemon status"),
    }
}
