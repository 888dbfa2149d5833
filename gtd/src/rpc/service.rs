//! From a request that was read to an answer that can be written: the method is looked up, its parameters
//! are checked, jsonrpsee's callback is called with an id of ours, and the client's id goes on the reply.
//!
//! A callback that panics answers `internal`; it takes neither the connection nor the daemon with it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, StreamExt, stream};
use gtd_proto::method::{Effect, Method};
use gtd_proto::{ErrorKind, RpcError, method};
use jsonrpsee::core::server::{
    BoundedSubscriptions, ConnectionId as JsonConnectionId, Extensions, MethodCallback, MethodSink, Methods,
    SubscriptionState,
};
use jsonrpsee::types::Params;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::callers::{Callers, Origin, Who};
use super::limits::Limits;
use super::line::{Entry, Line, RawId, Request};
use super::nearest;
use super::peer::Peer;
use super::reply;
use super::server::Counters;
use super::short;
use super::subscription::{FRAMES, Stream, SubscriptionIds};

/// What all connections share.
pub(super) struct Service {
    pub(super) methods: Methods,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    callers: Callers,
    subscription_ids: SubscriptionIds,
    running: Arc<Semaphore>,
    closing: AtomicBool,
}

/// One connection, as calls on it see it.
pub(super) struct Caller {
    pub(super) peer: Peer,
    origin: Origin,
    subscriptions: BoundedSubscriptions,
    left: CancellationToken,
}

/// Ends with the connection that a request came on. Changes do not ask for it: what was begun goes on.
#[derive(Debug, Clone)]
pub(super) struct Left(pub(super) CancellationToken);

/// Ends when the answer to a request is on its way to the client: the kernel has it, or nobody is there to take it.
#[derive(Debug, Clone)]
pub(super) struct OnItsWay(pub(super) CancellationToken);

impl Caller {
    /// A connection that has no subscription yet.
    pub(super) fn new(peer: Peer, origin: Origin, limits: &Limits) -> Self {
        let subscriptions = BoundedSubscriptions::new(limits.subscriptions);
        Self { peer, origin, subscriptions, left: CancellationToken::new() }
    }

    /// To be dropped when the client has left.
    pub(super) fn leaving(&self) -> DropGuard {
        self.left.clone().drop_guard()
    }

    /// jsonrpsee's name for the connection: what keeps one client from ending another's subscription.
    fn json_id(&self) -> JsonConnectionId {
        JsonConnectionId(usize::try_from(self.peer.connection_id.0).unwrap_or(usize::MAX))
    }
}

/// What became of a line.
#[derive(Default)]
pub(super) struct Answer {
    /// The line to write; none when the client asked for nothing.
    pub(super) reply: Option<Vec<u8>>,
    /// The subscription that was opened; its frames come after the reply.
    pub(super) stream: Option<Stream>,
    /// To be dropped when the reply was written.
    pub(super) unsent: Vec<DropGuard>,
}

impl Answer {
    fn reply(reply: Vec<u8>) -> Self {
        Self { reply: Some(reply), ..Self::default() }
    }
}

/// Where a request stood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Alone,
    InBatch,
}

impl Service {
    /// A service over a ready registry.
    pub(super) fn new(methods: Methods, limits: Limits, counters: Counters, callers: Callers) -> Self {
        Self {
            methods,
            limits,
            counters,
            callers,
            subscription_ids: SubscriptionIds::default(),
            running: Arc::new(Semaphore::new(limits.total_in_flight)),
            closing: AtomicBool::new(false),
        }
    }

    /// From now on every request is answered `shutting_down`.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Answers a line. The future owns all it needs: it can be run on after its connection has ended.
    pub(super) async fn answer(self: Arc<Self>, line: Line, caller: Arc<Caller>) -> Answer {
        match line {
            Line::One(entry) => self.entry(entry, &caller, Place::Alone).await,
            Line::Batch(entries) => self.batch(entries, &caller).await,
        }
    }

    async fn batch(&self, entries: Vec<Entry>, caller: &Caller) -> Answer {
        let most = self.limits.reply_bytes;
        let mut replies: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 2;
        let mut answers = stream::iter(entries.into_iter().map(|entry| async {
            let id = entry.id();
            (id, self.entry(entry, caller, Place::InBatch).await)
        }))
        .buffered(self.limits.batch_in_flight.max(1));
        let mut unsent = Vec::new();
        while let Some((id, mut answer)) = answers.next().await {
            unsent.append(&mut answer.unsent);
            let (Some(id), Some(mut answer)) = (id, answer.reply) else { continue };
            if bytes + answer.len() + 1 > most {
                answer = reply::error(&id, reply::too_long(most));
            }
            bytes += answer.len() + 1;
            replies.push(answer);
        }
        if replies.is_empty() {
            return Answer::default();
        }
        Answer { unsent, ..Answer::reply(reply::batch(&replies)) }
    }

