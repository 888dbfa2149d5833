//! What is asked of the whole town: stop everything and keep it so, or lift that and start what should run.

use std::collections::BTreeSet;

use gtd_proto::{ErrorKind, Intent, RpcError, Timestamp};

use super::core::{Core, OBSERVING};
use super::machine::{Phase, Then};
use super::moves::End;
use super::requests::{Ask, How};
use super::throttle::Asker;
use super::turn::{Ticket, Turn};
use super::waiting::{Awaited, outcome_of};
use crate::ledger::{HoldRow, Write};

impl Core {
    pub(super) fn town_stop(&mut self, ticket: Ticket, how: How, ask: &Ask, now: Timestamp, turn: &mut Turn) {
        if self.hold.is_none() {
            let hold = HoldRow { by: ask.by.clone(), reason: ask.reason.clone(), at: now };
            turn.writes.push(Write::Hold(Some(hold.clone())));
            turn.hold(true, &ask.by, now);
            self.hold = Some(hold);
        }
        let mut open = BTreeSet::new();
        let mut items = Vec::new();
        for agent in self.agents.keys().cloned().collect::<Vec<_>>() {
            let at_rest = self.each(&agent, now, turn, |machine, situation, turn| {
                machine.call_off("the town was stopped", turn);
                let end = End {
                    now: how.now,
                    force: how.force,
                    ..End::new(Then::Rest, &ask.by, "the town is stopped")
                };
                machine.stop(end, situation, turn)
            });
            match at_rest.flatten() {
                Some(already) => items.push(outcome_of(&agent, Ok(already))),
                None => {
                    open.insert(agent);
                }
            }
        }
        self.wait_for_town(ticket, Awaited::Stopped, open, items, ask.wait, turn);
    }

    pub(super) fn town_start(&mut self, ticket: Ticket, ask: &Ask, now: Timestamp, turn: &mut Turn) {
        if std::mem::take(&mut self.observing) {
            turn.writes.push(Write::Fact { key: OBSERVING.to_owned(), value: None });
            // One that could not be read is over with that.
            self.keep_pauses(turn);
        }
        if self.hold.take().is_some() {
            turn.writes.push(Write::Hold(None));
            turn.hold(false, &ask.by, now);
        }
        self.reconcile_all(now, turn);
        let mut open = BTreeSet::new();
        let mut items = Vec::new();
        for agent in self.agents.keys().cloned().collect::<Vec<_>>() {
            self.each(&agent, now, turn, |machine, situation, turn| {
                let may = machine.may_start(situation, Asker::Policy).is_ok();
                match &mut machine.phase {
                    // Being ended, by the hold that was lifted just now or for a start that it called off.
                    Phase::Ending { then } | Phase::Draining { then, .. }
                        if machine.wish.intent == Intent::Running && may =>
                    {
                        *then = Then::Start;
                        turn.touched(&machine.address);
                    }
                    _ => {}
                }
            });
        }
        for machine in self.agents.values() {
            match &machine.phase {
                Phase::Running => items.push(outcome_of(&machine.address, Ok(true))),
                Phase::Starting { .. }
                | Phase::Adopting
                | Phase::Ending { then: Then::Start }
                | Phase::Draining { then: Then::Start, .. } => {
                    open.insert(machine.address.clone());
                }
                // Rigs that are set aside are so on purpose. A tmux that cannot be used is on nobody's.
                Phase::Rest if machine.wish.intent == Intent::Running => {
                    if let Some(why) = self.tmux_trouble() {
                        let error = RpcError::new(ErrorKind::TmuxUnavailable, why).hint("gtctl status");
                        items.push(outcome_of(&machine.address, Err(error)));
                    }
                }
                _ => {}
            }
        }
        self.wait_for_town(ticket, Awaited::Started, open, items, ask.wait, turn);
    }
}
