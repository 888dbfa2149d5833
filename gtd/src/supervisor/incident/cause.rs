//! What an incident probably was, from how its agents died.

use gtd_proto::{Cause, Exit, IncidentCause};
use serde::{Deserialize, Serialize};

/// How a death that counts for the breaker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its tmux server ended.
    Server,
    /// The kernel ended it for want of memory.
    Oom,
    /// It crashed, was ended by somebody's signal, or its pane was closed.
    Crash,
    /// Nothing says.
    Unknown,
}

/// Whether and as what an end counts for the breaker: unrequested, unclean and unthrottled ones do. A launch that
/// never came to a process is no death.
#[must_use]
pub fn kind(exit: &Exit) -> Option<Kind> {
    // Of these only what was killed while it stood still counts for nothing.
    if exit.requested || !exit.counts {
        return None;
    }
    match exit.cause {
        Cause::ServerGone => Some(Kind::Server),
        Cause::Oom => Some(Kind::Oom),
        Cause::Crash | Cause::PaneClosed | Cause::KilledByGtd => Some(Kind::Crash),
        Cause::Unknown => Some(Kind::Unknown),
        Cause::Requested
        | Cause::Clean
        | Cause::LaunchError
        | Cause::ProviderLimit
        | Cause::Person
        | Cause::Reboot => None,
    }
}

/// What more than half of the deaths say; what surrounds them where they say no more than that there were
/// crashes.
pub(super) fn classify(kinds: impl IntoIterator<Item = Kind>, resumed: bool, account: bool) -> IncidentCause {
    let kinds: Vec<Kind> = kinds.into_iter().collect();
    let most = |kind: Kind| kinds.iter().filter(|other| **other == kind).count() * 2 > kinds.len();
    match () {
        () if most(Kind::Server) => IncidentCause::TmuxServer,
        () if most(Kind::Oom) => IncidentCause::Oom,
        () if resumed => IncidentCause::Resume,
        () if account => IncidentCause::Account,
        () if most(Kind::Crash) => IncidentCause::Crashes,
        () => IncidentCause::Unknown,
    }
}
