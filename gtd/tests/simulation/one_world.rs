//! All parts in one world: rigs that are parked, docked and removed, roles on demand and left alone, incidents,
//! throttles, what persons ended, suspended machines, lost ledgers, and configurations that are reloaded at any
//! moment, by people and by agents, with a daemon that dies in between.

use gtd::supervisor::core::OBSERVING;
use gtd::supervisor::rig_requests::{Chore, RigAsk};
use gtd::town::wisp_edit::Edit;

use super::world::*;

fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

impl World {
    fn some_rig(&mut self) -> RigName {
        self.someone().rig().unwrap().clone()
    }

    fn look(&mut self, survives: bool) {
        self.facts.read_at = self.now;
        let facts = self.facts.clone();
        self.step(Input::Facts(facts), survives);
    }

    /// Whatever is to be written for the rigs is; the daemon may die before it hears of it.
    fn write_chores(&mut self, may_crash: bool) {
        for (rig, chore) in self.core.chores() {
            match chore {
                Chore::State(Edit::Park) => self.set_aside(&rig, Some(Status::Parked)),
                Chore::State(edit) => {
                    let file = &mut self.facts.rigs.get_mut(&rig).unwrap().file;
                    file.status = file.status.filter(|status| !edit.takes_out(*status));
                }
                Chore::Unregister => {
                    let removed = self.facts.rigs.remove(&rig).unwrap();
                    self.now = after(self.now, Duration::from_millis(1));
                    self.look(true);
                    let left = self.core.agents().keys().any(|agent| agent.rig() == Some(&rig));
                    assert!(!left, "{rig} was removed, and is remembered\n{}", self.story());
                    // And comes back, as somebody may do.
                    self.facts.rigs.insert(rig, RigFacts { file: FileState::default(), ..removed });
                    return self.look(true);
                }
            }
            if may_crash && self.dice.one_in(6) {
                return self.crash();
            }
            self.now = after(self.now, Duration::from_millis(1));
            let at = self.now;
            self.step(Input::RigWritten { rig, chore, at, error: None }, true);
            self.now = after(self.now, Duration::from_millis(1));
            self.look(true);
        }
    }

    fn reload(&mut self) {
        let mut next = settings();
        let dice = &mut self.dice;
        next.numbers.burst = [0, 2, 5][usize::try_from(dice.roll(3)).unwrap()];
        next.numbers.base = Duration::from_secs(1 + dice.roll(30));
        next.mass_death.threshold = [0, 2, 3, 5][usize::try_from(dice.roll(4)).unwrap()];
        next.mass_death.hold = Duration::from_secs(1 + dice.roll(20));
        next.mass_death.canary = Duration::from_secs(1 + dice.roll(5));
        next.bounds.max_agents = [0, 0, 3, 5][usize::try_from(dice.roll(4)).unwrap()];
        next.drain = Duration::from_secs(dice.roll(40));
        self.settings = next.clone();
        self.step(Input::Settings(Box::new(next)), true);
        self.look(true);
    }

    fn more_happens(&mut self) {
        let agent = self.someone();
        let rig = self.some_rig();
        let survives = !self.dice.one_in(20);
        let who = ["person", "mayor", "deacon"][usize::try_from(self.dice.roll(3)).unwrap()];
        let how = How { now: self.dice.one_in(2), force: false };
        match self.dice.roll(17) {
            0..=2 => {
                let what = [
                    RigAsk::Park,
                    RigAsk::Unpark,
                    RigAsk::Dock,
                    RigAsk::Undock,
                    RigAsk::Unpark,
                    RigAsk::Undock,
                    RigAsk::Remove,
                    RigAsk::Keep,
                ][usize::try_from(self.dice.roll(8)).unwrap()];
                self.ask(Request::Rig { rig: rig.clone(), what, ask: by("person") }, survives);
                if survives {
                    let agents =
                        self.core.agents().keys().filter(|a| a.rig() == Some(&rig)).cloned().collect();
                    self.ask(Request::RigSettled { rig, agents, wait: Wait::ToTheEnd }, true);
                }
            }
            3 | 4 => self.write_chores(true),
            5 | 6 => {
                let mode = match self.dice.roll(3) {
                    0 => Mode::Always,
                    1 => Mode::OnDemand(Duration::from_secs(60)),
                    _ => Mode::Off("made up".into()),
                };
                if let Some(facts) = self.facts.rigs.get_mut(&rig) {
                    let of = if self.dice.one_in(2) { &mut facts.witness } else { &mut facts.refinery };
                    *of = mode;
                }
                self.look(survives);
            }
            7 | 8 => self.reload(),
            9 => self.ask(Request::Restart { agent, overrides: None, how, ask: by(who) }, survives),
            10 => self.ask(Request::Reset { agent, ask: by(who) }, survives),
            11 => {
                let running = |machine: &Machine| machine.phase == Phase::Running && machine.is_alive();
                if self.core.agents().get(&agent).is_some_and(running) {
                    self.step(Input::PaneGone(vec![agent]), survives);
                }
            }
            12 => {
                let suspended = Duration::from_secs(self.dice.roll(40_000));
                self.now = after(self.now, suspended);
                self.step(Input::Resumed { suspended }, survives);
            }
            13 => self.failing = self.dice.one_in(3),
            14 | 15 => self.out_of_service(survives),
            _ => {
                // The ledger is lost but for a copy, until somebody says `up`; or only the last moments of it.
                if self.dice.one_in(3) {
                    self.kept.facts.insert(OBSERVING.to_owned(), true.into());
                } else {
                    self.unsurveyed = true;
                }
                self.crash();
                if self.dice.one_in(2) {
                    let meanwhile = Duration::from_secs(self.dice.roll(60));
                    self.pass(after(self.now, meanwhile));
                }
                self.step(Input::Found(Vec::new()), true);
            }
        }
        if !survives {
            self.crash();
        }
    }

    fn friendly(&mut self) {
        self.failing = false;
        self.settings = settings();
        let settings = self.settings.clone();
        self.step(Input::Settings(Box::new(settings)), true);
        for facts in self.facts.rigs.values_mut() {
            (facts.witness, facts.refinery) = (Mode::Always, Mode::Always);
        }
        for rig in self.facts.rigs.keys().cloned().collect::<Vec<_>>() {
            for what in [RigAsk::Keep, RigAsk::Unpark, RigAsk::Undock] {
                self.ask(Request::Rig { rig: rig.clone(), what, ask: by("person") }, true);
            }
        }
        for _ in 0..10 {
            self.write_chores(false);
        }
        self.all_in_service();
        assert!(self.core.chores().is_empty(), "{:?}", self.core.chores());
    }
}

#[test]
fn in_one_world_with_everything_nothing_runs_against_a_word_and_nothing_waits_for_ever() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut world = World::new(seed + 10_000);
        for _ in 0..150 {
            let pause = [0, 1, 10, 300, 5_000, 60_000, 600_000][usize::try_from(world.dice.roll(7)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            if world.dice.one_in(2) {
                world.happen();
            } else {
                world.more_happens();
            }
        }
        world.friendly();
        world.calm_down();
        world.check_quiet();
        for machine in world.core.agents().values() {
            assert!(!machine.passes, "{} passes\n{}", machine.address, world.story());
        }
        seen.append(&mut world.seen);
    }
    for state in ["held", "throttled", "quarantined", "backoff", "unknown", "stopping"] {
        assert!(seen.contains(state), "{state}: {seen:?}");
    }
}
