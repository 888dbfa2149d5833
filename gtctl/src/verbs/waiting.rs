//! `gtctl waiting`: who waits for a person, and on what.

use gtd_proto::params;
use gtd_proto::rpc::AgentClient;

use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Screens are looked at: longer than the daemon takes for that.
const LOOKING: Option<u64> = Some(10_000);

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let asked = AgentClient::waiting(&session.client, params::None {});
    let answer = client::look(LOOKING, asked).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("agent.waiting", &answer)?;
        return Ok(Code::Done);
    }
    let list = &answer.body;
    let mut table = Table::new(&["AGENT", "SINCE", "WANTS", "KNOWN", "WHAT"]);
    for item in &list.items {
        table.row(vec![
            item.agent.to_string().into(),
            time::ago(item.since).into(),
            Cell::new(item.kind.as_str(), Tone::Warn),
            item.source.as_str().into(),
            item.text.as_deref().map(plain).unwrap_or_default().into(),
        ]);
    }
    let nobody = table.is_empty();
    if !nobody {
        let lines = table.render(screen.paint, screen.width);
        screen.lines(lines)?;
    }
    if !list.unseen.is_empty() {
        let names: Vec<String> = list.unseen.iter().map(ToString::to_string).collect();
        note(format!("not known of {}: their screens could not be looked at", names.join(", ")));
    } else if nobody {
        note("nobody waits for you");
    }
    Ok(Code::Done)
}
