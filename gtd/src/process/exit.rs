//! Learning of exits from the kernel.
//!
//! Owns one thread that waits on a pidfd per watched process. It must never report an exit that the kernel
//! did not report, and its thread must never wait for anything but the kernel. The interface names no pidfd,
//! so that kqueue can stand behind it elsewhere.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tokio::sync::watch;

use super::id::ProcessId;
use super::observe::Evidence;
use super::pidfd::{Handle, OpenError};
use super::procfs;
use super::stat::WaitStatus;

/// Token of the descriptor that ends the thread; processes count from 1.
const SHUTDOWN: u64 = 0;
/// Events taken from the kernel at once: a server with 250 sessions may die at once.
const BATCH: usize = 256;
/// The descriptor table is grown to this size at start, or to the limit: raise that first. Growing it later under load costs 10 µs per watch
/// (measured: 1,000 pidfds in 30 ms against 3 ms).
const DESCRIPTORS: u64 = 4096;
/// Pause after an unexpected error of epoll, so that it cannot spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Watches processes for their exit. Cheap to clone; the thread ends with the last clone and watch.
#[derive(Clone, Debug)]
pub struct ExitWatcher {
    handle: Arc<Shutdown>,
}

/// One process under watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    id: ProcessId,
    token: u64,
    exited: watch::Receiver<Option<Exited>>,
    // Kept so that the channel cannot close while somebody waits on it.
    _sender: Arc<watch::Sender<Option<Exited>>>,
    handle: Arc<Shutdown>,
}

/// An exit, as the kernel reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exited {
    /// Who ended.
    pub id: ProcessId,
    /// When the watching thread learned of it.
    pub at: Instant,
    /// How it ended, where its parent had not collected it yet when we looked.
    pub wait_status: Option<WaitStatus>,
}

/// Why a process is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// It had ended before the watch began; a zombie counts as ended.
    #[error("the process is gone: {0}")]
    AlreadyGone(Evidence),
    /// It could not be told whether it lives.
    #[error("the process cannot be watched: {0}")]
    Unknown(String),
}

/// What thread and handles share.
#[derive(Debug)]
struct Core {
    epoll: OwnedFd,
    wake: OwnedFd,
    next: AtomicU64,
    slots: Mutex<HashMap<u64, Slot>>,
}

#[derive(Debug)]
struct Slot {
    id: ProcessId,
    // Registered with epoll: must be removed from there before it is closed.
    handle: Handle,
    sender: Arc<watch::Sender<Option<Exited>>>,
}

/// Ends the thread when the last user is gone.
#[derive(Debug)]
struct Shutdown {
    core: Arc<Core>,
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.core.wake, &1_u64.to_ne_bytes());
    }
}

