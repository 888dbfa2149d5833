//! One agent's life as a pure state machine: the record, its phases, and the moves between them.
//!
//! Nothing here does I/O or reads a clock. A move changes the record and writes what must follow into a
//! [`Turn`]: rows for the ledger, orders for the agent's task, outcomes for whoever waits. The loop commits
//! the rows before it passes on the orders.

use std::time::Duration;

use gtd_proto::{Activity, Address, InstanceId, Intent, Role, State, Timestamp};
use serde::{Deserialize, Serialize};

use super::drain::Drain;
use super::frost::Frost;
use super::hooked::Task;
use super::on_demand::Idling;
use super::pauses::Standing;
use super::planner::Mode;
use super::policy::{Memory, Next, after};
use super::progress::Progress;
use super::reports::{Word, Words};
use super::stood::Stood;
use super::throttle::Throttle;
use super::unjudged::Unjudged;
use super::waits::Waits;
use crate::agents::order::{Life, Overrides, Place};
use crate::ledger::ConversationRow;

/// What should be, and who said so.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What should be.
    pub intent: Intent,
    /// Who wanted it: `person`, `supervisor`, or an agent's address.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Wish {
    /// What policy wants where nobody has said anything else.
    pub(super) fn of_policy(agent: &Address, mode: &Mode, now: Timestamp) -> Self {
        let (intent, reason) = match mode {
            Mode::Always => (Intent::Running, "the role is always on".to_owned()),
            Mode::OnDemand(_) => {
                let role = agent.role();
                (Intent::Stopped, format!("[{role}] mode is \"on_demand\", and nobody asked for it"))
            }
            Mode::Off(why) => (Intent::Stopped, why.clone()),
        };
        Self { intent, by: SUPERVISOR.to_owned(), reason: Some(reason), at: now }
    }

    /// Nobody but policy wanted it.
    pub(super) fn is_of_policy(&self) -> bool {
        self.by == SUPERVISOR
    }
}

/// Who wants what nobody has asked for.
const SUPERVISOR: &str = "supervisor";

/// The present instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Its id.
    pub instance: InstanceId,
    /// When it was reserved.
    pub reserved_at: Timestamp,
    /// Where and as what it runs, once that is known.
    pub life: Option<Life>,
    /// Its agent's process is proven alive.
    pub alive: bool,
    /// When it was ready for work.
    pub ready_at: Option<Timestamp>,
    /// Its end is on record, and has been told and judged: what is left of it is not.
    pub told: bool,
}

/// What comes after an end that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays ended.
    Rest,
    /// A new instance is started.
    Start,
}

/// Why a dead agent waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Back-off.
    Backoff,
    /// Quarantine: the start at its end is the one try.
    Quarantine,
    /// Something that is not the agent's fault did not work; tried again soon.
    Retry,
    /// A person ended it: it waits until they want it back.
    Held,
    /// Its account, or the machine, forbids a start now: looked at again then.
    Throttled,
    /// Many died together, and restarts are held: whoever holds them ends this.
    Incident,
}

