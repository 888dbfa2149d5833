//! The daemon of a town whose service is installed: started, ended and replaced by the service manager.
//!
//! Where the manager cannot be reached this says so and leaves it to the ordinary way: a town that is up, or down, is
//! more than who did it.

use std::path::Path;
use std::time::Duration;

use gtd_proto::rpc::DaemonClient;
use gtd_proto::{ErrorKind, RpcError, params};
use jsonrpsee::core::ClientError;
use tokio::time::Instant;

use super::identity::Identity;
use super::stop::{Stopped, end_holder, linger};
use crate::client::Session;
use crate::client::endpoint::Target;
use crate::failure::Failure;
use crate::output::note;
use crate::service::{Service, State};

/// How long a daemon that the manager calls ready may take until it answers us.
const ANSWER: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long the manager may take to see that a daemon is gone.
const SETTLE: Duration = Duration::from_secs(5);

/// How long the question whether we may end it waits.
const MAY: Duration = Duration::from_secs(5);

/// The service of a town, if it is installed and its manager answers.
pub async fn reachable(root: &Path) -> Option<Service> {
    let service = Service::installed(root)?;
    match service.reachable().await {
        Ok(()) => Some(service),
        Err(failure) => {
            note(format!("{failure}; going on without it"));
            None
        }
    }
}

/// Starts it and waits until it answers.
///
/// # Errors
/// Why it did not come up.
pub async fn start(service: &Service, root: &Path) -> Result<Session, Failure> {
    let started = service.start().await;
    let deadline = Instant::now() + ANSWER;
    loop {
        match Session::open(&Target::of_town(root)).await {
            Ok(session) => return Ok(session),
            Err(failure) if !failure.is_no_daemon() => return Err(failure),
            Err(_) => {}
        }
        let failed = started.is_err() || Instant::now() >= deadline;
        if failed {
            let said = started.err().map(|failure| failure.to_string());
            return Err(did_not_start(service, root, said).await);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// gtd's exit codes for a configuration that cannot be used, and for a lock that another daemon holds.
const BAD_CONFIGURATION: i32 = 78;
const LOCK_HELD: i32 = 1;

async fn did_not_start(service: &Service, root: &Path, said: Option<String>) -> Failure {
    let (name, root) = (service.name(), root.display());
    let state = service.state().await.unwrap_or_default();
    let ended_with = (state.result == "exit-code").then_some(state.status);
    let failure = match ended_with {
        Some(BAD_CONFIGURATION) => {
            Failure::bad_config(format!("gtd did not start: the configuration of {root} cannot be used"))
                .hint("gtctl config check shows where; then: gtctl daemon start")
        }
        Some(LOCK_HELD) => Failure::failed(format!(
            "gtd did not start: another process holds {root}/daemon/daemon.lock, and does not answer"
        ))
        .hint("gtctl daemon stop --force ends a gtd that hangs"),
        _ => {
            let why = state.trouble().unwrap_or_else(|| "does not answer".to_owned());
            Failure::failed(format!("gtd did not start: its service {name} {why}"))
                .hint("gtctl daemon run shows it in the foreground")
        }
    };
    match said {
        Some(said) => failure.with("output", vec![said]),
        None => failure,
    }
}

/// Ends the daemon through its manager. None where it is not the manager's, and has to be ended otherwise.
///
/// # Errors
/// When we may not, or it does not end in time.
pub async fn stop(root: &Path, timeout: Duration, force: bool) -> Result<Option<Stopped>, Failure> {
    let Some((service, holder)) = theirs(root).await? else { return Ok(None) };
    service.stop().await?;
    match holder {
        Some(holder) => {
            let stopped = end_holder(holder, root, timeout, force).await?;
            settle(&service).await;
            Ok(Some(stopped))
        }
        None => Ok(None),
    }
}

/// Gives the manager the moment that it needs to notice. It is no failure of ours when that takes longer.
async fn settle(service: &Service) {
    let deadline = Instant::now() + SETTLE;
    while Instant::now() < deadline && service.state().await.is_ok_and(|state| state.active == "deactivating")
    {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Replaces the daemon through its manager, which goes on with it whatever becomes of us. None where that cannot be.
///
/// # Errors
/// As [`stop`].
pub async fn restart(root: &Path, timeout: Duration, force: bool) -> Result<Option<Stopped>, Failure> {
    let Some((service, Some(holder))) = theirs(root).await? else { return Ok(None) };
    if !service.restart().await? {
        return Ok(None);
    }
    // Not its lock: the next one may have that at once.
    let deadline = Instant::now() + timeout;
    while holder.is_alive() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if !holder.is_alive() {
        return Ok(Some(Stopped::Ended(Some(holder.pid))));
    }
    let limit = humantime::format_duration(timeout);
    let late = format!("the daemon (pid {}) did not end within {limit}", holder.pid);
    if !force {
        return Err(Failure::timeout(late).hint("gtctl daemon restart --force"));
    }
    holder
        .signal(super::identity::Sent::Kill)
        .map_err(|e| Failure::failed(format!("{late}, and pid {} cannot be killed: {e}", holder.pid)))?;
    linger(holder).await;
    Ok(Some(Stopped::Killed(holder.pid)))
}

/// The service, and the daemon when that is the service's own; nothing when the manager has none to end. Asks the
/// daemon first whether we may: the manager would not know.
async fn theirs(root: &Path) -> Result<Option<(Service, Option<Identity>)>, Failure> {
    if Service::installed(root).is_none() {
        return Ok(None);
    }
    let answers = may_end(root).await?;
    let Some(service) = reachable(root).await else { return Ok(None) };
    let State { pid, .. } = service.state().await?;
    let holder =
        pid.filter(|pid| answers.is_none_or(|other| other == *pid)).and_then(|pid| Identity::of(pid).ok());
    Ok(Some((service, holder)))
}

/// Asks what ending it would do, which only who may end it is told. The daemon that answered, if one did.
async fn may_end(root: &Path) -> Result<Option<i32>, Failure> {
    let target = Target::of_town(root);
    // Where the manager holds the socket and nobody serves it, a connection would start a daemon.
    let lives = !matches!(super::lock::look(root), super::lock::Lock::Free);
    let Some(session) = (if lives { Session::open_within(&target, MAY).await.ok() } else { None }) else {
        return Ok(None);
    };
    let request = params::Shutdown { dry_run: true, ..params::Shutdown::default() };
    match tokio::time::timeout(MAY, session.client.shutdown(request)).await {
        Ok(Err(ClientError::Call(error))) if RpcError::from(&error).kind == ErrorKind::Forbidden => {
            Err(RpcError::from(&error).into())
        }
        _ => Ok(Some(session.hello.body.pid)),
    }
}
