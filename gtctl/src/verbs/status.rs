//! `gtctl status`: the town at a glance, or one agent on a card.

use std::time::Duration;

use gtd_proto::explain::Explanation;
use gtd_proto::rpc::{AgentClient, TownClient};
use gtd_proto::town::{Severity, TownStatus};
use gtd_proto::{Agent, Exit, Intent, Role, State, params};

use crate::cli::Status;
use crate::client::{self, Session};
use crate::context::{Context, no_agent};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::card::{Beside, card};
use crate::output::{agents, note};

/// Between two pictures of `--watch`.
const AGAIN: Duration = Duration::from_secs(2);

/// Lines of its screen on an agent's card.
const SCREEN: u32 = 10;

/// Runs the verb.
///
/// # Errors
/// When no daemon answers, or nothing fits the selector.
pub async fn run(cx: &mut Context, args: &Status) -> Result<Code, Failure> {
    if !args.watch {
        let session = cx.connect().await?;
        let code = show(cx, &session, args.selector.as_deref()).await?;
        return Ok(if args.check { code } else { Code::Done });
    }
    let mut session = Some(cx.connect().await?);
    loop {
        let shown = match session.as_ref() {
            Some(open) => {
                cx.screen.fresh_picture()?;
                show(cx, open, args.selector.as_deref()).await.map(|_| ())
            }
            None => match cx.connect().await {
                Ok(open) => {
                    session = Some(open);
                    continue;
                }
                Err(failure) => Err(failure),
            },
        };
        match shown {
            Ok(()) => cx.screen.flush()?,
            // The daemon may be restarted while we look on.
            Err(failure) if failure.code() == Code::Unreachable => {
                session = None;
                note(format!("{failure}; looking again"));
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn show(cx: &mut Context, session: &Session, selector: Option<&str>) -> Result<Code, Failure> {
    match selector {
        None => town(cx, session).await,
        Some(text) => selected(cx, session, text).await,
    }
}

/// Prints the town.
///
/// # Errors
/// When the daemon does not answer.
pub async fn town(cx: &mut Context, session: &Session) -> Result<Code, Failure> {
    let answer = client::read(TownClient::status(&session.client, params::None {})).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("town.status", &answer)?;
    } else {
        let lines = agents::town(&answer.body, screen.paint, screen.width);
        screen.lines(lines)?;
    }
    Ok(check_town(&answer.body))
}

async fn selected(cx: &mut Context, session: &Session, text: &str) -> Result<Code, Failure> {
    let request = params::AgentList { selector: Some(text.to_owned()) };
    let answer = client::read(AgentClient::list(&session.client, request)).await?;
    let found = &answer.body.items;
    if found.is_empty() {
        return Err(no_agent(session, text).await);
    }
    if cx.screen.json {
        cx.screen.envelope("agent.list", &answer)?;
    } else if let [one] = found.as_slice() {
        print_card(cx, session, one, Vec::new()).await?;
    } else {
        let all: Vec<&Agent> = found.iter().collect();
        let lines = agents::table(&all, cx.screen.paint, cx.screen.width);
        cx.screen.lines(lines)?;
    }
    Ok(match found.as_slice() {
        [one] => check_one(one),
        several => check_many(several.iter()),
    })
}

/// Prints an agent's card, with its last exit and the end of its screen where they can be had.
///
/// # Errors
/// When stdout cannot be written.
pub async fn print_card(
    cx: &mut Context,
    session: &Session,
    agent: &Agent,
    more: Vec<(&'static str, String)>,
) -> Result<(), Failure> {
    let (exit, screen, why) =
        tokio::join!(last_exit(session, agent), last_lines(session, agent), explained(session, agent));
    let beside = Beside { exit: exit.as_ref(), screen: &screen, why: why.as_ref(), more };
    let lines = card(agent, &beside, cx.screen.paint);
    cx.screen.lines(lines)
}

// What adorns a card is left out when it cannot be had: the card itself is worth more than an error.

async fn last_exit(session: &Session, agent: &Agent) -> Option<Exit> {
    let request = params::AgentExits { agent: Some(agent.agent.clone()), limit: Some(1) };
    let answer = client::read(AgentClient::exits(&session.client, request)).await.ok()?;
    answer.body.items.into_iter().next()
}

async fn explained(session: &Session, agent: &Agent) -> Option<Explanation> {
    let request = params::AgentExplain { agent: agent.agent.clone(), at: None, probe: false };
    Some(client::read(AgentClient::explain(&session.client, request)).await.ok()?.body)
}

async fn last_lines(session: &Session, agent: &Agent) -> Vec<String> {
    if !agent.running {
        return Vec::new();
    }
    let request = params::AgentCapture { agent: agent.agent.clone(), lines: Some(SCREEN) };
    match client::read(AgentClient::capture(&session.client, request)).await {
        Ok(answer) => answer.body.lines,
        Err(_) => Vec::new(),
    }
}

/// One agent: running, not running, or not known.
fn check_one(agent: &Agent) -> Code {
    match (agent.running, agent.state) {
        (true, State::Running | State::Starting | State::Stopping) => Code::Done,
        // It is there, and does nothing.
        (true, State::Paused) => Code::NotRunning,
        (true, _) => Code::Degraded,
        (false, State::Unknown) => Code::NoSuch,
        (false, _) => Code::NotRunning,
    }
}

/// Of those that should run: all run, none does, or some.
fn check_many<'a>(agents: impl Iterator<Item = &'a Agent>) -> Code {
    let wanted: Vec<&Agent> = agents.filter(|agent| should_run(agent) && agent.role != Role::Crew).collect();
    let well = wanted.iter().filter(|agent| check_one(agent) == Code::Done).count();
    let down = wanted.iter().filter(|agent| check_one(agent) == Code::NotRunning).count();
    match wanted.len() {
        all if well == all => Code::Done,
        all if down == all => Code::NotRunning,
        _ => Code::Degraded,
    }
}

/// What is paused should run, and does not.
fn should_run(agent: &Agent) -> bool {
    matches!(agent.intent, Intent::Running | Intent::Paused)
}

fn check_town(status: &TownStatus) -> Code {
    if status.daemon.hold {
        return Code::NotRunning;
    }
    let troubled = status.daemon.degraded
        || !status.incidents.is_empty()
        || status.alerts.iter().any(|alert| alert.severity == Severity::Error);
    match check_many(agents::all(status).into_iter()) {
        Code::Done if troubled => Code::Degraded,
        code => code,
    }
}
