//! The small files by which others find the daemon, written until they are there.

use std::path::PathBuf;
use std::time::Duration;

use gtd_proto::daemon::Endpoint;
use tokio_util::sync::CancellationToken;

use super::own_pid;
use crate::host::files::{DaemonFiles, State};
use crate::supervisor::Handle;

/// How often files that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What they say.
pub(super) struct Announcement {
    pub(super) dir: PathBuf,
    pub(super) endpoint: Endpoint,
    pub(super) state: State,
}

impl Announcement {
    /// Writes them all; what cannot be written degrades the daemon for as long as that is so. False when there was
    /// such a file.
    pub(super) fn write(&self, handle: &Handle) -> bool {
        let files = DaemonFiles::new(&self.dir, own_pid());
        let mut all = true;
        for (what, result) in [
            ("daemon.pid", files.write_pid()),
            ("state.json", files.write_state(&self.state)),
            ("endpoint.json", files.write_endpoint(&self.endpoint)),
        ] {
            let reason = format!("{what} cannot be written");
            match result {
                Ok(()) => handle.shared().restore(&reason),
                Err(error) => {
                    tracing::error!(%error, "{what} was not written");
                    handle.shared().degrade(reason);
                    all = false;
                }
            }
        }
        all
    }

    /// Tries until all are written, or the daemon goes down.
    pub(super) async fn write_later(self, handle: Handle, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
            if self.write(&handle) {
                // What is shown was made of the reasons.
                handle.tell(crate::supervisor::run::Message::Refresh).await;
                return;
            }
        }
    }
}
