//! The operational state of a rig, `.beads-wisp/config/<rig>.json`.
//!
//! Decides whether agents of a rig may be started. Slips of case and type count as what was meant: a rig
//! that somebody tried to park is parked. Must never stop anything: it only bars starts.

use std::path::Path;

use serde_json::{Map, Value};

use super::file;

/// Why agents of a rig may not be started; the words of error 1005.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Reason {
    /// Set aside on this machine.
    #[serde(rename = "parked")]
    Parked,
    /// Set aside everywhere.
    #[serde(rename = "docked")]
    Docked,
    /// Restarts are blocked in the state file.
    #[serde(rename = "auto_restart is blocked")]
    AutoRestartBlocked,
    /// Restarts are switched off in the state file.
    #[serde(rename = "auto_restart is disabled")]
    AutoRestartDisabled,
    /// The state file cannot be read, so nobody knows.
    #[serde(rename = "state file unreadable")]
    Unreadable,
}

impl Reason {
    /// The words on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Docked => "docked",
            Self::AutoRestartBlocked => "auto_restart is blocked",
            Self::AutoRestartDisabled => "auto_restart is disabled",
            Self::Unreadable => "state file unreadable",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What `status` says, when it sets the rig aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// On this machine.
    Parked,
    /// Everywhere.
    Docked,
}

impl From<Status> for Reason {
    fn from(status: Status) -> Self {
        match status {
            Status::Parked => Self::Parked,
            Status::Docked => Self::Docked,
        }
    }
}

/// What a state file says. Without a file nothing was ever set, which is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// There is a file.
    pub present: bool,
    /// The rig is set aside.
    pub status: Option<Status>,
    /// Restarts are switched off, in one of two ways.
    pub restarts: Option<Reason>,
    /// A value that is no word for anything, and was passed over.
    pub odd: Option<String>,
}

impl State {
    /// Whether agents may be started, or why not.
    ///
    /// # Errors
    /// With the reason that comes first.
    pub fn operational(&self) -> Result<(), Reason> {
        self.status.map(Reason::from).or(self.restarts).map_or(Ok(()), Err)
    }
}

/// Reads a rig's state. A missing file is normal: the rig was never set aside.
///
/// # Errors
/// When the file is there and cannot be read or is not right.
pub fn read(path: &Path) -> Result<State, String> {
    match file::read_object(path)? {
        None => Ok(State::default()),
        Some(map) => parse(&map).map(|state| State { present: true, ..state }),
    }
}

/// A key in the spelling of the file: `Auto-Restart` is `auto_restart`.
pub(super) fn plain(key: &str) -> String {
    key.trim().to_ascii_lowercase().replace(['-', ' '], "_")
}

fn parse(map: &Map<String, Value>) -> Result<State, String> {
    let field = |name: &str| map.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value);
    let empty = Map::new();
    let values = match field("values") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(values)) => values,
        Some(_) => return Err("has something other than an object under \"values\"".to_owned()),
    };
    let blocked: Vec<String> = match field("blocked") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(key)) => vec![plain(key)],
        Some(Value::Array(keys)) => keys.iter().filter_map(Value::as_str).map(plain).collect(),
        Some(_) => return Err("has something other than a list under \"blocked\"".to_owned()),
    };
    let is_blocked = |name: &str| blocked.iter().any(|key| key == name);
    let value = |name: &str| values.iter().find(|(key, _)| plain(key) == name).map(|(_, value)| value);

    let mut state = State::default();
    let status = if is_blocked("status") { None } else { value("status") };
    match status.map(|value| (value, value.as_str().map(plain))) {
        None | Some((Value::Null, _)) => {}
        Some((_, Some(word))) if word_of(&word).is_some() => state.status = word_of(&word),
        Some((_, Some(word))) if matches!(word.as_str(), "" | "operational" | "active") => {}
        Some((other, _)) => state.odd = Some(format!("status {other} is neither parked nor docked")),
    }
    if is_blocked("auto_restart") {
        state.restarts = Some(Reason::AutoRestartBlocked);
        return Ok(state);
    }
    match value("auto_restart").map(truth) {
        Some(Ok(false)) => state.restarts = Some(Reason::AutoRestartDisabled),
        None | Some(Ok(true)) => {}
        Some(Err(other)) => {
            state.odd = state.odd.or(Some(format!("auto_restart {other} is neither true nor false")));
        }
    }
    Ok(state)
}

