//! What the methods ask of the configuration; whoever put the daemon together answers.
//!
//! Owns the questions only.

use gtd_proto::RpcError;
use gtd_proto::config::{LevelSet, Reloaded, Shown};
use jsonrpsee::core::async_trait;

/// The configuration in force.
#[async_trait]
pub trait Configuration: Send + Sync {
    /// Every value, with its origin.
    fn shown(&self) -> Shown;

    /// Reads the file and puts it in force, or only says what that would change.
    ///
    /// # Errors
    /// `config_invalid` with the place; everything is then as before.
    async fn reload(&self, dry_run: bool) -> Result<Reloaded, RpcError>;

    /// Sets the level of the log until the next start or reload.
    ///
    /// # Errors
    /// `invalid_params` for a word that is no level.
    fn log_level(&self, level: &str, dry_run: bool) -> Result<LevelSet, RpcError>;
}
