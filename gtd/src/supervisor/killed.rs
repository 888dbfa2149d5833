//! What we ended, in words: who asked, why, and what proved that it was ours.
//!
//! Made from the signals on record whenever somebody asks, so that an end by a daemon before this one is told like
//! any other. It must never call an end ours of which no signal is on record.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::agent::SignalSent;
use gtd_proto::killed::{Ended, Killed};
use gtd_proto::{Address, Cause, Exit, InstanceId, Timestamp};
use serde_json::{Value, json};

use super::handle::Handle;
use super::machine::{Machine, Phase};
use super::policy::after;
use crate::ledger::LedgerError;
use crate::process::Proof;
use crate::process::attribution::in_words;

/// An end is dated by the shim's record, a signal by us; both by the same clock, a moment apart.
const SLACK: Duration = Duration::from_secs(2);
/// Processes that are named of one end.
const NAMED: usize = 50;
/// Ends that an explanation tells of, the newest.
const TOLD: usize = 3;
/// Signals that end a process. The others freeze, thaw, or wake what is to hear them.
const ENDING: [i32; 4] = [1, 3, 9, 15];

/// Adds to signals that an agent's task has sent why they were: the task knows who asked and the proof.
pub(super) fn with_reason(machine: Option<&Machine>, signals: Vec<SignalSent>) -> Vec<SignalSent> {
    let why = match machine.map(|machine| (&machine.phase, machine)) {
        Some((Phase::Ending { .. } | Phase::Draining { .. }, machine)) => {
            let said = machine.wish.reason.as_deref().filter(|_| !machine.wish.is_of_policy());
            let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
            machine.reason.as_deref().map(|why| format!("{why}{said}"))
        }
        Some((Phase::Dead { .. }, _)) => Some("its agent had ended, and this was left of it".to_owned()),
        Some(_) | None => None,
    };
    let Some(why) = why else { return signals };
    let mut signals = signals;
    for sent in &mut signals {
        if let Some(evidence) = sent.evidence.as_object_mut() {
            evidence.entry("why").or_insert_with(|| json!(why));
        }
    }
    signals
}

/// A signal in a sentence.
#[must_use]
pub fn because(sent: &SignalSent) -> String {
    let done = if ENDING.contains(&sent.signal) { "killed" } else { "signalled" };
    let why = sent.evidence.get("why").and_then(Value::as_str).filter(|why| !why.is_empty());
    let why = why.map(|why| format!(" because {why}")).unwrap_or_default();
    let proof: Option<Proof> =
        sent.evidence.get("proof").and_then(|proof| serde_json::from_value(proof.clone()).ok());
    let proof = proof.map_or_else(|| "none is on record".to_owned(), |proof| in_words(&proof));
    format!("{done} by gtd{why}, by {}; proof: {proof}", sent.by)
}

/// What of an instance was ended, by its signals, oldest first. Pure.
fn of_exit(exit: &Exit, signals: &[&SignalSent]) -> Vec<Killed> {
    let ours = exit.requested || exit.cause == Cause::KilledByGtd;
    let until = after(exit.ended_at, SLACK);
    let to_the_agent = |sent: &SignalSent| {
        ours && sent.at <= until && sent.evidence.pointer("/proof/kind") == Some(&json!("recorded"))
    };
    let (agent, rest): (Vec<&SignalSent>, Vec<&SignalSent>) =
        signals.iter().copied().partition(|sent| to_the_agent(sent));
    let mut killed: Vec<Killed> = together(&agent, Ended::Agent).into_iter().collect();
    killed.extend(grouped(&rest).iter().filter_map(|group| together(group, Ended::Rest)));
    killed
}

/// Signals of one reason, in the order in which the first of each was sent.
fn grouped<'a>(signals: &[&'a SignalSent]) -> Vec<Vec<&'a SignalSent>> {
    let mut groups: Vec<Vec<&SignalSent>> = Vec::new();
    for sent in signals {
        let same = |one: &&SignalSent| {
            one.by == sent.by
                && one.instance == sent.instance
                && one.evidence.get("why") == sent.evidence.get("why")
        };
        match groups.iter_mut().find(|group| group.first().is_some_and(same)) {
            Some(group) => group.push(sent),
            None => groups.push(vec![sent]),
        }
    }
    groups
}

/// One end from its signals; none when no one of them ends anything.
fn together(signals: &[&SignalSent], what: Ended) -> Option<Killed> {
    let last = signals.iter().rev().find(|sent| ENDING.contains(&sent.signal))?;
    let mut pids: Vec<i32> = signals.iter().map(|sent| sent.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.truncate(NAMED);
    Some(Killed {
        what,
        at: last.at,
        by: last.by.clone(),
        because: because(last),
        pids,
        signals: u64::try_from(signals.len()).unwrap_or(u64::MAX),
    })
}

impl Handle {
    /// Adds to ends what of them was our doing.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn tell_killed(&self, exits: &mut [Exit]) -> Result<(), LedgerError> {
        let Some(since) = exits.iter().map(|exit| exit.started_at).min() else { return Ok(()) };
        let mut agents: Vec<Address> = exits.iter().map(|exit| exit.agent.clone()).collect();
        agents.sort();
        agents.dedup();
        let sent = self.ledger().signals_to(agents, since).await?;
        let mut by_instance: BTreeMap<&InstanceId, Vec<&SignalSent>> = BTreeMap::new();
        for one in &sent {
            if let Some(instance) = &one.instance {
                by_instance.entry(instance).or_default().push(one);
            }
        }
        for exit in exits {
            let signals = by_instance.get(&exit.instance).map(Vec::as_slice).unwrap_or_default();
            exit.killed = of_exit(exit, signals);
            if exit.cause == Cause::KilledByGtd && exit.killed.is_empty() && exit.evidence.is_none() {
                let why = "its shim was told to end, and no signal of ours is on record";
                exit.evidence = Some(why.to_owned());
            }
        }
        Ok(())
    }
}

