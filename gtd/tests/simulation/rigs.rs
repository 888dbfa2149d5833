//! Rigs that are parked, docked and freed again, in the same world: with a disk that is written behind the
//! ledger, readings of it that come late, and a daemon that dies in between.

use gtd::supervisor::rig_requests::{Chore, RigAsk};
use gtd::town::wisp_edit::Edit;

use super::world::*;

fn rig() -> RigName {
    RigName::new("a").unwrap()
}

fn person() -> Ask {
    Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd }
}

/// What the state file of the rig says, and what a reading of it would give.
struct Disk {
    file: FileState,
}

impl Disk {
    fn write(&mut self, edit: Edit) {
        if edit == Edit::Park {
            self.file = FileState { sight: Sight::Good, status: Some(Status::Parked), restarts: None };
        } else {
            self.file.status = self.file.status.filter(|status| !edit.takes_out(*status));
        }
    }
}

/// What is told of a reading that began at an instant.
fn reading(world: &mut World, file: FileState, at: Timestamp) -> Input {
    let facts = world.facts.rigs.get_mut(&rig()).unwrap();
    facts.file = file;
    world.facts.read_at = at;
    Input::Facts(world.facts.clone())
}

/// Carries out what is to be written. The daemon may die before it hears of it.
fn write(world: &mut World, disk: &mut Disk) {
    for (of, chore) in world.core.chores() {
        let Chore::State(edit) = chore else { continue };
        assert_eq!(of, rig());
        let before = (disk.file, world.now);
        world.now = after(world.now, Duration::from_millis(3));
        disk.write(edit);
        if world.dice.one_in(4) {
            let file = disk.file;
            reading(world, file, world.now);
            return world.crash();
        }
        let at = after(world.now, Duration::from_millis(1));
        world.now = at;
        world.step(Input::RigWritten { rig: of, chore, at, error: None }, true);
        if world.dice.one_in(3) {
            // A look that began before it was written, and comes after.
            let late = reading(world, before.0, before.1);
            world.step(late, true);
        }
        world.now = after(world.now, Duration::from_millis(1));
        let now = world.now;
        let look = reading(world, disk.file, now);
        world.step(look, true);
    }
}

#[test]
fn a_rig_is_as_it_was_asked_to_be_last_whatever_came_between() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let mut disk = Disk { file: FileState::default() };
        if world.dice.one_in(3) {
            disk.file.sight = Sight::Good;
            let now = world.now;
            let look = reading(&mut world, disk.file, now);
            world.step(look, true);
        }
        let (mut parked, mut docked) = (false, false);
        for _ in 0..60 {
            let pause = [0, 1, 4, 300, 5_000][usize::try_from(world.dice.roll(5)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            let what = match world.dice.roll(9) {
                0 | 1 => RigAsk::Park,
                2 | 3 => RigAsk::Unpark,
                4 => RigAsk::Dock,
                5 => RigAsk::Undock,
                6 => {
                    write(&mut world, &mut disk);
                    continue;
                }
                7 => {
                    world.happen_to_agents();
                    continue;
                }
                _ => {
                    world.crash();
                    continue;
                }
            };
            match what {
                RigAsk::Park => parked = true,
                RigAsk::Unpark => parked = false,
                RigAsk::Dock => docked = true,
                _ => docked = false,
            }
            // Once committed it is so, also when the daemon dies at that moment.
            let survives = !world.dice.one_in(5);
            world.ask(Request::Rig { rig: rig(), what, ask: person() }, survives);
            if !survives {
                world.crash();
            }
            let standing = &world.core.facts().rigs[&rig()].standing;
            assert_eq!(
                (standing.parked.is_some(), standing.docked.is_some()),
                (parked, docked),
                "{seed}\n{}",
                world.story()
            );
        }
        for _ in 0..50 {
            write(&mut world, &mut disk);
        }
        assert!(world.core.chores().is_empty(), "{seed}\n{}", world.story());
        assert_eq!(disk.file.status == Some(Status::Parked), parked, "{seed}\n{}", world.story());
        // Of whom nothing can be told stays as it is, wherever it is.
        world.let_there_be_light();
        world.pass(after(world.now, Duration::from_secs(2 * 86_400)));
        world.step(Input::Round, true);
        world.pass(after(world.now, Duration::from_secs(60)));
        for machine in world.core.agents().values() {
            let alive = world.processes.values().filter(|p| p.alive && p.agent == machine.address).count();
            let aside = machine.address.rig() == Some(&rig()) && (parked || docked);
            assert_eq!(machine.wish.intent, Intent::Running, "an intent was touched: {}", machine.address);
            if aside {
                assert_eq!(
                    alive,
                    0,
                    "{seed}: {} runs in a rig that was set aside\n{}",
                    machine.address,
                    world.story()
                );
                // One whose program is not there goes on waiting for that.
                let still = machine.state() == State::Stopped || machine.phase == Phase::Broken;
                assert!(still, "{seed}: {} {:?}\n{}", machine.address, machine.phase, world.story());
            } else {
                let waits = matches!(machine.phase, Phase::Waiting { .. } | Phase::Broken);
                assert_eq!(
                    alive,
                    usize::from(!waits),
                    "{seed}: {} {:?}\n{}",
                    machine.address,
                    machine.phase,
                    world.story()
                );
            }
        }
        assert!(world.unanswered.is_empty());
    }
}

