//! `gtctl orphans`, `gtctl session` and `gtctl crew`: what stands on the machine and whose it is.

use gtd_proto::doctor::{Orphan, SweepResult};
use gtd_proto::params;
use gtd_proto::rpc::{CrewClient, OrphansClient, SessionClient};
use serde_json::Value;

use super::progress;
use crate::cli::{Crew, CrewList, Orphans, OrphansSweep, Session as SessionVerb};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Runs `orphans`.
///
/// # Errors
/// When sessions or processes cannot be listed.
pub async fn run(cx: &mut Context, verb: Orphans) -> Result<Code, Failure> {
    match verb {
        Orphans::List => list(cx).await,
        Orphans::Sweep(args) => sweep(cx, args).await,
    }
}

async fn list(cx: &mut Context) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let answer = client::read(OrphansClient::list(&session.client, params::None {})).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("orphans.list", &answer)?;
        return Ok(Code::Done);
    }
    let found = &answer.body;
    if !found.items.is_empty() {
        let mut table =
            Table::new(&["VERDICT", "KIND", "PID", "NAME", "AGE", "PARENT", "REASON", "DIRECTORY"]);
        found.items.iter().for_each(|item| table.row(row(item)));
        let lines = table.render(screen.paint, screen.width);
        screen.lines(lines)?;
        screen.flush()?;
    }
    let owned = found.items.iter().filter(|item| item.owned).count();
    note(format!(
        "{} processes and {} sessions looked at, {} processes of agents that run; left over and ours: {owned}",
        found.processes, found.sessions, found.live
    ));
    Ok(Code::Done)
}

fn row(item: &Orphan) -> Vec<Cell> {
    let tone = match item.verdict.as_str() {
        "orphan" | "zombie" => Tone::Bad,
        "unproved" => Tone::Warn,
        _ => Tone::Dim,
    };
    let parent = item.evidence.get("parent").and_then(Value::as_i64).map(|pid| pid.to_string());
    vec![
        Cell::new(item.verdict.replace('_', " "), tone),
        item.kind.clone().into(),
        item.pid.map(|pid| pid.to_string()).or_else(|| item.session.clone()).unwrap_or_default().into(),
        item.name.clone().into(),
        time::whole(std::time::Duration::from_millis(item.age_ms)).into(),
        parent.unwrap_or_default().into(),
        item.reason.clone().into(),
        item.cwd.clone().unwrap_or_default().into(),
    ]
}

async fn sweep(cx: &mut Context, args: OrphansSweep) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let kinds: Vec<String> = args.kind.iter().map(|kind| kind.as_str().to_owned()).collect();
    let request = params::OrphansSweep {
        kinds: (!kinds.is_empty()).then_some(kinds),
        dry_run: args.plan.dry_run,
        reason: args.reason.reason,
        ..params::OrphansSweep::default()
    };
    let asking = client::change(None, OrphansClient::sweep(&session.client, request));
    let answer = progress::with_clock("sweeping", asking).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("orphans.sweep", &answer)?;
    } else {
        let SweepResult { items, left, .. } = &answer.body;
        for item in items {
            let agent = item.agent.as_ref().map(|agent| format!(" of {agent}")).unwrap_or_default();
            let text = format!("{} {}{agent}: {}", item.kind, item.target, item.outcome);
            screen.line(crate::output::error::plain(&text))?;
        }
        screen.flush()?;
        if items.is_empty() {
            note("nothing of this town is left over");
        }
        if !left.is_empty() {
            let left: Vec<String> = left
                .iter()
                .map(|(verdict, count)| format!("{count} {}", verdict.replace('_', " ")))
                .collect();
            note(format!("left alone: {}; `gtctl orphans list` says why", left.join(", ")));
        }
    }
    let all_gone = answer.body.items.iter().all(|item| item.ok);
    Ok(if all_gone { Code::Done } else { Code::Partial })
}

/// Runs `session`.
///
/// # Errors
/// When the sessions cannot be listed.
pub async fn session(cx: &mut Context, verb: SessionVerb) -> Result<Code, Failure> {
    let SessionVerb::List = verb;
    let session = cx.connect().await?;
    let answer = client::read(SessionClient::list(&session.client, params::None {})).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("session.list", &answer)?;
        return Ok(Code::Done);
    }
    if answer.body.items.is_empty() {
        note("there is no session on the town's tmux server");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["SESSION", "ID", "OURS", "AGENT", "PANES", "ATTACHED", "ACTIVE", "WHY"]);
    for item in &answer.body.items {
        let dead = item.panes.iter().filter(|pane| pane.dead).count();
        let panes = if dead == 0 {
            item.panes.len().to_string()
        } else {
            format!("{}, {dead} dead", item.panes.len())
        };
        table.row(vec![
            item.session_name.clone().into(),
            item.session.clone().into(),
            if item.owned { Cell::new("yes", Tone::Good) } else { Cell::new("no", Tone::Dim) },
            item.agent.as_ref().map(ToString::to_string).unwrap_or_default().into(),
            panes.into(),
            if item.attached { "yes" } else { "" }.into(),
            item.last_activity.map(time::ago).unwrap_or_default().into(),
            item.proof.clone().unwrap_or_else(|| item.reason.clone()).into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

/// Runs `crew`.
///
/// # Errors
/// When there is no such rig.
pub async fn crew(cx: &mut Context, verb: Crew) -> Result<Code, Failure> {
    let Crew::List(CrewList { rig }) = verb;
    let session = cx.connect().await?;
    let answer = client::read(CrewClient::list(&session.client, params::CrewList { rig })).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("crew.list", &answer)?;
        return Ok(Code::Done);
    }
    if answer.body.items.is_empty() {
        note("nobody has a workspace here");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["CREW", "SESSION", "ATTACHED", "DIRECTORY"]);
    for item in &answer.body.items {
        table.row(vec![
            item.agent.to_string().into(),
            item.session_name.clone().unwrap_or_default().into(),
            if item.attached { "yes" } else { "" }.into(),
            item.path.clone().into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}
