//! The parts of `gtd`; `main.rs` only assembles them. Imports point down the list in the order of the design.

pub mod agents;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod feed;
pub mod host;
pub mod ledger;
pub mod mail;
pub mod polecats;
pub mod process;
pub mod rpc;
pub mod supervisor;
pub mod tmux;
pub mod town;
pub mod work;
