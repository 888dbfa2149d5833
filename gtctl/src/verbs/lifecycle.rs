//! `gtctl lifecycle`: request and list.

use gtd_proto::lifecycle::{Lifecycle as Item, LifecycleAction, LifecycleState};
use gtd_proto::params;
use gtd_proto::rpc::{AgentClient, LifecycleClient};

use super::progress;
use crate::cli::{Lifecycle, LifecycleList, LifecycleRequest};
use crate::client;
use crate::context::{Context, no_agent};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};
use crate::who::Who;

/// Runs the verb.
///
/// # Errors
/// The daemon's; an action that is none; no agent where there is no own one.
pub async fn run(cx: &mut Context, verb: Lifecycle) -> Result<Code, Failure> {
    match verb {
        Lifecycle::Request(args) => request(cx, args).await,
        Lifecycle::List(args) => list(cx, args).await,
    }
}

async fn request(cx: &mut Context, args: LifecycleRequest) -> Result<Code, Failure> {
    let (agent, word) = match args.second {
        Some(action) => (Some(args.first), action),
        None => (None, args.first),
    };
    let action: LifecycleAction = word.parse().map_err(|_| {
        // One word that is no action is most likely the agent, and what it is to do was forgotten.
        match crate::cli::address(&word).filter(|_| agent.is_none()) {
            Some(whom) => Failure::usage(format!("what {whom} is to do is not said"))
                .hint(format!("gtctl lifecycle request {whom} cycle, restart or shutdown")),
            None => Failure::usage(format!("{word:?} is no action"))
                .hint("cycle, restart or shutdown; the agent comes before it"),
        }
    })?;
    let own = Who::here(&cx.around).and_then(|who| who.agent);
    let session = cx.connect().await?;
    let agent = match (agent, own) {
        (Some(agent), _) => cx.agent(&session, &agent).await?,
        (None, Some(own)) => own,
        (None, None) => {
            let why = "outside of an agent it has to be said whom it is about";
            return Err(Failure::usage(why).hint(format!("gtctl lifecycle request AGENT {action}")));
        }
    };
    let wait_ms = args.change.wait_ms();
    let request = params::LifecycleRequest {
        agent: agent.clone(),
        action,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, LifecycleClient::ask(&session.client, request));
    let answer = progress::with_clock("asking", doing).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("lifecycle.request", &answer)?;
        return Ok(Code::Done);
    }
    let change = &answer.body;
    if change.dry_run {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    screen.line(match &change.request {
        Some(item) if item.state.is_open() => {
            format!("{} of {agent} is accepted ({}); it happens now", item.action, item.id)
        }
        Some(item) => format!("{} of {agent}: {} ({})", item.action, item.state, item.id),
        None => "accepted; follow it with `gtctl events -f --kind 'lifecycle.*'`".to_owned(),
    })?;
    if let Some(reason) = change.request.as_ref().and_then(|item| item.reason.as_deref()) {
        note(plain(reason));
    }
    Ok(Code::Done)
}

async fn list(cx: &mut Context, args: LifecycleList) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = match &args.agent {
        Some(agent) => Some(cx.agent(&session, agent).await?),
        None => None,
    };
    let request = params::LifecycleList { agent: agent.clone(), limit: args.limit };
    let answer = client::read(LifecycleClient::list(&session.client, request)).await?;
    // Of one that is gone there may be requests still; of one that never was there are none.
    if let Some(agent) = agent.filter(|_| answer.body.items.is_empty()) {
        let request = params::AgentList { selector: Some(agent.to_string()) };
        if client::read(AgentClient::list(&session.client, request)).await?.body.items.is_empty() {
            return Err(no_agent(&session, &agent.to_string()).await);
        }
    }
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("lifecycle.list", &answer)?;
        return Ok(Code::Done);
    }
    if answer.body.items.is_empty() {
        note("nobody has asked for anything");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["ID", "STATE", "ACTION", "AGENT", "AGO", "FROM", "WHY"]);
    for item in &answer.body.items {
        table.row(row(item));
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn row(item: &Item) -> Vec<Cell> {
    let tone = match item.state {
        LifecycleState::Done => Tone::Good,
        LifecycleState::Refused | LifecycleState::Failed => Tone::Bad,
        _ => Tone::Warn,
    };
    vec![
        item.id.clone().into(),
        Cell::new(item.state.as_str().to_owned(), tone),
        item.action.as_str().to_owned().into(),
        item.agent.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        time::ago(item.at).into(),
        plain(&item.from).into(),
        item.reason.as_deref().map(plain).unwrap_or_default().into(),
    ]
}
