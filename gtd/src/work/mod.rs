//! Work items and hooks: what there is to do, who has it, and who keeps the record of it.
//!
//! Owns the trait that every store of work answers, its two implementations, the choice between them, and the
//! rules of a hook. Must never read a store's failure as an absence: what a store did not say is [`Unknown`].
//! Nothing here starts or stops an agent.

mod asked;
pub mod bd;
mod builtin;
pub mod convoys;
mod desk;
mod hooking;
mod places;
mod refresh;
mod store;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use gtd_proto::{Address, Timestamp, WorkId};

pub use asked::Asked;
pub use builtin::Builtin;
pub use desk::{By, Desk, Options};
pub use hooking::{Hooked, Hooking};
pub use refresh::watch;
pub use store::{Done, Store, WorkStore};

/// Longest title, in bytes: it is shown in a line.
pub const TITLE_MAX: usize = 500;
/// Longest description, in bytes.
pub const DESCRIPTION_MAX: usize = 64 << 10;

/// A work item, as its store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: WorkId,
    /// What is to be done.
    pub title: String,
    /// More of it.
    pub description: Option<String>,
    /// A word of the store's.
    pub status: String,
    /// Who has it, as the store writes it.
    pub assignee: Option<String>,
    /// 0 is the most urgent.
    pub priority: Option<i64>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
    /// Since when it is on a hook, where the store knows that.
    pub hooked_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// It is a record of the incumbent's (an agent, a rig, a message), and nothing to be done.
    pub record: bool,
}

/// The status of what is on a hook.
pub const HOOKED: &str = "hooked";
/// The status of what nobody has.
pub const OPEN: &str = "open";
/// The status of what is done.
pub const CLOSED: &str = "closed";

impl Item {
    /// It is done, or was thrown away.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), CLOSED | "tombstone")
    }

    /// Whose hook it is on, as far as that is an agent of a town.
    #[must_use]
    pub fn hook(&self) -> Option<Address> {
        if self.status != HOOKED {
            return None;
        }
        self.assignee.as_deref().and_then(assignee)
    }

    /// Who has it now: on a hook, or begun.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let held = matches!(self.status.as_str(), HOOKED | "in_progress");
        self.assignee.as_deref().filter(|who| held && !who.is_empty())
    }
}

/// An assignee as an agent of a town: its address, or the form with a slash that the incumbent gives the
/// town's own.
#[must_use]
pub fn assignee(text: &str) -> Option<Address> {
    match text {
        "mayor/" => Some(Address::Mayor),
        "deacon/" => Some(Address::Deacon),
        _ => text.parse().ok(),
    }
}

/// What a new work item is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// What is to be done.
    pub title: String,
    /// More of it.
    pub description: Option<String>,
    /// 0 is the most urgent.
    pub priority: Option<u8>,
    /// The prefix of its id, where the store does not choose one itself.
    pub prefix: String,
    /// Who makes it.
    pub by: String,
}

/// Which items of a store are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this status; everything that is not closed unless given.
    pub status: Option<String>,
    /// Only of this assignee, as the store writes it.
    pub assignee: Option<String>,
}

/// A store's answer is not known. Nothing follows from it: no absence, no emptiness, no end of work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{store} cannot {what}: {why}")]
pub struct Unknown {
    /// Which store: `the built-in store`, `bd in /town/alpha`.
    pub store: String,
    /// What it was asked, as what it cannot do: `show pj-1`.
    pub what: String,
    /// Why.
    pub why: Why,
    /// What it wrote to its standard error, the end of it.
    pub stderr: String,
}

/// Why a store's answer is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The program is not there.
    #[error("there is no program {0} on the PATH")]
    Missing(String),
    /// The program is of a version that is not known to work.
    #[error("{0}")]
    Version(String),
    /// It was not done in time, and was ended.
    #[error("not done within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// Too much waits for the store already.
    #[error("too much is asked of it at once")]
    Crowded,
    /// It wrote more than is read.
    #[error("it wrote more than {0} bytes")]
    TooMuch(usize),
    /// What it wrote is no answer.
    #[error("its answer cannot be read")]
    Unreadable,
    /// It answered about another item.
    #[error("it answered with {0}")]
    Other(String),
    /// It said why, in its own words.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked.
    #[error("{0}")]
    Broken(String),
}

/// What cannot be done with a work item or a hook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The store says that there is no such item.
    #[error("there is no work item {0}")]
    NotFound(WorkId),
    /// The item is done or was thrown away.
    #[error("work item {id} is {status}")]
    Over {
        /// Which.
        id: WorkId,
        /// `closed` or `tombstone`.
        status: String,
    },
    /// Another has it.
    #[error("{holder} has {id}")]
    Held {
        /// Which item.
        id: WorkId,
        /// Who.
        holder: String,
    },
    /// The agent's hook holds something else.
    #[error("the hook of {agent} holds {held} already")]
    Occupied {
        /// Whose hook.
        agent: Address,
        /// What it holds.
        held: WorkId,
    },
    /// A value that cannot be used.
    #[error("{why}")]
    Invalid {
        /// Which parameter, as a JSON pointer.
        path: &'static str,
        /// Why not.
        why: String,
    },
    /// This store has no such thing.
    #[error("{store} has no {what}")]
    Unsupported {
        /// Which store.
        store: String,
        /// What.
        what: &'static str,
    },
    /// Whether it was done, or can be, is not known.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}
