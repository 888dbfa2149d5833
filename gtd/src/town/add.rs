//! Adding a rig to a town.
//!
//! All or nothing: until the registry names the rig, everything is removed again when a step fails or
//! nobody waits any more, and what a killed daemon left is recognised by a marker and cleared by the next
//! try. Must never remove what it did not make, nor touch a directory that was there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs2::FileExt;
use gtd_proto::{ErrorKind, PlanStep, RigName};
use serde_json::json;

use super::git::{Git, GitError};
use super::layout::Layout;
use super::{file, prefix, registry, snapshot};

/// What is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The rig's name.
    pub name: RigName,
    /// Where its repository is: a URL, `host:path`, or an absolute path.
    pub source: String,
    /// Prefix of its work items; derived from the name when none.
    pub prefix: Option<String>,
    /// The refinery's branch; the repository's own when none.
    pub default_branch: Option<String>,
}

/// What was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The rig's directory.
    pub path: PathBuf,
    /// Prefix of its work items.
    pub prefix: String,
    /// The refinery's branch.
    pub default_branch: String,
    /// The steps, done or to be done.
    pub steps: Vec<PlanStep>,
}

/// A rig that cannot be added. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The name means something else in a town.
    #[error("the name {0} means a role or a place in every town")]
    Reserved(RigName),
    /// The registry has it.
    #[error("rig {0} is in the registry already")]
    Registered(RigName),
    /// Something is in its place.
    #[error("{} is there already", .0.display())]
    DirectoryExists(PathBuf),
    /// Another call is at it.
    #[error("rig {0} is being added by another call")]
    UnderWay(RigName),
    /// The prefix cannot be used.
    #[error("the prefix {0:?} is not a letter followed by letters, digits and dashes, at most 20 in all")]
    PrefixInvalid(String),
    /// The prefix is another rig's, or the town's.
    #[error("the prefix {prefix} belongs to {holder}")]
    PrefixTaken {
        /// The prefix.
        prefix: String,
        /// Whose it is.
        holder: String,
    },
    /// The source is none.
    #[error("the source {0:?} is neither a URL nor an absolute path")]
    Source(String),
    /// The branch is not there.
    #[error("the repository has no branch {0:?}")]
    Branch(String),
    /// It is not known which rigs there are.
    #[error("it is not known which rigs there are: mayor/rigs.json {0}")]
    RegistryUnknown(String),
    /// The registry cannot be edited.
    #[error(transparent)]
    Registry(#[from] registry::EditError),
    /// The repository cannot be reached, or is none.
    #[error("cannot clone {repository}: {}", git.said())]
    Clone {
        /// Where it should be.
        repository: String,
        /// What git said.
        git: GitError,
    },
    /// A git command failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AddError {
    /// The kind of error that it is on the wire.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reserved(_) | Self::PrefixInvalid(_) => ErrorKind::NameInvalid,
            Self::Registered(_) | Self::DirectoryExists(_) | Self::PrefixTaken { .. } => ErrorKind::NameTaken,
            Self::Registry(registry::EditError::Taken(_)) => ErrorKind::NameTaken,
            Self::UnderWay(_) => ErrorKind::Busy,
            Self::Source(_) | Self::Branch(_) => ErrorKind::InvalidParams,
            Self::RegistryUnknown(_) | Self::Registry(_) => ErrorKind::ConfigInvalid,
            Self::Git(_) | Self::Clone { .. } => ErrorKind::Git,
            Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::Git(git) | Self::Clone { git, .. } if git.why.starts_with("cannot be started") => {
                Some("install git, or put it on the PATH of gtd")
            }
            Self::Clone { git, .. } if git.stderr.contains("No space left") => Some("df -h"),
            // What a person's own git makes of it says more, above all about keys.
            Self::Clone { repository, .. } => {
                return Some(format!("git ls-remote {}", word(repository)));
            }
            Self::Reserved(_) | Self::Registered(_) => Some("choose another name; gtctl rig list"),
            Self::DirectoryExists(_) => Some("choose another name, or move the directory away"),
            Self::PrefixInvalid(_) | Self::PrefixTaken { .. } => Some("name another one with --prefix"),
            Self::Source(_) => Some("such as https://host/x.git, git@host:x.git or /path/to/x"),
            Self::Branch(_) => {
                Some("name another one with --branch; an empty repository needs a commit first")
            }
            Self::RegistryUnknown(_) => Some("restore mayor/rigs.json first"),
            _ => None,
        };
        fixed.map(str::to_owned)
    }
}

