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
use crate::output::error::plain;
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
    let narrow = screen.width.is_some();
    let mut table = Table::new(&["AGO", "AGENT", "SIGNAL", "PID", "BY", "WHY"]);
    for sent in &answer.body.items {
        table.row(vec![
            time::ago(sent.at).into(),
            sent.agent.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            signal_name(sent.signal).into(),
            sent.pid.to_string().into(),
            sent.by.clone().into(),
            match sent.because.as_deref() {
                Some(why) if narrow => plain(beside(why, &sent.by)).into(),
                Some(why) => plain(why).into(),
                None => in_words(&sent.evidence).into(),
            },
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

/// The part of a sentence that the columns beside it do not say already: `killed by gtd because WHY, by WHOM; proof: …`.
fn beside<'a>(why: &'a str, by: &str) -> &'a str {
    let said = ["killed by gtd", "signalled by gtd"].iter().find_map(|said| why.strip_prefix(said));
    let rest = said.unwrap_or(why);
    let rest = rest.strip_prefix(" because ").or_else(|| rest.strip_prefix(&format!(", by {by}; ")));
    rest.unwrap_or(why)
}

/// The proof in a few words; `--json` has all of it.
fn in_words(evidence: &Value) -> String {
    let (Some(kind), comm) = (evidence.pointer("/proof/kind"), evidence.get("comm")) else {
        return evidence.as_str().map_or_else(|| evidence.to_string(), str::to_owned);
    };
    let comm = comm.and_then(Value::as_str).map(|comm| format!(", {comm}")).unwrap_or_default();
    plain(&format!("{}{comm}", kind.as_str().unwrap_or("?").replace('_', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_there_is_little_room_the_reason_comes_first() {
        for (why, left) in [
            (
                "killed by gtd because it was asked to stop, by person; proof: p",
                "it was asked to stop, by person; proof: p",
            ),
            ("signalled by gtd, by person; proof: p", "proof: p"),
            ("signalled by gtd, by deacon; proof: p", "signalled by gtd, by deacon; proof: p"),
            ("somebody else did", "somebody else did"),
        ] {
            assert_eq!(beside(why, "person"), left);
        }
    }

    #[test]
    fn evidence_in_words() {
        let recorded = json!({ "proof": { "kind": "recorded" }, "comm": "gtd-shim", "boot": "b" });
        assert_eq!(in_words(&recorded), "recorded, gtd-shim");
        assert_eq!(in_words(&json!("as it was")), "as it was");
        assert_eq!(in_words(&json!({ "pid": 3 })), r#"{"pid":3}"#);
    }
}
