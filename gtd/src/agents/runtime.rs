//! One task per agent, and the way to reach it.
//!
//! The supervisor passes orders in and gets reports out; nobody else tells a task what to do. What only
//! looks (a screen, the way to attach) goes straight to tmux and disturbs no task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use gtd_proto::{Address, InstanceId};
use tokio::sync::{Notify, mpsc};

use super::attention::Attention;
use super::claude_settings;
use super::converse::Talk;
use super::descent::Descent;
use super::launch::Launch;
use super::oom::OomWatch;
use super::order::{Failure, Life, Order, Overrides, Place, Report, What};
use super::slots::Slots;
use super::task::{self, Given};
use super::typing::Turns;
use super::waves::{Waves, urgency};
use crate::process::{Capture, ExitWatcher, LiveSpare, Look, Looks, ProcessId, ProcessTable};
use crate::tmux::{Driver, PaneId, ServerId, SessionId, TmuxError};

/// Orders that may wait for a busy task. A task has one instance, and an instance few orders.
const ORDERS: usize = 32;
/// Instances kept of which only what was spared is left: as many as the sweep keeps.
const SPARED: usize = 4_096;

/// A launch, and what its shim and its session need beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What is run, where, with what.
    pub launch: Launch,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// Programs left alive at the end, by name.
    pub spare: Vec<String>,
    /// Name of the session, if it is free.
    pub session_name: String,
    /// The settings file of its program, where it takes one.
    pub settings: Option<claude_settings::Plan>,
}

/// Makes launches out of settings. Looks at files and the search path, changes nothing.
pub trait Prepare: Send + Sync {
    /// The launch of an agent, as the settings stand now. Without `talk` only a look at what it would be.
    ///
    /// # Errors
    /// When the settings name something that is not there.
    fn prepare(
        &self,
        agent: &Address,
        instance: &InstanceId,
        overrides: &Overrides,
        talk: Option<&Talk>,
    ) -> Result<Prepared, Failure>;

    /// The program and directory that a broken agent waits for are there now.
    fn is_mended(&self, agent: &Address) -> bool;

    /// Whether an agent could be launched as the settings and the disk stand now, with what was given at its last
    /// start.
    ///
    /// # Errors
    /// What is in the way.
    fn look(&self, agent: &Address) -> Result<(), Failure>;
    /// How the input line of an agent begins that was launched as `entry`, where that is known.
    fn prompt(&self, _agent: &Address, _entry: &str) -> Option<String> {
        None
    }
}

/// What all tasks share.
pub struct Shared {
    /// The town's tmux server.
    pub driver: Driver,
    /// Tells of the ends of processes.
    pub watcher: ExitWatcher,
    /// Where launch files and records are: `daemon/run`.
    pub run_dir: PathBuf,
    /// The shim's program.
    pub shim: PathBuf,
    /// Id of the town, shown on sessions.
    pub town_id: String,
    /// Makes launches.
    pub prepare: Arc<dyn Prepare>,
    /// To the supervisor.
    pub reports: mpsc::Sender<Report>,
    /// What is left alive at an end, however it comes: tmux servers, working gtds, and `[stop] spare`.
    pub look: Arc<dyn Look>,
    spare: Arc<LiveSpare>,
    /// How many starts may be under way at once.
    pub starts: Waves,
    /// How many stops may be under way at once.
    pub stops: Slots,
    /// Who is at the agents' terminals.
    pub attention: Attention,
    /// Whether the kernel killed for want of memory.
    pub oom: OomWatch,
    /// Who types for which agent.
    pub(super) turns: Turns,
    places: RwLock<BTreeMap<Address, Place>>,
    lives: RwLock<BTreeMap<Address, (InstanceId, Option<Life>)>>,
    captures: Mutex<BTreeMap<Address, Capture>>,
    spared: Mutex<BTreeSet<InstanceId>>,
    /// Another instance was noted of which only what was spared is left.
    pub spared_noted: Notify,
    pub(super) descent: Descent,
    /// Looks at all processes, for everybody.
    pub(super) looks: Looks,
}

