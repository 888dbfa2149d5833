//! What agents say of themselves: how a report is taken in, what is remembered of it, and what is ignored.
//!
//! A report is a fact about one instance with an age. Must never count one of an earlier instance, nor one that was
//! overtaken, and never let a promise of an agent hold for ever.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::explain::Observed;
use gtd_proto::params::{AgentReport, ReportState};
use gtd_proto::report::Reported;
use gtd_proto::{Activity, Address, ErrorKind, InstanceId, RpcError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::core::Core;
use super::handle::Handle;
use super::machine::{Machine, Phase};
use super::policy::{after, since};
use super::requests::Request;
use super::stood::Stood;
use super::turn::{Answer, Ticket, Turn, millis};
use crate::agents::converse::is_id;
use crate::clock::Timeline;

/// Longest remark that is kept, in characters: a question with its choices has some hundred.
pub const DETAIL: usize = 1_000;
/// For at most so long silence is no stall, whatever an agent promises.
const DUE_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// Past reports that are remembered of each agent, for people.
const PAST: usize = 10;

/// How a report came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Over the socket, when it was made.
    #[default]
    Report,
    /// From the spool: it was made while the daemon did not answer.
    Spool,
}

impl Source {
    /// The word that is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Spool => "spool",
        }
    }
}

/// One report. Instants are of the supervisor's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it says.
    pub state: ReportState,
    /// Its remark.
    pub detail: Option<String>,
    /// Before this instant silence is no stall.
    pub next_due: Option<Timestamp>,
    /// The conversation that it leads now.
    pub conversation: Option<String>,
    /// When it was made; now unless given.
    pub at: Option<Timestamp>,
    /// How it came.
    pub source: Source,
}

impl Said {
    /// The plainest report of a state, made now.
    #[must_use]
    pub fn of(state: ReportState) -> Self {
        Self { state, detail: None, next_due: None, conversation: None, at: None, source: Source::Report }
    }
}

/// The last that an instance said, as remembered. Instants are of the supervisor's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Which start of the agent.
    pub instance: InstanceId,
    /// What it said.
    pub state: ReportState,
    /// Since when it has said so.
    pub since: Timestamp,
    /// When it said so last.
    pub at: Timestamp,
    /// Its remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Before this instant silence is no stall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// How it came.
    #[serde(default)]
    pub source: Source,
    /// A turn has begun, and has not ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_turn: bool,
}

/// What an agent has said lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// The last.
    pub last: Option<Word>,
    /// What was said before, the latest first, with when; of this daemon's time.
    pub past: Vec<(ReportState, Timestamp)>,
}

impl Words {
    /// What is remembered from an earlier daemon.
    #[must_use]
    pub fn recalled(last: Option<Word>, now: Timestamp) -> Self {
        // A line does not go back, and a memo may be damaged.
        let last = last.map(|word| Word { since: word.since.min(now), at: word.at.min(now), ..word });
        Self { last, past: Vec::new() }
    }
}

/// Why a report counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// No agent's present instance made it.
    Stale,
    /// A later one was heard first.
    Overtaken,
    /// It was heard already.
    Known,
}

impl Ignored {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Stale => "it is of an earlier instance",
            Self::Overtaken => "a later report was heard before it",
            Self::Known => "it was heard already",
        }
    }
}

/// What a report makes of what was said before, or why it counts for nothing. Pure.
///
/// # Errors
/// Why it counts for nothing.
pub fn heed(
    before: Option<&Word>,
    instance: &InstanceId,
    said: &Said,
    now: Timestamp,
) -> Result<Word, Ignored> {
    let before = before.filter(|word| word.instance == *instance);
    let at = said.at.map_or(now, |at| at.min(now));
    if let Some(before) = before {
        if at < before.at {
            return Err(Ignored::Overtaken);
        }
        // Sent and, for want of an answer in time, left in the spool as well.
        if said.at.is_some() && at == before.at && said.state == before.state {
            return Err(Ignored::Known);
        }
    }
    let detail = said.detail.as_deref().map(plain).filter(|text| !text.is_empty());
    let goes_on = before.filter(|word| word.state == said.state);
    let in_turn = match said.state {
        ReportState::Working => true,
        // It asks in the midst of a turn.
        ReportState::Waiting => before.is_some_and(|word| word.in_turn),
        ReportState::Started | ReportState::Idle | ReportState::Ended => false,
    };
    Ok(Word {
        instance: instance.clone(),
        state: said.state,
        since: goes_on.map_or(at, |word| word.since),
        at,
        // What it said of a state holds while that goes on and nothing else is said of it.
        detail: detail.or_else(|| goes_on.and_then(|word| word.detail.clone())),
        next_due: said
            .next_due
            .map(|due| due.min(after(at, DUE_WITHIN)))
            .or_else(|| goes_on.and_then(|word| word.next_due)),
        source: said.source,
        in_turn,
    })
}

