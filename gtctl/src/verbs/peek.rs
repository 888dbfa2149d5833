//! `gtctl peek`: the last lines of an agent's screen, bare.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use crate::cli::Peek;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;

/// Runs the verb.
///
/// # Errors
/// When the agent has no screen.
pub async fn run(cx: &mut Context, args: &Peek) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let request = params::AgentCapture { agent, lines: Some(args.lines) };
    let answer = client::read(AgentClient::capture(&session.client, request)).await?;
    if cx.screen.json {
        cx.screen.envelope("agent.capture", &answer)?;
    } else {
        cx.screen.lines(answer.body.lines.iter().map(|line| plain(line)))?;
    }
    Ok(Code::Done)
}
