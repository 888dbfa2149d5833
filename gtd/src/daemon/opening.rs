//! Opening everything that a daemon needs, in the order in which each needs the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gtd_proto::event::kind;
use gtd_proto::{InstanceId, Timestamp, TownId};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::apart::{self, Apart};
use super::doubt::{doubt_pauses, is_vital};
use super::feeds;
use super::reload::{self, Chosen, LAST_GOOD, Reloader, starts, stops};
use super::{Daemon, DaemonError, Options, hear_tmux, hear_town, own_pid, rebuilt, runtime_dir, system};
use crate::agents::prepare::Preparer;
use crate::agents::runtime::{Runtime, Shared, sibling};
use crate::clock::Clock;
use crate::config::{Config, Hold, Live, Server as ServerSetting};
use crate::feed::Bus;
use crate::host::logs::Logs;
use crate::host::notify::ServiceManager;
use crate::host::passed;
use crate::host::signals::Signals;
use crate::ledger::{Condition, HoldRow, Loaded, NewEvent, Opened, Restored, ServerRow, Write};
use crate::polecats::{Spawner, Trees};
use crate::process::{BootId, ExitWatcher, Pid, ProcessId, StartTime};
use crate::rpc::Listening;
use crate::rpc::context::VERSION;
use crate::supervisor::core::{Core, Input, Makers, OBSERVING};
use crate::supervisor::deacon::{self, Watchman};
use crate::supervisor::handle::{CLOCK, clock_row};
use crate::supervisor::nudges::Nudges;
use crate::supervisor::planner::Bounds;
use crate::supervisor::run::{Supervisor, Timeline};
use crate::supervisor::{Settings, facts, heartbeat, incident, orphans, resources, rig_files, spool};
use crate::tmux::{Driver, DriverConfig, ServerChoice, ServerId};
use crate::town::memory::Memory;
use crate::town::town_id::{self, Identity};
use crate::town::watch::Watch;
use crate::town::{Layout, snapshot};
use crate::work::{self, Desk};

/// Events that a slow subscriber may be behind before it is told that it lags.
const BUS: usize = 4_096;
/// Reports of agents' tasks that may wait for the loop.
const REPORTS: usize = 4_096;
/// Messages of the tmux driver that may wait.
const TMUX_EVENTS: usize = 256;
/// How many black boxes are looked at for deaths that belong to a mass death: more than a town has agents.
const RECENT_DEATHS: u32 = 1_000;

