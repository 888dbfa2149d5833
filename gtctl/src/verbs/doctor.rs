//! `gtctl doctor`: what is wrong, and with `--fix` what can be done about it. Without a daemon the gtd beside us
//! looks by itself.

use std::process::{Command, Stdio};

use gtd_proto::doctor::{CheckInfo, CheckResult, CheckStatus, FixClass, FixItem, Report};
use gtd_proto::rpc::DoctorClient;
use gtd_proto::{Reply, params};

use super::progress;
use crate::cli::Doctor;
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::sibling;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::agrees;
use crate::output::error::plain;
use crate::output::note;
use crate::output::paint::{Paint, Tone};
use crate::output::table::Table;
use crate::town;

/// A check that takes longer is shown with its time, in milliseconds.
const SLOW: u64 = 250;

/// Runs the verb.
///
/// # Errors
/// When the daemon is needed and does not answer, or a check is named that there is not.
pub async fn run(cx: &mut Context, args: &Doctor) -> Result<Code, Failure> {
    let session = match cx.connect().await {
        Ok(session) => session,
        Err(failure) if failure.is_no_daemon() && !args.list => {
            if args.fix {
                return Err(failure);
            }
            return alone(cx, args);
        }
        Err(failure) => return Err(failure),
    };
    if args.list {
        return list(cx, &session).await;
    }
    let mut report = ask(&session, args, &args.checks, classes(cx.global.yes)).await?;
    if args.fix && !args.plan.dry_run && !cx.global.yes {
        report = rest(&session, args, report).await?;
    }
    if cx.screen.json {
        cx.screen.envelope("doctor.run", &report)?;
    } else {
        show(cx, &report.body, args)?;
    }
    Ok(code(&report.body))
}

/// Classes that `--yes` stands for.
fn classes(yes: bool) -> Vec<FixClass> {
    if yes { vec![FixClass::Disruptive, FixClass::Destructive] } else { Vec::new() }
}

async fn ask(
    session: &Session,
    args: &Doctor,
    checks: &[String],
    allow: Vec<FixClass>,
) -> Result<Reply<Report>, Failure> {
    let request = params::DoctorRun {
        checks: (!checks.is_empty()).then(|| checks.to_vec()),
        rig: args.rig.clone(),
        fix: args.fix,
        plan_only: args.plan.dry_run,
        allow,
        dry_run: args.plan.dry_run,
        reason: args.reason.reason.clone(),
        ..params::DoctorRun::default()
    };
    progress::with_clock("looking", client::change(None, DoctorClient::run(&session.client, request))).await
}

/// What was left because of its class: asked for one by one where there is somebody to ask.
async fn rest(session: &Session, args: &Doctor, mut report: Reply<Report>) -> Result<Reply<Report>, Failure> {
    let left: Vec<FixItem> = report.body.plan.iter().filter(|item| item.ok.is_none()).cloned().collect();
    let mut applied = std::mem::take(&mut report.body.applied);
    for item in left {
        let question =
            format!("{}: {} {}? This is {}.", item.check, item.action, item.target, item.class.as_str());
        if agrees(&plain(&question)) {
            let again = ask(session, args, &[item.check], vec![item.class]).await?;
            applied.extend(again.body.applied.clone());
            // The newest look at that check.
            for check in again.body.checks {
                if let Some(old) = report.body.checks.iter_mut().find(|old| old.name == check.name) {
                    *old = check;
                }
            }
        }
    }
    report.body.applied = applied;
    report.body.count();
    Ok(report)
}

/// Nobody answers: the gtd beside us looks at files and processes.
fn alone(cx: &mut Context, args: &Doctor) -> Result<Code, Failure> {
    let root = town::find(&cx.around)?;
    let mut command = Command::new(sibling::gtd()?);
    command.arg("--town").arg(&root).args(["--check", "--json"]).stdin(Stdio::null());
    for name in &args.checks {
        command.args(["--only", name]);
    }
    if let Some(rig) = &args.rig {
        command.args(["--rig", rig.as_str()]);
    }
    let output = command.output().map_err(|error| Failure::failed(format!("cannot run gtd: {error}")))?;
    let Ok(report) = serde_json::from_slice::<Report>(&output.stdout) else {
        let said = String::from_utf8_lossy(&output.stderr);
        let what = said
            .lines()
            .find_map(|line| line.strip_prefix("error: "))
            .unwrap_or("gtd did not look at the town");
        let failure = match output.status.code() {
            Some(2) => Failure::usage(what).hint("gtctl doctor --list"),
            _ => Failure::failed(what),
        };
        return Err(failure.with("stderr", said.into_owned()));
    };
    if cx.screen.json {
        cx.screen.envelope("doctor.run", &report)?;
    } else {
        show(cx, &report, args)?;
        note("no daemon runs: only files and processes were looked at");
    }
    Ok(code(&report))
}

