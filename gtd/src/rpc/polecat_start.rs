//! Starting a worker with work: everything is checked first, the work is on its hook before it is started, and comes
//! off again when nothing of it ever ran.

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::{Address, Change, ErrorKind, Intent, PlanStep, Reply, RpcError, State, WorkId, params};
use jsonrpsee::Extensions;

use super::context::Context;
use super::plan::step;
use super::polecat::runs;
use super::rig::{effect, overrides};
use super::work::{by, work_error};
use crate::agents::order::Overrides;
use crate::supervisor::requests::{Ask, How, Request, Wait};
use crate::supervisor::waiting::Awaited;
use crate::work::{By, Hooking, WorkError};

/// A start with work, as it was asked for.
#[derive(Debug, Clone)]
struct Start {
    agent: Address,
    work: WorkId,
    overrides: Option<Overrides>,
    force: bool,
    ask: Ask,
    by: By,
}

impl Context {
    pub(super) async fn start_worker(
        &self,
        peer: &Extensions,
        params: params::PolecatStart,
    ) -> Result<Reply<Change>, RpcError> {
        let agent = params.agent;
        let overrides = overrides(params.agent_preset, params.account, params.env, params.reset_overrides);
        let shown = self.worker(&agent)?;
        // Before its work is touched; the supervisor says so once more.
        self.in_service(&agent)?;
        let hook = if let Some(work) = params.work.as_ref() {
            let had = shown.hook.as_deref() == Some(work.as_str());
            if runs(&shown) && !had {
                let what = shown.hook.unwrap_or_else(|| "nothing".to_owned());
                let why = format!("{agent} runs already, with {what} on its hook");
                return Err(RpcError::new(ErrorKind::Busy, why)
                    .hint(format!("gtctl hook set {agent} {work}, or stop it first")));
            }
            if runs(&shown) { None } else { Some(self.may_hook(&agent, work, params.force).await?) }
        } else {
            None
        };
        if !runs(&shown) {
            self.plan_start(&agent)?;
            self.launchable(&agent, overrides.as_ref())?;
            self.has_worktree(&agent)?;
        }
        if params.dry_run {
            let mut plan = hook_steps(&agent, params.work.as_ref(), hook.as_ref());
            plan.extend(self.plan_start(&agent)?);
            return Ok(self.planned_change(&agent, plan));
        }
        let ask = self.ask(peer, params.reason.clone(), params.wait_ms);
        let again = self.handle.change(&agent, effect(&agent, Awaited::Started, ask.wait));
        let key = params.idempotency_key.as_deref();
        let change = match params.work.filter(|_| !runs(&shown)) {
            Some(work) => {
                let by = by(peer, params.reason);
                let force = params.force;
                let start = Start { agent: agent.clone(), work, overrides, force, ask, by };
                let doing = self.begin_with_work(start, params.wait_ms);
                self.handle.once_or_wait(key, "polecat.start", doing, again).await?
            }
            None => {
                let request = Request::Start { agent: agent.clone(), overrides, ask };
                let doing = self.handle.change(&agent, request);
                self.handle.once_or_wait(key, "polecat.start", doing, again).await?
            }
        };
        Ok(self.changed(change))
    }

    /// What putting the work on the hook would do. A store that does not answer is no bar to who insists.
    async fn may_hook(&self, agent: &Address, work: &WorkId, force: bool) -> Result<Hooking, RpcError> {
        match self.desk.would_hook(agent, work, force).await {
            Err(WorkError::Unknown(_)) if force => Ok(Hooking::default()),
            other => other.map_err(work_error),
        }
    }

    /// Runs to its end, also when the client that asked does not wait for it: half a start is none.
    async fn begin_with_work(&self, start: Start, wait_ms: Option<u64>) -> Result<Change, RpcError> {
        let (context, agent) = (self.clone(), start.agent.clone());
        let mut task = tokio::spawn(async move { context.hook_and_start(start).await });
        let ended = match wait_ms {
            None => (&mut task).await,
            Some(0) => {
                let agent = self.worker(&agent)?;
                return Ok(Change {
                    agent,
                    already: false,
                    accepted: true,
                    dry_run: false,
                    plan: Vec::new(),
                    survivors: Vec::new(),
                });
            }
            Some(ms) => match tokio::time::timeout(Duration::from_millis(ms), &mut task).await {
                Ok(ended) => ended,
                Err(_) => {
                    let reached = self.worker(&agent).map_or(State::Unknown, |agent| agent.state);
                    let why = format!("{agent} was not confirmed in time; it got as far as {reached}");
                    return Err(RpcError::new(ErrorKind::Timeout, why)
                        .hint(format!("gtctl explain {agent}"))
                        .with("reached", reached));
                }
            },
        };
        ended.unwrap_or_else(|error| Err(RpcError::internal(format!("the start was cut off: {error}"))))
    }

