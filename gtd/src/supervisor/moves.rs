//! The moves of an agent's life that are not answers to a report: launching, ending, waiting, and bringing what
//! is towards what should be.

use gtd_proto::{Activity, Address, Intent, RpcError, Timestamp};

use super::machine::{Current, Machine, Pause, Phase, Then, Wish};
use super::planner::{Blocked, Mode, Situation};
use super::policy::{self, Next, after, since};
use super::reports::Words;
use super::throttle::Asker;
use super::turn::{Outcome, Turn};
use crate::agents::order::Order;

impl Machine {
    pub(super) fn enter(&mut self, phase: Phase, now: Timestamp, reason: Option<String>, turn: &mut Turn) {
        // A pass is for what is being brought about now: whoever comes to wait waits like everybody.
        if !matches!(
            phase,
            Phase::Dead { .. } | Phase::Draining { .. } | Phase::Ending { .. } | Phase::Adopting
        ) {
            self.passes = false;
        }
        self.phase = phase;
        self.since = now;
        self.reason = reason;
        if self.phase == Phase::Rest {
            self.is_drained(now, turn);
        }
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
        self.words = Words::default();
        self.forget_idling();
        self.move_on("it was started again", now, turn);
        self.waits = None;
        self.frost = None;
        self.renewing = None;
        self.alert = None;
        (self.throttle, self.owed, self.unsure) = (None, None, None);
        self.passes = false;
        situation.limits.running = situation.limits.running.saturating_add(1);
        let deadline = after(now, situation.settings.start_timeout);
        self.enter(Phase::Starting { deadline }, now, Some(why.to_owned()), turn);
        turn.instance_row(self, false);
        turn.starting(self, why, now);
        turn.decided(&self.address, now, why, "start", &format!("instance {instance}"));
        let talk = self.talk(&instance, now, turn);
        let (overrides, before) = (self.overrides.clone(), self.last_place.clone());
        turn.order(
            &self.address,
            Order::Launch { instance, overrides, before, hooked: self.work.is_some(), talk },
        );
    }

