//! A making under way: does what the journal says is next, and writes down what comes after it.
//!
//! Every step is written down before it is done. What fails is taken back from its end; what cannot be taken back
//! now is tried again until it can, and holds the worker's name until then. When the daemon goes down it is left
//! where it is. Must never remove a worktree in which somebody did something.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::town::{Alert, Severity};
use gtd_proto::{Address, Change, ErrorKind, RpcError, State};
use serde_json::json;
use tokio::sync::watch;

use super::saga::{Agent, Journal, Next, Step, World, is_leaving, next};
use super::spawn::{Progress, Spawner, belongings, encoded, leaving, ledger_error};
use super::taking_back::Undoing;
use super::{Gate, NewTree, TreeError};
use crate::ledger::{PolecatRow, PolecatState, PolecatWrite, Write};
use crate::supervisor::closed::Closed;
use crate::supervisor::requests::{Ask, Request, Wait};
use crate::work::{By, WorkError};

/// How long until what cannot be taken back is tried again, at first and at the most.
pub(super) const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// How often a start that has not come to an end within its time is waited for again: each time takes
/// `[start] timeout`.
const STARTS: u32 = 3;
/// Exits of the agent that are looked through for one of this making.
const EXITS: u32 = 20;

/// One worker in the making.
pub(super) struct Making {
    pub(super) row: PolecatRow,
    pub(super) journal: Journal,
    progress: watch::Sender<Progress>,
    began: std::time::Instant,
}

impl Making {
    pub(super) fn agent(&self) -> Address {
        self.row.address()
    }

    pub(super) fn tree(&self) -> Result<NewTree, RpcError> {
        let (Some(path), Some(branch)) = (&self.row.worktree, &self.row.branch) else {
            return Err(RpcError::internal("the journal of a spawn names no worktree"));
        };
        Ok(NewTree {
            rig: self.row.rig.clone(),
            name: self.row.name.clone(),
            path: PathBuf::from(path),
            branch: branch.clone(),
        })
    }

    pub(super) fn by(&self) -> By {
        let wish = &self.journal.wish;
        By { who: wish.by.clone(), peer: wish.peer.clone(), reason: wish.reason.clone() }
    }
}

impl Spawner {
    /// Goes on with a making until it has come to its end, or the daemon goes down.
    pub(super) async fn run(
        self: Arc<Self>,
        row: PolecatRow,
        journal: Journal,
        progress: watch::Sender<Progress>,
    ) {
        let agent = row.address();
        let mut making = Making { row, journal, progress, began: std::time::Instant::now() };
        let ended = self.bring_to_an_end(&mut making).await;
        match ended {
            Ok(()) => {
                self.unregister(&agent);
                self.handle.settle(&alert_key(&agent)).await;
                making.progress.send_replace(Progress::Ended(match making.journal.back {
                    Some(_) => Err(Box::new(refusal(&making))),
                    None => making.journal.notes.unconfirmed.clone().map(Box::new).map_or(Ok(()), Err),
                }));
            }
            Err(error) => {
                tracing::info!(%agent, %error, "the making of this worker is left to the next daemon");
                making.progress.send_replace(Progress::Ended(Err(Box::new(error))));
            }
        }
    }

    async fn bring_to_an_end(&self, making: &mut Making) -> Result<(), RpcError> {
        if making.journal.step == Step::Reserve && making.journal.back.is_none() {
            // Where it was written down it is done.
            if let Err(error) = self.points.reach("reserve.after").await {
                making.journal.turn_back(Step::Reserve, error, false);
            } else {
                self.go_on(making, Step::Tree).await?;
            }
        } else if making.journal.taken_up > 0 {
            self.save(making, Vec::new()).await?;
        }
        let mut pause = AGAIN.0;
        loop {
            if self.stop.is_cancelled() {
                return Err(leaving());
            }
            let world = self.look(making).await;
            match next(&making.journal, world) {
                Next::Do(step) => match self.step(making, step).await {
                    Ok(()) if step == Step::Announce => return Ok(()),
                    Ok(()) => {
                        let following = step.next().unwrap_or(Step::Announce);
                        self.go_on(making, following).await?;
                    }
                    Err(failed) if is_leaving(&failed.why) || self.stop.is_cancelled() => {
                        return Err(failed.why);
                    }
                    Err(failed) => self.turn_back(making, step, failed).await,
                },
                Next::TurnBack => {
                    let times = making.journal.taken_up;
                    let why = format!(
                        "the making of {} was taken up {times} times and never ended",
                        making.agent()
                    );
                    let step = making.journal.step;
                    self.turn_back(making, step, Failed { why: RpcError::internal(why), blank: false }).await;
                }
                Next::Undo(step) => {
                    let undone = self.undo(making, step, false).await;
                    if self.took_back(making, step, undone, &mut pause).await? {
                        return Ok(());
                    }
                }
                Next::Clear { ran } => {
                    let undone = self.undo(making, Step::Tree, ran).await;
                    if self.took_back(making, Step::Tree, undone, &mut pause).await? {
                        return Ok(());
                    }
                }
                Next::Wait(why) => self.pause(making, why, &mut pause).await?,
                Next::Finish => return self.keep(making).await,
            }
        }
    }

