//! What one turn of the supervisor leads to: rows to commit, then orders to pass on and answers to give.

use std::collections::BTreeSet;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::explain::Decision;
use gtd_proto::{Address, Exit, RpcError, Timestamp};
use serde_json::{Value, json};

use super::hooked::Question;
use super::machine::Machine;
use super::reports::Ignored;
use crate::agents::order::{Life, Order};
use crate::ledger::{AgentRow, InstanceRow, NewEvent, ProcessKey, ServerKey, Write};
use crate::process::ProcessId;

/// Names a request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of something that somebody may be waiting for.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The agent is ready.
    Started,
    /// It ended, or never began.
    StartFailed(Box<RpcError>),
    /// It was not confirmed in time; this is how far it got.
    StartUnconfirmed {
        /// `alive` or `launching`.
        reached: &'static str,
    },
    /// It is at rest, but for these processes.
    Stopped {
        /// `pid@start` of processes that are still alive.
        survivors: Vec<String>,
    },
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// About one agent.
    Changed {
        /// It was so already.
        already: bool,
        /// Answered before the effect.
        accepted: bool,
        /// Processes that a stop could not end.
        survivors: Vec<String>,
    },
    /// About an agent's report.
    Heard {
        /// Why it counted for nothing.
        ignored: Option<Ignored>,
    },
    /// About a rig's standing.
    Rig {
        /// It was so already.
        already: bool,
        /// The agents that are being ended or started for it.
        agents: BTreeSet<Address>,
    },
    /// About the whole town: each agent with what became of it.
    Town(Vec<gtd_proto::town::Outcome>),
    /// It failed.
    Failed(Box<RpcError>),
}

/// The consequences of one turn, in the order in which they came up.
#[derive(Debug, Default)]
pub struct Turn {
    /// For the ledger, committed before anything else.
    pub writes: Vec<Write>,
    /// For the agents' tasks, after the commit.
    pub orders: Vec<(Address, Order)>,
    /// For callers, after the commit.
    pub answers: Vec<(Ticket, Answer)>,
    /// Agents whose shown state may have changed.
    pub changed: BTreeSet<Address>,
    /// For the stores of work, after the commit.
    pub questions: Vec<Question>,
    /// An incident opened, closed, or came further.
    pub incident: bool,
    pub(super) outcomes: Vec<(Address, Outcome)>,
    /// Ends that were told, for the mass-death breaker.
    pub(super) exits: Vec<Exit>,
    /// Who asked, while a request is carried out: events that it leads to at once say so.
    pub(super) peer: Option<String>,
}

