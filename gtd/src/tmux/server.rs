//! Which server is there.
//!
//! Owns a server's identity, the look at its socket, and the two questions and one signal that settle what to do
//! about it. It must never take "cannot connect" for "gone": only the process table says that.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::config::{DriverConfig, HOLDER_COMMAND, config_text};
use super::elsewhere::listens_elsewhere;
use super::error::TmuxError;
use super::facts::Facts;
use super::listing::HOLDER_OPTION;
use super::plain::Runner;
use super::quote::{CommandList, exact, literal};
use crate::host::unit::Launcher;
use crate::process::observe::{identify, observe};
use crate::process::{Guard, Observation, Pid, ProcessId, Proof, Signal, Target, send};

/// A tmux server: where it listens and which process it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerId {
    /// Its socket.
    pub socket: PathBuf,
    /// Its process: boot, pid and start time.
    pub process: ProcessId,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.socket.display(), self.process.pid)
    }
}

/// A server that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: ServerId,
    /// Its own idea of when it started, seconds since 1970. With the pid it is what commands compare with.
    pub(super) start_time: u64,
}

/// What a connection to the socket met.
#[derive(Debug)]
pub(super) enum Door {
    /// Somebody listens.
    Answers,
    /// Nobody listens: there is no socket, or it is left over.
    Nobody,
    /// It could not be told.
    Unclear(io::Error),
}

/// The format in which a server introduces itself; read by [`introduction`].
const INTRODUCTION: &str = "#{pid} #{start_time}";
/// How long a server that is ending may take from removing its socket to its death, before the socket is taken
/// for stolen. Measured: a few ms with hundreds of sessions.
const ENDING: Duration = Duration::from_millis(300);
/// How long a server may take to make its socket anew.
const RESTORING: Duration = Duration::from_secs(2);
/// Steps in which these two are waited for.
const STEP: Duration = Duration::from_millis(10);

/// Connects and hangs up.
pub(super) async fn knock(socket: &Path, deadline: Duration) -> Door {
    match tokio::time::timeout(deadline, UnixStream::connect(socket)).await {
        // A full queue of waiting clients: somebody listens, though not now.
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Door::Answers,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Door::Nobody,
            // It died between our knock and its answer; the next knock will tell.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Door::Answers,
            _ => Door::Unclear(error),
        },
        Ok(Ok(_)) | Err(_) => Door::Answers,
    }
}

/// Asks the server that answers who it is. The answer is checked against the process table.
pub(super) async fn introduce(runner: &Runner, deadline: Duration) -> Result<Known, TmuxError> {
    if let Some(why) = listens_elsewhere(runner.socket()).await {
        return Err(TmuxError::Refused(why));
    }
    let list = CommandList::new(["display-message", "-p", INTRODUCTION]);
    let finished = runner.run(&list.argv()?, "asking the server who it is", deadline).await?;
    introduction(&finished.into_result(runner.socket())?, runner.socket())
}

/// Reads pid and start time and proves the process.
fn introduction(answer: &[u8], socket: &Path) -> Result<Known, TmuxError> {
    let line = answer.strip_suffix(b"\n").unwrap_or(answer);
    let mut facts = Facts::new(line)?;
    let (pid, start_time) = (facts.next::<i32>("pid")?, facts.next("start time")?);
    facts.end()?;
    let pid = Pid::new(pid).ok_or_else(|| TmuxError::Junk(format!("a server with the pid {pid}")))?;
    match identify(pid) {
        Observation::Alive(process) => {
            Ok(Known { id: ServerId { socket: socket.to_path_buf(), process }, start_time })
        }
        Observation::Dead(_) | Observation::Absent => Err(TmuxError::NoServer {
            socket: socket.to_path_buf(),
            why: format!("process {pid}, which just answered, is gone"),
        }),
        Observation::Unknown(why) => {
            Err(TmuxError::Refused(format!("the server cannot be identified: {why}")))
        }
    }
}

/// The commands that make our holder session. The server introduces itself in the answer.
pub(super) fn holder_commands(config: &DriverConfig, holder: &str) -> CommandList {
    let (columns, rows) = (config.size.0.to_string(), config.size.1.to_string());
    let (name, target) = (literal(holder), exact(holder));
    let create = ["new-session", "-d", "-s", &name, "-n", "gtd", "-x", &columns, "-y", &rows, "-c", "/"];
    let words = create.into_iter().chain(["-P", "-F", INTRODUCTION, "--"]).chain(HOLDER_COMMAND);
    CommandList::new(words)
        // Should the command be ended by somebody's Ctrl-C, the session stays all the same.
        .then(["set-option", "-p", "-t", &target, "remain-on-exit", "on"])
        .then(["set-option", "-t", &target, HOLDER_OPTION, &config.town_id])
}

