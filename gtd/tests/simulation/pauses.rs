//! Agents that are frozen and go on, alone, with their rig or with the town, among everything else that happens.

use super::cases::running;
use super::world::*;
use gtd::agents::order::Frosted;
use gtd::supervisor::frost::Stage;
use gtd::supervisor::pause_requests::PauseAsk;
use gtd::supervisor::pauses::{FACT, Pauses, Scope};

const MINUTE: Duration = Duration::from_secs(60);

fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

fn witness() -> Address {
    Address::Witness(RigName::new("a").unwrap())
}

fn only(agent: Address) -> Scope {
    Scope { rig: None, agents: BTreeSet::from([agent]) }
}

fn rig(name: &str) -> Scope {
    Scope { rig: Some(RigName::new(name).unwrap()), agents: BTreeSet::new() }
}

impl World {
    /// What the ledger has of pauses.
    fn kept_pauses(&self) -> Pauses {
        Pauses::recall(self.kept.facts.get(FACT)).unwrap()
    }

    /// Before it is started is written down that it may be.
    pub fn check_not_paused(&self, agent: &Address) {
        let standing = self.kept_pauses().of(agent);
        assert!(standing.is_none(), "{agent} was started while it is paused\n{}", self.story());
    }

    /// An agent's task freezes an instance, or lets it go on.
    pub fn freeze(&mut self, agent: Address, instance: InstanceId, frozen: bool, number: u64) {
        let Some(process) = self.processes.get(&instance).filter(|process| process.alive && !process.dark)
        else {
            return;
        };
        assert_eq!(process.agent, agent);
        if frozen {
            self.frozen.insert(instance.clone());
        } else {
            self.frozen.remove(&instance);
        }
        let mut at = after(self.now, Duration::from_millis(1 + self.dice.roll(20)));
        if !self.sure && self.dice.one_in(10) {
            at = after(at, Duration::from_secs(5));
            let said = Frosted { number, processes: 2, trouble: Some("made up".into()) };
            let report = Report { agent: agent.clone(), instance: instance.clone(), what: What::Frost(said) };
            self.due.push((at, report));
            at = after(at, Duration::from_secs(2));
        }
        let said = Frosted { number, processes: 2, trouble: None };
        self.due.push((at, Report { agent, instance, what: What::Frost(said) }));
    }

    pub fn pause(&mut self, scope: Scope, frozen: bool, until: Option<Timestamp>, survives: bool) {
        let what = PauseAsk { scope, frozen, until };
        self.ask(Request::Pause { what, ask: by("person") }, survives);
    }

    /// Somebody pauses something, or lets it go on.
    fn pause_something(&mut self, always_ends: bool, survives: bool) {
        let agent = self.someone();
        let scope = match self.dice.roll(4) {
            0 => Scope::default(),
            1 | 2 => rig(agent.rig().unwrap().as_str()),
            _ => only(agent),
        };
        let frozen = !self.dice.one_in(3);
        let ends = always_ends || self.dice.one_in(2);
        let span = Duration::from_secs(1 + self.dice.roll(6 * 3_600));
        let until = (frozen && ends).then(|| after(self.now, span));
        self.pause(scope, frozen, until, survives);
        if !survives {
            self.crash();
        }
    }

    /// Whoever lives and is held by a pause stands still, and nobody else, now that nothing is under way.
    fn check_frozen(&self) {
        let pauses = self.kept_pauses();
        for (instance, process) in self.processes.iter().filter(|(_, process)| process.alive) {
            let machine = &self.core.agents()[&process.agent];
            let live = machine.current.as_ref().is_some_and(|current| current.alive);
            let ending = matches!(machine.phase, Phase::Ending { .. });
            if !live || ending || process.dark {
                continue;
            }
            assert_eq!(
                self.frozen.contains(instance),
                pauses.of(&process.agent).is_some(),
                "{}: {:?} {:?}\n{}",
                process.agent,
                machine.paused,
                machine.frost,
                self.story()
            );
        }
    }
}

