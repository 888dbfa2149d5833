//! What of the events is worth a look, and in which words: the rules by which `.feed.jsonl` is made out of
//! `.events.jsonl`. Pure.
//!
//! The rules and the words are those that the incumbent's readers know. Windows are judged by the times in the
//! lines, not by the clock, so that a backlog comes out as it would have on time. One rule is narrower: a second
//! `done` is left out where it is about the same work, not merely by the same agent.

use std::collections::BTreeMap;

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Seconds within which the same agent's `done` for the same work is one (`reference/daemon.md`, constants).
pub const DONE_WINDOW: i64 = 10;
/// Seconds over which slings of one actor are counted (the same).
pub const SLING_WINDOW: i64 = 30;
/// So many slings in the window are told as a number (the same).
pub const SLINGS: u64 = 3;
/// Actors, and pairs of actor and work, that are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 200;

/// What is remembered of the lines before. Small: some kilobytes at the most are usual, 300 the worst.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Slings by actor and second.
    slings: BTreeMap<String, BTreeMap<i64, u64>>,
    /// When a `done` was last told, by actor and work.
    done: BTreeMap<String, i64>,
}

/// Why a line is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// There is nothing in it.
    Empty,
    /// It is no event.
    Unreadable,
    /// It is not meant for the feed.
    Audit,
    /// It was told a moment ago.
    Again,
}

/// An event as its writers put it down. What is missing is empty, as it is to the incumbent's readers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    ts: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    actor: String,
    payload: Option<Map<String, Value>>,
    visibility: String,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    ts: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    actor: &'a str,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    id: &'a str,
}

/// The line of the feed for a line of events, without its newline. `id` is what tells it from all others.
///
/// # Errors
/// Why there is none.
pub fn curate(memory: &mut Memory, line: &[u8], id: &str) -> Result<String, Dropped> {
    let line = line.trim_ascii();
    match line.first() {
        None => return Err(Dropped::Empty),
        // An array would do for the fields of a struct.
        Some(b'{') => {}
        Some(_) => return Err(Dropped::Unreadable),
    }
    let event: Written = serde_json::from_slice(line).map_err(|_| Dropped::Unreadable)?;
    if !matches!(event.visibility.as_str(), "feed" | "both") {
        return Err(Dropped::Audit);
    }
    let second = event.ts.parse::<Timestamp>().ok().map(Timestamp::as_second);
    let mut count = None;
    match (event.kind.as_str(), second) {
        ("done", Some(second)) if memory.again(&event, second) => return Err(Dropped::Again),
        ("sling", Some(second)) => {
            count = Some(memory.sling(&event.actor, second)).filter(|count| *count >= SLINGS);
        }
        _ => {}
    }
    let summary = match count {
        Some(count) => format!("{} dispatching work to {count} agents", event.actor),
        None => event.summary(),
    };
    let told = Told {
        ts: &event.ts,
        source: &event.source,
        kind: &event.kind,
        actor: &event.actor,
        summary: &summary,
        payload: event.payload.as_ref(),
        count,
        id,
    };
    serde_json::to_string(&told).map_err(|_| Dropped::Unreadable)
}

impl Written {
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.payload.as_ref()?.get(name)?.as_str()?;
        Some(value).filter(|value| !value.is_empty())
    }

    fn summary(&self) -> String {
        let actor = &self.actor;
        let plain = || format!("{actor}: {}", self.kind);
        match self.kind.as_str() {
            "sling" => match (self.text("bead"), self.text("target")) {
                (Some(bead), Some(target)) => format!("{actor} assigned {bead} to {target}"),
                _ => format!("{actor} dispatched work"),
            },
            "done" => match self.text("bead") {
                Some(bead) => format!("{actor} completed work on {bead}"),
                None => format!("{actor} signaled done"),
            },
            "handoff" => format!("{actor} handed off to fresh session"),
            "mail" => match (self.text("to"), self.text("subject")) {
                (Some(to), Some(subject)) => format!("{actor} → {to}: {subject}"),
                (Some(to), None) => format!("{actor} → {to}"),
                _ => plain(),
            },
            "patrol_started" => {
                self.text("rig").map_or_else(plain, |rig| format!("{actor} patrol started for {rig}"))
            }
            "patrol_complete" => self.text("message").map_or_else(plain, str::to_owned),
            "merged" => self.text("worker").map_or_else(plain, |worker| format!("Merged work from {worker}")),
            "merge_failed" => {
                self.text("reason").map_or_else(plain, |reason| format!("Merge failed: {reason}"))
            }
            "session_death" => match (self.text("session"), self.text("reason")) {
                (Some(session), Some(reason)) => format!("Session {session} terminated: {reason}"),
                (Some(session), None) => format!("Session {session} terminated"),
                _ => plain(),
            },
            "mass_death" => {
                let count = self.payload.as_ref().and_then(|payload| payload.get("count"));
                // Ours says `unknown` where the incumbent says nothing.
                let cause = self.text("possible_cause").filter(|cause| *cause != "unknown");
                match (count.and_then(whole), cause) {
                    (Some(count), Some(cause)) => format!("MASS DEATH: {count} sessions died - {cause}"),
                    (Some(count), None) => format!("MASS DEATH: {count} sessions died simultaneously"),
                    (None, _) => plain(),
                }
            }
            _ => plain(),
        }
    }
}

/// A number of things, which some write with a point.
fn whole(value: &Value) -> Option<String> {
    match (value.as_u64(), value.as_f64()) {
        (Some(count), _) => Some(count.to_string()),
        (None, Some(count)) if count >= 0.0 => Some(format!("{count:.0}")),
        _ => None,
    }
}

impl Memory {
    /// Whether this was told a moment ago; else it is told now.
    fn again(&mut self, event: &Written, second: i64) -> bool {
        let key = format!("{}\n{}", event.actor, event.text("bead").unwrap_or_default());
        if self.done.get(&key).is_some_and(|told| told.abs_diff(second) <= DONE_WINDOW.unsigned_abs()) {
            return true;
        }
        self.done.insert(key, second);
        forget(&mut self.done, |told| *told);
        false
    }

    /// Slings of this actor around this second, this one included.
    fn sling(&mut self, actor: &str, second: i64) -> u64 {
        let seconds = self.slings.entry(actor.to_owned()).or_default();
        seconds.retain(|other, _| other.abs_diff(second) <= SLING_WINDOW.unsigned_abs());
        let here = seconds.entry(second).or_default();
        *here = here.saturating_add(1);
        let count = seconds.values().fold(0, |sum: u64, more| sum.saturating_add(*more));
        forget(&mut self.slings, |seconds| seconds.keys().next_back().copied().unwrap_or(i64::MIN));
        count
    }
}

/// Keeps a memory within its bound.
fn forget<T>(memory: &mut BTreeMap<String, T>, age: impl Fn(&T) -> i64) {
    while memory.len() > REMEMBERED {
        let oldest = memory.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone());
        let Some(oldest) = oldest else { return };
        memory.remove(&oldest);
    }
}

#[cfg(test)]
#[path = "curate_tests.rs"]
mod tests;
