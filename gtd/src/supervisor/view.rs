//! What results show: rendered after each turn, read without asking the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use gtd_proto::drain::Drain;
use gtd_proto::town::{Alert, Rig, Severity};
use gtd_proto::waiting::Waiting;
use gtd_proto::{
    Activity, Address, Agent, AgentName, Incident, IncidentState, Intent, Restarts, RigName, RpcError, State,
    Timestamp,
};

use super::hooks::Hooks;
use super::machine::{Machine, Phase};
use super::orphaned::Orphan;
use super::pauses::{Pauses, Standing};
use super::planner::Facts;
use super::progress::Watched;
use super::recorded::Recorded;
use super::reports::Heard;
use super::rig_requests::Chore;
use super::rigs::unknown_rig;
use super::workers::Belongings;
use super::worktrees::Worktree;
use crate::ledger::HoldRow;

/// What the last listing said of an agent's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// When the session was made.
    pub created_at: Option<Timestamp>,
    /// Its windows.
    pub windows: u32,
    /// Last output or input in it.
    pub last_activity: Option<Timestamp>,
    /// Somebody looks at it.
    pub attached: bool,
    /// When this was seen.
    pub seen_at: Timestamp,
}

/// Everything that is shown. Locked for moments only.
#[derive(Debug, Default)]
pub struct View {
    inner: RwLock<Shown>,
}

/// The content of a [`View`].
#[derive(Debug, Default, Clone)]
pub struct Shown {
    /// Agents that the heart knows, as results show them.
    pub agents: BTreeMap<Address, Agent>,
    /// Their processes, by identity.
    pub recorded: Recorded,
    /// Sessions by agent.
    pub sessions: BTreeMap<Address, SessionFacts>,
    /// The town as it was last seen.
    pub facts: Facts,
    /// What a person should know of, by key.
    pub alerts: BTreeMap<String, Alert>,
    /// Mass deaths, the newest first, open and closed.
    pub incidents: Vec<Incident>,
    /// The town was stopped as a whole.
    pub hold: Option<HoldRow>,
    /// What is paused.
    pub pauses: Pauses,
    /// Sessions on the server at the last listing.
    pub sessions_total: u64,
    /// What is to be written into files for the rigs.
    pub chores: Vec<(RigName, Chore)>,
    /// What agents have on their hooks.
    pub hooks: Hooks,
    /// Where workers work.
    pub worktrees: BTreeMap<Address, Worktree>,
    /// Agents whose progress is to be looked after.
    pub watched: BTreeMap<Address, Watched>,
    /// Work on the hooks of agents that will not do it.
    pub orphaned: BTreeMap<Address, Orphan>,
    /// Who waits for a person.
    pub waiting: BTreeMap<Address, Waiting>,
    /// Panes that agents ran in last and may be started in again, also of those at rest.
    pub panes: BTreeMap<Address, String>,
    /// What belongs to workers.
    pub belongings: BTreeMap<Address, Belongings>,
    /// What agents have said.
    pub heard: BTreeMap<Address, Heard>,
}

