//! How a failure is said: `error: what`, the facts that help to understand it, `hint: what helps`.

use serde_json::{Map, Value};

use super::paint::{Paint, Tone};
use crate::failure::Failure;
use crate::output::card::ended;

/// The lines of a failure, for stderr.
#[must_use]
pub fn lines(failure: &Failure, paint: Paint) -> Vec<String> {
    let (message, hint, data) = match failure {
        Failure::Rpc(e) => (&e.message, e.hint.as_ref(), &e.data),
        Failure::Local(e) => (&e.message, e.hint.as_ref(), &e.data),
        Failure::BrokenPipe => return Vec::new(),
    };
    let mut out = vec![format!("{} {message}", paint.text(Tone::Bad, "error:"))];
    out.extend(facts(data, message));
    if let Some(hint) = hint {
        out.push(format!("{} {hint}", paint.strong("hint:")));
    }
    out
}

/// The facts of an error that a person wants to see and that its message does not say, in a fixed order.
fn facts(data: &Map<String, Value>, message: &str) -> Vec<String> {
    let mut out = Vec::new();
    let text = |key: &str| data.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(exit) = data.get("exit") {
        let number = |key: &str| exit.get(key).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
        out.push(format!("  it ended: {}", ended(number("code"), number("signal"))));
    }
    if let Some(exec) = data.get("exec_error") {
        let part = |key: &str| exec.get(key).and_then(Value::as_str).unwrap_or_default();
        if !["errno", "path"].iter().all(|key| message.contains(part(key))) {
            let words = format!("  {} failed: {} {}", part("op"), part("errno"), part("path"));
            out.push(words.trim_end().to_owned());
        }
    }
    if let Some(file) = text("file") {
        let number = |key: &str| data.get(key).and_then(Value::as_u64);
        let place = match (number("line"), number("column")) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            (Some(line), None) => format!(":{line}"),
            _ => String::new(),
        };
        let key = text("key").map(|key| format!(" key {key}")).unwrap_or_default();
        if !message.contains(&format!("{file}{place}")) {
            out.push(format!("  in {file}{place}{key}"));
        }
        if let Some(line) = text("excerpt") {
            out.extend(quoted([line]));
            let before =
                number("column").and_then(|n| usize::try_from(n).ok()).unwrap_or(1).saturating_sub(1);
            out.push(format!("  │ {}^", " ".repeat(before.min(line.chars().count()))));
        }
    }
    for (key, title) in [("reached", "reached"), ("command", "command"), ("summary", "would be lost")] {
        if let Some(text) = text(key).filter(|text| !message.contains(text)) {
            out.push(format!("  {title}: {text}"));
        }
    }
    if let Some(known) = data.get("known").and_then(Value::as_array).filter(|known| !known.is_empty()) {
        let names: Vec<&str> = known.iter().filter_map(Value::as_str).collect();
        out.push(format!("  there are: {}", names.join(", ")));
    }
    for (key, title) in [("output", "its last output:"), ("stderr", "it said:")] {
        let said: Vec<&str> = match data.get(key) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => text.lines().collect(),
            _ => continue,
        };
        let known = |line: &str| message.contains(line.trim().trim_start_matches("fatal: "));
        if said.iter().any(|line| !known(line)) {
            out.push(format!("  {title}"));
            out.extend(quoted(said));
        }
    }
    out
}

/// Somebody else's lines, marked as such and without what a terminal would obey.
#[must_use]
pub fn quoted<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    lines.into_iter().map(|line| format!("  │ {}", plain(line)).trim_end().to_owned()).collect()
}

/// A line without control characters.
#[must_use]
pub fn plain(line: &str) -> String {
    line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_message_says_is_not_said_again() {
        let said = |message: &str| {
            let failure =
                Failure::failed(message).with("command", "git clone x").with("stderr", "fatal: no x");
            lines(&failure, Paint::new(false))
        };
        assert_eq!(said("git clone x: fatal: no x"), ["error: git clone x: fatal: no x"]);
        assert_eq!(said("cannot clone x: no x"), ["error: cannot clone x: no x", "  command: git clone x"]);
        let launch = Failure::failed("cannot execute /x: it is not there (ENOENT)")
            .with("exec_error", serde_json::json!({"op": "execve", "errno": "ENOENT", "path": "/x"}));
        assert_eq!(lines(&launch, Paint::new(false)).len(), 1);
        let all = ["error: it failed", "  command: git clone x", "  it said:", "  │ fatal: no x"];
        assert_eq!(said("it failed"), all);
    }
}
