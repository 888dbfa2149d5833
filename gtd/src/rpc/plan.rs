//! What a request would do, for `dry_run`: to whom, and why. It changes nothing, and what would be refused is
//! refused here as well.

use gtd_proto::{Activity, Address, Agent, Change, ErrorKind, Intent, PlanStep, Reply, RpcError, State};
use jsonrpsee::core::RpcResult;

use super::context::{Context, refuse};
use crate::supervisor::requests::How;
use crate::supervisor::rigs::way_back;
use crate::supervisor::view::{Shown, at_rest};

/// One step.
pub(super) fn step(action: &str, target: impl ToString, why: impl Into<String>) -> PlanStep {
    PlanStep { action: action.to_owned(), target: target.to_string(), why: why.into() }
}

impl Context {
    /// The answer to a request that was only planned. A plan without steps: it is so already.
    pub(super) fn planned(
        &self,
        agent: &Address,
        plan: Result<Vec<PlanStep>, RpcError>,
    ) -> RpcResult<Reply<Change>> {
        Ok(self.planned_change(agent, plan.map_err(refuse)?))
    }

    /// The same, of a plan that there is.
    pub(super) fn planned_change(&self, agent: &Address, plan: Vec<PlanStep>) -> Reply<Change> {
        let shown = self.handle.view().agent(agent).unwrap_or_else(|| at_rest(agent, self.handle.wall()));
        let already = plan.is_empty();
        self.changed(Change {
            agent: shown,
            already,
            accepted: false,
            dry_run: true,
            plan,
            survivors: Vec::new(),
        })
    }

    /// What a start would do.
    pub(super) fn plan_start(&self, agent: &Address) -> Result<Vec<PlanStep>, RpcError> {
        self.handle.view().read(|shown| start(shown, agent))
    }

    /// What a stop would do.
    pub(super) fn plan_stop(&self, agent: &Address, how: How) -> Vec<PlanStep> {
        self.handle.view().read(|shown| shown.agents.get(agent).map(|one| stop(one, how)).unwrap_or_default())
    }

    /// What a restart would do.
    pub(super) fn plan_restart(&self, agent: &Address, how: How) -> Result<Vec<PlanStep>, RpcError> {
        self.handle.view().read(|shown| {
            may_start(shown, agent)?;
            let ends = shown.agents.get(agent).filter(|one| one.running || one.state == State::Starting);
            let mut plan = ends.map(|one| stop(one, how)).unwrap_or_default();
            plan.push(step("start", agent, "as a new instance; earlier failures are forgiven"));
            Ok(plan)
        })
    }

    /// What a start of the town would do.
    pub(super) fn plan_up(&self) -> Vec<PlanStep> {
        self.handle.view().read(|shown| {
            let hold = shown.hold.as_ref().map(|hold| {
                step("lift the hold", &shown.facts.name, format!("the town was stopped, by {}", hold.by))
            });
            let barred = |agent: &&Agent| {
                agent.rig.as_ref().is_some_and(|rig| {
                    shown.facts.rigs.get(rig).is_none_or(|facts| facts.standing.barred.is_some())
                })
            };
            let agents = shown.agents.values().filter(|agent| {
                agent.state == State::Stopped && agent.intent == Intent::Running && !barred(agent)
            });
            let starts = agents.map(|agent| {
                let why = agent.intent_reason.as_deref().unwrap_or("it should run");
                step("start", &agent.agent, format!("{why}, says {}", agent.intent_by))
            });
            hold.into_iter().chain(starts).collect()
        })
    }

    /// What a stop of the town would do to agents.
    pub(super) fn plan_down(&self, how: How) -> Vec<PlanStep> {
        self.handle.view().read(|shown| shown.agents.values().flat_map(|agent| stop(agent, how)).collect())
    }
}

