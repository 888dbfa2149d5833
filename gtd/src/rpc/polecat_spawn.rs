//! `polecat.spawn`: the way from a request to the one who makes workers, and to whoever waits for it.

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::{Address, Change, ErrorKind, Reply, RpcError, params};
use jsonrpsee::Extensions;
use tokio::sync::oneshot;

use super::context::{Context, name_of, who};
use crate::agents::order::Overrides;
use crate::polecats::saga::{Step, Wish};
use crate::polecats::{Begun, METHOD, Wanted};
use crate::supervisor::Handle;
use crate::supervisor::view::at_rest;

impl Context {
    pub(super) async fn spawn_worker(
        &self,
        peer: &Extensions,
        params: params::PolecatSpawn,
    ) -> Result<Reply<Change>, RpcError> {
        let params::PolecatSpawn { rig, work, name, agent_preset, account, env, force, .. } = params;
        let (key, wait_ms) = (params.idempotency_key, params.wait_ms);
        let wish = Wish {
            overrides: Overrides { agent: agent_preset, account, env },
            force,
            repair: false,
            by: who(peer),
            peer: Some(name_of(peer)),
            reason: params.reason,
            key: key.clone(),
        };
        let wanted = Wanted { rig, work, name, wish };
        if params.dry_run {
            let (agent, tree, plan) = self.spawner.plan(&wanted).await?;
            let mut change = shown(&self.handle, &agent);
            change.agent.worktree = Some(tree.path.to_string_lossy().into_owned());
            change.agent.branch = Some(tree.branch);
            return Ok(Reply::at(self.seq(), Change { dry_run: true, plan, ..change }));
        }
        let (tell, told) = oneshot::channel();
        let (handle, spawner) = (self.handle.clone(), Arc::clone(&self.spawner));
        // One that is under way with this key is what is meant; it is not waited for longer than asked.
        let joined = spawner.under_way(key.as_deref());
        // To its end, whoever asked for it goes away or not.
        let mut task = tokio::spawn(async move {
            let making = async |begun: Begun| {
                let (mut begun, agent) = (begun.clone(), begun.agent);
                let mut change = shown(&handle, &agent);
                change.agent.worktree.clone_from(&begun.worktree);
                change.agent.branch.clone_from(&begun.branch);
                let _ = tell.send((change, begun.clone()));
                begun.ended().await?;
                Ok(shown(&handle, &agent))
            };
            match joined {
                Some(begun) => making(begun).await,
                None => {
                    let doing = async { making(spawner.begin(wanted).await?).await };
                    handle.once(key.as_deref(), METHOD, doing).await
                }
            }
        });
        let Some(wait_ms) = wait_ms else { return Ok(self.changed(ended(task.await)?)) };
        let begun = tokio::select! {
            done = &mut task => return Ok(self.changed(ended(done)?)),
            begun = told => begun,
        };
        // Nobody tells when the answer was given before: then it is there in a moment.
        let Ok((change, begun)) = begun else { return Ok(self.changed(ended(task.await)?)) };
        if wait_ms == 0 {
            return Ok(Reply::at(self.seq(), Change { accepted: true, ..change }));
        }
        match tokio::time::timeout(Duration::from_millis(wait_ms), &mut task).await {
            Ok(done) => Ok(self.changed(ended(done)?)),
            Err(_) => {
                let agent = begun.agent.clone();
                let step = begun.at().map_or("its end", Step::as_str);
                let text = format!("{agent} is not made yet: it has got as far as {step}");
                Err(RpcError::new(ErrorKind::Timeout, text)
                    .hint(format!("it goes on; follow it with: gtctl events -f --agent {agent}"))
                    .with("reached", step)
                    .with("agent", agent))
            }
        }
    }
}

fn ended(ended: Result<Result<Change, RpcError>, tokio::task::JoinError>) -> Result<Change, RpcError> {
    ended.unwrap_or_else(|error| Err(RpcError::internal(format!("the spawn was cut off: {error}"))))
}

fn shown(handle: &Handle, agent: &Address) -> Change {
    let agent = handle.view().agent(agent).unwrap_or_else(|| at_rest(agent, handle.wall()));
    Change { agent, already: false, accepted: false, dry_run: false, plan: Vec::new(), survivors: Vec::new() }
}
