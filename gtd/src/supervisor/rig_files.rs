//! Writing what was decided about rigs into the files that others read: the state file and the registry.
//!
//! The ledger has it by then; this makes the files follow, also after a `kill -9` in between, and tries again when
//! they cannot be written. It must never decide anything, nor write a file for any other reason.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::town::Outcome;
use gtd_proto::{Address, RigName, RpcError};
use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::handle::{Handle, Shared};
use super::requests::{Request, Wait};
use super::rig_requests::Chore;
use super::turn::Answer;
use crate::town::watch::Looker;
use crate::town::{Layout, registry, wisp_edit};

/// Time after which a file that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

impl Shared {
    /// Takes in what is to be written, and wakes whoever writes it.
    pub(super) fn see_chores(&self, chores: Vec<(RigName, Chore)>) {
        let new = self.view.read(|shown| shown.chores != chores);
        if new {
            self.view.change(|shown| shown.chores = chores);
            self.chores_changed.notify_one();
        }
    }
}

/// Writes until the daemon goes down.
pub async fn keep(handle: Handle, layout: Arc<Layout>, looker: Looker, stop: CancellationToken) {
    loop {
        let chores = handle.view().read(|shown| shown.chores.clone());
        let idle = chores.is_empty();
        for (rig, chore) in chores {
            let error = {
                let (layout, rig) = (Arc::clone(&layout), rig.clone());
                tokio::task::spawn_blocking(move || write(&layout, &rig, chore)).await
            };
            let error = error.unwrap_or_else(|error| Err(error.to_string())).err();
            if let Some(error) = &error {
                tracing::warn!(%rig, ?chore, %error, "a file was not written");
            }
            handle.input(Input::RigWritten { rig, chore, at: handle.now(), error }).await;
            // Somebody may have changed it at the same moment: nobody would hear of that if it is as it was read last.
            looker.look_again();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = handle.shared().chores_changed.notified() => {}
            () = tokio::time::sleep(AGAIN), if !idle => {}
        }
    }
}

fn write(layout: &Layout, rig: &RigName, chore: Chore) -> Result<(), String> {
    match chore {
        Chore::State(edit) => wisp_edit::edit(&layout.wisp(rig), rig, edit)
            .map_err(|error| format!(".beads-wisp/config/{rig}.json: {error}")),
        Chore::Unregister => registry::remove(&layout.rigs_json(), rig)
            .map(|_| ())
            .map_err(|error| format!("mayor/rigs.json: {error}")),
    }
}

impl Handle {
    /// Asks for a change of a rig's standing: whether it was so already, and which agents follow it. It is in the
    /// ledger when this returns.
    ///
    /// # Errors
    /// Whatever the change failed with.
    pub async fn change_rig(&self, request: Request) -> Result<(bool, BTreeSet<Address>), RpcError> {
        match self.ask(request).await? {
            Answer::Rig { already, agents } => Ok((already, agents)),
            _ => Err(RpcError::internal("an answer of another kind was given")),
        }
    }

    /// Waits until agents of a rig are where its standing wants them.
    ///
    /// # Errors
    /// `timeout` when they are not there in time.
    pub async fn rig_settled(
        &self,
        rig: &RigName,
        agents: BTreeSet<Address>,
        wait: Wait,
    ) -> Result<Vec<Outcome>, RpcError> {
        self.change_town(Request::RigSettled { rig: rig.clone(), agents, wait }).await
    }
}
