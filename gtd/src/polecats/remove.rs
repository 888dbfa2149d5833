//! Letting go of a worker's worktree: kept first, then moved out of the way, then removed.
//!
//! Owns the order. A kill at any instant leaves either everything in its place, or everything kept and the rest to
//! be removed by whoever asks next. Must never remove what was not kept, nor anything that is not a worker's place;
//! what cannot be kept is moved aside, where only a person removes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, PlanStep, RigName, Timestamp};

use super::archive::{self, Archived, Contents};
use super::error::{TreeError, io_error};
use super::inspect::{self, Inspection, Seen};
use super::look::{self, Admin, Kind, Look, Place};
use super::removal_plan::{planned, step};
use super::trees::{Repo, Trees};

/// Begins the names of directories on their way out, beside the workers'.
const LEAVING: &str = ".gtd-removing-";
/// Begins the names under which git's records go out with their directories.
const RECORD: &str = ".gtd-record-";

/// What stands against letting go of a worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Anything that is not in the default branch: for a removal that somebody asks for.
    Merged,
    /// Anything that is on no remote branch: for what a new worker of the same name finds.
    Pushed,
    /// Nothing: all is kept first.
    Forced,
}

/// What became of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// What was kept.
    pub archived: Vec<Archived>,
    /// The branch that is gone; its tip is kept.
    pub branch: Option<String>,
    /// The directory that is gone, or was moved.
    pub directory: Option<PathBuf>,
    /// Where it was moved to, because git cannot keep all that is in it.
    pub aside: Option<PathBuf>,
    /// Why it was.
    pub why: Option<String>,
}

impl Trees {
    /// Lets go of a worker's worktree. May be repeated, after a kill too.
    ///
    /// # Errors
    /// Nothing was removed then, or everything that was is kept: [`TreeError::Work`] and [`TreeError::Unknown`] for
    /// what the gate does not let through, [`TreeError::Absent`] when there is nothing of it, git's and the system's.
    pub async fn remove(
        &self,
        rig: &RigName,
        name: &AgentName,
        gate: Gate,
        at: Timestamp,
    ) -> Result<Removed, TreeError> {
        let repo = self.repo(rig).await?;
        let _turn = repo.turn().await?;
        let mut removed = self.finish(&repo, name, at).await?;
        let finished = removed.is_some();
        let found = look::look(&repo, name)?;
        let seen = inspect::seen(&repo, &found).await;
        if seen == Seen::Absent {
            let none = TreeError::Absent { rig: rig.clone(), name: name.clone() };
            return removed.take().filter(|_| finished).ok_or(none);
        }
        pass(&repo, name, &seen, gate)?;
        let mut done = self.let_go(&repo, name, &found, &seen, at).await?;
        if let Some(earlier) = removed {
            done.archived.splice(0..0, earlier.archived);
        }
        Ok(done)
    }

    /// What [`Trees::remove`] would do.
    ///
    /// # Errors
    /// As there.
    pub async fn would_remove(
        &self,
        rig: &RigName,
        name: &AgentName,
        gate: Gate,
    ) -> Result<Vec<PlanStep>, TreeError> {
        let repo = self.repo(rig).await?;
        let leaving = leaving(&repo, name)?;
        let found = look::look(&repo, name)?;
        let seen = if leaving.is_empty() { inspect::seen(&repo, &found).await } else { Seen::Absent };
        if seen == Seen::Absent && leaving.is_empty() {
            return Err(TreeError::Absent { rig: rig.clone(), name: name.clone() });
        }
        pass(&repo, name, &seen, gate)?;
        let mut steps: Vec<PlanStep> = leaving
            .into_iter()
            .map(|dir| step("remove", dir.display(), "an earlier removal was not ended"))
            .collect();
        steps.extend(planned(name, &found, &seen));
        Ok(steps)
    }

    /// Ends the removals of a rig's workers that were begun and not ended; gives their names.
    ///
    /// # Errors
    /// As [`Trees::remove`].
    pub async fn finish_removals(&self, rig: &RigName, at: Timestamp) -> Result<Vec<AgentName>, TreeError> {
        let repo = self.repo(rig).await?;
        let mut names: Vec<AgentName> = all_leaving(&repo)?.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        for name in &names {
            let _turn = repo.turn().await?;
            self.finish(&repo, name, at).await?;
        }
        Ok(names)
    }

