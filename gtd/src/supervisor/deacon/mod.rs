//! The deacon: its heartbeat file, what follows from it, and the boot that looks after it.
//!
//! [`judge`] is pure and decides; [`files`] reads what others write, [`Watchman`] looks, asks and acts through the same
//! requests as everybody. A file that cannot be read says nothing: it never ends the deacon. That the deacon runs at
//! all is the core's business, like that of a rig's standing agents.

mod act;
mod boot;
mod files;
mod judge;
mod sleep;
mod watchman;

pub use watchman::{FACT, Seen, Watchman};
