//! Workers that other tools say they have started: a mail `POLECAT_STARTED RIG/NAME` to the deacon. Such a worker may
//! sit before an empty input line; it is told to begin once it is ready, unless it has begun by itself.
//!
//! Owns these mails. What we start ourselves begins with its text, and nobody writes such a mail about it.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gtd_proto::mail::Mail;
use gtd_proto::params::ReportState;
use gtd_proto::{Activity, Address, InstanceId, Intent, State, Timestamp};

use super::Office;
use super::lifecycle::named;
use crate::host::drill;
use crate::ledger::Write;
use crate::supervisor::Handle;
use crate::supervisor::errands::Errand;
use crate::supervisor::nudges::{Nudges, Sending};
use crate::supervisor::policy::since;
use crate::supervisor::view::Shown;

/// Name of the heartbeat's step.
pub const STEP: &str = "pending_spawns";

/// What the subject of such a mail begins with.
const SUBJECT: &str = "POLECAT_STARTED ";
/// What such a worker is told.
const BEGIN: &str = "Begin.";
/// A mail that is older is put aside: the worker has begun, or somebody else has looked.
const OLDEST: Duration = Duration::from_secs(5 * 60);
/// Texts of a worker among which one for a mail is looked for.
const TEXTS: u32 = 100;
/// Who it is from.
const SENDER: &str = "daemon";

/// Whoever sees to such mails.
pub struct Pending {
    handle: Handle,
    office: Office,
    nudges: Nudges,
}

/// What becomes of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// The worker is told to begin.
    Tell(Address, InstanceId),
    /// It is put aside, for this reason.
    Aside(String),
    /// It is looked at again.
    Wait(String),
}

impl Pending {
    /// For a town.
    #[must_use]
    pub fn new(handle: Handle, office: Office, nudges: Nudges) -> Self {
        Self { handle, office, nudges }
    }

    async fn look(&self) -> Result<Vec<String>, String> {
        let mail = self.office.deacons_mail_for_two().await;
        let mut actions = Vec::new();
        let mut trouble = mail.trouble;
        let started = mail.items.iter().rev().filter_map(|mail| Some((mail, worker(&mail.subject)?)));
        for (mail, name) in started {
            let (written, now) = (self.handle.on_line(mail.at), self.handle.now());
            let next = self.handle.view().read(|shown| judge(name, shown, written, now));
            let said = match self.follow(mail, next).await {
                Ok(said) => said,
                Err(why) => {
                    trouble = trouble.or(Some(why.clone()));
                    why
                }
            };
            actions.push(format!("{} ({})", said, mail.id));
        }
        match trouble {
            Some(why) if actions.is_empty() => Err(why),
            _ => Ok(actions),
        }
    }

    async fn follow(&self, mail: &Mail, next: Next) -> Result<String, String> {
        let said = match next {
            Next::Wait(why) => return Ok(why),
            Next::Aside(why) => why,
            Next::Tell(agent, instance) => {
                let key = format!("begin:{}", mail.id);
                let texts = self.nudges.list(Some(&agent), TEXTS).await.map_err(|error| error.to_string())?;
                // It was told, and the daemon was killed before the mail was put aside.
                if !texts.iter().any(|text| text.key.as_deref() == Some(&key)) {
                    let sending = Sending {
                        agent: agent.clone(),
                        message: BEGIN.to_owned(),
                        key: Some(key),
                        expires: None,
                        instance: Some(instance),
                        sender: SENDER.to_owned(),
                        peer: None,
                    };
                    self.nudges.send(sending).await.map_err(|error| error.message)?;
                }
                drill::at("pending.told");
                format!("{agent} is told to begin")
            }
        };
        let aside = self.office.aside(&mail.id).await?;
        let aside: Vec<Write> = aside.into_iter().collect();
        self.handle.ledger().commit(aside).await.map_err(|error| error.to_string())?;
        tracing::info!(id = mail.id, "a mail about a started worker: {said}");
        Ok(said)
    }
}

