//! Stories of two parts that meet: an incident and a stop of the town, a hold and a restart by an agent, a rig
//! that is freed and a machine that is short of memory.

use super::cases::running;
use super::world::*;
use gtd::supervisor::rig_requests::RigAsk;
use gtd_proto::IncidentState;

const MINUTE: Duration = Duration::from_secs(60);

fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

fn rig() -> RigName {
    RigName::new("a").unwrap()
}

fn witness() -> Address {
    Address::Witness(rig())
}

fn pass(world: &mut World, seconds: f64) {
    world.pass(after(world.now, Duration::from_secs_f64(seconds)));
}

fn alive(world: &World) -> BTreeSet<Address> {
    world.processes.values().filter(|process| process.alive).map(|process| process.agent.clone()).collect()
}

fn phase<'a>(world: &'a World, agent: &Address) -> &'a Phase {
    &world.core.agents()[agent].phase
}

fn instance(world: &World, agent: &Address) -> InstanceId {
    world.core.agents()[agent].current.as_ref().unwrap().instance.clone()
}

/// A town in which everything runs and nothing is held against anybody; launches succeed.
fn quiet(settings: Settings) -> World {
    let mut world = World::with(3, settings);
    world.sure = true;
    for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
        world.ask(Request::Start { agent, overrides: None, ask: by("person") }, true);
    }
    pass(&mut world, 20.0);
    for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
        world.ask(Request::Reset { agent, ask: by("person") }, true);
    }
    assert_eq!(alive(&world).len(), 6);
    world
}

fn crash_agents(world: &mut World, agents: &[Address]) {
    for agent in agents {
        let id = instance(world, agent);
        world.die(&id, EndedBy::Agent, world.now);
    }
}

/// Three others than the witness of `a` have died together: restarts are held.
fn incident(world: &mut World) -> Vec<Address> {
    let others: Vec<Address> =
        world.core.agents().keys().filter(|agent| agent.rig() != Some(&rig())).take(3).cloned().collect();
    crash_agents(world, &others);
    pass(world, 0.2);
    assert_eq!(world.incident().unwrap().state, IncidentState::Holding);
    others
}

#[test]
fn an_agent_that_restarts_another_passes_no_hold_and_a_person_does() {
    for (who, passes) in [("mayor", false), ("person", true)] {
        let mut world = quiet(settings());
        incident(&mut world);
        let how = How { now: true, force: false };
        world.ask(Request::Restart { agent: witness(), overrides: None, how, ask: by(who) }, true);
        pass(&mut world, 3.0);
        assert_eq!(alive(&world).contains(&witness()), passes, "{who}\n{}", world.story());
        pass(&mut world, 15.0);
        assert_eq!(alive(&world).len(), 6, "{who}\n{}", world.story());
        assert!(world.unanswered.is_empty(), "{who}");
    }
}

#[test]
fn what_is_ended_because_its_pane_is_gone_waits_for_the_hold_like_all() {
    let mut world = quiet(settings());
    incident(&mut world);
    world.step(Input::PaneGone(vec![witness()]), true);
    pass(&mut world, 3.0);
    assert!(!alive(&world).contains(&witness()), "\n{}", world.story());
    pass(&mut world, 15.0);
    assert_eq!(alive(&world).len(), 6);
}

#[test]
fn a_reset_by_an_agent_passes_no_hold() {
    let mut world = quiet(settings());
    let held = incident(&mut world);
    world.ask(Request::Reset { agent: held[0].clone(), ask: by("deacon") }, true);
    pass(&mut world, 3.0);
    assert_eq!(alive(&world).len(), 3, "\n{}", world.story());
    pass(&mut world, 15.0);
    assert_eq!(alive(&world).len(), 6);
}

