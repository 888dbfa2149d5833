//! The daemon put together: open, wire, run, shut down in order.
//!
//! Owns the order in which things begin and end. It must do nothing to a town before it holds the town's lock.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::daemon::Endpoint;
use gtd_proto::event::kind;
use gtd_proto::rpc::{
    AgentServer, DaemonServer, EventsServer, RefineryServer, RigServer, TownServer, WitnessServer,
};
use gtd_proto::{InstanceId, PROTOCOL, Timestamp, TownId};
use jsonrpsee::Methods;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agents::prepare::Preparer;
use crate::agents::runtime::{Runtime, Shared, sibling};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Server as ServerSetting};
use crate::feed::Bus;
use crate::host::files::{DaemonFiles, State};
use crate::host::limits::raise_open_files;
use crate::host::lock::{LockError, TownLock};
use crate::host::logs::{self, LogOptions};
use crate::host::notify::ServiceManager;
use crate::host::signals::{Signal, Signals};
use crate::ledger::{self, Condition, HoldRow, Loaded, NewEvent, Opened, ServerRow, Write};
use crate::process::{BootId, ExitWatcher, Pid, ProcessId, StartTime};
use crate::rpc::context::{Context, VERSION};
use crate::rpc::discover::Discover;
use crate::rpc::{Counters, Endpoint as Place, EndpointError, HoldsLock, Limits, Server, ServerHandle};
use crate::supervisor::core::{Core, Input, Makers, OBSERVING};
use crate::supervisor::run::{Message, Supervisor, Timeline};
use crate::supervisor::{Handle, Settings, facts, heartbeat};
use crate::tmux::{Driver, DriverConfig, ServerChoice, ServerId, TmuxEvent};
use crate::town::town_id::{self, Identity};
use crate::town::watch::Watch;
use crate::town::{Layout, Snapshot, snapshot};

/// Events that a slow subscriber may be behind before it is told that it lags.
const BUS: usize = 4_096;
/// Reports of agents' tasks that may wait for the loop.
const REPORTS: usize = 4_096;
/// Messages of the tmux driver that may wait.
const TMUX_EVENTS: usize = 256;
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
            Self::Socket(_) | Self::System { .. } | Self::Missing(_) => 70,
        }
    }

    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTown { path, .. } => Some(format!("make one with: gtctl init {}", path.display())),
            Self::Lock(_) => Some("gtctl daemon status".to_owned()),
            Self::Config(error) => error.hint.clone(),
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
    let lock = TownLock::acquire(&layout.daemon_dir())?;
    let config = Config::load(&layout.gtd_toml())?;
    let log_options = LogOptions {
        dir: layout.daemon_dir(),
        level: config.daemon.log_level.as_str().to_owned(),
        max_bytes: config.daemon.log_max_bytes.0,
        files: config.daemon.log_files,
        stderr: logs::stderr_is_read(),
    };
    let _logs = logs::init(&log_options).map_err(|error| DaemonError::Missing(error.to_string()))?;
    let files = raise_open_files();
    if let Some(error) = &files.error {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gtd")
        .build()
        .map_err(system("start the runtime"))?;
    // Signals are caught before anything else runs: the incumbent's tools send USR1 as soon as there is a pid.
    let result =
        runtime.block_on(async { Daemon::open(options, layout, config, &lock).await?.serve(&lock).await });
    runtime.shutdown_timeout(ENDING);
    drop(lock);
    result
}

/// Everything that is open.
struct Daemon {
    layout: Arc<Layout>,
    config: Arc<Config>,
    town_id: TownId,
    started_at: Timestamp,
    signals: Signals,
    manager: ServiceManager,
    handle: Handle,
    bus: Bus,
    driver: Driver,
    watch: Watch,
    prepare: Arc<Preparer>,
    heartbeat_number: u64,
    stop: CancellationToken,
    /// Ends the supervisor, after everything that may still ask it.
    last: CancellationToken,
    supervisor: tokio::task::JoinHandle<()>,
}

