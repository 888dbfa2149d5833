//! The daemon put together: open, wire, run, shut down in order.
//!
//! Owns the order in which things begin and end. It must do nothing to a town before it holds the town's lock.

mod affairs;
mod announce;
mod apart;
mod doubt;
mod feeds;
mod keeping;
mod opening;
mod rebuilt;
mod reload;
mod supervised;
mod told;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::rpc::{
    AgentServer, BootServer, ConvoyServer, CrewServer, DaemonServer, DeaconServer, DeathsServer,
    DoctorServer, EventsServer, HookServer, LifecycleServer, MailServer, MayorServer, NudgeServer,
    OrphansServer, PolecatServer, RefineryServer, RigServer, SessionServer, TownServer, WitnessServer,
    WorkServer,
};
use gtd_proto::{Timestamp, TownId};
use jsonrpsee::Methods;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::apart::Apart;
use self::reload::Reloader;
use crate::agents::prepare::Preparer;
use crate::config::{ConfigError, Live};
use crate::feed::Bus;
use crate::host::files::{DaemonFiles, State};
use crate::host::limits::raise_open_files;
use crate::host::lock::{LockError, TownLock};
use crate::host::logs::{self, LogOptions};
use crate::host::notify::ServiceManager;
use crate::host::signals::Signals;
use crate::ledger::{self, Condition, NewEvent, Write};
use crate::polecats::Spawner;
use crate::rpc::context::{Context, VERSION};
use crate::rpc::discover::Discover;
use crate::rpc::{Callers, Counters, Endpoint as Place, EndpointError, HoldsLock, Limits, Listening, Server};
use crate::supervisor::core::Input;
use crate::supervisor::deacon::Watchman;
use crate::supervisor::nudges::Nudges;
use crate::supervisor::run::Message;
use crate::supervisor::{Handle, asking, facts, heartbeat};
use crate::tmux::{Driver, TmuxEvent};
use crate::town::memory::Memory;
use crate::town::watch::Watch;
use crate::town::{Layout, Snapshot};
use crate::work;

/// How long the parts may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The town's root.
    pub town: PathBuf,
    /// Start with the whole town held: nothing is started until `gtctl up`.
    pub hold: bool,
}

/// Why the daemon did not come up, or went down.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The directory is no town.
    #[error("{} is no town: {why}", path.display())]
    NoTown {
        /// Which directory.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Another daemon has the town.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger is of a later version.
    #[error("{0}")]
    Ledger(String),
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] EndpointError),
    /// Something of the system does not work.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part that must be there is not.
    #[error("{0}")]
    Missing(String),
}

impl DaemonError {
    /// The exit code: 1 lock held, 2 usage, 70 the system, 78 bad configuration.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Lock(_) => 1,
            Self::NoTown { .. } => 2,
            Self::Config(_) => 78,
            Self::Ledger(_) | Self::Socket(_) | Self::System { .. } | Self::Missing(_) => 70,
        }
    }

    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTown { path, .. } => Some(format!("make one with: gtctl init {}", path.display())),
            Self::Lock(_) => Some("gtctl daemon status".to_owned()),
            Self::Config(error) => error.hint.clone(),
            Self::Ledger(_) => Some("agents that run go on; start the newer gtd again".to_owned()),
            _ => None,
        }
    }
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::System { what, source }
}

/// Runs the daemon of a town until it is asked to end.
///
/// # Errors
/// When it cannot come up; each error has its exit code.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    let no_town = |why: String| DaemonError::NoTown { path: options.town.clone(), why };
    let layout = Layout::at(&options.town).map_err(|error| no_town(error.to_string()))?;
    if !layout.town_json().is_file() {
        return Err(no_town("it has no mayor/town.json".to_owned()));
    }
    let mut lock = TownLock::acquire(&layout.daemon_dir())?;
    // Before the configuration, because it remembers the last good one.
    let opened = ledger::open(&layout.daemon_dir());
    if let Condition::Newer { why } = &opened.condition {
        return Err(DaemonError::Ledger(why.clone()));
    }
    let chosen = reload::choose_config(&layout, &opened.state)?;
    let config = &chosen.config;
    let log_options = LogOptions {
        dir: layout.daemon_dir(),
        level: config.daemon.log_level.as_str().to_owned(),
        max_bytes: config.daemon.log_max_bytes.0,
        files: config.daemon.log_files,
        stderr: logs::stderr_is_read(),
    };
    let logs = logs::init(&log_options).map_err(|error| DaemonError::Missing(error.to_string()))?;
    let logs = Arc::new(logs);
    let files = raise_open_files();
    if let Some(error) = &files.error {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Tasks of agents read and write small files in passing; on a machine with few cores a wave of starts would
        // otherwise leave no thread to answer with.
        .worker_threads(std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(8))
        .thread_name("gtd")
        .build()
        .map_err(system("start the runtime"))?;
    // Signals are caught before anything else runs: the incumbent's tools send USR1 as soon as there is a pid.
    let kept = Arc::clone(&logs);
    let result = runtime.block_on(async {
        Daemon::open(options, layout, chosen, opened, kept).await?.serve(&mut lock).await
    });
    runtime.shutdown_timeout(ENDING);
    drop(lock);
    result
}

