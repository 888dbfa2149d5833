//! Agents that are taken out of service and put back, among everything else that happens.

use super::cases::running;
use super::world::*;
use gtd::agents::dialogs::Dialog;
use gtd::supervisor::reports::Said;
use gtd::supervisor::rig_requests::RigAsk;
use gtd_proto::waiting::{WaitKind, WaitSource};

const MINUTE: Duration = Duration::from_secs(60);

fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

fn witness() -> Address {
    Address::Witness(RigName::new("a").unwrap())
}

impl World {
    /// Somebody takes an agent out of service, or puts it back; mail comes for one; a screen is looked at.
    pub fn out_of_service(&mut self, survives: bool) {
        let agent = self.someone();
        match self.dice.roll(6) {
            0 | 1 => self.ask(Request::Drain { agent, ask: by("person") }, survives),
            2 | 3 => self.ask(Request::Undrain { agent, ask: by("person") }, survives),
            4 => {
                let ask = Ask { wait: Wait::No, ..by("daemon") };
                self.ask(Request::Wake { agent, ask }, survives);
            }
            _ => {
                let current = self.core.agents().get(&agent).and_then(|machine| machine.current.as_ref());
                let Some(instance) = current.map(|current| current.instance.clone()) else { return };
                let dialog = Dialog { kind: WaitKind::Permission, text: "May I?".into() };
                let dialog = self.dice.one_in(2).then_some(dialog);
                self.step(Input::Looked(vec![(agent, instance, dialog)]), survives);
            }
        }
    }

    /// Everybody is put back into service.
    pub fn all_in_service(&mut self) {
        for agent in self.core.agents().keys().cloned().collect::<Vec<_>>() {
            self.ask(Request::Undrain { agent, ask: by("person") }, true);
        }
    }

    /// What a drain promises at every moment.
    pub fn check_drains(&self) {
        for machine in self.core.agents().values() {
            let Some(drain) = &machine.drain else { continue };
            let address = &machine.address;
            assert!(
                !drain.done || machine.current.is_none(),
                "{address} is drained and runs\n{}",
                self.story()
            );
            // Before it is started is written down that it may be.
            let kept = self.agents.get(address).and_then(|row| row.policy.get("drain"));
            assert!(
                kept.is_some(),
                "{address} is drained, and the next daemon would not know\n{}",
                self.story()
            );
        }
    }
}

fn say(world: &mut World, state: ReportState) {
    let current = world.core.agents()[&witness()].current.as_ref();
    let instance = current.unwrap().instance.clone();
    world.ask(Request::Said { instance, said: Said::of(state) }, true);
}

fn state(world: &World) -> State {
    world.core.agents()[&witness()].state()
}

fn machine(world: &World) -> &Machine {
    &world.core.agents()[&witness()]
}

fn instance(world: &World) -> Option<InstanceId> {
    machine(world).current.as_ref().map(|current| current.instance.clone())
}

/// A witness whose turn is under way.
fn at_work(seed: u64) -> World {
    let mut world = running(seed);
    world.sure = true;
    say(&mut world, ReportState::Working);
    world
}

fn drain(world: &mut World) {
    world.ask(Request::Drain { agent: witness(), ask: by("person") }, true);
}

fn undrain(world: &mut World) {
    world.ask(Request::Undrain { agent: witness(), ask: by("person") }, true);
    world.pass(after(world.now, MINUTE));
}

fn start_is_refused(world: &mut World, who: &str) {
    let ticket = Ticket(9_999);
    let request = Request::Start { agent: witness(), overrides: None, ask: by(who) };
    let turn = world.core.step(Input::Request { ticket, request: Box::new(request) }, world.now);
    let (_, answer) = turn.answers.iter().find(|(of, _)| *of == ticket).unwrap();
    let Answer::Failed(error) = answer else { panic!("{answer:?}") };
    assert_eq!((error.code, error.hint.as_deref()), (1011, Some("gtctl undrain a/witness")), "{error:?}");
}

