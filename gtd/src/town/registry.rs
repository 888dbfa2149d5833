//! The registry of rigs, `mayor/rigs.json`.
//!
//! Others write it too: it is read leniently, and edited only by explicit commands, atomically, with
//! everything kept that is not understood. Must never make "no rigs" of a file that cannot be read.

use std::collections::BTreeMap;
use std::path::Path;

use gtd_proto::RigName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::file;
use super::finding::Finding;

/// What the registry says of one rig.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// Where its repository came from.
    pub git_url: Option<String>,
    /// Prefix of its work items, without the dash at its end.
    pub prefix: Option<String>,
}

/// The registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registry {
    /// The rigs whose names can be used.
    pub rigs: BTreeMap<RigName, Entry>,
    /// What is odd in it.
    pub findings: Vec<Finding>,
}

/// Reads the registry.
///
/// # Errors
/// When it is missing, torn, or has no object `rigs`: nothing is known of the rigs then.
pub fn read(path: &Path) -> Result<Registry, String> {
    let map = file::read_object(path)?.ok_or("is missing")?;
    parse(&map)
}

fn parse(map: &Map<String, Value>) -> Result<Registry, String> {
    let rigs = match map.get("rigs") {
        Some(Value::Object(rigs)) => rigs,
        // How the incumbent writes a map that was never filled.
        Some(Value::Null) => return Ok(Registry::default()),
        Some(_) => return Err("has something other than an object under \"rigs\"".to_owned()),
        None => return Err("has no \"rigs\"".to_owned()),
    };
    let mut registry = Registry::default();
    for (name, entry) in rigs {
        let Ok(rig) = RigName::new(name.as_str()).map_err(|error| {
            registry.findings.push(
                Finding::error(format!("registry:{name}"), format!("registry: {error}; it is left alone"))
                    .hint("rename the rig in mayor/rigs.json, with its directory"),
            );
        }) else {
            continue;
        };
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if !entry.is_object() {
            registry.findings.push(Finding::warning(
                format!("rig:{rig}:entry"),
                format!("rig {rig}: its entry in the registry is no object"),
            ));
        }
        let prefix = text(entry.get("beads").and_then(|beads| beads.get("prefix")));
        registry.rigs.insert(
            rig,
            Entry {
                git_url: text(entry.get("git_url")),
                prefix: prefix.as_deref().map(trim_prefix).filter(|prefix| !prefix.is_empty()),
            },
        );
    }
    Ok(registry)
}

/// A prefix without the dash that some writers leave at its end.
pub(super) fn trim_prefix(prefix: &str) -> String {
    prefix.strip_suffix('-').unwrap_or(prefix).to_owned()
}

/// A registry that an explicit command could not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It cannot be read, so it cannot be edited without loss.
    #[error("registry {0}")]
    Unreadable(String),
    /// The rig is in it already.
    #[error("rig {0} is in the registry already")]
    Taken(RigName),
    /// It cannot be written.
    #[error("registry cannot be written: {0}")]
    Unwritable(String),
}

/// Adds a rig, and keeps everything else: unknown fields, order, other rigs.
///
/// # Errors
/// When the registry cannot be read or written, or has the rig. It is then unchanged.
pub fn add(path: &Path, rig: &RigName, git_url: &str, prefix: &str, at: &str) -> Result<(), EditError> {
    let mut map = file::read_object(path)
        .and_then(|map| map.ok_or("is missing".into()))
        .map_err(EditError::Unreadable)?;
    parse(&map).map_err(EditError::Unreadable)?;
    let rigs = map.entry("rigs").or_insert_with(|| json!({}));
    if rigs.is_null() {
        *rigs = json!({});
    }
    let Some(rigs) = rigs.as_object_mut() else {
        return Err(EditError::Unreadable("has no \"rigs\"".to_owned()));
    };
    if rigs.contains_key(rig.as_str()) {
        return Err(EditError::Taken(rig.clone()));
    }
    rigs.insert(
        rig.as_str().to_owned(),
        json!({ "git_url": git_url, "added_at": at, "beads": { "repo": "", "prefix": prefix } }),
    );
    file::replace(path, &file::pretty(&Value::Object(map)), 0o600)
        .map_err(|error| EditError::Unwritable(error.to_string()))
}

