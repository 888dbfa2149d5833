//! `gtctl pause` and `gtctl resume`: freezing agents for a while, and letting them go on.

use gtd_proto::pause::PauseChange;
use gtd_proto::rpc::TownClient;
use gtd_proto::{Address, Reply, Timestamp, params};

use super::progress;
use crate::cli::{Pause, Resume};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::pause;

/// Freezes.
///
/// # Errors
/// When there is no such rig or agent.
pub async fn run(cx: &mut Context, args: Pause) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agents = addresses(cx, &session, &args.agents).await?;
    let wait_ms = args.change.wait_ms();
    let request = params::TownPause {
        rig: args.rig,
        agents,
        until: args.until,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, TownClient::pause(&session.client, request));
    let answer = progress::with_clock("pausing", doing).await?;
    print(cx, "town.pause", &answer, true, args.until)
}

/// Lets go on.
///
/// # Errors
/// When there is no such rig or agent.
pub async fn resume(cx: &mut Context, args: Resume) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agents = addresses(cx, &session, &args.agents).await?;
    let wait_ms = args.change.wait_ms();
    let request = params::TownResume {
        rig: args.rig,
        agents,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, TownClient::resume(&session.client, request));
    let answer = progress::with_clock("resuming", doing).await?;
    print(cx, "town.resume", &answer, false, None)
}

/// The agents meant; nothing where none was named. A crew's are no agents of the daemon's, and named as they are.
async fn addresses(
    cx: &Context,
    session: &Session,
    named: &[String],
) -> Result<Option<Vec<Address>>, Failure> {
    let mut agents = Vec::new();
    for name in named {
        match name.parse() {
            Ok(crew @ Address::Crew(..)) => agents.push(crew),
            _ => agents.push(cx.agent(session, name).await?),
        }
    }
    Ok((!agents.is_empty()).then_some(agents))
}

fn print(
    cx: &mut Context,
    kind: &str,
    answer: &Reply<PauseChange>,
    frozen: bool,
    until: Option<Timestamp>,
) -> Result<Code, Failure> {
    let (screen, change) = (&mut cx.screen, &answer.body);
    if screen.json {
        screen.envelope(kind, answer)?;
    } else if change.dry_run {
        screen.plan(&change.plan)?;
    } else {
        let lines = pause::receipts(&change.items, frozen, until, screen.paint, screen.width);
        screen.lines(lines)?;
    }
    let whole = change.items.iter().all(|item| item.refused.is_none());
    Ok(if whole { Code::Done } else { Code::Partial })
}
