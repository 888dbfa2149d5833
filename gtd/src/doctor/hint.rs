//! The commands that help. A check can name no other, and a test types each of them.

use std::fmt;

/// A command that a check may propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Start the daemon and what should run.
    Up,
    /// The daemon's own state.
    DaemonStatus,
    /// The daemon again.
    DaemonRestart,
    /// The daemon, by its service manager where it has one.
    DaemonStart,
    /// Its service, with the PATH of whoever types it.
    DaemonInstall,
    /// Its log.
    Logs,
    /// The whole town.
    Status,
    /// The configuration as it is read.
    ConfigCheck,
    /// The configuration in force.
    ConfigShow,
    /// An agent, looked at anew.
    Explain(String),
    /// An agent's hook.
    HookClear(String),
    /// What was left behind.
    OrphansList,
    /// End what is proven to be.
    OrphansSweep,
    /// The sessions, with what proves them.
    SessionList,
    /// The towns of this user.
    Towns,
    /// Put right what is safe.
    Fix(&'static str),
    /// Look again, when what the message says was done.
    Again(&'static str),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("gtctl up"),
            Self::DaemonStatus => f.write_str("gtctl daemon status"),
            Self::DaemonRestart => f.write_str("gtctl daemon restart"),
            Self::DaemonStart => f.write_str("gtctl daemon start"),
            Self::DaemonInstall => f.write_str("gtctl daemon install"),
            Self::Logs => f.write_str("gtctl logs"),
            Self::Status => f.write_str("gtctl status"),
            Self::ConfigCheck => f.write_str("gtctl config check"),
            Self::ConfigShow => f.write_str("gtctl config show"),
            Self::Explain(agent) => write!(f, "gtctl explain {agent} --probe"),
            Self::HookClear(agent) => write!(f, "gtctl hook clear {agent}"),
            Self::OrphansList => f.write_str("gtctl orphans list"),
            Self::OrphansSweep => f.write_str("gtctl orphans sweep"),
            Self::SessionList => f.write_str("gtctl session list"),
            Self::Towns => f.write_str("gtctl towns"),
            Self::Fix(check) => write!(f, "gtctl doctor --fix {check}"),
            Self::Again(check) => write!(f, "gtctl doctor {check}"),
        }
    }
}

impl Hint {
    /// One of each, for a test that types them all.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        let agent = "alpha/witness".to_owned();
        vec![
            Self::Up,
            Self::DaemonStatus,
            Self::DaemonRestart,
            Self::DaemonStart,
            Self::DaemonInstall,
            Self::Logs,
            Self::Status,
            Self::ConfigCheck,
            Self::ConfigShow,
            Self::Explain(agent.clone()),
            Self::HookClear(agent),
            Self::OrphansList,
            Self::OrphansSweep,
            Self::SessionList,
            Self::Towns,
            Self::Fix("orphan-processes"),
            Self::Fix("zombie-sessions"),
            Self::Again("linger"),
        ]
    }
}
