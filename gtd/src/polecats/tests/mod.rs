//! Worktrees with real git: a town in a temporary directory, a rig with a remote, and what people and agents do there.

mod adding;
mod removing;
mod seeing;
mod undoing;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use gtd_proto::{AgentName, RigName, Timestamp, WorkId};

use super::{Gate, Inspection, NewTree, Removed, Seen, TreeError, Trees};
use crate::town::git::Git;
use crate::town::layout::Layout;

/// Runs git as an agent or a person would.
pub(super) fn git(dir: &Path, args: &[&str]) -> String {
    let (done, said, why) = try_git(dir, args);
    assert!(done, "git {args:?} in {}: {why}", dir.display());
    said
}

pub(super) fn try_git(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"];
    let done = Command::new("git")
        .args(who)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_EDITOR", "true")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

/// A town with one rig.
pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) base: PathBuf,
    pub(super) rig: RigName,
    pub(super) trees: Trees,
}

impl World {
    /// With a rig `a` whose repository has one commit with the files `f` and `dir/g`.
    pub(super) fn new() -> Self {
        Self::named("town", "a")
    }

    /// The same, in a directory of a name and with a rig of a name.
    pub(super) fn named(town: &str, rig: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap().join(town);
        let rig = RigName::new(rig).unwrap();
        std::fs::create_dir_all(base.join(rig.as_str()).join("polecats")).unwrap();
        // The town around it is a repository too: nothing of it may ever be taken for a worker's.
        git(&base, &["init", "-q", "-b", "town"]);
        std::fs::write(base.join("mine"), "a person's").unwrap();
        git(&base, &["add", "mine"]);
        git(&base, &["commit", "-qm", "town"]);
        let origin = dir.path().canonicalize().unwrap().join("origin");
        git(dir.path(), &["init", "-q", "-b", "main", "origin"]);
        std::fs::write(origin.join("f"), "one\n").unwrap();
        std::fs::create_dir(origin.join("dir")).unwrap();
        std::fs::write(origin.join("dir/g"), "two\nthree\nfour\nfive\n").unwrap();
        std::fs::write(origin.join(".gitignore"), "ignored\n").unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-qm", "one"]);
        let home = base.join(rig.as_str());
        git(&home, &["clone", "-q", "--bare", origin.to_str().unwrap(), ".repo.git"]);
        let repo = home.join(".repo.git");
        git(&repo, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]);
        git(&repo, &["fetch", "-q", "origin"]);
        std::fs::remove_file(repo.join("FETCH_HEAD")).unwrap();
        let layout = Arc::new(Layout::at(&base).unwrap());
        Self { _dir: dir, base, rig, trees: Trees::new(layout, std::env::vars()) }
    }

    /// Puts another program in git's place.
    pub(super) fn with_git(mut self, script: &str) -> Self {
        let path = self.base.join("stand-in");
        crate::town::git::executable(&path, &format!("#!/bin/sh\n{script}\n"));
        let env: Vec<(String, String)> = std::env::vars().collect();
        let layout = Arc::new(Layout::at(&self.base).unwrap());
        self.trees = Trees::with_git(layout, Git::with_program(path, env.clone()), env);
        self
    }

    pub(super) fn origin(&self) -> PathBuf {
        self.base.parent().unwrap().join("origin")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.base.join(self.rig.as_str())
    }

    pub(super) fn repo(&self) -> PathBuf {
        self.home().join(".repo.git")
    }

    pub(super) fn planned(&self, name: &str, work: Option<&str>, ms: i64) -> NewTree {
        let work = work.map(|work| WorkId::new(work).unwrap());
        let at = Timestamp::from_millisecond(1_795_000_000_000 + ms).unwrap();
        self.trees.planned(&self.rig, &AgentName::new(name).unwrap(), work.as_ref(), at).unwrap()
    }

    /// A new worker with a worktree.
    pub(super) async fn worker(&self, name: &str) -> NewTree {
        let new = self.planned(name, Some("gt-1"), 0);
        self.trees.add(&new).await.unwrap();
        new
    }

    pub(super) async fn seen(&self, name: &str) -> Seen {
        self.trees.inspect(&self.rig, &AgentName::new(name).unwrap()).await.unwrap()
    }

    pub(super) async fn tree(&self, name: &str) -> Inspection {
        match self.seen(name).await {
            Seen::Tree(tree) => *tree,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(super) async fn remove(&self, name: &str, gate: Gate) -> Result<Removed, TreeError> {
        let at = Timestamp::now();
        self.trees.remove(&self.rig, &AgentName::new(name).unwrap(), gate, at).await
    }

    /// What is kept of a worker, by the ends of the refs.
    pub(super) fn kept(&self, name: &str) -> Vec<(String, String)> {
        let all =
            git(&self.repo(), &["for-each-ref", "--format=%(refname) %(objectname)", "refs/gtd/archive"]);
        let lead = format!("refs/gtd/archive/{name}/");
        all.lines()
            .filter_map(|line| {
                let (end, commit) = line.strip_prefix(&lead)?.split_once(' ')?;
                Some((end.rsplit('/').next()?.to_owned(), commit.to_owned()))
            })
            .collect()
    }

    /// The commit kept under the end of a ref.
    pub(super) fn kept_as(&self, name: &str, end: &str) -> String {
        let all = self.kept(name);
        all.iter().find(|(last, _)| last == end).unwrap_or_else(|| panic!("no {end} in {all:?}")).1.clone()
    }

    /// Every ref, directory, file and record that is there: to be compared.
    pub(super) fn everything(&self) -> String {
        let refs = git(&self.repo(), &["for-each-ref"]);
        let find = Command::new("find")
            .args([".", "-path", "./.git", "-prune", "-o", "-path", "*/objects", "-prune", "-o", "-print"])
            .current_dir(&self.base)
            .output()
            .unwrap();
        let mut files: Vec<String> =
            String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect();
        files.retain(|file| {
            !file.contains("/logs") && !file.contains("/refs/gtd") && !file.ends_with("/worktrees")
        });
        files.sort();
        format!("{refs}\n{}\n{}", files.join("\n"), git(&self.base, &["status", "--porcelain"]))
    }
}

/// Why something was refused, as it is told.
pub(super) fn refusal<T: std::fmt::Debug>(done: Result<T, TreeError>) -> gtd_proto::RpcError {
    done.unwrap_err().into()
}
