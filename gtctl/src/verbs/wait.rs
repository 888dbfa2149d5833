//! `gtctl wait`: until an agent is as wanted.

use gtd_proto::rpc::AgentClient;
use gtd_proto::wait::AgentWait;

use super::progress;
use crate::cli::{Wait, millis};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// When there is no such agent, or it does not come to that in time.
pub async fn run(cx: &mut Context, args: &Wait) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let timeout_ms = Some(millis(args.timeout));
    let request = AgentWait { agent, wanted: args.wanted, timeout_ms };
    let waiting = client::look(timeout_ms, AgentClient::wait(&session.client, request));
    let answer = progress::with_clock("waiting", waiting).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.wait", &answer)?;
    } else {
        let shown = &answer.body.agent;
        let pid = shown.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let reached = answer.body.reached;
        // It may have gone on since.
        let now = match reached.as_str() == shown.state.as_str() {
            true => pid,
            false => format!("; its state is {}{pid}", shown.state),
        };
        screen.line(format!("{} is {reached}{now}", shown.agent))?;
    }
    Ok(Code::Done)
}
