use std::time::Duration;

use gtd_proto::exit::Usage;
use gtd_proto::{Cause, Incident, IncidentCause, IncidentState, InstanceId};
use proptest::prelude::*;

use super::*;

fn at(seconds: f64) -> Timestamp {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    after(start, Duration::from_secs_f64(seconds))
}

fn agent(n: usize) -> Address {
    format!("r{n}/witness").parse().unwrap()
}

fn black_box(agent: &Address, cause: Cause) -> Exit {
    Exit {
        evidence: None,
        killed: Vec::new(),
        agent: agent.clone(),
        instance: InstanceId::generate(),
        pid: None,
        started_at: at(0.0),
        ended_at: at(1.0),
        uptime_ms: 0,
        code: None,
        signal: None,
        cause,
        requested: cause == Cause::Requested,
        counts: true,
        exec_error: None,
        incident: None,
        output: Vec::new(),
        usage: Usage::default(),
    }
}

fn death(n: usize, seconds: f64, kind: Kind, running: usize) -> Death {
    let agent = agent(n);
    let exit = black_box(&agent, Cause::Crash);
    let (at, session) = (at(seconds), Some(format!("gt-r{n}-witness")));
    Death { agent, at, told_at: at, kind, account: None, session, server: None, running, exit }
}

/// Tells the breaker of crashes at these seconds, agent by agent; which of them opened an incident, with how many.
fn crashes(
    breaker: &mut Breaker,
    numbers: &Numbers,
    deaths: &[(usize, f64)],
    running: usize,
) -> Vec<(usize, usize)> {
    let mut opened = Vec::new();
    for (n, (who, seconds)) in deaths.iter().enumerate() {
        let death = death(*who, *seconds, Kind::Crash, running);
        if let Heard::Opened(members) = breaker.died(death, at(*seconds), numbers) {
            opened.push((n, members.len()));
        }
    }
    opened
}

fn open(breaker: &Breaker) -> Incident {
    breaker.open().unwrap().shown(&Numbers::default(), |_| false)
}

#[test]
fn what_is_an_incident_and_what_is_none() {
    type Case = (&'static str, &'static [(usize, f64)], usize, Option<(usize, usize)>);
    let cases: &[Case] = &[
        ("three agents at once", &[(0, 0.0), (1, 0.0), (2, 0.0)], 5, Some((2, 3))),
        ("three agents within the window", &[(0, 0.0), (1, 15.0), (2, 30.0)], 5, Some((2, 3))),
        ("three agents just too far apart", &[(0, 0.0), (1, 15.0), (2, 30.1)], 5, None),
        ("two agents, again and again", &[(0, 0.0), (1, 1.0), (0, 2.0), (1, 3.0), (0, 4.0)], 5, None),
        ("the latest death of each counts", &[(0, 0.0), (1, 1.0), (0, 29.0), (2, 31.5)], 5, None),
        (
            "and the latest of each may be close",
            &[(0, 0.0), (1, 28.0), (0, 29.0), (2, 31.5)],
            5,
            Some((3, 3)),
        ),
        ("a tenth of 30", &[(0, 0.0), (1, 0.1), (2, 0.2)], 30, Some((2, 3))),
        ("a tenth of 31 is four, rounded up", &[(0, 0.0), (1, 0.1), (2, 0.2)], 31, None),
        ("and with a fourth", &[(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)], 31, Some((3, 4))),
        (
            "whoever died long before is no part",
            &[(9, 0.0), (0, 40.0), (1, 41.0), (2, 42.0)],
            5,
            Some((3, 3)),
        ),
    ];
    for (what, deaths, running, expected) in cases {
        let mut breaker = Breaker::default();
        let opened = crashes(&mut breaker, &Numbers::default(), deaths, *running);
        assert_eq!(opened.first(), expected.as_ref(), "{what}");
    }
}

#[test]
fn the_share_is_of_those_who_ran_before_the_first_death() {
    // 40 ran, so four are needed, also when the later deaths see fewer.
    let mut breaker = Breaker::default();
    let numbers = Numbers::default();
    for (n, running) in [40, 30, 20].into_iter().enumerate() {
        let heard = breaker.died(death(n, 0.1, Kind::Crash, running), at(0.1), &numbers);
        assert!(matches!(heard, Heard::Alone), "{n}");
    }
    assert!(matches!(breaker.died(death(3, 0.2, Kind::Crash, 10), at(0.2), &numbers), Heard::Opened(_)));
}

