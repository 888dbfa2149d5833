//! One agent's life as a pure state machine: the record, its phases, and the moves between them.
//!
//! Nothing here does I/O or reads a clock. A move changes the record and writes what must follow into a
//! [`Turn`]: rows for the ledger, orders for the agent's task, outcomes for whoever waits. The loop commits
//! the rows before it passes on the orders.

use std::time::Duration;

use gtd_proto::{Activity, Address, InstanceId, Intent, RpcError, State, Timestamp};
use serde::{Deserialize, Serialize};

use super::planner::{Mode, Situation};
use super::policy::{self, Memory, Next, after, since};
use super::turn::{Outcome, Turn};
use crate::agents::order::{Life, Order, Overrides, Place};

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
    fn of_policy(mode: &Mode, now: Timestamp) -> Self {
        let (intent, reason) = match mode {
            Mode::Always => (Intent::Running, "the role is always on".to_owned()),
            Mode::Off(why) => (Intent::Stopped, why.clone()),
        };
        Self { intent, by: SUPERVISOR.to_owned(), reason: Some(reason), at: now }
    }

    /// Nobody but policy wanted it.
    fn is_of_policy(&self) -> bool {
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
    /// The last instance, present or not.
    pub last_instance: Option<InstanceId>,
    /// After a restart of the daemon, until that instance is looked for: its end is on record already.
    pub told: Option<InstanceId>,
    /// Where the last instance ran: its pane is used again.
    pub last_place: Option<Place>,
    /// What the agent says that it does.
    pub activity: Activity,
    /// Why it cannot be observed, while it cannot.
    pub blind: Option<String>,
    /// Processes that outlive the agent and are being ended.
    pub lingering: Vec<String>,
    /// Something about it that a person should know.
    pub alert: Option<String>,
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
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the last instance ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Machine {
    /// An agent seen for the first time: it should run because its role is always on.
    #[must_use]
    pub fn new(address: Address, now: Timestamp) -> Self {
        Self {
            address,
            wish: Wish::of_policy(&Mode::Always, now),
            overrides: Overrides::default(),
            memory: Memory::default(),
            lifetime: 0,
            phase: Phase::Rest,
            since: now,
            reason: None,
            current: None,
            last_instance: None,
            told: None,
            last_place: None,
            activity: Activity::Unknown,
            blind: None,
            lingering: Vec::new(),
            alert: None,
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
            told: self.current.as_ref().filter(|current| current.told).map(|current| current.instance.clone()),
            verdict: match &self.phase {
                Phase::Dead { died_at, next, .. } => Some((*died_at, next.clone())),
                _ => None,
            },
            reason: self.reason.clone(),
            place: self.last_place.clone(),
        }
    }

    /// The state that people and scripts are shown.
    #[must_use]
    pub fn state(&self) -> State {
        if !self.lingering.is_empty() {
            return State::Lingering;
        }
        if self.blind.is_some() && self.current.is_some() {
            return State::Unknown;
        }
        match &self.phase {
            Phase::Rest => State::Stopped,
            Phase::Adopting => State::Unknown,
            Phase::Starting { .. } => State::Starting,
            Phase::Running => State::Running,
            Phase::Draining { .. } | Phase::Ending { .. } => State::Stopping,
            Phase::Dead { .. } => State::Backoff,
            Phase::Waiting { why: Pause::Quarantine, .. } | Phase::Broken => State::Quarantined,
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
        match &self.phase {
            Phase::Starting { deadline } => Some(*deadline),
            Phase::Draining { until, .. } | Phase::Waiting { until, .. } => Some(*until),
            Phase::Dead { settled_at, gone: true, .. } => Some(*settled_at),
            Phase::Running if self.memory.consecutive > 0 || self.memory.half_open => {
                self.born_at().map(|born| after(born, healthy_after))
            }
            _ => None,
        }
    }

    /// When the present instance's process began.
    #[must_use]
    pub fn born_at(&self) -> Option<Timestamp> {
        let current = self.current.as_ref()?;
        current.life.as_ref().and_then(|life| life.started_at).or(Some(current.reserved_at))
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Timestamp, reason: Option<String>, turn: &mut Turn) {
        self.phase = phase;
        self.since = now;
        self.reason = reason;
        turn.touched(&self.address);
        turn.agent_row(self);
    }

    /// Starts a new instance. The caller has made sure that it may.
    pub(super) fn launch(&mut self, why: &str, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let instance = (situation.new_instance)();
        self.current = Some(Current {
            instance: instance.clone(),
            reserved_at: now,
            life: None,
            alive: false,
            ready_at: None,
            told: false,
        });
        self.last_instance = Some(instance.clone());
        self.activity = Activity::Unknown;
        self.alert = None;
        let deadline = after(now, situation.settings.start_timeout);
        self.enter(Phase::Starting { deadline }, now, Some(why.to_owned()), turn);
        turn.instance_row(self, false);
        turn.starting(self, why, now);
        turn.decided(&self.address, now, why, "start", &format!("instance {instance}"));
        turn.order(
            &self.address,
            Order::Launch { instance, overrides: self.overrides.clone(), before: self.last_place.clone() },
        );
    }

    /// Begins to end the present instance. Without one there is nothing to do.
    pub(super) fn end(&mut self, ask: End, situation: &Situation<'_>, turn: &mut Turn) {
        let Some(current) = &self.current else { return };
        let now = situation.now;
        let then = ask.then;
        let drains = self.activity == Activity::Working && current.alive && !ask.now && !ask.force;
        match self.phase {
            Phase::Dead { .. } => {
                // Already dead; what is left of it is being ended by its task.
                self.enter(Phase::Ending { then }, now, Some(ask.why), turn);
            }
            _ if drains && !matches!(self.phase, Phase::Ending { .. }) => {
                let until = after(now, situation.settings.drain);
                self.enter(Phase::Draining { until, then }, now, Some(ask.why), turn);
            }
            _ => self.terminate(then, ask.force, &ask.by, ask.why, now, turn),
        }
    }

    pub(super) fn terminate(
        &mut self,
        then: Then,
        force: bool,
        by: &str,
        why: String,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(current) = &self.current else { return };
        let keep_pane = then == Then::Start;
        let order = Order::End { instance: current.instance.clone(), force, keep_pane, by: by.to_owned() };
        let again = matches!(self.phase, Phase::Ending { .. });
        self.enter(Phase::Ending { then }, now, Some(why.clone()), turn);
        if !again || force {
            turn.decided(&self.address, now, &why, if force { "kill" } else { "terminate" }, by);
            turn.order(&self.address, order);
        }
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        match self.phase.clone() {
            Phase::Starting { deadline } if now >= deadline => self.not_ready_in_time(situation, turn),
            Phase::Draining { until, then } if now >= until => {
                let why = "its turn did not end in time".to_owned();
                self.terminate(then, false, "supervisor", why, now, turn);
            }
            Phase::Dead { died_at, settled_at, gone: true, next } if now >= settled_at => {
                self.follow(next, died_at, situation, turn);
            }
            Phase::Waiting { until, why } if now >= until => {
                let words = match why {
                    Pause::Backoff => "its back-off is over",
                    Pause::Quarantine => "its quarantine is over: one try",
                    Pause::Retry => "another try",
                };
                self.start_or_rest(words, situation, turn);
            }
            Phase::Running => {
                let healthy = self
                    .born_at()
                    .is_some_and(|born| since(born, now) >= situation.settings.numbers.healthy_after);
                if healthy && (self.memory.consecutive > 0 || self.memory.half_open) {
                    policy::lived_healthily(&mut self.memory);
                    turn.decided(
                        &self.address,
                        now,
                        "it has lived long enough",
                        "forgive the row of failures",
                        "",
                    );
                    turn.agent_row(self);
                    turn.touched(&self.address);
                }
            }
            _ => {}
        }
    }

    fn not_ready_in_time(&mut self, situation: &Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let waited = humantime::format_duration(situation.settings.start_timeout).to_string();
        if self.is_alive() {
            let note = format!("it runs, and did not say within {waited} that it is ready");
            self.alert = Some(note.clone());
            self.enter(Phase::Running, now, Some(note), turn);
            turn.outcome(&self.address, Outcome::StartUnconfirmed { reached: "alive" });
        } else {
            // The task reports every end of a launch within its own deadlines; this is only slower than that.
            let deadline = after(now, situation.settings.start_timeout);
            self.phase = Phase::Starting { deadline };
            self.alert = Some(format!("its launch has not come to an end within {waited}"));
            turn.touched(&self.address);
            turn.outcome(&self.address, Outcome::StartUnconfirmed { reached: "launching" });
        }
    }

    /// Does what the policy said about a death, now that it has settled.
    fn follow(&mut self, next: Next, died_at: Timestamp, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        if self.wish.intent != Intent::Running {
            self.enter(Phase::Rest, now, self.wish.reason.clone(), turn);
            return;
        }
        match next {
            Next::Rest => self.enter(Phase::Rest, now, None, turn),
            Next::Start { delay } => {
                if let Err(blocked) = situation.may_start(&self.address, false) {
                    self.enter(Phase::Rest, now, Some(blocked.reason), turn);
                    return;
                }
                self.lifetime += 1;
                let due = after(died_at, delay);
                turn.restarting(self, delay, now);
                if due <= now || delay.is_zero() {
                    self.start_or_rest("it died", situation, turn);
                } else {
                    self.enter(
                        Phase::Waiting { until: due, why: Pause::Backoff },
                        now,
                        self.reason.clone(),
                        turn,
                    );
                    turn.backoff(self, due, delay, now);
                }
            }
            Next::Quarantine { period, failures } => {
                self.lifetime += 1;
                let until = after(died_at, period);
                self.enter(Phase::Waiting { until, why: Pause::Quarantine }, now, self.reason.clone(), turn);
                turn.quarantined(self, Some(until), failures, now);
            }
            Next::Broken => {
                self.enter(Phase::Broken, now, self.reason.clone(), turn);
                turn.quarantined(self, None, self.memory.consecutive, now);
            }
        }
    }

    /// Starts it when it may be started, else leaves it at rest with the reason.
    pub(super) fn start_or_rest(&mut self, why: &str, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        if self.wish.intent != Intent::Running {
            self.enter(Phase::Rest, now, self.wish.reason.clone(), turn);
            return;
        }
        match situation.may_start(&self.address, false) {
            Ok(()) => self.launch(why, situation, turn),
            Err(blocked) => self.enter(Phase::Rest, now, Some(blocked.reason), turn),
        }
    }

    /// Policy looks after the role, or no longer does. What somebody asked for stays as it is.
    pub(super) fn follow_mode(&mut self, mode: &Mode, now: Timestamp, turn: &mut Turn) {
        let wish = Wish::of_policy(mode, now);
        if self.wish.is_of_policy() && (self.wish.intent, &self.wish.reason) != (wish.intent, &wish.reason) {
            if self.phase == Phase::Rest {
                self.reason.clone_from(&wish.reason);
            }
            self.wish = wish;
            turn.agent_row(self);
        }
    }

    /// Brings what is towards what should be, where nothing is under way.
    pub(super) fn reconcile(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        // Policy that no longer looks after a role leaves what runs alone: only somebody's stop ends it. Without
        // knowledge of what should run, nothing is ended either.
        let stopped = self.wish.intent == Intent::Stopped && !self.wish.is_of_policy();
        let unwanted = !situation.observing && (situation.held || stopped);
        match self.phase {
            Phase::Rest if self.wish.intent == Intent::Running => {
                match situation.may_start(&self.address, false) {
                    Ok(()) => self.launch("it should run", situation, turn),
                    Err(blocked) => {
                        if self.reason.as_ref() != Some(&blocked.reason) {
                            self.reason = Some(blocked.reason);
                            turn.touched(&self.address);
                        }
                    }
                }
            }
            Phase::Starting { .. } | Phase::Running if unwanted => {
                let why = if situation.held { "the town is stopped" } else { "it should not run" };
                let ask = End::new(Then::Rest, "supervisor", why);
                self.end(ask, situation, turn);
            }
            Phase::Waiting { .. } | Phase::Broken if unwanted => {
                let why = if situation.held {
                    Some("the town is stopped".to_owned())
                } else {
                    self.wish.reason.clone()
                };
                self.enter(Phase::Rest, situation.now, why, turn);
            }
            _ => {}
        }
    }
}

/// How an end is asked for.
#[derive(Debug, Clone)]
pub struct End {
    /// What comes after.
    pub then: Then,
    /// Do not wait for the turn to end.
    pub now: bool,
    /// KILL at once.
    pub force: bool,
    /// Who asks.
    pub by: String,
    /// Why.
    pub why: String,
}

impl End {
    /// An end that lets the turn end first.
    #[must_use]
    pub fn new(then: Then, by: &str, why: &str) -> Self {
        Self { then, now: false, force: false, by: by.to_owned(), why: why.to_owned() }
    }
}

/// The error that a start gets when something else put an end to it.
#[must_use]
pub fn cancelled(address: &Address, why: &str) -> RpcError {
    RpcError::new(gtd_proto::ErrorKind::Busy, format!("the start of {address} was called off: {why}"))
        .hint(format!("gtctl explain {address}"))
}
