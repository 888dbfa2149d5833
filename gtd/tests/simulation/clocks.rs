//! Time that passes while nobody looks: the machine sleeps, and somebody sets its clock.

use super::world::*;
use gtd::clock::{Clock, Now, ShiftWatch, Timeline};

const HOUR: Duration = Duration::from_secs(3_600);

/// The core by itself, on a clock that a test moves.
struct Town {
    clock: Clock,
    line: Timeline,
    watch: ShiftWatch,
    core: Core,
    rows: BTreeMap<Address, AgentRow>,
}

fn witness() -> Address {
    Address::Witness(RigName::new("a").unwrap())
}

impl Town {
    fn new() -> Self {
        let now = Now { wall: Timestamp::from_second(1_800_000_000).unwrap(), boot: HOUR };
        let clock = Clock::manual(now);
        let line = Timeline::resume(clock.clone(), None, "boot");
        let (core, _) = Core::resume(settings(), false, None, Vec::new(), Vec::new(), makers(3), line.now());
        let watch = ShiftWatch::new(clock.clone());
        let mut town = Self { clock, line, watch, core, rows: BTreeMap::new() };
        town.step(Input::Facts(facts(&["a"])));
        town
    }

    fn step(&mut self, input: Input) -> Vec<(Address, Order)> {
        let turn = self.core.step(input, self.line.now());
        for write in turn.writes {
            if let Write::Agent(row) = write {
                self.rows.insert(row.address.clone(), row);
            }
        }
        turn.orders
    }

    fn phase(&self) -> Phase {
        self.core.agents()[&witness()].phase.clone()
    }

    fn say(&mut self, what: What) -> Vec<(Address, Order)> {
        let instance = self.core.agents()[&witness()].current.as_ref().unwrap().instance.clone();
        self.step(Input::Report(Report { agent: witness(), instance, what }))
    }

    fn come_alive(&mut self) {
        self.say(What::Alive { life: Box::new(life()), adopted: false });
        self.say(What::Ready);
        assert_eq!(self.phase(), Phase::Running);
    }

    /// It dies after a second, and the settle window passes.
    fn die(&mut self) {
        self.clock.advance(Duration::from_secs(1));
        let wall = self.clock.now().wall;
        let What::Ended(mut end) = ending(EndedBy::Agent, wall) else { panic!() };
        end.started_at = Some(wall.checked_sub(Duration::from_secs(1)).unwrap());
        end.detect_ms = Some(0.0);
        self.say(What::Ended(end));
        self.say(What::Gone { survivors: Vec::new() });
        self.clock.advance(Duration::from_millis(50));
        self.step(Input::Time);
    }

    /// Fails until the policy makes it wait like this.
    fn wait(&mut self, kind: Pause) -> Timestamp {
        for _ in 0..20 {
            match self.phase() {
                Phase::Waiting { until, why } if why == kind => return until,
                Phase::Waiting { until, .. } => {
                    let left = until.duration_since(self.line.now());
                    self.clock.advance(left.try_into().unwrap_or(Duration::ZERO));
                    self.step(Input::Time);
                }
                Phase::Starting { .. } => self.come_alive(),
                Phase::Running => self.die(),
                other => panic!("{other:?}"),
            }
        }
        panic!("it never had to wait");
    }

    /// A new daemon, from what the ledger has.
    fn restart(&mut self) {
        let anchor = self.line.anchor();
        self.line = Timeline::resume(self.clock.clone(), Some(&anchor), "boot");
        let rows = self.rows.values().cloned().collect();
        let (core, _) = Core::resume(settings(), false, None, rows, Vec::new(), makers(4), self.line.now());
        self.core = core;
        self.step(Input::Facts(facts(&["a"])));
    }

    /// What the loop does when the machine is back.
    fn wake_up(&mut self) -> Vec<(Address, Order)> {
        let shift = self.watch.look();
        assert!(shift.is_resume());
        self.step(Input::Resumed { suspended: shift.suspended })
    }
}

fn launches(orders: &[(Address, Order)]) -> usize {
    let launched =
        |(agent, order): &&(Address, Order)| *agent == witness() && matches!(order, Order::Launch { .. });
    orders.iter().filter(launched).count()
}

#[test]
fn waits_end_while_the_machine_sleeps_eight_hours() {
    for kind in [Pause::Backoff, Pause::Quarantine] {
        let mut town = Town::new();
        town.wait(kind);
        assert_eq!(launches(&town.step(Input::Time)), 0);
        town.clock.suspend(8 * HOUR);
        assert_eq!(launches(&town.wake_up()), 1, "{kind:?}: it is due when the machine is back");
    }
}

#[test]
fn a_sleep_shorter_than_the_wait_counts_and_does_not_end_it() {
    let mut town = Town::new();
    let until = town.wait(Pause::Quarantine);
    town.clock.suspend(Duration::from_secs(600));
    assert_eq!(launches(&town.wake_up()), 0);
    assert!(matches!(town.phase(), Phase::Waiting { until: now, .. } if now == until));
    town.clock.advance(Duration::from_secs(1_201));
    assert_eq!(launches(&town.step(Input::Time)), 1);
}

#[test]
fn a_launch_that_was_slept_through_has_its_time_still() {
    let mut town = Town::new();
    let Phase::Starting { deadline } = town.phase() else { panic!("{:?}", town.phase()) };
    town.clock.advance(Duration::from_secs(20));
    town.clock.suspend(8 * HOUR);
    town.wake_up();
    assert_eq!(town.phase(), Phase::Starting { deadline: after(deadline, 8 * HOUR) });
    assert!(town.core.agents()[&witness()].alert.is_none());
    town.come_alive();
}

#[test]
fn a_clock_set_by_a_day_between_two_daemons_makes_no_quarantine_eternal_and_ends_none() {
    let day = 24 * HOUR;
    for back in [true, false] {
        let mut town = Town::new();
        town.wait(Pause::Quarantine);
        town.clock.advance(Duration::from_secs(600));
        let anchor_at = town.clock.now().wall;
        let set = if back { anchor_at.checked_sub(day).unwrap() } else { after(anchor_at, day) };
        town.clock.set_wall(set);
        town.restart();
        assert!(matches!(town.phase(), Phase::Waiting { why: Pause::Quarantine, .. }), "back: {back}");
        town.clock.advance(Duration::from_secs(1_100));
        assert_eq!(launches(&town.step(Input::Time)), 0, "back: {back}: not before its time");
        town.clock.advance(Duration::from_secs(110));
        assert_eq!(launches(&town.step(Input::Time)), 1, "back: {back}: and not after it");
        // The one try fails: what was forgiven for a set clock would be a plain restart.
        town.come_alive();
        town.die();
        assert!(matches!(town.phase(), Phase::Waiting { why: Pause::Quarantine, .. }), "back: {back}");
    }
}
