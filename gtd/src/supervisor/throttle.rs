//! What limits starts beside an agent's own failures: its account at a provider, and the machine.
//!
//! Pure. An account's limit is learned from the death of one agent and holds for all of that account; the
//! machine's figures are told from outside. Whoever may not start is looked at again at a known instant, and
//! those who may again are let go one after the other. Nothing here ends anything that runs.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, ErrorKind, RigName, RpcError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::core::Core;
use super::machine::{Machine, Pause, Phase};
use super::planner::{Blocked, Bounds, Situation};
use super::policy::{Next, after, since};
use super::turn::Turn;
use crate::agents::order::Life;

/// How often a machine that is short of something is looked at again: soon enough for a person who has just
/// freed some of it.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Between the starts of agents that waited for the same thing: the first of them shows whether it was worth
/// it, and the machine's figures are looked at between any two.
pub const RELEASE_GAP: Duration = Duration::from_secs(3);

/// Something of the machine that a start needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Room for one more agent: `[start] max_agents`.
    Agents,
    /// Memory: `[start] min_free_memory`.
    Memory,
    /// The town's disk: `[start] min_free_disk`.
    Disk,
}

impl Resource {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// The word for a rig's workers as something that may be short.
const POLECATS: &str = "polecats";

/// Why a start has to wait, through no fault of the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortage {
    /// The machine is short of something.
    Machine {
        /// Of what.
        resource: Resource,
        /// The bound: agents, or bytes.
        limit: u64,
        /// What there is: agents, or bytes.
        value: u64,
    },
    /// The rig has as many workers as it may: `[polecat] max_per_rig`.
    Workers {
        /// Which rig.
        rig: RigName,
        /// The bound.
        limit: u64,
        /// How many there are.
        value: u64,
    },
    /// The account has reached a limit of its provider.
    Account {
        /// Which.
        account: String,
        /// Until then.
        until: Timestamp,
    },
}

impl Shortage {
    /// Those who wait for the same thing have the same key.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Machine { resource, .. } => resource.as_str().to_owned(),
            Self::Workers { rig, .. } => format!("{POLECATS} {rig}"),
            Self::Account { account, .. } => format!("account {account}"),
        }
    }

    fn look_again(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Machine { .. } | Self::Workers { .. } => after(now, LOOK_AGAIN),
            Self::Account { until, .. } => (*until).max(now),
        }
    }

    /// The error that a start gets which nobody but a person may insist on.
    #[must_use]
    pub fn error(&self, agent: &Address) -> RpcError {
        let error = RpcError::new(ErrorKind::Throttled, format!("{agent} may not be started now: {self}"));
        match self {
            Self::Machine { resource, limit, value } => {
                let hint = match resource {
                    Resource::Agents => "stop another agent, or raise [start] max_agents",
                    Resource::Memory => "free memory, or lower [start] min_free_memory",
                    Resource::Disk => "df -h; free disk space, or lower [start] min_free_disk",
                };
                error.hint(hint).with("resource", resource.as_str()).with("limit", limit).with("value", value)
            }
            Self::Workers { limit, value, .. } => {
                let hint = "stop another polecat of the rig, or raise [polecat] max_per_rig";
                error.hint(hint).with("resource", POLECATS).with("limit", limit).with("value", value)
            }
            Self::Account { account, until } => {
                error.hint(format!("gtctl reset {agent}")).with("account", account).with("until", until)
            }
        }
    }
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: &u64| bytes >> 20;
        match self {
            Self::Machine { resource: Resource::Agents, limit, value } => {
                write!(f, "{value} of at most {limit} agents run")
            }
            Self::Machine { resource: Resource::Memory, limit, value } => {
                write!(f, "{} MiB of memory are free, and {} MiB must be", mib(value), mib(limit))
            }
            Self::Machine { resource: Resource::Disk, limit, value } => {
                write!(f, "{} MiB of the town's disk are free, and {} MiB must be", mib(value), mib(limit))
            }
            Self::Workers { rig, limit, value } => {
                write!(f, "{value} of at most {limit} polecats of rig {rig} run")
            }
            Self::Account { account, until } => {
                write!(f, "account {account} has reached a limit of its provider, until {until:.0}")
            }
        }
    }
}

/// For whom a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Nobody asked: policy wants it.
    Policy,
    /// Another agent, or a program. The mode of a role is no bar to it.
    Program,
    /// A person, to whom the limit of an account is no bar either.
    Person,
}

/// What an agent waits for while it is throttled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// What it is.
    pub shortage: Shortage,
    /// It may go on, and waits only for its turn.
    #[serde(default)]
    pub has_turn: bool,
}

