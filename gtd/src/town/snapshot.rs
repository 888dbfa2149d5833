//! Everything that the supervisor needs to know of a town's files, as one value.
//!
//! Must never let one bad file change what is known from the others, nor turn a failed reading into an
//! absence: what was good last is kept, and said to be old.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gtd_proto::{AgentName, RigName, Role};

use super::file::{Known, absent};
use super::finding::Finding;
use super::layout::Layout;
use super::marker::TownFile;
use super::patrols::{Off, Patrols};
use super::registry::Registry;
use super::rigs::Members;
use super::settings::Settings;
use super::wisp::Reason;
use super::{marker, patrols, prefix, registry, rigs, settings, wisp};

/// What is known of a town from its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Where everything lies.
    pub layout: Layout,
    /// The town's marker.
    pub town: Known<TownFile>,
    /// The registry. While it is [`Known::Unknown`], `rigs` is empty and means nothing.
    pub registry: Known<Registry>,
    /// The registered rigs.
    pub rigs: BTreeMap<RigName, RigFacts>,
    /// The switches of patrols.
    pub patrols: Known<Patrols>,
    /// The town's settings.
    pub settings: Known<Settings>,
    /// What a person should know of.
    pub findings: Vec<Finding>,
    /// What cannot be read now, by the key of its finding.
    pub(super) failures: BTreeSet<String>,
    /// When this reading of it began.
    pub began: Began,
}

/// When a reading began. Two readings that found the same are equal, whenever they were made.
#[derive(Debug, Clone, Copy)]
pub struct Began(pub Instant);

impl PartialEq for Began {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What is known of a rig.
#[derive(Debug, Clone, PartialEq)]
pub struct RigFacts {
    /// Its directory.
    pub path: PathBuf,
    /// Whether the directory is there; an error when that is not known.
    pub present: Result<bool, String>,
    /// Where its repository came from.
    pub git_url: Option<String>,
    /// Prefix of its work items.
    pub prefix: String,
    /// Its default branch, where its own file names one.
    pub default_branch: Option<String>,
    /// Whether its agents may be started, or why not.
    pub operational: Result<(), Reason>,
    /// What the state file said when it was last read.
    pub state: Known<wisp::State>,
    /// Its workers.
    pub polecats: Known<Members>,
    /// People's workspaces in it.
    pub crew: Known<Members>,
    /// Its settings.
    pub settings: Known<Settings>,
    /// What its own file says.
    config: Known<rigs::RigConfig>,
}

impl RigFacts {
    /// The names of its workers, as last known.
    #[must_use]
    pub fn polecat_names(&self) -> &[AgentName] {
        self.polecats.value().map_or(&[], |members| &members.names)
    }

    /// The names of people's workspaces, as last known.
    #[must_use]
    pub fn crew_names(&self) -> &[AgentName] {
        self.crew.value().map_or(&[], |members| &members.names)
    }
}

impl Snapshot {
    /// Whether it is known which rigs there are: now, or from an earlier reading.
    #[must_use]
    pub fn rigs_known(&self) -> bool {
        self.registry.value().is_some()
    }

    /// Whether a role is to be kept running; none when the switches were never read.
    #[must_use]
    pub fn patrol(&self, role: Role, rig: Option<&RigName>) -> Option<bool> {
        self.patrol_off(role, rig).map(|off| off.is_none())
    }

    /// How a role is switched off, if it is; none when the switches were never read.
    #[must_use]
    pub fn patrol_off(&self, role: Role, rig: Option<&RigName>) -> Option<Option<Off>> {
        self.patrols.value().map(|patrols| patrols.off(role, rig))
    }

