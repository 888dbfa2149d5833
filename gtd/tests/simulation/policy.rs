//! Stories of the restart policy: what a person ended, what an account or the machine forbids, slow churn, and
//! a person's word about what nobody can see.

use super::cases::running;
use super::*;
use gtd_proto::ErrorKind;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn witness() -> Address {
    Address::Witness(RigName::new("a").unwrap())
}

fn refinery() -> Address {
    Address::Refinery(RigName::new("a").unwrap())
}

fn by(who: &str) -> Ask {
    Ask { by: who.into(), reason: None, wait: Wait::ToTheEnd }
}

fn state(world: &World, agent: &Address) -> State {
    world.core.agents()[agent].state()
}

fn instance(world: &World, agent: &Address) -> Option<InstanceId> {
    world.core.agents()[agent].current.as_ref().map(|current| current.instance.clone())
}

/// It ends in this way, now; until the policy has decided, and a start would have come of it.
fn end(world: &mut World, agent: &Address, change: impl FnOnce(&mut Ending)) {
    let mut end = plain_end(EndedBy::Agent, world.now);
    change(&mut end);
    let instance = instance(world, agent).unwrap();
    world.die_so(&instance, end, world.now);
    world.pass(after(world.now, Duration::from_millis(300)));
}

fn by_person(end: &mut Ending) {
    (end.code, end.signal, end.client_activity) = (Some(0), None, Some(end.ended_at));
}

fn limited(wait: Duration) -> impl FnOnce(&mut Ending) {
    move |end| end.limit = Some(ProviderLimit { line: "limit".into(), wait: Some(wait) })
}

fn start(world: &mut World, agent: &Address, who: &str) -> Option<Answer> {
    ask(world, Request::Start { agent: agent.clone(), overrides: None, ask: by(who) })
}

/// Asks, and returns the answer when there is one at once.
fn ask(world: &mut World, request: Request) -> Option<Answer> {
    world.tickets += 1;
    let ticket = Ticket(world.tickets);
    let turn = world.core.step(Input::Request { ticket, request: Box::new(request) }, world.now);
    let answer = turn.answers.iter().find(|(of, _)| *of == ticket).map(|(_, answer)| answer.clone());
    world.unanswered.insert(ticket);
    world.carry_out(turn, true);
    world.check();
    answer
}

fn refused(answer: Option<Answer>) -> gtd_proto::RpcError {
    let Some(Answer::Failed(error)) = answer else { panic!("not refused: {answer:?}") };
    *error
}

/// Waits until it runs; launches may fail, as everywhere in this world.
fn runs_within(world: &mut World, agent: &Address, limit: Duration) -> Duration {
    let began = world.now;
    while state(world, agent) != State::Running {
        let waited: Duration = world.now.duration_since(began).try_into().unwrap();
        assert!(waited <= limit, "{:?}\n{}", world.core.agents()[agent].phase, world.story());
        world.pass(after(world.now, Duration::from_millis(100)));
        if world.core.agents()[agent].phase == Phase::Broken {
            world.step(Input::Mended(vec![agent.clone()]), true);
        }
    }
    world.now.duration_since(began).try_into().unwrap()
}

#[test]
fn what_a_person_ended_is_theirs_until_they_want_it_back() {
    for seed in 0..10 {
        let mut world = running(seed);
        end(&mut world, &witness(), by_person);
        assert_eq!(state(&world, &witness()), State::Held);
        assert_eq!(world.core.agents()[&witness()].memory.consecutive, 0, "it counts for nothing");
        world.crash();
        world.pass(after(world.now, DAY));
        world.step(Input::Round, true);
        assert_eq!(state(&world, &witness()), State::Held, "after a day, and another daemon");
        // A stop and a start of the whole town are no wish to have this one back.
        ask(&mut world, Request::TownStop { how: How::default(), ask: by("person") });
        world.pass(after(world.now, MINUTE));
        assert_eq!(state(&world, &witness()), State::Stopped);
        world.crash();
        ask(&mut world, Request::TownStart { ask: by("person") });
        world.pass(after(world.now, MINUTE));
        assert_eq!(state(&world, &witness()), State::Held);
        start(&mut world, &witness(), "person");
        runs_within(&mut world, &witness(), MINUTE);
    }
}

#[test]
fn a_hold_with_a_time_ends_with_it() {
    let mut settings = settings();
    settings.numbers.hold = Some(HOUR);
    let mut world = World::with(5, settings);
    runs_within(&mut world, &witness(), HOUR);
    end(&mut world, &witness(), by_person);
    world.pass(after(world.now, HOUR.checked_sub(MINUTE).unwrap()));
    assert_eq!(state(&world, &witness()), State::Held);
    runs_within(&mut world, &witness(), 2 * MINUTE);
}

