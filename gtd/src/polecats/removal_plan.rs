//! What a removal would do, step by step. Pure.

use gtd_proto::{AgentName, PlanStep};

use super::archive;
use super::inspect::Seen;
use super::look::{Look, Place};
use super::remove::is_own;

pub(super) fn step(action: &str, target: impl ToString, why: impl Into<String>) -> PlanStep {
    PlanStep { action: action.to_owned(), target: target.to_string(), why: why.into() }
}

/// The steps of a removal, in order.
pub(super) fn planned(name: &AgentName, found: &Look, seen: &Seen) -> Vec<PlanStep> {
    let mut steps = Vec::new();
    let place = format!("{}TIME", archive::place_of(name));
    let dir = found.dir.display().to_string();
    match seen {
        Seen::Absent => return steps,
        Seen::Unknown(why) => {
            steps.push(step("archive", format!("{place}/*"), "whatever of it can be read"));
            steps.push(step("move aside", dir, why));
            return steps;
        }
        Seen::Bare(others) => {
            if !others.is_empty() {
                steps.push(step(
                    "archive",
                    format!("{place}/beside"),
                    format!("{} file(s) in no worktree", others.len()),
                ));
            }
        }
        Seen::Tree(tree) => {
            if let Some(tip) = &tree.tip {
                let on = tree.branch.as_deref().unwrap_or("no branch");
                steps.push(step("archive", format!("{place}/tip"), format!("{tip}, on {on}")));
            }
            if tree.uncommitted > 0 {
                let why = format!("{} uncommitted change(s)", tree.uncommitted);
                steps.push(step("archive", format!("{place}/uncommitted"), why));
            }
            for (number, stash) in tree.stashes.iter().enumerate() {
                steps.push(step("archive", format!("{place}/stash-{}", number.saturating_add(1)), stash));
            }
            if !tree.others.is_empty() {
                let why = format!("{} other file(s) beside the worktree", tree.others.len());
                steps.push(step("archive", format!("{place}/beside"), why));
            }
        }
    }
    if found.place != Place::Absent {
        steps.push(step("remove", dir, "with the files in it that git ignores"));
    }
    if let Seen::Tree(tree) = seen
        && let Some(branch) = tree.branch.as_ref().filter(|branch| is_own(branch, name))
    {
        steps.push(step("delete branch", branch, "its tip is archived"));
    }
    steps
}
