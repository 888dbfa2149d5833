//! Agents that wait for a person: as they say themselves, or as their screens show.
//!
//! Told once for each wait. Must never take a screen for more than a hint: nothing is typed, ended or started
//! because of it.

use gtd_proto::event::kind;
use gtd_proto::params::ReportState;
use gtd_proto::waiting::{WaitKind, WaitSource, Waiting};
use gtd_proto::{Activity, Address, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::core::Core;
use super::machine::Machine;
use super::turn::Turn;
use crate::agents::dialogs::{self, Dialog};
use crate::clock::Timeline;

/// An agent waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Since when.
    pub since: Timestamp,
    /// What it wants.
    pub kind: WaitKind,
    /// In its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How that is known.
    pub source: WaitSource,
}

impl Waits {
    /// Whether the other one is the same wait, seen again: a screen may count seconds beside its question.
    fn is_same(&self, other: &Self) -> bool {
        let gist = |text: &Option<String>| -> String {
            text.iter().flat_map(|text| text.chars()).filter(|c| c.is_alphabetic()).collect()
        };
        self.source != other.source || (self.kind == other.kind && gist(&self.text) == gist(&other.text))
    }
}

impl Core {
    /// Takes in what the screens of agents show.
    pub(super) fn looked(
        &mut self,
        seen: Vec<(Address, InstanceId, Option<Dialog>)>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        for (agent, instance, dialog) in seen {
            self.each(&agent, now, turn, |machine, _, turn| {
                if machine.current.as_ref().is_some_and(|current| current.instance == instance) {
                    machine.heed_screen(dialog, now, turn);
                }
            });
        }
    }
}

impl Machine {
    /// It said something of itself.
    pub(super) fn heed_report(
        &mut self,
        state: ReportState,
        detail: Option<&str>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if state != ReportState::Waiting {
            return self.waits_no_longer(turn);
        }
        let text = detail.map(dialogs::shorten).filter(|text| !text.is_empty());
        let kind = dialogs::kind_of(text.as_deref().unwrap_or_default());
        self.waits_for(Waits { since: now, kind, text, source: WaitSource::Reported }, turn);
    }

    /// Its screen was looked at, at a moment when it did not say that it works.
    fn heed_screen(&mut self, dialog: Option<Dialog>, now: Timestamp, turn: &mut Turn) {
        let reported = self.waits.as_ref().is_some_and(|waits| waits.source == WaitSource::Reported);
        match dialog {
            // Meanwhile it said that it works: the screen was that of before.
            _ if self.activity == Activity::Working || !self.is_alive() => {}
            // Its own word counts more.
            _ if reported => {}
            Some(Dialog { kind, text }) => {
                let text = Some(text).filter(|text| !text.is_empty());
                self.waits_for(Waits { since: now, kind, text, source: WaitSource::Pane }, turn);
            }
            None => self.waits_no_longer(turn),
        }
    }

    /// Its screen asks a person something, and it gets nowhere: whatever it said, that is what it waits for.
    pub(super) fn asks(&mut self, dialog: Dialog, now: Timestamp, turn: &mut Turn) {
        let text = Some(dialog.text).filter(|text| !text.is_empty());
        self.waits_for(Waits { since: now, kind: dialog.kind, text, source: WaitSource::Pane }, turn);
    }

    fn waits_for(&mut self, waits: Waits, turn: &mut Turn) {
        let same = self.waits.as_ref().filter(|known| known.is_same(&waits));
        let (since, known) = (same.map(|known| known.since), same.is_some_and(|known| *known == waits));
        if known {
            return;
        }
        let at = waits.since;
        let data = json!({ "kind": waits.kind, "text": waits.text, "source": waits.source });
        self.waits = Some(Waits { since: since.unwrap_or(at), ..waits });
        turn.agent_row(self);
        turn.touched(&self.address);
        if since.is_none() {
            turn.event(self, kind::AGENT_WAITING, at, data);
        }
    }

    pub(super) fn waits_no_longer(&mut self, turn: &mut Turn) {
        if self.waits.take().is_some() {
            turn.agent_row(self);
            turn.touched(&self.address);
        }
    }

    /// What it does, as it is shown: a dialog on its screen counts where it has not said otherwise since.
    #[must_use]
    pub fn shown_activity(&self) -> Activity {
        match &self.waits {
            Some(_) if self.is_alive() => Activity::Waiting,
            _ => self.activity,
        }
    }

    /// What it waits for now, by the clock of people.
    pub(super) fn waits_now(&self, line: &Timeline) -> Option<Waiting> {
        let waits = self.waits.as_ref().filter(|_| self.is_alive())?;
        Some(Waiting {
            agent: self.address.clone(),
            since: line.to_wall(waits.since),
            kind: waits.kind,
            text: waits.text.clone(),
            source: waits.source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_counts_on_is_the_same_wait() {
        let waits = |kind, text: Option<&str>, source| Waits {
            since: Timestamp::UNIX_EPOCH,
            kind,
            text: text.map(str::to_owned),
            source,
        };
        let (asks, says) = (WaitKind::Permission, WaitKind::Input);
        let (pane, word) = (WaitSource::Pane, WaitSource::Reported);
        for (a, b, same) in [
            (waits(asks, Some("run x (3s)"), pane), waits(asks, Some("run x (41s)"), pane), true),
            (waits(asks, Some("run x"), pane), waits(asks, Some("run y"), pane), false),
            (waits(asks, None, word), waits(says, None, word), false),
            (waits(asks, Some("run x"), pane), waits(says, None, word), true),
        ] {
            assert_eq!(a.is_same(&b), same, "{a:?} {b:?}");
        }
    }
}