async fn list(cx: &mut Context, session: &Session) -> Result<Code, Failure> {
    let answer = client::read(DoctorClient::checks(&session.client, params::None {})).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("doctor.checks", &answer)?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["CHECK", "CATEGORY", "NEEDS", "FIXES", "LOOKS AT"]);
    for CheckInfo { name, category, summary, needs_daemon, fixable } in &answer.body.items {
        table.row(vec![
            name.clone().into(),
            category.clone().into(),
            if *needs_daemon { "daemon" } else { "" }.into(),
            if *fixable { "yes" } else { "" }.into(),
            summary.clone().into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn code(report: &Report) -> Code {
    let any = |status| report.checks.iter().any(|check| check.status == status);
    match (any(CheckStatus::Error), any(CheckStatus::Unknown)) {
        (true, _) => Code::Failed,
        (false, true) => Code::Degraded,
        (false, false) => Code::Done,
    }
}

fn tone(status: CheckStatus) -> Tone {
    match status {
        CheckStatus::Ok => Tone::Good,
        CheckStatus::Skipped => Tone::Dim,
        CheckStatus::Warning | CheckStatus::Unknown => Tone::Warn,
        CheckStatus::Error => Tone::Bad,
    }
}

fn show(cx: &mut Context, report: &Report, args: &Doctor) -> Result<(), Failure> {
    let paint = cx.screen.paint;
    let mut category = "";
    for check in &report.checks {
        if check.category != category {
            category = &check.category;
            cx.screen.line(paint.strong(&category.to_uppercase()))?;
        }
        cx.screen.lines(lines(check, paint))?;
    }
    let items = if args.plan.dry_run || report.applied.is_empty() { &report.plan } else { &report.applied };
    if !items.is_empty() {
        let title = match (args.fix, args.plan.dry_run, report.applied.is_empty()) {
            (true, false, false) => "DONE",
            (true, false, true) => "LEFT",
            _ => "COULD BE DONE",
        };
        cx.screen.line(paint.strong(title))?;
        cx.screen.lines(items.iter().map(fix_line))?;
    }
    let words = ["error", "unknown", "warning", "skipped", "ok"];
    let counts = words.iter().filter_map(|word| {
        let count = report.summary.get(*word).filter(|count| **count > 0)?;
        Some(format!("{count} {word}"))
    });
    cx.screen.line(counts.collect::<Vec<_>>().join(", "))
}

fn lines(check: &CheckResult, paint: Paint) -> Vec<String> {
    let slow = if check.duration_ms >= SLOW { format!(" ({} ms)", check.duration_ms) } else { String::new() };
    let word = format!("{:<8}", check.status.as_str());
    let mut lines = vec![format!(
        "  {}{:<18}  {}{slow}",
        paint.text(tone(check.status), &word),
        check.name,
        plain(&check.message)
    )];
    if check.status != CheckStatus::Ok {
        lines.extend(check.details.iter().map(|line| format!("          {}", plain(line))));
        lines.extend(check.hint.iter().map(|hint| paint.dim(&format!("          hint: {}", plain(hint)))));
    }
    lines
}

fn fix_line(item: &FixItem) -> String {
    let outcome = item.outcome.as_deref().map(|outcome| format!(": {outcome}")).unwrap_or_default();
    plain(&format!("  {} ({}) {} {}{outcome}", item.check, item.class.as_str(), item.action, item.target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: CheckStatus) -> CheckResult {
        CheckResult {
            name: "disk".to_owned(),
            category: "daemon".to_owned(),
            status,
            message: "full\u{1b}[2J".to_owned(),
            details: vec!["/dev/x".to_owned()],
            evidence: serde_json::Map::new(),
            hint: Some("gtctl config show".to_owned()),
            fix: None,
            duration_ms: 900,
        }
    }

    #[test]
    fn the_exit_code_tells_errors_from_what_is_not_known() {
        let report = |statuses: &[CheckStatus]| {
            code(&Report {
                checks: statuses.iter().map(|status| check(*status)).collect(),
                ..Report::default()
            })
        };
        assert_eq!(report(&[CheckStatus::Ok, CheckStatus::Warning, CheckStatus::Skipped]), Code::Done);
        assert_eq!(report(&[CheckStatus::Unknown, CheckStatus::Warning]), Code::Degraded);
        assert_eq!(report(&[CheckStatus::Unknown, CheckStatus::Error]), Code::Failed);
    }

    #[test]
    fn slow_ones_are_timed_and_nothing_reaches_the_terminal_raw() {
        let lines = lines(&check(CheckStatus::Error), Paint::new(false));
        assert!(lines[0].contains("(900 ms)") && !lines[0].contains('\u{1b}'), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }
}
