//! Running git.
//!
//! Each command has a deadline and a process group of its own, which is killed as a whole when the time is
//! over or nobody waits any more. Its environment is fixed: it never asks anybody, and knows nothing of the
//! repository that the daemon may have been started in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::host::leash::Leashed;

/// Most output that is kept, from its end, of each of the two streams.
const OUTPUT_MAX: usize = 64 << 10;

/// A git command that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {why}")]
pub struct GitError {
    /// The command as it could be typed.
    pub command: String,
    /// Why it counts as failed.
    pub why: String,
    /// The end of what it wrote to its standard error.
    pub stderr: String,
    /// What it exited with, where it did: 1 is an answer of some commands.
    pub code: Option<i32>,
}

impl GitError {
    /// Why it failed in the first words that were said about it: what git adds later is general advice.
    #[must_use]
    pub fn said(&self) -> &str {
        let chatter = ["warning:", "hint:", "Cloning into"];
        let mut lines = self.stderr.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !chatter.iter().any(|lead| line.starts_with(lead)));
        first.map_or(self.why.as_str(), |line| {
            ["fatal: ", "error: "].iter().find_map(|lead| line.strip_prefix(lead)).unwrap_or(line)
        })
    }
}

/// How git is run.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    env: BTreeMap<String, OsString>,
}

/// Variables that git and its helpers need, taken from our own environment: where programs and the user's
/// configuration are, how a remote is reached, and with which keys.
const KEPT: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GIT_SSH_COMMAND",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

impl Git {
    /// git as found over the `PATH` of an environment, of which the needed variables are kept.
    #[must_use]
    pub fn new(ours: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::with_program("git", ours)
    }

    /// As [`Git::new`], with another program in git's place.
    #[must_use]
    pub fn with_program(
        program: impl Into<PathBuf>,
        ours: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut env: BTreeMap<String, OsString> = ours
            .into_iter()
            .filter(|(key, _)| KEPT.contains(&key.as_str()))
            .map(|(key, value)| (key, value.into()))
            .collect();
        env.entry("GIT_SSH_COMMAND".to_owned()).or_insert_with(|| "ssh -o BatchMode=yes".into());
        for (key, value) in [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("SSH_ASKPASS", "true"),
            ("GCM_INTERACTIVE", "never"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_PAGER", "cat"),
            ("LC_ALL", "C"),
        ] {
            env.insert(key.to_owned(), value.into());
        }
        Self { program: program.into(), env }
    }

    /// The same git with a further variable in its environment.
    #[must_use]
    pub fn with(&self, key: &str, value: impl AsRef<OsStr>) -> Self {
        let mut git = self.clone();
        git.env.insert(key.to_owned(), value.as_ref().to_owned());
        git
    }

    /// Runs git in a directory and gives the end of the text that it wrote, without the newline at its end.
    ///
    /// # Errors
    /// When it cannot be started, fails, or is not done in time; it is then gone, with all it started.
    pub async fn run(&self, dir: &Path, args: &[&str], deadline: Duration) -> Result<String, GitError> {
        let (said, _) = self.execute(dir, args, OUTPUT_MAX, deadline).await?;
        Ok(String::from_utf8_lossy(&said).trim_end_matches(['\n', '\r']).to_owned())
    }

    /// Runs git in a directory and gives everything that it wrote, as it is.
    ///
    /// # Errors
    /// As [`Git::run`], and when it wrote more than `most` bytes: a part of it would be taken for the whole.
    pub async fn whole(
        &self,
        dir: &Path,
        args: &[&str],
        most: usize,
        deadline: Duration,
    ) -> Result<Vec<u8>, GitError> {
        match self.execute(dir, args, most, deadline).await? {
            (said, false) => Ok(said),
            (_, true) => Err(GitError {
                command: shown(args),
                why: format!("wrote more than {most} bytes"),
                stderr: String::new(),
                code: None,
            }),
        }
    }

    /// Runs a command that answers yes or no, by exiting with 0 or 1.
    ///
    /// # Errors
    /// As [`Git::run`], for every other end.
    pub async fn says_yes(&self, dir: &Path, args: &[&str], deadline: Duration) -> Result<bool, GitError> {
        match self.execute(dir, args, OUTPUT_MAX, deadline).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == Some(1) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What it wrote, and whether that is only the end of it.
    async fn execute(
        &self,
        dir: &Path,
        args: &[&str],
        most: usize,
        deadline: Duration,
    ) -> Result<(Vec<u8>, bool), GitError> {
        let fail = |why: String, stderr: String, code: Option<i32>| GitError {
            command: shown(args),
            why,
            stderr,
            code,
        };
        let mut command = Command::new(&self.program);
        command
            // Housekeeping would go on in the background, out of reach of the deadline.
            .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut group = Leashed::spawn(&mut command)
            .map_err(|error| fail(format!("cannot be started: {error}"), String::new(), None))?;
        let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
        let work = async {
            // A helper that outlives git may hold the pipes open: the deadline is for both together.
            let (stdout, stderr, status) =
                tokio::join!(tail(stdout, most), tail(stderr, OUTPUT_MAX), group.0.wait());
            (stdout, String::from_utf8_lossy(&stderr.0).into_owned(), status)
        };
        match tokio::time::timeout(deadline, work).await {
            Ok((stdout, _, Ok(status))) if status.success() => Ok(stdout),
            Ok((_, stderr, Ok(status))) => Err(fail(failed(status, &stderr), stderr, status.code())),
            Ok((_, stderr, Err(error))) => Err(fail(format!("cannot be waited for: {error}"), stderr, None)),
            Err(_) => {
                let _ = group.end().await;
                let why = format!("not done within {}", humantime::format_duration(deadline));
                Err(fail(why, String::new(), None))
            }
        }
    }
}

/// The command as it could be typed.
fn shown(args: &[&str]) -> String {
    format!("git {}", args.join(" "))
}

/// The status, with git's own last words.
fn failed(status: ExitStatus, stderr: &str) -> String {
    match stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{status}: {line}"),
        None => status.to_string(),
    }
}

/// Reads a stream to its end and keeps the last part of it; with whether there was more.
async fn tail(stream: Option<impl AsyncRead + Unpin>, most: usize) -> (Vec<u8>, bool) {
    let Some(mut stream) = stream else { return (Vec::new(), false) };
    let (mut kept, mut more) = (Vec::new(), false);
    let mut buffer = [0u8; 8192];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if kept.len() > 2 * most {
            kept.drain(..kept.len() - most);
            more = true;
        }
    }
    let from = kept.len().saturating_sub(most);
    kept.drain(..from);
    (kept, more || from > 0)
}