    async fn entry(&self, entry: Entry, caller: &Caller, place: Place) -> Answer {
        let request = match entry {
            Entry::Call(request) => request,
            Entry::Bad(id, error) => return Answer::reply(reply::error(&id, error)),
        };
        let id = request.id.clone();
        let answer = match AssertUnwindSafe(self.call(request, caller, place)).catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::reply(reply::error(&id.clone().unwrap_or_else(RawId::null), error)),
            Err(_) => {
                tracing::error!(peer = %caller.peer, "a method panicked");
                let error = RpcError::internal("the method failed in a way that it should not")
                    .hint("the daemon's log says where");
                Answer::reply(reply::error(&id.clone().unwrap_or_else(RawId::null), error))
            }
        };
        // A notification is done like any other request, and nothing is said about it.
        if id.is_none() { Answer::default() } else { answer }
    }

    /// Who asks, when they may. What only looks is everybody's, and waits for nothing.
    async fn admit(&self, method: &Method, params: &RawValue, caller: &Caller) -> Result<Who, RpcError> {
        // One object in an array, as checked.
        let fields = serde_json::from_str::<[Map<String, Value>; 1]>(params.get());
        let fields = fields.map(|[fields]| fields).unwrap_or_default();
        let reads = method.effect == Effect::Read;
        let admitted = self.callers.admit(&caller.origin, method.name, reads, &fields).await;
        if let Err(error) = &admitted {
            tracing::info!(peer = %caller.peer, method = method.name, "refused: {error}");
        }
        admitted
    }

    async fn call(&self, request: Request, caller: &Caller, place: Place) -> Result<Answer, RpcError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(reply::shutting_down());
        }
        let found = method::find(&request.method)
            .and_then(|method| Some((method, self.methods.method(method.name)?)))
            .ok_or_else(|| nearest::not_found(&request.method))?;
        let (method, callback) = found;
        let params = short::check(method, request.params.as_deref(), |text| self.callers.worker(text))?;
        let who = self.admit(method, &params, caller).await?;
        let params = Params::new(Some(params.get()));
        let _running = Arc::clone(&self.running).try_acquire_owned().map_err(|_| {
            RpcError::new(ErrorKind::TooBusy, "too many requests are under way").hint("try again later")
        })?;
        let most = self.limits.reply_bytes;
        let id = request.id.clone().unwrap_or_else(RawId::null);
        let mut extensions = Extensions::new();
        extensions.insert(caller.peer);
        extensions.insert(caller.json_id());
        extensions.insert(who);
        extensions.insert(Left(caller.left.clone()));
        let on_its_way = CancellationToken::new();
        extensions.insert(OnItsWay(on_its_way.clone()));
        let unsent = vec![on_its_way.drop_guard()];
        let response = match callback {
            MethodCallback::Sync(call) => call(reply::OUR_ID, params, most, extensions),
            MethodCallback::Async(call) => {
                call(reply::OUR_ID, params.into_owned(), caller.json_id(), most, extensions).await
            }
            MethodCallback::Unsubscription(call) => {
                call(reply::OUR_ID, params, caller.json_id(), most, extensions)
            }
            MethodCallback::Subscription(call) => {
                if place == Place::InBatch || request.id.is_none() {
                    return Err(RpcError::new(
                        ErrorKind::InvalidRequest,
                        format!("{} needs a line and an id of its own", method.name),
                    ));
                }
                let permit = caller.subscriptions.acquire().ok_or_else(|| {
                    let most = self.limits.subscriptions;
                    RpcError::new(ErrorKind::TooBusy, format!("this connection has {most} subscriptions"))
                        .hint("end one with events.unsubscribe, or open another connection")
                })?;
                let state = SubscriptionState {
                    conn_id: caller.json_id(),
                    id_provider: &self.subscription_ids,
                    subscription_permit: permit,
                };
                let (sender, mut frames) = mpsc::channel(FRAMES);
                let sink = MethodSink::new_with_limit(sender, u32::try_from(most).unwrap_or(u32::MAX));
                let response = call(reply::OUR_ID, params, sink, state, extensions).await;
                if response.is_subscription() {
                    // jsonrpsee also sends the response down the channel, before any frame.
                    let _ = frames.recv().await;
                }
                let stream =
                    response.is_success().then(|| Stream { frames, counted: self.counters.subscriber() });
                return Ok(Answer {
                    stream,
                    unsent,
                    ..Answer::reply(reply::of_response(&id, response, most))
                });
            }
        };
        Ok(Answer { unsent, ..Answer::reply(reply::of_response(&id, response, most)) })
    }
}