/// Takes a rig out, and keeps everything else. `false` when it was not in it.
///
/// # Errors
/// When the registry cannot be read or written. It is then unchanged.
pub fn remove(path: &Path, rig: &RigName) -> Result<bool, EditError> {
    let mut map = file::read_object(path)
        .and_then(|map| map.ok_or("is missing".into()))
        .map_err(EditError::Unreadable)?;
    parse(&map).map_err(EditError::Unreadable)?;
    let rigs = map.get_mut("rigs").and_then(Value::as_object_mut);
    // Not the swap that the map does by default: the others keep their order.
    if rigs.and_then(|rigs| rigs.shift_remove(rig.as_str())).is_none() {
        return Ok(false);
    }
    file::replace(path, &file::pretty(&Value::Object(map)), 0o600)
        .map(|()| true)
        .map_err(|error| EditError::Unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Registry, String> {
        parse(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn rigs_are_read_whatever_their_names() {
        let registry = parsed(
            r#"{"version":7,"x":1,"rigs":{"a-b":{"beads":{"prefix":"ab-"}},"a":{"git_url":"u"},"../x":{},"":{},"odd":3}}"#,
        )
        .unwrap();
        let names: Vec<&str> = registry.rigs.keys().map(RigName::as_str).collect();
        assert_eq!(names, ["a", "a-b", "odd"]);
        assert_eq!(registry.rigs[&RigName::new("a-b").unwrap()].prefix.as_deref(), Some("ab"));
        let keys: Vec<&str> = registry.findings.iter().map(|finding| finding.key.as_str()).collect();
        assert_eq!(keys, ["registry:../x", "registry:", "rig:odd:entry"]);
    }

    #[test]
    fn a_registry_without_rigs_is_no_empty_registry() {
        assert!(parsed("{}").is_err());
        assert!(parsed(r#"{"rigs":[]}"#).is_err());
        assert_eq!(parsed(r#"{"rigs":{}}"#).unwrap(), Registry::default());
        assert_eq!(parsed(r#"{"rigs":null}"#).unwrap(), Registry::default());
    }

    #[test]
    fn an_edit_keeps_order_and_what_is_not_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rigs.json");
        let before =
            r#"{"zeta":[1,2.5],"version":1,"rigs":{"z":{"q":null,"git_url":"g"},"b":{}},"alpha":{"x":"y"}}"#;
        std::fs::write(&path, before).unwrap();
        let rig = RigName::new("m").unwrap();
        add(&path, &rig, "url", "m", "2026-01-01T00:00:00Z").unwrap();
        let after: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = before.replace(
            r#""b":{}"#,
            r#""b":{},"m":{"git_url":"url","added_at":"2026-01-01T00:00:00Z","beads":{"repo":"","prefix":"m"}}"#,
        );
        assert_eq!(after.to_string(), expected);
        assert_eq!(add(&path, &rig, "url", "m", ""), Err(EditError::Taken(rig.clone())));
        std::fs::write(&path, "{\"rigs\":").unwrap();
        assert!(matches!(add(&path, &rig, "url", "m", ""), Err(EditError::Unreadable(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"rigs\":");
        assert!(matches!(add(&dir.path().join("no"), &rig, "u", "m", ""), Err(EditError::Unreadable(_))));
    }

    #[test]
    fn a_removal_keeps_order_and_what_is_not_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rigs.json");
        let before = r#"{"z":[1],"rigs":{"c":{"q":null},"b":{},"bad name":{},"a":{"x":"y"}},"version":1}"#;
        std::fs::write(&path, before).unwrap();
        assert_eq!(remove(&path, &RigName::new("b").unwrap()), Ok(true));
        let after: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(after.to_string(), before.replace(r#""b":{},"#, ""));
        let kept = std::fs::read(&path).unwrap();
        assert_eq!(remove(&path, &RigName::new("b").unwrap()), Ok(false));
        assert_eq!(std::fs::read(&path).unwrap(), kept, "not even written anew");
        std::fs::write(&path, "{\"rigs\":").unwrap();
        assert!(matches!(remove(&path, &RigName::new("a").unwrap()), Err(EditError::Unreadable(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"rigs\":");
    }

    proptest::proptest! {
        #[test]
        fn no_json_panics(text in "\\{\"rigs\":(\\{\"[a-z./-]{0,6}\":(\\{\\}|1|null|\\{\"beads\":(\\{\"prefix\":\"-*\"\\}|2)\\})\\}|[0-9]{1,3})\\}") {
            if let Ok(Value::Object(map)) = serde_json::from_str(&text) {
                let _ = parse(&map);
            }
        }
    }
}
