//! What a pause only delays, and what is remembered of it: mail that wakes, starts, workers in the making.

use super::pauses::{MINUTE, by, machine, only, quiet, rig, witness};
use super::world::*;
use gtd::supervisor::pause_requests::PauseAsk;
use gtd::supervisor::pauses::Scope;

#[test]
fn who_is_only_not_seen_stays_paused_and_who_is_gone_does_not() {
    let mut world = quiet(10);
    let rig = RigName::new("a").unwrap();
    let nux = Address::Polecat(rig.clone(), gtd_proto::AgentName::new("nux").unwrap());
    world.facts.rigs.get_mut(&rig).unwrap().polecats = vec![gtd_proto::AgentName::new("nux").unwrap()];
    world.facts.read_at = world.now;
    world.step(Input::Facts(world.facts.clone()), true);
    world.pause(only(nux.clone()), true, None, true);
    assert!(world.kept_pauses().of(&nux).is_some(), "{}", world.story());
    let seen = world.facts.clone();
    // The next daemon cannot list its rig's workers, or not read of the rig.
    for listed in [true, false] {
        world.facts.rigs.get_mut(&rig).unwrap().polecats.clear();
        if listed {
            world.facts.rigs.remove(&rig);
        } else {
            world.facts.unlisted.insert(rig.clone());
        }
        world.crash();
        world.pass(after(world.now, MINUTE));
        assert!(world.kept_pauses().of(&nux).is_some(), "listed: {listed}\n{}", world.story());
        world.facts = seen.clone();
        world.step(Input::Facts(world.facts.clone()), true);
        assert!(world.core.agents()[&nux].paused.is_some(), "listed: {listed}\n{}", world.story());
    }
    // Its directory is gone, by a look at all of them.
    world.facts.rigs.get_mut(&rig).unwrap().polecats.clear();
    world.facts.read_at = after(world.now, MINUTE);
    world.pass(after(world.now, MINUTE));
    world.step(Input::Facts(world.facts.clone()), true);
    assert!(world.kept_pauses().is_empty(), "{}", world.story());
}

#[test]
fn mail_for_who_is_paused_at_rest_wakes_it_at_the_end_of_the_pause() {
    for crash in [false, true] {
        for scope in [only(witness()), rig("a"), Scope::default()] {
            let mut world = on_demand(11);
            world.pause(scope, true, None, true);
            let ask = Ask { wait: Wait::No, ..by("daemon") };
            world.ask(Request::Wake { agent: witness(), ask }, true);
            world.pass(after(world.now, MINUTE));
            assert_eq!(machine(&world).state(), State::Stopped, "{}", world.story());
            assert_eq!(machine(&world).wish.intent, Intent::Running, "{}", world.story());
            assert!(machine(&world).reason.as_deref().is_some_and(|why| why.contains("paused")));
            if crash {
                world.crash();
                world.pass(after(world.now, MINUTE));
            }
            world.pause(Scope::default(), false, None, true);
            world.pass(after(world.now, MINUTE));
            assert_eq!(machine(&world).state(), State::Running, "crash: {crash}\n{}", world.story());
        }
    }
}

#[test]
fn mail_for_who_is_paused_and_stopped_or_drained_wakes_nobody() {
    for drained in [false, true] {
        let mut world = on_demand(12);
        let ask = by("person");
        let request = match drained {
            true => Request::Drain { agent: witness(), ask },
            false => Request::Stop { agent: witness(), how: How::default(), ask },
        };
        world.ask(request, true);
        world.pause(rig("a"), true, None, true);
        let ask = Ask { wait: Wait::No, ..by("daemon") };
        world.ask(Request::Wake { agent: witness(), ask }, true);
        world.pause(rig("a"), false, None, true);
        world.pass(after(world.now, MINUTE));
        assert_eq!(machine(&world).state(), State::Stopped, "drained: {drained}\n{}", world.story());
        assert_eq!(machine(&world).wish.intent, Intent::Stopped);
    }
}

