//! One round: its steps in order, on one shared look, each in a task of its own with a deadline.
//!
//! A step that fails, panics or hangs is reported and harms no other. What the steps look at was looked at once.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use gtd_proto::Role;
use gtd_proto::daemon::{HEARTBEAT_STEPS, HeartbeatReport, HeartbeatStep, StepOutcome};
use gtd_proto::event::kind;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::deacon::{Seen, Watchman};
use super::super::handle::Handle;
use super::super::planner::Mode;
use super::super::{orphans, rounds};
use super::audit;
use crate::config::{Config, Sweep};
use crate::host::drill;
use crate::ledger::{NewEvent, Write};
use crate::process::ProcessTable;
use crate::tmux::{Listing, TmuxError};

/// How long the look may take. A listing of 1,000 panes takes 5 ms, a process table of 2,000 processes 20.
const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// How long the processes may take of that: some milliseconds are usual, and the rest goes on without them.
const TABLE_DEADLINE: Duration = Duration::from_secs(10);
/// How long one step may take: three commands of tmux at their deadline.
const STEP_DEADLINE: Duration = Duration::from_secs(15);

/// How long a step may take that others carry out: it is cut off by its own deadline before.
const ERRAND_DEADLINE: Duration = Duration::from_secs(40);

/// What a round goes by.
pub(super) struct Round {
    pub(super) handle: Handle,
    pub(super) watchman: Watchman,
    pub(super) config: Arc<Config>,
    /// For a while nobody could look: this round only does.
    grace: bool,
    number: u64,
    look: Option<Look>,
}

/// What one round sees. All steps share it.
pub(super) struct Look {
    pub(super) listing: Result<Listing, TmuxError>,
    table: Result<usize, String>,
    deacon: Result<Seen, String>,
}

/// Runs one round and writes it down.
pub(super) async fn round(handle: &Handle, watchman: &Watchman, config: Arc<Config>) -> HeartbeatReport {
    let began = Instant::now();
    let started_at = handle.wall();
    let (number, grace) = {
        let mut state = handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown.number += 1;
        if state.grace {
            // Whatever was missed was missed by us.
            state.missing.clear();
        }
        (state.shown.number, std::mem::take(&mut state.grace))
    };
    let look = tokio::time::timeout(LOOK_DEADLINE, look(handle, watchman)).await.ok();
    let (handle, watchman) = (handle.clone(), watchman.clone());
    let round = Arc::new(Round { handle: handle.clone(), watchman, config, grace, number, look });
    let mut steps = Vec::with_capacity(HEARTBEAT_STEPS.len());
    for name in HEARTBEAT_STEPS {
        let at = Instant::now();
        let work = Arc::clone(&round);
        let deadline = if is_errand(name) { ERRAND_DEADLINE } else { STEP_DEADLINE };
        let step = guarded(deadline, async move { work.step(name).await }).await;
        let duration_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Step { outcome, actions, error } = step;
        steps.push(HeartbeatStep { name: name.to_owned(), outcome, duration_ms, actions, error });
    }
    let follow = Arc::clone(&round);
    let followed = guarded(LOOK_DEADLINE, async move {
        if let Some(look) = &follow.look {
            audit::follow_up(&follow.handle, look, follow.grace).await;
        }
        Step::ok()
    });
    if let Some(error) = followed.await.error {
        tracing::error!(%error, number, "what follows from a round was not done");
    }
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = HeartbeatReport { number, started_at, duration_ms, steps };
    let data = json!({ "number": number, "duration_ms": duration_ms });
    let event = NewEvent::new(handle.now(), kind::HEARTBEAT_COMPLETED, data);
    handle.write(vec![Write::Heartbeat(report.clone()), Write::Event(event), handle.clock_row()]).await;
    report
}

