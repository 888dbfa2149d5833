//! Mailboxes: mail between agents, the person and the daemon, and what the daemon itself writes.
//!
//! Owns who can be written to and in which forms, what a mail may look like, and that the daemon writes once about
//! each incident. The rows are the ledger's. Must never start, stop or type anything: who runs on demand is woken
//! by a request, as by anybody.
//!
//! It is one office for the whole town. Where a rig, or the town, keeps its work with `bd`, its boxes are there too, in
//! the form in which the incumbent's tools read and write them.

mod address;
mod beads;
mod letters;
pub mod lifecycle;
mod office;
mod outgoing;
pub mod pending;
mod post;

pub use address::Mailbox;
pub use office::{From, Office, Waiting};
pub use outgoing::carry;
pub use post::{CURSOR, Post, WAKES, deliver};
