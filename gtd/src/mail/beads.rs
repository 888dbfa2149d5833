//! Boxes that the `bd` program keeps, as the office uses them: whose a message is, who may touch it, and what is told
//! of it.

use std::sync::Arc;

use gtd_proto::event::kind;
use gtd_proto::mail::Mail;
use gtd_proto::{Address, ErrorKind, RpcError};
use serde_json::json;

use super::address::Mailbox;
use super::office::{From, Office};
use crate::ledger::{NewEvent, Write};
use crate::work::Unknown;
use crate::work::bd::{Bd, NewMessage};

impl Office {
    /// The store of a box; none where we keep it.
    pub(super) fn room(&self, whose: &Mailbox) -> Option<Arc<Bd>> {
        match whose {
            Mailbox::Agent(agent) => self.desk().mailroom(agent.rig()),
            Mailbox::Person => self.desk().mailroom(None),
        }
    }

    /// What is in a box that a store keeps, the newest first.
    pub(super) async fn kept_there(&self, whose: &Mailbox, room: &Bd) -> Result<Vec<Mail>, Unknown> {
        let mut all = room.messages().await?;
        all.retain_mut(|mail| self.is_for(mail, whose));
        Ok(all)
    }

    /// Sends a mail into a box that a store keeps.
    pub(super) async fn send_there(
        &self,
        room: &Bd,
        from: &From,
        to: &Mailbox,
        (subject, body): (String, String),
        key: Option<String>,
    ) -> Result<Mail, RpcError> {
        let again = key.is_some();
        let new = NewMessage { from: from.own.to_string(), to: to.to_string(), subject, body, key };
        let mail = room.send_message(&new, again).await?;
        let agent = match to {
            Mailbox::Agent(agent) => Some(agent.clone()),
            Mailbox::Person => None,
        };
        let told = NewEvent {
            rig: agent.as_ref().and_then(|agent| agent.rig().cloned()),
            agent,
            peer: from.peer.clone(),
            ..NewEvent::new(
                self.handle().wall(),
                kind::MAIL_SENT,
                json!({ "id": mail.id, "from": mail.from, "to": mail.to, "subject": mail.subject }),
            )
        };
        // It is sent: that it cannot be told of now takes nothing away from it.
        match self.handle().ledger().commit(vec![Write::Event(told)]).await {
            Ok(events) => self.publish(events),
            Err(error) => tracing::warn!(%error, id = mail.id, "a mail was sent, and is in no event"),
        }
        Ok(mail)
    }

    /// One message of a store, with its recipient as we name it.
    pub(super) async fn message(&self, id: &str) -> Result<Option<(Mail, Arc<Bd>)>, RpcError> {
        let Some(room) = self.desk().mailroom_of(id) else { return Ok(None) };
        let Some(mut mail) = room.message(id).await? else { return Ok(None) };
        if let Ok(whose) = self.named(&mail.to, "/to") {
            mail.to = whose.to_string();
        }
        if let Ok(sender) = self.named(&mail.from, "/from") {
            mail.from = sender.to_string();
        }
        Ok(Some((mail, room)))
    }

    /// Whether a mail is for somebody; then its names are ours.
    fn is_for(&self, mail: &mut Mail, whose: &Mailbox) -> bool {
        // Whose `alpha/nux` is may be unclear; both have it then.
        let short = |agent: &Address| match (agent.rig(), agent.name()) {
            (Some(rig), Some(name)) => format!("{rig}/{name}"),
            _ => agent.to_string(),
        };
        let own = match whose {
            Mailbox::Agent(agent) => mail.to == agent.to_string() || mail.to == short(agent),
            Mailbox::Person => mail.to == whose.to_string(),
        };
        if own {
            mail.to = whose.to_string();
            if let Ok(sender) = self.named(&mail.from, "/from") {
                mail.from = sender.to_string();
            }
        }
        own
    }

    /// Only its recipient, the mayor and people may put a mail aside. Of our own boxes whoever admits callers sees to
    /// that.
    pub(super) fn may_touch(mail: &Mail, by: &From) -> Result<(), RpcError> {
        match &by.own {
            Mailbox::Person | Mailbox::Agent(Address::Mayor | Address::Crew(..)) => Ok(()),
            Mailbox::Agent(agent) if agent.to_string() == mail.to => Ok(()),
            Mailbox::Agent(agent) => {
                let why = format!("{agent} may not touch {}: it is for {}", mail.id, mail.to);
                Err(RpcError::new(ErrorKind::Forbidden, why).with("class", agent.role().as_str()))
            }
        }
    }
}