impl World {
    /// Something dies.
    fn happen_to_agents(&mut self) {
        let alive: Vec<InstanceId> =
            self.processes.iter().filter(|(_, p)| p.alive).map(|(id, _)| id.clone()).collect();
        if let Some(victim) = alive.get(usize::try_from(self.dice.roll(6)).unwrap()) {
            self.die(&victim.clone(), EndedBy::Agent, self.now);
        }
    }
}

#[test]
fn somebody_who_takes_the_word_out_of_the_file_frees_the_rig_and_a_lost_file_does_not() {
    let mut world = World::new(1);
    let mut disk = Disk { file: FileState::default() };
    world.ask(Request::Rig { rig: rig(), what: RigAsk::Park, ask: person() }, true);
    for _ in 0..20 {
        write(&mut world, &mut disk);
    }
    for (file, still) in [
        (FileState { sight: Sight::Missing, ..FileState::default() }, true),
        (FileState { sight: Sight::Bad, ..FileState::default() }, true),
        (FileState { sight: Sight::Good, status: Some(Status::Docked), restarts: None }, false),
        (FileState { sight: Sight::Good, ..FileState::default() }, false),
    ] {
        world.now = after(world.now, Duration::from_secs(1));
        let now = world.now;
        let look = reading(&mut world, file, now);
        world.step(look, true);
        let standing = world.core.facts().rigs[&rig()].standing.clone();
        assert_eq!(standing.parked.is_some(), still, "{file:?}: {standing:?}");
        assert_eq!(standing.docked.is_some(), file.status == Some(Status::Docked));
    }
    world.crash();
    assert_eq!(world.core.facts().rigs[&rig()].standing.barred, None, "also to the next daemon");
}

#[test]
fn a_removed_rig_is_forgotten_only_when_nothing_of_it_runs_and_the_registry_has_it_no_more() {
    for crash in [false, true] {
        let mut world = World::new(5);
        world.pass(after(world.now, Duration::from_secs(600)));
        world.ask(Request::Rig { rig: rig(), what: RigAsk::Remove, ask: person() }, true);
        assert!(world.core.chores().is_empty(), "its agents come first");
        if crash {
            world.crash();
        }
        world.pass(after(world.now, Duration::from_secs(60)));
        assert_eq!(world.core.chores(), [(rig(), Chore::Unregister)]);
        assert!(world.processes.values().all(|p| !p.alive || p.agent.rig() != Some(&rig())));
        world.facts.rigs.remove(&rig());
        let facts = world.facts.clone();
        world.step(Input::Facts(facts), true);
        assert!(world.core.agents().keys().all(|agent| agent.rig() != Some(&rig())));
        let left: Vec<&String> = world.kept.facts.keys().filter(|key| key.starts_with("rig:")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(world.core.chores().is_empty());
    }
}
