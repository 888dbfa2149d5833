//! The socket: where it is, who may use it, and how requests on it are framed, checked, run and answered.
//!
//! This folder turns bytes into calls of a ready registry of methods and their results into bytes. What
//! the methods do lies with the files of their namespaces. Nothing here starts, stops or signals an agent,
//! and nothing here trusts a byte before it was checked.
//!
//! The way of a request: [`listener`] accepts and [`peer`] admits, [`dialect`] tells lines from HTTP,
//! `framing` cuts lines, `line` reads JSON-RPC, `service` checks the parameters and calls, `reply` writes,
//! and `connection` keeps all of it moving for one client without letting it hold up another.

mod agent;
pub mod callers;
pub mod configuration;
mod connection;
pub mod context;
mod convoy;
mod daemon;
mod deaths;
pub mod dialect;
pub mod discover;
mod doctor;
mod drain;
pub mod endpoint;
mod events;
mod framing;
mod hook;
mod lifecycle;
pub mod limits;
mod line;
pub mod listener;
mod mail;
mod nearest;
mod nudge;
mod orphans;
mod output;
mod pause;
pub mod peer;
mod plan;
mod polecat;
mod polecat_remove;
mod polecat_spawn;
mod polecat_start;
mod refusal;
mod reply;
mod rig;
mod rig_change;
pub mod server;
mod service;
mod short;
mod subscription;
mod town;
mod town_roles;
mod work;

pub use callers::Callers;
pub use endpoint::{Endpoint, EndpointError, HoldsLock};
pub use limits::Limits;
pub use listener::Listening;
pub use peer::{ConnectionId, Peer};
pub use server::{Counters, Drained, Server, ServerHandle};
