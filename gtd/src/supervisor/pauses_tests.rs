use proptest::prelude::*;

use super::*;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn paused(since: i64, until: Option<i64>) -> Paused {
    Paused { by: "person".into(), reason: None, at: at(since), until: until.map(at) }
}

fn scope(text: &str) -> Scope {
    match text {
        "" => Scope::default(),
        rig if !rig.contains('/') && !["deacon", "mayor"].contains(&rig) => {
            Scope { rig: Some(RigName::new(rig).unwrap()), agents: BTreeSet::new() }
        }
        agent => Scope { rig: None, agents: BTreeSet::from([agent.parse().unwrap()]) },
    }
}

const AGENTS: [&str; 5] = ["a/witness", "a/polecats/nux", "b/witness", "deacon", "a/crew/max"];

/// What is paused, as the extents that hold each agent.
fn held(pauses: &Pauses) -> Vec<String> {
    let of = |agent: &&str| pauses.of(&agent.parse().unwrap());
    AGENTS.iter().map(|agent| of(agent).map_or("-".to_owned(), |standing| standing.extent.name())).collect()
}

#[test]
fn what_is_paused_and_what_goes_on() {
    // steps (+ pauses, - lets go on), what then holds witness a, worker a, witness b, deacon, crew
    let cases: &[(&[&str], [&str; 5])] = &[
        (&["+"], ["town", "town", "town", "town", "-"]),
        (&["+a"], ["a", "a", "-", "-", "-"]),
        (&["+a/witness"], ["a/witness", "-", "-", "-", "-"]),
        (&["+a/crew/max"], ["-", "-", "-", "-", "-"]),
        (&["+a", "-a"], ["-", "-", "-", "-", "-"]),
        // One rig, or one agent, goes on although more is paused.
        (&["+", "-a"], ["-", "-", "town", "town", "-"]),
        (&["+", "-deacon"], ["town", "town", "town", "-", "-"]),
        (&["+a", "-a/witness"], ["-", "a", "-", "-", "-"]),
        (&["+", "-a", "+a/witness"], ["a/witness", "-", "town", "town", "-"]),
        (&["+", "-a", "+a"], ["a", "a", "town", "town", "-"]),
        (&["+", "-a", "+"], ["town", "town", "town", "town", "-"]),
        (&["+", "-a/witness", "+"], ["town", "town", "town", "town", "-"]),
        (&["+a", "-a/witness", "+a"], ["a", "a", "-", "-", "-"]),
        // The end of the town's ends everything.
        (&["+a", "+b/witness", "+", "-"], ["-", "-", "-", "-", "-"]),
        // A rig's end is also that of its agents' own.
        (&["+a/witness", "+a", "-a"], ["-", "-", "-", "-", "-"]),
        // Let go on under a pause that is over by now means nothing for the next.
        (&["+a", "-a/witness", "-a", "+a"], ["a", "a", "-", "-", "-"]),
        (&["+", "-a", "-", "+"], ["town", "town", "town", "town", "-"]),
        (&["-a", "-a/witness", "+a"], ["a", "a", "-", "-", "-"]),
    ];
    for (steps, expected) in cases {
        let mut pauses = Pauses::default();
        for step in *steps {
            match step.split_at(1) {
                ("+", what) => pauses.pause(&scope(what), &paused(0, None)),
                (_, what) => pauses.resume(&scope(what)),
            }
        }
        assert_eq!(held(&pauses), expected, "{steps:?}");
        let again = Pauses::recall(pauses.fact().as_ref()).unwrap();
        assert_eq!(again, pauses, "{steps:?}");
    }
}

#[test]
fn the_one_that_lasts_longest_holds_and_each_ends_by_itself() {
    let mut pauses = Pauses::default();
    pauses.pause(&scope(""), &paused(0, Some(10)));
    pauses.pause(&scope("a"), &paused(1, Some(30)));
    pauses.pause(&scope("a/witness"), &paused(2, None));
    assert_eq!(held(&pauses), ["a/witness", "a", "town", "town", "-"]);
    assert_eq!(pauses.deadline(), Some(at(10)));
    assert!(!pauses.pass(at(9)));
    assert!(pauses.pass(at(10)));
    assert_eq!(held(&pauses), ["a/witness", "a", "-", "-", "-"]);
    assert!(pauses.pass(at(30)));
    assert_eq!(held(&pauses), ["a/witness", "-", "-", "-", "-"]);
    assert_eq!(pauses.deadline(), None);
    assert!(pauses.forget(|_| false) && pauses.is_empty());
}

