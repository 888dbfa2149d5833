//! `mail.*`: the built-in mailbox.

use gtd_proto::mail::{Inbox, Mail, MailChange};
use gtd_proto::rpc::MailServer;
use gtd_proto::{ErrorKind, PlanStep, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::callers::Who;
use super::context::{Context, name_of, refuse};
use super::plan::step;
use super::work::Accepted;
use crate::mail::{From, Mailbox, Office};

#[async_trait]
impl MailServer for Context {
    async fn send(&self, peer: &Extensions, params: params::MailSend) -> RpcResult<Reply<MailChange>> {
        let seq = self.seq();
        let params::MailSend { to, subject, body, dry_run, wait_ms, idempotency_key, .. } = params;
        let subject = Office::checked(&subject, &body).map_err(refuse)?;
        let to = self.office.named(&to, "/to").map_err(refuse)?;
        let from = from(peer).map_err(refuse)?;
        if dry_run {
            let why = format!("from {}, about {subject:?}", from.own);
            return Ok(Reply::at(seq, planned(None, vec![step("send", &to, why)])));
        }
        let (office, key) = (self.office.clone(), idempotency_key.clone());
        let doing = async move {
            let (mail, already) = office.send(&from, &to, subject, body, key).await?;
            Ok(changed(mail, already))
        };
        let doing = self.once_and_waited(idempotency_key, "mail.send", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }

    async fn inbox(&self, peer: &Extensions, params: params::MailInbox) -> RpcResult<Reply<Inbox>> {
        let seq = self.seq();
        let whose = match params.whose {
            Some(text) => self.office.named(&text, "/for"),
            None => from(peer).map(|from| from.own),
        };
        let whose = whose.map_err(refuse)?;
        Ok(Reply::at(seq, self.office.inbox(&whose, params.unread).await.map_err(refuse)?))
    }

    async fn read(&self, peer: &Extensions, params: params::MailRead) -> RpcResult<Reply<MailChange>> {
        let seq = self.seq();
        let params::MailRead { id, dry_run, wait_ms, idempotency_key, .. } = params;
        let from = from(peer).map_err(refuse)?;
        if dry_run {
            let mail = self.office.mail(&id).await.map_err(refuse)?;
            let own = !mail.read && mail.to == from.own.to_string();
            let plan = own.then(|| step("read", &id, "it is yours, and new")).into_iter().collect();
            return Ok(Reply::at(seq, planned(Some(mail), plan)));
        }
        let office = self.office.clone();
        let doing = async move {
            let (mail, already) = office.read(&id, &from).await?;
            Ok(changed(mail, already))
        };
        let doing = self.once_and_waited(idempotency_key, "mail.read", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }

    async fn archive(&self, peer: &Extensions, params: params::MailArchive) -> RpcResult<Reply<MailChange>> {
        let seq = self.seq();
        let params::MailArchive { id, dry_run, wait_ms, idempotency_key, .. } = params;
        if dry_run {
            let mail = self.office.mail(&id).await.map_err(refuse)?;
            let why = format!("it leaves the inbox of {}", mail.to);
            let plan = (!mail.archived).then(|| step("archive", &id, why)).into_iter().collect();
            return Ok(Reply::at(seq, planned(Some(mail), plan)));
        }
        let (office, from) = (self.office.clone(), from(peer).map_err(refuse)?);
        let doing = async move {
            let (mail, already) = office.archive(&id, &from).await?;
            Ok(changed(mail, already))
        };
        let doing = self.once_and_waited(idempotency_key, "mail.archive", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }
}

/// The caller, as mail names them: who they are is never a parameter.
pub(super) fn from(peer: &Extensions) -> Result<From, RpcError> {
    let own = match peer.get::<Who>() {
        Some(Who::Human) => Mailbox::Person,
        Some(Who::Agent(agent)) => Mailbox::Agent(agent.clone()),
        Some(Who::Unknown(why)) => {
            let why = format!("whose mailbox is yours is not known, because {why}");
            return Err(RpcError::new(ErrorKind::InvalidParams, why).hint("name it").with("path", "/for"));
        }
        None => return Err(RpcError::internal("a request came without its caller")),
    };
    Ok(From { own, peer: Some(name_of(peer)) })
}

impl Accepted for MailChange {
    fn accepted() -> Self {
        Self { accepted: true, ..none() }
    }
}

fn none() -> MailChange {
    MailChange { mail: None, already: false, accepted: false, dry_run: false, plan: Vec::new() }
}

fn changed(mail: Mail, already: bool) -> MailChange {
    MailChange { mail: Some(mail), already, ..none() }
}

fn planned(mail: Option<Mail>, plan: Vec<PlanStep>) -> MailChange {
    MailChange { already: plan.is_empty(), mail, dry_run: true, plan, ..none() }
}