impl Daemon {
    async fn open(
        options: &Options,
        layout: Layout,
        config: Config,
        _lock: &TownLock,
    ) -> Result<Self, DaemonError> {
        let signals = Signals::install().map_err(system("catch signals"))?;
        let manager = ServiceManager::from_env();
        let clock = Clock::system();
        let line = Timeline::start(clock);
        let started_at = line.now();
        let layout = Arc::new(layout);
        let config = Arc::new(config);
        let identity = town_id::ensure(&layout).map_err(|error| DaemonError::Missing(error.to_string()))?;
        let Opened { ledger, condition, mut state } = {
            let dir = layout.daemon_dir();
            tokio::task::spawn_blocking(move || ledger::open(&dir))
                .await
                .map_err(|error| DaemonError::Missing(format!("the ledger could not be opened: {error}")))?
        };
        let bus = Bus::new(ledger.clone(), BUS);
        let run_dir = run_dir(&layout, &identity.id)?;
        let first = {
            let layout = Arc::clone(&layout);
            tokio::task::spawn_blocking(move || snapshot::read_settled(&layout, None)).await
        };
        let first =
            Arc::new(first.map_err(|error| DaemonError::Missing(format!("the town was not read: {error}")))?);
        let watcher = ExitWatcher::start().map_err(system("watch processes"))?;
        let (tmux_sender, tmux_events) = mpsc::channel(TMUX_EVENTS);
        let driver_config = driver_config(&config, &layout, &run_dir, &identity.id);
        let recorded = recorded_server(&state.servers);
        let driver = Driver::open(driver_config, watcher.clone(), tmux_sender, recorded).await;
        let shim = sibling("gtd-shim").ok_or_else(|| {
            DaemonError::Missing(
                "gtd-shim was not found beside gtd; install both into one directory".to_owned(),
            )
        })?;
        let socket =
            layout.socket(&identity.id, runtime_dir().as_deref(), rustix::process::getuid().as_raw());
        let prepare =
            Arc::new(Preparer::new(Arc::clone(&first), Arc::clone(&config), identity.id.clone(), socket));
        let (reports_sender, reports) = mpsc::channel(REPORTS);
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let starts = match config.start.concurrency {
            // Each start is a fork of tmux' and one of the shim's; more than this at once only queue in tmux.
            0 => cores * 4,
            n => usize::try_from(n).unwrap_or(cores),
        };
        let stops = usize::try_from(config.stop.concurrency).unwrap_or(1);
        let shared = Shared::new(
            driver.clone(),
            watcher,
            run_dir.clone(),
            shim,
            identity.id.to_string(),
            Arc::clone(&prepare) as Arc<_>,
            reports_sender,
            starts,
            stops,
        );
        let (before, observing) = first_writes(options, &identity, &condition, &mut state, started_at);
        if !observing {
            sweep_run_dir(&run_dir, &state);
        }
        let Loaded { agents, instances, hold, heartbeat_number, .. } = state;
        let makers = Makers { instance: Box::new(InstanceId::generate), chance: Box::new(chance()) };
        let settings = settings(&config);
        let (core, mut first_turn) =
            Core::resume(settings, observing, hold, agents, instances, makers, line.now());
        first_turn.writes.splice(0..0, before);
        let (supervisor, handle, inbox) =
            Supervisor::new(core, Runtime::new(shared), ledger, bus.clone(), line);
        for reason in trouble(&condition, &identity) {
            handle.shared().degrade(reason);
        }
        let last = CancellationToken::new();
        let supervisor = tokio::spawn(supervisor.run(first_turn, inbox, reports, last.clone()));
        tokio::spawn(hear_tmux(handle.clone(), tmux_events));
        handle.input(Input::Facts(facts::of(&first, &config, handle.now()))).await;
        let (watch, changes) = Watch::start(&layout, first).map_err(system("watch the town's files"))?;
        tokio::spawn(hear_town(handle.clone(), Arc::clone(&prepare), Arc::clone(&config), changes));
        Ok(Self {
            layout,
            config,
            town_id: identity.id,
            started_at,
            signals,
            manager,
            handle,
            bus,
            driver,
            watch,
            prepare,
            heartbeat_number,
            stop: CancellationToken::new(),
            last,
            supervisor,
        })
    }