impl Shared {
    /// Puts together what tasks share.
    #[expect(clippy::too_many_arguments, reason = "assembled once, in one place")]
    #[must_use]
    pub fn new(
        driver: Driver,
        watcher: ExitWatcher,
        run_dir: PathBuf,
        shim: PathBuf,
        town_id: String,
        prepare: Arc<dyn Prepare>,
        reports: mpsc::Sender<Report>,
        spare: &[String],
        starts: usize,
        stops: usize,
    ) -> Self {
        let spare = Arc::new(LiveSpare::new(spare));
        Self {
            driver,
            watcher,
            run_dir,
            shim,
            town_id,
            prepare,
            reports,
            look: Arc::clone(&spare) as Arc<_>,
            spare,
            starts: Waves::new(starts),
            stops: Slots::new(stops),
            attention: Attention::default(),
            oom: OomWatch::default(),
            turns: Turns::default(),
            places: RwLock::default(),
            lives: RwLock::default(),
            captures: Mutex::default(),
            spared: Mutex::default(),
            spared_noted: Notify::new(),
            descent: Descent::default(),
            looks: Looks::default(),
        }
    }

    /// Takes other numbers up: places for starts and stops, and the programs that are spared. Called inside a
    /// runtime.
    pub fn adjust(&self, starts: usize, stops: usize, spare: &[String]) {
        self.starts.set_limit(starts);
        self.stops.resize(stops);
        self.spare.set(spare);
    }

    pub(super) async fn report(&self, agent: &Address, instance: &InstanceId, what: What) {
        match &what {
            What::Placed(life) | What::Alive { life, .. } => {
                self.remember_place(agent, &life.place);
                self.remember_life(agent, instance, Some(life.as_ref().clone()));
                if let (What::Alive { .. }, Some(process)) = (&what, &life.process) {
                    self.oom.born(agent, process);
                }
            }
            _ => {}
        }
        let report = Report { agent: agent.clone(), instance: instance.clone(), what };
        // Only at the very end is there nobody to listen.
        let _ = self.reports.send(report).await;
    }

    fn remember_place(&self, agent: &Address, place: &Place) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(agent.clone(), place.clone());
    }

    /// What is known of an agent's instance, for those who look at it.
    pub(super) fn remember_life(&self, agent: &Address, instance: &InstanceId, life: Option<Life>) {
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        lives.insert(agent.clone(), (instance.clone(), life));
    }

    pub(super) fn life(&self, agent: &Address) -> Option<(InstanceId, Option<Life>)> {
        self.lives.read().unwrap_or_else(PoisonError::into_inner).get(agent).cloned()
    }

    /// The sessions of all agents, by server.
    pub(super) fn sessions(&self) -> BTreeSet<(ProcessId, String)> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.values().map(|place| (place.server.clone(), place.session.clone())).collect()
    }

    pub(super) fn forget_place(&self, agent: &Address) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }

    pub(super) fn with_capture<R>(&self, agent: &Address, f: impl FnOnce(&mut Option<Capture>) -> R) -> R {
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut capture = captures.remove(agent);
        let result = f(&mut capture);
        if let Some(capture) = capture {
            captures.insert(agent.clone(), capture);
        }
        result
    }

    /// The shim of this instance has ended everything but what it spared.
    pub(super) fn note_spared(&self, instance: &InstanceId) {
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.insert(instance.clone());
        // Their ids are in order of time. Those that go were written down long ago.
        if spared.len() > SPARED {
            spared.pop_first();
        }
        self.spared_noted.notify_one();
    }

    /// Instances of which only what was spared is left, as far as this daemon saw their ends.
    #[must_use]
    pub fn only_spared(&self) -> BTreeSet<InstanceId> {
        self.spared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn launch_file(&self, instance: &InstanceId) -> PathBuf {
        self.run_dir.join(format!("{instance}.launch"))
    }

    pub(super) fn record_file(&self, instance: &InstanceId) -> PathBuf {
        self.run_dir.join(format!("{instance}.record"))
    }

    /// Removes what an instance left in the run directory. What cannot be removed is swept at the next start.
    pub(super) fn forget_files(&self, instance: &InstanceId) {
        for path in [self.launch_file(instance), self.record_file(instance)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a file of an ended instance stays");
                }
                _ => {}
            }
        }
    }

    /// Our tmux servers' processes, which are never signalled.
    pub fn servers(&self) -> Vec<ProcessId> {
        match self.driver.state() {
            crate::tmux::ServerState::Up(server) => vec![server.process],
            crate::tmux::ServerState::Unresponsive { server: Some(server), .. } => vec![server.process],
            _ => Vec::new(),
        }
    }
}

/// The agents' tasks. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<BTreeMap<Address, mpsc::Sender<Given>>>>,
}

/// Why an agent's session cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It has none.
    #[error("{0} has no session")]
    NoSession(Address),
    /// tmux did not answer.
    #[error(transparent)]
    Tmux(#[from] TmuxError),
}

