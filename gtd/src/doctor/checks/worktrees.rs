//! Workers' directories and hooks. Nothing here is ever removed by the doctor.

use std::path::Path;

use gtd_proto::{Address, AgentName, RigName};

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::town::rigs;

pub(super) fn worktrees(world: &World) -> Found {
    if !world.town.rigs_known() {
        return Found::unknown("which rigs there are is not known");
    }
    let (mut wrong, mut looked, mut unreadable) = (Vec::new(), 0, Vec::new());
    let mut first = None;
    for (rig, facts) in world.town.rigs.iter().filter(|(rig, _)| world.means(rig)) {
        for name in facts.polecat_names() {
            looked += 1;
            let dir = rigs::polecat_workdir(&world.layout, rig, name);
            match worktree(&dir) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    let worker = Address::Polecat(rig.clone(), name.clone());
                    wrong.push(format!("{worker}: {why}"));
                    first.get_or_insert(Hint::Explain(worker.to_string()));
                }
                Err(why) => unreadable.push(why),
            }
        }
        wrong.extend(left_entries(&world.layout.repo(rig), rig));
    }
    let found = match (wrong.is_empty(), unreadable.first()) {
        (false, _) => Found::warning(many(
            wrong.len(),
            "worktree is not as it should be",
            "worktrees are not as they should be",
        ))
        .hint(first.unwrap_or(Hint::Again("worktrees"))),
        (true, Some(why)) => Found::unknown(why.clone()),
        (true, None) => Found::ok(many(looked, "worker has its worktree", "workers have their worktrees")),
    };
    found.details(wrong).details(unreadable)
}

/// What is wrong with a worker's directory.
fn worktree(dir: &Path) -> Result<Option<String>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be looked at: {error}", dir.display());
    if !dir.try_exists().map_err(unreadable)? {
        return Ok(Some(format!("its worktree {} is not there", dir.display())));
    }
    let git = dir.join(".git");
    match std::fs::symlink_metadata(&git) {
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(format!("{} is no worktree: it has no .git", dir.display())));
        }
        Err(error) => return Err(unreadable(error)),
    }
    let text = std::fs::read_to_string(&git).map_err(unreadable)?;
    let Some(target) = text.trim().strip_prefix("gitdir: ") else {
        return Ok(Some(format!("{} does not name a repository", git.display())));
    };
    let target = dir.join(target);
    match target.try_exists() {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(format!("its repository {} is not there", target.display()))),
        Err(error) => Err(format!("{} cannot be looked at: {error}", target.display())),
    }
}

/// Worktrees that a rig's repository knows and that are not there. They are not pruned: a disk may only be away.
fn left_entries(repo: &Path, rig: &RigName) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(repo.join("worktrees")) else { return Vec::new() };
    let mut left: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let named = std::fs::read_to_string(entry.path().join("gitdir")).ok()?;
            let git = Path::new(named.trim()).to_owned();
            let gone = matches!(git.try_exists(), Ok(false));
            gone.then(|| {
                let (git, repo) = (git.display(), repo.display());
                format!(
                    "rig {rig}: its repository has a worktree {git}, which is not there; if it is gone for good: \
                     git -C {repo} worktree prune"
                )
            })
        })
        .collect();
    left.sort();
    left
}

pub(super) fn hooks(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    if !world.town.rigs_known() {
        return Found::unknown("which rigs there are is not known");
    }
    let mut stale = Vec::new();
    let mut silent = Vec::new();
    let mut looked = 0;
    let mut first = None;
    for store in live.hooks.stores.values() {
        if let Some(error) = &store.error {
            silent.push(format!("{}: {error}", store.source));
            continue;
        }
        for (agent, hook) in store.hooks.iter().filter(|(agent, _)| world.means_agent(agent)) {
            looked += 1;
            if let Some(why) = absent(world, agent) {
                stale.push(format!("{} is on the hook of {agent}, and {why}", hook.work));
                first.get_or_insert_with(|| agent.clone());
            }
        }
    }
    let found = match (&first, silent.first()) {
        (Some(agent), _) => Found::warning(many(stale.len(), "hook is nobody's", "hooks are nobody's"))
            .hint(Hint::HookClear(agent.to_string())),
        (None, Some(_)) => Found::unknown("a store of work does not answer"),
        (None, None) => Found::ok(many(
            looked,
            "hook has work, and its agent is there",
            "hooks have work, and their agents are there",
        )),
    };
    found.details(stale).details(silent)
}

/// Why an agent cannot take up what is on its hook: nothing of it is there.
fn absent(world: &World, agent: &Address) -> Option<String> {
    let rig = agent.rig()?;
    let Some(facts) = world.town.rigs.get(rig) else { return Some(format!("there is no rig {rig}")) };
    let missing = |names: &[AgentName], name: &AgentName, known: bool| known && !names.contains(name);
    match agent {
        Address::Polecat(_, name)
            if missing(facts.polecat_names(), name, facts.polecats.error().is_none()) =>
        {
            Some(format!("rig {rig} has no worker {name}"))
        }
        Address::Crew(_, name) if missing(facts.crew_names(), name, facts.crew.error().is_none()) => {
            Some(format!("rig {rig} has no crew {name}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_is_told_from_what_only_looks_like_one() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("w");
        let wrong = |word: &str| worktree(&work).unwrap().is_some_and(|why| why.contains(word));
        assert!(wrong("is not there"));
        std::fs::create_dir(&work).unwrap();
        assert!(wrong("no .git"));
        std::fs::write(work.join(".git"), "nonsense").unwrap();
        assert!(wrong("does not name"));
        std::fs::write(work.join(".git"), format!("gitdir: {}\n", dir.path().join("r").display())).unwrap();
        assert!(wrong("its repository"));
        std::fs::create_dir(dir.path().join("r")).unwrap();
        assert_eq!(worktree(&work), Ok(None));
        let rig = RigName::new("a").unwrap();
        let entry = dir.path().join("repo/worktrees/x");
        std::fs::create_dir_all(&entry).unwrap();
        std::fs::write(entry.join("gitdir"), work.join(".git").display().to_string()).unwrap();
        assert!(left_entries(&dir.path().join("repo"), &rig).is_empty());
        std::fs::write(entry.join("gitdir"), "/no/such/.git").unwrap();
        assert_eq!(left_entries(&dir.path().join("repo"), &rig).len(), 1);
    }
}
