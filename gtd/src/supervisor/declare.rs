//! A person's word about an instance of which nothing can be told.
//!
//! It is taken only where nothing is proven to live, and carried out by the agent's task, which looks once more
//! and makes sure that nothing will come of the launch. Nothing is signalled.

use gtd_proto::{Address, ErrorKind, RpcError, State, Timestamp};

use super::core::Core;
use super::requests::Ask;
use super::turn::{Answer, Ticket, Turn};
use crate::agents::order::Order;

impl Core {
    pub(super) fn declare_dead(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        evidence: String,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let result = self.known(agent).and_then(|()| {
            let taken = self.each(agent, now, turn, |machine, _, turn| {
                let Some(current) = &machine.current else { return Ok(true) };
                if machine.is_alive() {
                    return Err(refused(agent, "its process is proven alive"));
                }
                if current.told {
                    return Err(refused(agent, "its end is on record; what is left of it is proven alive"));
                }
                if machine.state() != State::Unknown {
                    return Err(refused(agent, &format!("it can be observed: it is {}", machine.state())));
                }
                let order = Order::Abandon {
                    instance: current.instance.clone(),
                    evidence: format!("by {}: {evidence}", ask.by),
                };
                let why = ask.reason.as_deref().unwrap_or(&evidence);
                turn.decided(
                    agent,
                    now,
                    &format!("declared dead by {}", ask.by),
                    "believe it, after a last look",
                    why,
                );
                turn.order(agent, order);
                turn.touched(agent);
                Ok(false)
            });
            taken.unwrap_or(Ok(true))
        });
        let answer = match result {
            Ok(already) => Answer::Changed { already, accepted: !already, survivors: Vec::new() },
            Err(error) => Answer::Failed(Box::new(error)),
        };
        Self::reply(turn, ticket, answer);
    }
}

/// The error of a declaration that what is seen speaks against.
#[must_use]
pub fn refused(agent: &Address, why: &str) -> RpcError {
    RpcError::new(ErrorKind::Busy, format!("{agent} is not declared dead: {why}"))
        .hint(format!("gtctl explain {agent} --probe"))
}
