//! Workers with work in the made-up world: hooks that change, stores that fall silent, answers that come late or
//! not at all, ends of all kinds, people who start and stop, and a daemon that dies in between.
//!
//! At every step: a worker is never brought back after a good answer has said that its work is done, unless
//! somebody asks for it; it is never given up while it has work and was to run; a worker that is done is no
//! failure. At the end everybody who has work and was to run does.

use std::sync::Arc;

use gtd::supervisor::closed::Closed;
use gtd::supervisor::hooked::{Finding, Question, Task};
use gtd::supervisor::hooks::{HookFact, Hooks, StoreFact};
use gtd::supervisor::progress::{Seen, Stall};
use gtd_proto::AgentName;
use gtd_proto::event::kind;

use super::world::*;

/// The made-up store of work, and what is known of workers.
#[derive(Default)]
pub struct Shop {
    /// Open work by agent: what is true.
    hooks: BTreeMap<Address, Task>,
    /// What the store was seen to have when it was looked at last.
    seen: BTreeMap<Address, Task>,
    silent: bool,
    made: u64,
    pub questions: Vec<Question>,
    /// Whose work is done, by a good answer, with nobody having asked for them since.
    done: BTreeSet<Address>,
    /// The question that is just being answered, and with what.
    answering: Option<(Address, bool)>,
    /// Stalls that were told of, by agent and instance.
    stalls: BTreeMap<(Address, InstanceId), u64>,
    finished: u64,
    failed: u64,
    told: BTreeSet<String>,
}

fn worker(n: u64) -> Address {
    let name = ["nux", "ace", "b-witness"][usize::try_from(n % 3).unwrap()];
    Address::Polecat(RigName::new("a").unwrap(), AgentName::new(name).unwrap())
}

fn person() -> Ask {
    Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd }
}

impl World {
    fn workshop(seed: u64) -> Self {
        let mut world = World::new(seed);
        let names = (0..3).filter_map(|n| worker(n).name().cloned()).collect();
        world.facts.rigs.get_mut(&RigName::new("a").unwrap()).unwrap().polecats = names;
        world.facts.read_at = world.now;
        let facts = world.facts.clone();
        world.step(Input::Facts(facts), true);
        world.show_hooks(true);
        world
    }

    /// The store is looked at; while it is silent what was seen last stands.
    fn show_hooks(&mut self, survives: bool) {
        let shop = &mut self.shop;
        if !shop.silent {
            shop.seen = shop.hooks.clone();
        }
        let fact = |task: &Task| HookFact {
            work: task.id.clone(),
            title: task.title.clone(),
            since: task.since,
            also: Vec::new(),
        };
        let store = StoreFact {
            source: "made up".into(),
            at: Some(self.now),
            error: shop.silent.then(|| "it is silent".into()),
            hooks: shop.seen.iter().map(|(agent, task)| (agent.clone(), fact(task))).collect(),
        };
        let hooks = Hooks {
            stores: [("s".to_owned(), store)].into(),
            homes: [(RigName::new("a").unwrap(), "s".to_owned())].into(),
        };
        self.step(Input::Hooks(Arc::new(hooks)), survives);
    }

    fn hook(&mut self, agent: Address) {
        self.shop.made += 1;
        let id = format!("a-{}", self.shop.made);
        let task = Task { title: format!("work {id}"), id, since: self.now };
        self.shop.hooks.insert(agent.clone(), task);
        self.shop.done.remove(&agent);
        self.show_hooks(true);
    }

    fn answer_one(&mut self, survives: bool) {
        if self.shop.questions.is_empty() {
            return;
        }
        let n = usize::try_from(self.dice.roll(self.shop.questions.len() as u64)).unwrap();
        let question = self.shop.questions.remove(n);
        let finding = match self.shop.hooks.get(&question.agent) {
            _ if self.shop.silent => Finding::Unknown("it is silent".into()),
            Some(task) => Finding::Open(task.clone()),
            None => Finding::Nothing,
        };
        // Of an answer that the daemon dies on nobody has heard.
        if finding == Finding::Nothing && survives {
            let machine = &self.core.agents()[&question.agent];
            let had = machine.work.as_ref().map(|work| work.id.clone());
            // A start that somebody asked for is under way: it goes on.
            let asked = match &machine.phase {
                Phase::Ending { .. } | Phase::Draining { .. } | Phase::Starting { .. } => true,
                Phase::Dead { died_at, .. } => machine.wish.at > *died_at,
                _ => false,
            };
            if question.last.is_some() && had == question.last && !asked {
                self.shop.done.insert(question.agent.clone());
            }
            self.shop.answering = Some((question.agent.clone(), false));
        }
        self.step(Input::Answered { question, finding }, survives);
        self.shop.answering = None;
    }

