//! What became of each agent at a pause, or at its end.

use gtd_proto::Timestamp;
use gtd_proto::pause::Receipt;

use super::paint::{Paint, Tone};
use super::table::{Cell, Table};

/// Receipts, a line each, what was refused first; then what they come to.
#[must_use]
pub fn receipts(
    items: &[Receipt],
    frozen: bool,
    until: Option<Timestamp>,
    paint: Paint,
    width: Option<usize>,
) -> Vec<String> {
    let mut table = Table::new(&["AGENT", "RESULT"]);
    let mut sorted: Vec<&Receipt> = items.iter().collect();
    sorted.sort_by_key(|item| (item.refused.is_none(), item.processes == 0));
    for item in sorted {
        table.row(vec![item.agent.to_string().into(), result(item, frozen)]);
    }
    let mut out = if table.is_empty() { Vec::new() } else { table.render(paint, width) };
    let refused = items.iter().filter(|item| item.refused.is_some()).count();
    let touched = items.iter().filter(|item| item.refused.is_none() && item.processes > 0).count();
    let agents = |n: usize| if n == 1 { "1 agent".to_owned() } else { format!("{n} agents") };
    let (done, way_on) = if frozen {
        let own_end = until.map(|at| format!("{at:.0} or ")).unwrap_or_default();
        ("frozen", format!("; nothing of what is paused is started until {own_end}`gtctl resume`"))
    } else {
        ("let go on", String::new())
    };
    let not = if refused > 0 { format!(", {} not", agents(refused)) } else { String::new() };
    out.push(format!("{} {done}{not}{way_on}", agents(touched)));
    out
}

fn result(item: &Receipt, frozen: bool) -> Cell {
    let many = match item.processes {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let already = if item.already { " already" } else { "" };
    match (&item.refused, item.processes) {
        (Some(why), _) => Cell::new(format!("not done: {why}"), Tone::Bad),
        (None, 0) if frozen && item.frozen => Cell::new(format!("frozen{already}"), Tone::Good),
        (None, 0) if frozen => Cell::new("not running; not started", Tone::Plain),
        (None, 0) => Cell::new("was not frozen", Tone::Plain),
        (None, _) if frozen => Cell::new(format!("frozen{already}: {many}"), Tone::Good),
        (None, _) => Cell::new(format!("goes on{already}: {many}"), Tone::Good),
    }
}
