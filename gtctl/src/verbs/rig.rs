//! `gtctl rig`: add, list, status.

use std::path::Path;

use gtd_proto::rpc::RigClient;
use gtd_proto::{params, town};

use super::progress;
use crate::cli::{Rig, RigAdd};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::plan;
use crate::output::paint::{Tone, tone};
use crate::output::table::{Cell, Table};
use crate::output::{agents, note};

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, verb: Rig) -> Result<Code, Failure> {
    match verb {
        Rig::Add(args) => add(cx, args).await,
        Rig::List => list(cx).await,
        Rig::Status(args) => {
            let session = cx.connect().await?;
            let request = params::RigRef { rig: args.rig };
            let answer = client::read(RigClient::status(&session.client, request)).await?;
            if cx.screen.json {
                cx.screen.envelope("rig.status", &answer)?;
            } else {
                show(cx, &answer.body)?;
            }
            Ok(Code::Done)
        }
    }
}

async fn add(cx: &mut Context, args: RigAdd) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let name = args.name.clone();
    let request = params::RigAdd {
        name: args.name,
        source: absolute(&args.source, &cx.around.cwd),
        prefix: args.prefix,
        default_branch: args.branch,
        dry_run: args.plan.dry_run,
        idempotency_key: None,
        reason: args.reason.reason,
    };
    if !args.plan.dry_run {
        note(format!("cloning {} into rig {name}", request.source));
    }
    // A clone has no time limit of ours: a large repository over a thin line may take an hour.
    let adding = client::change(None, RigClient::add(&session.client, request));
    let answer = progress::with_clock("cloning", adding).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("rig.add", &answer)?;
    } else if answer.body.dry_run {
        let lines = plan(&answer.body.plan, screen.paint, screen.width);
        screen.lines(lines)?;
    } else {
        let rig = &answer.body;
        screen.line(format!(
            "added rig {} at {}: branch {}, prefix {}",
            rig.name, rig.path, rig.default_branch, rig.prefix
        ))?;
    }
    Ok(Code::Done)
}

/// The daemon has another current directory: the path of a repository is made absolute, a URL is left alone.
fn absolute(source: &str, cwd: &Path) -> String {
    let path = cwd.join(source);
    if source.contains("://") || !path.exists() {
        return source.to_owned();
    }
    std::fs::canonicalize(&path).unwrap_or(path).display().to_string()
}

async fn list(cx: &mut Context) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let answer = client::read(RigClient::list(&session.client, params::None {})).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("rig.list", &answer)?;
        return Ok(Code::Done);
    }
    let mut table =
        Table::new(&["RIG", "STATE", "WITNESS", "REFINERY", "POLECATS", "PREFIX", "PATH", "REASON"]);
    let mut rigs: Vec<&town::Rig> = answer.body.items.iter().collect();
    rigs.sort_by_key(|rig| rig.operational);
    for rig in rigs {
        let (word, mood) =
            if rig.operational { ("operational", Tone::Good) } else { ("not operational", Tone::Warn) };
        let state = |agent: &gtd_proto::Agent| Cell::new(agent.state.as_str(), tone(agent.state));
        table.row(vec![
            rig.name.to_string().into(),
            Cell::new(word, mood),
            state(&rig.witness),
            state(&rig.refinery),
            rig.polecats.len().to_string().into(),
            rig.prefix.clone().into(),
            rig.path.clone().into(),
            rig.reason.clone().unwrap_or_default().into(),
        ]);
    }
    if table.is_empty() {
        note("no rigs yet; add one with `gtctl rig add NAME SOURCE`");
        return Ok(Code::Done);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn show(cx: &mut Context, rig: &town::Rig) -> Result<(), Failure> {
    let screen = &mut cx.screen;
    let state = if rig.operational {
        screen.paint.text(Tone::Good, "operational")
    } else {
        let why = rig.reason.as_deref().unwrap_or("no reason given");
        format!("{}: {why}", screen.paint.text(Tone::Warn, "not operational"))
    };
    screen.line(format!("{} - {state}", screen.paint.strong(&format!("rig {}", rig.name))))?;
    screen.line(format!("    Path: {}", rig.path))?;
    screen.line(format!("  Prefix: {}", rig.prefix))?;
    if !rig.crew.is_empty() {
        screen.line(format!("    Crew: {}", rig.crew.join(", ")))?;
    }
    screen.line("")?;
    let all: Vec<&gtd_proto::Agent> = agents::of_rig(rig).collect();
    let lines = agents::table(&all, screen.paint, screen.width);
    screen.lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_urls_stay() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("repo")).unwrap();
        assert_eq!(absolute("repo", &here), here.join("repo").display().to_string());
        assert_eq!(absolute("../x", &here), "../x");
        for url in ["https://example.org/a.git", "git@example.org:a.git", "file:///a"] {
            assert_eq!(absolute(url, &here), url);
        }
    }
}
