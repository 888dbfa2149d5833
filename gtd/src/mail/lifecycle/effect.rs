//! What a wait for the effect of a request comes to. Pure: by what was heard, and by what is shown of the agent.

use gtd_proto::lifecycle::{LifecycleAction, LifecycleState};
use gtd_proto::{Address, Agent, ErrorKind, Intent, RpcError};

use crate::ledger::LifecycleRow;

/// What became of a request, and why.
pub(super) type Outcome = (LifecycleState, Option<String>);

pub(super) fn failed(error: &RpcError) -> Outcome {
    (LifecycleState::Failed, Some(error.message.clone()))
}

/// What follows from a wait for the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The next daemon goes on.
    Leave,
    /// That became of it.
    Is(Outcome),
    /// A pause lies over it: it comes about, or is asked for again, at its end.
    AfterPause,
    /// It goes on as it was, and is asked for again.
    Ask,
}

/// What follows from a wait, by what is shown of the agent now; `waited` is how many processes could not be ended, or
/// why it did not come about.
pub(super) fn judge(
    row: &LifecycleRow,
    agent: &Address,
    shown: Option<&Agent>,
    waited: &Result<usize, RpcError>,
) -> Next {
    let is = |state, why| Next::Is((state, why));
    let Some(shown) = shown else {
        return is(LifecycleState::Done, Some(format!("{agent} is not there any more")));
    };
    let same = shown.running && shown.instance == row.instance;
    let (late, wanted, delayed) = match (row.action, waited) {
        (LifecycleAction::Shutdown, Err(error)) => {
            let late = error.kind == ErrorKind::Timeout;
            // What stands still in the middle of its turn is ended after that.
            (late, Intent::Stopped, late && shown.pause.is_some())
        }
        (LifecycleAction::Shutdown, Ok(_)) => (false, Intent::Stopped, false),
        (_, Err(error)) => (error.kind == ErrorKind::Timeout, Intent::Running, true),
        (_, Ok(_)) => (false, Intent::Running, same),
    };
    // A pause lies over what should run, and takes nothing of it away. It may be over since that was said.
    let put_off = |error: &RpcError| error.data.get("reached").is_some_and(|reached| reached == "paused");
    let held = shown.intent == Intent::Paused || waited.as_ref().is_err_and(put_off);
    let delayed = delayed && (wanted == Intent::Stopped || held);
    match waited {
        Err(error) if error.kind == ErrorKind::ShuttingDown => Next::Leave,
        _ if delayed => Next::AfterPause,
        Err(error) if late || !same => Next::Is(failed(error)),
        Ok(0) if !same => is(LifecycleState::Done, None),
        Ok(many) if !same => {
            is(LifecycleState::Failed, Some(format!("{many} of its processes could not be ended")))
        }
        _ if shown.intent != wanted => {
            is(LifecycleState::Failed, Some(format!("{} wanted otherwise since", shown.intent_by)))
        }
        _ => Next::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::requests::PERSON;
    use crate::supervisor::view::at_rest;
    use gtd_proto::pause::Pause;
    use gtd_proto::{InstanceId, Timestamp};

    const DONE: Next = Next::Is((LifecycleState::Done, None));

    fn row(action: LifecycleAction, instance: &InstanceId) -> LifecycleRow {
        LifecycleRow {
            number: 1,
            id: "l-1".into(),
            agent: Some("a/witness".parse().unwrap()),
            instance: Some(instance.clone()),
            action,
            sender: "a/witness".into(),
            peer: None,
            key: None,
            mail: None,
            why: None,
            state: LifecycleState::Acting,
            reason: None,
            at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// The agent, with its instance if it runs, and what is wanted of it.
    fn agent(instance: Option<&InstanceId>, intent: Intent, paused: bool) -> Agent {
        let mut agent = at_rest(&"a/witness".parse().unwrap(), Timestamp::UNIX_EPOCH);
        agent.running = instance.is_some();
        agent.instance = instance.cloned();
        (agent.intent, agent.intent_by) = (intent, PERSON.into());
        agent.pause = paused.then(|| Pause {
            by: PERSON.into(),
            reason: None,
            since: Timestamp::UNIX_EPOCH,
            until: None,
            scope: "town".into(),
            clear: "gtctl resume".into(),
            frozen: true,
            processes: None,
        });
        agent
    }

    fn error(kind: ErrorKind) -> Result<usize, RpcError> {
        Err(RpcError::new(kind, "made up"))
    }

    #[test]
    fn a_pause_delays_what_was_begun_and_is_no_other_wish() {
        let (old, new) = (InstanceId::generate(), InstanceId::generate());
        let (old, new) = (Some(&old), Some(&new));
        let paused = |instance| agent(instance, Intent::Paused, true);
        let cycle = |shown: &Agent, waited| {
            judge(&row(LifecycleAction::Cycle, old.unwrap()), &shown.agent, Some(shown), &waited)
        };
        // Between its end and its start; before its end; after a restart of the daemon took that along.
        assert_eq!(cycle(&paused(None), error(ErrorKind::Busy)), Next::AfterPause);
        assert_eq!(cycle(&paused(None), error(ErrorKind::Timeout)), Next::AfterPause);
        assert_eq!(cycle(&paused(old), error(ErrorKind::Timeout)), Next::AfterPause);
        assert_eq!(cycle(&paused(old), Ok(0)), Next::AfterPause);
        // It goes on just now.
        let goes_on = |instance| agent(instance, Intent::Running, false);
        let put_off = RpcError::new(ErrorKind::Busy, "made up").with("reached", gtd_proto::State::Paused);
        assert_eq!(cycle(&goes_on(None), Err(put_off)), Next::AfterPause);
        // The new one came up before it was paused.
        assert_eq!(cycle(&paused(new), Ok(0)), DONE);
        assert_eq!(cycle(&paused(old), error(ErrorKind::ShuttingDown)), Next::Leave);
        // Without a pause everything is as it was.
        assert_eq!(cycle(&goes_on(old), Ok(0)), Next::Ask);
        assert_eq!(cycle(&goes_on(new), Ok(0)), DONE);
        for failing in [ErrorKind::Busy, ErrorKind::Timeout] {
            let outcome = cycle(&goes_on(None), error(failing));
            assert!(matches!(outcome, Next::Is((LifecycleState::Failed, _))), "{failing:?}: {outcome:?}");
        }
        // A person has stopped it meanwhile: it does not wait for the end of the pause to say so.
        let stopped = agent(old, Intent::Stopped, true);
        let otherwise = Next::Is((LifecycleState::Failed, Some("person wanted otherwise since".into())));
        assert_eq!(cycle(&stopped, Ok(0)), otherwise);
        assert_eq!(cycle(&agent(old, Intent::Stopped, false), Ok(0)), otherwise);
    }

    #[test]
    fn a_shutdown_waits_for_a_pause_only_where_a_turn_stands_still() {
        let old = InstanceId::generate();
        let shutdown = |shown: &Agent, waited| {
            judge(&row(LifecycleAction::Shutdown, &old), &shown.agent, Some(shown), &waited)
        };
        let runs = |paused| agent(Some(&old), Intent::Stopped, paused);
        assert_eq!(shutdown(&runs(true), error(ErrorKind::Timeout)), Next::AfterPause);
        assert!(matches!(shutdown(&runs(false), error(ErrorKind::Timeout)), Next::Is(_)));
        assert_eq!(shutdown(&runs(true), Ok(0)), Next::Ask);
        assert_eq!(shutdown(&agent(None, Intent::Stopped, true), Ok(0)), DONE);
        let left = shutdown(&agent(None, Intent::Stopped, true), Ok(2));
        assert!(matches!(left, Next::Is((LifecycleState::Failed, _))), "{left:?}");
    }
}
