//! What is wrong with a town: checks that only look, and the plan of what could be put right.
//!
//! Owns the list of checks, their running side by side on one shared look, and the application of plans. A check
//! must never change anything, and what it could not look at is unknown, not well. A plan is applied item by item,
//! each looked at again at the instant of acting, and the second look is the result.

mod apply;
mod checks;
mod found;
mod hint;
mod shared;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::doctor::{CheckInfo, CheckResult, CheckStatus, Fix, FixClass, FixItem, Report};
use gtd_proto::nearest::nearest;
use tokio::task::JoinSet;

pub use apply::apply;
pub use found::{Found, Remedy, Step};
pub use hint::Hint;
pub use shared::Looks;
pub use world::{Live, World};

/// How long one check may take. They look at files and at what was gathered before; a disk that hangs is one
/// check's affair.
const DEADLINE: Duration = Duration::from_secs(5);
/// Names that are proposed for one that is no check's.
const NEAREST: usize = 3;

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it belongs to.
    pub category: &'static str,
    /// What it looks at, in a line.
    pub summary: &'static str,
    /// It can say nothing while no daemon runs.
    pub needs_daemon: bool,
    /// Something that it finds can be put right.
    pub fixable: bool,
    /// Looks.
    pub run: fn(&World) -> Found,
}

/// A name that is no check's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no check {name:?}{}", if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) })]
pub struct NoSuchCheck {
    /// The name.
    pub name: String,
    /// Names that are nearly it.
    pub near: Vec<String>,
}

/// All checks, in the order in which they are shown.
#[must_use]
pub fn all() -> &'static [Check] {
    checks::ALL
}

/// The checks as clients are told of them.
#[must_use]
pub fn infos() -> Vec<CheckInfo> {
    let info = |check: &Check| CheckInfo {
        name: check.name.to_owned(),
        category: check.category.to_owned(),
        summary: check.summary.to_owned(),
        needs_daemon: check.needs_daemon,
        fixable: check.fixable,
    };
    all().iter().map(info).collect()
}

/// The checks of these names, all when none is named.
///
/// # Errors
/// When one is no check's.
pub fn named(names: Option<&[String]>) -> Result<Vec<&'static Check>, NoSuchCheck> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(all().iter().collect()) };
    if let Some(name) = names.iter().find(|name| all().iter().all(|check| check.name != name.as_str())) {
        let near = nearest(name, all().iter().map(|check| check.name), NEAREST);
        return Err(NoSuchCheck { name: name.clone(), near: near.into_iter().map(Into::into).collect() });
    }
    Ok(all().iter().filter(|check| names.iter().any(|name| name == check.name)).collect())
}

