//! What is on disk: where a town's files lie, what they say, and when that changes.
//!
//! Most of these files belong to others. They are read leniently and never rewritten, except by the
//! explicit commands: [`init`], [`add`], [`wisp_edit`] and [`registry::remove`]. An error of reading is never an absence: what was good last
//! is kept, and said to be old. Must never decide what to do about anything.

pub mod add;
pub mod file;
pub mod finding;
pub mod git;
pub mod head;
pub mod init;
pub mod layout;
pub mod marker;
pub mod memory;
pub mod patrols;
pub mod prefix;
pub mod registry;
pub mod rigs;
pub mod settings;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod town_id;
pub mod unfinished;
pub mod watch;
pub mod wisp;
pub mod wisp_edit;

pub use file::Known;
pub use finding::Finding;
pub use layout::Layout;
pub use snapshot::{RigFacts, Snapshot};
pub use wisp::Reason;
