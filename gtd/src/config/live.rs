//! The configuration in force, for everybody who must see a reload at once.
//!
//! Owns the present value and who is told of a new one. Must never read the file.

use std::sync::Arc;

use tokio::sync::watch;

use super::Config;

/// The configuration in force. Clones share it.
#[derive(Debug, Clone)]
pub struct Live(Arc<watch::Sender<Arc<Config>>>);

impl Live {
    /// Begins with a configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(config))))
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Tells of each change from now on; the present one counts as seen.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }

    /// Puts another one in force.
    pub fn replace(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }
}
