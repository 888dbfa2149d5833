//! The whole supervisor against a made-up world: seeded schedules of deaths, failed launches, requests, parked
//! rigs, a tmux that does not answer, and crashes of the daemon at every point between a commit and its effect.
//!
//! After every step: never two processes of one agent, nothing started that should not be. At the end, when
//! the world is quiet: everything that should run does, whatever happened before.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking; the lints exempt only functions marked as tests"
)]

mod cases;
mod clocks;
mod daemons;
mod delayed;
mod drains;
mod incidents;
mod one_world;
mod pauses;
mod policy;
mod rigs;
mod schedule;
mod seams;
mod workers;
mod world;

use world::*;

#[test]
fn whatever_happens_there_are_never_two_and_in_the_end_everything_is_as_it_should_be() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            let pause =
                [0, 1, 10, 300, 5_000, 90_000, 3_600_000][usize::try_from(world.dice.roll(7)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            world.happen();
        }
        world.calm_down();
        world.check_quiet();
        seen.append(&mut world.seen);
    }
    for state in State::ALL {
        // Nothing of this world outlives its shim, and nobody freezes anything.
        let never = matches!(state, State::Lingering | State::Paused);
        assert_eq!(seen.contains(state.as_str()), !never, "{state} was seen: {seen:?}");
    }
    for cause in
        ["person with evidence", "provider_limit with evidence", "unknown with evidence", "clean", "crash"]
    {
        assert!(seen.contains(cause), "{cause} was seen: {seen:?}");
    }
}

#[test]
fn a_stop_outlives_the_daemon() {
    let mut world = World::new(7);
    world.pass(after(world.now, Duration::from_secs(600)));
    let agent = Address::Witness(RigName::new("a").unwrap());
    let ask = Ask { by: "person".into(), reason: Some("enough".into()), wait: Wait::ToTheEnd };
    world.ask(Request::Stop { agent: agent.clone(), how: How::default(), ask }, true);
    world.pass(after(world.now, Duration::from_secs(60)));
    world.crash();
    world.pass(after(world.now, Duration::from_secs(3_600)));
    let machine = &world.core.agents()[&agent];
    assert_eq!((machine.state(), machine.wish.intent), (State::Stopped, Intent::Stopped));
    assert_eq!(machine.wish.reason.as_deref(), Some("enough"));
}
