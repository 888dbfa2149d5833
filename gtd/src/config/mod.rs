//! The daemon's own configuration, `settings/gtd.toml`.
//!
//! Owns the keys, their defaults, bounds and documentation, and what may change while the daemon runs.
//! Must never guess: a key that is not known, or a value that is not right, is an error with its place.

mod keys;
mod live;
mod names;
mod read;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

pub use keys::{
    Boot, Callers, Daemon, Deacon, Key, MassDeath, Metrics, Notify, Polecat, Refinery, Restart, Start, Stop,
    Sweep, Tmux, Witness, Work,
};
pub use live::Live;
pub use names::Names;
pub use read::ConfigError;
pub use types::{
    BootMode, DeaconMode, Grant, Hold, LogLevel, Mode, OnStale, Server, Size, StoreKind, SweepMode,
};
pub use value::{Bytes, Rule};

use gtd_proto::config::{Changed, ConfigValue, Origin, Refused};
use keys::{NOT_YET, NOTIFY_KEYS, Section};

/// Longest file that is read. A full one is some ten thousand bytes.
const FILE_MAX: u64 = 1 << 20;

/// A file that was not changed for this long is at rest.
const SETTLED: Duration = Duration::from_millis(500);
/// Pause between two looks at one that was; an editor takes a few milliseconds.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Looks at one that does not come to rest.
const SETTLE_LOOKS: u32 = 20;

/// The whole configuration. Each field is a table of the file.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "the type of each field says what it is")]
pub struct Config {
    pub daemon: Daemon,
    pub tmux: Tmux,
    pub metrics: Metrics,
    pub start: Start,
    pub stop: Stop,
    pub restart: Restart,
    pub mass_death: MassDeath,
    pub deacon: Deacon,
    pub boot: Boot,
    pub witness: Witness,
    pub refinery: Refinery,
    pub polecat: Polecat,
    pub sweep: Sweep,
    pub callers: Callers,
    pub work: Work,
    pub notify: Vec<Notify>,
    /// Dotted keys that the file sets.
    set: BTreeSet<String>,
}

/// What a reload comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The configuration from now on: the new one, with the old value of each refused key.
    pub config: Config,
    /// What is different from before.
    pub changed: Vec<Changed>,
    /// What stays until the daemon is started again.
    pub refused: Vec<Refused>,
}

/// Keys that hold from start to end, and why.
const FIXED: [(&str, &str); 3] = [
    ("tmux.server", "running sessions cannot move to another server; stop the town, then restart the daemon"),
    ("work.store", STORES),
    ("work.timeout", STORES),
];

/// Why nothing about work stores changes while the daemon runs.
const STORES: &str = "the work stores are opened when the daemon starts; restart it (agents go on)";

