//! What `bd` wrote, read: an answer is a JSON text on one of its streams, whatever else is around it. Its exit
//! status says nothing.

use std::str::FromStr;

use gtd_proto::{Timestamp, WorkId};
use serde::Deserialize;
use serde_json::Value;

use super::run::Output;
use crate::work::{Item, Why};

/// Places at which a JSON text is looked for among other lines.
const TRIES: usize = 64;
/// Longest text of a reason.
const REASON_MAX: usize = 400;

/// What was said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Items, of which some may be records.
    Items(Vec<Item>),
    /// An object that is no item.
    Object(Value),
    /// Why it failed, in the program's words.
    Failed(String),
    /// Nothing that can be read.
    Nothing,
}

/// Reads an answer: its standard output, else its standard error, else as mere text.
#[must_use]
pub fn read(output: &Output) -> Said {
    let stdout = String::from_utf8_lossy(&output.stdout);
    match value(&stdout).map(said) {
        Some(Said::Nothing) | None => {}
        Some(said) => return said,
    }
    // Items among the complaints would be no answer.
    if let Some(Said::Failed(why)) = value(&output.stderr).map(said) {
        return Said::Failed(why);
    }
    match reason(&output.stderr) {
        Some(why) => Said::Failed(why),
        None => Said::Nothing,
    }
}

/// Reads an answer as the objects that it has, whatever they are.
///
/// # Errors
/// What was said instead.
pub fn objects(output: &Output) -> Result<Vec<Value>, Said> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    match value(&stdout).map(super::messages::first_value) {
        Some(Err(Said::Nothing)) | None => Err(read(&Output { stdout: Vec::new(), ..output.clone() })),
        Some(other) => other,
    }
}

fn said(value: Value) -> Said {
    match value {
        // A list without a single item is written as null by some.
        Value::Null => Said::Items(Vec::new()),
        Value::Array(list) => items(list).map_or(Said::Nothing, Said::Items),
        Value::Object(mut map) => {
            // The envelope of later versions.
            if map.contains_key("schema_version")
                && let Some(data) = map.remove("data")
            {
                return said(data);
            }
            if let Some(error) = map.get("error").and_then(Value::as_str) {
                return Said::Failed(cut(error));
            }
            if map.contains_key("id") && map.contains_key("status") {
                return items(vec![Value::Object(map)]).map_or(Said::Nothing, Said::Items);
            }
            Said::Object(Value::Object(map))
        }
        _ => Said::Nothing,
    }
}

/// An item as `bd` writes it. What we do not use is not looked at.
#[derive(Debug, Deserialize)]
struct Written {
    id: String,
    title: String,
    status: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    assignee: Option<String>,
    #[serde(default)]
    priority: Option<i64>,
    #[serde(default)]
    issue_type: Option<String>,
    #[serde(default)]
    labels: Option<Vec<String>>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
    #[serde(default)]
    closed_at: Option<String>,
}

/// Types and labels of what the incumbent keeps in the same place and nobody works on.
const RECORDS: &[&str] = &["agent", "role", "rig", "message", "event", "slot", "queue"];
const RECORD_LABELS: &[&str] = &["gt:agent", "gt:role", "gt:rig", "gt:message"];

/// All or nothing: a list of which a part cannot be read is no list.
fn items(list: Vec<Value>) -> Option<Vec<Item>> {
    list.into_iter().map(|value| serde_json::from_value(value).ok().and_then(item)).collect()
}

fn item(written: Written) -> Option<Item> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let time = |text: Option<String>| text.and_then(|text| Timestamp::from_str(&text).ok());
    let labelled = written.labels.iter().flatten().any(|label| RECORD_LABELS.contains(&label.as_str()));
    let record = labelled || written.issue_type.is_some_and(|kind| RECORDS.contains(&kind.as_str()));
    Some(Item {
        id: WorkId::new(written.id).ok()?,
        title: written.title,
        description: filled(written.description),
        status: written.status,
        assignee: filled(written.assignee),
        priority: written.priority,
        created_at: time(written.created_at),
        updated_at: time(written.updated_at),
        hooked_at: None,
        closed_at: time(written.closed_at),
        record,
    })
}

/// The first JSON object or array that begins a line, past whatever lines of warnings there are.
fn value(text: &str) -> Option<Value> {
    let mut starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    let mut tries = 0;
    loop {
        let rest = text.get(starts.next()?..)?;
        if !(rest.starts_with(['{', '[']) || (rest.trim() == "null" && tries == 0)) {
            continue;
        }
        tries += 1;
        if tries > TRIES {
            return None;
        }
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if let Some(Ok(value)) = stream.next() {
            return Some(value);
        }
    }
}

/// The line of a text that says what went wrong: the first that calls itself an error, else the last.
pub fn reason(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.to_ascii_lowercase().starts_with("error"))
        .or_else(|| lines().rev().find(|line| !is_remark(line)))?;
    Some(cut(line.strip_prefix("Error: ").unwrap_or(line)))
}

/// A line that comes with successes as well.
fn is_remark(line: &str) -> bool {
    let line = line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
    [
        "warning",
        "note",
        "hint",
        "tip",
        "staleness check skipped",
        "creating issue",
        "issues without",
        "consider",
    ]
    .iter()
    .any(|word| line.starts_with(word))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(REASON_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether a program of either generation said that there is no item of this id. Only these words count: "not
/// found" alone is also said of databases, servers and commands.
#[must_use]
pub fn denies(output: &Output, id: &str) -> bool {
    let plain = format!("no issue found matching \"{id}\"");
    // As it stands within a JSON string.
    let quoted = format!("no issue found matching \\\"{id}\\\"");
    let stdout = String::from_utf8_lossy(&output.stdout);
    [stdout.as_ref(), output.stderr.as_str()]
        .iter()
        .any(|text| text.contains(&plain) || text.contains(&quoted))
}

/// What to make of an answer that should have been something else.
#[must_use]
pub fn unexpected(said: Said) -> Why {
    match said {
        Said::Failed(why) => Why::Refused(why),
        Said::Items(items) => match items.first() {
            Some(item) => Why::Other(item.id.to_string()),
            None => Why::Unreadable,
        },
        Said::Object(_) | Said::Nothing => Why::Unreadable,
    }
}
