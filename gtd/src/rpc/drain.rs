//! `agent.drain`, `agent.undrain`, and what a drained agent is refused.

use gtd_proto::{Activity, Address, Change, Intent, PlanStep, Reply, RpcError, State, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::RpcResult;

use super::context::Context;
use super::plan::step;
use crate::supervisor::closed::{self, Closed};
use crate::supervisor::drain::refusal;
use crate::supervisor::requests::Request;

impl Context {
    pub(super) async fn drain_agent(
        &self,
        peer: &Extensions,
        params: params::AgentDrain,
    ) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        self.must_know(Some(&agent))?;
        if params.dry_run {
            return self.planned(&agent, Ok(self.plan_drain(&agent)));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let request = || Request::Drain { agent: agent.clone(), ask: ask.clone() };
        let (doing, again) = (self.handle.change(&agent, request()), self.handle.change(&agent, request()));
        let key = params.idempotency_key.as_deref();
        let done = self.handle.once_or_wait(key, "agent.drain", doing, again).await;
        Ok(self.changed(done.map_err(super::context::refuse)?))
    }

    pub(super) async fn undrain_agent(
        &self,
        peer: &Extensions,
        params: params::AgentDrain,
    ) -> RpcResult<Reply<Change>> {
        let agent = params.agent;
        self.must_know(Some(&agent))?;
        if params.dry_run {
            return self.planned(&agent, Ok(self.plan_undrain(&agent)));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let request = || Request::Undrain { agent: agent.clone(), ask: ask.clone() };
        let (doing, again) = (self.handle.change(&agent, request()), self.handle.change(&agent, request()));
        let key = params.idempotency_key.as_deref();
        let done = self.handle.once_or_wait(key, "agent.undrain", doing, again).await;
        Ok(self.changed(done.map_err(super::context::refuse)?))
    }

    fn plan_drain(&self, agent: &Address) -> Vec<PlanStep> {
        let Some(one) = self.handle.view().agent(agent).filter(|one| one.drain.is_none()) else {
            return Vec::new();
        };
        let why = match one.state {
            State::Stopped => "it does not run; it is not started before `gtctl undrain`",
            _ if one.running && one.activity == Activity::Working => {
                "when its turn has ended, however long that takes; it is not started before `gtctl undrain`"
            }
            _ => "at once; it is not started before `gtctl undrain`",
        };
        vec![step("drain", agent, why)]
    }

    fn plan_undrain(&self, agent: &Address) -> Vec<PlanStep> {
        let Some(one) = self.handle.view().agent(agent) else { return Vec::new() };
        let Some(drain) = &one.drain else { return Vec::new() };
        let why = match (one.intent, drain.done) {
            (Intent::Running, true) => "it may run again, and is started",
            (Intent::Running, false) => "its turn goes on, and so does it",
            _ => "it may be started again; by its intent it stays stopped",
        };
        vec![step("undrain", agent, why)]
    }

    /// An agent that is drained, or being removed, gets no work and no text.
    ///
    /// # Errors
    /// `busy`, with the way back.
    pub(super) fn in_service(&self, agent: &Address) -> Result<(), RpcError> {
        if self.handle.view().read(|shown| shown.is_leaving(agent)) {
            return Err(closed::refusal(agent, Closed::Removing));
        }
        let drain = self.handle.view().agent(agent).and_then(|one| one.drain);
        drain.map_or(Ok(()), |drain| Err(refusal(agent, drain.done)))
    }
}
