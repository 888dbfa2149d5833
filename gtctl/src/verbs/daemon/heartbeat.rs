//! `gtctl daemon heartbeat` and `heartbeats`: rounds of checks, now and before.

use std::time::Duration;

use gtd_proto::daemon::{HeartbeatReport, HeartbeatStep, StepOutcome};
use gtd_proto::params;
use gtd_proto::rpc::DaemonClient;

use super::only_plan;
use crate::cli::{Heartbeats, Plan};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::paint::{Paint, Tone};
use crate::output::table::{Cell, Table};
use crate::output::{note, time};
use crate::verbs::progress;

/// From when on a step is called slow.
const SLOW_MS: u64 = 1_000;

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
        let lines = steps(report, screen.paint, screen.width);
        screen.line(format!("heartbeat {}, {}", report.number, length(report.duration_ms)))?;
        screen.lines(lines)?;
    }
    Ok(if is_bad(report) { Code::Partial } else { Code::Done })
}

/// Past rounds: a line each, with what was out of the ordinary; or with all that they did.
///
/// # Errors
/// When no daemon answers.
pub async fn past(cx: &mut Context, args: &Heartbeats) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::Limit { limit: Some(args.limit) };
    let answer = client::read(DaemonClient::heartbeats(&session.client, request)).await?;
    let screen = &mut cx.screen;
    let rounds = &answer.body.items;
    if screen.json {
        screen.envelope("daemon.heartbeats", &answer)?;
    } else if rounds.is_empty() {
        note("there was no round yet; run one with `gtctl daemon heartbeat`");
    } else if args.wide {
        for report in rounds {
            let (when, took) = (time::full(report.started_at), length(report.duration_ms));
            screen.line(format!("heartbeat {}, {when}, {took}", report.number))?;
            let lines = steps(report, screen.paint, None);
            screen.lines(lines.into_iter().map(|line| format!("  {line}")))?;
        }
    } else {
        let lines = overview(rounds).render(screen.paint, screen.width);
        screen.lines(lines)?;
        screen.flush()?;
        if rounds.iter().all(|report| unusual(report).is_empty()) {
            note("nothing out of the ordinary; --wide has every step");
        }
    }
    Ok(Code::Done)
}

/// The steps of a round.
fn steps(report: &HeartbeatReport, paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut table = Table::new(&["STEP", "OUTCOME", "TOOK", "DID"]);
    for step in &report.steps {
        // What went wrong is not what is cut where there is little room.
        let did: Vec<&str> = step.error.iter().chain(&step.actions).map(String::as_str).collect();
        table.row(vec![
            step.name.clone().into(),
            outcome(step.outcome),
            length(step.duration_ms).into(),
            did.join("; ").into(),
        ]);
    }
    table.render(paint, width)
}

/// A line for each round: what failed in it, what took long, and what is not said by every round.
fn overview(rounds: &[HeartbeatReport]) -> Table {
    let mut table = Table::new(&["NUMBER", "AGO", "TOOK", "RESULT", "UNUSUAL"]);
    for report in rounds {
        let failed = report.steps.iter().filter(|step| bad(step.outcome)).count();
        let slow = report.steps.iter().any(is_slow);
        let result = match (failed, slow) {
            (0, false) => Cell::new("ok", Tone::Good),
            (0, true) => Cell::new("slow", Tone::Warn),
            (many, _) => Cell::new(format!("{many} failed"), Tone::Bad),
        };
        table.row(vec![
            report.number.to_string().into(),
            time::ago(report.started_at).into(),
            length(report.duration_ms).into(),
            result,
            unusual(report).join("; ").into(),
        ]);
    }
    table
}

/// What was unusual about a round, the worst first.
fn unusual(report: &HeartbeatReport) -> Vec<String> {
    let failed = report.steps.iter().filter(|step| bad(step.outcome)).map(|step| {
        let how = if step.outcome == StepOutcome::Timeout { "ran out of time" } else { "failed" };
        let why = step.error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{} {how}{why}", step.name)
    });
    let slow = report.steps.iter().filter(|step| is_slow(step));
    let slow = slow.map(|step| format!("{} took {}", step.name, length(step.duration_ms)));
    let did =
        report.steps.iter().flat_map(|step| step.actions.iter().filter(|did| !is_usual(&step.name, did)));
    failed.chain(slow).chain(did.cloned()).collect()
}