async fn look(handle: &Handle, watchman: &Watchman) -> Look {
    let driver = handle.runtime().driver().clone();
    let runtime = handle.runtime().clone();
    let looks = handle.runtime().looks();
    let table = looks.look(TABLE_DEADLINE, move || match ProcessTable::read() {
        Ok(table) => {
            runtime.merge(&table);
            Ok(table.len())
        }
        Err(error) => Err(format!("the process table cannot be read: {error}")),
    });
    let (listing, table) = tokio::join!(driver.list(), table);
    let table = table.unwrap_or_else(|error| Err(error.to_string()));
    if let Ok(listing) = &listing {
        // Whether somebody is attached is asked for by the steps.
        audit::show_sessions(handle, listing).await;
    }
    let deacon = watchman.look().await;
    Look { listing, table, deacon }
}

/// Runs a step to its end or its deadline, whatever it does.
async fn guarded(deadline: Duration, step: impl Future<Output = Step> + Send + 'static) -> Step {
    let mut task = JoinSet::new();
    task.spawn(step);
    // Dropped at the deadline, and with the round: a step does not outlive it.
    match tokio::time::timeout(deadline, task.join_next()).await {
        Ok(Some(Ok(step))) => step,
        Ok(Some(Err(error))) => Step::failed(format!("it broke off: {error}")),
        Ok(None) => Step::failed("it was never begun".to_owned()),
        Err(_) => Step { error: Some(format!("it did not end within {deadline:?}")), ..Step::timeout() },
    }
}

impl Round {
    /// One step. The order is that of [`HEARTBEAT_STEPS`].
    async fn step(&self, name: &str) -> Step {
        if drill::hangs(name) {
            std::future::pending::<()>().await;
        }
        if drill::fails(name) {
            return Step::failed("a test wants it so".to_owned());
        }
        let handle = &self.handle;
        match (name, &self.look) {
            ("deacon", Some(look)) => self.deacon(look),
            ("boot", Some(look)) => self.boot(look).await,
            ("deacon_heartbeat", Some(look)) => self.deacon_heartbeat(look).await,
            ("witnesses", Some(look)) => self.patrol(Role::Witness, look),
            ("refineries", Some(look)) => self.patrol(Role::Refinery, look),
            ("gupp", Some(look)) => self.gupp(look).await,
            ("orphan_sweep", Some(_)) => sweep_orphans(handle, &self.config.sweep).await,
            (
                "deacon" | "boot" | "deacon_heartbeat" | "witnesses" | "refineries" | "gupp" | "orphan_sweep",
                None,
            ) => Step::late(),
            ("orphaned_work", _) => Step { actions: rounds::orphaned_work(handle).await, ..Step::ok() },
            ("polecat_health", _) => Step { actions: rounds::polecat_health(handle).await, ..Step::ok() },
            ("state", _) => {
                let mut actions = vec![format!("round {} written down", self.number)];
                if self.grace {
                    actions.push("a round of grace: nobody could look for a while".to_owned());
                }
                Step { actions, ..Step::ok() }
            }
            _ => handle.errand(name).await.into(),
        }
    }

    /// The deacon is brought back by the core like any standing agent; this says how it is.
    fn deacon(&self, look: &Look) -> Step {
        let off = self.handle.view().read(|shown| match &shown.facts.deacon {
            Some(Mode::Off(why)) => Some(why.clone()),
            _ => None,
        });
        match off {
            Some(why) => Step::skipped(&why),
            None => self.patrol(Role::Deacon, look),
        }
    }

    async fn boot(&self, look: &Look) -> Step {
        let seen = match &look.deacon {
            Ok(seen) => seen,
            Err(why) => return Step::failed(why.clone()),
        };
        if self.grace {
            return Step::skipped(GRACE);
        }
        let looked = self.watchman.triage_step(seen).await;
        let outcome = match (&looked.error, &looked.skipped) {
            (Some(_), _) => StepOutcome::Failed,
            (None, Some(_)) => StepOutcome::Skipped,
            (None, None) => StepOutcome::Ok,
        };
        Step { outcome, actions: looked.actions, error: looked.error.or(looked.skipped) }
    }

