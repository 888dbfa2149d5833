//! Making workers: what is asked before anything is, the reservation of a name, and who waits for what becomes of it.
//!
//! One allocator for the daemon: names, work and places are given under its gate, so that no two makings ever share
//! one. Each making runs in a task of its own, which outlives whoever asked for it; see [`super::making`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, AgentName, ErrorKind, PlanStep, RigName, RpcError, State, WorkId};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::leaving::Leaving;
use super::points::Points;
use super::saga::{Journal, Step, Wish};
use super::{Gate, NewTree, TreeError, Trees, names};
use crate::agents::order::FailureKind;
use crate::agents::prepare::Preparer;
use crate::feed::Bus;
use crate::ledger::{LedgerError, NewEvent, PolecatRow, PolecatState, PolecatWrite, Write};
use crate::supervisor::Handle;
use crate::supervisor::requests::PERSON;
use crate::supervisor::workers::{Admission, Belongings};
use crate::work::{Desk, WorkError};

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

/// Everything that is found out before anything is made.
pub(super) struct Checked {
    pub(super) tree: NewTree,
    agent: Address,
    repair: bool,
    taken_from: Option<String>,
    launch: (String, Option<String>),
}

/// Who it is to be.
struct Chosen {
    agent: Address,
    name: AgentName,
    /// Something of an earlier one is there.
    leftover: bool,
    /// Preset and account.
    launch: (String, Option<String>),
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
    prepare: Arc<Preparer>,
    active: Mutex<BTreeMap<Address, (watch::Receiver<Progress>, PolecatRow, Option<String>)>>,
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
    pub fn take_up(self: &Arc<Self>, rows: Vec<PolecatRow>) {
        for row in rows {
            let agent = row.address();
            let note = match row.state {
                PolecatState::Abandoned => Some("its spawn failed, and its worktree was kept".to_owned()),
                PolecatState::Spawning => Some("it is being made".to_owned()),
                PolecatState::Removing => Some("it is being removed".to_owned()),
                _ => None,
            };
            self.handle.belongs(&agent, Some(belongings(&row, note)));
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
        let begun_row = row.clone();
        let progress = self.register(&row, &journal);
        let begun = Begun {
            agent: row.address(),
            worktree: begun_row.worktree,
            branch: begun_row.branch,
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
        let (agent, (progress, row, _)) =
            active.iter().find(|(_, (_, _, other))| other.as_deref() == Some(key))?;
        Some(Begun {
            agent: agent.clone(),
            worktree: row.worktree.clone(),
            branch: row.branch.clone(),
            progress: progress.clone(),
        })
    }

    /// Whoever holds it gives and takes back the names of a rig.
    pub(super) fn gate(&self, rig: &RigName) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(rig.clone()).or_default())
    }

    fn register(&self, row: &PolecatRow, journal: &Journal) -> watch::Sender<Progress> {
        let (sender, receiver) = watch::channel(Progress::At(journal.step));
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(row.address(), (receiver, row.clone(), journal.wish.key.clone()));
        sender
    }

    pub(super) fn unregister(&self, agent: &Address) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }

    /// Finds out everything that can be found out. Changes nothing.
    async fn check(&self, wanted: &Wanted) -> Result<Checked, RpcError> {
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
    async fn choose(&self, wanted: &Wanted) -> Result<Chosen, RpcError> {
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
        let events = self
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
            .await
            .map_err(|error| ledger_error(&error))?;
        self.bus.publish(events);
        self.handle.belongs(&row.address(), Some(belongings(&row, Some("it is being made".to_owned()))));
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

pub(super) fn belongings(row: &PolecatRow, note: Option<String>) -> Belongings {
    Belongings { worktree: row.worktree.clone(), branch: row.branch.clone(), note }
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
