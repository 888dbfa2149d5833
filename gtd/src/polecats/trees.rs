//! The repositories of rigs: where they are, how git is run on them, and one at a time.
//!
//! git never looks for a repository here: each call is told which it is, so that a broken worktree cannot be taken
//! for the one around it. What changes a repository holds its turn, because two additions at once contend for the
//! same files of git.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::{AgentName, RigName, Timestamp};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::error::{TreeError, io_error};
use super::look;
use crate::town::git::{Git, GitError};
use crate::town::layout::Layout;
use crate::town::rigs;

/// A local command on a small part of a repository; a cold disk may take a while.
pub(super) const LOCAL: Duration = Duration::from_secs(30);
/// A command that reads or writes a whole tree.
pub(super) const WHOLE: Duration = Duration::from_secs(300);
/// How long others may be at a repository before this is given up.
const TURN: Duration = Duration::from_secs(600);
/// A fetch before a new worktree is a courtesy: work begins on what is known when the line is slow.
const FETCH: Duration = Duration::from_secs(10);
/// For how long a fetch counts, by whether it came through: several workers are often made at once.
const FETCHED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// The worktrees of a town's workers. One for the daemon: it knows who is at which repository.
#[derive(Debug)]
pub struct Trees {
    pub(super) layout: Arc<Layout>,
    pub(super) env: Vec<(String, String)>,
    git: Git,
    shared: Mutex<HashMap<PathBuf, Arc<Shared>>>,
    /// Where a test lets it end.
    #[cfg(test)]
    pub(super) end_at: Mutex<Option<&'static str>>,
}

/// What all operations on one repository share.
#[derive(Debug, Default)]
struct Shared {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When it was fetched last, and whether that came through. Held while it is fetched.
    fetched: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

/// One rig's repository.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    pub(super) rig: RigName,
    /// The rig's directory, with links resolved: git writes its paths so.
    pub(super) home: PathBuf,
    /// What all worktrees have in common, with links resolved.
    pub(super) dir: PathBuf,
    /// The branch that workers begin on and are merged into.
    pub(super) branch: String,
    /// Runs git on the repository itself.
    pub(super) git: Git,
    shared: Arc<Shared>,
}

impl Trees {
    /// The worktrees of a town. `ours` is our own environment, of which git and the rigs' own set-up programs get
    /// a part.
    #[must_use]
    pub fn new(layout: Arc<Layout>, ours: impl IntoIterator<Item = (String, String)>) -> Self {
        let env: Vec<(String, String)> = ours.into_iter().collect();
        let git = Git::new(env.clone());
        Self::with_git(layout, git, env)
    }

    /// The same with another program in git's place.
    #[must_use]
    pub fn with_git(layout: Arc<Layout>, git: Git, env: Vec<(String, String)>) -> Self {
        // An agent may configure its repository: nothing of that is run for what we look at and keep. And what is
        // kept is on the disk before anything is removed.
        let fixed = [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.fsync", "all"),
            ("core.quotePath", "true"),
            ("advice.detachedHead", "false"),
        ];
        let mut git = git.with("GIT_CONFIG_COUNT", fixed.len().to_string());
        for (number, (key, value)) in fixed.into_iter().enumerate() {
            git = git
                .with(&format!("GIT_CONFIG_KEY_{number}"), key)
                .with(&format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        for (key, value) in [
            ("GIT_AUTHOR_NAME", "gtd"),
            ("GIT_AUTHOR_EMAIL", "gtd@localhost"),
            ("GIT_COMMITTER_NAME", "gtd"),
            ("GIT_COMMITTER_EMAIL", "gtd@localhost"),
        ] {
            git = git.with(key, value);
        }
        Self {
            layout,
            env,
            git,
            shared: Mutex::default(),
            #[cfg(test)]
            end_at: Mutex::default(),
        }
    }

    /// The repository of a rig: the bare one, else the mayor's clone.
    pub(super) async fn repo(&self, rig: &RigName) -> Result<Repo, TreeError> {
        let home = self.layout.rig(rig);
        let home = home.canonicalize().map_err(io_error("cannot resolve", &home))?;
        let none = || TreeError::NoRepository { rig: rig.clone() };
        let dir = match look::kind(&home.join(".repo.git"))? {
            look::Kind::Absent => {
                let clone = home.join("mayor/rig");
                match look::kind(&clone.join(".git"))? {
                    look::Kind::Absent => return Err(none()),
                    look::Kind::File => {
                        let admin = look::pointed_at(&clone).map_err(|_| none())?;
                        look::common_of(&admin)
                    }
                    _ => clone.join(".git"),
                }
            }
            _ => home.join(".repo.git"),
        };
        let dir = dir.canonicalize().map_err(io_error("cannot resolve", &dir))?;
        let git = self.git.with("GIT_DIR", &dir);
        let shared = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(shared.entry(dir.clone()).or_default())
        };
        let mut repo = Repo { rig: rig.clone(), home, dir, branch: String::new(), git, shared };
        repo.branch = self.default_branch(&repo).await?;
        Ok(repo)
    }

    /// The rig's own file says it, else the repository.
    async fn default_branch(&self, repo: &Repo) -> Result<String, TreeError> {
        let file = self.layout.rig_config(&repo.rig);
        let config = rigs::read_config(&file).map_err(|why| TreeError::Io {
            what: "cannot use",
            path: file,
            source: std::io::Error::other(why),
        })?;
        if let Some(branch) = config.default_branch {
            return Ok(branch);
        }
        // A clone's own HEAD is whatever its owner looks at.
        for (name, lead) in [("refs/remotes/origin/HEAD", "refs/remotes/origin/"), ("HEAD", "refs/heads/")] {
            let found = repo.run(&["symbolic-ref", "--quiet", name]).await;
            if let Some(branch) = found.ok().as_deref().and_then(|name| name.strip_prefix(lead)) {
                return Ok(branch.to_owned());
            }
        }
        Ok("main".to_owned())
    }

    /// Ends here when a test wants it.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests look at it"))]
    pub(super) fn step(&self, name: &'static str) -> Result<(), TreeError> {
        #[cfg(test)]
        if *self.end_at.lock().unwrap() == Some(name) {
            return Err(TreeError::Ended(name));
        }
        tracing::trace!(step = name, "worktree");
        Ok(())
    }
}

impl Repo {
    /// Runs git on the repository, for something small.
    pub(super) async fn run(&self, args: &[&str]) -> Result<String, GitError> {
        self.git.run(&self.dir, args, LOCAL).await
    }

