//! What an agent's task reports, and where it takes the agent.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::exit::Usage;
use gtd_proto::{Activity, Cause, ErrorKind, Exit, Intent, Role, RpcError, Timestamp};
use serde_json::{Value, json};

use super::hooked::Known;
use super::machine::{Machine, Pause, Phase, Then};
use super::moves::cancelled;
use super::planner::Situation;
use super::policy::{self, Death, Next, after, since};
use super::throttle::{Asker, account_of};
use super::turn::{Outcome, Turn, millis};
use super::unjudged::Unjudged;
use super::verdict::{self, describe, how};
use crate::agents::order::{Ending, Failure, FailureKind, Life, Order, What};

/// How long until a launch that failed through no fault of the agent's is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Errors of `execve` and its kin that may pass by themselves.
const PASSING: [&str; 6] = ["ETXTBSY", "EAGAIN", "ENOMEM", "ENFILE", "EMFILE", "EINTR"];

impl Machine {
    /// Takes in a report about the present instance. The caller has dropped reports about others.
    pub(super) fn on_report(&mut self, what: What, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        turn.touched(&self.address);
        match what {
            What::Placed(life) => self.placed(*life, now, turn),
            What::Alive { life, adopted } => self.came_alive(*life, adopted, situation, turn),
            What::Ready => self.became_ready(now, turn),
            What::NotLaunched(failure) => self.not_launched(failure, situation, turn),
            What::Ended(ending) => self.ended(*ending, situation, turn),
            What::Gone { survivors } => {
                let survivors: Vec<String> = survivors.iter().map(ToString::to_string).collect();
                self.gone(survivors, situation, turn);
            }
            What::Never => {
                self.unsure = None;
                self.bury(turn);
                turn.decided(
                    &self.address,
                    now,
                    "adoption",
                    "forget the instance",
                    "it never began and cannot begin any more",
                );
                self.let_go(situation);
                self.settle_down(situation, turn);
            }
            What::Unknown { why } => {
                let since = self.unsure.as_ref().map_or(now, |(since, _)| *since);
                if self.unsure.as_ref().is_none_or(|(_, known)| *known != why) {
                    turn.event(self, kind::AGENT_UNKNOWN, now, json!({ "why": why }));
                    self.unsure = Some((since, why));
                }
            }
            What::Lingering { processes } => {
                self.lingering = processes.iter().map(ToString::to_string).collect();
                turn.event(self, kind::AGENT_LINGERING, now, json!({ "processes": self.lingering }));
            }
            What::Frost(said) => self.frosted(said, now, turn),
            What::Still => self.found_still(),
            // Both are handled before the instance is looked at.
            What::Signals(_) | What::NameTaken { .. } => {}
        }
    }

    fn placed(&mut self, life: Life, now: Timestamp, turn: &mut Turn) {
        self.launched_with(&life, now, turn);
        if let Some(current) = &mut self.current {
            self.last_place = Some(life.place.clone());
            self.account = Some(account_of(&life));
            current.life = Some(life);
        }
        turn.instance_row(self, false);
        turn.agent_row(self);
    }

    fn came_alive(&mut self, life: Life, adopted: bool, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let pid = life.process.as_ref().map(|process| process.pid.get());
        self.unsure = None;
        if let Some(current) = &mut self.current {
            self.account = Some(account_of(&life));
            self.last_place = Some(life.place.clone());
            current.life = Some(life);
            current.alive = true;
        }
        turn.instance_row(self, false);
        if adopted {
            turn.event(self, kind::AGENT_ADOPTED, now, json!({ "pid": pid }));
            turn.decided(&self.address, now, "adoption", "go on", "its process is the one on record");
            if self.phase == Phase::Adopting {
                let ready_at = self.current.as_ref().and_then(|current| current.ready_at);
                self.enter(Phase::Running, now, None, turn);
                // It ran all the while: only its daemon is new.
                self.since = ready_at.map_or(now, |at| at.min(now));
                if !self.take_up_renewal(situation, turn) {
                    turn.outcome(&self.address, Outcome::Started);
                }
            }
            self.reconcile(situation, turn);
        }
    }

