//! The stand-in for what looks at the whole machine: the doctor, orphans, sessions and crews.

use gtd_proto::rpc::{CrewServer, DoctorServer, OrphansServer, SessionServer};
use gtd_proto::{Items, Reply, agent, doctor, params};
use jsonrpsee::core::{RpcResult, async_trait};
use jsonrpsee::{Extensions, Methods};

use super::{StandIn, reached};

pub(super) fn merge_into(all: &mut Methods) {
    all.merge(CrewServer::into_rpc(StandIn)).unwrap();
    all.merge(SessionServer::into_rpc(StandIn)).unwrap();
    all.merge(OrphansServer::into_rpc(StandIn)).unwrap();
    all.merge(DoctorServer::into_rpc(StandIn)).unwrap();
}

#[async_trait]
impl CrewServer for StandIn {
    async fn list(&self, _: params::CrewList) -> RpcResult<Reply<Items<doctor::CrewMember>>> {
        reached("crew.list")
    }
}

#[async_trait]
impl SessionServer for StandIn {
    async fn list(&self, _: params::None) -> RpcResult<Reply<Items<doctor::Session>>> {
        reached("session.list")
    }
    async fn capture(&self, _: params::SessionCapture) -> RpcResult<Reply<agent::Capture>> {
        reached("session.capture")
    }
}

#[async_trait]
impl OrphansServer for StandIn {
    async fn list(&self, _: params::None) -> RpcResult<Reply<doctor::Orphans>> {
        reached("orphans.list")
    }
    async fn sweep(&self, _: &Extensions, _: params::OrphansSweep) -> RpcResult<Reply<doctor::SweepResult>> {
        reached("orphans.sweep")
    }
}

#[async_trait]
impl DoctorServer for StandIn {
    async fn checks(&self, _: params::None) -> RpcResult<Reply<Items<doctor::CheckInfo>>> {
        reached("doctor.checks")
    }
    async fn run(&self, _: &Extensions, _: params::DoctorRun) -> RpcResult<Reply<doctor::Report>> {
        reached("doctor.run")
    }
}
