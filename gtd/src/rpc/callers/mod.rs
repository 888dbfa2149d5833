//! Callers: who asks, proven by where their process comes from, and what they may.
//!
//! A guard rail against confused models, and no border between the processes of one user: whoever may write to
//! the town's files, or to tmux, needs no socket. It owns the table of methods and classes. It must never take
//! a mark in an environment for proof, and never grant anything to who cannot be told.
//!
//! Proof is the ancestry of the socket's peer: a recorded process of an instance among its parents, a process
//! that was seen to descend from one, or the session or group of a living recorded one. The shim is the
//! subreaper of its agent, so a child that daemonised still has it as parent. What carries an instance's mark
//! and has no such proof is `unknown`: probably an agent's, certainly not known to be a person.

mod judge;
mod origin;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gtd_proto::{Address, InstanceId, RpcError, TownId};
use serde_json::{Map, Value};

pub use judge::{Asked, Who, judge};
pub(super) use origin::Origin;

use crate::config::Grant;
use crate::process::{Kin, ProcessId};
use crate::supervisor::Handle;

/// How long a request waits for the record of an instance that is just being launched: its first report can
/// be faster than tmux tells us of it.
const RECORD: Duration = Duration::from_secs(1);

/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(10);

/// What is known of agents' processes.
pub trait Known: Send + Sync {
    /// The agent to which a process of this line provably belongs, the nearest deciding.
    fn owner(&self, line: &[Kin]) -> Option<Address>;
    /// The agent whose present instance this is.
    fn holder(&self, instance: &InstanceId) -> Option<Address>;
    /// Whether this agent's present instance is being launched, and no process of it is on record yet.
    fn is_coming(&self, agent: &Address) -> bool;
    /// The worker that a short name means.
    fn worker(&self, _text: &str) -> Option<Address> {
        None
    }
    /// Whose item of a method it is that has this id.
    fn keeper<'a>(&'a self, method: &'a str, id: &'a str) -> BoxFuture<'a, Keeper>;
}

/// Whose an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// This agent's.
    Agent(Address),
    /// There is no such item, and so nothing that could be done to it.
    Nobody,
    /// A person's, or it cannot be told.
    Unclear,
}

impl Known for Handle {
    fn owner(&self, line: &[Kin]) -> Option<Address> {
        let recorded = self.view().read(|shown| {
            line.iter()
                .find_map(|kin| shown.recorded.owner(&kin.id).or_else(|| shown.recorded.leader_of(kin)))
                .cloned()
        });
        recorded.or_else(|| {
            let ids: Vec<ProcessId> = line.iter().map(|kin| kin.id.clone()).collect();
            self.runtime().captured_by(&ids)
        })
    }

    fn holder(&self, instance: &InstanceId) -> Option<Address> {
        self.view().read(|shown| {
            let mut agents = shown.agents.values();
            agents.find(|agent| agent.instance.as_ref() == Some(instance)).map(|agent| agent.agent.clone())
        })
    }

    fn is_coming(&self, agent: &Address) -> bool {
        self.view().read(|shown| {
            let starting =
                shown.agents.get(agent).is_some_and(|agent| agent.state == gtd_proto::State::Starting);
            starting && !shown.recorded.has(agent)
        })
    }

    fn worker(&self, text: &str) -> Option<Address> {
        self.view().read(|shown| super::short::worker(shown, text))
    }

    fn keeper<'a>(&'a self, method: &'a str, id: &'a str) -> BoxFuture<'a, Keeper> {
        async move {
            if !method.starts_with("mail.") {
                return Keeper::Unclear;
            }
            match self.ledger().mail(id).await {
                Ok(Some(mail)) => mail.recipient.parse().map_or(Keeper::Unclear, Keeper::Agent),
                Ok(None) => Keeper::Nobody,
                Err(_) => Keeper::Unclear,
            }
        }
        .boxed()
    }
}

