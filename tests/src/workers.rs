//! Workers of a throwaway town: a worktree each, made with the real git, and work for them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::run;
use crate::town::Town;
use crate::wait::{CHANGE, wait_for};

impl Town {
    /// Makes workers of a rig, each with a worktree on a branch of its own, and waits until the daemon knows them
    /// where there is one.
    ///
    /// # Panics
    /// When git fails.
    #[track_caller]
    pub fn make_workers(&self, rig: &str, names: &[&str]) {
        let source = self.path(rig).join(".repo");
        if !source.exists() {
            std::fs::create_dir_all(&source).expect("make a directory");
            self.git(&source, &["init", "-q", "-b", "main"]);
            std::fs::write(source.join("README.md"), "a repository\n").expect("write a file");
            self.git(&source, &["add", "."]);
            self.git(&source, &["commit", "-q", "-m", "first"]);
        }
        for name in names {
            let tree = self.worktree(rig, name);
            std::fs::create_dir_all(tree.parent().expect("a worktree is in a directory"))
                .expect("make a directory");
            let branch = format!("polecat/{name}/t");
            self.git(&source, &["worktree", "add", "-q", "-b", &branch, &tree.display().to_string()]);
        }
        if self.daemon().is_some() {
            for name in names {
                self.wait_agent(&format!("{rig}/polecats/{name}"), CHANGE, "known", |_| true);
            }
        }
    }

    /// A worker's worktree.
    pub fn worktree(&self, rig: &str, name: &str) -> PathBuf {
        self.path(&format!("{rig}/polecats/{name}/{rig}"))
    }

    /// Runs git in a directory.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn git(&self, dir: &std::path::Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home());
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).current_dir(dir);
        run(command, Duration::from_secs(30)).ok().out
    }

    /// Makes a work item of a rig.
    #[track_caller]
    pub fn make_work(&self, rig: &str, title: &str) -> String {
        let made = self.call("work.create", json!({"title": title, "rig": rig}));
        made["id"].as_str().unwrap_or_default().to_owned()
    }

    /// Starts a worker with work and waits until it is ready.
    #[track_caller]
    pub fn start_worker(&self, address: &str, work: &str) -> Value {
        self.call("polecat.start", json!({"agent": address, "work": work}))
    }

    /// Waits until an event of a kind about an agent fits.
    #[track_caller]
    pub fn wait_event_that(
        &self,
        since: u64,
        kind: &str,
        agent: &str,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_for(CHANGE, &format!("event {kind} {agent} {what}"), || {
            let mut events = self.events(since).into_iter();
            events.find(|event| event["kind"] == kind && event["agent"] == agent && fits(event))
        })
    }
}