impl Daemon {
    /// Opens everything, starts the supervisor, and begins to watch.
    pub(super) async fn open(
        options: &Options,
        layout: Layout,
        chosen: Chosen,
        opened: Opened,
        logs: Arc<Logs>,
    ) -> Result<Self, DaemonError> {
        let signals = Signals::install().map_err(system("catch signals"))?;
        let manager = ServiceManager::from_env();
        let clock = Clock::system();
        let boot = BootId::current().map_err(system("read the boot id"))?;
        let anchor = opened.state.facts.get(CLOCK).and_then(|fact| serde_json::from_value(fact.clone()).ok());
        let line = Timeline::resume(clock.clone(), anchor.as_ref(), boot.as_str());
        let started_at = line.to_wall(line.now());
        let layout = Arc::new(layout);
        let Chosen { config, text, trouble: config_trouble } = chosen;
        let live = Live::new(config);
        let config = live.now();
        let identity = town_id::ensure(&layout).map_err(|error| DaemonError::Missing(error.to_string()))?;
        let Opened { ledger, condition, mut state } = opened;
        ledger.set_keep(reload::keep(&config));
        let cursors = feeds::Cursors::of(&state);
        let bus = Bus::new(ledger.clone(), BUS);
        let run_dir = run_dir(&layout, &identity.id)?;
        let mut memory: Option<Memory> =
            state.facts.get(facts::TOWN_FILES).and_then(|fact| serde_json::from_value(fact.clone()).ok());
        let first = {
            let layout = Arc::clone(&layout);
            let before = memory.clone().map(|memory| memory.recalled(&layout));
            tokio::task::spawn_blocking(move || snapshot::read_settled(&layout, before.as_ref())).await
        };
        let first =
            Arc::new(first.map_err(|error| DaemonError::Missing(format!("the town was not read: {error}")))?);
        let watcher = ExitWatcher::start().map_err(system("watch processes"))?;
        let (tmux_sender, tmux_events) = mpsc::channel(TMUX_EVENTS);
        let driver_config = driver_config(&config, &layout, &run_dir, &identity.id);
        // A copy's ledger names the tmux server of the town that it was copied from.
        let recorded = recorded_server(&state.servers).filter(|_| identity.copied_from().is_none());
        let sockets = [driver_config.socket()].into_iter().chain(recorded.iter().map(|it| it.socket.clone()));
        if let Some(why) = crate::tmux::elsewhere(sockets).await {
            return Err(DaemonError::Missing(format!(
                "{why}; start gtd where that server runs, or end it there"
            )));
        }
        let driver = Driver::open(driver_config, watcher.clone(), tmux_sender, recorded).await;
        let shim = sibling("gtd-shim").ok_or_else(|| {
            DaemonError::Missing(
                "gtd-shim was not found beside gtd; install both into one directory".to_owned(),
            )
        })?;
        let passed = passed::listener().map_err(system("take over the socket that was passed in"))?;
        let passed = passed.map(Listening::passed_in);
        let socket = passed.as_ref().and_then(Listening::path).unwrap_or_else(|| {
            layout.socket(&identity.id, runtime_dir().as_deref(), rustix::process::getuid().as_raw())
        });
        let prepare = Arc::new(Preparer::new(
            Arc::clone(&first),
            live.clone(),
            identity.id.clone(),
            socket,
            run_dir.join(spool::DIR),
        ));
        let (reports_sender, reports) = mpsc::channel(REPORTS);
        let shared = Shared::new(
            driver.clone(),
            watcher,
            run_dir.clone(),
            shim,
            identity.id.to_string(),
            Arc::clone(&prepare) as Arc<_>,
            reports_sender,
            &config.stop.spare,
            starts(&config),
            stops(&config),
        );
        let mut reasons = trouble(&condition, &identity);
        doubt_pauses(&mut state);
        reasons.extend(state.unreadable.iter().map(|what| {
            let then = if is_vital(what) { "; nothing is started or ended until `gtctl up`" } else { "" };
            format!("a row of the ledger cannot be read: {what}{then}")
        }));
        let (mut before, observing) = first_writes(options, &identity, &reasons, &mut state, line.now());
        before.extend(config_trouble.iter().flat_map(|error| reload::rejected_at_start(error, line.now())));
        before.push(clock_row(&line));
        if let Some(text) = text {
            before.push(Write::Fact { key: LAST_GOOD.to_owned(), value: Some(json!(text)) });
        }
        before.extend(facts::remembered(&first, &mut memory));
        let rebuilt = rebuilt::is(&condition);
        if rebuilt && let Ok(listing) = driver.list().await {
            let marks = rebuilt::marks(&listing, identity.id.as_str());
            before.extend(rebuilt::catch_up(&mut state, marks, line.now()));
        }
        if !observing && !rebuilt {
            sweep_run_dir(&run_dir, &state);
        }
        let Loaded {
            agents,
            instances,
            hold,
            heartbeat_number,
            facts: recalled,
            work: open_work,
            polecats,
            conversations,
            ..
        } = state;
        let makers = Makers { instance: Box::new(InstanceId::generate), chance: Box::new(chance()) };
        let settings = settings(&config);
        let known = instances.clone();
        let (mut core, mut first_turn) =
            Core::resume(settings, observing, hold, agents, instances, makers, line.now());
        core.recall_rigs(&recalled);
        let captures = orphans::recalled(&known, recalled.get(orphans::CAPTURED));
        core.recall_orphans(&recalled);
        core.recall_pauses(&recalled);
        core.recall_conversations(conversations);
        let late = match ledger.exits(None, Some(RECENT_DEATHS)).await {
            Ok(exits) => exits,
            Err(error) => {
                reasons.push(format!("the last deaths cannot be read: {error}"));
                Vec::new()
            }
        };
        reasons.extend(core.recall_deaths(&recalled, late, |at| line.from_wall(at), line.now()));
        let texts = ledger.open_nudges().await.unwrap_or_else(|error| {
            reasons.push(format!("the texts that wait for agents cannot be read: {error}"));
            Default::default()
        });
        if rebuilt {
            core.survey_first();
        }
        first_turn.writes.splice(0..0, before);
        let runtime = Runtime::new(shared);
        captures.into_iter().for_each(|(agent, capture)| runtime.recall(&agent, capture));
        let (supervisor, handle, inbox) = Supervisor::new(core, runtime, ledger, bus.clone(), line);
        for reason in reasons {
            handle.shared().degrade(reason);
        }
        prepare.ask_hooks(Arc::clone(handle.shared()) as Arc<_>);
        let last = CancellationToken::new();
        let supervisor = tokio::spawn(supervisor.run(first_turn, inbox, reports, last.clone()));
        let mut apart = Apart::new(handle.clone(), driver.clone());
        apart.first().await;
        tokio::spawn(hear_tmux(handle.clone(), apart, tmux_events));
        let stop = CancellationToken::new();
        let mut resources = resources::Watch::new(layout.root().to_owned());
        resources.first(&handle).await;
        tokio::spawn(resources.run(handle.clone(), stop.clone()));
        tokio::spawn(handle.runtime().clone().watch_clients(stop.clone()));
        tokio::spawn(heartbeat::watch_clock(handle.clone(), clock, last.clone()));
        handle.input(Input::Facts(facts::of(&first, &config, handle.now()))).await;
        if observing || rebuilt {
            heartbeat::survey(&handle).await;
        }
        let (watch, changes) = Watch::start(&layout, first).map_err(system("watch the town's files"))?;
        tokio::spawn(hear_town(handle.clone(), Arc::clone(&prepare), live.clone(), memory, changes));
        tokio::spawn(rig_files::keep(handle.clone(), Arc::clone(&layout), watch.looker(), stop.clone()));
        let file = layout.gtd_toml();
        let reloader = Reloader::new(file, live.clone(), handle.clone(), Arc::clone(&prepare), logs);
        if let Some(error) = &config_trouble {
            reloader.complain(error).await;
        }
        // Whoever connects finds the rigs and agents that there are, not a town that was not read yet.
        handle.settled().await;
        tokio::spawn(spool::follow(handle.clone(), run_dir.join(spool::DIR), stop.clone()));
        // What a copied ledger said of running agents is written off by now.
        if let Err(error) = town_id::settle(&layout, &identity) {
            handle.shared().degrade(error.to_string());
        }
        let desk = work::Options {
            kind: config.work.store,
            timeout: config.work.timeout,
            // What the built-in store lacks then may have been there.
            lost: rebuilt.then(|| "the ledger was damaged and made anew".to_owned()),
            open_kept: open_work.whole,
            // What is no text is none of the variables that a store gets.
            env: std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        };
        let trees = Arc::new(Trees::new(Arc::clone(&layout), desk.env.clone()));
        let desk = Arc::new(Desk::new(Arc::clone(&layout), handle.clone(), bus.clone(), desk));
        let spawner = Spawner::new(
            handle.clone(),
            Arc::clone(&desk),
            bus.clone(),
            Arc::clone(&prepare),
            trees,
            observing || rebuilt,
            stop.clone(),
        );
        // Before anybody can ask for more: names and work are taken by what is under way.
        spawner.take_up(polecats).await;
        let nudges = Nudges::new(handle.clone(), bus.clone(), texts);
        let watchman = Watchman::new(
            handle.clone(),
            nudges.clone(),
            live.clone(),
            Arc::clone(&layout),
            recalled.get(deacon::FACT),
        );
        Ok(Self {
            layout,
            live,
            reloader: Arc::new(reloader),
            cursors,
            town_id: identity.id,
            started_at,
            signals,
            manager,
            passed,
            handle,
            bus,
            driver,
            watch,
            prepare,
            desk,
            spawner,
            nudges,
            watchman,
            heartbeat_number,
            stop,
            last,
            supervisor,
        })
    }
}

