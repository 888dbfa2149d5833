//! The listening socket: made by us or passed in, and the loop that accepts and admits.
//!
//! A socket that was passed in belongs to whoever passed it and is never unlinked. Our own file is removed at
//! an orderly end, and only while it is still the one that we made.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gtd_proto::{ErrorKind, RpcError};
use rustix::process::{Uid, geteuid};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::callers::Origin;
use super::connection::serve;
use super::line::RawId;
use super::peer::{ConnectionId, Peer};
use super::refusal::refuse;
use super::reply;
use super::server::Phase;
use super::service::{Caller, Service};
use crate::host::named::Named;

/// Clients that are being told why they are refused, at the same time; further ones are just closed.
const REFUSALS: usize = 64;

/// The pause after a failure to accept that would only repeat itself, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    pub(super) listener: StdListener,
    pub(super) file: Option<Named>,
}

impl Listening {
    /// A listening socket that somebody else made and keeps, such as a service manager. Its file is left
    /// alone.
    #[must_use]
    pub fn passed_in(listener: StdListener) -> Self {
        Self { listener, file: None }
    }

    /// Where clients find it, when it has a path.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.listener.local_addr().ok()?.as_pathname().map(Path::to_owned)
    }
}

/// Accepts until the server shuts down. `last` is the latest connection's number, also over several sockets.
pub(super) async fn accept(
    listener: UnixListener,
    service: Arc<Service>,
    tracker: TaskTracker,
    mut phase: watch::Receiver<Phase>,
    last: Arc<AtomicU64>,
) {
    let ours = geteuid();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = async { let _ = phase.wait_for(|phase| *phase == Phase::Closing).await; } => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let id = ConnectionId(last.fetch_add(1, Ordering::Relaxed) + 1);
        admit(stream, id, ours, &service, &tracker, &refusals, &phase);
    }
}

fn admit(
    stream: UnixStream,
    id: ConnectionId,
    ours: Uid,
    service: &Arc<Service>,
    tracker: &TaskTracker,
    refusals: &Arc<Semaphore>,
    phase: &watch::Receiver<Phase>,
) {
    let refusal = match stream.peer_cred() {
        Err(error) => {
            tracing::warn!(connection = %id, %error, "client refused: its user cannot be learned");
            RpcError::new(ErrorKind::Unauthorized, "your user cannot be learned")
        }
        Ok(credentials) => {
            let peer = Peer::new(credentials, id);
            if !peer.admitted_by(ours) {
                tracing::warn!(connection = %id, %peer, "client refused: another user");
                RpcError::new(ErrorKind::Unauthorized, "this daemon serves another user")
            } else if let Some(counted) = service.counters.connection(service.limits.connections) {
                let (service, phase) = (Arc::clone(service), phase.clone());
                tracker.spawn(async move {
                    // At once, before its process may end or get other parents.
                    let caller = Caller::new(peer, Origin::of(&stream, &peer), &service.limits);
                    serve(stream, service, caller, phase).await;
                    drop(counted);
                });
                return;
            } else {
                let most = service.limits.connections;
                tracing::warn!(connection = %id, %peer, most, "client refused: too many connections");
                RpcError::new(ErrorKind::TooBusy, format!("{most} connections are open"))
                    .hint("close one, or try again later")
                    .with("limit", most)
            }
        }
    };
    let mut words = reply::error(&RawId::null(), refusal);
    words.push(b'\n');
    match Arc::clone(refusals).try_acquire_owned() {
        Ok(permit) => {
            tracker.spawn(async move {
                refuse(stream, words).await;
                drop(permit);
            });
        }
        Err(_) => {
            // An empty socket takes one line whole.
            let _ = stream.try_write(&words);
        }
    }
}

/// Failures that concern one client which is gone already; the next one may be fine.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
