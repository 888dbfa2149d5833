//! `gtctl drain` and `gtctl undrain`: taking an agent out of service, and putting it back.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use super::progress;
use crate::cli::Drain;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::{self, plan};

/// Runs one of the two verbs.
///
/// # Errors
/// When there is no such agent, or it did not get there in time.
pub async fn run(cx: &mut Context, args: Drain, back: bool) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let wait_ms = args.change.wait_ms();
    let request = params::AgentDrain {
        agent,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let (kind, done) = if back { ("agent.undrain", "undrained") } else { ("agent.drain", "drained") };
    let answer = if back {
        let doing = client::change(wait_ms, AgentClient::undrain(&session.client, request));
        progress::with_clock("undraining", doing).await?
    } else {
        let doing = client::change(wait_ms, AgentClient::drain(&session.client, request));
        progress::with_clock("draining", doing).await?
    };
    let screen = &mut cx.screen;
    let change = &answer.body;
    if screen.json {
        screen.envelope(kind, &answer)?;
        return Ok(Code::Done);
    }
    let lines = match (change.dry_run, change.already) {
        (true, _) => plan(&change.plan, screen.paint, screen.width),
        (false, true) if back => vec![format!("{} is not drained", change.agent.agent)],
        (false, true) => vec![format!("{} is drained already", change.agent.agent)],
        (false, false) => change::change(done, change, screen.paint),
    };
    screen.lines(lines)?;
    Ok(Code::Done)
}
