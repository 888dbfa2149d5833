//! Events as lines: when, number, who, what, and the facts in words.

use std::time::Duration;

use gtd_proto::Event;
use gtd_proto::event::kind;
use serde_json::Value;

use super::card::ended;
use super::error::plain;
use super::paint::{Paint, Tone};
use super::table::cut;
use super::time;

/// Longest list of facts of an event that has no wording of its own.
const FACTS_MAX: usize = 160;

/// The line of an event.
#[must_use]
pub fn line(event: &Event, paint: Paint) -> String {
    let who = match (&event.agent, &event.rig) {
        (Some(agent), _) => agent.to_string(),
        (None, Some(rig)) => rig.to_string(),
        (None, None) => "town".to_owned(),
    };
    let head = format!("{}  {:>5}", time::clock(event.at), event.seq);
    // Wide enough for the longest kind, `heartbeat.completed`.
    let what = paint.text(mood(&event.kind), &format!("{:<19}", event.kind));
    let mut line = format!("{}  {who:<16}  {what}  {}", paint.dim(&head), facts(event));
    line.truncate(line.trim_end().len());
    line
}

fn mood(of: &str) -> Tone {
    match of {
        kind::AGENT_EXITED
        | kind::AGENT_QUARANTINED
        | kind::AGENT_UNKNOWN
        | kind::AGENT_LINGERING
        | kind::TMUX_SERVER_DIED
        | kind::DAEMON_DEGRADED
        | kind::INCIDENT_OPENED => Tone::Bad,
        kind::AGENT_RESTARTING | kind::AGENT_BACKOFF | kind::AGENT_WAITING | kind::CONFIG_REJECTED => {
            Tone::Warn
        }
        kind::AGENT_READY | kind::INCIDENT_CLOSED => Tone::Good,
        _ => Tone::Plain,
    }
}

