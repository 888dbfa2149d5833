//! The parent of every agent inside its pane: what `gtd-shim` does.
//!
//! Owns one agent's start, the collection and ending of everything below it, and its record. It knows no
//! policy, restarts nothing and opens no socket. It must never signal anything but its own descendants, and
//! must not outlive its terminal.

mod frost;
mod plan;
mod start;
mod tree;
mod watch;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;

use super::id::{BootId, ProcessId};
use super::launch::{self, Launch, VERSION};
use super::record::{self, By, ExecError, Phase, Record, Usage};
use super::spare::Spare;
use crate::clock::Clock;
use tree::Tree;
use watch::Shim;

/// Exit code when nothing could even be tried, as `env` and `nice` use it.
const UNUSABLE: u8 = 125;
/// Exit code when the program is there but cannot be run.
const CANNOT_RUN: u8 = 126;
/// Exit code when the program or directory is not there.
const NOT_FOUND: u8 = 127;

/// Runs the shim with its command line; returns the exit code.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let _ = args.next();
    let (Some(path), None) = (args.next(), args.next()) else {
        eprintln!("usage: gtd-shim LAUNCH_FILE");
        return ExitCode::from(UNUSABLE);
    };
    match supervise(Path::new(&path)) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("gtd-shim: {why}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn supervise(path: &Path) -> Result<u8, String> {
    // First of all, so that no signal finds us unprepared.
    let signals = SigSet::all();
    signals.thread_block().map_err(|errno| format!("cannot block signals: {errno}"))?;
    let launch = launch::take_launch(path).map_err(|error| error.to_string())?;
    let own = ProcessId::own().map_err(|error| format!("cannot tell who I am: {error}"))?;
    let mut record = new_record(&launch, &own);
    if launch.boot_id != own.boot {
        // A pane restored after a reboot: nobody expects this agent any more.
        return Ok(refuse(
            &launch,
            record,
            ExecError { op: "boot_id".into(), errno: Errno::STALE.raw_os_error() },
        ));
    }
    write(&launch, &record);

    let set_up = || -> std::io::Result<(SignalFd, Tree)> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let guard = tree::guard(&own)?;
        Ok((fd, Tree::new(own.clone(), guard, Spare::new(&launch.spare))?))
    };
    let (signal_fd, tree) = match set_up() {
        Ok(made) => made,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            return Ok(refuse(&launch, record, ExecError { op: "fork".into(), errno }));
        }
    };
    let terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let parent = watch::Parent::now();
    record.started_at = Timestamp::now();
    record.began_boot_us = boot_us();
    match start::start(&launch, terminal) {
        Ok(started) => Ok(Shim::new(&launch, record, tree, signal_fd, parent, terminal, started).watch()),
        Err(error) => Ok(refuse(&launch, record, error)),
    }
}

/// The boot clock, microseconds.
fn boot_us() -> Option<u64> {
    u64::try_from(Clock::system().now().boot.as_micros()).ok()
}

fn new_record(launch: &Launch, own: &ProcessId) -> Record {
    Record {
        v: VERSION,
        instance: launch.instance.clone(),
        boot_id: BootId::clone(&own.boot),
        phase: Phase::Launching,
        shim: own.into(),
        agent: None,
        exec_error: None,
        code: None,
        signal: None,
        by: By::Agent,
        started_at: Timestamp::now(),
        ended_at: None,
        began_boot_us: boot_us(),
        ended_boot_us: None,
        usage: Usage::default(),
        survivors: Vec::new(),
        spared: Vec::new(),
        frozen: Vec::new(),
    }
}

/// Records that the agent could not be started and says so in the pane; returns the exit code.
fn refuse(launch: &Launch, mut record: Record, error: ExecError) -> u8 {
    let missing = [Errno::NOENT, Errno::NOTDIR].map(|errno| errno.raw_os_error());
    let code = if missing.contains(&error.errno) { NOT_FOUND } else { CANNOT_RUN };
    let what = match error.op.as_str() {
        "chdir" => format!("go to {}", launch.cwd.display()),
        "boot_id" => "use a launch file of an earlier boot".to_owned(),
        _ => format!("run {}", launch.argv.first().map_or("nothing", String::as_str)),
    };
    eprintln!("gtd-shim: cannot {what}: {}", std::io::Error::from_raw_os_error(error.errno));
    record.phase = Phase::Gone;
    record.agent = None;
    record.code = Some(code.into());
    record.exec_error = Some(error);
    record.ended_at = Some(Timestamp::now());
    record.ended_boot_us = boot_us();
    write(launch, &record);
    code
}

/// Writes the record. Where that fails the agent runs on: the terminal belongs to it, so nothing is printed,
/// and the next phase tries again.
fn write(launch: &Launch, record: &Record) {
    let _ = record::write_record(&launch.record, record);
}
