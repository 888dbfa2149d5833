//! One daemon per town: an exclusive `flock` on `daemon/daemon.lock`, the same file and the same kind of lock
//! that the incumbent takes, so that the two can never supervise one town together.
//!
//! Taken before anything else and held until the process ends. The file is never removed: whoever removes it
//! lets a second daemon lock another file of the same name, until the first has locked that one too. The lock is
//! the truth; who holds it is hearsay.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fs2::FileExt;
use gtd_proto::daemon::Endpoint;

use super::files;
use super::named::{Named, Sight};

/// The file's name in the daemon's directory.
pub const FILE: &str = "daemon.lock";

/// Openings tried when the file is replaced under our hands.
const TRIES: u32 = 5;

/// The town's lock, held. It is given back when this is dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct TownLock {
    _file: File,
    named: Named,
}

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon of this town runs, or the incumbent's.
    #[error("daemon already running (lock held by another process){}", holder.describe())]
    Held {
        /// Who that says to be.
        holder: Holder,
    },
    /// The file cannot be used at all.
    #[error("cannot lock {}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

/// Who says to hold the lock, from files that the holder wrote. For people to read; proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// From `daemon.pid`, else from the endpoint.
    pub pid: Option<i32>,
    /// Where it listens, when it is one of ours.
    pub endpoint: Option<Endpoint>,
}

impl Holder {
    fn describe(&self) -> String {
        match (self.pid, &self.endpoint) {
            (Some(pid), Some(endpoint)) => {
                format!(": gtd {} as pid {pid} by its own account", endpoint.version)
            }
            (Some(pid), None) => format!(": pid {pid} by its pid file"),
            (None, _) => String::new(),
        }
    }
}

impl TownLock {
    /// Takes the lock of a town's `daemon` directory, without waiting; makes directory and file where needed.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it; [`LockError::Io`] when it cannot be tried.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(FILE);
        let io = |why| LockError::Io { path: path.clone(), why };
        fs::create_dir_all(dir).map_err(io)?;
        for _ in 0..TRIES {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&path)
                .map_err(io)?;
            match file.try_lock_exclusive() {
                Ok(()) => {}
                Err(why) if why.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                    return Err(LockError::Held { holder: holder(dir) });
                }
                Err(why) => return Err(io(why)),
            }
            // Somebody may have replaced the file between the opening and the lock: a lock on a file without
            // a name keeps nobody out.
            let named = Named::by(&file.metadata().map_err(io)?, &path);
            match named.look() {
                Sight::InPlace => return Ok(Self { _file: file, named }),
                Sight::Gone | Sight::Replaced => {}
                Sight::Unknown(why) => return Err(io(why)),
            }
        }
        Err(io(io::Error::other("the file is being replaced again and again")))
    }

    /// The locked file, and the name by which others try to lock it.
    #[must_use]
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Locks the file that has the name now, because the locked one has lost it, and keeps the old lock until then.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process was faster: it supervises the town now.
    pub fn renew(&mut self) -> Result<(), LockError> {
        let dir = self.named.path().parent().unwrap_or(Path::new("/"));
        *self = Self::acquire(dir)?;
        Ok(())
    }
}

/// What the files beside the lock say about its holder.
#[must_use]
pub fn holder(dir: &Path) -> Holder {
    let endpoint = files::read_endpoint(dir);
    let pid = files::read_pid(dir).or(endpoint.as_ref().map(|endpoint| endpoint.pid));
    Holder { endpoint: endpoint.filter(|endpoint| Some(endpoint.pid) == pid), pid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A program that another test is just starting holds every open file until its exec.
    fn acquire_soon(dir: &Path) -> TownLock {
        for _ in 0..500 {
            match TownLock::acquire(dir) {
                Err(LockError::Held { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
                other => return other.unwrap(),
            }
        }
        panic!("the lock is not given back");
    }

    #[test]
    fn there_is_one_and_it_says_who() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("daemon");
        let lock = TownLock::acquire(&place).unwrap();
        let error = TownLock::acquire(&place).unwrap_err();
        assert_eq!(error.to_string(), "daemon already running (lock held by another process)");
        fs::write(place.join("daemon.pid"), "4711").unwrap();
        let error = TownLock::acquire(&place).unwrap_err().to_string();
        assert!(error.ends_with(": pid 4711 by its pid file"), "{error}");
        drop(lock);
        assert!(place.join(FILE).exists(), "the file stays");
        // A pid file without a lock is nothing.
        acquire_soon(&place);
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed_and_locked_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = TownLock::acquire(dir.path()).unwrap();
        assert!(matches!(lock.named().look(), Sight::InPlace));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(matches!(lock.named().look(), Sight::Gone));
        fs::write(dir.path().join(FILE), "").unwrap();
        assert!(matches!(lock.named().look(), Sight::Replaced));
        lock.renew().unwrap();
        assert!(matches!(lock.named().look(), Sight::InPlace));
        assert!(matches!(TownLock::acquire(dir.path()), Err(LockError::Held { .. })));
        // Whoever was faster has the town.
        fs::remove_file(dir.path().join(FILE)).unwrap();
        let other = acquire_soon(dir.path());
        assert!(matches!(lock.renew(), Err(LockError::Held { .. })));
        drop(other);
    }

    #[test]
    fn what_cannot_be_locked_is_an_error_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(matches!(TownLock::acquire(dir.path()), Err(LockError::Io { .. })));
    }

    #[test]
    fn children_do_not_inherit_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = TownLock::acquire(dir.path()).unwrap();
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        drop(lock);
        let again = std::panic::catch_unwind(|| acquire_soon(dir.path()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(again.is_ok());
    }
}