/// The latest ends of an agent that were our doing, newest first, for an explanation. `signals` newest first. Pure.
pub(super) fn told(signals: &[SignalSent], until: Timestamp) -> Vec<String> {
    let before: Vec<&SignalSent> = signals.iter().rev().filter(|sent| sent.at <= until).collect();
    let groups = grouped(&before);
    let ends = groups.iter().rev().filter_map(|group| {
        let killed = together(group, Ended::Rest)?;
        let instance =
            group.first()?.instance.as_ref().map(|i| format!(" of instance {i}")).unwrap_or_default();
        let (what, were) = match killed.pids.as_slice() {
            [pid] => (format!("process {pid}{instance}"), "was"),
            pids => (format!("{} processes{instance}", pids.len()), "were"),
        };
        Some(format!("{what} {were} {}, at {:.0}", killed.because, killed.at))
    });
    ends.take(TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::exit::Usage;

    const INSTANCE: &str = "01958b3e-7a3c-7b1e-8b1a-0123456789ab";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sent(second: i64, pid: i32, signal: i32, by: &str, why: Option<&str>, proof: Value) -> SignalSent {
        let mut evidence = json!({ "proof": proof, "comm": "x" });
        if let Some(why) = why {
            evidence["why"] = json!(why);
        }
        SignalSent {
            at: at(second),
            agent: "a/witness".parse().ok(),
            instance: INSTANCE.parse().ok(),
            pid,
            start: 1,
            signal,
            evidence,
            by: by.into(),
            because: None,
        }
    }

    fn recorded() -> Value {
        json!({ "kind": "recorded" })
    }

    fn ended(cause: Cause, requested: bool) -> Exit {
        Exit {
            agent: "a/witness".parse().unwrap(),
            instance: INSTANCE.parse().unwrap(),
            pid: Some(7),
            started_at: at(0),
            ended_at: at(100),
            uptime_ms: 1,
            code: None,
            signal: Some(15),
            cause,
            requested,
            counts: false,
            exec_error: None,
            incident: None,
            evidence: None,
            killed: Vec::new(),
            output: Vec::new(),
            usage: Usage::default(),
        }
    }

    #[test]
    fn a_sentence_has_the_reason_who_asked_and_the_proof() {
        let why = Some("it was asked to stop");
        assert_eq!(
            because(&sent(1, 5, 15, "person", why, recorded())),
            "killed by gtd because it was asked to stop, by person; proof: it was recorded when it was started"
        );
        assert!(because(&sent(1, 5, 18, "person", why, recorded())).starts_with("signalled by gtd because"));
        // Signals of an earlier version had no reason.
        assert!(
            because(&sent(1, 5, 9, "supervisor", None, Value::Null))
                .starts_with("killed by gtd, by supervisor")
        );
    }

    #[test]
    fn what_ended_the_agent_is_told_from_what_was_left_of_it() {
        let signals = [
            sent(99, 5, 15, "person", Some("it was asked to stop"), recorded()),
            sent(99, 5, 18, "person", Some("it was asked to stop"), recorded()),
            sent(200, 8, 15, "supervisor: orphan sweep", Some("it is over"), recorded()),
            sent(201, 9, 9, "supervisor: orphan sweep", Some("it is over"), json!({"kind": "group"})),
        ];
        let all: Vec<&SignalSent> = signals.iter().collect();
        let killed = of_exit(&ended(Cause::Requested, true), &all);
        assert_eq!(
            killed.iter().map(|one| (one.what, one.signals)).collect::<Vec<_>>(),
            [(Ended::Agent, 2), (Ended::Rest, 2)]
        );
        assert_eq!((killed[0].by.as_str(), killed[1].pids.as_slice()), ("person", [8, 9].as_slice()));
        assert!(killed[1].because.contains("orphan sweep"), "{killed:?}");
        // It died by itself: what was sent to it was too late, and is not what ended it.
        let crashed = of_exit(&ended(Cause::Crash, false), &all);
        assert!(crashed.iter().all(|one| one.what == Ended::Rest), "{crashed:?}");
        assert!(of_exit(&ended(Cause::Crash, false), &[]).is_empty());
        // What only thaws has ended nothing.
        assert!(of_exit(&ended(Cause::Requested, true), &[&signals[1]]).is_empty());
    }

    #[test]
    fn an_explanation_tells_the_newest_ends_first() {
        let newest_first = [
            sent(200, 9, 9, "supervisor: orphan sweep", Some("it is over"), recorded()),
            sent(200, 8, 9, "supervisor: orphan sweep", Some("it is over"), recorded()),
            sent(99, 5, 15, "person", Some("it was asked to stop"), recorded()),
        ];
        let told = told(&newest_first, at(1_000));
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("2 processes of instance") && told[0].contains("were killed by gtd because")
        );
        assert!(told[1].starts_with("process 5 of instance") && told[1].contains("by person"), "{told:?}");
        assert_eq!(super::told(&newest_first, at(100)).len(), 1, "what came later is not told of then");
    }
}
