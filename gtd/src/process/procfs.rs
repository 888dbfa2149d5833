//! Reading `/proc`. Linux only.
//!
//! Owns the raw reads. It must never turn a failed read into an answer: errors go up as they are.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::id::Pid;
use super::stat::Stat;

/// A stat line is below 1.2 KiB: 52 numbers of at most 20 digits, and a name of at most 64 bytes.
const STAT_BYTES: usize = 4096;

/// Most that is read of an environment: the kernel allows `execve` 6 MiB of arguments and environment.
const ENVIRON_BYTES: u64 = 8 << 20;

/// Environments are read in steps of so much; few have more.
const ENVIRON_STEP: usize = 32 << 10;

/// `/proc`, opened once and read through one buffer.
pub(crate) struct Proc {
    dir: OwnedFd,
    path: String,
    buffer: Vec<u8>,
}

impl Proc {
    /// Opens `/proc`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc", flags, Mode::empty())?;
        Ok(Self { dir, path: String::with_capacity(32), buffer: vec![0; STAT_BYTES] })
    }

    /// Every process above 1 that `/proc` lists at this moment, without threads.
    pub(crate) fn pids(&self) -> io::Result<Vec<Pid>> {
        let mut pids = Vec::with_capacity(256);
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let name = entry?;
            let number = name.file_name().to_str().ok().and_then(|s| s.parse().ok());
            if let Some(pid) = number.and_then(Pid::new) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// The stat line of one process.
    pub(crate) fn stat(&mut self, pid: Pid) -> io::Result<Stat> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, self.path.as_str(), flags, Mode::empty())?;
        let mut used = 0;
        while let Some(space) = self.buffer.get_mut(used..).filter(|space| !space.is_empty()) {
            match rustix::io::read(&file, space) {
                Ok(0) => break,
                Ok(n) => used += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let line = self.buffer.get(..used).unwrap_or_default();
        if line.is_empty() {
            return Err(Errno::SRCH.into());
        }
        Stat::parse(line)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {error}")))
    }
}

impl Proc {
    /// The environment a process was started with, as it stands in memory; into a buffer that is used again, in
    /// which the first so many bytes are it.
    pub(crate) fn environ(&mut self, pid: Pid, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/environ");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, self.path.as_str(), flags, Mode::empty())?;
        let mut used = 0;
        loop {
            if buffer.len() - used < ENVIRON_STEP {
                buffer.resize(used + 2 * ENVIRON_STEP, 0);
            }
            let Some(space) = buffer.get_mut(used..) else { return Ok(used) };
            let room = space.len();
            match rustix::io::read(&file, space) {
                Ok(n) => {
                    used += n;
                    // The kernel fills what it is given as far as there is anything.
                    if n < room {
                        return Ok(used);
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if u64::try_from(used).is_ok_and(|used| used >= ENVIRON_BYTES) {
                return Err(io::Error::other(format!("the environment of process {pid} is too large")));
            }
        }
    }
}

/// The stat line of one process.
pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    Proc::open()?.stat(pid)
}

/// True for the errors with which `/proc/PID` answers when the process is no longer there.
pub(crate) fn is_vanished(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Whether the kernel knows a process or thread of this number; `None` when it will not say.
pub(crate) fn exists(pid: Pid) -> Option<bool> {
    match rustix::process::test_kill_process(pid.rustix()?) {
        Ok(()) | Err(Errno::PERM) => Some(true),
        Err(Errno::SRCH) => Some(false),
        Err(_) => None,
    }
}

/// The environment a process was started with, as `NAME=value` pieces. It may have overwritten it since.
pub(crate) fn environ(pid: Pid) -> io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(format!("/proc/{pid}/environ"))?.take(ENVIRON_BYTES).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read >= ENVIRON_BYTES) {
        return Err(io::Error::other(format!("the environment of process {pid} is too large")));
    }
    Ok(bytes.split(|b| *b == 0).filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The words a process was started with. It may have overwritten them since.
pub(crate) fn arguments(pid: Pid) -> io::Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/cmdline"))?.take(ENVIRON_BYTES).read_to_end(&mut bytes)?;
    let words = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let words = words.split(|b| *b == 0).filter(|_| !words.is_empty());
    Ok(words.map(|word| PathBuf::from(OsStr::from_bytes(word))).collect())
}

/// What a link such as `cwd` or `exe` of a process points to; ` (deleted)` is the kernel's suffix.
pub(crate) fn link(pid: Pid, name: &str) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/{name}"))
}

/// Lines of `/proc/PID/cgroup`.
pub(crate) fn cgroup(pid: Pid) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
}