/// The machine's figures as they were last told. What is not known limits nothing: a machine on which a figure
/// cannot be had at all must be able to start agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of memory that can be had.
    pub free_memory: Option<u64>,
    /// Bytes of the town's disk that can be filled.
    pub free_disk: Option<u64>,
}

/// What limits starts now, in the whole town.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// The machine's figures.
    pub figures: Figures,
    /// Agents that have an instance.
    pub running: u32,
    /// Workers that have an instance, by rig.
    pub workers: BTreeMap<RigName, u32>,
    accounts: BTreeMap<String, Timestamp>,
    /// When the next of those who wait for the same thing may start.
    turns: BTreeMap<String, Timestamp>,
}

impl Limits {
    /// An account may not go on before this instant.
    pub fn limit_account(&mut self, account: &str, until: Timestamp) {
        let known = self.accounts.entry(account.to_owned()).or_insert(until);
        *known = (*known).max(until);
    }

    /// After a restart of the daemon: what an agent waited for still limits its account.
    pub(super) fn recall(&mut self, machine: &Machine) {
        match (&machine.throttle, &machine.phase, &machine.account) {
            (Some(Throttle { shortage: Shortage::Account { account, until }, .. }), _, _) => {
                self.limit_account(account, *until);
            }
            (_, Phase::Dead { died_at, next: Next::Throttle { period }, .. }, Some(account)) => {
                self.limit_account(account, after(*died_at, *period));
            }
            _ => {}
        }
    }

    /// Somebody says that an account may go on; whether it was limited.
    pub fn lift_account(&mut self, account: &str) -> bool {
        self.accounts.remove(account).is_some()
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: Timestamp) {
        self.accounts.retain(|_, until| *until > now);
        self.turns.retain(|_, next| *next > now);
    }

    /// Until when an account may not go on.
    #[must_use]
    pub fn account(&self, account: &str, now: Timestamp) -> Option<Timestamp> {
        self.accounts.get(account).copied().filter(|until| *until > now)
    }

    /// What the machine is short of; `counted` when the agent that asks is one of those that run.
    #[must_use]
    pub fn machine(&self, bounds: &Bounds, counted: bool) -> Option<Shortage> {
        let others = self.running.saturating_sub(u32::from(counted));
        if bounds.max_agents > 0 && others >= bounds.max_agents {
            let (limit, value) = (bounds.max_agents.into(), others.into());
            return Some(Shortage::Machine { resource: Resource::Agents, limit, value });
        }
        let figures = [
            (Resource::Memory, bounds.min_free_memory, self.figures.free_memory),
            (Resource::Disk, bounds.min_free_disk, self.figures.free_disk),
        ];
        figures.into_iter().find_map(|(resource, limit, value)| {
            let value = value.filter(|value| *value < limit)?;
            Some(Shortage::Machine { resource, limit, value })
        })
    }

    /// Whether the rig of a worker has as many as it may; `counted` when the worker is one of them.
    #[must_use]
    pub fn workers(&self, bounds: &Bounds, agent: &Address, counted: bool) -> Option<Shortage> {
        let Address::Polecat(rig, _) = agent else { return None };
        let others = self.workers.get(rig).copied().unwrap_or(0).saturating_sub(u32::from(counted));
        if bounds.max_per_rig == 0 || others < bounds.max_per_rig {
            return None;
        }
        let (limit, value) = (bounds.max_per_rig.into(), others.into());
        Some(Shortage::Workers { rig: rig.clone(), limit, value })
    }

    /// The turn of one more of those who wait for the same thing.
    fn take_turn(&mut self, key: &str, now: Timestamp) -> Timestamp {
        let turn = self.turns.get(key).copied().unwrap_or(now).max(now);
        self.turns.insert(key.to_owned(), after(turn, RELEASE_GAP));
        turn
    }
}

/// The account of a life: its own, or that which its program is signed in with.
#[must_use]
pub fn account_of(life: &Life) -> String {
    match &life.account {
        Some(account) => account.clone(),
        None => format!("of {}", if life.preset.is_empty() { "an unknown program" } else { &life.preset }),
    }
}

impl Core {
    /// The limit of an account was lifted: who waited for it goes on, one after the other.
    pub(super) fn look_at_all_throttled(&mut self, account: &str, now: Timestamp, turn: &mut Turn) {
        let key = Shortage::Account { account: account.to_owned(), until: now }.key();
        let waiting: Vec<Address> = self
            .agents
            .values()
            .filter(|machine| matches!(machine.phase, Phase::Waiting { why: Pause::Throttled, .. }))
            .filter(|machine| {
                machine.throttle.as_ref().is_some_and(|throttle| throttle.shortage.key() == key)
            })
            .map(|machine| machine.address.clone())
            .collect();
        for agent in waiting {
            self.each(&agent, now, turn, Machine::look_at_throttle);
        }
    }
}

