//! What is in a rig's directory: its workers, people's workspaces, and where its agents work.
//!
//! Must never read a directory that cannot be listed as an empty one, nor follow a link out of the rig.

use std::fs;
use std::path::{Path, PathBuf};

use gtd_proto::{Address, AgentName, RigName};

use serde_json::Value;

use super::file::{absent, read_object};
use super::layout::Layout;
use super::registry::trim_prefix;

/// The members of a directory of workers or workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Those whose names can be used, sorted.
    pub names: Vec<AgentName>,
    /// Directories with other names, sorted.
    pub unusable: Vec<String>,
    /// The directory itself is not there: what was in it may come back with it, as on a disk that is not mounted.
    pub missing: bool,
}

/// Lists the directories in a directory. Hidden ones, files and symbolic links are no members. A missing
/// directory has none.
///
/// # Errors
/// When it is there and cannot be listed.
pub fn members(dir: &Path) -> Result<Members, String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Members { missing: true, ..Members::default() });
        }
        Err(error) => return Err(format!("cannot be listed: {error}")),
    };
    let mut members = Members::default();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot be listed: {error}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dir = match entry.file_type() {
            Ok(kind) => kind.is_dir(),
            // Removed between the listing and the look.
            Err(error) if absent(&error) => false,
            Err(error) => return Err(format!("cannot be listed: {name}: {error}")),
        };
        if name.starts_with('.') || !is_dir {
            continue;
        }
        match AgentName::new(name.as_str()) {
            Ok(name) => members.names.push(name),
            Err(_) => members.unusable.push(name),
        }
    }
    members.names.sort();
    members.unusable.sort();
    Ok(members)
}

/// What a rig's own file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RigConfig {
    /// Prefix of its work items, without a dash at its end.
    pub prefix: Option<String>,
    /// The branch that its refinery works on.
    pub default_branch: Option<String>,
}

/// Reads `<rig>/config.json`. A missing file says nothing.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_config(path: &Path) -> Result<RigConfig, String> {
    let map = read_object(path)?.unwrap_or_default();
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    Ok(RigConfig {
        prefix: text(map.get("beads").and_then(|beads| beads.get("prefix")))
            .map(|prefix| trim_prefix(&prefix)),
        default_branch: text(map.get("default_branch")),
    })
}

/// Whether a path is a directory. A path that cannot be looked at counts as one: whoever uses it learns the
/// true error, instead of being sent elsewhere.
fn may_be_dir(path: &Path) -> bool {
    fs::metadata(path).map_or_else(|error| !absent(&error), |meta| meta.is_dir())
}

/// Where a rig's witness works: `witness/rig`, else `witness`, else the rig.
#[must_use]
pub fn witness_workdir(layout: &Layout, rig: &RigName) -> PathBuf {
    let rig = layout.rig(rig);
    [rig.join("witness/rig"), rig.join("witness")].into_iter().find(|dir| may_be_dir(dir)).unwrap_or(rig)
}

/// Where a rig's refinery works: `refinery/rig`, else `mayor/rig`; the first when neither is there.
#[must_use]
pub fn refinery_workdir(layout: &Layout, rig: &RigName) -> PathBuf {
    let rig = layout.rig(rig);
    let usual = rig.join("refinery/rig");
    [usual.clone(), rig.join("mayor/rig")].into_iter().find(|dir| may_be_dir(dir)).unwrap_or(usual)
}

/// Where a worker works: `polecats/<name>/<rig>`, else `polecats/<name>` when that is a checkout; the first
/// when neither is there.
#[must_use]
pub fn polecat_workdir(layout: &Layout, rig: &RigName, name: &AgentName) -> PathBuf {
    let dir = layout.polecat(rig, name);
    let usual = dir.join(rig.as_str());
    if !may_be_dir(&usual) && fs::symlink_metadata(dir.join(".git")).is_ok() { dir } else { usual }
}

/// Where an agent works.
#[must_use]
pub fn workdir(layout: &Layout, agent: &Address) -> PathBuf {
    match agent {
        Address::Mayor => layout.root().to_owned(),
        Address::Deacon => layout.deacon_dir(),
        Address::Boot => layout.boot_dir(),
        Address::Witness(rig) => witness_workdir(layout, rig),
        Address::Refinery(rig) => refinery_workdir(layout, rig),
        Address::Polecat(rig, name) => polecat_workdir(layout, rig, name),
        Address::Crew(rig, name) => layout.crew(rig, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_plain_directories() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Members { missing: true, ..Members::default() };
        assert_eq!(members(&dir.path().join("none")), Ok(missing));
        for name in [".claude", "nux", "b-witness", "sp ace"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("README.md"), "").unwrap();
        std::os::unix::fs::symlink("nux", dir.path().join("link")).unwrap();
        let found = members(dir.path()).unwrap();
        assert_eq!(found.names.iter().map(AgentName::as_str).collect::<Vec<_>>(), ["b-witness", "nux"]);
        assert_eq!(found.unusable, ["sp ace"]);
        assert!(members(&dir.path().join("README.md")).is_err());
    }

    #[test]
    fn agents_work_in_the_first_directory_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        let (rig, nux) = (RigName::new("a").unwrap(), AgentName::new("nux").unwrap());
        let at = |path: &str| layout.rig(&rig).join(path);
        let make = |path: &str| fs::create_dir_all(at(path)).unwrap();

        assert_eq!(witness_workdir(&layout, &rig), layout.rig(&rig));
        make("witness");
        assert_eq!(witness_workdir(&layout, &rig), at("witness"));
        make("witness/rig");
        assert_eq!(witness_workdir(&layout, &rig), at("witness/rig"));

        assert_eq!(refinery_workdir(&layout, &rig), at("refinery/rig"));
        make("mayor/rig");
        assert_eq!(refinery_workdir(&layout, &rig), at("mayor/rig"));
        make("refinery/rig");
        assert_eq!(refinery_workdir(&layout, &rig), at("refinery/rig"));

        let worker = Address::Polecat(rig.clone(), nux);
        assert_eq!(workdir(&layout, &worker), at("polecats/nux/a"));
        make("polecats/nux/.git");
        assert_eq!(workdir(&layout, &worker), at("polecats/nux"));
        make("polecats/nux/a");
        assert_eq!(workdir(&layout, &worker), at("polecats/nux/a"));
        assert_eq!(workdir(&layout, &Address::Mayor), layout.root());
    }
}
