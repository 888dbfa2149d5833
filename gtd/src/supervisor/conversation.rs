//! The conversation that an agent leads, from one instance to the next: kept in the ledger before a launch, replaced
//! by what the agent reports, given up when it is not there any more.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{InstanceId, Timestamp};
use serde_json::json;

use super::core::Core;
use super::machine::Machine;
use super::turn::Turn;
use crate::agents::converse::{self, Kept, Talk};
use crate::agents::launch::Conversation;
use crate::agents::order::{Ending, Life};
use crate::ledger::{ConversationRow, ConversationWrite, Write};

impl Core {
    /// Takes up the conversations that the ledger remembers.
    pub fn recall_conversations(&mut self, rows: Vec<ConversationRow>) {
        for row in rows {
            if let Some(machine) = self.agents.get_mut(&row.agent) {
                machine.conversation = Some(row);
            }
        }
    }
}

impl Machine {
    /// What a start may lead. Of one that begins a conversation the id is written down before the launch.
    pub(super) fn talk(&mut self, instance: &InstanceId, now: Timestamp, turn: &mut Turn) -> Talk {
        let fresh = converse::fresh(instance);
        if !converse::resumes(self.address.role()) {
            return Talk { fresh, kept: None };
        }
        let kept = self.conversation.as_ref().filter(|row| !row.conversation.is_empty()).map(|row| Kept {
            id: row.conversation.clone(),
            preset: row.preset.clone(),
            account: row.account.clone(),
        });
        if kept.is_none() {
            self.keep(&fresh, "", None, instance, now, turn);
        }
        Talk { fresh, kept }
    }

    /// Its launch says what it leads.
    pub(super) fn launched_with(&mut self, life: &Life, now: Timestamp, turn: &mut Turn) {
        let Some(instance) = self.current.as_ref().map(|current| current.instance.clone()) else { return };
        match &life.outfit.conversation {
            Some(Conversation::New(id) | Conversation::Resume(id)) => {
                self.keep(id, &life.preset, life.account.as_deref(), &instance, now, turn);
            }
            // Its program cannot be told which; what was to be is none.
            None => {
                let meant = |row: &ConversationRow| row.instance == instance && row.preset.is_empty();
                if self.conversation.as_ref().is_some_and(meant) {
                    self.forget_conversation(turn);
                }
            }
        }
    }

    /// It says which one it leads.
    pub(super) fn leads(&mut self, id: &str, now: Timestamp, turn: &mut Turn) {
        let Some(current) = &self.current else { return };
        let instance = current.instance.clone();
        let (preset, account) = match &current.life {
            Some(life) => (life.preset.clone(), life.account.clone()),
            // It was quicker than the news of its launch, which will say.
            None => (String::new(), None),
        };
        self.keep(id, &preset, account.as_deref(), &instance, now, turn);
    }

    fn keep(
        &mut self,
        id: &str,
        preset: &str,
        account: Option<&str>,
        instance: &InstanceId,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let given_up = |row: &ConversationRow| row.conversation.is_empty() && row.instance == *instance;
        if !id.is_empty() && self.conversation.as_ref().is_some_and(given_up) {
            return;
        }
        let row = ConversationRow {
            agent: self.address.clone(),
            conversation: id.to_owned(),
            preset: preset.to_owned(),
            account: account.map(str::to_owned),
            instance: instance.clone(),
            at: now,
        };
        let same = self
            .conversation
            .as_ref()
            .is_some_and(|old| ConversationRow { at: old.at, ..row.clone() } == *old);
        if !same {
            turn.writes.push(Write::Conversation(ConversationWrite::Keep(row.clone())));
            self.conversation = Some(row);
        }
    }

    /// Its next start begins a new one, whatever its present instance still says of the one that it leads.
    pub(super) fn give_up_conversation(&mut self, now: Timestamp, turn: &mut Turn) {
        match self.current.as_ref().map(|current| current.instance.clone()) {
            Some(instance) if converse::resumes(self.address.role()) => {
                self.keep("", "", None, &instance, now, turn);
            }
            _ => self.forget_conversation(turn),
        }
    }

    /// Its next start begins a new one.
    pub(super) fn forget_conversation(&mut self, turn: &mut Turn) {
        if self.conversation.take().is_some() {
            turn.writes.push(Write::Conversation(ConversationWrite::Forget(self.address.clone())));
        }
    }

    /// It ended, and nobody asked for that: gives up a conversation that it was to go on with and did not find.
    pub(super) fn doubt_conversation(
        &mut self,
        ending: &Ending,
        uptime: Duration,
        min_uptime: Duration,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(current) = &self.current else { return };
        let outfit = current.life.as_ref().map(|life| &life.outfit);
        let Some(Conversation::Resume(id)) = outfit.and_then(|outfit| outfit.conversation.clone()) else {
            return;
        };
        let reported = self.words.last.as_ref().is_some_and(|word| word.instance == current.instance);
        let Some(why) = converse::lost(ending, reported, uptime, min_uptime) else { return };
        turn.decided(
            &self.address,
            now,
            &why,
            "begin a new conversation",
            &format!("{id} is not there any more"),
        );
        turn.event(self, kind::AGENT_CONVERSATION_LOST, now, json!({ "conversation": id, "why": why }));
        self.forget_conversation(turn);
    }
}
