//! Parking, docking and removing rigs: the way from a request to the ledger, the files and the agents.

use std::time::{Duration, Instant};

use gtd_proto::town::{RigChange, RigRemoved};
use gtd_proto::{Address, Agent, ErrorKind, Intent, PlanStep, Reply, RigName, Role, RpcError, State, params};
use jsonrpsee::Extensions;

use super::context::Context;
use super::plan::step;
use crate::supervisor::requests::{Request, Wait};
use crate::supervisor::rig_requests::RigAsk;
use crate::supervisor::rigs::unknown_rig;
use crate::town::git::Git;
use crate::town::registry;
use crate::town::unfinished::{self, LookError};

/// How long a file may take to be written, and a change of the registry to be noticed. Both take some 30 ms.
const SEEN: Duration = Duration::from_secs(5);
/// Between two looks whether it has been.
const LOOK: Duration = Duration::from_millis(5);

impl Context {
    /// Parks, unparks, docks or undocks.
    pub(super) async fn set_aside(
        &self,
        what: RigAsk,
        method: &str,
        peer: &Extensions,
        params: params::RigAside,
    ) -> Result<Reply<RigChange>, RpcError> {
        let rig = params.rig;
        if params.dry_run {
            let plan = self.aside_plan(&rig, what)?;
            return self.rig_changed(RigChange { dry_run: true, plan, ..self.rig_change(&rig)? });
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let wait = ask.wait;
        let doing = async {
            let request = Request::Rig { rig: rig.clone(), what, ask };
            let (already, agents) = self.handle.change_rig(request).await?;
            if wait == Wait::No {
                return Ok(RigChange { already, accepted: !already, ..self.rig_change(&rig)? });
            }
            self.written(&rig, wait).await;
            let items = self.handle.rig_settled(&rig, agents, wait).await?;
            Ok(RigChange { already, items, ..self.rig_change(&rig)? })
        };
        let change = self.handle.once(params.idempotency_key.as_deref(), method, doing).await?;
        self.rig_changed(change)
    }

    fn rig_change(&self, rig: &RigName) -> Result<RigChange, RpcError> {
        let rig = self.handle.rig(rig)?;
        Ok(RigChange {
            rig,
            already: false,
            accepted: false,
            items: Vec::new(),
            dry_run: false,
            plan: Vec::new(),
        })
    }

    fn rig_changed(&self, body: RigChange) -> Result<Reply<RigChange>, RpcError> {
        Ok(Reply::at(self.seq(), body))
    }

    /// Waits a moment until the rig's file says what was asked for; an alert tells when it cannot.
    async fn written(&self, rig: &RigName, wait: Wait) {
        let left = match wait {
            Wait::Until(until) => crate::supervisor::policy::since(self.handle.now(), until).min(SEEN),
            Wait::ToTheEnd | Wait::No => SEEN,
        };
        let asked = Instant::now();
        while asked.elapsed() < left
            && self.trouble(rig).is_none()
            && self.handle.view().read(|shown| shown.chores.iter().any(|(other, _)| other == rig))
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why a file of the rig could not be written, while it could not.
    fn trouble(&self, rig: &RigName) -> Option<String> {
        let key = format!("rig:{rig}:file");
        self.handle.view().read(|shown| shown.alerts.get(&key).map(|alert| alert.message.clone()))
    }

    fn aside_plan(&self, rig: &RigName, what: RigAsk) -> Result<Vec<PlanStep>, RpcError> {
        let now = self.handle.view().read(|shown| shown.rig(rig))?;
        let plain = |action: &str, why: String| PlanStep {
            action: action.to_owned(),
            target: format!("rig {rig}"),
            why,
        };
        let file = format!("in the ledger and in .beads-wisp/config/{rig}.json");
        let ledger = "in the ledger".to_owned();
        let mut plan = Vec::new();
        match what {
            RigAsk::Park if now.parked.is_none() => plan.push(plain("park", file)),
            RigAsk::Unpark if now.parked.is_some() => plan.push(plain("unpark", file)),
            RigAsk::Dock if now.docked.is_none() => plan.push(plain("dock", ledger)),
            RigAsk::Undock if now.docked.is_some() => plan.push(plain("undock", ledger)),
            _ => {}
        }
        let standing = [&now.witness, &now.refinery];
        match what {
            RigAsk::Park | RigAsk::Dock | RigAsk::Remove => {
                plan.extend(stops(standing, "the rig is set aside"))
            }
            RigAsk::Unpark | RigAsk::Undock | RigAsk::Keep => {
                // What else bars it goes on barring it.
                let undone = if what == RigAsk::Unpark { "parked" } else { "docked" };
                let alone = now.parked.is_none() || now.docked.is_none();
                let free = alone && now.reason.as_deref() == Some(undone);
                let sleeping = standing
                    .into_iter()
                    .filter(|agent| free && agent.intent == Intent::Running && agent.state == State::Stopped);
                plan.extend(sleeping.map(|agent| step("start", &agent.agent, "it should run")));
            }
        }
        Ok(plan)
    }

    /// Takes a rig out of the registry, with nothing of it running and nothing of it deleted.
    pub(super) async fn remove_rig(
        &self,
        peer: &Extensions,
        params: params::RigRemove,
    ) -> Result<Reply<RigRemoved>, RpcError> {
        let rig = params.rig.clone();
        let doing = async {
            let agents = self.agents_of(&rig)?;
            self.removable(&rig, &agents, params.force).await?;
            if params.dry_run {
                return Ok(RigRemoved {
                    dry_run: true,
                    plan: self.removal_plan(&rig, &agents),
                    ..self.removed(&rig)
                });
            }
            let ask = self.ask(peer, params.reason, params.wait_ms);
            let wait = ask.wait;
            let request = Request::Rig { rig: rig.clone(), what: RigAsk::Remove, ask: ask.clone() };
            let (_, ending) = self.handle.change_rig(request).await?;
            if wait == Wait::No {
                return Ok(RigRemoved { accepted: true, ..self.removed(&rig) });
            }
            let items = self.handle.rig_settled(&rig, ending, wait).await?;
            if let Err(error) = self.unregistered(&rig).await {
                let keep = Request::Rig { rig: rig.clone(), what: RigAsk::Keep, ask };
                self.handle.change_rig(keep).await?;
                return Err(error);
            }
            Ok(RigRemoved { items, ..self.removed(&rig) })
        };
        // A plan is not an answer that a later request may be given.
        let key = params.idempotency_key.as_deref().filter(|_| !params.dry_run);
        let removed = self.handle.once(key, "rig.remove", doing).await?;
        Ok(Reply::at(self.seq(), removed))
    }

    /// The agents of a rig that the registry has, or had when they were started.
    fn agents_of(&self, rig: &RigName) -> Result<Vec<Agent>, RpcError> {
        self.handle.view().read(|shown| {
            let agents: Vec<Agent> =
                shown.agents.values().filter(|agent| agent.rig.as_ref() == Some(rig)).cloned().collect();
            match agents.is_empty() && !shown.facts.rigs.contains_key(rig) {
                true => Err(unknown_rig(rig, &shown.facts)),
                false => Ok(agents),
            }
        })
    }

    /// Refuses where something would be lost sight of.
    async fn removable(&self, rig: &RigName, agents: &[Agent], force: bool) -> Result<(), RpcError> {
        let standing = |agent: &Agent| matches!(agent.role, Role::Witness | Role::Refinery);
        let running: Vec<String> = agents
            .iter()
            .filter(|agent| agent.state != State::Stopped && !standing(agent))
            .map(|agent| agent.agent.to_string())
            .collect();
        if let Some(first) = running.first() {
            let error =
                RpcError::new(ErrorKind::Busy, format!("rig {rig} cannot be removed: {first} is there"));
            return Err(error.hint(format!("gtctl polecat stop-all {rig}")).with("running", running));
        }
        registry::read(&self.layout.rigs_json()).map_err(|why| {
            RpcError::new(
                ErrorKind::ConfigInvalid,
                format!("rig {rig} cannot be removed: mayor/rigs.json {why}"),
            )
            .hint("restore mayor/rigs.json first")
            .with("file", "mayor/rigs.json")
        })?;
        if force {
            return Ok(());
        }
        let names = crate::town::rigs::members(&self.layout.polecats(rig)).map_err(|why| {
            RpcError::internal(format!("rig {rig} cannot be removed: its polecats are not known: {why}"))
        })?;
        let git = Git::new(std::env::vars());
        let found = unfinished::look(&self.layout, rig, &names.names, &git)
            .await
            .map_err(|error| unknown(rig, &error))?;
        let places: Vec<String> = found.iter().map(|one| format!("{}: {}", one.place, one.summary)).collect();
        if places.is_empty() {
            return Ok(());
        }
        let summary = places.join("; ");
        Err(RpcError::new(
            ErrorKind::UncommittedWork,
            format!("rig {rig} has work that is nowhere else: {summary}"),
        )
        .hint(format!("push it, or: gtctl rig remove {rig} --force (its directory stays in any case)"))
        .with("summary", summary)
        .with("worktrees", places))
    }

    /// Waits until the rig is out of the registry and forgotten.
    async fn unregistered(&self, rig: &RigName) -> Result<(), RpcError> {
        let asked = Instant::now();
        while self.agents_of(rig).is_ok() {
            if let Some(why) = self.trouble(rig) {
                return Err(
                    RpcError::new(ErrorKind::ConfigInvalid, why).hint("restore mayor/rigs.json first")
                );
            }
            if asked.elapsed() > SEEN {
                let why = format!("rig {rig} is still in the registry");
                let error = RpcError::new(ErrorKind::Timeout, why).with("reached", "stopped");
                return Err(error.hint("gtctl rig list; gtctl daemon status"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn removed(&self, rig: &RigName) -> RigRemoved {
        let there = |path: std::path::PathBuf| {
            path.symlink_metadata().is_ok().then(|| path.to_string_lossy().into_owned())
        };
        let path = self.layout.rig(rig);
        RigRemoved {
            name: rig.clone(),
            path: path.to_string_lossy().into_owned(),
            left: there(path).into_iter().chain(there(self.layout.wisp(rig))).collect(),
            accepted: false,
            items: Vec::new(),
            dry_run: false,
            plan: Vec::new(),
        }
    }

    fn removal_plan(&self, rig: &RigName, agents: &[Agent]) -> Vec<PlanStep> {
        let mut plan: Vec<PlanStep> = stops(agents, "the rig is removed").collect();
        let target = |what: &str, why: &str| PlanStep {
            action: what.to_owned(),
            target: format!("rig {rig}"),
            why: why.to_owned(),
        };
        plan.push(target("unregister", "out of mayor/rigs.json; everything else in it stays"));
        plan.push(target("forget", "what should run of it, and that it was parked or docked"));
        plan
    }
}

fn stops<'a>(agents: impl IntoIterator<Item = &'a Agent>, why: &str) -> impl Iterator<Item = PlanStep> {
    let there: Vec<&Address> =
        agents.into_iter().filter(|agent| agent.state != State::Stopped).map(|agent| &agent.agent).collect();
    there.into_iter().map(|agent| step("stop", agent, why)).collect::<Vec<_>>().into_iter()
}

fn unknown(rig: &RigName, error: &LookError) -> RpcError {
    let why =
        format!("rig {rig} cannot be removed: whether work in it is nowhere else is not known: {error}");
    let hint = format!("gtctl rig remove {rig} --force (its directory stays in any case)");
    match error {
        LookError::Git(git) => RpcError::new(ErrorKind::Git, why)
            .hint(hint)
            .with("command", &git.command)
            .with("stderr", &git.stderr),
        LookError::Io { .. } => RpcError::internal(why).hint(hint),
    }
}
