//! Running one program that is told of an event.
//!
//! Owns its surroundings and its end: an environment of its own, a process group of its own, a deadline, and
//! nothing of the group is left when this returns. Must never give a text to a shell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::Instant;

use crate::host::leash::Leashed;

/// How long a program may take (`spec/files.md`).
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Most of its error text that is kept.
const STDERR_MAX: u64 = 4 << 10;
/// How long what it wrote last may be on its way, once it and its group are gone.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Variables that such programs need: where programs are, who the user is, how to reach their desktop and their
/// services. Nothing of ours, and nothing of an agent.
const KEPT: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSL_CERT_FILE",
];

/// What every program gets.
#[derive(Debug, Clone)]
pub struct Surroundings {
    env: BTreeMap<String, String>,
    dir: PathBuf,
}

impl Surroundings {
    /// The variables that are needed, out of ours; and the town's root, as directory and as `GT_TOWN_ROOT`, so
    /// that a program can ask further with `gtctl`.
    #[must_use]
    pub fn new(ours: impl IntoIterator<Item = (String, String)>, root: &Path) -> Self {
        let mut env: BTreeMap<String, String> =
            ours.into_iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect();
        env.insert("GT_TOWN_ROOT".to_owned(), root.to_string_lossy().into_owned());
        Self { env, dir: root.to_owned() }
    }
}

/// Runs a program to its end, or to the deadline.
///
/// # Errors
/// A sentence: it cannot be started, failed, or was killed.
pub(super) async fn run(
    around: &Surroundings,
    argv: &[String],
    input: &[u8],
    deadline: Duration,
) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or_else(|| "there is no program".to_owned())?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(&around.env)
        .current_dir(&around.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut group = Leashed::spawn(&mut command).map_err(|error| format!("cannot be started: {error}"))?;
    let (stdin, stderr) = (group.0.stdin.take(), group.0.stderr.take());
    let feeding = async {
        if let Some(mut stdin) = stdin {
            // One that does not read what it is told is within its rights.
            let _ = stdin.write_all(input).await;
        }
    };
    // Taken to its end, so that a talkative one is not held up; only the beginning is kept.
    let reading = tokio::spawn(async move {
        let Some(mut stderr) = stderr else { return Vec::new() };
        let mut kept = Vec::new();
        let _ = (&mut stderr).take(STDERR_MAX).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        kept
    });
    let end = Instant::now() + deadline;
    let work = async {
        let ((), ended) = tokio::join!(feeding, group.ended_by(end));
        ended
    };
    let ended = tokio::time::timeout_at(end, work).await.unwrap_or(false);
    let status = group.end().await;
    let said = tokio::time::timeout(LAST_WORDS, reading).await;
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    let because = if last.is_empty() { String::new() } else { format!(": {last}") };
    match status {
        _ if !ended => Err(format!(
            "did not end within {} and was killed{because}",
            humantime::format_duration(deadline)
        )),
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}{because}")),
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn go(dir: &Path, argv: &[String], input: &[u8], limit: Duration) -> Result<(), String> {
        let ours = [("PATH", "/usr/bin:/bin"), ("GT_INSTANCE", "x"), ("SECRET", "hush"), ("HOME", "/h")];
        let ours = ours.map(|(key, value)| (key.to_owned(), value.to_owned()));
        run(&Surroundings::new(ours, dir), argv, input, limit).await
    }

    #[tokio::test]
    async fn it_gets_the_event_its_own_surroundings_and_nothing_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        go(
            dir.path(),
            &sh("cat > in; env > env; pwd > dir; ps -o pgid= -p $$ > group; echo $$ >> group"),
            b"{\"seq\":1}",
            DEADLINE,
        )
        .await
        .unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("in"), "{\"seq\":1}");
        let env = read("env");
        assert!(env.contains("HOME=/h") && env.contains("GT_TOWN_ROOT="), "{env}");
        assert!(!env.contains("SECRET") && !env.contains("GT_INSTANCE"), "{env}");
        assert_eq!(Path::new(read("dir").trim()), dir.path().canonicalize().unwrap());
        let group = read("group");
        let mut ids = group.split_whitespace();
        assert_eq!(ids.next(), ids.next(), "it leads its own group");
    }

    #[tokio::test]
    async fn failures_say_what_there_is_to_say() {
        let dir = tempfile::tempdir().unwrap();
        let missing = vec!["no-such-program-here".to_owned()];
        assert!(go(dir.path(), &missing, b"", DEADLINE).await.unwrap_err().contains("cannot be started"));
        let failed = go(dir.path(), &sh("echo first >&2; echo no network >&2; exit 3"), b"", DEADLINE).await;
        let failed = failed.unwrap_err();
        assert!(failed.contains('3') && failed.ends_with(": no network"), "{failed}");
        assert!(go(dir.path(), &[], b"", DEADLINE).await.is_err());
        let nul = ["/bin/echo", "a\0b"].map(str::to_owned);
        assert!(go(dir.path(), &nul, b"", DEADLINE).await.is_err());
    }

    #[tokio::test]
    async fn one_that_does_not_read_or_says_too_much_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let much = vec![b'x'; 4 << 20];
        go(dir.path(), &sh("exit 0"), &much, DEADLINE).await.unwrap();
        go(dir.path(), &sh("head -c 4000000 /dev/zero >&2"), b"", DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; sleep 1000 & echo $! > child; echo waiting >&2; sleep 1000";
        let began = Instant::now();
        let killed = go(dir.path(), &sh(script), b"", Duration::from_millis(400)).await.unwrap_err();
        assert!(killed.contains("within 400ms") && killed.ends_with(": waiting"), "{killed}");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_gone(&dir.path().join("child"));
    }

    #[tokio::test]
    async fn what_it_leaves_in_its_group_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        go(dir.path(), &sh("sleep 1000 & echo $! > child"), b"", DEADLINE).await.unwrap();
        assert_gone(&dir.path().join("child"));
    }

    #[track_caller]
    fn assert_gone(file: &Path) {
        let pid: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            // A zombie whose new parent has not collected it yet is dead enough.
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
            let dead = state.is_none_or(|stat| stat.rsplit(')').next().unwrap().trim().starts_with('Z'));
            if dead {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{pid} lives on");
            std::thread::yield_now();
        }
    }
}
