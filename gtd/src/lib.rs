//! The daemon as a library: `main.rs` only assembles it.

pub mod clock;
pub mod feed;
pub mod host;
pub mod ledger;