#[test]
fn a_pause_that_is_renewed_is_as_old_as_the_first() {
    let mut pauses = Pauses::default();
    pauses.pause(&scope("a"), &paused(0, Some(10)));
    pauses.pause(&scope("a"), &Paused { by: "mayor".into(), ..paused(5, None) });
    let standing = pauses.of(&"a/witness".parse().unwrap()).unwrap();
    assert_eq!((standing.paused.at, standing.paused.until), (at(0), None));
    assert_eq!(standing.words(), "rig a is paused, by mayor");
    let refused = refusal(&"a/witness".parse().unwrap(), &standing).error;
    assert_eq!((refused.code, refused.hint.as_deref()), (1005, Some("gtctl resume a")));
}

#[test]
fn of_two_pauses_of_the_same_the_longer_holds_and_no_reason_is_lost() {
    let said = |by: &str, reason: &str, until: Option<i64>| Paused {
        by: by.into(),
        reason: (!reason.is_empty()).then(|| reason.into()),
        ..paused(0, until)
    };
    // The first, the second, what is said and until when.
    type Case = (
        (&'static str, &'static str, Option<i64>),
        (&'static str, &'static str, Option<i64>),
        &'static str,
        Option<i64>,
    );
    let cases: [Case; 8] = [
        (("person", "hot", None), ("person", "", None), "by person: hot", None),
        (("person", "hot", None), ("mayor", "", None), "by person: hot", None),
        (("person", "hot", None), ("mayor", "late", None), "by mayor: late", None),
        (("person", "", None), ("mayor", "late", None), "by mayor: late", None),
        (("person", "hot", None), ("mayor", "a breath", Some(5)), "by person: hot", None),
        (("person", "", None), ("mayor", "a breath", Some(5)), "by mayor: a breath", None),
        (("person", "hot", Some(5)), ("mayor", "", Some(30)), "by person: hot", Some(30)),
        (("person", "hot", Some(30)), ("mayor", "a breath", Some(5)), "by person: hot", Some(30)),
    ];
    for (first, second, words, until) in cases {
        for what in ["", "a", "a/witness"] {
            let mut pauses = Pauses::default();
            pauses.pause(&scope(what), &said(first.0, first.1, first.2));
            pauses.pause(&scope(what), &said(second.0, second.1, second.2));
            let standing = pauses.of(&"a/witness".parse().unwrap()).unwrap();
            assert!(standing.words().ends_with(words), "{what} {first:?} {second:?}: {}", standing.words());
            assert_eq!(standing.paused.until, until.map(at), "{what} {first:?} {second:?}");
        }
    }
}

#[test]
fn a_damaged_fact_is_an_error_and_none_is_nothing() {
    assert_eq!(Pauses::recall(None), Ok(Pauses::default()));
    assert!(Pauses::recall(Some(&serde_json::json!(7))).is_err());
}

proptest! {
    /// Whatever was paused and let go on: the last word about an agent counts, and nothing lasts beyond its end.
    #[test]
    fn the_last_word_counts(steps in proptest::collection::vec((0_usize..8, any::<bool>(), proptest::option::of(1_i64..60)), 1..20)) {
        let scopes = ["", "a", "b", "a/witness", "b/witness", "deacon", "a/polecats/nux", "a/crew/max"];
        let mut pauses = Pauses::default();
        for (what, pause, until) in steps {
            let scope = scope(scopes[what]);
            if pause { pauses.pause(&scope, &paused(0, until)) } else { pauses.resume(&scope) }
            for agent in AGENTS {
                let agent: Address = agent.parse().unwrap();
                if scope.holds(&agent) {
                    let held = pauses.of(&agent).is_some();
                    prop_assert_eq!(held, pause && agent.role() != Role::Crew, "{} {:?}", agent, &pauses);
                }
            }
        }
        pauses.pass(at(60));
        prop_assert_eq!(pauses.deadline(), None);
    }
}
