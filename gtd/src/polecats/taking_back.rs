//! Taking back what a making did, step by step from its end.
//!
//! Each can be done twice with the same end as once, and says whether it is done, must stay, or is to be tried again.
//! Must never remove a worktree in which somebody did something, nor end anything by more than the stop that anybody
//! may ask for.

use gtd_proto::event::kind;
use gtd_proto::{ErrorKind, RpcError};
use serde_json::json;

use super::TreeError;
use super::making::{AGAIN, Making};
use super::saga::{Step, is_leaving};
use super::spawn::{Spawner, belongings, ledger_error};
use crate::ledger::{PolecatRow, PolecatState, PolecatWrite, Write};
use crate::supervisor::requests::{Ask, How, Request, Wait};
use crate::work::{By, WorkError, assignee};

/// A step that was not taken back.
pub(super) enum Undoing {
    /// It must stay: the worktree has something in it.
    Kept(String),
    /// It could not be, now.
    Later(RpcError),
}

impl Spawner {
    pub(super) async fn undo(&self, making: &mut Making, step: Step, ran: bool) -> Result<(), Undoing> {
        let name = step.as_str();
        self.points.reach(&format!("{name}.undo.before")).await.map_err(Undoing::Later)?;
        match step {
            Step::Announce => {}
            Step::Start => self.end(making).await?,
            Step::Hook => self.unhook(making).await.map_err(Undoing::Later)?,
            Step::Tree => self.clear(making, ran).await?,
            Step::Reserve => self.release(making).await.map_err(Undoing::Later)?,
        }
        self.points.reach(&format!("{name}.undo.after")).await.map_err(Undoing::Later)
    }

    async fn end(&self, making: &Making) -> Result<(), Undoing> {
        let agent = making.agent();
        if self.handle.view().agent(&agent).is_none() {
            return Ok(());
        }
        let ask = Ask {
            // Nobody's wish: whoever comes later finds it as if it had never been wanted.
            by: "supervisor".to_owned(),
            reason: Some("its spawn failed".to_owned()),
            wait: Wait::ToTheEnd,
        };
        let how = How { now: true, force: false };
        match self.handle.change(&agent, Request::Stop { agent: agent.clone(), how, ask }).await {
            Ok(change) if change.survivors.is_empty() => Ok(()),
            Ok(change) => {
                let many = change.survivors.len();
                let text =
                    format!("{many} of its processes could not be ended: {}", change.survivors.join(", "));
                Err(Undoing::Later(RpcError::new(ErrorKind::Busy, text)))
            }
            Err(error) if matches!(error.kind, ErrorKind::AgentNotFound | ErrorKind::RigNotFound) => Ok(()),
            Err(error) => Err(Undoing::Later(error)),
        }
    }

    /// Takes the work off its hook, and gives it back to whoever had it.
    async fn unhook(&self, making: &Making) -> Result<(), RpcError> {
        let Some(work) = &making.row.work else { return Ok(()) };
        let (agent, by) = (making.agent(), By { reason: Some("the spawn failed".to_owned()), ..making.by() });
        let item = match self.desk.item(work).await {
            Ok((item, _)) => item,
            Err(WorkError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if item.hook().as_ref() != Some(&agent) {
            return Ok(());
        }
        self.desk.unhook(&agent, &by).await?;
        let before = making.journal.notes.taken_from.as_deref().and_then(assignee);
        if let Some(holder) = before
            && let Err(error) = self.desk.hook(&holder, work, false, &by).await
        {
            tracing::warn!(%agent, %holder, %work, %error, "the work is open: who had it before does not get it back");
        }
        Ok(())
    }

    async fn clear(&self, making: &Making, ran: bool) -> Result<(), Undoing> {
        let new = making.tree().map_err(Undoing::Later)?;
        match self.trees.undo(&new, ran).await {
            Ok(_) => Ok(()),
            Err(error @ (TreeError::Work { .. } | TreeError::Unknown { .. } | TreeError::Exists(_))) => {
                Err(Undoing::Kept(error.to_string()))
            }
            // Without its repository nothing of it can be told from anything else.
            Err(error @ TreeError::NoRepository { .. }) => Err(Undoing::Kept(error.to_string())),
            Err(error) => Err(Undoing::Later(error.into())),
        }
    }

    /// Lets go of the name, and tells what became of the spawn: one commit.
    async fn release(&self, making: &Making) -> Result<(), RpcError> {
        let agent = making.agent();
        let ask = Ask { by: "supervisor".to_owned(), reason: None, wait: Wait::No };
        match self.handle.dismiss(&agent, ask).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind, ErrorKind::AgentNotFound | ErrorKind::RigNotFound) => {}
            Err(error) => return Err(error),
        }
        // Before its name is free: whoever has it next closes it.
        self.handle.open(&agent).await?;
        let forget = PolecatWrite::Forget { rig: making.row.rig.clone(), name: making.row.name.clone() };
        let writes = vec![Write::Polecat(forget), self.failure(making)];
        let events = self.handle.ledger().commit(writes).await.map_err(|error| ledger_error(&error))?;
        self.bus.publish(events);
        self.handle.belongs(&agent, None);
        Ok(())
    }

    /// What is left is a worktree with something in it: it keeps its name.
    pub(super) async fn keep(&self, making: &mut Making) -> Result<(), RpcError> {
        let row = PolecatRow { state: PolecatState::Abandoned, journal: None, ..making.row.clone() };
        let mut pause = AGAIN.0;
        self.handle.open(&making.agent()).await?;
        loop {
            let writes = vec![Write::Polecat(PolecatWrite::Set(row.clone())), self.failure(making)];
            match self.handle.ledger().commit(writes).await {
                Ok(events) => {
                    self.bus.publish(events);
                    let note = "its spawn failed, and its worktree was kept".to_owned();
                    self.handle.belongs(&making.agent(), Some(belongings(&row, Some(note))));
                    return Ok(());
                }
                Err(error) => {
                    let error = ledger_error(&error);
                    if is_leaving(&error) {
                        return Err(error);
                    }
                    self.pause(making, &error.to_string(), &mut pause).await?;
                }
            }
        }
    }

    fn failure(&self, making: &Making) -> Write {
        let back = making.journal.back.as_ref();
        let kept = back.and_then(|back| back.kept.as_ref());
        let data = json!({
            "step": back.map(|back| back.failed),
            "error": back.map(|back| &back.why),
            "kept": kept.and(making.row.worktree.as_ref()),
            "why_kept": kept,
            "archived": making.journal.notes.archived,
        });
        Write::Event(self.event(kind::POLECAT_SPAWN_FAILED, &making.row, &making.journal, data))
    }
}
