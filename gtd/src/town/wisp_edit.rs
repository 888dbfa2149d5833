//! Writing a rig's operational state, by explicit command only.
//!
//! Changes the one word that is meant and keeps everything else: unknown fields, other values, order. Must
//! never write over a file that it could not read.

use std::path::Path;

use gtd_proto::RigName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::file;
use super::registry::EditError;
use super::wisp::{Status, plain, word_of};

/// What the file is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// That the rig is parked.
    Park,
    /// No longer that it is parked; other words are left.
    Unpark,
    /// No longer that it is docked; other words are left.
    Undock,
    /// Neither of both.
    Clear,
}

impl Edit {
    /// Whether the file no longer says this afterwards.
    #[must_use]
    pub fn takes_out(self, status: Status) -> bool {
        match self {
            Self::Park => status == Status::Docked,
            Self::Unpark => status == Status::Parked,
            Self::Undock => status == Status::Docked,
            Self::Clear => true,
        }
    }
}

/// Brings a state file to say what it should. A file that says so already is not written.
///
/// # Errors
/// When it is there and cannot be read, or cannot be written. It is then unchanged.
pub fn edit(path: &Path, rig: &RigName, edit: Edit) -> Result<(), EditError> {
    let before = file::read_object(path).map_err(EditError::Unreadable)?;
    let mut map = match (&before, edit) {
        (Some(map), _) => map.clone(),
        (None, Edit::Unpark | Edit::Undock | Edit::Clear) => return Ok(()),
        (None, Edit::Park) => fresh(rig),
    };
    change(&mut map, edit)?;
    if before.as_ref() == Some(&map) {
        return Ok(());
    }
    let unwritable = |error: std::io::Error| EditError::Unwritable(error.to_string());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(unwritable)?;
    }
    file::replace(path, &file::pretty(&Value::Object(map)), 0o644).map_err(unwritable)
}

/// As the incumbent begins one.
fn fresh(rig: &RigName) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("rig".to_owned(), json!(rig));
    map.insert("values".to_owned(), json!({}));
    map.insert("blocked".to_owned(), json!([]));
    map
}

fn change(map: &mut Map<String, Value>, edit: Edit) -> Result<(), EditError> {
    let odd =
        |what: &str| EditError::Unreadable(format!("has something other than an object under {what:?}"));
    let key = key(map, "values").unwrap_or_else(|| "values".to_owned());
    let values = map.entry(key).or_insert_with(|| json!({}));
    if values.is_null() {
        *values = json!({});
    }
    let Some(values) = values.as_object_mut() else { return Err(odd("values")) };
    let slips: Vec<String> = values.keys().filter(|key| plain(key) == "status").cloned().collect();
    match edit {
        Edit::Park => {
            slips.iter().filter(|key| *key != "status").for_each(|key| drop(values.shift_remove(key)));
            values.insert("status".to_owned(), json!("parked"));
            unblock(map);
        }
        Edit::Unpark | Edit::Undock | Edit::Clear => {
            for key in slips {
                let word = values.get(&key).and_then(Value::as_str).map(plain);
                if word.and_then(|word| word_of(&word)).is_some_and(|status| edit.takes_out(status)) {
                    values.shift_remove(&key);
                }
            }
        }
    }
    Ok(())
}

/// A blocked key counts as not set: parking would be of no effect.
fn unblock(map: &mut Map<String, Value>) {
    let Some(key) = key(map, "blocked") else { return };
    let is_status = |value: &Value| value.as_str().is_some_and(|key| plain(key) == "status");
    match map.get_mut(&key) {
        Some(Value::Array(keys)) => keys.retain(|value| !is_status(value)),
        Some(value) if is_status(value) => *value = json!([]),
        _ => {}
    }
}

/// The key of the file that means a name.
fn key(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.keys().find(|key| plain(key) == name).cloned()
}

#[cfg(test)]
mod tests {
    use super::super::wisp;
    use super::*;
    use std::fs;

    fn after(text: Option<&str>, what: Edit) -> Result<String, EditError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config/a.json");
        if let Some(text) = text {
            fs::create_dir(dir.path().join("config")).unwrap();
            fs::write(&path, text).unwrap();
        }
        edit(&path, &RigName::new("a").unwrap(), what)?;
        Ok(match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).unwrap().to_string(),
            Err(_) => "none".to_owned(),
        })
    }

    #[test]
    fn one_word_changes_and_everything_else_stays() {
        let cases = [
            (None, Edit::Park, r#"{"rig":"a","values":{"status":"parked"},"blocked":[]}"#),
            (None, Edit::Unpark, "none"),
            (None, Edit::Undock, "none"),
            (Some("{}"), Edit::Park, r#"{"values":{"status":"parked"}}"#),
            (
                Some(r#"{"x":1,"values":{"k":true,"Status":"Docked","z":2},"blocked":["status","m"]}"#),
                Edit::Park,
                r#"{"x":1,"values":{"k":true,"z":2,"status":"parked"},"blocked":["m"]}"#,
            ),
            (
                Some(r#"{"Values":null,"blocked":"Status"}"#),
                Edit::Park,
                r#"{"Values":{"status":"parked"},"blocked":[]}"#,
            ),
            (
                Some(r#"{"rig":"a","values":{"STATUS":" Park ","auto_restart":false},"q":[]}"#),
                Edit::Unpark,
                r#"{"rig":"a","values":{"auto_restart":false},"q":[]}"#,
            ),
            (Some(r#"{"values":{"status":"docked"}}"#), Edit::Unpark, r#"{"values":{"status":"docked"}}"#),
            (Some(r#"{"values":{"status":"parked"}}"#), Edit::Undock, r#"{"values":{"status":"parked"}}"#),
            (Some(r#"{"values":{"status":"docked","Status":"park"}}"#), Edit::Clear, r#"{"values":{}}"#),
            (Some(r#"{"values":{"status":"dock"}}"#), Edit::Undock, r#"{"values":{}}"#),
        ];
        for (text, what, expected) in cases {
            assert_eq!(after(text, what).as_deref(), Ok(expected), "{text:?} {what:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        for text in ["", "{", "[]", r#"{"values":[]}"#] {
            for what in [Edit::Park, Edit::Unpark, Edit::Undock, Edit::Clear] {
                assert!(matches!(after(Some(text), what), Err(EditError::Unreadable(_))), "{text:?}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "{torn").unwrap();
        assert!(edit(&path, &RigName::new("a").unwrap(), Edit::Park).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{torn");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(edit(&path, &RigName::new("a").unwrap(), Edit::Park).is_err(), "a directory is in its place");
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        for start in ["{}", r#"{"blocked":["STATUS"]}"#, r#"{"values":{"Status":"docked"}}"#] {
            let parked = after(Some(start), Edit::Park).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.json");
            fs::write(&path, &parked).unwrap();
            assert_eq!(wisp::read(&path).unwrap().status, Some(Status::Parked), "{parked}");
            edit(&path, &RigName::new("a").unwrap(), Edit::Unpark).unwrap();
            assert_eq!(wisp::read(&path).unwrap().operational(), Ok(()));
        }
    }
}
