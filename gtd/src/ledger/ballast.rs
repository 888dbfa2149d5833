//! Room kept for a bad day: a file of a fixed size that is given up when the disk is full, so that what must be
//! written down still can be, and made anew when there is room again.
//!
//! Owns `gtd.ballast`, and no other file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The file's name in the daemon's directory.
pub const FILE: &str = "gtd.ballast";
/// Its size. A stop writes some 20 KiB of log; this is room for several hundred of them, and for a last snapshot.
pub const BYTES: u64 = 16 << 20;
/// So much must be left beside it when it is made.
const LEFT: u64 = 16 << 20;
/// A disk with less than this is full, whatever an error says.
const FULL: u64 = 1 << 20;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is there.
    There,
    /// The disk has no room for it, which is bad enough.
    NoRoom(String),
    /// Something else is in its way.
    Failed(String),
}

/// The file, or its absence.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    held: bool,
}

impl Ballast {
    pub(super) fn new(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let held = length(&path) == BYTES;
        Self { path, held }
    }

    /// Makes it when there is room.
    pub(super) fn make(&mut self) -> Made {
        if self.held {
            return Made::There;
        }
        let have = length(&self.path);
        let free = match free(&self.path) {
            Ok(free) => free,
            Err(why) => return Made::Failed(format!("the room on the disk cannot be told: {why}")),
        };
        if free.saturating_add(have) < BYTES + LEFT {
            return Made::NoRoom(format!("it has {} MiB left", free >> 20));
        }
        match fill(&self.path) {
            Ok(()) => {
                self.held = true;
                Made::There
            }
            Err(why) => {
                let _ = fs::remove_file(&self.path);
                let told = format!("{} cannot be made: {why}", self.path.display());
                match why.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Made::NoRoom(told),
                    _ => Made::Failed(told),
                }
            }
        }
    }

    /// Gives it up. False when there was nothing to give up.
    pub(super) fn release(&mut self) -> bool {
        self.held = false;
        if length(&self.path) == 0 {
            return false;
        }
        // Emptied first: some file systems need room to take a name away.
        let emptied = OpenOptions::new().write(true).truncate(true).open(&self.path);
        let removed = fs::remove_file(&self.path);
        emptied.is_ok() || removed.is_ok()
    }
}

/// Gives up the ballast of a directory whose disk has no room left, before there is anybody to hold it.
pub(super) fn release_if_full(dir: &Path) -> bool {
    let mut ballast = Ballast::new(dir);
    free(&ballast.path).is_ok_and(|free| free < FULL) && ballast.release()
}

fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |found| found.len())
}

/// Bytes that we may still write on a file's disk.
fn free(path: &Path) -> io::Result<u64> {
    let dir = path.parent().unwrap_or(path);
    let found = statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if fallocate(&file, FallocateFlags::empty(), 0, BYTES).is_err() {
        written(&mut file)?;
    }
    file.sync_all()
}

/// Where room cannot be reserved it is taken, with bytes that no file system can make smaller.
fn written(file: &mut File) -> io::Result<()> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut block = Vec::with_capacity(1 << 16);
    for _ in 0..BYTES >> 16 {
        block.clear();
        while block.len() < 1 << 16 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_given_up_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::new(dir.path());
        assert!(!ballast.held && !ballast.release());
        assert_eq!(ballast.make(), Made::There);
        assert_eq!((ballast.held, length(&dir.path().join(FILE))), (true, BYTES));
        // The next daemon finds it.
        assert!(Ballast::new(dir.path()).held);
        assert!(ballast.release() && !ballast.held);
        assert!(!dir.path().join(FILE).exists());
        assert_eq!(ballast.make(), Made::There);
        assert!(!release_if_full(dir.path()), "there is room");
    }

    #[test]
    fn half_of_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), [0; 1_000]).unwrap();
        let mut ballast = Ballast::new(dir.path());
        assert!(!ballast.held);
        assert_eq!(ballast.make(), Made::There);
        assert_eq!(length(&dir.path().join(FILE)), BYTES);
    }

    #[test]
    fn what_is_in_its_way_is_no_want_of_room() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let mut ballast = Ballast::new(dir.path());
        assert!(matches!(ballast.make(), Made::Failed(_)));
        assert!(!ballast.release());
    }

    #[test]
    fn what_is_written_has_its_size() {
        let mut file = tempfile::tempfile().unwrap();
        written(&mut file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), BYTES);
    }
}
