//! What an agent has on its hook, as far as the heart knows, and what follows when that changes.
//!
//! Pure. Work that was once seen on a hook counts until its store says that it is closed or another's: an empty
//! hook alone ends nothing, since a worker may have taken its work off the hook to do it. Nothing is started
//! because work is on its hook; only what a person has ended comes back for new work.

use std::sync::Arc;

use gtd_proto::event::kind;
use gtd_proto::{Address, Intent, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::core::Core;
use super::hooks::{HookFact, Hooks};
use super::machine::{Machine, Pause, Phase, Wish};
use super::planner::{Mode, Situation};
use super::policy::Next;
use super::turn::Turn;

/// Work that an agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Since when, as far as is known, by the wall clock.
    pub since: Timestamp,
}

impl From<&HookFact> for Task {
    fn from(fact: &HookFact) -> Self {
        Self { id: fact.work.clone(), title: fact.title.clone(), since: fact.since }
    }
}

/// What the heart asks the stores of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Tells it from earlier ones.
    pub number: u64,
    /// Whose work.
    pub agent: Address,
    /// The work that it had last, which need not be on its hook any more.
    pub last: Option<String>,
}

/// What a store said, asked just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The agent has work that is not closed.
    Open(Task),
    /// It has none: what it had is closed, thrown away, or another's.
    Nothing,
    /// The store did not say.
    Unknown(String),
}

/// What an agent's hook is taken for when it dies and nobody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It has work, as last known.
    Work,
    /// Its store said in its last answer that it has none.
    Nothing,
    /// Neither.
    Unknown,
}

impl Hooks {
    /// Whether the last answers leave no doubt that an agent has nothing: its own rig's store answered, and no
    /// store has anything for it.
    #[must_use]
    pub fn is_empty(&self, agent: &Address) -> bool {
        self.has_answered(agent) && self.of(agent).is_none()
    }

    /// Whether the store of an agent's own rig answered when it was asked last.
    #[must_use]
    pub fn has_answered(&self, agent: &Address) -> bool {
        let home = agent.rig().and_then(|rig| self.homes.get(rig));
        home.and_then(|key| self.stores.get(key))
            .is_some_and(|store| store.at.is_some() && store.error.is_none())
    }
}

impl Core {
    /// The stores' last answers.
    pub(super) fn see_hooks(&mut self, hooks: Arc<Hooks>, now: Timestamp, turn: &mut Turn) {
        self.hooks = hooks;
        for agent in self.by_rank() {
            self.each(&agent, now, turn, Machine::see_hook);
        }
    }

    /// What a store said to a question.
    pub(super) fn answered(
        &mut self,
        question: &Question,
        finding: Finding,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        self.each(&question.agent, now, turn, |machine, situation, turn| {
            machine.hear(question, finding, situation, turn);
        });
    }

    /// A round of the heartbeat: work that is on no hook any more, and not known to be done, is asked about again.
    pub(super) fn ask_again(&mut self, now: Timestamp, turn: &mut Turn) {
        let missed: Vec<Address> =
            self.agents.values().filter(|machine| machine.missed).map(|m| m.address.clone()).collect();
        for agent in missed {
            self.each(&agent, now, turn, |machine, situation, turn| {
                machine.question(situation, turn);
            });
        }
    }
}

impl Machine {
    /// What its hook is taken for without asking.
    pub(super) fn known_work(&self, situation: &Situation<'_>) -> Known {
        match (&self.work, situation.hooks.is_empty(&self.address)) {
            (Some(_), _) => Known::Work,
            (None, true) => Known::Nothing,
            // That was an answer, and none has come since.
            (None, false) if self.progress.finished => Known::Nothing,
            (None, false) => Known::Unknown,
        }
    }

    /// Asks its store what it has.
    pub(super) fn question(&self, situation: &mut Situation<'_>, turn: &mut Turn) -> u64 {
        *situation.questions += 1;
        let number = *situation.questions;
        let last = self.work.as_ref().map(|work| work.id.clone());
        turn.questions.push(Question { number, agent: self.address.clone(), last });
        number
    }