#[test]
fn shares_are_rounded_up_and_no_further() {
    for (share, running, needed) in
        [(0.1, 20, 3), (0.1, 30, 3), (0.1, 100, 10), (0.3, 10, 3), (0.3, 11, 4), (1.0, 7, 7), (0.0, 500, 3)]
    {
        let numbers = Numbers { share, ..Numbers::default() };
        assert_eq!(numbers.needed(running), needed, "{share} of {running}");
    }
}

#[test]
fn only_unrequested_unclean_and_unthrottled_ends_count() {
    let counted = [
        (Cause::Crash, Kind::Crash),
        (Cause::PaneClosed, Kind::Crash),
        (Cause::KilledByGtd, Kind::Crash),
        (Cause::ServerGone, Kind::Server),
        (Cause::Oom, Kind::Oom),
        (Cause::Unknown, Kind::Unknown),
    ];
    for (cause, expected) in counted {
        assert_eq!(kind(&black_box(&agent(0), cause)), Some(expected), "{cause:?}");
        let requested = Exit { requested: true, ..black_box(&agent(0), cause) };
        assert_eq!(kind(&requested), None, "{cause:?}, requested");
    }
    use Cause::{Clean, LaunchError, Person, ProviderLimit, Reboot, Requested};
    for cause in [Requested, Clean, LaunchError, ProviderLimit, Person, Reboot] {
        assert_eq!(kind(&black_box(&agent(0), cause)), None, "{cause:?}");
    }
}

#[test]
fn a_threshold_of_zero_switches_it_off() {
    let mut breaker = Breaker::default();
    let numbers = Numbers { threshold: 0, ..Numbers::default() };
    let deaths: Vec<(usize, f64)> = (0..50).map(|n| (n, 0.0)).collect();
    assert!(crashes(&mut breaker, &numbers, &deaths, 50).is_empty());
}

#[test]
fn causes_by_how_most_of_them_died() {
    use Kind::{Crash, Oom, Server, Unknown};
    let cases = [
        ([Server, Server, Server], IncidentCause::TmuxServer),
        ([Server, Server, Crash], IncidentCause::TmuxServer),
        ([Oom, Oom, Crash], IncidentCause::Oom),
        ([Crash, Crash, Crash], IncidentCause::Crashes),
        ([Crash, Crash, Unknown], IncidentCause::Crashes),
        ([Unknown, Unknown, Unknown], IncidentCause::Unknown),
        ([Server, Oom, Crash], IncidentCause::Unknown),
    ];
    for (kinds, cause) in cases {
        let mut breaker = Breaker::default();
        for (n, kind) in kinds.into_iter().enumerate() {
            breaker.died(death(n, 1.0, kind, 5), at(1.0), &Numbers::default());
        }
        assert_eq!(open(&breaker).cause, cause, "{kinds:?}");
    }
}

#[test]
fn deaths_right_after_a_resume_are_its() {
    for (resumed, told, cause) in [
        (100.0, 101.0, IncidentCause::Resume),
        (100.0, 129.0, IncidentCause::Resume),
        (60.0, 101.0, IncidentCause::Crashes),
    ] {
        let mut breaker = Breaker::default();
        breaker.resumed(at(resumed));
        crashes(&mut breaker, &Numbers::default(), &[(0, told), (1, told), (2, told)], 5);
        assert_eq!(open(&breaker).cause, cause, "{resumed} {told}");
    }
}

#[test]
fn deaths_under_one_limited_account_are_its() {
    let run = |limited: &str, accounts: [&str; 3]| {
        let mut breaker = Breaker::default();
        breaker.limited(Some(limited.to_owned()), at(0.0));
        for (n, account) in accounts.into_iter().enumerate() {
            let death = Death { account: Some(account.to_owned()), ..death(n, 1.0, Kind::Crash, 5) };
            breaker.died(death, at(1.0), &Numbers::default());
        }
        open(&breaker).cause
    };
    assert_eq!(run("work", ["work"; 3]), IncidentCause::Account);
    assert_eq!(run("work", ["work", "work", "home"]), IncidentCause::Crashes);
    assert_eq!(run("home", ["work"; 3]), IncidentCause::Crashes);
}