    pub fn check_launch(&mut self, agent: &Address) {
        // The end of a hold of the town, or of its rig, brings back whoever ran before it.
        let why = self.core.agents()[agent].reason.clone().unwrap_or_default();
        let by_itself = ["died", "over", "another try", "come after"].iter().any(|word| why.contains(word));
        let done = self.shop.done.contains(agent) && by_itself;
        assert!(!done, "{agent} was brought back, and is done: {why}\n{}", self.story());
    }

    pub fn check_workers(&mut self, turn: &Turn) {
        self.shop.questions.extend(turn.questions.iter().cloned());
        for write in &turn.writes {
            match write {
                Write::Agent(row) if matches!(row.address, Address::Polecat(..)) => {
                    let given_up = row.intent == Intent::Stopped && row.intent_by == "supervisor";
                    let was = self.agents.get(&row.address).map(|before| before.intent);
                    let has_work = self.shop.hooks.contains_key(&row.address);
                    assert!(
                        !(given_up && was == Some(Intent::Running) && has_work),
                        "{} was given up with work on its hook: {:?}\n{}",
                        row.address,
                        row.intent_reason,
                        self.story()
                    );
                    self.shop.finished += u64::from(given_up && was == Some(Intent::Running));
                }
                Write::Exit(exit) if matches!(exit.agent, Address::Polecat(..)) => {
                    let done = self.shop.answering.as_ref().is_some_and(|(agent, _)| *agent == exit.agent);
                    let clean = exit.code == Some(0) && exit.cause == gtd_proto::Cause::Clean;
                    assert!(
                        !(done && clean && exit.counts),
                        "a worker that is done failed\n{}",
                        self.story()
                    );
                    self.shop.failed += u64::from(exit.counts);
                }
                Write::Event(event) => {
                    if event.kind == kind::AGENT_STALLED {
                        let key = (event.agent.clone().unwrap(), event.instance.clone().unwrap());
                        *self.shop.stalls.entry(key).or_default() += 1;
                    }
                    self.shop.told.insert(event.kind.to_string());
                }
                _ => {}
            }
        }
    }

    fn work_happens(&mut self) {
        let agent = worker(self.dice.roll(3));
        let survives = !self.dice.one_in(15);
        let how = How { now: self.dice.one_in(2), force: false };
        match self.dice.roll(16) {
            0 if !self.shop.silent => self.hook(agent),
            1 | 2 if !self.shop.silent => {
                // Closed by somebody; whether it is noticed at once is another matter.
                self.shop.hooks.remove(&agent);
                if self.dice.one_in(2) {
                    self.show_hooks(survives);
                }
            }
            3 => {
                self.shop.silent = !self.shop.silent;
                self.show_hooks(survives);
            }
            4 => self.show_hooks(survives),
            5..=7 => self.answer_one(survives),
            8 | 9 => {
                self.shop.done.remove(&agent);
                if !self.shop.silent && !self.shop.hooks.contains_key(&agent) && self.dice.one_in(2) {
                    self.hook(agent.clone());
                }
                self.ask(Request::Start { agent, overrides: None, ask: person() }, survives);
            }
            10 => {
                self.shop.done.remove(&agent);
                self.ask(Request::Restart { agent, overrides: None, how, ask: person() }, survives);
            }
            11 => self.ask(Request::Stop { agent, how, ask: person() }, survives),
            12 => {
                let current = self.core.agents()[&agent].current.as_ref().map(|c| c.instance.clone());
                if let Some(instance) = current {
                    let end = Ending { code: Some(0), signal: None, ..plain_end(EndedBy::Agent, self.now) };
                    self.die_so(&instance, end, self.now);
                }
            }
            13 => self.step(Input::Orphans, survives),
            14 => {
                let stalls = self.core.agents().values().filter_map(|machine| {
                    let watched = machine.watched()?;
                    let idle = Duration::from_secs(100);
                    let agent = machine.address.clone();
                    Some(Stall {
                        agent,
                        instance: watched.instance,
                        work: watched.work,
                        idle,
                        tail: Vec::new(),
                        seen: Seen::Nothing,
                    })
                });
                let stalls = stalls.collect();
                self.step(Input::Stalls { stalls, gupp_after: Duration::from_secs(60) }, survives);
            }
            _ => {
                self.shop.done.remove(&agent);
                self.ask(Request::Reset { agent, ask: person() }, survives);
            }
        }
        if !survives {
            self.crash();
            self.show_hooks(true);
        }
    }
}

