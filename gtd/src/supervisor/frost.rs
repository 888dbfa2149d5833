//! One agent that is paused: frozen while something of it runs, kept from starting while nothing does, and let go on.
//!
//! Pure. Looked at after every step of the supervisor: whatever happened, an agent that should stand still and does
//! not is frozen, and one that stands still and should not is let go on. The time for which it stood still is given
//! back to whatever it was waited for. Must never freeze what is being ended.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{State, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::machine::{Machine, Phase};
use super::pauses::Standing;
use super::planner::Situation;
use super::policy::{after, since};
use super::turn::{Turn, millis};
use crate::agents::order::{Frosted, Order};

/// An order that was not answered in this time is given again: more than its task takes to say that it is late.
const OVERDUE: Duration = Duration::from_secs(30);

/// Who ends a pause whose time is over.
pub(super) const BY_ITSELF: &str = "supervisor";

/// An agent that stands still, or is on its way there or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frost {
    /// How far it has come.
    pub stage: Stage,
    /// Names the last order.
    #[serde(default)]
    pub number: u64,
    /// It was seen standing still since then, and not let go on yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// That was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Processes that stand still.
    #[serde(default)]
    pub processes: u64,
    /// Why it is not as it should be.
    #[serde(skip)]
    pub trouble: Option<String>,
    /// When the last order is given again.
    #[serde(skip)]
    due: Option<Timestamp>,
    /// Who lets it go on, and why.
    #[serde(default)]
    end: (String, String),
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It may stand still: an earlier daemon left it so, or it was found so.
    Unsure,
    /// It is being frozen.
    Freezing,
    /// It stands still, by a look at its processes.
    Frozen,
    /// It is being let go on.
    Thawing,
}

impl Frost {
    fn unsure() -> Self {
        Self {
            stage: Stage::Unsure,
            number: 0,
            since: None,
            told: false,
            processes: 0,
            trouble: None,
            due: None,
            end: Default::default(),
        }
    }

    /// As an earlier daemon left it: what became of the last order is not known.
    pub(super) fn recalled(self, now: Timestamp) -> Self {
        Self { stage: Stage::Unsure, since: self.since.map(|at| at.min(now)), ..self }
    }

    fn give(&mut self, stage: Stage, now: Timestamp) {
        self.stage = stage;
        self.number += 1;
        self.trouble = None;
        self.due = Some(after(now, OVERDUE));
    }
}

/// What follows for the present instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    Freeze,
    Thaw,
    Forget,
}

