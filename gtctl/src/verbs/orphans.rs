//! `gtctl orphans`, `gtctl session` and `gtctl crew`: what stands on the machine and whose it is.

use gtd_proto::doctor::{Orphan, SweepResult};
use gtd_proto::rpc::{CrewClient, OrphansClient, SessionClient};
use gtd_proto::{Reply, params};

use super::progress;
use crate::cli::{Crew, CrewList, Orphans, OrphansSweep, Session as SessionVerb};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::{self, agrees};
use crate::output::error::plain;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Characters of a directory that are shown at a terminal.
const DIRECTORY: usize = 28;

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
        let mut table = Table::new(&["VERDICT", "WHAT", "AGE", "NAME", "DIRECTORY", "WHY"]);
        let narrow = screen.width.is_some();
        found.items.iter().for_each(|item| table.row(row(item, narrow)));
        let lines = table.render(screen.paint, screen.width);
        screen.lines(lines)?;
        screen.flush()?;
    }
    let owned = found.items.iter().filter(|item| item.owned).count();
    note(format!(
        "looked at {} processes, {} of them of agents that run, and at {} sessions",
        found.processes, found.live, found.sessions
    ));
    note(match owned {
        0 if found.items.is_empty() => "nothing of this town is left over".to_owned(),
        0 => "nothing of this town is left over; what is listed is left alone".to_owned(),
        1 => "1 is ours and left over; end it with: gtctl orphans sweep".to_owned(),
        many => format!("{many} are ours and left over; end them with: gtctl orphans sweep"),
    });
    Ok(Code::Done)
}

/// One line. A process is named by its number, a session by the id that tmux gives it.
fn row(item: &Orphan, narrow: bool) -> Vec<Cell> {
    let tone = match item.verdict.as_str() {
        "orphan" | "zombie" => Tone::Bad,
        "unproved" => Tone::Warn,
        _ => Tone::Dim,
    };
    let cwd = item.cwd.as_deref().unwrap_or_default();
    let cwd = if narrow { tail(cwd) } else { cwd.to_owned() };
    vec![
        Cell::new(item.verdict.replace('_', " "), tone),
        what(item).into(),
        time::whole(std::time::Duration::from_millis(item.age_ms)).into(),
        item.name.clone().into(),
        cwd.into(),
        item.reason.clone().into(),
    ]
}

/// `pid 4711`, or `session $3`: both are numbers, and not of the same thing.
fn what(item: &Orphan) -> String {
    match (item.pid, &item.session) {
        (Some(pid), _) => format!("pid {pid}"),
        (None, Some(session)) => format!("session {session}"),
        (None, None) => item.kind.clone(),
    }
}

/// The end of a path, which says more than its beginning where there is little room.
fn tail(path: &str) -> String {
    let count = path.chars().count();
    if count <= DIRECTORY {
        return path.to_owned();
    }
    let end: String = path.chars().skip(count + 1 - DIRECTORY).collect();
    // From a whole name, unless one name alone is too long.
    let whole = end.find('/').map(|at| end.split_at(at).1.to_owned());
    format!("…{}", whole.unwrap_or(end))
}

async fn sweep(cx: &mut Context, args: OrphansSweep) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    if !args.plan.dry_run && !cx.global.yes && confirm::is_asked() {
        let plan = ask(&session, &args, true).await?;
        if plan.body.items.is_empty() {
            return shown(cx, &plan);
        }
        for line in lines(&plan.body) {
            note(line);
        }
        if !agrees("end these?") {
            return Err(Failure::failed("not done: the answer was not yes"));
        }
    }
    let answer = ask(&session, &args, args.plan.dry_run).await?;
    shown(cx, &answer)
}

async fn ask(session: &Session, args: &OrphansSweep, dry_run: bool) -> Result<Reply<SweepResult>, Failure> {
    let kinds: Vec<String> = args.kind.iter().map(|kind| kind.as_str().to_owned()).collect();
    let request = params::OrphansSweep {
        kinds: (!kinds.is_empty()).then_some(kinds),
        dry_run,
        reason: args.reason.reason.clone(),
        ..params::OrphansSweep::default()
    };
    let asking = client::change(None, OrphansClient::sweep(&session.client, request));
    progress::with_clock(if dry_run { "looking" } else { "sweeping" }, asking).await
}

fn shown(cx: &mut Context, answer: &Reply<SweepResult>) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("orphans.sweep", answer)?;
    } else {
        let SweepResult { items, left, .. } = &answer.body;
        screen.lines(lines(&answer.body))?;
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

/// What is swept: a line for each instance or pane, and below it one for each process.
fn lines(result: &SweepResult) -> Vec<String> {
    let mut lines = Vec::new();
    for item in &result.items {
        let of = match (item.kind.as_str(), &item.agent) {
            ("process", Some(agent)) => {
                let many = item.processes.len();
                let what = if many == 1 { "1 process".to_owned() } else { format!("{many} processes") };
                format!("{what} of {agent}, instance {}", item.target)
            }
            (_, Some(agent)) => format!("{} of {agent}", item.target),
            (kind, None) => format!("{kind} {}", item.target),
        };
        lines.push(plain(&format!("{of}: {}", item.outcome)));
        lines.extend(item.details.iter().map(|line| format!("  {}", plain(line))));
        lines.extend(item.survivors.iter().map(|id| format!("  still alive: {id}")));
    }
    lines
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
        note("nobody has a workspace here; one is a directory RIG/crew/NAME, and seen soon after it is made");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_directory_shows_its_end() {
        assert_eq!(tail("/a/b"), "/a/b");
        let long = tail("/home/somebody/towns/mine/alpha/polecats/nux");
        assert_eq!(long, "…/mine/alpha/polecats/nux");
        assert!(long.chars().count() <= DIRECTORY);
        assert_eq!(tail(&"x".repeat(40)).chars().count(), DIRECTORY);
    }
}
