//! Work in a rig's worktrees that is nowhere else: what a person should know before a rig is let go.
//!
//! Only looks. What cannot be looked at is an error, never nothing; and git is only run where a worktree begins,
//! so that it does not walk up into the repository around it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_proto::{AgentName, RigName};

use super::file::absent;
use super::git::{Git, GitError};
use super::layout::Layout;

/// Each command is local and small; a cold disk may take a while.
const LOOK: Duration = Duration::from_secs(30);

/// A worktree with work that is nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The worktree, below the rig's directory.
    pub place: String,
    /// `2 uncommitted changes, 1 unpushed commit`.
    pub summary: String,
}

/// It is not known whether there is such work.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A directory cannot be looked at.
    #[error("{} cannot be looked at: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The worktrees of a rig's workers and of its refinery with work that is nowhere else. People's workspaces are
/// their own business.
///
/// # Errors
/// When it is not known of one of them.
pub async fn look(
    layout: &Layout,
    rig: &RigName,
    polecats: &[AgentName],
    git: &Git,
) -> Result<Vec<Unfinished>, LookError> {
    let mut found = Vec::new();
    let refinery = layout.rig(rig).join("refinery/rig");
    if is_worktree(&refinery)? {
        found.extend(unfinished("refinery/rig".to_owned(), &refinery, git).await?);
    }
    for name in polecats {
        let old = layout.polecat(rig, name);
        let new = old.join(rig.as_str());
        let place = format!("polecats/{name}");
        if is_worktree(&new)? {
            found.extend(unfinished(place, &new, git).await?);
        } else if is_worktree(&old)? {
            found.extend(unfinished(place, &old, git).await?);
        } else if !is_empty(&old)? {
            let summary = "files that are in no worktree".to_owned();
            found.push(Unfinished { place, summary });
        }
    }
    Ok(found)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LookError {
    let path = path.to_owned();
    move |source| LookError::Io { path, source }
}

fn is_worktree(dir: &Path) -> Result<bool, LookError> {
    match std::fs::symlink_metadata(dir.join(".git")) {
        Ok(_) => Ok(true),
        Err(error) if absent(&error) => Ok(false),
        Err(error) => Err(io(dir)(error)),
    }
}

fn is_empty(dir: &Path) -> Result<bool, LookError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if absent(&error) => Ok(true),
        Err(error) => Err(io(dir)(error)),
    }
}

async fn unfinished(place: String, dir: &Path, git: &Git) -> Result<Option<Unfinished>, LookError> {
    let changes = git.run(dir, &["status", "--porcelain", "--no-renames"], LOOK).await?;
    let commits = git.run(dir, &["rev-list", "--count", "HEAD", "--not", "--remotes"], LOOK).await?;
    let branch = git.run(dir, &["rev-parse", "--abbrev-ref", "HEAD"], LOOK).await?;
    // Stashes are the repository's; their words tell which branch each was made on.
    let stashes = git.run(dir, &["stash", "list", "--format=%gs"], LOOK).await?;
    let on = if branch == "HEAD" {
        "on (no branch):".to_owned()
    } else {
        format!("on {}:", branch.to_ascii_lowercase())
    };
    let stashed = stashes.lines().filter(|line| line.to_ascii_lowercase().contains(&on)).count();
    let parts: Vec<String> = [
        (changes.lines().count(), "uncommitted change", "s"),
        (stashed, "stash", "es"),
        (commits.trim().parse().unwrap_or(1), "unpushed commit", "s"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, noun, many)| format!("{count} {noun}{}", if count == 1 { "" } else { many }))
    .collect();
    Ok((!parts.is_empty()).then(|| Unfinished { place, summary: parts.join(", ") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git(dir: &Path, args: &[&str]) {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let done = Command::new("git").args(who).args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[tokio::test]
    async fn what_is_nowhere_else_is_counted_and_what_cannot_be_seen_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let layout = Layout::at(&base).unwrap();
        let rig = RigName::new("a").unwrap();
        let names: Vec<AgentName> = ["old", "nux", "bare"].map(|name| AgentName::new(name).unwrap()).into();
        let ours = Git::new(std::env::vars());
        // The town around the rig is a repository itself: nothing of it may be counted.
        git(&base, &["init", "-q"]);
        std::fs::create_dir_all(base.join("a/refinery/rig")).unwrap();
        std::fs::write(base.join("a/refinery/rig/x"), "").unwrap();
        assert_eq!(look(&layout, &rig, &names, &ours).await.unwrap(), []);

        git(&base, &["init", "-q", "-b", "main", "origin"]);
        let origin = base.join("origin");
        std::fs::write(origin.join("f"), "").unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-qm", "one"]);
        let (nux, old) = (base.join("a/polecats/nux/a"), base.join("a/polecats/old"));
        for clone in [&nux, &old] {
            git(&base, &["clone", "-q", "origin", clone.to_str().unwrap()]);
        }
        assert_eq!(look(&layout, &rig, &names, &ours).await.unwrap(), [], "a clean clone is everywhere");

        std::fs::write(nux.join("f"), "changed").unwrap();
        git(&nux, &["stash", "-q"]);
        std::fs::write(nux.join("g"), "").unwrap();
        std::fs::write(nux.join("h"), "").unwrap();
        git(&old, &["commit", "-q", "--allow-empty", "-m", "two"]);
        std::fs::create_dir_all(base.join("a/polecats/bare/notes")).unwrap();
        let found = look(&layout, &rig, &names, &ours).await.unwrap();
        let words: Vec<String> = found.iter().map(|one| format!("{}: {}", one.place, one.summary)).collect();
        assert_eq!(
            words,
            [
                "polecats/old: 1 unpushed commit",
                "polecats/nux: 2 uncommitted changes, 1 stash",
                "polecats/bare: files that are in no worktree"
            ]
        );
        std::fs::write(old.join(".git/HEAD"), "junk").unwrap();
        assert!(matches!(look(&layout, &rig, &names, &ours).await, Err(LookError::Git(_))));
    }
}
