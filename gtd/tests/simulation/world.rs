//! The made-up world: processes that live and die, a ledger, a daemon that can be killed at any point.

pub use std::collections::{BTreeMap, BTreeSet};
pub use std::time::Duration;

pub use gtd::agents::order::{
    EndedBy, Ending, Failure, FailureKind, Life, Order, Outfit, Overrides, Place, ProviderLimit, Report, What,
};
pub use gtd::ledger::{AgentRow, HoldRow, InstanceRow, Write};
pub use gtd::process::{BootId, Pid, ProcessId, StartTime};
pub use gtd::supervisor::core::{Core, Input, Makers};
pub use gtd::supervisor::machine::{Machine, Pause, Phase};
pub use gtd::supervisor::planner::Bounds;
pub use gtd::supervisor::policy::{Numbers, after};
pub use gtd::supervisor::reports::Said;
pub use gtd::supervisor::requests::{Ask, How, Request, Wait};
pub use gtd::supervisor::rigs::{FileState, Sight, Standing};
pub use gtd::supervisor::throttle::Figures;
pub use gtd::supervisor::turn::{Answer, Ticket, Turn};
pub use gtd::supervisor::{Facts, Mode, RigFacts, Settings};
pub use gtd::town::wisp::Status;
pub use gtd_proto::exit::ExecError;
pub use gtd_proto::params::ReportState;
pub use gtd_proto::{Address, InstanceId, Intent, RigName, State, Timestamp};

/// A small generator: the same seed is the same world on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A process of an instance in the made-up world.
#[derive(Debug, Clone)]
pub struct Process {
    pub agent: Address,
    pub alive: bool,
    /// How it ended, once it has.
    pub ended: Option<EndedBy>,
    /// Nothing can be told about it.
    pub dark: bool,
}

pub struct World {
    pub dice: Dice,
    pub now: Timestamp,
    pub core: Core,
    pub agents: BTreeMap<Address, AgentRow>,
    pub instances: BTreeMap<InstanceId, InstanceRow>,
    pub hold: Option<HoldRow>,
    pub processes: BTreeMap<InstanceId, Process>,
    pub due: Vec<(Timestamp, Report)>,
    pub facts: Facts,
    pub tickets: u64,
    pub unanswered: BTreeSet<Ticket>,
    /// Instances whose launch a crash of the daemon overtook: tmux may still start them.
    pub in_flight: Vec<(InstanceId, Address)>,
    /// What the ledger keeps of deaths, and what is checked of incidents.
    pub kept: super::incidents::Kept,
    /// Every launch succeeds.
    pub sure: bool,
    /// Every launch fails, through no fault of the agent's.
    pub failing: bool,
    /// The next daemon may start nothing before the sessions were looked at.
    pub unsurveyed: bool,
    pub log: Vec<String>,
    pub settings: Settings,
    pub tmux: Option<String>,
    pub figures: Figures,
    /// States and causes that were seen.
    pub seen: BTreeSet<String>,
    /// Ends that were ordered of instances about which nothing can be told.
    pub ordered: BTreeSet<InstanceId>,
    /// Instances that stand still.
    pub frozen: BTreeSet<InstanceId>,
    /// What the stores of work are asked, and what is checked of workers.
    pub shop: super::workers::Shop,
}

pub fn settings() -> Settings {
    Settings {
        numbers: Numbers::default(),
        mass_death: gtd::supervisor::incident::Numbers::default(),
        start_timeout: Duration::from_secs(60),
        drain: Duration::from_secs(30),
        bounds: Bounds { max_agents: 0, min_free_memory: 100, min_free_disk: 100, max_per_rig: 0 },
    }
}

pub fn makers(seed: u64) -> Makers {
    let mut dice = Dice(seed);
    Makers {
        instance: Box::new(InstanceId::generate),
        chance: Box::new(move || (dice.roll(2_001) as f64 - 1_000.0) / 1_000.0),
    }
}