    async fn deacon_heartbeat(&self, look: &Look) -> Step {
        let seen = match &look.deacon {
            Ok(seen) => seen,
            Err(why) => return Step::failed(why.clone()),
        };
        if let Some(why) = seen.off() {
            return Step::skipped(&format!("the deacon is not to run: {why}"));
        }
        if self.grace {
            return Step::skipped(GRACE);
        }
        let actions = vec![seen.line()];
        if let Some(why) = seen.unread() {
            return Step { actions, ..Step::failed(why) };
        }
        if seen.has_no_file() {
            return Step::skipped("there is no deacon/heartbeat.json");
        }
        match self.watchman.act(seen).await {
            Ok(done) => Step { actions: actions.into_iter().chain(done).collect(), ..Step::ok() },
            Err(why) => Step { actions, ..Step::failed(why) },
        }
    }

    fn patrol(&self, role: Role, look: &Look) -> Step {
        let mut step = Step::ok();
        if let Err(why) = &look.table {
            step = Step::failed(why.clone());
        }
        if let Err(error) = &look.listing
            && !matches!(error, TmuxError::NoServer { .. })
        {
            step = Step::failed(error.to_string());
        }
        self.handle.view().read(|shown| {
            for agent in shown.agents.values().filter(|agent| agent.role == role) {
                let why = agent.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                step.actions.push(format!("{} is {}{why}", agent.agent, agent.state));
            }
        });
        step
    }

    /// Without a listing nothing is known of screens: nobody is told to be stalled.
    async fn gupp(&self, look: &Look) -> Step {
        let listing = match &look.listing {
            Ok(listing) => listing,
            Err(TmuxError::NoServer { .. }) => return Step::ok(),
            Err(error) => return Step::failed(error.to_string()),
        };
        if self.grace {
            return Step::skipped(GRACE);
        }
        Step {
            actions: rounds::gupp(&self.handle, listing, self.config.polecat.gupp_after).await,
            ..Step::ok()
        }
    }
}

/// What others carry out.
fn is_errand(name: &str) -> bool {
    matches!(name, "pending_spawns" | "lifecycle")
}

async fn sweep_orphans(handle: &Handle, settings: &Sweep) -> Step {
    let state = &handle.shared().heartbeat;
    // A copy: a step that is cut off leaves what was known before.
    let mut memory = state.lock().unwrap_or_else(PoisonError::into_inner).orphans.clone();
    let orphans::Told { actions, error } = orphans::step(handle, settings, &mut memory).await;
    state.lock().unwrap_or_else(PoisonError::into_inner).orphans = memory;
    Step { outcome: if error.is_some() { StepOutcome::Failed } else { StepOutcome::Ok }, actions, error }
}

/// Why a step that judges by ages is left out once.
const GRACE: &str = "a round of grace: nobody could look for a while";

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct Step {
    pub(in crate::supervisor) outcome: StepOutcome,
    pub(in crate::supervisor) actions: Vec<String>,
    pub(in crate::supervisor) error: Option<String>,
}

impl Step {
    pub(in crate::supervisor) fn ok() -> Self {
        Self { outcome: StepOutcome::Ok, actions: Vec::new(), error: None }
    }

    pub(in crate::supervisor) fn skipped(why: &str) -> Self {
        Self { outcome: StepOutcome::Skipped, actions: Vec::new(), error: Some(why.to_owned()) }
    }

    fn failed(why: String) -> Self {
        Self { outcome: StepOutcome::Failed, actions: Vec::new(), error: Some(why) }
    }

    fn timeout() -> Self {
        Self { outcome: StepOutcome::Timeout, actions: Vec::new(), error: None }
    }

    fn late() -> Self {
        let error = Some(format!("the town could not be looked at within {LOOK_DEADLINE:?}"));
        Self { error, ..Self::timeout() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_hangs_or_panics_is_told_of_and_goes_no_further() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let hangs = async move {
            let _held = sender;
            std::future::pending::<()>().await;
            Step::ok()
        };
        let step = guarded(Duration::from_millis(20), hangs).await;
        assert_eq!(step.outcome, StepOutcome::Timeout);
        assert!(step.error.unwrap().contains("20ms"));
        // What it held was let go: it does not run on.
        assert!(receiver.await.is_err());
        let step = guarded(Duration::from_secs(5), async { panic!("made to") }).await;
        assert_eq!(step.outcome, StepOutcome::Failed);
        assert_eq!(guarded(Duration::from_secs(5), async { Step::ok() }).await, Step::ok());
    }
}
