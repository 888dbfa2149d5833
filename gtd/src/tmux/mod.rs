//! tmux: the only place that runs it.
//!
//! Owns one server per [`Driver`]: finding or starting it, the control connection with the fallback to plain
//! processes, and every command. It must never act on a session by name, on a server that is not the one the
//! caller means, or on options, key bindings and sessions of the user; and it must never take silence for death.
//!
//! A command travels over the control connection when there is one (about 0.1 ms) and by a `tmux` process
//! otherwise (about 2 ms); both have the deadline of [`DriverConfig::command_timeout`]. After a missed deadline
//! the connection is given up and renewed with back-off, and a command that may be repeated is tried once more by
//! a process; when that gets no answer either, the server is [`ServerState::Unresponsive`] and all commands fail at
//! once until it answers.

mod actions;
mod config;
mod control;
mod doorplate;
mod driver;
mod elsewhere;
mod error;
mod facts;
mod id;
mod keeper;
mod lifecycle;
mod limits;
mod listing;
mod plain;
mod protocol;
mod quote;
mod screen;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod typing;
mod version;

pub use actions::{Created, NewSession};
pub use config::{DriverConfig, ServerChoice, config_text};
pub use driver::Driver;
pub use elsewhere::elsewhere;
pub use error::TmuxError;
pub use id::{BadId, PaneId, SessionId, WindowId};
pub use listing::{Client, LISTED_OPTIONS, Listing, Pane};
pub use quote::sanitise_name;
pub use screen::Cell;
pub use server::ServerId;
pub use state::{ServerState, TmuxEvent};
pub use typing::{Guard, Mark, Screen, Token};
pub use version::{OLDEST, Version};
