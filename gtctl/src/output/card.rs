//! One agent on a card: state, processes, intent, last exit, last lines, and what one can do.

use std::time::Duration;

use gtd_proto::explain::Explanation;
use gtd_proto::{Activity, Agent, Exit, Intent, Role, State};
use nix::sys::signal::Signal;

use super::agents::{count, reason};
use super::error::{plain, quoted};
use super::paint::{Paint, Tone, tone};
use super::time;

/// Last lines of an ended agent on its card.
const SCREEN: usize = 10;

/// What is known of an agent beside its record.
#[derive(Debug, Default)]
pub struct Beside<'a> {
    /// Its last exit.
    pub exit: Option<&'a Exit>,
    /// Last lines of its screen.
    pub screen: &'a [String],
    /// What the daemon rests its verdict on.
    pub why: Option<&'a Explanation>,
    /// Further fields: title and text.
    pub more: Vec<(&'static str, String)>,
}

/// The card.
#[must_use]
pub fn card(agent: &Agent, beside: &Beside<'_>, paint: Paint) -> Vec<String> {
    let mut fields: Vec<(&str, String)> = vec![("State", state(agent, paint))];
    let mut add = |title: &'static str, text: Option<String>| {
        fields.extend(text.filter(|text| !text.is_empty()).map(|text| (title, text)));
    };
    add("Reason", Some(plain(&reason(agent))));
    // What can be done with one that runs is said below.
    let next = beside.why.filter(|_| agent.state != State::Running);
    add("Next", next.and_then(|why| why.next.clone()));
    add("Process", process(agent));
    add("Instance", agent.instance.as_ref().map(ToString::to_string));
    add("Session", session(agent));
    add("Intent", Some(plain(&intent(agent))));
    add("Restarts", Some(restarts(agent)));
    add("Last exit", beside.exit.map(|exit| format!("{}: {}", time::relative(exit.ended_at), summary(exit))));
    add("Launched as", Some(preset(agent)));
    add("Hook", agent.hook.clone());
    add("Directory", directory(agent));
    for (title, text) in &beside.more {
        add(title, Some(text.clone()));
    }

    let mut out = vec![format!("{} - {}", paint.strong(&agent.agent.to_string()), describe(agent))];
    let wide = fields.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
    out.extend(
        fields.iter().map(|(title, text)| format!("  {} {text}", paint.dim(&format!("{title:>wide$}:")))),
    );
    out.extend(evidence(beside.why, paint));
    let ended = beside.exit.map(|exit| exit.output.as_slice()).unwrap_or_default();
    let last = match (beside.screen, agent.running) {
        ([], true) => None,
        ([], false) => {
            let from = ended.len().saturating_sub(SCREEN);
            ended
                .get(from..)
                .filter(|lines| !lines.is_empty())
                .map(|lines| ("Its last lines before it ended:", lines))
        }
        (lines, _) => Some(("Last lines of its screen:", lines)),
    };
    if let Some((title, lines)) = last {
        out.extend([String::new(), title.to_owned()]);
        out.extend(quoted(lines.iter().map(String::as_str)));
    }
    let can = what_you_can_do(agent);
    if !can.is_empty() {
        out.extend([String::new(), "What you can do:".to_owned()]);
        let wide = can.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        out.extend(can.iter().map(|(command, why)| format!("  {command:<wide$}  {}", paint.dim(why))));
    }
    out
}

/// Why the daemon says so: its reasons, and what it has seen, with the age of each.
fn evidence(why: Option<&Explanation>, paint: Paint) -> Vec<String> {
    let Some(why) = why else { return Vec::new() };
    // The intent has a field of its own, and that an agent has never reported is nothing that was seen.
    let facts = why.because.iter().filter(|fact| !fact.starts_with("intent is "));
    let seen = why
        .observations
        .iter()
        .filter(|seen| (seen.what.as_str(), seen.value.as_str()) != ("activity", "unknown"));
    let mut out = vec![String::new(), "Why:".to_owned()];
    out.extend(facts.map(|fact| format!("  because {}", plain(fact))));
    out.extend(seen.map(|seen| {
        let age = match Duration::from_millis(seen.age_ms) {
            fresh if fresh < Duration::from_secs(1) => "now".to_owned(),
            age => format!("{} ago", time::whole(age)),
        };
        let by = paint.dim(&format!("({}, {age})", seen.source));
        format!("  seen    {}: {} {by}", seen.what, plain(&seen.value))
    }));
    if out.len() > 2 { out } else { Vec::new() }
}

