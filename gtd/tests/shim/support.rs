//! A directory, a launch file and a shim of a test's own, all gone when the test is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gtd::process::launch::{self, Launch, VERSION};
use gtd::process::record::{self, Phase, Record, RecordLook};
use rustix::process::Signal;

use gtd::process::{BootId, Observation, Pid, ProcessId, ProcessTable, facts, identify, observe};

/// Nothing in these tests takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Asks again until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A test's directory, and the instance its processes are marked with.
pub(crate) struct Case {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) launch: Launch,
}

impl Case {
    /// With an agent that runs this shell script; `$D` is the directory.
    pub(crate) fn sh(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub(crate) fn new(argv: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let instance = format!("test-{}-{n}-{:x}", std::process::id(), Instant::now().elapsed().as_nanos());
        let env = [
            ("PATH", std::env::var("PATH").unwrap()),
            ("D", dir.path().display().to_string()),
            (facts::INSTANCE_VARIABLE, instance.clone()),
            (facts::TOWN_VARIABLE, "test".to_owned()),
        ];
        let launch = Launch {
            v: VERSION,
            instance,
            agent: "rig/witness".into(),
            boot_id: BootId::current().unwrap(),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            env_keep: vec!["TERM".into(), "TMUX".into(), "TMUX_PANE".into()],
            cwd: dir.path().to_owned(),
            grace: Duration::from_millis(300),
            oom_score_adj: None,
            record: dir.path().join("record"),
            spare: vec![],
        };
        Self { dir, launch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_launch(&self) -> PathBuf {
        let path = self.path("launch");
        launch::write_launch(&path, &self.launch).unwrap();
        path
    }

    /// An executable file in the directory.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Starts the shim without a terminal.
    pub(crate) fn start(&self) -> Shim<'_> {
        let launch = self.write_launch();
        // In a session of its own, as in a pane; `setsid` becomes the shim, with the same number.
        let child = Command::new("setsid")
            .arg(env!("CARGO_BIN_EXE_gtd-shim"))
            .arg(launch)
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.path("stdout")).unwrap())
            .stderr(fs::File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Shim { case: self, child }
    }

    pub(crate) fn record(&self) -> Option<Record> {
        match record::read_record(&self.launch.record) {
            RecordLook::Found(record) => Some(*record),
            RecordLook::Missing => None,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn record_at(&self, phase: Phase) -> Record {
        until(&format!("the record says {phase:?}"), || self.record().filter(|record| record.phase == phase))
    }

    /// The text of a file, once it has a whole line.
    #[track_caller]
    pub(crate) fn line(&self, name: &str) -> String {
        until(&format!("{name} is written"), || {
            let text = fs::read_to_string(self.path(name)).ok()?;
            text.ends_with('\n').then(|| text.trim_end().to_owned())
        })
    }

    /// The process whose number the agent wrote to a file.
    #[track_caller]
    pub(crate) fn process(&self, name: &str) -> ProcessId {
        let pid = self.line(name).trim().parse().ok().and_then(Pid::new).unwrap();
        match identify(pid) {
            Observation::Alive(id) => id,
            other => panic!("{name}, {pid}, is not alive: {other:?}"),
        }
    }

    /// Everything that carries this test's marker.
    pub(crate) fn marked(&self) -> Vec<ProcessId> {
        let table = ProcessTable::read().unwrap();
        let ours = |id: &ProcessId| match facts::marker(id) {
            Observation::Alive(marker) => marker.instance.as_deref() == Some(&self.launch.instance),
            _ => false,
        };
        table.iter().map(|stat| table.id_of(stat)).filter(ours).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // A shim in a pane still writes its record while its server is going.
        let end = Instant::now() + LIMIT;
        if let RecordLook::Found(record) = record::read_record(&self.launch.record) {
            while observe(&record.shim_id()).is_alive() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
            kill(&record.shim_id());
        }
        // What a failed test left, by identity. Scripts bound their own lives for what has no marker.
        let mut empty = 0;
        while empty < 2 && Instant::now() < end {
            let left = self.marked();
            empty = if left.is_empty() { empty + 1 } else { 0 };
            left.iter().for_each(kill);
        }
    }
}

pub(crate) struct Shim<'a> {
    pub(crate) case: &'a Case,
    pub(crate) child: Child,
}

impl Shim<'_> {
    pub(crate) fn id(&self) -> ProcessId {
        identify(Pid::new(i32::try_from(self.child.id()).unwrap()).unwrap()).alive().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The shim's exit status, within the limit.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the shim exits", || child.try_wait().unwrap())
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> (ExitStatus, Record) {
        let status = self.wait();
        let record = self.case.record().unwrap();
        assert_eq!(record.phase, Phase::Gone);
        (status, record)
    }

    /// The agent, once it runs.
    #[track_caller]
    pub(crate) fn agent(&self) -> ProcessId {
        self.case.record_at(Phase::Running).agent_id().unwrap()
    }
}

impl Drop for Shim<'_> {
    fn drop(&mut self) {
        // Asked first, so that it takes along what carries no marker.
        if let Ok(None) = self.child.try_wait() {
            let _ =
                rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::QUIT);
            let end = Instant::now() + LIMIT;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills one process by identity.
pub(crate) fn kill(id: &ProcessId) {
    signal(id, Signal::KILL);
}

/// Signals one process by identity.
pub(crate) fn signal(id: &ProcessId, signal: Signal) {
    let raw = rustix::process::Pid::from_raw(id.pid.get()).unwrap();
    if let Ok(fd) = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        && observe(id).is_alive()
    {
        let _ = rustix::process::pidfd_send_signal(fd, signal);
    }
}

#[track_caller]
pub(crate) fn assert_dead(id: &ProcessId) {
    until(&format!("{id} is dead"), || observe(id).is_dead().then_some(()));
}

pub(crate) fn state(id: &ProcessId) -> char {
    match observe(id) {
        Observation::Alive(stat) => stat.state,
        _ => 'X',
    }
}

/// A private tmux server; ended with the test.
pub(crate) struct Tmux {
    pub(crate) socket: PathBuf,
}

impl Tmux {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { socket: dir.join("tmux") }
    }

    /// Runs one tmux command; its output.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").env("TERM", "xterm").env("HOME", self.socket.parent().unwrap());
        command.args(["-f", "/dev/null", "-S"]).arg(&self.socket);
        command
    }

    /// A session with the case's shim in it, beside one that keeps the server up; the pane's id.
    #[track_caller]
    pub(crate) fn start(&self, case: &Case) -> String {
        let launch = case.write_launch();
        self.run(&["new-session", "-d", "-s", "keep", "sleep 120"]);
        let shim = env!("CARGO_BIN_EXE_gtd-shim");
        let launch = launch.to_str().unwrap();
        self.run(&["new-session", "-d", "-P", "-F", "#{pane_id}", "--", shim, launch])
    }

    pub(crate) fn server(&self) -> ProcessId {
        let pid = self.run(&["display-message", "-p", "#{pid}"]).parse().ok().and_then(Pid::new).unwrap();
        identify(pid).alive().unwrap()
    }

    pub(crate) fn show(&self, pane: &str, format: &str) -> String {
        self.run(&["display-message", "-p", "-t", pane, format])
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}
