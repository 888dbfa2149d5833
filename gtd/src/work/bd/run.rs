//! One call of the `bd` program: a fixed environment, a deadline, a process group of its own, bounded output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::host::leash::Leashed;
use crate::work::Why;

/// Most that is read of the answer. A list of 20,000 items with descriptions of a kilobyte fits.
const ANSWER_MAX: usize = 32 << 20;
/// Most that is kept of the standard error, from its end: the reason of a failure is the last thing said.
const STDERR_MAX: usize = 64 << 10;
/// How long the pipes are read on when the program has ended and something it started holds them open.
const PIPES: Duration = Duration::from_millis(250);

/// Variables that are taken over from our own environment: where programs and the user's configuration are, and
/// the password of a database server, which has no other way in.
const KEPT: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "BEADS_DOLT_PASSWORD"];

/// What a call ended with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: String,
}

/// The environment of every call for a `.beads` directory, out of ours.
pub fn environment(
    ours: impl IntoIterator<Item = (String, String)>,
    beads: &Path,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> =
        ours.into_iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect();
    for (key, value) in [
        ("LC_ALL", "C.UTF-8"),
        ("NO_COLOR", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        // Neither generation may leave anything running behind our back.
        ("BEADS_NO_DAEMON", "1"),
        ("BEADS_AUTO_START_DAEMON", "false"),
        ("BEADS_DOLT_AUTO_START", "0"),
        // The two names under which the generations look for who acts.
        ("BD_ACTOR", "gtd"),
        ("BEADS_ACTOR", "gtd"),
    ] {
        env.insert(key.to_owned(), value.to_owned());
    }
    env.insert("BEADS_DIR".to_owned(), beads.to_string_lossy().into_owned());
    env
}

/// Runs the program to its end, or to the deadline: then it is gone, with all it started in its group.
///
/// # Errors
/// When it cannot be started, is not done in time, or writes too much. How it exits is no error: programs of
/// the older generation say 0 when they failed.
pub async fn run(
    program: &Path,
    args: &[String],
    dir: &Path,
    env: &BTreeMap<String, String>,
    deadline: Duration,
) -> Result<Output, Why> {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Leashed::spawn(&mut command)
        .map_err(|error| Why::Broken(format!("{} cannot be started: {error}", program.display())))?;
    let answer = Arc::new(Mutex::new(Vec::new()));
    let words = Arc::new(Mutex::new(Vec::new()));
    let done = {
        let ended = group.ended();
        let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
        let reading = async { tokio::join!(whole(stdout, &answer), tail(stderr, &words)).0 };
        tokio::time::timeout(deadline, until_ended(reading, ended)).await
    };
    let _ = group.end().await;
    match done {
        Err(_) => return Err(Why::Late(deadline)),
        Ok(Err(())) => return Err(Why::TooMuch(ANSWER_MAX)),
        Ok(Ok(())) => {}
    }
    let take =
        |bytes: &Mutex<Vec<u8>>| std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner));
    let mut stderr = take(&words);
    let surplus = stderr.len().saturating_sub(STDERR_MAX);
    stderr.drain(..surplus);
    Ok(Output { stdout: take(&answer), stderr: String::from_utf8_lossy(&stderr).into_owned() })
}

/// Reads until both pipes end, or a moment after the program has ended: a child of its that lives on with our
/// pipes must not make us wait for the deadline.
async fn until_ended(
    reading: impl Future<Output = Result<(), ()>>,
    ended: impl Future<Output = ()>,
) -> Result<(), ()> {
    tokio::pin!(reading);
    tokio::select! {
        read = &mut reading => read,
        () = ended => tokio::time::timeout(PIPES, reading).await.unwrap_or(Ok(())),
    }
}

/// Reads a stream whole; an error when it is longer than we read.
async fn whole(stream: Option<impl AsyncRead + Unpin>, into: &Mutex<Vec<u8>>) -> Result<(), ()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = vec![0u8; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len().saturating_add(read) > ANSWER_MAX {
            return Err(());
        }
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(())
}

/// Reads a stream to its end and keeps the last part of it.
async fn tail(stream: Option<impl AsyncRead + Unpin>, into: &Mutex<Vec<u8>>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0u8; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if kept.len() > 2 * STDERR_MAX {
            let surplus = kept.len().saturating_sub(STDERR_MAX);
            kept.drain(..surplus);
        }
    }
}

/// A program as the `PATH` of an environment finds it.
///
/// # Errors
/// [`Why::Missing`].
pub fn find(program: &str, path: Option<&str>) -> Result<PathBuf, Why> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    path.unwrap_or_default()
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(program))
        .find(executable)
        .ok_or_else(|| Why::Missing(program.to_owned()))
}
