//! `gtctl boot …`: who looks after the deacon.

use std::time::Duration;

use gtd_proto::deacon::{Triage, Verdict};
use gtd_proto::params;
use gtd_proto::rpc::BootClient;

use super::progress;
use crate::cli::BootVerb;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::time;

/// How the deacon is. One that is not judged yet runs, or is on its way: it is not said to start for minutes.
fn judged(triage: &Triage) -> String {
    match (triage.verdict, triage.why.strip_prefix("it ")) {
        (Verdict::Starting, Some(rest)) => format!("deacon {rest}"),
        (Verdict::Starting, None) => format!("deacon is not judged yet: {}", triage.why),
        (verdict, _) => format!("deacon is {}: {}", verdict.as_str(), triage.why),
    }
}

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, verb: BootVerb) -> Result<Code, Failure> {
    match verb {
        BootVerb::Triage(args) => {
            let session = cx.connect().await?;
            let request = params::BootTriage {
                dry_run: args.plan.dry_run,
                idempotency_key: None,
                reason: args.reason.reason,
            };
            let looking = client::change(None, BootClient::triage(&session.client, request));
            let answer = progress::with_clock("looking", looking).await?;
            let screen = &mut cx.screen;
            if screen.json {
                screen.envelope("boot.triage", &answer)?;
                return Ok(Code::Done);
            }
            let triage = &answer.body;
            screen.line(judged(triage))?;
            if !triage.dry_run && triage.actions.is_empty() {
                screen.line("nothing was to be done")?;
            }
            for action in &triage.actions {
                screen.line(if triage.dry_run { format!("would {action}") } else { action.clone() })?;
            }
            if triage.degraded {
                screen.line("tmux cannot be used: little can be told and done")?;
            }
            Ok(Code::Done)
        }
        BootVerb::Status => {
            let session = cx.connect().await?;
            let answer = client::read(BootClient::status(&session.client, params::None {})).await?;
            let screen = &mut cx.screen;
            if screen.json {
                screen.envelope("boot.status", &answer)?;
                return Ok(Code::Done);
            }
            let status = &answer.body;
            let agent = if status.running { ", an agent looks now" } else { "" };
            screen.line(format!("Mode     {}{agent}", status.mode))?;
            if status.degraded {
                screen.line("tmux     cannot be used")?;
            }
            match (&status.last_status, &status.error) {
                (Some(run), _) => {
                    let when = run.completed_at.or(run.started_at).map(time::relative);
                    let target =
                        if run.target.is_empty() { String::new() } else { format!(" → {}", run.target) };
                    let action = if run.last_action == "nothing" {
                        "nothing was to be done"
                    } else {
                        &run.last_action
                    };
                    let words = [Some(format!("{action}{target}")), when];
                    let words: Vec<String> = words.into_iter().flatten().collect();
                    screen.line(format!("Last     {}", words.join(", ")))?;
                    if !run.error.is_empty() {
                        screen.line(format!("Error    {}", run.error))?;
                    }
                    if let (Some(began), Some(ended)) = (run.started_at, run.completed_at) {
                        let took = Duration::try_from(ended.duration_since(began)).unwrap_or_default();
                        if took >= Duration::from_secs(1) {
                            screen.line(format!("Took     {}", time::span(took)))?;
                        }
                    }
                }
                (None, Some(why)) => screen.line(format!("Last     the file {why}"))?,
                (None, None) => screen.line("Last     no triage yet")?,
            }
            if let Some(until) = status.cooldown_until {
                screen.line(format!("Agent    none before {}", time::until(until)))?;
            }
            screen.line(format!("Dir      {}", status.boot_dir))?;
            Ok(Code::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deacon_that_has_run_for_minutes_is_not_said_to_start() {
        let said = |verdict, why: &str| {
            judged(&Triage {
                verdict,
                why: why.to_owned(),
                actions: Vec::new(),
                degraded: false,
                dry_run: false,
            })
        };
        let young = said(Verdict::Starting, "it was started 4m ago, and is not judged yet");
        assert_eq!(young, "deacon was started 4m ago, and is not judged yet");
        let moving = said(Verdict::Starting, "it is being started or ended");
        assert_eq!(moving, "deacon is being started or ended");
        assert_eq!(said(Verdict::Starting, "who knows"), "deacon is not judged yet: who knows");
        assert_eq!(said(Verdict::Down, "it is backoff"), "deacon is down: it is backoff");
    }
}