#[test]
fn a_reset_forgives_also_what_was_decided_a_moment_ago() {
    let mut world = quiet(settings());
    for _ in 0..5 {
        for _ in 0..600 {
            if *phase(&world, &witness()) == Phase::Running {
                break;
            }
            pass(&mut world, 0.1);
        }
        crash_agents(&mut world, &[witness()]);
        world.pass(after(world.now, Duration::from_millis(1)));
    }
    assert!(matches!(phase(&world, &witness()), Phase::Dead { .. }), "\n{}", world.story());
    world.ask(Request::Reset { agent: witness(), ask: by("person") }, true);
    pass(&mut world, 1.0);
    assert_eq!(*phase(&world, &witness()), Phase::Running, "\n{}", world.story());
}

#[test]
fn a_start_by_an_agent_of_what_a_person_ended_comes_with_the_end_of_the_hold() {
    for what in ["start", "reset"] {
        let mut world = quiet(settings());
        let mut end = plain_end(EndedBy::Agent, world.now);
        (end.code, end.signal, end.client_activity) = (Some(0), None, Some(world.now));
        let id = instance(&world, &witness());
        world.die_so(&id, end, world.now);
        pass(&mut world, 1.0);
        assert_eq!(world.core.agents()[&witness()].state(), State::Held);
        incident(&mut world);
        let request = match what {
            "start" => Request::Start { agent: witness(), overrides: None, ask: by("mayor") },
            _ => Request::Reset { agent: witness(), ask: by("mayor") },
        };
        world.ask(request, true);
        pass(&mut world, 20.0);
        assert_eq!(alive(&world).len(), 6, "{what}: {:?}\n{}", phase(&world, &witness()), world.story());
        assert!(world.unanswered.is_empty());
    }
}

#[test]
fn down_and_up_in_an_incident_forgive_no_back_off() {
    let mut settings = settings();
    (settings.numbers.burst, settings.numbers.base) = (0, 4 * MINUTE);
    let mut world = quiet(settings);
    for _ in 0..2 {
        crash_agents(&mut world, &[witness()]);
        pass(&mut world, 5.0);
    }
    let Phase::Waiting { until, why: Pause::Backoff } = *phase(&world, &witness()) else { panic!() };
    assert!(until > after(world.now, 2 * MINUTE));
    incident(&mut world);
    assert!(matches!(phase(&world, &witness()), Phase::Waiting { why: Pause::Incident, .. }));
    world.ask(Request::TownStop { how: How::default(), ask: by("person") }, true);
    pass(&mut world, 1.0);
    world.ask(Request::TownStart { ask: by("person") }, true);
    pass(&mut world, 60.0);
    assert!(!alive(&world).contains(&witness()), "\n{}", world.story());
    world.pass(after(until, MINUTE));
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
}

#[test]
fn one_that_goes_first_and_cannot_be_told_about_holds_nobody_for_ever() {
    let mut world = quiet(settings());
    incident(&mut world);
    pass(&mut world, 10.1);
    let open = world.incident().unwrap();
    let canary = open.canary.filter(|_| open.state == IncidentState::Canary).expect("one goes first");
    world.crash();
    // Its task cannot tell what became of it.
    let id = instance(&world, &canary);
    world.due.retain(|(_, report)| report.instance != id);
    let what = What::Unknown { why: "made up".into() };
    world.due.push((world.now, Report { agent: canary.clone(), instance: id, what }));
    world.pass(after(world.now, 5 * MINUTE));
    assert_eq!(world.core.agents()[&canary].state(), State::Unknown);
    assert_eq!(alive(&world).len(), 6, "the others are back\n{}", world.story());
    assert!(world.incident().is_none());
}

#[test]
fn launches_that_come_to_nothing_release_nobody() {
    let mut world = quiet(settings());
    incident(&mut world);
    world.failing = true;
    pass(&mut world, 60.0);
    assert!(world.incident().is_some(), "nobody has shown that agents can live\n{}", world.story());
    world.failing = false;
    for _ in 0..100 {
        if alive(&world).len() > 3 {
            break;
        }
        pass(&mut world, 0.1);
    }
    pass(&mut world, 1.0);
    assert_eq!(alive(&world).len(), 4, "one goes first\n{}", world.story());
    pass(&mut world, 8.0);
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
    assert!(world.incident().is_none());
}

fn off(world: &mut World) {
    world.facts.rigs.get_mut(&rig()).unwrap().witness = Mode::Off("made up".into());
    let facts = world.facts.clone();
    world.step(Input::Facts(facts), true);
}