    fn became_ready(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(current) = &mut self.current else { return };
        if current.ready_at.is_some() {
            return;
        }
        current.ready_at = Some(now);
        let pid =
            current.life.as_ref().and_then(|life| life.process.as_ref()).map(|process| process.pid.get());
        let began = current.life.as_ref().and_then(|life| life.started_at);
        let startup = millis(since(current.reserved_at, now));
        turn.instance_row(self, false);
        turn.event(
            self,
            kind::AGENT_READY,
            now,
            json!({ "pid": pid, "startup_ms": startup, "started_at": began }),
        );
        if matches!(self.phase, Phase::Starting { .. }) {
            self.enter(Phase::Running, now, None, turn);
            turn.outcome(&self.address, Outcome::Started);
        }
        self.alert = None;
    }

    /// An agent's own report: `started`, `working`, `idle`, `waiting`, `ended`.
    pub(super) fn said(&mut self, activity: Activity, first: bool, now: Timestamp, turn: &mut Turn) -> bool {
        turn.touched(&self.address);
        self.activity = activity;
        if first {
            self.became_ready(now, turn);
        }
        // A drain waits for the end of the turn: this is it.
        matches!(self.phase, Phase::Draining { .. }) && activity != Activity::Working
    }

    fn not_launched(&mut self, failure: Failure, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        self.unsure = None;
        self.bury(turn);
        if let Phase::Ending { then } | Phase::Draining { then, .. } = self.phase {
            self.let_go(situation);
            self.finish(then, Vec::new(), situation, turn);
            return;
        }
        let permanent = match &failure.kind {
            FailureKind::Settings => true,
            FailureKind::Exec(error) => !PASSING.contains(&error.errno.as_str()),
            FailureKind::Tmux | FailureKind::Ours => {
                self.let_go(situation);
                turn.decided(&self.address, now, "launch failed", "try again soon", &failure.message);
                self.restart_failed(self.memory.consecutive > 0, &failure.message, now, turn);
                let kind = if failure.kind == FailureKind::Tmux {
                    ErrorKind::TmuxUnavailable
                } else {
                    ErrorKind::Internal
                };
                self.enter(
                    Phase::Waiting { until: after(now, RETRY_AFTER), why: Pause::Retry },
                    now,
                    Some(failure.message.clone()),
                    turn,
                );
                if situation.incident.is_some() && !self.passes && self.wish.intent == Intent::Running {
                    // Nobody has shown that agents can live.
                    self.await_incident(situation, turn);
                }
                let error = RpcError::new(
                    kind,
                    format!("{} could not be started: {}", self.address, failure.message),
                )
                .hint(failure.hint.unwrap_or_else(|| "gtctl status".to_owned()));
                turn.outcome(&self.address, Outcome::StartFailed(Box::new(error)));
                return;
            }
            FailureKind::Cancelled => {
                self.let_go(situation);
                let error = cancelled(&self.address, &failure.message);
                turn.outcome(&self.address, Outcome::StartFailed(Box::new(error)));
                self.settle_down(situation, turn);
                return;
            }
        };
        let ending = if permanent { policy::Ending::Permanent } else { policy::Ending::Failure };
        let chance = (situation.chance)();
        let numbers = &situation.settings.numbers;
        let open = self.known_work(situation) != Known::Nothing;
        let death = self.death(ending, Duration::ZERO, open);
        let again = self.memory.consecutive > 0;
        let verdict = policy::decide(&mut self.memory, &death, now, chance, numbers);
        let exec_error = match &failure.kind {
            FailureKind::Exec(error) => Some(error.clone()),
            _ => None,
        };
        let exit = Exit {
            cause: Cause::LaunchError,
            counts: verdict.counts,
            exec_error: exec_error.clone(),
            ..self.exit_at(now, now)
        };
        turn.exited(self, exit, "record", None, now);
        turn.decided(&self.address, now, &failure.message, &describe(&verdict.next), &verdict.reason);
        self.restart_failed(again, &failure.message, now, turn);
        let mut error = RpcError::new(
            if exec_error.is_some() { ErrorKind::DiedDuringStartup } else { ErrorKind::ConfigInvalid },
            format!("{} could not be launched: {}", self.address, failure.message),
        )
        .hint(failure.hint.unwrap_or_else(|| format!("gtctl explain {}", self.address)));
        if let Some(exec_error) = exec_error {
            error = error.with("exec_error", exec_error).with("output", Vec::<String>::new());
        }
        turn.outcome(&self.address, Outcome::StartFailed(Box::new(error)));
        self.let_go(situation);
        let settled_at = after(now, numbers.settle);
        self.enter(
            Phase::Dead { died_at: now, settled_at, gone: true, next: verdict.next },
            now,
            Some(failure.message),
            turn,
        );
    }

