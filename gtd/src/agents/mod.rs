//! What an agent is: which program, with which arguments, environment and directory; and the tasks that start,
//! watch and end it.
//!
//! Owns every effect on an agent. Must never decide *whether* one runs, and never signal what is not proven
//! to be of the instance at hand.

mod abandon;
pub mod accounts;
mod adopt;
pub mod attention;
mod begin;
mod claude_settings;
pub mod converse;
pub mod descent;
pub mod dialogs;
pub mod environment;
mod frost;
pub mod launch;
pub mod limits;
pub mod oom;
pub mod order;
pub mod prepare;
pub mod preset;
mod pressure;
pub mod probe;
pub mod prompt;
mod remains;
pub mod resolve;
pub mod runtime;
pub mod session_name;
pub mod slots;
mod task;
mod tend;
pub mod typing;
pub mod waves;

pub use launch::{Launch, Ready};
pub use waves::{rank, urgency};
