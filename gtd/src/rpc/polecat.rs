//! `polecat.*`: workers. What is asked is checked here in full before anything is touched; starting with work is in
//! `polecat_start`, making one in `polecat_spawn`.

use std::path::Path;
use std::sync::Arc;

use gtd_proto::agent::Capture;
use gtd_proto::nearest::nearest;
use gtd_proto::polecat::{PolecatRemoved, PolecatsChange};
use gtd_proto::rpc::{AgentServer, PolecatServer};
use gtd_proto::{
    Address, Agent, Change, ErrorKind, Items, Reply, RigName, Role, RpcError, State, params, town,
};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use super::rig::{effect, overrides};
use crate::supervisor::requests::{Ask, How, Request, Wait};
use crate::supervisor::waiting::Awaited;

/// Names that are proposed for one that fits nothing.
const NEAREST: usize = 3;

#[async_trait]
impl PolecatServer for Context {
    async fn spawn(&self, peer: &Extensions, params: params::PolecatSpawn) -> RpcResult<Reply<Change>> {
        self.spawn_worker(peer, params).await.map_err(refuse)
    }

    async fn list(&self, params: params::PolecatList) -> RpcResult<Reply<Items<Agent>>> {
        let seq = self.seq();
        let items = self.workers(params.rig.as_ref()).map_err(refuse)?;
        Ok(Reply::at(seq, Items { items }))
    }

    async fn status(&self, params: params::AgentRef) -> RpcResult<Reply<Agent>> {
        let seq = self.seq();
        self.worker(&params.agent).map_err(refuse)?;
        // Its branch may have changed since the last look.
        self.handle.look_at_worktrees(&self.layout, std::slice::from_ref(&params.agent));
        Ok(Reply::at(seq, self.worker(&params.agent).map_err(refuse)?))
    }

    async fn start(&self, peer: &Extensions, params: params::PolecatStart) -> RpcResult<Reply<Change>> {
        self.start_worker(peer, params).await.map_err(refuse)
    }

    async fn stop(&self, peer: &Extensions, params: params::PolecatStop) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        self.worker(&agent).map_err(refuse)?;
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            return self.planned(&agent, Ok(self.plan_stop(&agent, how)));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        self.part(&agent, how, ask.wait).await;
        let again = effect(&agent, Awaited::Stopped, ask.wait);
        let request = Request::Stop { agent: agent.clone(), how, ask };
        self.change_once(params.idempotency_key, "polecat.stop", &agent, request, again).await
    }

    async fn stop_all(
        &self,
        peer: &Extensions,
        params: params::PolecatStopAll,
    ) -> RpcResult<Reply<PolecatsChange>> {
        let seq = self.seq();
        let workers = self.workers(Some(&params.rig)).map_err(refuse)?;
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            let plan = workers.iter().flat_map(|worker| self.plan_stop(&worker.agent, how)).collect();
            return Ok(Reply::at(seq, PolecatsChange { dry_run: true, plan, ..PolecatsChange::default() }));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let accepted = ask.wait == Wait::No;
        let doing = async {
            let agents = workers.into_iter().map(|worker| worker.agent);
            let items = agents.map(|agent| self.stop_one(agent, how, ask.clone()));
            let items = futures_util::future::join_all(items).await;
            Ok(PolecatsChange { items, accepted, ..PolecatsChange::default() })
        };
        let key = params.idempotency_key.as_deref();
        let change = self.handle.once(key, "polecat.stop_all", doing).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), change))
    }

    async fn restart(&self, peer: &Extensions, params: params::PolecatRestart) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        let overrides = overrides(params.agent_preset, params.account, params.env, params.reset_overrides);
        self.worker(&agent).map_err(refuse)?;
        self.launchable(&agent, overrides.as_ref()).map_err(refuse)?;
        self.has_worktree(&agent).map_err(refuse)?;
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            return self.planned(&agent, self.plan_restart(&agent, how));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = effect(&agent, Awaited::Started, ask.wait);
        let request = Request::Restart { agent: agent.clone(), overrides, how, ask };
        self.change_once(params.idempotency_key, "polecat.restart", &agent, request, again).await
    }

    async fn remove(
        &self,
        peer: &Extensions,
        params: params::PolecatRemove,
    ) -> RpcResult<Reply<PolecatRemoved>> {
        self.remove_polecat(peer, params).await.map_err(refuse)
    }

    async fn capture(&self, params: params::AgentCapture) -> RpcResult<Reply<Capture>> {
        self.worker(&params.agent).map_err(refuse)?;
        AgentServer::capture(self, params).await
    }
}