    async fn serve(mut self, lock: &TownLock) -> Result<(), DaemonError> {
        let counters = Counters::default();
        let context = Context {
            handle: self.handle.clone(),
            prepare: Arc::clone(&self.prepare) as Arc<_>,
            bus: self.bus.clone(),
            layout: Arc::clone(&self.layout),
            town_id: self.town_id.clone(),
            started_at: self.started_at,
            counters: counters.clone(),
            stop: self.stop.clone(),
        };
        let methods = methods(&context).map_err(DaemonError::Missing)?;
        let places = Place::candidates(
            self.layout.root(),
            &self.town_id,
            runtime_dir().as_deref(),
            rustix::process::getuid(),
        );
        let listening = Place::bind_first(&places, HoldsLock::by(lock))?;
        let server = Server::start(listening, methods, Limits::default(), counters)
            .map_err(system("serve the socket"))?;
        let files = DaemonFiles::new(&self.layout.daemon_dir(), own_pid());
        self.announce(&files, &server);
        let heartbeat = tokio::spawn(heartbeat::run(
            self.handle.clone(),
            self.config.daemon.heartbeat_interval,
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
        let watchdog =
            tokio::spawn(feed_watchdog(self.handle.clone(), ServiceManager::from_env(), self.stop.clone()));
        self.wait().await;
        self.manager.stopping();
        self.signals.end_at_once_from_now();
        tracing::info!("going down; agents stay");
        self.stop.cancel();
        let drained = server.shutdown().await;
        tracing::debug!(?drained, "the socket is closed");
        let _ = tokio::time::timeout(ENDING, heartbeat).await;
        watchdog.abort();
        self.leave(&files).await;
        Ok(())
    }

    /// Says to everybody that the daemon is there.
    fn announce(&self, files: &DaemonFiles, server: &ServerHandle) {
        let endpoint = Endpoint {
            socket: server.path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            pid: own_pid(),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            town_id: self.town_id.clone(),
            started_at: self.started_at,
        };
        let state = state(self.started_at, None, self.heartbeat_number);
        for (what, result) in [
            ("daemon.pid", files.write_pid()),
            ("state.json", files.write_state(&state)),
            ("endpoint.json", files.write_endpoint(&endpoint)),
        ] {
            if let Err(error) = result {
                tracing::error!(%error, "{what} was not written");
                self.handle.shared().degrade(format!("{what} cannot be written: {error}"));
            }
        }
        self.manager.ready();
        tracing::info!(socket = %endpoint.socket, version = VERSION, "up");
    }

    /// Until somebody wants the daemon to end.
    async fn wait(&mut self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                signal = self.signals.next() => match signal {
                    Some(Signal::Terminate | Signal::Interrupt) | None => return,
                    Some(Signal::Reload) => {
                        tracing::info!("HUP: looking at the town's files again");
                        self.watch.look();
                    }
                    Some(Signal::Lifecycle) => {
                        tracing::info!("USR1: there are no lifecycle requests to process; looking once more at everything");
                        let handle = self.handle.clone();
                        tokio::spawn(async move { handle.round().await });
                    }
                },
            }
        }
    }

    async fn leave(self, files: &DaemonFiles) {
        let event = NewEvent::new(self.handle.now(), kind::DAEMON_STOPPING, json!({ "reason": "asked to" }));
        self.handle.write(vec![Write::Event(event)]).await;
        // The loop takes messages in order: when it has answered this, the event is committed.
        self.handle.settled().await;
        self.last.cancel();
        let _ = tokio::time::timeout(ENDING, self.supervisor).await;
        let rounds = self.handle.shared().rounds();
        if let Err(error) = files.leave(&state(self.started_at, rounds.last, rounds.number)) {
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
    add(AgentServer::into_rpc(context.clone()).into())?;
    add(EventsServer::into_rpc(context.clone()).into())?;
    add(Discover::module(VERSION).into())?;
    Ok(all)
}

async fn hear_tmux(handle: Handle, mut events: mpsc::Receiver<TmuxEvent>) {
    while let Some(event) = events.recv().await {
        handle.tell(Message::Tmux(event)).await;
    }
}

async fn hear_town(
    handle: Handle,
    prepare: Arc<Preparer>,
    config: Arc<Config>,
    mut changes: mpsc::Receiver<Arc<Snapshot>>,
) {
    while let Some(snapshot) = changes.recv().await {
        prepare.see(Arc::clone(&snapshot));
        handle.input(Input::Facts(facts::of(&snapshot, &config, handle.now()))).await;
    }
}

/// Tells the service manager that the daemon lives, as long as the supervisor's loop answers.
async fn feed_watchdog(handle: Handle, manager: ServiceManager, stop: CancellationToken) {
    let Some(interval) = manager.alive_every() else { return };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        handle.settled().await;
        manager.alive();
    }
}

/// What is to be written before anything else, and whether what should run is unknown.
fn first_writes(
    options: &Options,
    identity: &Identity,
    condition: &Condition,
    state: &mut Loaded,
    now: Timestamp,
) -> (Vec<Write>, bool) {
    let mut writes = Vec::new();
    let observing_before = state.facts.get(OBSERVING).is_some_and(|fact| fact.as_bool() == Some(true));
    let mut observing = observing_before || !state.known;
    if identity.copied_from().is_some() {
        // The ledger came along with a copy: what it recorded as running belongs to the town it was copied from.
        observing = true;
        for mut row in state.instances.drain(..) {
            row.ended = true;
            writes.push(Write::Instance(row));
        }
        state.servers.clear();
    }
    if observing && !observing_before {
        writes.push(Write::Fact { key: OBSERVING.to_owned(), value: Some(json!(true)) });
    }
    if options.hold && state.hold.is_none() {
        let hold = HoldRow { by: "person".to_owned(), reason: Some("started on hold".to_owned()), at: now };
        writes.push(Write::Hold(Some(hold.clone())));
        state.hold = Some(hold);
    }
    let data = json!({ "pid": own_pid(), "version": VERSION });
    writes.push(Write::Event(NewEvent::new(now, kind::DAEMON_STARTED, data)));
    for reason in trouble(condition, identity) {
        writes.push(Write::Event(NewEvent::new(now, kind::DAEMON_DEGRADED, json!({ "reason": reason }))));
    }
    (writes, observing)
}

fn trouble(condition: &Condition, identity: &Identity) -> Vec<String> {
    let mut reasons = Vec::new();
    match condition {
        Condition::Fresh | Condition::Existing => {}
        Condition::SetAside { to, why } => reasons.push(format!(
            "the ledger was damaged ({why}) and was set aside as {}; nothing is started or ended until `gtctl up`",
            to.display()
        )),
        Condition::Unavailable { why } => {
            reasons.push(format!("the ledger cannot be used, and nothing is remembered: {why}"));
        }
    }
    if let Some(other) = identity.copied_from() {
        reasons.push(format!(
            "this directory was copied or moved from town {other}; nothing is started until `gtctl up`"
        ));
    }
    reasons
}

/// Launch files and records of instances that the ledger has as ended are of no use to anybody.
fn sweep_run_dir(run_dir: &Path, state: &Loaded) {
    let live: BTreeSet<&str> = state.instances.iter().map(|row| row.instance.as_str()).collect();
    let Ok(entries) = std::fs::read_dir(run_dir) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let ours = path.extension().is_some_and(|end| end == "launch" || end == "record");
        let instance = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if ours
            && instance.parse::<InstanceId>().is_ok()
            && !live.contains(instance)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a file of an ended instance stays");
        }
    }
}

