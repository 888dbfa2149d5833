//! `gtctl daemon reload` and `gtctl daemon log-level`.

use gtd_proto::config::Reloaded;
use gtd_proto::params;
use gtd_proto::rpc::DaemonClient;

use crate::cli::{LogLevel, Reload};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::event::shown;
use crate::output::paint::{Paint, Tone};

/// Reads the configuration again.
///
/// # Errors
/// When the file cannot be used: everything is then as before.
pub async fn run(cx: &mut Context, args: Reload) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::Reload { dry_run: args.plan.dry_run, reason: args.reason.reason };
    let answer = client::change(None, DaemonClient::reload(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("daemon.reload", &answer)?;
    } else {
        let lines = difference(&answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(if answer.body.refused.is_empty() { Code::Done } else { Code::Partial })
}

fn difference(reloaded: &Reloaded, paint: Paint) -> Vec<String> {
    let changed = if reloaded.dry_run { "would change" } else { "changed" };
    let wide = reloaded.changed.iter().map(|change| change.key.len()).max().unwrap_or(0);
    let mut out: Vec<String> = reloaded
        .changed
        .iter()
        .map(|change| {
            let (old, new) = (shown(&change.old), shown(&change.new));
            format!("{} {:wide$}  {old} → {new}", paint.text(Tone::Good, changed), change.key)
        })
        .collect();
    out.extend(
        reloaded.refused.iter().map(|refused| {
            format!("{} {}: {}", paint.text(Tone::Bad, "refused"), refused.key, refused.reason)
        }),
    );
    if out.is_empty() {
        out.push("nothing is different".to_owned());
    }
    out
}

/// Sets the level of the log.
///
/// # Errors
/// When there is no daemon.
pub async fn log_level(cx: &mut Context, args: LogLevel) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request =
        params::LogLevel { level: args.level, dry_run: args.plan.dry_run, reason: args.reason.reason };
    let answer = client::change(None, DaemonClient::log_level(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("daemon.log_level", &answer)?;
    } else {
        let set = &answer.body;
        let verb = if set.dry_run { "would set" } else { "set" };
        screen.line(if set.old == set.level {
            format!("the log's level is {} already", set.level)
        } else {
            format!("{verb} the log's level: {} → {}, until the next start or reload", set.old, set.level)
        })?;
    }
    Ok(Code::Done)
}