/// What is to be written before anything else, and whether what should run is unknown.
fn first_writes(
    options: &Options,
    identity: &Identity,
    reasons: &[String],
    state: &mut Loaded,
    now: Timestamp,
) -> (Vec<Write>, bool) {
    let mut writes = Vec::new();
    let observing_before = state.facts.get(OBSERVING).is_some_and(|fact| fact.as_bool() == Some(true));
    // A row that cannot be read may be a stop, or an instance that runs.
    let mut observing =
        observing_before || !state.known || state.unreadable.iter().any(|what| is_vital(what));
    if identity.copied_from().is_some() {
        // The ledger came along with a copy: what it recorded as running belongs to the town it was copied from.
        observing = true;
        // Nothing of these is ever left over of ours, whatever becomes of them.
        writes.push(Write::Fact { key: orphans::INHERITED.to_owned(), value: Some(json!(now)) });
        for mut row in state.instances.drain(..) {
            row.ended = true;
            writes.push(Write::Instance(row));
        }
        for row in state.servers.drain(..) {
            writes.push(Write::ServerGone { server: row.server, at: now });
        }
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
    for reason in reasons {
        writes.push(Write::Event(NewEvent::new(now, kind::DAEMON_DEGRADED, json!({ "reason": reason }))));
    }
    (writes, observing)
}

fn trouble(condition: &Condition, identity: &Identity) -> Vec<String> {
    let mut reasons = Vec::new();
    match condition {
        Condition::Fresh | Condition::Existing => {}
        Condition::SetAside { to, why, restored } => reasons.push(format!(
            "the ledger was damaged ({why}) and was set aside as {}; {}",
            to.display(),
            recovered(restored.as_ref())
        )),
        Condition::Missing { restored } => {
            reasons.push(format!("the ledger was gone; {}", recovered(restored.as_ref())));
        }
        // The loop says so, for as long as it is so.
        Condition::Unavailable { .. } | Condition::Newer { .. } => {}
    }
    if let Some(other) = identity.copied_from() {
        reasons.push(format!(
            "this directory was copied or moved from town {other}; nothing is started until `gtctl up`"
        ));
    }
    reasons
}

/// What became of what the lost ledger said, in words.
fn recovered(restored: Option<&Restored>) -> String {
    match restored {
        Some(Restored { from, written_at, older: false }) => {
            format!("what should run was found in {}, written {written_at:.0}", from.display())
        }
        Some(Restored { from, written_at, older: true }) => format!(
            "what should run was found in an older copy, {} of {written_at:.0}, and may have changed since: nothing is \
             started or ended until `gtctl up`",
            from.display()
        ),
        None => "what should run is not known: nothing is started or ended until `gtctl up`".to_owned(),
    }
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
        launchers: apart::launchers(town_id),
        barred: (std::env::var_os("GT_DEGRADED").is_some_and(|said| said == "true")).then(|| {
            let why = "the daemon was started with GT_DEGRADED=true".to_owned();
            (why, "start it again without that variable".to_owned())
        }),
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

pub(super) fn settings(config: &Config) -> Settings {
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
            churn_deaths: restart.churn_deaths,
            churn_window: restart.churn_window,
            burst: restart.burst,
            window: restart.window,
            quarantine: restart.quarantine,
            quarantine_max: restart.quarantine_max,
            hold: match restart.hold {
                Hold::Forever => None,
                Hold::For(hold) => Some(hold),
            },
            settle: restart.settle,
        },
        mass_death: mass_death(config),
        start_timeout: config.start.timeout,
        drain: config.stop.drain,
        bounds: Bounds {
            max_agents: config.start.max_agents,
            min_free_memory: config.start.min_free_memory.0,
            min_free_disk: config.start.min_free_disk.0,
            max_per_rig: config.polecat.max_per_rig,
        },
    }
}

fn mass_death(config: &Config) -> incident::Numbers {
    let numbers = &config.mass_death;
    incident::Numbers {
        threshold: numbers.threshold,
        share: numbers.share,
        window: numbers.window,
        hold: numbers.hold,
        hold_max: numbers.hold_max,
        canary: numbers.canary,
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
