//! What is asked of a rig as a whole, and what a change of its standing leads to.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::event::kind;
use gtd_proto::town::{Alert, Severity};
use gtd_proto::{Address, ErrorKind, Intent, RigName, Role, RpcError, Timestamp};
use serde_json::{Value, json};

use super::core::Core;
use super::machine::{Machine, Phase, Then};
use super::requests::{Ask, Wait};
use super::rigs::{BY_FILE, FileState, Mark, Record, Sight, Told, unknown_rig};
use super::throttle::Asker;
use super::turn::{Answer, Ticket, Turn};
use super::view::alert;
use super::waiting::{Awaited, outcome_of};
use super::workers::is_still;
use crate::ledger::{NewEvent, Write};
use crate::town::wisp_edit::Edit;

/// Names of the ledger's facts about rigs begin so.
const RECORD: &str = "rig:";

/// What is asked of a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RigAsk {
    /// Set it aside on this machine.
    Park,
    /// The end of that.
    Unpark,
    /// Set it aside for good.
    Dock,
    /// The end of that.
    Undock,
    /// End what runs of it, then take it out of the registry and forget it.
    Remove,
    /// Keep it after all.
    Keep,
}

/// A file that must be written for a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Its state file.
    State(Edit),
    /// The registry, without the rig.
    Unregister,
}

impl Core {
    /// Takes up what the ledger remembers of the rigs.
    pub fn recall_rigs(&mut self, facts: &BTreeMap<String, Value>) {
        for (key, value) in facts {
            let Some(Ok(rig)) = key.strip_prefix(RECORD).map(RigName::new) else { continue };
            // What is not understood bars starts, and ends nothing.
            let record = serde_json::from_value(value.clone())
                .unwrap_or_else(|_| Record { unreadable: true, ..Record::default() });
            self.rigs.insert(rig, record);
        }
    }

    /// What must be written into files for the rigs.
    #[must_use]
    pub fn chores(&self) -> Vec<(RigName, Chore)> {
        let mut chores = Vec::new();
        for (rig, record) in &self.rigs {
            chores.extend(record.edit.map(|edit| (rig.clone(), Chore::State(edit))));
            let registered = self.facts.rigs.contains_key(rig);
            if record.removing.is_some() && registered && self.of_rig(rig).all(is_still) {
                chores.push((rig.clone(), Chore::Unregister));
            }
        }
        chores
    }

    fn of_rig<'a>(&'a self, rig: &'a RigName) -> impl Iterator<Item = &'a Machine> {
        self.agents.values().filter(move |machine| machine.address.rig() == Some(rig))
    }

