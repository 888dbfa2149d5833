//! What comes next, as a table, and that every making comes to an end whatever fails.

use super::*;
use proptest::prelude::*;

fn error() -> RpcError {
    RpcError::new(ErrorKind::Git, "no")
}

fn journal(step: Step) -> Journal {
    Journal { step, ..Journal::new(Wish::default()) }
}

fn back(failed: Step) -> Journal {
    let mut journal = journal(failed);
    journal.turn_back(failed, error(), false);
    journal
}

const QUIET: World = World { agent: Agent::Never, doubt: false };

#[test]
fn forwards_the_step_that_was_written_down_is_done_again() {
    for step in Step::ALL {
        assert_eq!(next(&journal(step), QUIET), Next::Do(step));
        let tired = Journal { taken_up: TAKEN_UP_AT_MOST + 1, ..journal(step) };
        assert_eq!(next(&tired, QUIET), Next::TurnBack);
    }
    let order: Vec<Step> = std::iter::successors(Some(Step::Reserve), |step| step.next()).collect();
    assert_eq!(order, Step::ALL);
    assert!(Step::ALL.is_sorted());
}

#[test]
fn backwards_what_was_done_is_taken_back_from_its_end() {
    for (failed, left) in [
        (Step::Reserve, &[Step::Reserve][..]),
        (Step::Tree, &[Step::Tree, Step::Reserve]),
        (Step::Hook, &[Step::Hook, Step::Tree, Step::Reserve]),
        (Step::Start, &[Step::Start, Step::Hook, Step::Tree, Step::Reserve]),
        (Step::Announce, &[Step::Start, Step::Hook, Step::Tree, Step::Reserve]),
    ] {
        assert_eq!(back(failed).back.unwrap().left, left, "{failed:?}");
        let mut blank = journal(failed);
        blank.turn_back(failed, error(), true);
        let expected: Vec<Step> = left.iter().copied().filter(|step| *step != failed).collect();
        assert_eq!(blank.back.unwrap().left, expected, "{failed:?} did nothing");
    }
}

#[test]
fn a_worktree_is_looked_at_before_it_goes_wherever_an_agent_may_have_worked() {
    for (agent, doubt, expected) in [
        (Agent::Never, false, Next::Clear { ran: false }),
        (Agent::Gone, false, Next::Clear { ran: true }),
        (Agent::Never, true, Next::Clear { ran: true }),
        (Agent::Gone, true, Next::Clear { ran: true }),
    ] {
        assert_eq!(next(&back(Step::Tree), World { agent, doubt }), expected, "{agent:?} {doubt}");
    }
    for (agent, doubt) in [(Agent::Alive, false), (Agent::Unknown, false), (Agent::Alive, true)] {
        assert!(matches!(next(&back(Step::Tree), World { agent, doubt }), Next::Wait(_)), "{agent:?}");
    }
}

#[test]
fn a_store_that_does_not_answer_keeps_the_name_and_nothing_else() {
    let mut journal = back(Step::Start);
    journal.undone(Step::Start);
    assert_eq!(next(&journal, QUIET), Next::Undo(Step::Hook));
    journal.put_off(Step::Hook, "late".into());
    assert_eq!(next(&journal, QUIET), Next::Clear { ran: false });
    journal.undone(Step::Tree);
    assert_eq!(next(&journal, QUIET), Next::Undo(Step::Hook));
    journal.put_off(Step::Hook, "late".into());
    assert_eq!(next(&journal, QUIET), Next::Undo(Step::Hook), "again and again");
    assert_eq!(journal.back.as_ref().unwrap().stuck.len(), 1);
    journal.undone(Step::Hook);
    assert_eq!(next(&journal, QUIET), Next::Undo(Step::Reserve));
    journal.undone(Step::Reserve);
    assert_eq!(next(&journal, QUIET), Next::Finish);
}

#[test]
fn what_is_kept_keeps_its_row() {
    let mut journal = back(Step::Announce);
    for step in [Step::Start, Step::Hook] {
        journal.undone(step);
    }
    journal.keep("it was touched");
    assert_eq!(next(&journal, QUIET), Next::Finish);
    assert!(journal.back.unwrap().kept.is_some());
}

#[test]
fn a_journal_of_an_earlier_daemon_is_read() {
    let mut written = back(Step::Hook);
    written.wish.key = Some("k".into());
    written.put_off(Step::Hook, "late".into());
    let read: Journal = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
    assert_eq!(read, written);
    let least = r#"{"step":"tree","wish":{"by":"person"}}"#;
    assert_eq!(serde_json::from_str::<Journal>(least).unwrap().step, Step::Tree);
}

fn world() -> impl Strategy<Value = World> {
    let agent = prop_oneof![Just(Agent::Never), Just(Agent::Gone), Just(Agent::Alive), Just(Agent::Unknown)];
    (agent, any::<bool>()).prop_map(|(agent, doubt)| World { agent, doubt })
}

proptest! {
    /// Whatever fails and whatever is seen: forwards each step is done at most once per daemon, backwards nothing is
    /// forgotten, and where the world becomes quiet it comes to an end.
    #[test]
    fn every_making_comes_to_an_end(
        worlds in proptest::collection::vec(world(), 0..30),
        fails in proptest::collection::vec(any::<bool>(), 60),
        kills in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let mut journal = Journal::new(Wish::default());
        let (mut done, mut taken_back) = (Vec::new(), Vec::new());
        let mut finished = false;
        for turn in 0..200 {
            let world = worlds.get(turn).copied().unwrap_or(QUIET);
            if kills.get(turn).copied().unwrap_or(false) {
                // A new daemon reads what was written down.
                journal = serde_json::from_value(serde_json::to_value(&journal).unwrap()).unwrap();
                journal.taken_up += 1;
            }
            let failed = fails.get(turn).copied().unwrap_or(false);
            match next(&journal, world) {
                Next::Do(step) if failed => journal.turn_back(step, error(), false),
                Next::Do(step) => {
                    done.push(step);
                    match step.next() {
                        Some(next) => journal.step = next,
                        None => { finished = true; break }
                    }
                }
                Next::Undo(step) if failed => journal.put_off(step, "no".into()),
                Next::Undo(step) => { taken_back.push(step); journal.undone(step) }
                // There is something in it.
                Next::Clear { .. } if failed => journal.keep("work"),
                Next::Clear { ran } => {
                    // Where one ran, or may have, it was looked at.
                    prop_assert!(ran || (world.agent == Agent::Never && !world.doubt));
                    taken_back.push(Step::Tree);
                    journal.undone(Step::Tree);
                }
                Next::TurnBack => journal.turn_back(journal.step, error(), false),
                Next::Wait(_) => {}
                Next::Finish => { finished = true; break }
            }
        }
        prop_assert!(finished, "{journal:?}");
        match &journal.back {
            None => prop_assert_eq!(done, Step::ALL),
            Some(back) => {
                let kept = back.kept.is_some();
                // What was done is taken back, but for a worktree that is kept with its name.
                for step in done.iter().filter(|step| **step != Step::Announce) {
                    let stays = kept && matches!(step, Step::Tree | Step::Reserve);
                    prop_assert_eq!(taken_back.contains(step), !stays, "{:?}", step);
                }
                // A name is free only after all else is gone.
                if let Some(at) = taken_back.iter().position(|step| *step == Step::Reserve) {
                    prop_assert_eq!(at, taken_back.len() - 1);
                }
            }
        }
    }
}
