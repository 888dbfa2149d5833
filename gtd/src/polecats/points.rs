//! Places in the making of a worker, and before the doctor acts, at which a test holds them, or lets them fail.
//!
//! Only in builds with debug assertions, and only where the daemon's environment names a directory for it: then a file
//! of a point's name that says `hold` or `fail` is obeyed once. Elsewhere nothing is ever looked at.

use std::path::PathBuf;
use std::time::Duration;

use gtd_proto::RpcError;

/// The variable that names the directory.
const VARIABLE: &str = "GTD_TEST_POINTS";
/// How long a point holds at the most.
const HOLD: Duration = Duration::from_secs(60);
/// Between two looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// The points of a daemon.
#[derive(Debug, Default)]
pub(crate) struct Points(Option<PathBuf>);

impl Points {
    /// As the environment says.
    pub(crate) fn from_env() -> Self {
        Self(std::env::var_os(VARIABLE).filter(|_| cfg!(debug_assertions)).map(PathBuf::from))
    }

    /// A point is reached: `hold` waits until the file `NAME.go` is there, having renamed its own to `NAME.reached`.
    ///
    /// # Errors
    /// Where it is to fail.
    pub(crate) async fn reach(&self, name: &str) -> Result<(), RpcError> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let order = dir.join(name);
        let Ok(what) = std::fs::read_to_string(&order) else { return Ok(()) };
        let reached = dir.join(format!("{name}.reached"));
        if let Err(error) = std::fs::rename(&order, &reached) {
            tracing::warn!(%error, name, "a test's point cannot be obeyed");
            return Ok(());
        }
        match what.trim() {
            "fail" => Err(RpcError::internal(format!("{name} was to fail"))),
            _ => {
                let go = dir.join(format!("{name}.go"));
                let open = async {
                    while !go.exists() {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                let _ = tokio::time::timeout(HOLD, open).await;
                Ok(())
            }
        }
    }
}
