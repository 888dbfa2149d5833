//! `gtctl deaths`: ends that nobody asked for, one by one or as mass deaths, newest first.

use gtd_proto::rpc::DeathsClient;
use gtd_proto::{Address, Incident, IncidentState, Timestamp, params};

use crate::cli::{Deaths, DeathsWhat};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Agents of an incident that are named in a line.
const NAMED: usize = 4;

/// Runs the verb.
///
/// # Errors
/// When the daemon does not answer, or its ledger cannot be read.
pub async fn run(cx: &mut Context, args: &Deaths) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    match args.what {
        None => {
            let request = params::DeathsList { since: args.since, limit: Some(args.limit) };
            let answer = client::read(DeathsClient::list(&session.client, request)).await?;
            let screen = &mut cx.screen;
            if screen.json {
                screen.envelope("deaths.list", &answer)?;
            } else if answer.body.items.is_empty() {
                note(format!("nothing has died{}", span(args.since)));
            } else {
                let lines = super::exits::table(&answer.body.items).render(screen.paint, screen.width);
                screen.lines(lines)?;
            }
        }
        Some(DeathsWhat::Incidents) => {
            let mut answer = client::read(DeathsClient::incidents(&session.client, params::None {})).await?;
            let items = &mut answer.body.items;
            items.retain(|incident| args.since.is_none_or(|since| incident.opened_at >= since));
            items.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
            let screen = &mut cx.screen;
            if screen.json {
                screen.envelope("deaths.incidents", &answer)?;
            } else if answer.body.items.is_empty() {
                note(format!("there was no mass death{}", span(args.since)));
            } else {
                let lines = table(&answer.body.items).render(screen.paint, screen.width);
                screen.lines(lines)?;
            }
        }
    }
    Ok(Code::Done)
}

fn span(since: Option<Timestamp>) -> String {
    since.map(|at| format!(" since {}", time::full(at))).unwrap_or_default()
}

fn table(items: &[Incident]) -> Table {
    let mut table =
        Table::new(&["AGO", "INCIDENT", "STATE", "CAUSE", "DIED", "BACK", "TOOK", "FIRST BACK", "AGENTS"]);
    for incident in items {
        let mood = if incident.is_open() { Tone::Bad } else { Tone::Plain };
        let state = match (incident.state, incident.held_until) {
            (IncidentState::Holding, Some(until)) => format!("holding, goes on {}", time::until(until)),
            (state, _) => state.as_str().to_owned(),
        };
        let took = incident.closed_at.map(|end| time::span(time::between(incident.opened_at, end)));
        table.row(vec![
            time::ago(incident.opened_at).into(),
            incident.id.clone().into(),
            Cell::new(state, mood),
            incident.cause.as_str().into(),
            incident.count.to_string().into(),
            back(incident).into(),
            took.unwrap_or_default().into(),
            incident.canary.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            named(&incident.agents).into(),
        ]);
    }
    table
}

/// How many came back; nothing where nobody was held back and so nobody counted.
fn back(incident: &Incident) -> String {
    let counted = incident.is_open() || incident.canary.is_some() || incident.recovered > 0;
    if counted { incident.recovered.to_string() } else { String::new() }
}

/// The first of many agents, and how many more there are.
fn named(agents: &[Address]) -> String {
    let mut names: Vec<String> = agents.iter().take(NAMED).map(ToString::to_string).collect();
    if agents.len() > NAMED {
        names.push(format!("and {} more", agents.len() - NAMED));
    }
    names.join(", ")
}
