//! `gtctl declare-dead`: a person's word about an agent of which nothing can be told.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use crate::cli::DeclareDead;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::{self};

/// Runs the verb.
///
/// # Errors
/// When there is no such agent, or something of it is seen alive.
pub async fn run(cx: &mut Context, args: DeclareDead) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let request = params::AgentDeclareDead {
        agent,
        evidence: args.evidence,
        dry_run: args.plan.dry_run,
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = client::change(None, AgentClient::declare_dead(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.declare_dead", &answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::change("declared dead", &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(Code::Done)
}
