//! Ending the daemon of a town: a request, else TERM, else with `--force` KILL; done when its lock is free.

use std::path::Path;
use std::time::Duration;

use gtd_proto::rpc::DaemonClient;
use gtd_proto::{ErrorKind, RpcError, params};
use jsonrpsee::core::ClientError;
use tokio::time::Instant;

use super::identity::{Identity, Sent};
use super::lock::{self, Lock};
use super::managed;
use crate::client::endpoint::{self, Target};
use crate::client::{self, Session};
use crate::failure::Failure;
use crate::output::note;

/// How long a killed process may take to vanish.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How long a process may live on after its lock.
const AFTER_LOCK: Duration = Duration::from_secs(2);

/// How long the daemon may take to answer the request to end.
const REQUEST: Duration = Duration::from_secs(5);

/// How long a daemon may take to end that nobody hurries.
pub const PATIENT: Duration = Duration::from_secs(30);

/// How long it is waited for without a word.
const QUIET: Duration = Duration::from_secs(3);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// There was none.
    Already,
    /// It ended.
    Ended(Option<i32>),
    /// It had to be killed.
    Killed(i32),
}

/// Ends the daemon of a town and waits until its lock is free.
///
/// # Errors
/// A timeout when it did not end; a failure when the holder of the lock cannot be proven to be the daemon.
pub async fn stop(root: &Path, timeout: Duration, force: bool) -> Result<Stopped, Failure> {
    if let Some(stopped) = managed::stop(root, timeout, force).await? {
        return Ok(stopped);
    }
    match lock::look(root) {
        Lock::Free => return Ok(Stopped::Already),
        Lock::Held => {}
        Lock::Unknown(error) => {
            return Err(Failure::failed(format!(
                "cannot look at {}/daemon/daemon.lock: {error}",
                root.display()
            )));
        }
    }
    let holder = ask(root).await?;
    if holder.is_none() && lock::wait_until_free(root, Duration::from_secs(1)).await {
        // It was on its way out, or in.
        return Ok(Stopped::Ended(None));
    }
    let Some(holder) = holder else {
        return Err(Failure::failed(format!(
            "something holds {}/daemon/daemon.lock and does not listen on the town's socket; nothing was signalled",
            root.display()
        ))
        .hint(format!("see who it is: fuser -v {}/daemon/daemon.lock", root.display())));
    };
    end_holder(holder, root, timeout, force).await
}

/// Waits until a daemon that was told to end has let go of the lock; with `force` it is killed when that takes too
/// long.
///
/// # Errors
/// As [`stop`].
pub async fn end_holder(
    holder: Identity,
    root: &Path,
    timeout: Duration,
    force: bool,
) -> Result<Stopped, Failure> {
    let quiet = timeout.min(QUIET);
    let mut free = lock::wait_until_free(root, quiet).await;
    if !free && timeout > quiet {
        let all = humantime::format_duration(timeout);
        note(format!("the daemon (pid {}) has not ended yet; it is given {all} in all", holder.pid));
        free = lock::wait_until_free(root, timeout - quiet).await;
    }
    if free {
        linger(holder).await;
        return Ok(Stopped::Ended(Some(holder.pid)));
    }
    let late =
        format!("the daemon (pid {}) did not end within {}", holder.pid, humantime::format_duration(timeout));
    if !force {
        return Err(Failure::timeout(late).hint("gtctl daemon stop --force"));
    }
    holder
        .signal(Sent::Kill)
        .map_err(|e| Failure::failed(format!("{late}, and pid {} cannot be killed: {e}", holder.pid)))?;
    if lock::wait_until_free(root, AFTER_KILL).await {
        linger(holder).await;
        Ok(Stopped::Killed(holder.pid))
    } else {
        Err(Failure::timeout(format!("{late}, and holds its lock after KILL")))
    }
}

/// Gives a daemon that has let go of its lock the moment it needs to be gone altogether. One that takes longer
/// supervises nothing any more: that is not waited for.
pub async fn linger(holder: Identity) {
    let deadline = Instant::now() + AFTER_LOCK;
    while holder.is_alive() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asks the daemon to end, and says which process it is. One that does not answer gets a TERM, if the kernel
/// says that it listens on the socket and the town's own record agrees.
async fn ask(root: &Path) -> Result<Option<Identity>, Failure> {
    let target = Target::of_town(root);
    if let Ok(mut session) = Session::open(&target).await {
        // A connection that waited for a daemon still names who held the socket until then.
        if session.peer.is_some_and(|peer| peer != session.hello.body.pid)
            && let Ok(again) = Session::open(&target).await
        {
            session = again;
        }
        let Ok(said) = Identity::of(session.hello.body.pid) else { return Ok(None) };
        // Where the kernel tells who listens, it has to be the same.
        if session.peer.is_some_and(|peer| peer != said.pid) {
            return Ok(None);
        }
        let request =
            params::Shutdown { reason: Some("gtctl daemon stop".to_owned()), ..params::Shutdown::default() };
        let answer = tokio::time::timeout(REQUEST, session.client.shutdown(request)).await;
        // Who may not ask may not signal either.
        if let Ok(Err(ClientError::Call(error))) = &answer
            && RpcError::from(error).kind == ErrorKind::Forbidden
        {
            return Err(RpcError::from(error).into());
        }
        // It may be gone before it could answer; whether it refused shows in the lock.
        if !matches!(answer, Ok(Ok(_))) && said.is_alive() {
            let _ = said.signal(Sent::Term);
        }
        return Ok(Some(said));
    }
    Ok(listening(root, &target))
}

/// The daemon that listens and does not answer, after a TERM.
fn listening(root: &Path, target: &Target) -> Option<Identity> {
    let listener = client::listener(&target.socket)?;
    let recorded = endpoint::endpoint(root)?.pid;
    let identity = Identity::of(listener).ok()?;
    if listener != recorded {
        return None;
    }
    let _ = identity.signal(Sent::Term);
    note(format!("the daemon (pid {listener}) does not answer: it was told by TERM to end"));
    Some(identity)
}
