//! `[[notify]]`: programs that are told of events, each by a task of its own with a place of its own.
//!
//! Owns whom to tell of what, how often, and that nothing is forgotten over a crash. A program that hangs or
//! fails holds up its own next turn and nothing else. Must never decide anything about agents.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::{Event, Seq};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::limiter::{Limiter, Rate, Verdict};
pub use super::program::Surroundings;
use super::program::{DEADLINE, run};
use super::words::{fill, words};
use super::{Bus, Cursor, Reader};
use crate::config::{Live, Notify};
use crate::ledger::Ledger;

/// Names of the ledger's facts that hold how far each hook is, begin so.
pub const CURSORS: &str = "notify:";

/// How often a hook that has nothing to do notes how far the stream is, so that the next daemon need not read
/// all of it again.
const IDLE: Duration = Duration::from_secs(600);
/// How long hooks may take to end once they are told to.
const ENDING: Duration = Duration::from_secs(1);

/// How a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Names the hook, for alerts.
    pub key: String,
    /// The program.
    pub program: String,
    /// Why it failed; none when it did not, or when it is no longer asked for.
    pub failed: Option<String>,
}

/// The key of a hook: another one as soon as anything of it is changed.
fn key(hook: &Notify) -> String {
    // FNV-1a: small, and the same in every version.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let parts = hook.on.iter().map(|on| (1u8, on)).chain(hook.exec.iter().map(|word| (2u8, word)));
    for (tag, part) in parts {
        for byte in part.bytes().chain([0, tag]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{CURSORS}{hash:016x}")
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Cursor>,
    program: String,
}

/// Keeps one task per hook of the configuration in force, until it is cancelled. `facts` are the ledger's at the
/// start, by their names.
pub async fn keep(
    bus: Bus,
    ledger: Ledger,
    live: Live,
    around: Surroundings,
    mut facts: BTreeMap<String, Value>,
    outcomes: mpsc::Sender<Outcome>,
    stop: CancellationToken,
) {
    let around = Arc::new(around);
    let mut changes = live.watch();
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    loop {
        let wanted: BTreeMap<String, Notify> =
            live.now().notify.iter().map(|hook| (key(hook), hook.clone())).collect();
        let gone: Vec<String> = running.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            let Some(hook) = running.remove(&key) else { continue };
            hook.stop.cancel();
            if let Ok(cursor) = hook.task.await {
                cursor.forget().await;
            }
            let _ = outcomes.send(Outcome { key, program: hook.program, failed: None }).await;
        }
        for (key, hook) in wanted {
            if running.contains_key(&key) {
                continue;
            }
            let cursor =
                Cursor::open(ledger.clone(), key.clone(), facts.remove(&key).as_ref(), bus.head()).await;
            let (stop, program) = (stop.child_token(), hook.exec.first().cloned().unwrap_or_default());
            let one = One {
                key: key.clone(),
                hook,
                bus: bus.clone(),
                cursor,
                limiter: Limiter::new(Rate::default()),
                around: Arc::clone(&around),
                outcomes: outcomes.clone(),
            };
            let task = tokio::spawn(one.run(stop.clone()));
            running.insert(key, Running { stop, task, program });
        }
        // Places of hooks that were taken out while no daemon ran.
        for (key, fact) in std::mem::take(&mut facts) {
            Cursor::open(ledger.clone(), key, Some(&fact), bus.head()).await.forget().await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    for hook in running.into_values() {
        let _ = tokio::time::timeout(ENDING, hook.task).await;
    }
}

/// One hook.
struct One {
    key: String,
    hook: Notify,
    bus: Bus,
    cursor: Cursor,
    limiter: Limiter,
    around: Arc<Surroundings>,
    outcomes: mpsc::Sender<Outcome>,
}

impl One {
    /// Until it is cancelled. A run that is cut short is not noted as done, and so comes again.
    async fn run(mut self, stop: CancellationToken) -> Cursor {
        stop.run_until_cancelled(self.go()).await;
        self.cursor
    }

    async fn go(&mut self) {
        let mut reader = Reader::new(self.bus.clone(), self.hook.on.clone(), self.cursor.at());
        loop {
            let due = self.limiter.due();
            tokio::select! {
                event = reader.next() => {
                    if self.limiter.take(&event, Instant::now()) == Verdict::Run {
                        self.tell(&event, 0).await;
                    }
                    self.note(event.seq).await;
                }
                () = until(due) => {
                    if let Some(left_out) = self.limiter.tell(Instant::now()) {
                        self.tell(&left_out.last, left_out.more).await;
                        self.note(left_out.last.seq).await;
                    }
                }
                () = tokio::time::sleep(IDLE) => self.note(reader.seen()).await,
            }
        }
    }

    /// Everything up to there was told, but for what is counted and not yet told: a daemon that dies now must
    /// come back to that.
    async fn note(&mut self, seq: Seq) {
        let done = self.limiter.oldest().map_or(seq, |oldest| Seq(oldest.0.saturating_sub(1)));
        self.cursor.reach(done).await;
    }

    async fn tell(&self, event: &Event, more: u64) {
        let words = words(event, more);
        // Not into the program's name: which one runs is the configuration's to say.
        let argv: Vec<String> = self
            .hook
            .exec
            .iter()
            .enumerate()
            .map(|(index, word)| if index == 0 { word.clone() } else { fill(word, event, &words) })
            .collect();
        let input = serde_json::to_vec(event).unwrap_or_default();
        let program = self.hook.exec.first().cloned().unwrap_or_default();
        let failed = run(&self.around, &argv, &input, DEADLINE).await.err();
        match &failed {
            Some(why) => {
                tracing::warn!(%program, seq = %event.seq, kind = %event.kind, "a notification program failed: {why}")
            }
            None => tracing::debug!(%program, seq = %event.seq, kind = %event.kind, "notified"),
        }
        let _ = self.outcomes.send(Outcome { key: self.key.clone(), program, failed }).await;
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
