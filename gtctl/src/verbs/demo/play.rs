//! The scenes of the demo: up, look, kill, watch it come back, ask why.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::rpc::{AgentClient, EventsClient, RigClient, TownClient};
use gtd_proto::{Address, Agent, Frame, InstanceId, RigName, State, Timestamp, params, town};
use serde::Serialize;
use tokio::time::Instant;

use super::say;
use super::stage::{RIGS, Stage};
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::identity::{Identity, Sent};
use crate::daemon::start::{self, Launch};
use crate::failure::Failure;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{agents, event, time};
use crate::verbs::explain;

/// Until all agents run.
const ALL_UP: Duration = Duration::from_secs(15);

/// Until the killed agent is back.
const BACK: Duration = Duration::from_secs(15);

/// Without an event, the status is looked at again after this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was measured.
#[derive(Debug)]
pub struct Recovery {
    /// In the order of time.
    pub rows: Vec<Row>,
}

/// One thing that happened after the kill.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// When, after the signal.
    pub after_ms: f64,
    /// The facts in words.
    pub details: String,
}

/// Plays all scenes but the last, which is the cleaning up.
///
/// # Errors
/// The first thing that does not go as it should.
pub async fn play(cx: &mut Context, stage: &mut Stage) -> Result<Recovery, Failure> {
    say(1, &format!("make a town and two git repositories in {}", stage.home.display()));
    stage.build().await?;

    say(2, "start its daemon");
    let launch = Launch { root: stage.root.clone(), hold: false, scrub: true };
    let session = start::ensure(&launch, &mut stage.children).await?.session;
    stage.was_up = true;
    stage.town_id = Some(session.hello.body.town_id.clone());

    say(3, "add two rigs; each has a witness and a refinery, here small scripts");
    for rig in RIGS {
        add(&session, stage, rig).await?;
    }
    let status = all_running(&session).await?;
    remember(stage, &status);
    if !cx.screen.json {
        let lines = agents::town(&status, cx.screen.paint, cx.screen.width);
        cx.screen.line("")?;
        cx.screen.lines(lines)?;
        cx.screen.line("")?;
        cx.screen.flush()?;
    }

    let victim = victim(&status)?;
    say(4, &format!("kill the process of {} with SIGKILL, as a crash would", victim.agent));
    let recovery = crash(&session, stage, &victim).await?;

    say(5, "it is back; from the event log:");
    if !cx.screen.json {
        let lines = table(&recovery).render(cx.screen.paint, cx.screen.width);
        cx.screen.line("")?;
        cx.screen.lines(lines)?;
        cx.screen.line("")?;
        cx.screen.flush()?;
    }

    say(6, "ask why it is as it is");
    let request = params::AgentExplain { agent: victim.agent.clone(), at: None, probe: false };
    let why = client::read(AgentClient::explain(&session.client, request)).await?;
    if !cx.screen.json {
        let lines = explain::text(&why.body, cx.screen.paint, cx.screen.width);
        cx.screen.line("")?;
        cx.screen.lines(lines)?;
        cx.screen.line("")?;
        cx.screen.flush()?;
    }
    let status = client::read(TownClient::status(&session.client, params::None {})).await?.body;
    remember(stage, &status);
    Ok(recovery)
}

async fn add(session: &Session, stage: &Stage, rig: &str) -> Result<(), Failure> {
    let name = RigName::new(rig).map_err(|e| Failure::failed(e.to_string()))?;
    let request = params::RigAdd {
        name,
        source: stage.repository(rig).display().to_string(),
        prefix: None,
        default_branch: None,
        dry_run: false,
        idempotency_key: None,
        reason: Some("gtctl demo".to_owned()),
    };
    client::change(Some(20_000), RigClient::add(&session.client, request)).await.map(drop)
}

/// Waits until both agents of both rigs run.
async fn all_running(session: &Session) -> Result<town::TownStatus, Failure> {
    let wish = params::EventsSubscribe {
        kinds: Some(vec!["agent.*".to_owned()]),
        ..params::EventsSubscribe::default()
    };
    let mut events = client::read(EventsClient::follow(&session.client, wish)).await?;
    let deadline = Instant::now() + ALL_UP;
    loop {
        let status = client::read(TownClient::status(&session.client, params::None {})).await?.body;
        let up = status
            .rigs
            .iter()
            .flat_map(|rig| [&rig.witness, &rig.refinery])
            .filter(|agent| agent.running && agent.state == State::Running)
            .count();
        if up == 2 * RIGS.len() {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(not_up(&status));
        }
        // Whatever happens, or nothing for a while: look again.
        let _ = tokio::time::timeout(LOOK_EVERY, events.next()).await;
    }
}

fn not_up(status: &town::TownStatus) -> Failure {
    let mut said: Vec<String> = status.daemon.reasons.clone();
    said.extend(status.alerts.iter().map(|alert| alert.message.clone()));
    for agent in agents::all(status) {
        said.push(format!("{} is {}: {}", agent.agent, agent.state, agents::reason(agent)));
    }
    Failure::timeout("the agents did not come up")
        .with("output", said)
        .hint("is tmux 3.2 or newer installed?")
}

