//! `gtctl signals`: every signal that the daemon sent, with its evidence, newest first.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;
use serde_json::Value;

use crate::cli::Signals;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::card::signal_name;
use crate::output::table::Table;
use crate::output::{note, time};

/// Runs the verb.
///
/// # Errors
/// When there is no such agent.
pub async fn run(cx: &mut Context, args: &Signals) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = match &args.agent {
        Some(text) => Some(cx.agent(&session, text).await?),
        None => None,
    };
    let request = params::AgentSignals { agent, since: args.since };
    let answer = client::read(AgentClient::signals(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.signals", &answer)?;
        return Ok(Code::Done);
    }
    if answer.body.items.is_empty() {
        note("no signal was sent");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["AGO", "AGENT", "SIGNAL", "PID", "BY", "EVIDENCE"]);
    for sent in &answer.body.items {
        let evidence = match &sent.evidence {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row(vec![
            time::ago(sent.at).into(),
            sent.agent.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            signal_name(sent.signal).into(),
            sent.pid.to_string().into(),
            sent.by.clone().into(),
            evidence.into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}