pub fn facts(names: &[&str]) -> Facts {
    let rig = |name: &str| RigFacts {
        file: FileState::default(),
        standing: Standing::default(),
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

pub fn id(n: i32) -> ProcessId {
    ProcessId { boot: BootId::new("boot"), pid: Pid::new(n).unwrap(), start: StartTime::new(1) }
}

/// The plainest end of a kind.
pub fn plain_end(by: EndedBy, at: Timestamp) -> Ending {
    let What::Ended(end) = ending(by, at) else { panic!("an end") };
    *end
}

/// A life under an account that all witnesses share.
pub fn life_of(agent: &Address) -> Life {
    let account = matches!(agent, Address::Witness(_)).then(|| "work".to_owned());
    Life { account, ..life() }
}

pub fn life() -> Life {
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
        outfit: Outfit::default(),
    }
}

pub fn ending(by: EndedBy, at: Timestamp) -> What {
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
        client_activity: None,
        limit: None,
        oom: None,
        said: None,
        detected_by: "pidfd",
        detect_ms: None,
    }))
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, settings())
    }

    pub fn with(seed: u64, settings: Settings) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let (core, turn) =
            Core::resume(settings.clone(), false, None, Vec::new(), Vec::new(), makers(seed), now);
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
            kept: super::incidents::Kept::default(),
            sure: false,
            failing: false,
            unsurveyed: false,
            log: Vec::new(),
            settings,
            tmux: None,
            figures: Figures { free_memory: Some(1_000), free_disk: None },
            seen: BTreeSet::new(),
            ordered: BTreeSet::new(),
            frozen: BTreeSet::new(),
            shop: super::workers::Shop::default(),
        };
        world.carry_out(turn, true);
        world.step(Input::Figures(world.figures), true);
        let facts = world.facts.clone();
        world.step(Input::Facts(facts), true);
        world
    }

    pub fn step(&mut self, input: Input, survives: bool) {
        self.log.push(format!("{:?}: {input:?}", self.now));
        let turn = self.core.step(input, self.now);
        self.carry_out(turn, survives);
        for machine in self.core.agents().values() {
            self.seen.insert(machine.state().to_string());
        }
        self.check();
    }

    /// What holds at every moment: each wait has an end that is not too far, a reason, and a way out.
    pub fn check(&self) {
        self.check_drains();
        let numbers = &self.settings.numbers;
        for machine in self.core.agents().values() {
            let under_way = matches!(
                machine.phase,
                Phase::Starting { .. }
                    | Phase::Dead { .. }
                    | Phase::Draining { .. }
                    | Phase::Ending { .. }
                    | Phase::Adopting
            );
            // Else it would pass something that nobody has asked it to pass.
            assert!(!machine.passes || under_way, "{} passes\n{}", machine.address, self.story());
            let (until, why) = match machine.phase {
                Phase::Waiting { until, why } => (until, why),
                _ => continue,
            };
            let longest = match why {
                Pause::Quarantine => numbers.quarantine_max,
                Pause::Retry => Duration::from_secs(5),
                Pause::Throttled => Duration::from_secs(8 * 24 * 3_600),
                Pause::Held => numbers.hold.unwrap_or(Duration::MAX),
                _ => numbers.max,
            };
            let at_most = after(self.now, longest);
            assert!(until <= at_most, "{} waits until {until}\n{}", machine.address, self.story());
            assert!(machine.reason.is_some(), "{} waits without a reason\n{}", machine.address, self.story());
        }
    }

    /// Commits, then acts, unless the daemon dies in between.
    pub fn carry_out(&mut self, turn: Turn, survives: bool) {
        self.check_incident(&turn);
        self.check_workers(&turn);
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
                Write::Exit(exit) => {
                    let declared = if exit.evidence.is_some() { " with evidence" } else { "" };
                    self.seen.insert(format!("{}{declared}", exit.cause.as_str()));
                }
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

    pub fn obey(&mut self, agent: Address, order: Order) {
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
                assert!(
                    !self.kept.facts.contains_key(gtd::supervisor::core::OBSERVING),
                    "{agent} was started while nobody knows what should run\n{}",
                    self.story()
                );
                let drained = self.agents.get(&agent).and_then(|row| row.policy.get("drain"));
                assert!(drained.is_none(), "{agent} was started while it is drained\n{}", self.story());
                self.check_launch(&agent);
                self.check_not_paused(&agent);
                let standing = !matches!(agent, Address::Polecat(..));
                let left_alone = standing
                    && self.core.facts().rigs.get(agent.rig().unwrap()).is_some_and(|rig| {
                        let mode =
                            if matches!(agent, Address::Witness(_)) { &rig.witness } else { &rig.refinery };
                        matches!(mode, Mode::Off(_))
                    });
                assert!(
                    !left_alone || self.agents[&agent].intent_by != "supervisor",
                    "{agent} was started, and policy is to leave it alone\n{}",
                    self.story()
                );
                let barred =
                    agent.rig().is_none_or(|rig| self.core.facts().rigs[rig].standing.barred.is_some());
                let short = self.figures.free_memory.is_some_and(|free| free < 100);
                let running = self.core.agents().values().filter(|machine| machine.current.is_some()).count();
                let most = usize::try_from(self.settings.bounds.max_agents).unwrap();
                assert!(
                    !barred && !short && self.tmux.is_none() && (most == 0 || running <= most),
                    "{agent} was started where it may not be\n{}",
                    self.story()
                );
                if self.failing {
                    let kind = FailureKind::Tmux;
                    let failure = Failure { message: "made up".into(), hint: None, kind };
                    let report = Report { agent, instance, what: What::NotLaunched(failure) };
                    self.due.push((soon(5), report));
                    return;
                }
                if !self.sure && self.dice.one_in(12) {
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
                say(3, What::Placed(Box::new(life_of(&agent))));
                say(5, What::Alive { life: Box::new(life_of(&agent)), adopted: false });
                say(200, What::Ready);
            }
            Order::Adopt { instance, .. } => {
                let dark = !self.sure && self.dice.one_in(8);
                match self.processes.get_mut(&instance) {
                    Some(process) if dark => {
                        process.dark = true;
                        let what = What::Unknown { why: "made up".into() };
                        self.due.push((soon(2), Report { agent, instance, what }));
                    }
                    _ => self.tell(&agent, &instance),
                }
            }
            Order::Abandon { instance, evidence } => {
                let at = soon(2);
                let Some(process) = self.processes.get_mut(&instance).filter(|process| process.dark) else {
                    return;
                };
                let mut say = |what| {
                    self.due.push((at, Report { agent: agent.clone(), instance: instance.clone(), what }));
                };
                if process.alive {
                    return say(What::Unknown { why: "declared dead, and alive".into() });
                }
                process.dark = false;
                let said = Some(evidence);
                say(What::Ended(Box::new(Ending { said, ..plain_end(EndedBy::Declared, at) })));
                say(What::Gone { survivors: Vec::new() });
            }
            Order::End { instance, .. } => {
                if self.processes.get(&instance).is_some_and(|process| process.dark) {
                    self.ordered.insert(instance);
                    return;
                }
                let when = soon(self.dice.0 % 50 + 1);
                self.die(&instance, EndedBy::Term, when);
            }
            Order::Freeze { instance, frozen, number, .. } => self.freeze(agent, instance, frozen, number),
            Order::Close { .. } | Order::Forget { .. } => {}
        }
    }

    /// An agent's task has found out what became of an instance.
    pub fn tell(&mut self, agent: &Address, instance: &InstanceId) {
        let at = after(self.now, Duration::from_millis(2 + self.dice.roll(300)));
        let mut say = |what| {
            self.due.push((at, Report { agent: agent.clone(), instance: instance.clone(), what }));
        };
        match self.processes.get_mut(instance) {
            None => say(What::Never),
            Some(process) if process.alive => {
                process.dark = false;
                say(What::Alive { life: Box::new(life_of(agent)), adopted: true });
                if self.frozen.contains(instance) {
                    say(What::Still);
                }
                say(What::Ready);
                if self.ordered.remove(instance) {
                    self.die(&instance.clone(), EndedBy::Term, after(at, Duration::from_millis(1)));
                }
            }
            Some(process) => {
                process.dark = false;
                let by = process.ended.unwrap_or(EndedBy::Unknown);
                say(ending(by, at));
                say(What::Gone { survivors: Vec::new() });
            }
        }
    }

    /// Whatever could not be told can be.
    pub fn let_there_be_light(&mut self) {
        let dark: Vec<(Address, InstanceId)> = self
            .processes
            .iter()
            .filter(|(_, process)| process.dark)
            .map(|(instance, process)| (process.agent.clone(), instance.clone()))
            .collect();
        for (agent, instance) in dark {
            self.tell(&agent, &instance);
        }
    }

    pub fn come_alive(&mut self, instance: &InstanceId, agent: &Address) {
        let others = self.processes.iter().filter(|(_, p)| p.alive && p.agent == *agent).count();
        assert_eq!(others, 0, "two instances of {agent}\n{}", self.story());
        let process = Process { agent: agent.clone(), alive: true, ended: None, dark: false };
        self.processes.insert(instance.clone(), process);
    }

    pub fn die(&mut self, instance: &InstanceId, by: EndedBy, when: Timestamp) {
        self.die_so(instance, plain_end(by, when), when);
    }

    /// An instance ends in a way of its own.
    pub fn die_so(&mut self, instance: &InstanceId, end: Ending, when: Timestamp) {
        let by = end.by;
        let Some(process) = self.processes.get_mut(instance).filter(|process| process.alive) else { return };
        process.alive = false;
        process.ended = Some(by);
        if process.dark {
            return;
        }
        let agent = process.agent.clone();
        let mut say = |at, what| {
            self.due.push((at, Report { agent: agent.clone(), instance: instance.clone(), what }));
        };
        say(when, What::Ended(Box::new(end)));
        say(after(when, Duration::from_millis(2)), What::Gone { survivors: Vec::new() });
    }
}
