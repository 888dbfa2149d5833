//! What happens in the made-up world, by the dice, and how it becomes quiet.

use super::world::*;

impl World {
    /// The rig's state file says this, and was read just now.
    pub fn set_aside(&mut self, rig: &RigName, status: Option<Status>) {
        let file = FileState { sight: Sight::Good, status, restarts: None };
        self.facts.rigs.get_mut(rig).unwrap().file = file;
        self.facts.read_at = self.now;
    }

    pub fn someone(&mut self) -> Address {
        let rigs: Vec<RigName> =
            ["a", "a-b", "a-witness"].iter().map(|name| RigName::new(*name).unwrap()).collect();
        let rig = rigs[usize::try_from(self.dice.roll(3)).unwrap()].clone();
        if self.dice.one_in(2) { Address::Witness(rig) } else { Address::Refinery(rig) }
    }

    pub fn ask(&mut self, request: Request, survives: bool) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.unanswered.insert(ticket);
        self.step(Input::Request { ticket, request: Box::new(request) }, survives);
    }

    pub fn happen(&mut self) {
        let agent = self.someone();
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        let how = How { now: self.dice.one_in(2), force: self.dice.one_in(3) };
        let survives = !self.dice.one_in(20);
        match self.dice.roll(25) {
            0..=5 => {
                let alive: Vec<InstanceId> =
                    self.processes.iter().filter(|(_, p)| p.alive).map(|(id, _)| id.clone()).collect();
                if let Some(victim) = alive.get(usize::try_from(self.dice.roll(6)).unwrap()) {
                    let by = [EndedBy::Agent, EndedBy::PaneClosed, EndedBy::ServerGone, EndedBy::Unknown]
                        [usize::try_from(self.dice.roll(4)).unwrap()];
                    let mut end = plain_end(by, self.now);
                    match self.dice.roll(6) {
                        0 => (end.code, end.signal, end.client_activity) = (Some(0), None, Some(self.now)),
                        1 => (end.code, end.signal) = (Some(0), None),
                        2 => {
                            let wait =
                                self.dice.one_in(2).then(|| Duration::from_secs(self.dice.roll(20_000)));
                            end.limit = Some(ProviderLimit { line: "made up".into(), wait });
                        }
                        _ => {}
                    }
                    self.die_so(&victim.clone(), end, self.now);
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
                let status = self.dice.one_in(2).then_some(Status::Parked);
                self.set_aside(&rig, status);
                let facts = self.facts.clone();
                self.step(Input::Facts(facts), survives);
            }
            14 => {
                let why = self.dice.one_in(2).then(|| "it does not answer".to_owned());
                self.tmux.clone_from(&why);
                self.step(Input::Tmux(why), survives);
            }
            15 => {
                let free = if self.dice.one_in(2) { 50 } else { 1_000 };
                self.figures.free_memory = Some(free).filter(|_| !self.dice.one_in(4));
                self.step(Input::Figures(self.figures), survives);
            }
            16 => {
                let evidence = "made up".to_owned();
                self.ask(Request::DeclareDead { agent, evidence, ask }, survives);
            }
            17 => self.let_there_be_light(),
            18 => {
                let current = self.core.agents().get(&agent).and_then(|machine| machine.current.as_ref());
                if let Some(instance) = current.map(|current| current.instance.clone()) {
                    let state = [ReportState::Working, ReportState::Idle, ReportState::Waiting]
                        [usize::try_from(self.dice.roll(3)).unwrap()];
                    self.ask(Request::Said { instance, said: Said::of(state) }, survives);
                }
            }
            19 => {
                // Another agent asks, to whom less is allowed than to a person.
                let ask = Ask { by: "mayor".into(), reason: None, wait: Wait::ToTheEnd };
                self.ask(Request::Start { agent, overrides: None, ask }, survives);
            }
            20 => self.crash(),
            _ => self.many_die(),
        }
        if !survives {
            self.crash();
        }
    }

    /// The world becomes quiet and friendly, and stays so for two days.
    pub fn calm_down(&mut self) {
        for rig in self.facts.rigs.keys().cloned().collect::<Vec<_>>() {
            self.set_aside(&rig, None);
        }
        let facts = self.facts.clone();
        self.step(Input::Facts(facts), true);
        self.tmux = None;
        self.step(Input::Tmux(None), true);
        self.figures = Figures::default();
        self.step(Input::Figures(self.figures), true);
        self.let_there_be_light();
        let ask = Ask { by: "person".into(), reason: None, wait: Wait::ToTheEnd };
        self.ask(Request::TownStart { ask }, true);
        for _ in 0..6 {
            self.pass(after(self.now, Duration::from_secs(8 * 3_600)));
            let broken = self.core.agents().values().filter(|machine| machine.phase == Phase::Broken);
            let broken: Vec<Address> = broken.map(|machine| machine.address.clone()).collect();
            self.step(Input::Mended(broken), true);
            self.step(Input::Round, true);
        }
        self.let_there_be_light();
        self.pass(after(self.now, Duration::from_secs(60)));
    }

    pub fn check_quiet(&self) {
        for machine in self.core.agents().values() {
            let alive = self.processes.values().filter(|p| p.alive && p.agent == machine.address).count();
            match machine.wish.intent {
                Intent::Running => {
                    // A launch may fail at the very last moment; then it is waiting for its next one.
                    let waits = matches!(machine.phase, Phase::Waiting { .. } | Phase::Broken);
                    // Nothing that limits is left but what lasts until a person does something.
                    let limited = matches!(machine.phase, Phase::Waiting { why: Pause::Throttled, .. });
                    assert!(!limited, "{} is throttled\n{}", machine.address, self.story());
                    assert!(
                        machine.state() == State::Running || waits,
                        "{} should run and is {:?}: {:?}\n{}",
                        machine.address,
                        machine.phase,
                        machine.reason,
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
        self.check_closed();
        assert!(self.unanswered.is_empty(), "nobody answered {:?}\n{}", self.unanswered, self.story());
    }

    pub fn story(&self) -> String {
        let from = self.log.len().saturating_sub(60);
        let short = self.log[from..].iter().map(|line| line.chars().take(160).collect::<String>());
        short.collect::<Vec<_>>().join("\n")
    }
}
