//! The handle that the rest of the daemon holds.
//!
//! Owns opening and closing, and the way of one command: over the control connection, else by a process. It must
//! never run a command on another server than the caller named, and never repeat one of which it is not known
//! whether it was done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::config::DriverConfig;
use super::control::NoReply;
use super::error::TmuxError;
use super::keeper::keep;
use super::lifecycle::{Inner, PlainReply};
use super::quote::CommandList;
use super::server::{Known, ServerId};
use super::state::{ServerState, State, TmuxEvent, forward};
use super::version::Version;
use crate::process::observe::observe;
use crate::process::{ExitWatcher, Observation};

/// How long closing may wait for the control client to be collected.
const CLOSING: Duration = Duration::from_secs(2);

/// Works with one tmux server. Cheap to clone; all clones are the same driver.
#[derive(Clone, Debug)]
pub struct Driver {
    pub(super) inner: Arc<Inner>,
}

/// What may be done when it is not known whether a command was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Doing it twice is as doing it once.
    Safe,
    /// The caller has to look first.
    Never,
}

/// What became of a list of commands.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was run, to the end or to an error.
    Done(PlainReply),
    /// The connection was lost after it was sent. The server answers.
    Lost,
}

impl Driver {
    /// Looks for the server and, if there is one, connects to it; starts none. Never fails: [`Self::state`] says
    /// what was found. `recorded` is the server of which an earlier run of the daemon left a record; if its
    /// process is dead already, no event tells of that. `events` gets what happens from then on.
    pub async fn open(
        config: DriverConfig,
        watcher: ExitWatcher,
        events: mpsc::Sender<TmuxEvent>,
        recorded: Option<ServerId>,
    ) -> Self {
        let socket = config.socket();
        let dead = |server: &ServerId| {
            matches!(observe(&server.process), Observation::Dead(_) | Observation::Absent)
        };
        let recorded = recorded.filter(|server| !dead(server));
        let (recorded, elsewhere): (Option<ServerId>, Option<ServerId>) =
            recorded.map_or((None, None), |server| {
                if server.socket == socket { (Some(server), None) } else { (None, Some(server)) }
            });
        let hint = Arc::new(Notify::new());
        let (state, inbox) = State::new(recorded);
        let inner = Arc::new(Inner::new(config, socket, watcher, state, Arc::clone(&hint)));
        if let Some(server) = elsewhere {
            inner.state.complain(&format!("an earlier server still lives on another socket: {server}"));
        }
        inner.tasks.spawn(forward(inbox, hint, events, inner.closed.clone()));
        // An error is in the state and in an event.
        if let Err(error) = inner.look_again().await {
            tracing::debug!(%error, "no tmux server yet");
        }
        inner.tasks.spawn(keep(Arc::clone(&inner)));
        Self { inner }
    }

    /// Whether there is a server, and which. Asks nobody.
    pub fn state(&self) -> ServerState {
        self.inner.state.public()
    }

    /// The version of the program, once it was found good.
    pub fn version(&self) -> Option<Version> {
        self.inner.state.lock().version.clone()
    }

    /// Whether commands travel over a control connection just now, and not by processes. On a server that is not
    /// private they do so only from tmux 3.7 on: connecting to an older one at a bad moment would crash it.
    pub fn is_connected(&self) -> bool {
        self.inner.state.lock().control.is_some()
    }

    /// Whether the server is one of the town's own.
    pub fn is_private(&self) -> bool {
        self.inner.config.server.is_private()
    }

    /// The socket this driver works on.
    pub fn socket(&self) -> &std::path::Path {
        &self.inner.socket
    }

    /// Changes how long a command may take, and the size of sessions that are made from now on.
    pub fn set_limits(&self, timeout: Duration, size: (u16, u16)) {
        self.inner.limits.set(timeout, size);
    }

    /// Why the server that this driver started last is not where its launchers would have put it.
    pub fn not_launched(&self) -> Option<String> {
        self.inner.state.lock().not_launched.clone()
    }

    /// How many `tmux` processes were started so far.
    pub fn forks(&self) -> u64 {
        self.inner.runner.forks()
    }

    /// The server, started when it is proven that none lives. A socket that vanished under a living server is
    /// restored.
    ///
    /// # Errors
    /// Unavailable; Unresponsive (a server may be there); `WrongServer` when another one took the place of ours,
    /// which lives; Refused with the reason otherwise.
    pub async fn ensure_server(&self) -> Result<ServerId, TmuxError> {
        self.inner.ensure().await.map(|known| known.id)
    }

    /// Ends the connection and the tasks. The server and its sessions live on.
    pub async fn close(self) {
        self.inner.closed.cancel();
        self.inner.tasks.close();
        let _ = tokio::time::timeout(CLOSING, self.inner.tasks.wait()).await;
    }

    /// The server the caller means, if it is the one we work with.
    pub(super) fn meant(&self, server: &ServerId) -> Result<Known, TmuxError> {
        let known = self.inner.current()?;
        if known.id == *server {
            Ok(known)
        } else {
            Err(TmuxError::WrongServer { wanted: Box::new(server.clone()), connected: known.id.to_string() })
        }
    }

    /// Runs a list that may be repeated, to its output.
    pub(super) async fn run(&self, known: &Known, list: &CommandList) -> Result<Vec<u8>, TmuxError> {
        match self.attempt(known, list, Repeat::Safe).await? {
            Outcome::Done(reply) => reply.into_result(),
            Outcome::Lost => self.inner.run_plain(known, list).await,
        }
    }

    /// Runs a list, over the connection when there is one.
    pub(super) async fn attempt(
        &self,
        known: &Known,
        list: &CommandList,
        repeat: Repeat,
    ) -> Result<Outcome, TmuxError> {
        let inner = &self.inner;
        let deadline = inner.timeout();
        // Only together: a connection belongs to the server that was current when it was made.
        let control = {
            let shared = inner.state.lock();
            let current = matches!(&shared.condition, super::state::Condition::Up(now) if now == known);
            shared.control.clone().filter(|_| current)
        };
        if let Some(control) = control {
            match control.call(list.line()?, list.len(), deadline).await {
                Ok(reply) => {
                    let error = reply.error.map(|text| TmuxError::from_message(&text, &inner.socket));
                    return Ok(Outcome::Done(PlainReply { body: reply.body, error }));
                }
                Err(NoReply::NotSent) => {}
                Err(NoReply::Lost) if repeat == Repeat::Never => return Ok(Outcome::Lost),
                Err(NoReply::Late) if repeat == Repeat::Never => {
                    return Err(TmuxError::Unresponsive { after: deadline, what: list.name() });
                }
                Err(NoReply::Lost | NoReply::Late) => {}
            }
        }
        Ok(Outcome::Done(inner.run_plain_reply(known, list).await?))
    }
}
