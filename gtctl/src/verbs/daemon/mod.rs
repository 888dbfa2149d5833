//! `gtctl daemon …`: the daemon itself.

mod heartbeat;
mod install;
mod reload;
mod run;
pub mod start;
mod status;
mod stop;

use crate::cli::Daemon;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::step;

/// Runs the verb.
///
/// # Errors
/// The verb's own.
pub async fn run(cx: &mut Context, verb: Daemon) -> Result<Code, Failure> {
    match verb {
        Daemon::Run(args) => run::run(cx, &args),
        Daemon::Start(args) => start::run(cx, args).await,
        Daemon::Stop(args) => stop::run(cx, args).await,
        Daemon::Restart(args) => stop::restart(cx, args).await,
        Daemon::Status => status::run(cx).await,
        Daemon::Reload(args) => reload::run(cx, args).await,
        Daemon::LogLevel(args) => reload::log_level(cx, args).await,
        Daemon::Heartbeat(args) => heartbeat::now(cx, args).await,
        Daemon::Heartbeats(args) => heartbeat::past(cx, &args).await,
        Daemon::Install(args) => install::run(cx, args).await,
        Daemon::Uninstall(args) => install::uninstall(cx, args).await,
    }
}

/// Prints a plan of this program's own, one step each.
fn only_plan(cx: &mut Context, kind: &str, steps: &[(&str, String, &str)]) -> Result<Code, Failure> {
    let steps: Vec<_> =
        steps.iter().map(|(action, target, why)| step(action, target.as_str(), why)).collect();
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(kind, &serde_json::json!({ "dry_run": true, "plan": steps }))?;
    } else {
        screen.plan(&steps)?;
    }
    Ok(Code::Done)
}