/// Everything that is open.
struct Daemon {
    layout: Arc<Layout>,
    live: Live,
    reloader: Arc<Reloader>,
    cursors: feeds::Cursors,
    town_id: TownId,
    started_at: Timestamp,
    signals: Signals,
    manager: ServiceManager,
    /// The socket that the service manager has made for us.
    passed: Option<Listening>,
    handle: Handle,
    bus: Bus,
    driver: Driver,
    watch: Watch,
    prepare: Arc<Preparer>,
    desk: Arc<work::Desk>,
    spawner: Arc<Spawner>,
    nudges: Nudges,
    watchman: Watchman,
    heartbeat_number: u64,
    stop: CancellationToken,
    /// Ends the supervisor, after everything that may still ask it.
    last: CancellationToken,
    supervisor: tokio::task::JoinHandle<()>,
}

impl Daemon {
    async fn serve(mut self, lock: &mut TownLock) -> Result<(), DaemonError> {
        let counters = Counters::default();
        let convoys =
            work::convoys::Convoys::new(Arc::clone(&self.desk), self.handle.clone(), self.bus.clone());
        let convoys = Arc::new(convoys);
        let callers = Callers::new(
            Arc::new(self.handle.clone()),
            self.town_id.clone(),
            self.live.now().callers.grant.clone(),
        );
        let affairs = affairs::Affairs::new(&self, &callers);
        let context = Context {
            handle: self.handle.clone(),
            prepare: Arc::clone(&self.prepare) as Arc<_>,
            bus: self.bus.clone(),
            layout: Arc::clone(&self.layout),
            town_id: self.town_id.clone(),
            started_at: self.started_at,
            counters: counters.clone(),
            config: Arc::clone(&self.reloader) as Arc<_>,
            desk: Arc::clone(&self.desk),
            spawner: Arc::clone(&self.spawner),
            convoys: Arc::clone(&convoys),
            office: affairs.office.clone(),
            clerk: affairs.clerk.clone(),
            nudges: self.nudges.clone(),
            watchman: self.watchman.clone(),
            looks: crate::doctor::Looks::default(),
            stop: self.stop.clone(),
        };
        let methods = methods(&context).map_err(DaemonError::Missing)?;
        let listening = match self.passed.take() {
            Some(passed) => passed,
            None => Place::bind_first(&self.places(), HoldsLock::by(lock))?,
        };
        tokio::spawn(follow_grants(callers.clone(), self.live.clone(), self.stop.clone()));
        let mut server = Server::start(listening, methods, Limits::default(), counters, callers)
            .map_err(system("serve the socket"))?;
        let files = DaemonFiles::new(&self.layout.daemon_dir(), own_pid());
        self.announce(&server);
        let heartbeat = tokio::spawn(heartbeat::run(
            self.handle.clone(),
            self.live.clone(),
            self.watchman.clone(),
            self.heartbeat_number,
            self.stop.clone(),
            {
                let files = DaemonFiles::new(&self.layout.daemon_dir(), own_pid());
                let started_at = self.started_at;
                move |number, at| {
                    let state = state(started_at, Some(at), number);
                    if let Err(error) = files.write_state(&state) {
                        tracing::warn!(%error, "state.json was not written");
                    }
                }
            },
        ));
        let (turn, status) = (self.handle.clone(), self.handle.clone());
        let watchdog = tokio::spawn(told::keep_told(
            ServiceManager::from_env(),
            move || {
                let handle = turn.clone();
                async move { handle.settled().await }
            },
            move || told::line(&status),
            self.stop.clone(),
        ));
        let hooks = tokio::spawn(work::watch(Arc::clone(&self.desk), self.live.clone(), self.stop.clone()));
        let closing = tokio::spawn({
            let shower = self.handle.clone();
            let died = move |why| supervised::show_death(shower.clone(), "convoys", why);
            let watched = move |stop| work::convoys::watch(Arc::clone(&convoys), stop);
            supervised::supervised(watched, died, supervised::Rest::default(), self.stop.clone())
        });
        let asked = Arc::new(work::Asked(Arc::clone(&self.desk)));
        let asking = tokio::spawn(asking::run(self.handle.clone(), asked, self.stop.clone()));
        let nudges = tokio::spawn(self.nudges.clone().run(self.stop.clone()));
        let greeting = tokio::spawn(self.nudges.clone().greet(self.stop.clone()));
        let post = feeds::PostOf {
            handle: self.handle.clone(),
            nudges: self.nudges.clone(),
            office: affairs.office.clone(),
        };
        let affairs = affairs.start(&self.handle, &self.nudges, &self.bus);
        let out = CancellationToken::new();
        let cursors = std::mem::take(&mut self.cursors);
        let feeds = feeds::start(post, &self.bus, &self.live, &self.layout, cursors, &out).await;
        let over = self.wait(&mut server, lock).await;
        self.manager.stopping();
        self.signals.end_at_once_from_now();
        tracing::info!("going down; agents stay");
        self.stop.cancel();
        let drained = server.shutdown().await;
        tracing::debug!(?drained, "the socket is closed");
        let _ = tokio::time::timeout(ENDING, heartbeat).await;
        watchdog.abort();
        // A store that hangs is not waited for; what it was asked is killed with the task.
        hooks.abort();
        asking.abort();
        // It ends with the token; what it asks of a store is not waited for.
        let _ = tokio::time::timeout(ENDING, closing).await;
        nudges.abort();
        greeting.abort();
        affairs.abort();
        out.cancel();
        let _ = tokio::time::timeout(ENDING, feeds.wait()).await;
        // Whoever has the town's lock has its files too.
        self.leave(over.is_ok().then_some(&files)).await;
        Ok(over?)
    }

