//! The record of one incident, as it is kept in the ledger: it outlives the daemon with its deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::{Address, Incident, IncidentCause, IncidentState, Timestamp};
use serde::{Deserialize, Serialize};

use super::cause::{Kind, classify};
use super::{Death, Numbers};
use crate::process::ProcessId;
use crate::supervisor::policy::{after, since};
use crate::supervisor::turn::millis;

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// When it was recognised.
    pub opened_at: Timestamp,
    /// The window that its deaths lie in.
    pub window_ms: u64,
    /// Who died, and how at last.
    pub agents: BTreeMap<Address, Kind>,
    /// Names of their sessions.
    pub sessions: BTreeMap<Address, String>,
    /// What it probably was.
    pub cause: IncidentCause,
    /// The machine had just been resumed.
    #[serde(default)]
    pub resumed: bool,
    /// All used one account that was limited.
    #[serde(default)]
    pub account: bool,
    /// tmux servers that ended in it: who still runs on one of them is about to die.
    #[serde(default)]
    pub servers: Vec<ProcessId>,
    /// How far it is.
    pub stage: Stage,
    /// How long the present hold is, or the last one was.
    pub hold_ms: u64,
    /// The last agent that went first.
    #[serde(default)]
    pub canary: Option<Address>,
    /// Who died again after the release, and when.
    #[serde(default)]
    pub again: BTreeMap<Address, Timestamp>,
    /// When it was over, and how many were alive again.
    #[serde(default)]
    pub closed: Option<(Timestamp, u64)>,
}

/// How far an incident is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is restarted.
    Holding {
        /// Until then.
        until: Timestamp,
    },
    /// One agent goes first.
    Canary {
        /// Which.
        agent: Address,
        /// When it was sent.
        launched_at: Timestamp,
    },
    /// The agents come back.
    Releasing {
        /// Who has not by then is waited for no longer.
        until: Timestamp,
    },
}

/// How long those that were released are waited for, at most, until the incident is closed. Starts take
/// milliseconds, and have a deadline of their own.
const RETURN: Duration = Duration::from_secs(120);

impl Record {
    pub(super) fn new(
        id: String,
        now: Timestamp,
        numbers: &Numbers,
        members: &[Death],
        agents: BTreeMap<Address, Kind>,
        resumed: bool,
        account: bool,
    ) -> Self {
        let cause = classify(agents.values().copied(), resumed, account);
        let mut record = Self {
            id,
            opened_at: now,
            window_ms: millis(numbers.window),
            agents,
            sessions: BTreeMap::new(),
            cause,
            resumed,
            account,
            servers: Vec::new(),
            stage: Stage::Holding { until: after(now, numbers.hold) },
            hold_ms: millis(numbers.hold),
            canary: None,
            again: BTreeMap::new(),
            closed: None,
        };
        for death in members {
            record.note(death);
        }
        if cause == IncidentCause::TmuxServer {
            record.release(now);
        }
        record
    }

    fn note(&mut self, death: &Death) {
        let session = death.session.clone().unwrap_or_else(|| death.agent.to_string());
        self.sessions.insert(death.agent.clone(), session);
        if let (Kind::Server, Some(server)) = (death.kind, &death.server)
            && !self.servers.contains(server)
        {
            self.servers.push(server.clone());
        }
    }

    /// Another death while it is open.
    pub(super) fn join(&mut self, death: &Death, numbers: &Numbers) {
        self.agents.insert(death.agent.clone(), death.kind);
        self.note(death);
        match &self.stage {
            Stage::Canary { agent, .. } if *agent == death.agent => self.canary_failed(death.at, numbers),
            Stage::Canary { .. } => {}
            Stage::Holding { .. } => {
                self.cause = classify(self.agents.values().copied(), self.resumed, self.account);
                // What looked like crashes was the server's end.
                if self.cause == IncidentCause::TmuxServer && self.canary.is_none() {
                    self.release(death.told_at);
                }
            }
            // Those of a server that is gone were to be expected.
            Stage::Releasing { .. } if death.kind == Kind::Server => {}
            Stage::Releasing { .. } => {
                self.again.insert(death.agent.clone(), death.at);
                self.again.retain(|_, at| since(*at, death.at) <= numbers.window);
                if self.again.len() >= numbers.needed(death.running) {
                    self.cause = classify(self.agents.values().copied(), self.resumed, self.account);
                    self.canary_failed(death.at, numbers);
                }
            }
        }
    }

    /// It was too early: everything is held again, twice as long, from then on.
    pub(super) fn canary_failed(&mut self, at: Timestamp, numbers: &Numbers) {
        let hold = Duration::from_millis(self.hold_ms).saturating_mul(2).min(numbers.hold_max);
        self.hold_ms = millis(hold);
        self.again.clear();
        self.stage = Stage::Holding { until: after(at, hold) };
    }

    /// Somebody else must go first, at once.
    pub(super) fn next_canary(&mut self, now: Timestamp) {
        self.stage = Stage::Holding { until: now };
    }

    pub(super) fn send(&mut self, canary: Address, now: Timestamp) {
        self.canary = Some(canary.clone());
        self.stage = Stage::Canary { agent: canary, launched_at: now };
    }

    /// The agent that was sent first, while it is not known whether it lives.
    pub(super) fn sent(&self) -> Option<&Address> {
        match &self.stage {
            Stage::Canary { agent, .. } => Some(agent),
            _ => None,
        }
    }

    pub(super) fn release(&mut self, now: Timestamp) {
        self.again.clear();
        self.stage = Stage::Releasing { until: after(now, RETURN) };
    }

    /// Until when restarts are held at least; nothing when they no longer are.
    pub(super) fn held_until(&self, numbers: &Numbers) -> Option<Timestamp> {
        match &self.stage {
            Stage::Holding { until } => Some(*until),
            Stage::Canary { launched_at, .. } => Some(after(*launched_at, numbers.canary)),
            Stage::Releasing { .. } => None,
        }
    }

    /// No deadline of it lies later than that.
    pub(super) fn not_later_than(&mut self, latest: Timestamp) {
        match &mut self.stage {
            Stage::Holding { until } | Stage::Releasing { until } => *until = (*until).min(latest),
            Stage::Canary { launched_at, .. } => *launched_at = (*launched_at).min(latest),
        }
    }

    /// As results show it. `alive` tells who is alive now.
    #[must_use]
    pub fn shown(&self, numbers: &Numbers, alive: impl Fn(&Address) -> bool) -> Incident {
        let state = match (&self.closed, &self.stage) {
            (Some(_), _) => IncidentState::Closed,
            (None, Stage::Holding { .. }) => IncidentState::Holding,
            (None, Stage::Canary { .. }) => IncidentState::Canary,
            (None, Stage::Releasing { .. }) => IncidentState::Releasing,
        };
        let count = |many: usize| u64::try_from(many).unwrap_or(u64::MAX);
        Incident {
            id: self.id.clone(),
            opened_at: self.opened_at,
            closed_at: self.closed.map(|(at, _)| at),
            count: count(self.agents.len()),
            window_ms: self.window_ms,
            sessions: self.sessions.values().cloned().collect(),
            agents: self.agents.keys().cloned().collect(),
            cause: self.cause,
            canary: self.canary.clone(),
            recovered: match self.closed {
                Some((_, recovered)) => recovered,
                None => count(self.agents.keys().filter(|agent| alive(agent)).count()),
            },
            state,
            held_until: self.closed.is_none().then(|| self.held_until(numbers)).flatten(),
        }
    }
}
