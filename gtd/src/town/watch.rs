//! Noticing that a town's files changed.
//!
//! Watches directories, not files: a file that is replaced would take its watch with it. Events only wake;
//! what counts is the difference between two readings. Where no events come (a network disk, no watches
//! left), a slow look finds the same. Must never spin on what it reads itself, nor wait for its receiver.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::file::absent;
use super::finding::Finding;
use super::layout::Layout;
use super::snapshot::{Snapshot, settle};

/// Time in which the events of one change come together: a replaced file makes three to five.
const GATHER: Duration = Duration::from_millis(20);
/// Part of the time that reading may take while something writes without end: a tenth.
const REST: u32 = 9;
/// Time between two looks without an event.
const SLOW_LOOK: Duration = Duration::from_secs(30);
/// The same where events are known not to come.
const BLIND_LOOK: Duration = Duration::from_secs(5);
/// Time after which a full receiver is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Snapshots that wait for the receiver; further ones replace the newest.
const WAITING: usize = 4;

/// A watch on a town. It ends when this is dropped, or when the receiver is.
#[derive(Debug)]
pub struct Watch {
    wake: SyncSender<()>,
    stop: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
}

/// Asks a watch to look; may be kept by others.
#[derive(Debug, Clone)]
pub struct Looker {
    wake: SyncSender<()>,
    again: Arc<AtomicBool>,
}

impl Looker {
    /// Looks now, and sends what is seen also when it is as before: for whoever changed something, and must know
    /// whether that is still so.
    pub fn look_again(&self) {
        self.again.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
    }
}

impl Watch {
    /// Starts watching. `first` is the snapshot that the caller has; every later one that is different from
    /// the one before is sent.
    ///
    /// # Errors
    /// When no thread can be started. That no files can be watched is no error, but a finding `watch` in
    /// the snapshots.
    pub fn start(
        layout: &Layout,
        first: Arc<Snapshot>,
    ) -> std::io::Result<(Self, mpsc::Receiver<Arc<Snapshot>>)> {
        // One place is enough: a wake that waits stands for all that come until it is taken.
        let (wake, woken) = sync_channel(1);
        let (send, receive) = mpsc::channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let again = Arc::new(AtomicBool::new(false));
        let eyes = Eyes::new(layout.clone(), wake.clone());
        let (layout, told) = (layout.clone(), Arc::clone(&again));
        let worker = Worker { layout, eyes, last: first, send, stop: Arc::clone(&stop), again: told };
        std::thread::Builder::new().name("town-watch".to_owned()).spawn(move || worker.run(&woken))?;
        Ok((Self { wake, stop, again }, receive))
    }

    /// Asks this watch to look, from elsewhere.
    #[must_use]
    pub fn looker(&self) -> Looker {
        Looker { wake: self.wake.clone(), again: Arc::clone(&self.again) }
    }

    /// Looks now, whether or not something was noticed.
    pub fn look(&self) {
        let _ = self.wake.try_send(());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.try_send(());
    }
}