/// The state that a word of `status`, in the spelling of [`plain`], means.
pub(super) fn word_of(word: &str) -> Option<Status> {
    match word {
        "parked" | "park" => Some(Status::Parked),
        "docked" | "dock" => Some(Status::Docked),
        _ => None,
    }
}

/// A truth value in whatever type it was written.
pub(super) fn truth(value: &Value) -> Result<bool, String> {
    let word = match value {
        Value::Bool(truth) => return Ok(*truth),
        Value::Null => return Ok(true),
        Value::Number(number) => number.to_string(),
        Value::String(text) => plain(text),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    match word.as_str() {
        "true" | "yes" | "on" | "1" | "t" | "enabled" | "" => Ok(true),
        "false" | "no" | "off" | "0" | "f" | "disabled" | "blocked" => Ok(false),
        _ => Err(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_reason() {
        let cases: &[(&str, Result<(), Reason>)] = &[
            ("{}", Ok(())),
            (r#"{"rig":"x","values":{},"blocked":[]}"#, Ok(())),
            (r#"{"values":null,"blocked":null}"#, Ok(())),
            (r#"{"values":{"status":"parked"}}"#, Err(Reason::Parked)),
            (r#"{"values":{"status":" PARKED "}}"#, Err(Reason::Parked)),
            (r#"{"Values":{"Status":"Park"}}"#, Err(Reason::Parked)),
            (r#"{"values":{"status":"Docked"}}"#, Err(Reason::Docked)),
            (r#"{"values":{"status":"parked"},"blocked":["status"]}"#, Ok(())),
            (r#"{"values":{"status":"operational"}}"#, Ok(())),
            (r#"{"values":{"auto_restart":false}}"#, Err(Reason::AutoRestartDisabled)),
            (r#"{"values":{"auto_restart":"False"}}"#, Err(Reason::AutoRestartDisabled)),
            (r#"{"values":{"auto_restart":0}}"#, Err(Reason::AutoRestartDisabled)),
            (r#"{"values":{"auto-restart":"no"}}"#, Err(Reason::AutoRestartDisabled)),
            (r#"{"values":{"auto_restart":true}}"#, Ok(())),
            (r#"{"values":{"auto_restart":"yes"}}"#, Ok(())),
            (r#"{"blocked":["auto_restart"]}"#, Err(Reason::AutoRestartBlocked)),
            (r#"{"blocked":["Auto_Restart"]}"#, Err(Reason::AutoRestartBlocked)),
            (r#"{"blocked":"auto_restart"}"#, Err(Reason::AutoRestartBlocked)),
            (r#"{"values":{"auto_restart":"blocked"}}"#, Err(Reason::AutoRestartDisabled)),
            (
                r#"{"values":{"status":"parked","auto_restart":false},"blocked":["auto_restart"]}"#,
                Err(Reason::Parked),
            ),
        ];
        for (text, expected) in cases {
            let value: Value = serde_json::from_str(text).unwrap();
            let state = parse(value.as_object().unwrap()).unwrap();
            assert_eq!((state.operational(), state.odd), (*expected, None), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_said_and_bars_nothing() {
        for text in [
            r#"{"values":{"status":"paked"}}"#,
            r#"{"values":{"status":true}}"#,
            r#"{"values":{"auto_restart":"maybe"}}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let state = parse(value.as_object().unwrap()).unwrap();
            assert_eq!(state.operational(), Ok(()), "{text}");
            assert!(state.odd.is_some(), "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_normal_and_a_broken_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(read(&path), Ok(State::default()));
        for bad in ["", "{", "[]", r#"{"values":[]}"#, r#"{"blocked":{}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "{bad}");
        }
    }
}
