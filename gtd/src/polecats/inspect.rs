//! What a worker's worktree holds that is nowhere else.
//!
//! Only looks, and changes not even the index. Whatever cannot be told is an error or [`Seen::Unknown`], never
//! "nothing": who asks this may be about to remove it.

use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, RigName};

use super::error::TreeError;
use super::look::{self, Admin, Kind, Look, Place};
use super::status::{self, Status};
use super::trees::{LOCAL, Repo, Trees, WHOLE};
use crate::town::git::{Git, GitError};

/// Longest answer of git that is read: some hundred thousand paths.
pub(super) const ANSWER: usize = 32 << 20;

/// Something that git is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `git rebase`
    Rebase,
    /// `git am`
    Apply,
    /// `git merge`
    Merge,
    /// `git cherry-pick`
    CherryPick,
    /// `git revert`
    Revert,
    /// `git bisect`
    Bisect,
}

impl Operation {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rebase => "rebase",
            Self::Apply => "am",
            Self::Merge => "merge",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
            Self::Bisect => "bisect",
        }
    }
}

/// What a worktree holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Where it is.
    pub path: PathBuf,
    /// Its directory is gone: only what git keeps beside it was looked at.
    pub missing: bool,
    /// The branch; none when HEAD is detached.
    pub branch: Option<String>,
    /// The commit; none where there is none yet.
    pub tip: Option<String>,
    /// Changed paths: staged, not staged, in conflict, and untracked ones that are not ignored. A rename is one.
    pub uncommitted: usize,
    /// Those of them that are untracked.
    pub untracked: usize,
    /// The commits of the stashes that were made on this branch.
    pub stashes: Vec<String>,
    /// Commits that are on no remote branch.
    pub unpushed: usize,
    /// Commits that are not in the default branch, and change something that is not there otherwise.
    pub unmerged: usize,
    /// The default branch.
    pub default_branch: String,
    /// What git is in the middle of.
    pub operation: Option<Operation>,
    /// What lies beside the worktree in the worker's directory.
    pub others: Vec<String>,
}

impl Inspection {
    /// Nothing in it would be lost: everything is on a remote branch.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.summary().is_empty()
    }

    /// Nothing was done in it since it was made.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.is_safe() && self.unmerged == 0
    }

    /// There are files that git does not know, and nothing else.
    pub(super) fn only_new_files(&self) -> bool {
        let known = Self { uncommitted: self.uncommitted.saturating_sub(self.untracked), ..self.clone() };
        known.is_untouched()
    }

    /// What would be lost, in words; empty when that is nothing.
    #[must_use]
    pub fn summary(&self) -> String {
        self.words(false)
    }

    /// The same, with what is not merged.
    #[must_use]
    pub fn summary_with_unmerged(&self) -> String {
        self.words(true)
    }

    fn words(&self, unmerged: bool) -> String {
        let counted = |count: usize, what: String| (count > 0).then(|| format!("{count} {what}"));
        // Commits that are not pushed are not merged either: they are not told twice.
        let pushed = unmerged && self.unmerged > self.unpushed;
        [
            counted(self.uncommitted, "uncommitted change(s)".to_owned()),
            counted(self.stashes.len(), "stash(es)".to_owned()),
            counted(self.unpushed, "unpushed commit(s)".to_owned()),
            counted(self.unmerged, format!("commit(s) not merged into {}", self.default_branch))
                .filter(|_| pushed),
            self.operation.map(|operation| format!("a {} under way", operation.as_str())),
            counted(self.others.len(), "other file(s) beside the worktree".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join(", ")
    }
}

/// What is in a worker's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, here and in the repository.
    Absent,
    /// A directory without a worktree, and what lies in it that is nobody's but a person's.
    Bare(Vec<String>),
    /// A worktree, or what git keeps of one whose directory is gone.
    Tree(Box<Inspection>),
    /// Something that cannot be judged: it counts as work. With the reason.
    Unknown(String),
}

impl Trees {
    /// Looks at what is in a worker's place. Takes no turn: it may run beside anything.
    ///
    /// # Errors
    /// When the repository or the place cannot be looked at at all.
    pub async fn inspect(&self, rig: &RigName, name: &AgentName) -> Result<Seen, TreeError> {
        let repo = self.repo(rig).await?;
        let found = look::look(&repo, name)?;
        Ok(seen(&repo, &found).await)
    }
}

/// Judges what a look has found.
pub(super) async fn seen(repo: &Repo, found: &Look) -> Seen {
    let (admin, missing) = match (&found.place, found.stale.as_slice()) {
        (Place::Broken(why), _) => return Seen::Unknown(why.clone()),
        (Place::Tree(admin), []) => (admin, false),
        (Place::Absent, []) => return Seen::Absent,
        (Place::Bare, []) => return Seen::Bare(found.others.clone()),
        (Place::Absent | Place::Bare, [admin]) => (admin, true),
        (_, more) => return Seen::Unknown(format!("its repository has {} more worktrees there", more.len())),
    };
    match inspected(repo, admin, missing).await {
        Ok(mut inspection) => {
            inspection.others.clone_from(&found.others);
            Seen::Tree(Box::new(inspection))
        }
        Err(why) => Seen::Unknown(why),
    }
}

