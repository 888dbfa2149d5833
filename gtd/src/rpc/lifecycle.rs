//! `lifecycle.*`: an agent asks to be ended or begun anew, or somebody does for it.
//!
//! Who asks for itself gets the answer first: its own end would take the client along that waits for it.

use std::time::Duration;

use gtd_proto::lifecycle::{Lifecycle, LifecycleAction, LifecycleChange};
use gtd_proto::rpc::LifecycleServer;
use gtd_proto::{Address, ErrorKind, Items, PlanStep, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::callers::{Callers, Who};
use super::context::{Context, name_of, refuse, who};
use super::daemon::ledger_error;
use super::plan::step;
use super::service::{Left, OnItsWay};
use crate::mail::lifecycle::{Asked, Clerk, May, Sender, refusal, shown};
use crate::supervisor::requests::How;

/// Items of a list unless said otherwise, and at most.
const ITEMS: (u32, u32) = (20, 1_000);

#[async_trait]
impl LifecycleServer for Context {
    async fn ask(
        &self,
        peer: &Extensions,
        params: params::LifecycleRequest,
    ) -> RpcResult<Reply<LifecycleChange>> {
        let seq = self.seq();
        let params::LifecycleRequest { agent, action, dry_run, wait_ms, idempotency_key, reason } = params;
        let before = match &idempotency_key {
            Some(key) => self.handle.ledger().lifecycle_of(&format!("asked:{key}")).await,
            None => Ok(None),
        };
        // One of before has begun, and what stands in the way of another is nothing to it.
        if before.map_err(|error| refuse(ledger_error(&error)))?.is_none() {
            let plan = self.lifecycle_plan(&agent, action).map_err(refuse)?;
            if dry_run {
                return Ok(Reply::at(seq, LifecycleChange { dry_run: true, plan, ..none() }));
            }
        } else if dry_run {
            return Ok(Reply::at(seq, LifecycleChange { dry_run: true, already: true, ..none() }));
        }
        let by = who(peer);
        let asked = Asked {
            agent: agent.clone(),
            action,
            by: by.clone(),
            peer: Some(name_of(peer)),
            why: reason,
            key: idempotency_key,
        };
        let (row, already) = self.clerk.take(asked).await.map_err(refuse)?;
        let of_itself = matches!(peer.get::<Who>(), Some(Who::Agent(own)) if *own == agent);
        if of_itself || wait_ms == Some(0) {
            let accepted = row.state.is_open();
            match (peer.get::<Left>(), peer.get::<OnItsWay>()) {
                (Some(Left(left)), Some(OnItsWay(on_its_way))) if of_itself => {
                    self.clerk.begin(row.clone(), Clerk::heard(left.clone(), on_its_way.clone()));
                }
                _ => self.clerk.begin(row.clone(), std::future::ready(())),
            }
            let change = LifecycleChange { request: Some(shown(row)), already, accepted, ..none() };
            return Ok(Reply::at(self.seq(), change));
        }
        let id = row.id.clone();
        self.clerk.begin(row, std::future::ready(()));
        let row = self.clerk.wait(&id, wait_ms.map(Duration::from_millis)).await.map_err(refuse)?;
        if let Some(error) = refusal(&row) {
            return Err(refuse(error));
        }
        Ok(Reply::at(self.seq(), LifecycleChange { request: Some(shown(row)), already, ..none() }))
    }

    async fn list(&self, params: params::LifecycleList) -> RpcResult<Reply<Items<Lifecycle>>> {
        let seq = self.seq();
        let limit = params.limit.unwrap_or(ITEMS.0).min(ITEMS.1);
        let rows = self.clerk.list(params.agent.as_ref(), limit).await;
        let rows = rows.map_err(|error| refuse(ledger_error(&error)))?;
        Ok(Reply::at(seq, Items { items: rows.into_iter().map(shown).collect() }))
    }
}

impl Context {
    /// What a request would come to, or why it would not be done.
    fn lifecycle_plan(&self, agent: &Address, action: LifecycleAction) -> Result<Vec<PlanStep>, RpcError> {
        if matches!(agent, Address::Crew(..)) {
            let why = format!("{agent} belongs to a person, and is nobody else's to end or begin");
            return Err(RpcError::new(ErrorKind::Protected, why));
        }
        self.handle.view().read(|shown| match agent.rig() {
            _ if shown.agents.contains_key(agent) => Ok(()),
            Some(rig) => shown.rig(rig).map(drop).and_then(|()| Err(nobody(agent))),
            None => Err(nobody(agent)),
        })?;
        let how = How::default();
        match action {
            LifecycleAction::Shutdown => Ok(self.plan_stop(agent, how)),
            LifecycleAction::Restart => self.plan_restart(agent, how),
            LifecycleAction::Cycle => {
                let mut plan = self.plan_restart(agent, how)?;
                plan.push(step("begin anew", agent, "without what it had in its head; its work stays"));
                Ok(plan)
            }
            LifecycleAction::Unknown => {
                Err(RpcError::new(ErrorKind::InvalidParams, "an action is cycle, restart or shutdown")
                    .with("path", "/action"))
            }
        }
    }
}

impl May for Callers {
    fn may(&self, sender: &Sender, agent: &Address) -> Result<(), String> {
        let who = match sender {
            Sender::Person => Who::Human,
            Sender::Agent(own) => Who::Agent(own.clone()),
        };
        self.would_admit(&who, "lifecycle.request", agent).map_err(|error| error.message)
    }
}

fn nobody(agent: &Address) -> RpcError {
    RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}")).hint("gtctl status")
}

fn none() -> LifecycleChange {
    LifecycleChange { request: None, already: false, accepted: false, dry_run: false, plan: Vec::new() }
}
