//! What became of a request to change something, and what would become of it.

use gtd_proto::town::{Census, Outcome, TownChange};
use gtd_proto::{Change, PlanStep, State};

use super::paint::{Paint, Tone, tone};
use super::table::{Cell, Table};

/// The steps of a plan.
#[must_use]
pub fn plan(steps: &[PlanStep], paint: Paint, width: Option<usize>) -> Vec<String> {
    if steps.is_empty() {
        return vec!["nothing would be done".to_owned()];
    }
    let mut table = Table::new(&["WOULD", "WHAT", "WHY"]);
    for step in steps {
        table.row(vec![step.action.clone().into(), step.target.clone().into(), step.why.clone().into()]);
    }
    table.render(paint, width)
}

/// One step that the client plans itself.
#[must_use]
pub fn step(action: &str, target: impl Into<String>, why: &str) -> PlanStep {
    PlanStep { action: action.to_owned(), target: target.into(), why: why.to_owned() }
}

/// What became of a start, a stop, a restart or a reset: `started alpha/witness: running, pid 4711`.
#[must_use]
pub fn change(done: &str, change: &Change, paint: Paint) -> Vec<String> {
    let agent = &change.agent;
    let state = paint.text(tone(agent.state), agent.state.as_str());
    let pid = agent.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let name = &agent.agent;
    let mut out = Vec::new();
    out.push(match (change.accepted, change.already) {
        (true, _) => {
            format!("accepted: {name} is {state}{pid}; follow it with `gtctl events -f --agent {name}`")
        }
        (_, true) => format!("{name} is {state} already{pid}"),
        _ if done == agent.state.as_str() => format!("{} {name}", paint.text(tone(agent.state), done)),
        _ => format!("{done} {name}: {state}{pid}"),
    });
    // That it was asked for is known to who asked.
    let as_asked = done == agent.state.as_str() && !change.already;
    if !as_asked
        && !matches!(agent.state, State::Running | State::Starting)
        && let Some(reason) = agent.reason.as_ref().filter(|reason| *reason != done)
    {
        out.push(format!("  {reason}"));
    }
    out.extend(change.survivors.iter().map(|pid| format!("  still alive: {pid}")));
    out
}

/// What became of each agent of a town, failures first.
#[must_use]
pub fn town(done: &str, change: &TownChange, paint: Paint, width: Option<usize>) -> Vec<String> {
    outcomes(done, &change.items, paint, width)
}

/// What became of each of several agents, failures first.
#[must_use]
pub fn outcomes(done: &str, items: &[Outcome], paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut table = Table::new(&["AGENT", "RESULT"]);
    let mut items: Vec<_> = items.iter().collect();
    items.sort_by_key(|item| item.ok);
    for item in items {
        let result = match &item.error {
            Some(error) => Cell::new(format!("failed: {}", error.message), Tone::Bad),
            None if item.ok && item.already => Cell::new(format!("{done} already"), Tone::Plain),
            None if item.ok => Cell::new(done, Tone::Good),
            None => Cell::new("failed", Tone::Bad),
        };
        table.row(vec![item.agent.to_string().into(), result]);
    }
    if table.is_empty() { Vec::new() } else { table.render(paint, width) }
}

/// What a census found, a line each.
#[must_use]
pub fn left(census: &Census) -> Vec<String> {
    [("session", &census.sessions), ("process", &census.processes), ("file", &census.files)]
        .into_iter()
        .flat_map(|(what, list)| list.iter().map(move |item| format!("left: {what} {item}")))
        .collect()
}
