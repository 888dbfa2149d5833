//! What the doctor found, in words: a line for each check as it comes, and at the end what is wrong, the worst first.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::doctor::{CheckResult, CheckStatus, FixClass, FixItem, Report};
use tokio::time::Instant;

use crate::cli::Doctor;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::{Paint, Tone};
use crate::output::{Screen, note};

/// A check that takes longer is shown with its time, in milliseconds.
const SLOW: u64 = 1_000;
/// How long a check is waited for so that the next ones stand below it.
const PATIENCE: Duration = Duration::from_millis(250);
/// Width of the column of names; longer ones only shift their line.
const NAME: usize = 18;

/// Shows checks as they come: in their order while none is late.
pub struct Printer {
    order: Vec<String>,
    held: BTreeMap<usize, CheckResult>,
    shown: BTreeMap<usize, CheckResult>,
    next: usize,
    since: Option<Instant>,
    /// Nobody is waited for any more.
    late: bool,
    in_full: bool,
}

impl Printer {
    /// For checks of these names; those of other names are shown at once.
    #[must_use]
    pub fn new(order: Vec<String>, args: &Doctor) -> Self {
        Self {
            order,
            held: BTreeMap::new(),
            shown: BTreeMap::new(),
            next: 0,
            since: None,
            late: false,
            in_full: in_full(args),
        }
    }

    /// One is done.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn take(&mut self, screen: &mut Screen, check: CheckResult) -> Result<(), Failure> {
        self.since.get_or_insert_with(Instant::now);
        let after = self.order.len() + self.held.len() + self.shown.len();
        let place = self.order.iter().position(|name| *name == check.name).unwrap_or(after);
        self.held.insert(place, check);
        if self.late || self.order.is_empty() {
            return self.all_that_is_there(screen);
        }
        while let Some(check) = self.held.remove(&self.next) {
            self.print(screen, self.next, check)?;
            self.next += 1;
        }
        screen.flush()
    }

    /// Ends when what is held back should be held back no longer; never where nothing is.
    pub async fn impatient(&self) {
        match self.since {
            Some(since) if !self.held.is_empty() => tokio::time::sleep_until(since + PATIENCE).await,
            _ => std::future::pending().await,
        }
    }

    /// Shows what is there, and from now on each as it comes.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn all_that_is_there(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        self.late |= !self.order.is_empty();
        for (place, check) in std::mem::take(&mut self.held) {
            self.print(screen, place, check)?;
        }
        screen.flush()
    }

    /// All of them, in their order.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn finish(mut self, screen: &mut Screen) -> Result<Vec<CheckResult>, Failure> {
        self.all_that_is_there(screen)?;
        Ok(self.shown.into_values().collect())
    }

    fn print(&mut self, screen: &mut Screen, place: usize, check: CheckResult) -> Result<(), Failure> {
        let paint = screen.paint;
        screen.line(line(&check, paint))?;
        if self.in_full {
            screen.lines(more(&check, paint, check.status != CheckStatus::Ok))?;
        }
        self.shown.insert(place, check);
        Ok(())
    }
}

/// Who names checks wants to know all of them.
fn in_full(args: &Doctor) -> bool {
    !args.checks.is_empty()
}

/// What is wrong, the worst first, what could be done, and how many went how.
///
/// # Errors
/// When stdout cannot be written.
pub fn end(screen: &mut Screen, report: &Report, args: &Doctor) -> Result<(), Failure> {
    if !in_full(args) {
        problems(screen, report)?;
    }
    if !report.plan.is_empty() {
        screen.line("")?;
        screen.line(screen.paint.strong("COULD BE DONE"))?;
        screen.lines(report.plan.iter().map(fix_line))?;
    }
    screen.line("")?;
    screen.line(counts(report))?;
    if !report.plan.is_empty() && !args.plan.dry_run {
        screen.flush()?;
        note("next: gtctl doctor --fix");
    }
    Ok(())
}

/// What was done, what was left, and the look after it.
///
/// # Errors
/// When stdout cannot be written.
pub fn fixed(screen: &mut Screen, report: &Report, args: &Doctor) -> Result<(), Failure> {
    let (paint, in_full) = (screen.paint, in_full(args));
    for check in &report.checks {
        screen.line(line(check, paint))?;
        if in_full {
            screen.lines(more(check, paint, check.status != CheckStatus::Ok))?;
        }
    }
    if !in_full {
        problems(screen, report)?;
    }
    let was_left = |item: &&FixItem| item.ok.is_none() && item.outcome.is_some();
    let left: Vec<&FixItem> = report.plan.iter().filter(was_left).collect();
    for (title, items) in [("DONE", report.applied.iter().collect()), ("LEFT", left.clone())] {
        let items: Vec<&FixItem> = items;
        if !items.is_empty() {
            screen.line("")?;
            screen.line(paint.strong(title))?;
            screen.lines(items.into_iter().map(fix_line))?;
        }
    }
    screen.line("")?;
    if report.plan.is_empty() {
        screen.line("there was nothing that the doctor could put right")?;
    }
    screen.line(counts(report))?;
    if left.iter().any(|item| item.class != FixClass::Safe) {
        screen.flush()?;
        let named: String = args.checks.iter().map(|name| format!(" {name}")).collect();
        note(format!("next: what was left needs a yes: gtctl doctor --fix --yes{named}"));
    }
    Ok(())
}

