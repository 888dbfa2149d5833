//! What a program that runs hooks says on stdin, as Claude does: which event it is, of which conversation, and a
//! message.
//!
//! The reading is bounded in bytes and time, and whatever comes is taken for what it is: nothing that is read can fail.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gtd_proto::params::ReportState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value};

/// What is read of an event at most. A prompt or a tool's result may be long; what is wanted comes first.
const EVENT_MAX: usize = 1 << 20;
/// How far into an event that is not whole its names are looked for.
const HEAD: usize = 8 * 1024;
/// Longest remark, in characters; the daemon keeps no longer one.
const DETAIL: usize = 1_000;
/// Longest id of a conversation that the daemon takes.
const CONVERSATION: usize = 128;

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// What the agent does.
    pub state: ReportState,
    /// A remark.
    pub detail: Option<String>,
    /// The conversation it leads.
    pub conversation: Option<String>,
}

/// What came on stdin.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// An event, or as much of one as can be used.
    Event(Value),
    /// Nothing that looks like one, and nothing more will come.
    Nothing,
    /// Nothing that looks like one in time: somebody holds the other end.
    Late,
}

/// Reads an event from stdin until it is whole, or the time is over.
pub fn read(until: Instant) -> Read {
    let stdin = std::io::stdin();
    let mut text = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut ended = false;
    while text.len() < EVENT_MAX {
        // What is there already is read, however late it is.
        if !is_readable(&stdin, until.saturating_duration_since(Instant::now())) {
            break;
        }
        match rustix::io::read(&stdin, chunk.as_mut_slice()) {
            Ok(0) | Err(_) => {
                ended = true;
                break;
            }
            Ok(n) => text.extend(chunk.iter().take(n)),
        }
        // The writer may keep its end open: what is whole is enough.
        if text.trim_ascii_end().ends_with(b"}")
            && let Some(event) = whole(&text)
        {
            return Read::Event(event);
        }
    }
    match whole(&text).or_else(|| head(&text)) {
        Some(event) => Read::Event(event),
        None if ended => Read::Nothing,
        None => Read::Late,
    }
}

fn is_readable(stdin: &impl AsFd, wait: Duration) -> bool {
    let mut fds = [PollFd::new(stdin, PollFlags::IN)];
    let wait =
        Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(0), tv_nsec: wait.subsec_nanos().into() };
    matches!(poll(&mut fds, Some(&wait)), Ok(n) if n > 0)
}

fn whole(text: &[u8]) -> Option<Value> {
    let first = serde_json::Deserializer::from_slice(text).into_iter::<Value>().next()?;
    first.ok().filter(Value::is_object)
}

/// The names at the beginning of an event that was cut off.
fn head(text: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(text.get(..HEAD).unwrap_or(text)).into_owned();
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut event = Map::new();
    for key in ["session_id", "hook_event_name", "source", "reason", "notification_type"] {
        let Some((_, rest)) = text.split_once(&format!("\"{key}\"")) else { continue };
        let Some(rest) = rest.trim_start().strip_prefix(':') else { continue };
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        if let Some(Ok(value)) = values.next() {
            event.insert(key.to_owned(), Value::String(value));
        }
    }
    (!event.is_empty()).then_some(Value::Object(event))
}

/// What is to be reported: what was asked for, unless the event says otherwise; none when it says nothing about what
/// the agent does.
pub fn spoken(asked: ReportState, event: Option<&Value>) -> Option<Spoken> {
    let Some(event) = event else { return Some(Spoken { state: asked, detail: None, conversation: None }) };
    let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
    let (state, detail) = match text("hook_event_name") {
        // In the midst of a turn its history was made shorter.
        "SessionStart" if text("source") == "compact" => return None,
        // A new session follows in the same process.
        "SessionEnd" if text("reason") == "clear" => return None,
        // A helper of its own has ended, and not its turn.
        "SubagentStop" => return None,
        "Notification" => match text("notification_type") {
            "auth_success" => return None,
            "idle_prompt" => (ReportState::Idle, None),
            // Older programs say it in words only.
            _ if text("message").contains("waiting for your input") => (ReportState::Idle, None),
            _ => (asked, Some(text("message"))),
        },
        "PreToolUse" if asked == ReportState::Waiting => (asked, Some(question(event))),
        "SessionStart" | "UserPromptSubmit" | "PreToolUse" | "PostToolUse" | "Stop" | "SessionEnd" => {
            (asked, None)
        }
        _ => (asked, Some(text("message"))),
    };
    let conversation = Some(text("session_id")).filter(|id| is_id(id)).map(str::to_owned);
    Some(Spoken { state, detail: detail.map(short).filter(|text| !text.is_empty()), conversation })
}

