//! Tells the loop how short the machine is of memory and disk.
//!
//! Only looks, off the runtime: a disk that hangs holds nobody up, and is not asked again while it does. What
//! follows from the figures is the throttle's.

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::handle::Handle;
use super::throttle::Figures;
use crate::host::resources::Sampler;

/// Between two looks; a look takes some 50 µs.
const EVERY: Duration = Duration::from_secs(5);
/// How long the first look may take before agents are started without it.
const FIRST: Duration = Duration::from_millis(500);

/// Looks again and again.
pub struct Watch {
    disk: PathBuf,
    sampler: Option<Sampler>,
}

impl Watch {
    /// Of the disk that a path is on.
    #[must_use]
    pub fn new(disk: PathBuf) -> Self {
        Self { disk, sampler: Some(Sampler::new()) }
    }

    /// Looks for the first time, and tells; to be done before anything is started.
    pub async fn first(&mut self, handle: &Handle) {
        // When it is late the sampler stays with it: the loop below begins with a new one.
        if let Ok(Some((sampler, figures))) = tokio::time::timeout(FIRST, self.look()).await {
            self.sampler = Some(sampler);
            handle.input(Input::Figures(figures)).await;
        }
    }

    /// Looks until the daemon goes down.
    pub async fn run(mut self, handle: Handle, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => {
                    let Some((sampler, figures)) = looked else { continue };
                    self.sampler = Some(sampler);
                    handle.input(Input::Figures(figures)).await;
                }
            }
        }
    }

    async fn look(&mut self) -> Option<(Sampler, Figures)> {
        let mut sampler = self.sampler.take().unwrap_or_default();
        let disk = self.disk.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let (free_memory, free_disk) = (sampler.free_memory(), crate::host::resources::free_disk(&disk));
            (sampler, Figures { free_memory, free_disk })
        });
        looked.await.ok()
    }
}