fn problems(screen: &mut Screen, report: &Report) -> Result<(), Failure> {
    let paint = screen.paint;
    for status in [CheckStatus::Error, CheckStatus::Unknown, CheckStatus::Warning] {
        for check in report.checks.iter().filter(|check| check.status == status) {
            let title = format!("{} {}", status.as_str().to_uppercase(), check.name);
            screen.line("")?;
            screen.line(paint.text(tone(status), &title))?;
            screen.line(format!("  {}", plain(&check.message)))?;
            screen.lines(more(check, paint, true))?;
        }
    }
    Ok(())
}

fn counts(report: &Report) -> String {
    let words = [
        ("error", "errors"),
        ("unknown", "unknown"),
        ("warning", "warnings"),
        ("skipped", "skipped"),
        ("ok", "ok"),
    ];
    let counts = words.iter().filter_map(|(one, several)| {
        let count = report.summary.get(*one).copied().filter(|count| *count > 0)?;
        Some(format!("{count} {}", if count == 1 { one } else { several }))
    });
    let counts = counts.collect::<Vec<_>>().join(", ");
    let well = |status| matches!(status, CheckStatus::Ok | CheckStatus::Skipped);
    if report.checks.iter().all(|check| well(check.status)) {
        format!("all is well: {counts}")
    } else {
        counts
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

fn line(check: &CheckResult, paint: Paint) -> String {
    let took = Duration::from_millis(check.duration_ms).as_secs_f64();
    let slow = if check.duration_ms >= SLOW { format!(" (took {took:.1}s)") } else { String::new() };
    let word = format!("{:<8}", check.status.as_str());
    let name = format!("{:<NAME$}", check.name);
    format!("{} {name}  {}{slow}", paint.text(tone(check.status), &word), plain(&check.message))
}

/// The lines below a check, without those that only repeat its message.
fn more(check: &CheckResult, paint: Paint, hint: bool) -> Vec<String> {
    let details = check.details.iter().filter(|line| **line != check.message);
    let details = details.map(|line| format!("  - {}", plain(line)));
    let hint = check.hint.iter().filter(|_| hint).map(|hint| paint.dim(&format!("  hint: {}", plain(hint))));
    details.chain(hint).collect()
}

fn fix_line(item: &FixItem) -> String {
    let outcome = item.outcome.as_deref().map(|outcome| format!(": {outcome}")).unwrap_or_default();
    plain(&format!("  {} ({}) {} {}{outcome}", item.check, item.class.as_str(), item.action, item.target))
}

#[cfg(test)]
pub(super) fn sample() -> CheckResult {
    CheckResult {
        name: "disk".to_owned(),
        category: "daemon".to_owned(),
        status: CheckStatus::Error,
        message: "full\u{1b}[2J".to_owned(),
        details: vec!["/dev/x".to_owned(), "full\u{1b}[2J".to_owned()],
        evidence: serde_json::Map::new(),
        hint: Some("gtctl config show".to_owned()),
        fix: None,
        duration_ms: 1_900,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_are_timed_and_nothing_reaches_the_terminal_raw() {
        let (check, paint) = (sample(), Paint::new(false));
        let first = line(&check, paint);
        assert!(first.contains("(took 1.9s)") && !first.contains('\u{1b}'), "{first}");
        assert_eq!(more(&check, paint, true), ["  - /dev/x", "  hint: gtctl config show"]);
        let quick = CheckResult { duration_ms: 999, ..check };
        assert!(!line(&quick, paint).contains("took"));
    }

    #[test]
    fn counts_are_words_and_all_that_is_well_is_said_to_be() {
        let report = |statuses: &[CheckStatus]| {
            let check = |status: &CheckStatus| CheckResult { status: *status, ..sample() };
            let mut report = Report { checks: statuses.iter().map(check).collect(), ..Report::default() };
            report.count();
            counts(&report)
        };
        assert_eq!(
            report(&[CheckStatus::Ok, CheckStatus::Ok, CheckStatus::Skipped]),
            "all is well: 1 skipped, 2 ok"
        );
        assert_eq!(
            report(&[CheckStatus::Warning, CheckStatus::Error, CheckStatus::Error, CheckStatus::Unknown]),
            "2 errors, 1 unknown, 1 warning"
        );
    }
}
