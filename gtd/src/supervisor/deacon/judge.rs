//! What a heartbeat file means, and what follows: a pure function of what was seen.
//!
//! Ages are of time for which the machine was awake, on the supervisor's line, which nobody sets. What the file says
//! of its own time is believed within what we have seen ourselves: it cannot have been written before the last look
//! that found another one, nor after now.

use std::time::Duration;

use gtd_proto::deacon::Verdict;
use gtd_proto::{InstanceId, NudgeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::files::{HeartbeatFile, PauseFile, Stamp};
use crate::supervisor::policy::since;

/// The text for a deacon whose heartbeat is stale, as its predecessor types it.
pub(super) const HEALTH_CHECK: &str = "HEALTH_CHECK: heartbeat stale, respond to confirm responsiveness";
/// Below this age a heartbeat is fresh.
pub(super) const FRESH: Duration = Duration::from_secs(5 * 60);
/// Texts that have to be left unanswered before it counts as stuck.
const TEXTS: usize = 2;
/// A file may be dated this far ahead: clocks that are read one after the other.
const AHEAD: Duration = Duration::from_secs(2);

/// The bounds, from `[deacon]` and `[daemon]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Age at which it is asked whether it is there.
    pub stale: Duration,
    /// Age beyond which it counts as stuck.
    pub stuck: Duration,
    /// After its start nothing is judged for this long.
    pub grace: Duration,
    /// Between two texts, and after the second: the heartbeat's interval.
    pub apart: Duration,
    /// A stuck one is restarted; else it is only told of.
    pub restart: bool,
}

/// A heartbeat as it was first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// What the file says.
    pub stamp: Stamp,
    /// When it was written, at the latest: its age counts from here.
    pub written: Timestamp,
    /// When it was written, at the earliest, as far as that is certain.
    pub not_before: Timestamp,
}

/// What is remembered from look to look, also by the next daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last look that could tell what the file said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The present heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<Sighting>,
    /// The instance that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// A text that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<NudgeId>,
    /// When texts were typed for it since its heartbeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub typed: Vec<Timestamp>,
    /// It ended a turn after that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
    /// It was paused at the last look.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Until then, at least, it was paused: before that it could neither write nor answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go: Option<Timestamp>,
}

impl Memory {
    /// Takes in what the file says now; `claims` is the instant that it gives, on the supervisor's line. True when
    /// the deacon has written it anew.
    pub(super) fn see(&mut self, file: &HeartbeatFile, claims: Option<Timestamp>, now: Timestamp) -> bool {
        let (HeartbeatFile::Beat(beat), Some(claims)) = (file, claims) else {
            match file {
                HeartbeatFile::Missing => {
                    self.sighting = None;
                    self.looked_at = Some(now);
                }
                // It may hold whatever it held before, or what comes next.
                HeartbeatFile::Bad(_) | HeartbeatFile::Beat(_) => {}
            }
            return false;
        };
        let before = self.looked_at.replace(now);
        if self.sighting.as_ref().is_some_and(|known| known.stamp == beat.stamp) {
            return false;
        }
        let ahead = since(now, claims) > AHEAD;
        let earliest = before.unwrap_or(Timestamp::MIN);
        let written = claims.max(earliest).min(now);
        // What lies in the future says nothing about when it was written.
        let not_before = if ahead { earliest } else { written };
        self.sighting = Some(Sighting { stamp: beat.stamp.clone(), written, not_before });
        self.typed.clear();
        self.answered = false;
        true
    }

    /// Another instance owes no answer to what was typed for an earlier one.
    pub(super) fn about(&mut self, instance: Option<&InstanceId>) {
        if self.instance.as_ref() != instance {
            self.instance = instance.cloned();
            self.asked = None;
            self.typed.clear();
            self.answered = false;
        }
    }

    /// Whether it is paused now. Who is owes no answer to what was typed before.
    pub(super) fn pausing(&mut self, paused: bool, now: Timestamp) {
        if paused || self.paused {
            self.let_go = Some(now);
            self.typed.clear();
            self.answered = false;
        }
        self.paused = paused;
    }

    /// When it went on after its last pause: one may lie between two looks as a whole.
    pub(super) fn went_on(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at.filter(|at| self.let_go.is_none_or(|known| known < *at)) {
            self.let_go = Some(at);
            self.typed.clear();
            self.answered = false;
        }
    }

    /// From when on the age of its heartbeat counts.
    pub(super) fn counts_from(&self) -> Option<Timestamp> {
        let written = self.sighting.as_ref()?.written;
        Some(self.let_go.map_or(written, |at| at.max(written)))
    }

    /// A text was typed for it.
    pub(super) fn was_typed(&mut self, at: Timestamp) {
        self.asked = None;
        // One that was typed before the heartbeat came is answered by it.
        if self.sighting.as_ref().is_none_or(|sighting| sighting.written < at) && self.typed.len() < TEXTS {
            self.typed.push(at);
        }
    }

    /// It ended a turn then, or waits for a person since.
    pub(super) fn ended_a_turn(&mut self, at: Timestamp) {
        self.answered |= self.typed.first().is_some_and(|first| *first < at);
    }
}