impl Errand for Pending {
    fn run(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        self.look().boxed()
    }
}

/// The worker that a subject names; none where it is of another kind.
fn worker(subject: &str) -> Option<&str> {
    subject.strip_prefix(SUBJECT)?.split_whitespace().next()
}

/// What becomes of a mail that was written then. Pure.
fn judge(name: &str, shown: &Shown, written: Timestamp, now: Timestamp) -> Next {
    let agent = named(name, shown);
    // What is paused can neither begin nor be told to.
    let heard = agent.as_ref().and_then(|agent| shown.heard.get(agent));
    let paused = heard.map_or(Duration::ZERO, |heard| heard.stood.within(written, now));
    if since(written, now).saturating_sub(paused) > OLDEST {
        return Next::Aside(format!("{name} was started more than 5 minutes ago"));
    }
    let Some(agent @ Address::Polecat(..)) = agent else {
        return Next::Aside(format!("there is no worker {:?}", name.chars().take(80).collect::<String>()));
    };
    let Some(one) = shown.agents.get(&agent) else {
        return Next::Wait(format!("{agent} is not known yet"));
    };
    match (one.state, &one.instance) {
        // It runs, or is started, once it is let go on.
        _ if one.intent == Intent::Paused => Next::Wait(format!("{agent} is paused")),
        (State::Stopped | State::Held | State::Quarantined, _) => {
            Next::Aside(format!("{agent} does not run any more"))
        }
        (State::Running, Some(_)) if one.drain.is_some() => Next::Aside(format!("{agent} is drained")),
        (State::Running, Some(instance)) => match has_begun(&agent, one.activity, shown) {
            true => Next::Aside(format!("{agent} has begun by itself")),
            false => Next::Tell(agent.clone(), instance.clone()),
        },
        (state, _) => Next::Wait(format!("{agent} is {state}")),
    }
}

