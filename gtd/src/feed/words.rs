//! Events in words that a person wants to read: a title for the eye, a body with what helps.
//!
//! Owns the wording. Must never fail: an event of a later version gets words too.

use std::time::Duration;

use gtd_proto::Event;
use serde_json::Value;

/// Longest title and body, in characters: what a desktop shows, and what a chat takes.
const LONGEST: (usize, usize) = (120, 2_000);

/// A title and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) title: String,
    pub(super) body: String,
}

/// How an agent ended, from the facts of its exit.
pub(super) fn how_it_ended(data: &Value) -> String {
    let number = |name: &str| data.get(name).and_then(Value::as_i64);
    let word = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let cause = word("cause").replace('_', " ");
    let how = match (number("signal"), number("code")) {
        (Some(signal), _) => Some(format!("signal {signal}")),
        (None, Some(code)) => Some(format!("exit code {code}")),
        (None, None) => None,
    };
    match how {
        Some(how) if !cause.is_empty() => format!("{cause} ({how})"),
        Some(how) => how,
        None if !cause.is_empty() => cause,
        None => "unknown".to_owned(),
    }
}

/// The words of an event; `more` others were left out before it.
pub(super) fn words(event: &Event, more: u64) -> Words {
    let data = &event.data;
    let text = |name: &str| match data.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let span = |name: &str| {
        let whole = Duration::from_millis(data.get(name).and_then(Value::as_u64).unwrap_or_default());
        humantime::format_duration(whole).to_string()
    };
    let who = event
        .agent
        .as_ref()
        .map(ToString::to_string)
        .or_else(|| event.rig.as_ref().map(ToString::to_string))
        .unwrap_or_else(|| "the town".to_owned());
    let explain = format!("Why: gtctl explain {who}");
    let (title, mut body) = match event.kind.as_str() {
        "incident.opened" => {
            let cause = match text("possible_cause").as_str() {
                "" | "unknown" => "no known cause".to_owned(),
                "tmux_server" => "the tmux server is gone".to_owned(),
                "oom" => "out of memory".to_owned(),
                "resume" => "the machine slept".to_owned(),
                "account" => "one account".to_owned(),
                "crashes" => "crashes".to_owned(),
                other => other.to_owned(),
            };
            let sessions = names(data.get("sessions"));
            (
                format!("{} agents died within {}", text("count"), span("window_ms")),
                format!("Cause: {cause}. Restarts are held back.\n{sessions}\nMore: gtctl deaths incidents"),
            )
        }
        "incident.closed" => (
            format!("Incident over: {} agents are back", text("recovered")),
            format!("It took {}.", span("duration_ms")),
        ),
        "agent.quarantined" => (
            format!("{who} is quarantined"),
            format!(
                "It failed {} times, and is not started again before {}.\nNow: gtctl reset {who}\n{explain}",
                text("failures"),
                text("expires")
            ),
        ),
        "agent.exited" => (format!("{who} ended: {}", how_it_ended(data)), explain),
        "agent.held" => (
            format!("{who} is held: a person ended it"),
            format!("It stays away until somebody starts it.\n{explain}"),
        ),
        "agent.throttled" => (format!("{who} is throttled"), format!("{}\n{explain}", text("reason"))),
        "agent.unknown" => (format!("{who} cannot be observed"), format!("{}\n{explain}", text("why"))),
        "agent.lingering" => (format!("{who} left processes behind"), explain),
        "agent.stalled" => (
            format!("{who} makes no progress"),
            format!("It has {}, and no turn has ended for {}.\n{explain}", work(data), span("idle_ms")),
        ),
        "polecat.restart_failed" => (
            format!("{who} died and could not be started again"),
            format!("{}\nIt has {}.\n{explain}", text("error"), work(data)),
        ),
        "work.orphaned" => (
            format!("{who} is dead and has work"),
            format!("It has {}, and is not started again by itself.\n{explain}", work(data)),
        ),
        "agent.drained" => (
            format!("{who} is drained"),
            format!("By {}. It stays away until gtctl undrain {who}.\n{}", text("by"), text("reason")),
        ),
        "agent.paused" => (
            format!("{who} is paused"),
            format!("By {}. Let it go on with: {}\n{}", text("by"), text("clear"), text("reason")),
        ),
        "agent.resumed" => {
            (format!("{who} goes on"), format!("Its pause was ended, by {}: {}", text("by"), text("why")))
        }
        "mail.sent" => (
            format!("Mail from {} for {}: {}", text("from"), text("to"), text("subject")),
            format!("gtctl mail read {}", text("id")),
        ),
        "agent.waiting" => (
            format!("{who} waits for you: {}", text("kind")),
            format!("{}\nWho waits: gtctl waiting", text("text")),
        ),
        "config.rejected" => (
            "The configuration cannot be used".to_owned(),
            format!(
                "{}:{}: {}\nThe last good one stays. Look: gtctl config check",
                text("file"),
                text("line"),
                text("message")
            ),
        ),
        "daemon.degraded" => {
            ("gtd is degraded".to_owned(), format!("{}\nMore: gtctl daemon status", text("reason")))
        }
        "daemon.started" => {
            ("gtd is up".to_owned(), format!("Process {}, version {}", text("pid"), text("version")))
        }
        "daemon.stopping" => ("gtd goes down".to_owned(), "Agents stay.".to_owned()),
        "tmux.server_died" => ("The tmux server died".to_owned(), text("socket")),
        "tmux.unresponsive" if text("responsive") == "true" => {
            ("tmux answers again".to_owned(), text("socket"))
        }
        "tmux.unresponsive" => ("tmux does not answer".to_owned(), text("why")),
        other => (format!("{who}: {}", other.replace(['.', '_'], " ")), facts(data)),
    };
    if more > 0 {
        let times = if more == 1 { "event was" } else { "events were" };
        body.push_str(&format!("\n{more} more {times} left out, of which this is the last."));
    }
    body.push_str(&format!("\n{} (event {})", event.at.strftime("%Y-%m-%d %H:%M:%SZ"), event.seq));
    Words { title: clean(&title, LONGEST.0, false), body: clean(&body, LONGEST.1, true) }
}

