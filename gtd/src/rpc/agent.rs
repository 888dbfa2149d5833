//! `agent.*`: agents of any role.

use std::time::Duration;

use gtd_proto::agent::{Attach, Capture, SignalSent};
use gtd_proto::explain::Explanation;
use gtd_proto::report::Reported;
use gtd_proto::rpc::AgentServer;
use gtd_proto::wait::{AgentWait, Waited};
use gtd_proto::waiting::WaitingList;
use gtd_proto::{Address, Agent, Change, ErrorKind, Exit, Items, Reply, RpcError, Selector, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use super::daemon::ledger_error;
use super::plan::step;
use super::service::Left;
use crate::supervisor::killed::because;
use crate::supervisor::policy::after;
use crate::supervisor::reports::Source;
use crate::supervisor::requests::{Request, Wait};
use crate::supervisor::view::at_rest;

/// Lines of a screen unless said otherwise, and at most.
const LINES: (u32, u32) = (100, 5_000);
/// Longest evidence of a declaration, in characters.
const EVIDENCE: usize = 2_000;
/// Items of a list unless said otherwise, and at most.
const ITEMS: (u32, u32) = (20, 1_000);

#[async_trait]
impl AgentServer for Context {
    async fn list(&self, params: params::AgentList) -> RpcResult<Reply<Items<Agent>>> {
        let seq = self.seq();
        let selector = match params.selector.map(|text| text.parse::<Selector>()).transpose() {
            Ok(selector) => selector,
            Err(error) => {
                let error =
                    RpcError::new(ErrorKind::InvalidParams, error.to_string()).with("path", "/selector");
                return Err(refuse(error));
            }
        };
        let items: Vec<Agent> = self.handle.view().read(|shown| {
            let agents = shown.agents.values();
            agents
                .filter(|agent| selector.as_ref().is_none_or(|s| s.matches(&agent.agent)))
                .cloned()
                .collect()
        });
        Ok(Reply::at(seq, Items { items }))
    }

    async fn capture(&self, params: params::AgentCapture) -> RpcResult<Reply<Capture>> {
        let seq = self.seq();
        let lines = params.lines.unwrap_or(LINES.0).clamp(1, LINES.1);
        Ok(Reply::at(seq, self.handle.capture(&params.agent, lines).await.map_err(refuse)?))
    }

    async fn explain(&self, params: params::AgentExplain) -> RpcResult<Reply<Explanation>> {
        let seq = self.seq();
        Ok(Reply::at(seq, self.handle.explain(&params.agent, params.at, params.probe).await.map_err(refuse)?))
    }

    async fn reset(&self, peer: &Extensions, params: params::AgentReset) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        if params.dry_run {
            self.must_know(Some(&agent))?;
            let plan =
                vec![step("reset", &agent, "forget what holds it back, and start it if it should run")];
            return self.planned(&agent, Ok(plan));
        }
        let ask = self.ask(peer, params.reason, None);
        let doing = self.handle.change(&agent, Request::Reset { agent: agent.clone(), ask });
        let key = params.idempotency_key.as_deref();
        Ok(self.changed(self.handle.once(key, "agent.reset", doing).await.map_err(refuse)?))
    }

    async fn declare_dead(
        &self,
        peer: &Extensions,
        params: params::AgentDeclareDead,
    ) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        self.must_know(Some(&agent))?;
        let evidence = params.evidence.trim().to_owned();
        if evidence.is_empty() || evidence.chars().count() > EVIDENCE {
            let why = format!("evidence has between 1 and {EVIDENCE} characters");
            return Err(refuse(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/evidence")));
        }
        let seen = self.handle.look_at_dead(&agent).await.map_err(refuse)?;
        if params.dry_run {
            let plan = vec![step("declare dead", &agent, &seen)];
            return self.planned(&agent, Ok(plan));
        }
        let ask = self.ask(peer, params.reason, None);
        let request = Request::DeclareDead { agent: agent.clone(), evidence, ask };
        let doing = self.handle.change(&agent, request);
        let key = params.idempotency_key.as_deref();
        Ok(self.changed(self.handle.once(key, "agent.declare_dead", doing).await.map_err(refuse)?))
    }

    async fn report(&self, _: &Extensions, params: params::AgentReport) -> RpcResult<Reply<Reported>> {
        let reported = self.handle.report(params, Source::Report).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), reported))
    }

    async fn wait(&self, peer: &Extensions, params: AgentWait) -> RpcResult<Reply<Waited>> {
        let AgentWait { agent, wanted, timeout_ms } = params;
        let wait = timeout_ms
            .map_or(Wait::ToTheEnd, |ms| Wait::Until(after(self.handle.now(), Duration::from_millis(ms))));
        let waiting = self.handle.wait(&agent, wanted, wait);
        match peer.get::<Left>() {
            None => waiting.await,
            Some(Left(left)) => tokio::select! {
                reached = waiting => reached,
                () = left.cancelled() => Err(RpcError::internal("the client has left")),
            },
        }
        .map_err(refuse)?;
        let seq = self.seq();
        let shown = self.handle.view().agent(&agent).unwrap_or_else(|| at_rest(&agent, self.handle.wall()));
        Ok(Reply::at(seq, Waited { agent: shown, reached: wanted }))
    }

    async fn attach(&self, params: params::AgentRef) -> RpcResult<Reply<Attach>> {
        let seq = self.seq();
        Ok(Reply::at(seq, self.handle.attach(&params.agent).map_err(refuse)?))
    }

    async fn waiting(&self, _: params::None) -> RpcResult<Reply<WaitingList>> {
        let seq = self.seq();
        let (items, unseen) = self.handle.who_waits().await;
        Ok(Reply::at(seq, WaitingList { items, unseen }))
    }

    async fn drain(&self, peer: &Extensions, params: params::AgentDrain) -> RpcResult<Reply<Change>> {
        self.drain_agent(peer, params).await
    }

    async fn undrain(&self, peer: &Extensions, params: params::AgentDrain) -> RpcResult<Reply<Change>> {
        self.undrain_agent(peer, params).await
    }

    async fn exits(&self, params: params::AgentExits) -> RpcResult<Reply<Items<Exit>>> {
        let seq = self.seq();
        self.must_know(params.agent.as_ref())?;
        let limit = params.limit.unwrap_or(ITEMS.0).min(ITEMS.1);
        let items = self.handle.ledger().exits(params.agent, Some(limit)).await;
        let mut items = items.map_err(|error| refuse(ledger_error(&error)))?;
        self.handle.tell_killed(&mut items).await.map_err(|error| refuse(ledger_error(&error)))?;
        Ok(Reply::at(seq, Items { items }))
    }

    async fn signals(&self, params: params::AgentSignals) -> RpcResult<Reply<Items<SignalSent>>> {
        let seq = self.seq();
        self.must_know(params.agent.as_ref())?;
        let items = self.handle.ledger().signals(params.agent, params.since, Some(ITEMS.1)).await;
        let mut items = items.map_err(|error| refuse(ledger_error(&error)))?;
        for sent in &mut items {
            sent.because = Some(because(sent));
        }
        Ok(Reply::at(seq, Items { items }))
    }
}

impl Context {
    pub(super) fn must_know(&self, agent: Option<&Address>) -> RpcResult<()> {
        match agent {
            Some(agent) if self.handle.view().agent(agent).is_none() => Err(refuse(
                RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}"))
                    .hint("gtctl status"),
            )),
            _ => Ok(()),
        }
    }
}
