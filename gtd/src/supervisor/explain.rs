//! Why an agent is as it is: the verdict, the facts it rests on, and how old each of them is.

use gtd_proto::explain::{Explanation, Observed};
use gtd_proto::{Address, Agent, ErrorKind, Intent, RpcError, State, Timestamp};

use super::handle::Handle;
use super::policy::since;
use super::turn::millis;
use super::view::Shown;

/// Past decisions in an explanation.
const DECISIONS: u32 = 20;

impl Handle {
    /// Explains an agent; with `at`, only decisions up to that instant are told.
    ///
    /// # Errors
    /// `agent_not_found`; `internal` when the ledger cannot be read.
    pub async fn explain(&self, agent: &Address, at: Option<Timestamp>) -> Result<Explanation, RpcError> {
        let shown = self.view().agent(agent).ok_or_else(|| {
            RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}")).hint("gtctl status")
        })?;
        let decisions = self.ledger().decisions(agent.clone(), at, Some(DECISIONS)).await;
        let decisions =
            decisions.map_err(|error| RpcError::internal(format!("the ledger cannot be read: {error}")))?;
        let now = self.now();
        let (because, observations) =
            self.view().read(|all| (because(&shown, all), observations(&shown, all, now)));
        Ok(Explanation {
            verdict: verdict(&shown),
            because,
            observations,
            decisions,
            next: next(&shown, now),
            agent: shown,
        })
    }
}

fn verdict(agent: &Agent) -> String {
    let name = &agent.agent;
    let sentence = match agent.state {
        State::Running => format!("{name} runs"),
        State::Starting => format!("{name} is being started"),
        State::Stopping => format!("{name} is being ended"),
        State::Stopped if agent.intent == Intent::Running => {
            format!("{name} should run, and may not be started now")
        }
        State::Stopped => format!("{name} is stopped, as intended"),
        State::Backoff => format!("{name} died and will be started again"),
        State::Quarantined if agent.next_attempt.is_none() => {
            format!("{name} cannot be launched, and waits until it can")
        }
        State::Quarantined => format!("{name} failed too often and is left alone for now"),
        State::Throttled => format!("{name} waits until a limit is lifted"),
        State::Held => format!("{name} was ended by a person"),
        State::Paused => format!("{name} is frozen"),
        State::Lingering => format!("{name} is gone, and processes of it are left"),
        State::Unknown => format!("{name} cannot be observed, and is left alone"),
    };
    match &agent.reason {
        Some(reason) => format!("{sentence}: {reason}"),
        None => sentence,
    }
}

fn because(agent: &Agent, shown: &Shown) -> Vec<String> {
    let mut because = Vec::new();
    let why = agent.intent_reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    because.push(format!("intent is {}, by {}{why}", agent.intent.as_str(), agent.intent_by));
    if let Some(hold) = &shown.hold {
        because.push(format!("the town is stopped, by {}", hold.by));
    }
    if let Some(rig) = &agent.rig {
        match shown.facts.rigs.get(rig) {
            Some(facts) => match &facts.barred {
                Some(reason) => because.push(format!("rig {rig} is not operational: {reason}")),
                None => because.push(format!("rig {rig} is operational")),
            },
            None => because.push(format!("rig {rig} is not registered")),
        }
    }
    match agent.restarts.consecutive {
        0 => {}
        1 => because.push("it failed once, not long ago".to_owned()),
        n => because.push(format!("it failed {n} times in a row")),
    }
    if let (Some(pid), Some(instance)) = (agent.pid, &agent.instance) {
        because.push(format!("process {pid} of instance {instance} is proven alive"));
    }
    because
}

fn observations(agent: &Agent, shown: &Shown, now: Timestamp) -> Vec<Observed> {
    let observed = |what: &str, value: String, source: &str, at: Timestamp| Observed {
        what: what.to_owned(),
        value,
        source: source.to_owned(),
        at,
        age_ms: millis(since(at, now)),
    };
    let mut list = Vec::new();
    if let Some(pid) = agent.pid {
        // A pidfd is watched all the time: what it has not said is as fresh as this moment.
        list.push(observed("agent process", format!("pid {pid} alive"), "pidfd", now));
    } else if agent.state != State::Unknown {
        list.push(observed("agent process", "not running".to_owned(), "pidfd", agent.since));
    }
    if let Some(session) = shown.sessions.get(&agent.agent) {
        let attached = if session.attached { "somebody attached" } else { "nobody attached" };
        let name = agent.session_name.as_deref().unwrap_or("?");
        let pane = agent.pane.as_deref().unwrap_or("?");
        list.push(observed(
            "session",
            format!("{name}, pane {pane}, {attached}"),
            "tmux listing",
            session.seen_at,
        ));
    }
    list.push(observed("activity", agent.activity.as_str().to_owned(), "report", agent.since));
    list.extend(super::hooks::observed(&agent.agent, shown, now));
    list
}

fn next(agent: &Agent, now: Timestamp) -> Option<String> {
    let name = &agent.agent;
    let wait = agent.next_attempt.map(|at| {
        let seconds = since(now, at).as_secs();
        humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
    });
    match (agent.state, wait) {
        (State::Backoff, Some(wait)) => {
            Some(format!("it is started in {wait}; at once with: gtctl reset {name}"))
        }
        (State::Quarantined, Some(wait)) => {
            Some(format!("one try in {wait}; at once with: gtctl reset {name}"))
        }
        (State::Quarantined, None) => Some(format!(
            "it is started when a heartbeat finds its program and directory; at once with: gtctl reset {name}"
        )),
        (State::Stopped, _) if agent.intent == Intent::Stopped => {
            Some(format!("start it with: {}", start_command(agent)))
        }
        (State::Running, _) => Some(format!("look at it with: gtctl attach {name}")),
        _ => None,
    }
}

fn start_command(agent: &Agent) -> String {
    match &agent.rig {
        Some(rig) => format!("gtctl {} start {rig}", agent.role),
        None => format!("gtctl {} start", agent.role),
    }
}