    fn see_hook(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        let hooks = situation.hooks;
        match hooks.of(&self.address) {
            // Older than what its store has said since.
            Some((_, fact)) if self.is_done(fact) => {}
            Some((_, fact)) => {
                self.missed = false;
                self.take_up(Task::from(fact), situation, turn);
            }
            None if self.work.is_some() && !self.missed && hooks.is_empty(&self.address) => {
                self.missed = true;
                self.question(situation, turn);
            }
            None => {}
        }
    }

    pub(super) fn is_done(&self, fact: &HookFact) -> bool {
        self.done.as_ref().is_some_and(|done| done.id == fact.work && done.since >= fact.since)
    }

    /// It has this work.
    fn take_up(&mut self, task: Task, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        if self.work.as_ref() == Some(&task) {
            return;
        }
        let new = self.work.as_ref().is_none_or(|had| had.id != task.id);
        self.work = Some(task);
        self.progress.finished = false;
        turn.touched(&self.address);
        if new {
            self.progressed("other work is on its hook", now, turn);
        }
        turn.agent_row(self);
        if new && matches!(self.phase, Phase::Waiting { why: Pause::Held, .. }) && !situation.observing {
            let why = "new work is on its hook";
            turn.released(self, why, "supervisor", now);
            self.start_unless_held(why, situation, turn);
        }
    }

    fn hear(
        &mut self,
        question: &Question,
        finding: Finding,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        let now = situation.now;
        let id = self.work.as_ref().map(|work| work.id.clone());
        let open = match finding {
            Finding::Open(task) => {
                if id.is_none() || id == question.last {
                    self.take_up(task, situation, turn);
                }
                true
            }
            // Other work may have come while it was asked.
            Finding::Nothing if id == question.last => {
                if let Some(done) = self.work.take() {
                    self.done = Some(done);
                    self.progress.finished = true;
                    self.missed = false;
                    self.progressed("its work is done", now, turn);
                    turn.touched(&self.address);
                    turn.agent_row(self);
                }
                false
            }
            Finding::Nothing => self.work.is_some(),
            Finding::Unknown(why) => {
                if self.unjudged.is_some() {
                    let event = "whether its work is done is not known now";
                    turn.decided(&self.address, now, event, "go by what was known last", &why);
                }
                self.work.is_some() || !self.progress.finished
            }
        };
        self.judge_if_asked(question.number, open, situation, turn);
        if !open {
            self.nothing_left(situation, turn);
        }
    }

    /// Its work is done, or was taken from it: a worker that waits to be started again for it has nothing to come
    /// back for.
    fn nothing_left(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        let worker = matches!(self.address, Address::Polecat(..));
        if !worker || self.wish.intent != Intent::Running {
            return;
        }
        let why = "its work was closed, or taken from it";
        match &mut self.phase {
            Phase::Rest | Phase::Broken => self.retire(why, situation.now, turn),
            Phase::Waiting { why: pause, .. } if *pause != Pause::Held => {
                self.retire(why, situation.now, turn);
            }
            // What somebody asked for since it died is done.
            Phase::Dead { died_at, next, .. }
                if self.unjudged.is_none()
                    && self.wish.at <= *died_at
                    && !matches!(next, Next::Hold { .. }) =>
            {
                *next = Next::Rest;
                turn.decided(&self.address, situation.now, why, "leave it", "no work is on its hook");
                turn.agent_row(self);
            }
            _ => {}
        }
    }

    /// A worker that has ended with nothing left to do: nobody wants it to run until somebody starts it.
    pub(super) fn retire(&mut self, why: &str, now: Timestamp, turn: &mut Turn) {
        let why = format!("{why}; no work is left on its hook");
        turn.decided(&self.address, now, "nothing is left to do", "leave it stopped", &why);
        self.wish = Wish::of_policy(&self.address, &Mode::Off(why.clone()), now);
        (self.owed, self.throttle) = (None, None);
        self.enter(Phase::Rest, now, Some(why.clone()), turn);
        self.close_pane(turn);
        turn.event(self, kind::AGENT_STOPPED, now, json!({ "survivors": [], "reason": why }));
    }
}
