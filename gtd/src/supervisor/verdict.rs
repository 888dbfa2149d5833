//! From what an agent's task tells of an end to what the policy and the records call it.
//!
//! Pure. It only names an end; what follows from it is the policy's.

use std::time::Duration;

use gtd_proto::{Cause, Exit, Timestamp};

use super::policy::{self, Next, since};
use super::turn::millis;
use crate::agents::order::{EndedBy, Ending, Oom};

/// How recently before an end a person must have been active at the agent's session for it to be theirs.
pub const ATTENDED: Duration = Duration::from_secs(10);
/// How long an account is left alone when its provider did not say until when: long enough that an account
/// asked again and again does no harm, short against the hours that such limits last.
pub const LIMIT_UNTOLD: Duration = Duration::from_secs(15 * 60);
/// The longest that an account is left alone without another look, a day more than the longest limits there
/// are, which are weekly.
pub const LIMIT_MAX: Duration = Duration::from_secs(8 * 24 * 3_600);

/// tmux tells the activity of clients in whole seconds, cut off.
const SECOND: Duration = Duration::from_secs(1);

/// What an end is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) ending: policy::Ending,
    pub(super) cause: Cause,
    /// What it rests on, where that is more than the exit itself says.
    pub(super) evidence: Option<String>,
}

/// Names an end. The first line that fits holds. `frozen` is whether it stood still, when it could do nothing of its
/// own: then whatever ended it came from outside, unless it ended with a code.
pub(super) fn name(ending: &Ending, requested: bool, frozen: bool) -> Named {
    let mut named = plain_name(ending, requested);
    let from_outside =
        ending.code.is_none() || matches!(ending.by, EndedBy::PaneClosed | EndedBy::ServerGone);
    if frozen && from_outside && named.ending == policy::Ending::Failure {
        named.ending = policy::Ending::Frozen;
        named.evidence = named.evidence.or_else(|| Some("it was paused, and stood still".to_owned()));
    }
    named
}

fn plain_name(ending: &Ending, requested: bool) -> Named {
    let named = |ending, cause| Named { ending, cause, evidence: None };
    let because = |ending, cause, evidence: String| Named { ending, cause, evidence: Some(evidence) };
    match (ending.by, ending.code) {
        _ if requested => named(policy::Ending::Requested, Cause::Requested),
        (EndedBy::Reboot, _) => named(policy::Ending::Reboot, Cause::Reboot),
        (EndedBy::Declared, _) => {
            let said = ending.said.clone().unwrap_or_default();
            because(policy::Ending::Failure, Cause::Unknown, said)
        }
        (EndedBy::PaneClosed, _) => named(policy::Ending::Failure, Cause::PaneClosed),
        (EndedBy::ServerGone, _) => named(policy::Ending::Failure, Cause::ServerGone),
        (EndedBy::Term | EndedBy::Kill, _) => named(policy::Ending::Failure, Cause::KilledByGtd),
        (EndedBy::Agent, Some(0)) if attended(ending.client_activity, ending.ended_at) => {
            let last = ending.client_activity.map_or(Duration::ZERO, |at| since(at, ending.ended_at));
            let ago = humantime::format_duration(Duration::from_secs(last.as_secs()));
            let evidence = format!("a person was at its terminal, last active {ago} before its end");
            because(policy::Ending::Person, Cause::Person, evidence)
        }
        (EndedBy::Agent, _) if ending.limit.is_some() => {
            let told = ending.limit.as_ref();
            let wait = told.and_then(|limit| limit.wait).unwrap_or(LIMIT_UNTOLD).min(LIMIT_MAX);
            let line = told.map(|limit| limit.line.clone()).unwrap_or_default();
            because(policy::Ending::Limited(wait), Cause::ProviderLimit, format!("it said: {line}"))
        }
        (EndedBy::Agent, Some(0)) => named(policy::Ending::Clean, Cause::Clean),
        (EndedBy::Agent | EndedBy::Unknown, _) if ending.oom == Some(Oom::Certain) => {
            let evidence = "the kernel counted an end for want of memory in its cgroup".to_owned();
            because(policy::Ending::Failure, Cause::Oom, evidence)
        }
        (EndedBy::Agent | EndedBy::Unknown, _) if ending.oom == Some(Oom::Likely) => {
            let evidence = "likely: the kernel counted an end for want of memory on this machine".to_owned();
            because(policy::Ending::Failure, Cause::Oom, evidence)
        }
        (EndedBy::Agent, _) => named(policy::Ending::Failure, Cause::Crash),
        (EndedBy::Unknown, _) if ending.code.is_some() || ending.signal.is_some() => {
            named(policy::Ending::Failure, Cause::Crash)
        }
        (EndedBy::Unknown, _) => named(policy::Ending::Failure, Cause::Unknown),
    }
}

fn attended(activity: Option<Timestamp>, ended_at: Timestamp) -> bool {
    activity
        .is_some_and(|at| at <= policy::after(ended_at, SECOND) && since(at, ended_at) < ATTENDED + SECOND)
}

/// An exit in a few words.
#[must_use]
pub fn how(exit: &Exit) -> String {
    let end = match (exit.code, exit.signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (_, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("it was ended by {}", name.as_str()),
            Err(_) => format!("it was ended by signal {signal}"),
        },
        _ => "it ended".to_owned(),
    };
    let evidence = exit.evidence.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    match exit.cause {
        Cause::PaneClosed => format!("its pane was closed ({end})"),
        Cause::ServerGone => format!("its tmux server ended ({end})"),
        Cause::Reboot => "the machine was restarted".to_owned(),
        Cause::Oom => format!("memory ran out: {end}{evidence}"),
        Cause::Unknown if exit.evidence.is_some() && exit.counts => format!("it was declared dead{evidence}"),
        _ => format!("{end}{evidence}"),
    }
}

/// What was decided, in a few words.
#[must_use]
pub fn describe(next: &Next) -> String {
    let span = |duration: &Duration| {
        humantime::format_duration(Duration::from_millis(millis(*duration))).to_string()
    };
    match next {
        Next::Rest => "leave it".to_owned(),
        Next::Start { delay } if delay.is_zero() => "start it again at once".to_owned(),
        Next::Start { delay } => format!("start it again in {}", span(delay)),
        Next::Quarantine { period, .. } => format!("quarantine it for {}", span(period)),
        Next::Hold { period: None } => "leave it to its person".to_owned(),
        Next::Hold { period: Some(period) } => format!("leave it to its person for {}", span(period)),
        Next::Throttle { period } => format!("wait {} for its account", span(period)),
        Next::Broken => "leave it until its program is there".to_owned(),
    }
}

#[cfg(test)]
mod tests;