#[test]
fn a_reset_brings_back_what_a_person_ended() {
    let mut world = running(6);
    end(&mut world, &witness(), by_person);
    ask(&mut world, Request::Reset { agent: witness(), ask: by("person") });
    runs_within(&mut world, &witness(), MINUTE);
}

#[test]
fn the_limit_of_an_account_holds_for_all_of_it_and_for_nobody_else() {
    for seed in 0..10 {
        let mut world = running(seed);
        let witnesses: Vec<Address> = world
            .core
            .agents()
            .keys()
            .filter(|agent| matches!(agent, Address::Witness(_)))
            .cloned()
            .collect();
        end(&mut world, &witness(), limited(2 * HOUR));
        let until = after(world.now, 2 * HOUR);
        assert_eq!(state(&world, &witness()), State::Throttled);
        assert_eq!(world.core.agents()[&witness()].memory.consecutive, 0, "it counts for nothing");
        // Others of the account are not ended for it; whoever dies waits too, also under another daemon.
        world.crash();
        world.let_there_be_light();
        world.pass(after(world.now, MINUTE));
        for agent in &witnesses[1..] {
            runs_within(&mut world, agent, MINUTE);
            end(&mut world, agent, |_| {});
            assert_eq!(state(&world, agent), State::Throttled, "{agent}");
        }
        end(&mut world, &refinery(), |_| {});
        runs_within(&mut world, &refinery(), MINUTE);
        // A program may not insist.
        let error = refused(start(&mut world, &witness(), "mayor"));
        assert_eq!((error.code, error.kind), (1019, ErrorKind::Throttled));
        assert_eq!(error.data["account"], "work");
        // It ends by itself; they come back one after the other.
        world.pass(until.checked_sub(MINUTE).unwrap());
        assert!(witnesses.iter().all(|agent| state(&world, agent) == State::Throttled));
        let mut back: Vec<Timestamp> = Vec::new();
        while world.now < after(until, 2 * MINUTE) {
            world.pass(after(world.now, Duration::from_millis(100)));
            let now_up = witnesses.iter().filter(|agent| state(&world, agent) != State::Throttled).count();
            back.resize(now_up.max(back.len()), world.now);
        }
        assert_eq!(back.len(), witnesses.len());
        let gaps: Vec<i64> =
            back.windows(2).map(|two| two[1].duration_since(two[0]).as_millis() as i64).collect();
        assert!(gaps.iter().all(|gap| (2_900..=3_100).contains(gap)), "{gaps:?}");
    }
}

#[test]
fn a_person_may_insist_and_a_reset_lifts_the_limit_of_the_account() {
    let mut world = running(3);
    let others = [
        Address::Witness(RigName::new("a-b").unwrap()),
        Address::Witness(RigName::new("a-witness").unwrap()),
    ];
    end(&mut world, &witness(), limited(20 * HOUR));
    end(&mut world, &others[0], |_| {});
    end(&mut world, &others[1], |_| {});
    assert!(others.iter().all(|agent| state(&world, agent) == State::Throttled));
    start(&mut world, &witness(), "person");
    runs_within(&mut world, &witness(), MINUTE);
    assert!(others.iter().all(|agent| state(&world, agent) == State::Throttled), "it was for that one alone");
    ask(&mut world, Request::Reset { agent: others[0].clone(), ask: by("person") });
    for agent in &others {
        runs_within(&mut world, agent, MINUTE);
    }
}

