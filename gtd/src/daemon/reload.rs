//! The configuration while the daemon runs: reading it again, and putting each value where it takes effect.
//!
//! Owns what a reload comes to. Must never take half of a file: one that is not right changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gtd_proto::config::{Changed, LevelSet, Reloaded, Shown};
use gtd_proto::event::kind;
use gtd_proto::town::{Alert, Severity};
use gtd_proto::{ErrorKind, RpcError, Timestamp};
use jsonrpsee::core::async_trait;
use serde_json::{Value, json};

use super::opening::settings;
use crate::agents::prepare::Preparer;
use crate::config::{Config, ConfigError, Live, Reload};
use crate::host::logs::Logs;
use crate::ledger::{Keep, Loaded, NewEvent, Write};
use crate::rpc::configuration::Configuration;
use crate::supervisor::core::Input;
use crate::supervisor::{Handle, facts};
use crate::town::Layout;

/// Key of the alert about a file that cannot be used.
const ALERT: &str = "config";

/// The ledger's fact that holds the text of the last configuration that was good.
pub(super) const LAST_GOOD: &str = "config";

/// The configuration that the daemon starts with.
pub(super) struct Chosen {
    /// It.
    pub(super) config: Config,
    /// Its text, when it is the file's.
    pub(super) text: Option<String>,
    /// Why it is not the file's.
    pub(super) trouble: Option<ConfigError>,
}

/// Reads the configuration; one that is not right is answered with the last one that was.
///
/// # Errors
/// When the file is not right, and none was before.
pub(super) fn choose_config(layout: &Layout, state: &Loaded) -> Result<Chosen, ConfigError> {
    let path = layout.gtd_toml();
    match Config::load_settled(&path) {
        Ok((config, text)) => Ok(Chosen { config, text: Some(text), trouble: None }),
        Err(error) => {
            let last = state.facts.get(LAST_GOOD).and_then(|fact| fact.as_str());
            match last.and_then(|text| Config::parse(text, &path).ok()) {
                Some(config) => Ok(Chosen { config, text: None, trouble: Some(error) }),
                None => Err(error),
            }
        }
    }
}

/// Everything that values of the configuration go to.
pub(super) struct Reloader {
    file: PathBuf,
    live: Live,
    handle: Handle,
    prepare: Arc<Preparer>,
    logs: Arc<Logs>,
    /// Two reloads at once would each compare with what the other is replacing.
    turn: tokio::sync::Mutex<()>,
    rejected: Mutex<Option<String>>,
}

impl Reloader {
    pub(super) fn new(
        file: PathBuf,
        live: Live,
        handle: Handle,
        prepare: Arc<Preparer>,
        logs: Arc<Logs>,
    ) -> Self {
        let turn = tokio::sync::Mutex::default();
        Self { file, live, handle, prepare, logs, turn, rejected: Mutex::default() }
    }

    /// The file cannot be used: everybody is to see that, until it can.
    pub(super) async fn complain(&self, error: &ConfigError) {
        tracing::error!(%error, "the configuration cannot be used; the last good one stays");
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.handle
            .raise(Alert {
                key: ALERT.to_owned(),
                since: self.handle.wall(),
                severity: Severity::Error,
                message: format!("the configuration cannot be used, and the last good one stays: {error}"),
                hint: Some("gtctl config check; then gtctl daemon reload".to_owned()),
            })
            .await;
    }