    pub(super) fn ask_rig(
        &mut self,
        ticket: Ticket,
        rig: &RigName,
        what: RigAsk,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let registered = self.facts.rigs.contains_key(rig);
        let left_over = matches!(what, RigAsk::Remove | RigAsk::Keep) && self.of_rig(rig).next().is_some();
        if !registered && !left_over {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(unknown_rig(rig, &self.facts))));
        }
        if what == RigAsk::Remove
            && let Some(error) = self.in_the_way(rig)
        {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let file = self.facts.rigs.get(rig).map(|facts| facts.file).unwrap_or_default();
        let record = self.rigs.entry(rig.clone()).or_default();
        let before = record.clone();
        let mark = Mark { by: ask.by.clone(), reason: ask.reason.clone(), at: now };
        match what {
            RigAsk::Park => record.park(mark, file),
            RigAsk::Unpark => record.unpark(file),
            RigAsk::Dock => record.dock(mark),
            RigAsk::Undock => record.undock(file),
            RigAsk::Remove => drop(record.removing.get_or_insert(mark)),
            RigAsk::Keep => record.removing = None,
        }
        let already = *record == before;
        if !already {
            // Whatever the difference is, it is written down before anything follows from it.
            turn.writes.push(record_write(rig, record));
        }
        self.settle_rigs(Some((rig, ask)), now, turn);
        let freed = matches!(what, RigAsk::Unpark | RigAsk::Undock | RigAsk::Keep);
        let agents = self.bring_into_line(rig, freed, now, turn);
        Self::reply(turn, ticket, Answer::Rig { already, agents });
    }

    /// Why a rig cannot be removed now: something of it runs that a removal does not end.
    fn in_the_way(&self, rig: &RigName) -> Option<RpcError> {
        let standing = |agent: &Address| matches!(agent.role(), Role::Witness | Role::Refinery);
        let running: Vec<String> = self
            .of_rig(rig)
            .filter(|machine| !standing(&machine.address) && !is_still(machine))
            .map(|machine| machine.address.to_string())
            .collect();
        let under_way = self.closed.iter().find(|(agent, _)| agent.rig() == Some(rig));
        if let Some((agent, closed)) = under_way {
            let text = format!("rig {rig} cannot be removed: {agent} is {}", closed.words());
            let error = RpcError::new(ErrorKind::Busy, text);
            return Some(error.hint(format!("gtctl events -f --agent {agent}")));
        }
        let first = running.first()?;
        let error = RpcError::new(ErrorKind::Busy, format!("rig {rig} cannot be removed: {first} is there"))
            .hint(format!("gtctl status {rig}; stop them first"));
        Some(error.with("running", running))
    }

    /// Ends or starts what follows from a rig's new standing; those with which something is under way now.
    fn bring_into_line(
        &mut self,
        rig: &RigName,
        freed: bool,
        now: Timestamp,
        turn: &mut Turn,
    ) -> BTreeSet<Address> {
        let mut agents = BTreeSet::new();
        let standing = [Address::Witness(rig.clone()), Address::Refinery(rig.clone())];
        // Workers go on running in a rig that is set aside, and come back with it.
        let mut workers: Vec<Address> =
            self.of_rig(rig).map(|m| m.address.clone()).filter(|a| a.role() == Role::Polecat).collect();
        workers.sort_by_cached_key(|agent| (self.urgency(agent), agent.clone()));
        for agent in standing.into_iter().chain(workers) {
            turn.touched(&agent);
            self.each(&agent, now, turn, |machine, situation, turn| {
                let still = is_still(machine);
                machine.reconcile(situation, turn);
                // What somebody has started comes back with the rig also where policy looks after nobody.
                let left = freed && machine.phase == Phase::Rest && machine.is_asked_for();
                let may =
                    situation.incident.is_none() && machine.may_start(situation, Asker::Program).is_ok();
                if left && may {
                    machine.start_or_rest_for(Asker::Program, "its rig may run again", situation, turn);
                }
                let worker = machine.address.role() == Role::Polecat;
                let begun = !is_still(machine);
                // A worker that ran before goes on as it is.
                let affected = if worker { begun && still } else { begun || !still };
                if affected {
                    agents.insert(agent.clone());
                }
            });
        }
        agents
    }

    /// Waits until agents of a rig are where its standing wants them: ended, or started again.
    pub(super) fn await_rig(
        &mut self,
        ticket: Ticket,
        rig: &RigName,
        agents: &BTreeSet<Address>,
        wait: Wait,
        turn: &mut Turn,
    ) {
        let aside = self.rigs.get(rig).is_some_and(|record| record.aside().is_some());
        let awaited = if aside { Awaited::Stopped } else { Awaited::Started };
        let mut open = BTreeSet::new();
        let mut items = Vec::new();
        for machine in agents.iter().filter_map(|agent| self.agents.get(agent)) {
            let there = if aside { is_still(machine) } else { machine.phase == Phase::Running };
            // A rig that may run again starts nothing that a person has stopped.
            let coming = aside || machine.wish.intent == Intent::Running;
            if there {
                items.push(outcome_of(&machine.address, Ok(false)));
            } else if coming {
                open.insert(machine.address.clone());
            }
        }
        self.wait_for_town(ticket, awaited, open, items, wait, turn);
    }

    /// A file was written for a rig, or could not be.
    pub(super) fn rig_written(
        &mut self,
        rig: &RigName,
        chore: Chore,
        at: Timestamp,
        error: Option<String>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(record) = self.rigs.get_mut(rig) else { return };
        turn.changed.extend([Address::Witness(rig.clone())]);
        match (chore, &error) {
            (Chore::State(edit), None) => {
                let mut elsewhere = FileState::default();
                let file = self.facts.rigs.get_mut(rig).map_or(&mut elsewhere, |facts| &mut facts.file);
                record.written(edit, file, at);
                record.trouble = None;
                turn.writes.push(record_write(rig, record));
            }
            (Chore::Unregister, None) => record.trouble = None,
            (_, Some(_)) => record.trouble = error,
        }
        self.settle_rigs(None, now, turn);
    }

    /// What was read of the files before we wrote into them is older than what we know of them.
    pub(super) fn keep_newer(&self, facts: &mut super::planner::Facts) {
        for (rig, new) in &mut facts.rigs {
            let wrote_at = self.rigs.get(rig).and_then(|record| record.wrote_at);
            if wrote_at.is_some_and(|at| facts.read_at <= at)
                && let Some(old) = self.facts.rigs.get(rig)
            {
                new.file = old.file;
            }
        }
    }

    /// Brings the rigs' standing in line with ledger and files, and tells what has changed. `cause` names the rig
    /// that somebody asked for something of.
    pub(super) fn settle_rigs(&mut self, cause: Option<(&RigName, &Ask)>, now: Timestamp, turn: &mut Turn) {
        for (rig, facts) in &mut self.facts.rigs {
            let before = self.rigs.get(rig).cloned().unwrap_or_default();
            let mut record = before.clone();
            record.obey_file(facts.file);
            record.told = record.tell(facts.file, now);
            let ask = cause.filter(|(asked, _)| *asked == rig).map(|(_, ask)| ask);
            for (name, data) in differences(&before.told, &record.told, ask) {
                turn.writes.push(rig_event(name, rig, now, ask, data));
            }
            facts.standing = record.standing();
            if record != before {
                turn.touched(&Address::Witness(rig.clone()));
                // What is not understood is not written over; only a request does that.
                turn.writes.extend((!record.unreadable).then(|| record_write(rig, &record)));
            }
            if record.is_blank() && record.wrote_at.is_none() {
                self.rigs.remove(rig);
            } else {
                self.rigs.insert(rig.clone(), record);
            }
        }
    }

    /// What a rig that was seen for the first time is like is told with its discovery.
    pub(super) fn first_sight(&mut self, rig: &RigName, now: Timestamp) {
        if let (Some(facts), false) = (self.facts.rigs.get(rig), self.rigs.contains_key(rig)) {
            let mut record = Record::default();
            record.told = record.tell(facts.file, now);
            self.rigs.insert(rig.clone(), record);
        }
    }

    /// Forgets the rigs that were removed and are out of the registry, with everything of them at rest.
    pub(super) fn forget_removed(&mut self, turn: &mut Turn) {
        let gone: Vec<RigName> = self
            .rigs
            .iter()
            .filter(|(rig, record)| {
                let registered = !self.facts.known || self.facts.rigs.contains_key(*rig);
                record.removing.is_some() && !registered && self.of_rig(rig).all(is_still)
            })
            .map(|(rig, _)| rig.clone())
            .collect();
        for rig in gone {
            let agents: Vec<Address> = self.of_rig(&rig).map(|machine| machine.address.clone()).collect();
            for agent in agents {
                self.agents.remove(&agent);
                turn.touched(&agent);
                turn.writes.push(Write::Forget(agent));
            }
            self.rigs.remove(&rig);
            self.forget_pauses_of(&rig, turn);
            turn.writes.push(Write::Fact { key: format!("{RECORD}{rig}"), value: None });
        }
    }

    /// What a person should know of the rigs, beside what their files say.
    pub(super) fn rig_alerts(&self, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (rig, record) in &self.rigs {
            let sight = self.facts.rigs.get(rig).map(|facts| facts.file.sight);
            let mut warn = |key: &str, message: String, hint: String| {
                alerts.push(alert(format!("rig:{rig}:{key}"), Severity::Warning, message, &hint, now));
            };
            if let Some(why) = &record.trouble {
                let message =
                    format!("rig {rig}: what was asked for is in the ledger, not in its file: {why}");
                warn("file", message, format!("mend the file; gtctl rig status {rig}"));
            }
            if record.parked.is_some() && record.edit.is_none() && sight == Some(Sight::Missing) {
                let message =
                    format!("rig {rig} was parked here, and its state file is gone; it stays parked");
                warn("state:missing", message, format!("gtctl rig unpark {rig}"));
            }
            if record.unreadable {
                let message = format!(
                    "rig {rig}: what the ledger has of it cannot be understood; nothing of it is started"
                );
                warn("record", message, format!("gtctl rig unpark {rig}"));
            }
        }
        alerts
    }
}

