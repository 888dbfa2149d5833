//! The real `gtd-shim` with real processes, alone and in panes of private tmux servers; and what is left to
//! do where a shim was killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod ending;
mod frozen;
mod measure;
mod orphans;
mod starting;
mod support;
mod terminal;
