//! `gtctl doctor`: what is wrong, and with `--fix` what can be done about it. Without a daemon the gtd beside us
//! looks by itself.

mod alone;
mod show;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gtd_proto::doctor::{CheckInfo, CheckStatus, FixClass, FixItem, Report};
use gtd_proto::event::kind;
use gtd_proto::params::AllowClass;
use gtd_proto::rpc::DoctorClient;
use gtd_proto::{Event, Reply, params};

use super::progress;
use crate::cli::Doctor;
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::Screen;
use crate::output::confirm::agrees;
use crate::output::error::plain;
use crate::output::table::Table;
use show::Printer;

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
            return alone::run(cx, args).await;
        }
        Err(failure) => return Err(failure),
    };
    if args.list {
        return list(cx, &session).await;
    }
    let acts = args.fix && !args.plan.dry_run;
    if cx.screen.json || acts {
        let mut report = ask(&session, args, &args.checks, classes(cx.global.yes), None).await?;
        if acts && !cx.global.yes {
            report = rest(&session, args, report).await?;
        }
        if cx.screen.json {
            cx.screen.envelope("doctor.run", &report)?;
        } else {
            show::fixed(&mut cx.screen, &report.body, args)?;
        }
        return Ok(code(&report.body));
    }
    let report = one_by_one(&mut cx.screen, &session, args).await?;
    show::end(&mut cx.screen, &report, args)?;
    Ok(code(&report))
}

/// Classes that `--yes` stands for.
fn classes(yes: bool) -> Vec<FixClass> {
    if yes { vec![FixClass::Disruptive, FixClass::Destructive] } else { Vec::new() }
}

fn wish(args: &Doctor, checks: &[String]) -> params::DoctorRun {
    params::DoctorRun {
        checks: (!checks.is_empty()).then(|| checks.to_vec()),
        rig: args.rig.clone(),
        fix: args.fix,
        plan_only: args.plan.dry_run,
        dry_run: args.plan.dry_run,
        reason: args.reason.reason.clone(),
        ..params::DoctorRun::default()
    }
}

/// One request. What it puts right is told as it is done.
async fn ask(
    session: &Session,
    args: &Doctor,
    checks: &[String],
    allow: Vec<FixClass>,
    target: Option<String>,
) -> Result<Reply<Report>, Failure> {
    let request = params::DoctorRun {
        allow: allow.into_iter().map(AllowClass::from).collect(),
        targets: target.map(|target| vec![target]),
        ..wish(args, checks)
    };
    let line = |event: &Event| {
        let fact = |name: &str| event.data.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        Some(plain(&format!("  {} {}: {}", fact("action"), fact("target"), fact("outcome"))))
    };
    let asking = client::change(None, DoctorClient::run(&session.client, request));
    progress::with_steps(session, "looking", &[kind::DOCTOR_FIXED], line, asking).await
}

/// Each check by itself, on one look that they share; shown as they come.
async fn one_by_one(screen: &mut Screen, session: &Session, args: &Doctor) -> Result<Report, Failure> {
    let known = client::read(DoctorClient::checks(&session.client, params::None {})).await?.body.items;
    let known: Vec<String> = known.into_iter().map(|check| check.name).collect();
    let wanted = |name: &&String| args.checks.is_empty() || args.checks.contains(name);
    let names: Vec<String> = known.iter().filter(wanted).cloned().collect();
    if args.checks.iter().any(|name| !known.contains(name)) || names.is_empty() {
        // Which one is wrong, and what was meant, is the daemon's to say.
        return ask(session, args, &args.checks, Vec::new(), None).await.map(|reply| reply.body);
    }
    let look = look_word();
    let mut answers: FuturesUnordered<_> = names
        .iter()
        .map(|name| {
            let request =
                params::DoctorRun { look: Some(look.clone()), ..wish(args, std::slice::from_ref(name)) };
            client::read(DoctorClient::run(&session.client, params::DoctorRun { fix: false, ..request }))
        })
        .collect();
    let mut printer = Printer::new(names.clone(), args);
    let mut report = Report { daemon: true, ..Report::default() };
    let looking = async {
        loop {
            tokio::select! {
                biased;
                answer = answers.next() => {
                    let Some(answer) = answer else { return Ok(()) };
                    let Report { checks, plan, daemon, .. } = answer?.body;
                    report.daemon &= daemon;
                    report.plan.extend(plan);
                    for check in checks {
                        printer.take(screen, check)?;
                    }
                }
                () = printer.impatient() => printer.all_that_is_there(screen)?,
            }
        }
    };
    progress::with_clock("looking", looking).await?;
    report.checks = printer.finish(screen)?;
    let place = |item: &FixItem| names.iter().position(|name| *name == item.check);
    report.plan.sort_by_key(place);
    report.count();
    Ok(report)
}

/// A word that no other call has.
fn look_word() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("gtctl-{}-{}", std::process::id(), since.as_nanos())
}

/// What was left because of its class: asked for one by one where there is somebody to ask.
async fn rest(session: &Session, args: &Doctor, mut report: Reply<Report>) -> Result<Reply<Report>, Failure> {
    let left: Vec<usize> = report
        .body
        .plan
        .iter()
        .enumerate()
        .filter_map(|(place, item)| item.ok.is_none().then_some(place))
        .collect();
    for place in left {
        let Some(item) = report.body.plan.get(place).cloned() else { continue };
        let question =
            format!("{}: {} {}? This is {}.", item.check, item.action, item.target, item.class.as_str());
        if !agrees(&plain(&question)) {
            continue;
        }
        let again = ask(
            session,
            args,
            std::slice::from_ref(&item.check),
            vec![item.class],
            Some(item.target.clone()),
        )
        .await?
        .body;
        let done = again.applied.into_iter().next();
        let done = done.unwrap_or_else(|| FixItem {
            outcome: Some("it is not there any more".to_owned()),
            ok: Some(true),
            ..item
        });
        report.body.applied.push(done.clone());
        if let Some(old) = report.body.plan.get_mut(place) {
            *old = done;
        }
        // The newest look at that check.
        for check in again.checks {
            if let Some(old) = report.body.checks.iter_mut().find(|old| old.name == check.name) {
                *old = check;
            }
        }
    }
    report.body.count();
    Ok(report)
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

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::doctor::CheckResult;

    #[test]
    fn the_exit_code_tells_errors_from_what_is_not_known() {
        let report = |statuses: &[CheckStatus]| {
            let check = |status: &CheckStatus| CheckResult { status: *status, ..show::sample() };
            code(&Report { checks: statuses.iter().map(check).collect(), ..Report::default() })
        };
        assert_eq!(report(&[CheckStatus::Ok, CheckStatus::Warning, CheckStatus::Skipped]), Code::Done);
        assert_eq!(report(&[CheckStatus::Unknown, CheckStatus::Warning]), Code::Degraded);
        assert_eq!(report(&[CheckStatus::Unknown, CheckStatus::Error]), Code::Failed);
    }
}
