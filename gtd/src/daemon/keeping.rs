//! What a daemon does while it is up: it hears signals, and keeps what makes it the one daemon that people reach.
//!
//! Others may take that away: cleaners of temporary directories and people who tidy up remove the socket, the lock's
//! file, or those that say where the daemon is. Without them nobody reaches it, or a second one starts. What is gone is
//! made again; what somebody else put in its place is left, and told.

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::PROTOCOL;
use gtd_proto::daemon::Endpoint;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::announce::Announcement;
use super::{Daemon, affairs, own_pid, runtime_dir, state};
use crate::host::files::{ENDPOINT, PID};
use crate::host::lock::{LockError, TownLock};
use crate::host::named::{Named, Sight};
use crate::host::notify::ServiceManager;
use crate::host::signals::Signal;
use crate::rpc::context::VERSION;
use crate::rpc::{Endpoint as Place, HoldsLock, ServerHandle};
use crate::supervisor::run::Message;

/// How often is looked: a few files, so that whoever types a command next is served.
const EVERY: Duration = Duration::from_secs(2);

/// What cannot be put right, as `daemon.status` has it.
const NO_SOCKET: &str = "the socket is gone, and cannot be made again";
const NO_LOCK: &str = "daemon.lock is gone, and cannot be locked again";

/// What a look found missing.
#[derive(Debug, Default)]
struct Missing {
    lock: bool,
    socket: bool,
    announcement: bool,
}

/// Looks in a thread of its own, in the directory that was the daemon's when it began. Where that is away, a disk or a
/// town that was moved, there is nothing to put right, and what is in its place is another's.
fn look_at(home: Option<Named>, server: &ServerHandle, lock: &TownLock) -> JoinHandle<Missing> {
    let (lock, socket) = (lock.named().clone(), server.file().cloned());
    let lost = |named: &Named| match named.look() {
        Sight::Gone | Sight::Replaced => true,
        Sight::InPlace => false,
        Sight::Unknown(error) => {
            tracing::debug!(path = %named.path().display(), %error, "it cannot be looked at");
            false
        }
    };
    tokio::task::spawn_blocking(move || {
        let Some(home) = home.filter(|home| matches!(home.look(), Sight::InPlace)) else {
            return Missing::default();
        };
        let absent = |name: &str| matches!(home.path().join(name).try_exists(), Ok(false));
        Missing {
            lock: lost(&lock),
            socket: socket.as_ref().is_some_and(lost),
            announcement: absent(ENDPOINT) || absent(PID),
        }
    })
}

impl Daemon {
    /// Until somebody wants the daemon to end.
    ///
    /// # Errors
    /// [`LockError::Held`] when another daemon has the town's lock by now.
    pub(super) async fn wait(
        &mut self,
        server: &mut ServerHandle,
        lock: &mut TownLock,
    ) -> Result<(), LockError> {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let home = Named::at(&self.layout.daemon_dir()).ok();
        // One look at a time, beside this: a disk that hangs holds up no signal.
        let mut look: Option<JoinHandle<Missing>> = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                signal = self.signals.next() => match signal {
                    Some(Signal::Terminate | Signal::Interrupt) | None => return Ok(()),
                    Some(Signal::Reload) => self.hup(),
                    Some(Signal::Lifecycle) => {
                        tracing::info!("USR1: looking for lifecycle requests now");
                        tokio::spawn(affairs::look_now(self.handle.clone()));
                    }
                },
                _ = every.tick(), if look.is_none() => look = Some(look_at(home.clone(), server, lock)),
                found = async { look.as_mut()?.await.ok() }, if look.is_some() => {
                    look = None;
                    if let Some(found) = found {
                        self.put_right(&found, server, lock)?;
                    }
                }
            }
        }
    }

    fn hup(&self) {
        tracing::info!("HUP: reading the configuration and the town's files again");
        let manager = ServiceManager::from_env();
        manager.reloading();
        self.watch.look();
        let reloader = Arc::clone(&self.reloader);
        // What became of it is in the log, in an event and in the alerts.
        tokio::spawn(async move {
            let _ = reloader.run(false).await.is_ok();
            manager.ready();
        });
    }

    fn put_right(
        &self,
        missing: &Missing,
        server: &mut ServerHandle,
        lock: &mut TownLock,
    ) -> Result<(), LockError> {
        let shared = self.handle.shared();
        if missing.lock {
            let renewed = lock.renew();
            if let Err(error @ LockError::Held { .. }) = renewed {
                tracing::error!(%error, "the lock was taken away and another daemon has it: this one ends");
                return Err(error);
            }
            self.tell(NO_LOCK, renewed.map(|()| "daemon.lock was taken away; it is locked again"));
        } else {
            shared.restore(NO_LOCK);
        }
        // Only who holds the lock may replace a socket.
        if missing.socket && matches!(lock.named().look(), Sight::InPlace) {
            let at = server.file().map(|file| file.path().to_owned());
            let place = self.places().into_iter().find(|place| Some(&place.path) == at.as_ref());
            let made = place.map(|place| {
                let listening = place.bind(HoldsLock::by(lock)).map_err(|error| error.to_string())?;
                server.listen(listening).map_err(|error| error.to_string())
            });
            let made = made.unwrap_or_else(|| Err("its place is not one of the town's any more".to_owned()));
            self.tell(NO_SOCKET, made.map(|()| "the socket was taken away; it is made again"));
        } else if !missing.socket {
            shared.restore(NO_SOCKET);
        }
        // Where they cannot be written, the next look tries again.
        if missing.announcement && self.announcement(server).write(&self.handle) {
            tracing::warn!("files that say where the daemon is were taken away; they are written again");
        }
        Ok(())
    }

    /// What became of it: in the log once, in what `daemon.status` says as long as it is so.
    fn tell<E: std::fmt::Display>(&self, trouble: &str, done: Result<&str, E>) {
        let shared = self.handle.shared();
        match done {
            Ok(said) => {
                tracing::warn!("{said}");
                shared.restore(trouble);
            }
            Err(error) => {
                if shared.degrade(trouble.to_owned()) {
                    tracing::error!(%error, "{trouble}");
                }
            }
        }
        // Beside this: a loop that is busy holds up no signal.
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.tell(Message::Refresh).await });
    }

    /// Where a socket of our own may be.
    pub(super) fn places(&self) -> Vec<Place> {
        let user = rustix::process::getuid();
        Place::candidates(self.layout.root(), &self.town_id, runtime_dir().as_deref(), user)
    }

    /// Says to everybody that the daemon is there.
    pub(super) fn announce(&self, server: &ServerHandle) {
        let written = self.announcement(server);
        let socket = written.endpoint.socket.clone();
        if !written.write(&self.handle) {
            tokio::spawn(written.write_later(self.handle.clone(), self.stop.clone()));
        }
        self.manager.ready();
        tracing::info!(socket, version = VERSION, "up");
    }

    fn announcement(&self, server: &ServerHandle) -> Announcement {
        let socket = server.path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let endpoint = Endpoint {
            socket,
            pid: own_pid(),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            town_id: self.town_id.clone(),
            started_at: self.started_at,
        };
        let rounds = self.handle.shared().rounds();
        let number = rounds.number.max(self.heartbeat_number);
        Announcement {
            dir: self.layout.daemon_dir(),
            endpoint,
            state: state(self.started_at, rounds.last, number),
        }
    }
}