/// A town of which the witness of `a` runs on demand, and is at rest.
fn on_demand(seed: u64) -> World {
    let mut world = quiet(seed);
    world.facts.rigs.get_mut(&RigName::new("a").unwrap()).unwrap().witness = Mode::OnDemand(MINUTE);
    world.step(Input::Facts(world.facts.clone()), true);
    let instance = machine(&world).current.as_ref().unwrap().instance.clone();
    world.ask(Request::Said { instance, said: Said::of(ReportState::Idle) }, true);
    world.pass(after(world.now, 5 * MINUTE));
    assert_eq!(machine(&world).state(), State::Stopped, "{}", world.story());
    world
}

#[test]
fn since_when_it_is_paused_is_shown_and_for_how_long_it_was_is_remembered() {
    let mut world = quiet(13);
    let before = machine(&world).since;
    world.pass(after(world.now, 10 * MINUTE));
    let paused_at = world.now;
    world.pause(only(witness()), true, None, true);
    world.pass(after(world.now, MINUTE));
    // Another pause holds it for longer, and it stands still as it did.
    world.pause(rig("a"), true, None, true);
    world.crash();
    world.pass(after(world.now, 30 * MINUTE));
    let shown = gtd::supervisor::view::render(machine(&world), None);
    assert_eq!(shown.state, State::Paused, "{}", world.story());
    let late = shown.since.duration_since(paused_at).as_millis();
    assert!((0..1_000).contains(&late), "since {} and not since {paused_at}", shown.since);
    let minutes = |world: &World| machine(world).stood.within(before, world.now).as_secs() / 60;
    assert_eq!(minutes(&world), 31);
    world.pause(rig("a"), false, None, true);
    world.pass(after(world.now, 10 * MINUTE));
    assert_eq!(minutes(&world), 31, "{:?}", machine(&world).stood);
    assert!(!machine(&world).stood.is_open());
    world.crash();
    world.pass(after(world.now, MINUTE));
    assert_eq!(minutes(&world), 31, "the next daemon knows it too");
    let shown = gtd::supervisor::view::render(machine(&world), None);
    assert_eq!((shown.state, shown.since), (State::Running, before));
    // One that ended while no daemon was there.
    world.pause(Scope::default(), true, Some(after(world.now, MINUTE)), true);
    world.pass(after(world.now, MINUTE / 2));
    world.now = after(world.now, 5 * MINUTE);
    world.crash();
    world.pass(after(world.now, MINUTE));
    assert!(!machine(&world).stood.is_open() && machine(&world).frost.is_none(), "{}", world.story());
    assert!((31 + 5..=31 + 6).contains(&minutes(&world)), "{:?}", machine(&world).stood);
}

/// What a request is answered with at once.
fn answer(world: &mut World, request: Request) -> Option<Answer> {
    let ticket = Ticket(9_000 + world.tickets);
    world.tickets += 1;
    let turn = world.core.step(Input::Request { ticket, request: Box::new(request) }, world.now);
    let answers = turn.answers.clone();
    world.unanswered.extend(answers.iter().map(|(ticket, _)| *ticket));
    world.carry_out(turn, true);
    let mine = answers.into_iter().find(|(of, _)| *of == ticket);
    mine.map(|(_, answer)| answer)
}

#[track_caller]
fn assert_put_off(answer: &Answer, clear: &str) {
    let Answer::Failed(error) = answer else { panic!("{answer:?}") };
    assert_eq!((error.code, error.hint.as_deref()), (1013, Some(clear)), "{error:?}");
    assert_eq!(error.data["reached"], "paused");
}

