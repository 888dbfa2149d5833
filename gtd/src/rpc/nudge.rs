//! `nudge.*`, `polecat.inject` and `agent.respond`: text for agents.

use std::time::Duration;

use gtd_proto::nudge::NudgeChange;
use gtd_proto::rpc::NudgeServer;
use gtd_proto::{Address, ErrorKind, Items, Nudge, NudgeId, NudgeState, PlanStep, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, name_of, refuse, who};
use super::daemon::ledger_error;
use super::plan::step;
use crate::agents::typing::rules::Occasion;
use crate::supervisor::nudges::{Nudges, Sending};

/// Texts that are done with, in a list that wants them.
const PAST: u32 = 100;

#[async_trait]
impl NudgeServer for Context {
    async fn send(&self, peer: &Extensions, params: params::NudgeSend) -> RpcResult<Reply<NudgeChange>> {
        let agent = params.agent.clone();
        self.may_be_typed_for(&agent).map_err(refuse)?;
        self.in_service(&agent).map_err(refuse)?;
        if params.dry_run {
            Nudges::checked(&params.message, "/message").map_err(refuse)?;
            let before =
                self.nudges.list(Some(&agent), 0).await.map_err(|error| refuse(ledger_error(&error)))?;
            let why = match before.len() {
                0 => "typed when its input line is free".to_owned(),
                many => format!("typed when its input line is free, after {many} others"),
            };
            return Ok(self.would(vec![step("queue", &agent, why)]));
        }
        let sending = Sending {
            agent,
            message: params.message,
            key: params.key,
            expires: params.expires_ms.map(Duration::from_millis),
            instance: params.instance,
            sender: who(peer),
            peer: Some(name_of(peer)),
        };
        let (nudges, wait) = (self.nudges.clone(), params.wait_ms);
        let doing = async move {
            let row = nudges.send(sending).await?;
            if wait != Some(0) {
                nudges.wait(&row.id, wait.map(Duration::from_millis)).await;
            }
            Ok(row.id)
        };
        self.typed("nudge.send", params.idempotency_key, doing).await
    }

    async fn list(&self, params: params::NudgeList) -> RpcResult<Reply<Items<Nudge>>> {
        let seq = self.seq();
        if let Some(agent) = &params.agent {
            self.may_be_typed_for(agent).map_err(refuse)?;
        }
        let past = if params.all { PAST } else { 0 };
        let items = self.nudges.list(params.agent.as_ref(), past).await;
        Ok(Reply::at(seq, Items { items: items.map_err(|error| refuse(ledger_error(&error)))? }))
    }

    async fn cancel(&self, peer: &Extensions, params: params::NudgeCancel) -> RpcResult<Reply<NudgeChange>> {
        let id = params.id;
        if params.dry_run {
            let nudge = self.nudges.show(&id).await.map_err(refuse)?;
            let waits = nudge.state == NudgeState::Queued;
            let plan = waits.then(|| step("take back", &id, format!("it waits for {}", nudge.agent)));
            let plan: Vec<PlanStep> = plan.into_iter().collect();
            let change = NudgeChange { already: plan.is_empty(), nudge: Some(nudge), dry_run: true, plan };
            return Ok(Reply::at(self.seq(), change));
        }
        let by = who(peer);
        let taken = self.nudges.cancel(&id, &by).await.map_err(refuse)?;
        let nudge = Some(self.nudges.show(&id).await.map_err(refuse)?);
        Ok(Reply::at(self.seq(), NudgeChange { nudge, already: !taken, dry_run: false, plan: Vec::new() }))
    }

    async fn inject(
        &self,
        peer: &Extensions,
        params: params::PolecatInject,
    ) -> RpcResult<Reply<NudgeChange>> {
        let agent = params.agent.clone();
        self.may_be_typed_for(&agent).map_err(refuse)?;
        if params.dry_run {
            Nudges::checked(&params.message, "/message").map_err(refuse)?;
            return Ok(self.would(vec![step("type", &agent, "when its input line is free, or not at all")]));
        }
        let sending = at_once(peer, agent, params.message);
        let (nudges, wait) = (self.nudges.clone(), params.wait_ms);
        let doing = async move {
            match wait {
                Some(0) => nudges.at_once(sending, Occasion::Turn, "/message").await,
                wait => nudges.confirmed(sending, wait.map(Duration::from_millis)).await,
            }
        };
        self.typed("polecat.inject", params.idempotency_key, doing).await
    }

    async fn respond(
        &self,
        peer: &Extensions,
        params: params::AgentRespond,
    ) -> RpcResult<Reply<NudgeChange>> {
        let agent = params.agent.clone();
        self.may_be_typed_for(&agent).map_err(refuse)?;
        self.nudges.awaits(&agent).map_err(refuse)?;
        if params.dry_run {
            Nudges::checked(&params.text, "/text").map_err(refuse)?;
            return Ok(self.would(vec![step("type", &agent, "it waits for a person")]));
        }
        let sending = at_once(peer, agent, params.text);
        let nudges = self.nudges.clone();
        let doing = async move { nudges.at_once(sending, Occasion::Answer, "/text").await };
        self.typed("agent.respond", params.idempotency_key, doing).await
    }
}

impl Context {
    /// Does it to its end, also when the client that asked for it goes away, and once for all requests with a key.
    async fn typed(
        &self,
        method: &'static str,
        key: Option<String>,
        doing: impl Future<Output = Result<NudgeId, RpcError>> + Send + 'static,
    ) -> RpcResult<Reply<NudgeChange>> {
        let handle = self.handle.clone();
        let task = tokio::spawn(async move { handle.once(key.as_deref(), method, doing).await });
        let id = task
            .await
            .unwrap_or_else(|error| Err(RpcError::internal(format!("it was cut off: {error}"))))
            .map_err(refuse)?;
        let nudge = self.nudges.show(&id).await.map_err(refuse)?;
        let change = NudgeChange { nudge: Some(nudge), already: false, dry_run: false, plan: Vec::new() };
        Ok(Reply::at(self.seq(), change))
    }

    fn would(&self, plan: Vec<PlanStep>) -> Reply<NudgeChange> {
        Reply::at(self.seq(), NudgeChange { nudge: None, already: false, dry_run: true, plan })
    }

    /// Only agents of the town's own are typed for; a person's workspace is theirs.
    fn may_be_typed_for(&self, agent: &Address) -> Result<(), RpcError> {
        if matches!(agent, Address::Crew(..)) {
            let why = format!("{agent} belongs to a person, and nothing is typed there");
            return Err(RpcError::new(ErrorKind::Protected, why).hint("gtctl mail send"));
        }
        self.is_agent(agent)
    }
}

fn at_once(peer: &Extensions, agent: Address, message: String) -> Sending {
    Sending {
        agent,
        message,
        key: None,
        expires: None,
        instance: None,
        sender: who(peer),
        peer: Some(name_of(peer)),
    }
}