struct Worker {
    layout: Layout,
    eyes: Eyes,
    last: Arc<Snapshot>,
    send: mpsc::Sender<Arc<Snapshot>>,
    stop: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, woken: &Receiver<()>) {
        let mut unsent = None;
        loop {
            let began = Instant::now();
            let again = self.again.swap(false, Ordering::AcqRel);
            let (snapshot, waited) = self.look();
            let cost = began.elapsed().saturating_sub(waited);
            if again || snapshot != *self.last {
                self.last = Arc::new(snapshot);
                unsent = Some(Arc::clone(&self.last));
            }
            let rested = Instant::now() + cost.saturating_mul(REST);
            if self.wait(woken, &mut unsent).is_none() {
                return;
            }
            // Gather what belongs to the same change, and never read more than a tenth of the time.
            std::thread::sleep(GATHER.max(rested.saturating_duration_since(Instant::now())));
            let _ = woken.try_recv();
        }
    }

    /// Waits for an event or for the time of the next look; none when nobody wants to know any more.
    fn wait(&self, woken: &Receiver<()>, unsent: &mut Option<Arc<Snapshot>>) -> Option<()> {
        let due = Instant::now() + if self.eyes.blind() { BLIND_LOOK } else { SLOW_LOOK };
        loop {
            if let Some(snapshot) = unsent.take() {
                match self.send.try_send(snapshot) {
                    Ok(()) => {}
                    Err(TrySendError::Full(snapshot)) => *unsent = Some(snapshot),
                    Err(TrySendError::Closed(_)) => return None,
                }
            }
            let left = due.saturating_duration_since(Instant::now());
            let result = woken.recv_timeout(if unsent.is_some() { left.min(RETRY) } else { left });
            if self.stop.load(Ordering::Relaxed) || self.send.is_closed() {
                return None;
            }
            match result {
                Ok(()) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= due => return Some(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Reads the town, with watches set first on all that is read: a change after the watch wakes, one
    /// before it is read. Rigs that the reading brings up are watched, and then read once more.
    /// Tells how much of the time was only waited.
    fn look(&mut self) -> (Snapshot, Duration) {
        self.eyes.set(&self.last);
        let (mut snapshot, mut waited) = settle(&self.layout, Some(&self.last));
        for _ in 0..3 {
            if !self.eyes.set(&snapshot) {
                break;
            }
            let (again, more) = settle(&self.layout, Some(&self.last));
            snapshot = again;
            waited += more;
        }
        if let Some(finding) = self.eyes.finding() {
            snapshot.findings.push(finding);
        }
        (snapshot, waited)
    }
}

/// The watched directories, each with the device and inode that it had.
struct Eyes {
    layout: Layout,
    watcher: Result<RecommendedWatcher, String>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
    refused: Option<String>,
}

impl Eyes {
    fn new(layout: Layout, wake: SyncSender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error is as good as an event: something happened, and a look will tell.
            if event.as_ref().map_or(true, matters) {
                let _ = wake.try_send(());
            }
        })
        .map_err(|error| error.to_string());
        Self { layout, watcher, watched: BTreeMap::new(), refused: None }
    }

    fn blind(&self) -> bool {
        self.watcher.is_err() || self.refused.is_some()
    }

    fn finding(&self) -> Option<Finding> {
        let error = self.watcher.as_ref().err().or(self.refused.as_ref())?;
        Some(
            Finding::warning(
                "watch",
                format!(
                    "files cannot be watched: {error}; they are looked at every {} s",
                    BLIND_LOOK.as_secs()
                ),
            )
            .hint("raise fs.inotify.max_user_watches and max_user_instances"),
        )
    }

    /// Watches the directories that a snapshot was read from. A directory that was replaced is watched
    /// anew; one that is missing shows up in its parent. Tells whether a watch is new.
    fn set(&mut self, snapshot: &Snapshot) -> bool {
        let Ok(watcher) = &mut self.watcher else { return false };
        let wanted = directories(&self.layout, snapshot);
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !wanted.contains(path)).cloned().collect();
        for path in gone {
            self.watched.remove(&path);
            let _ = watcher.unwatch(&path);
        }
        let mut new = false;
        self.refused = None;
        for path in wanted {
            let id = match std::fs::metadata(&path) {
                Ok(meta) => meta.is_dir().then(|| (meta.dev(), meta.ino())),
                Err(_) => None,
            };
            if self.watched.get(&path).copied() == id {
                continue;
            }
            if self.watched.remove(&path).is_some() {
                // The kernel has dropped it already where the directory was deleted.
                let _ = watcher.unwatch(&path);
            }
            let Some(id) = id else { continue };
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, id);
                    new = true;
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => self.refused = Some(error.kind_text()),
            }
        }
        new
    }
}

fn is_absent(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => absent(error),
        _ => false,
    }
}

/// The text of an error without the path that it happened on, so that it stays the same finding.
trait KindText {
    fn kind_text(&self) -> String;
}

impl KindText for notify::Error {
    fn kind_text(&self) -> String {
        Self::new(match &self.kind {
            notify::ErrorKind::Io(error) => notify::ErrorKind::Generic(error.to_string()),
            notify::ErrorKind::MaxFilesWatch => notify::ErrorKind::MaxFilesWatch,
            other => notify::ErrorKind::Generic(format!("{other:?}")),
        })
        .to_string()
    }
}

/// What is watched. Not `.beads`: its program writes there all the time, and the one file of it that is
/// read is a second opinion.
fn directories(layout: &Layout, snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut directories = vec![layout.root().to_owned(), layout.mayor_dir(), layout.settings_dir()];
    directories.extend(layout.wisp_dir().parent().map(Path::to_owned));
    directories.push(layout.wisp_dir());
    for rig in snapshot.rigs.keys() {
        let path = layout.rig(rig);
        directories.extend(["settings", "polecats", "crew"].map(|name| path.join(name)));
        directories.push(path);
    }
    directories
}

/// Whether an event can mean a change of what is read. Our own opening and reading makes events too, and
/// hidden files are passed over: they are temporary ones, or not ours to read.
fn matters(event: &notify::Event) -> bool {
    if event.need_rescan() {
        return true;
    }
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    if matches!(event.kind, EventKind::Access(_)) && event.kind != written {
        return false;
    }
    event.paths.is_empty()
        || event.paths.iter().any(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') || name == ".beads-wisp"
        })
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
