//! Keeping what a worktree holds, as commits under `refs/gtd/archive/<name>/<time>/` of the rig's repository.
//!
//! Changes nothing of the worktree: neither its files, nor its index, nor what is checked out. Each ref is read back
//! before it counts. What git cannot keep, such as a repository within the worktree, is told, and never passed over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::{AgentName, Timestamp};

use super::error::{TreeError, io_error};
use super::inspect::{self, ANSWER};
use super::look::{self, Admin, Kind};
use super::trees::{LOCAL, Repo, WHOLE};
use crate::town::git::{Git, GitError};

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The ref.
    pub name: String,
    /// The commit.
    pub commit: String,
}

/// What a worktree holds, as commits that nothing refers to yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Contents {
    /// Commits by the last part of the ref that they get: `tip`, `staged`, `uncommitted`, `stash-1`, …
    pub(super) commits: Vec<(String, String)>,
    /// Repositories within it, which git keeps nothing of.
    pub(super) within: Vec<String>,
}

/// What git remembers of an operation under way, or of the last one, that may be on no branch.
const REMEMBERED: [(&str, &str); 9] = [
    ("rebase-merge/orig-head", "rebase"),
    ("rebase-merge/autostash", "autostash"),
    ("rebase-apply/orig-head", "rebase-apply"),
    ("rebase-apply/autostash", "autostash-apply"),
    ("MERGE_AUTOSTASH", "autostash-merge"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("ORIG_HEAD", "before"),
];

/// Where what is kept of a worker at a time goes.
pub(super) fn place(name: &AgentName, at: Timestamp) -> String {
    format!("{}{}", place_of(name), stamp(at))
}

/// Where everything goes that is kept of a worker; with a slash at its end.
pub(super) fn place_of(name: &AgentName) -> String {
    // Of what a name may be, git takes dots amiss.
    format!("refs/gtd/archive/{}/", name.as_str().replace('.', "_"))
}

/// A time as a part of a ref's or a file's name.
pub(super) fn stamp(at: Timestamp) -> String {
    let text = format!("{at:.3}");
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// Makes commits of everything that a worktree holds: `path` is where its files are now, if they are anywhere.
pub(super) async fn gather(repo: &Repo, admin: &Admin, path: Option<&Path>) -> Result<Contents, TreeError> {
    let git = match path {
        Some(path) => repo.git_in(&admin.dir, path),
        None => repo.git.with("GIT_DIR", &admin.dir),
    };
    let at = path.unwrap_or(&repo.dir);
    let mut contents = Contents::default();
    let tip = found(git.run(at, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], LOCAL).await)?;
    if let Some(tip) = &tip {
        contents.commits.push(("tip".to_owned(), tip.clone()));
    }
    let trees = trees(&git, admin, at, path).await?;
    contents.within = trees.within;
    // What a submodule had committed is kept with git's record of the worktree, and goes with it.
    let modules = admin.dir.join("modules");
    if contents.within.is_empty() && look::kind(&modules)? == Kind::Directory && !look::is_empty(&modules)? {
        contents.within.push("a submodule's".to_owned());
    }
    let base = match &tip {
        Some(tip) => Some(git.run(at, &["rev-parse", "--verify", &format!("{tip}^{{tree}}")], LOCAL).await?),
        None => None,
    };
    let mut parents: Vec<String> = tip.into_iter().collect();
    let staged = trees.staged.filter(|tree| Some(tree) != base.as_ref() && Some(tree) != trees.all.as_ref());
    if let Some(tree) = staged {
        let commit = commit(&git, at, &tree, &parents, "what was staged").await?;
        parents.push(commit.clone());
        contents.commits.push(("staged".to_owned(), commit));
    }
    if let Some(tree) = trees.all.filter(|tree| Some(tree) != base.as_ref()) {
        let commit = commit(&git, at, &tree, &parents, "what was not committed").await?;
        contents.commits.push(("uncommitted".to_owned(), commit));
    }
    let branch = found(git.run(at, &["symbolic-ref", "--quiet", "HEAD"], LOCAL).await)?;
    let branch = branch.as_deref().map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
    for (number, stash) in inspect::stashes(&git, at, branch).await?.into_iter().enumerate() {
        contents.commits.push((format!("stash-{}", number.saturating_add(1)), stash));
    }
    remembered(&git, admin, at, &mut contents).await?;
    Ok(contents)
}

/// Makes a commit of some files of a directory that is no worktree.
pub(super) async fn beside(repo: &Repo, dir: &Path, names: &[String]) -> Result<Contents, TreeError> {
    let index = Index::at(repo.dir.join("gtd-archive.index"))?;
    let git = repo.git.with("GIT_WORK_TREE", dir).with("GIT_INDEX_FILE", &index.0);
    let mut args = vec!["--literal-pathspecs", "add", "--all", "--force", "--"];
    args.extend(names.iter().map(String::as_str));
    git.run(dir, &args, WHOLE).await?;
    let within = within(&git, dir, dir).await?;
    let tree = git.run(dir, &["write-tree"], WHOLE).await?;
    let commit = commit(&git, dir, &tree, &[], "what lay beside the worktree").await?;
    Ok(Contents { commits: vec![("beside".to_owned(), commit)], within })
}

/// Gives the commits their refs, and reads those back.
pub(super) async fn keep(repo: &Repo, place: &str, contents: &Contents) -> Result<Vec<Archived>, TreeError> {
    let none = "0".repeat(contents.commits.first().map_or(40, |(_, commit)| commit.len()));
    let mut kept = Vec::new();
    for (last, commit) in &contents.commits {
        let name = format!("{place}/{last}");
        repo.run(&["update-ref", "-m", "gtd: archived", &name, commit, &none]).await?;
        kept.push(Archived { name, commit: commit.clone() });
    }
    // The type makes git read the object itself.
    let format = "--format=%(refname) %(objectname) %(objecttype)";
    let there = repo.run(&["for-each-ref", format, &format!("{place}/")]).await?;
    for archived in &kept {
        let line = format!("{} {} commit", archived.name, archived.commit);
        if !there.lines().any(|other| other == line) {
            return Err(TreeError::Io {
                what: "cannot read back",
                path: PathBuf::from(&archived.name),
                source: io::Error::other("git wrote it and does not have it"),
            });
        }
    }
    Ok(kept)
}

/// The trees of a worktree.
#[derive(Debug, Default)]
struct TreesOf {
    /// Of its index; none while that has conflicts, or cannot be read.
    staged: Option<String>,
    /// Of all its files but the ignored ones; none where they are gone.
    all: Option<String>,
    /// Repositories within it.
    within: Vec<String>,
}

async fn trees(git: &Git, admin: &Admin, at: &Path, path: Option<&Path>) -> Result<TreesOf, TreeError> {
    let index = Index::at(admin.dir.join("gtd-archive.index"))?;
    let own = admin.dir.join("index");
    let copied = match fs::copy(&own, &index.0) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io_error("cannot copy", &own)(error)),
    };
    let git = git.with("GIT_INDEX_FILE", &index.0);
    let mut trees = TreesOf::default();
    if copied {
        // With conflicts there is no such tree; what they are of is in the files and in the commits.
        trees.staged = git.run(at, &["write-tree"], WHOLE).await.ok();
    }
    let Some(path) = path else { return Ok(trees) };
    let add = ["-c", "advice.addEmbeddedRepo=false", "add", "--all"];
    let added = if copied { git.run(path, &add, WHOLE).await.map(drop) } else { Ok(()) };
    if !copied || added.is_err() {
        // Without an index, or with one that cannot be read, what git tracks is what was committed last.
        let _ = fs::remove_file(&index.0);
        let begun = git.run(path, &["read-tree", "HEAD"], WHOLE).await.map(drop);
        // On a branch without a commit it is nothing.
        if let Err(error) = begun
            && git.run(path, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], LOCAL).await.is_ok()
        {
            return Err(added.err().unwrap_or(error).into());
        }
        git.run(path, &add, WHOLE).await.map_err(|error| added.err().unwrap_or(error))?;
    }
    trees.within = within(&git, at, path).await?;
    trees.all = Some(git.run(path, &["write-tree"], WHOLE).await?);
    Ok(trees)
}

