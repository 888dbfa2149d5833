//! From a request that was written down to its outcome and its answer. Each step is found again after a kill of the
//! daemon, and is then gone on with or left alone, never done twice.

use std::time::Duration;

use gtd_proto::lifecycle::{LifecycleAction, LifecycleState};
use gtd_proto::mail::{DAEMON, SUBJECT_MAX};
use gtd_proto::{Address, Agent, ErrorKind, Intent, Timestamp};

use super::effect::{Next, Outcome, failed, judge};
use super::{AGAIN, Clerk};
use crate::host::drill;
use crate::ledger::{LedgerError, LifecycleRow, LifecycleWrite, MailWrite, NewMail, Write};
use crate::mail::Mailbox;
use crate::supervisor::noted::Noted;
use crate::supervisor::policy::after;
use crate::supervisor::requests::{Ask, How, PERSON, Request, Wait};
use crate::supervisor::view::Shown;
use crate::supervisor::waiting::Awaited;

/// How long the effect may take: a turn that ends, a polite end, and a start.
const EFFECT: Duration = Duration::from_secs(300);
/// How long an agent may be looked for after a restart of the daemon before a request about it is given up.
const FOUND: Duration = Duration::from_secs(60);
/// Between two tries meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// How often an end that a killed daemon has taken along is asked for again.
const TRIES: u32 = 3;

/// The second of mails in which instants of other stores are kept.
const SECOND: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

fn refused(why: impl Into<String>) -> Outcome {
    (LifecycleState::Refused, Some(why.into()))
}

impl Clerk {
    /// Brings a request to its end, from wherever it stands.
    pub(super) async fn see_to(&self, mut row: LifecycleRow) {
        if row.state.is_open() {
            let Some((state, reason)) = self.outcome(&row).await else { return };
            drill::at("lifecycle.effect");
            let at = self.0.handle.wall();
            (row.state, row.reason) = (state, reason.clone());
            let outcome = LifecycleWrite::Outcome { id: row.id.clone(), state, reason, at };
            let mut writes = vec![Write::Lifecycle(Box::new(outcome))];
            // Whoever asked for itself over the socket had its answer before; what went wrong it has to be told.
            let own = row.agent.as_ref().is_some_and(|agent| agent.to_string() == row.sender);
            if own && row.mail.is_none() && state != LifecycleState::Done {
                let letter = self.letter(&row, row.sender.clone(), row.action.to_string());
                writes.push(Write::Mail(MailWrite::Send(letter)));
            }
            let outcome = writes.first().cloned();
            match self.keep(writes).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, id = row.id, "nobody could be told what became of a request");
                    let _ = self.keep(outcome.into_iter().collect()).await;
                }
            }
            drill::at("lifecycle.outcome");
        }
        if let Err(error) = self.answer(&row).await {
            tracing::warn!(%error, id = row.id, "the answer to a lifecycle mail waits");
        }
    }

    /// Tells whoever wrote the mail, and puts it aside.
    async fn answer(&self, row: &LifecycleRow) -> Result<(), String> {
        let Some(mail) = &row.mail else { return Ok(()) };
        let aside = self.0.office.aside(&mail.id).await?;
        let done = Write::Lifecycle(Box::new(LifecycleWrite::Answered { id: row.id.clone() }));
        let mut writes: Vec<Write> = aside.into_iter().chain([done]).collect();
        let rest = writes.clone();
        if !mail.reply_to.is_empty() {
            let letter = self.letter(row, mail.reply_to.clone(), mail.subject.clone());
            writes.insert(0, Write::Mail(MailWrite::Send(letter)));
        }
        match self.keep(writes).await {
            Err(LedgerError::BoxFull { whose, .. }) => {
                tracing::warn!(
                    whose,
                    id = row.id,
                    "a box is full: the answer to a lifecycle mail is left out"
                );
                self.keep(rest).await.map_err(|error| error.to_string())?;
            }
            other => other.map_err(|error| error.to_string())?,
        }
        drill::at("lifecycle.answered");
        Ok(())
    }

    fn letter(&self, row: &LifecycleRow, to: String, about: String) -> NewMail {
        let what = match &row.agent {
            Some(agent) => format!("{} of {agent}", row.action),
            None => "what you asked for".to_owned(),
        };
        let reason = row.reason.as_deref().unwrap_or_default();
        let body = match row.state {
            LifecycleState::Done if reason.is_empty() => format!("{what}: done."),
            LifecycleState::Done => format!("{what}: done; {reason}."),
            LifecycleState::Failed => format!("{what} was begun, and did not come to its end: {reason}."),
            _ => format!("{what} was refused, and nothing was done: {reason}."),
        };
        let mut subject = format!("Re: {} ({}): {about}", row.id, row.state);
        while subject.len() > SUBJECT_MAX {
            subject.pop();
        }
        NewMail {
            sender: DAEMON.to_owned(),
            via: Mailbox::of(&to).and_then(|whose| self.0.office.via(&whose)),
            recipient: to,
            subject,
            body,
            at: self.0.handle.wall(),
            key: Some(format!("lifecycle:{}", row.id)),
            incident: None,
            ours: true,
            cause: None,
            peer: None,
        }
    }

    /// What becomes of it. None when the daemon goes down before that is known.
    async fn outcome(&self, row: &LifecycleRow) -> Option<Outcome> {
        let Some(agent) = row.agent.clone().filter(|_| row.action != LifecycleAction::Unknown) else {
            return Some(refused("it is not known what was asked for"));
        };
        if row.state == LifecycleState::Accepted {
            let begun = tokio::time::Instant::now();
            loop {
                if let Some(outcome) = self.beforehand(row, &agent) {
                    return Some(outcome);
                }
                drill::at("lifecycle.claimed");
                let error = match self.0.handle.change(&agent, noted(row, &agent)).await {
                    Ok(_) => break,
                    Err(error) => error,
                };
                let adopting = error.kind == ErrorKind::Busy && !error.data.contains_key("reason");
                match error.kind {
                    ErrorKind::ShuttingDown => return None,
                    _ if adopting && begun.elapsed() < FOUND => tokio::time::sleep(LOOK).await,
                    // It was promised before the pause, which only delays it.
                    ErrorKind::RigNotOperational if self.was_paused_since(&agent, row.at) => {
                        self.end_of_pause(&agent).await;
                    }
                    _ => return Some(refused(error.message)),
                }
            }
            drill::at("lifecycle.acting");
        }
        self.effect(row, &agent).await
    }

    /// Why nothing is to be done, where that is so.
    fn beforehand(&self, row: &LifecycleRow, agent: &Address) -> Option<Outcome> {
        if matches!(agent, Address::Crew(..)) {
            return Some(refused(format!("{agent} belongs to a person")));
        }
        let Some(shown) = self.0.handle.view().agent(agent) else {
            return Some(refused(format!("there is no agent {agent}")));
        };
        if row.action == LifecycleAction::Shutdown {
            return None;
        }
        let anew = "it was begun anew since that was asked for";
        // What an instance asked for is over with it.
        if shown.instance != row.instance || begun_since(&shown, row.at) {
            return Some((LifecycleState::Done, Some(anew.to_owned())));
        }
        if row.sender != PERSON && shown.intent == Intent::Stopped && shown.intent_by == PERSON {
            return Some(refused(format!("a person stopped {agent}")));
        }
        let dir = crate::town::rigs::workdir(&self.0.layout, agent);
        if matches!(agent, Address::Polecat(..)) && !dir.is_dir() {
            return Some(refused(format!("its directory {} is not there", dir.display())));
        }
        None
    }

    /// Waits for the effect of what was committed. An end that was under way when the daemon was killed is not known
    /// to the next one: the instance that it was to end lives on, and is asked for once more.
    async fn effect(&self, row: &LifecycleRow, agent: &Address) -> Option<Outcome> {
        let handle = &self.0.handle;
        let awaited = match row.action {
            LifecycleAction::Shutdown => Awaited::Stopped,
            _ => Awaited::Started,
        };
        let mut tries = 0;
        while tries < TRIES {
            let wait = Wait::Until(after(handle.now(), EFFECT));
            let waiting = Request::Wait { agent: Some(agent.clone()), awaited, wait };
            let waited = handle.change(agent, waiting).await;
            let waited = waited.map(|change| change.survivors.len());
            match judge(row, agent, handle.view().agent(agent).as_ref(), &waited) {
                Next::Leave => return None,
                Next::Is(outcome) => return Some(outcome),
                Next::AfterPause => {
                    self.end_of_pause(agent).await;
                    continue;
                }
                Next::Ask => tries += 1,
            }
            match handle.change(agent, request(row, agent)).await {
                Err(error) if error.kind == ErrorKind::ShuttingDown => return None,
                Err(error) if error.kind == ErrorKind::Busy => tokio::time::sleep(AGAIN).await,
                // A pause has come just now.
                Err(error)
                    if error.kind == ErrorKind::RigNotOperational && self.was_paused_since(agent, row.at) =>
                {
                    self.end_of_pause(agent).await;
                }
                Err(error) => return Some(failed(&error)),
                Ok(_) => {}
            }
        }
        Some((LifecycleState::Failed, Some("it was asked for, and goes on as it was".to_owned())))
    }
}

