//! The lock of a town's daemon, looked at from outside: as long as a daemon lives, it is held.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use fs2::FileExt;
use tokio::time::Instant;

/// Between two looks at the lock. Each look takes it for an instant, so they should not be many.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is known of the lock.
#[derive(Debug)]
pub enum Lock {
    /// Nobody holds it: there is no daemon.
    Free,
    /// A daemon lives.
    Held,
    /// It cannot be looked at, so nothing is known.
    Unknown(io::Error),
}

/// Looks at the lock of a town.
#[must_use]
pub fn look(root: &Path) -> Lock {
    let file = match File::open(root.join("daemon/daemon.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Lock::Free,
        Err(error) => return Lock::Unknown(error),
    };
    match FileExt::try_lock_exclusive(&file) {
        // Closing the file gives it back.
        Ok(()) => Lock::Free,
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Lock::Held,
        Err(error) => Lock::Unknown(error),
    }
}

/// Waits until the lock is free.
pub async fn wait_until_free(root: &Path, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if matches!(look(root), Lock::Free) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that another test starts at this moment may hold what it inherited until it runs.
    fn frees_up(root: &Path) -> bool {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < deadline {
            if matches!(look(root), Lock::Free) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn held_free_and_unknown_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(look(dir.path()), Lock::Free));
        std::fs::create_dir(dir.path().join("daemon")).unwrap();
        let path = dir.path().join("daemon/daemon.lock");
        let file = File::create(&path).unwrap();
        assert!(frees_up(dir.path()));
        FileExt::lock_exclusive(&file).unwrap();
        assert!(matches!(look(dir.path()), Lock::Held));
        drop(file);
        assert!(frees_up(dir.path()));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(matches!(look(dir.path()), Lock::Unknown(_)));
    }
}
