//! `gtctl polecat list`: workers with what they work on.

use gtd_proto::rpc::PolecatClient;
use gtd_proto::{Agent, params};

use crate::cli::PolecatList;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::{agents, note};

/// Runs the verb.
///
/// # Errors
/// When there is no such rig.
pub async fn run(cx: &mut Context, args: PolecatList) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::PolecatList { rig: args.rig };
    let answer = client::read(PolecatClient::list(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("polecat.list", &answer)?;
    } else if answer.body.items.is_empty() {
        note("no polecats");
    } else {
        let workers: Vec<&Agent> = answer.body.items.iter().collect();
        let lines = agents::workers(&workers, screen.paint, screen.width);
        screen.lines(lines)?;
    }
    Ok(Code::Done)
}
