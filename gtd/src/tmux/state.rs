//! What the driver knows at this moment, and what it tells.
//!
//! Owns the shared state and the events that go out. Its lock is held for moments only, never across a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::error::TmuxError;
use super::server::{Known, ServerId};
use super::version::Version;

/// Whether there is a server to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It answers.
    Up(ServerId),
    /// None answers, and the one we knew (if any) is not known to live.
    Down,
    /// It lives, or may live, and does not answer. Its sessions are unknown, not dead.
    Unresponsive {
        /// Which one, when that is known.
        server: Option<ServerId>,
        /// Since when.
        since: Instant,
        /// What it did not answer to.
        why: String,
    },
    /// There is no usable tmux program.
    Unavailable {
        /// A sentence for people, with the version found where there is one.
        why: String,
    },
}

/// What happened. Sent in order; only [`TmuxEvent::Changed`] is coalesced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmuxEvent {
    /// A server is there that was not known before: started by us, or found.
    ServerStarted(ServerId),
    /// The server's process has ended. Processes in its panes may live on.
    ServerDied {
        /// Which one.
        server: ServerId,
        /// When we learned of it.
        at: Instant,
    },
    /// The server stopped answering.
    Unresponsive {
        /// Which one, when that is known.
        server: Option<ServerId>,
        /// What it did not answer to.
        why: String,
    },
    /// The server answers again.
    Recovered(ServerId),
    /// tmux can be used again, and no server is there.
    Usable,
    /// Sessions, windows or panes changed: somebody should list. At most one in 100 ms. A pane that dies and
    /// remains causes none.
    Changed,
    /// Something is not as it should be, though work goes on. A sentence for people.
    Degraded(String),
    /// What was told as degraded is as it should be again.
    Mended,
}

/// At most one [`TmuxEvent::Changed`] in this time: a listing of 1,000 panes takes 5 ms of tmux's time.
const CHANGED_GAP: Duration = Duration::from_millis(100);
/// Events that may wait for a slow receiver before they are dropped and logged.
const OUTBOX: usize = 64;

#[derive(Debug, Default)]
pub(super) enum Condition {
    Up(Known),
    #[default]
    Down,
    Unresponsive {
        server: Option<ServerId>,
        since: Instant,
        why: String,
    },
    Unavailable {
        error: TmuxError,
        since: Instant,
    },
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) condition: Condition,
    /// The program's version, once it was found good.
    pub(super) version: Option<Version>,
    /// The last server that is not proven dead: recorded earlier, or seen by us.
    pub(super) last: Option<ServerId>,
    pub(super) control: Option<Control>,
    /// The server is being left to end; no connection is to be made.
    pub(super) retired: bool,
    /// Why no launcher worked for the server that was started last.
    pub(super) not_launched: Option<String>,
    /// The last complaint, so that it is not repeated at every attempt.
    complaint: String,
}

/// The state behind its lock, and the way out for events.
#[derive(Debug)]
pub(super) struct State {
    shared: Mutex<Shared>,
    outbox: mpsc::Sender<TmuxEvent>,
    /// Wakes the keeper when the state changed.
    pub(super) poke: Notify,
}