/// The facts of an event in words.
#[must_use]
pub fn facts(event: &Event) -> String {
    let data = &event.data;
    let ms = |key: &str| data.get(key).and_then(Value::as_f64).filter(|ms| *ms >= 0.0).map(length);
    let number = |key: &str| data.get(key).and_then(Value::as_i64);
    let text = |key: &str| data.get(key).and_then(Value::as_str);
    let small = |key: &str| number(key).and_then(|n| i32::try_from(n).ok());
    let mut parts: Vec<String> = Vec::new();
    match event.kind.as_str() {
        kind::AGENT_STARTING => {
            parts.extend(text("reason").map(str::to_owned));
            parts.extend(number("attempt").map(|n| format!("attempt {n}")));
        }
        kind::AGENT_READY => {
            parts.extend(number("pid").map(|pid| format!("pid {pid}")));
            parts.extend(ms("startup_ms").map(|took| format!("after {took}")));
        }
        kind::AGENT_EXITED => {
            parts.push(match data.get("exec_error").and_then(|error| error.as_object()) {
                Some(error) => {
                    let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or("?");
                    format!("{} failed: {}", part("op"), part("errno"))
                }
                None => ended(small("code"), small("signal")),
            });
            parts.extend(text("cause").map(str::to_owned));
            parts.extend(ms("uptime_ms").map(|lived| format!("after {lived}")));
            let by = text("detected_by").map(|by| format!(" by {by}")).unwrap_or_default();
            parts.extend(ms("detect_ms").map(|late| format!("noticed{by} {late} later")));
        }
        kind::AGENT_RESTARTING => {
            parts.extend(number("attempt").map(|n| format!("attempt {n}")));
            match data.get("delay_ms").and_then(Value::as_f64) {
                Some(delay) if delay > 0.0 => parts.push(format!("in {}", length(delay))),
                Some(_) => parts.push("at once".to_owned()),
                None => {}
            }
        }
        kind::AGENT_BACKOFF => {
            parts.extend(number("attempt").map(|n| format!("attempt {n}")));
            parts.extend(ms("delay_ms").map(|wait| format!("in {wait}")));
        }
        kind::HEARTBEAT_COMPLETED => {
            parts.extend(number("number").map(|n| format!("number {n}")));
            parts.extend(ms("duration_ms").map(|took| format!("took {took}")));
        }
        kind::INCIDENT_OPENED => {
            parts.extend(text("id").map(str::to_owned));
            let within = ms("window_ms").map(|window| format!(" within {window}")).unwrap_or_default();
            parts.extend(number("count").map(|n| format!("{n} agents died{within}")));
            parts.extend(text("possible_cause").map(str::to_owned));
        }
        kind::INCIDENT_CLOSED => {
            parts.extend(text("id").map(str::to_owned));
            let many = number("count").map(|n| format!(" of {n}")).unwrap_or_default();
            parts.extend(number("recovered").map(|n| format!("{n}{many} are back")));
            parts.extend(ms("duration_ms").map(|took| format!("after {took}")));
        }
        kind::CONFIG_RELOADED => {
            let list = |key: &str| data.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            let part = |of: &Value, key: &str| of.get(key).map(shown).unwrap_or_default();
            let changed = list("changed");
            parts.extend(changed.iter().map(|change| {
                format!("{} {} → {}", part(change, "key"), part(change, "old"), part(change, "new"))
            }));
            parts.extend(list("refused").iter().map(|refused| format!("{} refused", part(refused, "key"))));
            if parts.is_empty() {
                parts.push("nothing is different".to_owned());
            }
        }
        kind::CONFIG_REJECTED => {
            let place = number("line").map(|line| format!("line {line}: ")).unwrap_or_default();
            let key = text("key").map(|key| format!("{key}: ")).unwrap_or_default();
            parts.extend(text("message").map(|message| format!("{place}{key}{message}")));
        }
        kind::WORK_HOOKED => {
            parts.extend(text("work").map(str::to_owned));
            parts.extend(text("title").map(str::to_owned));
            parts.extend(text("replaced").map(|was| format!("in place of {was}")));
            parts.extend(text("taken_from").map(|who| format!("taken from {who}")));
        }
        kind::WORK_UNHOOKED | kind::WORK_CLOSED => {
            parts.extend(text("work").map(str::to_owned));
            parts.extend(text("title").map(str::to_owned));
            parts.extend(text("why").or_else(|| text("reason")).map(str::to_owned));
        }
        kind::CONVOY_CLOSED => {
            parts.extend(text("id").map(str::to_owned));
            parts.extend(text("title").map(str::to_owned));
        }
        kind::MAIL_SENT => {
            parts.extend(text("id").map(str::to_owned));
            let from = text("from").unwrap_or_default();
            parts.push(format!("from {from} to {}", text("to").unwrap_or_default()));
            parts.extend(text("subject").map(str::to_owned));
        }
        kind::AGENT_WAITING => {
            parts.extend(text("kind").map(str::to_owned));
            parts.extend(text("text").map(str::to_owned));
        }
        kind::AGENT_PAUSED => {
            parts.extend(text("by").map(|by| format!("by {by}")));
            parts.extend(text("until").map(|until| format!("until {until}")));
            parts.extend(text("reason").map(str::to_owned));
        }
        kind::AGENT_RESUMED => {
            parts.extend(text("by").map(|by| format!("by {by}")));
            parts.extend(text("why").map(str::to_owned));
        }
        kind::AGENT_DRAINED => {
            parts.extend(text("by").map(|by| format!("by {by}")));
            parts.extend(text("reason").map(str::to_owned));
        }
        kind::TMUX_UNRESPONSIVE => parts.extend(text("why").map(str::to_owned)),
        _ => return cut(&plain(&generic(data)), FACTS_MAX),
    }
    plain(&parts.join(", "))
}

/// A value as people write it: texts without their quotes.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn length(ms: f64) -> String {
    // Bounded, since a duration cannot be made of any float.
    time::span(Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 1e12)))
}

fn generic(data: &Value) -> String {
    let Value::Object(map) = data else {
        return if data.is_null() { String::new() } else { data.to_string() };
    };
    let parts: Vec<String> = map
        .iter()
        .filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()))
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key} {text}"),
            other => format!("{key} {other}"),
        })
        .collect();
    parts.join(", ")
}