fn describe(agent: &Agent) -> String {
    match (&agent.rig, &agent.name) {
        (Some(rig), Some(name)) => format!("{} {name} of rig {rig}", agent.role),
        (Some(rig), None) => format!("{} of rig {rig}", agent.role),
        _ => format!("{} of the town", agent.role),
    }
}

fn state(agent: &Agent, paint: Paint) -> String {
    let word = paint.text(tone(agent.state), agent.state.as_str());
    let activity = match (agent.running, agent.activity) {
        (true, Activity::Waiting) => format!(" ({})", paint.text(Tone::Warn, "waiting for a person")),
        (true, Activity::Working | Activity::Idle) => format!(" ({})", agent.activity.as_str()),
        _ => String::new(),
    };
    let meaning = match agent.state {
        State::Unknown => ": it cannot be observed, and is left alone",
        State::Held => ": a person ended it",
        State::Paused => ": it stands still, with everything below its shim",
        State::Lingering => ": its pane is gone, processes of it are alive",
        _ => "",
    };
    format!("{word}{activity}{meaning}, since {}", time::full(agent.since))
}

fn process(agent: &Agent) -> Option<String> {
    let pid = agent.pid?;
    let shim = agent.shim_pid.map(|shim| format!(", below its shim {shim}")).unwrap_or_default();
    let started = agent.started_at.map(|at| format!(", up {}", time::age(at))).unwrap_or_default();
    Some(format!("{pid}{shim}{started}"))
}

fn session(agent: &Agent) -> Option<String> {
    let id = agent.session.as_ref()?;
    let name = agent.session_name.as_deref().unwrap_or("unnamed");
    let pane = agent.pane.as_ref().map(|pane| format!(", pane {pane}")).unwrap_or_default();
    let server = agent.server.as_ref().map(|server| format!(" on {server}")).unwrap_or_default();
    let watched = if agent.attached { ", somebody is attached" } else { "" };
    let windows = match agent.windows {
        Some(n) if n > 1 => format!(", {}", count(u64::from(n), "window")),
        _ => String::new(),
    };
    Some(format!("{name} ({id}{pane}{windows}){server}{watched}"))
}

fn intent(agent: &Agent) -> String {
    let why = agent.intent_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}, by {}{why}", agent.intent.as_str(), agent.intent_by)
}

fn restarts(agent: &Agent) -> String {
    let failures = count(u64::from(agent.restarts.consecutive), "failure");
    format!("{} in its life, {failures} in a row", agent.restarts.lifetime)
}

fn preset(agent: &Agent) -> String {
    let account = agent.account.as_ref().map(|account| format!(", account {account}")).unwrap_or_default();
    format!("{}{account}", agent.agent_preset)
}

fn directory(agent: &Agent) -> Option<String> {
    let tree = agent.worktree.as_ref()?;
    let branch = agent.branch.as_ref().map(|branch| format!(" on branch {branch}")).unwrap_or_default();
    Some(format!("{tree}{branch}"))
}

/// How an instance ended, in one line.
#[must_use]
pub fn summary(exit: &Exit) -> String {
    let lived = time::span(Duration::from_millis(exit.uptime_ms));
    let how = match &exit.exec_error {
        Some(error) => format!("{} failed: {}", error.op, error.errno),
        None => ended(exit.code, exit.signal),
    };
    let counted = if exit.counts { "counts as a failure" } else { "does not count as a failure" };
    format!("{how}, {}, after {lived}; {counted}", exit.cause.as_str())
}

/// An exit status in words.
#[must_use]
pub fn ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (_, Some(signal)) => format!("signal {}", signal_name(signal)),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "status unknown".to_owned(),
    }
}

/// `9 (KILL)`
#[must_use]
pub fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => format!("{signal} ({})", known.as_str().trim_start_matches("SIG")),
        Err(_) => signal.to_string(),
    }
}

/// The command that ends what keeps an agent's whole rig from running.
fn aside(agent: &Agent) -> Option<String> {
    let rig = agent.rig.as_ref()?;
    match agent.reason.as_deref()? {
        "rig parked" => Some(format!("gtctl rig unpark {rig}")),
        "rig docked" => Some(format!("gtctl rig undock {rig}")),
        _ => None,
    }
}

