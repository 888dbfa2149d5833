//! What the daemon is to the machine it runs on: its lock, its files for other tools, its log, its signals,
//! its limits, and what it tells the service manager.
//!
//! Each part is an effect behind a small interface; none decides anything. Nothing here takes a pid file, a
//! process name or an environment variable as evidence of who runs.

pub mod files;
pub mod limits;
pub mod lock;
pub mod logs;
pub mod notify;
pub mod resources;
pub mod signals;
