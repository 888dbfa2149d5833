//! `gtctl polecat restart`: ends a worker and starts it as a new instance, with its work.

use gtd_proto::params;
use gtd_proto::rpc::PolecatClient;

use super::super::progress;
use super::{ask, report};
use crate::cli::{Overrides, PolecatRestart};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, args: PolecatRestart) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.polecat).await?;
    ask(cx, "restart", args.ending.force && !args.change.dry_run(), &agent)?;
    let Overrides { agent: agent_preset, account, env, reset_overrides } = args.overrides;
    let wait_ms = args.change.wait_ms();
    let request = params::PolecatRestart {
        agent,
        agent_preset,
        account,
        env: env.into_iter().collect(),
        reset_overrides,
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asked = client::change(wait_ms, PolecatClient::restart(&session.client, request));
    let answer = progress::with_clock("restarting", asked).await?;
    report(cx, "restart", "restarted", &answer)
}
