//! Doing something once for all requests that carry the same key, also over a restart of the daemon.
//!
//! A request that ran out of time has begun: the next one with its key waits for what was begun and begins
//! nothing. What failed otherwise is not kept, and may be repeated.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use gtd_proto::{ErrorKind, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::handle::Handle;
use crate::ledger::Write;

/// The only field of an answer that says no more than that the request was begun.
const BEGUN: &str = "begun_and_not_confirmed";

impl Handle {
    /// Does something that runs out of no time once for all requests that carry the same key.
    ///
    /// # Errors
    /// Whatever doing it failed with; a key that was used for another method.
    pub async fn once<T, F>(&self, key: Option<&str>, method: &str, doing: F) -> Result<T, RpcError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, RpcError>>,
    {
        let never = None::<std::future::Ready<Result<T, RpcError>>>;
        self.only_once(key, method, doing, never).await
    }

    /// Does something once for all requests that carry the same key. `again` is what a later one does when the
    /// first was begun and not confirmed in time: wait for its effect.
    ///
    /// # Errors
    /// Whatever doing it failed with; a key that was used for another method.
    pub async fn once_or_wait<T, F, A>(
        &self,
        key: Option<&str>,
        method: &str,
        doing: F,
        again: A,
    ) -> Result<T, RpcError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, RpcError>>,
        A: Future<Output = Result<T, RpcError>>,
    {
        self.only_once(key, method, doing, Some(again)).await
    }

    async fn only_once<T, F, A>(
        &self,
        key: Option<&str>,
        method: &str,
        doing: F,
        again: Option<A>,
    ) -> Result<T, RpcError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, RpcError>>,
        A: Future<Output = Result<T, RpcError>>,
    {
        let Some(key) = key else { return doing.await };
        let gate = {
            let mut keys = self.shared().keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(keys.entry(key.to_owned()).or_default())
        };
        let _turn = gate.lock().await;
        // An answer that cannot be looked for may be there.
        let kept = self.ledger().answer(key).await.map_err(|error| {
            RpcError::internal(format!("whether {key:?} was answered before cannot be told: {error}"))
                .hint("gtctl daemon status")
        })?;
        if let Some(kept) = kept {
            if kept.method != method {
                return Err(RpcError::new(
                    ErrorKind::InvalidParams,
                    format!("idempotency key {key:?} was used for {} before", kept.method),
                )
                .with("path", "/idempotency_key"));
            }
            if let Some(again) = again
                && kept.answer.get(BEGUN).is_some()
            {
                return again.await;
            }
            return serde_json::from_value(kept.answer)
                .map_err(|error| RpcError::internal(format!("the kept answer cannot be read: {error}")));
        }
        let result = doing.await;
        let answer = match &result {
            Ok(done) => serde_json::to_value(done)
                .map_err(|error| RpcError::internal(format!("the answer cannot be kept: {error}")))?,
            Err(error) if again.is_some() && error.kind == ErrorKind::Timeout => json!({ BEGUN: true }),
            Err(_) => return result,
        };
        self.keep(key, method, answer).await;
        result
    }

    async fn keep(&self, key: &str, method: &str, answer: Value) {
        let write = Write::Answer { key: key.to_owned(), method: method.to_owned(), answer, at: self.wall() };
        self.write(vec![write]).await;
        // The next one with this key reads it from the ledger, so it must be there before it may look.
        self.settled().await;
    }
}