/// A text of one line without anything that acts on a terminal, and not longer than a remark may be.
fn plain(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(DETAIL).collect()
}

impl Core {
    pub(super) fn said(
        &mut self,
        ticket: Ticket,
        instance: &InstanceId,
        said: &Said,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let agent = self
            .agents
            .values()
            .find(|machine| machine.current.as_ref().is_some_and(|current| current.instance == *instance))
            .map(|machine| machine.address.clone());
        let heard = match agent {
            None => Some(Err(Ignored::Stale)),
            Some(agent) => {
                self.each(&agent, now, turn, |machine, _, turn| machine.listen(instance, said, now, turn))
            }
        };
        let ignored = heard.and_then(Result::err);
        Self::reply(turn, ticket, Answer::Heard { ignored });
    }
}

impl Machine {
    /// Takes in a report of the present instance.
    fn listen(
        &mut self,
        instance: &InstanceId,
        said: &Said,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), Ignored> {
        let before = self.words.last.clone().filter(|word| word.instance == *instance);
        let word = heed(before.as_ref(), instance, said, now)?;
        let state = word.state;
        // A finished turn is progress; that it began, or was spoken to, is none.
        let finished = before.as_ref().is_some_and(|word| word.in_turn) && state == ReportState::Idle;
        if finished {
            self.progressed("a turn ended", now, turn);
        }
        if let Some(before) = &before {
            self.words.past.insert(0, (before.state, before.at));
            self.words.past.truncate(PAST);
        }
        self.words.last = Some(word.clone());
        self.declared(state, now, turn);
        if let Some(id) = said.conversation.as_deref().filter(|id| is_id(id)) {
            self.leads(id, now, turn);
        }
        let goes_on = self.asks_within_its_turn(state);
        let turn_over = self.said(state.activity(), state != ReportState::Ended, now, turn);
        self.heed_turn(state, turn);
        turn.agent_row(self);
        turn.event(self, kind::AGENT_REPORTED, now, told(&word, said));
        self.heed_report(state, word.detail.as_deref(), now, turn);
        if let (true, Phase::Draining { then, .. }) = (turn_over && !goes_on, &self.phase) {
            let then = *then;
            self.terminate(then, false, "supervisor", "its turn has ended".to_owned(), now, turn);
        }
        Ok(())
    }

    /// Before this instant its silence is no stall, by its own word.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.words.last.as_ref().and_then(|word| word.next_due)
    }

    /// What it says that it does, by what an earlier daemon heard of its present instance.
    pub(super) fn remembered_activity(&self) -> Activity {
        self.words.last.as_ref().map_or(Activity::Unknown, |word| word.state.activity())
    }
}

/// A report as its event tells it.
fn told(word: &Word, said: &Said) -> Value {
    let mut data = Map::new();
    data.insert("state".to_owned(), json!(word.state));
    data.extend(word.detail.as_ref().map(|detail| ("detail".to_owned(), json!(detail))));
    data.extend(word.next_due.map(|due| ("next_due".to_owned(), json!(due))));
    data.extend(said.conversation.as_ref().map(|id| ("conversation".to_owned(), json!(id))));
    data.insert("source".to_owned(), json!(word.source.as_str()));
    if word.source == Source::Spool {
        data.insert("said_at".to_owned(), json!(word.at));
    }
    Value::Object(data)
}

/// What is shown of an agent's reports, by the clock of people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The last one.
    pub last: Option<Word>,
    /// Earlier ones.
    pub past: Vec<(ReportState, Timestamp)>,
    /// The conversation that its next start goes on with.
    pub conversation: Option<(String, Timestamp)>,
    /// The settings file of its program, and what is to be said about it.
    pub settings: Option<(String, Timestamp)>,
    /// The text that is to be typed for its present instance once that is ready.
    pub to_type: Option<String>,
    /// When it was paused lately, by the supervisor's clock.
    pub stood: Stood,
}

