//! Starting the daemon of a town in the background, until it answers.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::lock::{self, Lock};
use super::{managed, sibling};
use crate::client::Session;
use crate::client::endpoint::{self, Target};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::card::ended;
use crate::output::note;

/// How long a daemon may take until it answers.
const ANSWER: Duration = Duration::from_secs(10);

/// Between two looks for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long to wait for the daemon that won a race for the lock.
const WINNER: Duration = Duration::from_secs(3);

/// Daemons that are started one after the other when each finds the lock held and it is free afterwards.
const TRIES: u32 = 5;

/// gtd's exit code when another daemon holds the lock.
const LOCK_HELD: i32 = 1;

/// gtd's exit code for a configuration that cannot be used.
const BAD_CONFIGURATION: i32 = 78;

/// Last lines of a program that are shown when it failed.
const LAST_WORDS: usize = 10;

/// How to start it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The town.
    pub root: PathBuf,
    /// Start no agent until `gtctl up`.
    pub hold: bool,
    /// Hand on nothing of this environment that belongs to a town or a tmux.
    pub scrub: bool,
}

/// A daemon that answers.
pub struct Running {
    /// A connection to it.
    pub session: Session,
    /// It ran before.
    pub already: bool,
}

/// Refuses to start or end a daemon from inside an agent: a new one would be below the agent it supervises, and
/// end with it.
///
/// # Errors
/// When `GT_INSTANCE` is set.
pub fn outside_of_agents(instance: Option<&std::ffi::OsString>) -> Result<(), Failure> {
    match instance {
        None => Ok(()),
        Some(_) => Err(Failure::refused(
            "an agent may not start or end the daemon that supervises it (GT_INSTANCE is set)",
        )
        .hint("do it from a terminal of your own")),
    }
}

/// Finds the daemon of a town, or starts it and waits for its handshake. Whatever process is started is handed
/// over at once, so that a caller who is interrupted knows of it.
///
/// # Errors
/// The reason why it did not come up, with its last words.
pub async fn ensure(launch: &Launch, started: &mut Vec<Child>) -> Result<Running, Failure> {
    match Session::open(&Target::of_town(&launch.root)).await {
        Ok(session) => return Ok(Running { session, already: true }),
        // A socket that is gone or left over: there may be none. The lock will tell.
        Err(failure) if failure.is_no_daemon() => {}
        Err(failure) => return Err(failure),
    }
    // Under a hold it is only to stop what it finds, and to end.
    if !launch.hold
        && !launch.scrub
        && let Some(service) = managed::reachable(&launch.root).await
    {
        note(format!("starting the service {}", service.name()));
        return Ok(Running { session: managed::start(&service, &launch.root).await?, already: false });
    }
    for _ in 0..TRIES {
        if let Some(running) = attempt(launch, started).await? {
            return Ok(running);
        }
    }
    let root = launch.root.display();
    Err(Failure::failed(format!("gtd did not start: {root}/daemon/daemon.lock is taken again and again"))
        .hint("gtctl daemon status"))
}

/// Starts one, and waits until it answers. None: it found the lock held, and nobody holds it any more.
async fn attempt(launch: &Launch, started: &mut Vec<Child>) -> Result<Option<Running>, Failure> {
    let mut words = tempfile::tempfile()
        .map_err(|e| Failure::failed(format!("cannot make a file for the daemon's last words: {e}")))?;
    let heard = words.try_clone().map_err(|e| Failure::failed(format!("cannot share a file: {e}")))?;
    let child = spawn(launch, heard)?;
    let deadline = Instant::now() + ANSWER;
    let pid = child.id();
    started.push(child);
    loop {
        let ended = started.last_mut().map(Child::try_wait);
        if let Some(Ok(Some(status))) = ended {
            return after_its_end(launch, status, &mut words).await;
        }
        // Only its own word counts: an endpoint of an earlier daemon may still lie there.
        let mine = endpoint::endpoint(&launch.root).is_some_and(|end| end.pid.unsigned_abs() == pid);
        if mine {
            match Session::open(&Target::of_town(&launch.root)).await {
                Ok(session) => return Ok(Some(Running { session, already: false })),
                Err(failure) if failure.code() == Code::Unreachable => {}
                Err(failure) => return Err(failure),
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::timeout(format!(
                "gtd (pid {pid}) runs but does not answer after {}s",
                ANSWER.as_secs()
            ))
            .with("output", last_words(&mut words, &launch.root))
            .hint("gtctl daemon status; it may still come up"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Starts gtd in a session of its own. The way there leads through this program once more, which makes the
/// session and then becomes gtd: the pid stays the same.
fn spawn(launch: &Launch, words: std::fs::File) -> Result<Child, Failure> {
    sibling::gtd()?;
    let mut command = Command::new(sibling::this()?);
    command.arg("--town").arg(&launch.root).args(["daemon", "run", "--new-session"]);
    if launch.hold {
        command.arg("--hold");
    }
    if launch.scrub {
        scrub(&mut command);
    }
    // A file, not a pipe: a pipe would break when we leave, and a program that writes to it then may fail.
    command.current_dir(&launch.root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
    command.spawn().map_err(|e| Failure::failed(format!("cannot start gtd: {e}")))
}

/// Takes everything out of a program's environment that belongs to a town or a tmux.
pub fn scrub(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GT_") {
            command.env_remove(name);
        }
    }
    command.env_remove("TMUX").env_remove("TMUX_PANE");
}

async fn after_its_end(
    launch: &Launch,
    status: ExitStatus,
    words: &mut std::fs::File,
) -> Result<Option<Running>, Failure> {
    use std::os::unix::process::ExitStatusExt;
    let root = launch.root.display();
    let said = last_words(words, &launch.root);
    match status.code() {
        Some(LOCK_HELD) => {
            // Two were started at once: the other one is as good.
            let deadline = Instant::now() + WINNER;
            while Instant::now() < deadline {
                if let Ok(session) = Session::open(&Target::of_town(&launch.root)).await {
                    return Ok(Some(Running { session, already: true }));
                }
                // A daemon that was killed a moment ago keeps the lock until the kernel is done with it, and a
                // look at the lock from outside takes it for an instant.
                if matches!(lock::look(&launch.root), Lock::Free) {
                    return Ok(None);
                }
                tokio::time::sleep(LOOK_EVERY * 10).await;
            }
            Err(Failure::failed(format!(
                "gtd did not start: another process holds {root}/daemon/daemon.lock, and does not answer"
            ))
            .with("output", said)
            .hint("gtctl daemon stop --force ends a gtd that hangs; another program that supervises this town has to be stopped by its own means"))
        }
        Some(BAD_CONFIGURATION) => {
            Err(Failure::bad_config(format!("gtd did not start: the configuration of {root} cannot be used"))
                .with("output", said)
                .hint(format!("correct {root}/settings/gtd.toml, then: gtctl up")))
        }
        code => Err(Failure::failed(format!("gtd did not start: {}", ended(code, status.signal())))
            .with("output", said)
            .hint("gtctl daemon run shows it in the foreground")),
    }
}

/// What a daemon said last: on its stderr, else in its log.
fn last_words(words: &mut std::fs::File, root: &Path) -> Vec<String> {
    let mut said = String::new();
    let heard = words.seek(SeekFrom::Start(0)).and_then(|_| words.take(64 * 1024).read_to_string(&mut said));
    if heard.is_err() || said.trim().is_empty() {
        said = log_end(&root.join("daemon/gtd.log")).unwrap_or_default();
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_WORDS);
    lines.get(from..).unwrap_or_default().iter().map(|line| (*line).to_owned()).collect()
}

fn log_end(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
