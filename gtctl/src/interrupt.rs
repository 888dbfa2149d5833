//! Ctrl-C: the program ends at once with 130, except where there is something to clean up first.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Whether Ctrl-C ends the program at once. Set only here.
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Lets Ctrl-C end the program with 130. Without it the shell would say so too, but a caller that reads the exit
/// code itself would see a signal.
pub fn leave_on_ctrl_c() {
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    // When it cannot be registered, the default remains: the signal ends the program.
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(at_once));
}

/// From now on Ctrl-C and TERM are only reported.
pub struct Interrupts {
    arrived: UnixStream,
}

impl Interrupts {
    /// Takes over.
    ///
    /// # Errors
    /// When the handlers cannot be set up; Ctrl-C then still ends the program at once.
    pub fn take_over() -> io::Result<Self> {
        let (ours, handlers) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGINT, handlers.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, handlers)?;
        let arrived = UnixStream::from_std(ours)?;
        if let Some(at_once) = AT_ONCE.get() {
            at_once.store(false, Ordering::SeqCst);
        }
        Ok(Self { arrived })
    }

    /// Waits for the next one; for ever if there is none.
    pub async fn next(&mut self) {
        let mut byte = [0];
        if !matches!(self.arrived.read(&mut byte).await, Ok(1)) {
            std::future::pending::<()>().await;
        }
    }
}
