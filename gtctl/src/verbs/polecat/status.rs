//! `gtctl polecat status`: a worker's card.

use gtd_proto::params;
use gtd_proto::rpc::PolecatClient;

use super::super::status;
use crate::cli::PolecatRef;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// When there is no such worker.
pub async fn run(cx: &mut Context, args: &PolecatRef) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.polecat).await?;
    let answer = client::read(PolecatClient::status(&session.client, params::AgentRef { agent })).await?;
    if cx.screen.json {
        cx.screen.envelope("polecat.status", &answer)?;
    } else {
        status::print_card(cx, &session, &answer.body, Vec::new()).await?;
    }
    Ok(Code::Done)
}