#[test]
fn a_turn_is_waited_for_however_long_it_takes_and_then_it_is_away_until_it_is_put_back() {
    let mut world = at_work(1);
    let before = instance(&world);
    drain(&mut world);
    assert_eq!(state(&world), State::Stopping);
    world.pass(after(world.now, 40 * MINUTE));
    assert_eq!((state(&world), instance(&world)), (State::Stopping, before), "{}", world.story());
    let alert = machine(&world).alert.clone().unwrap_or_default();
    assert!(alert.contains("has not ended for"), "a person is told: {alert:?}");
    start_is_refused(&mut world, "person");
    say(&mut world, ReportState::Idle);
    world.pass(after(world.now, MINUTE));
    assert_eq!((state(&world), machine(&world).reason.as_deref()), (State::Stopped, Some("drained")));
    assert_eq!((machine(&world).wish.intent, &machine(&world).alert), (Intent::Running, &None));
    for who in ["person", "mayor"] {
        start_is_refused(&mut world, who);
    }
    // Neither rounds, nor restarts of the daemon, nor the whole town's going down and up bring it back.
    for _ in 0..3 {
        world.crash();
        world.pass(after(world.now, MINUTE));
        world.step(Input::Round, true);
        world.ask(Request::TownStop { how: How::default(), ask: by("person") }, true);
        world.ask(Request::TownStart { ask: by("person") }, true);
        world.pass(after(world.now, 10 * MINUTE));
        assert_eq!((state(&world), machine(&world).reason.as_deref()), (State::Stopped, Some("drained")));
    }
    undrain(&mut world);
    assert_eq!(state(&world), State::Running, "{}", world.story());
}

#[test]
fn a_new_daemon_goes_on_waiting_for_the_turn() {
    let mut world = at_work(2);
    let before = instance(&world);
    drain(&mut world);
    world.crash();
    world.pass(after(world.now, 10 * MINUTE));
    assert_eq!((state(&world), instance(&world)), (State::Stopping, before), "{}", world.story());
    // A question in the middle of it is not its end.
    say(&mut world, ReportState::Waiting);
    world.crash();
    world.pass(after(world.now, 10 * MINUTE));
    assert_eq!(state(&world), State::Stopping, "{}", world.story());
    say(&mut world, ReportState::Idle);
    world.pass(after(world.now, MINUTE));
    assert_eq!(state(&world), State::Stopped);
}

#[test]
fn only_who_said_that_it_works_is_waited_for() {
    for said in [None, Some(ReportState::Idle), Some(ReportState::Waiting)] {
        let mut world = running(3);
        if let Some(said) = said {
            say(&mut world, said);
        }
        drain(&mut world);
        world.pass(after(world.now, Duration::from_secs(1)));
        assert_eq!(state(&world), State::Stopped, "{said:?}\n{}", world.story());
        // Asked again: it is so already.
        drain(&mut world);
        assert!(world.unanswered.is_empty());
    }
}

#[test]
fn a_change_of_mind_in_the_middle_of_the_turn_costs_nothing() {
    let mut world = at_work(4);
    let before = instance(&world);
    drain(&mut world);
    world.pass(after(world.now, MINUTE));
    undrain(&mut world);
    assert_eq!((state(&world), instance(&world)), (State::Running, before));
    assert!(world.unanswered.is_empty(), "whoever waited for its end was told\n{}", world.story());
    say(&mut world, ReportState::Idle);
    world.pass(after(world.now, MINUTE));
    assert_eq!(state(&world), State::Running, "the end of the turn ends nothing any more");
}

#[test]
fn a_stop_ends_the_patience_and_its_intent_outlives_the_drain() {
    let mut world = at_work(5);
    drain(&mut world);
    world.pass(after(world.now, 5 * MINUTE));
    world.ask(Request::Stop { agent: witness(), how: How::default(), ask: by("person") }, true);
    world.pass(after(world.now, 2 * MINUTE));
    assert_eq!(state(&world), State::Stopped, "{}", world.story());
    undrain(&mut world);
    assert_eq!((state(&world), machine(&world).wish.intent), (State::Stopped, Intent::Stopped));
}

#[test]
fn a_rig_that_is_set_aside_waits_no_longer_for_a_turn_than_at_any_end() {
    let mut world = at_work(9);
    drain(&mut world);
    world.pass(after(world.now, 5 * MINUTE));
    let rig = RigName::new("a").unwrap();
    world.ask(Request::Rig { rig: rig.clone(), what: RigAsk::Park, ask: by("person") }, true);
    world.pass(after(world.now, Duration::from_secs(20)));
    assert_eq!(state(&world), State::Stopping);
    world.pass(after(world.now, Duration::from_secs(20)));
    assert_eq!(state(&world), State::Stopped, "{}", world.story());
    world.ask(Request::Rig { rig, what: RigAsk::Unpark, ask: by("person") }, true);
    world.pass(after(world.now, MINUTE));
    assert_eq!(state(&world), State::Stopped, "still drained");
    undrain(&mut world);
    assert_eq!(state(&world), State::Running, "{}", world.story());
}