/// Commands that make sense now, with what they do.
fn what_you_can_do(agent: &Agent) -> Vec<(String, &'static str)> {
    if agent.role == Role::Crew {
        return Vec::new();
    }
    let me = agent.agent.to_string();
    let on = |verb: &str| match (agent.role, &agent.rig) {
        (Role::Witness | Role::Refinery, Some(rig)) => Some(format!("gtctl {} {verb} {rig}", agent.role)),
        (Role::Deacon | Role::Mayor, _) => Some(format!("gtctl {} {verb}", agent.role)),
        (Role::Polecat, _) => Some(format!("gtctl polecat {verb} {me}")),
        _ => None,
    };
    let mut out: Vec<(Option<String>, &'static str)> = Vec::new();
    let say = |verb: &str| Some(format!("gtctl {verb} {me}"));
    let look = agent.session.as_ref().and_then(|_| say("attach"));
    match agent.state {
        State::Running => {
            out.push((look, "look at it and type"));
            out.push((on("restart"), "end it and start it anew"));
            out.push((on("stop"), "end it; it stays stopped"));
        }
        State::Starting => {
            out.push((look, "look at it"));
            out.push((say("wait"), "wait until it is ready"));
            out.push((on("stop"), "call the start off"));
        }
        State::Stopping => {
            if agent.drain.is_some() {
                out.push((say("undrain"), "let it go on after all"));
            }
            out.push((Some(format!("gtctl wait {me} --for gone")), "wait for its end"));
            out.push((on("stop").map(|stop| format!("{stop} --force")), "KILL it at once"));
        }
        State::Stopped | State::Backoff | State::Quarantined | State::Held | State::Throttled
            if agent.pause.is_some() =>
        {
            out.push((
                agent.pause.as_ref().map(|pause| pause.clear.clone()),
                "end its pause: then it may start",
            ));
        }
        State::Stopped if aside(agent).is_some() => {
            out.push((aside(agent), "its rig is set aside: the end of that brings it back"));
        }
        _ if agent.drain.is_some() => out.push((say("undrain"), "put it back into service")),
        // What bars it has to go first; a start would be refused.
        State::Stopped if agent.intent == Intent::Running => {
            let down = agent.reason.as_ref().is_some_and(|reason| reason.contains("town is"));
            let cure = if down { "gtctl up".to_owned() } else { "gtctl status".to_owned() };
            out.push((Some(cure), if down { "start the town" } else { "what bars it" }));
        }
        State::Stopped | State::Held => out.push((on("start"), "start it")),
        State::Backoff | State::Throttled | State::Quarantined => {
            if agent.reason.as_ref().is_some_and(|reason| reason.contains("incident ")) {
                out.push((Some("gtctl deaths incidents".to_owned()), "who died with it, and what goes on"));
            }
            out.push((say("reset"), "forget the failures and try at once"));
            out.push((on("stop"), "give up on it"));
        }
        State::Lingering => {
            out.push((say("signals"), "what was sent to it"));
            out.push((on("stop"), "do not start it again"));
        }
        State::Unknown => {
            out.push((say("explain --probe"), "look at it now"));
            out.push((Some("gtctl daemon status".to_owned()), "what cannot be observed"));
        }
        State::Paused => {
            out.push((agent.pause.as_ref().map(|pause| pause.clear.clone()), "let it go on"));
            out.push((on("stop"), "end it; it stays stopped"));
        }
    }
    if agent.state != State::Running {
        out.push((say("exits"), "how it ended before"));
    }
    out.push((say("explain"), "past decisions"));
    out.into_iter().filter_map(|(command, why)| Some((command?, why))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_proposed_can_be_typed() {
        use clap::Parser;
        for role in
            ["alpha/witness", "alpha/refinery", "mayor", "deacon", "alpha/polecats/nux", "alpha/crew/max"]
        {
            for state in State::ALL {
                for intent in [Intent::Running, Intent::Stopped] {
                    let address: gtd_proto::Address = role.parse().unwrap();
                    let agent = agent(address, state, intent);
                    for (command, why) in what_you_can_do(&agent) {
                        let words: Vec<&str> = command.split(' ').collect();
                        let read = crate::cli::Cli::try_parse_from(&words);
                        assert!(read.is_ok(), "{role} {state}: {command}");
                        assert!(!why.is_empty());
                    }
                }
            }
        }
    }

    fn agent(address: gtd_proto::Address, state: State, intent: Intent) -> Agent {
        let value = serde_json::json!({
            "agent": address, "role": address.role(), "rig": address.rig(), "state": state,
            "activity": "unknown", "running": false, "intent": intent, "intent_by": "supervisor", "pid": null,
            "session": "$1", "since": "2026-01-01T00:00:00Z", "restarts": {"lifetime": 0, "consecutive": 0},
            "agent_preset": "x", "attached": false, "stale": []
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn exit_statuses_in_words() {
        assert_eq!(ended(Some(3), None), "exit code 3");
        assert_eq!(ended(None, Some(9)), "signal 9 (KILL)");
        assert_eq!(ended(None, Some(63)), "signal 63");
        assert_eq!(ended(None, None), "status unknown");
    }
}
