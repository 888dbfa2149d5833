//! Every key of the file: its default, its bounds and what it means, in one place.
//!
//! Must never hold more than one source of a default: structs, file template and `config show` are made
//! from these lines.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

use super::names::Names;
use super::types::{
    BootMode, DeaconMode, Grant, Hold, LogLevel, Mode, OnStale, Server, Size, StoreKind, SweepMode,
};
use super::value::{ANY, Bytes, Problem, Rule, Setting, at_least, between, zero_or};

/// One key, for people.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name within its table.
    pub name: &'static str,
    /// What it means, in lines.
    pub doc: &'static [&'static str],
    /// What is written.
    pub kind: &'static str,
    /// The same in a word.
    pub unit: &'static str,
    /// Its bounds.
    pub rule: Rule,
}

/// A table of the file.
pub(super) trait Section {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static [&'static str];
    fn keys(&self) -> &'static [Key];
    /// Reads a value into a key; none when there is no such key.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), Problem>>;
    /// The values in the order of the keys: in TOML, and as results show them.
    fn values(&self) -> Vec<(&'static str, String, Value)>;
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident = $table:literal {
        $($(#[doc = $kdoc:literal])* $field:ident: $ty:ty = $default:expr, $rule:expr;)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[doc = $kdoc])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Section for $name {
            fn name(&self) -> &'static str { $table }

            fn doc(&self) -> &'static [&'static str] { &[$($doc),*] }

            fn keys(&self) -> &'static [Key] {
                const KEYS: &[Key] = &[$(Key {
                    name: stringify!($field),
                    doc: &[$($kdoc),*],
                    kind: <$ty as Setting>::KIND,
                    unit: <$ty as Setting>::UNIT,
                    rule: $rule,
                }),*];
                KEYS
            }

            fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), Problem>> {
                match key {
                    $(stringify!($field) => Some(<$ty>::read(value, &$rule).map(|read| self.$field = read)),)*
                    _ => None,
                }
            }

            fn values(&self) -> Vec<(&'static str, String, Value)> {
                vec![$((stringify!($field), self.$field.toml(), self.$field.json())),*]
            }
        }
    };
}

section! {
    /// The daemon itself.
    Daemon = "daemon" {
        /// Time between two rounds that look at everything, whatever was noticed in between.
        heartbeat_interval: Duration = secs(3 * MINUTE), at_least("1s");
        /// How much is written to daemon/gtd.log.
        log_level: LogLevel = LogLevel::Info, ANY;
        /// Size at which the log is rotated.
        log_max_bytes: Bytes = Bytes(50 << 20), at_least("64KiB");
        /// Rotated logs that are kept.
        log_files: u32 = 5, between("1", "100");
        /// Age at which history leaves the ledger. Intents, open work and unread mail have no age.
        ledger_max_age: Duration = secs(90 * DAY), at_least("1h");
    }
}

section! {
    /// The tmux server on which the agents' sessions live.
    Tmux = "tmux" {
        /// Which server: one of the town's own, the user's, a name for tmux -L, or a socket path.
        /// Read at start only.
        server: Server = Server::Private, ANY;
        /// Longest time a tmux command may take.
        command_timeout: Duration = secs(5), at_least("100ms");
        /// Columns and rows of a session that nobody looks at.
        size: Size = Size { columns: 200, rows: 50 }, ANY;
        /// Templates of session names, with {rig}, {prefix}, {role} and {name}. For people only.
        names: Names = Names::default(), ANY;
    }
}

section! {
    /// Numbers for Prometheus.
    Metrics = "metrics" {
        /// Loopback address to listen at; off when empty.
        listen: Option<SocketAddr> = None, ANY;
    }
}

section! {
    /// Starting agents.
    Start = "start" {
        /// Longest time until an agent is ready. One that lives without being ready is kept, with an alert.
        timeout: Duration = secs(60), at_least("1s");
        /// Most agents at once in the town.
        max_agents: u32 = 0, zero_or("no limit", "1");
        /// Free memory below which nothing is started.
        min_free_memory: Bytes = Bytes(512 << 20), zero_or("not looked at", "1MiB");
        /// Free disk space below which nothing is started.
        min_free_disk: Bytes = Bytes(500 << 20), zero_or("not looked at", "1MiB");
        /// Agents that are started at the same time.
        concurrency: u32 = 0, zero_or("by cores and pressure", "1");
    }
}

section! {
    /// Stopping agents.
    Stop = "stop" {
        /// How long an agent that reported a turn may finish it.
        drain: Duration = secs(30), zero_or("not waited for", "1ms");
        /// Time between TERM and KILL.
        grace: Duration = secs(10), zero_or("KILL at once", "1ms");
        /// Agents that are stopped at the same time.
        concurrency: u32 = 8, at_least("1");
        /// Programs that are left alone below an agent, by name, beside tmux servers and a gtd.
        spare: Vec<String> = Vec::new(), ANY;
    }
}