/// Whether every round of a town that is well says this. What is not known to be so is told.
fn is_usual(step: &str, did: &str) -> bool {
    match step {
        "deacon" | "witnesses" | "refineries" => did.ends_with(" is running"),
        "boot" | "deacon_heartbeat" => ["healthy", "starting", "off"]
            .iter()
            .any(|verdict| did.strip_prefix("deacon is ").is_some_and(|rest| rest.starts_with(verdict))),
        "polecat_health" => {
            let mut words = did.split(' ');
            let (well, of, all) = (words.next(), words.next(), words.next());
            of == Some("of") && well == all && did.ends_with(" polecats run")
        }
        "orphan_sweep" => did.contains(" processes looked at, ") && did.contains(", 0 left over"),
        "state" => did.starts_with("round ") && did.ends_with(" written down"),
        _ => false,
    }
}

/// Steps look at what is known, and take milliseconds; those that ask a store take longer when it is ill.
fn is_slow(step: &HeartbeatStep) -> bool {
    step.duration_ms >= SLOW_MS
}

fn length(ms: u64) -> String {
    match ms {
        0 => "<1 ms".to_owned(),
        1..1_000 => format!("{ms} ms"),
        _ => time::span(Duration::from_millis(ms)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, outcome, how long, what it did, and what went wrong.
    type Given<'a> = (&'a str, StepOutcome, u64, &'a [&'a str], Option<&'a str>);

    fn round(steps: &[Given<'_>]) -> HeartbeatReport {
        let step = |(name, outcome, took, did, error): &Given<'_>| HeartbeatStep {
            name: (*name).to_owned(),
            outcome: *outcome,
            duration_ms: *took,
            actions: did.iter().map(|did| (*did).to_owned()).collect(),
            error: error.map(str::to_owned),
        };
        HeartbeatReport {
            number: 7,
            started_at: gtd_proto::Timestamp::now(),
            duration_ms: 31,
            steps: steps.iter().map(step).collect(),
        }
    }

    #[test]
    fn a_round_of_a_town_that_is_well_has_nothing_to_tell() {
        use StepOutcome::{Ok, Skipped};
        let well = round(&[
            ("deacon", Ok, 0, &["deacon is running"], None),
            ("boot", Ok, 1, &["deacon is starting: it was started 4s ago, and is not judged yet"], None),
            ("boot", Ok, 1, &["deacon is healthy: its heartbeat is 3m old"], None),
            ("deacon_heartbeat", Skipped, 0, &[], Some("there is no deacon/heartbeat.json")),
            ("witnesses", Ok, 0, &["alpha/witness is running", "b/witness is running"], None),
            ("polecat_health", Ok, 0, &["12 of 12 polecats run"], None),
            (
                "orphan_sweep",
                Ok,
                9,
                &["91 processes looked at, 6 of living agents, 0 left over, 2 unproved"],
                None,
            ),
            ("state", Ok, 0, &["round 7 written down"], None),
        ]);
        assert!(unusual(&well).is_empty(), "{:?}", unusual(&well));
    }

    #[test]
    fn what_is_out_of_the_ordinary_comes_in_the_order_of_its_weight() {
        use StepOutcome::{Failed, Ok, Timeout};
        let ill = round(&[
            ("deacon", Ok, 0, &["deacon is backoff: signal 9"], None),
            ("lifecycle", Failed, 2, &["asked"], Some("the store is shut")),
            ("gupp", Timeout, 5_000, &[], None),
            ("polecat_health", Ok, 0, &["11 of 12 polecats run", "a/polecats/nux is quarantined"], None),
            (
                "orphan_sweep",
                Ok,
                0,
                &["9 processes looked at, 6 of living agents, 1 left over, 0 unproved"],
                None,
            ),
            (
                "state",
                Ok,
                0,
                &["round 7 written down", "a round of grace: nobody could look for a while"],
                None,
            ),
        ]);
        assert_eq!(
            unusual(&ill),
            [
                "lifecycle failed: the store is shut",
                "gupp ran out of time",
                "gupp took 5.0s",
                "deacon is backoff: signal 9",
                "asked",
                "11 of 12 polecats run",
                "a/polecats/nux is quarantined",
                "9 processes looked at, 6 of living agents, 1 left over, 0 unproved",
                "a round of grace: nobody could look for a while",
            ]
        );
    }
}
