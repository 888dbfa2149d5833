//! What a rig puts into each new worktree: files laid over it, and programs of its own that are run there.
//!
//! Must never change a file that git tracks, nor fail a worktree for what a program of the rig's does.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::add::NewTree;
use super::error::{TreeError, io_error};
use super::look::{self, Kind};
use super::trees::{Repo, Trees};
use crate::host::files::write_atomic;
use crate::host::leash::Leashed;

/// Longest time of one of a rig's programs: such as the installation of what a project depends on.
const HOOK: Duration = Duration::from_secs(300);
/// Most of the words of a failed one that are kept.
const WORDS: u64 = 4 << 10;
/// Most files that are laid over a worktree, and programs that are run.
const MOST: usize = 100;

/// Variables that a rig's programs get of ours; nothing of an agent, and no keys.
const KEPT: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME"];

/// What tools of ours leave in worktrees, and is nobody's work.
const EXCLUDED: [&str; 2] = [".runtime/", ".logs/"];

impl Trees {
    /// Says to git what of a worktree is nobody's work: in the repository, not in a file of the project's.
    pub(super) fn exclude(&self, repo: &Repo) -> Result<(), TreeError> {
        let names = plain_files(&repo.home.join(".runtime/overlay"))?;
        let mut wanted: Vec<String> = EXCLUDED.map(str::to_owned).to_vec();
        wanted.extend(names.iter().filter_map(|path| path.file_name()?.to_str().and_then(pattern)));
        let path = repo.dir.join("info/exclude");
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("cannot read", &path)(error)),
        };
        let has = |line: &str| text.split(|byte| *byte == b'\n').any(|other| other == line.as_bytes());
        let missing: Vec<String> = wanted.into_iter().filter(|line| !has(line)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut text = text.clone();
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        for line in missing {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let info = repo.dir.join("info");
        match fs::create_dir(&info) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("cannot make", &info)(error));
            }
            _ => {}
        }
        write_atomic(&path, &text, 0o644).map_err(io_error("cannot write", &path))
    }

    /// Copies the rig's files into a new worktree, where it has none of that name.
    pub(super) async fn overlay(
        &self,
        repo: &Repo,
        new: &NewTree,
        notes: &mut Vec<String>,
    ) -> Result<(), TreeError> {
        for file in plain_files(&repo.home.join(".runtime/overlay"))? {
            let Some(name) = file.file_name() else { continue };
            let target = new.path.join(name);
            if look::kind(&target)? != Kind::Absent || name == ".git" {
                notes.push(format!(
                    "{} of the overlay was left out: the repository has it",
                    name.to_string_lossy()
                ));
                continue;
            }
            fs::copy(&file, &target).map_err(io_error("cannot write", &target))?;
        }
        self.step("laid over")
    }

    /// Runs the rig's own programs in a new worktree, in the order of their names. What goes wrong is a note.
    pub(super) async fn set_up(&self, repo: &Repo, new: &NewTree, notes: &mut Vec<String>) {
        let files = match plain_files(&repo.home.join(".runtime/setup-hooks")) {
            Ok(files) => files,
            Err(error) => {
                notes.push(error.to_string());
                return;
            }
        };
        for file in files {
            let executable = fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
            if !executable {
                continue;
            }
            if let Err(why) = self.hook(&file, repo, new, HOOK).await {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                tracing::warn!(rig = %new.rig, polecat = %new.name, program = %file.display(), %why, "set-up failed");
                notes.push(format!("the set-up program {name} {why}"));
            }
        }
    }

    pub(super) async fn hook(
        &self,
        file: &Path,
        repo: &Repo,
        new: &NewTree,
        deadline: Duration,
    ) -> Result<(), String> {
        let mut command = Command::new(file);
        command
            .current_dir(&new.path)
            .env_clear()
            .envs(self.env.iter().filter(|(key, _)| KEPT.contains(&key.as_str())).cloned())
            .env("GT_WORKTREE_PATH", &new.path)
            .env("GT_RIG_PATH", &repo.home)
            .env("GT_RIG", new.rig.as_str())
            .env("GT_POLECAT", new.name.as_str())
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut group =
            Leashed::spawn(&mut command).map_err(|error| format!("cannot be started: {error}"))?;
        let stderr = group.0.stderr.take();
        let said = tokio::spawn(async move {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(WORDS).read_to_end(&mut kept).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            kept
        });
        let in_time = group.ended_by(tokio::time::Instant::now() + deadline).await;
        // Nothing that it started is left behind.
        let status = group.end().await.map_err(|error| format!("cannot be waited for: {error}"))?;
        let said = tokio::time::timeout(Duration::from_secs(1), said).await;
        let said = String::from_utf8_lossy(&said.ok().and_then(Result::ok).unwrap_or_default()).into_owned();
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        match (in_time, status.success()) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("failed, {status}: {last}")),
            (false, _) => Err(format!("was not done within {}", humantime::format_duration(deadline))),
        }
    }
}

/// Whether the rig has programs of its own.
pub(super) fn is_any(repo: &Repo) -> Result<bool, TreeError> {
    Ok(!plain_files(&repo.home.join(".runtime/setup-hooks"))?.is_empty())
}

/// The plain files right below a directory, in the order of their names; none where it is not there.
fn plain_files(dir: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("cannot list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("cannot list", dir))?.path();
        if look::kind(&path)? == Kind::File {
            found.push(path);
        }
    }
    found.sort();
    found.truncate(MOST);
    Ok(found)
}

/// The line with which git leaves a file at the top of a worktree alone; none for a name that no line can say.
fn pattern(name: &str) -> Option<String> {
    if name.contains('\n') || name.ends_with(' ') {
        return None;
    }
    let mut line = "/".to_owned();
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    Some(line)
}
