//! Mass deaths: when several deaths are one thing that happened, and how the agents come back after it.
//!
//! Pure: deaths and instants come in, and what follows goes out. [`Breaker`] recognises an incident and keeps
//! its record; what it does to agents is in [`steps`] and [`held`]. It must never stop a person: their start and their
//! reset pass it for that agent.

mod cause;
mod held;
mod record;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gtd_proto::{Address, Exit, Timestamp};

pub use cause::{Kind, kind};
pub use record::{Record, Stage};

use super::policy::{after, since};
use crate::process::ProcessId;

/// Records of closed incidents that are kept.
pub const KEPT: usize = 100;
/// Facts of the ledger with this prefix are records of incidents.
pub const FACT: &str = "incident:";

/// The numbers of the breaker, from `[mass_death]` of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// So many agents, or more: 0 switches the breaker off.
    pub threshold: u32,
    /// This share of the agents that ran before the first death, rounded up, where that is more.
    pub share: f64,
    /// Deaths no further apart than this belong together.
    pub window: Duration,
    /// How long restarts are held at first.
    pub hold: Duration,
    /// How long they are held at most.
    pub hold_max: Duration,
    /// How long the first to come back must live before the others follow.
    pub canary: Duration,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            threshold: 3,
            share: 0.1,
            window: Duration::from_secs(30),
            hold: Duration::from_secs(10),
            hold_max: Duration::from_secs(5 * 60),
            canary: Duration::from_secs(2),
        }
    }
}

impl Numbers {
    /// How many deaths are an incident, when so many agents ran before the first of them.
    #[must_use]
    pub fn needed(&self, running: usize) -> usize {
        let running = u32::try_from(running).unwrap_or(u32::MAX);
        // A share that no binary fraction is exactly must not count one more than it means.
        let share = (f64::from(running) * self.share - 1e-9).ceil().max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most u32::MAX, never below zero"
        )]
        let share = share as u32;
        usize::try_from(self.threshold.max(share)).unwrap_or(usize::MAX)
    }
}

/// A death that may be part of an incident.
#[derive(Debug, Clone)]
pub struct Death {
    /// Who died.
    pub agent: Address,
    /// When, in the core's time.
    pub at: Timestamp,
    /// When it was told.
    pub told_at: Timestamp,
    /// Of what.
    pub kind: Kind,
    /// The account it used.
    pub account: Option<String>,
    /// Its session's name.
    pub session: Option<String>,
    /// The tmux server that had its pane.
    pub server: Option<ProcessId>,
    /// How many agents ran before it died.
    pub running: usize,
    /// Its black box, which is to name the incident.
    pub exit: Exit,
}

/// What hearing of a death came to.
#[derive(Debug)]
pub enum Heard {
    /// It is no part of an incident, so far.
    Alone,
    /// It belongs to the open incident.
    Joined,
    /// With it there are enough: these deaths, it included, are an incident.
    Opened(Vec<Death>),
}

/// While restarts are held: by what, and until when at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// The incident's id.
    pub id: &'a str,
    /// Until then at least.
    pub until: Timestamp,
}

/// The breaker's whole memory.
#[derive(Debug, Default)]
pub struct Breaker {
    /// The latest death of each agent that is part of no incident.
    recent: BTreeMap<Address, Death>,
    /// When the provider last limited an account.
    limited: BTreeMap<String, Timestamp>,
    /// When the machine was last resumed.
    resumed_at: Option<Timestamp>,
    open: Option<Record>,
    /// Closed ones, the newest first.
    past: VecDeque<Record>,
}

impl Breaker {
    /// The open incident.
    #[must_use]
    pub fn open(&self) -> Option<&Record> {
        self.open.as_ref()
    }

    /// Closed incidents, the newest first; at most [`KEPT`].
    pub fn past(&self) -> impl Iterator<Item = &Record> {
        self.past.iter()
    }

