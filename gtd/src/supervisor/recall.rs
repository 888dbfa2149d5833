//! Agents as an earlier daemon left them: what the ledger says of each, and looking for what was running.
//!
//! Pure. Must never make a wait longer than it can be, nor judge a death twice.

use gtd_proto::{Activity, InstanceId, Intent, Timestamp};

use super::machine::{Current, Machine, Memo, Pause, Phase, Then, Wish};
use super::moves::End;
use super::planner::{Settings, Situation};
use super::policy::after;
use super::reports::Words;
use super::turn::Turn;
use crate::agents::order::{Life, Order};
use crate::ledger::{AgentRow, InstanceRow};

/// An agent as the ledger remembers it, without an instance.
pub(super) fn recall(row: AgentRow, settings: &Settings, now: Timestamp) -> Machine {
    // A memo that cannot be read is a newer daemon's, or damaged: the agent starts with a clean slate, which
    // at worst tries too early. Its intent has columns of its own.
    let memo: Memo = serde_json::from_value(row.policy).unwrap_or_default();
    let mut machine = Machine::new(row.address, now);
    machine.wish =
        Wish { intent: row.intent, by: row.intent_by, reason: row.intent_reason, at: row.intent_at };
    machine.overrides = serde_json::from_value(row.overrides).unwrap_or_default();
    machine.memory = memo.memory;
    machine.lifetime = row.lifetime_restarts;
    machine.reason = memo.reason;
    machine.last_place = memo.place;
    (machine.throttle, machine.owed, machine.account) = (memo.throttle, memo.owed, memo.account);
    (machine.work, machine.progress) = (memo.work, memo.progress);
    machine.progress.since = machine.progress.since.map(|since| since.min(now));
    machine.idling = memo.idling;
    machine.idling.since = machine.idling.since.map(|since| since.min(now));
    machine.words = Words::recalled(memo.word, now);
    machine.waits = memo.waits;
    machine.drain = memo.drain;
    machine.stood = memo.stood;
    machine.frost = memo.frost.map(|frost| frost.recalled(now));
    machine.renewing = memo.renewing;
    machine.phase = match (memo.waiting, memo.verdict) {
        (Some((until, why @ Pause::Held)), _) => Phase::Waiting { until, why },
        // A wall clock that was set back meanwhile makes no wait longer than it can be.
        (Some((until, why)), _) => {
            let longest = settings.numbers.max.max(settings.numbers.quarantine_max);
            Phase::Waiting { until: until.min(after(now, longest)), why }
        }
        // What was decided and not yet done. Something of it may be left: then its instance is still open.
        (None, Some((died_at, next))) => {
            Phase::Dead { died_at: died_at.min(now), settled_at: now, gone: true, next }
        }
        (None, None) if memo.broken => Phase::Broken,
        (None, None) => Phase::Rest,
    };
    machine.told = memo.told;
    machine
}

impl Machine {
    /// The instance that is to end so that the next one can begin. Who asked for that may have been told that it is
    /// under way: a death of the daemon in between must not forget it.
    pub(super) fn being_renewed(&self) -> Option<InstanceId> {
        match self.phase {
            Phase::Ending { then: Then::Start } | Phase::Draining { then: Then::Start, .. } => {
                self.current.as_ref().map(|current| current.instance.clone())
            }
            _ => self.renewing.clone(),
        }
    }

    /// Goes on with a restart that an earlier daemon began, when the very instance is found alive. Whether it does.
    pub(super) fn take_up_renewal(&mut self, situation: &Situation<'_>, turn: &mut Turn) -> bool {
        let Some(renewing) = self.renewing.take() else { return false };
        let same = self.current.as_ref().is_some_and(|current| current.instance == renewing);
        if !same || self.drain.is_some() || self.wish.intent != Intent::Running {
            return false;
        }
        let why = "it was being restarted when the daemon ended";
        self.end(End::new(Then::Start, &self.wish.by.clone(), why), situation, turn);
        true
    }
}

/// An instance that the ledger has as open is looked for.
pub(super) fn adopt(machine: &mut Machine, row: InstanceRow, now: Timestamp, turn: &mut Turn) {
    let life: Option<Life> = serde_json::from_value(row.launch).ok();
    begin_adoption(machine, row.instance, row.reserved_at, life, row.ready_at, now, turn);
}

/// Asks an agent's task to look for an instance.
pub(super) fn begin_adoption(
    machine: &mut Machine,
    instance: InstanceId,
    reserved_at: Timestamp,
    life: Option<Life>,
    ready_at: Option<Timestamp>,
    now: Timestamp,
    turn: &mut Turn,
) {
    if let Some(life) = &life {
        machine.last_place = Some(life.place.clone());
    }
    turn.order(
        &machine.address,
        Order::Adopt { instance: instance.clone(), life: life.clone(), reserved_at },
    );
    machine.last_instance = Some(instance.clone());
    let told = machine.told.take().is_some_and(|told| told == instance);
    machine.words.last = machine.words.last.take().filter(|word| word.instance == instance);
    machine.activity = machine.remembered_activity();
    // A question in the middle of a turn that is waited for does not end it.
    let in_turn = machine.words.last.as_ref().is_some_and(|word| word.in_turn);
    if in_turn && machine.drain.as_ref().is_some_and(|drain| drain.working) {
        machine.activity = Activity::Working;
    }
    machine.current = Some(Current { instance, reserved_at, life, alive: false, ready_at, told });
    machine.since = now;
    match &mut machine.phase {
        // Its death was judged already; only what is left of it is not known.
        Phase::Dead { gone, .. } if told => *gone = false,
        phase => {
            *phase = Phase::Adopting;
            machine.reason = Some("looking for it after a restart of the daemon".to_owned());
        }
    }
    turn.changed.insert(machine.address.clone());
}
