//! The task that keeps a driver's state true while nobody asks.
//!
//! Owns the watch on the server's process, the renewal of the control connection and the waiting for a server
//! that does not answer. It must never wait for tmux itself: what may take long runs beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::control::Control;
use super::doorplate;
use super::error::TmuxError;
use super::lifecycle::Inner;
use super::server::{ServerId, introduce};
use super::state::Condition;
use crate::process::observe::observe;
use crate::process::{Exited, Watch, WatchError};

/// First pause before the connection is tried again, doubled up to [`SLOWEST`]. The first try comes at once.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause between tries.
const SLOWEST: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a good one: the next loss starts again without a pause.
const GOOD: Duration = Duration::from_secs(10);
/// How long one question to a silent server may stay open. It is answered the moment the server goes on, so
/// asking seldom costs no time; and each question left behind takes a place in the server's queue of 128.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until the driver is closed.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut watched = Watched::default();
    let mut tries = Tries::default();
    let mut control: Option<Control> = None;
    // Work that may take long: at most one at a time.
    let mut work: Option<AbortOnDropHandle<()>> = None;
    loop {
        let view = View::of(&inner);
        watched.arm(&inner, view.server.as_ref());
        if let (Some(new), true) = (&view.control, !same(&control, &view.control)) {
            control = Some(new.clone());
            tries.connected();
        }
        tries.follow(view.silent);
        let idle = work.is_none();
        tokio::select! {
            () = inner.closed.cancelled() => break,
            exited = watched.exited() => inner.state.died(&exited.0, exited.1.at),
            () = ended(control.as_ref()), if control.is_some() => {
                lost(&inner, control.take());
                tries.lost();
            }
            () = inner.state.poke.notified() => {}
            () = finished(work.as_mut()), if !idle => work = None,
            () = tokio::time::sleep(doorplate::EVERY), if idle && !view.renew && !view.silent => {
                if inner.socket_changed() {
                    let inner = Arc::clone(&inner);
                    let look = async move { inner.mind_socket().await };
                    work = Some(AbortOnDropHandle::new(tokio::spawn(look)));
                }
            }
            () = tokio::time::sleep_until(tries.next), if idle && (view.renew || view.silent) => {
                tries.tried();
                let inner = Arc::clone(&inner);
                work = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                    if view.silent { outwait(&inner).await } else { renew(&inner).await }
                })));
            }
        }
    }
    drop(work);
    let last = inner.state.lock().control.take().or(control);
    if let Some(last) = last {
        last.abort();
        last.ended().await;
    }
}

/// What matters to the keeper.
struct View {
    server: Option<ServerId>,
    control: Option<Control>,
    /// There is a server and no connection.
    renew: bool,
    /// tmux does not answer, or there is no usable one yet.
    silent: bool,
}

impl View {
    fn of(inner: &Inner) -> Self {
        let renew = inner.wants_control();
        let shared = inner.state.lock();
        Self {
            // Whatever the state: as long as it is not proven dead, its end is news.
            server: shared.last.clone(),
            control: shared.control.clone(),
            renew,
            silent: matches!(
                shared.condition,
                Condition::Unresponsive { .. } | Condition::Unavailable { .. }
            ),
        }
    }
}

fn same(one: &Option<Control>, other: &Option<Control>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is(other),
        (None, None) => true,
        _ => false,
    }
}

async fn ended(control: Option<&Control>) {
    match control {
        Some(control) => control.ended().await,
        None => std::future::pending().await,
    }
}

async fn finished(work: Option<&mut AbortOnDropHandle<()>>) {
    match work {
        Some(work) => drop(work.await),
        None => std::future::pending().await,
    }
}

/// A connection has ended: of itself, or because somebody gave it up.
fn lost(inner: &Inner, control: Option<Control>) {
    let mut shared = inner.state.lock();
    let current = shared.control.take_if(|now| control.as_ref().is_some_and(|gone| now.is(gone)));
    let server = current.and(shared.last.clone());
    drop(shared);
    // The end of the stream comes before the watch tells us when the server was killed.
    if let Some(server) = server
        && observe(&server.process).is_dead()
    {
        inner.state.died(&server, Instant::now());
    }
}

/// Makes a new connection.
async fn renew(inner: &Arc<Inner>) {
    if let Err(error) = inner.look_again().await {
        tracing::debug!(%error, "no new control connection");
        // A server that cannot be reached is an old story until it answers.
        if let TmuxError::NoServer { .. } = error {
            inner.state.complain(&error.to_string());
        }
    }
}

/// Waits for a sign of life from a silent tmux.
async fn outwait(inner: &Arc<Inner>) {
    let version_known = inner.state.lock().version.is_some();
    let deadline = inner.timeout();
    let answer = if version_known {
        introduce(&inner.runner, PATIENCE.max(deadline)).await.map(drop)
    } else {
        // A program that hangs by itself never answers late: the next look may find another one in its place.
        inner.runner.version(deadline).await.map(drop)
    };
    // Any answer, a refusal too, means that it is worth looking.
    if !matches!(answer, Err(TmuxError::Unresponsive { .. })) {
        let looked = inner.look_again().await;
        tracing::debug!(?looked, "tmux answered again");
    }
}

/// The server under watch.
#[derive(Default)]
struct Watched {
    server: Option<ServerId>,
    watch: Option<Watch>,
}

impl Watched {
    fn arm(&mut self, inner: &Inner, server: Option<&ServerId>) {
        if self.server.as_ref() == server {
            return;
        }
        self.server = server.cloned();
        self.watch = None;
        let Some(server) = server else { return };
        match inner.watcher.watch(&server.process) {
            Ok(watch) => self.watch = Some(watch),
            Err(WatchError::AlreadyGone(_)) => inner.state.died(server, Instant::now()),
            Err(WatchError::Unknown(why)) => {
                inner
                    .state
                    .complain(&format!("{server} is not watched, its end will be noticed late: {why}"));
            }
        }
    }

    async fn exited(&mut self) -> (ServerId, Exited) {
        match (&self.server, &mut self.watch) {
            (Some(server), Some(watch)) => (server.clone(), watch.exited().await),
            _ => std::future::pending().await,
        }
    }
}

/// When to try again.
struct Tries {
    next: tokio::time::Instant,
    pause: Duration,
    since: Option<Instant>,
    silent: bool,
}

impl Default for Tries {
    fn default() -> Self {
        Self { next: tokio::time::Instant::now(), pause: Duration::ZERO, since: None, silent: false }
    }
}

impl Tries {
    fn tried(&mut self) {
        self.pause = (self.pause * 2).clamp(FIRST, SLOWEST);
        self.next = tokio::time::Instant::now() + self.pause;
    }

    /// Silence begins or ends: that is news, and what was tried before does not count.
    fn follow(&mut self, silent: bool) {
        if self.silent != silent {
            *self = Self { silent, ..Self::default() };
        }
    }

    fn connected(&mut self) {
        self.since = Some(Instant::now());
    }

    fn lost(&mut self) {
        if self.since.take().is_some_and(|since| since.elapsed() >= GOOD) {
            *self = Self { silent: self.silent, ..Self::default() };
        }
    }
}