#[test]
fn what_policy_leaves_alone_comes_back_from_the_restart_that_was_asked_for() {
    for who in ["person", "deacon"] {
        let mut world = quiet(settings());
        off(&mut world);
        let before = instance(&world, &witness());
        let how = How { now: true, force: false };
        world.ask(Request::Restart { agent: witness(), overrides: None, how, ask: by(who) }, true);
        pass(&mut world, 5.0);
        assert_eq!(*phase(&world, &witness()), Phase::Running, "{who}\n{}", world.story());
        assert_ne!(instance(&world, &witness()), before);
        assert!(world.unanswered.is_empty());
    }
}

#[test]
fn a_rig_that_is_freed_starts_nothing_for_which_there_is_no_room_or_that_is_held() {
    for held in [false, true] {
        let mut world = quiet(settings());
        off(&mut world);
        // Somebody's wish, not policy's.
        world.ask(Request::Start { agent: witness(), overrides: None, ask: by("person") }, true);
        world.ask(Request::Rig { rig: rig(), what: RigAsk::Park, ask: by("person") }, true);
        pass(&mut world, 5.0);
        assert!(!alive(&world).contains(&witness()));
        if held {
            incident(&mut world);
        } else {
            world.figures.free_memory = Some(50);
            world.step(Input::Figures(world.figures), true);
        }
        // The world refuses launches for which there is no memory, and those that are held.
        world.ask(Request::Rig { rig: rig(), what: RigAsk::Unpark, ask: by("person") }, true);
        pass(&mut world, 3.0);
        assert!(!alive(&world).contains(&witness()), "held: {held}\n{}", world.story());
    }
}

#[test]
fn a_hold_after_a_mass_death_is_not_used_up_while_only_looking_is_allowed() {
    let mut world = running(3);
    world.sure = true;
    for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
        world.ask(Request::Reset { agent, ask: by("person") }, true);
    }
    incident(&mut world);
    // The ledger was rebuilt: the sessions are looked at first, and that takes longer than the hold.
    world.unsurveyed = true;
    world.crash();
    pass(&mut world, 30.0);
    assert!(world.incident().is_some(), "\n{}", world.story());
    world.step(Input::Found(Vec::new()), true);
    pass(&mut world, 1.0);
    assert_eq!(alive(&world).len(), 4, "one goes first\n{}", world.story());
    pass(&mut world, 5.0);
    assert_eq!(alive(&world).len(), 6);
}

#[test]
fn a_start_of_what_died_a_moment_ago_outlives_the_daemon() {
    let mut world = quiet(settings());
    let mut end = plain_end(EndedBy::Agent, world.now);
    (end.code, end.signal, end.client_activity) = (Some(0), None, Some(world.now));
    let id = instance(&world, &witness());
    world.die_so(&id, end, world.now);
    world.pass(after(world.now, Duration::from_millis(1)));
    assert!(matches!(phase(&world, &witness()), Phase::Dead { .. }));
    world.ask(Request::Start { agent: witness(), overrides: None, ask: by("person") }, false);
    world.crash();
    pass(&mut world, 5.0);
    assert_eq!(*phase(&world, &witness()), Phase::Running, "\n{}", world.story());
}

#[test]
fn while_nobody_knows_what_should_run_nothing_is_ended_for_its_pane() {
    let mut world = quiet(settings());
    let before = instance(&world, &witness());
    world.kept.facts.insert(gtd::supervisor::core::OBSERVING.to_owned(), true.into());
    world.crash();
    pass(&mut world, 5.0);
    world.step(Input::PaneGone(vec![witness()]), true);
    pass(&mut world, 5.0);
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
    assert_eq!((phase(&world, &witness()), instance(&world, &witness())), (&Phase::Running, before.clone()));
    // Once somebody has said what should run, it is.
    world.ask(Request::TownStart { ask: by("person") }, true);
    world.step(Input::PaneGone(vec![witness()]), true);
    pass(&mut world, 5.0);
    assert_ne!(instance(&world, &witness()), before);
}
