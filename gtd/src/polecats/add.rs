//! A new worktree for a worker, on a branch of its own.
//!
//! All or nothing: what fails is taken back, and what a killed daemon left is recognised by what was planned before,
//! see [`super::undo`]. Must never touch what was there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, RigName, Timestamp, WorkId};
use serde::{Deserialize, Serialize};

use super::error::{TreeError, io_error};
use super::look::{self, Place};
use super::trees::{Repo, Trees, WHOLE, base36};
use crate::host::files::write_atomic;

/// There while a worktree is being made, in the worker's directory; says for which branch.
pub(super) const MARKER: &str = ".gtd-adding";

/// A worktree that is to be made. Written down before it is: nothing else tells later whose what is there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTree {
    /// The rig.
    pub rig: RigName,
    /// The worker.
    pub name: AgentName,
    /// Where the worktree is to be: `polecats/<name>/<rig>` in the rig's directory, links resolved.
    pub path: PathBuf,
    /// Its branch, which must not exist: `polecat/<name>/<work>@<time>`, or `polecat/<name>@<time>`.
    pub branch: String,
}

/// A worktree that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// What was planned.
    pub tree: NewTree,
    /// The ref that it began on.
    pub base: String,
    /// The commit of that.
    pub commit: String,
    /// What did not work out and was not needed: the remote could not be asked, a set-up program failed.
    pub notes: Vec<String>,
}

impl Trees {
    /// What a new worktree would be. Looks at nothing but the way to the rig's directory.
    ///
    /// # Errors
    /// When that cannot be resolved.
    pub fn planned(
        &self,
        rig: &RigName,
        name: &AgentName,
        work: Option<&WorkId>,
        at: Timestamp,
    ) -> Result<NewTree, TreeError> {
        let home = self.layout.rig(rig);
        let home = home.canonicalize().map_err(io_error("cannot resolve", &home))?;
        let path = home.join("polecats").join(name.as_str()).join(rig.as_str());
        let branch = branch_of(name, work, at);
        Ok(NewTree { rig: rig.clone(), name: name.clone(), path, branch })
    }

    /// The names of workers that a rig's repository still knows a worktree of, whether that is there or not: none of
    /// them is free.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn names_in_git(&self, rig: &RigName) -> Result<Vec<AgentName>, TreeError> {
        let repo = self.repo(rig).await?;
        look::names(&repo)
    }

    /// Makes a worktree on a new branch, from the default branch as the remote has it. Takes as long as git needs for
    /// the files, and the rig's own set-up programs for theirs.
    ///
    /// # Errors
    /// Nothing of it is left then, and what was there is as it was: [`TreeError::Exists`],
    /// [`TreeError::BranchExists`], [`TreeError::NoBase`], [`TreeError::NoRepository`], git's and the system's.
    pub async fn add(&self, new: &NewTree) -> Result<Added, TreeError> {
        let repo = self.repo(&new.rig).await?;
        let mut notes: Vec<String> = repo.freshen().await.into_iter().collect();
        let (base, commit) = {
            let _turn = repo.turn().await?;
            let from = free(&repo, new).await?;
            claim(new)?;
            match self.fill(&repo, new, &from.1, &mut notes).await {
                Ok(()) => from,
                Err(error) => return Err(self.taken_back(&repo, new, error).await),
            }
        };
        // Others need not wait for the rig's own programs.
        self.set_up(&repo, new, &mut notes).await;
        let marker = dir_of(new)?.join(MARKER);
        match fs::remove_file(&marker).map_err(io_error("cannot remove", &marker)) {
            Ok(()) => Ok(Added { tree: new.clone(), base, commit, notes }),
            Err(error) => {
                let _turn = repo.turn().await?;
                Err(self.taken_back(&repo, new, error).await)
            }
        }
    }

    async fn fill(
        &self,
        repo: &Repo,
        new: &NewTree,
        commit: &str,
        notes: &mut Vec<String>,
    ) -> Result<(), TreeError> {
        self.step("claimed")?;
        self.exclude(repo)?;
        let reason = format!("in use by the polecat {} of the rig {}", new.name, new.rig);
        let path = new.path.to_str().ok_or_else(|| TreeError::Io {
            what: "git cannot be told of",
            path: new.path.clone(),
            source: io::Error::other("it is not UTF-8"),
        })?;
        // Locked, so that no prune takes it for gone when its directory cannot be seen for a moment.
        let args = [
            "worktree",
            "add",
            "--quiet",
            "--lock",
            "--reason",
            &reason,
            "--no-track",
            "-b",
            &new.branch,
            "--",
            path,
            commit,
        ];
        repo.git.run(&repo.dir, &args, WHOLE).await?;
        self.step("added")?;
        self.overlay(repo, new, notes).await
    }

    async fn taken_back(&self, repo: &Repo, new: &NewTree, error: TreeError) -> TreeError {
        #[cfg(test)]
        if matches!(error, TreeError::Ended(_)) {
            return error;
        }
        if let Err(left) = self.take_back(repo, new, false).await {
            tracing::warn!(branch = %new.branch, error = %left, "a half-made worktree could not be taken back");
        }
        error
    }
}