/// The repositories within a worktree: git keeps only which commit of them is checked out.
async fn within(git: &Git, at: &Path, path: &Path) -> Result<Vec<String>, TreeError> {
    let said = git.whole(at, &["ls-files", "--stage", "-z"], ANSWER, WHOLE).await?;
    let mut found = Vec::new();
    for record in said.split(|byte| *byte == 0).filter(|record| record.starts_with(b"160000 ")) {
        let Some(tab) = record.iter().position(|byte| *byte == b'\t') else { continue };
        let name = record.get(tab.saturating_add(1)..).unwrap_or_default();
        let place = path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
        // One that was never filled holds nothing.
        if look::kind(&place.join(".git"))? != Kind::Absent {
            found.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(found)
}

/// An index of our own, which is gone again in the end.
struct Index(PathBuf);

impl Index {
    fn at(path: PathBuf) -> Result<Self, TreeError> {
        let index = Self(path);
        // A call that was killed left it, and the turn is ours.
        for path in [&index.0, &index.lock()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("cannot remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(index)
    }

    fn lock(&self) -> PathBuf {
        self.0.with_extension("index.lock")
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_file(self.lock());
    }
}

async fn commit(
    git: &Git,
    at: &Path,
    tree: &str,
    parents: &[String],
    words: &str,
) -> Result<String, GitError> {
    // The time is not part of what is kept: the same contents make the same commit.
    let git = git.with("GIT_AUTHOR_DATE", "@0 +0000").with("GIT_COMMITTER_DATE", "@0 +0000");
    let mut args = vec!["commit-tree", "--no-gpg-sign", "-m", words];
    for parent in parents {
        args.extend(["-p", parent.as_str()]);
    }
    args.push(tree);
    git.run(at, &args, LOCAL).await
}

/// Commits that git notes down beside the branch.
async fn remembered(git: &Git, admin: &Admin, at: &Path, contents: &mut Contents) -> Result<(), TreeError> {
    for (file, last) in REMEMBERED {
        let Ok(text) = look::small(&admin.dir.join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let id = line.trim();
            if id.len() < 40 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            // A note of an object that is gone is no reason to keep nothing.
            let spec = format!("{id}^{{commit}}");
            let Some(commit) = found(git.run(at, &["rev-parse", "--verify", "--quiet", &spec], LOCAL).await)?
            else {
                continue;
            };
            if contents.commits.iter().any(|(_, known)| *known == commit) {
                continue;
            }
            let tip = contents.commits.iter().find(|(last, _)| last == "tip").map(|(_, tip)| tip.clone());
            if let Some(tip) = tip
                && git.says_yes(at, &["merge-base", "--is-ancestor", &commit, &tip], LOCAL).await?
            {
                continue;
            }
            let last = if number == 0 { last.to_owned() } else { format!("{last}-{number}") };
            contents.commits.push((last, commit));
        }
    }
    Ok(())
}

/// What `--quiet` does not find is none.
fn found(said: Result<String, GitError>) -> Result<Option<String>, GitError> {
    match said {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.code == Some(1) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_such_as_git_takes() {
        let at = Timestamp::from_millisecond(1_795_292_264_005).unwrap();
        let name = AgentName::new("a.b.lock").unwrap();
        assert_eq!(place(&name, at), "refs/gtd/archive/a_b_lock/20261121T201744.005Z");
    }
}
