//! What the demo plays on: a directory with two repositories, a script as agent, and a town.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gtd_proto::TownId;
use serde_json::json;
use tokio::time::Instant;

use crate::daemon::identity::Identity;
use crate::daemon::{sibling, start};
use crate::failure::Failure;

/// The rigs.
pub const RIGS: [&str; 2] = ["alpha", "beta"];

/// What there is to do.
pub const WORK: [&str; 3] = ["Fix the parser", "Write the tests", "Tidy the readme"];

/// The daemon's configuration for mass deaths: nobody wants to watch a demo wait for the usual ten seconds.
pub const BREAKER: &str = r#"[mass_death] hold = "2s", canary = "500ms""#;

/// The same as a file, without a deacon: a rig's agents are enough to watch.
const SETTINGS: &str = "[deacon]\nmode = \"off\"\n[mass_death]\nhold = \"2s\"\ncanary = \"500ms\"\n";

/// Each program that the demo runs to its end.
const PROGRAM: Duration = Duration::from_secs(10);

/// How long a daemon whose lock is free may take until it is gone with all its threads.
const REAP: Duration = Duration::from_secs(2);

/// The agent: says hello, then waits for input without a process of its own to wait in.
const AGENT: &str = r#"#!/bin/sh
echo "I am ${GT_ROLE:-an agent} of ${GT_RIG:-a town}, process $$."
echo "I answer what is typed here; otherwise I cost nothing."
while IFS= read -r line; do
    echo "you said: $line"
done
echo "my input ended"
"#;

/// Directory, processes and ids of one demo.
pub struct Stage {
    /// Everything is below it.
    pub home: PathBuf,
    /// The town.
    pub root: PathBuf,
    /// The town's id, as its daemon said.
    pub town_id: Option<TownId>,
    /// Its daemon answered once.
    pub was_up: bool,
    /// Daemons that we started.
    pub children: Vec<Child>,
    /// Processes that were seen at work: agents, shims, tmux servers.
    pub seen: Vec<Identity>,
    /// Sockets of its tmux servers.
    pub sockets: Vec<PathBuf>,
}

impl Stage {
    /// An empty directory in the system's place for temporary ones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new()
            .prefix("gtd-demo-")
            .tempdir()
            .map_err(|e| Failure::failed(format!("cannot make a directory for the demo: {e}")))?;
        // It is removed in the end only if nothing went wrong.
        let home = dir.keep();
        let home = home.canonicalize().unwrap_or(home);
        let root = home.join("town");
        Ok(Self {
            home,
            root,
            town_id: None,
            was_up: false,
            children: Vec::new(),
            seen: Vec::new(),
            sockets: Vec::new(),
        })
    }

    /// Where the repository of a rig is.
    #[must_use]
    pub fn repository(&self, rig: &str) -> PathBuf {
        self.home.join("repositories").join(rig)
    }

    /// Whether the town was made.
    #[must_use]
    pub fn is_town(&self) -> bool {
        self.root.join("mayor/town.json").is_file()
    }

    /// Makes repositories, town, script and settings.
    ///
    /// # Errors
    /// When git or gtd is missing or fails.
    pub async fn build(&self) -> Result<(), Failure> {
        for rig in RIGS {
            self.make_repository(rig).await?;
        }
        let mut init = Command::new(sibling::gtd()?);
        init.arg("--town").arg(&self.root).args(["--init", "--name", "demo"]);
        run("gtd --init", init).await?;
        let agent = self.home.join("agent.sh");
        write(&agent, AGENT)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))
            .map_err(|e| cannot("make executable", &agent, &e))?;
        let settings = json!({
            "type": "town-settings", "version": 1, "default_agent": "demo",
            "agents": { "demo": { "provider": "script", "command": agent, "args": [], "env": {} } },
        });
        write(&self.root.join("settings/gtd.toml"), SETTINGS)?;
        write(&self.root.join("settings/config.json"), &format!("{settings:#}\n"))
    }

    async fn make_repository(&self, rig: &str) -> Result<(), Failure> {
        let dir = self.repository(rig);
        write(&dir.join("README"), &format!("A repository of the demo, for rig {rig}.\n"))?;
        let steps: [&[&str]; 3] = [
            &["init", "--quiet", "--initial-branch=main"],
            &["add", "README"],
            &["commit", "--quiet", "--message=First"],
        ];
        for args in steps {
            let mut git = Command::new("git");
            git.arg("-C").arg(&dir).args(args);
            // The user's configuration could ask for hooks, signatures or an editor.
            git.env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_TERMINAL_PROMPT", "0");
            for who in ["AUTHOR", "COMMITTER"] {
                git.env(format!("GIT_{who}_NAME"), "demo")
                    .env(format!("GIT_{who}_EMAIL"), "demo@example.org");
            }
            for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
                git.env_remove(name);
            }
            run("git", git).await?;
        }
        Ok(())
    }

    /// Whether a daemon that we started lives, or may.
    pub fn has_daemon(&mut self) -> bool {
        self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(Some(_))))
    }

    /// The last resort: they are children of ours that were not waited for, so their pids are theirs still.
    pub fn kill_daemons(&mut self) {
        for child in &mut self.children {
            // One that has ended already needs no signal.
            let _ = child.kill();
        }
    }

    /// Waits for the daemons that we started and that are about to end, so that they do not stay as zombies. What
    /// does not end within the time remains for the census.
    pub async fn reap(&mut self) {
        let deadline = Instant::now() + REAP;
        loop {
            self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            if self.children.is_empty() || Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|e| cannot("make", parent, &e))?;
    fs::write(path, text).map_err(|e| cannot("write", path, &e))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}: {error}", path.display()))
}

/// Runs a program to its end, in a group of its own that is killed when it takes too long.
async fn run(name: &str, mut command: Command) -> Result<(), Failure> {
    start::scrub(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let child = command.spawn().map_err(|e| {
        Failure::failed(format!("cannot run {name}: {e}"))
            .hint(format!("install {}", name.split(' ').next().unwrap_or(name)))
    })?;
    let group = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    match tokio::time::timeout(PROGRAM, child.wait_with_output()).await {
        Ok(Ok(done)) if done.status.success() => Ok(()),
        Ok(Ok(done)) => {
            let said =
                format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            Err(Failure::failed(format!("{name} failed: {}", done.status)).with("stderr", said))
        }
        Ok(Err(error)) => Err(Failure::failed(format!("cannot wait for {name}: {error}"))),
        Err(_) => {
            // Its leader was not waited for, so the group's number still belongs to it.
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            Err(Failure::timeout(format!("{name} did not end within {}s", PROGRAM.as_secs())))
        }
    }
}