    /// Reads the file. On the thread pool: a file system that hangs must not take the runtime along.
    async fn read(&self) -> Result<(Config, String), ConfigError> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || Config::load_settled(&file)).await;
        read.unwrap_or_else(|error| Err(ConfigError::unread(&self.file, &error.to_string())))
    }

    /// Reads the file and puts it in force.
    pub(super) async fn run(&self, dry_run: bool) -> Result<Reloaded, ConfigError> {
        let _turn = self.turn.lock().await;
        let (config, text) = match self.read().await {
            Ok(read) => read,
            Err(error) if dry_run => return Err(error),
            Err(error) => {
                let event = NewEvent::new(self.handle.now(), kind::CONFIG_REJECTED, rejected(&error));
                self.handle.write(vec![Write::Event(event)]).await;
                self.complain(&error).await;
                self.handle.settled().await;
                return Err(error);
            }
        };
        let Reload { config, mut changed, refused } = self.live.now().reload(config);
        changed.extend(level_set_back(&self.logs.level(), &config, &changed));
        let reloaded = Reloaded { changed, refused, dry_run };
        if dry_run {
            return Ok(reloaded);
        }
        self.apply(config).await;
        for change in &reloaded.changed {
            tracing::info!(key = %change.key, old = %change.old, new = %change.new, "reloaded");
        }
        for refused in &reloaded.refused {
            tracing::warn!(key = %refused.key, "not reloaded: {}", refused.reason);
        }
        let data = json!({
            "file": self.file.to_string_lossy(), "changed": reloaded.changed, "refused": reloaded.refused,
        });
        let event = NewEvent::new(self.handle.now(), kind::CONFIG_RELOADED, data);
        let keep = Write::Fact { key: LAST_GOOD.to_owned(), value: Some(Value::from(text)) };
        self.handle.write(vec![keep, Write::Event(event)]).await;
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.handle.settle(ALERT).await;
        self.handle.settled().await;
        Ok(reloaded)
    }

    /// Puts values where they take effect.
    async fn apply(&self, config: Config) {
        if let Err(error) = self.logs.set_level(config.daemon.log_level.as_str()) {
            tracing::warn!(%error, "the log's level stays");
        }
        self.logs.set_bounds(config.daemon.log_max_bytes.0, config.daemon.log_files);
        let runtime = self.handle.runtime();
        let size = (config.tmux.size.columns, config.tmux.size.rows);
        runtime.driver().set_limits(config.tmux.command_timeout, size);
        runtime.shared().adjust(starts(&config), stops(&config), &config.stop.spare);
        self.handle.ledger().set_keep(keep(&config));
        self.live.replace(config);
        let config = self.live.now();
        self.handle.input(Input::Settings(Box::new(settings(&config)))).await;
        loop {
            let snapshot = self.prepare.snapshot();
            self.handle.input(Input::Facts(facts::of(&snapshot, &config, self.handle.now()))).await;
            // The town may have been read anew meanwhile, and that be told already: it must not be overtaken.
            if Arc::ptr_eq(&snapshot, &self.prepare.snapshot()) {
                return;
            }
        }
    }
}

/// A level of the log that was set for the time being, and ends with a reload, though the file is as before.
fn level_set_back(level: &str, config: &Config, changed: &[Changed]) -> Option<Changed> {
    const KEY: &str = "daemon.log_level";
    let new = config.daemon.log_level.as_str();
    let (old, told) = (Value::from(level), changed.iter().any(|change| change.key == KEY));
    (level != new && !told).then(|| Changed { key: KEY.to_owned(), old, new: Value::from(new) })
}

/// How many starts may be under way at once.
pub(super) fn starts(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    match config.start.concurrency {
        // Each start is a fork of tmux' and one of the shim's; more than this at once only queue in tmux.
        0 => cores * 4,
        n => usize::try_from(n).unwrap_or(cores),
    }
}

/// How many stops may be under way at once.
pub(super) fn stops(config: &Config) -> usize {
    usize::try_from(config.stop.concurrency).unwrap_or(1)
}

/// How much history is kept.
pub(super) fn keep(config: &Config) -> Keep {
    Keep { max_age: config.daemon.ledger_max_age, ..Keep::default() }
}

/// The facts of an event of kind `config.rejected`.
pub(super) fn rejected(error: &ConfigError) -> Value {
    json!({
        "file": error.file.to_string_lossy(), "key": error.key, "line": error.line, "column": error.column,
        "message": error.message,
    })
}

