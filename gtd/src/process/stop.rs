//! Ending the processes of an instance that has no living shim.
//!
//! Owns the order: ask, wait on the kernel, force, look until two looks in a row find nothing. It must never
//! end without saying what is left, and never signal what a [`Capture`] does not prove. Where a shim lives, a
//! signal to the shim does all this better, since nothing can escape from below it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::capture::{Capture, Holding};
use super::exit::{ExitWatcher, WatchError};
use super::guard::Guard;
use super::id::ProcessId;
use super::signal::{Refused, Sent, Signal, Target, send};
use super::spare::{Look, SparedAs};
use super::table::ProcessTable;

/// So many looks in a row must find nothing; a process that forks and ends can hide from one.
const EMPTY_LOOKS: u32 = 2;
/// Pause between looks: at first, and at most. A look costs 10 µs per process of the machine.
const PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// Looks at most so often for processes that appear while others are being stopped.
const SWEEPS: usize = 20;
/// Signals and refusals are reported up to this number; a fork bomb makes thousands.
const REPORTED: usize = 1000;

/// How to end.
#[derive(Clone, Copy, Debug)]
pub struct EndOptions {
    /// Time between TERM and KILL; zero kills at once.
    pub grace: Duration,
    /// How long KILL is repeated before the rest is reported as survivors.
    pub force: Duration,
}

impl Default for EndOptions {
    /// Ten seconds of grace, five of force.
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), force: Duration::from_secs(5) }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct EndReport {
    /// Each signal sent, in order, up to a thousand.
    pub signals: Vec<Sent>,
    /// How many more were sent.
    pub more_signals: usize,
    /// What was not signalled and why, other than because it was gone.
    pub refused: Vec<(ProcessId, Refused)>,
    /// Proven ours and still alive.
    pub survivors: Vec<ProcessId>,
    /// Left alive on purpose.
    pub spared: Vec<(ProcessId, SparedAs)>,
    /// Looks like ours but is not proven.
    pub unproven: Vec<(ProcessId, String)>,
    /// Why the end could not be verified; then `survivors` is what was last seen. An unverified end is not
    /// an end.
    pub unverified: Option<String>,
}

impl EndReport {
    /// True when it is verified that nothing proven is left.
    pub fn is_gone(&self) -> bool {
        self.survivors.is_empty() && self.unverified.is_none()
    }
}

/// Ends everything that `capture` proves: TERM (and CONT to what is stopped), wait on pidfds for the grace,
/// then KILL, looking again until two looks find nothing. Takes at most `grace + force` and a few looks.
/// `servers` are the tmux servers known, which are never signalled.
pub async fn end(
    watcher: &ExitWatcher,
    capture: &mut Capture,
    servers: &[ProcessId],
    look: &Arc<dyn Look>,
    options: EndOptions,
) -> EndReport {
    let mut ending = Ending {
        watcher,
        capture,
        servers,
        look,
        report: EndReport::default(),
        asked: BTreeSet::new(),
        killed: BTreeSet::new(),
    };
    if !options.grace.is_zero() && ending.rounds(Means::Ask, options.grace).await {
        return ending.report;
    }
    if !ending.rounds(Means::Force, options.force).await
        && let Err(why) = ending.look().await
    {
        ending.report.unverified = Some(why);
    }
    ending.report
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Ask,
    Force,
}

struct Ending<'a> {
    watcher: &'a ExitWatcher,
    capture: &'a mut Capture,
    servers: &'a [ProcessId],
    look: &'a Arc<dyn Look>,
    report: EndReport,
    asked: BTreeSet<ProcessId>,
    killed: BTreeSet<ProcessId>,
}