    async fn leave(self, files: Option<&DaemonFiles>) {
        let event = NewEvent::new(self.handle.now(), kind::DAEMON_STOPPING, json!({ "reason": "asked to" }));
        self.handle.write(vec![Write::Event(event)]).await;
        // The loop takes messages in order: when it has answered this, the event is committed.
        self.handle.settled().await;
        self.last.cancel();
        let _ = tokio::time::timeout(ENDING, self.supervisor).await;
        let rounds = self.handle.shared().rounds();
        let state = state(self.started_at, rounds.last, rounds.number);
        if let Some(Err(error)) = files.map(|files| files.leave(&state)) {
            tracing::warn!(%error, "not all files were tidied");
        }
        self.driver.close().await;
        let ledger = self.handle.ledger().clone();
        let _ = tokio::time::timeout(ENDING, ledger.close()).await;
        tracing::info!("down");
    }
}

fn methods(context: &Context) -> Result<Methods, String> {
    let mut all = Methods::new();
    let mut add = |methods: Methods| all.merge(methods).map_err(|error| error.to_string());
    add(DaemonServer::into_rpc(context.clone()).into())?;
    add(TownServer::into_rpc(context.clone()).into())?;
    add(RigServer::into_rpc(context.clone()).into())?;
    add(WitnessServer::into_rpc(context.clone()).into())?;
    add(RefineryServer::into_rpc(context.clone()).into())?;
    add(DeaconServer::into_rpc(context.clone()).into())?;
    add(MayorServer::into_rpc(context.clone()).into())?;
    add(BootServer::into_rpc(context.clone()).into())?;
    add(PolecatServer::into_rpc(context.clone()).into())?;
    add(AgentServer::into_rpc(context.clone()).into())?;
    add(ConvoyServer::into_rpc(context.clone()).into())?;
    add(DeathsServer::into_rpc(context.clone()).into())?;
    add(CrewServer::into_rpc(context.clone()).into())?;
    add(SessionServer::into_rpc(context.clone()).into())?;
    add(OrphansServer::into_rpc(context.clone()).into())?;
    add(DoctorServer::into_rpc(context.clone()).into())?;
    add(HookServer::into_rpc(context.clone()).into())?;
    add(WorkServer::into_rpc(context.clone()).into())?;
    add(LifecycleServer::into_rpc(context.clone()).into())?;
    add(MailServer::into_rpc(context.clone()).into())?;
    add(NudgeServer::into_rpc(context.clone()).into())?;
    add(EventsServer::into_rpc(context.clone()).into())?;
    add(Discover::module(VERSION).into())?;
    Ok(all)
}

async fn hear_tmux(handle: Handle, mut apart: Apart, mut events: mpsc::Receiver<TmuxEvent>) {
    while let Some(event) = events.recv().await {
        apart.hear(&event).await;
        handle.tell(Message::Tmux(event)).await;
    }
}

async fn hear_town(
    handle: Handle,
    prepare: Arc<Preparer>,
    live: Live,
    mut memory: Option<Memory>,
    mut changes: mpsc::Receiver<Arc<Snapshot>>,
) {
    while let Some(snapshot) = changes.recv().await {
        prepare.see(Arc::clone(&snapshot));
        if let Some(write) = facts::remembered(&snapshot, &mut memory) {
            handle.write(vec![write]).await;
        }
        loop {
            let config = live.now();
            handle.input(Input::Facts(facts::of(&snapshot, &config, handle.now()))).await;
            handle.settled().await;
            handle.look_at_all_worktrees().await;
            // A configuration that was put in force meanwhile must not be overtaken by the one before it.
            if Arc::ptr_eq(&config, &live.now()) {
                break;
            }
        }
    }
}

/// Agents are allowed what the present configuration grants them.
async fn follow_grants(callers: Callers, live: Live, stop: CancellationToken) {
    let mut changes = live.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => match changed {
                Ok(()) => callers.grant(live.now().callers.grant.clone()),
                Err(_) => return,
            },
        }
    }
}

fn runtime_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

fn state(started_at: Timestamp, last: Option<Timestamp>, count: u64) -> State {
    State { running: true, pid: own_pid(), started_at, last_heartbeat: last, heartbeat_count: count }
}
