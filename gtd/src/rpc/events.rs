//! `events.*`: what happened, and what happens.

use gtd_proto::event::History;
use gtd_proto::rpc::EventsServer;
use gtd_proto::{ErrorKind, Reply, RpcError, Selector, params};
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::{Extensions, PendingSubscriptionSink};

use super::context::{Context, refuse};
use super::daemon::ledger_error;
use crate::ledger::EventQuery;

/// Events on a page unless said otherwise, and at most.
const PAGE: (u32, u32) = (100, 1_000);

#[async_trait]
impl EventsServer for Context {
    async fn history(&self, params: params::EventsHistory) -> RpcResult<Reply<History>> {
        let seq = self.seq();
        let query = EventQuery {
            since: params.since,
            until: None,
            since_time: params.since_time,
            kinds: params.kinds.unwrap_or_default(),
            selector: selector(params.agent).map_err(refuse)?,
            limit: Some(params.limit.unwrap_or(PAGE.0).min(PAGE.1)),
        };
        let history =
            self.handle.ledger().events(query).await.map_err(|error| refuse(ledger_error(&error)))?;
        Ok(Reply::at(seq, history))
    }

    async fn follow(
        &self,
        pending: PendingSubscriptionSink,
        _: &Extensions,
        params: params::EventsSubscribe,
    ) -> SubscriptionResult {
        let selector = match selector(params.agent) {
            Ok(selector) => selector,
            Err(error) => {
                pending.reject(refuse(error)).await;
                return Ok(());
            }
        };
        let mut subscription = self.bus.subscribe(params.since, params.kinds, selector);
        let sink = pending.accept().await?;
        while let Some(frame) = tokio::select! {
            frame = subscription.next() => frame,
            () = sink.closed() => None,
        } {
            sink.send(serde_json::value::to_raw_value(&frame)?).await?;
        }
        Ok(())
    }
}

fn selector(text: Option<String>) -> Result<Option<Selector>, RpcError> {
    text.map(|text| text.parse()).transpose().map_err(|error: gtd_proto::InvalidName| {
        RpcError::new(ErrorKind::InvalidParams, error.to_string()).with("path", "/agent")
    })
}