    /// The next step is written down.
    async fn go_on(&self, making: &mut Making, step: Step) -> Result<(), RpcError> {
        making.journal.step = step;
        let resumed = making.journal.taken_up > 0;
        let data = json!({ "step": step, "resumed": resumed });
        let event = self.event(kind::POLECAT_SPAWNING, &making.row, &making.journal, data);
        making.progress.send_replace(Progress::At(step));
        match self.save(making, vec![Write::Event(event)]).await {
            Err(error) if is_leaving(&error) => Err(error),
            // What cannot be written down is not begun.
            Err(error) => {
                let before = Step::ALL.into_iter().rev().find(|other| *other < step).unwrap_or(step);
                self.turn_back(making, before, Failed { why: error, blank: false }).await;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn save(&self, making: &Making, mut also: Vec<Write>) -> Result<(), RpcError> {
        let row = PolecatRow { journal: encoded(&making.journal)?, ..making.row.clone() };
        also.insert(0, Write::Polecat(PolecatWrite::Set(row)));
        let events = self.handle.ledger().commit(also).await.map_err(|error| ledger_error(&error))?;
        self.bus.publish(events);
        Ok(())
    }

    /// From now on it is taken back. The next daemon need not know: it would go on, fail as well, and come here.
    async fn turn_back(&self, making: &mut Making, step: Step, failed: Failed) {
        let agent = making.agent();
        tracing::warn!(%agent, step = step.as_str(), error = %failed.why, "no worker comes of it: it is taken back");
        making.journal.turn_back(step, failed.why, failed.blank);
        if let Err(error) = self.handle.close(&agent, Closed::Making).await {
            tracing::warn!(%agent, %error, "nothing bars a start of what is taken back");
        }
        if let Err(error) = self.save(making, Vec::new()).await {
            tracing::warn!(%agent, %error, "that a spawn is taken back is not written down");
        }
    }

    /// Notes what became of taking back a step; true when that was the last of it.
    async fn took_back(
        &self,
        making: &mut Making,
        step: Step,
        undone: Result<(), Undoing>,
        pause: &mut Duration,
    ) -> Result<bool, RpcError> {
        match undone {
            Ok(()) => {
                making.journal.undone(step);
                *pause = AGAIN.0;
                if step == Step::Reserve {
                    return Ok(true);
                }
            }
            Err(Undoing::Kept(why)) => making.journal.keep(&why),
            Err(Undoing::Later(error)) if is_leaving(&error) => return Err(error),
            Err(Undoing::Later(error)) => {
                let again = making.journal.back.as_ref().is_some_and(|back| back.stuck.contains_key(&step));
                making.journal.put_off(step, error.to_string());
                let first = making.journal.back.as_ref().and_then(|back| back.left.first());
                // Where something else can go on, that goes first.
                if again || first == Some(&step) {
                    self.pause(making, &error.to_string(), pause).await?;
                }
            }
        }
        // It is true whether it can be written down or not.
        if let Err(error) = self.save(making, Vec::new()).await {
            if is_leaving(&error) {
                return Err(error);
            }
            tracing::warn!(agent = %making.agent(), %error, "how far a spawn is taken back is not written down");
        }
        Ok(false)
    }

    /// Nothing can be done now: whoever waits is told, and it is tried again.
    pub(super) async fn pause(
        &self,
        making: &mut Making,
        why: &str,
        pause: &mut Duration,
    ) -> Result<(), RpcError> {
        let agent = making.agent();
        if let Some(back) = &making.journal.back {
            let left: Vec<&str> = back.left.iter().map(|step| step.as_str()).collect();
            let error = back.why.clone().with("left", left);
            making.progress.send_replace(Progress::Ended(Err(Box::new(error))));
        }
        self.handle
            .raise(Alert {
                key: alert_key(&agent),
                since: self.handle.wall(),
                severity: Severity::Warning,
                message: format!(
                    "what was made for {agent}, whose spawn failed, cannot be taken back yet: {why}"
                ),
                hint: Some(format!("gtctl events --agent {agent} --kind 'polecat.*'")),
            })
            .await;
        tokio::select! {
            () = self.stop.cancelled() => Err(leaving()),
            () = tokio::time::sleep(*pause) => {
                *pause = (*pause * 2).min(AGAIN.1);
                Ok(())
            }
        }
    }

    /// What is seen of the worker's agent.
    async fn look(&self, making: &Making) -> World {
        let doubt = self.doubt && making.journal.taken_up > 0;
        let shown = self.handle.view().agent(&making.agent());
        let agent = match shown.map(|shown| (shown.running, shown.state)) {
            None | Some((false, State::Stopped)) if making.journal.back.is_none() => Agent::Never,
            None | Some((false, State::Stopped)) => self.ran(making).await,
            Some((false, State::Unknown)) => Agent::Unknown,
            Some(_) => Agent::Alive,
        };
        World { agent, doubt }
    }

    /// Whether a process of the agent was there since its name was reserved. What cannot be told may have been.
    async fn ran(&self, making: &Making) -> Agent {
        let exits = self.handle.ledger().exits(Some(making.agent()), Some(EXITS)).await;
        let never = exits.is_ok_and(|exits| {
            exits.iter().all(|exit| exit.pid.is_none() || exit.ended_at < making.row.made_at)
        });
        if never { Agent::Never } else { Agent::Gone }
    }

    // Forwards.

    async fn step(&self, making: &mut Making, step: Step) -> Result<(), Failed> {
        let name = step.as_str();
        // Nothing was done yet.
        self.points.reach(&format!("{name}.before")).await.map_err(|why| Failed { why, blank: true })?;
        match step {
            Step::Reserve => {}
            Step::Tree => self.make_tree(making).await?,
            Step::Hook => self.hook(making).await?,
            Step::Start => self.start(making).await?,
            // With it the making is over: nothing may fail after it.
            Step::Announce => return self.announce(making).await.map_err(Failed::from),
        }
        self.points.reach(&format!("{name}.after")).await.map_err(Failed::from)
    }

    async fn make_tree(&self, making: &mut Making) -> Result<(), Failed> {
        let new = making.tree()?;
        if making.journal.taken_up > 0 {
            // An earlier daemon may have made it, whole or in part.
            if self.trees.is_made(&new).await.map_err(RpcError::from)? {
                return Ok(());
            }
            match self.trees.undo(&new, self.doubt).await {
                Ok(_) => {}
                // It is what was to be let go of.
                Err(TreeError::Exists(_)) if making.journal.wish.repair => {}
                Err(error) => return Err(Failed { why: error.into(), blank: true }),
            }
        }
        if making.journal.wish.repair {
            self.let_go_of_leftover(making).await?;
        }
        // What fails is taken back where it fails.
        let added = self.trees.add(&new).await.map_err(|error| Failed { why: error.into(), blank: false })?;
        making.journal.notes.remarks.extend(added.notes);
        Ok(())
    }

    /// What an earlier worker of that name has is kept, then let go of. Looked at once more: it may have been worked in
    /// since it was asked about.
    async fn let_go_of_leftover(&self, making: &mut Making) -> Result<(), Failed> {
        let gate = if making.journal.wish.force { Gate::Forced } else { Gate::Pushed };
        let (rig, name) = (&making.row.rig, &making.row.name);
        match self.trees.remove(rig, name, gate, self.handle.wall()).await {
            Ok(removed) => {
                let kept = removed.archived.into_iter().map(|kept| kept.name);
                let aside = removed.aside.map(|path| path.to_string_lossy().into_owned());
                making.journal.notes.archived.extend(kept.chain(aside));
                Ok(())
            }
            Err(TreeError::Absent { .. }) => Ok(()),
            // Nothing of this making is there yet.
            Err(error) => Err(Failed { why: error.into(), blank: true }),
        }
    }

    async fn hook(&self, making: &mut Making) -> Result<(), Failed> {
        let Some(work) = making.row.work.clone() else { return Ok(()) };
        let force = making.journal.wish.force;
        match self.desk.hook(&making.agent(), &work, force, &making.by()).await {
            Ok(_) => Ok(()),
            Err(WorkError::Unknown(why)) if force => {
                making.journal.notes.unhooked = Some(why.to_string());
                Ok(())
            }
            Err(error) => {
                // What a store did not say may have been done all the same.
                let blank = !matches!(error, WorkError::Unknown(_));
                Err(Failed { why: error.into(), blank })
            }
        }
    }

    async fn start(&self, making: &mut Making) -> Result<(), Failed> {
        let agent = making.agent();
        self.handle.enlist(&agent).await.map_err(|why| Failed { why, blank: true })?;
        self.handle.open(&agent).await.map_err(|why| Failed { why, blank: true })?;
        let wish = &making.journal.wish;
        let ask = Ask { by: wish.by.clone(), reason: wish.reason.clone(), wait: Wait::ToTheEnd };
        let mut result = Ok(());
        for _ in 0..STARTS {
            let overrides = wish.overrides.clone();
            let request = Request::StartMade { agent: agent.clone(), overrides, ask: ask.clone() };
            result = self.handle.change(&agent, request).await.map(drop);
            let Err(error) = &result else { return Ok(()) };
            if error.kind != ErrorKind::Timeout {
                break;
            }
            if error.data.get("reached").is_some_and(|reached| reached == "alive" || reached == "paused") {
                // It runs, and is not ended for being slow, or it will when its pause is over.
                making.journal.notes.unconfirmed = Some(error.clone());
                return Ok(());
            }
        }
        result.map_err(Failed::from)
    }

    /// The worker is there, and everybody may know: one commit, so that it is told once.
    async fn announce(&self, making: &mut Making) -> Result<(), RpcError> {
        let agent = making.agent();
        // Where an earlier daemon started it, this one has closed it again.
        self.handle.open(&agent).await?;
        let row = PolecatRow { state: PolecatState::Ready, journal: None, ..making.row.clone() };
        self.handle.belongs(&agent, Some(belongings(&row, None)));
        let shown = self.handle.view().agent(&agent);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let mut data = json!({
            "agent_preset": shown.as_ref().map(|shown| &shown.agent_preset),
            "account": shown.as_ref().and_then(|shown| shown.account.as_ref()),
            "duration_ms": millis(making.began.elapsed()),
        });
        // What is as usual is not told.
        let notes = serde_json::to_value(&making.journal.notes).unwrap_or_default();
        if let (Some(data), Some(notes)) = (data.as_object_mut(), notes.as_object()) {
            data.extend(notes.clone());
        }
        let event = self.event(kind::POLECAT_SPAWNED, &row, &making.journal, data);
        let mut writes = vec![Write::Polecat(PolecatWrite::Set(row)), Write::Event(event)];
        if let (Some(key), Some(agent)) = (&making.journal.wish.key, shown) {
            // A request with this key may come again, to a daemon that has forgotten all else.
            let change = Change {
                agent,
                already: false,
                accepted: false,
                dry_run: false,
                plan: Vec::new(),
                survivors: Vec::new(),
            };
            if let Ok(answer) = serde_json::to_value(change) {
                let (key, method) = (key.clone(), METHOD.to_owned());
                writes.push(Write::Answer { key, method, answer, at: self.handle.wall() });
            }
        }
        let events = self.handle.ledger().commit(writes).await.map_err(|error| ledger_error(&error))?;
        self.bus.publish(events);
        Ok(())
    }
}

/// The method that a kept answer is of.
pub const METHOD: &str = "polecat.spawn";

/// A step that failed.
struct Failed {
    why: RpcError,
    /// It surely did nothing.
    blank: bool,
}

impl From<RpcError> for Failed {
    fn from(why: RpcError) -> Self {
        Self { why, blank: false }
    }
}

fn alert_key(agent: &Address) -> String {
    format!("polecat:{agent}")
}

/// The error that whoever asked gets.
fn refusal(making: &Making) -> RpcError {
    let Some(back) = &making.journal.back else { return RpcError::internal("no worker was made") };
    let mut error = back.why.clone().with("step", back.failed);
    if !making.journal.notes.archived.is_empty() {
        error = error.with("archived", &making.journal.notes.archived);
    }
    match (&back.kept, &making.row.worktree) {
        (Some(why), Some(worktree)) => {
            let agent = making.agent();
            error.with("worktree", worktree).with("kept", why).hint(format!(
                "its worktree {worktree} was kept; when it is not needed: gtctl polecat remove {agent}"
            ))
        }
        _ => error,
    }
}