#[test]
fn what_waits_to_be_started_again_is_not_while_it_is_drained() {
    let mut world = running(6);
    world.sure = true;
    for _ in 0..100 {
        if matches!(state(&world), State::Backoff | State::Quarantined) {
            break;
        }
        if let Some(id) = instance(&world) {
            world.die(&id, EndedBy::Agent, world.now);
        }
        world.pass(after(world.now, Duration::from_millis(500)));
    }
    assert!(matches!(state(&world), State::Backoff | State::Quarantined), "{:?}", machine(&world).phase);
    drain(&mut world);
    assert_eq!(state(&world), State::Stopped);
    world.pass(after(world.now, 3 * 60 * MINUTE));
    assert_eq!(state(&world), State::Stopped, "{}", world.story());
    undrain(&mut world);
    assert_eq!(state(&world), State::Running, "{}", world.story());
}

#[test]
fn mail_wakes_who_runs_on_demand_and_nobody_whom_somebody_stopped() {
    let mut world = running(7);
    world.sure = true;
    world.facts.rigs.get_mut(&RigName::new("a").unwrap()).unwrap().witness = Mode::OnDemand(MINUTE);
    let wake = |world: &mut World| {
        let ask = Ask { wait: Wait::No, ..by("daemon") };
        world.ask(Request::Wake { agent: witness(), ask }, true);
        world.pass(after(world.now, Duration::from_secs(20)));
    };
    world.step(Input::Facts(world.facts.clone()), true);
    say(&mut world, ReportState::Idle);
    world.pass(after(world.now, 5 * MINUTE));
    assert_eq!(state(&world), State::Stopped, "{}", world.story());
    wake(&mut world);
    assert_eq!((state(&world), machine(&world).wish.by.as_str()), (State::Running, "daemon"));
    say(&mut world, ReportState::Idle);
    world.pass(after(world.now, 5 * MINUTE));
    assert_eq!(state(&world), State::Stopped, "it idles again\n{}", world.story());
    drain(&mut world);
    wake(&mut world);
    assert_eq!(state(&world), State::Stopped, "it is drained");
    undrain(&mut world);
    assert_eq!(state(&world), State::Stopped, "nobody wants it");
    world.ask(Request::Stop { agent: witness(), how: How::default(), ask: by("person") }, true);
    wake(&mut world);
    assert_eq!(state(&world), State::Stopped, "a person stopped it");
}

#[test]
fn a_wait_is_told_once_whoever_looks_however_often() {
    let mut world = running(8);
    world.sure = true;
    let id = instance(&world).unwrap();
    let told = |world: &mut World, dialog: Option<&str>| {
        let dialog = dialog.map(|text| Dialog { kind: WaitKind::Permission, text: text.into() });
        let turn = world.core.step(Input::Looked(vec![(witness(), id.clone(), dialog)]), world.now);
        let events = turn
            .writes
            .iter()
            .filter(|write| matches!(write, Write::Event(event) if event.kind == "agent.waiting"));
        let told = events.count();
        world.carry_out(turn, true);
        told
    };
    assert_eq!(told(&mut world, None), 0);
    assert_eq!(told(&mut world, Some("rm -rf build (3s)")), 1);
    assert_eq!(told(&mut world, Some("rm -rf build (9s)")), 0, "the same, some seconds later");
    world.crash();
    world.pass(after(world.now, MINUTE));
    assert_eq!(told(&mut world, Some("rm -rf build (99s)")), 0, "also over a restart of the daemon");
    assert_eq!(told(&mut world, Some("curl example.org")), 1, "another one");
    // Its own word is the same wait, and counts more from then on.
    say(&mut world, ReportState::Waiting);
    assert_eq!(machine(&world).waits.as_ref().map(|waits| waits.source), Some(WaitSource::Reported));
    assert_eq!(told(&mut world, None), 0);
    assert!(machine(&world).waits.is_some());
    say(&mut world, ReportState::Working);
    assert!(machine(&world).waits.is_none());
    assert_eq!(told(&mut world, Some("curl example.org")), 0, "a screen of before");
    say(&mut world, ReportState::Idle);
    assert_eq!(told(&mut world, Some("curl example.org")), 1);
    assert_eq!(told(&mut world, None), 0);
    assert!(machine(&world).waits.is_none(), "it is gone from the screen");
}
