//! `gtctl nudge`, `gtctl polecat nudge` and `gtctl respond`: text for agents.

use std::io::Read;

use gtd_proto::nudge::{MESSAGE_MAX, NudgeChange};
use gtd_proto::rpc::{AgentClient, NudgeClient};
use gtd_proto::{Nudge as Text, NudgeReached, NudgeState, params};

use super::progress;
use crate::cli::{Nudge, NudgeCancel, NudgeList, NudgeWhat, PolecatNudge, Respond, millis};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Runs the verb.
///
/// # Errors
/// The daemon's; that the text is dead.
pub async fn run(cx: &mut Context, args: Nudge) -> Result<Code, Failure> {
    match args.what {
        Some(NudgeWhat::List(list)) => self::list(cx, &list).await,
        Some(NudgeWhat::Cancel(cancel)) => self::cancel(cx, cancel).await,
        None => send(cx, args).await,
    }
}

/// Runs `polecat nudge`.
///
/// # Errors
/// The daemon's.
pub async fn polecat(cx: &mut Context, args: PolecatNudge) -> Result<Code, Failure> {
    let PolecatNudge { agent, message, change } = args;
    let message = given(message)?;
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &agent).await?;
    let wait_ms = change.wait_ms();
    let request = params::PolecatInject {
        agent,
        message,
        dry_run: change.dry_run(),
        wait_ms,
        idempotency_key: change.own_key(),
        reason: change.reason(),
    };
    let doing = client::once(
        request.idempotency_key.clone(),
        wait_ms.filter(|ms| *ms > 0),
        NudgeClient::inject(&session.client, request),
    );
    let answer = progress::with_clock("typing", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("polecat.inject", &answer)?;
        return Ok(Code::Done);
    }
    said(cx, &answer.body)
}

/// Runs `respond`.
///
/// # Errors
/// The daemon's: above all that the agent does not wait for a person.
pub async fn respond(cx: &mut Context, args: Respond) -> Result<Code, Failure> {
    let text = given(args.text)?;
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let request = params::AgentRespond {
        agent,
        text,
        dry_run: args.plan.dry_run,
        wait_ms: None,
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let doing = client::change(None, NudgeClient::respond(&session.client, request));
    let answer = progress::with_clock("typing", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("agent.respond", &answer)?;
        return Ok(Code::Done);
    }
    said(cx, &answer.body)
}

async fn send(cx: &mut Context, args: Nudge) -> Result<Code, Failure> {
    let message = given(args.message.unwrap_or_default())?;
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent.unwrap_or_default()).await?;
    let instance = match args.this_instance {
        false => None,
        true => {
            let selector = Some(agent.to_string());
            let list = AgentClient::list(&session.client, params::AgentList { selector });
            let found = client::read(list).await?.body.items.into_iter().find(|one| one.agent == agent);
            let running = found.filter(|one| one.running).and_then(|one| one.instance);
            Some(running.ok_or_else(|| Failure::usage(format!("{agent} has no instance that runs")))?)
        }
    };
    let wait_ms = args.change.wait_ms();
    let request = params::NudgeSend {
        agent,
        message,
        key: args.key,
        expires_ms: args.expires.map(millis),
        instance,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.own_key(),
        reason: args.change.reason(),
    };
    let doing =
        client::once(request.idempotency_key.clone(), wait_ms, NudgeClient::send(&session.client, request));
    let answer = progress::with_clock("typing", doing).await?;
    let dead = answer.body.nudge.as_ref().is_some_and(|nudge| nudge.state == NudgeState::Dead);
    if cx.screen.json {
        cx.screen.envelope("nudge.send", &answer)?;
        return Ok(if dead { Code::Failed } else { Code::Done });
    }
    said(cx, &answer.body)
}

async fn list(cx: &mut Context, args: &NudgeList) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = match &args.agent {
        Some(agent) => Some(cx.agent(&session, agent).await?),
        None => None,
    };
    let request = params::NudgeList { agent, all: args.all };
    let answer = client::read(NudgeClient::list(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("nudge.list", &answer)?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["ID", "AGENT", "STATE", "REACHED", "SENT", "FROM", "TEXT", "WHY"]);
    for nudge in &answer.body.items {
        table.row(vec![
            nudge.id.to_string().into(),
            nudge.agent.to_string().into(),
            Cell::new(nudge.state.as_str().to_owned(), mood(nudge.state)),
            nudge.reached.as_str().to_owned().into(),
            time::ago(nudge.created_at).into(),
            plain(&nudge.from).into(),
            plain(&nudge.text.chars().take(40).collect::<String>()).into(),
            nudge.why.as_deref().map(plain).unwrap_or_default().into(),
        ]);
    }
    if table.is_empty() {
        note("no text waits for an agent");
        return Ok(Code::Done);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

async fn cancel(cx: &mut Context, args: NudgeCancel) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::NudgeCancel {
        id: args.id,
        dry_run: args.plan.dry_run,
        wait_ms: None,
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = client::change(None, NudgeClient::cancel(&session.client, request)).await;
    let answer = answer.map_err(|failure| failure.not_there("nudge_not_found"))?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("nudge.cancel", &answer)?;
        return Ok(Code::Done);
    }
    let change = &answer.body;
    if change.dry_run && !change.already {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    if let Some(nudge) = &change.nudge {
        screen.line(match change.already {
            true => format!("{} is {} already", nudge.id, nudge.state.as_str()),
            false => format!("took back {} for {}", nudge.id, nudge.agent),
        })?;
    }
    Ok(Code::Done)
}

/// How far it got. A text that is dead is a failure; one that waits is not.
fn said(cx: &mut Context, change: &NudgeChange) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    let Some(nudge) = &change.nudge else {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    };
    screen.line(words(nudge))?;
    Ok(if nudge.state == NudgeState::Dead { Code::Failed } else { Code::Done })
}

fn words(nudge: &Text) -> String {
    let agent = &nudge.agent;
    let why = nudge.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
    match (nudge.state, nudge.reached) {
        (NudgeState::Delivered, NudgeReached::Seen) => format!("{agent} has seen it, and works"),
        (NudgeState::Delivered, NudgeReached::Typed) => {
            format!("typed for {agent}, which does not say whether it has seen it")
        }
        (NudgeState::Delivered, _) => format!("typed for {agent} and sent off"),
        (NudgeState::Dead, _) => format!("not typed for {agent}{why}"),
        (NudgeState::Delivering, _) => format!("being typed for {agent} ({})", nudge.id),
        _ => format!("queued for {agent} ({}){why}", nudge.id),
    }
}

fn mood(state: NudgeState) -> Tone {
    match state {
        NudgeState::Delivered => Tone::Good,
        NudgeState::Dead => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// The text as given, or what standard input has.
fn given(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    // One byte more than may be, for the daemon to refuse.
    let most = u64::try_from(MESSAGE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    match std::io::stdin().lock().take(most).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::usage(format!("standard input cannot be read as text: {error}"))),
    }
}
