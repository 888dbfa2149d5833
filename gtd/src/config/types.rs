//! The kinds of values that are words, templates and small structures.
//!
//! Owns their notation; must never act on them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gtd_proto::Selector;
use serde_json::Value;
use toml::de::DeValue;

use super::read::nearest;
use super::value::{Problem, Rule, Setting, duration_text, parse_duration, quoted, text, wrong_type};

macro_rules! words {
    (@unit $first:literal $($word:literal)*) => { concat!($first $(, "|", $word)*) };
    ($(#[$meta:meta])* $name:ident, $kind:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// The word in the file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl Setting for $name {
            const KIND: &'static str = $kind;
            const UNIT: &'static str = words!(@unit $($word)*);

            fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
                let given = text::<Self>(value)?;
                match given {
                    $($word => Ok(Self::$variant),)*
                    _ => {
                        let problem = Problem::new(format!("{given:?} is none of {}", $kind));
                        Err(match nearest(given, [$($word),*]) {
                            Some(word) => problem.hint(format!("did you mean \"{word}\"?")),
                            None => problem,
                        })
                    }
                }
            }

            fn toml(&self) -> String { quoted(self.as_str()) }

            fn json(&self) -> Value { Value::from(self.as_str()) }
        }
    };
}

words! {
    /// How much is logged.
    LogLevel, "\"error\", \"warn\", \"info\", \"debug\", \"trace\"" {
        /// Failures only.
        Error = "error",
        /// And what is odd.
        Warn = "warn",
        /// And what was done.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// Whether an agent is kept running.
    Mode, "\"always\", \"on_demand\", \"off\"" {
        /// Kept running.
        Always = "always",
        /// Started by work, mail or a person; stopped when idle.
        OnDemand = "on_demand",
        /// Left alone.
        Off = "off",
    }
}

words! {
    /// Whether the deacon is kept running.
    DeaconMode, "\"always\", \"off\"" {
        /// Kept running.
        Always = "always",
        /// Left alone.
        Off = "off",
    }
}

words! {
    /// What is done about a deacon whose heartbeat is too old.
    OnStale, "\"alert\", \"restart\"" {
        /// Say so.
        Alert = "alert",
        /// Restart it, when it left two nudges unanswered.
        Restart = "restart",
    }
}

words! {
    /// Who looks after the deacon.
    BootMode, "\"mechanical\", \"agent\", \"off\"" {
        /// The daemon, without a model.
        Mechanical = "mechanical",
        /// A short-lived agent.
        Agent = "agent",
        /// Nobody.
        Off = "off",
    }
}

words! {
    /// What the sweep of orphans does.
    SweepMode, "\"owned\", \"report\"" {
        /// Ends what is proven ours.
        Owned = "owned",
        /// Only says what there is.
        Report = "report",
    }
}

words! {
    /// Where work items are kept.
    StoreKind, "\"auto\", \"builtin\", \"bd\"" {
        /// `bd` where there is a `.beads`, else built-in.
        Auto = "auto",
        /// In the ledger.
        Builtin = "builtin",
        /// In the `bd` program.
        Bd = "bd",
    }
}

/// Which tmux server the agents' sessions live on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// One of the town's own.
    Private,
    /// The user's.
    Default,
    /// The one of that `-L` name.
    Named(String),
    /// The one at that absolute path.
    Path(PathBuf),
}

impl Setting for Server {
    const KIND: &'static str = "\"private\", \"default\", a name for tmux -L, or an absolute socket path";
    const UNIT: &'static str = "server";

    fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
        let given = text::<Self>(value)?;
        let odd = given.is_empty() || given.starts_with('-') || given.chars().any(char::is_control);
        match given {
            "private" => Ok(Self::Private),
            "default" => Ok(Self::Default),
            path if path.starts_with('/') && !odd => Ok(Self::Path(path.into())),
            name if !name.contains('/') && !odd => Ok(Self::Named(name.to_owned())),
            _ => Err(Problem::new(format!("{given:?} is none of {}", Self::KIND))),
        }
    }

    fn toml(&self) -> String {
        quoted(&self.to_string())
    }

    fn json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Default => f.write_str("default"),
            Self::Named(name) => f.write_str(name),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Columns and rows of a session that nobody looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// Bounds of [`Size`]: below 20x5 agents draw nothing useful; 10,000 is tmux' own limit for a window.
