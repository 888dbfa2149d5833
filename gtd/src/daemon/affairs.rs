//! The town's own affairs: the mailboxes, and who sees to the requests in them.
//!
//! Owns starting them, and which step of the heartbeat each is.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Daemon;
use crate::feed::Bus;
use crate::mail::lifecycle::{self, Clerk};
use crate::mail::pending::{self, Pending};
use crate::mail::{self, Office};
use crate::rpc::Callers;
use crate::supervisor::Handle;
use crate::supervisor::errands::Ran;
use crate::supervisor::nudges::Nudges;

/// What there is.
pub(super) struct Affairs {
    pub(super) office: Office,
    pub(super) clerk: Clerk,
    stop: CancellationToken,
}

/// The tasks of it.
pub(super) struct Running(Vec<tokio::task::JoinHandle<()>>);

impl Running {
    /// What they were at is in the ledger.
    pub(super) fn abort(&self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Affairs {
    pub(super) fn new(daemon: &Daemon, callers: &Callers) -> Self {
        let office = Office::new(daemon.handle.clone(), daemon.bus.clone(), Arc::clone(&daemon.desk));
        let stop: CancellationToken = daemon.stop.clone();
        let clerk = Clerk::new(
            daemon.handle.clone(),
            daemon.bus.clone(),
            office.clone(),
            Arc::clone(&daemon.layout),
            Arc::new(callers.clone()),
            stop.clone(),
        );
        Self { office, clerk, stop }
    }

    pub(super) fn start(self, handle: &Handle, nudges: &Nudges, bus: &Bus) -> Running {
        let pending = Pending::new(handle.clone(), self.office.clone(), nudges.clone());
        handle.take_on(pending::STEP, Arc::new(pending));
        handle.take_on(lifecycle::STEP, Arc::new(lifecycle::InTurn(self.clerk.clone())));
        handle.take_on(lifecycle::NOW, Arc::new(self.clerk.clone()));
        let carried = mail::carry(self.office, bus.clone(), self.stop);
        Running(vec![tokio::spawn(self.clerk.run()), tokio::spawn(carried)])
    }
}

/// Processes lifecycle requests, whatever the heartbeat is at.
pub(super) async fn look_now(handle: Handle) {
    match handle.errand(lifecycle::NOW).await {
        // A signal that comes before anybody can do it is made up for when they begin.
        Ran::Nobody => {}
        Ran::Done(actions) => tracing::info!(?actions, "lifecycle requests were looked for"),
        Ran::Failed(why) => tracing::warn!(%why, "lifecycle requests could not be looked for"),
        Ran::Late(after) => tracing::warn!(?after, "lifecycle requests were not looked for in time"),
    }
}