    /// Begins to end the present instance. Without one there is nothing to do.
    pub(super) fn end(&mut self, ask: End, situation: &Situation<'_>, turn: &mut Turn) {
        let Some(current) = &self.current else { return };
        let now = situation.now;
        let then = ask.then;
        // What stands still ends no turn; only a drain waits until it goes on.
        let stands = self.is_frozen() && !self.drain.as_ref().is_some_and(|drain| drain.patient);
        let drains = self.activity == Activity::Working && current.alive && !ask.now && !ask.force && !stands;
        match self.phase {
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
        if self.unjudged.is_some() {
            if self.unjudged.as_ref().is_some_and(|end| end.until <= now) {
                self.judge_by_what_is_known(situation, turn);
            }
            return;
        }
        if self.is_frozen() {
            return;
        }
        match self.phase.clone() {
            Phase::Starting { deadline } if now >= deadline => self.not_ready_in_time(situation, turn),
            Phase::Draining { until, then } if now >= until => {
                if self.goes_on_draining(then, now, turn) {
                    return;
                }
                let asked = self
                    .reason
                    .as_deref()
                    .map(|why| format!(": {why}, by {}", self.wish.by))
                    .unwrap_or_default();
                let why = format!("its turn did not end in time{asked}");
                self.terminate(then, false, "supervisor", why, now, turn);
            }
            Phase::Dead { died_at, settled_at, gone: true, next }
                if now >= settled_at && (!situation.looking || self.passes) =>
            {
                self.follow(next, died_at, situation, turn);
            }
            Phase::Waiting { until, why: Pause::Throttled } if now >= until => {
                self.look_at_throttle(situation, turn);
            }
            Phase::Waiting { until, why } if now >= until && why != Pause::Incident => {
                let words = match why {
                    Pause::Backoff => "its back-off is over",
                    Pause::Quarantine => "its quarantine is over: one try",
                    Pause::Held => "it was left to its person for as long as configured",
                    Pause::Incident => "its hold is over",
                    Pause::Retry | Pause::Throttled => "another try",
                };
                if why == Pause::Held {
                    turn.released(self, words, "supervisor", now);
                }
                self.start_unless_held(words, situation, turn);
            }
            Phase::Running => {
                let healthy = self
                    .born_at()
                    .is_some_and(|born| since(born, now) >= situation.settings.numbers.healthy_after);
                if healthy && self.has_to_prove_itself() {
                    let held_against = self.memory.consecutive > 0 || self.memory.half_open;
                    policy::lived_healthily(&mut self.memory);
                    if held_against {
                        turn.decided(
                            &self.address,
                            now,
                            "it has lived long enough",
                            "forgive the row of failures",
                            "",
                        );
                    }
                    turn.agent_row(self);
                    turn.touched(&self.address);
                }
                self.end_idle(situation, turn);
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
            self.set_aside();
            self.enter(Phase::Rest, now, self.wish.reason.clone(), turn);
            return;
        }
        let reason = self.reason.clone();
        match next {
            // Work that came since it died is something to come back for.
            Next::Rest if matches!(self.address, Address::Polecat(..)) && self.work.is_some() => {
                self.start_or_rest("work came after it had ended", situation, turn);
            }
            Next::Rest if matches!(self.address, Address::Polecat(..)) => {
                self.retire(reason.as_deref().unwrap_or("it ended"), now, turn);
            }
            Next::Rest if self.address == Address::Boot => self.triage_is_over(now, reason, turn),
            Next::Rest => self.enter(Phase::Rest, now, reason, turn),
            Next::Start { delay } => {
                let due = after(died_at, delay);
                if situation.incident.is_some() && !self.passes {
                    self.lifetime += 1;
                    self.phase = Phase::Waiting { until: due, why: Pause::Backoff };
                    self.await_incident(situation, turn);
                    if let Phase::Waiting { until, .. } = self.phase {
                        let wait = since(now, until);
                        turn.restarting(self, wait, now);
                        turn.backoff(self, until, wait, now);
                    }
                    return;
                }
                if due > now && !delay.is_zero() {
                    // Whatever else forbids a start now is asked when it is due: it makes nothing forgotten.
                    self.lifetime += 1;
                    turn.restarting(self, delay, now);
                    self.enter(Phase::Waiting { until: due, why: Pause::Backoff }, now, reason, turn);
                    turn.backoff(self, due, delay, now);
                    return;
                }
                if self.may_start(situation, Asker::Policy).is_ok() {
                    self.lifetime += 1;
                    turn.restarting(self, delay, now);
                }
                let why = if self.passes { "it was asked for" } else { "it died" };
                self.start_or_rest(why, situation, turn);
            }
            Next::Quarantine { period, failures } => {
                self.lifetime += 1;
                let until = after(died_at, period);
                self.enter(Phase::Waiting { until, why: Pause::Quarantine }, now, reason, turn);
                turn.quarantined(self, Some(until), failures, now);
            }
            Next::Hold { period } => {
                let until = period.map_or(Timestamp::MAX, |period| after(died_at, period));
                self.enter(Phase::Waiting { until, why: Pause::Held }, now, reason, turn);
                turn.held(self, period.map(|_| until), now);
            }
            // The limit was noted at the death; whether it still stands is asked like at any other start.
            Next::Throttle { .. } => self.start_unless_held("it died", situation, turn),
            Next::Broken => {
                self.enter(Phase::Broken, now, reason, turn);
                turn.quarantined(self, None, self.memory.consecutive, now);
            }
        }
    }

    /// Starts it when it may be started, else leaves it waiting or at rest with the reason.
    pub(super) fn start_or_rest(&mut self, why: &str, situation: &mut Situation<'_>, turn: &mut Turn) {
        self.start_or_rest_for(Asker::Policy, why, situation, turn);
    }

    /// The same, for somebody.
    pub(super) fn start_or_rest_for(
        &mut self,
        asker: Asker,
        why: &str,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        let now = situation.now;
        if self.wish.intent != Intent::Running {
            self.enter(Phase::Rest, now, self.wish.reason.clone(), turn);
            return;
        }
        match self.may_start(situation, asker) {
            Ok(()) => match self.owed.take().filter(|(until, _)| *until > now) {
                Some((until, pause)) => self.wait_on(until, pause, now, turn),
                None => self.launch(why, situation, turn),
            },
            Err(Blocked { shortage: Some(shortage), .. }) => self.throttle(shortage, situation, turn),
            Err(blocked) => self.enter(Phase::Rest, now, Some(blocked.reason), turn),
        }
    }

    /// Goes on with a wait that a stop of the whole town, or the like, has interrupted.
    pub(super) fn wait_on(&mut self, until: Timestamp, pause: Pause, now: Timestamp, turn: &mut Turn) {
        let (what, reason) = match pause {
            Pause::Quarantine => ("its quarantine", "it failed too often before it was stopped"),
            Pause::Held => ("its hold", "a person ended it before it was stopped"),
            _ => ("its back-off", "it failed before it was stopped"),
        };
        turn.decided(&self.address, now, "it may run again", &format!("go on with {what}"), reason);
        self.enter(Phase::Waiting { until, why: pause }, now, Some(reason.to_owned()), turn);
    }

    /// It is not to run for now: what it was waiting for, or would have had to wait for, is kept.
    pub(super) fn set_aside(&mut self) {
        let owed = match &self.phase {
            Phase::Waiting { until, why: why @ (Pause::Backoff | Pause::Quarantine | Pause::Held) } => {
                Some((*until, *why))
            }
            // Its own back-off may be longer than the hold, and the hold may be over when it comes back.
            Phase::Waiting { until, why: Pause::Incident } => Some((*until, Pause::Backoff)),
            Phase::Dead { died_at, next, .. } => match next {
                Next::Start { delay } if !delay.is_zero() => Some((after(*died_at, *delay), Pause::Backoff)),
                Next::Quarantine { period, .. } => Some((after(*died_at, *period), Pause::Quarantine)),
                Next::Hold { period } => {
                    let until = period.map_or(Timestamp::MAX, |period| after(*died_at, period));
                    Some((until, Pause::Held))
                }
                _ => None,
            },
            _ => None,
        };
        self.owed = owed.or(self.owed);
    }

    /// Policy looks after the role, or no longer does. What somebody asked for stays as it is.
    pub(super) fn follow_mode(&mut self, mode: &Mode, now: Timestamp, turn: &mut Turn) {
        self.idling.ttl = match mode {
            Mode::OnDemand(ttl) => Some(*ttl),
            _ => None,
        };
        let wish = Wish::of_policy(&self.address, mode, now);
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
        let drained = self.drain.is_some();
        let ended = !situation.observing && (situation.held || stopped || drained);
        let aside = situation.aside(&self.address).filter(|_| !situation.observing);
        if let (Some(_), Err(blocked)) = (aside, situation.may_start(&self.address, true)) {
            self.nothing_follows(blocked.error, turn);
        }
        match self.phase {
            Phase::Rest if self.wish.intent == Intent::Running => {
                match self.may_start(situation, Asker::Policy) {
                    Ok(()) | Err(Blocked { shortage: Some(_), .. }) => {
                        self.start_unless_held("it should run", situation, turn);
                    }
                    Err(blocked) => {
                        if self.reason.as_ref() != Some(&blocked.reason) {
                            self.reason = Some(blocked.reason);
                            turn.touched(&self.address);
                        }
                    }
                }
            }
            Phase::Starting { .. } | Phase::Running if ended || aside.is_some() => {
                let unwanted =
                    aside.unwrap_or(if drained { "it is being drained" } else { "it should not run" });
                let why = if situation.held { "the town is stopped" } else { unwanted };
                let by = aside.and_then(|_| situation.aside_by(&self.address)).unwrap_or("supervisor");
                let ask = End::new(Then::Rest, by, why);
                self.end(ask, situation, turn);
            }
            Phase::Draining { then, .. }
                if !situation.observing && (situation.held || stopped || aside.is_some()) =>
            {
                self.hurry(then, situation, turn);
            }
            // What waits for its quarantine to end, for its program or for its person is let wait.
            Phase::Waiting {
                why: Pause::Backoff | Pause::Retry | Pause::Incident | Pause::Throttled,
                ..
            } if !ended && aside.is_some() => {
                self.set_aside();
                self.enter(Phase::Rest, situation.now, aside.map(str::to_owned), turn);
                self.close_pane(turn);
            }
            Phase::Waiting { .. } | Phase::Broken if ended => {
                let why = if situation.held {
                    Some("the town is stopped".to_owned())
                } else {
                    self.wish.reason.clone()
                };
                self.set_aside();
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