impl Config {
    /// Reads the file. A file that is not there means the defaults.
    ///
    /// # Errors
    /// When the file exists and cannot be read, is longer than 1 MiB, is no UTF-8, or is not right; the
    /// error tells the first such place. Nothing is half taken.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with_text(path).map(|(config, _)| config)
    }

    /// [`Config::load_with_text`] when the file has come to rest: an editor may have emptied it, or moved it
    /// away, and be about to fill it, and what there is of it then may well be a good file. Blocks for at most
    /// a second, and not at all for a file that was not touched just now.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_settled(path: &Path) -> Result<(Self, String), ConfigError> {
        let look = || {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        let mut before = look();
        for _ in 0..SETTLE_LOOKS {
            if before.is_some_and(|(changed, _)| changed.elapsed().is_ok_and(|age| age >= SETTLED)) {
                break;
            }
            std::thread::sleep(SETTLE_PAUSE);
            let now = look();
            if now == before {
                break;
            }
            before = now;
        }
        Self::load_with_text(path)
    }

    /// Reads the file, and gives the very text that was read along, to be kept.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigError> {
        // A pipe in the file's place would be waited for.
        let file = match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(ConfigError::whole(path, "is not a regular file".to_owned()));
            }
            _ => std::fs::File::open(path),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(ConfigError::whole(path, format!("cannot be opened: {error}"))),
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ConfigError::whole(path, format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(ConfigError::whole(path, "is longer than 1 MiB".to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|error| ConfigError::not_utf8(path, &error))?;
        Ok((Self::parse(&text, path)?, text))
    }

    /// Reads a text; `file` is only named in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        read::parse(text, file)
    }

    /// Every effective value with its origin, in the order of the documentation.
    #[must_use]
    pub fn values(&self) -> Vec<ConfigValue> {
        let origin = |key: &str| if self.set.contains(key) { Origin::File } else { Origin::Default };
        let mut values: Vec<ConfigValue> = Vec::new();
        for section in self.sections() {
            for (known, (name, _, value)) in section.keys().iter().zip(section.values()) {
                let key = format!("{}.{name}", section.name());
                values.push(ConfigValue {
                    origin: origin(&key),
                    value,
                    unit: known.unit.to_owned(),
                    doc: doc(known.doc),
                    not_yet: NOT_YET.contains(&key.as_str()),
                    key,
                });
            }
        }
        let notify = self.notify.iter().map(|one| serde_json::json!({"on": one.on, "exec": one.exec}));
        values.push(ConfigValue {
            key: "notify".to_owned(),
            value: notify.collect(),
            origin: origin("notify"),
            unit: "tables".to_owned(),
            doc: "Programs that are told of events.".to_owned(),
            not_yet: false,
        });
        values
    }

    /// Every key with its documentation: dotted name, and what there is to say.
    #[must_use]
    pub fn keys() -> Vec<(String, Key)> {
        let config = Self::default();
        let sections = config.sections();
        sections
            .iter()
            .flat_map(|section| {
                section.keys().iter().map(|key| (format!("{}.{}", section.name(), key.name), *key))
            })
            .chain(NOTIFY_KEYS.map(|key| (format!("notify.{}", key.name), key)))
            .collect()
    }

    /// What changes when this configuration is replaced while the daemon runs.
    #[must_use]
    pub fn reload(&self, mut new: Self) -> Reload {
        let changes = |new: &Self| -> Vec<Changed> {
            let (old, new) = (self.values(), new.values());
            old.into_iter()
                .zip(new)
                .filter(|(old, new)| old.value != new.value)
                .map(|(old, new)| Changed { key: old.key, old: old.value, new: new.value })
                .collect()
        };
        let refused = changes(&new)
            .iter()
            .filter_map(|change| FIXED.iter().find(|(key, _)| *key == change.key))
            .map(|(key, reason)| Refused { key: (*key).to_owned(), reason: (*reason).to_owned() })
            .collect();
        new.tmux.server = self.tmux.server.clone();
        new.work = self.work.clone();
        for (key, _) in FIXED {
            // The value is the old one, and so is where it came from.
            if self.set.contains(key) {
                new.set.insert(key.to_owned())
            } else {
                new.set.remove(key)
            };
        }
        Reload { changed: changes(&new), config: new, refused }
    }

    /// The text that a new town gets: every key with its documentation, each as a comment with its default,
    /// so that what a later version finds better reaches towns that did not choose.
    #[must_use]
    pub fn template() -> String {
        let config = Self::default();
        let mut out = String::from(
            "# Configuration of gtd. Each key shows its default: take the # away and change it.\n\
             # After a change: `gtctl config check`, then `gtctl daemon reload`. Agents go on meanwhile.\n",
        );
        for section in config.sections() {
            out.push('\n');
            comment(&mut out, section.doc());
            out.push_str(&format!("[{}]\n", section.name()));
            for (key, (name, value, _)) in section.keys().iter().zip(section.values()) {
                comment(&mut out, key.doc);
                if let Some(bounds) = bounds(&key.rule) {
                    out.push_str(&format!("# ({bounds})\n"));
                }
                out.push_str(&format!("#{name} = {value}\n"));
            }
        }
        out.push_str("\n# Programs that are told of events; as many such tables as you like. An example:\n#[[notify]]\n");
        for (key, value) in NOTIFY_KEYS
            .iter()
            .zip([r#"["incident.opened", "agent.quarantined"]"#, r#"["notify-send", "{title}", "{body}"]"#])
        {
            comment(&mut out, key.doc);
            out.push_str(&format!("#{} = {value}\n", key.name));
        }
        out
    }

    fn sections(&self) -> [&dyn Section; 15] {
        [
            &self.daemon,
            &self.tmux,
            &self.metrics,
            &self.start,
            &self.stop,
            &self.restart,
            &self.mass_death,
            &self.deacon,
            &self.boot,
            &self.witness,
            &self.refinery,
            &self.polecat,
            &self.sweep,
            &self.callers,
            &self.work,
        ]
    }

    fn sections_mut(&mut self) -> [&mut dyn Section; 15] {
        [
            &mut self.daemon,
            &mut self.tmux,
            &mut self.metrics,
            &mut self.start,
            &mut self.stop,
            &mut self.restart,
            &mut self.mass_death,
            &mut self.deacon,
            &mut self.boot,
            &mut self.witness,
            &mut self.refinery,
            &mut self.polecat,
            &mut self.sweep,
            &mut self.callers,
            &mut self.work,
        ]
    }

    /// Pairs of keys of which the second may not be less than the first, and whether that holds.
    fn pairs(&self) -> [(&'static str, &'static str, bool); 5] {
        let (restart, mass, deacon) = (&self.restart, &self.mass_death, &self.deacon);
        [
            ("restart.base", "restart.max", restart.base <= restart.max),
            ("restart.initial", "restart.max", restart.initial <= restart.max),
            ("restart.quarantine", "restart.quarantine_max", restart.quarantine <= restart.quarantine_max),
            ("mass_death.hold", "mass_death.hold_max", mass.hold <= mass.hold_max),
            ("deacon.stale", "deacon.stuck", deacon.stale <= deacon.stuck),
        ]
    }
}

fn doc(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        out.push_str(&format!("# {}\n", line.trim()));
    }
}

fn bounds(rule: &Rule) -> Option<String> {
    let zero = (!rule.zero.is_empty()).then(|| format!("0: {}", rule.zero));
    let min = (!rule.min.is_empty()).then(|| format!("at least {}", rule.min));
    let max = (!rule.max.is_empty()).then(|| format!("at most {}", rule.max));
    let parts: Vec<String> = [min, max, zero].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
