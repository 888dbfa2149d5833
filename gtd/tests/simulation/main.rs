//! The whole supervisor against a made-up world: seeded schedules of deaths, failed launches, requests, parked
//! rigs, a tmux that does not answer, and crashes of the daemon at every point between a commit and its effect.
//!
//! After every step: never two processes of one agent, nothing started that should not be. At the end, when
//! the world is quiet: everything that should run does, whatever happened before.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking; the lints exempt only functions marked as tests"
)]

mod cases;
mod clocks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gtd::agents::order::{
    EndedBy, Ending, Failure, FailureKind, Life, Order, Overrides, Place, Report, What,
};
use gtd::ledger::{AgentRow, HoldRow, InstanceRow, Write};
use gtd::process::{BootId, Pid, ProcessId, StartTime};
use gtd::supervisor::core::{Core, Input, Makers};
use gtd::supervisor::machine::Phase;
use gtd::supervisor::policy::{Numbers, after};
use gtd::supervisor::requests::{Ask, How, Request, Wait};
use gtd::supervisor::turn::{Answer, Ticket, Turn};
use gtd::supervisor::{Facts, Mode, RigFacts, Settings};
use gtd_proto::exit::ExecError;
use gtd_proto::{Address, InstanceId, Intent, RigName, State, Timestamp};

/// A small generator: the same seed is the same world on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A process of an instance in the made-up world.
#[derive(Debug, Clone)]
struct Process {
    agent: Address,
    alive: bool,
    /// How it ended, once it has.
    ended: Option<EndedBy>,
}

struct World {
    dice: Dice,
    now: Timestamp,
    core: Core,
    agents: BTreeMap<Address, AgentRow>,
    instances: BTreeMap<InstanceId, InstanceRow>,
    hold: Option<HoldRow>,
    processes: BTreeMap<InstanceId, Process>,
    due: Vec<(Timestamp, Report)>,
    facts: Facts,
    tickets: u64,
    unanswered: BTreeSet<Ticket>,
    /// Instances whose launch a crash of the daemon overtook: tmux may still start them.
    in_flight: Vec<(InstanceId, Address)>,
    log: Vec<String>,
}

fn settings() -> Settings {
    Settings {
        numbers: Numbers::default(),
        start_timeout: Duration::from_secs(60),
        drain: Duration::from_secs(30),
    }
}

fn makers(seed: u64) -> Makers {
    let mut dice = Dice(seed);
    Makers {
        instance: Box::new(InstanceId::generate),
        chance: Box::new(move || (dice.roll(2_001) as f64 - 1_000.0) / 1_000.0),
    }
}

fn facts(names: &[&str]) -> Facts {
    let rig = |name: &str| RigFacts {
        barred: None,
        witness: Mode::Always,
        refinery: Mode::Always,
        path: format!("/town/{name}"),
        prefix: name.to_owned(),
        polecats: Vec::new(),
        crew: Vec::new(),
    };
    Facts {
        known: true,
        rigs: names.iter().map(|name| (RigName::new(*name).unwrap(), rig(name))).collect(),
        ..Facts::default()
    }
}

fn id(n: i32) -> ProcessId {
    ProcessId { boot: BootId::new("boot"), pid: Pid::new(n).unwrap(), start: StartTime::new(1) }
}

fn life() -> Life {
    Life {
        place: Place {
            socket: "/s".into(),
            server: id(2),
            session: "$1".into(),
            session_name: "s".into(),
            pane: "%1".into(),
        },
        shim: id(3),
        process: Some(id(4)),
        started_at: None,
        preset: "script".into(),
        account: None,
        cwd: "/town".into(),
        grace_ms: 1_000,
        launch: BTreeMap::new(),
    }
}

