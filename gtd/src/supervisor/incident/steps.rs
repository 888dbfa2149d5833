//! What an incident does to agents: hold them, send one first, let the others follow, and say so.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::event::kind as event;
use gtd_proto::{Address, Cause, Exit, Incident, Intent, Timestamp};
use serde_json::{Value, json};

use super::{Death, FACT, Heard, Record, Stage, kind};
use crate::agents::urgency;
use crate::ledger::{NewEvent, Write};
use crate::process::ProcessId;
use crate::supervisor::core::Core;
use crate::supervisor::machine::{Machine, Pause, Phase};
use crate::supervisor::policy::{after, since};
use crate::supervisor::turn::{Turn, millis};

impl Core {
    /// Takes up the breaker's memory from the ledger: records among its facts, and black boxes of late. To be told
    /// before anything else happens. `on_line` moves an instant of the wall clock, by which black boxes are dated, to
    /// the core's time. Returns what cannot be read, each in a sentence.
    pub fn recall_deaths(
        &mut self,
        facts: &BTreeMap<String, Value>,
        exits: Vec<Exit>,
        on_line: impl Fn(Timestamp) -> Timestamp,
        now: Timestamp,
    ) -> Vec<String> {
        let mut records = Vec::new();
        let mut unreadable = Vec::new();
        for (key, value) in facts.iter().filter(|(key, _)| key.starts_with(FACT)) {
            match serde_json::from_value::<Record>(value.clone()) {
                Ok(record) => records.push(record),
                Err(error) => unreadable.push(format!("the record of {key} cannot be read: {error}")),
            }
        }
        let numbers = self.settings.mass_death.clone();
        self.breaker.recall(records, now, &numbers);
        let late =
            |exit: &Exit| exit.incident.is_none() && since(on_line(exit.ended_at), now) <= numbers.window;
        let exits: Vec<Exit> = exits.into_iter().filter(|exit| late(exit)).collect();
        let mut ran: BTreeSet<&Address> = exits.iter().map(|exit| &exit.agent).collect();
        ran.extend(self.agents.values().filter(|m| m.current.is_some()).map(|m| &m.address));
        let running = ran.len();
        for exit in &exits {
            if let Some(mut death) = self.death(exit, on_line(exit.ended_at)) {
                death.running = running;
                self.breaker.remember(death);
            }
        }
        unreadable
    }

