//! Waiting for an agent in the made-up world: told in the step in which it is so, or at the deadline, once.

use super::*;
use gtd::supervisor::waiting::{Awaited, WAITERS};
use gtd_proto::wait::WaitFor;

fn wait(agent: &Address, wanted: WaitFor, until: Option<Timestamp>) -> Request {
    let wait = until.map_or(Wait::ToTheEnd, Wait::Until);
    Request::Wait { agent: Some(agent.clone()), awaited: Awaited::Reached(wanted), wait }
}

/// Asks, and returns the ticket.
fn begin(world: &mut World, request: Request) -> Ticket {
    world.ask(request, true);
    Ticket(world.tickets)
}

#[test]
fn whoever_waits_is_told_by_the_deadline_whatever_happens() {
    let mut begun = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        let mut waits = Vec::new();
        for _ in 0..80 {
            world.happen();
            let wanted = match world.dice.roll(6) {
                0 => WaitFor::Ready,
                1 => WaitFor::Idle,
                2 => WaitFor::Gone,
                n => WaitFor::State(State::ALL[usize::try_from(n * 2).unwrap()]),
            };
            let agent = world.someone();
            let until = after(world.now, Duration::from_secs(world.dice.roll(900)));
            waits.push((begin(&mut world, wait(&agent, wanted, Some(until))), until));
            let pause = Duration::from_secs(world.dice.roll(120));
            world.pass(after(world.now, pause));
            let late = waits
                .iter()
                .filter(|(ticket, until)| *until < world.now && world.unanswered.contains(ticket));
            assert_eq!(late.count(), 0, "{}", world.story());
            begun += 1;
        }
    }
    assert_eq!(begun, 4_800);
}

#[test]
fn a_wait_ends_in_the_step_in_which_it_is_so() {
    let mut world = running(3);
    let agent = Address::Witness(RigName::new("a").unwrap());
    let ready = begin(&mut world, wait(&agent, WaitFor::Ready, None));
    assert!(!world.unanswered.contains(&ready), "it is so already");
    let stopping = begin(&mut world, wait(&agent, WaitFor::State(State::Stopping), None));
    let gone = begin(&mut world, wait(&agent, WaitFor::Gone, None));
    let never = begin(&mut world, wait(&agent, WaitFor::State(State::Held), None));
    assert!(world.unanswered.contains(&stopping));
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::No };
    world.ask(Request::Stop { agent: agent.clone(), how: How { now: true, force: false }, ask }, true);
    assert!(!world.unanswered.contains(&stopping) && world.unanswered.contains(&gone));
    world.pass(after(world.now, Duration::from_secs(60)));
    assert!(!world.unanswered.contains(&gone), "{}", world.story());
    assert!(world.unanswered.contains(&never));
    world.core.forget(&BTreeSet::from([never]));
    assert_eq!(world.core.next_deadline().filter(|at| *at < after(world.now, Duration::from_secs(1))), None);
}

#[test]
fn too_many_who_wait_are_turned_away_and_changes_are_not() {
    let mut world = running(4);
    let agent = Address::Witness(RigName::new("a").unwrap());
    let first = world.tickets + 1;
    for _ in 0..WAITERS {
        let ticket = begin(&mut world, wait(&agent, WaitFor::State(State::Held), None));
        assert!(world.unanswered.contains(&ticket));
    }
    let surplus = begin(&mut world, wait(&agent, WaitFor::State(State::Held), None));
    assert!(!world.unanswered.contains(&surplus));
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
    let stop =
        begin(&mut world, Request::Stop { agent: agent.clone(), how: How { now: true, force: true }, ask });
    world.pass(after(world.now, Duration::from_secs(60)));
    assert!(!world.unanswered.contains(&stop));
    world.core.forget(&(first..first + 10).map(Ticket).collect());
    let late = begin(&mut world, wait(&agent, WaitFor::State(State::Held), None));
    assert!(world.unanswered.contains(&late), "ten have left");
}