fn recorded_server(rows: &[ServerRow]) -> Option<ServerId> {
    let row = rows.iter().filter(|row| row.ours).max_by_key(|row| row.seen_at)?;
    let key = &row.server.process;
    Some(ServerId {
        socket: PathBuf::from(&row.server.socket),
        process: ProcessId {
            boot: BootId::new(key.boot.as_str()),
            pid: Pid::new(key.pid)?,
            start: StartTime::new(key.start),
        },
    })
}

fn driver_config(config: &Config, layout: &Layout, run_dir: &Path, town_id: &TownId) -> DriverConfig {
    let server = match &config.tmux.server {
        ServerSetting::Private => ServerChoice::Private(run_dir.join("tmux-0.sock")),
        ServerSetting::Default => ServerChoice::Default,
        ServerSetting::Named(name) => ServerChoice::Named(name.clone()),
        ServerSetting::Path(path) => ServerChoice::Socket(path.clone()),
    };
    DriverConfig {
        server,
        config_file: layout.tmux_conf(),
        command_timeout: config.tmux.command_timeout,
        size: (config.tmux.size.columns, config.tmux.size.rows),
        tmux: PathBuf::from("tmux"),
        town_id: town_id.to_string(),
        launcher: Vec::new(),
    }
}

/// The directory of sockets, launch files and records: ours alone, or refused.
fn run_dir(layout: &Layout, town_id: &TownId) -> Result<PathBuf, DaemonError> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let uid = rustix::process::getuid().as_raw();
    let dir = layout.run_dir(town_id, runtime_dir().as_deref(), uid);
    let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    make.map_err(system(format!("make {}", dir.display())))?;
    let found = std::fs::symlink_metadata(&dir).map_err(system(format!("look at {}", dir.display())))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        return Err(DaemonError::Missing(format!(
            "{} is not a directory of ours that only we may write to; remove it, or mend its owner and mode",
            dir.display()
        )));
    }
    Ok(dir)
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

fn settings(config: &Config) -> Settings {
    let restart = &config.restart;
    Settings {
        numbers: crate::supervisor::policy::Numbers {
            initial: restart.initial,
            base: restart.base,
            factor: restart.factor,
            max: restart.max,
            jitter: restart.jitter,
            min_uptime: restart.min_uptime,
            healthy_after: restart.healthy_after,
            burst: restart.burst,
            window: restart.window,
            quarantine: restart.quarantine,
            quarantine_max: restart.quarantine_max,
            settle: restart.settle,
        },
        start_timeout: config.start.timeout,
        drain: config.stop.drain,
    }
}

/// Numbers between -1 and 1, good enough to keep agents from starting in step.
fn chance() -> impl FnMut() -> f64 + Send {
    let mut state =
        u64::from(std::process::id()) ^ u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let thousandths = i32::try_from((state >> 33) % 2_001).unwrap_or(1_000) - 1_000;
        f64::from(thousandths) / 1_000.0
    }
}
