//! How an agent gets on with its work: when it last got anywhere, when it counts as stalled, and when starting it
//! again does not work.
//!
//! Pure. Progress is a finished turn, a change of the work, or a new life; output is none, it only puts the alert
//! off. Time for which the machine was suspended counts for nothing.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Activity, Address, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::core::Core;
use super::machine::{Machine, Phase};
use super::planner::Situation;
use super::policy::{self, since};
use super::turn::{Turn, millis};
use crate::agents::dialogs::Dialog;

/// Lines of a screen that an alert shows.
pub const TAIL: usize = 20;

/// What is remembered of how an agent gets on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When it last got anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this instant its silence is no stall: its account is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Since when it is told to be stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Timestamp>,
    /// Its store said that its work is done, and nobody has asked for anything of it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// It was told that restarts of it fail, in this row of failures.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failing: bool,
}

impl Progress {
    /// Nothing that is worth remembering.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

/// An agent that should be getting on, as those see it who look at its screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which start of it.
    pub instance: InstanceId,
    /// Its work.
    pub work: String,
    /// When it last got anywhere.
    pub since: Timestamp,
    /// Before this instant its silence is no stall.
    pub due: Option<Timestamp>,
    /// It is told to be stalled already.
    pub stalled: bool,
}

/// Whether an agent counts as stalled: for how long it got nowhere, if so. `output` is when its screen last
/// changed, as far as is known.
#[must_use]
pub fn stalled(
    watched: &Watched,
    output: Option<Timestamp>,
    now: Timestamp,
    gupp_after: Duration,
) -> Option<Duration> {
    let idle = since(watched.since, now);
    if idle < gupp_after || watched.due.is_some_and(|due| due > now) {
        return None;
    }
    let silent = output.is_none_or(|at| since(at, now) >= gupp_after);
    (silent || idle >= gupp_after.saturating_mul(2)).then_some(idle)
}

/// What was seen of an agent that got nowhere for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Which.
    pub agent: Address,
    /// Which start of it.
    pub instance: InstanceId,
    /// The work that it was looked at for.
    pub work: String,
    /// For how long it got nowhere.
    pub idle: Duration,
    /// The end of its screen; empty where it could not be read.
    pub tail: Vec<String>,
    /// What its screen tells.
    pub seen: Seen,
}

/// What a screen tells of an agent that gets nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing that explains it.
    Nothing,
    /// A question to a person.
    Question(Dialog),
    /// Its account has reached a limit of its provider: the line, and until when.
    Limit {
        /// What it says.
        line: String,
        /// Until then.
        until: Timestamp,
    },
}

impl Machine {
    /// It got somewhere.
    pub(super) fn progressed(&mut self, why: &str, now: Timestamp, turn: &mut Turn) {
        let noted = self.work.is_some() || !self.memory.deaths.is_empty();
        policy::progressed(&mut self.memory);
        self.move_on(why, now, turn);
        if noted {
            turn.agent_row(self);
        }
    }

    /// It got somewhere, or begins anew: it is not stalled any more.
    pub(super) fn move_on(&mut self, why: &str, now: Timestamp, turn: &mut Turn) {
        self.progress.since = Some(now);
        self.progress.due = None;
        if let Some(at) = self.progress.stalled.take() {
            self.alert = None;
            turn.touched(&self.address);
            let data = json!({
                "from": "stalled", "why": why, "by": "supervisor", "waited_ms": millis(since(at, now)),
            });
            turn.event(self, kind::AGENT_RELEASED, now, data);
        }
        if self.work.is_some() {
            // Whoever watches it goes by what is shown.
            turn.touched(&self.address);
        }
    }

    /// What those see who look after its progress: it lives, has work, and waits for nobody.
    #[must_use]
    pub fn watched(&self) -> Option<Watched> {
        let current = self.current.as_ref()?;
        let work = self.work.as_ref()?;
        let runs = self.phase == Phase::Running && current.alive && current.ready_at.is_some();
        let told = self.activity != Activity::Waiting && self.blind.is_none() && self.unsure.is_none();
        let moves = self.paused.is_none() && self.frost.is_none();
        (runs && told && moves).then(|| Watched {
            instance: current.instance.clone(),
            work: work.id.clone(),
            since: self.progress.since.unwrap_or(self.since),
            due: self.progress.due.max(self.next_due()),
            stalled: self.progress.stalled.is_some(),
        })
    }

