//! What the daemon writes to witnesses, out of events. Pure.
//!
//! Subjects and the names in bodies are those that the incumbent's witnesses look for.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::mail::{PERSON, SUBJECT_MAX};
use gtd_proto::{Address, Event};
use serde_json::Value;

/// A worker died, and starting it again failed. `{work, title, error, attempt}`
pub const RESTART_FAILED: &str = "polecat.restart_failed";
/// An agent with work makes no progress. `{work, title, since, idle_ms}`
pub const STALLED: &str = "agent.stalled";
/// Work is on the hook of an agent that is dead and stays so. `{work, title, since}`
pub const ORPHANED: &str = "work.orphaned";
/// A worker is gone for good.
pub const REMOVED: &str = "polecat.removed";

/// Longest error that is quoted, in characters.
const ERROR_MAX: usize = 4_000;

/// A mail that the daemon writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// For whom.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// The occasion, of which there is one mail ever. None: the event itself is the occasion.
    pub occasion: Option<String>,
    /// What goes on: as long as it does, there is no second mail.
    pub incident: Option<String>,
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// Nothing.
    Nothing,
    /// A mail.
    Letter(Letter),
    /// What was written about is over.
    Over(String),
}

/// The kinds of events from which something follows.
pub const KINDS: [&str; 7] =
    [RESTART_FAILED, STALLED, ORPHANED, REMOVED, kind::AGENT_READY, kind::AGENT_STOPPED, kind::MAIL_SENT];

/// What follows from an event.
#[must_use]
pub fn follows(event: &Event) -> Follows {
    let Some(agent) = &event.agent else { return Follows::Nothing };
    let text = |name: &str| match event.data.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let (work, title) = (text("work"), text("title"));
    let hook = if title.is_empty() { work.clone() } else { format!("{work} ({title})") };
    let about = |word: &str| format!("{word}:{agent}:{work}:{}", text("since"));
    let letter = match event.kind.as_str() {
        RESTART_FAILED => {
            let error: String = text("error").chars().take(ERROR_MAX).collect();
            let attempt = match event.data.get("attempt").and_then(Value::as_u64) {
                Some(attempt) if attempt > 1 => format!("attempt: {attempt}\n"),
                _ => String::new(),
            };
            Letter {
                to: witness(agent),
                subject: format!("CRASHED_POLECAT: {} restart failed", short(agent)),
                body: format!(
                    "{agent} died, and could not be started again.\n\nhook_bead: {hook}\nrestart_error: {error}\n\
                     {attempt}\nLook at it with `gtctl explain {agent}`. `gtctl reset {agent}` tries at once; \
                     `gtctl hook clear {agent}` sets the work free."
                ),
                occasion: None,
                incident: Some(crashed(agent)),
            }
        }
        STALLED => {
            let idle = event.data.get("idle_ms").and_then(Value::as_u64).unwrap_or_default();
            let span = span(Duration::from_millis(idle));
            Letter {
                to: witness(agent),
                subject: format!("GUPP_VIOLATION: {agent} stuck for {span}"),
                body: format!(
                    "{agent} runs and has work, and no turn of it has ended for {span}.\n\nhook_bead: {hook}\n\
                     stuck_duration: {span}\n\nLook at its screen with `gtctl peek {agent}`: it may wait for an \
                     answer, or have forgotten its work."
                ),
                occasion: Some(about("stalled")),
                incident: None,
            }
        }
        ORPHANED => Letter {
            to: witness(agent),
            subject: format!("ORPHANED_WORK: {agent} has hooked work but is dead"),
            body: format!(
                "{agent} does not run and will not be started by itself, and it has work.\n\nhook_bead: {hook}\n\n\
                 Start it again, or give the work to another: `gtctl hook clear {agent}`."
            ),
            occasion: Some(about("orphaned")),
            incident: None,
        },
        kind::AGENT_READY | kind::AGENT_STOPPED | REMOVED => return Follows::Over(crashed(agent)),
        _ => return Follows::Nothing,
    };
    Follows::Letter(Letter { subject: cut(letter.subject), ..letter })
}

fn crashed(agent: &Address) -> String {
    format!("crashed:{agent}")
}

