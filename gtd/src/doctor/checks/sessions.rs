//! Sessions that nobody needs. People's are protected; what is only called like ours is reported.

use gtd_proto::doctor::FixClass;
use serde_json::{Map, json};

use super::super::found::many;
use super::super::{Found, Hint, Remedy, Step, World};
use crate::supervisor::orphans::{Seen, SeenSession, SessionVerdict};

fn seen(world: &World) -> Result<&Seen, Found> {
    let Some(live) = &world.live else { return Err(Found::skipped("no daemon runs")) };
    match &live.orphans {
        Ok(seen) => Ok(seen),
        Err(blind) => Err(Found::unknown(blind.to_string()).hint(Hint::DaemonStatus)),
    }
}

pub(super) fn orphans(world: &World) -> Found {
    let seen = match seen(world) {
        Ok(seen) => seen,
        Err(found) => return found,
    };
    let of = |verdict: SessionVerdict| seen.sessions.iter().filter(move |session| session.verdict == verdict);
    let ours: Vec<&SeenSession> = of(SessionVerdict::Orphan).collect();
    let odd: Vec<&SeenSession> = of(SessionVerdict::Unproved)
        .chain(of(SessionVerdict::NotOurs))
        .chain(of(SessionVerdict::OtherTown))
        .collect();
    let total = many(seen.sessions.len(), "session", "sessions");
    let found = match (ours.len(), odd.len()) {
        (0, 0) => Found::ok(format!("{total}, {} of people", of(SessionVerdict::Crew).count())),
        (0, some) => Found::warning(format!(
            "{}; left alone",
            many(
                some,
                "session looks like ours and is not proven to be",
                "sessions look like ours and are not proven to be"
            )
        ))
        .hint(Hint::SessionList),
        (some, _) => {
            Found::warning(format!("{} left over", many(some, "session of ours is", "sessions of ours are")))
                .hint(Hint::Fix("orphan-sessions"))
        }
    };
    with_fixes(found, seen, &ours)
        .details(ours.iter().chain(&odd).map(|session| line(session)))
        .with("sessions", seen.sessions.len())
        .with("crew", of(SessionVerdict::Crew).count())
}

pub(super) fn zombies(world: &World) -> Found {
    let seen = match seen(world) {
        Ok(seen) => seen,
        Err(found) => return found,
    };
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let dead: Vec<&SeenSession> =
        seen.sessions.iter().filter(|session| session.verdict == SessionVerdict::Zombie).collect();
    // What the supervisor shows as running and tmux shows as dead.
    let wrong: Vec<String> = live
        .agents
        .iter()
        .filter(|agent| agent.running && world.means_agent(&agent.agent))
        .filter(|agent| {
            let pane = agent.pane.as_deref().unwrap_or_default();
            let mut panes = seen.sessions.iter().flat_map(|session| &session.panes);
            panes.any(|(id, _, dead)| id == pane && *dead)
        })
        .map(|agent| agent.agent.to_string())
        .collect();
    let of_agents = seen.sessions.iter().filter(|session| session.verdict == SessionVerdict::Agent).count();
    let found = match (wrong.first(), dead.len()) {
        (Some(agent), _) => Found::error(format!("{agent} is shown as running, and its pane is dead"))
            .hint(Hint::Explain(agent.clone())),
        (None, 0) => Found::ok(format!(
            "{}, none of a dead agent",
            many(of_agents, "agent's session", "agents' sessions")
        )),
        (None, some) => Found::warning(format!(
            "{} of agents that are dead and stay so",
            many(some, "session is", "sessions are")
        ))
        .hint(Hint::Fix("zombie-sessions")),
    };
    // An agent that is shown as running in a dead pane is its task's to judge, by its process.
    with_fixes(found, seen, &dead)
        .details(wrong.into_iter().skip(1))
        .details(dead.iter().map(|session| line(session)))
}

/// Adds what closes them. Under the eyes of somebody who looks at it, that takes a yes.
fn with_fixes(found: Found, seen: &Seen, sessions: &[&SeenSession]) -> Found {
    sessions.iter().fold(found, |found, session| {
        let class = if session.attached { FixClass::Disruptive } else { FixClass::Safe };
        found.fix(class, close(seen, session))
    })
}

/// The dead panes of a session, each to be closed by itself: another may be somebody's.
fn close(seen: &Seen, session: &SeenSession) -> Vec<Step> {
    let (Some(listing), Some(instance)) = (&seen.listing, &session.instance) else { return Vec::new() };
    let panes = session.panes.iter().filter(|(_, _, dead)| *dead);
    panes
        .filter_map(|(pane, pid, _)| {
            let mut evidence = Map::new();
            evidence.insert("session".to_owned(), json!(session.session));
            evidence.insert("session_name".to_owned(), json!(session.name));
            evidence.insert("instance".to_owned(), json!(instance));
            evidence.insert("last_pid".to_owned(), json!(pid.map(|pid| pid.get())));
            evidence.insert("why".to_owned(), json!(session.reason));
            Some(Step {
                remedy: Remedy::ClosePane {
                    server: listing.server.clone(),
                    pane: pane.parse().ok()?,
                    instance: instance.to_string(),
                },
                target: format!("pane {pane} of {}", session.name),
                evidence,
            })
        })
        .collect()
}

fn line(session: &SeenSession) -> String {
    let SeenSession { verdict, session: id, name, reason, .. } = session;
    format!("{}: {name} ({id}): {reason}", verdict.as_str().replace('_', " "))
}
