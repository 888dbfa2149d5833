//! Signals to the daemon, as a stream. Signals coalesce: each means "look now", and none may be counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// What the daemon is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM: go down in order; agents stay.
    Terminate,
    /// INT: the same, from a terminal.
    Interrupt,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: process lifecycle requests now.
    Lifecycle,
}

/// Exit code of a process that was told twice to end: what it did could not be finished.
const AT_ONCE: i32 = 1;

/// The stream. Taken once, at the start of the process; the signals keep their handlers when it is dropped.
pub struct Signals {
    stream: signal_hook_tokio::Signals,
    at_once: Arc<AtomicBool>,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl Signals {
    /// Takes over TERM, INT, HUP and USR1. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn install() -> io::Result<Self> {
        let at_once = Arc::new(AtomicBool::new(false));
        // In the handler itself, so that it works even when the runtime is stuck.
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, AT_ONCE, Arc::clone(&at_once))?;
        }
        // Beyond a limit on file sizes a write fails, as on a full disk, instead of ending us. A handler, not
        // "ignore", which programs that we start would inherit.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { stream: signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?, at_once })
    }

    /// The next signal; `None` only when the stream is broken. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Signal> {
        loop {
            return Some(match self.stream.next().await? {
                SIGTERM => Signal::Terminate,
                SIGINT => Signal::Interrupt,
                SIGHUP => Signal::Reload,
                SIGUSR1 => Signal::Lifecycle,
                _ => continue,
            });
        }
    }

    /// From now on a TERM or INT ends the process at once, with exit code 1: to be called when the orderly
    /// end has begun, so that a second signal means impatience.
    pub fn end_at_once_from_now(&self) {
        self.at_once.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::Duration;

    const ROLE: &str = "GTD_TEST_SIGNALS";

    /// Not a test of its own: the process that gets the signals.
    #[test]
    #[ignore = "run by the tests below"]
    fn child() {
        let Ok(role) = std::env::var(ROLE) else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listen = async {
            let mut signals = Signals::install().unwrap();
            println!("\nsignal ready");
            while let Some(signal) = signals.next().await {
                if signal == Signal::Terminate {
                    signals.end_at_once_from_now();
                }
                println!("signal {signal:?}");
                if signal == Signal::Terminate && role == "stuck" {
                    // A runtime that does nothing any more; bounded, should the parent be gone.
                    std::thread::sleep(Duration::from_secs(60));
                }
            }
        };
        let _ = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), listen).await });
    }

    struct Listener(Child, Lines<BufReader<ChildStdout>>);

    impl Listener {
        fn start(role: &str) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "--nocapture", "host::signals::tests::child"])
                .env(ROLE, role)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut listener = Self(child, lines);
            assert_eq!(listener.word(), "ready");
            listener
        }

        fn word(&mut self) -> String {
            self.1.find_map(|line| line.unwrap().strip_prefix("signal ").map(str::to_owned)).expect("a word")
        }

        fn send(&self, signal: rustix::process::Signal) {
            let pid = rustix::process::Pid::from_child(&self.0);
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn each_signal_means_one_thing_and_a_second_end_is_at_once() {
        use rustix::process::Signal as Sent;
        for role in ["idle", "stuck"] {
            let mut listener = Listener::start(role);
            for (sent, word) in [
                (Sent::HUP, "Reload"),
                (Sent::USR1, "Lifecycle"),
                (Sent::INT, "Interrupt"),
                (Sent::INT, "Interrupt"),
                (Sent::TERM, "Terminate"),
            ] {
                listener.send(sent);
                assert_eq!(listener.word(), word);
            }
            listener.send(Sent::TERM);
            assert_eq!(listener.0.wait().unwrap().code(), Some(AT_ONCE), "{role}");
        }
    }
}
