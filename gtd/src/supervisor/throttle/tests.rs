//! The limits by themselves; what agents do under them is told in the simulation.

use std::collections::BTreeMap;

use gtd_proto::{InstanceId, RigName};
use proptest::prelude::*;

use super::super::planner::{Facts, Mode, RigFacts, Settings};
use super::super::policy::Numbers;
use super::super::rigs::{FileState, Standing};
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn short(resource: Resource, limit: u64, value: u64) -> Option<Shortage> {
    Some(Shortage::Machine { resource, limit, value })
}

#[test]
fn a_machine_is_short_of_what_is_below_its_bound_and_of_nothing_that_is_not_known() {
    let bounds = Bounds { max_agents: 3, min_free_memory: 100, min_free_disk: 50, max_per_rig: 0 };
    let none = Bounds::default();
    // running, free memory, free disk, counted: short of
    let cases = [
        (2, Some(100), Some(50), false, None),
        (3, Some(100), Some(50), true, None),
        (3, Some(100), Some(50), false, short(Resource::Agents, 3, 3)),
        (9, Some(0), Some(0), true, short(Resource::Agents, 3, 8)),
        (0, Some(99), Some(49), false, short(Resource::Memory, 100, 99)),
        (0, Some(100), Some(0), false, short(Resource::Disk, 50, 0)),
        (0, None, Some(49), false, short(Resource::Disk, 50, 49)),
        (0, None, None, false, None),
    ];
    for (running, free_memory, free_disk, counted, expected) in cases {
        let figures = Figures { free_memory, free_disk };
        let limits = Limits { figures, running, ..Limits::default() };
        assert_eq!(limits.machine(&bounds, counted), expected, "{limits:?}");
        assert_eq!(limits.machine(&none, counted), None, "0 is no bound");
    }
}

#[test]
fn an_accounts_limit_is_the_longest_that_was_told_and_ends_by_itself_or_is_lifted() {
    let mut limits = Limits::default();
    limits.limit_account("work", at(60));
    limits.limit_account("work", at(30));
    assert_eq!(limits.account("work", at(0)), Some(at(60)));
    assert_eq!(limits.account("home", at(0)), None);
    assert_eq!(limits.account("work", at(60)), None, "over");
    limits.forget(at(60));
    assert!(limits.accounts.is_empty());
    limits.limit_account("work", at(90));
    assert!(limits.lift_account("work") && !limits.lift_account("work"));
}

#[test]
fn those_who_waited_for_the_same_go_one_after_the_other() {
    let mut limits = Limits::default();
    let turns: Vec<_> = (0..4).map(|_| limits.take_turn("memory", at(0))).collect();
    assert_eq!(turns, [at(0), at(3), at(6), at(9)]);
    assert_eq!(limits.take_turn("account work", at(0)), at(0));
    limits.forget(at(12));
    assert!(limits.turns.is_empty());
    assert_eq!(limits.take_turn("memory", at(100)), at(100));
}

#[test]
fn an_error_names_what_is_short_with_its_figures() {
    let agent: Address = "a/witness".parse().unwrap();
    let error =
        Shortage::Machine { resource: Resource::Memory, limit: 512 << 20, value: 100 << 20 }.error(&agent);
    assert_eq!((error.code, error.kind), (1019, ErrorKind::Throttled));
    assert_eq!(
        error.message,
        "a/witness may not be started now: 100 MiB of memory are free, and 512 MiB must be"
    );
    assert_eq!(
        serde_json::json!(error.data),
        json!({"resource": "memory", "limit": 512 << 20, "value": 100 << 20})
    );
    let error = Shortage::Account { account: "work".to_owned(), until: at(0) }.error(&agent);
    assert_eq!(serde_json::json!(error.data), json!({"account": "work", "until": at(0)}));
    assert!(
        error
            .message
            .contains("account work has reached a limit of its provider, until 2027-01-15T08:00:00Z"),
        "{}",
        error.message
    );
}

/// Everything that may bar a start.
#[derive(Debug, Clone)]
struct Bars {
    held: bool,
    observing: bool,
    known: bool,
    registered: bool,
    barred: bool,
    off: bool,
    tmux: bool,
    running: u32,
    free_memory: Option<u64>,
    limited: bool,
    passes: bool,
}