/// Looks at a worktree through what git keeps of it.
pub(super) async fn inspected(repo: &Repo, admin: &Admin, missing: bool) -> Result<Inspection, String> {
    let said = |error: GitError| format!("{}: {}", error.command, error.said());
    let git =
        if missing { repo.git.with("GIT_DIR", &admin.dir) } else { repo.git_in(&admin.dir, &admin.path) };
    let at = if missing { &repo.dir } else { &admin.path };
    let status = if missing { gone(&git, &admin.dir).await? } else { standing(&git, at).await? };
    let base = repo.base().await.map_err(|error| error.to_string())?;
    let stashes = stashes(&git, at, status.branch.as_deref()).await.map_err(said)?;
    let (mut unpushed, mut unmerged) = (0, 0);
    if let Some(tip) = status.tip.as_deref() {
        // A repository without remote branches has only its own default branch to compare with.
        let remotes = base.0.starts_with("refs/remotes/")
            || !repo.run(&["for-each-ref", "--count=1", "refs/remotes"]).await.map_err(said)?.is_empty();
        let known = if remotes { "--remotes" } else { base.1.as_str() };
        unpushed = count(&git, at, &["rev-list", "--count", tip, "--not", known]).await?;
        unmerged = count(&git, at, &["rev-list", "--count", tip, "--not", &base.1]).await?;
        if unmerged > 0 && same_when_merged(&git, at, &base.1, tip).await {
            unmerged = 0;
        }
    }
    Ok(Inspection {
        path: admin.path.clone(),
        missing,
        branch: status.branch,
        tip: status.tip,
        uncommitted: status.changes,
        untracked: status.untracked,
        stashes,
        unpushed,
        unmerged,
        default_branch: repo.branch.clone(),
        operation: operation(&admin.dir).map_err(|error| error.to_string())?,
        others: Vec::new(),
    })
}

/// The state of a worktree that is there.
async fn standing(git: &Git, at: &Path) -> Result<Status, String> {
    let args = [
        "status",
        "--porcelain=v2",
        "-z",
        "--branch",
        "--untracked-files=normal",
        "--ignore-submodules=none",
        "--find-renames",
    ];
    let said = git.whole(at, &args, ANSWER, WHOLE).await;
    status::parse(&said.map_err(|error| format!("{}: {}", error.command, error.said()))?)
}

/// What git keeps of one whose directory is gone: what is checked out, and what was staged.
async fn gone(git: &Git, admin: &Path) -> Result<Status, String> {
    let said = |error: GitError| format!("{}: {}", error.command, error.said());
    let tip = git.run(admin, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], LOCAL).await;
    let tip = match tip {
        Ok(tip) => Some(tip),
        Err(error) if error.code == Some(1) => None,
        Err(error) => return Err(said(error)),
    };
    let branch = match git.run(admin, &["symbolic-ref", "--quiet", "HEAD"], LOCAL).await {
        Ok(name) => Some(name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned()),
        Err(error) if error.code == Some(1) => None,
        Err(error) => return Err(said(error)),
    };
    let changes = match &tip {
        Some(tip) => {
            let args = ["diff-index", "--cached", "--name-only", "-z", tip];
            let paths = git.whole(admin, &args, ANSWER, WHOLE).await.map_err(said)?;
            paths.split(|byte| *byte == 0).filter(|path| !path.is_empty()).count()
        }
        None => 0,
    };
    Ok(Status { tip, branch, changes, ..Status::default() })
}

async fn count(git: &Git, at: &Path, args: &[&str]) -> Result<usize, String> {
    let said =
        git.run(at, args, WHOLE).await.map_err(|error| format!("{}: {}", error.command, error.said()))?;
    said.trim().parse().map_err(|_| format!("git says {said:?} for a count of commits"))
}

/// Whether a merge would change nothing in the base: so it is after a squash or a rebase. When git cannot tell, such
/// as in conflicts, or is older than 2.38, it is not.
async fn same_when_merged(git: &Git, at: &Path, base: &str, tip: &str) -> bool {
    let merged = git.run(at, &["merge-tree", "--write-tree", base, tip], WHOLE).await;
    let tree = git.run(at, &["rev-parse", "--verify", &format!("{base}^{{tree}}")], LOCAL).await;
    match (merged, tree) {
        (Ok(merged), Ok(tree)) => merged.lines().next() == Some(tree.as_str()),
        _ => false,
    }
}

/// The commits of the stashes made on a branch. Stashes are the repository's: those of other worktrees are others'.
pub(super) async fn stashes(git: &Git, at: &Path, branch: Option<&str>) -> Result<Vec<String>, GitError> {
    let said = git.whole(at, &["stash", "list", "--format=%H %gs"], ANSWER, LOCAL).await?;
    let said = String::from_utf8_lossy(&said);
    let mine = |line: &str| {
        let (commit, words) = line.split_once(' ')?;
        status::stashed_on(words, branch).then(|| commit.to_owned())
    };
    Ok(said.lines().filter_map(mine).collect())
}

/// What git is in the middle of.
pub(super) fn operation(admin: &Path) -> Result<Option<Operation>, TreeError> {
    for (name, operation) in [
        ("rebase-merge", Operation::Rebase),
        ("rebase-apply/rebasing", Operation::Rebase),
        ("rebase-apply", Operation::Apply),
        ("MERGE_HEAD", Operation::Merge),
        ("CHERRY_PICK_HEAD", Operation::CherryPick),
        ("REVERT_HEAD", Operation::Revert),
        ("BISECT_LOG", Operation::Bisect),
    ] {
        if look::kind(&admin.join(name))? != Kind::Absent {
            return Ok(Some(operation));
        }
    }
    Ok(None)
}
