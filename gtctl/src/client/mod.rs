//! The connection to a daemon: where it is ([`endpoint`]), how lines cross it ([`transport`]), and the
//! handshake. Requests go through the method traits of `gtd_proto::rpc`, which [`Session`]'s client implements.

pub mod endpoint;
pub mod transport;

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_proto::rpc::DaemonClient;
use gtd_proto::{PROTOCOL, Reply, daemon, params};
use jsonrpsee::core::client::{Client, ClientBuilder};
use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::output::note;
use endpoint::Target;

/// How long the handshake may take: it is answered from memory, also by a busy daemon.
const HELLO: Duration = Duration::from_secs(5);

/// Silence after which it is said that the handshake is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long a read may take; reads are answered within milliseconds unless something is badly wrong.
const READ: Duration = Duration::from_secs(30);

/// What a request that waits is given beyond the time it asked for.
const SLACK: Duration = Duration::from_secs(15);

/// jsonrpsee's own limit on a request. It is 60 s unless said otherwise, which would cut a long start short;
/// our limits are the two above and `wait_ms`.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Frames kept for a slow reader before jsonrpsee drops the subscription.
const FRAMES: usize = 16 * 1024;

/// An open connection whose other end has said who it is.
pub struct Session {
    /// Implements the client halves of the traits in `gtd_proto::rpc`.
    pub client: Client,
    /// What the daemon said of itself, and its last event.
    pub hello: Reply<daemon::Hello>,
    /// The process that listens on the socket, by the kernel.
    pub peer: Option<i32>,
    /// Path of the socket.
    pub socket: PathBuf,
}

impl Session {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// `Unreachable` when nobody answers, `Mismatch` for another protocol or another town, `Refused` where the
    /// socket may not be opened.
    pub async fn open(target: &Target) -> Result<Self, Failure> {
        Self::open_within(target, HELLO).await
    }

    /// [`Session::open`] with a deadline of the caller's.
    ///
    /// # Errors
    /// As there.
    pub async fn open_within(target: &Target, limit: Duration) -> Result<Self, Failure> {
        let stream = dial(&target.socket)?;
        let peer = listener_of(&stream);
        let stream = UnixStream::from_std(stream)
            .map_err(|e| Failure::failed(format!("cannot use {}: {e}", target.socket.display())))?;
        let (sender, receiver) = transport::halves(stream);
        let client = ClientBuilder::default()
            .request_timeout(NEVER)
            .max_buffer_capacity_per_subscription(FRAMES)
            .build_with_tokio(sender, receiver);
        let request = params::Hello {
            client: concat!("gtctl/", env!("CARGO_PKG_VERSION")).to_owned(),
            protocol: PROTOCOL,
        };
        let answer = async {
            let asked = client.hello(request);
            tokio::pin!(asked);
            match tokio::time::timeout(PATIENCE, &mut asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    note("the daemon has not answered yet; it is given some seconds");
                    asked.await
                }
            }
        };
        let hello = match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(Failure::silent(format!(
                    "the daemon at {} does not answer",
                    target.socket.display()
                )));
            }
        };
        let session = Self { client, hello, peer, socket: target.socket.clone() };
        session.check(target)?;
        Ok(session)
    }

    fn check(&self, target: &Target) -> Result<(), Failure> {
        let hello = &self.hello.body;
        if hello.protocol != PROTOCOL {
            return Err(Failure::mismatch(format!(
                "the daemon (gtd {}) speaks protocol {}, this gtctl {} speaks {PROTOCOL}",
                hello.version,
                hello.protocol,
                env!("CARGO_PKG_VERSION"),
            ))
            .hint("use the gtctl and the gtd of one version; `gtctl daemon restart` starts the gtd beside this gtctl"));
        }
        let Some(town) = &target.town else { return Ok(()) };
        match endpoint::town_id(town) {
            Some(id) if id != hello.town_id => Err(Failure::mismatch(format!(
                "the daemon at {} serves the town {} ({}), not {} ({id})",
                self.socket.display(),
                hello.town,
                hello.town_id,
                town.display(),
            ))
            .hint(format!("gtctl --town {} daemon start", town.display()))),
            // A daemon gives its town an id before it listens: one without an id has had none.
            None if town.as_path() != self.root() => Err(Failure::mismatch(format!(
                "the daemon at {} serves the town {}, not {}",
                self.socket.display(),
                hello.town,
                town.display(),
            ))
            .hint(format!("gtctl --town {} daemon start", town.display()))),
            _ => Ok(()),
        }
    }

    /// Root of the town that the daemon serves.
    #[must_use]
    pub fn root(&self) -> &Path {
        Path::new(&self.hello.body.town)
    }
}

