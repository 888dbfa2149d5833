//! Starting the agent below a shim.
//!
//! Owns the checks before and what happens between fork and exec, the one place with `unsafe`. Signal
//! masks and ignored signals outlive exec, so the agent would inherit ours if they were not reset here.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::process::id::Pid;
use crate::process::launch::Launch;
use crate::process::record::ExecError;

/// Where a program without a slash is looked for when the agent has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Size of the kernel's signal set on every architecture but MIPS.
const KERNEL_SIGSET_BYTES: usize = 8;

/// A child that is on its way to becoming the agent.
pub(super) struct Started {
    /// Its number; it stays ours until we collect it.
    pub(super) pid: Pid,
    /// Yields an error number if exec fails, else ends when it has succeeded.
    pub(super) report: OwnedFd,
}

/// Everything exec needs, made before the fork so that the child allocates nothing.
struct Prepared {
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    oom_score_adj: Option<Vec<u8>>,
}

/// Goes to the agent's directory and starts it, in a group of its own that has the terminal (if `terminal`).
pub(super) fn start(launch: &Launch, terminal: bool) -> Result<Started, ExecError> {
    rustix::process::chdir(&launch.cwd).map_err(|errno| failed("chdir", errno))?;
    let prepared = prepare(launch).map_err(|errno| failed("exec", errno))?;
    let (report, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| failed("fork", errno))?;
    let pid = fork_exec(&prepared, terminal, write.as_fd()).map_err(|errno| failed("fork", errno))?;
    Ok(Started { pid, report })
}

fn failed(op: &str, errno: Errno) -> ExecError {
    ExecError { op: op.to_owned(), errno: errno.raw_os_error() }
}

fn prepare(launch: &Launch) -> Result<Prepared, Errno> {
    let environment = environment(launch, |name| std::env::var_os(name));
    let name = launch.argv.first().filter(|name| !name.is_empty()).ok_or(Errno::NOENT)?;
    let path = environment.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    let program = find(name, path, check)?;
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Errno::INVAL);
    Ok(Prepared {
        program: c_string(program.into_os_string().into_vec())?,
        argv: launch.argv.iter().map(|arg| c_string(arg.clone().into_bytes())).collect::<Result<_, _>>()?,
        envp: environment
            .into_iter()
            .map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<_, _>>()?,
        oom_score_adj: launch.oom_score_adj.map(|adj| adj.to_string().into_bytes()),
    })
}

/// The launch file's variables, and of the pane's own those it keeps.
fn environment(launch: &Launch, own: impl Fn(&str) -> Option<OsString>) -> BTreeMap<OsString, OsString> {
    let kept = launch.env_keep.iter().filter_map(|name| Some((name.into(), own(name)?)));
    kept.chain(launch.env.iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Where the program is: a name with a slash as it stands, any other in the directories of `path`, of which
/// an empty one means the working directory. What is found but may not be run is remembered as the answer.
fn find(name: &str, path: &OsStr, check: impl Fn(&Path) -> Result<(), Errno>) -> Result<PathBuf, Errno> {
    if name.contains('/') {
        return check(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let mut answer = Errno::NOENT;
    for dir in std::env::split_paths(path) {
        let candidate = if dir.as_os_str().is_empty() { Path::new(".").join(name) } else { dir.join(name) };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => answer = errno,
        }
    }
    Err(answer)
}

/// Whether this is a file that we may run.
fn check(program: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(program)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS)
}

/// Forks; the child becomes the agent or reports the error of exec and exits.
#[expect(unsafe_code, reason = "fork, and resetting signals between fork and exec, have no safe interface")]
fn fork_exec(prepared: &Prepared, terminal: bool, report: BorrowedFd<'_>) -> Result<Pid, Errno> {
    let shim = rustix::process::getpid();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&prepared.argv), pointers(&prepared.envp));
    let report = report.as_raw_fd();

    // SAFETY: this process has one thread, so no lock is held by another at the fork. Up to exec or _exit the
    // child only makes system calls on values prepared above: it allocates nothing, runs no destructors and
    // returns to nobody. The pointers end with null and point into `prepared`, which outlives the call.
    unsafe {
        match libc::fork() {
            -1 => return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
            0 => {}
            child => return Pid::new(child).ok_or(Errno::SRCH),
        }
        // All signals are still blocked here, so that taking the terminal from the background cannot stop us.
        let _ = rustix::process::setpgid(None, None);
        if terminal {
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        // The shim died before the line above could have noticed.
        if rustix::process::getppid() != Some(shim) {
            libc::_exit(127);
        }
        if let Some(adj) = &prepared.oom_score_adj {
            let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            // Lowering it needs a privilege; without it the agent keeps the pane's.
            libc::write(file, adj.as_ptr().cast(), adj.len());
        }
        // By the bare call: the C library hides two signals, which somebody above us may ignore all the same.
        let default = [0_u64; 8];
        for signal in 1..=64 {
            let nothing = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, KERNEL_SIGSET_BYTES);
        }
        // Whatever else was left open in the pane is not the agent's. Kernels before 5.11 have no such flag.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::execve(prepared.program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(report, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::id::BootId;
    use crate::process::launch::VERSION;
    use std::time::Duration;

    #[test]
    fn the_launch_file_outranks_the_pane() {
        let launch = Launch {
            v: VERSION,
            instance: "i".into(),
            agent: "a".into(),
            boot_id: BootId::new("b"),
            argv: vec![],
            env: BTreeMap::from([("TERM".into(), "dumb".into()), ("A".into(), "1".into())]),
            env_keep: vec!["TERM".into(), "TMUX".into(), "COLORTERM".into()],
            cwd: "/".into(),
            grace: Duration::ZERO,
            oom_score_adj: None,
            record: "/r".into(),
            spare: vec![],
        };
        let made = environment(&launch, |name| (name != "COLORTERM").then(|| format!("own {name}").into()));
        let made: Vec<_> = made.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        assert_eq!(made, ["A=1", "TERM=dumb", "TMUX=own TMUX"]);
    }

    #[test]
    fn programs_are_found_as_a_shell_would() {
        let check = |path: &Path| match path.to_str().unwrap() {
            "/b/x" | "./x" | "rel/x" => Ok(()),
            "/denied/x" => Err(Errno::ACCESS),
            _ => Err(Errno::NOENT),
        };
        let find = |name: &str, path: &str| find(name, OsStr::new(path), check);
        assert_eq!(find("x", "/a:/b").unwrap(), Path::new("/b/x"));
        assert_eq!(find("x", "/denied:/b").unwrap(), Path::new("/b/x"));
        assert_eq!(find("x", "/denied:/a"), Err(Errno::ACCESS));
        assert_eq!(find("x", "/a::").unwrap(), Path::new("./x"));
        assert_eq!(find("rel/x", "/b").unwrap(), Path::new("rel/x"));
        assert_eq!(find("y", "/a:/b"), Err(Errno::NOENT));
    }

    #[test]
    fn a_directory_may_not_be_run() {
        assert_eq!(check(Path::new("/")), Err(Errno::ACCESS));
        assert_eq!(check(Path::new("/no/such/file")), Err(Errno::NOENT));
        assert_eq!(check(Path::new("/dev/null/x")), Err(Errno::NOTDIR));
        assert_eq!(check(Path::new("/bin/sh")), Ok(()));
    }
}
