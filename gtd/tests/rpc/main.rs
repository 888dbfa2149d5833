//! The socket, used as clients use it: raw bytes, socat and the typed client, against a registry of methods
//! that stand in for the daemon's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod batches;
mod common;
mod flow;
mod lifetime;
mod limits;
mod malformed;
mod measure;
mod peers;
mod programs;
mod subscriptions;
mod table;
mod typed;