#[test]
fn a_machine_that_is_short_of_something_starts_nothing_and_then_one_after_the_other() {
    let mut settings = settings();
    settings.bounds.max_agents = 2;
    let mut world = World::with(11, settings);
    world.pass(after(world.now, MINUTE));
    let count = |world: &World, state: State| {
        world.core.agents().values().filter(|machine| machine.state() == state).count()
    };
    assert_eq!(count(&world, State::Throttled), 4, "{}", world.story());
    let throttled: Vec<Address> = world
        .core
        .agents()
        .values()
        .filter(|machine| machine.state() == State::Throttled)
        .map(|machine| machine.address.clone())
        .collect();
    let error = refused(start(&mut world, &throttled[0], "person"));
    assert_eq!(error.code, 1019);
    let data = (&error.data["resource"], &error.data["limit"], &error.data["value"]);
    assert_eq!(data, (&"agents".into(), &2.into(), &2.into()));
    // One that dies makes room for itself.
    let running = world.core.agents().values().find(|machine| machine.is_alive()).unwrap().address.clone();
    end(&mut world, &running, |_| {});
    assert_ne!(state(&world, &running), State::Throttled, "{}", world.story());
    runs_within(&mut world, &running, MINUTE);
    // Room for one: one of them takes it, soon.
    let running = world.core.agents().values().find(|machine| machine.is_alive()).unwrap().address.clone();
    ask(
        &mut world,
        Request::Stop { agent: running, how: How { now: true, force: false }, ask: by("person") },
    );
    world.pass(after(world.now, Duration::from_secs(60)));
    assert_eq!(count(&world, State::Throttled), 3, "{}", world.story());
    // Short of memory as well, nothing is started whoever asks; what runs is left alone.
    world.figures.free_memory = Some(10);
    world.step(Input::Figures(world.figures), true);
    let running = world.core.agents().values().find(|machine| machine.is_alive()).unwrap().address.clone();
    let error = refused(ask(
        &mut world,
        Request::Restart { agent: running.clone(), overrides: None, how: How::default(), ask: by("person") },
    ));
    assert_eq!(error.data["resource"], "memory");
    assert_eq!(state(&world, &running), State::Running);
    end(&mut world, &running, |_| {});
    assert_eq!(state(&world, &running), State::Throttled);
    world.pass(after(world.now, HOUR));
    assert_eq!(state(&world, &running), State::Throttled);
    world.figures.free_memory = None;
    world.step(Input::Figures(world.figures), true);
    world.pass(after(world.now, MINUTE));
    let up = world.core.agents().values().filter(|machine| machine.current.is_some()).count();
    assert!((1..=2).contains(&up), "{}", world.story());
}

#[test]
fn a_death_every_five_minutes_ends_in_quarantine_unless_something_was_done_between() {
    for progress in [false, true] {
        let mut world = running(4);
        let mut deaths = 0;
        for _ in 0..12 {
            world.pass(after(world.now, 5 * MINUTE));
            if state(&world, &witness()) != State::Running {
                break;
            }
            if progress {
                let instance = instance(&world, &witness()).unwrap();
                for state in [ReportState::Working, ReportState::Idle] {
                    ask(&mut world, Request::Said { instance: instance.clone(), said: Said::of(state) });
                }
            }
            end(&mut world, &witness(), |_| {});
            deaths += 1;
            if state(&world, &witness()) == State::Quarantined {
                break;
            }
            runs_within(&mut world, &witness(), 6 * MINUTE);
        }
        let quarantined = state(&world, &witness()) == State::Quarantined;
        assert_eq!(quarantined, !progress, "after {deaths} deaths\n{}", world.story());
        if quarantined {
            assert!(deaths <= 6, "{deaths}");
            // Half-open after half an hour, by itself.
            runs_within(&mut world, &witness(), 31 * MINUTE);
        }
    }
}

#[test]
fn no_trouble_of_tmux_or_the_rig_and_no_stop_of_the_town_makes_a_wait_forgotten() {
    let mut world = running(8);
    for _ in 0..5 {
        end(&mut world, &witness(), |_| {});
        if state(&world, &witness()) != State::Quarantined {
            runs_within(&mut world, &witness(), MINUTE);
        }
    }
    assert_eq!(state(&world, &witness()), State::Quarantined);
    let Phase::Waiting { until, .. } = world.core.agents()[&witness()].phase else { panic!() };
    for round in 0..3 {
        match round {
            0 => {
                world.tmux = Some("it does not answer".into());
                world.step(Input::Tmux(world.tmux.clone()), true);
                world.pass(after(world.now, MINUTE));
                world.tmux = None;
                world.step(Input::Tmux(None), true);
            }
            1 => {
                let rig = RigName::new("a").unwrap();
                for status in [Some(Status::Parked), None] {
                    world.set_aside(&rig, status);
                    world.step(Input::Facts(world.facts.clone()), true);
                    world.pass(after(world.now, MINUTE));
                }
            }
            _ => {
                ask(&mut world, Request::TownStop { how: How::default(), ask: by("person") });
                world.pass(after(world.now, MINUTE));
                assert_eq!(state(&world, &witness()), State::Stopped);
                ask(&mut world, Request::TownStart { ask: by("person") });
                world.pass(after(world.now, MINUTE));
            }
        }
        let machine = &world.core.agents()[&witness()];
        assert_eq!(machine.phase, Phase::Waiting { until, why: Pause::Quarantine }, "round {round}");
    }
    start(&mut world, &witness(), "person");
    runs_within(&mut world, &witness(), MINUTE);
    assert_eq!(world.core.agents()[&witness()].memory.quarantines, 0, "a person's start forgives");
}