    /// git for one of the worktrees, which is at `path` and of which git keeps `admin`.
    pub(super) fn git_in(&self, admin: &Path, path: &Path) -> Git {
        self.git.with("GIT_DIR", admin).with("GIT_WORK_TREE", path)
    }

    /// Waits until nobody else changes the repository.
    pub(super) async fn turn(&self) -> Result<OwnedMutexGuard<()>, TreeError> {
        let turn = Arc::clone(&self.shared.turn).lock_owned();
        tokio::time::timeout(TURN, turn).await.map_err(|_| TreeError::Busy(self.rig.clone()))
    }

    /// A worker's directory.
    pub(super) fn place(&self, name: &AgentName) -> PathBuf {
        self.home.join("polecats").join(name.as_str())
    }

    /// Brings the remote's default branch up to date, where that is quick. Tells what went wrong, for people.
    pub(super) async fn freshen(&self) -> Option<String> {
        let mut fetched = self.shared.fetched.lock().await;
        if let Some((at, well)) = *fetched {
            let counts = if well { FETCHED.0 } else { FETCHED.1 };
            if at.elapsed() < counts {
                return None;
            }
        }
        if !self.run(&["remote"]).await.ok()?.lines().any(|remote| remote == "origin") {
            return None;
        }
        let branch = &self.branch;
        let what = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
        let args = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "origin",
            &what,
        ];
        let done = self.git.run(&self.dir, &args, FETCH).await;
        *fetched = Some((Instant::now(), done.is_ok()));
        done.err().map(|error| format!("origin was not asked: {}", error.said()))
    }

    /// The commits that some refs point to, by the names of the refs; those that are not there are left out.
    pub(super) async fn tips(&self, names: &[&str]) -> Result<HashMap<String, String>, GitError> {
        let mut args = vec!["for-each-ref", "--format=%(refname) %(objectname)"];
        args.extend(names);
        let found = self.run(&args).await?;
        // A name also matches what is below it.
        let pairs = found.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs
            .filter(|(name, _)| names.contains(name))
            .map(|(name, commit)| (name.to_owned(), commit.to_owned()))
            .collect())
    }

    /// The ref that workers begin on and are merged into, with its commit: the remote's, else the local branch.
    pub(super) async fn base(&self) -> Result<(String, String), TreeError> {
        let (remote, local) =
            (format!("refs/remotes/origin/{}", self.branch), format!("refs/heads/{}", self.branch));
        let mut tips = self.tips(&[&remote, &local]).await?;
        for name in [remote, local] {
            if let Some(commit) = tips.remove(&name) {
                return Ok((name, commit));
            }
        }
        Err(TreeError::NoBase { rig: self.rig.clone(), branch: self.branch.clone() })
    }
}

/// Milliseconds since 1970, in digits and letters: short, and in the order of time as long as they are equally long.
pub(super) fn base36(at: Timestamp) -> String {
    let mut rest = u64::try_from(at.as_millisecond()).unwrap_or(0);
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(rest % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_in_order() {
        let at = |ms| base36(Timestamp::from_millisecond(ms).unwrap());
        assert_eq!((at(0), at(35), at(36)), ("0".into(), "z".into(), "10".into()));
        assert!(at(1_795_000_000_000) < at(1_795_000_000_001));
    }
}