impl Ending<'_> {
    /// Looks and signals until nothing is left (true) or the time is over (false).
    async fn rounds(&mut self, means: Means, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut pause = PAUSE;
        let mut empty = 0;
        loop {
            match self.look_and_signal(means).await {
                Ok(targets) if targets.is_empty() => {
                    empty += 1;
                    if empty >= EMPTY_LOOKS {
                        return true;
                    }
                    pause = PAUSE;
                }
                Ok(targets) => {
                    empty = 0;
                    let next = (Instant::now() + pause).min(until);
                    if self.all_exit(&targets, next).await {
                        pause = PAUSE;
                        continue;
                    }
                }
                // Nothing was seen, so nothing may be concluded.
                Err(why) => {
                    empty = 0;
                    self.report.unverified = Some(why);
                }
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep_until((Instant::now() + PAUSE).min(until)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// One look, and signals to what it shows; returns what was there.
    async fn look_and_signal(&mut self, means: Means) -> Result<Vec<ProcessId>, String> {
        let (table, holding) = self.look().await?;
        let guard = self.guard(&table)?;
        match means {
            Means::Ask => {
                for target in &holding.targets {
                    if self.asked.insert(target.id().clone()) {
                        self.send(&guard, target, Signal::Term);
                        if table.alive(target.id()).is_some_and(super::stat::Stat::is_stopped) {
                            self.send(&guard, target, Signal::Cont);
                        }
                    }
                }
            }
            Means::Force => self.force(&guard, holding.targets).await?,
        }
        Ok(self.report.survivors.clone())
    }

    /// Kills. What is new since the last time was made while we killed, so it is stopped first: a stopped
    /// process makes no more, and as a parent keeps its children known.
    async fn force(&mut self, guard: &Guard, mut targets: Vec<Target>) -> Result<(), String> {
        if !self.killed.is_empty() && targets.iter().any(|target| !self.killed.contains(target.id())) {
            let mut stopped = BTreeSet::new();
            for _ in 0..SWEEPS {
                let fresh: Vec<&Target> =
                    targets.iter().filter(|target| stopped.insert(target.id().clone())).collect();
                if fresh.is_empty() {
                    break;
                }
                for target in fresh {
                    self.send(guard, target, Signal::Stop);
                }
                targets = self.look().await?.1.targets;
            }
        }
        for target in targets {
            if self.killed.insert(target.id().clone()) {
                self.send(guard, &target, Signal::Kill);
            }
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(ProcessTable, Holding), String> {
        let read = tokio::task::spawn_blocking(ProcessTable::read).await;
        let table = match read {
            Ok(Ok(table)) => table,
            Ok(Err(error)) => return Err(format!("cannot read the process table: {error}")),
            Err(error) => return Err(format!("reading the process table failed: {error}")),
        };
        self.capture.merge(&table, self.look.as_ref());
        let mut holding = self.capture.proven(&table, self.look.as_ref());
        holding.targets.retain(|target| {
            let sheltered = self.look.shelters(&table, target.id());
            if sheltered {
                holding.spared.push((target.id().clone(), SparedAs::Below));
            }
            !sheltered
        });
        self.report.survivors = holding.targets.iter().map(|target| target.id().clone()).collect();
        self.report.spared.clone_from(&holding.spared);
        self.report.unproven.clone_from(&holding.unproven);
        self.report.unverified = None;
        Ok((table, holding))
    }

    fn guard(&self, table: &ProcessTable) -> Result<Guard, String> {
        Guard::from_table(table, self.servers.iter().cloned()).map_err(|error| error.to_string())
    }

    fn send(&mut self, guard: &Guard, target: &Target, signal: Signal) {
        self.look.decided(target.id());
        match send(guard, target, signal) {
            Ok(sent) if self.report.signals.len() < REPORTED => self.report.signals.push(sent),
            Ok(_) => self.report.more_signals += 1,
            Err(Refused::Gone(_)) => {}
            Err(refused) => {
                let refused = (target.id().clone(), refused);
                if self.report.refused.len() < REPORTED && !self.report.refused.contains(&refused) {
                    self.report.refused.push(refused);
                }
            }
        }
    }

    /// Waits for all of them to exit, but no longer than `until`.
    async fn all_exit(&self, ids: &[ProcessId], until: Instant) -> bool {
        for id in ids {
            match self.watcher.watch(id) {
                Ok(mut watch) => {
                    if timeout_at(until, watch.exited()).await.is_err() {
                        return false;
                    }
                }
                Err(WatchError::AlreadyGone(_)) => {}
                // The next look will tell.
                Err(WatchError::Unknown(_)) => return false,
            }
        }
        true
    }
}
