//! Why an agent is as it is: the verdict, the facts it rests on, and how old each of them is.

use gtd_proto::explain::{Decision, Explanation, Observed};
use gtd_proto::{Address, Agent, ErrorKind, Intent, RigName, Role, RpcError, State, Timestamp};

use super::declare::refused;
use super::handle::Handle;
use super::killed;
use super::planner::{Mode, RigFacts};
use super::policy::since;
use super::rigs::Standing;
use super::turn::millis;
use super::view::Shown;

/// Past decisions in an explanation.
const DECISIONS: u32 = 20;
/// Signals that an explanation looks back at.
const SIGNALS: u32 = 1_000;

impl Handle {
    /// Explains an agent; with `at`, as it was at that instant, by the decisions up to then; with `probe`, by a
    /// look at it now.
    ///
    /// # Errors
    /// `agent_not_found`; `internal` when the ledger cannot be read.
    pub async fn explain(
        &self,
        agent: &Address,
        at: Option<Timestamp>,
        probe: bool,
    ) -> Result<Explanation, RpcError> {
        let shown = self.view().agent(agent).ok_or_else(|| {
            RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}")).hint("gtctl status")
        })?;
        let decisions = self.ledger().decisions(agent.clone(), at, Some(DECISIONS)).await;
        let decisions =
            decisions.map_err(|error| RpcError::internal(format!("the ledger cannot be read: {error}")))?;
        let now = self.wall();
        let signals = self.ledger().signals(Some(agent.clone()), None, Some(SIGNALS)).await;
        let signals =
            signals.map_err(|error| RpcError::internal(format!("the ledger cannot be read: {error}")))?;
        if let Some(at) = at {
            let mut past = past(shown, decisions, at);
            past.because.extend(killed::told(&signals, at));
            return Ok(past);
        }
        let (mut because, mut observations) =
            self.view().read(|all| (because(&shown, all), observations(&shown, all, now)));
        because.extend(killed::told(&signals, now));
        if probe {
            let seen = self.runtime().probe(agent).await.seen;
            let at = self.wall();
            let fresh = seen.into_iter().map(|seen| observed(seen.what, seen.value, seen.source, at, at));
            // What was looked at anew is not told from memory as well.
            observations.retain(|old| !matches!(old.what.as_str(), "agent process" | "session"));
            observations.splice(0..0, fresh);
        }
        Ok(Explanation {
            verdict: verdict(&shown),
            because,
            observations,
            decisions,
            next: next(&shown, now),
            agent: shown,
        })
    }

    /// Looks at an agent that is to be declared dead: what was seen, in words.
    ///
    /// # Errors
    /// When something of it is proven alive, with everything that was seen.
    pub async fn look_at_dead(&self, agent: &Address) -> Result<String, RpcError> {
        let probe = self.runtime().probe(agent).await;
        let words: Vec<String> =
            probe.seen.iter().map(|seen| format!("{}: {}", seen.what, seen.value)).collect();
        if let Some(id) = probe.alive.first() {
            let why = format!("process {} of it is alive", id.pid);
            return Err(refused(agent, &why).with("seen", words));
        }
        Ok(if words.is_empty() { "nothing of it is on record".to_owned() } else { words.join("; ") })
    }
}

/// What was decided at an instant and before. What is observed now says nothing about then.
fn past(agent: Agent, decisions: Vec<Decision>, at: Timestamp) -> Explanation {
    let name = &agent.agent;
    let verdict = match decisions.first() {
        None => format!("no decision about {name} is on record up to {at:.0}"),
        Some(last) => {
            let reason = if last.reason.is_empty() { String::new() } else { format!(" ({})", last.reason) };
            format!(
                "{name} at {at:.0}: after {:?} it had been decided to {}{reason}",
                last.event, last.decision
            )
        }
    };
    let because = decisions
        .first()
        .map(|last| {
            let ago = std::time::Duration::from_secs(since(last.at, at).as_secs());
            format!("that was decided {} before that instant", humantime::format_duration(ago))
        })
        .into_iter()
        .chain(["what was observed then is not on record, only what was decided".to_owned()])
        .collect();
    Explanation { verdict, because, observations: Vec::new(), decisions, next: None, agent }
}

