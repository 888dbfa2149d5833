//! `gtctl polecat stop-all`: ends a rig's workers, each told of.

use gtd_proto::params;
use gtd_proto::rpc::PolecatClient;

use super::super::progress;
use crate::cli::PolecatStopAll;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change;
use crate::output::confirm::confirm;
use crate::output::note;

/// Runs the verb.
///
/// # Errors
/// When there is no such rig. What became of each worker is in the answer.
pub async fn run(cx: &mut Context, args: PolecatStopAll) -> Result<Code, Failure> {
    let force = args.ending.force && !args.change.dry_run();
    let question =
        format!("KILL all polecats of {} at once, without waiting for their turns to end?", args.rig);
    confirm("polecat stop-all", force, cx.global.yes, &question)?;
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::PolecatStopAll {
        rig: args.rig.clone(),
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asked = client::change(wait_ms, PolecatClient::stop_all(&session.client, request));
    let answer = progress::with_clock("stopping", asked).await?;
    let change = &answer.body;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("polecat.stop_all", &answer)?;
    } else if change.dry_run {
        screen.plan(&change.plan)?;
    } else if change.items.is_empty() {
        note(format!("rig {} has no polecats", args.rig));
    } else {
        let done = if change.accepted { "accepted" } else { "stopped" };
        screen.lines(change::outcomes(done, &change.items, screen.paint, screen.width))?;
    }
    Ok(if change.items.iter().all(|item| item.ok) { Code::Done } else { Code::Partial })
}