/// For a server without agents: whoever carries no mark of its town is a person.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAgents;

impl Known for NoAgents {
    fn owner(&self, _: &[Kin]) -> Option<Address> {
        None
    }

    fn holder(&self, _: &InstanceId) -> Option<Address> {
        None
    }

    fn is_coming(&self, _: &Address) -> bool {
        false
    }

    fn keeper<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Keeper> {
        std::future::ready(Keeper::Unclear).boxed()
    }
}

/// Decides who may what. Clones share the grants.
#[derive(Clone)]
pub struct Callers {
    known: Arc<dyn Known>,
    town: TownId,
    grants: Arc<RwLock<Vec<Grant>>>,
}

impl Callers {
    /// For a town, with what its configuration grants.
    #[must_use]
    pub fn new(known: Arc<dyn Known>, town: TownId, grants: Vec<Grant>) -> Self {
        Self { known, town, grants: Arc::new(RwLock::new(grants)) }
    }

    /// Other grants from now on, as after a reload of the configuration.
    pub fn grant(&self, grants: Vec<Grant>) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = grants;
    }

    /// The worker that a short name means.
    pub(super) fn worker(&self, text: &str) -> Option<Address> {
        self.known.worker(text)
    }

    /// Says who asks, when they may.
    ///
    /// # Errors
    /// `forbidden`.
    pub(super) async fn admit(
        &self,
        origin: &Origin,
        method: &str,
        reads: bool,
        params: &Map<String, Value>,
    ) -> Result<Who, RpcError> {
        let instance = params.get("instance").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let by_instance = instance.and_then(|instance: InstanceId| self.known.holder(&instance));
        let mut asked = Asked { method, reads, params, by_instance };
        if asked.only_looks() && !asked.is_about_the_caller() {
            // Who it is matters to nobody then.
            return Ok(Who::Unknown("it only looks".to_owned()));
        }
        let who = self.who(origin).await;
        if let (Some(id), Who::Agent(_)) = (asked.item(), &who) {
            match self.known.keeper(method, id).await {
                Keeper::Agent(agent) => asked.by_instance = Some(agent),
                Keeper::Nobody => return Ok(who),
                Keeper::Unclear => asked.by_instance = None,
            }
        }
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner).clone();
        judge(&who, &asked, &grants).map(|()| who)
    }

    /// Whether somebody who was told apart elsewhere may do something about an agent.
    ///
    /// # Errors
    /// `forbidden`.
    pub(super) fn would_admit(&self, who: &Who, method: &str, agent: &Address) -> Result<(), RpcError> {
        let params = Map::from_iter([("agent".to_owned(), Value::from(agent.to_string()))]);
        let asked = Asked { method, reads: false, params: &params, by_instance: None };
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner).clone();
        judge(who, &asked, &grants)
    }

    /// Who is at the other end. The line was read when the connection came; what is known of agents is looked
    /// up each time, since an instance may have been recorded since.
    pub(super) async fn who(&self, origin: &Origin) -> Who {
        let line = match origin.line() {
            Ok(line) => line,
            Err(why) => return Who::Unknown(why.to_owned()),
        };
        if let Some(agent) = self.known.owner(line) {
            return Who::Agent(agent);
        }
        let instance = match origin.mark(&self.town).await {
            Ok(Some(instance)) => instance,
            Ok(None) => return Who::Human,
            Err(why) => return Who::Unknown(why),
        };
        let asked = tokio::time::Instant::now();
        while self.known.holder(&instance).is_some_and(|agent| self.known.is_coming(&agent))
            && asked.elapsed() < RECORD
        {
            tokio::time::sleep(LOOK).await;
        }
        match self.known.owner(line) {
            Some(agent) => Who::Agent(agent),
            None => Who::Unknown(format!(
                "it carries the mark of instance {instance} (GT_INSTANCE) and is not proven to belong to it"
            )),
        }
    }
}
