//! A person's terminal: a real client of the town's tmux server on a pseudo-terminal of its own, which `script`
//! makes, and into which tests type.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::programs;
use crate::tmux::Tmux;
use crate::wait::{CHANGE, QUICK, wait_until};

/// A terminal that shows a session. It goes away when dropped, which ends no session.
pub struct Terminal {
    child: Child,
}

impl Terminal {
    /// Attaches to a session by its id; returns when tmux says that somebody is attached.
    ///
    /// # Panics
    /// When `script` cannot be started, or tmux takes no client.
    #[track_caller]
    pub fn attach(tmux: &Tmux, session: &str, home: &std::path::Path) -> Self {
        let attach = format!("exec tmux -S '{}' attach-session -t '{session}'", tmux.socket.display());
        let mut command: Command = programs::bare("script", home);
        command.env("TERM", "xterm").env("SHELL", "/bin/sh").args(["-qfec", &attach, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let terminal = Self { child: command.spawn().expect("start script") };
        let attached = wait_until(CHANGE, || {
            tmux.try_run(&["display-message", "-p", "-t", session, "#{session_attached}"]).as_deref()
                == Ok("1")
        });
        assert!(attached, "nobody attached to {session}");
        terminal
    }

    /// Whether the machine has what this needs.
    pub fn possible() -> bool {
        programs::system("script").is_some()
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn types(&mut self, keys: &str) {
        assert!(self.may_type(keys), "the terminal is gone");
    }

    /// Types, unless the terminal is gone; whether it was there.
    pub fn may_type(&mut self, keys: &str) -> bool {
        let Some(input) = self.child.stdin.as_mut() else { return false };
        input.write_all(keys.as_bytes()).and_then(|()| input.flush()).is_ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Without input `script` ends, and its client with it.
        drop(self.child.stdin.take());
        if !wait_until(QUICK, || !matches!(self.child.try_wait(), Ok(None))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