const SIZE: (std::ops::RangeInclusive<u16>, std::ops::RangeInclusive<u16>) = (20..=10_000, 5..=10_000);

impl Setting for Size {
    const KIND: &'static str = "columns and rows such as \"200x50\"";
    const UNIT: &'static str = "columns x rows";

    fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
        let given = text::<Self>(value)?;
        given
            .split_once('x')
            .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)))
            .filter(|(columns, rows)| SIZE.0.contains(columns) && SIZE.1.contains(rows))
            .map(|(columns, rows)| Self { columns, rows })
            .ok_or_else(|| {
                Problem::new(format!("{given:?} is not {}", Self::KIND))
                    .hint("columns are 20 to 10000, rows 5 to 10000")
            })
    }

    fn toml(&self) -> String {
        quoted(&format!("{}x{}", self.columns, self.rows))
    }

    fn json(&self) -> Value {
        Value::from(format!("{}x{}", self.columns, self.rows))
    }
}

/// How long an agent that a person ended stays away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Until a person or new work brings it back.
    Forever,
    /// For that long.
    For(Duration),
}

impl Setting for Hold {
    const KIND: &'static str = "\"forever\" or a duration such as \"30m\"";
    const UNIT: &'static str = "duration|forever";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        match value.as_str() {
            Some("forever") => Ok(Self::Forever),
            Some(given) if parse_duration(given).is_err() => {
                Err(Problem::new(format!("{given:?} is not {}", Self::KIND)))
            }
            Some(_) => Duration::read(value, rule).map(Self::For),
            None => Err(wrong_type::<Self>(value)),
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Forever => quoted("forever"),
            Self::For(duration) => duration.toml(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Forever => Value::from("forever"),
            Self::For(duration) => Value::from(duration_text(*duration)),
        }
    }
}

/// An address to listen at, or none. Only loopback addresses: what is served has no other protection.
impl Setting for Option<SocketAddr> {
    const KIND: &'static str = "\"\" or a loopback address with its port, such as \"127.0.0.1:9464\"";
    const UNIT: &'static str = "address";

    fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
        let given = text::<Self>(value)?;
        if given.is_empty() {
            return Ok(None);
        }
        match given.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            Ok(_) => Err(Problem::new(format!("{given:?} is not a loopback address"))
                .hint("use 127.0.0.1 or [::1], and a reverse proxy for others")),
            Err(_) => Err(Problem::new(format!("{given:?} is not {}", Self::KIND))),
        }
    }

    fn toml(&self) -> String {
        quoted(&self.map(|address| address.to_string()).unwrap_or_default())
    }

    fn json(&self) -> Value {
        Value::from(self.map(|address| address.to_string()).unwrap_or_default())
    }
}

/// A permission beyond the table of callers: who may call which method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which agents.
    pub who: Selector,
    /// Which method, or a glob over methods.
    pub method: String,
}

impl Setting for Vec<Grant> {
    const KIND: &'static str = "a list of grants such as [\"alpha/witness: polecat.remove\"]";
    const UNIT: &'static str = "list";

    fn read(value: &DeValue<'_>, rule: &Rule) -> Result<Self, Problem> {
        let list = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        let texts = Vec::<String>::read(value, rule)?;
        texts
            .iter()
            .zip(list.iter())
            .map(|(given, item)| {
                parse_grant(given).ok_or_else(|| {
                    Problem::new(format!("{given:?} is not an agent and a method, divided by a colon"))
                        .hint("such as \"alpha/witness: polecat.remove\"")
                        .at(item.span())
                })
            })
            .collect()
    }

    fn toml(&self) -> String {
        self.iter().map(ToString::to_string).collect::<Vec<_>>().toml()
    }

    fn json(&self) -> Value {
        self.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.method)
    }
}

fn parse_grant(text: &str) -> Option<Grant> {
    let (who, method) = text.split_once(':')?;
    let (who, method) = (who.trim().parse().ok()?, method.trim());
    let well_formed = method.split_once('.').is_some_and(|(namespace, name)| {
        let word = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '*' | '?'))
        };
        word(namespace) && word(name)
    });
    well_formed.then(|| Grant { who, method: method.to_owned() })
}