/// The branch of a worker, for a piece of work.
fn branch_of(name: &AgentName, work: Option<&WorkId>, at: Timestamp) -> String {
    let at = base36(at);
    match work {
        // git has no two dots in a branch's name. The name is for people; nothing is found out from it.
        Some(work) => format!("polecat/{name}/{}@{at}", work.as_str().replace("..", ".")),
        None => format!("polecat/{name}@{at}"),
    }
}

/// The worker's directory.
pub(super) fn dir_of(new: &NewTree) -> Result<&Path, TreeError> {
    let none = || TreeError::NoDirectory(new.path.clone());
    let dir = new.path.parent().ok_or_else(none)?;
    let named = |path: &Path, name: &str| path.file_name().is_some_and(|last| last == name);
    // It may come from a record: nothing but a worker's own place is ever made or removed.
    let sound = named(&new.path, new.rig.as_str())
        && named(dir, new.name.as_str())
        && dir.parent().is_some_and(|polecats| named(polecats, "polecats"));
    if sound { Ok(dir) } else { Err(none()) }
}

/// Sees that nothing is in the way; gives the base and its commit.
async fn free(repo: &Repo, new: &NewTree) -> Result<(String, String), TreeError> {
    let found = look::look(repo, &new.name)?;
    if found.place != Place::Absent {
        return Err(TreeError::Exists(found.dir));
    }
    if let Some(admin) = found.stale.first() {
        return Err(TreeError::Exists(admin.dir.clone()));
    }
    let branch = format!("refs/heads/{}", new.branch);
    if repo.tips(&[&branch]).await?.contains_key(&branch) {
        return Err(TreeError::BranchExists(new.branch.clone()));
    }
    repo.base().await
}

/// Makes the worker's directory, and says whose it is.
fn claim(new: &NewTree) -> Result<(), TreeError> {
    let dir = dir_of(new)?;
    if let Some(polecats) = dir.parent() {
        match fs::create_dir(polecats) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("cannot make", polecats)(error));
            }
            _ => {}
        }
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(TreeError::Exists(dir.to_owned()));
        }
        made => made.map_err(io_error("cannot make", dir))?,
    }
    let marker = dir.join(MARKER);
    let marked = write_atomic(&marker, new.branch.as_bytes(), 0o644);
    marked.map_err(|error| {
        // It is empty: nobody's work.
        let _ = fs::remove_dir(dir);
        io_error("cannot write", &marker)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_after_worker_work_and_time() {
        let (name, at) = (AgentName::new("nux").unwrap(), Timestamp::from_millisecond(36).unwrap());
        let work = |text: &str| WorkId::new(text).unwrap();
        assert_eq!(branch_of(&name, Some(&work("gt-1.2")), at), "polecat/nux/gt-1.2@10");
        assert_eq!(branch_of(&name, Some(&work("gt..1")), at), "polecat/nux/gt.1@10");
        assert_eq!(branch_of(&name, None, at), "polecat/nux@10");
    }

    #[test]
    fn nothing_but_a_workers_place_is_ever_touched() {
        let new = |path: &str| NewTree {
            rig: RigName::new("a").unwrap(),
            name: AgentName::new("nux").unwrap(),
            path: path.into(),
            branch: "polecat/nux@1".into(),
        };
        assert!(dir_of(&new("/t/a/polecats/nux/a")).is_ok());
        for bad in
            ["/", "/t/a/polecats/nux", "/t/a/polecats/nux/b", "/t/a/crew/nux/a", "/t/a/polecats/max/a", "a"]
        {
            assert!(dir_of(&new(bad)).is_err(), "{bad}");
        }
    }
}
