//! `gtctl daemon heartbeat` and `heartbeats`: rounds of checks, now and before.

use std::time::Duration;

use gtd_proto::daemon::{HeartbeatReport, StepOutcome};
use gtd_proto::params;
use gtd_proto::rpc::DaemonClient;

use super::only_plan;
use crate::cli::{Heartbeats, Plan};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::time;
use crate::verbs::progress;

/// Runs a round now. A step that failed gives exit code 7.
///
/// # Errors
/// When no daemon answers.
pub async fn now(cx: &mut Context, args: Plan) -> Result<Code, Failure> {
    if args.dry_run {
        let steps =
            gtd_proto::daemon::HEARTBEAT_STEPS.map(|step| ("check", step.to_owned(), "a step of the round"));
        return only_plan(cx, "daemon.heartbeat", &steps);
    }
    let session = cx.connect().await?;
    let round = client::change(None, DaemonClient::heartbeat(&session.client, params::None {}));
    let answer = progress::with_clock("checking", round).await?;
    let report = &answer.body;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("daemon.heartbeat", &answer)?;
    } else {
        screen.line(format!("heartbeat {}, {}", report.number, length(report.duration_ms)))?;
        let mut table = Table::new(&["STEP", "OUTCOME", "TOOK", "DID"]);
        for step in &report.steps {
            let mut did = step.actions.clone();
            did.extend(step.error.clone());
            table.row(vec![
                step.name.clone().into(),
                outcome(step.outcome),
                length(step.duration_ms).into(),
                did.join("; ").into(),
            ]);
        }
        let lines = table.render(screen.paint, screen.width);
        screen.lines(lines)?;
    }
    Ok(if is_bad(report) { Code::Partial } else { Code::Done })
}

/// Past rounds.
///
/// # Errors
/// When no daemon answers.
pub async fn past(cx: &mut Context, args: &Heartbeats) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::Limit { limit: Some(args.limit) };
    let answer = client::read(DaemonClient::heartbeats(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("daemon.heartbeats", &answer)?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["NUMBER", "AGO", "TOOK", "FAILED", "DID"]);
    for report in &answer.body.items {
        let failed: Vec<&str> =
            report.steps.iter().filter(|step| bad(step.outcome)).map(|step| step.name.as_str()).collect();
        let did: Vec<&str> = report.steps.iter().flat_map(|step| &step.actions).map(String::as_str).collect();
        table.row(vec![
            report.number.to_string().into(),
            time::ago(report.started_at).into(),
            length(report.duration_ms).into(),
            Cell::new(failed.join(", "), Tone::Bad),
            did.join("; ").into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn length(ms: u64) -> String {
    time::span(Duration::from_millis(ms))
}

fn bad(outcome: StepOutcome) -> bool {
    matches!(outcome, StepOutcome::Failed | StepOutcome::Timeout)
}

fn is_bad(report: &HeartbeatReport) -> bool {
    report.steps.iter().any(|step| bad(step.outcome))
}

fn outcome(outcome: StepOutcome) -> Cell {
    match outcome {
        StepOutcome::Ok => Cell::new("ok", Tone::Good),
        StepOutcome::Skipped => Cell::new("skipped", Tone::Dim),
        StepOutcome::Failed => Cell::new("failed", Tone::Bad),
        StepOutcome::Timeout => Cell::new("timeout", Tone::Bad),
        StepOutcome::Unknown => Cell::new("unknown", Tone::Warn),
    }
}
