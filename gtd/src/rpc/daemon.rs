//! `daemon.*`: the daemon itself.

use gtd_proto::config::{LevelSet, Reloaded, Shown};
use gtd_proto::daemon::{DaemonStatus, HeartbeatReport, Hello, LedgerState, ShuttingDown};
use gtd_proto::rpc::DaemonServer;
use gtd_proto::{ErrorKind, Items, PROTOCOL, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, VERSION, name_of, own_pid, refuse, who};
use super::plan::step;
use crate::host::resources::Sampler;
use crate::supervisor::requests::{How, Request};

/// Rounds in an answer unless more are asked for.
const ROUNDS: u32 = 20;

#[async_trait]
impl DaemonServer for Context {
    async fn hello(&self, peer: &Extensions, params: params::Hello) -> RpcResult<Reply<Hello>> {
        let seq = self.seq();
        if params.protocol != PROTOCOL {
            tracing::info!(client = %params.client, protocol = params.protocol, peer = %name_of(peer), "another protocol");
        }
        Ok(Reply::at(seq, self.hello()))
    }

    async fn status(&self, _: params::None) -> RpcResult<Reply<DaemonStatus>> {
        let seq = self.seq();
        let reasons = self.reasons();
        let ledger = self.handle.ledger();
        let info = ledger.info();
        let heartbeat = self.handle.shared().rounds();
        let root = self.layout.root().to_owned();
        let resources = tokio::task::spawn_blocking(move || Sampler::new().look(&root)).await.ok();
        Ok(Reply::at(
            seq,
            DaemonStatus {
                pid: own_pid(),
                version: VERSION.to_owned(),
                protocol: PROTOCOL,
                town: self.root(),
                started_at: self.started_at,
                uptime_ms: u64::try_from(self.handle.uptime().as_millis()).unwrap_or(u64::MAX),
                degraded: !reasons.is_empty(),
                reasons,
                heartbeat,
                connections: self.counters.connections(),
                subscribers: self.counters.subscribers(),
                ledger: LedgerState {
                    path: info.path.to_string_lossy().into_owned(),
                    bytes: info.bytes,
                    seq: ledger.last_seq(),
                    stream_id: ledger.stream_id(),
                },
                forks: self.handle.runtime().driver().forks(),
                rss_bytes: resources.and_then(|resources| resources.rss).unwrap_or(0),
            },
        ))
    }

    async fn heartbeat(&self, _: &Extensions, _: params::None) -> RpcResult<Reply<HeartbeatReport>> {
        let seq = self.seq();
        let report = self.handle.round().await.map_err(refuse)?;
        Ok(Reply::at(seq, report))
    }

    async fn heartbeats(&self, params: params::Limit) -> RpcResult<Reply<Items<HeartbeatReport>>> {
        let seq = self.seq();
        let limit = params.limit.unwrap_or(ROUNDS).min(1_000);
        let items = self
            .handle
            .ledger()
            .heartbeats(Some(limit))
            .await
            .map_err(|error| refuse(ledger_error(&error)))?;
        Ok(Reply::at(seq, Items { items }))
    }

    async fn config(&self, _: params::None) -> RpcResult<Reply<Shown>> {
        let seq = self.seq();
        Ok(Reply::at(seq, self.config.shown()))
    }

    async fn reload(&self, peer: &Extensions, params: params::Reload) -> RpcResult<Reply<Reloaded>> {
        if !params.dry_run {
            tracing::info!(peer = %name_of(peer), reason = params.reason.as_deref(), "asked to reload");
        }
        let reloaded = self.config.reload(params.dry_run).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), reloaded))
    }

    async fn log_level(&self, peer: &Extensions, params: params::LogLevel) -> RpcResult<Reply<LevelSet>> {
        let seq = self.seq();
        let set = self.config.log_level(&params.level, params.dry_run).map_err(refuse)?;
        if !set.dry_run && set.old != set.level {
            tracing::warn!(
                peer = %name_of(peer), reason = params.reason.as_deref(), old = %set.old, new = %set.level,
                "the log's level was set"
            );
        }
        Ok(Reply::at(seq, set))
    }

    async fn shutdown(&self, peer: &Extensions, params: params::Shutdown) -> RpcResult<Reply<ShuttingDown>> {
        let seq = self.seq();
        let agents_stay = !params.stop_agents;
        if params.dry_run {
            let mut plan = if agents_stay { Vec::new() } else { self.plan_down(How::default()) };
            let why = if agents_stay { "its agents go on" } else { "nothing is left to supervise" };
            plan.push(step("stop", format!("gtd pid {}", own_pid()), why));
            return Ok(Reply::at(seq, ShuttingDown { pid: own_pid(), agents_stay, dry_run: true, plan }));
        }
        tracing::info!(peer = %name_of(peer), by = %who(peer), reason = params.reason.as_deref(), "asked to go down");
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let going = async {
            if !agents_stay {
                self.handle.change_town(Request::TownStop { how: How::default(), ask }).await?;
            }
            Ok(ShuttingDown { pid: own_pid(), agents_stay, dry_run: false, plan: Vec::new() })
        };
        let key = params.idempotency_key.as_deref();
        let body = self.handle.once(key, "daemon.shutdown", going).await.map_err(refuse)?;
        // A request that an earlier daemon has heard was meant for that one.
        if body.pid == own_pid() {
            self.stop.cancel();
        }
        Ok(Reply::at(seq, body))
    }
}

/// A read that the ledger could not serve.
pub(super) fn ledger_error(error: &crate::ledger::LedgerError) -> RpcError {
    RpcError::new(ErrorKind::Internal, format!("the ledger cannot be read: {error}"))
        .hint("gtctl daemon status")
}
