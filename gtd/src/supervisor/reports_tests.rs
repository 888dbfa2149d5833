use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn said(state: ReportState, second: i64) -> Said {
    Said { at: Some(at(second)), ..Said::of(state) }
}

fn word(instance: &InstanceId, state: ReportState, second: i64) -> Word {
    heed(None, instance, &said(state, second), at(1_000)).unwrap()
}

#[test]
fn a_report_is_dated_and_what_was_overtaken_or_heard_before_is_ignored() {
    use ReportState::{Idle, Waiting, Working};
    let (instance, other) = (InstanceId::generate(), InstanceId::generate());
    let before = word(&instance, Working, 100);
    for (by, said, expected) in [
        (&instance, said(Idle, 101), Ok((Idle, 101, 101))),
        (&instance, said(Working, 105), Ok((Working, 100, 105))),
        (&instance, said(Waiting, 100), Ok((Waiting, 100, 100))),
        (&instance, said(Idle, 99), Err(Ignored::Overtaken)),
        (&instance, said(Working, 100), Err(Ignored::Known)),
        // What another instance said is of no consequence for this one.
        (&other, said(Idle, 99), Ok((Idle, 99, 99))),
        // A clock that is ahead makes nothing later than now.
        (&instance, said(Idle, 5_000), Ok((Idle, 200, 200))),
        (&instance, Said::of(Working), Ok((Working, 100, 200))),
    ] {
        let word = heed(Some(&before), by, &said, at(200));
        let got = word.map(|word| (word.state, word.since.as_second(), word.at.as_second()));
        assert_eq!(got, expected, "{said:?}");
    }
}

#[test]
fn what_was_said_of_a_state_holds_while_it_goes_on() {
    let instance = InstanceId::generate();
    let promised =
        Said { next_due: Some(at(400)), detail: Some("until five".into()), ..said(ReportState::Idle, 100) };
    let word = heed(None, &instance, &promised, at(200)).unwrap();
    let again = heed(Some(&word), &instance, &said(ReportState::Idle, 150), at(200)).unwrap();
    assert_eq!((again.next_due, again.detail.as_deref()), (Some(at(400)), Some("until five")));
    let other = heed(Some(&again), &instance, &said(ReportState::Working, 160), at(200)).unwrap();
    assert_eq!((other.next_due, other.detail), (None, None));
}

#[test]
fn a_turn_goes_on_while_it_waits_for_a_person() {
    use ReportState::{Ended, Idle, Started, Waiting, Working};
    let instance = InstanceId::generate();
    for (states, in_turn) in [
        (vec![Started], false),
        (vec![Working], true),
        (vec![Working, Waiting], true),
        (vec![Working, Waiting, Idle], false),
        (vec![Waiting], false),
        (vec![Idle, Waiting], false),
        (vec![Working, Ended], false),
    ] {
        let mut before = None;
        for (n, state) in (1..).zip(&states) {
            before = Some(heed(before.as_ref(), &instance, &said(*state, n), at(1_000)).unwrap());
        }
        assert_eq!(before.unwrap().in_turn, in_turn, "{states:?}");
    }
}

#[test]
fn a_promise_holds_for_a_day_at_most_and_a_remark_is_one_short_line() {
    let instance = InstanceId::generate();
    let due = |due: Timestamp| {
        let said = Said { next_due: Some(due), ..said(ReportState::Idle, 100) };
        heed(None, &instance, &said, at(200)).unwrap().next_due.unwrap()
    };
    assert_eq!(due(at(4_000)), at(4_000));
    assert_eq!(due(Timestamp::MAX), at(100 + 86_400));
    let remark = |text: &str| {
        let said = Said { detail: Some(text.to_owned()), ..Said::of(ReportState::Waiting) };
        heed(None, &instance, &said, at(200)).unwrap().detail
    };
    assert_eq!(remark("  a\n\x1b[31m b\t").as_deref(), Some("a [31m b"));
    assert_eq!(remark(" \n "), None);
    assert_eq!(remark(&"\u{e9}".repeat(5_000)).unwrap().chars().count(), DETAIL);
}

proptest! {
    /// In whatever order reports arrive, what remains is the latest of them.
    #[test]
    fn the_latest_report_wins_in_any_order(seconds in proptest::collection::vec(0_i64..500, 1..20)) {
        let instance = InstanceId::generate();
        let mut before = None;
        for second in &seconds {
            let state = ReportState::ALL[usize::try_from(second % 5).unwrap()];
            if let Ok(word) = heed(before.as_ref(), &instance, &said(state, *second), at(1_000)) {
                before = Some(word);
            }
        }
        let word = before.unwrap();
        let latest = *seconds.iter().max().unwrap();
        prop_assert_eq!(word.at, at(latest));
        prop_assert!(word.since <= word.at);
    }
}