/// What a tool asks its person.
fn question(event: &Value) -> &str {
    let asked = event.pointer("/tool_input/questions/0/question").and_then(Value::as_str);
    asked.unwrap_or(match event.get("tool_name").and_then(Value::as_str) {
        Some("ExitPlanMode") => "its plan is to be approved",
        _ => "it asks a question",
    })
}

/// Whether a text can be the id of a conversation.
fn is_id(text: &str) -> bool {
    text.len() <= CONVERSATION
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/'))
}

/// A remark of one line that is not too long.
pub fn short(text: &str) -> String {
    let plain: String = text.chars().take(4 * DETAIL).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use gtd_proto::params::ReportState::{Ended, Idle, Started, Waiting, Working};
    use serde_json::json;

    use super::*;

    #[test]
    fn each_event_says_what_it_says() {
        let event = |name: &str, more: Value| {
            let mut event = json!({ "session_id": "c-1", "hook_event_name": name });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let none = || json!({});
        let question = json!({ "tool_name": "AskUserQuestion", "tool_input": { "questions": [{ "question": "A or\nB?" }] } });
        let permission = json!({ "message": "Claude needs your permission to use Bash", "notification_type": "permission_prompt" });
        let cases = [
            (Started, event("SessionStart", json!({ "source": "startup" })), Some((Started, None))),
            (Started, event("SessionStart", json!({ "source": "resume" })), Some((Started, None))),
            (Started, event("SessionStart", json!({ "source": "compact" })), None),
            (
                Working,
                event("UserPromptSubmit", json!({ "prompt": "secret", "message": "x" })),
                Some((Working, None)),
            ),
            (Waiting, event("PreToolUse", question), Some((Waiting, Some("A or B?")))),
            (
                Waiting,
                event("PreToolUse", json!({ "tool_name": "ExitPlanMode" })),
                Some((Waiting, Some("its plan is to be approved"))),
            ),
            (Waiting, event("PreToolUse", none()), Some((Waiting, Some("it asks a question")))),
            (
                Working,
                event("PostToolUse", json!({ "tool_response": { "message": "x" } })),
                Some((Working, None)),
            ),
            (
                Waiting,
                event("Notification", permission),
                Some((Waiting, Some("Claude needs your permission to use Bash"))),
            ),
            (
                Waiting,
                event("Notification", json!({ "message": "Claude is waiting for your input" })),
                Some((Idle, None)),
            ),
            (
                Waiting,
                event("Notification", json!({ "message": "x", "notification_type": "idle_prompt" })),
                Some((Idle, None)),
            ),
            (
                Waiting,
                event("Notification", json!({ "message": "x", "notification_type": "auth_success" })),
                None,
            ),
            (Waiting, event("Notification", json!({ "message": 5 })), Some((Waiting, None))),
            (Idle, event("Stop", json!({ "stop_hook_active": false })), Some((Idle, None))),
            (Idle, event("SubagentStop", none()), None),
            (Ended, event("SessionEnd", json!({ "reason": "other" })), Some((Ended, None))),
            (Ended, event("SessionEnd", json!({ "reason": "clear" })), None),
            (
                Idle,
                event("AnEventOfALaterVersion", json!({ "message": " hi\u{7} " })),
                Some((Idle, Some("hi"))),
            ),
        ];
        for (asked, event, expected) in cases {
            let spoken = spoken(asked, Some(&event));
            let got = spoken.as_ref().map(|spoken| (spoken.state, spoken.detail.as_deref()));
            assert_eq!(got, expected, "{event}");
            assert!(spoken.is_none_or(|spoken| spoken.conversation.as_deref() == Some("c-1")));
        }
        let plain = Spoken { state: Idle, detail: None, conversation: None };
        assert_eq!(spoken(Idle, None), Some(plain.clone()));
        assert_eq!(spoken(Idle, Some(&json!({ "session_id": "--help" }))), Some(plain.clone()));
        assert_eq!(spoken(Idle, Some(&json!({ "session_id": ["x"], "message": {} }))), Some(plain));
    }

    #[test]
    fn what_is_cut_off_or_junk_is_read_as_far_as_it_goes() {
        let cut = br#"{"session_id": "c-1","hook_event_name":"UserPromptSubmit","prompt":"long and lon"#;
        let event = whole(cut).or_else(|| head(cut)).unwrap();
        assert_eq!(event, json!({ "session_id": "c-1", "hook_event_name": "UserPromptSubmit" }));
        for junk in [&b""[..], b"\xff\xfe", b"hello", b"[1,2]", b"null", b"5", b"{", b"{\"session_id\""] {
            assert_eq!(whole(junk).or_else(|| head(junk)), None, "{junk:?}");
        }
        // One whole text is enough, whatever follows.
        assert_eq!(whole(b"{\"a\":1} trailing"), Some(json!({ "a": 1 })));
        assert_eq!(short(&"x".repeat(100_000)).len(), DETAIL);
    }
}