impl Machine {
    /// It stands still, as far as is known, and is not being ended.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let held = self.frost.as_ref().is_some_and(|frost| frost.since.is_some());
        held && self.can_stand_still()
    }

    /// What ended it while it stood still came from outside.
    pub(super) fn stood_still(&self) -> bool {
        let still = |frost: &Frost| frost.since.is_some() && frost.stage != Stage::Thawing;
        self.frost.as_ref().is_some_and(still)
    }

    fn can_stand_still(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Starting { .. } | Phase::Draining { .. })
    }

    /// When something follows by itself from a pause.
    pub(super) fn frost_deadline(&self) -> Option<Timestamp> {
        self.frost.as_ref().and_then(|frost| frost.due)
    }

    /// The state that it is shown in for it, if any.
    pub(super) fn frozen_state(&self) -> Option<State> {
        self.is_frozen().then_some(State::Paused)
    }

    /// Since when it is in the state that it is shown in.
    pub(super) fn shown_since(&self) -> Timestamp {
        let still = self.frost.as_ref().and_then(|frost| frost.since);
        still.filter(|_| self.state() == State::Paused).unwrap_or(self.since)
    }

    /// It was found after a restart of the daemon, and stands still.
    pub(super) fn found_still(&mut self) {
        self.frost.get_or_insert_with(Frost::unsure);
    }

    /// Holds it against what is paused now. `by` and `why` are who ends a pause, where that is what happened.
    pub(super) fn tend_pause(
        &mut self,
        standing: Option<Standing>,
        (by, why): (&str, &str),
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        let now = situation.now;
        if self.paused != standing {
            let before = std::mem::replace(&mut self.paused, standing.clone());
            turn.touched(&self.address);
            match (before, standing) {
                (None, Some(standing)) => {
                    let words = standing.words();
                    turn.decided(&self.address, now, "a pause", "freeze it, and start nothing", &words);
                    self.reconcile(situation, turn);
                }
                (Some(_), None) => {
                    turn.decided(&self.address, now, "the end of its pause", "let it go on", why);
                    self.reconcile(situation, turn);
                }
                _ => {}
            }
        }
        self.note_standing(now, turn);
        match self.next_of_frost(by, situation) {
            Next::Nothing => {}
            Next::Forget => {
                self.frost = None;
                turn.touched(&self.address);
                turn.agent_row(self);
            }
            Next::Freeze => {
                let frost = self.frost.get_or_insert_with(Frost::unsure);
                frost.give(Stage::Freezing, now);
                self.order_frost(true, turn);
            }
            Next::Thaw => {
                if let Some(frost) = &mut self.frost {
                    frost.give(Stage::Thawing, now);
                    frost.end = (by.to_owned(), why.to_owned());
                }
                self.order_frost(false, turn);
            }
        }
    }

    /// Notes for how long it is paused. One that nothing was ever started of has nothing to wait for.
    fn note_standing(&mut self, now: Timestamp, turn: &mut Turn) {
        let changed = match (&self.paused, &self.frost) {
            (Some(_), _) => self.last_instance.is_some() && self.stood.begin(now),
            (None, None) => self.stood.end(now),
            // It has not gone on yet.
            (None, Some(_)) => false,
        };
        if changed {
            turn.touched(&self.address);
            turn.agent_row(self);
        }
    }

    fn next_of_frost(&self, by: &str, situation: &Situation<'_>) -> Next {
        let now = situation.now;
        let alive = self.current.as_ref().is_some_and(|current| current.alive && current.life.is_some());
        let stage = self.frost.as_ref().map(|frost| frost.stage);
        let overdue = self.frost_deadline().is_some_and(|due| due <= now);
        match (&self.paused, stage) {
            (_, None) if self.paused.is_none() => Next::Nothing,
            // It is still being looked for.
            (_, Some(_)) if self.phase == Phase::Adopting || self.unjudged.is_some() => Next::Nothing,
            (_, Some(_)) if !self.can_stand_still() || self.current.is_none() => Next::Forget,
            _ if !alive || !self.can_stand_still() => Next::Nothing,
            (Some(_), None | Some(Stage::Unsure | Stage::Thawing)) => Next::Freeze,
            (Some(_), Some(Stage::Freezing)) if overdue => Next::Freeze,
            // Nobody knows what should run, nor what should stand still: only a person's word ends it.
            (None, Some(_)) if situation.observing && by == BY_ITSELF => Next::Nothing,
            (None, Some(Stage::Unsure | Stage::Freezing | Stage::Frozen)) => Next::Thaw,
            (None, Some(Stage::Thawing)) if overdue => Next::Thaw,
            _ => Next::Nothing,
        }
    }

    fn order_frost(&mut self, frozen: bool, turn: &mut Turn) {
        let (Some(current), Some(frost)) = (&self.current, &self.frost) else { return };
        let by = match (&self.paused, frozen) {
            (Some(standing), true) => standing.paused.by.clone(),
            _ => frost.end.0.clone(),
        };
        let order = Order::Freeze { instance: current.instance.clone(), frozen, number: frost.number, by };
        turn.order(&self.address, order);
        turn.touched(&self.address);
        turn.agent_row(self);
    }

    /// Its task says how far the last order has come.
    pub(super) fn frosted(&mut self, said: Frosted, now: Timestamp, turn: &mut Turn) {
        let Some(frost) = self.frost.as_mut().filter(|frost| frost.number == said.number) else { return };
        frost.due = None;
        frost.trouble = said.trouble;
        let stage = frost.stage;
        match (stage, &frost.trouble) {
            (Stage::Freezing, None) => {
                frost.stage = Stage::Frozen;
                frost.processes = said.processes;
                frost.since.get_or_insert(now);
                self.clear_frost_alert();
                self.tell_paused(now, turn);
            }
            (Stage::Freezing | Stage::Thawing, Some(why)) => {
                let what = if stage == Stage::Freezing { "be frozen" } else { "go on" };
                let note = format!("{COULD_NOT}{what}: {why}");
                turn.decided(&self.address, now, "it was looked at", "go on trying", &note);
                self.alert = Some(note);
            }
            (Stage::Thawing, None) => {
                self.clear_frost_alert();
                self.goes_on(said.processes, now, turn);
            }
            (Stage::Unsure | Stage::Frozen, _) => {}
        }
        turn.touched(&self.address);
        turn.agent_row(self);
    }

    fn clear_frost_alert(&mut self) {
        if self.alert.as_deref().is_some_and(|note| note.starts_with(COULD_NOT)) {
            self.alert = None;
        }
    }

    fn tell_paused(&mut self, now: Timestamp, turn: &mut Turn) {
        let Some(frost) = self.frost.as_mut() else { return };
        if std::mem::replace(&mut frost.told, true) {
            return;
        }
        let processes = frost.processes;
        let Some(standing) = &self.paused else { return };
        let data = json!({
            "by": standing.paused.by,
            "reason": standing.paused.reason,
            "until": standing.paused.until,
            "scope": standing.extent.name(),
            "clear": standing.extent.clear(),
            "processes": processes,
        });
        turn.event(self, kind::AGENT_PAUSED, now, data);
    }

    /// It goes on: what was waited for begins where it stopped.
    fn goes_on(&mut self, processes: u64, now: Timestamp, turn: &mut Turn) {
        let Some(frost) = self.frost.take() else { return };
        let stood = frost.since.map_or(Duration::ZERO, |at| since(at, now));
        if self.paused.is_none() {
            self.stood.end(now);
        }
        let later = |at: Timestamp| after(at, stood);
        self.progress.since = self.progress.since.map(|at| later(at).min(now));
        self.progress.due = self.progress.due.map(later);
        self.idling.since = self.idling.since.map(|at| later(at).min(now));
        match &mut self.phase {
            Phase::Starting { deadline } => *deadline = later(*deadline),
            Phase::Draining { until, .. } => *until = later(*until),
            _ => {}
        }
        if frost.told {
            let (by, why) = frost.end;
            let data = json!({ "by": by, "why": why, "processes": processes, "paused_ms": millis(stood) });
            turn.event(self, kind::AGENT_RESUMED, now, data);
        }
    }
}

/// How an alert about a pause begins.
const COULD_NOT: &str = "it could not ";