    /// The name of the town.
    #[must_use]
    pub fn name(&self) -> String {
        match self.town.value() {
            Some(town) => town.name.clone(),
            None => self.layout.root().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Whether something can be read worse than before: then it may be in the middle of being written.
    #[must_use]
    pub fn fails_where(&self, previous: Option<&Self>) -> bool {
        match previous {
            Some(previous) => !self.failures.is_subset(&previous.failures),
            None => !self.failures.is_empty(),
        }
    }
}

/// Readings of a file that looks torn, and the time between them. A writer in place is done within
/// milliseconds; ten times are enough for a slow one, and short enough for a reader who waits.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Reads the town, and reads it again for up to 200 ms where a file was good before and is not now: others
/// write in place, and a reader must not take their half-written files for broken ones. Blocks.
#[must_use]
pub fn read_settled(layout: &Layout, previous: Option<&Snapshot>) -> Snapshot {
    settle(layout, previous).0
}

/// As [`read_settled`], with the time that was only waited.
pub(super) fn settle(layout: &Layout, previous: Option<&Snapshot>) -> (Snapshot, Duration) {
    let mut snapshot = read(layout, previous);
    let mut waited = Duration::ZERO;
    for _ in 1..TRIES {
        if !snapshot.fails_where(previous) {
            break;
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
        snapshot = read(layout, previous);
    }
    (snapshot, waited)
}

/// Reads the town once. What cannot be read is taken from `previous`. Blocks for the time of some six
/// small reads per rig.
#[must_use]
pub fn read(layout: &Layout, previous: Option<&Snapshot>) -> Snapshot {
    let began = Began(Instant::now());
    let mut notes = Notes::default();
    let town = notes.file(
        "town",
        "mayor/town.json",
        marker::read(layout.root()),
        previous.map(|previous| &previous.town),
        "",
    );
    let registry = notes.file(
        "registry",
        "mayor/rigs.json",
        registry::read(&layout.rigs_json()),
        previous.map(|previous| &previous.registry),
        "restore mayor/rigs.json; nothing is started or stopped for its sake meanwhile",
    );
    let patrols = notes.file(
        "patrols",
        "mayor/daemon.json",
        patrols::read(&layout.daemon_json()),
        previous.map(|previous| &previous.patrols),
        "",
    );
    let settings = notes.file(
        "settings",
        "",
        settings::read(&layout.settings_json(), &layout.agents_json()),
        previous.map(|previous| &previous.settings),
        "",
    );
    if let Known::Good(patrols) = &patrols {
        notes.odd("patrols:odd", "mayor/daemon.json", &patrols.odd);
    }
    if let Known::Good(settings) = &settings {
        notes.odd("settings:odd", "settings/config.json", &settings.odd);
    }
    if let Some(registry) = registry.value() {
        notes.findings.extend(registry.findings.iter().cloned());
    }
    // Only a second opinion on prefixes: that it cannot be read shows where it is asked.
    let routes = prefix::routes(&layout.routes_jsonl()).unwrap_or_default();
    let rigs: BTreeMap<RigName, RigFacts> = registry
        .value()
        .map(|registry| &registry.rigs)
        .into_iter()
        .flatten()
        .map(|(rig, entry)| {
            let before = previous.and_then(|previous| previous.rigs.get(rig));
            (rig.clone(), read_rig(layout, rig, entry, &routes, before, &mut notes))
        })
        .collect();
    notes.same_prefixes(&rigs);
    notes.findings.sort_by(|a, b| a.key.cmp(&b.key));
    Snapshot {
        layout: layout.clone(),
        town,
        registry,
        rigs,
        patrols,
        settings,
        findings: notes.findings,
        failures: notes.failures,
        began,
    }
}

fn read_rig(
    layout: &Layout,
    rig: &RigName,
    entry: &registry::Entry,
    routes: &BTreeMap<String, String>,
    before: Option<&RigFacts>,
    notes: &mut Notes,
) -> RigFacts {
    let path = layout.rig(rig);
    let key = |what: &str| format!("rig:{rig}:{what}");
    let present = match std::fs::metadata(&path) {
        Ok(meta) => Ok(meta.is_dir()),
        Err(error) if absent(&error) => Ok(false),
        Err(error) => Err(error.to_string()),
    };
    match &present {
        Ok(true) => {}
        Ok(false) => notes.findings.push(
            Finding::error(
                key("directory"),
                format!("rig {rig}: its directory {} is missing", path.display()),
            )
            .hint(format!("restore the directory, or take {rig} out of mayor/rigs.json")),
        ),
        Err(error) => notes.findings.push(Finding::error(
            key("directory"),
            format!("rig {rig}: its directory {} cannot be looked at: {error}", path.display()),
        )),
    }
    let state = notes.file(
        &key("state"),
        &format!("rig {rig}: .beads-wisp/config/{rig}.json"),
        wisp::read(&layout.wisp(rig)),
        before.map(|before| &before.state),
        "until it is right, none of the rig's agents is started",
    );
    if let Some(odd) = state.value().and_then(|state| state.odd.as_deref()) {
        notes.odd(&key("state:odd"), &format!("rig {rig}: .beads-wisp/config/{rig}.json"), &[odd.to_owned()]);
    }
    let operational = match &state {
        Known::Good(state) => state.operational(),
        // What was set aside stays so, for its own reason; what ran may not be started until it is known.
        Known::Kept { value, .. } => value.operational().and(Err(Reason::Unreadable)),
        Known::Unknown { .. } => Err(Reason::Unreadable),
    };
    let mut members = |kind: &str, before: Option<&Known<Members>>| {
        let read = rigs::members(&path.join(kind));
        let members = notes.file(&key(kind), &format!("rig {rig}: {kind}"), read, before, "");
        for name in members.value().map(|members| &members.unusable).into_iter().flatten() {
            notes.findings.push(Finding::warning(
                format!("rig:{rig}:{kind}:{name}"),
                format!("rig {rig}: the directory {kind}/{name} has a name that no agent can have"),
            ));
        }
        members
    };
    let polecats = members("polecats", before.map(|before| &before.polecats));
    let crew = members("crew", before.map(|before| &before.crew));
    let settings = notes.file(
        &key("settings"),
        &format!("rig {rig}:"),
        settings::read(&layout.rig_settings(rig), &layout.rig_agents(rig)),
        before.map(|before| &before.settings),
        "",
    );
    if let Known::Good(settings) = &settings {
        notes.odd(&key("settings:odd"), &format!("rig {rig}: settings/config.json"), &settings.odd);
    }
    let config = notes.file(
        &key("config"),
        &format!("rig {rig}: config.json"),
        rigs::read_config(&layout.rig_config(rig)),
        before.map(|before| &before.config),
        "",
    );
    let own = config.value().cloned().unwrap_or_default();
    let named =
        entry.prefix.clone().or_else(|| own.prefix.clone()).or_else(|| routes.get(rig.as_str()).cloned());
    let prefix = named.unwrap_or_else(|| {
        let derived = prefix::derived(rig);
        notes.findings.push(
            Finding::warning(key("prefix"), format!("rig {rig}: has no prefix anywhere; {derived} is used"))
                .hint(format!("set beads.prefix of {rig} in mayor/rigs.json")),
        );
        derived
    });
    RigFacts {
        present,
        git_url: entry.git_url.clone(),
        prefix,
        default_branch: own.default_branch,
        config,
        operational,
        state,
        polecats,
        crew,
        settings,
        path,
    }
}

/// What a reading has to say beside its values.
#[derive(Default)]
struct Notes {
    findings: Vec<Finding>,
    failures: BTreeSet<String>,
}

impl Notes {
    fn file<T: Clone>(
        &mut self,
        key: &str,
        what: &str,
        read: Result<T, String>,
        before: Option<&Known<T>>,
        hint: &str,
    ) -> Known<T> {
        let known = Known::settle(read, before);
        if let Some(error) = known.error() {
            let then = match known {
                Known::Kept { .. } => "what it said last is kept",
                _ => "nothing is assumed of it",
            };
            let finding = Finding::error(key, format!("{what} {error}; {then}").trim_start());
            self.findings.push(if hint.is_empty() { finding } else { finding.hint(hint) });
            self.failures.insert(key.to_owned());
        }
        known
    }

    fn odd(&mut self, key: &str, what: &str, odd: &[String]) {
        if !odd.is_empty() {
            self.findings.push(Finding::warning(key, format!("{what}: {}", odd.join("; "))));
        }
    }

    fn same_prefixes(&mut self, rigs: &BTreeMap<RigName, RigFacts>) {
        let mut by_prefix: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (rig, facts) in rigs {
            by_prefix.entry(facts.prefix.to_ascii_lowercase()).or_default().push(rig.as_str());
        }
        for (prefix, rigs) in by_prefix.into_iter().filter(|(_, rigs)| rigs.len() > 1) {
            self.findings.push(
                Finding::error(
                    format!("prefix:{prefix}"),
                    format!("the rigs {} have the same prefix {prefix}", rigs.join(", ")),
                )
                .hint("give each its own beads.prefix in mayor/rigs.json"),
            );
        }
    }
}