impl View {
    /// A copy of some part of what is shown.
    pub fn read<R>(&self, f: impl FnOnce(&Shown) -> R) -> R {
        f(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<R>(&self, f: impl FnOnce(&mut Shown) -> R) -> R {
        f(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what the stores of work say of the agents' hooks.
    pub(super) fn hooks_are(&self, hooks: Hooks) {
        self.change(|shown| shown.take_hooks(hooks));
    }

    /// One agent.
    #[must_use]
    pub fn agent(&self, agent: &Address) -> Option<Agent> {
        self.read(|shown| shown.agents.get(agent).cloned())
    }
}

impl Shown {
    /// A registered rig.
    ///
    /// # Errors
    /// `rig_not_found`, with the rigs there are.
    pub fn rig(&self, name: &RigName) -> Result<Rig, RpcError> {
        let facts = self.facts.rigs.get(name).ok_or_else(|| unknown_rig(name, &self.facts))?;
        let standing = &facts.standing;
        let hold = self.hold.as_ref();
        let role = |agent: Address| {
            self.agents.get(&agent).cloned().unwrap_or_else(|| Agent {
                hook: self.hooks.work(&agent),
                ..at_rest(&agent, Timestamp::UNIX_EPOCH)
            })
        };
        Ok(Rig {
            name: name.clone(),
            path: facts.path.clone(),
            operational: standing.barred.is_none() && hold.is_none(),
            reason: standing.barred.clone().or_else(|| hold.map(|_| "town is down".to_owned())),
            since: standing.since.or_else(|| hold.map(|hold| hold.at)),
            parked: standing.parked.clone(),
            docked: standing.docked.clone(),
            removing: standing.removing,
            pause: self.pauses.rig(name).map(|standing| standing.shown()),
            prefix: facts.prefix.clone(),
            witness: role(Address::Witness(name.clone())),
            refinery: role(Address::Refinery(name.clone())),
            polecats: self
                .workers(name, &facts.polecats)
                .iter()
                .map(|polecat| self.polecat(name, polecat, &facts.path))
                .collect(),
            crew: facts.crew.clone(),
        })
    }

    /// The town's own agents, and those that run or should while their rig is not known to be registered.
    pub fn without_rig(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter(|agent| match &agent.rig {
            None => true,
            Some(rig) => {
                let at_rest = agent.state == State::Stopped && agent.intent == Intent::Stopped;
                !self.facts.rigs.contains_key(rig) && !at_rest
            }
        })
    }

    /// A rig's workers: by their directories, and those that were made just now.
    fn workers(&self, rig: &RigName, by_directory: &[AgentName]) -> BTreeSet<AgentName> {
        let known = self.agents.keys().filter_map(|agent| match agent {
            Address::Polecat(of, name) if of == rig => Some(name.clone()),
            _ => None,
        });
        known.chain(by_directory.iter().cloned()).collect()
    }

    fn polecat(&self, rig: &RigName, name: &AgentName, path: &str) -> Agent {
        let address = Address::Polecat(rig.clone(), name.clone());
        self.agents.get(&address).cloned().unwrap_or_else(|| Agent {
            worktree: Some(format!("{path}/polecats/{name}/{rig}")),
            hook: self.hooks.work(&address),
            ..at_rest(&address, Timestamp::UNIX_EPOCH)
        })
    }

    /// How many agents are in which state.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<String, u64> {
        let mut summary = BTreeMap::new();
        for agent in self.agents.values() {
            *summary.entry(agent.state.as_str().to_owned()).or_insert(0) += 1;
        }
        summary
    }
}

/// An agent of which nothing is known but its address.
#[must_use]
pub fn at_rest(address: &Address, since: Timestamp) -> Agent {
    Agent {
        agent: address.clone(),
        role: address.role(),
        rig: address.rig().cloned(),
        name: address.name().cloned(),
        state: State::Stopped,
        activity: Activity::Unknown,
        activity_detail: None,
        activity_since: None,
        running: false,
        intent: Intent::Stopped,
        intent_by: "supervisor".to_owned(),
        intent_reason: None,
        instance: None,
        server: None,
        session: None,
        session_name: None,
        pane: None,
        created_at: None,
        windows: None,
        last_activity: None,
        pid: None,
        shim_pid: None,
        started_at: None,
        since,
        restarts: Restarts::default(),
        next_attempt: None,
        reason: None,
        hook: None,
        worktree: None,
        branch: None,
        agent_preset: String::new(),
        account: None,
        attached: false,
        drain: None,
        pause: None,
        stale: Vec::new(),
    }
}

/// An agent as results show it.
#[must_use]
pub fn render(machine: &Machine, session: Option<&SessionFacts>) -> Agent {
    let current = machine.current.as_ref();
    let life = current.and_then(|current| current.life.as_ref());
    let word = machine.words.last.as_ref().filter(|_| current.is_some());
    // A pane that is kept for the next start is nothing to look at once there is to be none.
    let kept = machine.last_place.as_ref().filter(|_| machine.phase != Phase::Rest);
    let place = life.map(|life| &life.place).or(kept);
    let session = session.filter(|_| place.is_some());
    let alive = machine.is_alive();
    let next_attempt = match &machine.phase {
        Phase::Waiting { until, .. } => Some(*until).filter(|until| *until < Timestamp::MAX),
        _ => None,
    };
    let trouble =
        machine.blind.as_ref().or(machine.unsure.as_ref().filter(|_| current.is_some()).map(|(_, why)| why));
    let intent = machine.shown_intent();
    // One that is to be stopped has a reason of its own.
    let wanted = machine.wish.intent == Intent::Running;
    let paused = machine.paused.as_ref().filter(|_| wanted).map(Standing::words);
    Agent {
        state: machine.state(),
        // Of one that is gone there is nothing to say.
        activity: if current.is_some() { machine.shown_activity() } else { Activity::Unknown },
        activity_detail: word.and_then(|word| word.detail.clone()),
        activity_since: word.map(|word| word.since),
        running: alive,
        intent: intent.0,
        intent_by: intent.1,
        intent_reason: intent.2,
        instance: machine.last_instance.clone(),
        server: place.map(|place| place.socket.clone()),
        session: place.map(|place| place.session.clone()),
        session_name: place.map(|place| place.session_name.clone()),
        pane: place.map(|place| place.pane.clone()),
        created_at: session.and_then(|session| session.created_at),
        windows: session.map(|session| session.windows),
        last_activity: session.and_then(|session| session.last_activity),
        pid: life.filter(|_| alive).and_then(|life| life.process.as_ref()).map(|process| process.pid.get()),
        shim_pid: life.map(|life| life.shim.pid.get()),
        started_at: life.and_then(|life| life.started_at),
        restarts: Restarts { lifetime: machine.lifetime, consecutive: machine.memory.consecutive },
        next_attempt,
        reason: trouble
            .cloned()
            .or_else(|| machine.alert.clone())
            .or(paused)
            .or_else(|| machine.reason.clone()),
        worktree: life.map(|life| life.cwd.clone()).filter(|cwd| !cwd.is_empty()),
        // Of one at rest: what its next start would take.
        agent_preset: life
            .map(|life| life.preset.clone())
            .or_else(|| machine.overrides.agent.clone())
            .unwrap_or_default(),
        account: life.map_or_else(|| machine.overrides.account.clone(), |life| life.account.clone()),
        drain: machine.drain.as_ref().map(|drain| Drain {
            by: drain.by.clone(),
            reason: drain.reason.clone(),
            since: drain.at,
            done: drain.done,
        }),
        pause: machine.shown_pause(),
        attached: session.is_some_and(|session| session.attached),
        ..at_rest(&machine.address, machine.shown_since())
    }
}

/// What a person should know of the open incident.
pub(super) fn incident_alerts(incidents: &[Incident], now: Timestamp) -> Vec<Alert> {
    let open = incidents.iter().filter(|incident| incident.is_open());
    let told = open.map(|incident| {
        let (many, cause) = (incident.count, incident.cause.as_str());
        let span = humantime::format_duration(std::time::Duration::from_millis(incident.window_ms));
        let then = match (&incident.state, &incident.canary) {
            (IncidentState::Holding, _) => "restarts are held".to_owned(),
            (IncidentState::Canary, Some(agent)) => format!("{agent} goes first, the others are held"),
            _ => "they are being started again".to_owned(),
        };
        let message = format!("{many} agents died within {span} ({cause}): {then}");
        let key = format!("incident:{}", incident.id);
        alert(key, Severity::Error, message, "gtctl deaths incidents", now)
    });
    told.collect()
}

/// Opens and closes alerts: what is still there keeps its `since`.
pub(super) fn settle_alerts(shown: &mut Shown, present: Vec<Alert>) {
    let mut next = BTreeMap::new();
    for mut alert in present {
        if let Some(old) = shown.alerts.get(&alert.key)
            && old.message == alert.message
        {
            alert.since = old.since;
        }
        next.insert(alert.key.clone(), alert);
    }
    shown.alerts = next;
}

/// An alert, first seen now.
pub(super) fn alert(
    key: impl Into<String>,
    severity: Severity,
    message: String,
    hint: &str,
    now: Timestamp,
) -> Alert {
    Alert { key: key.into(), since: now, severity, message, hint: Some(hint.to_owned()) }
}
