//! Single stories in the same world, each of something that went wrong once.

mod waits;

use super::*;
use gtd::supervisor::reports::Said;

/// A town in which everything runs.
pub fn running(seed: u64) -> World {
    let mut world = World::new(seed);
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
    // A launch may fail, as everywhere in this world.
    for _ in 0..20 {
        for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
            world.ask(Request::Start { agent, overrides: None, ask: ask.clone() }, true);
        }
        world.pass(after(world.now, Duration::from_secs(20)));
    }
    assert!(world.core.agents().values().all(|machine| machine.phase == Phase::Running));
    world
}

#[test]
fn up_that_comes_while_the_town_goes_down_brings_everything_back() {
    for seed in 0..20 {
        let mut world = running(seed);
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        world.ask(Request::TownStop { how: How::default(), ask: ask.clone() }, true);
        world.ask(Request::TownStart { ask }, true);
        world.pass(after(world.now, Duration::from_secs(170)));
        let waits = |machine: &Machine| {
            matches!(machine.phase, Phase::Running | Phase::Waiting { .. } | Phase::Broken)
        };
        assert!(world.core.agents().values().all(waits), "before any round\n{}", world.story());
        assert!(world.unanswered.is_empty());
    }
}

#[test]
fn a_stop_of_what_died_and_is_not_gone_reaches_its_task() {
    let mut world = running(1);
    let agent = Address::Witness(RigName::new("a").unwrap());
    let instance = world.core.agents()[&agent].current.as_ref().unwrap().instance.clone();
    let what = ending(EndedBy::Agent, world.now);
    world.core.step(Input::Report(Report { agent: agent.clone(), instance, what }), world.now);
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
    let request = Box::new(Request::Stop { agent, how: How::default(), ask });
    let turn = world.core.step(Input::Request { ticket: Ticket(1), request }, world.now);
    assert!(
        turn.orders.iter().any(|(_, order)| matches!(order, Order::End { .. })),
        "its shim may hang: {:?}",
        turn.orders
    );
}

#[test]
fn a_wall_clock_that_was_set_moves_no_back_off() {
    for (step, back) in [(86_400, false), (86_400, true)] {
        let mut world = running(2);
        let agent = Address::Witness(RigName::new("a").unwrap());
        let mut wait = Duration::ZERO;
        for _ in 0..3 {
            let machine = &world.core.agents()[&agent];
            let instance = machine.current.as_ref().unwrap().instance.clone();
            let step = Duration::from_secs(step);
            let wall = if back { world.now.checked_sub(step).unwrap() } else { after(world.now, step) };
            let What::Ended(mut end) = ending(EndedBy::Agent, wall) else { panic!() };
            end.started_at = Some(wall.checked_sub(Duration::from_secs(1)).unwrap());
            end.detect_ms = Some(1.0);
            for what in [What::Ended(end), What::Gone { survivors: Vec::new() }] {
                let report = Report { agent: agent.clone(), instance: instance.clone(), what };
                world.step(Input::Report(report), true);
            }
            for process in world.processes.values_mut().filter(|process| process.agent == agent) {
                process.alive = false;
            }
            let died = world.now;
            for _ in 0..100 {
                if world.core.agents()[&agent].phase == Phase::Running {
                    break;
                }
                world.pass(after(world.now, Duration::from_millis(500)));
            }
            wait = world.now.duration_since(died).try_into().unwrap();
        }
        // The third failure in a row waits about two seconds.
        assert!(wait > Duration::from_secs(1), "set back: {wait:?}");
        assert!(wait < Duration::from_secs(20), "set forward: {wait:?}");
    }
}

#[test]
fn a_life_of_which_the_beginning_is_not_on_record_is_as_long_as_it_was() {
    for back in [false, true] {
        let mut world = running(2);
        let agent = Address::Witness(RigName::new("a").unwrap());
        let instance = world.core.agents()[&agent].current.as_ref().unwrap().instance.clone();
        world.pass(after(world.now, Duration::from_secs(60)));
        let lived =
            Duration::try_from(world.now.duration_since(world.core.agents()[&agent].born_at().unwrap()))
                .unwrap();
        let day = Duration::from_secs(86_400);
        let wall = if back { world.now.checked_sub(day).unwrap() } else { after(world.now, day) };
        let What::Ended(end) = ending(EndedBy::Agent, wall) else { panic!() };
        let report = Report { agent: agent.clone(), instance: instance.clone(), what: What::Ended(end) };
        world.step(Input::Report(report), true);
        let exit = &world.kept.exits[&instance];
        let uptime = Duration::from_millis(exit.uptime_ms);
        assert_eq!((uptime.as_secs(), exit.ended_at), (lived.as_secs(), wall));
        assert_eq!(exit.ended_at.duration_since(exit.started_at).unsigned_abs().as_secs(), uptime.as_secs());
    }
}

#[test]
fn an_answer_is_given_at_its_deadline_with_how_far_it_got() {
    let mut world = World::new(3);
    world.pass(after(world.now, Duration::from_secs(600)));
    let agent = Address::Witness(RigName::new("a").unwrap());
    let until = after(world.now, Duration::from_millis(1));
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::Until(until) };
    world.tickets += 1;
    let request = Request::Restart { agent, overrides: None, how: How { now: true, force: false }, ask };
    let turn =
        world.core.step(Input::Request { ticket: Ticket(9_999), request: Box::new(request) }, world.now);
    assert!(turn.answers.is_empty());
    let turn = world.core.step(Input::Time, until);
    let Some((Ticket(9_999), Answer::Failed(error))) = turn.answers.into_iter().next() else {
        panic!("no answer")
    };
    assert_eq!(error.code, 1013);
    assert_eq!(error.data["reached"], "stopping");
}

/// A restart that somebody was told is under way is made, also by the daemon after the one that was killed before it
/// had sent anything.
#[test]
fn a_restart_outlives_the_daemon_that_began_it() {
    let mut running_again = 0;
    for seed in 0..20 {
        let mut world = running(seed);
        let agent = Address::Witness(RigName::new("a").unwrap());
        let of = |world: &World| world.core.agents()[&agent].last_instance.clone().unwrap();
        let before = of(&world);
        if seed % 2 == 0 {
            let said = Said::of(ReportState::Working);
            world.ask(Request::Said { instance: before.clone(), said }, true);
        }
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        let restart = Request::Restart { agent: agent.clone(), overrides: None, how: How::default(), ask };
        world.ask(restart, false);
        // Nothing of it was done, and its daemon dies once more before it finds anything.
        world.crash();
        world.crash();
        world.pass(after(world.now, Duration::from_secs(60)));
        world.let_there_be_light();
        world.pass(after(world.now, Duration::from_secs(60)));
        let anew = of(&world);
        assert_ne!(anew, before, "{}", world.story());
        // A launch may fail, as everywhere in this world.
        if world.core.agents()[&agent].state() == State::Running {
            running_again += 1;
            world.crash();
            world.pass(after(world.now, Duration::from_secs(60)));
            assert_eq!(of(&world), anew, "once\n{}", world.story());
        }
    }
    assert!(running_again > 5, "{running_again}");
}
