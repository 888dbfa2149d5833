//! The scenes of the demo: up, give work, kill one worker, watch it come back, kill all, watch the breaker.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::rpc::{AgentClient, EventsClient, PolecatClient, RigClient, TownClient, WorkClient};
use gtd_proto::{Agent, RigName, State, params, town};
use serde::Serialize;
use tokio::time::Instant;

use super::killing::{Row, Victim, kill, table, until_ready};
use super::say;
use super::stage::{BREAKER, RIGS, Stage, WORK};
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::identity::Identity;
use crate::daemon::start::{self, Launch};
use crate::failure::Failure;
use crate::output::agents;
use crate::verbs::explain;

/// Until all agents run.
const ALL_UP: Duration = Duration::from_secs(15);

/// Without an event, the status is looked at again after this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the daemon may take for one spawn, in milliseconds.
const SPAWN: Option<u64> = Some(15_000);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Played {
    /// What followed the crash of one worker, in the order of time.
    pub recovery: Vec<Row>,
    /// What followed the death of all of them, likewise.
    pub incident: Vec<Row>,
    /// Which work each worker had when it was killed, and has again.
    pub work: BTreeMap<String, String>,
}

/// Plays all scenes but the last, which is the cleaning up.
///
/// # Errors
/// The first thing that does not go as it should.
pub async fn play(cx: &mut Context, stage: &mut Stage) -> Result<Played, Failure> {
    say(1, &format!("make a town and two git repositories in {}", stage.home.display()));
    stage.build().await?;

    say(2, &format!("start its daemon, with less patience than usual: {BREAKER}"));
    let launch = Launch { root: stage.root.clone(), hold: false, scrub: true };
    let session = start::ensure(&launch, &mut stage.children).await?.session;
    stage.was_up = true;
    stage.town_id = Some(session.hello.body.town_id.clone());

    say(3, "add two rigs; each has a witness and a refinery, here small scripts");
    for rig in RIGS {
        add(&session, stage, rig).await?;
    }
    all_running(&session).await?;

    let rig = RIGS[0];
    say(4, &format!("sling three pieces of work at {rig}: three workers, each with a worktree of its own"));
    let workers = sling(&session, rig).await?;
    let status = look(&session, stage).await?;
    print(cx, agents::town(&status, cx.screen.paint, cx.screen.width))?;
    let work = on_hooks(&workers);

    let first = workers.first().ok_or_else(|| Failure::failed("no worker was made"))?;
    let victim = Victim::of(first)?;
    say(5, &format!("kill the process of {} with SIGKILL, as a crash would", victim.agent));
    let recovery = kill(&session, stage, std::slice::from_ref(&victim), until_ready(&victim)).await?;
    say(6, "it is back in its worktree, with its work; from the event log:");
    print(cx, table(&recovery).render(cx.screen.paint, cx.screen.width))?;

    let workers = again(&session, &workers).await?;
    let victims: Vec<Victim> = workers.iter().map(Victim::of).collect::<Result<_, _>>()?;
    say(7, "kill all three at once: that is one incident. One of them goes first, the others when it lives");
    let incident = kill(&session, stage, &victims, |event| event.kind == kind::INCIDENT_CLOSED).await?;
    print(cx, table(&incident).render(cx.screen.paint, cx.screen.width))?;
    let back = on_hooks(&again(&session, &workers).await?);
    if back != work {
        let error = Failure::failed("not every worker has its work again");
        return Err(error.with("before", format!("{work:?}")).with("after", format!("{back:?}")));
    }

    say(8, "ask why one of them is as it is");
    let request = params::AgentExplain { agent: victim.agent.clone(), at: None, probe: false };
    let why = client::read(AgentClient::explain(&session.client, request)).await?;
    print(cx, explain::text(&why.body, cx.screen.paint, cx.screen.width))?;
    look(&session, stage).await?;
    Ok(Played { recovery, incident, work })
}

/// Prints something for people, with room around it.
fn print(cx: &mut Context, lines: Vec<String>) -> Result<(), Failure> {
    if cx.screen.json {
        return Ok(());
    }
    cx.screen.line("")?;
    cx.screen.lines(lines)?;
    cx.screen.line("")?;
    cx.screen.flush()
}

async fn add(session: &Session, stage: &Stage, rig: &str) -> Result<(), Failure> {
    let request = params::RigAdd {
        name: name(rig)?,
        source: stage.repository(rig).display().to_string(),
        prefix: None,
        default_branch: None,
        dry_run: false,
        idempotency_key: None,
        reason: Some("gtctl demo".to_owned()),
    };
    client::change(Some(20_000), RigClient::add(&session.client, request)).await.map(drop)
}

fn name(rig: &str) -> Result<RigName, Failure> {
    RigName::new(rig).map_err(|e| Failure::failed(e.to_string()))
}

/// Makes the work, and a worker for each piece.
async fn sling(session: &Session, rig: &str) -> Result<Vec<Agent>, Failure> {
    let mut workers = Vec::new();
    for title in WORK {
        let request = params::WorkCreate {
            title: title.to_owned(),
            rig: Some(name(rig)?),
            description: None,
            priority: None,
            dry_run: false,
            wait_ms: SPAWN,
            idempotency_key: None,
            reason: None,
        };
        let made = client::change(SPAWN, WorkClient::create(&session.client, request)).await?;
        let item = made.body.work.ok_or_else(|| Failure::failed("the work was not made"))?;
        let request = params::PolecatSpawn {
            rig: name(rig)?,
            work: Some(item.id),
            name: None,
            agent_preset: None,
            account: None,
            env: BTreeMap::new(),
            force: false,
            dry_run: false,
            wait_ms: SPAWN,
            idempotency_key: None,
            reason: Some("gtctl demo".to_owned()),
        };
        let spawned = client::change(SPAWN, PolecatClient::spawn(&session.client, request)).await?;
        workers.push(spawned.body.agent);
    }
    Ok(workers)
}

/// The same agents, as they are now.
async fn again(session: &Session, workers: &[Agent]) -> Result<Vec<Agent>, Failure> {
    let request = params::AgentList { selector: None };
    let all = client::read(AgentClient::list(&session.client, request)).await?.body.items;
    Ok(all.into_iter().filter(|now| workers.iter().any(|worker| worker.agent == now.agent)).collect())
}

fn on_hooks(workers: &[Agent]) -> BTreeMap<String, String> {
    let hook = |worker: &Agent| (worker.agent.to_string(), worker.hook.clone().unwrap_or_default());
    workers.iter().map(hook).collect()
}

/// Waits until both agents of both rigs run.
async fn all_running(session: &Session) -> Result<(), Failure> {
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
            return Ok(());
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

/// The status; what the census looks for later is kept.
async fn look(session: &Session, stage: &mut Stage) -> Result<town::TownStatus, Failure> {
    let status = client::read(TownClient::status(&session.client, params::None {})).await?.body;
    let of_agents = agents::all(&status).into_iter().flat_map(|agent| [agent.pid, agent.shim_pid]);
    let of_tmux = status.tmux.iter().map(|server| server.pid);
    let seen = of_agents.chain(of_tmux).flatten().filter_map(|pid| Identity::of(pid).ok());
    stage.seen.extend(seen);
    stage.sockets.extend(status.tmux.iter().map(|server| server.socket.clone().into()));
    Ok(status)
}
