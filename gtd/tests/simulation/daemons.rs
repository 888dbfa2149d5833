//! Time that passes, and daemons that die and take over from one another.

use super::world::*;

impl World {
    /// Lets time go on to an instant, with everything that is due until then.
    pub fn pass(&mut self, until: Timestamp) {
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
    pub fn crash(&mut self) {
        self.log.push(format!("{:?}: crash", self.now));
        self.due.clear();
        self.unanswered.clear();
        self.ordered.clear();
        self.shop.questions.clear();
        // What tmux had in hand comes to pass, or does not: the launch file decides, once.
        for (instance, agent) in std::mem::take(&mut self.in_flight) {
            if self.instances.contains_key(&instance) && !self.processes.contains_key(&instance) {
                self.come_alive(&instance, &agent);
            }
        }
        let seed = self.dice.roll(1 << 30);
        let rows = self.agents.values().cloned().collect();
        let instances = self.instances.values().cloned().collect();
        let (core, turn) = Core::resume(
            self.settings.clone(),
            self.kept.facts.contains_key(gtd::supervisor::core::OBSERVING),
            self.hold.clone(),
            rows,
            instances,
            makers(seed),
            self.now,
        );
        self.core = core;
        self.core.recall_rigs(&self.kept.facts);
        self.core.recall_pauses(&self.kept.facts);
        self.core.recall_deaths(&self.kept.facts, self.kept.exits(), |at| at, self.now);
        if std::mem::take(&mut self.unsurveyed) {
            self.core.survey_first();
        }
        self.carry_out(turn, true);
        // As the loop does: tmux is looked at before anybody has read the registry.
        self.step(Input::Tmux(self.tmux.clone()), true);
        self.step(Input::Figures(self.figures), true);
        let facts = self.facts.clone();
        self.step(Input::Facts(facts), true);
        if self.kept.facts.contains_key(gtd::supervisor::core::OBSERVING) {
            self.step(Input::Found(Vec::new()), true);
        }
    }
}