#[test]
fn whatever_happens_nothing_paused_is_started_and_every_pause_ends() {
    let (mut frozen, mut checked) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed);
        let always_ends = seed % 2 == 0;
        for _ in 0..150 {
            let pause = [0, 1, 10, 300, 5_000, 90_000, 3_600_000];
            let pause = pause[usize::try_from(world.dice.roll(7)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            let survives = !world.dice.one_in(10);
            if world.dice.one_in(4) {
                world.pause_something(always_ends, survives);
            } else {
                world.happen();
            }
            if world.dice.one_in(5) {
                world.let_there_be_light();
                world.pass(after(world.now, MINUTE));
                world.check_frozen();
                checked += 1;
                frozen += world.frozen.len();
            }
        }
        if !always_ends {
            world.pause(Scope::default(), false, None, true);
        }
        world.calm_down();
        assert!(world.kept_pauses().is_empty() && world.core.pauses().is_empty(), "{}", world.story());
        let alive = |instance: &&InstanceId| world.processes[*instance].alive;
        assert_eq!(world.frozen.iter().filter(alive).count(), 0, "{}", world.story());
        assert!(
            world.core.agents().values().all(|machine| machine.paused.is_none() && machine.frost.is_none()),
            "{}",
            world.story()
        );
        world.check_quiet();
    }
    assert!(checked > 1_000 && frozen > 1_000, "{checked} {frozen}");
}

/// A town in which everything runs and every launch succeeds.
fn quiet(seed: u64) -> World {
    let mut world = running(seed);
    world.sure = true;
    world
}

fn machine(world: &World) -> &Machine {
    &world.core.agents()[&witness()]
}

#[test]
fn a_daemon_that_dies_between_intent_and_effect_has_a_successor_that_goes_on() {
    for frozen in [true, false] {
        let mut world = quiet(3);
        if !frozen {
            world.pause(rig("a"), true, None, true);
            world.pass(after(world.now, MINUTE));
        }
        world.pause(rig("a"), frozen, None, false);
        world.crash();
        world.pass(after(world.now, MINUTE));
        world.check_frozen();
        let expected = if frozen { State::Paused } else { State::Running };
        assert_eq!(machine(&world).state(), expected, "{}", world.story());
        let others = world.core.agents().values().filter(|m| m.state() == State::Running).count();
        assert_eq!(others, if frozen { 4 } else { 6 });
    }
}

#[test]
fn a_pause_is_over_when_its_time_is_also_where_no_daemon_was_there() {
    let mut world = quiet(4);
    let until = after(world.now, 30 * MINUTE);
    world.pause(Scope::default(), true, Some(until), true);
    world.pass(after(world.now, 10 * MINUTE));
    assert!(world.core.agents().values().all(|m| m.state() == State::Paused), "{}", world.story());
    world.crash();
    world.pass(after(world.now, MINUTE));
    assert!(world.core.agents().values().all(|m| m.state() == State::Paused), "{}", world.story());
    world.now = after(until, MINUTE);
    world.crash();
    world.pass(after(world.now, MINUTE));
    assert!(world.core.agents().values().all(|m| m.state() == State::Running), "{}", world.story());
    world.check_frozen();
}

#[test]
fn who_is_killed_while_it_stands_still_comes_back_at_its_end_and_has_not_failed() {
    for crash in [false, true] {
        let mut world = quiet(5);
        let before = machine(&world).memory.clone();
        world.pause(Scope::default(), true, None, true);
        world.pass(after(world.now, MINUTE));
        if crash {
            world.crash();
            world.due.clear();
        }
        for machine in world.core.agents().values().cloned().collect::<Vec<_>>() {
            let instance = machine.current.unwrap().instance;
            let mut end = plain_end(EndedBy::Agent, world.now);
            (end.code, end.signal) = (None, Some(9));
            world.die_so(&instance, end, world.now);
        }
        world.pass(after(world.now, 20 * MINUTE));
        assert!(world.core.agents().values().all(|m| m.state() == State::Stopped), "{}", world.story());
        assert_eq!(machine(&world).memory.consecutive, before.consecutive);
        assert!(machine(&world).reason.as_deref().is_some_and(|why| why.contains("paused")));
        assert!(world.core.incidents().iter().all(|incident| !incident.is_open()), "{}", world.story());
        world.pause(Scope::default(), false, None, true);
        world.pass(after(world.now, MINUTE));
        assert!(world.core.agents().values().all(|m| m.state() == State::Running), "{}", world.story());
        assert_eq!(machine(&world).memory.consecutive, before.consecutive);
    }
}

