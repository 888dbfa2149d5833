//! What lies in a worker's place, read from the files themselves: directories, links, and what git keeps of a
//! worktree on either side.
//!
//! Only looks, and never follows a symbolic link that stands in the place of a worker. What cannot be looked at is an
//! error, never nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gtd_proto::AgentName;

use super::error::{TreeError, io_error};
use super::trees::Repo;

/// Longest of git's small files that is read.
const SMALL: u64 = 64 << 10;

/// Names in a worker's directory that are nobody's work: what tools leave there, and our own.
const OWN: [&str; 4] = [".runtime", ".claude", ".logs", super::add::MARKER];

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Absent,
    Directory,
    File,
    Link,
    Other,
}

/// What is at a path; a link is not followed.
pub(super) fn kind(path: &Path) -> Result<Kind, TreeError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(Kind::Directory),
        Ok(meta) if meta.is_file() => Ok(Kind::File),
        Ok(meta) if meta.is_symlink() => Ok(Kind::Link),
        Ok(_) => Ok(Kind::Other),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Kind::Absent)
        }
        Err(source) => Err(io_error("cannot look at", path)(source)),
    }
}

/// A directory, or nothing. Anything else is left alone.
fn directory(path: &Path) -> Result<bool, TreeError> {
    match kind(path)? {
        Kind::Absent => Ok(false),
        Kind::Directory => Ok(true),
        Kind::Link => Err(TreeError::Link(path.to_owned())),
        Kind::File | Kind::Other => Err(TreeError::NoDirectory(path.to_owned())),
    }
}

/// What git keeps of a worktree, beside the worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admin {
    /// Its directory, below `worktrees` of the repository.
    pub(super) dir: PathBuf,
    /// Where the worktree is said to be.
    pub(super) path: PathBuf,
}

/// What is in a worker's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing.
    Absent,
    /// A directory in which there is no worktree.
    Bare,
    /// A worktree of the rig's repository, which knows it too.
    Tree(Admin),
    /// Something that has a `.git`, and is no worktree of the rig's repository; with the reason.
    Broken(String),
}

/// A worker's place.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Where its worktree is, or would be.
    pub(super) path: PathBuf,
    /// What is there.
    pub(super) place: Place,
    /// What git keeps for worktrees in this place that are not there, or not right.
    pub(super) stale: Vec<Admin>,
    /// What else lies in its directory.
    pub(super) others: Vec<String>,
}

/// Looks at a worker's place.
pub(super) fn look(repo: &Repo, name: &AgentName) -> Result<Look, TreeError> {
    let dir = repo.place(name);
    let usual = dir.join(repo.rig.as_str());
    let admins = admins(&repo.dir)?;
    let polecats = repo.home.join("polecats");
    let mut found = Look {
        dir: dir.clone(),
        path: usual.clone(),
        place: Place::Absent,
        stale: Vec::new(),
        others: Vec::new(),
    };
    if directory(&polecats)? && directory(&dir)? {
        let below = directory(&usual)?;
        // Before there were rigs' names below them, the directories of workers were worktrees themselves.
        if !below && kind(&dir.join(".git"))? != Kind::Absent {
            found.path.clone_from(&dir);
        }
        found.others = if found.path == dir { Vec::new() } else { others(&dir, repo.rig.as_str())? };
        found.place = at(&found.path, &admins)?;
        // A directory of the rig's name without a .git is one of the things that lie about.
        if found.place == Place::Bare && below && !is_empty(&usual)? {
            found.others.push(repo.rig.to_string());
        }
    }
    let used = match &found.place {
        Place::Tree(admin) => Some(admin.dir.clone()),
        _ => None,
    };
    let here =
        |admin: &Admin| (admin.path == usual || admin.path == dir) && Some(&admin.dir) != used.as_ref();
    found.stale = admins.into_iter().filter(here).collect();
    Ok(found)
}

