//! `.feed.jsonl`: what of the events is worth a look, for the incumbent's readers.
//!
//! Owns the task that makes it: when it looks, and what is said of its troubles. It may die: it begins again where the
//! ledger and the feed itself say that it was. Must never write to `.events.jsonl`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use super::curator::Files;
use super::curator::{Curator, Step};
use crate::ledger::{Ledger, LedgerError};

/// Name of the ledger's fact that holds how far the events were read.
pub const FACT: &str = "feed_file";

/// Time in which lines come together: the incumbent's reader looks ten times in a second.
const GATHER: Duration = Duration::from_millis(20);
/// How long a file that was moved away may still be written to by whoever had it open.
const LATE: Duration = Duration::from_millis(100);
/// Time between two looks without an event, in case one was missed: as often as a heartbeat. One `stat`.
const SLOW_LOOK: Duration = Duration::from_secs(180);
/// The same where the directory cannot be watched.
const BLIND_LOOK: Duration = Duration::from_secs(2);
/// Pauses before files that cannot be read or written are tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Makes the feed until it is cancelled. `trouble` is told when a file cannot be used, and when it can again.
pub async fn keep<T, F>(ledger: Ledger, files: Files, stop: CancellationToken, trouble: T)
where
    T: Fn(Option<String>) -> F,
    F: Future<Output = ()>,
{
    let woken = Arc::new(Notify::new());
    // Before anything is read: a change after that wakes.
    let watcher = watch(&files.events, &woken);
    if let Err(error) = &watcher {
        let every = BLIND_LOOK.as_secs();
        tracing::warn!(%error, "the directory of the events cannot be watched; it is looked at every {every} s");
    }
    let look = if watcher.is_ok() { SLOW_LOOK } else { BLIND_LOOK };
    let Some(fact) = remembered(&ledger, &stop).await else { return };
    let mut curator = Curator::new(files, fact);
    let mut pause = PAUSES.0;
    loop {
        let before = curator.known.clone();
        let stepped = tokio::task::spawn_blocking(move || {
            let done = curator.step();
            (curator, done)
        });
        let done = match stepped.await {
            Ok((back, done)) => {
                curator = back;
                done
            }
            // Whoever started this starts it again.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if curator.known != before {
            // Soon enough: what is written twice is known by its name.
            ledger.describe(curator.fact()).await;
        }
        let wait = match done {
            Ok(step) => {
                trouble(None).await;
                pause = PAUSES.0;
                match step {
                    Step::More => Duration::ZERO,
                    Step::Late => LATE,
                    Step::Done => look,
                }
            }
            Err(error) => {
                trouble(Some(error.to_string())).await;
                let wait = pause;
                pause = (pause * 2).min(PAUSES.1);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
        };
        if wait.is_zero() {
            if stop.is_cancelled() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = woken.notified(), if wait == look => tokio::time::sleep(GATHER).await,
        }
    }
}

/// What the ledger has of an earlier turn. None when the task is cancelled before it could be read.
async fn remembered(ledger: &Ledger, stop: &CancellationToken) -> Option<Option<Value>> {
    loop {
        match ledger.fact(FACT).await {
            Ok(fact) => return Some(fact),
            // The feed itself says how far it is.
            Err(LedgerError::Value { .. }) => return Some(None),
            Err(error) => {
                tracing::warn!(%error, "how far the events were read cannot be told yet");
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(PAUSES.1) => {}
                }
            }
        }
    }
}

/// Watches the directory, because a file that is replaced would take its watch with it.
fn watch(events: &Path, woken: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let name = events.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wake = Arc::clone(woken);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.as_ref().map_or(true, |event| matters(event, &name)) {
            wake.notify_one();
        }
    })?;
    let dir = events.parent().unwrap_or_else(|| Path::new("/"));
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether an event can mean that there is something to read. Our own reading makes events too.
fn matters(event: &notify::Event, name: &str) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let read = matches!(event.kind, EventKind::Access(_)) && event.kind != written;
    let ours = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy() == name;
    event.need_rescan() || (!read && (event.paths.is_empty() || event.paths.iter().any(ours)))
}
