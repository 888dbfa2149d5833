//! Disks of a test's own size, and limits on what a process may write.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::procs::Process;

/// A small file system in memory, mounted for as long as this lives.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many MiB over a directory, which is made. `Err` says why this machine does not allow it.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(at: &Path, mib: u32) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "gtd-test"]).arg(at);
        let output = command.output().map_err(|error| format!("mount: {error}"))?;
        if !output.status.success() {
            return Err(format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Self(at.to_owned()))
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// When the file cannot be made at all.
    pub fn fill(&self) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("filler"))
            .expect("a name still fits onto a full disk");
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write(&block).is_ok_and(|written| written > 0) {}
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        let _ = std::fs::remove_file(self.0.join("filler"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still uses it keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bounds the size to which a process may make any file grow; `None` lifts the bound.
///
/// # Panics
/// When the system refuses.
pub fn bound_files(process: Process, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_raw(process.pid), Resource::Fsize, limit).expect("a limit may be lowered and lifted");
}
