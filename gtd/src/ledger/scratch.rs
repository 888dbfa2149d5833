//! Directories for tests with a ledger in them. Its threads write a last snapshot after the last handle is gone,
//! which a removal at that very moment would leave behind.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the threads of a ledger may take to end.
const LIMIT: Duration = Duration::from_secs(5);

/// A directory that is gone when this is dropped, whoever still writes in it.
pub struct Scratch(TempDir);

/// Makes one.
pub fn dir() -> Scratch {
    Scratch(tempfile::tempdir().unwrap())
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let end = Instant::now() + LIMIT;
        // Twice in a row, for what was about to be written at the first time.
        let mut gone = 0;
        while gone < 2 && Instant::now() < end {
            gone = match std::fs::remove_dir_all(self.path()) {
                Ok(()) => 0,
                Err(_) if !self.path().exists() => gone + 1,
                Err(_) => 0,
            };
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