/// The event of a file that could not be used at the start.
pub(super) fn rejected_at_start(error: &ConfigError, at: Timestamp) -> [Write; 2] {
    let reason = format!("the last good configuration is used: {error}");
    [
        Write::Event(NewEvent::new(at, kind::CONFIG_REJECTED, rejected(error))),
        Write::Event(NewEvent::new(at, kind::DAEMON_DEGRADED, json!({ "reason": reason }))),
    ]
}

#[async_trait]
impl Configuration for Reloader {
    fn shown(&self) -> Shown {
        Shown {
            file: self.file.to_string_lossy().into_owned(),
            values: self.live.now().values(),
            rejected: self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    async fn reload(&self, dry_run: bool) -> Result<Reloaded, RpcError> {
        self.run(dry_run).await.map_err(|error| error.to_rpc())
    }

    fn log_level(&self, level: &str, dry_run: bool) -> Result<LevelSet, RpcError> {
        let wrong = |error: crate::host::logs::LogError| {
            RpcError::new(ErrorKind::InvalidParams, error.to_string()).with("path", "/level")
        };
        let old = self.logs.level();
        let level = crate::host::logs::level(level).map_err(wrong)?;
        if !dry_run {
            self.logs.set_level(&level).map_err(wrong)?;
        }
        Ok(LevelSet { old, level, dry_run })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("gtd.toml")).unwrap()
    }

    #[test]
    fn the_end_of_a_level_that_was_set_for_the_time_being_is_told() {
        let plain = config("");
        assert_eq!(level_set_back("info", &plain, &[]), None);
        let back = level_set_back("debug", &plain, &[]).unwrap();
        assert_eq!((back.old, back.new), (Value::from("debug"), Value::from("info")));
        let loud = config("[daemon]\nlog_level = \"debug\"\n");
        let told = plain.reload(loud);
        assert_eq!(told.changed.len(), 1);
        assert_eq!(level_set_back("warn", &told.config, &told.changed), None);
    }

    #[test]
    fn each_number_reaches_the_heart() {
        let default = settings(&Config::default());
        for line in [
            "[restart]\ninitial = \"3s\"",
            "[restart]\nbase = \"3s\"",
            "[restart]\nfactor = 3",
            "[restart]\nmax = \"3m\"",
            "[restart]\njitter = 0.3",
            "[restart]\nmin_uptime = \"3s\"",
            "[restart]\nhealthy_after = \"3m\"",
            "[restart]\nburst = 3",
            "[restart]\nwindow = \"3m\"",
            "[restart]\nquarantine = \"3m\"",
            "[restart]\nquarantine_max = \"3h\"",
            "[restart]\nsettle = \"3ms\"",
            "[restart]\nchurn_deaths = 3",
            "[restart]\nchurn_window = \"3h\"",
            "[restart]\nhold = \"3h\"",
            "[mass_death]\nthreshold = 4",
            "[mass_death]\nshare = 0.3",
            "[mass_death]\nwindow = \"3s\"",
            "[mass_death]\nhold = \"3s\"",
            "[mass_death]\nhold_max = \"3m\"",
            "[mass_death]\ncanary = \"3s\"",
            "[start]\nmax_agents = 3",
            "[start]\nmin_free_memory = \"3MiB\"",
            "[start]\nmin_free_disk = \"3MiB\"",
            "[start]\ntimeout = \"3s\"",
            "[stop]\ndrain = \"3s\"",
        ] {
            assert_ne!(settings(&config(line)), default, "{line}");
        }
    }

    #[test]
    fn places_for_starts_and_stops_are_as_configured() {
        let config = config("[start]\nconcurrency = 3\n[stop]\nconcurrency = 5");
        assert_eq!((starts(&config), stops(&config)), (3, 5));
        assert!(starts(&Config::default()) >= 4, "by cores");
    }
}
