//! Workers: their names, their worktrees, how they are made and how they are let go of.
//!
//! Owns everything below a rig's `polecats` directory. Must never let go of work that is nowhere else: what is
//! removed is kept first, under `refs/gtd/archive` of the rig's repository, and what cannot be kept is moved aside.

mod add;
mod archive;
mod aside;
mod asking;
mod error;
mod inspect;
mod leaving;
mod look;
mod made;
mod making;
pub mod names;
pub(crate) mod points;
mod removal_plan;
mod remove;
pub mod saga;
mod setup;
pub mod spawn;
mod status;
mod taking_back;
pub mod themes;
mod trees;
mod undo;

pub use add::{Added, NewTree};
pub use archive::Archived;
pub use error::TreeError;
pub use inspect::{Inspection, Operation, Seen};
pub use leaving::{Gone, Leave};
pub use making::METHOD;
pub use remove::{Gate, Removed};
pub use spawn::{Begun, Progress, Spawner, Wanted};
pub use trees::Trees;
pub use undo::Undone;

#[cfg(test)]
mod tests;