#[test]
fn a_stop_of_what_stands_still_waits_for_no_turn_and_a_start_is_refused() {
    let mut world = quiet(6);
    let instance = machine(&world).current.as_ref().unwrap().instance.clone();
    world.ask(Request::Said { instance, said: Said::of(ReportState::Working) }, true);
    world.pause(only(witness()), true, None, true);
    world.pass(after(world.now, MINUTE));
    let ticket = Ticket(9_999);
    let request = Request::Start { agent: witness(), overrides: None, ask: by("person") };
    let turn = world.core.step(Input::Request { ticket, request: Box::new(request) }, world.now);
    let (_, answer) = turn.answers.iter().find(|(of, _)| *of == ticket).unwrap();
    let Answer::Failed(error) = answer else { panic!("{answer:?}") };
    assert_eq!((error.code, error.hint.as_deref()), (1005, Some("gtctl resume --agent a/witness")));
    world.ask(Request::Stop { agent: witness(), how: How::default(), ask: by("person") }, true);
    assert!(matches!(machine(&world).phase, Phase::Ending { .. }), "{:?}", machine(&world).phase);
    world.pass(after(world.now, MINUTE));
    assert_eq!(machine(&world).state(), State::Stopped);
    // Its end brings back what was to run, and not what a person had stopped.
    world.pause(Scope::default(), false, None, true);
    world.pass(after(world.now, MINUTE));
    assert_eq!(machine(&world).state(), State::Stopped);
    assert!(world.unanswered.is_empty(), "{}", world.story());
}

#[test]
fn time_for_which_it_stood_still_counts_for_nothing() {
    let mut world = quiet(7);
    world.drain_of(&witness());
    let Phase::Draining { .. } = machine(&world).phase else { panic!("{:?}", machine(&world).phase) };
    let since = machine(&world).progress.since;
    world.pause(only(witness()), true, None, true);
    world.pass(after(world.now, 60 * MINUTE));
    assert!(matches!(machine(&world).phase, Phase::Draining { .. }), "{}", world.story());
    assert!(machine(&world).watched().is_none() && machine(&world).deadline(MINUTE).is_none());
    world.pause(Scope::default(), false, None, true);
    world.pass(after(world.now, Duration::from_secs(1)));
    assert!(matches!(machine(&world).phase, Phase::Draining { .. }), "{}", world.story());
    let given_back = machine(&world).progress.since.unwrap().duration_since(since.unwrap());
    assert!(given_back.as_secs() >= 59 * 60, "{given_back}");
    world.pass(after(world.now, 10 * MINUTE));
    assert_eq!(machine(&world).state(), State::Stopped, "{}", world.story());
}

#[test]
fn what_was_frozen_and_is_forgotten_waits_for_a_person_where_nobody_knows_what_should_run() {
    let mut world = quiet(8);
    world.pause(Scope::default(), true, None, true);
    world.pass(after(world.now, MINUTE));
    // The ledger is lost, with what it had of pauses.
    world.kept.facts.remove(FACT);
    world.kept.facts.insert(gtd::supervisor::core::OBSERVING.to_owned(), true.into());
    world.crash();
    world.pass(after(world.now, 60 * MINUTE));
    assert_eq!(world.frozen.len(), 6, "{}", world.story());
    assert!(world.core.agents().values().all(|m| m.frost.as_ref().is_some_and(|f| f.stage == Stage::Unsure)));
    world.ask(Request::TownStart { ask: by("person") }, true);
    world.pass(after(world.now, MINUTE));
    assert!(world.core.agents().values().all(|m| m.state() == State::Running), "{}", world.story());
    assert!(world.frozen.is_empty());
}

#[test]
fn a_pause_that_outlasts_its_rig_is_ended_all_the_same() {
    let mut world = quiet(9);
    world.pause(rig("a"), true, None, true);
    world.pass(after(world.now, MINUTE));
    assert!(!world.frozen.is_empty());
    let mut facts = world.core.facts().clone();
    facts.rigs.remove(&RigName::new("a").unwrap());
    world.step(Input::Facts(facts), true);
    world.pass(after(world.now, MINUTE));
    assert!(!world.kept_pauses().is_empty() && !world.frozen.is_empty(), "no registry lets anybody go on");
    world.pause(rig("a"), false, None, true);
    world.pass(after(world.now, MINUTE));
    assert!(world.kept_pauses().is_empty() && world.frozen.is_empty(), "{}", world.story());
}

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

impl World {
    /// A stop that waits for the end of a turn.
    fn drain_of(&mut self, agent: &Address) {
        let instance = self.core.agents()[agent].current.as_ref().unwrap().instance.clone();
        self.ask(Request::Said { instance, said: Said::of(ReportState::Working) }, true);
        let how = How::default();
        self.ask(Request::Stop { agent: agent.clone(), how, ask: by("person") }, true);
    }
}
