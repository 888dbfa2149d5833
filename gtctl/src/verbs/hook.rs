//! `gtctl hook`: show, set, clear.

use gtd_proto::params;
use gtd_proto::rpc::HookClient;
use gtd_proto::work::{HookChange, HookShown};

use super::progress;
use crate::cli::{Hook, HookClear, HookSet};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::confirm;
use crate::output::error::plain;
use crate::output::time;

/// A store may take its time, and is asked twice: longer than the daemon waits for it.
const ASKING: Option<u64> = Some(60_000);

/// Runs the verb.
///
/// # Errors
/// The daemon's, or that a forced change was not confirmed.
pub async fn run(cx: &mut Context, verb: Hook) -> Result<Code, Failure> {
    match verb {
        Hook::Show(args) => {
            let session = cx.connect().await?;
            let agent = cx.agent(&session, &args.agent).await?;
            let request = params::AgentRef { agent };
            let answer = client::look(ASKING, HookClient::show(&session.client, request)).await?;
            if cx.screen.json {
                cx.screen.envelope("hook.show", &answer)?;
            } else {
                cx.screen.lines(words(&answer.body))?;
            }
            Ok(Code::Done)
        }
        Hook::Set(args) => set(cx, args).await,
        Hook::Clear(args) => clear(cx, args).await,
    }
}

async fn set(cx: &mut Context, args: HookSet) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    if !args.change.dry_run() {
        let question = format!("take {} from whoever has it, and put it on the hook of {agent}?", args.work);
        confirm("hook set", args.force, cx.global.yes, &question)?;
    }
    let wait_ms = args.change.wait_ms();
    let request = params::HookSet {
        agent,
        work: args.work,
        force: args.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, HookClient::set(&session.client, request));
    let answer = progress::with_clock("hooking", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("hook.set", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, &answer.body)
}

async fn clear(cx: &mut Context, args: HookClear) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    let wait_ms = args.change.wait_ms();
    let request = params::HookClear {
        agent,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, HookClient::clear(&session.client, request));
    let answer = progress::with_clock("clearing", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("hook.clear", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, &answer.body)
}

fn changed(cx: &mut Context, change: &HookChange) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    let agent = &change.agent;
    if change.dry_run && !change.already {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    screen.line(match (&change.work, &change.replaced) {
        _ if change.accepted => format!("accepted; follow it with `gtctl events -f --agent {agent}`"),
        (Some(work), _) if change.already => format!("the hook of {agent} has {} already", work.id),
        (Some(work), _) => format!("hooked {} for {agent}: {}", work.id, plain(&work.title)),
        (None, _) if change.already => format!("the hook of {agent} is empty already"),
        (None, Some(was)) => format!("cleared the hook of {agent}: {was} is open"),
        (None, None) => format!("cleared the hook of {agent}"),
    })?;
    if let (Some(_), Some(was), false) = (&change.work, &change.replaced, change.already) {
        screen.line(format!("  in place of {was}, which is open"))?;
    }
    if let (Some(holder), false) = (&change.taken_from, change.already) {
        screen.line(format!("  taken from {}", plain(holder)))?;
    }
    Ok(Code::Done)
}

fn words(hook: &HookShown) -> Vec<String> {
    let agent = &hook.agent;
    let Some(work) = &hook.work else { return vec![format!("the hook of {agent} is empty")] };
    let since = hook.since.map(|at| format!(", since {}", time::full(at))).unwrap_or_default();
    let mut out = vec![
        format!("{agent} has {}: {}", work.id, plain(&work.title)),
        format!("  {} in the store {}{since}", plain(&work.status), work.store),
    ];
    if !hook.also.is_empty() {
        let also: Vec<&str> = hook.also.iter().map(gtd_proto::WorkId::as_str).collect();
        out.push(format!("  and also {}, which others put there", also.join(", ")));
    }
    out
}
