//! What should run, and whether it may be started now: pure questions about the town as it was last seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gtd_proto::town::Alert;
use gtd_proto::{Address, AgentName, ErrorKind, InstanceId, RigName, Role, RpcError, Timestamp};

use super::closed::{self, Closed};
use super::hooks::Hooks;
use super::incident;
use super::pauses::Pauses;
use super::policy::Numbers;
use super::rigs::{FileState, Record, Standing, barred, unknown_rig};
use super::throttle::{Limits, Shortage};

/// The numbers that the heart goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The restart policy's.
    pub numbers: Numbers,
    /// The mass-death breaker's.
    pub mass_death: incident::Numbers,
    /// How long a start may take until it counts as unconfirmed.
    pub start_timeout: Duration,
    /// How long a stop waits for the end of a turn.
    pub drain: Duration,
    /// What is too little or too much for a start.
    pub bounds: Bounds,
}

/// What is too little or too much for a start, from `[start]`; 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Agents at once in the town.
    pub max_agents: u32,
    /// Bytes of memory that must be free.
    pub min_free_memory: u64,
    /// Bytes of the town's disk that must be free.
    pub min_free_disk: u64,
    /// Workers at once in one rig.
    pub max_per_rig: u32,
}

/// What the heart needs to know of the town, and what results show of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The registry could be read at least once. Until then nothing is started and nothing is missing.
    pub known: bool,
    /// The registered rigs.
    pub rigs: BTreeMap<RigName, RigFacts>,
    /// Whether the deacon is kept running; nothing while it is not known.
    pub deacon: Option<Mode>,
    /// The town's name.
    pub name: String,
    /// Its root directory.
    pub root: String,
    /// What is wrong with its files: `since` is when it was first seen so.
    pub findings: Vec<Alert>,
    /// When the reading of its files began.
    pub read_at: Timestamp,
    /// Rigs whose workers' directories could not be listed in that reading: nobody is missing there.
    pub unlisted: BTreeSet<RigName>,
}

/// What the heart needs to know of a rig, and what results show of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RigFacts {
    /// What its state file says.
    pub file: FileState,
    /// Whether its agents may be started, from the file and the ledger together. The heart sets it.
    pub standing: Standing,
    /// Whether its witness is kept running.
    pub witness: Mode,
    /// Whether its refinery is kept running.
    pub refinery: Mode,
    /// Its directory.
    pub path: String,
    /// Prefix of its work items.
    pub prefix: String,
    /// Its workers, by the directories there are.
    pub polecats: Vec<AgentName>,
    /// People's workspaces in it.
    pub crew: Vec<String>,
}

/// Whether policy looks after a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It is kept running.
    Always,
    /// Somebody may start it; then it is kept running until it has been idle for this long.
    OnDemand(Duration),
    /// Hands off: a person may start it. With the reason.
    Off(String),
}

/// Why a start is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocked {
    /// In a few words, for people: `rig parked`.
    pub reason: String,
    /// For a caller.
    pub error: RpcError,
    /// It is for want of something that is looked at again by itself.
    pub shortage: Option<Shortage>,
}

/// Everything a move may look at, and the two things that a pure function cannot make itself.
pub struct Situation<'a> {
    /// The present instant.
    pub now: Timestamp,
    /// The numbers.
    pub settings: &'a Settings,
    /// The town as it was last seen.
    pub facts: &'a Facts,
    /// What the ledger says of the rigs.
    pub rigs: &'a BTreeMap<RigName, Record>,
    /// Workers that are being made or removed.
    pub closed: &'a BTreeMap<Address, Closed>,
    /// What is paused.
    pub pauses: &'a Pauses,
    /// What agents have on their hooks, as last said.
    pub hooks: &'a Hooks,
    /// Counts questions to the stores of work.
    pub questions: &'a mut u64,
    /// The whole town was stopped.
    pub held: bool,
    /// What should run is not known: nothing is started or ended until a person says `up`.
    pub observing: bool,
    /// Why tmux cannot be used, if it cannot: a sentence that names tmux.
    pub tmux: Option<&'a str>,
    /// What limits starts now.
    pub limits: &'a mut Limits,
    /// Other agents are still being looked for after a restart of the daemon: nothing follows from a death yet.
    pub looking: bool,
    /// Restarts are held after a mass death.
    pub incident: Option<incident::Held<'a>>,
    /// Makes instance ids.
    pub new_instance: &'a mut (dyn FnMut() -> InstanceId + Send),
    /// Rolls a number between -1 and 1.
    pub chance: &'a mut (dyn FnMut() -> f64 + Send),
}

impl Situation<'_> {
    /// Whether an agent may be started now. A person may start what policy leaves alone.
    ///
    /// # Errors
    /// With the reason, for people and for callers.
    pub fn may_start(&self, agent: &Address, by_person: bool) -> Result<(), Blocked> {
        if self.held {
            return Err(not_operational(agent, "town is down", "the town is stopped", "gtctl up"));
        }
        self.pauses.bar(agent)?;
        if self.observing {
            let why = "the ledger was lost, and what should run is not known";
            return Err(not_operational(agent, "town is down", why, "gtctl up"));
        }
        if !self.facts.known {
            let why = "the registry has not been read yet";
            return Err(not_operational(agent, "state file unreadable", why, "gtctl status"));
        }
        closed::bar(agent, self.closed.get(agent).copied())?;
        if let Some(rig) = agent.rig() {
            let Some(facts) = self.facts.rigs.get(rig) else {
                let reason = "the rig is not registered".to_owned();
                return Err(Blocked { reason, error: unknown_rig(rig, self.facts), shortage: None });
            };
            if let Some(blocked) = barred(agent, rig, facts, self.rigs.get(rig)) {
                return Err(blocked);
            }
            let mode = match agent.role() {
                Role::Witness => Some(&facts.witness),
                Role::Refinery => Some(&facts.refinery),
                _ => None,
            };
            if let (Some(Mode::Off(why)), false) = (mode, by_person) {
                return Err(left_alone(agent, why));
            }
        } else if let (Address::Deacon, Some(Mode::Off(why)), false) = (agent, &self.facts.deacon, by_person)
        {
            return Err(left_alone(agent, why));
        }
        if let Some(why) = self.tmux {
            return Err(Blocked {
                reason: why.to_owned(),
                error: RpcError::new(ErrorKind::TmuxUnavailable, format!("{agent} cannot be started: {why}"))
                    .hint("gtctl status"),
                shortage: None,
            });
        }
        Ok(())
    }
}

/// Policy does not look after it.
fn left_alone(agent: &Address, why: &str) -> Blocked {
    let error = RpcError::new(ErrorKind::RigNotOperational, format!("{agent} is not looked after: {why}"));
    Blocked { reason: why.to_owned(), error, shortage: None }
}

pub(super) fn not_operational(agent: &Address, word: &str, why: &str, hint: &str) -> Blocked {
    Blocked {
        reason: why.to_owned(),
        error: RpcError::new(ErrorKind::RigNotOperational, format!("{agent} may not be started: {why}"))
            .hint(hint)
            .with("reason", word),
        shortage: None,
    }
}

/// The standing agents of the town and of all rigs, and whether policy looks after them.
pub fn wanted(facts: &Facts) -> impl Iterator<Item = (Address, &Mode)> + '_ {
    let deacon = facts.deacon.iter().map(|mode| (Address::Deacon, mode));
    deacon.chain(facts.rigs.iter().flat_map(|(rig, facts)| {
        [(Address::Witness(rig.clone()), &facts.witness), (Address::Refinery(rig.clone()), &facts.refinery)]
    }))
}