/// Where an agent is in its life.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Nothing is there, and nothing is under way.
    Rest,
    /// The daemon was restarted and the agent's task looks for the instance.
    Adopting,
    /// A launch is under way.
    Starting {
        /// When we stop waiting for readiness.
        deadline: Timestamp,
    },
    /// The agent's process is alive and was ready.
    Running,
    /// Waiting for the end of a turn before it is ended.
    Draining {
        /// Until then.
        until: Timestamp,
        /// What comes after.
        then: Then,
    },
    /// Being ended.
    Ending {
        /// What comes after.
        then: Then,
    },
    /// It died unasked; decided when the settle window is over and nothing of it is left.
    Dead {
        /// When.
        died_at: Timestamp,
        /// End of the settle window.
        settled_at: Timestamp,
        /// Nothing of the instance is left.
        gone: bool,
        /// What the policy said.
        next: Next,
    },
    /// Waiting for its next start.
    Waiting {
        /// Until then.
        until: Timestamp,
        /// Why.
        why: Pause,
    },
    /// Its program or directory cannot be used: waiting for that to change.
    Broken,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its address.
    pub address: Address,
    /// What should be.
    pub wish: Wish,
    /// What a person gave at the last start.
    pub overrides: Overrides,
    /// The policy's memory.
    pub memory: Memory,
    /// Starts after deaths, ever.
    pub lifetime: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Why it is there, in words.
    pub reason: Option<String>,
    /// The present instance.
    pub current: Option<Current>,
    /// What it waits for, while it is throttled.
    pub throttle: Option<Throttle>,
    /// A wait that goes on although it should not run at present, so that a stop and a start of the whole town
    /// forgive nothing.
    pub owed: Option<(Timestamp, Pause)>,
    /// The account it ran under last: limits of providers are kept by it.
    pub account: Option<String>,
    /// Since when and why it cannot be told whether its present instance lives, while it cannot.
    pub unsure: Option<(Timestamp, String)>,
    /// The last instance, present or not.
    pub last_instance: Option<InstanceId>,
    /// After a restart of the daemon, until that instance is looked for: its end is on record already.
    pub told: Option<InstanceId>,
    /// Where the last instance ran: its pane is used again.
    pub last_place: Option<Place>,
    /// A person wants it now: neither a limit of its account nor a hold after a mass death stops it. Until its
    /// next start.
    pub passes: bool,
    /// What the agent says that it does.
    pub activity: Activity,
    /// Why it cannot be observed, while it cannot.
    pub blind: Option<String>,
    /// Processes that outlive the agent and are being ended.
    pub lingering: Vec<String>,
    /// Something about it that a person should know.
    pub alert: Option<String>,
    /// How long it has idled, by its own word.
    pub idling: Idling,
    /// The work that it has, as last known.
    pub work: Option<Task>,
    /// That work is on no hook any more, and nobody has said yet that it is done.
    pub missed: bool,
    /// Work of which its store said that it is done: what is shown may be older than that.
    pub done: Option<Task>,
    /// Its end, on which nothing is decided before the store of work was asked.
    pub unjudged: Option<Box<Unjudged>>,
    /// How it gets on with its work.
    pub progress: Progress,
    /// What it has said.
    pub words: Words,
    /// The conversation that its next start goes on with.
    pub conversation: Option<ConversationRow>,
    /// It is out of service, or on its way there.
    pub drain: Option<Drain>,
    /// It waits for a person.
    pub waits: Option<Waits>,
    /// The pause that holds for it: what is paused is kept in a book of its own.
    pub paused: Option<Standing>,
    /// It stands still for that, or is on its way there or back.
    pub frost: Option<Frost>,
    /// When it was paused lately.
    pub stood: Stood,
    /// What an earlier daemon was restarting, until it is found or another one is begun.
    pub renewing: Option<InstanceId>,
}

/// The part of [`Machine`] that is not an instance and outlives the daemon, as kept in the ledger.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Memo {
    /// The policy's memory.
    #[serde(default)]
    pub memory: Memory,
    /// A wait that was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<(Timestamp, Pause)>,
    /// It could not be launched at all.
    #[serde(default)]
    pub broken: bool,
    /// The instance whose end is on record while something of it may be left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<InstanceId>,
    /// When it died, and what the policy said, until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<(Timestamp, Next)>,
    /// What it waits for, while it is throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// A wait that goes on although it should not run at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<(Timestamp, Pause)>,
    /// The account it ran under last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the last instance ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// How long the present instance has idled.
    #[serde(default, skip_serializing_if = "Idling::is_blank")]
    pub idling: Idling,
    /// The work that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Task>,
    /// How it gets on with its work.
    #[serde(default, skip_serializing_if = "Progress::is_blank")]
    pub progress: Progress,
    /// What the present instance said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
    /// It is out of service, or on its way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The present instance waits for a person, and that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// The present instance may stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frost: Option<Frost>,
    /// When it was paused lately.
    #[serde(default, skip_serializing_if = "Stood::is_blank")]
    pub stood: Stood,
    /// The instance that was to end so that the next one can begin: a restart that was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewing: Option<InstanceId>,
}

impl Machine {
    /// An agent seen for the first time: it should run when its role is always on; a worker when somebody says so.
    #[must_use]
    pub fn new(address: Address, now: Timestamp) -> Self {
        let mode = match address.role() {
            Role::Polecat | Role::Crew | Role::Mayor | Role::Boot => {
                Mode::Off("nobody has started it".to_owned())
            }
            _ => Mode::Always,
        };
        let wish = Wish::of_policy(&address, &mode, now);
        Self {
            address,
            wish,
            overrides: Overrides::default(),
            memory: Memory::default(),
            lifetime: 0,
            phase: Phase::Rest,
            since: now,
            reason: None,
            current: None,
            throttle: None,
            owed: None,
            account: None,
            unsure: None,
            last_instance: None,
            told: None,
            last_place: None,
            passes: false,
            activity: Activity::Unknown,
            blind: None,
            lingering: Vec::new(),
            alert: None,
            idling: Idling::default(),
            work: None,
            missed: false,
            done: None,
            unjudged: None,
            progress: Progress::default(),
            words: Words::default(),
            conversation: None,
            drain: None,
            waits: None,
            paused: None,
            frost: None,
            stood: Stood::default(),
            renewing: None,
        }
    }