    fn ended(&mut self, ending: Ending, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let Some(current) = &mut self.current else { return };
        current.alive = false;
        self.unsure = None;
        if current.told || self.unjudged.is_some() {
            // An earlier daemon wrote it down and died before nothing was left of it.
            return;
        }
        let was_ready = current.ready_at.is_some();
        let requested = matches!(self.phase, Phase::Ending { .. } | Phase::Draining { .. });
        // Its record is dated by the wall clock, which somebody may have set; deadlines go by ours.
        let ago = ending
            .detect_ms
            .map_or(Duration::ZERO, |ms| Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or(Duration::ZERO));
        let died_at = now.checked_sub(ago).unwrap_or(now);
        // Each from one clock: two instants of the record, or two of ours.
        let uptime = match (ending.started_at, self.born_at()) {
            (Some(began), _) => since(began, ending.ended_at),
            (None, Some(born)) => since(born, died_at),
            (None, None) => Duration::ZERO,
        };
        let end = Unjudged {
            named: verdict::name(&ending, requested, self.stood_still()),
            ending,
            died_at,
            uptime,
            was_starting: !was_ready && matches!(self.phase, Phase::Starting { .. }),
            requested,
            gone: false,
            question: 0,
            until: now,
        };
        if self.must_ask(&end, situation) {
            return self.ask_first(end, situation, turn);
        }
        let open = self.known_work(situation) != Known::Nothing;
        self.judge(end, open, situation, turn);
    }

    /// Decides on an end, and tells of it. `open` is whether work is left for it.
    pub(super) fn judge(
        &mut self,
        end: Unjudged,
        open: bool,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        let now = situation.now;
        let Unjudged { ending, named, died_at, uptime, was_starting, requested, gone, .. } = end;
        let Some(current) = &mut self.current else { return };
        current.told = true;
        let chance = (situation.chance)();
        let numbers = &situation.settings.numbers;
        let began = ending.ended_at.checked_sub(uptime).unwrap_or(ending.ended_at);
        let death = self.death(named.ending, uptime, open);
        let again = self.memory.consecutive > 0;
        let verdict = policy::decide(&mut self.memory, &death, died_at, chance, numbers);
        if let (Next::Throttle { period }, Some(account)) = (&verdict.next, self.account.as_deref()) {
            // At once, so that no other agent of the account is started meanwhile.
            situation.limits.limit_account(account, after(died_at, *period));
        }
        if !requested {
            let min_uptime = numbers.min_uptime;
            self.doubt_conversation(&ending, uptime, min_uptime, now, turn);
        }
        let exit = Exit {
            pid: ending.pid,
            uptime_ms: millis(uptime),
            code: ending.code,
            signal: ending.signal,
            cause: named.cause,
            evidence: named.evidence,
            requested,
            counts: verdict.counts,
            exec_error: ending.exec_error.clone(),
            output: ending.output.clone(),
            usage: ending.usage,
            ..self.exit_at(began, ending.ended_at)
        };
        let what = how(&exit);
        turn.exited(self, exit.clone(), ending.detected_by, ending.detect_ms, now);
        turn.decided(&self.address, now, &what, &describe(&verdict.next), &verdict.reason);
        if verdict.counts && (was_starting || matches!(verdict.next, Next::Quarantine { .. })) {
            self.restart_failed(again, &what, now, turn);
        }
        match self.phase {
            Phase::Ending { .. } => turn.agent_row(self),
            Phase::Draining { then, .. } => self.enter(Phase::Ending { then }, now, Some(what), turn),
            _ => {
                if was_starting {
                    turn.outcome(
                        &self.address,
                        Outcome::StartFailed(Box::new(self.died_during_startup(&exit, &what))),
                    );
                }
                let settled_at = after(now, numbers.settle);
                self.enter(
                    Phase::Dead { died_at, settled_at, gone: false, next: verdict.next },
                    now,
                    Some(format!("{what}; {}", verdict.reason)),
                    turn,
                );
            }
        }
        if gone {
            self.gone(Vec::new(), situation, turn);
        }
    }

    /// A death as the policy is told of it.
    fn death(&self, ending: policy::Ending, uptime: Duration, open: bool) -> Death {
        let worker = matches!(self.address.role(), Role::Polecat | Role::Crew);
        // A boot looks once: it has no work, and is started again for the next look.
        let always_on = !worker && self.address.role() != Role::Boot;
        Death { ending, uptime, open_work: open && worker, always_on }
    }

