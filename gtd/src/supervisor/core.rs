//! The whole supervisor as one value: what it knows, and what follows from each thing that happens.
//!
//! Pure: no I/O, no clock, no dice. [`Core::step`] takes one input and the present instant and returns a
//! [`Turn`]. The loop in [`super::run`] commits, acts and answers; the simulation does the same with a
//! made-up world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, InstanceId, Intent, RigName, Timestamp};
use serde_json::json;

use super::closed::Closed;
use super::hooked::{Finding, Question};
use super::hooks::Hooks;
use super::incident::Breaker;
use super::machine::{Machine, Phase, Then};
use super::moves::End;
use super::orphaned::Orphan;
use super::pauses::Pauses;
use super::planner::{Facts, Settings, Situation};
use super::policy::after;
use super::progress::Stall;
use super::recall::{adopt, begin_adoption, recall};
use super::requests::Request;
use super::rig_requests::Chore;
use super::rigs::Record;
use super::throttle::{Figures, Limits};
use super::turn::{Answer, Ticket, Turn};
use super::waiting::Waiter;
use crate::agents::dialogs::Dialog;
use crate::agents::order::{Report, What};
use crate::ledger::{AgentRow, HoldRow, InstanceRow, Write};

/// Name of the ledger's fact that nobody knows what should run.
pub const OBSERVING: &str = "observing";

/// How long a new daemon puts off what follows from deaths while it looks for other agents. It takes some
/// milliseconds, unless tmux does not answer.
const LOOKING: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks for something.
    Request {
        /// Names the answer.
        ticket: Ticket,
        /// What is asked.
        request: Box<Request>,
    },
    /// An agent's task says something.
    Report(Report),
    /// The town looks different.
    Facts(Facts),
    /// tmux can be used again, or cannot for this reason.
    Tmux(Option<String>),
    /// The numbers are others now.
    Settings(Box<Settings>),
    /// Sessions on our server that carry the marks of instances that nobody knows: after a lost ledger. Told
    /// after each good look, also when there are none.
    Found(Vec<(Address, InstanceId)>),
    /// The panes of these agents are gone, and their processes live on.
    PaneGone(Vec<Address>),
    /// The screens of these starts were looked at for a dialog.
    Looked(Vec<(Address, InstanceId, Option<Dialog>)>),
    /// What these agents could not be launched for is there now.
    Mended(Vec<Address>),
    /// The machine's figures, looked at again.
    Figures(Figures),
    /// The machine was suspended for so long, until just now.
    Resumed {
        /// Time for which it did not run.
        suspended: Duration,
    },
    /// A file was written for a rig, or could not be.
    RigWritten {
        /// Which rig.
        rig: RigName,
        /// What was to be written.
        chore: Chore,
        /// When that was done.
        at: Timestamp,
        /// Why it could not be.
        error: Option<String>,
    },
    /// What the stores of work last said of all hooks.
    Hooks(Arc<Hooks>),
    /// What a store said to a question.
    Answered {
        /// Which question.
        question: Question,
        /// What it said.
        finding: Finding,
    },
    /// Agents that got nowhere for so long, and what their screens show.
    Stalls {
        /// Those that were looked at.
        stalls: Vec<Stall>,
        /// How long one may get nowhere.
        gupp_after: Duration,
    },
    /// A round of the heartbeat: work that nobody will do is looked for.
    Orphans,
    /// A round of the heartbeat: whatever should run and does not is looked at again.
    Round,
    /// A deadline may have come.
    Time,
}

/// Makes the two things that a pure function cannot.
pub struct Makers {
    /// Instance ids.
    pub instance: Box<dyn FnMut() -> InstanceId + Send>,
    /// Numbers between -1 and 1.
    pub chance: Box<dyn FnMut() -> f64 + Send>,
}

/// The supervisor's whole knowledge.
pub struct Core {
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) hold: Option<HoldRow>,
    pub(super) tmux: Option<String>,
    pub(super) observing: bool,
    /// The sessions were looked at for marks of instances that the ledger may not know. Nothing is started before.
    surveyed: bool,
    pub(super) agents: BTreeMap<Address, Machine>,
    pub(super) rigs: BTreeMap<RigName, Record>,
    /// Workers that are being made or removed.
    pub(super) closed: BTreeMap<Address, Closed>,
    /// What is paused.
    pub(super) pauses: Pauses,
    /// What agents have on their hooks, as last said.
    pub(super) hooks: Arc<Hooks>,
    questions: u64,
    pub(super) orphaned: BTreeMap<Address, Orphan>,
    pub(super) waiters: Vec<Waiter>,
    /// What limits starts beside failures.
    pub(super) limits: Limits,
    pub(super) breaker: Breaker,
    /// Until then, what died while no daemon was there is not decided on before all have been looked for: their
    /// deaths belong together.
    looking_until: Timestamp,
    makers: Makers,
}

