//! How short the machine is of memory and disk, and how large we are. Only looks.

use std::path::Path;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// One look. A figure that cannot be had is `None`: not known is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// The daemon's resident memory, in bytes.
    pub rss: Option<u64>,
    /// Memory that can be had without swapping, in bytes; within the container's limit, where there is one.
    pub free_memory: Option<u64>,
    /// Space of the town's disk that its user may fill, in bytes.
    pub free_disk: Option<u64>,
}

/// Looks again and again, without building everything anew.
#[derive(Debug)]
pub struct Sampler {
    /// `None` on a system that sysinfo does not know.
    system: Option<System>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// Has not looked yet.
    #[must_use]
    pub fn new() -> Self {
        Self { system: System::new().ok() }
    }

    /// Looks. Reads a few files of `/proc`, and asks the file system of `disk`: that can hang when the disk
    /// does, so it is to be called off the runtime and with a deadline.
    pub fn look(&mut self, disk: &Path) -> Resources {
        Resources { rss: self.rss(), free_memory: self.free_memory(), free_disk: free_disk(disk) }
    }

    fn rss(&mut self) -> Option<u64> {
        let pid = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
        let system = self.system.as_mut()?;
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        system.process(pid).map(sysinfo::Process::memory).filter(|rss| *rss > 0)
    }

    /// Memory that can be had without swapping, in bytes.
    pub fn free_memory(&mut self) -> Option<u64> {
        let system = self.system.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        if system.total_memory() == 0 {
            return None;
        }
        let machine = system.available_memory();
        Some(system.cgroup_limits().map_or(machine, |limits| machine.min(limits.free_memory)))
    }
}

/// Space that the town's user may fill on the disk of a path, in bytes. Can hang when the disk does.
// Not through the list of all mounts: asking those would also ask a dead network disk.
pub fn free_disk(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plausible_and_a_missing_disk_is_not_a_full_one() {
        let mut sampler = Sampler::new();
        let dir = tempfile::tempdir().unwrap();
        let first = sampler.look(dir.path());
        assert!(first.rss.is_some_and(|rss| (1 << 20..1 << 34).contains(&rss)), "{first:?}");
        assert!(first.free_memory.is_some_and(|free| free > 0), "{first:?}");
        assert!(first.free_disk.is_some_and(|free| free > 0), "{first:?}");
        assert!(sampler.look(dir.path()).rss.is_some());
        assert_eq!(sampler.look(&dir.path().join("no")).free_disk, None);
    }
}
