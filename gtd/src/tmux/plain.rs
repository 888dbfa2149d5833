//! `tmux` processes.
//!
//! Owns starting them: a scrubbed environment, `/` as directory, a process group of their own, a deadline, and
//! the kill of the whole group when it is over. It must never start a server by accident (`-N`) and never leave
//! a process behind.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::config::{DriverConfig, scrubbed};
use super::error::TmuxError;
use super::version::Version;
use crate::host::leash::Leashed;
use crate::host::unit::Launcher;

/// Most output taken from one process: as a block of a control connection.
const MAX_OUTPUT: u64 = 16 << 20;
/// Most of its error text: it is one line.
const MAX_ERROR: u64 = 16 << 10;
/// How many processes may run at once; the others wait, within their deadline. tmux serves one after the other
/// anyway, and a hundred stuck ones help nobody.
const AT_ONCE: usize = 8;

/// Runs `tmux`.
#[derive(Debug)]
pub(super) struct Runner {
    program: PathBuf,
    socket: PathBuf,
    env: Vec<(OsString, OsString)>,
    forks: AtomicU64,
    gate: Semaphore,
    barred: Option<(String, String)>,
}

/// What a process that ran to its end left.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) ok: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Runner {
    pub(super) fn new(config: &DriverConfig, socket: &Path) -> Self {
        Self {
            program: config.tmux.clone(),
            socket: socket.to_path_buf(),
            env: scrubbed(std::env::vars_os()),
            forks: AtomicU64::new(0),
            gate: Semaphore::new(AT_ONCE),
            barred: config.barred.clone(),
        }
    }

    /// The socket it connects to.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many processes were started so far.
    pub(super) fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    /// Asks the program for its version: the first question of all, and the only one where tmux is not to be used.
    pub(super) async fn version(&self, deadline: Duration) -> Result<Version, TmuxError> {
        if let Some((why, hint)) = self.barred.clone() {
            return Err(TmuxError::Unavailable { why, hint });
        }
        let mut command = self.command(&[]);
        command.arg("-V");
        let finished = self.finish(command, &[], "tmux -V", deadline).await?;
        let text = String::from_utf8_lossy(&finished.stdout);
        let said = text.lines().next().unwrap_or_default();
        match Version::parse(said) {
            _ if !finished.ok => Err(TmuxError::unavailable(format!(
                "`{} -V` failed: {}",
                self.program.display(),
                String::from_utf8_lossy(&finished.stderr).trim()
            ))),
            Some(version) if version.is_supported() => Ok(version),
            Some(version) => Err(TmuxError::unavailable(format!(
                "{} is version {version}, which is too old",
                self.program.display()
            ))),
            None => Err(TmuxError::unavailable(format!(
                "{} says {said:?}, which is no version of tmux",
                self.program.display()
            ))),
        }
    }

    /// Runs commands on the server that is there; starts none. The error says when tmux could not be run or did
    /// not end in time; whether the commands succeeded is in the answer.
    pub(super) async fn run(
        &self,
        args: &[OsString],
        what: &str,
        deadline: Duration,
    ) -> Result<Finished, TmuxError> {
        let mut command = self.command(&[]);
        command.args(["-u", "-N", "-S"]).arg(&self.socket).args(args);
        self.finish(command, &[], what, deadline).await
    }

    /// As [`Self::run`], with something on its standard input.
    pub(super) async fn run_fed(
        &self,
        args: &[OsString],
        input: &[u8],
        what: &str,
        deadline: Duration,
    ) -> Result<Finished, TmuxError> {
        let mut command = self.command(&[]);
        command.args(["-u", "-N", "-S"]).arg(&self.socket).args(args).stdin(Stdio::piped());
        self.finish(command, input, what, deadline).await
    }

    /// Runs commands and lets them start a server.
    pub(super) async fn start(
        &self,
        launcher: Option<&Launcher>,
        config: Option<&Path>,
        args: &[OsString],
        deadline: Duration,
    ) -> Result<Finished, TmuxError> {
        let words = launcher.map(Launcher::words).unwrap_or_default();
        let mut command = self.command(&words);
        command.args(["-u", "-S"]).arg(&self.socket);
        if let Some(config) = config {
            command.arg("-f").arg(config);
        }
        command.args(args);
        self.finish(command, &[], "starting a tmux server", deadline).await
    }

    /// Starts a control client attached to a session, with pipes for input and output.
    pub(super) fn control(&self, target: &str) -> Result<Leashed, TmuxError> {
        let mut command = self.command(&[]);
        command.args(["-u", "-N", "-S"]).arg(&self.socket);
        // Others are not resized by us, and we do not want to hear what panes print.
        command.args(["-C", "attach-session", "-t", target, "-f", "ignore-size,no-output"]);
        command.stdin(Stdio::piped());
        self.spawn(command)
    }

    fn command(&self, launcher: &[OsString]) -> Command {
        let mut words = launcher.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(OsStr::new("tmux")));
        command.args(words);
        command
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self, mut command: Command) -> Result<Leashed, TmuxError> {
        self.forks.fetch_add(1, Ordering::Relaxed);
        Leashed::spawn(&mut command).map_err(|error| {
            let program = command.as_std().get_program().display();
            match error.kind() {
                io::ErrorKind::NotFound => TmuxError::unavailable(format!("there is no program {program}")),
                io::ErrorKind::PermissionDenied => {
                    TmuxError::unavailable(format!("{program} may not be executed"))
                }
                // Out of processes, memory or files: that is no fault of tmux and passes.
                _ => TmuxError::Refused(format!("{program} could not be started: {error}")),
            }
        })
    }

    /// Runs to the end or to the deadline, which includes waiting for a turn.
    async fn finish(
        &self,
        command: Command,
        input: &[u8],
        what: &str,
        deadline: Duration,
    ) -> Result<Finished, TmuxError> {
        let late = || TmuxError::Unresponsive { after: deadline, what: what.to_owned() };
        let end = tokio::time::Instant::now() + deadline;
        let turn = tokio::time::timeout_at(end, self.gate.acquire()).await.map_err(|_| late())?;
        let mut child = self.spawn(command)?;
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let ended = tokio::time::timeout_at(end, async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // One that does not want it says why, or ends badly.
                    let _ = stdin.write_all(input).await;
                }
            };
            let (stdout, stderr, ()) = tokio::join!(read(stdout, MAX_OUTPUT), read(stderr, MAX_ERROR), feed);
            let status = child.0.wait().await?;
            io::Result::Ok(Finished { ok: status.success(), stdout: stdout?, stderr: stderr? })
        })
        .await;
        let result = match ended {
            Ok(Ok(finished)) => Ok(finished),
            Ok(Err(error)) => Err(TmuxError::Junk(format!("{what}: {error}"))),
            Err(_) => Err(late()),
        };
        if result.is_err() {
            child.kill().await;
        }
        drop(turn);
        result
    }
}

impl Finished {
    /// The output, or what tmux said was wrong.
    pub(super) fn into_result(self, socket: &Path) -> Result<Vec<u8>, TmuxError> {
        if self.ok { Ok(self.stdout) } else { Err(TmuxError::from_message(&self.stderr, socket)) }
    }
}

/// Reads to the end; more than `most` bytes are an error.
async fn read(source: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        let read = source.take(most + 1).read_to_end(&mut bytes).await?;
        if u64::try_from(read).unwrap_or(u64::MAX) > most {
            return Err(io::Error::other(format!("more than {most} bytes of output")));
        }
    }
    Ok(bytes)
}
