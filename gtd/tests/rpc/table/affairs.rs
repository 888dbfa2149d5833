//! The stand-in for the town's own affairs: convoys, lifecycle requests, mail, texts for agents.

use gtd_proto::rpc::{ConvoyServer, LifecycleServer, MailServer, NudgeServer};
use gtd_proto::{Items, Nudge, Reply, convoy, lifecycle, mail, nudge, params};
use jsonrpsee::core::{RpcResult, async_trait};
use jsonrpsee::{Extensions, Methods};

use super::{StandIn, reached};

pub(super) fn merge_into(all: &mut Methods) {
    all.merge(ConvoyServer::into_rpc(StandIn)).unwrap();
    all.merge(LifecycleServer::into_rpc(StandIn)).unwrap();
    all.merge(MailServer::into_rpc(StandIn)).unwrap();
    all.merge(NudgeServer::into_rpc(StandIn)).unwrap();
}

#[async_trait]
impl ConvoyServer for StandIn {
    async fn create(
        &self,
        _: &Extensions,
        _: params::ConvoyCreate,
    ) -> RpcResult<Reply<convoy::ConvoyChange>> {
        reached("convoy.create")
    }
    async fn add(&self, _: &Extensions, _: params::ConvoyAdd) -> RpcResult<Reply<convoy::ConvoyChange>> {
        reached("convoy.add")
    }
    async fn status(&self, _: params::ConvoyRef) -> RpcResult<Reply<convoy::Convoy>> {
        reached("convoy.status")
    }
    async fn list(&self, _: params::ConvoyList) -> RpcResult<Reply<Items<convoy::Convoy>>> {
        reached("convoy.list")
    }
}

#[async_trait]
impl LifecycleServer for StandIn {
    async fn ask(
        &self,
        _: &Extensions,
        _: params::LifecycleRequest,
    ) -> RpcResult<Reply<lifecycle::LifecycleChange>> {
        reached("lifecycle.request")
    }
    async fn list(&self, _: params::LifecycleList) -> RpcResult<Reply<Items<lifecycle::Lifecycle>>> {
        reached("lifecycle.list")
    }
}

#[async_trait]
impl MailServer for StandIn {
    async fn send(&self, _: &Extensions, _: params::MailSend) -> RpcResult<Reply<mail::MailChange>> {
        reached("mail.send")
    }
    async fn inbox(&self, _: &Extensions, _: params::MailInbox) -> RpcResult<Reply<mail::Inbox>> {
        reached("mail.inbox")
    }
    async fn read(&self, _: &Extensions, _: params::MailRead) -> RpcResult<Reply<mail::MailChange>> {
        reached("mail.read")
    }
    async fn archive(&self, _: &Extensions, _: params::MailArchive) -> RpcResult<Reply<mail::MailChange>> {
        reached("mail.archive")
    }
}

#[async_trait]
impl NudgeServer for StandIn {
    async fn send(&self, _: &Extensions, _: params::NudgeSend) -> RpcResult<Reply<nudge::NudgeChange>> {
        reached("nudge.send")
    }
    async fn list(&self, _: params::NudgeList) -> RpcResult<Reply<Items<Nudge>>> {
        reached("nudge.list")
    }
    async fn cancel(&self, _: &Extensions, _: params::NudgeCancel) -> RpcResult<Reply<nudge::NudgeChange>> {
        reached("nudge.cancel")
    }
    async fn inject(&self, _: &Extensions, _: params::PolecatInject) -> RpcResult<Reply<nudge::NudgeChange>> {
        reached("polecat.inject")
    }
    async fn respond(&self, _: &Extensions, _: params::AgentRespond) -> RpcResult<Reply<nudge::NudgeChange>> {
        reached("agent.respond")
    }
}
