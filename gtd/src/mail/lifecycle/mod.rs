//! Lifecycle requests: an agent asks, by mail to the deacon or over the socket, to be ended or begun anew.
//!
//! Owns that each is done once. It is written down before anything is done about it; what should be is committed
//! together with the word that it was asked for; then its outcome, and last the answer to whoever wrote. A daemon
//! that is killed in between goes on where the ledger says that it was. It acts by the same requests as any client,
//! and knows of agents what everybody is shown.

mod act;
mod effect;
mod intake;
mod words;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gtd_proto::event::kind;
use gtd_proto::lifecycle::{Lifecycle, LifecycleAction, LifecycleState};
use gtd_proto::{Address, ErrorKind, Frame, RpcError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use words::{Sender, named};

use super::Office;
use crate::feed::Bus;
use crate::ledger::{Claim, LedgerError, LifecycleRow, LifecycleWrite, Write};
use crate::supervisor::Handle;
use crate::supervisor::errands::Errand;
use crate::town::Layout;

/// Name of the heartbeat's step.
pub const STEP: &str = "lifecycle";
/// Name of the same, whenever somebody asks for it.
pub const NOW: &str = "lifecycle now";

/// How soon something that cannot be written or read is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an agent that asks for itself is given to hear the answer once it is on its way.
const HEARD: Duration = Duration::from_millis(500);

/// Whether somebody may ask for something about an agent.
pub trait May: Send + Sync {
    /// The same table as for whoever asks over the socket.
    ///
    /// # Errors
    /// Why not.
    fn may(&self, sender: &Sender, agent: &Address) -> Result<(), String>;
}

/// A request over the socket.
#[derive(Debug, Clone)]
pub struct Asked {
    /// About whom.
    pub agent: Address,
    /// What.
    pub action: LifecycleAction,
    /// Who asks: `person`, or an address.
    pub by: String,
    /// The peer.
    pub peer: Option<String>,
    /// In their words.
    pub why: Option<String>,
    /// Of each there is one request.
    pub key: Option<String>,
}

/// Whoever sees to the requests of a town. Cheap to clone.
#[derive(Clone)]
pub struct Clerk(Arc<Inner>);

struct Inner {
    handle: Handle,
    bus: Bus,
    office: Office,
    layout: Arc<Layout>,
    may: Arc<dyn May>,
    stop: CancellationToken,
    /// Requests that a task of ours is at.
    busy: Mutex<BTreeSet<String>>,
    /// One look at the mail at a time.
    looking: tokio::sync::Mutex<()>,
    /// Counts changes, for those who wait for one.
    changed: watch::Sender<u64>,
}

impl Clerk {
    /// The clerk of a town. `stop` ends what it does; the ledger keeps what is left.
    #[must_use]
    pub fn new(
        handle: Handle,
        bus: Bus,
        office: Office,
        layout: Arc<Layout>,
        may: Arc<dyn May>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            handle,
            bus,
            office,
            layout,
            may,
            stop,
            busy: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(0),
        }))
    }

    /// Goes on with what an earlier daemon left, and looks at the deacon's mail whenever some has come.
    pub async fn run(self) {
        let stop = self.0.stop.clone();
        stop.run_until_cancelled(async {
            while self.0.handle.ledger().info().in_memory {
                tokio::time::sleep(AGAIN).await;
            }
            let mut mail = self.0.bus.subscribe(None, Some(vec![kind::MAIL_SENT.to_owned()]), None);
            loop {
                // Whatever cannot be done now is done at the next look.
                let pause = match self.look().await {
                    Ok(_) => Duration::MAX,
                    Err(why) => {
                        tracing::warn!(%why, "lifecycle requests wait");
                        AGAIN
                    }
                };
                let again = tokio::time::sleep(pause.min(Duration::from_secs(3_600)));
                tokio::pin!(again);
                loop {
                    tokio::select! {
                        frame = mail.next() => match frame {
                            // Somebody else's.
                            Some(Frame::Event(event)) if event.agent != Some(Address::Deacon) => continue,
                            Some(_) => {}
                            None => {
                                tokio::time::sleep(AGAIN).await;
                                mail = self.0.bus.subscribe(None, Some(vec![kind::MAIL_SENT.to_owned()]), None);
                            }
                        },
                        () = &mut again => {}
                    }
                    break;
                }
            }
        })
        .await;
    }

    /// Takes a request. The answer says `true` where it is one of before, with the same key.
    ///
    /// # Errors
    /// `invalid_params` for a key that was used for something else; `internal` when it cannot be written down.
    pub async fn take(&self, asked: Asked) -> Result<(LifecycleRow, bool), RpcError> {
        let Asked { agent, action, by, peer, why, key } = asked;
        if self.0.handle.ledger().info().in_memory {
            let why = "a lifecycle request cannot be kept: the ledger's file cannot be used";
            return Err(RpcError::internal(why).hint("gtctl daemon status"));
        }
        let key = key.map(|key| format!("asked:{key}"));
        let now = self.0.handle.wall();
        let claim = Claim {
            instance: self.0.handle.view().agent(&agent).and_then(|shown| shown.instance),
            agent: Some(agent.clone()),
            action,
            sender: by,
            peer,
            key: key.clone(),
            mail: None,
            why,
            refused: None,
            at: now,
            now,
        };
        let taken = self.claim(claim).await.map_err(|error| unwritable(&error))?;
        let row = match (taken, &key) {
            (Some(row), _) => return Ok((row, false)),
            (None, Some(key)) => self.0.handle.ledger().lifecycle_of(key).await,
            (None, None) => Ok(None),
        };
        match row.map_err(|error| unwritable(&error))? {
            Some(row) if row.agent.as_ref() == Some(&agent) && row.action == action => Ok((row, true)),
            Some(_) => {
                let why = "this idempotency key was used for another lifecycle request before";
                Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/idempotency_key"))
            }
            None => Err(RpcError::internal("the request was written down, and is not there")),
        }
    }

    /// Sees to a request that was taken, once `heard`: then whoever asked for itself has its answer, or is gone.
    pub fn begin(&self, row: LifecycleRow, heard: impl Future<Output = ()> + Send + 'static) {
        let Some(busy) = self.busy(&row.id) else { return };
        let clerk = self.clone();
        tokio::spawn(async move {
            let _busy = busy;
            let stop = clerk.0.stop.clone();
            stop.run_until_cancelled(async {
                heard.await;
                clerk.see_to(row).await;
            })
            .await;
        });
    }

    /// How long whoever hears an answer may take to make something of it.
    pub async fn heard(left: CancellationToken, on_its_way: CancellationToken) {
        on_its_way.cancelled().await;
        let _ = tokio::time::timeout(HEARD, left.cancelled()).await;
    }

    /// Waits until a request is done with.
    ///
    /// # Errors
    /// `timeout`, with how far it came; when it cannot be read.
    pub async fn wait(&self, id: &str, within: Option<Duration>) -> Result<LifecycleRow, RpcError> {
        let mut changes = self.0.changed.subscribe();
        let until = within.map(|within| tokio::time::Instant::now() + within);
        loop {
            changes.borrow_and_update();
            let row = self.0.handle.ledger().lifecycle(id).await.map_err(|error| unwritable(&error))?;
            let row = row.ok_or_else(|| RpcError::internal(format!("there is no request {id}")))?;
            if !row.state.is_open() {
                return Ok(row);
            }
            let late = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = self.0.stop.cancelled() => {
                    return Err(RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down")
                        .hint("the request is written down, and is gone on with by the next daemon")
                        .with("id", &row.id));
                }
                () = late => {
                    let why = format!("{} was not done in time; it is {}", row.id, row.state);
                    return Err(RpcError::new(ErrorKind::Timeout, why)
                        .hint("it goes on: gtctl lifecycle list")
                        .with("reached", row.state)
                        .with("id", &row.id));
                }
            }
        }
    }

    /// The requests, the newest first.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn list(&self, agent: Option<&Address>, limit: u32) -> Result<Vec<LifecycleRow>, LedgerError> {
        self.0.handle.ledger().lifecycles(agent, limit).await
    }

    /// Writes a request down; none where it is one of before.
    async fn claim(&self, claim: Claim) -> Result<Option<LifecycleRow>, LedgerError> {
        let write = Write::Lifecycle(Box::new(LifecycleWrite::Claim(claim)));
        let events = self.0.handle.ledger().commit(vec![write]).await?;
        let id = events.first().and_then(|event| event.data.get("id")?.as_str().map(str::to_owned));
        self.0.bus.publish(events);
        match id {
            Some(id) => self.0.handle.ledger().lifecycle(&id).await,
            None => Ok(None),
        }
    }

    /// Marks a request as seen to; none where somebody is at it already.
    fn busy(&self, id: &str) -> Option<Busy> {
        let mut all = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.to_owned()).then(|| Busy(self.clone(), id.to_owned()))
    }

    /// Commits something, however long that takes.
    async fn keep(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        loop {
            match self.0.handle.ledger().commit(writes.clone()).await {
                Ok(events) => {
                    self.0.bus.publish(events);
                    self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
                    return Ok(());
                }
                // Neither is mended by trying again.
                Err(error @ (LedgerError::BoxFull { .. } | LedgerError::Value { .. })) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a lifecycle request waits for the ledger");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// A request that is seen to, for as long as this is there.
struct Busy(Clerk, String);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// The clerk as a step of the heartbeat, which asks a store once for all its steps.
pub struct InTurn(pub Clerk);

impl Errand for InTurn {
    fn run(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        self.0.look_at(true).boxed()
    }
}

impl Errand for Clerk {
    fn run(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        self.look().boxed()
    }
}

/// A request as results show it.
#[must_use]
pub fn shown(row: LifecycleRow) -> Lifecycle {
    Lifecycle {
        id: row.id,
        agent: row.agent,
        action: row.action,
        from: row.sender,
        mail: row.key.as_deref().and_then(|key| key.strip_prefix(intake::KEY)).map(str::to_owned),
        state: row.state,
        reason: row.reason,
        at: row.at,
        updated_at: row.updated_at,
    }
}

/// What became of a request that nothing was done for, as whoever asked over the socket is told.
#[must_use]
pub fn refusal(row: &LifecycleRow) -> Option<RpcError> {
    let reason = row.reason.clone().unwrap_or_else(|| "no reason was given".to_owned());
    match row.state {
        LifecycleState::Refused | LifecycleState::Failed => Some(
            RpcError::new(ErrorKind::Busy, reason)
                .hint("gtctl lifecycle list")
                .with("id", &row.id)
                .with("state", row.state),
        ),
        _ => None,
    }
}

fn unwritable(error: &LedgerError) -> RpcError {
    RpcError::internal(format!("lifecycle requests cannot be written or read: {error}"))
        .hint("gtctl daemon status")
}
