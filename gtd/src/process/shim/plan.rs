//! When a shim does what: pure.
//!
//! Owns the order of ending a tree: ask, wait, force, give up. It does no I/O and reads no clock.

use std::time::{Duration, Instant};

use crate::process::record::By;
use crate::process::signal::Signal;

/// What remains after the agent ended gets this long after TERM.
pub(super) const DRAIN: Duration = Duration::from_millis(250);
/// After this long of KILL the rest is reported as survivors: only a process stuck in the kernel, or one
/// that is not ours to signal, lasts so long.
pub(super) const FORCE: Duration = Duration::from_secs(5);

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGTERM.
    Term,
    /// SIGQUIT.
    Quit,
    /// SIGHUP, or the terminal hung up.
    TerminalGone,
    /// SIGUSR1.
    Freeze,
    /// SIGUSR2.
    Thaw,
    /// The agent was collected.
    AgentEnded,
    /// Nothing is left but spared processes.
    TreeEmpty,
    /// Time has passed; compare with [`Plan::deadline`].
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send these to everything in the tree, in this order.
    Send(&'static [Signal]),
    /// Stop the tree.
    Freeze,
    /// Let the tree go on.
    Thaw,
    /// Kill what is there; to be repeated while [`Plan::forcing`].
    Kill,
    /// Write the record and go.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Asked to end, by TERM.
    Grace(Instant),
    /// The agent ended by itself; the rest is asked to.
    Drain(Instant),
    /// KILL, again and again.
    Force(Instant),
    Finished,
}

/// Where the ending of the tree stands.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    phase: Phase,
    grace: Duration,
    by: By,
    frozen: bool,
    agent_ended: bool,
}

impl Plan {
    pub(super) fn new(grace: Duration) -> Self {
        Self { phase: Phase::Running, grace, by: By::Agent, frozen: false, agent_ended: false }
    }

    /// What ended the agent, or will have.
    pub(super) fn by(&self) -> By {
        self.by
    }

    /// True while the tree is frozen by request.
    pub(super) fn frozen(&self) -> bool {
        self.frozen
    }

    /// True while everything is to be killed.
    pub(super) fn forcing(&self) -> bool {
        matches!(self.phase, Phase::Force(_))
    }

    /// True once the agent has been collected and only the rest is waited for.
    pub(super) fn agent_ended(&self) -> bool {
        self.agent_ended
    }

    /// When a [`Event::Tick`] is due at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Grace(at) | Phase::Drain(at) | Phase::Force(at) => Some(at),
            Phase::Running | Phase::Finished => None,
        }
    }

    /// Takes an event in.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Option<Action> {
        match (event, self.phase) {
            (_, Phase::Finished) => None,
            (Event::Term, Phase::Running) => self.ask(By::Term, &[Signal::Term, Signal::Cont], now),
            (Event::TerminalGone, Phase::Running) => {
                // Whether the server went with it is found out by the caller.
                self.ask(By::PaneClosed, &[Signal::Hup, Signal::Term, Signal::Cont], now)
            }
            (Event::Quit, Phase::Running | Phase::Grace(_) | Phase::Drain(_)) => {
                if !self.agent_ended {
                    self.by = By::Kill;
                }
                self.force(now)
            }
            (Event::Freeze, Phase::Running) => {
                self.frozen = true;
                Some(Action::Freeze)
            }
            // One that is not frozen by us is not let go by us.
            (Event::Thaw, Phase::Running) if self.frozen => {
                self.frozen = false;
                Some(Action::Thaw)
            }
            (Event::AgentEnded, phase) => self.agent_gone(phase, now),
            (Event::TreeEmpty, _) if self.agent_ended => self.finish(),
            (Event::Tick, Phase::Grace(at) | Phase::Drain(at)) if now >= at => self.force(now),
            (Event::Tick, Phase::Force(at)) if now >= at => self.finish(),
            (Event::Tick, Phase::Force(_)) => Some(Action::Kill),
            _ => None,
        }
    }

    fn ask(&mut self, by: By, signals: &'static [Signal], now: Instant) -> Option<Action> {
        self.by = by;
        self.frozen = false;
        self.phase = Phase::Grace(later(now, self.grace));
        Some(Action::Send(signals))
    }

    fn agent_gone(&mut self, phase: Phase, now: Instant) -> Option<Action> {
        self.agent_ended = true;
        self.frozen = false;
        let until = later(now, DRAIN);
        match phase {
            Phase::Running => self.phase = Phase::Drain(until),
            Phase::Grace(at) => self.phase = Phase::Drain(at.min(until)),
            Phase::Drain(_) | Phase::Force(_) | Phase::Finished => return None,
        }
        Some(Action::Send(&[Signal::Term, Signal::Cont]))
    }

    fn force(&mut self, now: Instant) -> Option<Action> {
        self.frozen = false;
        self.phase = Phase::Force(later(now, FORCE));
        Some(Action::Kill)
    }

    fn finish(&mut self) -> Option<Action> {
        self.phase = Phase::Finished;
        Some(Action::Finish)
    }
}