    fn died_during_startup(&self, exit: &Exit, what: &str) -> RpcError {
        let mut end = serde_json::Map::new();
        if let Some(code) = exit.code {
            end.insert("code".to_owned(), Value::from(code));
        }
        if let Some(signal) = exit.signal {
            end.insert("signal".to_owned(), Value::from(signal));
        }
        RpcError::new(ErrorKind::DiedDuringStartup, format!("{} died during startup: {what}", self.address))
            .hint(format!("gtctl explain {}", self.address))
            .with("exit", end)
            .with("output", &exit.output)
    }

    fn gone(&mut self, survivors: Vec<String>, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        if !survivors.is_empty() {
            // Its task goes on watching them, and reports again when they are gone.
            if self.lingering != survivors {
                turn.event(self, kind::AGENT_LINGERING, now, json!({ "processes": survivors }));
            }
            if matches!(self.phase, Phase::Ending { .. } | Phase::Draining { .. }) {
                turn.outcome(&self.address, Outcome::Stopped { survivors: survivors.clone() });
            }
            self.alert = Some(format!("{} of its processes cannot be ended", survivors.len()));
            self.lingering = survivors;
            return;
        }
        self.lingering.clear();
        self.alert = None;
        if let Some(end) = &mut self.unjudged {
            // Its record stays until its end is told.
            end.gone = true;
            return;
        }
        self.bury(turn);
        match self.phase.clone() {
            Phase::Ending { then } | Phase::Draining { then, .. } => {
                self.let_go(situation);
                self.finish(then, Vec::new(), situation, turn);
            }
            Phase::Dead { died_at, settled_at, next, .. } => {
                self.let_go(situation);
                self.phase = Phase::Dead { died_at, settled_at, gone: true, next };
                self.on_time(situation, turn);
            }
            _ => {
                self.let_go(situation);
                self.settle_down(situation, turn);
            }
        }
    }

    /// The present instance is none any more, and makes room for another.
    fn let_go(&mut self, situation: &mut Situation<'_>) {
        if self.current.take().is_some() {
            situation.limits.running = situation.limits.running.saturating_sub(1);
        }
    }

    /// Writes down that nothing of the present instance is left; its files go after that.
    fn bury(&self, turn: &mut Turn) {
        turn.instance_row(self, true);
        if let Some(current) = &self.current {
            turn.order(&self.address, Order::Forget { instance: current.instance.clone() });
        }
    }

    /// The end of an end that was asked for.
    fn finish(&mut self, then: Then, survivors: Vec<String>, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        self.activity = Activity::Unknown;
        turn.event(self, kind::AGENT_STOPPED, now, json!({ "survivors": survivors }));
        turn.outcome(&self.address, Outcome::Stopped { survivors });
        match then {
            Then::Start => {
                // Policy may look after nobody of its role by now: that was no bar to who asked.
                let asker = if self.wish.is_of_policy() { Asker::Policy } else { Asker::Program };
                self.start_unless_held_for(asker, "it was asked to start again", situation, turn);
            }
            Then::Rest => {
                self.enter(Phase::Rest, now, self.wish.reason.clone(), turn);
                // Its task does so only where it was told at the time of the end that nothing follows.
                self.close_pane(turn);
                // `up` may have come while it was being ended.
                self.reconcile(situation, turn);
            }
        }
    }

    /// Nothing is there: at rest, or started when it should run.
    fn settle_down(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        self.enter(Phase::Rest, situation.now, self.wish.reason.clone(), turn);
        turn.outcome(&self.address, Outcome::Stopped { survivors: Vec::new() });
        self.reconcile(situation, turn);
    }

    fn exit_at(&self, began: Timestamp, ended: Timestamp) -> Exit {
        let instance = self.current.as_ref().map(|current| current.instance.clone());
        Exit {
            agent: self.address.clone(),
            instance: instance
                .or_else(|| self.last_instance.clone())
                .unwrap_or_else(gtd_proto::InstanceId::generate),
            pid: None,
            started_at: began,
            ended_at: ended,
            uptime_ms: 0,
            code: None,
            signal: None,
            cause: Cause::Unknown,
            requested: false,
            counts: false,
            exec_error: None,
            incident: None,
            evidence: None,
            killed: Vec::new(),
            output: Vec::new(),
            usage: Usage::default(),
        }
    }
}