impl Runtime {
    /// No tasks yet.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), tasks: Arc::default() }
    }

    /// Passes an order to an agent's task; the task is made with the first one.
    pub fn order(&self, agent: &Address, order: Order) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = tasks.entry(agent.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(ORDERS);
            tokio::spawn(task::run(Arc::clone(&self.shared), agent.clone(), receiver));
            sender
        });
        // In the order in which the supervisor gives them, whichever task runs first.
        let place = match &order {
            Order::Launch { hooked, .. } => Some(self.shared.starts.queue(urgency(agent, *hooked))),
            _ => None,
        };
        if let Err(error) = sender.try_send(Given { order, place }) {
            // The supervisor never has more than a launch and an end or two under way for one agent.
            tracing::error!(%agent, %error, "an order could not be passed on");
        }
    }

    /// What tasks share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The tmux driver.
    #[must_use]
    pub fn driver(&self) -> &Driver {
        &self.shared.driver
    }

    /// The last lines of an agent's screen.
    ///
    /// # Errors
    /// When it has no session, or tmux does not answer.
    pub async fn capture(&self, agent: &Address, lines: u32) -> Result<Vec<String>, LookError> {
        let place = self.place(agent).ok_or_else(|| LookError::NoSession(agent.clone()))?;
        let (server, pane) = target(&place).ok_or_else(|| LookError::NoSession(agent.clone()))?;
        match self.shared.driver.capture(&server, &pane, lines).await {
            Err(TmuxError::NotFound { .. } | TmuxError::WrongServer { .. } | TmuxError::NoServer { .. }) => {
                Err(LookError::NoSession(agent.clone()))
            }
            other => Ok(other?),
        }
    }

    /// The commands that show an agent's session: outside and inside of its server.
    ///
    /// # Errors
    /// When it has no session.
    pub fn attach(&self, agent: &Address) -> Result<(Vec<String>, Vec<String>, Place), LookError> {
        let place = self.place(agent).ok_or_else(|| LookError::NoSession(agent.clone()))?;
        let session: SessionId = place.session.parse().map_err(|_| LookError::NoSession(agent.clone()))?;
        let driver = &self.shared.driver;
        Ok((driver.attach_argv(&session, false), driver.attach_argv(&session, true), place))
    }

    /// Where an agent's session is, or was last.
    #[must_use]
    pub fn place(&self, agent: &Address) -> Option<Place> {
        self.shared.places.read().unwrap_or_else(PoisonError::into_inner).get(agent).cloned()
    }

    /// The agent of which one of these processes was seen to be a part, the first of them deciding.
    #[must_use]
    pub fn captured_by(&self, processes: &[ProcessId]) -> Option<Address> {
        let captures = self.shared.captures.lock().unwrap_or_else(PoisonError::into_inner);
        processes.iter().find_map(|id| {
            captures.iter().find(|(_, capture)| capture.has_seen(id)).map(|(agent, _)| agent.clone())
        })
    }

    /// Looks at all processes: one at a time, for everybody.
    #[must_use]
    pub fn looks(&self) -> &Looks {
        &self.shared.looks
    }

    /// What is remembered of the agents' processes: of each its instance, what is recorded and what was seen.
    #[must_use]
    pub fn captures(&self) -> Vec<(Address, Capture)> {
        let captures = self.shared.captures.lock().unwrap_or_else(PoisonError::into_inner);
        captures.iter().map(|(agent, capture)| (agent.clone(), capture.clone())).collect()
    }

    /// Takes in what an earlier daemon saw of an agent's instance, before it is looked for.
    pub fn recall(&self, agent: &Address, capture: Capture) {
        self.shared.with_capture(agent, |slot| *slot = Some(capture));
    }

    /// Takes a process table in: remembers which processes descend from which agent.
    pub fn merge(&self, table: &ProcessTable) {
        let mut captures = self.shared.captures.lock().unwrap_or_else(PoisonError::into_inner);
        let look = &self.shared.look;
        for capture in captures.values_mut() {
            capture.merge(table, look.as_ref());
        }
        drop(captures);
        self.shared.oom.round();
    }
}

/// The ids of a place, checked.
pub(super) fn target(place: &Place) -> Option<(ServerId, PaneId)> {
    let server = ServerId { socket: PathBuf::from(&place.socket), process: place.server.clone() };
    Some((server, place.pane.parse().ok()?))
}

/// Where the shim is: beside our own program.
#[must_use]
pub fn sibling(program: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    // An upgrade replaces the file under a running daemon; the kernel then shows the old name with a mark.
    let own = own.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    Path::new(&own).parent().map(|dir| dir.join(program)).filter(|path| path.is_file())
}