/// The work that an event is about.
fn work(data: &Value) -> String {
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("work"), text("title")) {
        ("", _) => "no known work".to_owned(),
        (id, "") => id.to_owned(),
        (id, title) => format!("{id} ({title})"),
    }
}

fn names(list: Option<&Value>) -> String {
    const SHOWN: usize = 10;
    let all: Vec<&str> =
        list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        text.push_str(&format!(" and {} more", all.len() - SHOWN));
    }
    text
}

/// The facts of an event that has no words of its own, a line each.
fn facts(data: &Value) -> String {
    let Some(map) = data.as_object() else { return String::new() };
    let line = |(key, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{key}: {text}")),
        other => Some(format!("{key}: {other}")),
    };
    map.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Without what a terminal would obey or a program cannot take, and not too long.
fn clean(text: &str, longest: usize, lines: bool) -> String {
    let text = text.trim();
    let mut out: String = text
        .chars()
        .map(|c| if c == '\t' || (c == '\n' && !lines) { ' ' } else { c })
        .filter(|c| !c.is_control() || *c == '\n')
        .take(longest)
        .collect();
    if text.chars().count() > longest {
        out.push('…');
    }
    out
}

/// Puts the words into one argument. What was put in is not looked at again: a body may hold any text.
pub(super) fn fill(argument: &str, event: &Event, words: &Words) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(at) = rest.find('{') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let value = tail.split_once('}').and_then(|(name, after)| {
            let value = match name {
                "{title" => words.title.clone(),
                "{body" => words.body.clone(),
                "{kind" => event.kind.clone(),
                "{agent" => event.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
                "{seq" => event.seq.to_string(),
                _ => return None,
            };
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                out.push_str(&value);
                rest = after;
            }
            // Somebody else's brace.
            None => {
                out.push('{');
                rest = tail.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::Seq;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(kind: &str, agent: Option<&str>, data: Value) -> Event {
        Event {
            seq: Seq(7),
            at: "2026-03-01T12:00:00.5Z".parse().unwrap(),
            kind: kind.to_owned(),
            agent: agent.map(|agent| agent.parse().unwrap()),
            rig: None,
            instance: None,
            cause: None,
            peer: None,
            data,
        }
    }

    #[test]
    fn an_incident_says_how_many_why_and_where_to_look() {
        let sessions: Vec<String> = (0..12).map(|n| format!("gt-a-{n}")).collect();
        let data = json!({"id": "i1", "count": 12, "window_ms": 30_000, "sessions": sessions, "possible_cause": "oom"});
        let said = words(&event("incident.opened", None, data), 0);
        assert_eq!(said.title, "12 agents died within 30s");
        for part in ["out of memory", "gt-a-0, gt-a-1", "and 2 more", "gtctl deaths incidents", "event 7"] {
            assert!(said.body.contains(part), "{part}: {}", said.body);
        }
    }

    #[test]
    fn a_quarantine_says_whom_until_when_and_what_to_do() {
        let data = json!({"failures": 5, "expires": "2026-03-01T12:30:00Z"});
        let said = words(&event("agent.quarantined", Some("alpha/witness"), data), 3);
        assert_eq!(said.title, "alpha/witness is quarantined");
        for part in ["5 times", "12:30", "gtctl reset alpha/witness", "3 more events were left out"] {
            assert!(said.body.contains(part), "{part}: {}", said.body);
        }
    }

    #[test]
    fn trouble_with_workers_says_whose_work_and_where_to_look() {
        let nux = Some("alpha/polecats/nux");
        let data = json!({"work": "al-1", "title": "Fix it", "error": "no worktree", "idle_ms": 1_800_000,
            "kind": "permission", "text": "rm -rf build", "by": "person", "from": "daemon", "to": "alpha/witness",
            "subject": "s", "id": "m-1", "reason": null, "clear": "gtctl resume"});
        for (kind, title, parts) in [
            (
                "polecat.restart_failed",
                "died and could not be started again",
                &["no worktree", "al-1 (Fix it)"][..],
            ),
            ("agent.stalled", "makes no progress", &["al-1 (Fix it)", "30m"]),
            ("work.orphaned", "is dead and has work", &["al-1 (Fix it)", "gtctl explain alpha/polecats/nux"]),
            ("agent.waiting", "waits for you: permission", &["rm -rf build", "gtctl waiting"]),
            ("agent.drained", "is drained", &["By person", "gtctl undrain alpha/polecats/nux"]),
            ("agent.paused", "is paused", &["By person", "gtctl resume"]),
            ("agent.resumed", "goes on", &["by person"]),
            ("mail.sent", "Mail from daemon for alpha/witness: s", &["gtctl mail read m-1"]),
        ] {
            let said = words(&event(kind, nux, data.clone()), 0);
            assert!(said.title.contains(title), "{kind}: {}", said.title);
            for part in parts {
                assert!(said.body.contains(part), "{kind}: {part}: {}", said.body);
            }
            // Of what is not there nothing is made up.
            words(&event(kind, nux, json!({})), 0);
        }
    }

    #[test]
    fn what_has_no_words_of_its_own_shows_its_facts() {
        let said = words(
            &event("later.thing_done", Some("alpha/witness"), json!({"a": 1, "b": "x\u{1b}[2Jy\0"})),
            0,
        );
        assert_eq!(said.title, "alpha/witness: later thing done");
        assert!(said.body.starts_with("a: 1\nb: x[2Jy\n"), "{}", said.body);
    }

    #[test]
    fn arguments_are_filled_once_and_other_braces_stay() {
        let event = event("agent.exited", Some("alpha/witness"), json!({}));
        let said = Words { title: "{body}{seq}".into(), body: "b".into() };
        let cases = [
            ("{title}", "{body}{seq}"),
            ("{kind} {agent} #{seq}: {body}", "agent.exited alpha/witness #7: b"),
            ("{\"text\": \"{body}\"}", "{\"text\": \"b\"}"),
            ("{other} {} { {{seq}} }", "{other} {} { {7} }"),
            ("", ""),
            ("{title", "{title"),
        ];
        for (argument, filled) in cases {
            assert_eq!(fill(argument, &event, &said), filled, "{argument}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_too_long_or_unfit_for_an_argument(text in "(?s).{0,3000}", kind in "[a-z]{1,9}\\.[a-z_]{1,9}") {
            let event = event(&kind, None, json!({"why": text, "reason": text, "text": text, "file": text}));
            let said = words(&event, 1);
            prop_assert!(said.title.chars().count() <= 121 && said.body.chars().count() <= 2_001);
            prop_assert!(!said.title.contains(char::is_control));
            prop_assert!(!said.body.contains(|c: char| c.is_control() && c != '\n'));
            let filled = fill(&text, &event, &said);
            let plain = !text.contains('{');
            prop_assert!(!plain || filled == text);
        }
    }
}
