//! Killing agents of the demo, and watching what the daemon makes of it.
//!
//! Must never signal a process that does not carry the marks of the demo's own town and of the start that is meant.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::rpc::{AgentClient, EventsClient};
use gtd_proto::{Address, Agent, Event, Frame, InstanceId, Timestamp, params};
use serde::Serialize;
use tokio::time::Instant;

use super::stage::Stage;
use crate::client::{self, Session};
use crate::daemon::identity::{Identity, Sent};
use crate::failure::Failure;
use crate::output::paint::Tone;
use crate::output::table::{Cell, Table};
use crate::output::{event, time};

/// Until everything that was killed is back.
const BACK: Duration = Duration::from_secs(15);

/// An agent that is killed, and its present start.
#[derive(Debug, Clone)]
pub struct Victim {
    /// Who.
    pub agent: Address,
    /// Its process.
    pub pid: i32,
    /// Which start of it.
    pub instance: InstanceId,
}

impl Victim {
    /// An agent that runs.
    ///
    /// # Errors
    /// When no process of it is shown.
    pub fn of(agent: &Agent) -> Result<Self, Failure> {
        match (agent.pid, agent.instance.clone()) {
            (Some(pid), Some(instance)) => Ok(Self { agent: agent.agent.clone(), pid, instance }),
            _ => Err(Failure::failed(format!("the status shows no process of {}", agent.agent))),
        }
    }
}

/// One thing that happened after the signals.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// To whom; nobody where it was about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Address>,
    /// When, after the first signal.
    pub after_ms: f64,
    /// The facts in words.
    pub details: String,
}

/// Kills them all at once and collects what happens to them, until `done` says that it is over.
///
/// # Errors
/// When a process is not proven to be the demo's, or it does not end in time.
pub async fn kill(
    session: &Session,
    stage: &Stage,
    victims: &[Victim],
    mut done: impl FnMut(&Event) -> bool,
) -> Result<Vec<Row>, Failure> {
    let processes: Vec<Identity> =
        victims.iter().map(|victim| proven(stage, victim)).collect::<Result<_, _>>()?;
    let wish = params::EventsSubscribe {
        kinds: Some(vec!["agent.*".to_owned(), "incident.*".to_owned()]),
        ..params::EventsSubscribe::default()
    };
    let mut events = client::read(EventsClient::follow(&session.client, wish)).await?;
    let killed = Timestamp::now();
    let mut rows = Vec::new();
    for (process, victim) in processes.iter().zip(victims) {
        process
            .signal(Sent::Kill)
            .map_err(|e| Failure::failed(format!("cannot kill pid {}: {e}", process.pid)))?;
        rows.push(Row {
            what: "SIGKILL".to_owned(),
            agent: Some(victim.agent.clone()),
            after_ms: after(killed, Timestamp::now()),
            details: format!("to pid {}", process.pid),
        });
    }
    let concerned = |event: &Event| match &event.agent {
        Some(agent) => victims.iter().any(|victim| victim.agent == *agent),
        None => true,
    };
    let deadline = Instant::now() + BACK;
    loop {
        let Ok(frame) = tokio::time::timeout_at(deadline, events.next()).await else {
            let reached: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
            return Err(Failure::timeout("not everything that was killed came back")
                .with("reached", reached.join(", "))
                .hint("the events say how far it got"));
        };
        let Some(frame) = frame else {
            return Err(Failure::unreachable("the daemon ended the stream of events"));
        };
        let Ok(Frame::Event(happened)) = frame else { continue };
        if !concerned(&happened) {
            continue;
        }
        rows.push(Row {
            what: happened.kind.clone(),
            agent: happened.agent.clone(),
            after_ms: after(killed, happened.at),
            details: event::facts(&happened),
        });
        if done(&happened) {
            break;
        }
    }
    for victim in victims {
        let now = again(session, victim).await?;
        if let Some(at) = now.started_at {
            let details = now.pid.map(|pid| format!("pid {pid}")).unwrap_or_default();
            rows.push(Row {
                what: "new process".to_owned(),
                agent: Some(victim.agent.clone()),
                after_ms: after(killed, at),
                details,
            });
        }
    }
    rows.sort_by(|a, b| a.after_ms.total_cmp(&b.after_ms));
    Ok(rows)
}

/// Says when one that was killed is ready again as another instance.
pub fn until_ready(victim: &Victim) -> impl FnMut(&Event) -> bool + '_ {
    move |event| {
        event.kind == kind::AGENT_READY
            && event.agent.as_ref() == Some(&victim.agent)
            && event.instance.as_ref() != Some(&victim.instance)
    }
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

/// For people. The agents are named where there is more than one.
pub fn table(rows: &[Row]) -> Table {
    let mut agents: Vec<&Address> = rows.iter().filter_map(|row| row.agent.as_ref()).collect();
    agents.sort();
    agents.dedup();
    let many = agents.len() > 1;
    let columns: &[&str] =
        if many { &["AFTER", "AGENT", "WHAT", "DETAILS"] } else { &["AFTER", "WHAT", "DETAILS"] };
    let mut table = Table::new(columns);
    for row in rows {
        let mut cells: Vec<Cell> = vec![format!("{:>8.1} ms", row.after_ms).into()];
        if many {
            cells.push(row.agent.as_ref().map(ToString::to_string).unwrap_or_default().into());
        }
        cells.push(Cell::new(row.what.as_str(), Tone::Plain));
        cells.push(row.details.clone().into());
        table.row(cells);
    }
    table
}
