//! A person at the town's tmux server: always with `-S` and the town's own socket, always with a deadline.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::programs;
use crate::wait::wait_until;

/// The tmux server of a town.
#[derive(Debug, Clone)]
pub struct Tmux {
    /// Its socket.
    pub socket: PathBuf,
    home: PathBuf,
}

impl Tmux {
    /// The server behind a socket.
    pub fn new(socket: PathBuf, home: &Path) -> Self {
        Self { socket, home: home.to_owned() }
    }

    /// Runs one command; its output when it succeeded within five seconds.
    ///
    /// # Errors
    /// What tmux said, or that it did not answer.
    pub fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let mut command: Command = programs::bare("tmux", &self.home);
        command.env("TERM", "xterm").arg("-S").arg(&self.socket).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        if !wait_until(Duration::from_secs(5), || !matches!(child.try_wait(), Ok(None))) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("tmux {args:?} did not answer"));
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    /// Runs one command that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|why| panic!("tmux {args:?}: {why}"))
    }

    /// Names of all sessions.
    pub fn sessions(&self) -> Vec<String> {
        let listed = self.try_run(&["list-sessions", "-F", "#{session_name}"]).unwrap_or_default();
        listed.lines().map(str::to_owned).collect()
    }

    /// The server's process.
    #[track_caller]
    pub fn server(&self) -> crate::Process {
        let pid = self.run(&["display-message", "-p", "#{pid}"]).parse().expect("a pid");
        crate::Process::of(pid).expect("the server that answered lives")
    }
}
