//! What is known of the queue at this moment.
//!
//! Pure bookkeeping behind one lock that is held for moments only. It must never change a row by itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gtd_proto::{Address, InstanceId, NudgeId, NudgeState, Seq};
use tokio::time::Instant;

use crate::agents::typing::rules::{Memory, Said};
use crate::ledger::{NudgeRow, Nudges as Kept};

/// Texts that are done with and still remembered, for those who wait for them.
const DONE: usize = 1_000;
/// Agents of which something is remembered although nothing waits for them.
const TRACKED: usize = 4_096;

/// A text of which something may still become.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) row: NudgeRow,
    /// Why it waits, and whether only for moments. None while that is being found out.
    pub(super) waits: Option<(String, bool)>,
}

/// What is known of an agent that texts are for.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The instance that the rest is about.
    instance: Option<InstanceId>,
    pub(super) memory: Memory,
    said: Option<Said>,
    /// The last report that a turn began.
    worked: Option<Seq>,
    /// Somebody is at it now.
    pub(super) busy: bool,
    /// Nothing is to be looked at before; none: only after something has happened.
    pub(super) due: Option<Instant>,
    /// A text was sent off, and no turn is known to have followed: nothing more until then.
    pub(super) pause: Option<Instant>,
    /// The text that was sent off last, and the last event before that.
    pub(super) watched: Option<(NudgeRow, Seq, Instant)>,
    /// Attempts in a row that failed.
    pub(super) failed: u32,
}

#[derive(Debug)]
pub(super) struct Book {
    pub(super) open: BTreeMap<i64, Entry>,
    pub(super) tracks: BTreeMap<Address, Track>,
    done: VecDeque<NudgeRow>,
    last_number: i64,
}

impl Book {
    pub(super) fn new(kept: Kept) -> Self {
        let last = kept.open.last().map_or(0, |row| row.number).max(kept.last_number);
        let open = kept.open.into_iter().map(|row| (row.number, Entry { row, waits: None }));
        let mut book =
            Self { open: open.collect(), tracks: BTreeMap::new(), done: VecDeque::new(), last_number: last };
        for agent in book.agents() {
            book.track(&agent).due = Some(Instant::now());
        }
        book
    }

    pub(super) fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// For whom something waits.
    pub(super) fn agents(&self) -> Vec<Address> {
        let mut agents: Vec<Address> = self.open.values().map(|entry| entry.row.agent.clone()).collect();
        agents.sort_unstable();
        agents.dedup();
        agents
    }

    /// What comes first for an agent: what was begun, then the oldest.
    pub(super) fn head(&self, agent: &Address) -> Option<&NudgeRow> {
        let rows = || self.open.values().map(|entry| &entry.row).filter(|row| row.agent == *agent);
        rows().find(|row| row.state == NudgeState::Delivering).or_else(|| rows().next())
    }

    pub(super) fn bytes(&self) -> usize {
        self.open.values().map(|entry| entry.row.message.len()).sum()
    }

    pub(super) fn track(&mut self, agent: &Address) -> &mut Track {
        if self.tracks.len() >= TRACKED && !self.tracks.contains_key(agent) {
            let waiting = self.agents();
            self.tracks.retain(|agent, track| track.busy || waiting.binary_search(agent).is_ok());
        }
        self.tracks.entry(agent.clone()).or_default()
    }

    /// What is known of one instance; of an earlier one it is forgotten.
    pub(super) fn track_of(&mut self, agent: &Address, instance: &InstanceId) -> &mut Track {
        let track = self.track(agent);
        if track.instance.as_ref() != Some(instance) {
            let (busy, due, watched) = (track.busy, track.due, track.watched.take());
            *track = Track { instance: Some(instance.clone()), busy, due, watched, ..Track::default() };
        }
        track
    }

    pub(super) fn said(&mut self, agent: &Address, instance: &InstanceId) -> Option<Said> {
        self.track_of(agent, instance).said
    }

    pub(super) fn has_said(&mut self, agent: &Address, instance: &InstanceId, said: Said) {
        self.track_of(agent, instance).said = Some(said);
    }

    /// An agent's report. The text that it shows to have been seen, if it does.
    pub(super) fn reported(
        &mut self,
        agent: &Address,
        instance: &InstanceId,
        said: Said,
        seq: Seq,
    ) -> Option<NudgeRow> {
        let track = self.track_of(agent, instance);
        track.said = Some(said);
        if said == Said::Working {
            track.worked = Some(seq);
        }
        self.seen(agent, instance)
    }

    /// The text that was sent off last, if a turn began after it: told once.
    pub(super) fn seen(&mut self, agent: &Address, instance: &InstanceId) -> Option<NudgeRow> {
        let track = self.track_of(agent, instance);
        let (row, before, _) = track.watched.as_ref()?;
        let same = row.typed_for.as_ref() == Some(instance);
        if same && track.worked.is_some_and(|worked| worked > *before) {
            // From here on its own word says when the next may follow.
            track.pause = None;
            return track.watched.take().map(|(row, ..)| row);
        }
        None
    }

    /// Keeps a row as it is now.
    pub(super) fn keep(&mut self, row: NudgeRow) {
        let number = row.number;
        if row.state.is_open() {
            let waits = self.open.get(&number).and_then(|entry| entry.waits.clone());
            self.open.insert(number, Entry { row, waits });
            return;
        }
        self.open.remove(&number);
        self.done.retain(|done| done.number != number);
        self.done.push_back(row);
        if self.done.len() > DONE {
            self.done.pop_front();
        }
    }

    /// A row, open or done with not long ago, and why it waits.
    pub(super) fn find(&self, id: &NudgeId) -> Option<Entry> {
        let open = self.open.values().find(|entry| entry.row.id == *id).cloned();
        let done = || self.done.iter().rev().find(|row| row.id == *id);
        open.or_else(|| done().map(|row| Entry { row: row.clone(), waits: None }))
    }

    /// Says of everything that waits for an agent why it does.
    pub(super) fn wait(&mut self, agent: &Address, why: &str, soon: bool) -> bool {
        let mut changed = false;
        for entry in self.open.values_mut().filter(|entry| entry.row.agent == *agent) {
            let waits = Some((why.to_owned(), soon));
            changed |= entry.waits != waits;
            entry.waits = waits;
        }
        changed
    }

    /// Something has happened: an agent, or all of them, are to be looked at.
    pub(super) fn stir(&mut self, agent: Option<&Address>) {
        let now = Instant::now();
        for who in self.agents() {
            if agent.is_none_or(|agent| *agent == who) {
                self.track(&who).due = Some(now);
            }
        }
    }

    /// Whether events matter: something waits, or was sent off just now.
    pub(super) fn is_watching(&mut self) -> bool {
        let now = Instant::now();
        for track in self.tracks.values_mut() {
            if track.watched.as_ref().is_some_and(|(_, _, until)| *until <= now) {
                track.watched = None;
            }
        }
        !self.open.is_empty() || self.tracks.values().any(|track| track.watched.is_some())
    }

    /// How long until somebody is due.
    pub(super) fn next(&self, most: Duration) -> Duration {
        let now = Instant::now();
        let waiting = self.agents();
        let dues = waiting.iter().filter_map(|agent| self.tracks.get(agent)).filter(|track| !track.busy);
        let watches =
            self.tracks.values().filter_map(|track| track.watched.as_ref().map(|(_, _, until)| *until));
        let next = dues.filter_map(|track| track.due).chain(watches).min();
        next.map_or(most, |due| due.saturating_duration_since(now).min(most))
    }
}
