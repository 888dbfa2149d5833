//! `gtctl reset`: forget an agent's failures and try again.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use crate::cli::Reset;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::{self};

/// Runs the verb.
///
/// # Errors
/// When there is no such agent.
pub async fn run(cx: &mut Context, args: Reset) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let request = params::AgentReset {
        agent,
        dry_run: args.plan.dry_run,
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = client::change(None, AgentClient::reset(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.reset", &answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::change("reset", &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(Code::Done)
}