/// Writes an executable for a test. By another process: while one of ours has a file open for writing, a
/// test that forks at that moment would hold it open too, and it could not be executed.
#[cfg(test)]
pub(crate) fn executable(path: &Path, content: &str) {
    use std::io::Write;
    let mut child = std::process::Command::new("sh")
        .args(["-ec", "cat > \"$1\"; chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_say_why() {
        let said = |stderr: &str| {
            let (command, why) = ("git x".to_owned(), "exit status: 128".to_owned());
            GitError { command, why, stderr: stderr.to_owned(), code: None }.said().to_owned()
        };
        let general = "fatal: Could not read from remote repository.\n\nPlease make sure\nand it exists.\n";
        assert_eq!(said(&format!("fatal: '/x' is no repository\n{general}")), "'/x' is no repository");
        assert_eq!(said(&format!("git@h: Permission denied.\n{general}")), "git@h: Permission denied.");
        assert_eq!(said("warning: old\n\nfatal: no x\n"), "no x");
        assert_eq!(said(""), "exit status: 128");
    }
    use std::time::Instant;

    fn ours() -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = std::env::vars().collect();
        env.push(("GIT_DIR".into(), "/nowhere".into()));
        env
    }

    fn stand_in(dir: &Path, script: &str) -> Git {
        let path = dir.join("stand-in");
        executable(&path, &format!("#!/bin/sh\n{script}\n"));
        Git::with_program(path, ours())
    }

    #[tokio::test]
    async fn a_failure_has_the_command_and_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(ours());
        let error = git.run(dir.path(), &["rev-parse", "HEAD"], Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.command, "git rev-parse HEAD");
        assert!(error.stderr.contains("not a git repository"), "{error:?}");
        assert!(!error.stderr.contains("/nowhere"), "our own GIT_DIR went through: {error:?}");
        let none = Git::with_program("/no/such/git", ours());
        assert!(
            none.run(dir.path(), &["x"], Duration::from_secs(1)).await.unwrap_err().why.contains("started")
        );
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let git = stand_in(dir.path(), "sleep 1000 & echo $! > child; echo $$ > self; wait");
        let began = Instant::now();
        let error = git.run(dir.path(), &["clone"], Duration::from_millis(500)).await.unwrap_err();
        assert!(error.why.contains("not done within"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
        for file in ["child", "self"] {
            let pid: String = std::fs::read_to_string(dir.path().join(file)).unwrap().trim().to_owned();
            let alive = || {
                std::fs::read_to_string(format!("/proc/{pid}/stat"))
                    .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
            };
            let until = Instant::now() + Duration::from_secs(5);
            while alive() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!alive(), "{file} {pid} lives");
        }
    }

    #[tokio::test]
    async fn much_output_is_cut_and_never_stalls() {
        let dir = tempfile::tempdir().unwrap();
        let git = stand_in(
            dir.path(),
            "i=0; while [ $i -lt 4000 ]; do echo 0123456789012345678901234567890123456789012345678901234567890123456789 >&2; i=$((i+1)); done; echo end >&2; exit 3",
        );
        let error = git.run(dir.path(), &["x"], Duration::from_secs(30)).await.unwrap_err();
        assert!(error.stderr.len() <= OUTPUT_MAX);
        assert!(error.why.ends_with("end"), "{}", error.why);
    }
}
