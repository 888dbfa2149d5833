//! The built-in mailbox: mail between agents, the person and the daemon, and what the daemon itself writes.
//!
//! Owns who can be written to and in which forms, what a mail may look like, and that the daemon writes once about
//! each incident. The rows are the ledger's. Must never start, stop or type anything: who runs on demand is woken
//! by a request, as by anybody.
//!
//! It is one mailbox for the whole town, whatever stores of work there are. Where a rig keeps its work with `bd`,
//! the incumbent's own mail lies in `bd` too: that is neither read nor written here.

mod address;
mod letters;
pub mod lifecycle;
mod office;
pub mod pending;
mod post;

pub use address::Mailbox;
pub use office::{From, Office, Waiting};
pub use post::{CURSOR, Post, WAKES, deliver};
