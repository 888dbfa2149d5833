//! Requests that somebody keeps a record of: its row is committed together with what the request decides, or not at
//! all. So whoever asks knows after a kill of the daemon whether it was asked for.
//!
//! Pure. It knows nothing of what the row says.

use gtd_proto::{Address, Timestamp};

use super::core::Core;
use super::requests::Request;
use super::turn::{Answer, Ticket, Turn};
use crate::ledger::Write;

/// A request with a row.
#[derive(Debug, Clone)]
pub struct Noted {
    /// What is asked for.
    pub request: Request,
    /// Whose conversation is given up with it: its next start begins a new one.
    pub fresh: Option<Address>,
    /// What is written down unless the request fails at once.
    pub note: Write,
}

impl Core {
    pub(super) fn noted(&mut self, ticket: Ticket, noted: Noted, now: Timestamp, turn: &mut Turn) {
        let Noted { request, fresh, note } = noted;
        // Before, because what is at rest is launched at once.
        let before = fresh.and_then(|agent| {
            let machine = self.agents.get_mut(&agent)?;
            let before = machine.conversation.clone();
            machine.give_up_conversation(now, turn);
            Some((agent, before))
        });
        self.carry(ticket, request, now, turn);
        let failed = |(of, answer): &(Ticket, Answer)| *of == ticket && matches!(answer, Answer::Failed(_));
        if !turn.answers.iter().any(failed) {
            return turn.writes.push(note);
        }
        if let Some((agent, before)) = before
            && let Some(machine) = self.agents.get_mut(&agent)
        {
            machine.conversation = before;
            turn.writes.retain(|write| !matches!(write, Write::Conversation(of) if *of.agent() == agent));
        }
    }
}