/// Whether the deacon lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// Its process is proven alive, since then.
    Runs {
        /// On the supervisor's line.
        since: Timestamp,
    },
    /// It is being started or ended.
    Changes,
    /// It should run and does not, for this reason.
    Down(String),
    /// It is not to run, for this reason.
    Off(String),
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// Everything that counts.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) life: Life,
    /// Somebody looks at its session.
    pub(super) attached: bool,
    pub(super) file: &'a HeartbeatFile,
    pub(super) pause: &'a PauseFile,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
    /// How much the machine slept since the heartbeat's age counts, and since the deacon was started.
    pub(super) slept: (Duration, Duration),
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Ask it whether it is there.
    Ask,
    /// End it and start another.
    Restart,
}

/// How it is, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) action: Action,
    /// How old its heartbeat is.
    pub(super) age: Option<Duration>,
    /// A person should know.
    pub(super) tell: bool,
}

/// Judges.
pub(super) fn judge(case: &Case<'_>, numbers: &Numbers) -> Judgement {
    let age = case.memory.counts_from().map(|from| since(from, case.now).saturating_sub(case.slept.0));
    let quiet = |verdict, why: String| Judgement { verdict, why, action: Action::Nothing, age, tell: false };
    let started = match &case.life {
        Life::Off(why) => return quiet(Verdict::Off, why.clone()),
        Life::Down(why) => return quiet(Verdict::Down, why.clone()),
        Life::Changes => return quiet(Verdict::Starting, "it is being started or ended".to_owned()),
        Life::Unknown(why) => return quiet(Verdict::Unknown, why.clone()),
        Life::Runs { since } => *since,
    };
    if let PauseFile::Paused(paused) = case.pause {
        let why = match (&paused.error, &paused.reason) {
            (Some(error), _) => format!("its pause file {error}, and counts as a pause"),
            (None, Some(reason)) => format!("it was told to pause: {reason}"),
            (None, None) => "it was told to pause".to_owned(),
        };
        return Judgement { tell: paused.error.is_some(), ..quiet(Verdict::Paused, why) };
    }
    let up = since(started, case.now).saturating_sub(case.slept.1);
    if up < numbers.grace {
        return quiet(Verdict::Starting, format!("it was started {} ago, and is not judged yet", span(up)));
    }
    let age = match (case.file, age) {
        (HeartbeatFile::Bad(why), _) => {
            let why = format!("it runs; its heartbeat file {why}, and says nothing");
            return Judgement { tell: true, ..quiet(Verdict::Healthy, why) };
        }
        (HeartbeatFile::Missing, _) | (_, None) => {
            return quiet(Verdict::Healthy, "it runs, and has no heartbeat file".to_owned());
        }
        (HeartbeatFile::Beat(_), Some(age)) => age,
    };
    let told = format!("its heartbeat is {} old", span(age));
    if age < numbers.stale {
        let verdict = if age < FRESH.min(numbers.stale) { Verdict::Healthy } else { Verdict::Late };
        return quiet(verdict, told);
    }
    let stuck = age > numbers.stuck;
    let (action, more) = old(case, stuck, started, numbers);
    Judgement {
        verdict: if stuck { Verdict::Stuck } else { Verdict::Stale },
        why: format!("{told}; {more}"),
        action,
        age: Some(age),
        tell: action == Action::Nothing && (stuck || case.memory.typed.len() >= TEXTS),
    }
}

/// What follows from a heartbeat that is too old, and why.
fn old(case: &Case<'_>, stuck: bool, started: Timestamp, numbers: &Numbers) -> (Action, &'static str) {
    let memory = case.memory;
    if memory.answered {
        return (Action::Nothing, "it answered when it was asked, and writes none");
    }
    if memory.asked.is_some() {
        return (Action::Nothing, "the question whether it is there waits to be typed");
    }
    let rested = memory.typed.last().is_none_or(|last| since(*last, case.now) >= numbers.apart);
    if memory.typed.len() < TEXTS {
        return match rested {
            true => (Action::Ask, "it is asked whether it is there"),
            false => (Action::Nothing, "it was asked whether it is there a short while ago"),
        };
    }
    let own = memory.sighting.as_ref().is_some_and(|sighting| sighting.not_before > started);
    match () {
        () if !stuck => (Action::Nothing, "it was asked twice whether it is there, and did not answer"),
        () if !rested => (Action::Nothing, "it is given time to answer"),
        () if !own => (Action::Nothing, "it did not write one itself: it is not restarted for another's"),
        () if case.attached => (Action::Nothing, "somebody looks at its session: it is not restarted"),
        () if !numbers.restart => (Action::Nothing, "[deacon] on_stale is \"alert\": it is not restarted"),
        () => (Action::Restart, "it was asked twice whether it is there, and did not answer"),
    }
}

/// A span for people, in seconds.
pub(super) fn span(of: Duration) -> String {
    humantime::format_duration(Duration::from_secs(of.as_secs())).to_string()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
