//! `gtctl explain`: why an agent is as it is.

use gtd_proto::explain::{Decision, Explanation};
use gtd_proto::rpc::AgentClient;
use gtd_proto::{Timestamp, params};

use crate::cli::Explain;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::Paint;
use crate::output::table::Table;
use crate::output::time;

/// Runs the verb.
///
/// # Errors
/// When there is no such agent.
pub async fn run(cx: &mut Context, args: &Explain) -> Result<Code, Failure> {
    if let Some(at) = args.at.filter(|at| *at > Timestamp::now()) {
        return Err(Failure::usage(format!("{at:.0} is still to come: --at looks back")));
    }
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
    let mut out = vec![paint.strong(&plain(&why.verdict))];
    out.extend(why.because.iter().map(|fact| format!("  because {}", plain(fact))));
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
        out.push(String::new());
        out.extend(decisions(&why.decisions, paint, width));
    }
    if let Some(next) = &why.next {
        out.extend([String::new(), format!("next: {}", plain(next))]);
    }
    out
}

/// Past decisions. Where there is no room for all columns, what was decided is what has to stay.
fn decisions(past: &[Decision], paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut whole = Table::new(&["AGO", "AFTER", "DECIDED", "WHY"]);
    let mut short = Table::new(&["AGO", "DECIDED", "AFTER"]);
    for one in past {
        let (ago, after, decided) = (time::ago(one.at), one.event.clone(), one.decision.clone());
        short.row(vec![ago.clone().into(), decided.clone().into(), after.clone().into()]);
        whole.row(vec![ago.into(), after.into(), decided.into(), one.reason.clone().into()]);
    }
    let titles = whole.render(Paint::new(false), width);
    let all = titles.first().is_some_and(|titles| titles.contains("WHY"));
    if all { whole } else { short }.render(paint, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_shown_however_narrow_the_terminal_is() {
        let past = [Decision {
            at: Timestamp::now(),
            event: "its tmux server ended (it was ended by SIGHUP)".to_owned(),
            decision: "start it again in 839ms".to_owned(),
            reason: "it failed 2 times in a row".to_owned(),
        }];
        let lines = |width| decisions(&past, Paint::new(false), width);
        for width in [40, 60, 80, 120] {
            let lines = lines(Some(width));
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            assert!(lines[1].contains("start it again in 839ms"), "{lines:?}");
        }
        assert!(lines(None)[1].ends_with("start it again in 839ms  it failed 2 times in a row"));
    }
}
