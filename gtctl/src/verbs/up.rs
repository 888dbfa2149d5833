//! `gtctl up`: the daemon, and everything that should run.

use gtd_proto::rpc::TownClient;
use gtd_proto::{Reply, State, params, town};

use super::daemon::start::warn;
use super::progress;
use crate::cli::Up;
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::start::{self, Launch};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::step;
use crate::output::error::plain;
use crate::output::{agents, change, note};

/// Runs the verb.
///
/// # Errors
/// When the daemon does not come up, or the start of the town is refused.
pub async fn run(cx: &mut Context, args: &Up) -> Result<Code, Failure> {
    let session = match cx.connect().await {
        Ok(session) => session,
        Err(failure) if failure.is_no_daemon() => {
            let root = cx.root().await?;
            if args.change.dry_run() {
                return plan_without_daemon(cx);
            }
            start::outside_of_agents(cx.around.var("GT_INSTANCE"))?;
            note("starting the daemon");
            let running = start::ensure(&Launch { root, hold: false, scrub: false }, &mut Vec::new()).await?;
            note(format!("daemon running, pid {}", running.session.hello.body.pid));
            if !cx.screen.json {
                warn(&running.session).await;
            }
            running.session
        }
        Err(failure) => return Err(failure),
    };
    let answer = start_town(&session, args).await?;
    let amiss = if answer.body.dry_run { Vec::new() } else { amiss(&session).await };
    let well = amiss.is_empty() && answer.body.items.iter().all(|item| item.ok);
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("town.start", &answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::town("running", &answer.body, screen.paint, screen.width);
        screen.lines(lines)?;
        let name = session.root().display();
        for line in &amiss {
            screen.line(plain(line))?;
        }
        let but = if well { "" } else { ", except for the above" };
        screen.line(format!("town {name} is up{but}"))?;
    }
    Ok(if well { Code::Done } else { Code::Partial })
}

/// What should run and will not by itself: quarantined, or paused. Also what was so before.
async fn amiss(session: &Session) -> Vec<String> {
    // The town is up: that this cannot be told as well is no failure of it.
    let Ok(status) = client::read(TownClient::status(&session.client, params::None {})).await else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if let Some(pause) = &status.body.pause {
        lines.push(format!("the town is paused, by {}; to let it go on: {}", pause.by, pause.clear));
    }
    for agent in agents::all(&status.body) {
        let why = agent.reason.as_deref().unwrap_or_default();
        match (agent.state, agent.next_attempt) {
            (State::Quarantined, None) => {
                lines.push(format!("{}: quarantined, {why}; see gtctl doctor agent-binaries", agent.agent));
            }
            (State::Quarantined, Some(_)) => {
                lines.push(format!("{}: quarantined, {why}; see gtctl explain {}", agent.agent, agent.agent));
            }
            (State::Paused, _) if status.body.pause.is_none() => {
                lines.push(format!("{}: {why}; see gtctl status {}", agent.agent, agent.agent));
            }
            _ => {}
        }
    }
    lines
}

async fn start_town(session: &Session, args: &Up) -> Result<Reply<town::TownChange>, Failure> {
    let wait_ms = args.change.wait_ms();
    let request = params::TownStart {
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let start = client::change(wait_ms, TownClient::start(&session.client, request));
    if args.change.dry_run() { start.await } else { progress::with_events(session, "starting", start).await }
}

fn plan_without_daemon(cx: &mut Context) -> Result<Code, Failure> {
    let steps = [
        step("start", "gtd", "no daemon is running"),
        step("start", "what should run", "the daemon knows; with it running, --dry-run lists the agents"),
    ];
    let screen = &mut cx.screen;
    if screen.json {
        let change =
            town::TownChange { items: Vec::new(), census: None, plan: steps.to_vec(), dry_run: true };
        screen.envelope("town.start", &change)?;
    } else {
        screen.plan(&steps)?;
    }
    Ok(Code::Done)
}