/// What a directory is that exists.
fn at(path: &Path, admins: &[Admin]) -> Result<Place, TreeError> {
    match kind(&path.join(".git"))? {
        Kind::Absent => return Ok(Place::Bare),
        Kind::File => {}
        Kind::Directory => return Ok(Place::Broken("it is a repository of its own".to_owned())),
        Kind::Link | Kind::Other => return Ok(Place::Broken("its .git is no plain file".to_owned())),
    }
    let admin = match pointed_at(path) {
        Ok(admin) => admin,
        Err(why) => return Ok(Place::Broken(why)),
    };
    let shown = admin.display().to_string();
    let Ok(admin) = admin.canonicalize() else {
        return Ok(Place::Broken(format!("its .git leads to {shown}, which is not there")));
    };
    match admins.iter().find(|known| known.dir == admin) {
        Some(known) if known.path == path => Ok(Place::Tree(known.clone())),
        Some(known) => Ok(Place::Broken(format!(
            "its repository believes it at {}; git worktree repair may help",
            known.path.display()
        ))),
        None => Ok(Place::Broken(format!("its .git leads to {shown}, which is not in the rig's repository"))),
    }
}

/// Where the `.git` file of a directory leads.
pub(super) fn pointed_at(path: &Path) -> Result<PathBuf, String> {
    let text = small(&path.join(".git")).map_err(|error| format!("its .git cannot be read: {error}"))?;
    let target = text.trim_end_matches(['\n', '\r']).strip_prefix("gitdir: ").map(str::trim);
    match target {
        Some(target) if !target.is_empty() => Ok(path.join(target)),
        _ => Err("its .git says nothing that git would understand".to_owned()),
    }
}

/// The repository of which a directory of git's is a part.
pub(super) fn common_of(admin: &Path) -> PathBuf {
    match small(&admin.join("commondir")) {
        Ok(text) => admin.join(text.trim()),
        Err(_) => admin.to_owned(),
    }
}

/// What a repository keeps of its worktrees.
fn admins(repo: &Path) -> Result<Vec<Admin>, TreeError> {
    let all = repo.join("worktrees");
    let mut found = Vec::new();
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(io_error("cannot list", &all)(source)),
    };
    for entry in entries {
        let dir = entry.map_err(io_error("cannot list", &all))?.path();
        // One that is being made, or is being let go of, has no such file yet or any more.
        let Ok(text) = small(&dir.join("gitdir")) else { continue };
        let git = dir.join(text.trim_end_matches(['\n', '\r']));
        if let Some(path) = git.parent() {
            found.push(Admin { path: plain(path), dir });
        }
    }
    found.sort_by(|one, other| one.dir.cmp(&other.dir));
    Ok(found)
}

/// A path without `.` and `..`, as git may write them.
fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// What lies in a worker's directory beside its worktree, and is nobody's but a person's.
fn others(dir: &Path, rig: &str) -> Result<Vec<String>, TreeError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("cannot list", dir))? {
        let name = entry.map_err(io_error("cannot list", dir))?.file_name().to_string_lossy().into_owned();
        if name != rig && !OWN.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn is_empty(dir: &Path) -> Result<bool, TreeError> {
    Ok(fs::read_dir(dir).map_err(io_error("cannot list", dir))?.next().is_none())
}

/// Reads a small text file.
pub(super) fn small(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs::OpenOptions::new().read(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    file.take(SMALL).read_to_string(&mut text)?;
    Ok(text)
}

/// The workers that a repository keeps a worktree of.
pub(super) fn names(repo: &Repo) -> Result<Vec<AgentName>, TreeError> {
    let polecats = repo.home.join("polecats");
    let name = |admin: Admin| {
        let below = admin.path.strip_prefix(&polecats).ok()?;
        let name = below.components().next()?.as_os_str().to_str()?.to_owned();
        AgentName::new(name).ok()
    };
    let mut names: Vec<AgentName> = admins(&repo.dir)?.into_iter().filter_map(name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The branch that is checked out, by what git keeps of a worktree; none when HEAD is detached or not there.
pub(super) fn head_of(admin: &Path) -> Result<Option<String>, TreeError> {
    let head = admin.join("HEAD");
    match small(&head) {
        Ok(text) => Ok(text.trim_end().strip_prefix("ref: refs/heads/").map(str::to_owned)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("cannot read", &head)(error)),
    }
}

/// Whether a branch is checked out anywhere in a repository.
pub(super) fn checked_out(repo: &Path, full: &str) -> Result<bool, TreeError> {
    let branch = full.strip_prefix("refs/heads/");
    let admins = admins(repo)?;
    for dir in admins.iter().map(|admin| admin.dir.as_path()).chain([repo]) {
        // One that cannot be read may be on any branch.
        let Ok(head) = head_of(dir) else { return Ok(true) };
        if head.as_deref() == branch {
            return Ok(true);
        }
    }
    Ok(false)
}