impl Context {
    /// The workers of a rig, or of all.
    fn workers(&self, rig: Option<&RigName>) -> Result<Vec<Agent>, RpcError> {
        self.handle.view().read(|shown| {
            let all = shown.agents.values().filter(|agent| agent.role == Role::Polecat);
            let of_rig = all.filter(|agent| rig.is_none() || agent.rig.as_ref() == rig);
            let workers: Vec<Agent> = of_rig.cloned().collect();
            match rig {
                // Of one that was taken out of the registry some may be left.
                Some(rig) if workers.is_empty() => shown.rig(rig).map(|_| workers),
                _ => Ok(workers),
            }
        })
    }

    /// A worker as it is shown now.
    pub(super) fn worker(&self, agent: &Address) -> Result<Agent, RpcError> {
        let Address::Polecat(rig, name) = agent else {
            return Err(RpcError::new(ErrorKind::NameInvalid, format!("{agent} is no polecat"))
                .hint(format!("gtctl status {agent}")));
        };
        self.handle.view().read(|shown| {
            if let Some(found) = shown.agents.get(agent) {
                return Ok(found.clone());
            }
            shown.rig(rig)?;
            let known: Vec<&Address> = shown
                .agents
                .keys()
                .filter(|other| other.role() == Role::Polecat && other.rig() == Some(rig))
                .collect();
            let names = known.iter().filter_map(|other| other.name()).map(gtd_proto::AgentName::as_str);
            let near: Vec<String> = nearest(name.as_str(), names, NEAREST)
                .into_iter()
                .map(|name| format!("{rig}/polecats/{name}"))
                .collect();
            let hint = match near.as_slice() {
                [] => format!("gtctl polecat list {rig}"),
                near => format!("did you mean {}? gtctl polecat list {rig}", near.join(" or ")),
            };
            Err(RpcError::new(ErrorKind::AgentNotFound, format!("there is no polecat {agent}"))
                .hint(hint)
                .with("nearest", near)
                .with("known", known))
        })
    }

    /// Its directory is there.
    pub(super) fn has_worktree(&self, agent: &Address) -> Result<(), RpcError> {
        let dir = crate::town::rigs::workdir(&self.layout, agent);
        let errno = match std::fs::metadata(&dir) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => "ENOTDIR",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "ENOENT",
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => "ENOTDIR",
            // Whoever is to work there learns the true error.
            Err(_) => return Ok(()),
        };
        let path = dir.to_string_lossy().into_owned();
        let error = format!("{agent} cannot be started: its worktree {path} is not there");
        let exec_error =
            gtd_proto::exit::ExecError { op: "chdir".to_owned(), errno: errno.to_owned(), path: Some(path) };
        Err(RpcError::new(ErrorKind::DiedDuringStartup, error)
            .hint(format!("gtctl polecat status {agent}"))
            .with("exec_error", exec_error)
            .with("output", Vec::<String>::new()))
    }

    /// Before a polite stop the store of its work may write down what it holds back. Only who waits to the end
    /// waits for that too.
    async fn part(&self, agent: &Address, how: How, wait: Wait) {
        let worktree = self.handle.view().read(|shown| {
            let worker = shown.agents.get(agent).filter(|worker| worker.running)?;
            worker.worktree.clone()
        });
        let Some(worktree) = worktree.filter(|_| !how.now && !how.force) else { return };
        let (desk, agent) = (Arc::clone(&self.desk), agent.clone());
        let parting = tokio::spawn(async move { desk.flush(&agent, Path::new(&worktree)).await });
        if wait == Wait::ToTheEnd {
            let _ = parting.await;
        }
    }

    async fn stop_one(&self, agent: Address, how: How, ask: Ask) -> town::Outcome {
        self.part(&agent, how, ask.wait).await;
        let request = Request::Stop { agent: agent.clone(), how, ask };
        let failed =
            |error| town::Outcome { agent: agent.clone(), ok: false, already: false, error: Some(error) };
        match self.handle.change(&agent, request).await {
            Ok(change) if change.survivors.is_empty() => {
                town::Outcome { agent: agent.clone(), ok: true, already: change.already, error: None }
            }
            Ok(change) => failed(
                RpcError::new(
                    ErrorKind::Timeout,
                    format!("{agent}: {} of its processes could not be ended", change.survivors.len()),
                )
                .hint(format!("gtctl explain {agent}"))
                .with("reached", "survivors")
                .with("survivors", change.survivors),
            ),
            Err(error) => failed(error),
        }
    }
}

/// Whether a worker runs, so that there is nothing to start.
pub(super) fn runs(agent: &Agent) -> bool {
    agent.state == State::Running
}
