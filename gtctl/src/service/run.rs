//! Running the programs that talk to a service manager: bounded, as a group of their own, without a terminal.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::failure::Failure;
use crate::output::shell_word;

/// How long a question may take.
pub const QUESTION: Duration = Duration::from_secs(5);

/// How long a change of what is installed may take: the manager reads all of its files again.
pub const CHANGE: Duration = Duration::from_secs(30);

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Whether it ended with 0.
    pub ok: bool,
    /// Its output.
    pub out: String,
    /// Its complaints.
    pub err: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or does not end in time: then it is killed.
pub async fn run(words: &[String], limit: Duration) -> Result<Said, Failure> {
    let typed = words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    let (program, args) = words.split_first().ok_or_else(|| Failure::failed("nothing to run"))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    if let Some(dir) = runtime_dir() {
        command.env("XDG_RUNTIME_DIR", dir);
    }
    // No pager, no colours, and words that are ours to read.
    command.env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0").env("LC_ALL", "C");
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(Failure::failed(format!("cannot run {program}: {error}"))),
        Err(_) => {
            let limit = humantime::format_duration(limit);
            return Err(Failure::timeout(format!("`{typed}` did not end within {limit}")));
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
}

/// As [`run`], for what has to work.
///
/// # Errors
/// Also what the program complained of.
pub async fn done(words: &[String], limit: Duration) -> Result<Said, Failure> {
    let said = run(words, limit).await?;
    if said.ok {
        return Ok(said);
    }
    let typed = words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    let lines: Vec<&str> = said.err.lines().collect();
    Err(Failure::failed(format!("`{typed}` failed")).with("output", lines))
}

/// Where the user's manager is found: also from where the variable is not set, such as cron and sudo.
fn runtime_dir() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    set.or_else(|| {
        let usual = PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw()));
        usual.is_dir().then_some(usual)
    })
}
