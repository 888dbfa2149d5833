//! `gtctl daemon stop` and `restart`: done when the lock is free. Agents go on.

use std::path::Path;

use serde_json::json;

use super::{only_plan, start};
use crate::cli::DaemonStop;
use crate::context::Context;
use crate::daemon::lock::{self, Lock};
use crate::daemon::managed;
use crate::daemon::start::outside_of_agents;
use crate::daemon::stop::{Stopped, stop};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::confirm;
use crate::output::note;

/// Runs `daemon stop`.
///
/// # Errors
/// When it did not end in time.
pub async fn run(cx: &mut Context, args: DaemonStop) -> Result<Code, Failure> {
    let root = cx.root().await?;
    if args.plan.dry_run {
        let steps = steps(&root, args.force);
        return only_plan(cx, "daemon.stop", &steps);
    }
    // A daemon that does not answer cannot refuse, and is signalled.
    outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    ask(cx, "daemon stop", args.force)?;
    let outcome = stop(&root, args.timeout, args.force).await?;
    let (already, killed, pid) = match outcome {
        Stopped::Already => (true, false, None),
        Stopped::Ended(pid) => (false, false, pid),
        Stopped::Killed(pid) => (false, true, Some(pid)),
    };
    if cx.screen.json {
        cx.screen.envelope("daemon.stop", &json!({ "already": already, "killed": killed, "pid": pid }))?;
        return Ok(Code::Done);
    }
    cx.screen.line(words(outcome))?;
    Ok(Code::Done)
}

/// Runs `daemon restart`.
///
/// # Errors
/// When it did not end in time, or did not come up again.
pub async fn restart(cx: &mut Context, args: DaemonStop) -> Result<Code, Failure> {
    let root = cx.root().await?;
    if args.plan.dry_run {
        let mut steps = steps(&root, args.force);
        steps.push(("start", "gtd".to_owned(), "as a new process"));
        return only_plan(cx, "daemon.restart", &steps);
    }
    // Before anything is ended: an agent could not start it again.
    outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    ask(cx, "daemon restart", args.force)?;
    let stopped = match managed::restart(&root, args.timeout, args.force).await? {
        Some(stopped) => stopped,
        None => stop(&root, args.timeout, args.force).await?,
    };
    note(words(stopped));
    start::start(cx, "daemon.restart").await
}

fn ask(cx: &Context, verb: &str, force: bool) -> Result<(), Failure> {
    confirm(verb, force, cx.global.yes, "KILL the daemon if it does not end by itself?")
}

fn words(outcome: Stopped) -> String {
    match outcome {
        Stopped::Already => "no daemon is running".to_owned(),
        Stopped::Ended(Some(pid)) => format!("daemon stopped, pid {pid}; agents go on"),
        Stopped::Ended(None) => "daemon stopped; agents go on".to_owned(),
        Stopped::Killed(pid) => format!("daemon killed, pid {pid}; agents go on"),
    }
}

fn steps(root: &Path, force: bool) -> Vec<(&'static str, String, &'static str)> {
    // Where it cannot be told, the attempt is what would be made.
    if matches!(lock::look(root), Lock::Free) {
        return Vec::new();
    }
    let mut steps = vec![("stop", "gtd".to_owned(), "agents go on")];
    if force {
        steps.push(("kill", "gtd".to_owned(), "if it does not end in time"));
    }
    steps
}