impl Heard {
    pub(super) fn of(machine: &Machine, line: &Timeline) -> Self {
        let wall = |at: Timestamp| line.to_wall(at);
        let current = machine.current.as_ref();
        let last = machine.words.last.clone().filter(|_| current.is_some());
        let outfit = current.and_then(|current| current.life.as_ref()).map(|life| &life.outfit);
        let settings =
            outfit.and_then(|outfit| outfit.settings_note.clone().or_else(|| outfit.settings.clone()));
        Self {
            last: last.map(|word| Word {
                since: wall(word.since),
                at: wall(word.at),
                next_due: word.next_due.map(wall),
                ..word
            }),
            past: machine.words.past.iter().map(|(state, at)| (*state, wall(*at))).collect(),
            conversation: machine.conversation.as_ref().map(|row| (row.conversation.clone(), wall(row.at))),
            settings: settings.zip(current.map(|current| wall(current.reserved_at))),
            to_type: outfit.and_then(|outfit| outfit.to_type.clone()),
            stood: machine.stood.clone(),
        }
    }

    /// The observations of an explanation, each with its source and age.
    pub(super) fn observed(&self, since_state: Timestamp, now: Timestamp) -> Vec<Observed> {
        let make = |what: &str, value: String, source: &str, at: Timestamp| Observed {
            what: what.to_owned(),
            value,
            source: source.to_owned(),
            at,
            age_ms: millis(since(at, now)),
        };
        let mut list = Vec::new();
        match &self.last {
            None => list.push(make("activity", "unknown".to_owned(), "report", since_state)),
            Some(word) => {
                let activity = word.state.activity().as_str();
                let said = word.state.as_str();
                let said = if said == activity { String::new() } else { format!(" ({said})") };
                let detail = word.detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
                let value = format!("{activity}{said}{detail}");
                list.push(make("activity", value, word.source.as_str(), word.at));
                if let Some(due) = word.next_due {
                    list.push(make("next due", format!("{due:.0}"), word.source.as_str(), word.at));
                }
            }
        }
        if !self.past.is_empty() {
            let ago =
                |at: &Timestamp| humantime::format_duration(Duration::from_secs(since(*at, now).as_secs()));
            let past = self.past.iter().map(|(state, at)| format!("{} {} ago", state.as_str(), ago(at)));
            let latest = self.past.first().map_or(now, |(_, at)| *at);
            list.push(make("earlier reports", past.collect::<Vec<_>>().join(", "), "report", latest));
        }
        if let Some((id, at)) = &self.conversation {
            list.push(make("conversation", id.clone(), "ledger", *at));
        }
        if let Some((settings, at)) = &self.settings {
            list.push(make("settings", settings.clone(), "file", *at));
        }
        list
    }
}

impl Handle {
    /// Passes a report on; it is in the ledger when this returns.
    ///
    /// # Errors
    /// `agent_not_found` when no agent has the instance and none is named; -32602 for a conversation's id that
    /// cannot be one.
    pub async fn report(&self, params: AgentReport, source: Source) -> Result<Reported, RpcError> {
        let AgentReport { agent, instance, state, next_due, conversation, detail, at } = params;
        if conversation.as_deref().is_some_and(|id| !is_id(id)) {
            let why = "the id of a conversation has letters, digits and -_.:/ only, and at most 128 of them";
            return Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/conversation"));
        }
        let line = self.line();
        let said = Said {
            state,
            detail,
            next_due: next_due.map(|due| line.from_wall(due)),
            conversation,
            at: at.map(|at| line.from_wall(at)),
            source,
        };
        let owner = self.holder_of(&instance).or(agent);
        let Some(agent) = owner else {
            let why = format!("no agent has instance {instance}");
            return Err(RpcError::new(ErrorKind::AgentNotFound, why).hint("gtctl status"));
        };
        self.known(&agent)?;
        let ignored = match self.ask(Request::Said { instance, said }).await? {
            Answer::Heard { ignored } => ignored,
            _ => return Err(RpcError::internal("an answer of another kind was given")),
        };
        if ignored.is_none() && matches!(state, ReportState::Idle | ReportState::Waiting) {
            self.runtime().look_at_descent();
        }
        let agent = self.known(&agent)?;
        Ok(Reported { agent, already: ignored.is_some(), ignored: ignored.map(|why| why.words().to_owned()) })
    }

    fn holder_of(&self, instance: &InstanceId) -> Option<Address> {
        self.view().read(|shown| {
            let mut agents = shown.agents.values();
            agents.find(|agent| agent.instance.as_ref() == Some(instance)).map(|agent| agent.agent.clone())
        })
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
