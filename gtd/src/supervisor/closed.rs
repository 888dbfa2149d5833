//! Workers that are being made or removed: closed to everybody's start but their maker's own.
//!
//! Pure. It outlives that a worker is forgotten, and seen again by its directory, while that is being kept and
//! removed. Not written down: whoever goes on with a making or a removal after a restart of the daemon closes it anew.

use gtd_proto::{Address, ErrorKind, RpcError, Timestamp};

use super::core::Core;
use super::handle::Handle;
use super::planner::Blocked;
use super::requests::Request;
use super::rigs::barred;
use super::turn::{Answer, Ticket, Turn};

/// What is under way with a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is being made, or what was made of it is being taken back.
    Making,
    /// It is being removed.
    Removing,
}

impl Closed {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Making => "being made",
            Self::Removing => "being removed",
        }
    }
}

/// The refusal that starts, work and text for such a worker meet.
#[must_use]
pub fn refusal(agent: &Address, closed: Closed) -> RpcError {
    RpcError::new(ErrorKind::Busy, format!("{agent} is {}", closed.words()))
        .hint(format!("gtctl events -f --agent {agent}"))
        .with("reason", closed.words())
}

/// Why an agent may not be started, if that is why.
pub(super) fn bar(agent: &Address, closed: Option<Closed>) -> Result<(), Blocked> {
    closed.map_or(Ok(()), |closed| {
        let (reason, error) = (format!("it is {}", closed.words()), refusal(agent, closed));
        Err(Blocked { reason, error, shortage: None })
    })
}

impl Core {
    /// Closes a worker, or opens it again. What runs of it runs on.
    pub(super) fn close(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        closed: Option<Closed>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(closed) = closed else {
            if self.closed.remove(agent).is_some() {
                // What should run and was kept from it need not wait for the next round.
                self.each(agent, now, turn, super::machine::Machine::reconcile);
            }
            return Self::reply(turn, ticket, super::workers::DONE);
        };
        // Nothing is begun in a rig that is on its way out.
        let out = agent.rig().and_then(|rig| {
            let leaves = self.rigs.get(rig).filter(|record| record.removing.is_some());
            let facts = self.facts.rigs.get(rig)?;
            barred(agent, rig, facts, Some(leaves?))
        });
        let answer = match out {
            Some(blocked) => Answer::Failed(Box::new(blocked.error)),
            None => {
                self.closed.insert(agent.clone(), closed);
                super::workers::DONE
            }
        };
        Self::reply(turn, ticket, answer);
    }
}

impl Handle {
    /// Closes a worker to everybody's start until it is opened, or forgotten as made.
    ///
    /// # Errors
    /// `busy` when its rig is being removed; then it is not closed.
    pub async fn close(&self, agent: &Address, closed: Closed) -> Result<(), RpcError> {
        self.ask(Request::Close { agent: agent.clone(), closed: Some(closed) }).await.map(|_| ())
    }

    /// Opens a worker again.
    ///
    /// # Errors
    /// When the daemon goes down.
    pub async fn open(&self, agent: &Address) -> Result<(), RpcError> {
        self.ask(Request::Close { agent: agent.clone(), closed: None }).await.map(|_| ())
    }
}
