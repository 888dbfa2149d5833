//! Writing down what the older generation still holds back.
//!
//! Owns one call, for the moment before a worker is stopped politely. It must never pull, commit or push: that is
//! git in the tree of a worker, and one that is cut short leaves half a merge there.

use std::path::Path;
use std::time::Duration;

use super::Bd;
use super::run;
use super::version::Generation;
use crate::work::Unknown;

/// How long a stop may be kept waiting for it.
const DEADLINE: Duration = Duration::from_secs(10);

impl Bd {
    /// Lets a `bd` 0.4x export what its database has and its file of lines has not, as seen from a directory. Gives
    /// whether there was anything to be asked for: later generations keep one truth only.
    ///
    /// # Errors
    /// When the program is not there, is not done in time, or says what it is in no way that we know. What it
    /// answers is not judged: nothing depends on it.
    pub async fn flush(&self, dir: &Path) -> Result<bool, Unknown> {
        let what = "write down its items";
        let asked = async {
            let (path, _, generation) = self.program().await?;
            if generation != Generation::Sqlite {
                return Ok(None);
            }
            let args = ["--no-daemon", "--allow-stale", "--lock-timeout=5000ms", "sync", "--flush-only"];
            run::run(&path, &super::owned(&args), dir, &self.env, DEADLINE.min(self.timeout)).await.map(Some)
        };
        let output = asked.await.map_err(|why| self.unknown(what, why, String::new()))?;
        if let Some(output) = &output {
            tracing::debug!(dir = %dir.display(), stderr = output.stderr, "bd wrote down its items");
        }
        Ok(output.is_some())
    }
}