    fn stall(&mut self, stall: Stall, gupp_after: Duration, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        let Some(watched) = self.watched() else { return };
        let same = watched.instance == stall.instance && watched.work == stall.work && !watched.stalled;
        // It may have moved since it was looked at.
        if !same || stalled(&watched, None, now, gupp_after).is_none() {
            return;
        }
        if let Seen::Question(dialog) = stall.seen {
            return self.asks(dialog, now, turn);
        }
        self.waits_no_longer(turn);
        if let Seen::Limit { line, until } = stall.seen {
            let reason = format!("its screen says: {line}");
            if let Some(account) = self.account.clone() {
                situation.limits.limit_account(&account, until);
                let data = json!({ "account": account, "until": until, "reason": reason });
                turn.event(self, kind::AGENT_THROTTLED, now, data);
            }
            turn.decided(&self.address, now, "it gets nowhere", "wait for its account", &reason);
            self.progress.due = Some(until);
            turn.touched(&self.address);
            return turn.agent_row(self);
        }
        let Some(work) = self.work.clone() else { return };
        self.progress.stalled = Some(now);
        let idle = humantime::format_duration(Duration::from_secs(stall.idle.as_secs()));
        self.alert = Some(format!("no progress on {} for {idle}", work.id));
        let data = json!({
            "rig": self.address.rig(),
            "agent": self.address,
            "work": work.id,
            "title": work.title,
            "since": watched.since,
            "idle_ms": millis(stall.idle),
            "pane_tail": stall.tail,
        });
        turn.event(self, kind::AGENT_STALLED, now, data);
        turn.decided(&self.address, now, "it gets nowhere", "tell of it", &format!("for {idle}"));
        turn.touched(&self.address);
        turn.agent_row(self);
    }

    /// Starting it again after a crash did not work, or will not be tried for a while: told once in a row of
    /// failures. `again` is whether it had failed before.
    pub(super) fn restart_failed(&mut self, again: bool, error: &str, now: Timestamp, turn: &mut Turn) {
        self.progress.failing &= again;
        if !again || self.progress.failing || !matches!(self.address, Address::Polecat(..)) {
            return;
        }
        self.progress.failing = true;
        let data = json!({
            "rig": self.address.rig(),
            "agent": self.address,
            "work": self.work.as_ref().map(|work| &work.id),
            "title": self.work.as_ref().map(|work| &work.title),
            "error": error,
            "attempt": self.memory.consecutive.max(1),
        });
        turn.event(self, kind::POLECAT_RESTART_FAILED, now, data);
        turn.agent_row(self);
    }
}

impl Core {
    /// Agents that were looked at because they got nowhere.
    pub(super) fn heed_stalls(
        &mut self,
        stalls: Vec<Stall>,
        gupp_after: Duration,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        for stall in stalls {
            self.each(&stall.agent.clone(), now, turn, |machine, situation, turn| {
                machine.stall(stall, gupp_after, situation, turn);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    #[test]
    fn an_alert_is_due_after_silence_and_at_the_latest_after_twice_the_time() {
        let half_hour = Duration::from_secs(30 * 60);
        // last progress at minute 0; promised until, screen changed at, now: minutes of nothing, if it is told
        let cases = [
            (None, None, 29, None),
            (None, None, 30, Some(30)),
            // Output puts it off, until it stops or it is too much.
            (None, Some(29), 30, None),
            (None, Some(29), 58, None),
            (None, Some(29), 59, Some(59)),
            (None, Some(59), 60, Some(60)),
            (None, Some(0), 30, Some(30)),
            // Its own word puts it off for as long as it said.
            (Some(90), None, 89, None),
            (Some(90), Some(60), 90, Some(90)),
            (Some(10), None, 30, Some(30)),
            // A clock that was behind.
            (None, Some(99), 60, Some(60)),
        ];
        for (due, output, now, expected) in cases {
            let watched = Watched {
                instance: InstanceId::generate(),
                work: "a-1".to_owned(),
                since: at(0),
                due: due.map(at),
                stalled: false,
            };
            let found = stalled(&watched, output.map(at), at(now), half_hour);
            let expected = expected.map(|minutes: u64| Duration::from_secs(60 * minutes));
            assert_eq!(found, expected, "{due:?} {output:?} {now}");
        }
    }

    #[test]
    fn what_was_remembered_by_an_earlier_version_is_read() {
        assert!(serde_json::from_str::<Progress>("{}").unwrap().is_blank());
    }
}