    async fn let_go(
        &self,
        repo: &Repo,
        name: &AgentName,
        found: &Look,
        seen: &Seen,
        at: Timestamp,
    ) -> Result<Removed, TreeError> {
        let place = archive::place(name, at);
        let mut removed = Removed { directory: Some(found.dir.clone()), ..Removed::default() };
        let gathered = match gather(repo, found).await {
            Ok(gathered) => gathered,
            // Only what was broken before: whatever else fails, such as a full disk, may work the next time.
            Err(error) if matches!(seen, Seen::Unknown(_)) => {
                return self.set_aside(repo, name, found, at, removed, (error.to_string(), &[])).await;
            }
            Err(error) => return Err(error),
        };
        removed.archived = archive::keep(repo, &place, &gathered).await?;
        self.step("archived")?;
        if let Place::Broken(why) = &found.place {
            return self.set_aside(repo, name, found, at, removed, (why.clone(), &[])).await;
        }
        if let Some(within) = gathered.within.first() {
            let why = format!("there is a repository of its own within it, {within}");
            return self.set_aside(repo, name, found, at, removed, (why, &gathered.within)).await;
        }
        let branch = branch_of(found)?;
        if found.place != Place::Absent {
            let out = repo.home.join("polecats").join(format!("{LEAVING}{name}@{}", archive::stamp(at)));
            rename(&found.dir, &out)?;
            self.step("moved")?;
            let late = late(repo, found, &out, &gathered).await?;
            if let Some(late) = late {
                removed.archived.extend(archive::keep(repo, &format!("{place}-late"), &late).await?);
            }
            self.step("looked again")?;
            unlist(found, Some(&out))?;
            self.step("unlisted")?;
            removed.branch = self.drop_branch(repo, name, branch).await?;
            self.step("branch")?;
            remove_all(&out)?;
            self.step("cleared")?;
        } else {
            unlist(found, None)?;
            self.step("unlisted")?;
            removed.branch = self.drop_branch(repo, name, branch).await?;
        }
        Ok(removed)
    }

    /// Ends what an earlier call has begun: what was moved out of the way was kept before.
    async fn finish(
        &self,
        repo: &Repo,
        name: &AgentName,
        at: Timestamp,
    ) -> Result<Option<Removed>, TreeError> {
        let mut done: Option<Removed> = None;
        for out in leaving(repo, name)? {
            let removed = done.get_or_insert_with(Removed::default);
            removed.directory = Some(repo.place(name));
            let found = look::look(repo, name)?;
            // git has a record of it still: then nothing of it was removed yet, and it is looked at once more.
            if found.place == Place::Absent && !found.stale.is_empty() {
                let contents = gather_moved(repo, &found, &out).await?;
                let place = format!("{}-finished", archive::place(name, at));
                removed.archived.extend(archive::keep(repo, &place, &contents).await?);
                unlist(&found, Some(&out))?;
                self.step("unlisted")?;
            }
            let branch = recorded_branch(&out)?;
            removed.branch = self.drop_branch(repo, name, branch).await?.or(removed.branch.take());
            self.step("branch")?;
            remove_all(&out)?;
            self.step("cleared")?;
        }
        Ok(done)
    }

    /// Deletes a worker's own branch, if what it points to is kept, and nobody else has it checked out.
    async fn drop_branch(
        &self,
        repo: &Repo,
        name: &AgentName,
        branch: Option<String>,
    ) -> Result<Option<String>, TreeError> {
        let Some(branch) = branch.filter(|branch| is_own(branch, name)) else { return Ok(None) };
        let full = format!("refs/heads/{branch}");
        if look::checked_out(&repo.dir, &full)? {
            return Ok(None);
        }
        let Some(tip) = repo.tips(&[&full]).await?.remove(&full) else { return Ok(None) };
        let kept = repo.run(&["for-each-ref", "--format=%(objectname)", &archive::place_of(name)]).await?;
        if !kept.lines().any(|commit| commit == tip) {
            return Ok(None);
        }
        repo.run(&["update-ref", "-d", &full, &tip]).await?;
        // What it followed, where it did.
        let _ = repo.run(&["config", "--remove-section", &format!("branch.{branch}")]).await;
        Ok(Some(branch))
    }
}