/// Where the unified hierarchy is mounted: alone, or beside the old ones.
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Cgroups below one another are followed up to this number.
const MOST_CGROUPS: usize = 1024;

/// Members of a cgroup of the unified hierarchy and of those below it; `None` when it does not exist.
pub(crate) fn cgroup_procs(path: &str) -> io::Result<Option<Vec<Pid>>> {
    let below = Path::new(path.trim_start_matches('/'));
    if !below.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain path"));
    }
    let root = CGROUP_ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.procs").exists());
    let Some(top) = root.map(|root| root.join(below)) else { return Ok(None) };
    let mut found = Vec::new();
    let mut todo = vec![top.clone()];
    let mut looked = 0;
    while let Some(dir) = todo.pop() {
        looked += 1;
        if looked > MOST_CGROUPS {
            return Err(io::Error::other(format!("more than {MOST_CGROUPS} cgroups")));
        }
        let read = std::fs::read_to_string(dir.join("cgroup.procs"));
        match read {
            Ok(text) => found.extend(text.lines().filter_map(|n| n.parse().ok()).filter_map(Pid::new)),
            Err(error) if is_vanished(&error) && dir == top => return Ok(None),
            Err(error) if is_vanished(&error) => continue,
            Err(error) => return Err(error),
        }
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(Some(found))
}

/// Children of all threads of a process. May miss one that appears or ends meanwhile: look again.
pub(crate) fn children(pid: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        match std::fs::read_to_string(task?.path().join("children")) {
            Ok(text) => found
                .extend(text.split_ascii_whitespace().filter_map(|n| n.parse().ok()).filter_map(Pid::new)),
            // The thread ended; a kernel without these files is noticed by `has_children_files`.
            Err(error) if is_vanished(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// State letters of all threads of a process.
pub(crate) fn thread_states(pid: Pid) -> io::Result<Vec<char>> {
    let mut states = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        match std::fs::read(task?.path().join("stat")) {
            // The name may hold anything, a closing bracket included.
            Ok(line) => states.extend(
                line.iter().rposition(|b| *b == b')').and_then(|at| line.get(at + 2)).map(|b| char::from(*b)),
            ),
            Err(error) if is_vanished(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

/// Whether a SIGSTOP waits for a process until it leaves the kernel.
pub(crate) fn stop_is_pending(pid: Pid) -> io::Result<bool> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let stop = 1_u64 << (rustix::process::Signal::STOP.as_raw() - 1);
    let pending = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    Ok((pending("SigPnd:") | pending("ShdPnd:")) & stop != 0)
}

/// Whether this kernel lists children per thread (`CONFIG_PROC_CHILDREN`).
pub(crate) fn has_children_files() -> bool {
    std::fs::exists("/proc/thread-self/children").unwrap_or(false)
}

/// Whether a process holds a lock through an open file of this name.
pub(crate) fn holds_lock_on(pid: Pid, file_name: &str) -> io::Result<bool> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let fd = entry?.file_name();
        let Some(fd) = fd.to_str() else { continue };
        let Ok(target) = link(pid, &format!("fd/{fd}")) else { continue };
        // The lock is held also when somebody removed the file's name.
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_suffix(" (deleted)").unwrap_or(&name) == file_name {
            let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
            if info.lines().any(|line| line.starts_with("lock:")) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Paths of a process's open files that have this name.
pub(crate) fn opened(pid: Pid, file_name: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        if target.file_name().is_some_and(|name| name == file_name) && !found.contains(&target) {
            found.push(target);
        }
    }
    Ok(found)
}

/// The file name of a process's program, without the kernel's mark for a replaced file.
pub(crate) fn program(pid: Pid) -> io::Result<String> {
    let path = link(pid, "exe")?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(name.strip_suffix(" (deleted)").map(str::to_owned).unwrap_or(name))
}