#[test]
fn a_back_off_that_begins_while_tmux_is_in_trouble_is_waited_for_all_the_same() {
    let mut world = running(9);
    for _ in 0..3 {
        end(&mut world, &witness(), |_| {});
        runs_within(&mut world, &witness(), MINUTE);
    }
    world.tmux = Some("it does not answer".into());
    world.step(Input::Tmux(world.tmux.clone()), true);
    end(&mut world, &witness(), |_| {});
    let Phase::Waiting { until, why: Pause::Backoff } = world.core.agents()[&witness()].phase else {
        panic!("{:?}", world.core.agents()[&witness()].phase)
    };
    world.tmux = None;
    world.step(Input::Tmux(None), true);
    world.pass(until.checked_sub(Duration::from_millis(100)).unwrap());
    assert_eq!(state(&world, &witness()), State::Backoff);
    runs_within(&mut world, &witness(), MINUTE);
}

/// A town of which one agent cannot be told about after a restart of the daemon.
fn dark(alive: bool) -> World {
    for seed in 0..100 {
        let mut world = running(seed);
        let process = instance(&world, &witness()).unwrap();
        world.crash();
        world.pass(after(world.now, Duration::from_millis(500)));
        if world.processes[&process].dark {
            world.processes.get_mut(&process).unwrap().alive = alive;
            return world;
        }
    }
    panic!("nothing is ever dark")
}

#[test]
fn a_persons_word_is_taken_where_nothing_can_be_told_and_nowhere_else() {
    let declare =
        |agent: Address| Request::DeclareDead { agent, evidence: "I looked".into(), ask: by("person") };
    let mut world = dark(false);
    assert_eq!(state(&world, &witness()), State::Unknown);
    let before = instance(&world, &witness());
    world.pass(after(world.now, DAY));
    world.step(Input::Round, true);
    assert_eq!(instance(&world, &witness()), before, "without a word nothing is started for it");
    let answer = ask(&mut world, declare(witness()));
    assert!(matches!(answer, Some(Answer::Changed { accepted: true, .. })), "{answer:?}");
    runs_within(&mut world, &witness(), MINUTE);
    assert_ne!(instance(&world, &witness()), before);
    assert!(world.seen.contains("unknown with evidence"), "{:?}", world.seen);
    // Of one that runs it is refused, and of one that rests there is nothing to say.
    let error = refused(ask(&mut world, declare(witness())));
    assert!(error.message.contains("proven alive"), "{}", error.message);
    ask(&mut world, Request::Stop { agent: witness(), how: How::default(), ask: by("person") });
    world.pass(after(world.now, MINUTE));
    let answer = ask(&mut world, declare(witness()));
    assert!(matches!(answer, Some(Answer::Changed { already: true, .. })), "{answer:?}");
    // What lives after all is not let go of.
    let mut world = dark(true);
    let before = instance(&world, &witness());
    ask(&mut world, declare(witness()));
    world.pass(after(world.now, HOUR));
    assert_eq!((instance(&world, &witness()), state(&world, &witness())), (before, State::Unknown));
    world.let_there_be_light();
    world.pass(after(world.now, MINUTE));
    assert_eq!(state(&world, &witness()), State::Running);
}

#[test]
fn stops_starts_and_restarts_at_once_come_to_one_end() {
    for seed in 0..50 {
        let mut world = running(seed);
        let agent = witness();
        let how = How { now: true, force: false };
        let restart = || Request::Restart { agent: witness(), overrides: None, how, ask: by("person") };
        let stop = || Request::Stop { agent: witness(), how, ask: by("person") };
        // Two restarts at once are one.
        ask(&mut world, restart());
        ask(&mut world, restart());
        runs_within(&mut world, &agent, MINUTE);
        // A start during a stop, and a stop during that start.
        ask(&mut world, stop());
        start(&mut world, &agent, "person");
        runs_within(&mut world, &agent, MINUTE);
        ask(&mut world, restart());
        ask(&mut world, stop());
        world.pass(after(world.now, MINUTE));
        assert_eq!(state(&world, &agent), State::Stopped, "{}", world.story());
        start(&mut world, &agent, "person");
        world.pass(after(world.now, Duration::from_millis(10)));
        ask(&mut world, stop());
        world.pass(after(world.now, MINUTE));
        assert_eq!(state(&world, &agent), State::Stopped, "{}", world.story());
        assert!(world.unanswered.is_empty(), "{}", world.story());
    }
}