fn observed(what: &str, value: String, source: &str, at: Timestamp, now: Timestamp) -> Observed {
    Observed { what: what.to_owned(), value, source: source.to_owned(), at, age_ms: millis(since(at, now)) }
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
    if let Some(drain) = &agent.drain {
        let since = drain.since;
        let what = if drain.done { "it is drained" } else { "it is being drained" };
        because.push(format!("{what}, by {} since {since:.0}: until gtctl undrain", drain.by));
    }
    if let Some(pause) = &agent.pause {
        let why = pause.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let until = pause.until.map_or(String::new(), |until| format!(" until {until:.0}"));
        let still = match pause.processes {
            Some(many) if pause.frozen => format!("; {many} of its processes stand still"),
            _ => String::new(),
        };
        because.push(format!(
            "{} is paused, by {}{why} since {:.0}{until}{still}: {}",
            if pause.scope == "town" { "the town" } else { &pause.scope },
            pause.by,
            pause.since,
            pause.clear
        ));
    }
    if let Some(waits) = shown.waiting.get(&agent.agent) {
        let text = waits.text.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        because.push(format!(
            "it waits for a person ({}, {}){text}",
            waits.kind.as_str(),
            waits.source.as_str()
        ));
    }
    if let Some(rig) = &agent.rig {
        match shown.facts.rigs.get(rig) {
            Some(facts) => {
                because.push(standing(rig, &facts.standing));
                because.extend(mode(agent, facts));
            }
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

/// Whether the rig is operational; if not, who made it so, and how that is undone.
fn standing(rig: &RigName, standing: &Standing) -> String {
    let Some(reason) = &standing.barred else { return format!("rig {rig} is operational") };
    let (aside, undo) = match reason.as_str() {
        "parked" => (standing.parked.as_ref(), format!("; undo it with: gtctl rig unpark {rig}")),
        "docked" => (standing.docked.as_ref(), format!("; undo it with: gtctl rig undock {rig}")),
        _ => (None, String::new()),
    };
    let by = aside.map(|aside| format!(", by {}", aside.by)).unwrap_or_default();
    let why =
        aside.and_then(|aside| aside.reason.as_deref()).map(|why| format!(" ({why})")).unwrap_or_default();
    format!("rig {rig} is not operational: {reason}{by}{why}{undo}")
}

/// What policy does about the role, where that is not to keep it running.
fn mode(agent: &Agent, facts: &RigFacts) -> Option<String> {
    let mode = match agent.role {
        Role::Witness => &facts.witness,
        Role::Refinery => &facts.refinery,
        _ => return None,
    };
    match mode {
        Mode::Always => None,
        Mode::Off(why) => Some(format!("policy leaves it alone: {why}")),
        Mode::OnDemand(ttl) => {
            let ttl = humantime::format_duration(*ttl);
            Some(format!("it runs on demand, and is ended after idling for {ttl} (settings/gtd.toml)"))
        }
    }
}

fn observations(agent: &Agent, shown: &Shown, now: Timestamp) -> Vec<Observed> {
    let observed =
        |what: &str, value: String, source: &str, at: Timestamp| observed(what, value, source, at, now);
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
    let heard = shown.heard.get(&agent.agent).cloned().unwrap_or_default();
    list.extend(heard.observed(agent.since, now));
    list.extend(super::hooks::observed(&agent.agent, shown, now));
    list
}

fn next(agent: &Agent, now: Timestamp) -> Option<String> {
    let name = &agent.agent;
    let wait = agent.next_attempt.map(|at| {
        let seconds = since(now, at).as_secs();
        humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
    });
    if let Some(pause) = &agent.pause {
        let by_itself = pause.until.map(|until| {
            let seconds = since(now, until).as_secs();
            let wait = humantime::format_duration(std::time::Duration::from_secs(seconds));
            format!("it goes on by itself in {wait}; ")
        });
        return Some(format!("{}let it go on with: {}", by_itself.unwrap_or_default(), pause.clear));
    }
    match (agent.state, wait) {
        (State::Backoff, Some(wait)) => {
            Some(format!("it is started in {wait}; at once with: gtctl reset {name}"))
        }
        (State::Throttled, Some(wait)) => {
            Some(format!("it is looked at again in {wait}; at once with: gtctl reset {name}"))
        }
        (State::Held, wait) => {
            let by_itself = wait.map(|wait| format!("it comes back in {wait}; ")).unwrap_or_default();
            Some(format!("{by_itself}bring it back with: {}", start_command(agent)))
        }
        (State::Unknown, _) => Some(format!(
            "it is looked at again all the time; where you know better: gtctl declare-dead {name} --evidence TEXT"
        )),
        (State::Quarantined, Some(wait)) => {
            Some(format!("one try in {wait}; at once with: gtctl reset {name}"))
        }
        (State::Quarantined, None) => Some(format!(
            "it is started when a heartbeat or a change of configuration finds its program and directory; at once with: gtctl reset {name}"
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
        // A rig has many of them.
        Some(_) if matches!(agent.role, Role::Polecat | Role::Crew) => {
            format!("gtctl {} start {}", agent.role, agent.agent)
        }
        Some(rig) => format!("gtctl {} start {rig}", agent.role),
        None => format!("gtctl {} start", agent.role),
    }
}
