//! `gtctl polecat …`: workers, one file per verb.

mod list;
mod remove;
mod restart;
mod start;
mod status;
mod stop;
mod stop_all;

use gtd_proto::{Address, Change, Reply};

use super::{attach, peek};
use crate::cli::Polecat;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change;
use crate::output::confirm::confirm;

/// Runs the verb.
///
/// # Errors
/// The verb's own.
pub async fn run(cx: &mut Context, verb: Polecat) -> Result<Code, Failure> {
    match verb {
        Polecat::List(args) => list::run(cx, args).await,
        Polecat::Status(args) => status::run(cx, &args).await,
        Polecat::Spawn(args) => super::sling::spawn(cx, args).await,
        Polecat::Start(args) => start::run(cx, args).await,
        Polecat::Stop(args) => stop::run(cx, args).await,
        Polecat::StopAll(args) => stop_all::run(cx, args).await,
        Polecat::Restart(args) => restart::run(cx, args).await,
        Polecat::Remove(args) => remove::run(cx, args).await,
        Polecat::Nudge(args) => super::nudge::polecat(cx, args).await,
        Polecat::Peek(args) => peek::run(cx, &args).await,
        Polecat::Attach(args) => attach::run(cx, &args).await,
    }
}

/// Asks before work is cut off.
fn ask(cx: &Context, verb: &str, force: bool, agent: &Address) -> Result<(), Failure> {
    let question = format!("KILL {agent} at once, without waiting for its turn to end?");
    confirm(&format!("polecat {verb}"), force, cx.global.yes, &question)
}

/// Prints what became of a change, and says by the exit code whether processes are left.
fn report(cx: &mut Context, verb: &str, done: &str, answer: &Reply<Change>) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(&format!("polecat.{verb}"), answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::change(done, &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(if answer.body.survivors.is_empty() { Code::Done } else { Code::Partial })
}