    /// All incidents that are kept, the newest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        let alive = |agent: &Address| self.agents.get(agent).is_some_and(Machine::is_alive);
        let numbers = &self.settings.mass_death;
        self.breaker.open().into_iter().chain(self.breaker.past()).map(|r| r.shown(numbers, alive)).collect()
    }

    /// Looks at the ends that a turn told of.
    pub(in crate::supervisor) fn heed_deaths(&mut self, now: Timestamp, turn: &mut Turn) {
        for exit in std::mem::take(&mut turn.exits) {
            let at = match self.agents.get(&exit.agent).map(|machine| &machine.phase) {
                Some(Phase::Dead { died_at, .. }) => *died_at,
                _ => now,
            };
            if exit.cause == Cause::ProviderLimit {
                let account = self.agents.get(&exit.agent).and_then(account);
                self.breaker.limited(account, now);
            }
            let numbers = self.settings.mass_death.clone();
            let Some(death) = self.death(&exit, at) else {
                // An end that is no death all the same does not show that agents can live.
                let first = self.breaker.open().and_then(Record::sent);
                if !exit.requested && first == Some(&exit.agent) {
                    self.change(|open| open.canary_failed(at, &numbers), turn);
                    self.hold_longer(now, turn);
                }
                continue;
            };
            match self.breaker.died(Death { told_at: now, ..death }, now, &numbers) {
                Heard::Alone => {}
                Heard::Joined => {
                    if let Some(id) = self.breaker.open().map(|open| open.id.clone()) {
                        assign(&exit, &id, turn);
                    }
                    self.keep(turn);
                    self.name_the_dead(turn);
                    self.hold_longer(now, turn);
                }
                Heard::Opened(members) => self.opened(members, now, turn),
            }
        }
    }

    fn death(&self, exit: &Exit, at: Timestamp) -> Option<Death> {
        let kind = kind(exit)?;
        let machine = self.agents.get(&exit.agent);
        let place = machine.and_then(|machine| {
            let life = machine.current.as_ref().and_then(|current| current.life.as_ref());
            life.map(|life| &life.place).or(machine.last_place.as_ref())
        });
        Some(Death {
            agent: exit.agent.clone(),
            at,
            told_at: at,
            kind,
            account: machine.and_then(account),
            session: place.map(|place| place.session_name.clone()).filter(|name| !name.is_empty()),
            server: place.map(|place| place.server.clone()),
            running: self.agents.values().filter(|machine| counts_as_running(machine)).count() + 1,
            exit: exit.clone(),
        })
    }

    fn opened(&mut self, members: Vec<Death>, now: Timestamp, turn: &mut Turn) {
        let Some(open) = self.breaker.open().cloned() else { return };
        for death in members {
            if !assign(&death.exit, &open.id, turn) {
                // Written down before, alone as it was then.
                let exit = Exit { incident: Some(open.id.clone()), ..death.exit };
                turn.writes.push(Write::Exit(Box::new(exit)));
            }
        }
        let sessions: Vec<&String> = open.sessions.values().collect();
        let agents: Vec<&Address> = open.agents.keys().collect();
        let data = json!({
            "id": open.id,
            "count": agents.len(),
            "window_ms": open.window_ms,
            "sessions": sessions,
            "agents": agents,
            "possible_cause": open.cause,
        });
        turn.writes.push(Write::Event(NewEvent::new(now, event::INCIDENT_OPENED, data)));
        self.keep(turn);
        if self.breaker.held(&self.settings.mass_death).is_none() {
            return;
        }
        self.name_the_dead(turn);
        // Whoever waits for a start of their own waits for this now.
        for agent in self.by_rank() {
            self.each(&agent, now, turn, |machine, situation, turn| {
                let waits =
                    matches!(machine.phase, Phase::Waiting { why: Pause::Backoff | Pause::Retry, .. });
                if waits && machine.wish.intent == Intent::Running {
                    machine.await_incident(situation, turn);
                }
            });
        }
    }

    /// Whoever has died and will wait for the incident is shown with it already.
    fn name_the_dead(&mut self, turn: &mut Turn) {
        let Some(held) = self.breaker.held(&self.settings.mass_death) else { return };
        let why = format!("incident {}", held.id);
        for machine in self.agents.values_mut().filter(|machine| will_wait(machine) && !machine.passes) {
            machine.reason = Some(why.clone());
            turn.touched(&machine.address);
        }
    }

    /// Writes down how far the open incident is.
    fn keep(&self, turn: &mut Turn) {
        if let Some(open) = self.breaker.open() {
            keep_record(open, turn);
        }
    }

    /// Whoever waits is shown the present deadline.
    fn hold_longer(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(until) = self.breaker.held(&self.settings.mass_death).map(|held| held.until) else { return };
        let waiting = self.waiting_for_incident();
        for (agent, _) in waiting.into_iter().filter(|(_, its)| *its < until) {
            self.each(&agent, now, turn, |machine, situation, turn| {
                machine.await_incident(situation, turn);
            });
        }
    }

    /// Who waits for the incident, the first in priority first, with the instant before which it would not be
    /// started anyway.
    fn waiting_for_incident(&self) -> Vec<(Address, Timestamp)> {
        let waiting = self.agents.values().filter_map(|machine| match machine.phase {
            Phase::Waiting { until, why: Pause::Incident } => Some((machine.address.clone(), until)),
            _ => None,
        });
        let mut waiting: Vec<(Address, Timestamp)> = waiting.collect();
        waiting.sort_by_cached_key(|(agent, _)| (self.urgency(agent), agent.clone()));
        waiting
    }

    /// All agents, the first in priority first.
    pub(in crate::supervisor) fn by_rank(&self) -> Vec<Address> {
        let mut agents: Vec<Address> = self.agents.keys().cloned().collect();
        agents.sort_by_cached_key(|agent| (self.urgency(agent), agent.clone()));
        agents
    }

    /// An agent's place in the order of starts: workers that have work go before those that have none.
    pub(in crate::supervisor) fn urgency(&self, agent: &Address) -> u8 {
        urgency(agent, self.agents.get(agent).is_some_and(|machine| machine.work.is_some()))
    }

    /// When the incident does something by itself.
    pub(in crate::supervisor) fn incident_deadline(&self) -> Option<Timestamp> {
        let numbers = &self.settings.mass_death;
        let open = self.breaker.open()?;
        match &open.stage {
            Stage::Holding { .. } if !self.can_start() => None,
            Stage::Holding { until } => {
                let first = self.waiting_for_incident().into_iter().map(|(_, its)| its).min();
                Some(first.map_or(*until, |first| first.max(*until)))
            }
            Stage::Canary { agent, launched_at } => {
                let alive = self.agents.get(agent).filter(|machine| machine.is_alive());
                Some(match alive {
                    Some(machine) => after(born(machine, *launched_at), numbers.canary),
                    None => self.given_up_at(*launched_at),
                })
            }
            Stage::Releasing { until } => Some(*until),
        }
    }

    /// Anything can be started at all: the town is known, so is what runs and should, and tmux can be used.
    fn can_start(&self) -> bool {
        self.facts.known && !self.is_only_looking() && self.tmux_trouble().is_none()
    }

    /// When another goes first, because nothing can be told of the one that was sent: it must not hold everybody.
    fn given_up_at(&self, launched_at: Timestamp) -> Timestamp {
        after(launched_at, self.settings.start_timeout)
    }

    /// Brings the open incident on, as far as it goes by now.
    pub(in crate::supervisor) fn tend_incident(&mut self, now: Timestamp, turn: &mut Turn) {
        // Each stage comes at most once in a turn, but for canaries that may not be started: at most all agents.
        for _ in 0..=self.agents.len().saturating_add(4) {
            if !self.bring_on(now, turn) {
                return;
            }
        }
    }

    fn bring_on(&mut self, now: Timestamp, turn: &mut Turn) -> bool {
        let numbers = self.settings.mass_death.clone();
        let waiting = self.waiting_for_incident();
        let Some(open) = self.breaker.open() else {
            // Nothing holds them: the record was lost, or the breaker was switched off.
            self.let_go("no incident holds it any more", &waiting, now, turn);
            return false;
        };
        let id = open.id.clone();
        if numbers.threshold == 0 && !matches!(open.stage, Stage::Releasing { .. }) {
            self.release(&format!("incident {id}: the breaker was switched off"), now, turn);
            return true;
        }
        match open.stage.clone() {
            // Nobody could be sent, and all would be let go one after the other.
            Stage::Holding { .. } if !self.can_start() => false,
            Stage::Holding { until } => {
                let dying = self.agents.values().any(will_wait);
                if waiting.is_empty() && (now >= until || !dying) {
                    self.release(&format!("incident {id}: nobody waits"), now, turn);
                    return true;
                }
                let first = waiting.into_iter().find(|(_, its)| *its <= now);
                match first.filter(|_| now >= until) {
                    Some((agent, _)) => {
                        self.send_canary(&agent, &id, now, turn);
                        true
                    }
                    None => false,
                }
            }
            Stage::Canary { agent, launched_at } => self.look_at_canary(&agent, launched_at, &id, now, turn),
            Stage::Releasing { until } => {
                if now >= until || self.is_settled() {
                    self.close_incident(now, turn);
                }
                false
            }
        }
    }

    fn send_canary(&mut self, agent: &Address, id: &str, now: Timestamp, turn: &mut Turn) {
        let why = format!("incident {id}: it goes first");
        self.each(agent, now, turn, |machine, situation, turn| {
            // May it not be started at all, it is at rest after this, and another one is next.
            machine.start_or_rest(&why, situation, turn);
        });
        if self.agents.get(agent).is_some_and(|machine| matches!(machine.phase, Phase::Starting { .. })) {
            self.change(|open| open.send(agent.clone(), now), turn);
            self.hold_longer(now, turn);
        }
    }

    fn look_at_canary(
        &mut self,
        agent: &Address,
        launched_at: Timestamp,
        id: &str,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let numbers = self.settings.mass_death.clone();
        let machine = self.agents.get(agent);
        match machine.map(|machine| (&machine.phase, machine.is_alive(), machine.wish.intent)) {
            Some((Phase::Starting { .. } | Phase::Running, true, _)) => {
                let lived = machine.is_some_and(|m| after(born(m, launched_at), numbers.canary) <= now);
                if lived {
                    self.release(&format!("incident {id}: {agent} lives"), now, turn);
                }
                lived
            }
            // Its end, when it is one, is told and judged as a death.
            Some((Phase::Starting { .. } | Phase::Running | Phase::Adopting | Phase::Dead { .. }, ..))
                if now < self.given_up_at(launched_at) =>
            {
                false
            }
            // Its launch came to nothing, through no fault of its own, nothing can be told of it, or somebody wants
            // something else of it.
            _ => {
                self.change(|open| open.next_canary(now), turn);
                true
            }
        }
    }

    fn release(&mut self, why: &str, now: Timestamp, turn: &mut Turn) {
        self.change(|open| open.release(now), turn);
        let waiting = self.waiting_for_incident();
        self.let_go(why, &waiting, now, turn);
    }

    fn let_go(&mut self, why: &str, waiting: &[(Address, Timestamp)], now: Timestamp, turn: &mut Turn) {
        for (agent, its) in waiting {
            self.each(agent, now, turn, |machine, situation, turn| {
                if *its > now {
                    // Its own back-off is longer.
                    machine.enter(
                        Phase::Waiting { until: *its, why: Pause::Backoff },
                        now,
                        Some(why.to_owned()),
                        turn,
                    );
                } else {
                    machine.start_or_rest(why, situation, turn);
                }
            });
        }
    }

    /// Whoever was part of it is alive again, or is left to something else.
    fn is_settled(&self) -> bool {
        let Some(open) = self.breaker.open() else { return true };
        let coming = open.agents.keys().filter_map(|agent| self.agents.get(agent)).any(|machine| {
            let starts =
                matches!(machine.phase, Phase::Starting { .. } | Phase::Adopting) && !machine.is_alive();
            starts
                || will_wait(machine)
                || matches!(machine.phase, Phase::Waiting { why: Pause::Incident, .. })
        });
        // Who runs on a server that is gone has not been told dead yet.
        let doomed = |machine: &Machine| {
            machine.is_alive()
                && machine.current.as_ref().is_some_and(|current| current.reserved_at <= open.opened_at)
                && server(machine).is_some_and(|server| open.servers.contains(server))
        };
        !coming && !self.agents.values().any(doomed)
    }

    fn close_incident(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(open) = self.breaker.open() else { return };
        let alive = |agent: &&Address| self.agents.get(*agent).is_some_and(Machine::is_alive);
        let recovered = u64::try_from(open.agents.keys().filter(alive).count()).unwrap_or(u64::MAX);
        let data = json!({
            "id": open.id,
            "recovered": recovered,
            "duration_ms": millis(since(open.opened_at, now)),
            "count": open.agents.len(),
            "cause": open.cause,
        });
        self.change(|open| open.closed = Some((now, recovered)), turn);
        turn.writes.push(Write::Event(NewEvent::new(now, event::INCIDENT_CLOSED, data)));
        for id in self.breaker.put_away() {
            turn.writes.push(Write::Fact { key: format!("{FACT}{id}"), value: None });
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Record), turn: &mut Turn) {
        if let Some(open) = &mut self.breaker.open {
            change(open);
            keep_record(open, turn);
        }
    }
}

