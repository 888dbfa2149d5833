//! A real service manager of a test's own: `systemd --user` with its own home, runtime directory and control group.
//!
//! It must never reach the machine's managers, nor move a process that is not its own: without a group of its own a
//! manager takes every process of the group it is started in along.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::procs::Process;
use crate::run::{Output, run};
use crate::wait::{CHANGE, START, wait_for, wait_until};
use crate::{Town, programs, reaper};

/// A `PATH` as bare as those that service managers have.
pub const BARE: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// All that systemd looks for to believe that it is at home (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// In it, that tests have made it.
const MADE: &str = "/run/systemd/system/.made-by-gtd-tests";

/// How long a call of systemctl may take.
const CALL: Duration = Duration::from_secs(60);

/// A running manager. Dropping it ends it with all of its units, and leaves nothing behind.
pub struct UserManager {
    child: Child,
    home: PathBuf,
    runtime: PathBuf,
    groups: Vec<PathBuf>,
    /// Dropped after all the rest.
    _booted: Booted,
}

impl UserManager {
    /// Starts one for a home directory. `Err` says what the machine lacks.
    ///
    /// # Errors
    /// When there is no systemd, or it cannot run here.
    ///
    /// # Panics
    /// When it should run here and does not come up.
    pub fn start(home: &Path) -> Result<Self, String> {
        let program = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"].map(Path::new);
        let program = program.into_iter().find(|file| file.is_file()).ok_or("there is no systemd")?;
        for name in ["systemctl", "systemd-run", "systemd-analyze", "systemd-socket-activate"] {
            programs::system(name).ok_or(format!("there is no {name}"))?;
        }
        let booted = Booted::make()?;
        // Only in memory does it behave as on a person's machine.
        let runtime = tempfile::Builder::new().prefix("gtx").rand_bytes(8).tempdir_in("/dev/shm");
        let runtime = runtime.map_err(|error| format!("/dev/shm: {error}"))?.keep();
        reaper::born(&runtime);
        let name = runtime.file_name().expect("it has a name").to_owned();
        let groups: Vec<PathBuf> = hierarchies().into_iter().map(|dir| dir.join(&name)).collect();
        let manager = groups.iter().try_for_each(std::fs::create_dir);
        if let Err(error) = manager {
            clean(&runtime, &groups);
            return Err(format!("no control group can be made: {error}"));
        }
        let log = File::create(home.join("manager.log")).expect("a file in the home directory");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-ec", "program=$1; shift; for d; do echo $$ >$d/cgroup.procs; done; exec $program --user --log-target=console", "sh"])
            .arg(program)
            .args(&groups)
            .env_clear()
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("PATH", BARE)
            .env("LANG", "C.UTF-8")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                clean(&runtime, &groups);
                return Err(error.to_string());
            }
        };
        let mut manager = Self { child, home: home.to_owned(), runtime, groups, _booted: booted };
        let mut ended = false;
        wait_until(START, || {
            ended = manager.child.try_wait().ok().flatten().is_some();
            ended || matches!(manager.systemctl(&["is-system-running"]).out.trim(), "running" | "degraded")
        });
        if ended {
            return Err(format!("systemd does not run here: {}", manager.log()));
        }
        let state = manager.systemctl(&["is-system-running"]);
        assert_eq!(state.out.trim(), "running", "{state:?} {}", manager.log());
        Ok(manager)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("manager.log")).unwrap_or_default()
    }

    /// Its `XDG_RUNTIME_DIR`.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The directory of the user's units.
    pub fn units(&self) -> PathBuf {
        self.home.join(".config/systemd/user")
    }

    /// The surroundings of whoever uses this manager.
    #[must_use]
    pub fn around(&self, town: Town) -> Town {
        let text = |path: &Path| path.to_str().expect("paths of tests are text").to_owned();
        town.with_env("XDG_RUNTIME_DIR", &text(&self.runtime)).with_env("HOME", &text(&self.home))
    }

    /// A program in the same surroundings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = programs::bare(program, &self.home);
        command.env("XDG_RUNTIME_DIR", &self.runtime).env("SYSTEMD_COLORS", "0");
        command
    }

    /// `systemctl --user …`
    #[track_caller]
    pub fn systemctl(&self, args: &[&str]) -> Output {
        let mut command = self.command("systemctl");
        command.arg("--user").args(args);
        run(command, CALL)
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.systemctl(&["show", "-p", name, "--value", unit]).ok().out.trim().to_owned()
    }

    /// Waits until a property has a value.
    #[track_caller]
    pub fn wait_property(&self, unit: &str, name: &str, value: &str) {
        let what = format!("{name}={value} of {unit}");
        wait_for(START, &what, || (self.property(unit, name) == value).then_some(()));
    }

    /// The main process of a unit.
    pub fn main_process(&self, unit: &str) -> Option<Process> {
        self.property(unit, "MainPID").parse().ok().filter(|pid| *pid > 0).and_then(Process::of)
    }

    /// Settings of a test's own for every instance of gtd.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn settings(&self, text: &str) {
        let dir = self.units().join("gtd@.service.d");
        std::fs::create_dir_all(&dir).expect("make a directory");
        std::fs::write(dir.join("test.conf"), text).expect("write a file");
        self.systemctl(&["daemon-reload"]).ok();
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- systemd\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        let mut command = self.command("systemctl");
        let _ = command.args(["--user", "exit"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !wait_until(CHANGE, || self.child.try_wait().ok().flatten().is_some()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        clean(&self.runtime, &self.groups);
    }
}

/// Ends what is left of a manager, by its runtime directory's random name, and removes its directories.
fn clean(runtime: &Path, groups: &[PathBuf]) {
    let survivors = crate::procs::end_marked(&runtime.display().to_string());
    let _ = std::fs::remove_dir_all(runtime);
    let name = runtime.file_name().unwrap_or_default();
    // The manager makes groups in every hierarchy that it finds.
    let all = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join(name));
    for group in groups.iter().cloned().chain(all) {
        wait_until(CHANGE, || {
            remove_groups(&group);
            !group.exists()
        });
    }
    reaper::gone(runtime);
    if !std::thread::panicking() {
        assert!(survivors.is_empty(), "processes that cannot be ended: {survivors:?}");
    }
}

/// Removes a control group with those in it; one that holds a process stays.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Where systemd keeps units: its own hierarchy and the unified one, or that alone.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let named: Vec<PathBuf> =
        ["systemd", "unified"].map(|name| root.join(name)).into_iter().filter(|dir| dir.is_dir()).collect();
    if named.is_empty() { vec![root.to_owned()] } else { named }
}

/// The directory by which systemd knows that it may run. Where tests have to make it they share it: the last one
/// removes it.
struct Booted(File);

impl Booted {
    fn make() -> Result<Self, String> {
        let held = File::open("/run").map_err(|error| format!("/run: {error}"))?;
        // Nobody removes it while we look.
        flock(&held, FlockOperation::LockShared)
            .map_err(|error| format!("/run cannot be locked: {error}"))?;
        if !Path::new(BOOTED).is_dir() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(BOOTED);
            made.and_then(|()| std::fs::write(MADE, ""))
                .map_err(|error| format!("PID 1 is not systemd, and {BOOTED} cannot be made: {error}"))?;
        }
        Ok(Self(held))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Whoever lets go last finds it free; two that find it held by each other would both leave it.
        let _ = flock(&self.0, FlockOperation::Unlock);
        if flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok() && Path::new(MADE).exists() {
            let _ = std::fs::remove_file(MADE);
            let _ = std::fs::remove_dir(BOOTED);
        }
    }
}