#[test]
fn deaths_of_a_closed_incident_count_for_no_other() {
    let mut breaker = Breaker::default();
    let numbers = Numbers::default();
    crashes(&mut breaker, &numbers, &[(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0)], 20);
    assert_eq!(open(&breaker).count, 4, "the fourth joined");
    breaker.put_away();
    assert!(breaker.open().is_none());
    // Two more within the same 30 seconds are two, not six.
    assert!(crashes(&mut breaker, &numbers, &[(4, 2.0), (5, 3.0)], 20).is_empty());
    assert_eq!(crashes(&mut breaker, &numbers, &[(6, 4.0)], 20), [(0, 3)]);
}

#[test]
fn deaths_long_ago_that_are_told_now_are_judged_by_their_dates() {
    let numbers = Numbers::default();
    let told = |seconds: [f64; 3]| {
        let mut breaker = Breaker::default();
        let now = at(5_000.0);
        for (n, s) in seconds.into_iter().enumerate() {
            breaker.died(Death { told_at: now, ..death(n, s, Kind::Crash, 5) }, now, &numbers);
        }
        breaker.open().is_some()
    };
    assert!(told([100.0, 110.0, 120.0]));
    assert!(told([120.0, 100.0, 110.0]), "in whatever order they are told");
    assert!(!told([100.0, 120.0, 140.0]));
}

#[test]
fn the_hold_doubles_from_the_canarys_death_up_to_its_most() {
    let numbers = Numbers { hold_max: Duration::from_secs(50), ..Numbers::default() };
    let mut breaker = Breaker::default();
    crashes(&mut breaker, &numbers, &[(0, 0.0), (1, 0.0), (2, 0.0)], 5);
    assert_eq!(breaker.held(&numbers).unwrap().until, at(10.0));
    let mut now = 10.0;
    for hold in [20.0, 40.0, 50.0, 50.0] {
        breaker.open.as_mut().unwrap().send(agent(0), at(now));
        assert_eq!(open(&breaker).state, IncidentState::Canary);
        // Others may die meanwhile; only the canary's death is an answer.
        breaker.died(death(4, now + 0.5, Kind::Crash, 5), at(now + 0.5), &numbers);
        assert_eq!(open(&breaker).state, IncidentState::Canary);
        breaker.died(death(0, now + 1.0, Kind::Crash, 5), at(now + 1.0), &numbers);
        now += 1.0 + hold;
        assert_eq!(breaker.held(&numbers).unwrap().until, at(now), "{hold}");
    }
}

#[test]
fn a_tmux_server_that_is_gone_holds_nobody_also_when_that_shows_late() {
    let numbers = Numbers::default();
    let mut breaker = Breaker::default();
    for n in 0..3 {
        breaker.died(death(n, 0.0, Kind::Server, 20), at(0.0), &numbers);
    }
    assert_eq!((open(&breaker).state, breaker.held(&numbers)), (IncidentState::Releasing, None));
    let mut breaker = Breaker::default();
    for n in 0..3 {
        breaker.died(death(n, 0.0, Kind::Unknown, 20), at(0.0), &numbers);
    }
    assert_eq!(open(&breaker).state, IncidentState::Holding);
    for n in 3..7 {
        breaker.died(death(n, 0.1, Kind::Server, 20), at(0.1), &numbers);
    }
    assert_eq!(
        (open(&breaker).state, open(&breaker).cause),
        (IncidentState::Releasing, IncidentCause::TmuxServer)
    );
}

#[test]
fn many_that_die_again_after_the_release_are_held_again() {
    let numbers = Numbers::default();
    let mut breaker = Breaker::default();
    crashes(&mut breaker, &numbers, &[(0, 0.0), (1, 0.0), (2, 0.0)], 5);
    breaker.open.as_mut().unwrap().release(at(12.0));
    crashes(&mut breaker, &numbers, &[(0, 13.0), (1, 13.0)], 5);
    assert_eq!(open(&breaker).state, IncidentState::Releasing);
    crashes(&mut breaker, &numbers, &[(2, 13.5)], 5);
    assert_eq!(breaker.held(&numbers).unwrap().until, at(33.5), "twice the first hold");
}

