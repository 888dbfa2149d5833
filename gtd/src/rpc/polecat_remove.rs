//! `polecat.remove`: a worker that is to go.

use std::sync::Arc;

use gtd_proto::polecat::{ArchivedRef, PolecatRemoved};
use gtd_proto::{Address, ErrorKind, Reply, RpcError, params};
use jsonrpsee::Extensions;

use super::context::Context;
use super::work::{Accepted, by};
use crate::polecats::{Gone, Leave};

impl Context {
    pub(super) async fn remove_polecat(
        &self,
        peer: &Extensions,
        params: params::PolecatRemove,
    ) -> Result<Reply<PolecatRemoved>, RpcError> {
        let seq = self.seq();
        let params::PolecatRemove { agent, force, dry_run, wait_ms, idempotency_key, reason } = params;
        let Address::Polecat(rig, name) = agent.clone() else {
            let error = RpcError::new(ErrorKind::NameInvalid, format!("{agent} is no polecat"));
            return Err(error.hint(format!("gtctl status {agent}")));
        };
        self.handle.view().read(|shown| shown.rig(&rig).map(drop))?;
        let leave = Leave { rig, name, force, by: by(peer, reason) };
        if dry_run {
            let plan = self.spawner.plan_leave(&leave).await?;
            return Ok(Reply::at(
                seq,
                PolecatRemoved { dry_run: true, plan, ..removed(agent, Gone::default()) },
            ));
        }
        let (spawner, whose) = (Arc::clone(&self.spawner), agent.clone());
        let doing = async move { Ok(removed(whose, spawner.leave(&leave).await?)) };
        let done = self.once_and_waited(idempotency_key, "polecat.remove", wait_ms, doing).await?;
        Ok(Reply::at(self.seq(), PolecatRemoved { agent, ..done }))
    }
}

impl Accepted for PolecatRemoved {
    fn accepted() -> Self {
        // Whose it is is put in by who answers.
        Self { accepted: true, ..removed(Address::Boot, Gone::default()) }
    }
}

fn removed(agent: Address, gone: Gone) -> PolecatRemoved {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let Gone { tree, work } = gone;
    PolecatRemoved {
        agent,
        archived: tree
            .archived
            .into_iter()
            .map(|kept| ArchivedRef { name: kept.name, commit: kept.commit })
            .collect(),
        branch: tree.branch,
        worktree: tree.directory.map(text),
        aside: tree.aside.map(text),
        why: tree.why,
        work,
        accepted: false,
        dry_run: false,
        plan: Vec::new(),
    }
}
