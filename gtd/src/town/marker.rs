//! What makes a directory a town, and finding the town around a directory.
//!
//! Must never take a checkout inside a town for the town, even when the repository is itself one.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::file::{absent, read_object};

/// What `mayor/town.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TownFile {
    /// The town's name; the directory's when the file has none.
    pub name: String,
    /// Its owner.
    pub owner: Option<String>,
}

/// Reads the marker of a town.
///
/// # Errors
/// That it is missing, or why it cannot be read.
pub fn read(root: &Path) -> Result<TownFile, String> {
    let map = read_object(&root.join("mayor/town.json"))?.ok_or("is missing")?;
    let text = |key: &str| {
        map.get(key).and_then(|value| value.as_str()).map(str::trim).filter(|text| !text.is_empty())
    };
    let name = match text("name") {
        Some(name) => name.to_owned(),
        None => root.file_name().map_or("town".into(), |name| name.to_string_lossy().into_owned()),
    };
    Ok(TownFile { name, owner: text("owner").map(str::to_owned) })
}

/// Directories of a rig that hold checkouts of its repository.
const CHECKOUTS: [&str; 5] = ["polecats", "crew", "refinery", "witness", "mayor"];

/// Finds the town around a directory: the nearest parent with a `mayor/town.json`, except where that is a
/// checkout in a rig of a town further up. Symbolic links of `start` are not resolved, so that the way a
/// person went there counts. None when there is no town.
///
/// # Errors
/// When one of the places cannot be looked at: then it is not known whether there is a town.
pub fn find(start: &Path) -> io::Result<Option<PathBuf>> {
    let start = std::path::absolute(start)?;
    let mut found: Option<PathBuf> = None;
    for dir in start.ancestors() {
        match std::fs::metadata(dir.join("mayor/town.json")) {
            Ok(meta) if meta.is_file() => {
                if found.as_deref().is_none_or(|inner| is_checkout(dir, inner)) {
                    found = Some(dir.to_owned());
                }
            }
            Ok(_) => {}
            Err(error) if absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether `inner` lies among the checkouts of a rig of the town `outer`.
fn is_checkout(outer: &Path, inner: &Path) -> bool {
    let Ok(below) = inner.strip_prefix(outer) else { return false };
    match below.components().nth(1) {
        Some(Component::Normal(kind)) => CHECKOUTS.iter().any(|name| kind == *name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn town(root: &Path, content: &str) {
        fs::create_dir_all(root.join("mayor")).unwrap();
        fs::write(root.join("mayor/town.json"), content).unwrap();
    }

    #[test]
    fn the_town_is_found_from_below() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("t");
        town(&root, "{}");
        let deep = root.join("rig/polecats/nux/rig/src");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(find(&deep).unwrap().as_deref(), Some(root.as_path()));
        assert_eq!(find(&root).unwrap().as_deref(), Some(root.as_path()));
        assert_eq!(find(&root.join("not/yet/there")).unwrap().as_deref(), Some(root.as_path()));
        assert_eq!(find(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_checkout_that_is_a_town_is_not_the_town() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("t");
        town(&root, "{}");
        for below in ["rig/polecats/nux/rig", "rig/crew/max", "rig/refinery/rig", "rig/mayor/rig"] {
            town(&root.join(below), "{}");
            assert_eq!(find(&root.join(below)).unwrap().as_deref(), Some(root.as_path()), "{below}");
        }
        // A town that merely lies in another one's directory is its own.
        town(&root.join("towns/other"), "{}");
        assert_eq!(find(&root.join("towns/other")).unwrap(), Some(root.join("towns/other")));
    }

    #[test]
    fn the_marker_is_read_leniently() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("hut");
        assert_eq!(read(&root), Err("is missing".to_owned()));
        town(&root, r#"{"type":"town","version":9,"name":"demo","owner":"t","x":{}}"#);
        assert_eq!(read(&root).unwrap(), TownFile { name: "demo".into(), owner: Some("t".into()) });
        town(&root, r#"{"name":7}"#);
        assert_eq!(read(&root).unwrap().name, "hut");
        town(&root, "{");
        assert!(read(&root).is_err());
    }
}
