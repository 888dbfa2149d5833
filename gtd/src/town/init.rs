//! Making a town.
//!
//! Must never write into a directory that holds something else, nor change a file that is there: on a town
//! it only adds what is missing.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{file, marker};
use crate::config::Config;

/// One step of making a town.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// To what.
    pub path: PathBuf,
    /// What for.
    pub why: &'static str,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A directory is made.
    MakeDirectory,
    /// A file is written.
    WriteFile,
    /// It is there already, and left as it is.
    Keep,
    /// It is missing, and not made because something else would be lost.
    Leave,
}

/// A directory that cannot be made a town.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Towns do not lie in towns.
    #[error("{} is inside the town {}", dir.display(), town.display())]
    InsideTown {
        /// The directory.
        dir: PathBuf,
        /// The town around it.
        town: PathBuf,
    },
    /// It holds something else.
    #[error("{} is not empty and no town", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// It is no directory.
    #[error("{} is not a directory", dir.display())]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The name cannot be used.
    #[error("the town's name {name:?} is empty or has control characters")]
    Name {
        /// The name.
        name: String,
    },
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

impl InitError {
    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InsideTown { .. } => Some("choose a directory outside, or work in that town"),
            Self::NotEmpty { .. } => Some("name a new or an empty directory"),
            _ => None,
        }
    }
}

/// Makes a directory that only its owner can enter.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Directories of a town, and whether only the owner may enter.
const DIRECTORIES: [(&str, bool, &str); 7] = [
    ("mayor", false, "the mayor, and what marks the town"),
    ("settings", false, "settings"),
    ("deacon", false, "the deacon"),
    ("deacon/dogs", false, "the deacon's helpers"),
    ("deacon/dogs/boot", false, "who looks after the deacon"),
    (".beads-wisp", false, "state of rigs"),
    (".beads-wisp/config", false, "state of rigs"),
];
const DAEMON: (&str, bool, &str) = ("daemon", true, "the daemon's files");

/// Makes a town of a new or an empty directory, or completes one that is there; with `dry_run` only says
/// what would be done. `name` is the directory's unless given. The marker is written first, so that a call
/// that was cut off can be repeated.
///
/// # Errors
/// When the directory lies in another town or holds something else, or the system refuses. Then what this
/// call made is removed again.
pub fn init(
    dir: &Path,
    name: Option<&str>,
    owner: Option<&str>,
    dry_run: bool,
) -> Result<Vec<Step>, InitError> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| InitError::Io { what, path, source }
    };
    let dir = std::path::absolute(dir).map_err(io("cannot resolve", dir))?;
    let is_town = marker_exists(&dir).map_err(io("cannot look at", &dir))?;
    if let Some(parent) = dir.parent()
        && let Some(town) = marker::find(&resolve(parent)).map_err(io("cannot look at", parent))?
    {
        return Err(InitError::InsideTown { dir, town });
    }
    let mut parents = Vec::new();
    match fs::read_dir(&dir).map(|mut entries| entries.next().is_none()) {
        Ok(empty) if !is_town && !empty => return Err(InitError::NotEmpty { dir }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parents = dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
            parents.reverse();
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(InitError::NotADirectory { dir });
        }
        Err(error) => return Err(io("cannot list", &dir)(error)),
    }
    let name = match name {
        Some(name) => name.to_owned(),
        None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(InitError::Name { name });
    }

    let mut work = Work { dry_run, steps: Vec::new(), made: Vec::new() };
    let done = (|| {
        for parent in &parents {
            work.directory(parent, false, "the town")?;
        }
        work.directory(&dir.join("mayor"), false, "the mayor, and what marks the town")?;
        let at = jiff::Timestamp::now().to_string();
        let marker = json!({ "type": "town", "version": 2, "name": name, "owner": owner, "created_at": at });
        work.file(&dir.join("mayor/town.json"), &file::pretty(&marker), "marks the town")?;
        for (path, private, why) in DIRECTORIES.into_iter().skip(1).chain([DAEMON]) {
            work.directory(&dir.join(path), private, why)?;
        }
        let registry = dir.join("mayor/rigs.json");
        let empty = file::pretty(&json!({ "version": 1, "rigs": {} }));
        if !registry.exists()
            && is_town
            && has_rigs(&dir).map_err(|error| ("cannot list", dir.clone(), error))?
        {
            // An empty registry in its place would say that there are no rigs.
            work.steps.push(Step {
                action: Action::Leave,
                path: registry,
                why: "the registry is missing though there are rigs; restore it",
            });
        } else {
            work.file(&registry, &empty, "the registry of rigs")?;
        }
        let settings = json!({
            "type": "town-settings", "version": 1, "default_agent": "claude", "agents": {}, "role_agents": {},
        });
        work.file(&dir.join("settings/config.json"), &file::pretty(&settings), "which agent runs where")?;
        work.file(&dir.join("settings/gtd.toml"), Config::template().as_bytes(), "the daemon's configuration")
    })();
    match done {
        Ok(()) => Ok(work.steps),
        Err((what, path, source)) => {
            work.undo();
            Err(InitError::Io { what, path, source })
        }
    }
}

/// The path with its existing part resolved.
fn resolve(path: &Path) -> PathBuf {
    for dir in path.ancestors() {
        if let Ok(real) = fs::canonicalize(dir) {
            return match path.strip_prefix(dir) {
                Ok(rest) => real.join(rest),
                Err(_) => real,
            };
        }
    }
    path.to_owned()
}

