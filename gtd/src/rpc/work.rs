//! `work.*`: work items.

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::rpc::WorkServer;
use gtd_proto::work::{Work, WorkChange};
use gtd_proto::{ErrorKind, Items, PlanStep, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::{Context, name_of, refuse, who};
use crate::work::{By, Filter, Item, Unknown, WorkError};

#[async_trait]
impl WorkServer for Context {
    async fn create(&self, peer: &Extensions, params: params::WorkCreate) -> RpcResult<Reply<WorkChange>> {
        let seq = self.seq();
        if let Some(rig) = &params.rig {
            self.handle.view().read(|shown| shown.rig(rig).map(drop)).map_err(refuse)?;
        }
        let by = by(peer, params.reason);
        let params::WorkCreate {
            title, rig, description, priority, dry_run, wait_ms, idempotency_key, ..
        } = params;
        let new = self.desk.checked(rig.as_ref(), &title, description.clone(), priority, &by);
        let new = new.map_err(|error| refuse(work_error(error)))?;
        if dry_run {
            let store = self.desk.store(rig.as_ref()).map_err(|error| refuse(unknown_error(&error)))?;
            let why = format!("in the store {}", crate::work::WorkStore::source(&store));
            return Ok(Reply::at(seq, planned(vec![work_step("create", new.title, why)])));
        }
        let desk = Arc::clone(&self.desk);
        let doing = async move {
            let made = desk.create(rig.as_ref(), &title, description, priority, &by).await;
            let (item, store) = made.map_err(work_error)?;
            Ok(WorkChange { work: Some(shown(item, store)), ..none() })
        };
        let doing = self.once_and_waited(idempotency_key, "work.create", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }

    async fn show(&self, params: params::WorkRef) -> RpcResult<Reply<Work>> {
        let seq = self.seq();
        let (item, store) = self.desk.item(&params.id).await.map_err(|error| refuse(work_error(error)))?;
        Ok(Reply::at(seq, shown(item, store)))
    }

    async fn list(&self, params: params::WorkList) -> RpcResult<Reply<Items<Work>>> {
        let seq = self.seq();
        if let Some(rig) = &params.rig {
            self.handle.view().read(|shown| shown.rig(rig).map(drop)).map_err(refuse)?;
        }
        let plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        };
        if params.status.as_deref().is_some_and(|status| !plain(status)) {
            let error = WorkError::Invalid { path: "/status", why: "a status is one word".to_owned() };
            return Err(refuse(work_error(error)));
        }
        let filter = Filter { status: params.status, assignee: params.assignee };
        let items = self.desk.list(params.rig.as_ref(), &filter).await;
        let items = items.map_err(|error| refuse(work_error(error)))?;
        Ok(Reply::at(
            seq,
            Items { items: items.into_iter().map(|(item, store)| shown(item, store)).collect() },
        ))
    }

    async fn close(&self, peer: &Extensions, params: params::WorkClose) -> RpcResult<Reply<WorkChange>> {
        let seq = self.seq();
        let params::WorkClose { id, dry_run, wait_ms, idempotency_key, reason } = params;
        let by = by(peer, reason);
        if dry_run {
            let (item, store) = self.desk.item(&id).await.map_err(|error| refuse(work_error(error)))?;
            if item.is_over() {
                let work = Some(shown(item, store));
                return Ok(Reply::at(seq, WorkChange { work, already: true, ..planned(Vec::new()) }));
            }
            let hook = item.hook().map(|agent| format!(", and take it off the hook of {agent}"));
            let why = format!("it is {}{}", item.status, hook.unwrap_or_default());
            let work = Some(shown(item, store));
            let plan = planned(vec![work_step("close", id.to_string(), why)]);
            return Ok(Reply::at(seq, WorkChange { work, ..plan }));
        }
        let desk = Arc::clone(&self.desk);
        let doing = async move {
            let (item, store, already) = desk.close(&id, &by).await.map_err(work_error)?;
            Ok(WorkChange { work: Some(shown(item, store)), already, ..none() })
        };
        let doing = self.once_and_waited(idempotency_key, "work.close", wait_ms, doing);
        let done = doing.await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), done))
    }
}

/// A change that says it was not waited for.
pub(super) trait Accepted {
    /// The answer before the effect.
    fn accepted() -> Self;
}

impl Accepted for WorkChange {
    fn accepted() -> Self {
        Self { accepted: true, ..none() }
    }
}

impl Context {
    /// Does something to its end, also when the client that asked for it goes away or does not wait: half a change
    /// in another program would be worse than a late one. Once for all requests with the same key: one that ran
    /// out of time is under way, and the next with its key waits for it.
    pub(super) async fn once_and_waited<R, F>(
        &self,
        key: Option<String>,
        method: &'static str,
        wait_ms: Option<u64>,
        doing: F,
    ) -> Result<R, RpcError>
    where
        R: Accepted + Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<R, RpcError>> + Send + 'static,
    {
        let handle = self.handle.clone();
        let task = tokio::spawn(async move { handle.once(key.as_deref(), method, doing).await });
        let ended = match wait_ms {
            None => task.await,
            Some(0) => return Ok(R::accepted()),
            Some(ms) => match tokio::time::timeout(Duration::from_millis(ms), task).await {
                Ok(ended) => ended,
                Err(_) => {
                    return Err(RpcError::new(
                        ErrorKind::Timeout,
                        "the store of work has not confirmed the change in time",
                    )
                    .hint("it goes on; follow it with: gtctl events -f --kind 'work.*'")
                    .with("reached", "accepted"));
                }
            },
        };
        ended.unwrap_or_else(|error| Err(RpcError::internal(format!("the change was cut off: {error}"))))
    }
}

pub(super) fn by(peer: &Extensions, reason: Option<String>) -> By {
    By { who: who(peer), peer: Some(name_of(peer)), reason }
}

/// An item as results show it.
pub(super) fn shown(item: Item, store: &str) -> Work {
    Work {
        id: item.id,
        title: item.title,
        description: item.description,
        status: item.status,
        assignee: item.assignee,
        priority: item.priority,
        store: store.to_owned(),
        created_at: item.created_at,
        updated_at: item.updated_at,
        closed_at: item.closed_at,
    }
}

fn none() -> WorkChange {
    WorkChange { work: None, already: false, accepted: false, dry_run: false, plan: Vec::new() }
}

fn planned(plan: Vec<PlanStep>) -> WorkChange {
    WorkChange { dry_run: true, plan, ..none() }
}

pub(super) fn work_step(action: &str, target: String, why: String) -> PlanStep {
    PlanStep { action: action.to_owned(), target, why }
}

/// An error of work, as it crosses the socket.
pub(super) fn work_error(error: WorkError) -> RpcError {
    error.into()
}

fn unknown_error(unknown: &Unknown) -> RpcError {
    WorkError::Unknown(unknown.clone()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::callers::Who;

    #[test]
    fn work_is_on_record_as_of_whoever_asked() {
        for (asks, name) in [
            (Who::Human, "person"),
            (Who::Agent("mayor".parse().unwrap()), "mayor"),
            (Who::Agent("a/polecats/nux".parse().unwrap()), "a/polecats/nux"),
        ] {
            let mut peer = Extensions::new();
            peer.insert(asks);
            assert_eq!(by(&peer, None).who, name);
        }
    }
}
