//! Which town is meant: `--town`, `GT_TOWN_ROOT`, `GT_ROOT`, or the directories from here upwards.
//!
//! Only looks at the file system; never asks a daemon.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use gtd_proto::RigName;

use crate::failure::Failure;

/// The file that marks the root of a town.
const MARK: &str = "mayor/town.json";

/// What the search depends on, as values, so that it can be tested without an environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `--town`
    pub flag: Option<PathBuf>,
    /// Environment variables whose names begin with `GT_`.
    pub vars: BTreeMap<String, OsString>,
    /// Current directory.
    pub cwd: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn here(flag: Option<PathBuf>) -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("GT_"))
            .collect();
        Self { flag, vars, cwd: std::env::current_dir().unwrap_or_default() }
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&OsString> {
        self.vars.get(name).filter(|value| !value.is_empty())
    }
}

/// The root of the town that is meant.
///
/// # Errors
/// When what was named is no town, or nothing was named and no directory from here upwards is one.
pub fn find(around: &Surroundings) -> Result<PathBuf, Failure> {
    if let Some(dir) = &around.flag {
        return root_of(dir, "--town");
    }
    for name in ["GT_TOWN_ROOT", "GT_ROOT"] {
        if let Some(dir) = around.var(name) {
            return root_of(Path::new(dir), name);
        }
    }
    above(&around.cwd).ok_or_else(|| {
        Failure::no_town(format!("{} is not in a town: no {MARK} there or above", around.cwd.display()))
    })
}

/// Checks that a directory is a town, and makes its path absolute.
///
/// # Errors
/// When it has no mark.
pub fn root_of(dir: &Path, named_by: &str) -> Result<PathBuf, Failure> {
    match std::fs::canonicalize(dir) {
        Ok(root) if root.join(MARK).is_file() => Ok(root),
        Ok(root) => Err(Failure::no_town(format!(
            "{} (given by {named_by}) is no town: it has no {MARK}",
            root.display()
        ))),
        Err(error) => {
            Err(Failure::no_town(format!("cannot use {} (given by {named_by}): {error}", dir.display())))
        }
    }
}

/// The first directory upwards with the mark. Below a worker's or a person's clone it is the outermost one:
/// the clone may be of a repository that holds a town itself.
fn above(cwd: &Path) -> Option<PathBuf> {
    let in_clone = cwd
        .components()
        .any(|part| matches!(part, Component::Normal(name) if name == "polecats" || name == "crew"));
    let mut marked = cwd.ancestors().filter(|dir| dir.join(MARK).is_file());
    let root = if in_clone { marked.last() } else { marked.next() };
    root.map(Path::to_owned)
}

/// The rig that a directory lies in: the first step below the root, if it can be a rig's name at all. Whether
/// there is such a rig, the daemon knows.
#[must_use]
pub fn rig_at(root: &Path, cwd: &Path) -> Option<RigName> {
    let cwd = std::fs::canonicalize(cwd).ok()?;
    let root = std::fs::canonicalize(root).ok()?;
    let first = cwd.strip_prefix(&root).ok()?.components().next()?;
    let name = RigName::new(first.as_os_str().to_str()?).ok()?;
    (!name.is_reserved()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn mark(root: &Path) {
        fs::create_dir_all(root.join("mayor")).unwrap();
        fs::write(root.join(MARK), "{}").unwrap();
    }

    #[test]
    fn flag_then_environment_then_upwards() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["flag", "first", "second", "here"] {
            mark(&dir.join(name));
        }
        let deep = dir.join("here/alpha/refinery/rig");
        fs::create_dir_all(&deep).unwrap();
        let mut around = Surroundings {
            flag: Some(dir.join("flag")),
            vars: [("GT_TOWN_ROOT", "first"), ("GT_ROOT", "second")]
                .map(|(k, v)| (k.to_owned(), dir.join(v).into_os_string()))
                .into(),
            cwd: deep.clone(),
        };
        assert_eq!(find(&around).unwrap(), dir.join("flag"));
        around.flag = None;
        assert_eq!(find(&around).unwrap(), dir.join("first"));
        around.vars.insert("GT_TOWN_ROOT".into(), OsString::new());
        assert_eq!(find(&around).unwrap(), dir.join("second"));
        around.vars.clear();
        assert_eq!(find(&around).unwrap(), dir.join("here"));
        assert_eq!(rig_at(&dir.join("here"), &deep).unwrap().as_str(), "alpha");
        around.cwd = dir.clone();
        assert_eq!(find(&around).unwrap_err().code().number(), 2);
    }

    #[test]
    fn a_clone_of_a_town_inside_a_town_is_not_the_town() {
        let dir = tempfile::tempdir().unwrap();
        let clone = dir.path().join("town/alpha/polecats/nux/alpha");
        mark(&dir.path().join("town"));
        mark(&clone);
        assert_eq!(above(&clone).unwrap(), dir.path().join("town"));
        let nested = dir.path().join("town/towns/inner");
        mark(&nested);
        assert_eq!(above(&nested).unwrap(), nested);
    }

    #[test]
    fn what_is_named_and_is_no_town_is_an_error_not_a_reason_to_look_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        mark(&dir.path().join("here"));
        let around = Surroundings {
            flag: Some(dir.path().join("nowhere")),
            cwd: dir.path().join("here"),
            ..Surroundings::default()
        };
        assert!(find(&around).is_err());
    }

    #[test]
    fn the_towns_own_directories_are_no_rigs() {
        let dir = tempfile::tempdir().unwrap();
        mark(dir.path());
        assert_eq!(rig_at(dir.path(), &dir.path().join("mayor")), None);
        assert_eq!(rig_at(dir.path(), dir.path()), None);
        assert_eq!(rig_at(dir.path(), Path::new("/")), None);
    }
}