/// A server that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) known: Known,
    /// Why none of the launchers worked, where it had to be started without.
    pub(super) not_launched: Option<String>,
}

/// Starts a server. Only to be called when it is proven that none lives.
pub(super) async fn start(
    config: &DriverConfig,
    runner: &Runner,
    holder: &str,
) -> Result<Started, TmuxError> {
    let file = config.config_file.clone();
    let config_file = if config.server.is_private() {
        write_config(&file, &config_text(config.size))
            .map_err(|e| TmuxError::Refused(format!("cannot write {}: {e}", file.display())))?;
        Some(file.as_path())
    } else {
        make_socket_directory(runner.socket());
        None
    };
    let args = holder_commands(config, holder).argv()?;
    let deadline = config.command_timeout;
    let attempt = async |launcher: Option<&Launcher>| {
        let finished = runner.start(launcher, config_file, &args, deadline).await?;
        introduction(&finished.into_result(runner.socket())?, runner.socket())
    };
    let mut not_launched = None;
    for launcher in &config.launchers {
        let error = match attempt(Some(launcher)).await {
            Ok(known) => return Ok(Started { known, not_launched: None }),
            Err(error) => error,
        };
        // Whoever listens now may be the very server, or somebody else's: no second one.
        if !matches!(knock(runner.socket(), deadline).await, Door::Nobody) {
            return Err(error);
        }
        let why = match &error {
            // Not tmux, but what was to start it.
            TmuxError::Unavailable { why, .. } => why.clone(),
            other => other.to_string(),
        };
        tracing::warn!(why, "no tmux server in a scope of its own");
        not_launched = Some(why);
        // One that hangs says nothing good of its like, and agents wait.
        if matches!(error, TmuxError::Unresponsive { .. }) {
            break;
        }
    }
    Ok(Started { known: attempt(None).await?, not_launched })
}

/// Replaces the file in one step, readable by its owner only.
fn write_config(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension(format!("tmp{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&fresh)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

/// tmux makes the directory of its named sockets only when it computes the path itself. A failure shows when
/// tmux tries.
fn make_socket_directory(socket: &Path) {
    if let Some(parent) = socket.parent() {
        let _ = std::fs::DirBuilder::new().mode(0o700).create(parent);
    }
}

/// What became of a server on whose socket nobody listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It has ended.
    Ended,
    /// It lives, and listens again after we asked it to.
    Restored,
}

/// Settles the case that nobody listens on the socket of a server that we know: it may be ending, or its socket
/// was removed by somebody (cleaners of `/tmp` do that) while it lives on with all its sessions.
pub(super) async fn settle_missing(server: &ServerId) -> Result<Missing, TmuxError> {
    let end = tokio::time::Instant::now() + ENDING;
    loop {
        match observe(&server.process) {
            Observation::Dead(_) | Observation::Absent => return Ok(Missing::Ended),
            Observation::Unknown(why) => {
                return Err(TmuxError::Refused(format!(
                    "whether {server} still lives cannot be told: {why}"
                )));
            }
            Observation::Alive(_) if tokio::time::Instant::now() >= end => break,
            Observation::Alive(_) => tokio::time::sleep(STEP).await,
        }
    }
    // Nobody may have come to listen there meanwhile: the server would take the path from him.
    if !matches!(knock(&server.socket, ENDING).await, Door::Nobody) {
        return Ok(Missing::Restored);
    }
    ask_for_socket(server).map_err(|e| {
        TmuxError::Refused(format!("{server} has lost its socket and cannot be told so: {e}"))
    })?;
    let end = tokio::time::Instant::now() + RESTORING;
    while tokio::time::Instant::now() < end {
        if matches!(knock(&server.socket, ENDING).await, Door::Answers) {
            return Ok(Missing::Restored);
        }
        tokio::time::sleep(STEP).await;
    }
    Err(TmuxError::Unresponsive { after: RESTORING, what: format!("restoring the socket of {server}") })
}

/// SIGUSR1 makes a tmux server create its socket again. It ends a program that does not expect it: so what is not
/// recognised as a tmux server at that instant gets none, whatever told us its number.
fn ask_for_socket(server: &ServerId) -> Result<(), String> {
    let guard = Guard::of_us([]).map_err(|error| error.to_string())?;
    let proof = Proof::Server { socket: server.socket.to_string_lossy().into_owned() };
    let target = Target::new(server.process.clone(), proof);
    send(&guard, &target, Signal::Usr1).map(drop).map_err(|refused| refused.to_string())
}