impl Core {
    /// Takes up where the ledger ends; `observing` when the ledger does not know what should run. The [`Turn`] asks the agents' tasks to look for what was running.
    #[must_use]
    pub fn resume(
        settings: Settings,
        observing: bool,
        hold: Option<HoldRow>,
        rows: Vec<AgentRow>,
        instances: Vec<InstanceRow>,
        makers: Makers,
        now: Timestamp,
    ) -> (Self, Turn) {
        let mut core = Self {
            settings,
            facts: Facts::default(),
            hold,
            tmux: None,
            observing,
            surveyed: !observing,
            agents: BTreeMap::new(),
            rigs: BTreeMap::new(),
            closed: BTreeMap::new(),
            pauses: Pauses::default(),
            hooks: Arc::default(),
            questions: 0,
            orphaned: BTreeMap::new(),
            waiters: Vec::new(),
            limits: Limits::default(),
            breaker: Breaker::default(),
            looking_until: after(now, LOOKING),
            makers,
        };
        let mut turn = Turn::default();
        for row in rows {
            let machine = recall(row, &core.settings, now);
            core.limits.recall(&machine);
            core.agents.insert(machine.address.clone(), machine);
        }
        for row in instances {
            let machine =
                core.agents.entry(row.agent.clone()).or_insert_with(|| Machine::new(row.agent.clone(), now));
            adopt(machine, row, now, &mut turn);
        }
        (core, turn)
    }

    /// Starts nothing before the sessions were looked at: what was resumed from may lack the last moments.
    pub fn survey_first(&mut self) {
        self.surveyed = false;
    }

