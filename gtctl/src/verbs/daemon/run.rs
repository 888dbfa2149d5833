//! `gtctl daemon run`: this process becomes gtd.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::only_plan;
use crate::cli::DaemonRun;
use crate::context::Context;
use crate::daemon::{sibling, start};
use crate::exit::Code;
use crate::failure::Failure;
use crate::town;

/// Runs the verb.
///
/// # Errors
/// When gtd is missing, or this is inside an agent.
pub fn run(cx: &mut Context, args: &DaemonRun) -> Result<Code, Failure> {
    let root = town::find(&cx.around)?;
    let gtd = sibling::gtd()?;
    let hold = if args.hold { " --hold" } else { "" };
    if args.plan.dry_run {
        let line = format!("{} --town {}{hold}", gtd.display(), root.display());
        return only_plan(cx, "daemon.run", &[("run", line, "in the foreground, in place of this program")]);
    }
    start::outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    if args.new_session {
        // A process that leads a group already has one of its own; what matters is to be off the terminal.
        let _ = rustix::process::setsid();
    }
    let mut command = Command::new(gtd);
    command.arg("--town").arg(root);
    if args.hold {
        command.arg("--hold");
    }
    cx.screen.flush()?;
    Err(Failure::failed(format!("cannot run gtd: {}", command.exec())))
}