#[test]
fn workers_are_brought_back_for_their_work_and_for_nothing_else() {
    let (mut finished, mut failed, mut stalls) = (0, 0, 0);
    let mut told = BTreeSet::new();
    for seed in 0..120 {
        let mut world = World::workshop(seed + 20_000);
        for _ in 0..150 {
            let pause = [0, 1, 10, 300, 5_000, 60_000, 600_000][usize::try_from(world.dice.roll(7)).unwrap()];
            world.pass(after(world.now, Duration::from_millis(pause)));
            if world.dice.one_in(3) {
                world.happen();
            } else {
                world.work_happens();
            }
        }
        world.shop.silent = false;
        for _ in 0..3 {
            world.show_hooks(true);
            while !world.shop.questions.is_empty() {
                world.answer_one(true);
            }
            world.step(Input::Round, true);
            world.pass(after(world.now, Duration::from_secs(60)));
        }
        world.calm_down();
        world.check_quiet();
        for n in 0..3 {
            let machine = &world.core.agents()[&worker(n)];
            // Whoever was to run, and is not, was given up for good reason: that was checked when it happened.
            assert!(machine.unjudged.is_none(), "{}\n{}", machine.address, world.story());
        }
        finished += world.shop.finished;
        failed += world.shop.failed;
        stalls += world.shop.stalls.len();
        told.append(&mut world.shop.told);
    }
    assert!(finished > 100 && failed > 100 && stalls > 10, "{finished} {failed} {stalls}");
    for kind in [kind::AGENT_STALLED, kind::WORK_ORPHANED, kind::POLECAT_RESTART_FAILED, kind::AGENT_RELEASED]
    {
        assert!(told.contains(kind), "{kind}: {told:?}");
    }
}

/// A directory that cannot be listed is not an empty one.
#[test]
fn a_worker_is_not_forgotten_because_its_directory_cannot_be_listed() {
    let mut world = World::workshop(1);
    world.sure = true;
    world.ask(Request::Drain { agent: worker(0), ask: person() }, true);
    let rig = RigName::new("a").unwrap();
    world.now = after(world.now, Duration::from_secs(60));
    world.facts.read_at = world.now;
    world.facts.rigs.get_mut(&rig).unwrap().polecats.clear();
    world.facts.unlisted.insert(rig);
    let facts = world.facts.clone();
    world.step(Input::Facts(facts), true);
    assert!(world.core.agents()[&worker(0)].drain.is_some());
    world.facts.unlisted.clear();
    let facts = world.facts.clone();
    world.step(Input::Facts(facts), true);
    assert!(!world.core.agents().contains_key(&worker(0)), "its directory is gone");
}

#[test]
fn what_is_being_made_or_removed_is_started_by_nobody_until_it_is_opened() {
    let mut world = World::workshop(2);
    world.sure = true;
    let closed = |world: &mut World, closed| {
        world.ask(Request::Close { agent: worker(0), closed }, true);
    };
    let start = Request::Start { agent: worker(0), overrides: None, ask: person() };
    let state = |world: &World| world.core.agents()[&worker(0)].state();
    closed(&mut world, Some(Closed::Removing));
    world.ask(start.clone(), true);
    assert_eq!(state(&world), State::Stopped);
    // Forgotten, and seen once more.
    world.ask(Request::Dismiss { agent: worker(0), ask: person() }, true);
    let facts = world.facts.clone();
    world.step(Input::Facts(facts), true);
    world.ask(start.clone(), true);
    assert_eq!(state(&world), State::Stopped);
    closed(&mut world, None);
    world.ask(start, true);
    world.pass(after(world.now, Duration::from_secs(20)));
    assert_eq!(state(&world), State::Running, "{}", world.story());
    // What runs of it runs on.
    closed(&mut world, Some(Closed::Making));
    assert_eq!(state(&world), State::Running);
}

/// A store that was not asked yet is not one that has nothing.
#[test]
fn orphaned_work_is_told_once_also_while_a_new_daemon_has_asked_nobody() {
    let mut world = World::workshop(3);
    world.sure = true;
    world.hook(worker(0));
    let round = |world: &mut World| {
        let turn = world.core.step(Input::Orphans, world.now);
        let told = turn.writes.iter();
        let told = told.filter(|write| matches!(write, Write::Event(event) if event.kind == "work.orphaned"));
        let told = told.count();
        world.carry_out(turn, true);
        told
    };
    assert_eq!(round(&mut world), 1);
    world.step(Input::Hooks(Arc::default()), true);
    assert_eq!(round(&mut world), 0);
    world.show_hooks(true);
    assert_eq!(round(&mut world), 0);
}