impl Clerk {
    /// It is paused, and was not when that was asked for.
    fn was_paused_since(&self, agent: &Address, asked: Timestamp) -> bool {
        let asked = self.0.handle.on_line(asked);
        let since = |shown: &Shown| shown.heard.get(agent)?.stood.since();
        self.0.handle.view().read(since).is_some_and(|since| since >= asked)
    }

    /// Waits until it is paused no more, however long that takes.
    async fn end_of_pause(&self, agent: &Address) {
        let paused = || self.0.handle.view().agent(agent).is_some_and(|shown| shown.pause.is_some());
        loop {
            tokio::time::sleep(AGAIN).await;
            if !paused() {
                return;
            }
        }
    }
}

/// The present instance began after an instant. Other stores keep whole seconds.
fn begun_since(shown: &Agent, at: Timestamp) -> bool {
    let asked = at.checked_add(SECOND).unwrap_or(at);
    shown.running && shown.started_at.is_some_and(|began| began > asked)
}

/// What is asked of the supervisor. Nobody waits for it there.
fn request(row: &LifecycleRow, agent: &Address) -> Request {
    let reason = row.why.clone().unwrap_or_else(|| format!("{} was asked for ({})", row.action, row.id));
    let ask = Ask { by: row.sender.clone(), reason: Some(reason), wait: Wait::No };
    let (agent, how) = (agent.clone(), How::default());
    match row.action {
        LifecycleAction::Shutdown => Request::Stop { agent, how, ask },
        _ => Request::Restart { agent, overrides: None, how, ask },
    }
}

/// The same, with the word that it was asked for.
fn noted(row: &LifecycleRow, agent: &Address) -> Request {
    Request::Noted(Box::new(Noted {
        request: request(row, agent),
        fresh: (row.action == LifecycleAction::Cycle).then(|| agent.clone()),
        note: Write::Lifecycle(Box::new(LifecycleWrite::Acting { id: row.id.clone() })),
    }))
}
