//! `deacon.*`, `mayor.*` and `boot.*`: the town's own agents.

use gtd_proto::deacon::{BootStatus, DeaconStatus, Triage};
use gtd_proto::rpc::{BootServer, DeaconServer, MayorServer};
use gtd_proto::{Address, Agent, Change, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, name_of, refuse};
use crate::supervisor::view::at_rest;

macro_rules! role {
    ($trait:ident, $role:ident, $noun:literal, $status:ty, $by:ident) => {
        #[async_trait]
        impl $trait for Context {
            async fn start(
                &self,
                peer: &Extensions,
                params: params::StandingStart,
            ) -> RpcResult<Reply<Change>> {
                self.start_agent(Address::$role, concat!($noun, ".start"), peer, params).await
            }

            async fn stop(
                &self,
                peer: &Extensions,
                params: params::StandingStop,
            ) -> RpcResult<Reply<Change>> {
                self.stop_agent(Address::$role, concat!($noun, ".stop"), peer, params).await
            }

            async fn restart(
                &self,
                peer: &Extensions,
                params: params::StandingRestart,
            ) -> RpcResult<Reply<Change>> {
                self.restart_agent(Address::$role, concat!($noun, ".restart"), peer, params).await
            }

            async fn status(&self, _: params::None) -> RpcResult<Reply<$status>> {
                self.$by().await
            }
        }
    };
}

role!(DeaconServer, Deacon, "deacon", DeaconStatus, deacon_status);
role!(MayorServer, Mayor, "mayor", Agent, mayor_status);

#[async_trait]
impl BootServer for Context {
    async fn triage(&self, peer: &Extensions, params: params::BootTriage) -> RpcResult<Reply<Triage>> {
        if !params.dry_run {
            tracing::info!(peer = %name_of(peer), reason = params.reason.as_deref(), "asked to look after the deacon");
        }
        let looking = async { self.watchman.triage(params.dry_run).await.map_err(RpcError::internal) };
        let key = params.idempotency_key.filter(|_| !params.dry_run);
        let triage = self.handle.once(key.as_deref(), "boot.triage", looking).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), triage))
    }

    async fn status(&self, _: params::None) -> RpcResult<Reply<BootStatus>> {
        let seq = self.seq();
        Ok(Reply::at(seq, self.watchman.boot_status().await))
    }
}

impl Context {
    async fn deacon_status(&self) -> RpcResult<Reply<DeaconStatus>> {
        let seq = self.seq();
        let status = self.watchman.status().await.map_err(|why| refuse(RpcError::internal(why)))?;
        Ok(Reply::at(seq, status))
    }

    async fn mayor_status(&self) -> RpcResult<Reply<Agent>> {
        let seq = self.seq();
        let mayor = self.handle.view().agent(&Address::Mayor);
        Ok(Reply::at(seq, mayor.unwrap_or_else(|| at_rest(&Address::Mayor, self.handle.wall()))))
    }
}
