//! `rig.*`: rigs, and `witness.*` and `refinery.*`, which are a rig's two standing roles.

use std::time::{Duration, Instant};

use gtd_proto::rpc::{RefineryServer, RigServer, WitnessServer};
use gtd_proto::town::{Rig, RigAdded, RigChange, RigRemoved, RoleStatus};
use gtd_proto::{Address, Change, InstanceId, Items, Reply, RigName, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use crate::agents::order::{FailureKind, Overrides};
use crate::supervisor::requests::{How, Request, Wait};
use crate::supervisor::rig_requests::RigAsk;
use crate::supervisor::view::at_rest;
use crate::supervisor::waiting::Awaited;
use crate::town::add::{self, AddError};
use crate::town::git::Git;

/// How long a rig that was added may take to be noticed. It takes some 30 ms.
const SEEN: Duration = Duration::from_secs(5);

#[async_trait]
impl RigServer for Context {
    async fn list(&self, _: params::None) -> RpcResult<Reply<Items<Rig>>> {
        let seq = self.seq();
        let items = self.handle.view().read(|shown| self.handle.rigs_of(shown));
        Ok(Reply::at(seq, Items { items: items.map_err(refuse)? }))
    }

    async fn status(&self, params: params::RigRef) -> RpcResult<Reply<Rig>> {
        let seq = self.seq();
        let rig = self.handle.rig(&params.rig).map_err(refuse)?;
        Ok(Reply::at(seq, rig))
    }

    async fn add(&self, _: &Extensions, params: params::RigAdd) -> RpcResult<Reply<RigAdded>> {
        let seq = self.seq();
        let key = params.idempotency_key.clone();
        let added =
            self.handle.once(key.as_deref(), "rig.add", self.add_rig(params)).await.map_err(refuse)?;
        Ok(Reply::at(seq, added))
    }

    async fn remove(&self, peer: &Extensions, params: params::RigRemove) -> RpcResult<Reply<RigRemoved>> {
        self.remove_rig(peer, params).await.map_err(refuse)
    }

    async fn park(&self, peer: &Extensions, params: params::RigAside) -> RpcResult<Reply<RigChange>> {
        self.set_aside(RigAsk::Park, "rig.park", peer, params).await.map_err(refuse)
    }

    async fn unpark(&self, peer: &Extensions, params: params::RigAside) -> RpcResult<Reply<RigChange>> {
        self.set_aside(RigAsk::Unpark, "rig.unpark", peer, params).await.map_err(refuse)
    }

    async fn dock(&self, peer: &Extensions, params: params::RigAside) -> RpcResult<Reply<RigChange>> {
        self.set_aside(RigAsk::Dock, "rig.dock", peer, params).await.map_err(refuse)
    }

    async fn undock(&self, peer: &Extensions, params: params::RigAside) -> RpcResult<Reply<RigChange>> {
        self.set_aside(RigAsk::Undock, "rig.undock", peer, params).await.map_err(refuse)
    }
}

macro_rules! role {
    ($trait:ident, $role:ident, $noun:literal) => {
        #[async_trait]
        impl $trait for Context {
            async fn start(&self, peer: &Extensions, params: params::RigStart) -> RpcResult<Reply<Change>> {
                let agent = Address::$role(params.rig.clone());
                self.registered(&params.rig, &agent).map_err(refuse)?;
                if params.foreground {
                    return self.only_foreground(&agent, params);
                }
                self.start_agent(agent, concat!($noun, ".start"), peer, params.into()).await
            }

            async fn stop(&self, peer: &Extensions, params: params::RigStop) -> RpcResult<Reply<Change>> {
                let agent = Address::$role(params.rig.clone());
                self.registered(&params.rig, &agent).map_err(refuse)?;
                self.stop_agent(agent, concat!($noun, ".stop"), peer, params.into()).await
            }

            async fn restart(
                &self,
                peer: &Extensions,
                params: params::RigRestart,
            ) -> RpcResult<Reply<Change>> {
                let agent = Address::$role(params.rig.clone());
                self.registered(&params.rig, &agent).map_err(refuse)?;
                self.restart_agent(agent, concat!($noun, ".restart"), peer, params.into()).await
            }

            async fn status(&self, params: params::RigRef) -> RpcResult<Reply<RoleStatus>> {
                let seq = self.seq();
                let agent = Address::$role(params.rig.clone());
                Ok(Reply::at(seq, self.role_status(&agent, &params.rig).map_err(refuse)?))
            }
        }
    };
}

role!(WitnessServer, Witness, "witness");
role!(RefineryServer, Refinery, "refinery");

impl Context {
    async fn add_rig(&self, params: params::RigAdd) -> Result<RigAdded, RpcError> {
        let request = add::Request {
            name: params.name.clone(),
            source: params.source,
            prefix: params.prefix,
            default_branch: params.default_branch,
        };
        let git = Git::new(std::env::vars());
        let added = add::add(&self.layout, &request, &git, params.dry_run)
            .await
            .map_err(|error| add_error(&error))?;
        if !params.dry_run {
            self.seen(&params.name).await;
        }
        Ok(RigAdded {
            name: params.name,
            path: added.path.to_string_lossy().into_owned(),
            prefix: added.prefix,
            default_branch: added.default_branch,
            dry_run: params.dry_run,
            plan: if params.dry_run { added.steps } else { Vec::new() },
        })
    }

    /// Waits a moment until the watch on the registry has told of a rig, so that whoever added it can use it.
    async fn seen(&self, rig: &RigName) {
        let asked = Instant::now();
        while asked.elapsed() < SEEN && !self.handle.view().read(|shown| shown.facts.rigs.contains_key(rig)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn start_agent(
        &self,
        agent: Address,
        method: &str,
        peer: &Extensions,
        params: params::StandingStart,
    ) -> RpcResult<Reply<Change>> {
        let overrides = overrides(params.agent, params.account, params.env, params.reset_overrides);
        self.launchable(&agent, overrides.as_ref()).map_err(refuse)?;
        if params.dry_run {
            return self.planned(&agent, self.plan_start(&agent));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = effect(&agent, Awaited::Started, ask.wait);
        let request = Request::Start { agent: agent.clone(), overrides, ask };
        self.change_once(params.idempotency_key, method, &agent, request, again).await
    }

    pub(super) async fn stop_agent(
        &self,
        agent: Address,
        method: &str,
        peer: &Extensions,
        params: params::StandingStop,
    ) -> RpcResult<Reply<Change>> {
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            return self.planned(&agent, Ok(self.plan_stop(&agent, how)));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = effect(&agent, Awaited::Stopped, ask.wait);
        let request = Request::Stop { agent: agent.clone(), how, ask };
        self.change_once(params.idempotency_key, method, &agent, request, again).await
    }

    pub(super) async fn restart_agent(
        &self,
        agent: Address,
        method: &str,
        peer: &Extensions,
        params: params::StandingRestart,
    ) -> RpcResult<Reply<Change>> {
        let overrides = overrides(params.agent, params.account, params.env, params.reset_overrides);
        self.launchable(&agent, overrides.as_ref()).map_err(refuse)?;
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            return self.planned(&agent, self.plan_restart(&agent, how));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = effect(&agent, Awaited::Started, ask.wait);
        let request = Request::Restart { agent: agent.clone(), overrides, how, ask };
        self.change_once(params.idempotency_key, method, &agent, request, again).await
    }

    /// Asks once for all requests of the same key; `again` waits for what an earlier one began.
    pub(super) async fn change_once(
        &self,
        key: Option<String>,
        method: &str,
        agent: &Address,
        request: Request,
        again: Request,
    ) -> RpcResult<Reply<Change>> {
        let (doing, again) = (self.handle.change(agent, request), self.handle.change(agent, again));
        let change = self.handle.once_or_wait(key.as_deref(), method, doing, again).await.map_err(refuse)?;
        Ok(self.changed(change))
    }

    fn role_status(&self, agent: &Address, rig: &RigName) -> Result<RoleStatus, RpcError> {
        self.handle.view().read(|shown| {
            let facts = shown.rig(rig)?;
            let witness = matches!(agent, Address::Witness(_));
            Ok(RoleStatus {
                agent: if witness { facts.witness } else { facts.refinery },
                rig_name: rig.clone(),
                monitored_polecats: witness.then(|| {
                    facts
                        .polecats
                        .iter()
                        .filter_map(|agent| agent.name.as_ref())
                        .map(ToString::to_string)
                        .collect()
                }),
                queue_length: None,
            })
        })
    }

    /// Only what is in the registry, or still runs from when it was, can be asked for anything.
    fn registered(&self, rig: &RigName, agent: &Address) -> Result<(), RpcError> {
        self.handle.view().read(|shown| match shown.agents.contains_key(agent) {
            true => Ok(()),
            false => shown.rig(rig).map(|_| ()),
        })
    }

    /// Finds out before anything is touched whether the settings name something that is not there.
    pub(super) fn launchable(&self, agent: &Address, overrides: Option<&Overrides>) -> Result<(), RpcError> {
        let Some(overrides) = overrides else { return Ok(()) };
        match self.prepare.prepare(agent, &InstanceId::generate(), overrides, None) {
            Err(failure) if failure.kind == FailureKind::Settings => {
                let kind = gtd_proto::ErrorKind::NameInvalid;
                let error =
                    RpcError::new(kind, format!("{agent} cannot be launched so: {}", failure.message));
                Err(match failure.hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
            _ => Ok(()),
        }
    }

    /// Accepted from older callers; there is nothing to run here, and the caller prints so.
    fn only_foreground(&self, agent: &Address, params: params::RigStart) -> RpcResult<Reply<Change>> {
        let overrides = overrides(params.agent, params.account, params.env, params.reset_overrides);
        self.launchable(agent, overrides.as_ref()).map_err(refuse)?;
        self.untouched(agent)
    }

    /// The answer to a request that asks for nothing.
    fn untouched(&self, agent: &Address) -> RpcResult<Reply<Change>> {
        let agent = self.handle.view().agent(agent).unwrap_or_else(|| at_rest(agent, self.handle.wall()));
        Ok(self.changed(Change {
            agent,
            already: true,
            accepted: false,
            dry_run: false,
            plan: Vec::new(),
            survivors: Vec::new(),
        }))
    }
}

fn add_error(error: &AddError) -> RpcError {
    let mut wire = RpcError::new(error.kind(), error.to_string());
    if let Some(hint) = error.hint() {
        wire = wire.hint(hint);
    }
    if let AddError::Git(git) | AddError::Clone { git, .. } = error {
        wire = wire.with("command", &git.command).with("stderr", &git.stderr);
    }
    wire
}

/// What a start says about how to launch: `None` leaves what an earlier one said.
pub(super) fn overrides(
    agent: Option<String>,
    account: Option<String>,
    env: std::collections::BTreeMap<String, String>,
    reset: bool,
) -> Option<Overrides> {
    let says_nothing = agent.is_none() && account.is_none() && env.is_empty();
    (reset || !says_nothing).then_some(Overrides { agent, account, env })
}

/// The wait for an effect that was asked for before.
pub(super) fn effect(agent: &Address, awaited: Awaited, wait: Wait) -> Request {
    Request::Wait { agent: Some(agent.clone()), awaited, wait }
}