    async fn hook_and_start(&self, start: Start) -> Result<Change, RpcError> {
        let Start { agent, work, overrides, force, ask, by } = start;
        let before = self.worker(&agent)?.intent;
        let hooked = match self.desk.hook(&agent, &work, force, &by).await {
            Ok(hooking) => !hooking.already,
            Err(WorkError::Unknown(error)) if force => {
                tracing::warn!(%agent, %work, %error, "started without the work on its hook, as was insisted on");
                false
            }
            Err(error) => return Err(work_error(error)),
        };
        let ask = Ask { wait: Wait::ToTheEnd, ..ask };
        let request = Request::Start { agent: agent.clone(), overrides, ask: ask.clone() };
        let error = match self.handle.change(&agent, request).await {
            Ok(change) => return Ok(change),
            Err(error) => error,
        };
        if !hooked || !never_ran(&error) {
            return Err(error);
        }
        // One that was paused meanwhile is wanted still.
        if !matches!(before, Intent::Running | Intent::Paused) {
            // Else it would be tried again, without work.
            let reason = Some(format!("its start failed: {}", error.message));
            let request =
                Request::Stop { agent: agent.clone(), how: How::default(), ask: Ask { reason, ..ask } };
            if let Err(error) = self.handle.change(&agent, request).await {
                tracing::warn!(%agent, %error, "a start that failed was not called off");
            }
        }
        let why = By { reason: Some("its start failed before anything of it ran".to_owned()), ..by };
        match Arc::clone(&self.desk).unhook(&agent, &why).await {
            Ok(_) => Err(error),
            // Whoever reads it has to know where the work is.
            Err(left) => Err(error.with("hook", &work).with("hook_error", left.to_string())),
        }
    }
}

/// Whether an error of a start proves that no process of it began.
fn never_ran(error: &RpcError) -> bool {
    match error.kind {
        ErrorKind::RigNotOperational
        | ErrorKind::RigNotFound
        | ErrorKind::AgentNotFound
        | ErrorKind::Throttled
        | ErrorKind::TmuxUnavailable
        | ErrorKind::ConfigInvalid
        | ErrorKind::NameInvalid => true,
        // It was drained, or begun to be removed, after it was looked at.
        ErrorKind::Busy => error.data.contains_key("reason"),
        ErrorKind::DiedDuringStartup => error.data.contains_key("exec_error"),
        _ => false,
    }
}

fn hook_steps(agent: &Address, work: Option<&WorkId>, hook: Option<&Hooking>) -> Vec<PlanStep> {
    let (Some(work), Some(hook)) = (work, hook.filter(|hook| !hook.already)) else { return Vec::new() };
    let taken = hook.taken_from.iter().map(|holder| step("unhook", holder, format!("it has {work}")));
    let released =
        hook.replaced.iter().map(|other| step("release", other, format!("it is on the hook of {agent}")));
    taken.chain(released).chain([step("hook", work, format!("for {agent}"))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::closed::{self, Closed};

    #[test]
    fn only_what_never_ran_loses_its_work_again() {
        let died = |field: &str| RpcError::new(ErrorKind::DiedDuringStartup, "x").with(field, 1);
        assert!(never_ran(&died("exec_error")));
        assert!(!never_ran(&died("exit")));
        let agent: Address = "a/polecats/nux".parse().unwrap();
        assert!(never_ran(&crate::supervisor::drain::refusal(&agent, false)));
        assert!(never_ran(&closed::refusal(&agent, Closed::Removing)));
        for (kind, never) in [
            (ErrorKind::RigNotOperational, true),
            (ErrorKind::Throttled, true),
            (ErrorKind::TmuxUnavailable, true),
            (ErrorKind::Timeout, false),
            (ErrorKind::Busy, false),
            (ErrorKind::ShuttingDown, false),
            (ErrorKind::Internal, false),
        ] {
            assert_eq!(never_ran(&RpcError::new(kind, "x")), never, "{kind:?}");
        }
    }
}
