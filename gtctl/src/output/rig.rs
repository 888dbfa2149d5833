//! Rigs in words: a table, a card, and what became of a change.

use gtd_proto::town::{Aside, Outcome, Rig, RigChange, RigRemoved};
use gtd_proto::{Agent, Intent, State};

use super::agents;
use super::paint::{Paint, Tone, tone};
use super::table::{Cell, Table};
use super::time;

/// A rig's state in a word or two, and how good that is.
fn state(rig: &Rig) -> (&'static str, Tone) {
    match rig {
        Rig { removing: true, .. } => ("being removed", Tone::Warn),
        Rig { operational: true, .. } => ("operational", Tone::Good),
        Rig { parked: Some(_), docked: Some(_), .. } => ("parked, docked", Tone::Warn),
        Rig { parked: Some(_), .. } => ("parked", Tone::Warn),
        Rig { docked: Some(_), .. } => ("docked", Tone::Warn),
        _ => ("not operational", Tone::Warn),
    }
}

/// Who set it aside and why, or what else bars it.
fn why(rig: &Rig) -> String {
    let by = |aside: &Aside| match &aside.reason {
        Some(reason) => format!("by {}: {reason}", aside.by),
        None => format!("by {}", aside.by),
    };
    let aside = rig.parked.as_ref().or(rig.docked.as_ref()).map(by);
    aside.or_else(|| rig.reason.clone()).unwrap_or_default()
}

/// Rigs, a line each, those set aside first.
#[must_use]
pub fn table(rigs: &[Rig], paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut table =
        Table::new(&["RIG", "STATE", "SINCE", "WITNESS", "REFINERY", "POLECATS", "REASON", "PREFIX", "PATH"]);
    let mut sorted: Vec<&Rig> = rigs.iter().collect();
    sorted.sort_by_key(|rig| rig.operational);
    for rig in sorted {
        let (word, mood) = state(rig);
        let role = |agent: &Agent| Cell::new(agent.state.as_str(), tone(agent.state));
        table.row(vec![
            rig.name.to_string().into(),
            Cell::new(word, mood),
            rig.since.map(time::ago).unwrap_or_default().into(),
            role(&rig.witness),
            role(&rig.refinery),
            rig.polecats.len().to_string().into(),
            why(rig).into(),
            rig.prefix.clone().into(),
            rig.path.clone().into(),
        ]);
    }
    if table.is_empty() { Vec::new() } else { table.render(paint, width) }
}

/// One rig: its state, who made it so and since when, its agents, and what one can do.
#[must_use]
pub fn card(rig: &Rig, paint: Paint, width: Option<usize>) -> Vec<String> {
    let (word, mood) = state(rig);
    let mut out =
        vec![format!("{} - {}", paint.strong(&format!("rig {}", rig.name)), paint.text(mood, word))];
    let mut fact = |name: &str, value: String| out.push(format!("{name:>8}: {value}"));
    if let (false, Some(reason)) = (rig.operational, &rig.reason) {
        let since = rig.since.map(|since| format!(", since {}", time::full(since))).unwrap_or_default();
        fact("Reason", format!("{reason}{since}"));
    }
    for (name, aside) in [("Parked", &rig.parked), ("Docked", &rig.docked)] {
        if let Some(aside) = aside {
            let said = aside.reason.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
            fact(name, format!("by {}, {}{said}", aside.by, time::full(aside.at)));
        }
    }
    fact("Path", rig.path.clone());
    fact("Prefix", rig.prefix.clone());
    if !rig.crew.is_empty() {
        fact("Crew", rig.crew.join(", "));
    }
    out.push(String::new());
    out.extend(agents::table(&agents::of_rig(rig).collect::<Vec<_>>(), paint, width));
    out.push(String::new());
    out.push("What you can do:".to_owned());
    let todo = commands(rig);
    let longest = todo.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    out.extend(todo.iter().map(|(command, why)| format!("  {command:longest$}  {why}")));
    out
}

/// What helps here, with what it does.
fn commands(rig: &Rig) -> Vec<(String, &'static str)> {
    let name = &rig.name;
    let mut todo = Vec::new();
    if rig.parked.is_some() {
        todo.push((
            format!("gtctl rig unpark {name}"),
            "let its agents run again; brings back what was to run",
        ));
    }
    if rig.docked.is_some() {
        todo.push((format!("gtctl rig undock {name}"), "the same, of the dock"));
    }
    match rig.reason.as_deref() {
        Some("town is down") => todo.push(("gtctl up".to_owned(), "the whole town was stopped")),
        Some("state file unreadable") => {
            todo.push((format!("$EDITOR .beads-wisp/config/{name}.json"), "mend the file, or take it away"));
        }
        Some("auto_restart is blocked" | "auto_restart is disabled") => {
            todo.push((format!("$EDITOR .beads-wisp/config/{name}.json"), "its auto_restart says so"));
        }
        _ => {}
    }
    if rig.operational {
        todo.push((format!("gtctl rig park {name}"), "set it aside on this machine, for hours"));
        todo.push((format!("gtctl rig dock {name}"), "set it aside for good"));
    }
    todo.push((format!("gtctl rig remove {name}"), "take it out of the town; its directory stays"));
    todo
}

/// What became of a park, a dock, or the end of one.
#[must_use]
pub fn changed(done: &str, change: &RigChange, paint: Paint) -> Vec<String> {
    let rig = &change.rig;
    let (word, mood) = state(rig);
    let state = paint.text(mood, word);
    let mut out = vec![if change.accepted {
        format!("accepted: rig {} is {state}; follow it with `gtctl events -f`", rig.name)
    } else if change.already {
        format!("rig {} is {state} already", rig.name)
    } else if word == done {
        format!("{} rig {}", paint.text(mood, done), rig.name)
    } else {
        format!("{done} rig {}: {state}", rig.name)
    }];
    if let (false, Some(reason)) = (rig.operational, rig.reason.as_deref()) {
        let undo = match reason {
            "parked" => format!("undo it with `gtctl rig unpark {}`", rig.name),
            "docked" => format!("undo it with `gtctl rig undock {}`", rig.name),
            "town is down" => "the town is down: `gtctl up`".to_owned(),
            other => format!("{other}: `gtctl rig status {}`", rig.name),
        };
        out.push(format!("  {undo}"));
    }
    out.extend(outcomes(&change.items, rig.operational, paint));
    let asleep = [&rig.witness, &rig.refinery]
        .into_iter()
        .filter(|agent| rig.operational && agent.state == State::Stopped && agent.intent == Intent::Stopped);
    out.extend(asleep.map(|agent| {
        let why = agent.intent_reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("  {} stays stopped, by {}{why}", agent.agent, agent.intent_by)
    }));
    out
}

fn outcomes(items: &[Outcome], started: bool, paint: Paint) -> Vec<String> {
    let done = if started { "started" } else { "stopped" };
    items
        .iter()
        .map(|item| match &item.error {
            None => format!("  {done} {}", item.agent),
            Some(error) => format!("  {} {}: {}", item.agent, paint.text(Tone::Bad, "failed"), error.message),
        })
        .collect()
}

/// What became of a removal, and what is left of the rig.
#[must_use]
pub fn removed(gone: &RigRemoved, paint: Paint) -> Vec<String> {
    let mut out = vec![if gone.accepted {
        format!("accepted: rig {} is being removed; follow it with `gtctl events -f`", gone.name)
    } else {
        format!("removed rig {}: it is no longer in the registry", gone.name)
    }];
    out.extend(outcomes(&gone.items, false, paint));
    out.extend(gone.left.iter().map(|path| format!("  left as it is: {path}")));
    out
}
