//! A server whose process numbers are not ours: it listens on a socket that we share with a container, and the
//! numbers that it tells are of another pid namespace.
//!
//! What it calls 12 may be anybody here. Nothing may be concluded from its answers, and nobody signalled for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use crate::process::Pid;
use crate::process::namespace::counts_otherwise;

/// How long a connection may take that only asks the kernel who listens.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why we cannot work with whoever listens on one of these sockets. `None` when nobody does, or in our own
/// namespace.
pub async fn elsewhere(sockets: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    for socket in sockets {
        if let Some(why) = listens_elsewhere(&socket).await {
            return Some(why);
        }
    }
    None
}

/// The same of one socket.
pub(super) async fn listens_elsewhere(socket: &Path) -> Option<String> {
    let connected = tokio::time::timeout(PATIENCE, UnixStream::connect(socket)).await;
    // Who cannot be asked is somebody else's finding.
    let listener = connected.ok()?.ok()?.peer_cred().ok()?.pid()?;
    let away = match Pid::new(listener) {
        // The kernel has no number for it here.
        None => listener == 0,
        Some(pid) => counts_otherwise(pid).unwrap_or(false),
    };
    away.then(|| {
        format!(
            "the tmux server on {} runs in another pid namespace, such as a container: its agents cannot be told \
             from strangers here",
            socket.display()
        )
    })
}