section! {
    /// Bringing agents back.
    Restart = "restart" {
        /// Delay after a first failure.
        initial: Duration = Duration::ZERO, zero_or("at once", "1ms");
        /// Delay after a second failure in a row.
        base: Duration = secs(1), at_least("10ms");
        /// Growth of the delay with each further failure.
        factor: f64 = 2.0, between("1", "100");
        /// Longest delay.
        max: Duration = secs(5 * MINUTE), at_least("10ms");
        /// Share by which a delay is made shorter or longer by chance.
        jitter: f64 = 0.2, between("0", "1");
        /// A clean end before this age counts as a failure of a role that always runs.
        min_uptime: Duration = secs(10), zero_or("never counts", "1ms");
        /// Age at which a start has succeeded, and failures in a row are forgotten.
        healthy_after: Duration = secs(10 * MINUTE), at_least("100ms");
        /// Deaths without progress within churn_window that lead to quarantine.
        churn_deaths: u32 = 6, zero_or("off", "2");
        /// Window for churn_deaths.
        churn_window: Duration = secs(6 * HOUR), at_least("1s");
        /// Failures within window that lead to quarantine.
        burst: u32 = 5, zero_or("no quarantine, neither for churn", "2");
        /// Window for burst, sliding.
        window: Duration = secs(15 * MINUTE), at_least("1s");
        /// First quarantine; doubles with each relapse.
        quarantine: Duration = secs(30 * MINUTE), at_least("100ms");
        /// Longest quarantine, and the time without failure after which the doubling is forgotten.
        quarantine_max: Duration = secs(DAY), at_least("100ms");
        /// How long an agent that a person ended stays away: "forever" is until a person or new work.
        hold: Hold = Hold::Forever, at_least("1s");
        /// Time after a death in which deaths of others are waited for before anything is restarted.
        settle: Duration = Duration::from_millis(20), zero_or("not waited", "1ms");
    }
}

section! {
    /// Many deaths at once.
    MassDeath = "mass_death" {
        /// Agents that must die within window.
        threshold: u32 = 3, zero_or("off", "2");
        /// Share of the running agents that must die, if that is more than threshold.
        share: f64 = 0.1, between("0", "1");
        /// Window in which deaths belong together.
        window: Duration = secs(30), at_least("100ms");
        /// How long restarts are held; doubles when the first to come back dies again.
        hold: Duration = secs(10), zero_or("not held", "1ms");
        /// Longest hold.
        hold_max: Duration = secs(5 * MINUTE), at_least("100ms");
        /// How long the first to come back must live before the others follow.
        canary: Duration = secs(2), zero_or("not waited for", "1ms");
    }
}

section! {
    /// The deacon.
    Deacon = "deacon" {
        /// Whether it is kept running.
        mode: DeaconMode = DeaconMode::Always, ANY;
        /// Age of its heartbeat file at which it is nudged.
        stale: Duration = secs(15 * MINUTE), at_least("1s");
        /// Age of its heartbeat file at which it counts as stuck.
        stuck: Duration = secs(30 * MINUTE), at_least("1s");
        /// Time after its start in which its heartbeat file is not judged.
        grace: Duration = secs(5 * MINUTE), zero_or("judged at once", "1ms");
        /// What is done about a stuck deacon.
        on_stale: OnStale = OnStale::Restart, ANY;
    }
}

section! {
    /// Who looks after the deacon.
    Boot = "boot" {
        /// The daemon, a short-lived agent, or nobody.
        mode: BootMode = BootMode::Mechanical, ANY;
    }
}

section! {
    /// The witnesses.
    Witness = "witness" {
        /// Whether they are kept running.
        mode: Mode = Mode::Always, ANY;
        /// With "on_demand": how long one may be idle.
        idle_ttl: Duration = secs(30 * MINUTE), at_least("1s");
    }
}

section! {
    /// The refineries.
    Refinery = "refinery" {
        /// Whether they are kept running.
        mode: Mode = Mode::Always, ANY;
        /// With "on_demand": how long one may be idle.
        idle_ttl: Duration = secs(30 * MINUTE), at_least("1s");
    }
}

section! {
    /// The workers.
    Polecat = "polecat" {
        /// Time without progress on hooked work after which the witness is told.
        gupp_after: Duration = secs(30 * MINUTE), at_least("1s");
        /// Workers of one rig that run at once: beyond it a spawn is refused, and a restart waits.
        max_per_rig: u32 = 0, zero_or("no limit", "1");
    }
}

section! {
    /// Processes and sessions that were left behind.
    Sweep = "sweep" {
        /// End what is proven ours, or only report; before an agent starts again, what it left is ended either way.
        mode: SweepMode = SweepMode::Owned, ANY;
        /// Age below which nothing is judged.
        min_age: Duration = secs(60), at_least("1s");
    }
}

section! {
    /// Who may ask for what.
    Callers = "callers" {
        /// Permissions beyond the built-in table, each an agent or a selector, a colon and a method.
        grant: Vec<Grant> = Vec::new(), ANY;
    }
}

section! {
    /// Work items.
    Work = "work" {
        /// Where they are kept: "auto" is bd where there is a .beads, else built-in.
        store: StoreKind = StoreKind::Auto, ANY;
        /// Longest time a question to the store may take.
        timeout: Duration = secs(10), at_least("100ms");
    }
}

/// Keys that are read and checked, but whose subject does not exist yet: `config show` says so.
pub(super) const NOT_YET: &[&str] = &["metrics.listen"];

/// A program that is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Globs over kinds of events.
    pub on: Vec<String>,
    /// Program and arguments; `{title} {body} {kind} {agent} {seq}` are filled in.
    pub exec: Vec<String>,
}

/// The keys of `[[notify]]`.
pub(super) const NOTIFY_KEYS: [Key; 2] = [
    Key {
        name: "on",
        doc: &[" Kinds of events, as globs."],
        kind: <Vec<String> as Setting>::KIND,
        unit: <Vec<String> as Setting>::UNIT,
        rule: ANY,
    },
    Key {
        name: "exec",
        doc: &[
            " Program and arguments, with {title}, {body}, {kind}, {agent} and {seq}.",
            " The event is on its standard input as JSON; it may take 10 s.",
        ],
        kind: <Vec<String> as Setting>::KIND,
        unit: <Vec<String> as Setting>::UNIT,
        rule: ANY,
    },
];