/// An instant so far away that it cannot be expressed stands for one a day away.
fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or_else(|| now + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(3);
    const TERM: Option<Action> = Some(Action::Send(&[Signal::Term, Signal::Cont]));
    const HANGUP: Option<Action> = Some(Action::Send(&[Signal::Hup, Signal::Term, Signal::Cont]));
    const KILL: Option<Action> = Some(Action::Kill);
    const FINISH: Option<Action> = Some(Action::Finish);

    /// Steps of (milliseconds since the start, event, expected action), then who ended the agent.
    type Story<'a> = (&'a str, &'a [(u64, Event, Option<Action>)], By);

    #[test]
    fn stories() {
        let stories: &[Story] = &[
            ("exit alone", &[(5, Event::AgentEnded, TERM), (5, Event::TreeEmpty, FINISH)], By::Agent),
            (
                "exit with a stubborn child",
                &[
                    (0, Event::AgentEnded, TERM),
                    (249, Event::Tick, None),
                    (250, Event::Tick, KILL),
                    (255, Event::Tick, KILL),
                    (256, Event::TreeEmpty, FINISH),
                ],
                By::Agent,
            ),
            (
                "term, obeyed; the rest has what is left of the grace",
                &[
                    (0, Event::Term, TERM),
                    (1, Event::Term, None),
                    (2900, Event::AgentEnded, TERM),
                    (2999, Event::Tick, None),
                    (3000, Event::Tick, KILL),
                ],
                By::Term,
            ),
            (
                "term, ignored",
                &[
                    (0, Event::Term, TERM),
                    (2999, Event::Tick, None),
                    (3000, Event::Tick, KILL),
                    (3001, Event::AgentEnded, None),
                ],
                By::Term,
            ),
            (
                "quit",
                &[(0, Event::Quit, KILL), (1, Event::Quit, None), (1, Event::AgentEnded, None)],
                By::Kill,
            ),
            ("quit during term", &[(0, Event::Term, TERM), (1, Event::Quit, KILL)], By::Kill),
            ("quit after the end", &[(0, Event::AgentEnded, TERM), (1, Event::Quit, KILL)], By::Agent),
            (
                "hang-up",
                &[
                    (0, Event::TerminalGone, HANGUP),
                    (1, Event::TerminalGone, None),
                    (3000, Event::Tick, KILL),
                ],
                By::PaneClosed,
            ),
            ("hang-up while ending", &[(0, Event::Term, TERM), (1, Event::TerminalGone, None)], By::Term),
            (
                "frozen, then asked to end",
                &[
                    (0, Event::Freeze, Some(Action::Freeze)),
                    (9, Event::Term, TERM),
                    (10, Event::Freeze, None),
                ],
                By::Term,
            ),
            (
                "thaw",
                &[(0, Event::Freeze, Some(Action::Freeze)), (9, Event::Thaw, Some(Action::Thaw))],
                By::Agent,
            ),
            (
                "thaw of what nobody froze, twice",
                &[(0, Event::Thaw, None), (1, Event::Thaw, None)],
                By::Agent,
            ),
            (
                "frozen twice, and killed from outside",
                &[
                    (0, Event::Freeze, Some(Action::Freeze)),
                    (1, Event::Freeze, Some(Action::Freeze)),
                    (9, Event::AgentEnded, TERM),
                    (10, Event::Thaw, None),
                ],
                By::Agent,
            ),
            (
                "frozen, and its terminal goes",
                &[(0, Event::Freeze, Some(Action::Freeze)), (9, Event::TerminalGone, HANGUP)],
                By::PaneClosed,
            ),
            (
                "something cannot be killed",
                &[
                    (0, Event::Quit, KILL),
                    (4999, Event::Tick, KILL),
                    (5000, Event::Tick, FINISH),
                    (6000, Event::Tick, None),
                ],
                By::Kill,
            ),
            ("an empty tree before the end says nothing", &[(0, Event::TreeEmpty, None)], By::Agent),
        ];
        let start = Instant::now();
        for (name, steps, by) in stories {
            let mut plan = Plan::new(GRACE);
            for (at, event, expected) in *steps {
                let action = plan.step(*event, start + Duration::from_millis(*at));
                assert_eq!(action, *expected, "{name}: {event:?} at {at}");
            }
            assert_eq!(plan.by(), *by, "{name}");
        }
    }

    #[test]
    fn an_endless_grace_does_not_overflow() {
        let mut plan = Plan::new(Duration::MAX);
        assert_eq!(plan.step(Event::Term, Instant::now()), TERM);
        assert!(plan.deadline().is_some());
    }

    proptest! {
        /// Whatever happens, once asked to end it is over within grace, drain and force.
        #[test]
        fn every_ending_ends(events in proptest::collection::vec(0_u8..7, 0..40)) {
            let mut now = Instant::now();
            let mut plan = Plan::new(GRACE);
            for event in events {
                let event = [Event::Term, Event::Quit, Event::TerminalGone, Event::Freeze, Event::Thaw, Event::AgentEnded, Event::Tick][usize::from(event)];
                plan.step(event, now);
                now += Duration::from_millis(100);
            }
            plan.step(Event::Term, now);
            for _ in 0..4 {
                let Some(at) = plan.deadline() else { break };
                prop_assert!(!plan.frozen());
                now = now.max(at);
                plan.step(Event::Tick, now);
            }
            prop_assert_eq!(plan.phase, Phase::Finished);
        }
    }
}
