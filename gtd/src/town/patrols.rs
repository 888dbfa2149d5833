//! The switches of patrols, `mayor/daemon.json`.
//!
//! Must never switch off what nobody switched off: an entry without `enabled` is enabled.

use std::collections::BTreeMap;
use std::path::Path;

use gtd_proto::{RigName, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::file;
use super::wisp::truth;

/// One switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Whether the patrol is on.
    pub enabled: bool,
    /// The rigs it is for: all when empty.
    pub rigs: Vec<String>,
}

/// The switches by the patrols' names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Patrols {
    /// Those that the file has.
    pub switches: BTreeMap<String, Switch>,
    /// What was passed over in it.
    pub odd: Vec<String>,
}

/// How a patrol is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// By its own switch.
    Disabled,
    /// It is for other rigs.
    NotListed,
}

impl Patrols {
    /// Whether a role is to be kept running, in a rig where it belongs to one. What the file does not
    /// mention is on.
    #[must_use]
    pub fn enabled(&self, role: Role, rig: Option<&RigName>) -> bool {
        self.off(role, rig).is_none()
    }

    /// How a role is switched off, if it is.
    #[must_use]
    pub fn off(&self, role: Role, rig: Option<&RigName>) -> Option<Off> {
        let switch = self.switches.get(role.as_str())?;
        let listed = |rig: &RigName| switch.rigs.iter().any(|name| name == rig.as_str());
        if !switch.enabled {
            Some(Off::Disabled)
        } else if !switch.rigs.is_empty() && rig.is_some_and(|rig| !listed(rig)) {
            Some(Off::NotListed)
        } else {
            None
        }
    }
}

/// Reads the switches. A missing file means that all are on.
///
/// # Errors
/// When the file is there and cannot be read: then it is not known what is off.
pub fn read(path: &Path) -> Result<Patrols, String> {
    match file::read_object(path)? {
        None => Ok(Patrols::default()),
        Some(map) => parse(&map),
    }
}

fn parse(map: &Map<String, Value>) -> Result<Patrols, String> {
    let entries = match map.get("patrols") {
        None | Some(Value::Null) => return Ok(Patrols::default()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err("has something other than an object under \"patrols\"".to_owned()),
    };
    let mut patrols = Patrols::default();
    for (name, entry) in entries {
        let enabled = match entry {
            Value::Null => Ok(true),
            Value::Object(fields) => fields.get("enabled").map_or(Ok(true), truth),
            // `"witness": false` can mean one thing only.
            other => truth(other),
        };
        let enabled = enabled.unwrap_or_else(|given| {
            patrols.odd.push(format!("{name}: {given} is neither true nor false"));
            true
        });
        let rigs = match entry.get("rigs") {
            Some(Value::Array(rigs)) => rigs.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(rig)) => vec![rig.clone()],
            None | Some(Value::Null) => Vec::new(),
            Some(other) => {
                patrols.odd.push(format!("{name}: rigs is {other}, not a list"));
                Vec::new()
            }
        };
        patrols.switches.insert(name.to_ascii_lowercase(), Switch { enabled, rigs });
    }
    Ok(patrols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_mean_what_they_say() {
        let text = r#"{"patrols":{"witness":{"interval":"5m"},"refinery":{"enabled":true,"rigs":["a"]},
            "deacon":{"enabled":"false"},"boot":false,"mayor":{"enabled":"sometimes","rigs":7}}}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let patrols = parse(value.as_object().unwrap()).unwrap();
        let (a, ab) = (RigName::new("a").unwrap(), RigName::new("a-b").unwrap());
        let cases = [
            (Role::Witness, Some(&a), true),
            (Role::Refinery, Some(&a), true),
            (Role::Refinery, Some(&ab), false),
            (Role::Deacon, None, false),
            (Role::Boot, None, false),
            (Role::Mayor, None, true),
            (Role::Polecat, Some(&a), true),
        ];
        for (role, rig, expected) in cases {
            assert_eq!(patrols.enabled(role, rig), expected, "{role} {rig:?}");
        }
        assert_eq!(patrols.odd.len(), 2);
    }

    #[test]
    fn no_file_switches_nothing_off_and_a_broken_one_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        assert!(read(&path).unwrap().enabled(Role::Witness, None));
        std::fs::write(&path, r#"{"patrols":[]}"#).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, r#"{"heartbeat":{"enabled":false}}"#).unwrap();
        assert!(read(&path).unwrap().enabled(Role::Deacon, None));
    }
}