    /// What follows from an input.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Turn {
        let mut turn = Turn::default();
        self.limits.forget(now);
        self.count_running();
        match input {
            Input::Request { ticket, request } => self.request(ticket, *request, now, &mut turn),
            Input::Report(report) => self.report(report, now, &mut turn),
            Input::Facts(facts) => self.learn(facts, now, &mut turn),
            Input::Tmux(why) => self.see_tmux(why, now, &mut turn),
            Input::Settings(settings) => self.settings = *settings,
            Input::Mended(agents) => {
                for agent in agents {
                    self.each(&agent, now, &mut turn, |machine, situation, turn| {
                        if machine.phase == Phase::Broken {
                            machine.start_unless_held(
                                "what it could not be launched for is there now",
                                situation,
                                turn,
                            );
                        }
                    });
                }
            }
            Input::Looked(seen) => self.looked(seen, now, &mut turn),
            Input::Found(found) => self.found(found, now, &mut turn),
            Input::PaneGone(agents) => {
                for agent in agents {
                    self.each(&agent, now, &mut turn, |machine, situation, turn| {
                        // Without knowledge of what should run, nothing is ended.
                        if machine.phase == Phase::Running && !situation.observing {
                            machine.lingering = vec!["its pane is gone".to_owned()];
                            let then =
                                if machine.wish.intent == Intent::Running { Then::Start } else { Then::Rest };
                            let ask = End {
                                now: true,
                                ..End::new(then, "supervisor", "its pane is gone, and it lives on")
                            };
                            machine.end(ask, situation, turn);
                        }
                    });
                }
            }
            Input::Figures(figures) => self.limits.figures = figures,
            Input::Resumed { suspended } => self.resumed(suspended, now, &mut turn),
            Input::RigWritten { rig, chore, at, error } => {
                self.rig_written(&rig, chore, at, error, now, &mut turn);
            }
            Input::Hooks(hooks) => self.see_hooks(hooks, now, &mut turn),
            Input::Answered { question, finding } => self.answered(&question, finding, now, &mut turn),
            Input::Stalls { stalls, gupp_after } => self.heed_stalls(stalls, gupp_after, now, &mut turn),
            Input::Orphans => self.look_for_orphans(now, &mut turn),
            Input::Round => {
                self.ask_again(now, &mut turn);
                self.reconcile_all(now, &mut turn);
            }
            Input::Time => {}
        }
        self.heed_deaths(now, &mut turn);
        self.pass_time(now, &mut turn);
        self.tend_incident(now, &mut turn);
        self.tend_pauses(now, &mut turn);
        self.answer(now, &mut turn);
        self.forget_removed(&mut turn);
        turn
    }

    /// The earliest instant at which something happens by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let healthy_after = self.settings.numbers.healthy_after;
        let looking = self.is_looking(Timestamp::MIN);
        let agents = self.agents.values().filter_map(|machine| {
            let deadline = machine.deadline(healthy_after)?;
            let later = looking && matches!(machine.phase, Phase::Dead { gone: true, .. });
            Some(if later { deadline.max(self.looking_until) } else { deadline })
        });
        let waiters = self.waiters.iter().filter_map(Waiter::deadline);
        agents.chain(waiters).chain(self.incident_deadline()).chain(self.pauses.deadline()).min()
    }

    /// The agents, by address.
    #[must_use]
    pub fn agents(&self) -> &BTreeMap<Address, Machine> {
        &self.agents
    }

    /// The town as it was last seen.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Why tmux cannot be used, if it cannot: a sentence that names tmux.
    #[must_use]
    pub fn tmux_trouble(&self) -> Option<&str> {
        self.tmux.as_deref()
    }

    /// Why nothing is to run, if the town was stopped as a whole.
    #[must_use]
    pub fn hold(&self) -> Option<&HoldRow> {
        self.hold.as_ref()
    }

    /// What should run, or what does, is not known yet: nothing is started.
    pub(super) fn is_only_looking(&self) -> bool {
        self.observing || !self.surveyed
    }

    /// Runs a move of one agent with everything it may look at.
    pub(super) fn each<R>(
        &mut self,
        agent: &Address,
        now: Timestamp,
        turn: &mut Turn,
        r#move: impl FnOnce(&mut Machine, &mut Situation<'_>, &mut Turn) -> R,
    ) -> Option<R> {
        let (looking, observing) = (self.is_looking(now), self.is_only_looking());
        let machine = self.agents.get_mut(agent)?;
        let mut situation = Situation {
            now,
            settings: &self.settings,
            facts: &self.facts,
            rigs: &self.rigs,
            closed: &self.closed,
            pauses: &self.pauses,
            hooks: &self.hooks,
            questions: &mut self.questions,
            held: self.hold.is_some(),
            observing,
            tmux: self.tmux.as_deref(),
            limits: &mut self.limits,
            looking,
            incident: self.breaker.held(&self.settings.mass_death),
            new_instance: &mut *self.makers.instance,
            chance: &mut *self.makers.chance,
        };
        Some(r#move(machine, &mut situation, turn))
    }

    fn report(&mut self, report: Report, now: Timestamp, turn: &mut Turn) {
        let Report { agent, instance, what } = report;
        match what {
            What::Signals(signals) => {
                let signals = super::killed::with_reason(self.agents.get(&agent), signals);
                turn.writes.extend(signals.into_iter().map(Write::Signal));
                return;
            }
            What::NameTaken { wanted, used } => {
                if let Some(machine) = self.agents.get(&agent) {
                    turn.event(
                        machine,
                        kind::SESSION_NAME_TAKEN,
                        now,
                        json!({ "wanted": wanted, "used": used }),
                    );
                }
                return;
            }
            _ => {}
        }
        self.each(&agent, now, turn, |machine, situation, turn| {
            // A report of an earlier life says nothing about this one.
            if machine.current.as_ref().is_some_and(|current| current.instance == instance) {
                machine.on_report(what, situation, turn);
            }
        });
    }

    fn found(&mut self, found: Vec<(Address, InstanceId)>, now: Timestamp, turn: &mut Turn) {
        for (agent, instance) in found {
            let machine =
                self.agents.entry(agent.clone()).or_insert_with(|| Machine::new(agent.clone(), now));
            if machine.current.is_some() || machine.last_instance.as_ref() == Some(&instance) {
                continue;
            }
            turn.decided(&agent, now, "an unknown session carries its mark", "adopt", instance.as_str());
            begin_adoption(machine, instance, now, None, None, now, turn);
            // The next daemon must look for it too, if this one dies before it has found it.
            turn.instance_row(machine, false);
        }
        if !std::mem::replace(&mut self.surveyed, true) {
            self.reconcile_all(now, turn);
        }
    }

    pub(super) fn reconcile_all(&mut self, now: Timestamp, turn: &mut Turn) {
        for agent in self.by_rank() {
            self.each(&agent, now, turn, Machine::reconcile);
        }
    }

    fn pass_time(&mut self, now: Timestamp, turn: &mut Turn) {
        let healthy_after = self.settings.numbers.healthy_after;
        let mut due: Vec<Address> = self
            .agents
            .values()
            .filter(|machine| machine.deadline(healthy_after).is_some_and(|deadline| deadline <= now))
            .map(|machine| machine.address.clone())
            .collect();
        due.sort_by_key(|agent| self.urgency(agent));
        for agent in due {
            self.each(&agent, now, turn, Machine::on_time);
        }
    }

    /// Agents of an earlier daemon are still being looked for, and it has not taken too long yet.
    fn is_looking(&self, now: Timestamp) -> bool {
        let adopting = |machine: &Machine| machine.phase == Phase::Adopting;
        now < self.looking_until && self.agents.values().any(adopting)
    }

    fn answer(&mut self, now: Timestamp, turn: &mut Turn) {
        let outcomes = std::mem::take(&mut turn.outcomes);
        let mut waiting = std::mem::take(&mut self.waiters);
        waiting.retain_mut(|waiter| match waiter.hear(&outcomes, &self.agents, now) {
            Some(answer) => {
                turn.answers.push((waiter.ticket(), answer));
                false
            }
            None => true,
        });
        self.waiters.extend(waiting);
    }

    pub(super) fn reply(turn: &mut Turn, ticket: Ticket, answer: Answer) {
        turn.answers.push((ticket, answer));
    }
}
