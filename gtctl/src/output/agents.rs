//! The town and its agents at a glance: what is unwell first.

use gtd_proto::town::{Alert, Rig, Severity, TmuxState, TownStatus};
use gtd_proto::{Activity, Address, Agent, Incident, RigName, Role, State};

use super::error::plain;
use super::paint::{Paint, Tone, tone};
use super::table::{Cell, Table};
use super::time;

/// All agents of a town, those of the town itself and those of its rigs.
pub fn all(town: &TownStatus) -> Vec<&Agent> {
    town.agents.iter().chain(town.rigs.iter().flat_map(of_rig)).collect()
}

/// The agents of a rig.
pub fn of_rig(rig: &Rig) -> impl Iterator<Item = &Agent> {
    [&rig.witness, &rig.refinery].into_iter().chain(&rig.polecats)
}

/// The whole picture.
#[must_use]
pub fn town(status: &TownStatus, paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut out = header(status, paint, width);
    out.push(String::new());
    let agents = all(status);
    if agents.is_empty() && status.alerts.iter().any(|alert| alert.key == "registry") {
        out.push("it is not known which rigs there are".to_owned());
    } else if agents.is_empty() {
        out.push("no rigs yet; add one with `gtctl rig add NAME SOURCE`".to_owned());
    } else {
        out.extend(table(&agents, paint, width));
    }
    let notes: Vec<String> = status.rigs.iter().flat_map(|rig| rig_notes(rig, paint)).collect();
    if !notes.is_empty() {
        out.push(String::new());
        out.extend(notes);
    }
    for alert in below(status) {
        out.push(String::new());
        out.extend(alert_lines(alert, paint));
    }
    out
}

/// The alerts that have lines of their own: what makes the daemon degraded stands at the top already.
fn below(status: &TownStatus) -> impl Iterator<Item = &Alert> {
    status.alerts.iter().filter(|alert| !status.daemon.reasons.contains(&alert.message))
}

fn header(status: &TownStatus, paint: Paint, width: Option<usize>) -> Vec<String> {
    let daemon = &status.daemon;
    let title = |text: &str| paint.dim(&format!("{text:<6}"));
    let mut out = vec![format!("{} at {}", paint.strong(&format!("town {}", status.name)), status.root)];
    let (word, mood) = if daemon.degraded { ("degraded", Tone::Bad) } else { ("running", Tone::Good) };
    out.push(format!(
        "{}  {}, pid {}, gtd {}, {}",
        title("daemon"),
        paint.text(mood, word),
        daemon.pid,
        daemon.version,
        time::lasting(daemon.started_at)
    ));
    out.extend(daemon.reasons.iter().map(|reason| format!("{}  {reason}", title(""))));
    for server in &status.tmux {
        let (word, mood) = match server.state {
            TmuxState::Up => ("up", Tone::Good),
            TmuxState::Down => ("down", Tone::Warn),
            TmuxState::Unresponsive => ("unresponsive", Tone::Bad),
            TmuxState::Unknown => ("unknown", Tone::Bad),
        };
        let pid = server.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let sessions = count(server.sessions, "session");
        // Nobody copies a path that is broken over two lines.
        let room = width.is_none_or(|width| {
            8 + word.len() + pid.len() + sessions.len() + server.socket.len() + 4 <= width
        });
        let socket = if room { format!(", {}", server.socket) } else { String::new() };
        out.push(format!("{}  {}{pid}, {sessions}{socket}", title("tmux"), paint.text(mood, word)));
    }
    if !status.summary.is_empty() {
        let total: u64 = status.summary.values().sum();
        let mut parts: Vec<String> = Vec::new();
        for state in State::ALL {
            if let Some(n) = status.summary.get(state.as_str()).filter(|n| **n > 0) {
                parts.push(paint.text(tone(state), &format!("{n} {state}")));
            }
        }
        let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        out.push(format!("{}  {total}{parts}", title("agents")));
    }
    if daemon.hold {
        let word = paint.text(Tone::Warn, "the town is down");
        out.push(format!("{}  {word}: nothing is started until `gtctl up`", title("hold")));
    }
    out.extend(status.incidents.iter().map(|one| format!("{}  {}", title("deaths"), incident(one, paint))));
    let errors = below(status).filter(|alert| alert.severity == Severity::Error).count();
    let others = below(status).count() - errors;
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(paint.text(Tone::Bad, &count(errors as u64, "error")));
    }
    if others > 0 {
        parts.push(paint.text(Tone::Warn, &count(others as u64, "warning")));
    }
    if !parts.is_empty() {
        out.push(format!("{}  {}, below", title("alerts"), parts.join(", ")));
    }
    out
}