impl Machine {
    /// The account that its next start would use, as far as it is known.
    #[must_use]
    pub fn next_account(&self) -> Option<&str> {
        self.overrides.account.as_deref().or(self.account.as_deref())
    }

    /// Whether it may be started now: every bar to a start is asked for here. What the machine lacks is one to
    /// everybody.
    ///
    /// # Errors
    /// With the reason, for people and for callers.
    pub fn may_start(&self, situation: &Situation<'_>, asker: Asker) -> Result<(), Blocked> {
        self.barred_by_drain()?;
        situation.may_start(&self.address, asker != Asker::Policy || self.passes)?;
        let short = |shortage: Shortage| Blocked {
            reason: shortage.to_string(),
            error: shortage.error(&self.address),
            shortage: Some(shortage),
        };
        let limits = &situation.limits;
        let (bounds, counted) = (&situation.settings.bounds, self.current.is_some());
        let shortage = limits.machine(bounds, counted);
        if let Some(shortage) = shortage.or_else(|| limits.workers(bounds, &self.address, counted)) {
            return Err(short(shortage));
        }
        if let Some(account) = self.next_account().filter(|_| asker != Asker::Person && !self.passes)
            && let Some(until) = limits.account(account, situation.now)
        {
            return Err(short(Shortage::Account { account: account.to_owned(), until }));
        }
        Ok(())
    }

    /// It should run, and has to wait for something that is looked at again by itself.
    pub(super) fn throttle(&mut self, shortage: Shortage, situation: &Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let until = shortage.look_again(now);
        let reason = shortage.to_string();
        let known = self.throttle.as_ref().is_some_and(|known| known.shortage.key() == shortage.key());
        if known && matches!(self.phase, Phase::Waiting { why: Pause::Throttled, .. }) {
            // Still so: nothing new to tell, nor to write down each time.
            self.phase = Phase::Waiting { until, why: Pause::Throttled };
            self.reason = Some(reason);
            self.throttle = Some(Throttle { shortage, has_turn: false });
            turn.touched(&self.address);
            return;
        }
        let data = match &shortage {
            Shortage::Machine { resource, limit, value } => {
                json!({ "resource": resource, "limit": limit, "value": value, "until": until, "reason": reason })
            }
            Shortage::Workers { limit, value, .. } => {
                json!({ "resource": POLECATS, "limit": limit, "value": value, "until": until, "reason": reason })
            }
            Shortage::Account { account, until } => {
                json!({ "account": account, "until": until, "reason": reason })
            }
        };
        self.throttle = Some(Throttle { shortage, has_turn: false });
        turn.decided(&self.address, now, "a start is due", "throttle it", &reason);
        turn.event(self, kind::AGENT_THROTTLED, now, data);
        self.enter(Phase::Waiting { until, why: Pause::Throttled }, now, Some(reason), turn);
    }

    /// The instant has come at which what it waits for was to be looked at again.
    pub(super) fn look_at_throttle(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let Some(throttle) = self.throttle.clone() else {
            return self.start_unless_held("what it waited for is over", situation, turn);
        };
        match self.may_start(situation, Asker::Policy) {
            Err(Blocked { shortage: Some(shortage), .. }) => self.throttle(shortage, situation, turn),
            Ok(()) if !throttle.has_turn => {
                let at = situation.limits.take_turn(&throttle.shortage.key(), now);
                if at > now {
                    self.phase = Phase::Waiting { until: at, why: Pause::Throttled };
                    self.throttle = Some(Throttle { has_turn: true, ..throttle });
                    self.reason = Some("it may go on, after others that waited for the same".to_owned());
                    turn.touched(&self.address);
                } else {
                    self.release_throttle("what it waited for is over", now, turn);
                    self.start_unless_held("what it waited for is over", situation, turn);
                }
            }
            Ok(()) => {
                self.release_throttle("what it waited for is over, and it is its turn", now, turn);
                self.start_unless_held("what it waited for is over", situation, turn);
            }
            // Parked, or without tmux, meanwhile: that is the reason now.
            Err(_) => self.start_unless_held("what it waited for is over", situation, turn),
        }
    }

    fn release_throttle(&mut self, why: &str, now: Timestamp, turn: &mut Turn) {
        let waited = super::turn::millis(since(self.since, now));
        turn.event(
            self,
            kind::AGENT_RELEASED,
            now,
            json!({ "from": "throttled", "why": why, "by": "supervisor", "waited_ms": waited }),
        );
        self.throttle = None;
    }
}

#[cfg(test)]
mod tests;
