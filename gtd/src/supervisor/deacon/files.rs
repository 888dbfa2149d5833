//! What the deacon's files say, read leniently: they are others', and written in place.

use gtd_proto::Timestamp;
use gtd_proto::deacon::DeaconPaused;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::town::{Layout, file};

/// `deacon/heartbeat.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeartbeatFile {
    /// There is none.
    Missing,
    /// It says nothing that can be understood, for this reason.
    Bad(String),
    /// It was read.
    Beat(Beat),
}

/// What tells one writing of the file from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When the deacon says that it wrote it, by its wall clock.
    pub timestamp: Timestamp,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<u64>,
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) stamp: Stamp,
    pub(super) last_action: Option<String>,
}

/// `.runtime/deacon/paused.json`. One that cannot be understood was written by somebody who wanted a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PauseFile {
    /// There is none, or it says that there is no pause.
    No,
    /// There is a pause.
    Paused(DeaconPaused),
}

/// Both files, read one after the other. Blocks.
pub(super) fn read(layout: &Layout) -> (HeartbeatFile, PauseFile) {
    let beat = match file::read_object(&layout.deacon_heartbeat()) {
        Ok(None) => HeartbeatFile::Missing,
        Ok(Some(map)) => beat(&map),
        Err(why) => HeartbeatFile::Bad(why),
    };
    let pause = match file::read_object(&layout.deacon_paused()) {
        Ok(None) => PauseFile::No,
        Ok(Some(map)) => pause(&map),
        Err(why) => PauseFile::Paused(DeaconPaused { error: Some(why), ..DeaconPaused::default() }),
    };
    (beat, pause)
}

fn beat(map: &Map<String, Value>) -> HeartbeatFile {
    let timestamp = match map.get("timestamp") {
        Some(Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(timestamp) => timestamp,
            Err(_) => return HeartbeatFile::Bad(format!("has {text:?} for a timestamp")),
        },
        Some(_) => return HeartbeatFile::Bad("has a timestamp that is no text".to_owned()),
        None => return HeartbeatFile::Bad("has no timestamp".to_owned()),
    };
    let action = map.get("last_action").and_then(Value::as_str).filter(|action| !action.is_empty());
    HeartbeatFile::Beat(Beat {
        stamp: Stamp { timestamp, cycle: map.get("cycle").and_then(Value::as_u64) },
        last_action: action.map(|action| action.chars().take(SHOWN).collect()),
    })
}

/// Characters of others' texts that are shown.
const SHOWN: usize = 200;

fn pause(map: &Map<String, Value>) -> PauseFile {
    let text = |key: &str| {
        let text = map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(|text| text.chars().take(SHOWN).collect::<String>())
    };
    let mut paused = DeaconPaused {
        reason: text("reason"),
        paused_at: text("paused_at").and_then(|at| at.parse().ok()),
        paused_by: text("paused_by"),
        error: None,
    };
    match map.get("paused") {
        Some(Value::Bool(false)) => return PauseFile::No,
        Some(Value::Bool(true)) => {}
        Some(other) => paused.error = Some(format!("has {other} for \"paused\"")),
        None => paused.error = Some("does not say whether there is a pause".to_owned()),
    }
    PauseFile::Paused(paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn town() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["deacon", ".runtime/deacon"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let layout = Layout::at(dir.path()).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_heartbeat_is_read_as_the_incumbent_writes_it() {
        let (_dir, layout) = town();
        assert_eq!(read(&layout), (HeartbeatFile::Missing, PauseFile::No));
        let text = r#"{"timestamp":"2026-01-02T18:30:00Z","cycle":42,"last_action":"health-scan","healthy_agents":0,"unhealthy_agents":0}"#;
        std::fs::write(layout.deacon_heartbeat(), text).unwrap();
        let stamp = Stamp { timestamp: "2026-01-02T18:30:00Z".parse().unwrap(), cycle: Some(42) };
        let beat = Beat { stamp, last_action: Some("health-scan".to_owned()) };
        assert_eq!(read(&layout).0, HeartbeatFile::Beat(beat));
        // With the zone of wherever it was written, and nothing else.
        std::fs::write(layout.deacon_heartbeat(), r#"{"timestamp":"2026-01-02T19:30:00.5+01:00"}"#).unwrap();
        let HeartbeatFile::Beat(beat) = read(&layout).0 else { panic!() };
        assert_eq!(beat.stamp.timestamp.to_string(), "2026-01-02T18:30:00.5Z");
    }

    #[test]
    fn what_is_no_heartbeat_is_bad_and_not_missing() {
        let (_dir, layout) = town();
        for text in
            ["", "  \n", "{\"timest", "[]", "{}", r#"{"timestamp":7}"#, r#"{"timestamp":"soon"}"#, "\0\0"]
        {
            std::fs::write(layout.deacon_heartbeat(), text).unwrap();
            assert!(matches!(read(&layout).0, HeartbeatFile::Bad(_)), "{text:?}");
        }
        std::fs::remove_file(layout.deacon_heartbeat()).unwrap();
        std::fs::create_dir(layout.deacon_heartbeat()).unwrap();
        assert!(matches!(read(&layout).0, HeartbeatFile::Bad(_)));
    }

    #[test]
    fn whatever_there_is_of_a_pause_is_one_unless_it_says_no() {
        let (_dir, layout) = town();
        let cases = [
            (
                r#"{"paused":true,"reason":"upgrade","paused_at":"2026-01-02T18:30:00Z","paused_by":"human"}"#,
                Some(true),
            ),
            (r#"{"paused":false}"#, None),
            ("", Some(false)),
            ("{", Some(false)),
            ("{}", Some(false)),
            (r#"{"paused":"yes"}"#, Some(false)),
        ];
        for (text, understood) in cases {
            std::fs::write(layout.deacon_paused(), text).unwrap();
            match (read(&layout).1, understood) {
                (PauseFile::No, None) => {}
                (PauseFile::Paused(paused), Some(understood)) => {
                    assert_eq!(paused.error.is_none(), understood, "{text:?}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