fn marker_exists(dir: &Path) -> io::Result<bool> {
    match fs::metadata(dir.join("mayor/town.json")) {
        Ok(meta) => Ok(meta.is_file()),
        Err(error) if file::absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether some directory looks like a rig.
fn has_rigs(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.join(".repo.git").exists() || path.join("polecats").exists() {
            return Ok(true);
        }
    }
    Ok(false)
}

type Failure = (&'static str, PathBuf, io::Error);

struct Work {
    dry_run: bool,
    steps: Vec<Step>,
    made: Vec<PathBuf>,
}

impl Work {
    fn step(&mut self, action: Action, path: &Path, why: &'static str) {
        self.steps.push(Step { action, path: path.to_owned(), why });
    }

    fn directory(&mut self, path: &Path, private: bool, why: &'static str) -> Result<(), Failure> {
        if path.is_dir() {
            self.step(Action::Keep, path, why);
            return Ok(());
        }
        if !self.dry_run {
            let made = if private { make_private(path) } else { fs::create_dir(path) };
            made.map_err(|error| ("cannot make", path.to_owned(), error))?;
            self.made.push(path.to_owned());
        }
        self.step(Action::MakeDirectory, path, why);
        Ok(())
    }

    fn file(&mut self, path: &Path, content: &[u8], why: &'static str) -> Result<(), Failure> {
        if fs::symlink_metadata(path).is_ok() {
            self.step(Action::Keep, path, why);
            return Ok(());
        }
        if !self.dry_run {
            file::replace(path, content, 0o644).map_err(|error| ("cannot write", path.to_owned(), error))?;
            self.made.push(path.to_owned());
        }
        self.step(Action::WriteFile, path, why);
        Ok(())
    }

    /// Removes what this call made, the last first; a directory only when nothing else is in it.
    fn undo(&self) {
        for path in self.made.iter().rev() {
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::town::{Layout, snapshot};

    fn all(root: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut stack = vec![root.to_owned()];
        while let Some(dir) = stack.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    stack.push(path.clone());
                    found.push((path, None));
                } else {
                    found.push((path.clone(), Some(fs::read(&path).unwrap())));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_new_town_is_read_without_a_finding() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("new/town");
        let plan = init(&dir, None, Some("me"), true).unwrap();
        assert!(!dir.exists() && !base.path().join("new").exists(), "a plan does nothing");
        let steps = init(&dir, None, Some("me"), false).unwrap();
        assert_eq!(plan, steps);
        let read = snapshot::read(&Layout::at(&dir).unwrap(), None);
        assert_eq!(read.findings, []);
        assert_eq!(read.name(), "town");
        assert_eq!(read.town.value().unwrap().owner.as_deref(), Some("me"));
        assert!(read.rigs_known() && read.rigs.is_empty());
        assert_eq!(Config::load(&dir.join("settings/gtd.toml")).unwrap(), Config::default());
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join("daemon")).unwrap());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn on_a_town_only_what_is_missing_is_added() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("town");
        init(&dir, Some("first"), None, false).unwrap();
        fs::write(dir.join("settings/config.json"), "mine").unwrap();
        fs::remove_file(dir.join("settings/gtd.toml")).unwrap();
        let before = all(&dir);
        let steps = init(&dir, Some("second"), None, false).unwrap();
        let written: Vec<&Step> = steps.iter().filter(|step| step.action != Action::Keep).collect();
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].path, dir.join("settings/gtd.toml"));
        let mut after = all(&dir);
        after.retain(|(path, _)| *path != dir.join("settings/gtd.toml"));
        assert_eq!(before, after);
        assert!(init(&dir, None, None, false).unwrap().iter().all(|step| step.action == Action::Keep));
    }

    #[test]
    fn a_missing_registry_is_not_replaced_where_there_are_rigs() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("town");
        init(&dir, None, None, false).unwrap();
        fs::remove_file(dir.join("mayor/rigs.json")).unwrap();
        fs::create_dir_all(dir.join("alpha/.repo.git")).unwrap();
        let steps = init(&dir, None, None, false).unwrap();
        assert!(steps.iter().any(|step| step.action == Action::Leave));
        assert!(!dir.join("mayor/rigs.json").exists());
    }

    #[test]
    fn what_is_something_else_is_refused_and_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let full = base.path().join("full");
        fs::create_dir(&full).unwrap();
        fs::write(full.join("x"), "x").unwrap();
        assert!(matches!(init(&full, None, None, false), Err(InitError::NotEmpty { .. })));
        assert!(matches!(init(&full.join("x"), None, None, false), Err(InitError::NotADirectory { .. })));
        let town = base.path().join("town");
        init(&town, None, None, false).unwrap();
        for inside in ["sub", "sub/deeper", "alpha/polecats/nux"] {
            assert!(matches!(init(&town.join(inside), None, None, false), Err(InitError::InsideTown { .. })));
        }
        std::os::unix::fs::symlink(&town, base.path().join("link")).unwrap();
        assert!(matches!(
            init(&base.path().join("link/sub"), None, None, true),
            Err(InitError::InsideTown { .. })
        ));
        assert!(matches!(init(&base.path().join("n"), Some(" "), None, false), Err(InitError::Name { .. })));
        assert_eq!(all(&full).len(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("town");
        // Something in the way of the last file: a directory that becomes a file's parent.
        let mut work = Work { dry_run: false, steps: Vec::new(), made: Vec::new() };
        work.directory(&dir, false, "").unwrap();
        work.directory(&dir.join("mayor"), false, "").unwrap();
        work.file(&dir.join("mayor/town.json"), b"{}", "").unwrap();
        assert!(work.file(&dir.join("none/there"), b"", "").is_err());
        work.undo();
        assert!(!dir.exists());
    }
}
