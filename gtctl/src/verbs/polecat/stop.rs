//! `gtctl polecat stop`: ends a worker; its work stays on its hook.

use gtd_proto::params;
use gtd_proto::rpc::PolecatClient;

use super::super::progress;
use super::{ask, report};
use crate::cli::PolecatStop;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, args: PolecatStop) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.polecat).await?;
    ask(cx, "stop", args.ending.force && !args.change.dry_run(), &agent)?;
    let wait_ms = args.change.wait_ms();
    let request = params::PolecatStop {
        agent,
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asked = client::change(wait_ms, PolecatClient::stop(&session.client, request));
    let answer = progress::with_clock("stopping", asked).await?;
    report(cx, "stop", "stopped", &answer)
}