impl Turn {
    /// Nothing follows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { writes, orders, answers, changed, questions, incident, .. } = self;
        writes.is_empty()
            && orders.is_empty()
            && answers.is_empty()
            && changed.is_empty()
            && questions.is_empty()
            && !incident
    }

    pub(super) fn touched(&mut self, agent: &Address) {
        self.changed.insert(agent.clone());
    }

    pub(super) fn order(&mut self, agent: &Address, order: Order) {
        self.orders.push((agent.clone(), order));
    }

    pub(super) fn outcome(&mut self, agent: &Address, outcome: Outcome) {
        self.outcomes.push((agent.clone(), outcome));
    }

    pub(super) fn decided(
        &mut self,
        agent: &Address,
        at: Timestamp,
        event: &str,
        decision: &str,
        reason: &str,
    ) {
        let decision = Decision {
            at,
            event: event.to_owned(),
            decision: decision.to_owned(),
            reason: reason.to_owned(),
        };
        self.writes.push(Write::Decision { agent: agent.clone(), decision });
    }

    /// The agent's row. Only the last of several in a turn is written.
    pub(super) fn agent_row(&mut self, machine: &Machine) {
        let row = AgentRow {
            address: machine.address.clone(),
            intent: machine.wish.intent,
            intent_by: machine.wish.by.clone(),
            intent_reason: machine.wish.reason.clone(),
            intent_at: machine.wish.at,
            overrides: serde_json::to_value(&machine.overrides).unwrap_or(Value::Null),
            policy: serde_json::to_value(machine.memo()).unwrap_or(Value::Null),
            lifetime_restarts: machine.lifetime,
        };
        self.writes.retain(|write| !matches!(write, Write::Agent(old) if old.address == row.address));
        self.writes.push(Write::Agent(row));
    }

    pub(super) fn instance_row(&mut self, machine: &Machine, ended: bool) {
        let Some(current) = &machine.current else { return };
        let life = current.life.as_ref();
        self.writes.push(Write::Instance(InstanceRow {
            instance: current.instance.clone(),
            agent: machine.address.clone(),
            reserved_at: current.reserved_at,
            started_at: life.and_then(|life| life.started_at),
            boot: life.map(|life| life.shim.boot.as_str().to_owned()).unwrap_or_default(),
            server: life.map(|life| ServerKey {
                socket: life.place.socket.clone(),
                process: key(&life.place.server),
            }),
            session: life.map(|life| life.place.session.clone()),
            session_name: life.map(|life| life.place.session_name.clone()),
            pane: life.map(|life| life.place.pane.clone()),
            shim: life.map(|life| key(&life.shim)),
            process: life.and_then(|life| life.process.as_ref()).map(key),
            preset: life.map(|life| life.preset.clone()).unwrap_or_default(),
            account: life.and_then(|life| life.account.clone()),
            launch: life.map_or(Value::Null, |life: &Life| serde_json::to_value(life).unwrap_or(Value::Null)),
            ready_at: current.ready_at,
            captured: Value::Null,
            ended,
        }));
    }

    /// An event about an agent and its present instance.
    pub(super) fn event(&mut self, machine: &Machine, name: &'static str, at: Timestamp, data: Value) {
        self.writes.push(Write::Event(NewEvent {
            at,
            kind: name.into(),
            agent: Some(machine.address.clone()),
            rig: machine.address.rig().cloned(),
            instance: machine
                .current
                .as_ref()
                .map(|current| current.instance.clone())
                .or_else(|| machine.last_instance.clone()),
            cause: None,
            peer: self.peer.clone(),
            data,
        }));
    }

    pub(super) fn starting(&mut self, machine: &Machine, why: &str, now: Timestamp) {
        let attempt = machine.memory.consecutive.saturating_add(1);
        self.event(machine, kind::AGENT_STARTING, now, json!({ "reason": why, "attempt": attempt }));
    }

    pub(super) fn restarting(&mut self, machine: &Machine, delay: Duration, now: Timestamp) {
        let data = json!({ "attempt": machine.memory.consecutive.max(1), "delay_ms": millis(delay) });
        self.event(machine, kind::AGENT_RESTARTING, now, data);
    }

    pub(super) fn backoff(&mut self, machine: &Machine, due: Timestamp, delay: Duration, now: Timestamp) {
        let data = json!({
            "next_attempt": due,
            "attempt": machine.memory.consecutive,
            "delay_ms": millis(delay),
        });
        self.event(machine, kind::AGENT_BACKOFF, now, data);
    }

    pub(super) fn quarantined(
        &mut self,
        machine: &Machine,
        expires: Option<Timestamp>,
        failures: u32,
        now: Timestamp,
    ) {
        let data = json!({ "expires": expires, "failures": failures, "reason": machine.reason });
        self.event(machine, kind::AGENT_QUARANTINED, now, data);
    }

    pub(super) fn stopped(&mut self, machine: &Machine, now: Timestamp) {
        self.event(machine, kind::AGENT_STOPPED, now, json!({ "survivors": [] }));
    }

    pub(super) fn held(&mut self, machine: &Machine, until: Option<Timestamp>, now: Timestamp) {
        let data = json!({ "until": until, "reason": machine.reason });
        self.event(machine, kind::AGENT_HELD, now, data);
    }

    pub(super) fn released(&mut self, machine: &Machine, why: &str, by: &str, now: Timestamp) {
        let data = json!({ "from": machine.state(), "why": why, "by": by });
        self.event(machine, kind::AGENT_RELEASED, now, data);
    }

    pub(super) fn hold(&mut self, held: bool, by: &str, now: Timestamp) {
        self.writes.push(Write::Event(NewEvent {
            at: now,
            kind: kind::TOWN_HOLD.into(),
            agent: None,
            rig: None,
            instance: None,
            cause: None,
            peer: Some(by.to_owned()),
            data: json!({ "hold": held }),
        }));
    }

    pub(super) fn exited(
        &mut self,
        machine: &Machine,
        exit: Exit,
        detected_by: &str,
        detect_ms: Option<f64>,
        now: Timestamp,
    ) {
        let mut data = serde_json::to_value(&exit).unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut data {
            fields.insert("detected_by".to_owned(), Value::from(detected_by));
            fields.insert("detect_ms".to_owned(), json!(detect_ms));
            // Tools that know sessions by their names read it from there.
            let place = machine.last_place.as_ref();
            fields.insert("session_name".to_owned(), json!(place.map(|place| &place.session_name)));
        }
        self.exits.push(exit.clone());
        self.writes.push(Write::Exit(Box::new(exit)));
        self.event(machine, kind::AGENT_EXITED, now, data);
    }
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn key(id: &ProcessId) -> ProcessKey {
    ProcessKey { boot: id.boot.as_str().to_owned(), pid: id.pid.get(), start: id.start.get() }
}