/// A word that a shell reads as it was meant.
fn word(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Longest times: a large repository over a slow line; everything else is local or small.
const CLONE: Duration = Duration::from_secs(30 * 60);
const LOCAL: Duration = Duration::from_secs(120);

/// There from the first to the last step, and locked by who does them.
const MARKER: &str = ".gtd-adding";
/// All that is made in a rig's directory.
const MADE: [&str; 6] = [".repo.git", "refinery", "witness", "polecats", "crew", "config.json"];

/// Adds a rig: bare clone, refinery worktree on the default branch, directories, its own file, registry.
/// With `dry_run` only looks, at the remote too. Takes as long as the clone.
///
/// # Errors
/// See [`AddError`]; nothing is left behind then.
pub async fn add(layout: &Layout, request: &Request, git: &Git, dry_run: bool) -> Result<Added, AddError> {
    let rig = &request.name;
    let prefix = check(layout, request)?;
    let path = layout.rig(rig);
    let steps = plan(layout, request, &prefix);
    if dry_run {
        if path.symlink_metadata().is_ok() && !path.join(MARKER).exists() {
            return Err(AddError::DirectoryExists(path));
        }
        let default_branch = remote_branch(layout, request, git).await?;
        return Ok(Added { path, prefix, default_branch, steps });
    }
    let mut place = Place::claim(rig, &path)?;
    let default_branch = clone(layout, request, git).await?;
    finish(layout, request, &prefix, &default_branch)?;
    registry::add(&layout.rigs_json(), rig, &request.source, &prefix, &jiff::Timestamp::now().to_string())?;
    place.keep();
    Ok(Added { path, prefix, default_branch, steps })
}

/// Looks at what can be known without doing anything; gives the prefix.
fn check(layout: &Layout, request: &Request) -> Result<String, AddError> {
    let rig = &request.name;
    if rig.is_reserved() {
        return Err(AddError::Reserved(rig.clone()));
    }
    let source = request.source.as_str();
    if !is_source(source) {
        return Err(AddError::Source(source.to_owned()));
    }
    if let Some(branch) = request.default_branch.as_deref()
        && (branch.is_empty() || branch.starts_with('-') || branch.contains(|c: char| c.is_whitespace()))
    {
        return Err(AddError::Branch(branch.to_owned()));
    }
    let town = snapshot::read_settled(layout, None);
    if !town.rigs_known() {
        return Err(AddError::RegistryUnknown(town.registry.error().unwrap_or_default().to_owned()));
    }
    if town.rigs.contains_key(rig) {
        return Err(AddError::Registered(rig.clone()));
    }
    let holder = |prefix: &str| {
        if prefix.eq_ignore_ascii_case("hq") {
            return Some("the town".to_owned());
        }
        let taken = town.rigs.iter().find(|(_, facts)| facts.prefix.eq_ignore_ascii_case(prefix));
        taken.map(|(rig, _)| format!("rig {rig}"))
    };
    match request.prefix.as_deref() {
        Some(given) => {
            let given = registry::trim_prefix(given);
            if !prefix::is_valid(&given) {
                return Err(AddError::PrefixInvalid(given));
            }
            match holder(&given) {
                Some(holder) => Err(AddError::PrefixTaken { prefix: given, holder }),
                None => Ok(given),
            }
        }
        None => {
            let numbered = (2..100).map(|number| format!("{}{number}", prefix::derived(rig)));
            prefix::candidates(rig).chain(numbered).find(|prefix| holder(prefix).is_none()).ok_or_else(|| {
                AddError::PrefixTaken { prefix: prefix::derived(rig), holder: "another rig".to_owned() }
            })
        }
    }
}

/// Whether a text names a repository: nothing relative, no option, and none of the forms with which git
/// runs a program of the caller's choice.
fn is_source(source: &str) -> bool {
    if source.is_empty() || source.starts_with('-') || source.chars().any(char::is_control) {
        return false;
    }
    if source.starts_with('/') {
        return true;
    }
    match source.split_once(':') {
        Some((before, after)) => {
            let url = matches!(before, "https" | "http" | "ssh" | "git" | "file") && after.starts_with("//");
            let scp = !before.is_empty() && !before.contains('/') && !after.starts_with([':', '/']);
            let scp_absolute =
                before.contains(['@', '.']) && after.starts_with('/') && !after.starts_with("//");
            url || ((scp || scp_absolute) && !after.is_empty())
        }
        None => false,
    }
}

fn plan(layout: &Layout, request: &Request, prefix: &str) -> Vec<PlanStep> {
    let rig = &request.name;
    let step = |action: &str, target: PathBuf, why: String| PlanStep {
        action: action.to_owned(),
        target: target.display().to_string(),
        why,
    };
    let mut steps = vec![
        step("clone", layout.repo(rig), format!("bare clone of {}", request.source)),
        step("add worktree", layout.rig(rig).join("refinery/rig"), "where the refinery merges".to_owned()),
    ];
    for dir in ["witness", "polecats", "crew"] {
        steps.push(step("make directory", layout.rig(rig).join(dir), format!("of the rig's {dir}")));
    }
    steps.push(step("write", layout.rig_config(rig), "what the rig was made from".to_owned()));
    steps.push(step("edit", layout.rigs_json(), format!("register {rig} with the prefix {prefix}")));
    steps
}

/// The branch that would be used, as the remote says.
async fn remote_branch(layout: &Layout, request: &Request, git: &Git) -> Result<String, AddError> {
    let root = layout.root();
    let source = request.source.as_str();
    let unreadable = |git| AddError::Clone { repository: request.source.clone(), git };
    if let Some(branch) = &request.default_branch {
        let name = format!("refs/heads/{branch}");
        let found = git.run(root, &["ls-remote", "--", source, &name], LOCAL).await.map_err(unreadable)?;
        return if found.is_empty() { Err(AddError::Branch(branch.clone())) } else { Ok(branch.clone()) };
    }
    let heads =
        git.run(root, &["ls-remote", "--symref", "--", source, "HEAD"], LOCAL).await.map_err(unreadable)?;
    heads
        .lines()
        .find_map(|line| {
            line.strip_prefix("ref: refs/heads/")?.split_once('\t').map(|(name, _)| name.to_owned())
        })
        .ok_or_else(|| AddError::Branch("HEAD".to_owned()))
}

/// Makes the bare clone and the refinery's worktree; gives the branch.
async fn clone(layout: &Layout, request: &Request, git: &Git) -> Result<String, AddError> {
    let (path, repo) = (layout.rig(&request.name), layout.repo(&request.name));
    let source = request.source.as_str();
    git.run(&path, &["clone", "--quiet", "--bare", "--", source, ".repo.git"], CLONE)
        .await
        .map_err(|git| AddError::Clone { repository: request.source.clone(), git })?;
    let fetch = ["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"];
    git.run(&repo, &fetch, LOCAL).await?;
    git.run(&repo, &["fetch", "--quiet", "origin"], CLONE).await?;
    let branch = match &request.default_branch {
        Some(branch) => branch.clone(),
        None => git.run(&repo, &["symbolic-ref", "--short", "HEAD"], LOCAL).await?,
    };
    let reference = format!("refs/heads/{branch}");
    let commit = format!("{reference}^{{commit}}");
    if git.run(&repo, &["rev-parse", "--quiet", "--verify", &commit], LOCAL).await.is_err() {
        return Err(AddError::Branch(branch));
    }
    git.run(&repo, &["symbolic-ref", "HEAD", &reference], LOCAL).await?;
    let upstream = format!("branch.{branch}");
    git.run(&repo, &["config", &format!("{upstream}.remote"), "origin"], LOCAL).await?;
    git.run(&repo, &["config", &format!("{upstream}.merge"), &reference], LOCAL).await?;
    let worktree = path.join("refinery/rig");
    let worktree = worktree.to_string_lossy();
    git.run(&repo, &["worktree", "add", "--quiet", "--", &worktree, &branch], LOCAL).await?;
    Ok(branch)
}

/// Makes the directories and the rig's own file.
fn finish(layout: &Layout, request: &Request, prefix: &str, branch: &str) -> Result<(), AddError> {
    let path = layout.rig(&request.name);
    for dir in ["witness", "polecats", "crew"] {
        let dir = path.join(dir);
        fs::create_dir(&dir).map_err(|source| AddError::Io { what: "cannot make", path: dir, source })?;
    }
    let config = json!({
        "type": "rig",
        "version": 1,
        "name": request.name,
        "git_url": request.source,
        "default_branch": branch,
        "created_at": jiff::Timestamp::now().to_string(),
        "beads": { "prefix": prefix },
    });
    let target = layout.rig_config(&request.name);
    file::replace(&target, &file::pretty(&config), 0o644).map_err(|source| AddError::Io {
        what: "cannot write",
        path: target,
        source,
    })
}

/// A rig's directory while the rig is made: removed on drop, unless kept.
struct Place {
    path: PathBuf,
    /// Device and inode, so that only the directory that was made is cleared.
    id: (u64, u64),
    /// Locked as long as the work goes on.
    marker: fs::File,
    kept: bool,
}

impl Place {
    /// Makes the directory, or takes over one that a killed call left.
    fn claim(rig: &RigName, path: &Path) -> Result<Self, AddError> {
        let io = |what: &'static str| {
            let path = path.to_owned();
            move |source| AddError::Io { what, path, source }
        };
        let fresh = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let marked = fs::symlink_metadata(path.join(MARKER)).is_ok_and(|meta| meta.is_file());
                if !marked || !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
                    return Err(AddError::DirectoryExists(path.to_owned()));
                }
                false
            }
            Err(error) => return Err(io("cannot make")(error)),
        };
        let marker = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(MARKER))
            .map_err(io("cannot mark"))?;
        if marker.try_lock_exclusive().is_err() {
            return Err(AddError::UnderWay(rig.clone()));
        }
        let meta = fs::metadata(path).map_err(io("cannot look at"))?;
        let place = Self { path: path.to_owned(), id: (meta.dev(), meta.ino()), marker, kept: false };
        if !fresh {
            place.clear().map_err(io("cannot clear what an earlier call left in"))?;
        }
        Ok(place)
    }

    /// The rig is registered: the directory stays.
    fn keep(&mut self) {
        self.kept = true;
        let _ = fs::remove_file(self.path.join(MARKER));
    }

    /// Removes what a call makes, and nothing else.
    fn clear(&self) -> io::Result<()> {
        for name in MADE {
            let path = self.path.join(name);
            let removed = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let same = fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id);
        if self.kept || !same {
            return;
        }
        // A git that was killed a moment ago may still write: a few tries, then the marker stays and the
        // next call clears.
        for _ in 0..10 {
            if self.clear().is_ok() {
                let _ = fs::remove_file(self.path.join(MARKER));
                let _ = fs::remove_dir(&self.path);
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = FileExt::unlock(&self.marker);
    }
}

#[cfg(test)]
#[path = "add_tests.rs"]
mod tests;
