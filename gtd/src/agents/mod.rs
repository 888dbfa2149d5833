//! What an agent is: which program, with which arguments, environment and directory.
//!
//! The parts in this folder that decide are pure. Must never decide *whether* an agent runs.

pub mod accounts;
pub mod environment;
pub mod launch;
pub mod preset;
pub mod prompt;
pub mod resolve;
pub mod session_name;

pub use launch::{Launch, Ready};