impl ExitWatcher {
    /// Starts the watching thread.
    ///
    /// # Errors
    /// The kernel gives no epoll or event descriptor, or no thread.
    pub fn start() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(SHUTDOWN), epoll::EventFlags::IN)?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let last = limit.map_or(DESCRIPTORS, |limit| limit.min(DESCRIPTORS)).saturating_sub(1);
        // Where it fails the table grows as it is needed.
        drop(i32::try_from(last).map(|last| rustix::io::fcntl_dupfd_cloexec(&epoll, last)));
        let core =
            Arc::new(Core { epoll, wake, next: AtomicU64::new(SHUTDOWN + 1), slots: Mutex::default() });
        let thread = Arc::clone(&core);
        std::thread::Builder::new().name("gtd-exits".into()).spawn(move || run(&thread))?;
        Ok(Self { handle: Arc::new(Shutdown { core }) })
    }

    /// Watches a process of record. The same process may be watched any number of times.
    ///
    /// # Errors
    /// [`WatchError::AlreadyGone`] with the evidence, or [`WatchError::Unknown`].
    pub fn watch(&self, id: &ProcessId) -> Result<Watch, WatchError> {
        let handle = Handle::open(id).map_err(|error| match error {
            OpenError::Gone(evidence) => WatchError::AlreadyGone(evidence),
            OpenError::Unknown(why) => WatchError::Unknown(why),
        })?;
        let core = &self.handle.core;
        let token = core.next.fetch_add(1, Ordering::Relaxed);
        let (sender, exited) = watch::channel(None);
        let sender = Arc::new(sender);
        let slot = Slot { id: id.clone(), handle, sender: Arc::clone(&sender) };
        let mut slots = core.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: the thread cannot see the event before the slot is there. A process that ended in
        // the meantime is reported at once, since its descriptor stays readable.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&core.epoll, &slot.handle, epoll::EventData::new_u64(token), flags)
            .map_err(|errno| WatchError::Unknown(format!("epoll for process {id}: {errno}")))?;
        slots.insert(token, slot);
        drop(slots);
        Ok(Watch { id: id.clone(), token, exited, _sender: sender, handle: Arc::clone(&self.handle) })
    }

    /// How many processes are watched that have not ended.
    pub fn watched(&self) -> usize {
        self.handle.core.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Watch {
    /// Who is watched.
    pub fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Waits for the exit. May be cancelled and called again, also after the exit; it then answers at once.
    pub async fn exited(&mut self) -> Exited {
        loop {
            if let Some(exited) = self.exited.borrow_and_update().clone() {
                return exited;
            }
            if self.exited.changed().await.is_err() {
                // Cannot happen while we hold the sender; silence is the only safe answer.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The exit, when it has been reported already.
    pub fn has_exited(&self) -> Option<Exited> {
        self.exited.borrow().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let core = &self.handle.core;
        let slot = core.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
        if let Some(slot) = slot {
            let _ = epoll::delete(&core.epoll, &slot.handle);
        }
    }
}

/// The thread: kernel events in, exits out.
fn run(core: &Core) {
    let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
    loop {
        let (events, _) = match epoll::wait(&core.epoll, &mut space[..], None) {
            Ok(found) => found,
            Err(Errno::INTR) => continue,
            Err(errno) => {
                tracing::error!(%errno, "waiting for exits failed, trying again");
                std::thread::sleep(ERROR_PAUSE);
                continue;
            }
        };
        let at = Instant::now();
        for event in events.iter() {
            let token = event.data.u64();
            if token == SHUTDOWN {
                return;
            }
            let slot = core.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
            let Some(slot) = slot else { continue };
            let wait_status = collected_status(&slot.id);
            slot.sender.send_replace(Some(Exited { id: slot.id, at, wait_status }));
            let _ = epoll::delete(&core.epoll, &slot.handle);
        }
    }
}

/// The wait status of a process that is not our child, while its parent has not collected it yet.
fn collected_status(id: &ProcessId) -> Option<WaitStatus> {
    let stat = procfs::stat(id.pid).ok()?;
    (stat.start == id.start && stat.state == 'Z').then(|| WaitStatus::from_raw(stat.exit_code)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::id::{Pid, StartTime};
    use crate::process::observe::{Observation, identify};
    use std::process::{Child, Command};

    const LIMIT: Duration = Duration::from_secs(10);

    struct Sleeper(Child, ProcessId);

    impl Sleeper {
        fn new() -> Self {
            let child = Command::new("sleep").arg("300").spawn().unwrap();
            let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
            let Observation::Alive(id) = identify(pid) else { panic!("no identity") };
            Self(child, id)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn an_exit_is_reported_once_per_watch_and_repeatably() {
        let watcher = ExitWatcher::start().unwrap();
        let mut sleeper = Sleeper::new();
        let mut one = watcher.watch(&sleeper.1).unwrap();
        let mut two = watcher.watch(&sleeper.1).unwrap();
        assert!(one.has_exited().is_none());
        // Cancelled waits lose nothing.
        assert!(tokio::time::timeout(Duration::from_millis(5), one.exited()).await.is_err());
        let before = Instant::now();
        sleeper.0.kill().unwrap();
        for watch in [&mut one, &mut two] {
            let exited = tokio::time::timeout(LIMIT, watch.exited()).await.unwrap();
            assert_eq!(exited.id, sleeper.1);
            assert!(exited.at >= before);
            assert_eq!(exited.wait_status, Some(WaitStatus::Signal(9)));
            assert_eq!(watch.exited().await, exited);
        }
        assert_eq!(watcher.watched(), 0);
    }

    #[tokio::test]
    async fn the_gone_and_the_reused_are_refused_with_evidence() {
        let watcher = ExitWatcher::start().unwrap();
        let mut sleeper = Sleeper::new();
        let mut other = sleeper.1.clone();
        other.start = StartTime::new(other.start.get() - 1);
        assert!(matches!(watcher.watch(&other), Err(WatchError::AlreadyGone(Evidence::StartDiffers { .. }))));
        let mut watch = watcher.watch(&sleeper.1).unwrap();
        sleeper.0.kill().unwrap();
        tokio::time::timeout(LIMIT, watch.exited()).await.unwrap();
        // Not yet collected: a zombie is gone.
        assert_eq!(watcher.watch(&sleeper.1).unwrap_err(), WatchError::AlreadyGone(Evidence::Zombie));
        sleeper.0.wait().unwrap();
        assert!(matches!(watcher.watch(&sleeper.1), Err(WatchError::AlreadyGone(_))));
    }

    #[tokio::test]
    async fn dropping_a_watch_deregisters_it() {
        let watcher = ExitWatcher::start().unwrap();
        let sleeper = Sleeper::new();
        let watch = watcher.watch(&sleeper.1).unwrap();
        assert_eq!(watcher.watched(), 1);
        drop(watch);
        assert_eq!(watcher.watched(), 0);
    }
}
