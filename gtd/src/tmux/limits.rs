//! The numbers of a driver that may change while it works.
//!
//! Owns their present values; a command that is under way keeps those it began with.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::config::DriverConfig;

/// The present numbers.
#[derive(Debug)]
pub(super) struct Limits(Mutex<(Duration, (u16, u16))>);

impl Limits {
    pub(super) fn of(config: &DriverConfig) -> Self {
        Self(Mutex::new((config.command_timeout, config.size)))
    }

    pub(super) fn set(&self, timeout: Duration, size: (u16, u16)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (timeout, size);
    }

    /// How long any one command may take.
    pub(super) fn timeout(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Columns and rows of a session that nobody has attached to.
    pub(super) fn size(&self) -> (u16, u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
