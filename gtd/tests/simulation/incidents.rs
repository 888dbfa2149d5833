//! Mass deaths in the made-up world: agents that die together, tmux servers and machines that go, daemons that
//! crash meanwhile; and what must hold whenever restarts are held.

use gtd_proto::event::kind;
use gtd_proto::{Exit, Incident, IncidentState};
use serde_json::Value;

use super::world::*;

/// What the ledger keeps, and what was told.
#[derive(Debug, Default)]
pub struct Kept {
    pub facts: BTreeMap<String, Value>,
    pub exits: BTreeMap<InstanceId, Exit>,
    pub opened: Vec<String>,
    pub closed: Vec<String>,
    canary: Option<Address>,
}

impl Kept {
    pub fn exits(&self) -> Vec<Exit> {
        self.exits.values().cloned().collect()
    }
}

impl World {
    pub fn incident(&self) -> Option<Incident> {
        self.core.incidents().into_iter().find(Incident::is_open)
    }

    /// Several die at once, or their server, or the machine.
    pub fn many_die(&mut self) {
        let alive: Vec<InstanceId> =
            self.processes.iter().filter(|(_, p)| p.alive).map(|(id, _)| id.clone()).collect();
        match self.dice.roll(8) {
            0 | 1 => alive.iter().for_each(|id| self.die(id, EndedBy::ServerGone, self.now)),
            2 => {
                // Nothing is told: the machine went down, and the daemon with it.
                for id in &alive {
                    self.die(id, EndedBy::Reboot, self.now);
                }
                self.crash();
            }
            3 => {
                for id in alive.iter().skip(1) {
                    self.die(id, EndedBy::Agent, self.now);
                }
                self.crash();
            }
            _ => {
                let most = self.dice.roll(7);
                for id in alive.iter().take(usize::try_from(most).unwrap()) {
                    let when = after(self.now, Duration::from_millis(self.dice.roll(900)));
                    self.die(id, EndedBy::Agent, when);
                }
                if self.dice.one_in(3) {
                    let meanwhile = Duration::from_millis(self.dice.roll(15_000));
                    self.pass(after(self.now, meanwhile));
                    self.crash();
                }
            }
        }
    }