/// What came of the checks, with what each would do.
pub struct Looked {
    /// For people and scripts.
    pub report: Report,
    /// The steps behind the report's plan, in its order.
    pub steps: Vec<(&'static Check, FixClass, Step)>,
}

/// Runs checks side by side on one look. One that takes too long or fails is unknown and disturbs no other.
pub async fn run(world: Arc<World>, checks: &[&'static Check]) -> Looked {
    run_each(world, checks, |_| {}).await
}

/// The same; each result is also told when it is there. The report has them in the order of the checks.
pub async fn run_each(
    world: Arc<World>,
    checks: &[&'static Check],
    mut tell: impl FnMut(&CheckResult),
) -> Looked {
    let mut running = JoinSet::new();
    for (place, check) in checks.iter().enumerate() {
        let (check, world) = (*check, Arc::clone(&world));
        running.spawn(async move { (place, check, one(check, world, DEADLINE).await) });
    }
    let mut report = Report { daemon: world.live.is_some(), ..Report::default() };
    let mut steps = Vec::new();
    let mut done = BTreeMap::new();
    while let Some(task) = running.join_next().await {
        let Ok((place, check, (found, took))) = task else { continue };
        let (result, found) = shown(check, found, took);
        tell(&result);
        done.insert(place, (check, result, found));
    }
    for (check, result, found) in done.into_values() {
        report.plan.extend(result.fix.iter().flat_map(|fix| fix.items.clone()));
        report.checks.push(result);
        steps.extend(found.into_iter().map(|(class, step)| (check, class, step)));
    }
    report.count();
    Looked { report, steps }
}

async fn one(check: &'static Check, world: Arc<World>, deadline: Duration) -> (Found, Duration) {
    let began = Instant::now();
    if check.needs_daemon && world.live.is_none() {
        return (Found::skipped("no daemon runs that could be asked").hint(Hint::Up), began.elapsed());
    }
    let looking = tokio::task::spawn_blocking(move || (check.run)(&world));
    let found = match tokio::time::timeout(deadline, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::error!(check = check.name, %error, "a check failed");
            Found::unknown("the check itself failed; the log says how").hint(Hint::Logs)
        }
        Err(_) => Found::unknown(format!("it took longer than {deadline:?}")),
    };
    (found, began.elapsed())
}

fn shown(check: &Check, found: Found, took: Duration) -> (CheckResult, Vec<(FixClass, Step)>) {
    let Found { status, message, details, evidence, hint, steps } = found;
    let items: Vec<FixItem> = steps
        .iter()
        .map(|(class, step)| FixItem {
            check: check.name.to_owned(),
            class: *class,
            action: step.remedy.action().to_owned(),
            target: step.target.clone(),
            evidence: step.evidence.clone(),
            outcome: None,
            ok: None,
        })
        .collect();
    let gravest = items.iter().map(|item| item.class).max();
    let result = CheckResult {
        name: check.name.to_owned(),
        category: check.category.to_owned(),
        status,
        message,
        details,
        evidence,
        hint: hint_of(check, status, hint).map(|hint| hint.to_string()),
        fix: gravest.map(|class| Fix { class, items }),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    (result, steps)
}

/// What helps. What could not be told may be told by a second look.
fn hint_of(check: &Check, status: CheckStatus, hint: Option<Hint>) -> Option<Hint> {
    match status {
        CheckStatus::Ok => None,
        CheckStatus::Unknown => hint.or(Some(Hint::Again(check.name))),
        _ => hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(run: fn(&World) -> Found) -> &'static Check {
        let check = Check {
            name: "t",
            category: "test",
            summary: "a test",
            needs_daemon: false,
            fixable: false,
            run,
        };
        Box::leak(Box::new(check))
    }

    #[tokio::test]
    async fn one_that_hangs_and_one_that_fails_are_unknown_and_disturb_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(World::without_daemon(dir.path(), None).await.unwrap());
        let fails = check(|_| panic!("on purpose"));
        let fine = check(|_| Found::ok("well"));
        let looked = run(Arc::clone(&world), &[fails, fine]).await;
        let statuses: Vec<CheckStatus> = looked.report.checks.iter().map(|check| check.status).collect();
        assert_eq!(statuses, [CheckStatus::Unknown, CheckStatus::Ok]);
        assert_eq!(looked.report.summary["unknown"], 1);
        assert_eq!(
            looked.report.checks.iter().map(|check| check.hint.is_some()).collect::<Vec<_>>(),
            [true, false]
        );
        let hangs = check(|_| {
            std::thread::sleep(Duration::from_millis(300));
            Found::ok("late")
        });
        let (found, _) = one(hangs, Arc::clone(&world), Duration::from_millis(20)).await;
        assert_eq!(found.status, CheckStatus::Unknown);
        // One that takes its time is told last and shown in its place.
        let mut told = Vec::new();
        let looked = run_each(world, &[hangs, fine], |result| told.push(result.message.clone())).await;
        assert_eq!(told, ["well", "late"]);
        let shown: Vec<&str> = looked.report.checks.iter().map(|check| check.message.as_str()).collect();
        assert_eq!(shown, ["late", "well"]);
        assert!(looked.report.checks[0].duration_ms >= 300);
    }

    #[test]
    fn names_are_unique_and_near_ones_are_proposed() {
        let mut names: Vec<&str> = all().iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert_eq!(named(Some(&["disk".to_owned()])).unwrap().len(), 1);
        let error = named(Some(&["orphan-proceses".to_owned()])).err().unwrap();
        assert!(error.to_string().contains("orphan-processes"), "{error}");
        assert_eq!(named(None).unwrap().len(), all().len());
    }
}