    /// What must be remembered of it beside its instance.
    #[must_use]
    pub fn memo(&self) -> Memo {
        let waiting = match self.phase {
            Phase::Waiting { until, why } => Some((until, why)),
            _ => None,
        };
        Memo {
            memory: self.memory.clone(),
            waiting,
            broken: self.phase == Phase::Broken,
            told: self
                .current
                .as_ref()
                .filter(|current| current.told)
                .map(|current| current.instance.clone()),
            verdict: match &self.phase {
                Phase::Dead { died_at, next, .. } => Some((*died_at, next.clone())),
                _ => None,
            },
            throttle: self.throttle.clone(),
            owed: self.owed,
            account: self.account.clone(),
            reason: self.reason.clone(),
            place: self.last_place.clone(),
            idling: self.idling.clone(),
            work: self.work.clone(),
            progress: self.progress.clone(),
            word: self.words.last.clone(),
            drain: self.drain.clone(),
            waits: self.waits.clone(),
            frost: self.frost.clone(),
            stood: self.stood.clone(),
            renewing: self.being_renewed(),
        }
    }

    /// The state that people and scripts are shown.
    #[must_use]
    pub fn state(&self) -> State {
        if !self.lingering.is_empty() {
            return State::Lingering;
        }
        if (self.blind.is_some() || self.unsure.is_some()) && self.current.is_some() {
            return State::Unknown;
        }
        if let Some(state) = self.frozen_state() {
            return state;
        }
        match &self.phase {
            Phase::Rest => State::Stopped,
            Phase::Adopting => State::Unknown,
            Phase::Starting { .. } => State::Starting,
            Phase::Running => State::Running,
            Phase::Draining { .. } | Phase::Ending { .. } => State::Stopping,
            Phase::Dead { .. } => State::Backoff,
            Phase::Waiting { why: Pause::Quarantine, .. } | Phase::Broken => State::Quarantined,
            Phase::Waiting { why: Pause::Held, .. } => State::Held,
            Phase::Waiting { why: Pause::Throttled, .. } => State::Throttled,
            Phase::Waiting { .. } => State::Backoff,
        }
    }

    /// Whether the agent's process is proven alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.alive)
    }

    /// When something will happen by itself.
    #[must_use]
    pub fn deadline(&self, healthy_after: Duration) -> Option<Timestamp> {
        if let Some(end) = &self.unjudged {
            return Some(end.until);
        }
        // Nothing is waited for of what stands still.
        let own = if self.is_frozen() { None } else { self.phase_deadline(healthy_after) };
        own.into_iter().chain(self.frost_deadline()).min()
    }

    fn phase_deadline(&self, healthy_after: Duration) -> Option<Timestamp> {
        match &self.phase {
            Phase::Waiting { why: Pause::Incident, .. } => None,
            Phase::Starting { deadline } => Some(*deadline),
            Phase::Draining { until, .. } | Phase::Waiting { until, .. } => Some(*until),
            Phase::Dead { settled_at, gone: true, .. } => Some(*settled_at),
            Phase::Running => {
                let unproven = self.has_to_prove_itself();
                let healthy = self.born_at().filter(|_| unproven).map(|born| after(born, healthy_after));
                healthy.into_iter().chain(self.idle_until()).min()
            }
            _ => None,
        }
    }

    /// Its present life has something to make good, which it does by lasting.
    #[must_use]
    pub fn has_to_prove_itself(&self) -> bool {
        self.memory.consecutive > 0 || self.memory.half_open || !self.memory.deaths.is_empty()
    }

    /// When the present instance's process began.
    #[must_use]
    pub fn born_at(&self) -> Option<Timestamp> {
        let current = self.current.as_ref()?;
        current.life.as_ref().and_then(|life| life.started_at).or(Some(current.reserved_at))
    }
}
