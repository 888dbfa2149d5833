//! Whether the socket is still the one that our server listens on.
//!
//! Connections that are open need no socket, so that nobody notices when one is removed or taken by somebody
//! else; until a person wants to attach. Looking costs one `stat`; it must never signal or ask anybody while
//! nothing has changed.

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::driver::Driver;
use super::lifecycle::Inner;

/// How often the keeper looks.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// The socket as it was when our server answered on it: its device and inode.
#[derive(Debug, Default)]
pub(super) struct Doorplate(Mutex<Option<(u64, u64)>>);

impl Doorplate {
    fn get(&self) -> Option<(u64, u64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, to: Option<(u64, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

impl Inner {
    /// There is a server of ours, and its socket is not the one that was there when it last answered. A server
    /// of somebody else's is theirs to look after.
    pub(super) fn socket_changed(&self) -> bool {
        if !self.config.server.is_private() || self.current().is_err() || self.state.lock().retired {
            return false;
        }
        // What cannot be looked at is looked at again.
        let there = match std::fs::symlink_metadata(&self.socket) {
            Ok(found) => Some((found.dev(), found.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(_) => return false,
        };
        there.is_none() || there != self.doorplate.get()
    }

    /// Restores a socket that is gone, and says so when somebody else answers on it.
    pub(super) async fn mind_socket(self: &Arc<Self>) {
        if !self.socket_changed() {
            return;
        }
        let _deciding = self.deciding.lock().await;
        match self.look().await {
            Ok(Some(known)) if self.current().is_ok_and(|now| now == known) => {
                let found = std::fs::symlink_metadata(&self.socket).ok();
                self.doorplate.set(found.map(|found| (found.dev(), found.ino())));
                self.state.content();
            }
            // Its end is told by those who watch it.
            Ok(_) => {}
            Err(error) => {
                self.note(error);
            }
        }
    }
}

impl Driver {
    /// What is not as it should be though work goes on, in a sentence for people: the last thing told as
    /// `Degraded`, until all is well again.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.inner.state.complaint()
    }
}
