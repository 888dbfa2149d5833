//! The limits by themselves; what agents do under them is told in the simulation.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn short(resource: Resource, limit: u64, value: u64) -> Option<Shortage> {
    Some(Shortage::Machine { resource, limit, value })
}

#[test]
fn a_machine_is_short_of_what_is_below_its_bound_and_of_nothing_that_is_not_known() {
    let bounds = Bounds { max_agents: 3, min_free_memory: 100, min_free_disk: 50 };
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
