//! `gtctl rig`: add, list, status, park and dock with their ends, remove.

use std::path::Path;

use gtd_proto::params;
use gtd_proto::rpc::RigClient;

use super::progress;
use crate::cli::{Rig, RigAdd, RigAside, RigRemove};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::plan;
use crate::output::confirm::confirm;
use crate::output::{note, rig};

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
                let lines = rig::card(&answer.body, cx.screen.paint, cx.screen.width);
                cx.screen.lines(lines)?;
            }
            Ok(Code::Done)
        }
        Rig::Park(args) => aside(cx, Aside::Park, args).await,
        Rig::Unpark(args) => aside(cx, Aside::Unpark, args).await,
        Rig::Dock(args) => aside(cx, Aside::Dock, args).await,
        Rig::Undock(args) => aside(cx, Aside::Undock, args).await,
        Rig::Remove(args) => remove(cx, args).await,
    }
}

/// Which change of a rig's standing.
#[derive(Debug, Clone, Copy)]
enum Aside {
    Park,
    Unpark,
    Dock,
    Undock,
}

async fn aside(cx: &mut Context, what: Aside, args: RigAside) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait = args.change.wait_ms();
    let request = params::RigAside {
        rig: args.rig,
        reason: args.change.reason(),
        dry_run: args.change.dry_run(),
        wait_ms: wait,
        idempotency_key: args.change.key(),
    };
    let client = &session.client;
    let (method, doing, done) = match what {
        Aside::Park => ("rig.park", "parking", "parked"),
        Aside::Unpark => ("rig.unpark", "unparking", "unparked"),
        Aside::Dock => ("rig.dock", "docking", "docked"),
        Aside::Undock => ("rig.undock", "undocking", "undocked"),
    };
    let asking = async {
        match what {
            Aside::Park => client::change(wait, RigClient::park(client, request)).await,
            Aside::Unpark => client::change(wait, RigClient::unpark(client, request)).await,
            Aside::Dock => client::change(wait, RigClient::dock(client, request)).await,
            Aside::Undock => client::change(wait, RigClient::undock(client, request)).await,
        }
    };
    let answer = progress::with_clock(doing, asking).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(method, &answer)?;
    } else {
        let lines = match answer.body.dry_run {
            true => plan(&answer.body.plan, screen.paint, screen.width),
            false => rig::changed(done, &answer.body, screen.paint),
        };
        screen.lines(lines)?;
    }
    Ok(partly(answer.body.items.iter().all(|item| item.ok)))
}

async fn remove(cx: &mut Context, args: RigRemove) -> Result<Code, Failure> {
    if !args.change.dry_run() {
        let question =
            format!("End what runs of rig {} and take it out of the town? Its directory stays.", args.rig);
        confirm("rig remove", args.force, cx.global.yes, &question)?;
    }
    let session = cx.connect().await?;
    let wait = args.change.wait_ms();
    let request = params::RigRemove {
        rig: args.rig,
        dry_run: args.change.dry_run(),
        force: args.force,
        wait_ms: wait,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asking = client::change(wait, RigClient::remove(&session.client, request));
    let answer = progress::with_clock("removing", asking).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("rig.remove", &answer)?;
    } else {
        let lines = match answer.body.dry_run {
            true => plan(&answer.body.plan, screen.paint, screen.width),
            false => rig::removed(&answer.body, screen.paint),
        };
        screen.lines(lines)?;
    }
    Ok(partly(answer.body.items.iter().all(|item| item.ok)))
}

fn partly(all: bool) -> Code {
    if all { Code::Done } else { Code::Partial }
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
        screen.plan(&answer.body.plan)?;
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
    let lines = rig::table(&answer.body.items, screen.paint, screen.width);
    if lines.is_empty() {
        note("no rigs yet; add one with `gtctl rig add NAME SOURCE`");
    }
    screen.lines(lines)?;
    Ok(Code::Done)
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