/// The witness of an agent's rig; the person for those of none.
fn witness(agent: &Address) -> String {
    agent.rig().map_or_else(|| PERSON.to_owned(), |rig| Address::Witness(rig.clone()).to_string())
}

/// `alpha/nux`
fn short(agent: &Address) -> String {
    match (agent.rig(), agent.name()) {
        (Some(rig), Some(name)) => format!("{rig}/{name}"),
        _ => agent.to_string(),
    }
}

fn cut(mut subject: String) -> String {
    while subject.len() > SUBJECT_MAX {
        subject.pop();
    }
    subject
}

/// `42m0s`, `1h2m3s`, `45s`: as the incumbent writes spans of time.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use gtd_proto::Seq;
    use serde_json::json;

    use super::*;

    fn event(kind: &str, agent: Option<&str>, data: Value) -> Event {
        Event {
            seq: Seq(7),
            at: "2026-03-01T12:00:00Z".parse().unwrap(),
            kind: kind.to_owned(),
            agent: agent.map(|agent| agent.parse().unwrap()),
            rig: None,
            instance: None,
            cause: None,
            peer: None,
            data,
        }
    }

    fn letter(kind: &str, agent: &str, data: Value) -> Letter {
        match follows(&event(kind, Some(agent), data)) {
            Follows::Letter(letter) => letter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_occasion_has_its_letter_to_the_witness() {
        let nux = "alpha/polecats/nux";
        let since = "2026-03-01T11:00:00Z";
        let failed =
            json!({"agent": nux, "work": "al-1", "title": "Fix it", "error": "no worktree", "attempt": 3});
        let crashed = letter(RESTART_FAILED, nux, failed);
        assert_eq!(crashed.subject, "CRASHED_POLECAT: alpha/nux restart failed");
        for part in ["hook_bead: al-1 (Fix it)\n", "restart_error: no worktree\n", "attempt: 3\n"] {
            assert!(crashed.body.contains(part), "{part}: {}", crashed.body);
        }
        assert_eq!(
            (crashed.occasion, crashed.incident.as_deref()),
            (None, Some("crashed:alpha/polecats/nux"))
        );
        let data = json!({"work": "al-1", "title": "Fix it", "since": since, "idle_ms": 2_520_000});
        let stalled = letter(STALLED, nux, data.clone());
        assert_eq!(stalled.subject, "GUPP_VIOLATION: alpha/polecats/nux stuck for 42m0s");
        assert!(stalled.body.contains("stuck_duration: 42m0s\n"), "{}", stalled.body);
        let orphaned = letter(ORPHANED, nux, data);
        assert_eq!(orphaned.subject, "ORPHANED_WORK: alpha/polecats/nux has hooked work but is dead");
        assert!(orphaned.body.contains("hook_bead: al-1 (Fix it)\n"), "{}", orphaned.body);
        assert_ne!(stalled.occasion, orphaned.occasion);
        for letter in [&crashed.to, &stalled.to, &orphaned.to] {
            assert_eq!(letter, "alpha/witness");
        }
    }

    #[test]
    fn what_is_missing_or_odd_in_an_event_is_no_trouble() {
        for kind in KINDS {
            assert_eq!(follows(&event(kind, None, json!({}))), Follows::Nothing, "{kind}");
        }
        for kind in [RESTART_FAILED, STALLED, ORPHANED] {
            for data in
                [json!({}), json!(null), json!({"work": 5, "idle_ms": "x", "error": "x".repeat(1 << 20)})]
            {
                let letter = letter(kind, "alpha/polecats/nux", data);
                assert!(letter.subject.len() <= SUBJECT_MAX && letter.body.len() < 64 << 10);
            }
        }
        assert_eq!(letter(STALLED, "deacon", json!({})).to, "overseer");
        assert_eq!(follows(&event("mail.sent", Some("mayor"), json!({}))), Follows::Nothing);
        let over = Follows::Over("crashed:alpha/polecats/nux".into());
        assert_eq!(follows(&event("agent.ready", Some("alpha/polecats/nux"), json!({}))), over);
    }

    #[test]
    fn spans_are_written_as_the_incumbent_does() {
        for (seconds, text) in
            [(0, "0s"), (45, "45s"), (60, "1m0s"), (2_520, "42m0s"), (3_723, "1h2m3s"), (7_200, "2h0m0s")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