fn keep_record(record: &Record, turn: &mut Turn) {
    turn.incident = true;
    let key = format!("{FACT}{}", record.id);
    let value = serde_json::to_value(record).ok();
    turn.writes.retain(|write| !matches!(write, Write::Fact { key: other, .. } if *other == key));
    turn.writes.push(Write::Fact { key, value });
}

/// Names the incident in what this turn tells of an end; false when another turn told of it.
fn assign(exit: &Exit, id: &str, turn: &mut Turn) -> bool {
    let mut found = false;
    for write in &mut turn.writes {
        match write {
            Write::Exit(black_box) if black_box.instance == exit.instance => {
                black_box.incident = Some(id.to_owned());
                found = true;
            }
            Write::Event(told)
                if told.kind == event::AGENT_EXITED && told.instance.as_ref() == Some(&exit.instance) =>
            {
                if let Value::Object(fields) = &mut told.data {
                    fields.insert("incident".to_owned(), Value::from(id));
                }
            }
            _ => {}
        }
    }
    found
}

fn account(machine: &Machine) -> Option<String> {
    machine.current.as_ref()?.life.as_ref()?.account.clone()
}

fn server(machine: &Machine) -> Option<&ProcessId> {
    Some(&machine.current.as_ref()?.life.as_ref()?.place.server)
}

/// It ran until now, as far as is known: one that a new daemon still looks for did.
fn counts_as_running(machine: &Machine) -> bool {
    machine.is_alive()
        || machine.current.as_ref().is_some_and(|current| {
            machine.phase == Phase::Adopting
                && !current.told
                && current.life.as_ref().is_some_and(|life| life.process.is_some())
        })
}

/// It died, and will come to wait for its start.
fn will_wait(machine: &Machine) -> bool {
    machine.wish.intent == Intent::Running && matches!(machine.phase, Phase::Dead { .. })
}

/// When the canary's program began, by its record; but no earlier than it was sent, whatever the wall clock says.
fn born(machine: &Machine, launched_at: Timestamp) -> Timestamp {
    let born = machine.current.as_ref().and_then(|current| current.life.as_ref()?.started_at);
    born.map_or(launched_at, |born| born.max(launched_at))
}