impl State {
    pub(super) fn new(last: Option<ServerId>) -> (Self, mpsc::Receiver<TmuxEvent>) {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let shared = Mutex::new(Shared { last, ..Shared::default() });
        (Self { shared, outbox, poke: Notify::new() }, inbox)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event without waiting.
    fn tell(&self, event: TmuxEvent) {
        if let Err(error) = self.outbox.try_send(event) {
            tracing::warn!(%error, "a tmux event was dropped");
        }
    }

    pub(super) fn public(&self) -> ServerState {
        match &self.lock().condition {
            Condition::Up(known) => ServerState::Up(known.id.clone()),
            Condition::Down => ServerState::Down,
            Condition::Unresponsive { server, since, why } => {
                ServerState::Unresponsive { server: server.clone(), since: *since, why: why.clone() }
            }
            Condition::Unavailable { error, .. } => ServerState::Unavailable { why: error.to_string() },
        }
    }

    /// A server has answered.
    pub(super) fn up(&self, known: Known) {
        let mut shared = self.lock();
        let event = match &shared.condition {
            Condition::Up(before) if *before == known => None,
            Condition::Unresponsive { .. } if shared.last.as_ref().is_none_or(|last| *last == known.id) => {
                Some(TmuxEvent::Recovered(known.id.clone()))
            }
            _ if shared.last.as_ref() == Some(&known.id) => None,
            _ => Some(TmuxEvent::ServerStarted(known.id.clone())),
        };
        shared.last = Some(known.id.clone());
        shared.condition = Condition::Up(known);
        drop(shared);
        event.into_iter().for_each(|event| self.tell(event));
        self.poke.notify_one();
    }

    /// A server's process is proven dead.
    pub(super) fn died(&self, server: &ServerId, at: Instant) {
        let mut shared = self.lock();
        // Told once: by the first of those who notice.
        if shared.last.as_ref() != Some(server) {
            return;
        }
        shared.last = None;
        if !matches!(shared.condition, Condition::Unavailable { .. }) {
            shared.condition = Condition::Down;
        }
        if let Some(control) = shared.control.take() {
            control.abort();
        }
        drop(shared);
        self.tell(TmuxEvent::ServerDied { server: server.clone(), at });
        self.poke.notify_one();
    }

    /// tmux did not answer in time. `about` is the server that was there when the question was put: if that has
    /// died or been replaced meanwhile, its silence means nothing.
    pub(super) fn silent(&self, about: Option<&ServerId>, why: &str) {
        let mut shared = self.lock();
        if shared.last.as_ref() != about {
            return;
        }
        let server = match &shared.condition {
            Condition::Unresponsive { .. } => return,
            Condition::Up(known) => Some(known.id.clone()),
            Condition::Down | Condition::Unavailable { .. } => shared.last.clone(),
        };
        shared.condition =
            Condition::Unresponsive { server: server.clone(), since: Instant::now(), why: why.to_owned() };
        if let Some(control) = shared.control.take() {
            control.abort();
        }
        drop(shared);
        self.tell(TmuxEvent::Unresponsive { server, why: why.to_owned() });
        self.poke.notify_one();
    }

    /// There is no usable program.
    pub(super) fn unavailable(&self, error: &TmuxError) {
        let mut shared = self.lock();
        shared.condition = Condition::Unavailable { error: error.clone(), since: Instant::now() };
        drop(shared);
        self.complain(&error.to_string());
        self.poke.notify_one();
    }

    /// Nobody answers and nobody is known to live.
    pub(super) fn down(&self) {
        let mut shared = self.lock();
        let news = matches!(shared.condition, Condition::Unavailable { .. } | Condition::Unresponsive { .. });
        shared.condition = Condition::Down;
        drop(shared);
        if news {
            self.tell(TmuxEvent::Usable);
        }
        self.poke.notify_one();
    }

    /// Tells of a trouble, once until something else is told.
    pub(super) fn complain(&self, text: &str) {
        let mut shared = self.lock();
        if shared.complaint == text {
            return;
        }
        text.clone_into(&mut shared.complaint);
        drop(shared);
        tracing::warn!(text, "tmux");
        self.tell(TmuxEvent::Degraded(text.to_owned()));
    }

    /// All is well again: the next complaint is news.
    pub(super) fn content(&self) {
        let before = std::mem::take(&mut self.lock().complaint);
        if !before.is_empty() {
            self.tell(TmuxEvent::Mended);
        }
    }

    /// The last complaint, while it holds.
    pub(super) fn complaint(&self) -> Option<String> {
        Some(self.lock().complaint.clone()).filter(|text| !text.is_empty())
    }
}

/// Carries events to their receiver, however slow, and makes one of many hints.
pub(super) async fn forward(
    mut inbox: mpsc::Receiver<TmuxEvent>,
    hint: Arc<Notify>,
    events: mpsc::Sender<TmuxEvent>,
    closed: CancellationToken,
) {
    let mut hinted = false;
    let mut next = tokio::time::Instant::now();
    loop {
        let event = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            event = inbox.recv() => match event {
                Some(event) => event,
                None => return,
            },
            () = hint.notified(), if !hinted => {
                hinted = true;
                continue;
            }
            () = tokio::time::sleep_until(next), if hinted => {
                hinted = false;
                next = tokio::time::Instant::now() + CHANGED_GAP;
                TmuxEvent::Changed
            }
        };
        tokio::select! {
            () = closed.cancelled() => return,
            sent = events.send(event) => if sent.is_err() { return },
        }
    }
}
