//! Taking back a worktree that was made for a start that did not come about.
//!
//! Each part is removed only when it is provably what that one addition made: the directory by its marker or by the
//! branch that is checked out in it, git's record of it by its place and branch, and the branch by its name, which
//! has the time in it. A commit that is on no other branch is never let go of.

use std::fs;
use std::io;

use super::add::{MARKER, NewTree, dir_of};
use super::error::{TreeError, io_error};
use super::inspect::{self, Seen};
use super::look::{self, Admin, Kind, Look, Place};
use super::setup;
use super::trees::{Repo, Trees, WHOLE};
use crate::host::files::write_atomic;

/// What was taken back; nothing of all this when it was done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undone {
    /// The worker's directory.
    pub directory: bool,
    /// What git kept of it.
    pub record: bool,
    /// The branch.
    pub branch: bool,
}

impl Trees {
    /// Takes back what [`Trees::add`] made, whole or in part, also after a crash of the daemon in the middle of it;
    /// may be repeated. `ran` says that an agent may have worked there: then it goes only while nothing was done
    /// in it.
    ///
    /// # Errors
    /// [`TreeError::Work`] when there is something in it that somebody did, [`TreeError::Unknown`] when that cannot
    /// be told, [`TreeError::Exists`] when something else is in its place. Everything that these are about is as it
    /// was.
    pub async fn undo(&self, new: &NewTree, ran: bool) -> Result<Undone, TreeError> {
        let repo = self.repo(&new.rig).await?;
        let _turn = repo.turn().await?;
        self.take_back(&repo, new, ran).await
    }

    /// The same for who has the turn.
    pub(super) async fn take_back(&self, repo: &Repo, new: &NewTree, ran: bool) -> Result<Undone, TreeError> {
        let dir = dir_of(new)?;
        let mut undone = Undone::default();
        let found = look::look(repo, &new.name)?;
        let half = marked(&found, new)?;
        match &found.place {
            Place::Absent => {}
            // An empty directory is nobody's work.
            Place::Bare if found.others.is_empty() => undone.directory = true,
            Place::Bare if half => undone.directory = true,
            Place::Tree(admin) if ours(admin, new)? => {
                if !half || ran {
                    untouched(repo, &found, new, ran).await?;
                }
                undone.directory = true;
            }
            // git ended before it had written all of its own.
            Place::Broken(_) if half => undone.directory = true,
            Place::Broken(_) | Place::Tree(_) | Place::Bare => {
                return Err(TreeError::Exists(dir.to_owned()));
            }
        }
        let branch = own_branch(repo, new).await?;
        // First the directory: while git keeps a record of it, nothing else is put in its place.
        if undone.directory {
            self.clear(&found, new)?;
        }
        let records = found.stale.iter().chain(match &found.place {
            Place::Tree(admin) => Some(admin),
            _ => None,
        });
        for admin in records {
            if ours(admin, new)? {
                fs::remove_dir_all(&admin.dir).map_err(io_error("cannot remove", &admin.dir))?;
                undone.record = true;
            }
        }
        self.step("unlisted")?;
        if let Some(commit) = branch {
            let name = format!("refs/heads/{}", new.branch);
            repo.run(&["update-ref", "-d", &name, &commit]).await?;
            undone.branch = true;
        }
        Ok(undone)
    }

    /// Removes a worker's directory, with what is in it; no link is followed. It says whose it is to the end, so that
    /// a part of it is not taken for work.
    fn clear(&self, found: &Look, new: &NewTree) -> Result<(), TreeError> {
        let marker = found.dir.join(MARKER);
        write_atomic(&marker, new.branch.as_bytes(), 0o644).map_err(io_error("cannot write", &marker))?;
        self.step("marked")?;
        for dir in [&new.path, &found.dir] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("cannot remove", dir)(error));
                }
                _ => self.step("cleared")?,
            }
        }
        Ok(())
    }
}

/// Whether an addition of just this branch was begun there, and not ended.
pub(super) fn marked(found: &Look, new: &NewTree) -> Result<bool, TreeError> {
    if found.place == Place::Absent {
        return Ok(false);
    }
    let marker = found.dir.join(MARKER);
    match look::small(&marker) {
        Ok(text) => Ok(text == new.branch),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("cannot read", &marker)(error)),
    }
}

/// Whether git's record is of the worktree that was to be made: in its place, and on its branch or not on any yet.
pub(super) fn ours(admin: &Admin, new: &NewTree) -> Result<bool, TreeError> {
    if admin.path != new.path {
        return Ok(false);
    }
    let head = admin.dir.join("HEAD");
    match look::kind(&head)? {
        Kind::Absent => Ok(true),
        _ => {
            let text = look::small(&head).map_err(io_error("cannot read", &head))?;
            let on = text.trim_end_matches(['\n', '\r']);
            // git writes zeros there until it has made the branch.
            Ok(on == format!("ref: refs/heads/{}", new.branch) || on.bytes().all(|byte| byte == b'0'))
        }
    }
}

/// Sees that nobody did anything there.
async fn untouched(repo: &Repo, found: &Look, new: &NewTree, ran: bool) -> Result<(), TreeError> {
    match inspect::seen(repo, found).await {
        Seen::Tree(tree) if tree.is_untouched() => Ok(()),
        // Before an agent ran, only the rig's own set-up programs were there: new files are what they left.
        Seen::Tree(tree) if !ran && tree.only_new_files() && setup::is_any(repo)? => Ok(()),
        Seen::Tree(tree) => {
            let summary = tree.summary_with_unmerged();
            Err(TreeError::Work { rig: new.rig.clone(), name: new.name.clone(), summary })
        }
        Seen::Unknown(why) => Err(TreeError::Unknown { rig: new.rig.clone(), name: new.name.clone(), why }),
        Seen::Absent | Seen::Bare(_) => Ok(()),
    }
}

/// The commit of the branch that was to be made, when it may go: it has nothing of its own.
async fn own_branch(repo: &Repo, new: &NewTree) -> Result<Option<String>, TreeError> {
    let name = format!("refs/heads/{}", new.branch);
    let Some(commit) = repo.tips(&[&name]).await?.remove(&name) else { return Ok(None) };
    let (_, base) = repo.base().await?;
    let args = ["rev-list", "--count", commit.as_str(), "--not", "--remotes", &base];
    let own = repo.git.run(&repo.dir, &args, WHOLE).await?;
    if own.trim() == "0" {
        return Ok(Some(commit));
    }
    let summary = format!("{own} unpushed commit(s)");
    Err(TreeError::Work { rig: new.rig.clone(), name: new.name.clone(), summary })
}
