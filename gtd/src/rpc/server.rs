//! The server as the daemon sees it: start it with a registry, ask it for its numbers, shut it down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jsonrpsee::Methods;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::callers::Callers;
use super::limits::Limits;
use super::listener::{Listening, accept};
use super::service::Service;
use crate::host::named::Named;

/// How much longer than the drain a shutdown waits for connections' tasks, which end by themselves.
const MARGIN: Duration = Duration::from_millis(500);

/// Whether the server takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closing,
}

/// Numbers of a server. Clones show the same ones; make one first and give it to the methods that report it.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    connections: AtomicUsize,
    subscribers: AtomicUsize,
}

impl Counters {
    /// Open connections, without those being refused.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed) as u64
    }

    /// Open subscriptions.
    #[must_use]
    pub fn subscribers(&self) -> u64 {
        self.0.subscribers.load(Ordering::Relaxed) as u64
    }

    /// Counts a connection, unless so many are open already.
    pub(super) fn connection(&self, most: usize) -> Option<Counted> {
        let counted = Counted { numbers: self.clone(), of: |numbers| &numbers.connections };
        (self.0.connections.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }

    /// Counts a subscription.
    pub(super) fn subscriber(&self) -> Counted {
        self.0.subscribers.fetch_add(1, Ordering::Relaxed);
        Counted { numbers: self.clone(), of: |numbers| &numbers.subscribers }
    }
}

/// One that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    numbers: Counters,
    of: fn(&Numbers) -> &AtomicUsize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.numbers.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts servers.
pub struct Server;

impl Server {
    /// Serves `methods` on a listening socket, to whom `callers` lets. Methods find a [`super::Peer`] and a
    /// [`super::callers::Who`] in their extensions. Only methods that are both in the registry and in
    /// [`gtd_proto::method::METHODS`] can be called.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime; call it inside one that has I/O and time.
    pub fn start(
        listening: Listening,
        methods: impl Into<Methods>,
        limits: Limits,
        counters: Counters,
        callers: Callers,
    ) -> std::io::Result<ServerHandle> {
        let path = listening.path();
        let (phase, _) = watch::channel(Phase::Open);
        let service = Arc::new(Service::new(methods.into(), limits, counters.clone(), callers));
        let mut server = ServerHandle {
            path,
            file: None,
            phase,
            tracker: TaskTracker::new(),
            service,
            accepting: tokio::spawn(async {}),
            last: Arc::default(),
            counters,
        };
        server.listen(listening)?;
        Ok(server)
    }
}

/// A running server. Dropping it ends the server without a word and leaves the socket's file; see
/// [`ServerHandle::shutdown`].
pub struct ServerHandle {
    path: Option<PathBuf>,
    file: Option<Named>,
    phase: watch::Sender<Phase>,
    tracker: TaskTracker,
    service: Arc<Service>,
    accepting: JoinHandle<()>,
    /// Number of the latest connection.
    last: Arc<AtomicU64>,
    counters: Counters,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Our socket's file was there and was removed.
    pub socket_removed: bool,
    /// Connections that had not ended when the time was up.
    pub left: u64,
}

impl ServerHandle {
    /// Where clients find it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The socket's file; none when it was passed in, and is another's to keep.
    #[must_use]
    pub fn file(&self) -> Option<&Named> {
        self.file.as_ref()
    }

    /// Listens at a socket, in place of the one before it. Connections stay.
    ///
    /// # Errors
    /// When the socket cannot be handed to the runtime; then the one before it is kept.
    pub fn listen(&mut self, listening: Listening) -> std::io::Result<()> {
        let Listening { listener, file } = listening;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        // It ends only where it waits: nobody who was accepted is dropped.
        self.accepting.abort();
        let (service, tracker, phase) =
            (Arc::clone(&self.service), self.tracker.clone(), self.phase.subscribe());
        self.accepting = tokio::spawn(accept(listener, service, tracker, phase, Arc::clone(&self.last)));
        self.file = file;
        Ok(())
    }

    /// Its numbers.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Removes our socket's file, accepts nobody any more, answers new requests `shutting_down`, lets those
    /// under way end within [`Limits::drain`] (the rest is told `shutting_down`; what they began goes on
    /// until the runtime ends), and closes. It takes the drain and half a second at the most.
    pub async fn shutdown(self) -> Drained {
        let socket_removed = self.file.as_ref().is_some_and(Named::remove);
        self.service.close();
        // Nobody may be listening any more: then all have ended already.
        let _ = self.phase.send(Phase::Closing);
        self.tracker.close();
        let everything = async {
            let _ = self.accepting.await;
            self.tracker.wait().await;
        };
        let _ = tokio::time::timeout(self.service.limits.drain + MARGIN, everything).await;
        Drained { socket_removed, left: self.counters.connections() }
    }
}