/// It has said that it works, or gets a text of its own.
fn has_begun(agent: &Address, activity: Activity, shown: &Shown) -> bool {
    let heard = shown.heard.get(agent);
    let said = |heard: &crate::supervisor::reports::Heard| {
        heard.to_type.is_some()
            || heard.last.as_ref().is_some_and(|word| word.state == ReportState::Working)
            || heard.past.iter().any(|(state, _)| *state == ReportState::Working)
    };
    matches!(activity, Activity::Working | Activity::Waiting) || heard.is_some_and(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::planner::{Facts, Mode, RigFacts};
    use crate::supervisor::rigs::{FileState, Standing};
    use crate::supervisor::view::at_rest;
    use gtd_proto::{AgentName, RigName};

    fn town(state: State, activity: Activity) -> Shown {
        let rig = RigFacts {
            file: FileState::default(),
            standing: Standing::default(),
            witness: Mode::Always,
            refinery: Mode::Always,
            path: String::new(),
            prefix: String::new(),
            polecats: vec![AgentName::new("nux").unwrap()],
            crew: Vec::new(),
        };
        let rigs = [(RigName::new("alpha").unwrap(), rig)].into();
        let mut shown = Shown { facts: Facts { known: true, rigs, ..Facts::default() }, ..Shown::default() };
        let nux: Address = "alpha/polecats/nux".parse().unwrap();
        let mut agent = at_rest(&nux, Timestamp::UNIX_EPOCH);
        (agent.state, agent.activity) = (state, activity);
        agent.running = state == State::Running;
        agent.instance = Some(InstanceId::generate());
        shown.agents.insert(nux, agent);
        shown
    }

    const NOW: &str = "2026-03-01T12:00:00Z";

    fn ago(seconds: i64) -> Timestamp {
        let now: Timestamp = NOW.parse().unwrap();
        now.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap()
    }

    fn next(subject: &str, age: i64, shown: &Shown) -> Next {
        judge(worker(subject).unwrap(), shown, ago(age), ago(0))
    }

    /// The same, of a worker that was paused so long ago, and until then if that is over.
    fn paused(mut shown: Shown, from: i64, to: Option<i64>) -> Shown {
        let nux: Address = "alpha/polecats/nux".parse().unwrap();
        let agent = shown.agents.get_mut(&nux).unwrap();
        if to.is_none() {
            agent.intent = Intent::Paused;
        }
        let spans = to.map(|to| (ago(from), ago(to)));
        let open = spans.is_none().then(|| ago(from));
        let stood = serde_json::json!({ "spans": spans.as_slice(), "open": open });
        shown.heard.entry(nux).or_default().stood = serde_json::from_value(stood).unwrap();
        shown
    }

    #[test]
    fn a_pause_is_not_held_against_a_worker() {
        let subject = "POLECAT_STARTED alpha/nux";
        let ready = || town(State::Running, Activity::Idle);
        // A frozen one, and one that was killed while it stood still and comes back: each for an hour.
        for state in [State::Paused, State::Stopped, State::Starting] {
            let shown = paused(town(state, Activity::Unknown), 3_600, None);
            assert_eq!(
                next(subject, 3_700, &shown),
                Next::Wait("alpha/polecats/nux is paused".into()),
                "{state}"
            );
        }
        assert!(matches!(next(subject, 3_700, &paused(ready(), 3_600, Some(10))), Next::Tell(..)));
        // Nor is it a reason to take up what was too old before.
        assert!(matches!(next(subject, 4_000, &paused(ready(), 3_600, Some(10))), Next::Aside(_)));
        let still = paused(town(State::Paused, Activity::Unknown), 3_600, None);
        assert!(matches!(next(subject, 4_000, &still), Next::Aside(_)));
        assert!(
            matches!(next(subject, 400, &paused(ready(), 3_600, Some(1_800))), Next::Aside(_)),
            "before it was asked"
        );
    }

    #[test]
    fn only_such_a_subject_counts() {
        assert_eq!(worker("POLECAT_STARTED alpha/nux"), Some("alpha/nux"));
        for no in
            ["POLECAT_STARTED", "POLECAT_STARTED  ", "polecat_started alpha/nux", "Re: POLECAT_STARTED x"]
        {
            assert_eq!(worker(no), None, "{no}");
        }
    }

    #[test]
    fn what_becomes_of_it() {
        let ready = town(State::Running, Activity::Idle);
        let subject = "POLECAT_STARTED alpha/nux";
        assert!(matches!(next(subject, 0, &ready), Next::Tell(..)));
        assert!(matches!(next("POLECAT_STARTED alpha/polecats/nux", 299, &ready), Next::Tell(..)));
        assert!(matches!(next(subject, 0, &town(State::Running, Activity::Unknown)), Next::Tell(..)));
        for (state, activity, age, word) in [
            (State::Running, Activity::Idle, 301, "5 minutes"),
            (State::Running, Activity::Working, 0, "begun"),
            (State::Running, Activity::Waiting, 0, "begun"),
            (State::Stopped, Activity::Unknown, 0, "any more"),
            (State::Starting, Activity::Unknown, 301, "5 minutes"),
        ] {
            match next(subject, age, &town(state, activity)) {
                Next::Aside(why) => assert!(why.contains(word), "{state} {activity:?}: {why}"),
                other => panic!("{state} {activity:?}: {other:?}"),
            }
        }
        for state in [State::Starting, State::Backoff, State::Throttled, State::Unknown] {
            assert!(matches!(next(subject, 0, &town(state, Activity::Unknown)), Next::Wait(_)), "{state}");
        }
        for nobody in ["POLECAT_STARTED alpha/none", "POLECAT_STARTED x", "POLECAT_STARTED alpha/witness"] {
            assert!(matches!(next(nobody, 0, &ready), Next::Aside(_)), "{nobody}");
        }
    }
}