    /// Whether restarts are held now.
    #[must_use]
    pub fn held(&self, numbers: &Numbers) -> Option<Held<'_>> {
        let open = self.open.as_ref()?;
        let until = open.held_until(numbers)?;
        Some(Held { id: &open.id, until })
    }

    /// Takes up what an earlier daemon wrote down. The newest open record stays open; there is at most one
    /// unless a ledger was tampered with.
    pub fn recall(&mut self, records: impl IntoIterator<Item = Record>, now: Timestamp, numbers: &Numbers) {
        let mut records: Vec<Record> = records.into_iter().collect();
        records.sort_by(|a, b| (b.opened_at, &b.id).cmp(&(a.opened_at, &a.id)));
        for mut record in records {
            if record.closed.is_none() && self.open.is_none() {
                // A wall clock that was set back makes no hold longer than it can be.
                record.not_later_than(after(now, numbers.hold_max));
                self.open = Some(record);
            } else {
                self.past.push_back(record);
            }
        }
    }

    /// Takes up a death that an earlier daemon wrote down and made nothing of.
    pub fn remember(&mut self, death: Death) {
        let newer = self.recent.get(&death.agent).is_none_or(|known| known.at <= death.at);
        if newer {
            self.recent.insert(death.agent.clone(), death);
        }
    }

    /// The machine was resumed.
    pub fn resumed(&mut self, now: Timestamp) {
        self.resumed_at = Some(now);
    }

    /// The provider limited an account.
    pub fn limited(&mut self, account: Option<String>, now: Timestamp) {
        self.limited.insert(account.unwrap_or_default(), now);
    }

    /// Hears of a death that was unrequested, unclean and unthrottled.
    pub fn died(&mut self, death: Death, now: Timestamp, numbers: &Numbers) -> Heard {
        if let Some(open) = &mut self.open {
            open.join(&death, numbers);
            return Heard::Joined;
        }
        if numbers.threshold == 0 {
            self.recent.clear();
            return Heard::Alone;
        }
        self.forget(now, numbers);
        let newest = death.at;
        self.remember(death);
        let Some(group) = self.group(newest, numbers) else { return Heard::Alone };
        let mut members: Vec<Death> = group.iter().filter_map(|agent| self.recent.remove(agent)).collect();
        // Whoever died too long before or after is no part of it, and would be of none that follows.
        self.recent.clear();
        members.sort_by(|a, b| a.agent.cmp(&b.agent));
        let kinds: BTreeMap<Address, Kind> =
            members.iter().map(|death| (death.agent.clone(), death.kind)).collect();
        let record = Record::new(
            self.new_id(now),
            now,
            numbers,
            &members,
            kinds,
            self.was_resumed(&members, numbers),
            self.is_of_an_account(&members, numbers),
        );
        self.open = Some(record);
        Heard::Opened(members)
    }

    /// The agents whose deaths, with one at `newest` among them, lie in one window and are enough.
    fn group(&self, newest: Timestamp, numbers: &Numbers) -> Option<BTreeSet<Address>> {
        let mut deaths: Vec<&Death> = self.recent.values().collect();
        deaths.sort_by_key(|death| death.at);
        let firsts =
            deaths.iter().filter(|first| first.at <= newest && since(first.at, newest) <= numbers.window);
        for first in firsts {
            let inside =
                |death: &&&Death| death.at >= first.at && since(first.at, death.at) <= numbers.window;
            let group: BTreeSet<Address> =
                deaths.iter().filter(inside).map(|death| death.agent.clone()).collect();
            // Of several at one instant, whichever was told first saw the most run.
            let running = deaths.iter().filter(|death| death.at == first.at).map(|death| death.running).max();
            if group.len() >= numbers.needed(running.unwrap_or(0)) {
                return Some(group);
            }
        }
        None
    }

    /// Deaths that can be part of nothing any more. By when they were told: an old one may have been told just
    /// now, together with others as old.
    fn forget(&mut self, now: Timestamp, numbers: &Numbers) {
        self.recent.retain(|_, death| since(death.told_at, now) <= numbers.window);
        self.limited.retain(|_, at| since(*at, now) <= numbers.window.saturating_mul(2));
    }

    fn was_resumed(&self, members: &[Death], numbers: &Numbers) -> bool {
        let Some(resumed) = self.resumed_at else { return false };
        // Deaths during the suspension are told, and often dated, before it is noticed.
        members.iter().all(|death| since(resumed, death.told_at) <= numbers.window)
    }

    fn is_of_an_account(&self, members: &[Death], numbers: &Numbers) -> bool {
        let mut accounts = members.iter().map(|death| death.account.clone().unwrap_or_default());
        let Some(account) = accounts.next() else { return false };
        let Some(limited) = self.limited.get(&account) else { return false };
        accounts.all(|other| other == account)
            && members.iter().any(|death| since(*limited, death.told_at) <= numbers.window)
    }

    /// Sorts by time, and is given once.
    fn new_id(&self, now: Timestamp) -> String {
        let mut millis = now.as_millisecond();
        loop {
            let id = format!("i{}", base36(millis));
            if self.past.iter().all(|past| past.id != id) {
                return id;
            }
            millis += 1;
        }
    }

    /// The open incident is over: its record goes to the closed ones. Returns the ids of records that are too
    /// many now.
    fn put_away(&mut self) -> Vec<String> {
        if let Some(record) = self.open.take() {
            self.past.push_front(record);
        }
        let mut gone = Vec::new();
        while self.past.len() > KEPT {
            gone.extend(self.past.pop_back().map(|record| record.id));
        }
        gone
    }
}

fn base36(number: i64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = number.unsigned_abs();
    let mut text = Vec::new();
    loop {
        let digit = usize::try_from(number % 36).unwrap_or(0);
        text.push(DIGITS.get(digit).copied().unwrap_or(b'0') as char);
        number /= 36;
        if number == 0 {
            return text.into_iter().rev().collect();
        }
    }
}