/// Nothing of it is there or under way.
impl Machine {
    /// A rig was set aside: nothing is to come after the end that is under way, and whoever waits is told why.
    pub(super) fn nothing_follows(&mut self, error: RpcError, turn: &mut Turn) {
        let coming = matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Ending { then: Then::Start }
                | Phase::Draining { then: Then::Start, .. }
        );
        if let Phase::Ending { then } | Phase::Draining { then, .. } = &mut self.phase {
            *then = Then::Rest;
        }
        if coming {
            turn.outcome(&self.address, super::turn::Outcome::StartFailed(Box::new(error)));
        }
    }
}

fn record_write(rig: &RigName, record: &Record) -> Write {
    let value = (!record.is_blank()).then(|| json!(record));
    Write::Fact { key: format!("{RECORD}{rig}"), value }
}

/// The events that lie between what was told and what is to be told.
fn differences(old: &Told, new: &Told, ask: Option<&Ask>) -> Vec<(&'static str, Value)> {
    let by = ask.map_or(BY_FILE, |ask| &ask.by);
    let why = ask.and_then(|ask| ask.reason.as_deref());
    let set = |reason: &str| json!({ "reason": reason, "by": by, "why": why });
    let lifted = || json!({ "by": by, "why": why, "still": new.barred });
    let mut events = Vec::new();
    match (old.parked, new.parked) {
        (false, true) => events.push((kind::RIG_PARKED, set("parked"))),
        (true, false) => events.push((kind::RIG_UNPARKED, lifted())),
        _ => {}
    }
    match (old.docked, new.docked) {
        (false, true) => events.push((kind::RIG_DOCKED, set("docked"))),
        (true, false) => events.push((kind::RIG_UNDOCKED, lifted())),
        _ => {}
    }
    if events.is_empty() && old.barred != new.barred {
        events.push(match &new.barred {
            Some(reason) => (kind::RIG_PARKED, set(reason)),
            None => (kind::RIG_UNPARKED, lifted()),
        });
    }
    events
}

fn rig_event(name: &'static str, rig: &RigName, at: Timestamp, ask: Option<&Ask>, data: Value) -> Write {
    let peer = ask.map(|ask| ask.by.clone());
    Write::Event(NewEvent { rig: Some(rig.clone()), peer, ..NewEvent::new(at, name, data) })
}