#[test]
fn a_start_that_a_pause_overtakes_is_only_delayed_and_whoever_waits_is_told_so() {
    let mut world = quiet(14);
    let how = How { now: true, force: false };
    for restart in [false, true] {
        world.ask(Request::Stop { agent: witness(), how, ask: by("person") }, true);
        world.pass(after(world.now, MINUTE));
        if restart {
            world.ask(Request::Start { agent: witness(), overrides: None, ask: by("person") }, true);
            world.pass(after(world.now, MINUTE));
        }
        let request = match restart {
            false => Request::Start { agent: witness(), overrides: None, ask: by("person") },
            true => Request::Restart { agent: witness(), overrides: None, how, ask: by("person") },
        };
        assert!(answer(&mut world, request).is_none(), "it is under way");
        let before = world.log.len();
        let pause = PauseAsk { scope: rig("a"), frozen: true, until: None };
        let turn = Request::Pause { what: pause, ask: by("person") };
        let ticket = Ticket(8_000 + u64::from(restart));
        let turn = world.core.step(Input::Request { ticket, request: Box::new(turn) }, world.now);
        let told: Vec<Answer> = turn.answers.iter().map(|(_, answer)| answer.clone()).collect();
        world.unanswered.extend(turn.answers.iter().map(|(ticket, _)| *ticket));
        world.unanswered.insert(ticket);
        world.carry_out(turn, true);
        assert_put_off(&told[0], "gtctl resume a");
        world.pass(after(world.now, 10 * MINUTE));
        assert_ne!(machine(&world).state(), State::Running, "{}", world.story());
        assert_eq!(machine(&world).wish.intent, Intent::Running);
        world.pause(rig("a"), false, None, true);
        world.pass(after(world.now, MINUTE));
        assert_eq!(machine(&world).state(), State::Running, "restart: {restart} {before}\n{}", world.story());
    }
    assert!(world.unanswered.is_empty(), "{}", world.story());
}

#[test]
fn a_worker_that_was_made_and_is_paused_meanwhile_is_started_at_the_end_of_that() {
    for crash in [false, true] {
        let mut world = quiet(15);
        let name = gtd_proto::AgentName::new("nux").unwrap();
        let nux = Address::Polecat(RigName::new("a").unwrap(), name.clone());
        world.ask(Request::Enlist { agent: nux.clone() }, true);
        world.pause(rig("a"), true, None, true);
        let start = |agent: &Address| Request::StartMade {
            agent: agent.clone(),
            overrides: Overrides { agent: Some("fake".into()), ..Overrides::default() },
            ask: by("person"),
        };
        // Anybody else's start is refused, and asks for nothing.
        let plain = Request::Start { agent: nux.clone(), overrides: None, ask: by("person") };
        let Some(Answer::Failed(error)) = answer(&mut world, plain) else { panic!() };
        assert_eq!((error.code, world.core.agents()[&nux].wish.intent), (1005, Intent::Stopped));
        assert_put_off(&answer(&mut world, start(&nux)).unwrap(), "gtctl resume a");
        // Asked again by a daemon that goes on with its making.
        assert_put_off(&answer(&mut world, start(&nux)).unwrap(), "gtctl resume a");
        let one = &world.core.agents()[&nux];
        assert_eq!(
            (one.state(), one.shown_intent().0),
            (State::Stopped, Intent::Paused),
            "{}",
            world.story()
        );
        world.facts.rigs.get_mut(&RigName::new("a").unwrap()).unwrap().polecats = vec![name];
        world.facts.read_at = after(world.now, MINUTE);
        world.pass(after(world.now, 2 * MINUTE));
        world.step(Input::Facts(world.facts.clone()), true);
        if crash {
            world.crash();
        }
        world.pause(rig("a"), false, None, true);
        world.pass(after(world.now, MINUTE));
        let one = &world.core.agents()[&nux];
        assert_eq!((one.state(), one.overrides.agent.as_deref()), (State::Running, Some("fake")));
        // What else bars it is said, and nothing is wanted.
        world.ask(Request::TownStop { how: How::default(), ask: by("person") }, true);
        world.pause(rig("a"), true, None, true);
        world.pass(after(world.now, MINUTE));
        let Some(Answer::Failed(error)) = answer(&mut world, start(&nux)) else { panic!() };
        assert_eq!(error.data["reason"], "town is down");
    }
}