impl Bars {
    /// What each asker is told: whether they may, else the reason.
    fn ask(&self, asker: Asker) -> Result<(), String> {
        let rig = RigName::new("a").unwrap();
        let facts = RigFacts {
            file: FileState::default(),
            standing: Standing { barred: self.barred.then(|| "parked".to_owned()), ..Standing::default() },
            witness: if self.off { Mode::Off("it is off".to_owned()) } else { Mode::Always },
            refinery: Mode::Always,
            path: String::new(),
            prefix: String::new(),
            polecats: Vec::new(),
            crew: Vec::new(),
        };
        let rigs: BTreeMap<_, _> = self.registered.then(|| (rig.clone(), facts)).into_iter().collect();
        let facts = Facts { known: self.known, rigs, ..Facts::default() };
        let bounds = Bounds { max_agents: 2, min_free_memory: 100, min_free_disk: 0, max_per_rig: 0 };
        let settings = Settings {
            numbers: Numbers::default(),
            mass_death: crate::supervisor::incident::Numbers::default(),
            start_timeout: RELEASE_GAP,
            drain: RELEASE_GAP,
            bounds,
        };
        let figures = Figures { free_memory: self.free_memory, free_disk: None };
        let mut limits = Limits { figures, running: self.running, ..Limits::default() };
        if self.limited {
            limits.limit_account("work", at(60));
        }
        let mut machine = Machine::new(Address::Witness(rig), at(0));
        machine.account = Some("work".to_owned());
        machine.passes = self.passes;
        let situation = Situation {
            hooks: &crate::supervisor::hooks::Hooks::default(),
            questions: &mut 0,
            now: at(0),
            settings: &settings,
            facts: &facts,
            held: self.held,
            observing: self.observing,
            tmux: self.tmux.then_some("tmux does not answer"),
            limits: &mut limits,
            rigs: &BTreeMap::new(),
            pauses: &crate::supervisor::pauses::Pauses::default(),
            closed: &BTreeMap::new(),
            looking: false,
            incident: None,
            new_instance: &mut InstanceId::generate,
            chance: &mut || 0.0,
        };
        machine.may_start(&situation, asker).map_err(|blocked| blocked.reason)
    }
}

fn bars() -> impl Strategy<Value = Bars> {
    let rarely = || proptest::bool::weighted(0.15);
    let first = (rarely(), rarely(), proptest::bool::weighted(0.9), proptest::bool::weighted(0.9), rarely());
    let second =
        (any::<bool>(), rarely(), 0u32..4, proptest::option::of(50u64..200), any::<bool>(), any::<bool>());
    (first, second).prop_map(
        |(
            (held, observing, known, registered, barred),
            (off, tmux, running, free_memory, limited, passes),
        )| Bars {
            held,
            observing,
            known,
            registered,
            barred,
            off,
            tmux,
            running,
            free_memory,
            limited,
            passes,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    /// A start by policy, which nobody asked for, is the strongest thing and has every guard; another agent's
    /// request has fewer, and a person's the fewest, each a part of the ones before.
    #[test]
    fn whatever_bars_a_person_bars_a_program_and_whatever_bars_a_program_bars_policy(bars in bars()) {
        let [policy, program, person] =
            [Asker::Policy, Asker::Program, Asker::Person].map(|asker| bars.ask(asker));
        prop_assert!(policy.is_err() || program.is_ok(), "{policy:?} {program:?}");
        prop_assert!(program.is_err() || person.is_ok(), "{program:?} {person:?}");
        // Exactly these bar a person, and no person is let through them.
        let short = bars.running >= 2 || bars.free_memory.is_some_and(|free| free < 100);
        let nobody = bars.held || bars.observing || !bars.known || !bars.registered || bars.barred || bars.tmux || short;
        prop_assert_eq!(person.is_err(), nobody);
        let limited = bars.limited && !bars.passes;
        prop_assert_eq!(program.is_err(), nobody || limited);
        // What a person asked for is no matter of policy, also when it is brought about a moment later.
        prop_assert_eq!(policy.is_err(), nobody || limited || (bars.off && !bars.passes));
    }

    /// However often and in whatever order: no bar is for ever, and turns are never given twice.
    #[test]
    fn limits_end_and_turns_are_apart(
        steps in proptest::collection::vec((0i64..100, 0i64..500, any::<bool>()), 1..50),
    ) {
        let mut limits = Limits::default();
        let (mut now, mut latest, mut last) = (0, 0, None);
        for (gap, length, lift) in steps {
            now += gap;
            limits.forget(at(now));
            limits.limit_account("work", at(now + length));
            latest = latest.max(now + length);
            if lift {
                limits.lift_account("work");
                latest = now;
            }
            prop_assert_eq!(limits.account("work", at(now)), (latest > now).then(|| at(latest)));
            prop_assert_eq!(limits.account("work", at(latest)), None);
            let turn = limits.take_turn("work", at(now));
            prop_assert!(turn >= at(now));
            prop_assert!(last.is_none_or(|last| turn >= after(last, RELEASE_GAP)));
            last = Some(turn);
        }
    }
}
