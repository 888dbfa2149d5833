//! Repositories of rigs: a remote, and the bare clone that worktrees are made of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::programs;
use crate::run::{Output, run};
use crate::town::Town;

impl Town {
    /// Runs git in a directory, as a person.
    #[track_caller]
    pub fn run_git(&self, dir: &Path, args: &[&str]) -> Output {
        let mut command = programs::bare("git", &self.home());
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]);
        command.args(args).current_dir(dir);
        run(command, Duration::from_secs(120))
    }

    /// A rig's remote.
    pub fn origin(&self, rig: &str) -> PathBuf {
        self.base().join(format!("origin-{rig}"))
    }

    /// Gives a rig a repository with so many files, cloned from a remote of its own.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn make_repo(&self, rig: &str, files: usize) {
        let origin = self.origin(rig);
        std::fs::create_dir_all(&origin).expect("make a directory");
        self.run_git(&origin, &["init", "-q", "-b", "main"]).ok();
        for number in 0..files {
            let dir = origin.join(format!("d{}", number / 50));
            std::fs::create_dir_all(&dir).expect("make a directory");
            let text = format!("file {number}\n{}", "some line of it\n".repeat(40));
            std::fs::write(dir.join(format!("f{number}.txt")), text).expect("write a file");
        }
        self.run_git(&origin, &["add", "."]).ok();
        self.run_git(&origin, &["commit", "-q", "--allow-empty", "-m", "one"]).ok();
        let bare = self.path(rig).join(".repo.git");
        let (from, to) = (origin.display().to_string(), bare.display().to_string());
        self.run_git(&self.home(), &["clone", "-q", "--bare", &from, &to]).ok();
        self.run_git(&bare, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]).ok();
        self.run_git(&bare, &["fetch", "-q", "origin"]).ok();
        self.replace(
            &format!("{rig}/config.json"),
            &json!({"type": "rig", "default_branch": "main"}).to_string(),
        );
    }

    /// Everything of a rig's workers that a spawn could leave behind, sorted: directories, branches and worktrees
    /// that git knows, rows, hooks, sessions, archives.
    #[track_caller]
    pub fn traces(&self, rig: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.path(rig).join("polecats")).into_iter().flatten().flatten() {
            found.push(format!("directory {}", entry.file_name().to_string_lossy()));
        }
        let bare = self.path(rig).join(".repo.git");
        let refs = self.run_git(&bare, &["for-each-ref", "--format=%(refname)"]).ok().out;
        let ours = |name: &&str| name.starts_with("refs/heads/polecat/") || name.starts_with("refs/gtd/");
        found.extend(refs.lines().filter(ours).map(|name| format!("ref {name}")));
        for entry in std::fs::read_dir(bare.join("worktrees")).into_iter().flatten().flatten() {
            found.push(format!("worktree {}", entry.file_name().to_string_lossy()));
        }
        // A store that does not answer says nothing.
        let hooked = self.try_call("work.list", json!({"status": "hooked"})).unwrap_or_default();
        for item in hooked["items"].as_array().into_iter().flatten() {
            found.push(format!("hook {} {}", item["assignee"], item["id"]));
        }
        let worker = |agent: &Value| agent["role"] == "polecat" && agent["rig"] == rig;
        found.extend(
            self.agents()
                .iter()
                .filter(|agent| worker(agent))
                .map(|agent| format!("agent {}", agent["agent"])),
        );
        let sessions =
            self.tmux().sessions().into_iter().filter(|name| name.starts_with(&format!("gt-{rig}-")));
        let standing = |name: &String| name.ends_with("-witness") || name.ends_with("-refinery");
        found.extend(sessions.filter(|name| !standing(name)).map(|name| format!("session {name}")));
        found.sort();
        found
    }
}
