//! The numbers of the restart policy, with the defaults that `[restart]` documents.

use std::time::Duration;

/// The numbers of the policy, from `[restart]` of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Delay before the first restart after a healthy life.
    pub initial: Duration,
    /// Delay before the second restart in a row.
    pub base: Duration,
    /// What each further delay is multiplied with.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// Share of the delay by which chance moves it, up and down.
    pub jitter: f64,
    /// A clean end sooner than this counts as a failure.
    pub min_uptime: Duration,
    /// A life as long as this ends a row of failures.
    pub healthy_after: Duration,
    /// This many deaths within `churn_window`, without any progress between them, lead to quarantine; 0: never.
    pub churn_deaths: u32,
    /// The sliding window of slow churn.
    pub churn_window: Duration,
    /// This many failures within `window` lead to quarantine; 0: never, and none for churn either.
    pub burst: u32,
    /// The sliding window.
    pub window: Duration,
    /// The first quarantine.
    pub quarantine: Duration,
    /// The longest quarantine, and how long without a failure until the doubling is forgotten.
    pub quarantine_max: Duration,
    /// How long an agent that a person ended stays away; `None` is until somebody brings it back.
    pub hold: Option<Duration>,
    /// How long to wait after a death for others before anything is decided.
    pub settle: Duration,
}

impl Default for Numbers {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            initial: Duration::ZERO,
            base: Duration::from_secs(1),
            factor: 2.0,
            max: minutes(5),
            jitter: 0.2,
            min_uptime: Duration::from_secs(10),
            healthy_after: minutes(10),
            churn_deaths: 6,
            churn_window: minutes(6 * 60),
            burst: 5,
            window: minutes(15),
            quarantine: minutes(30),
            quarantine_max: minutes(24 * 60),
            hold: None,
            settle: Duration::from_millis(20),
        }
    }
}
