//! The parts of `gtd`. Imports point down the list in the design only.

pub mod agents;
pub mod process;
pub mod tmux;
