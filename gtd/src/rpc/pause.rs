//! `town.pause`, `town.resume`.

use gtd_proto::pause::{Pause, PauseChange};
use gtd_proto::{
    Address, Agent, ErrorKind, Intent, PlanStep, Reply, RigName, Role, RpcError, State, Timestamp, params,
};
use jsonrpsee::Extensions;
use jsonrpsee::core::RpcResult;

use super::context::{Context, refuse};
use super::plan::step;
use crate::supervisor::pause_requests::PauseAsk;
use crate::supervisor::pauses::Scope;
use crate::supervisor::requests::Ask;
use crate::supervisor::rigs::unknown_rig;
use crate::supervisor::view::Shown;

impl Context {
    pub(super) async fn pause_town(
        &self,
        peer: &Extensions,
        params: params::TownPause,
    ) -> RpcResult<Reply<PauseChange>> {
        let scope =
            Scope { rig: params.rig, agents: params.agents.unwrap_or_default().into_iter().collect() };
        let until = params.until.map(|until| self.to_come(until)).transpose().map_err(refuse)?;
        if params.dry_run {
            return self.planned_pause(&scope, params.until);
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let what = PauseAsk { scope, frozen: true, until };
        self.pause_or_resume("town.pause", params.idempotency_key, what, ask).await
    }

    pub(super) async fn resume_town(
        &self,
        peer: &Extensions,
        params: params::TownResume,
    ) -> RpcResult<Reply<PauseChange>> {
        let scope =
            Scope { rig: params.rig, agents: params.agents.unwrap_or_default().into_iter().collect() };
        if params.dry_run {
            return self.planned_resume(&scope);
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let what = PauseAsk { scope, frozen: false, until: None };
        self.pause_or_resume("town.resume", params.idempotency_key, what, ask).await
    }

    async fn pause_or_resume(
        &self,
        method: &'static str,
        key: Option<String>,
        what: PauseAsk,
        ask: Ask,
    ) -> RpcResult<Reply<PauseChange>> {
        let doing = async || {
            let items = self.handle.pause_or_resume(what.clone(), ask.clone()).await?;
            Ok(PauseChange { items, ..PauseChange::default() })
        };
        let done = self.handle.once_or_wait(key.as_deref(), method, doing(), doing()).await;
        let change = done.map_err(refuse)?;
        Ok(Reply::at(self.seq(), change))
    }

    /// An instant to come, by the supervisor's time.
    fn to_come(&self, until: Timestamp) -> Result<Timestamp, RpcError> {
        let wall = self.handle.wall();
        if until <= wall {
            let why = format!("a pause until {until:.0} would be over already: it is {wall:.0}");
            return Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/until"));
        }
        Ok(self.handle.on_line(until))
    }

    fn planned_pause(&self, scope: &Scope, until: Option<Timestamp>) -> RpcResult<Reply<PauseChange>> {
        let end =
            until.map_or_else(|| "until `gtctl resume`".to_owned(), |until| format!("until {until:.0}"));
        let plan = self.handle.view().read(|shown| {
            let meant = meant(shown, scope)?;
            let agents = meant.iter().filter_map(|agent| freeze(agent, &end));
            let crew = scope.agents.iter().filter(|agent| agent.role() == Role::Crew);
            let refused =
                crew.map(|agent| step("refuse", agent, "it belongs to a person, and is never frozen"));
            Ok(agents.chain(refused).collect())
        });
        self.planned_change_of_pause(plan)
    }

    fn planned_resume(&self, scope: &Scope) -> RpcResult<Reply<PauseChange>> {
        let plan = self.handle.view().read(|shown| {
            let meant = meant(shown, scope)?;
            Ok(meant.iter().filter_map(|agent| Some(go_on(agent, agent.pause.as_ref()?))).collect())
        });
        self.planned_change_of_pause(plan)
    }

    fn planned_change_of_pause(
        &self,
        plan: Result<Vec<PlanStep>, RpcError>,
    ) -> RpcResult<Reply<PauseChange>> {
        let plan = plan.map_err(refuse)?;
        Ok(Reply::at(self.seq(), PauseChange { items: Vec::new(), plan, dry_run: true }))
    }
}

/// The agents that are meant.
fn meant<'a>(shown: &'a Shown, scope: &Scope) -> Result<Vec<&'a Agent>, RpcError> {
    let there = |rig: &RigName| shown.facts.rigs.contains_key(rig) || shown.pauses.rig(rig).is_some();
    if let Some(rig) = scope.rig.as_ref().filter(|rig| !there(rig)) {
        return Err(unknown_rig(rig, &shown.facts));
    }
    let is_crew = |agent: &&Address| agent.role() == Role::Crew;
    if let Some(agent) = scope
        .agents
        .iter()
        .find(|agent| !is_crew(agent) && !shown.agents.contains_key(*agent) && !shown.pauses.names(agent))
    {
        let why = format!("there is no agent {agent}");
        return Err(RpcError::new(ErrorKind::AgentNotFound, why).hint("gtctl status"));
    }
    Ok(shown.agents.values().filter(|agent| scope.holds(&agent.agent)).collect())
}

fn freeze(agent: &Agent, end: &str) -> Option<PlanStep> {
    if agent.pause.as_ref().is_some_and(|pause| pause.frozen) {
        return None;
    }
    let why = match agent.state {
        State::Stopping | State::Lingering => return Some(step("leave", &agent.agent, "it is being ended")),
        _ if agent.running || agent.state == State::Starting => {
            format!("with everything below its shim, {end}")
        }
        _ => return Some(step("keep from starting", &agent.agent, end)),
    };
    Some(step("freeze", &agent.agent, why))
}

fn go_on(agent: &Agent, pause: &Pause) -> PlanStep {
    if pause.frozen {
        return step("let go on", &agent.agent, format!("it was paused, by {}", pause.by));
    }
    let then =
        if agent.intent == Intent::Paused { "it should run, and is started" } else { "it may be started" };
    step("let start", &agent.agent, format!("{then}; it was paused, by {}", pause.by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::view::at_rest;

    #[test]
    fn a_plan_says_what_the_state_leads_to() {
        let agent = |state, running| Agent {
            state,
            running,
            ..at_rest(&"a/witness".parse().unwrap(), Timestamp::UNIX_EPOCH)
        };
        let action = |agent: &Agent| freeze(agent, "until noon").map(|step| step.action);
        assert_eq!(action(&agent(State::Running, true)).as_deref(), Some("freeze"));
        assert_eq!(action(&agent(State::Backoff, false)).as_deref(), Some("keep from starting"));
        assert_eq!(action(&agent(State::Stopping, true)).as_deref(), Some("leave"));
        let mut frozen = agent(State::Paused, true);
        let pause = Pause {
            by: "person".into(),
            reason: None,
            since: Timestamp::UNIX_EPOCH,
            until: None,
            scope: "town".into(),
            clear: "gtctl resume".into(),
            frozen: true,
            processes: Some(2),
        };
        frozen.pause = Some(pause.clone());
        assert_eq!(action(&frozen), None);
        assert_eq!(go_on(&frozen, &pause).action, "let go on");
    }
}