/// Whether a gate lets something through.
fn pass(repo: &Repo, name: &AgentName, seen: &Seen, gate: Gate) -> Result<(), TreeError> {
    let work = |summary: String| Err(TreeError::Work { rig: repo.rig.clone(), name: name.clone(), summary });
    match (seen, gate) {
        (_, Gate::Forced) | (Seen::Absent, _) => Ok(()),
        (Seen::Bare(others), _) if others.is_empty() => Ok(()),
        (Seen::Bare(others), _) => work(format!("{} file(s) in no worktree", others.len())),
        (Seen::Tree(tree), Gate::Merged) if tree.is_untouched() => Ok(()),
        (Seen::Tree(tree), Gate::Merged) => work(summary(tree, tree.summary_with_unmerged())),
        (Seen::Tree(tree), Gate::Pushed) if tree.is_safe() => Ok(()),
        (Seen::Tree(tree), Gate::Pushed) => work(summary(tree, tree.summary())),
        (Seen::Unknown(why), _) => {
            Err(TreeError::Unknown { rig: repo.rig.clone(), name: name.clone(), why: why.clone() })
        }
    }
}

fn summary(tree: &Inspection, words: String) -> String {
    if tree.missing { format!("{words}; its directory is missing") } else { words }
}

/// Everything that a worker's place holds, as commits.
async fn gather(repo: &Repo, found: &Look) -> Result<Contents, TreeError> {
    let mut all = Contents::default();
    if let Place::Tree(admin) = &found.place {
        all = archive::gather(repo, admin, Some(&admin.path)).await?;
    }
    for (number, admin) in found.stale.iter().enumerate() {
        let contents = archive::gather(repo, admin, None).await?;
        let lone = number == 0 && all.commits.is_empty();
        let named = contents
            .commits
            .into_iter()
            .map(|(last, commit)| (if lone { last } else { format!("record-{number}-{last}") }, commit));
        all.commits.extend(named);
    }
    if !found.others.is_empty() && !matches!(found.place, Place::Broken(_)) {
        let contents = archive::beside(repo, &found.dir, &found.others).await?;
        all.commits.extend(contents.commits);
        all.within.extend(contents.within);
    }
    Ok(all)
}

/// The same for what was moved, of which git has its record still.
async fn gather_moved(repo: &Repo, found: &Look, out: &Path) -> Result<Contents, TreeError> {
    let mut all = Contents::default();
    for (number, admin) in found.stale.iter().enumerate() {
        let path = moved(admin, found, out);
        let there = look::kind(&path.join(".git"))? != Kind::Absent;
        let contents = archive::gather(repo, admin, there.then_some(path.as_path())).await?;
        let named = contents.commits.into_iter().map(|(last, commit)| {
            (if number == 0 { last } else { format!("record-{number}-{last}") }, commit)
        });
        all.commits.extend(named);
    }
    Ok(all)
}

/// Where a worktree is, once its worker's directory was moved.
fn moved(admin: &Admin, found: &Look, out: &Path) -> PathBuf {
    match admin.path.strip_prefix(&found.dir) {
        Ok(below) if !below.as_os_str().is_empty() => out.join(below),
        _ => out.to_owned(),
    }
}

/// What was done in a worktree while it was being kept: nobody finds it any more now.
async fn late(
    repo: &Repo,
    found: &Look,
    out: &Path,
    before: &Contents,
) -> Result<Option<Contents>, TreeError> {
    let Place::Tree(admin) = &found.place else { return Ok(None) };
    let path = moved(admin, found, out);
    let now = archive::gather(repo, admin, Some(&path)).await?;
    let changed =
        now.commits.iter().any(|(_, commit)| before.commits.iter().all(|(_, known)| known != commit));
    Ok(changed.then_some(now))
}

