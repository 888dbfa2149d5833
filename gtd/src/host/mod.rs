//! What the daemon is to the machine it runs on: its lock, its files for other tools, its log, its signals,
//! its limits, what it tells the service manager, and the programs that it runs.
//!
//! Each part is an effect behind a small interface; none decides anything. Nothing here takes a pid file, a
//! process name or an environment variable as evidence of who runs.

pub mod drill;
pub mod files;
pub mod installed;
pub mod leash;
pub mod limits;
pub mod lock;
pub mod logs;
pub mod named;
pub mod notify;
pub mod passed;
pub mod resources;
pub mod signals;
pub mod unit;
