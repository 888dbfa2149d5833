//! The supervisor daemon for towns of coding agents, as a library. `main.rs` only assembles it.

pub mod agents;
pub mod config;
pub mod town;