/// `incident i2x open for 3s: 5 agents died together, cause oom, alpha/witness goes first`
fn incident(one: &Incident, paint: Paint) -> String {
    let canary = one.canary.as_ref().map(|agent| format!(", {agent} goes first")).unwrap_or_default();
    format!(
        "{} {} open {}: {} died together, cause {}{canary}",
        paint.text(Tone::Bad, "incident"),
        one.id,
        time::lasting(one.opened_at),
        count(one.count, "agent"),
        one.cause.as_str(),
    )
}

fn rig_notes(rig: &Rig, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    if !rig.operational {
        let why = rig.reason.as_deref().unwrap_or("no reason given");
        let word = paint.text(Tone::Warn, "not operational");
        out.push(format!("rig {} is {word}: {why}", rig.name));
    }
    if !rig.crew.is_empty() {
        out.push(format!("rig {} has people at work: {}", rig.name, rig.crew.join(", ")));
    }
    out
}

fn alert_lines(alert: &Alert, paint: Paint) -> Vec<String> {
    let (word, mood) = match alert.severity {
        Severity::Warning => ("warning:", Tone::Warn),
        Severity::Error => ("error:", Tone::Bad),
        Severity::Unknown => ("alert:", Tone::Warn),
    };
    let mut out =
        vec![format!("{} {} ({})", paint.text(mood, word), alert.message, time::lasting(alert.since))];
    out.extend(alert.hint.iter().map(|hint| format!("{} {hint}", paint.strong("hint:"))));
    out
}

/// `1 session`, `2 sessions`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Agents, a line each.
#[must_use]
pub fn table(agents: &[&Agent], paint: Paint, width: Option<usize>) -> Vec<String> {
    listed(agents, |_| String::new(), paint, width)
}

/// Workers, a line each, with the branch that they work on.
#[must_use]
pub fn workers(agents: &[&Agent], paint: Paint, width: Option<usize>) -> Vec<String> {
    listed(agents, |agent| agent.branch.clone().unwrap_or_default(), paint, width)
}

/// Agents, a line each; a column that stays empty is not shown.
fn listed(
    agents: &[&Agent],
    branch: impl Fn(&Agent) -> String,
    paint: Paint,
    width: Option<usize>,
) -> Vec<String> {
    let mut sorted = agents.to_vec();
    sorted.sort_by_key(|agent| order(agent));
    let mut table =
        Table::new(&["AGENT", "STATE", "ACTIVITY", "SINCE", "HOOK", "RESTARTS", "PID", "BRANCH", "REASON"]);
    for agent in sorted {
        table.row(vec![
            agent.agent.to_string().into(),
            Cell::new(agent.state.as_str(), tone(agent.state)),
            activity(agent),
            time::ago(agent.since).into(),
            agent.hook.clone().unwrap_or_default().into(),
            agent.restarts.lifetime.to_string().into(),
            agent.pid.map(|pid| pid.to_string()).unwrap_or_default().into(),
            branch(agent).into(),
            reason(agent).into(),
        ]);
    }
    table.render(paint, width)
}

/// Unwell first, then by rig and role; the town's own agents before the rigs'.
fn order(agent: &Agent) -> (usize, Option<RigName>, Role, Address) {
    let rank = State::ALL.iter().position(|state| *state == agent.state).unwrap_or_default();
    (rank, agent.agent.rig().cloned(), agent.role, agent.agent.clone())
}

fn activity(agent: &Agent) -> Cell {
    match (agent.running, agent.activity) {
        (false, _) => "".into(),
        // It has not said; a column full of this word says nothing.
        (true, Activity::Unknown) => Cell::new("-", Tone::Dim),
        (true, Activity::Waiting) => Cell::new("waiting", Tone::Warn),
        (true, other) => other.as_str().into(),
    }
}

/// Why it is as it is, when it goes on, and what is out of date.
#[must_use]
pub fn reason(agent: &Agent) -> String {
    let mut parts: Vec<String> = agent.reason.iter().cloned().collect();
    if agent.running && agent.activity == Activity::Waiting {
        // An agent wrote it.
        parts.extend(agent.activity_detail.as_deref().map(|text| format!("waits for: {}", plain(text))));
    }
    if let Some(at) = agent.next_attempt {
        parts.push(format!("next attempt {}", time::until(at)));
    }
    if !agent.stale.is_empty() {
        parts.push(format!("stale: {}", agent.stale.join(", ")));
    }
    parts.join("; ")
}
