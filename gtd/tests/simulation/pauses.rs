//! Agents that are frozen and go on, alone, with their rig or with the town, among everything else that happens.

use super::cases::running;
use super::world::*;
use gtd::agents::order::Frosted;
use gtd::supervisor::frost::Stage;
use gtd::supervisor::pause_requests::PauseAsk;
use gtd::supervisor::pauses::{FACT, Pauses, Scope};

pub const MINUTE: Duration = Duration::from_secs(60);

pub fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

pub fn witness() -> Address {
    Address::Witness(RigName::new("a").unwrap())
}

pub fn only(agent: Address) -> Scope {
    Scope { rig: None, agents: BTreeSet::from([agent]) }
}

pub fn rig(name: &str) -> Scope {
    Scope { rig: Some(RigName::new(name).unwrap()), agents: BTreeSet::new() }
}

impl World {
    /// What the ledger has of pauses.
    pub fn kept_pauses(&self) -> Pauses {
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
pub fn quiet(seed: u64) -> World {
    let mut world = running(seed);
    world.sure = true;
    world
}

pub fn machine(world: &World) -> &Machine {
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

impl World {
    /// A stop that waits for the end of a turn.
    fn drain_of(&mut self, agent: &Address) {
        let instance = self.core.agents()[agent].current.as_ref().unwrap().instance.clone();
        self.ask(Request::Said { instance, said: Said::of(ReportState::Working) }, true);
        let how = How::default();
        self.ask(Request::Stop { agent: agent.clone(), how, ask: by("person") }, true);
    }
}
