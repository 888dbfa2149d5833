//! `gtctl explain`: why an agent is as it is.

use gtd_proto::explain::Explanation;
use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use crate::cli::Explain;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::paint::Paint;
use crate::output::table::Table;
use crate::output::time;

/// Runs the verb.
///
/// # Errors
/// When there is no such agent.
pub async fn run(cx: &mut Context, args: &Explain) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let request = params::AgentExplain { agent, at: args.at, probe: args.probe };
    let answer = client::read(AgentClient::explain(&session.client, request)).await?;
    if cx.screen.json {
        cx.screen.envelope("agent.explain", &answer)?;
    } else {
        let lines = text(&answer.body, cx.screen.paint, cx.screen.width);
        cx.screen.lines(lines)?;
    }
    Ok(Code::Done)
}

/// The explanation in words and tables.
#[must_use]
pub fn text(why: &Explanation, paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut out = vec![paint.strong(&why.verdict)];
    out.extend(why.because.iter().map(|fact| format!("  because {fact}")));
    if !why.observations.is_empty() {
        let mut table = Table::new(&["OBSERVED", "VALUE", "BY", "AGE"]);
        for seen in &why.observations {
            let age = time::whole(std::time::Duration::from_millis(seen.age_ms));
            table.row(vec![
                seen.what.clone().into(),
                seen.value.clone().into(),
                seen.source.clone().into(),
                age.into(),
            ]);
        }
        out.push(String::new());
        out.extend(table.render(paint, width));
    }
    if !why.decisions.is_empty() {
        let mut table = Table::new(&["AGO", "AFTER", "DECIDED", "WHY"]);
        for past in &why.decisions {
            table.row(vec![
                time::ago(past.at).into(),
                past.event.clone().into(),
                past.decision.clone().into(),
                past.reason.clone().into(),
            ]);
        }
        out.push(String::new());
        out.extend(table.render(paint, width));
    }
    if let Some(next) = &why.next {
        out.extend([String::new(), format!("next: {next}")]);
    }
    out
}