fn ending(by: EndedBy, at: Timestamp) -> What {
    let (code, signal) = if by == EndedBy::Agent { (Some(1), None) } else { (None, Some(9)) };
    What::Ended(Box::new(Ending {
        pid: Some(4),
        started_at: None,
        ended_at: at,
        code,
        signal,
        by,
        exec_error: None,
        output: Vec::new(),
        usage: gtd_proto::exit::Usage::default(),
        detected_by: "pidfd",
        detect_ms: None,
    }))
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (core, turn) = Core::resume(settings(), false, None, Vec::new(), Vec::new(), makers(seed), now);
        let mut world = Self {
            dice: Dice(seed),
            now,
            core,
            agents: BTreeMap::new(),
            instances: BTreeMap::new(),
            hold: None,
            processes: BTreeMap::new(),
            due: Vec::new(),
            facts: facts(&["a", "a-b", "a-witness"]),
            tickets: 0,
            unanswered: BTreeSet::new(),
            in_flight: Vec::new(),
            log: Vec::new(),
        };
        world.carry_out(turn, true);
        let facts = world.facts.clone();
        world.step(Input::Facts(facts), true);
        world
    }

    fn step(&mut self, input: Input, survives: bool) {
        self.log.push(format!("{:?}: {input:?}", self.now));
        let turn = self.core.step(input, self.now);
        self.carry_out(turn, survives);
    }

    /// Commits, then acts, unless the daemon dies in between.
    fn carry_out(&mut self, turn: Turn, survives: bool) {
        for write in turn.writes {
            match write {
                Write::Agent(row) => {
                    self.agents.insert(row.address.clone(), row);
                }
                Write::Instance(row) if row.ended => {
                    self.instances.remove(&row.instance);
                }
                Write::Instance(row) => {
                    self.instances.insert(row.instance.clone(), row);
                }
                Write::Hold(hold) => self.hold = hold,
                _ => {}
            }
        }
        if !survives {
            // tmux may or may not have had the command already.
            for (agent, order) in turn.orders {
                if let Order::Launch { instance, .. } = order
                    && self.dice.one_in(2)
                {
                    self.in_flight.push((instance, agent));
                }
            }
            return;
        }
        for (agent, order) in turn.orders {
            self.obey(agent, order);
        }
        for (ticket, answer) in turn.answers {
            assert!(
                self.unanswered.remove(&ticket),
                "answered twice: {ticket:?} {answer:?}\n{}",
                self.story()
            );
        }
    }

    fn obey(&mut self, agent: Address, order: Order) {
        let now = self.now;
        let soon = move |ms: u64| after(now, Duration::from_millis(ms));
        match order {
            Order::Launch { instance, .. } => {
                let allowed = self.agents.get(&agent).is_some_and(|row| row.intent == Intent::Running);
                assert!(
                    allowed && self.hold.is_none(),
                    "{agent} was started against its intent\n{}",
                    self.story()
                );
                if self.dice.one_in(12) {
                    let kind = match self.dice.roll(3) {
                        0 => FailureKind::Tmux,
                        1 => FailureKind::Ours,
                        _ => FailureKind::Exec(ExecError {
                            op: "exec".into(),
                            errno: "ENOENT".into(),
                            path: None,
                        }),
                    };
                    let failure = Failure { message: "made up".into(), hint: None, kind };
                    let report = Report { agent, instance, what: What::NotLaunched(failure) };
                    self.due.push((soon(5), report));
                    return;
                }
                self.come_alive(&instance, &agent);
                let mut say = |ms, what| {
                    self.due
                        .push((soon(ms), Report { agent: agent.clone(), instance: instance.clone(), what }));
                };
                say(3, What::Placed(Box::new(life())));
                say(5, What::Alive { life: Box::new(life()), adopted: false });
                say(200, What::Ready);
            }
            Order::Adopt { instance, .. } => {
                let at = soon(2);
                let mut say = |what| {
                    self.due.push((at, Report { agent: agent.clone(), instance: instance.clone(), what }));
                };
                match self.processes.get(&instance) {
                    None => say(What::Never),
                    Some(process) if process.alive => {
                        say(What::Alive { life: Box::new(life()), adopted: true });
                        say(What::Ready);
                    }
                    Some(process) => {
                        let by = process.ended.unwrap_or(EndedBy::Unknown);
                        say(ending(by, at));
                        say(What::Gone { survivors: Vec::new() });
                    }
                }
            }
            Order::End { instance, .. } => {
                let when = soon(self.dice.0 % 50 + 1);
                self.die(&instance, EndedBy::Term, when);
            }
            Order::Close { .. } | Order::Forget { .. } => {}
        }
    }

    fn come_alive(&mut self, instance: &InstanceId, agent: &Address) {
        let others = self.processes.iter().filter(|(_, p)| p.alive && p.agent == *agent).count();
        assert_eq!(others, 0, "two instances of {agent}\n{}", self.story());
        let process = Process { agent: agent.clone(), alive: true, ended: None };
        self.processes.insert(instance.clone(), process);
    }

    fn die(&mut self, instance: &InstanceId, by: EndedBy, when: Timestamp) {
        let Some(process) = self.processes.get_mut(instance).filter(|process| process.alive) else { return };
        process.alive = false;
        process.ended = Some(by);
        let agent = process.agent.clone();
        let mut say = |at, what| {
            self.due.push((at, Report { agent: agent.clone(), instance: instance.clone(), what }));
        };
        say(when, ending(by, when));
        say(after(when, Duration::from_millis(2)), What::Gone { survivors: Vec::new() });
    }

    /// Lets time go on to an instant, with everything that is due until then.
    fn pass(&mut self, until: Timestamp) {
        for _ in 0..100_000 {
            let report = self.due.iter().map(|(at, _)| *at).min();
            let timer = self.core.next_deadline();
            let Some(next) = [report, timer].into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(next);
            let (due, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= self.now);
            self.due = rest;
            if due.is_empty() {
                self.step(Input::Time, true);
            }
            for (_, report) in due {
                self.step(Input::Report(report), true);
            }
        }
        panic!("time does not pass\n{}", self.story());
    }

    /// The daemon is killed and a new one takes over from the ledger.
    fn crash(&mut self) {
        self.log.push(format!("{:?}: crash", self.now));
        self.due.clear();
        self.unanswered.clear();
        // What tmux had in hand comes to pass, or does not: the launch file decides, once.
        for (instance, agent) in std::mem::take(&mut self.in_flight) {
            if self.instances.contains_key(&instance) && !self.processes.contains_key(&instance) {
                self.come_alive(&instance, &agent);
            }
        }
        let seed = self.dice.roll(1 << 30);
        let rows = self.agents.values().cloned().collect();
        let instances = self.instances.values().cloned().collect();
        let (core, turn) =
            Core::resume(settings(), false, self.hold.clone(), rows, instances, makers(seed), self.now);
        self.core = core;
        self.carry_out(turn, true);
        let facts = self.facts.clone();
        self.step(Input::Facts(facts), true);
    }

    fn someone(&mut self) -> Address {
        let rigs: Vec<RigName> =
            ["a", "a-b", "a-witness"].iter().map(|name| RigName::new(*name).unwrap()).collect();
        let rig = rigs[usize::try_from(self.dice.roll(3)).unwrap()].clone();
        if self.dice.one_in(2) { Address::Witness(rig) } else { Address::Refinery(rig) }
    }

    fn ask(&mut self, request: Request, survives: bool) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.unanswered.insert(ticket);
        self.step(Input::Request { ticket, request: Box::new(request) }, survives);
    }

    fn happen(&mut self) {
        let agent = self.someone();
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        let how = How { now: self.dice.one_in(2), force: self.dice.one_in(3) };
        let survives = !self.dice.one_in(20);
        match self.dice.roll(16) {
            0..=5 => {
                let alive: Vec<InstanceId> =
                    self.processes.iter().filter(|(_, p)| p.alive).map(|(id, _)| id.clone()).collect();
                if let Some(victim) = alive.get(usize::try_from(self.dice.roll(6)).unwrap()) {
                    let by = [EndedBy::Agent, EndedBy::PaneClosed, EndedBy::ServerGone, EndedBy::Unknown]
                        [usize::try_from(self.dice.roll(4)).unwrap()];
                    self.die(&victim.clone(), by, self.now);
                }
            }
            6 => self.ask(Request::Stop { agent, how, ask }, survives),
            7 | 8 => self.ask(Request::Start { agent, overrides: Some(Overrides::default()), ask }, survives),
            9 => self.ask(Request::Restart { agent, overrides: None, how, ask }, survives),
            10 => self.ask(Request::Reset { agent, ask }, survives),
            11 => self.ask(Request::TownStop { how, ask }, survives),
            12 => self.ask(Request::TownStart { ask }, survives),
            13 => {
                let names: Vec<RigName> = self.facts.rigs.keys().cloned().collect();
                let rig = names[usize::try_from(self.dice.roll(3)).unwrap()].clone();
                let barred = self.dice.one_in(2).then(|| "parked".to_owned());
                self.facts.rigs.get_mut(&rig).unwrap().barred = barred;
                let facts = self.facts.clone();
                self.step(Input::Facts(facts), survives);
            }
            14 => {
                let why = self.dice.one_in(2).then(|| "it does not answer".to_owned());
                self.step(Input::Tmux(why), survives);
            }
            _ => self.crash(),
        }
        if !survives {
            self.crash();
        }
    }

    /// The world becomes quiet and friendly, and stays so for two days.
    fn calm_down(&mut self) {
        for facts in self.facts.rigs.values_mut() {
            facts.barred = None;
        }
        let facts = self.facts.clone();
        self.step(Input::Facts(facts), true);
        self.step(Input::Tmux(None), true);
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        self.ask(Request::TownStart { ask }, true);
        for _ in 0..6 {
            self.pass(after(self.now, Duration::from_secs(8 * 3_600)));
            let broken = self.core.agents().values().filter(|machine| machine.phase == Phase::Broken);
            let broken: Vec<Address> = broken.map(|machine| machine.address.clone()).collect();
            self.step(Input::Mended(broken), true);
            self.step(Input::Round, true);
        }
        self.pass(after(self.now, Duration::from_secs(60)));
    }

    fn check_quiet(&self) {
        for machine in self.core.agents().values() {
            let alive = self.processes.values().filter(|p| p.alive && p.agent == machine.address).count();
            match machine.wish.intent {
                Intent::Running => {
                    // A launch may fail at the very last moment; then it is waiting for its next one.
                    let waits = matches!(machine.phase, Phase::Waiting { .. } | Phase::Broken);
                    assert!(
                        machine.state() == State::Running || waits,
                        "{} should run and is {:?}\n{}",
                        machine.address,
                        machine.phase,
                        self.story()
                    );
                    assert_eq!(alive, usize::from(!waits), "{}\n{}", machine.address, self.story());
                }
                _ => {
                    assert_eq!(machine.state(), State::Stopped, "{}\n{}", machine.address, self.story());
                    assert_eq!(alive, 0, "{} should be stopped\n{}", machine.address, self.story());
                }
            }
        }
        assert!(self.unanswered.is_empty(), "nobody answered {:?}\n{}", self.unanswered, self.story());
    }

    fn story(&self) -> String {
        let from = self.log.len().saturating_sub(60);
        let short = self.log[from..].iter().map(|line| line.chars().take(160).collect::<String>());
        short.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn whatever_happens_there_are_never_two_and_in_the_end_everything_is_as_it_should_be() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            let pause =
                [0, 1, 10, 300, 5_000, 90_000, 3_600_000][usize::try_from(world.dice.roll(7)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            world.happen();
        }
        world.calm_down();
        world.check_quiet();
    }
}

#[test]
fn a_stop_outlives_the_daemon() {
    let mut world = World::new(7);
    world.pass(after(world.now, Duration::from_secs(600)));
    let agent = Address::Witness(RigName::new("a").unwrap());
    let ask = Ask { by: "person".into(), reason: Some("enough".into()), wait: Wait::ToTheEnd };
    world.ask(Request::Stop { agent: agent.clone(), how: How::default(), ask }, true);
    world.pass(after(world.now, Duration::from_secs(60)));
    world.crash();
    world.pass(after(world.now, Duration::from_secs(3_600)));
    let machine = &world.core.agents()[&agent];
    assert_eq!((machine.state(), machine.wish.intent), (State::Stopped, Intent::Stopped));
    assert_eq!(machine.wish.reason.as_deref(), Some("enough"));
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