fn start(shown: &Shown, agent: &Address) -> Result<Vec<PlanStep>, RpcError> {
    let state = shown.agents.get(agent).map(|one| one.state);
    if state == Some(State::Running) && shown.pauses.of(agent).is_none() {
        return Ok(Vec::new());
    }
    may_start(shown, agent)?;
    let why = match state {
        Some(State::Starting) => return Ok(vec![step("join", agent, "a start of it is under way")]),
        Some(State::Stopping | State::Lingering) => "as a new instance, once nothing of the last one is left",
        Some(State::Backoff | State::Quarantined | State::Throttled) => {
            "as a new instance, at once; earlier failures are forgiven"
        }
        _ => "as a new instance",
    };
    Ok(vec![step("start", agent, why)])
}

fn stop(agent: &Agent, how: How) -> Vec<PlanStep> {
    let why = match agent.state {
        State::Stopped => return Vec::new(),
        State::Backoff | State::Quarantined | State::Throttled | State::Held => {
            "nothing of it runs; it is not started again"
        }
        _ if how.force => "KILL at once",
        _ if how.now || agent.activity != Activity::Working || agent.state == State::Paused => {
            "TERM, and KILL after its grace time"
        }
        _ => "TERM when its turn has ended or the drain time is over, and KILL after its grace time",
    };
    vec![step("stop", &agent.agent, why)]
}

/// The refusal that a start by a person would meet.
fn may_start(shown: &Shown, agent: &Address) -> Result<(), RpcError> {
    let refused = |reason: &str, why: &str, hint: &str| {
        RpcError::new(ErrorKind::RigNotOperational, format!("{agent} may not be started: {why}"))
            .hint(hint)
            .with("reason", reason)
    };
    if shown.hold.is_some() {
        return Err(refused("town is down", "the town is stopped", "gtctl up"));
    }
    if let Some(standing) = shown.pauses.of(agent) {
        return Err(refused("paused", &standing.words(), &standing.extent.clear()));
    }
    let barred = agent
        .rig()
        .and_then(|rig| shown.facts.rigs.get(rig))
        .and_then(|facts| facts.standing.barred.as_ref());
    match barred {
        Some(reason) => {
            let hint = agent.rig().map_or_else(|| "gtctl status".to_owned(), |rig| way_back(rig, reason));
            Err(refused(reason, &format!("rig {reason}"), &hint))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(state: State, activity: Activity) -> Agent {
        let address: Address = "alpha/witness".parse().unwrap();
        Agent {
            state,
            activity,
            running: state == State::Running,
            ..at_rest(&address, gtd_proto::Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn a_plan_says_what_the_state_leads_to() {
        let polite = How::default();
        let why = |state, activity, how: How| {
            stop(&agent(state, activity), how).first().map(|step| step.why.clone()).unwrap_or_default()
        };
        assert_eq!(why(State::Stopped, Activity::Unknown, polite), "");
        assert!(why(State::Running, Activity::Working, polite).contains("turn"));
        assert!(!why(State::Running, Activity::Working, How { now: true, force: false }).contains("turn"));
        assert!(why(State::Running, Activity::Working, How { now: false, force: true }).starts_with("KILL"));
        assert!(why(State::Backoff, Activity::Unknown, polite).contains("not started again"));
        let mut shown = Shown::default();
        let one = agent(State::Running, Activity::Idle);
        let address = one.agent.clone();
        shown.agents.insert(address.clone(), one);
        assert_eq!(start(&shown, &address).unwrap(), []);
        shown.agents.insert(address.clone(), agent(State::Quarantined, Activity::Unknown));
        assert!(start(&shown, &address).unwrap()[0].why.contains("forgiven"));
        shown.hold = Some(crate::ledger::HoldRow {
            by: "person".into(),
            reason: None,
            at: gtd_proto::Timestamp::UNIX_EPOCH,
        });
        let error = start(&shown, &address).unwrap_err();
        assert_eq!((error.code, &error.data["reason"]), (1005, &"town is down".into()));
    }
}