/// Takes git's records of a place out of the repository: with the directory that was moved, where that is possible.
pub(super) fn unlist(found: &Look, out: Option<&Path>) -> Result<(), TreeError> {
    let used = match &found.place {
        Place::Tree(admin) => Some(admin),
        _ => None,
    };
    for admin in found.stale.iter().chain(used) {
        unrecord(admin, out)?;
    }
    Ok(())
}

pub(super) fn unrecord(admin: &Admin, out: Option<&Path>) -> Result<(), TreeError> {
    let id = admin.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // In one step, so that no part of a record stays that git could not read.
    let together = out.is_some_and(|out| fs::rename(&admin.dir, out.join(format!("{RECORD}{id}"))).is_ok());
    if together { Ok(()) } else { remove_all(&admin.dir) }
}

/// The branch that is checked out in a worker's place.
fn branch_of(found: &Look) -> Result<Option<String>, TreeError> {
    let used = match &found.place {
        Place::Tree(admin) => Some(admin),
        _ => found.stale.first(),
    };
    used.map_or(Ok(None), |admin| look::head_of(&admin.dir))
}

/// The same, of a directory on its way out that has git's record with it.
fn recorded_branch(out: &Path) -> Result<Option<String>, TreeError> {
    for entry in fs::read_dir(out).map_err(io_error("cannot list", out))? {
        let path = entry.map_err(io_error("cannot list", out))?.path();
        let record = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RECORD));
        if record && let Some(branch) = look::head_of(&path)? {
            return Ok(Some(branch));
        }
    }
    Ok(None)
}

/// Whether a branch is one that was made for a worker of this name.
pub(super) fn is_own(branch: &str, name: &AgentName) -> bool {
    let rest = branch.strip_prefix("polecat/").and_then(|rest| rest.strip_prefix(name.as_str()));
    // Older tools wrote a dash before the time.
    rest.is_some_and(|rest| match rest.split_at_checked(1) {
        Some(("/" | "@", rest)) => !rest.is_empty(),
        Some(("-", rest)) => !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        _ => false,
    })
}

/// The directories of a worker that are on their way out.
fn leaving(repo: &Repo, name: &AgentName) -> Result<Vec<PathBuf>, TreeError> {
    Ok(all_leaving(repo)?.into_iter().filter(|(other, _)| other == name).map(|(_, path)| path).collect())
}

fn all_leaving(repo: &Repo) -> Result<Vec<(AgentName, PathBuf)>, TreeError> {
    let polecats = repo.home.join("polecats");
    let mut found = Vec::new();
    if look::kind(&polecats)? != Kind::Directory {
        return Ok(found);
    }
    for entry in fs::read_dir(&polecats).map_err(io_error("cannot list", &polecats))? {
        let path = entry.map_err(io_error("cannot list", &polecats))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = file.strip_prefix(LEAVING).and_then(|rest| rest.split_once('@')).map(|(name, _)| name);
        if let Some(Ok(name)) = name.map(AgentName::new)
            && look::kind(&path)? == Kind::Directory
        {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), TreeError> {
    // What is there is not taken the place of: an empty directory would be.
    if look::kind(to)? != Kind::Absent {
        return Err(TreeError::Exists(to.to_owned()));
    }
    fs::rename(from, to).map_err(io_error("cannot move", from))
}

/// Removes a directory with what is in it; no link is followed.
fn remove_all(dir: &Path) -> Result<(), TreeError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("cannot remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_a_workers_own_by_its_whole_name() {
        let name = |text: &str| AgentName::new(text).unwrap();
        for (branch, of, own) in [
            ("polecat/bullet/gt-1@x", "bullet", true),
            ("polecat/bullet@x", "bullet", true),
            ("polecat/bullet-mk1abc", "bullet", true),
            ("polecat/bullet-farmer/gt-1@x", "bullet", false),
            ("polecat/bullet-farmer@x", "bullet", false),
            ("polecat/bullet-farmer/gt-1@x", "bullet-farmer", true),
            ("polecat/bullet", "bullet", false),
            ("polecat/bullet/", "bullet", false),
            ("main", "bullet", false),
        ] {
            assert_eq!(is_own(branch, &name(of)), own, "{branch} {of}");
        }
    }
}