/// The process that listens on a socket, also when it does not answer; none when nobody does, or the platform
/// does not say.
#[must_use]
pub fn listener(socket: &Path) -> Option<i32> {
    listener_of(&dial(socket).ok()?)
}

#[cfg(target_os = "linux")]
fn listener_of(stream: &StdUnixStream) -> Option<i32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    // Zero stands for a process that cannot be seen from our pid namespace.
    getsockopt(stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}

#[cfg(not(target_os = "linux"))]
fn listener_of(_stream: &StdUnixStream) -> Option<i32> {
    None
}

/// Connects without waiting; the stream does not block.
///
/// # Errors
/// When nobody listens, or the socket may not be opened.
pub fn dial(socket: &Path) -> Result<StdUnixStream, Failure> {
    connect(socket).map_err(|error| {
        let at = socket.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::unreachable(format!("no daemon is running: there is no {at}"))
            }
            io::ErrorKind::ConnectionRefused => {
                Failure::unreachable(format!("no daemon is running: nobody listens on {at}"))
            }
            io::ErrorKind::PermissionDenied => {
                Failure::refused(format!("the socket {at} belongs to another user"))
            }
            io::ErrorKind::WouldBlock => {
                Failure::silent(format!("the daemon at {at} does not accept connections"))
            }
            _ => Failure::unreachable(format!("cannot connect to {at}: {error}")),
        }
    })
}

/// Connects without waiting: a Unix socket either has a listener or not. A full backlog means that the daemon
/// does not accept, and must not make us hang.
#[cfg(target_os = "linux")]
fn connect(socket: &Path) -> io::Result<StdUnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &address)?;
    Ok(StdUnixStream::from(fd))
}

/// Connects; elsewhere a full backlog is refused at once anyway.
#[cfg(not(target_os = "linux"))]
fn connect(socket: &Path) -> io::Result<StdUnixStream> {
    let stream = StdUnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Bounds a read by [`READ`].
///
/// # Errors
/// The request's own, or a timeout.
pub async fn read<T>(
    request: impl Future<Output = Result<T, jsonrpsee::core::ClientError>>,
) -> Result<T, Failure> {
    bounded(Some(READ), request).await.map_err(Failure::unread)
}

/// Bounds a read that takes its time as [`change`] does.
///
/// # Errors
/// The request's own, or a timeout.
pub async fn look<T>(
    wait_ms: Option<u64>,
    request: impl Future<Output = Result<T, jsonrpsee::core::ClientError>>,
) -> Result<T, Failure> {
    bounded(wait_ms.map(with_slack), request).await.map_err(Failure::unread)
}

/// Bounds a request that changes something: by the time it was told to wait, and some more for the answer to
/// cross; without one it may take as long as the daemon lives.
///
/// # Errors
/// The request's own, or a timeout. Where no answer came, that it may have been taken.
pub async fn change<T>(
    wait_ms: Option<u64>,
    request: impl Future<Output = Result<T, jsonrpsee::core::ClientError>>,
) -> Result<T, Failure> {
    once(None, wait_ms, request).await
}

/// [`change`] for a request that carries an idempotency key, and so may be made again.
///
/// # Errors
/// As there; where no answer came, also with which key it is safe to repeat.
pub async fn once<T>(
    key: Option<String>,
    wait_ms: Option<u64>,
    request: impl Future<Output = Result<T, jsonrpsee::core::ClientError>>,
) -> Result<T, Failure> {
    bounded(wait_ms.map(with_slack), request).await.map_err(|failure| failure.untold(key.as_deref()))
}

fn with_slack(ms: u64) -> Duration {
    Duration::from_millis(ms).saturating_add(SLACK)
}

async fn bounded<T>(
    limit: Option<Duration>,
    request: impl Future<Output = Result<T, jsonrpsee::core::ClientError>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return Ok(request.await?) };
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::unanswered(limit)),
    }
}
