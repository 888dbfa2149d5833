//! What every store of work answers.

use gtd_proto::{Address, Event, Timestamp, WorkId};
use tokio::sync::Mutex;

use super::bd::Bd;
use super::builtin::Builtin;
use super::{Filter, Item, NewItem, Unknown, WorkError};
use crate::ledger::NewEvent;

/// A change that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The item afterwards.
    pub item: Item,
    /// The events of the change, when the store committed them together with it; else they are still to be.
    pub told: Option<Vec<Event>>,
}

/// A store of work. Every answer is a value, or [`Unknown`]; an absence is said by the store in its own words.
///
/// Whoever changes something holds [`WorkStore::changing`] from what they looked at to what they did.
pub trait WorkStore {
    /// Its kind on the wire: `builtin`, `bd`.
    fn kind(&self) -> &'static str;

    /// What tells it from other stores of this town, and stays the same over a restart.
    fn key(&self) -> &str;

    /// Where an observation of it comes from, for people: `ledger`, `bd 1.0.5 in /town/alpha`.
    fn source(&self) -> String;

    /// One change at a time.
    fn changing(&self) -> &Mutex<()>;

    /// Everything that is on a hook, of all agents, in one query.
    fn hooks(&self) -> impl Future<Output = Result<Vec<Item>, Unknown>> + Send;

    /// One item; none when the store says that there is no such item.
    fn item(&self, id: &WorkId) -> impl Future<Output = Result<Option<Item>, Unknown>> + Send;

    /// Items, without records of the incumbent's.
    fn list(&self, filter: &Filter) -> impl Future<Output = Result<Vec<Item>, WorkError>> + Send;

    /// Items that changed at or after an instant, closed ones too: the largest `updated_at` is the next cursor.
    /// An item may come twice.
    fn changes(&self, since: Timestamp) -> impl Future<Output = Result<Vec<Item>, Unknown>> + Send;

    /// Makes an item.
    fn create(&self, new: &NewItem) -> impl Future<Output = Result<Done, WorkError>> + Send;

    /// Puts an item on an agent's hook, and takes others off it.
    fn hook(
        &self,
        id: &WorkId,
        agent: &Address,
        release: &[WorkId],
        told: &[NewEvent],
    ) -> impl Future<Output = Result<Done, WorkError>> + Send;

    /// Takes an item off the hook of an agent: it is open, and nobody has it.
    fn unhook(
        &self,
        id: &WorkId,
        agent: &Address,
        told: &[NewEvent],
    ) -> impl Future<Output = Result<Done, WorkError>> + Send;

    /// Closes an item. A hook that it is on is empty then.
    fn close(
        &self,
        id: &WorkId,
        reason: &str,
        told: &[NewEvent],
    ) -> impl Future<Output = Result<Done, WorkError>> + Send;

    /// What an agent was last said to be doing; none when nothing was said.
    fn agent_state(&self, agent: &Address) -> impl Future<Output = Result<Option<String>, WorkError>> + Send;

    /// Says what an agent is doing.
    fn set_agent_state(
        &self,
        agent: &Address,
        state: &str,
    ) -> impl Future<Output = Result<(), WorkError>> + Send;
}

/// One of the stores there are. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Store {
    /// Tables of the ledger.
    Builtin(std::sync::Arc<Builtin>),
    /// The `bd` program in a directory.
    Bd(std::sync::Arc<Bd>),
}

macro_rules! either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Builtin($store) => $call,
            Self::Bd($store) => $call,
        }
    };
}

impl WorkStore for Store {
    fn kind(&self) -> &'static str {
        either!(self, store => store.kind())
    }

    fn key(&self) -> &str {
        either!(self, store => store.key())
    }

    fn source(&self) -> String {
        either!(self, store => store.source())
    }

    fn changing(&self) -> &Mutex<()> {
        either!(self, store => store.changing())
    }

    async fn hooks(&self) -> Result<Vec<Item>, Unknown> {
        either!(self, store => store.hooks().await)
    }

    async fn item(&self, id: &WorkId) -> Result<Option<Item>, Unknown> {
        either!(self, store => store.item(id).await)
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Item>, WorkError> {
        either!(self, store => store.list(filter).await)
    }

    async fn changes(&self, since: Timestamp) -> Result<Vec<Item>, Unknown> {
        either!(self, store => store.changes(since).await)
    }

    async fn create(&self, new: &NewItem) -> Result<Done, WorkError> {
        either!(self, store => store.create(new).await)
    }

    async fn hook(
        &self,
        id: &WorkId,
        agent: &Address,
        release: &[WorkId],
        told: &[NewEvent],
    ) -> Result<Done, WorkError> {
        either!(self, store => store.hook(id, agent, release, told).await)
    }

    async fn unhook(&self, id: &WorkId, agent: &Address, told: &[NewEvent]) -> Result<Done, WorkError> {
        either!(self, store => store.unhook(id, agent, told).await)
    }

    async fn close(&self, id: &WorkId, reason: &str, told: &[NewEvent]) -> Result<Done, WorkError> {
        either!(self, store => store.close(id, reason, told).await)
    }

    async fn agent_state(&self, agent: &Address) -> Result<Option<String>, WorkError> {
        either!(self, store => store.agent_state(agent).await)
    }

    async fn set_agent_state(&self, agent: &Address, state: &str) -> Result<(), WorkError> {
        either!(self, store => store.set_agent_state(agent, state).await)
    }
}
