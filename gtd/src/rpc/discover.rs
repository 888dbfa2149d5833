//! `rpc.discover`: the interface describes itself, from the table that also checks its parameters.

use gtd_proto::rpc::RpcServer;
use gtd_proto::{method, params};
use jsonrpsee::RpcModule;
use jsonrpsee::core::{RpcResult, async_trait};
use serde_json::Value;

/// Answers with a document that is made once.
pub struct Discover {
    document: Value,
}

impl Discover {
    /// The document of this program's version.
    #[must_use]
    pub fn new(version: &str) -> Self {
        Self { document: method::discover(version) }
    }

    /// The method, ready to be merged into the registry.
    #[must_use]
    pub fn module(version: &str) -> RpcModule<Self> {
        Self::new(version).into_rpc()
    }
}

#[async_trait]
impl RpcServer for Discover {
    async fn discover(&self, _: params::None) -> RpcResult<Value> {
        Ok(self.document.clone())
    }
}
