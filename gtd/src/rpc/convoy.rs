//! `convoy.*`: work that belongs together.

use std::sync::Arc;

use gtd_proto::convoy::{Convoy, ConvoyChange};
use gtd_proto::rpc::ConvoyServer;
use gtd_proto::{Items, PlanStep, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};
use jsonrpsee::types::ErrorObjectOwned;

use super::context::{Context, refuse};
use super::mail::from;
use super::plan::step;
use super::work::Accepted;
use crate::work::convoys::{ConvoyError, NewConvoy};

#[async_trait]
impl ConvoyServer for Context {
    async fn create(
        &self,
        peer: &Extensions,
        params: params::ConvoyCreate,
    ) -> RpcResult<Reply<ConvoyChange>> {
        let seq = self.seq();
        let params::ConvoyCreate { title, work, watchers, dry_run, wait_ms, idempotency_key, .. } = params;
        let by = from(peer).map_err(refuse)?.own.to_string();
        let mut all = vec![by.clone()];
        for watcher in &watchers {
            all.push(self.office.named(watcher, "/watchers").map_err(refuse)?.to_string());
        }
        let new = NewConvoy { title, work, watchers: all, by, key: idempotency_key.clone() };
        if dry_run {
            let tracked = self.convoys.checked(&new).await.map_err(wire)?;
            let told = new.watchers.join(", ");
            let why = format!("it tracks {} items, and tells {told} when the last is closed", tracked.len());
            return Ok(Reply::at(seq, planned(None, vec![step("create", new.title.trim(), why)])));
        }
        let convoys = Arc::clone(&self.convoys);
        let doing = async move { Ok(changed(convoys.create(new).await?)) };
        let doing = self.once_and_waited(idempotency_key, "convoy.create", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }

    async fn add(&self, _: &Extensions, params: params::ConvoyAdd) -> RpcResult<Reply<ConvoyChange>> {
        let seq = self.seq();
        let params::ConvoyAdd { convoy, work, dry_run, wait_ms, idempotency_key, .. } = params;
        if dry_run {
            let rows = self.convoys.would_add(&convoy, &work).await.map_err(wire)?;
            let shown = self.convoys.show(&convoy).await.map_err(wire)?;
            let plan = rows.iter().map(|row| step("add", &row.work, format!("it is {}", row.status)));
            return Ok(Reply::at(seq, planned(Some(shown), plan.collect())));
        }
        let convoys = Arc::clone(&self.convoys);
        let doing = async move { Ok(changed(convoys.add(&convoy, &work).await?)) };
        let doing = self.once_and_waited(idempotency_key, "convoy.add", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }

    async fn status(&self, params: params::ConvoyRef) -> RpcResult<Reply<Convoy>> {
        let seq = self.seq();
        Ok(Reply::at(seq, self.convoys.show(&params.convoy).await.map_err(wire)?))
    }

    async fn list(&self, params: params::ConvoyList) -> RpcResult<Reply<Items<Convoy>>> {
        let seq = self.seq();
        let items = self.convoys.list(params.status.as_deref()).await.map_err(wire)?;
        Ok(Reply::at(seq, Items { items }))
    }
}

fn wire(error: ConvoyError) -> ErrorObjectOwned {
    refuse(RpcError::from(error))
}

impl Accepted for ConvoyChange {
    fn accepted() -> Self {
        Self { accepted: true, ..none() }
    }
}

fn none() -> ConvoyChange {
    ConvoyChange { convoy: None, already: false, accepted: false, dry_run: false, plan: Vec::new() }
}

fn changed((convoy, already): (Convoy, bool)) -> ConvoyChange {
    ConvoyChange { convoy: Some(convoy), already, ..none() }
}

fn planned(convoy: Option<Convoy>, plan: Vec<PlanStep>) -> ConvoyChange {
    ConvoyChange { already: plan.is_empty(), convoy, dry_run: true, plan, ..none() }
}
