//! The stand-in for the town's own agents.

use gtd_proto::rpc::{BootServer, DeaconServer, MayorServer};
use gtd_proto::{Agent, Change, Reply, deacon, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::{StandIn, reached};

macro_rules! standing {
    ($trait:ident, $namespace:literal, $status:ty) => {
        #[async_trait]
        impl $trait for StandIn {
            async fn start(&self, _: &Extensions, _: params::StandingStart) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".start"))
            }
            async fn stop(&self, _: &Extensions, _: params::StandingStop) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".stop"))
            }
            async fn restart(&self, _: &Extensions, _: params::StandingRestart) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".restart"))
            }
            async fn status(&self, _: params::None) -> RpcResult<Reply<$status>> {
                reached(concat!($namespace, ".status"))
            }
        }
    };
}

standing!(DeaconServer, "deacon", deacon::DeaconStatus);
standing!(MayorServer, "mayor", Agent);

#[async_trait]
impl BootServer for StandIn {
    async fn triage(&self, _: &Extensions, _: params::BootTriage) -> RpcResult<Reply<deacon::Triage>> {
        reached("boot.triage")
    }
    async fn status(&self, _: params::None) -> RpcResult<Reply<deacon::BootStatus>> {
        reached("boot.status")
    }
}
