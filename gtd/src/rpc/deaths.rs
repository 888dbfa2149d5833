//! `deaths.*`: ends that nobody asked for, one by one and as mass deaths.

use gtd_proto::rpc::DeathsServer;
use gtd_proto::{Exit, Incident, Items, Reply, params};
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use super::daemon::ledger_error;

/// Items of a list unless said otherwise, and at most.
const ITEMS: (u32, u32) = (20, 1_000);

#[async_trait]
impl DeathsServer for Context {
    async fn list(&self, params: params::DeathsList) -> RpcResult<Reply<Items<Exit>>> {
        let seq = self.seq();
        let limit = params.limit.unwrap_or(ITEMS.0).min(ITEMS.1);
        let items = self.handle.ledger().deaths(params.since, Some(limit)).await;
        let mut items = items.map_err(|error| refuse(ledger_error(&error)))?;
        self.handle.tell_killed(&mut items).await.map_err(|error| refuse(ledger_error(&error)))?;
        Ok(Reply::at(seq, Items { items }))
    }

    async fn incidents(&self, _: params::None) -> RpcResult<Reply<Items<Incident>>> {
        let seq = self.seq();
        let items = self.handle.view().read(|shown| shown.incidents.clone());
        Ok(Reply::at(seq, Items { items }))
    }
}