/// Keeps what the census looks for later.
fn remember(stage: &mut Stage, status: &town::TownStatus) {
    let of_agents = agents::all(status).into_iter().flat_map(|agent| [agent.pid, agent.shim_pid]);
    let of_tmux = status.tmux.iter().map(|server| server.pid);
    let seen = of_agents.chain(of_tmux).flatten().filter_map(|pid| Identity::of(pid).ok());
    stage.seen.extend(seen);
    stage.sockets.extend(status.tmux.iter().map(|server| server.socket.clone().into()));
}

/// The agent that is killed, and its present start.
struct Victim {
    agent: Address,
    pid: i32,
    instance: InstanceId,
}

fn victim(status: &town::TownStatus) -> Result<Victim, Failure> {
    let found = status.rigs.iter().find(|rig| RIGS.first().is_some_and(|name| rig.name.as_str() == *name));
    let witness = found.map(|rig| &rig.witness);
    match witness.and_then(|agent| Some((agent, agent.pid?, agent.instance.clone()?))) {
        Some((agent, pid, instance)) => Ok(Victim { agent: agent.agent.clone(), pid, instance }),
        None => Err(Failure::failed("the status shows no process of the witness")),
    }
}

/// Kills it and collects what follows, until another instance of it is ready.
async fn crash(session: &Session, stage: &Stage, victim: &Victim) -> Result<Recovery, Failure> {
    let process = proven(stage, victim)?;
    let wish = params::EventsSubscribe {
        kinds: Some(vec!["agent.*".to_owned()]),
        agent: Some(victim.agent.to_string()),
        since: None,
    };
    let mut events = client::read(EventsClient::follow(&session.client, wish)).await?;
    let killed = Timestamp::now();
    process
        .signal(Sent::Kill)
        .map_err(|e| Failure::failed(format!("cannot kill pid {}: {e}", process.pid)))?;
    let mut rows =
        vec![Row { what: "SIGKILL".to_owned(), after_ms: 0.0, details: format!("to pid {}", process.pid) }];
    let deadline = Instant::now() + BACK;
    let mut exited = false;
    loop {
        let Ok(frame) = tokio::time::timeout_at(deadline, events.next()).await else {
            let done: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
            return Err(Failure::timeout(format!("{} did not come back", victim.agent))
                .with("reached", done.join(", "))
                .hint("the events say how far it got"));
        };
        let Some(frame) = frame else {
            return Err(Failure::unreachable("the daemon ended the stream of events"));
        };
        let Ok(Frame::Event(happened)) = frame else { continue };
        rows.push(Row {
            what: happened.kind.clone(),
            after_ms: after(killed, happened.at),
            details: event::facts(&happened),
        });
        exited |= happened.kind == kind::AGENT_EXITED;
        if exited
            && happened.kind == kind::AGENT_READY
            && happened.instance.as_ref() != Some(&victim.instance)
        {
            break;
        }
    }
    let now = again(session, victim).await?;
    if let Some(at) = now.started_at {
        let details = now.pid.map(|pid| format!("pid {pid}")).unwrap_or_default();
        rows.push(Row { what: "new process".to_owned(), after_ms: after(killed, at), details });
    }
    rows.sort_by(|a, b| a.after_ms.total_cmp(&b.after_ms));
    Ok(Recovery { rows })
}

/// The process, if it carries the marks of this town and this start.
fn proven(stage: &Stage, victim: &Victim) -> Result<Identity, Failure> {
    let unproven = |why: String| {
        Failure::failed(format!(
            "pid {} is not proven to be {}, and is not killed: {why}",
            victim.pid, victim.agent
        ))
    };
    let process = Identity::of(victim.pid).map_err(|e| unproven(e.to_string()))?;
    let town = stage.town_id.as_ref().map(|id| id.as_str());
    for (name, expected) in [("GT_TOWN_ID", town), ("GT_INSTANCE", Some(victim.instance.as_str()))] {
        let found = process.variable(name).map_err(|e| unproven(e.to_string()))?;
        if found.is_none() || found.as_deref() != expected {
            return Err(unproven(format!("its {name} is {found:?}")));
        }
    }
    // The marks were read from this process if it is still the one that was looked at first.
    if process.is_alive() { Ok(process) } else { Err(unproven("it ended".to_owned())) }
}

async fn again(session: &Session, victim: &Victim) -> Result<Agent, Failure> {
    let request = params::AgentList { selector: Some(victim.agent.to_string()) };
    let answer = client::read(AgentClient::list(&session.client, request)).await?;
    match answer.body.items.into_iter().next() {
        Some(agent) if agent.pid.is_some_and(|pid| pid != victim.pid) => Ok(agent),
        _ => Err(Failure::failed(format!("{} has no new process after its restart", victim.agent))),
    }
}

/// Milliseconds between two instants. The daemon dates an exit by the record of its parent, which may have been
/// quicker than our own look at the clock.
fn after(from: Timestamp, to: Timestamp) -> f64 {
    time::between(from, to).as_secs_f64() * 1000.0
}

fn table(recovery: &Recovery) -> Table {
    let mut table = Table::new(&["AFTER", "WHAT", "DETAILS"]);
    for row in &recovery.rows {
        table.row(vec![
            format!("{:>8.1} ms", row.after_ms).into(),
            Cell::new(row.what.as_str(), Tone::Plain),
            row.details.clone().into(),
        ]);
    }
    table
}
