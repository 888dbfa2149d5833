//! Programs that we run ourselves: each leads a process group of its own, and the group ends with it.
//!
//! Owns the only kill of such groups. It must never name a group whose leader was waited for: from then on the
//! number may be anybody's.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Between two looks whether the leader has ended: at first, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// How long a killed program may take to be collected.
const REAP: Duration = Duration::from_secs(1);

/// A child that leads a process group, which is killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Leashed(pub Child);

impl Leashed {
    /// Starts a program as the leader of a group.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true).spawn().map(Self)
    }

    /// The leader's number, which is also the group's. None from the moment it was waited for: until then it can
    /// have gone to nobody else.
    fn group(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Kills whatever is left of the group, and waits for the leader.
    ///
    /// # Errors
    /// When the leader cannot be waited for.
    pub async fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill_group();
        self.0.wait().await
    }

    /// The same, and waits no longer than a killed program takes.
    pub async fn kill(&mut self) {
        let _ = tokio::time::timeout(REAP, self.end()).await;
    }

    /// Returns when the leader has ended, and leaves it to be waited for: so its number stays its own, and the group
    /// can still be named. False when it has not ended by then.
    pub async fn ended_by(&self, end: Instant) -> bool {
        let Some(pid) = self.group() else { return true };
        ended_by(pid, end).await
    }

    /// The same for who holds the child otherwise; never, where the leader was waited for.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let pid = self.group();
        async move {
            let Some(pid) = pid else { return std::future::pending().await };
            while !ended_by(pid, Instant::now() + Duration::from_secs(3_600)).await {}
        }
    }

    fn kill_group(&self) {
        if let Some(group) = self.group() {
            // An error means that it has ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        // The runtime collects it.
        self.kill_group();
    }
}

async fn ended_by(pid: Pid, end: Instant) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let mut pause = LOOKS.0;
    while Instant::now() < end {
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Ok(Some(_)) => return true,
            // Nobody else waits for it, so this cannot be; the deadline decides.
            Err(_) => tokio::time::sleep_until(end).await,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
    false
}