    /// While restarts are held only a person starts anything, and one agent at a time goes first.
    pub fn check_incident(&mut self, turn: &Turn) {
        for write in &turn.writes {
            match write {
                Write::Fact { key, value: Some(value) } => {
                    self.kept.facts.insert(key.clone(), value.clone());
                }
                Write::Fact { key, value: None } => {
                    self.kept.facts.remove(key);
                }
                Write::Exit(exit) => {
                    self.kept.exits.insert(exit.instance.clone(), (**exit).clone());
                }
                Write::Event(event) => {
                    let list = match event.kind.as_ref() {
                        kind::INCIDENT_OPENED => &mut self.kept.opened,
                        kind::INCIDENT_CLOSED => &mut self.kept.closed,
                        _ => continue,
                    };
                    list.push(event.data["id"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
        let held = self
            .incident()
            .is_some_and(|open| matches!(open.state, IncidentState::Holding | IncidentState::Canary));
        for write in &turn.writes {
            let Write::Decision { agent, decision } = write else { continue };
            if decision.decision != "start" {
                continue;
            }
            let why = decision.event.as_str();
            if why.ends_with("it goes first") {
                if let Some(before) = self.kept.canary.replace(agent.clone()) {
                    let machine = &self.core.agents()[&before];
                    let alive = self.processes.values().any(|p| p.alive && p.agent == before);
                    let wanted = machine.phase == Phase::Running && machine.since < self.now;
                    assert!(
                        before == *agent || !(alive && wanted && machine.wish.by != "person"),
                        "{before} and {agent} go first\n{}",
                        self.story()
                    );
                }
            } else if held {
                // An agent that asks waits; a reset leaves the wish as it is, and is a person's in this world or waits.
                let wish = self.core.agents().get(agent).map(|machine| machine.wish.by.as_str());
                let asked = match why {
                    "it was reset" => true,
                    "it was asked for" => matches!(wish, Some("person" | "supervisor")),
                    "it was asked to start again" => wish == Some("person"),
                    _ => false,
                };
                assert!(asked, "{agent} was started while restarts are held: {why}\n{}", self.story());
            }
        }
        if !held {
            self.kept.canary = None;
        }
    }

    /// At the end every incident is closed, once.
    pub fn check_closed(&self) {
        assert!(self.incident().is_none(), "{:?}\n{}", self.incident(), self.story());
        let Kept { opened, closed, .. } = &self.kept;
        assert_eq!(opened, closed, "each opens once and closes once, one after the other\n{}", self.story());
        let distinct: BTreeSet<&String> = opened.iter().collect();
        assert_eq!(distinct.len(), opened.len());
    }
}

fn alive(world: &World) -> Vec<InstanceId> {
    world.processes.iter().filter(|(_, p)| p.alive).map(|(id, _)| id.clone()).collect()
}

fn kill(world: &mut World, many: usize, by: EndedBy) {
    for id in alive(world).into_iter().take(many) {
        world.die(&id, by, world.now);
    }
}

fn pass(world: &mut World, seconds: f64) {
    world.pass(after(world.now, Duration::from_secs_f64(seconds)));
}

/// Forgives everything, so that only the breaker delays anybody.
fn forgive(world: &mut World) {
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::No };
    for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
        world.ask(Request::Reset { agent, ask: ask.clone() }, true);
    }
}

fn quiet(seed: u64) -> World {
    let mut world = crate::cases::running(seed);
    forgive(&mut world);
    world.sure = true;
    world
}

#[test]
fn three_of_six_come_back_after_the_hold_one_of_them_first() {
    for seed in 0..20 {
        let mut world = quiet(seed);
        let died = world.now;
        kill(&mut world, 3, EndedBy::Agent);
        pass(&mut world, 0.1);
        let open = world.incident().expect("an incident");
        assert_eq!((open.state, open.count), (IncidentState::Holding, 3));
        let held: Vec<_> = world.core.agents().values().filter(|m| m.state() == State::Backoff).collect();
        assert_eq!(held.len(), 3);
        for machine in held {
            assert_eq!(machine.reason.as_deref(), Some(format!("incident {}", open.id).as_str()));
        }
        pass(&mut world, 9.8);
        assert_eq!(alive(&world).len(), 3, "still held\n{}", world.story());
        pass(&mut world, 0.5);
        assert_eq!(alive(&world).len(), 4, "one goes first\n{}", world.story());
        assert_eq!(world.incident().expect("still open").state, IncidentState::Canary);
        pass(&mut world, 2.0);
        assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
        assert!(world.incident().is_none());
        let took: Duration = world.now.duration_since(died).try_into().unwrap();
        assert!(took < Duration::from_secs(13));
        let closed = &world.core.incidents()[0];
        assert_eq!((closed.recovered, closed.state), (3, IncidentState::Closed));
        for agent in &closed.agents {
            let exits = world.kept.exits.values().filter(|exit| exit.agent == *agent);
            let last = exits.max_by_key(|exit| exit.ended_at).unwrap();
            assert_eq!(last.incident.as_ref(), Some(&closed.id));
        }
        world.check_closed();
    }
}

#[test]
fn a_hold_outlives_the_daemon_to_the_second() {
    let mut world = quiet(4);
    kill(&mut world, 3, EndedBy::Agent);
    pass(&mut world, 4.0);
    let id = world.incident().expect("an incident").id;
    world.crash();
    pass(&mut world, 5.9);
    assert_eq!(alive(&world).len(), 3, "held over the crash\n{}", world.story());
    assert_eq!(world.incident().map(|open| open.id), Some(id));
    pass(&mut world, 0.5);
    assert_eq!(alive(&world).len(), 4);
    // And once more while one goes first.
    world.crash();
    pass(&mut world, 3.0);
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
    world.check_closed();
}

#[test]
fn a_canary_that_dies_doubles_the_hold() {
    let mut world = quiet(5);
    kill(&mut world, 3, EndedBy::Agent);
    pass(&mut world, 10.5);
    let open = world.incident().expect("an incident");
    let canary = open.canary.expect("one goes first");
    let instance = world.core.agents()[&canary].current.as_ref().unwrap().instance.clone();
    world.die(&instance, EndedBy::Agent, world.now);
    pass(&mut world, 19.9);
    assert_eq!(alive(&world).len(), 3, "held twice as long\n{}", world.story());
    pass(&mut world, 0.6);
    assert_eq!(alive(&world).len(), 4);
    pass(&mut world, 3.0);
    assert_eq!(alive(&world).len(), 6);
    world.check_closed();
}

#[test]
fn a_person_passes_a_hold_for_their_agent_and_a_stop_ends_it_for_theirs() {
    let mut world = quiet(6);
    kill(&mut world, 3, EndedBy::Agent);
    pass(&mut world, 1.0);
    let agents = world.incident().expect("an incident").agents;
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::No };
    let (first, second, third) = (agents[0].clone(), agents[1].clone(), agents[2].clone());
    world.ask(Request::Start { agent: first.clone(), overrides: None, ask: ask.clone() }, true);
    world.ask(Request::Reset { agent: second.clone(), ask: ask.clone() }, true);
    pass(&mut world, 1.0);
    assert_eq!(alive(&world).len(), 5, "both are back\n{}", world.story());
    assert_eq!(world.core.agents()[&third].state(), State::Backoff);
    world.ask(Request::Stop { agent: third.clone(), how: How::default(), ask }, true);
    pass(&mut world, 0.1);
    assert_eq!(world.core.agents()[&third].state(), State::Stopped);
    assert!(world.incident().is_none(), "nobody waits for it any more");
    world.check_closed();
}

#[test]
fn a_tmux_server_that_dies_holds_nobody() {
    let mut world = quiet(7);
    kill(&mut world, 6, EndedBy::ServerGone);
    pass(&mut world, 0.5);
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
    let closed = &world.core.incidents()[0];
    assert_eq!(closed.cause, gtd_proto::IncidentCause::TmuxServer);
    assert_eq!((closed.count, closed.recovered), (6, 6));
    world.check_closed();
}

#[test]
fn a_reboot_is_no_incident_and_no_failure() {
    let mut world = quiet(8);
    kill(&mut world, 6, EndedBy::Reboot);
    world.due.clear();
    world.crash();
    pass(&mut world, 1.0);
    assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
    assert!(world.kept.opened.is_empty());
    assert!(world.core.agents().values().all(|machine| machine.memory.consecutive == 0));
}

#[test]
fn deaths_on_both_sides_of_a_crash_of_the_daemon_are_one_incident() {
    let mut world = quiet(9);
    kill(&mut world, 2, EndedBy::Agent);
    pass(&mut world, 2.0);
    assert!(world.incident().is_none());
    // Those two are back; a third dies while nobody looks.
    let third = alive(&world)
        .into_iter()
        .find(|id| {
            let agent = &world.processes[id].agent;
            !world.processes.values().any(|p| !p.alive && p.agent == *agent)
        })
        .expect("one that has not died");
    world.die(&third, EndedBy::Agent, world.now);
    world.crash();
    pass(&mut world, 1.0);
    let open = world.incident().expect("an incident");
    assert_eq!((open.count, open.state), (3, IncidentState::Holding), "\n{}", world.story());
    let named = world.kept.exits.values().filter(|exit| exit.incident.is_some()).count();
    assert_eq!(named, 3, "those that were told before are named too");
    pass(&mut world, 15.0);
    world.check_closed();
}

#[test]
fn requested_stops_are_no_incident() {
    let mut world = quiet(10);
    let ask = Ask { by: "person".into(), reason: None, wait: Wait::No };
    for agent in world.core.agents().keys().cloned().collect::<Vec<_>>() {
        world.ask(Request::Stop { agent, how: How::default(), ask: ask.clone() }, true);
    }
    pass(&mut world, 5.0);
    assert!(world.kept.opened.is_empty());
}

#[test]
fn what_died_while_no_daemon_was_there_is_judged_as_one() {
    let mut world = quiet(11);
    kill(&mut world, 5, EndedBy::Agent);
    world.crash();
    pass(&mut world, 2.0);
    let open = world.incident().expect("an incident");
    assert_eq!(open.count, 5);
    assert_eq!(alive(&world).len(), 1, "nobody was started before all were looked for\n{}", world.story());
    pass(&mut world, 12.0);
    assert_eq!(alive(&world).len(), 6);
    world.check_closed();
}

#[test]
fn a_hold_that_ran_out_while_no_daemon_was_there_still_sends_one_first() {
    let mut world = quiet(12);
    kill(&mut world, 4, EndedBy::Agent);
    pass(&mut world, 2.0);
    world.now = after(world.now, Duration::from_secs(600));
    world.crash();
    pass(&mut world, 1.5);
    assert_eq!(alive(&world).len(), 3, "two, and one that goes first\n{}", world.story());
    pass(&mut world, 3.0);
    assert_eq!(alive(&world).len(), 6);
    world.check_closed();
}

#[test]
fn a_tmux_that_does_not_answer_at_the_end_of_a_hold_is_waited_for() {
    let mut world = quiet(13);
    kill(&mut world, 4, EndedBy::Agent);
    pass(&mut world, 5.0);
    world.step(Input::Tmux(Some("it does not answer".into())), true);
    pass(&mut world, 60.0);
    assert!(world.incident().is_some() && alive(&world).len() == 2);
    world.step(Input::Tmux(None), true);
    pass(&mut world, 1.0);
    assert_eq!(alive(&world).len(), 3, "one goes first\n{}", world.story());
    pass(&mut world, 3.0);
    assert_eq!(alive(&world).len(), 6);
    world.check_closed();
}

#[test]
fn a_daemon_that_dies_as_it_sends_one_first_doubles_no_hold() {
    for seed in 0..10 {
        let mut world = quiet(20 + seed);
        kill(&mut world, 4, EndedBy::Agent);
        pass(&mut world, 1.0);
        world.now = world.core.next_deadline().expect("the end of the hold");
        world.step(Input::Time, false);
        world.crash();
        // Whether it was started after all or another one is sent: each has its time to live, and that is all.
        pass(&mut world, 1.0);
        assert!(alive(&world).len() <= 3, "one goes first\n{}", world.story());
        pass(&mut world, 3.6);
        assert_eq!(alive(&world).len(), 6, "\n{}", world.story());
        world.check_closed();
    }
}

#[test]
fn one_that_goes_first_and_ends_by_itself_shows_nothing() {
    let mut world = quiet(40);
    kill(&mut world, 3, EndedBy::Agent);
    pass(&mut world, 10.5);
    let canary = world.incident().and_then(|open| open.canary).expect("one goes first");
    let instance = world.core.agents()[&canary].current.as_ref().unwrap().instance.clone();
    let What::Ended(mut end) = ending(EndedBy::Agent, world.now) else { panic!() };
    end.code = Some(0);
    for what in [What::Ended(end), What::Gone { survivors: Vec::new() }] {
        world.step(Input::Report(Report { agent: canary.clone(), instance: instance.clone(), what }), true);
    }
    world.processes.get_mut(&instance).unwrap().alive = false;
    pass(&mut world, 19.0);
    assert_eq!(alive(&world).len(), 3, "held twice as long\n{}", world.story());
    pass(&mut world, 5.0);
    assert_eq!(alive(&world).len(), 6);
    world.check_closed();
}