#[test]
fn a_record_outlives_the_daemon_and_no_deadline_moves_out_of_reach() {
    let numbers = Numbers::default();
    let mut breaker = Breaker::default();
    crashes(&mut breaker, &numbers, &[(0, 0.0), (1, 0.0), (2, 0.0)], 5);
    let kept = serde_json::to_value(breaker.open().unwrap()).unwrap();
    let recalled = |now: Timestamp| {
        let mut next = Breaker::default();
        next.recall([serde_json::from_value(kept.clone()).unwrap()], now, &numbers);
        next.held(&numbers).unwrap().until
    };
    assert_eq!(recalled(at(3.0)), at(10.0));
    // The wall clock was set back by a day meanwhile.
    let back = at(0.0).checked_sub(Duration::from_secs(86_400)).unwrap();
    assert_eq!(recalled(back), after(back, numbers.hold_max));
}

#[test]
fn closed_records_are_kept_up_to_a_number() {
    let numbers = Numbers::default();
    let mut breaker = Breaker::default();
    let mut gone = Vec::new();
    for n in 0..KEPT + 5 {
        let when = n as f64 * 100.0;
        crashes(&mut breaker, &numbers, &[(0, when), (1, when), (2, when)], 5);
        gone.extend(breaker.put_away());
    }
    assert_eq!((breaker.past().count(), gone.len()), (KEPT, 5));
    let ids: BTreeSet<&String> = breaker.past().map(|record| &record.id).chain(&gone).collect();
    assert_eq!(ids.len(), KEPT + 5, "no id is given twice");
}

proptest! {
    /// Against the definition, looked up in all windows there are.
    #[test]
    fn an_incident_opens_exactly_when_enough_agents_lie_in_one_window(
        deaths in proptest::collection::vec((0usize..6, 0u32..400), 1..25),
        threshold in 1u32..5,
        share in prop_oneof![Just(0.0), Just(0.1), Just(0.5)],
        running in 1usize..12,
    ) {
        let numbers = Numbers { threshold, share, ..Numbers::default() };
        let mut breaker = Breaker::default();
        let mut told: Vec<(usize, f64)> = Vec::new();
        let mut times: Vec<(usize, f64)> = deaths.iter().map(|(who, tenths)| (*who, f64::from(*tenths) / 4.0)).collect();
        times.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (who, seconds) in times {
            told.push((who, seconds));
            let heard = breaker.died(death(who, seconds, Kind::Crash, running), at(seconds), &numbers);
            let mut latest: BTreeMap<usize, f64> = BTreeMap::new();
            for (who, seconds) in &told {
                latest.insert(*who, *seconds);
            }
            let needed = numbers.needed(running);
            let enough = latest.values().any(|first| {
                let inside = latest.values().filter(|t| **t >= *first && **t - *first <= 30.0).count();
                inside >= needed && seconds >= *first && seconds - first <= 30.0
            });
            match heard {
                Heard::Opened(members) => {
                    prop_assert!(enough);
                    prop_assert!(members.len() >= needed);
                    let agents: BTreeSet<&Address> = members.iter().map(|death| &death.agent).collect();
                    prop_assert_eq!(agents.len(), members.len());
                    breaker.put_away();
                    told.clear();
                }
                Heard::Alone => prop_assert!(!enough),
                Heard::Joined => prop_assert!(false, "nothing is open"),
            }
        }
    }

    /// However canaries die, no hold is longer than the longest, and none shorter than the first.
    #[test]
    fn holds_stay_within_their_bounds(deaths in proptest::collection::vec(0u32..10_000, 0..20)) {
        let numbers = Numbers::default();
        let mut breaker = Breaker::default();
        crashes(&mut breaker, &numbers, &[(0, 0.0), (1, 0.0), (2, 0.0)], 5);
        let mut now = 10.0;
        for gap in deaths {
            now += f64::from(gap);
            breaker.open.as_mut().unwrap().send(agent(0), at(now));
            breaker.died(death(0, now, Kind::Crash, 5), at(now), &numbers);
            let hold = since(at(now), breaker.held(&numbers).unwrap().until);
            prop_assert!(hold >= numbers.hold && hold <= numbers.hold_max);
        }
    }
}
