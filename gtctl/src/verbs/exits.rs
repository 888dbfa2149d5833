//! `gtctl exits`: the black boxes of ended instances, newest first.

use gtd_proto::killed::{Ended, Killed};
use gtd_proto::rpc::AgentClient;
use gtd_proto::{Exit, params};

use crate::cli::Exits;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::card::{ended, summary};
use crate::output::error::{plain, quoted};
use crate::output::table::Table;
use crate::output::{note, time};

/// Runs the verb.
///
/// # Errors
/// When there is no such agent.
pub async fn run(cx: &mut Context, args: &Exits) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = match &args.agent {
        Some(text) => Some(cx.agent(&session, text).await?),
        None => None,
    };
    let who = agent.as_ref().map(|agent| format!("no instance of {agent}"));
    let request = params::AgentExits { agent, limit: Some(args.limit) };
    let answer = client::read(AgentClient::exits(&session.client, request)).await?;
    let items = &answer.body.items;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.exits", &answer)?;
    } else if items.is_empty() {
        note(format!("{} has ended yet", who.as_deref().unwrap_or("nothing")));
    } else if args.output {
        for exit in items {
            screen.line(format!("{} {}: {}", exit.agent, time::relative(exit.ended_at), summary(exit)))?;
            if let Some(evidence) = &exit.evidence {
                screen.line(format!("  {evidence}"))?;
            }
            for killed in &exit.killed {
                screen.line(format!("  {}", plain(&told(killed))))?;
            }
            screen.lines(quoted(exit.output.iter().map(String::as_str)))?;
        }
    } else {
        let lines = table(items).render(screen.paint, screen.width);
        screen.lines(lines)?;
    }
    Ok(Code::Done)
}

/// What an end rests on: what of it the daemon did, else the evidence of its cause.
fn why(exit: &Exit) -> String {
    if exit.killed.is_empty() {
        return exit.evidence.clone().unwrap_or_default();
    }
    plain(&exit.killed.iter().map(told).collect::<Vec<_>>().join("; then "))
}

fn told(killed: &Killed) -> String {
    match (killed.what, killed.pids.len()) {
        (Ended::Agent, _) => killed.because.clone(),
        (_, 1) => format!("1 process that was left: {}", killed.because),
        (_, many) => format!("{many} processes that were left: {}", killed.because),
    }
}

pub(super) fn table(items: &[Exit]) -> Table {
    let mut table =
        Table::new(&["AGO", "AGENT", "CAUSE", "HOW", "UPTIME", "FAILURE", "INCIDENT", "PID", "WHY"]);
    for exit in items {
        let how = match &exit.exec_error {
            Some(error) => format!("{}: {}", error.op, error.errno),
            None => ended(exit.code, exit.signal),
        };
        table.row(vec![
            time::ago(exit.ended_at).into(),
            exit.agent.to_string().into(),
            exit.cause.as_str().into(),
            how.into(),
            time::span(std::time::Duration::from_millis(exit.uptime_ms)).into(),
            if exit.counts { "yes" } else { "no" }.into(),
            exit.incident.clone().unwrap_or_default().into(),
            exit.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
            why(exit).into(),
        ]);
    }
    table
}
