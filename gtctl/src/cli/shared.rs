//! Flags that several verbs share.

use std::time::Duration;

use clap::Args;
use gtd_proto::RigName;

use super::values::{assignment, duration, key, millis};

/// Planning instead of doing.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Plan {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Waiting for an effect.
#[derive(Debug, Clone, Default, Args)]
pub struct Waiting {
    /// Wait for the effect (the default)
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the request is accepted
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Give up waiting after this time; the daemon goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

impl Waiting {
    /// The `wait_ms` of a request.
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        if self.no_wait { Some(0) } else { self.timeout.map(millis) }
    }
}

/// A remark for the record.
#[derive(Debug, Clone, Default, Args)]
pub struct Reason {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What goes with every request to change something: how long it is waited for, why it is made, whether it is only
/// planned, and under which key.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
    /// Do it once, however often it is asked for with this key
    #[arg(long, alias = "idempotency-key", value_name = "KEY", value_parser = key)]
    pub once: Option<String>,
}

impl Change {
    /// The `wait_ms` of the request.
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        self.waiting.wait_ms()
    }

    /// Its `dry_run`.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.plan.dry_run
    }

    /// Its `reason`.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.reason.clone()
    }

    /// Its `idempotency_key`, where one was given. A plan has none: it would stand for the deed.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.once.clone().filter(|_| !self.plan.dry_run)
    }

    /// The `idempotency_key` of a request that would be done twice if it were made twice: one of its own unless
    /// one was given.
    #[must_use]
    pub fn own_key(&self) -> Option<String> {
        self.key().or_else(|| (!self.plan.dry_run).then(gtd_proto::id::fresh_key))
    }
}

/// How gently to end an agent.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Ending {
    /// Do not wait for turns to end
    #[arg(long)]
    pub now: bool,
    /// Do not wait at all: KILL at once
    #[arg(long)]
    pub force: bool,
}

/// What an agent is launched with. Sticks for restarts until a start names others.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// A preset, or an entry of `agents` in the settings
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// The account it runs under
    #[arg(long)]
    pub account: Option<String>,
    /// Further environment; may be given several times
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    pub env: Vec<(String, String)>,
    /// Forget the agent, account and environment of earlier starts
    #[arg(long)]
    pub reset_overrides: bool,
}

/// A rig's name as the only argument.
#[derive(Debug, Args)]
pub struct RigName1 {
    /// The rig
    pub rig: RigName,
}
