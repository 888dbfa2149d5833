//! `hook.*`: what agents have on their hooks.

use std::sync::Arc;

use gtd_proto::rpc::HookServer;
use gtd_proto::work::{HookChange, HookShown};
use gtd_proto::{Address, ErrorKind, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use super::work::{Accepted, by, shown, work_error, work_step};
use crate::work::{Hooked, Hooking};

#[async_trait]
impl HookServer for Context {
    async fn show(&self, params: params::AgentRef) -> RpcResult<Reply<HookShown>> {
        let seq = self.seq();
        let agent = params.agent;
        self.is_agent(&agent).map_err(refuse)?;
        let found = self.desk.hook_of(&agent).await.map_err(|error| refuse(work_error(error)))?;
        let shown = match found {
            Some(Hooked { item, store, since, also }) => {
                HookShown { agent, work: Some(shown(item, store)), since, also }
            }
            None => HookShown { agent, work: None, since: None, also: Vec::new() },
        };
        Ok(Reply::at(seq, shown))
    }

    async fn set(&self, peer: &Extensions, params: params::HookSet) -> RpcResult<Reply<HookChange>> {
        let seq = self.seq();
        let params::HookSet { agent, work, force, dry_run, wait_ms, idempotency_key, reason } = params;
        self.is_agent(&agent).map_err(refuse)?;
        self.in_service(&agent).map_err(refuse)?;
        if dry_run {
            let would = self.desk.would_hook(&agent, &work, force).await;
            let would = would.map_err(|error| refuse(work_error(error)))?;
            let mut plan = Vec::new();
            if let (Some(holder), false) = (&would.taken_from, would.already) {
                plan.push(work_step("unhook", holder.clone(), format!("it has {work}")));
            }
            if let (Some(other), false) = (&would.replaced, would.already) {
                plan.push(work_step("release", other.to_string(), format!("it is on the hook of {agent}")));
            }
            if !would.already {
                plan.push(work_step("hook", work.to_string(), format!("for {agent}")));
            }
            return Ok(Reply::at(seq, HookChange { dry_run: true, plan, ..changed(agent, would) }));
        }
        let by = by(peer, reason);
        let (desk, whose) = (Arc::clone(&self.desk), agent.clone());
        let doing = async move {
            let done = desk.hook(&whose, &work, force, &by).await.map_err(work_error)?;
            Ok(changed(whose, done))
        };
        let doing = self.once_and_waited(idempotency_key, "hook.set", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), named(done, &agent)))
    }

    async fn clear(&self, peer: &Extensions, params: params::HookClear) -> RpcResult<Reply<HookChange>> {
        let seq = self.seq();
        let params::HookClear { agent, dry_run, wait_ms, idempotency_key, reason } = params;
        self.is_agent(&agent).map_err(refuse)?;
        if dry_run {
            let found = self.desk.hook_of(&agent).await.map_err(|error| refuse(work_error(error)))?;
            let step = |hooked: &Hooked| {
                work_step("unhook", hooked.item.id.to_string(), format!("it is on the hook of {agent}"))
            };
            let plan = found.iter().map(step).collect();
            let done = Hooking { already: found.is_none(), now: found, ..Hooking::default() };
            return Ok(Reply::at(seq, HookChange { dry_run: true, plan, ..changed(agent, done) }));
        }
        let by = by(peer, reason);
        let (desk, whose) = (Arc::clone(&self.desk), agent.clone());
        let doing = async move {
            let done = desk.unhook(&whose, &by).await.map_err(work_error)?;
            Ok(changed(whose, done))
        };
        let doing = self.once_and_waited(idempotency_key, "hook.clear", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), named(done, &agent)))
    }
}

impl Context {
    /// Only agents that there are have a hook, or are sent text: one that runs, one of a registered rig, or the town's own.
    pub(super) fn is_agent(&self, agent: &Address) -> Result<(), RpcError> {
        self.handle.view().read(|shown| {
            if shown.agents.contains_key(agent) || agent.rig().is_none() {
                return Ok(());
            }
            let Some(rig) = agent.rig() else { return Ok(()) };
            let known = shown.rig(rig)?;
            let there = match agent {
                Address::Polecat(_, name) => {
                    known.polecats.iter().any(|polecat| polecat.name.as_ref() == Some(name))
                }
                Address::Crew(_, name) => known.crew.iter().any(|crew| crew == name.as_str()),
                _ => true,
            };
            if there {
                return Ok(());
            }
            let text = format!("there is no agent {agent}");
            Err(RpcError::new(ErrorKind::AgentNotFound, text).hint("gtctl status"))
        })
    }
}

impl Accepted for HookChange {
    fn accepted() -> Self {
        Self { accepted: true, ..changed(Address::Boot, Hooking::default()) }
    }
}

/// An answer before the effect does not know whose it is.
fn named(change: HookChange, agent: &Address) -> HookChange {
    HookChange { agent: agent.clone(), ..change }
}

fn changed(agent: Address, done: Hooking) -> HookChange {
    let Hooking { now, replaced, taken_from, already } = done;
    let (work, since) = match now {
        Some(Hooked { item, store, since, .. }) => (Some(shown(item, store)), since),
        None => (None, None),
    };
    HookChange {
        agent,
        work,
        since,
        replaced,
        taken_from,
        already,
        accepted: false,
        dry_run: false,
        plan: Vec::new(),
    }
}
