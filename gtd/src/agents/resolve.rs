//! Which program an agent is.
//!
//! One order for everybody who asks: start, restart and display. A name that leads nowhere is an error;
//! must never fall back to another program than the one that was asked for.

use std::collections::BTreeSet;

use gtd_proto::{ErrorKind, RigName, Role};

use super::preset::{self, PRESETS, Preset};
use crate::town::Snapshot;
use crate::town::settings::{AgentEntry, Entry, Settings};

/// The settings that apply to an agent.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The town's.
    pub town: &'a Settings,
    /// Its rig's, where it has one.
    pub rig: Option<&'a Settings>,
}

/// Where a choice comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// Named by whoever starts the agent.
    Override,
    /// `role_agents` of the rig.
    RigRole,
    /// `role_agents` of the town.
    TownRole,
    /// `runtime` of the rig.
    RigRuntime,
    /// `agent` of the rig.
    RigAgent,
    /// `default_agent` of the town.
    TownDefault,
    /// Nothing was named.
    BuiltIn,
}

impl ChosenBy {
    /// The place, in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "the request",
            Self::RigRole => "role_agents of the rig",
            Self::TownRole => "role_agents of the town",
            Self::RigRuntime => "runtime of the rig",
            Self::RigAgent => "agent of the rig",
            Self::TownDefault => "default_agent of the town",
            Self::BuiltIn => "the default",
        }
    }
}

/// What an agent is launched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The entry's or preset's name, as shown.
    pub name: String,
    /// The program's particulars.
    pub preset: &'static Preset,
    /// What the settings say beyond the preset.
    pub entry: AgentEntry,
    /// Where the choice comes from.
    pub from: ChosenBy,
}

/// An agent whose program cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name is neither an entry nor a preset.
    #[error("no agent {name:?}, which {} names; there are {}", from.as_str(), known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Where it was found.
        from: ChosenBy,
        /// The names there are, sorted.
        known: Vec<String>,
    },
    /// The entry is not right.
    #[error("agent {name:?}: {error}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong.
        error: String,
        /// Where the name was found.
        from: ChosenBy,
    },
    /// Settings were never read, so it is not known what they choose.
    #[error("{0}")]
    SettingsUnknown(String),
}

impl ResolveError {
    /// The kind of error that it is on the wire.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { from: ChosenBy::Override, .. } => ErrorKind::NameInvalid,
            _ => ErrorKind::ConfigInvalid,
        }
    }
}

impl<'a> Sources<'a> {
    /// The settings of a snapshot, for agents of a rig or of the town.
    ///
    /// # Errors
    /// When settings are there that could never be read. A rig that is not registered has none.
    pub fn of(snapshot: &'a Snapshot, rig: Option<&RigName>) -> Result<Self, ResolveError> {
        let unknown = |what: String, error: Option<&str>| {
            ResolveError::SettingsUnknown(format!("{what}: {}", error.unwrap_or("not read yet")))
        };
        let town = &snapshot.settings;
        let rig_settings = match rig.and_then(|rig| snapshot.rigs.get(rig)) {
            Some(facts) => Some(facts.settings.value().ok_or_else(|| {
                unknown(
                    format!("settings of rig {}", rig.map_or("", RigName::as_str)),
                    facts.settings.error(),
                )
            })?),
            None => None,
        };
        Ok(Self {
            town: town.value().ok_or_else(|| unknown("settings of the town".to_owned(), town.error()))?,
            rig: rig_settings,
        })
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.rig
            .and_then(|rig| rig.agents.get(name))
            .or_else(|| self.town.agents.get(name))
            .or_else(|| self.rig.and_then(|rig| rig.presets.get(name)))
            .or_else(|| self.town.presets.get(name))
    }

    /// Every name that can be chosen, sorted.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        let settings = std::iter::once(self.town).chain(self.rig);
        let names: BTreeSet<String> = settings
            .flat_map(|settings| settings.agents.keys().chain(settings.presets.keys()).cloned())
            .chain(PRESETS.iter().map(|preset| preset.name.to_owned()))
            .collect();
        names.into_iter().collect()
    }
}

/// Chooses the program of a role. `named` is what the request names, if anything.
///
/// # Errors
/// When the name that applies is no entry and no preset, or its entry is not right.
pub fn resolve(sources: &Sources<'_>, role: Role, named: Option<&str>) -> Result<Choice, ResolveError> {
    if let Some(name) = named {
        return by_name(sources, name, ChosenBy::Override);
    }
    if let Some(name) = sources.rig.and_then(|rig| rig.role_agents.get(role.as_str())) {
        return by_name(sources, name, ChosenBy::RigRole);
    }
    if let Some(name) = sources.town.role_agents.get(role.as_str()) {
        return by_name(sources, name, ChosenBy::TownRole);
    }
    if let Some(runtime) = sources.rig.and_then(|rig| rig.runtime.as_ref()) {
        return of_entry("runtime", runtime, ChosenBy::RigRuntime);
    }
    if let Some(name) = sources.rig.and_then(|rig| rig.agent.as_deref()) {
        return by_name(sources, name, ChosenBy::RigAgent);
    }
    match sources.town.agent.as_deref() {
        Some(name) => by_name(sources, name, ChosenBy::TownDefault),
        None => by_name(sources, preset::DEFAULT, ChosenBy::BuiltIn),
    }
}

fn by_name(sources: &Sources<'_>, name: &str, from: ChosenBy) -> Result<Choice, ResolveError> {
    if let Some(entry) = sources.entry(name) {
        return of_entry(name, entry, from);
    }
    match preset::by_name(name) {
        Some(preset) if preset.command.is_some() => {
            Ok(Choice { name: name.to_owned(), preset, entry: AgentEntry::default(), from })
        }
        Some(_) => Err(ResolveError::Entry {
            name: name.to_owned(),
            error: "needs an entry in the settings with the command to run".to_owned(),
            from,
        }),
        None => Err(ResolveError::Unknown { name: name.to_owned(), from, known: sources.known() }),
    }
}

/// An entry with the preset it is a variant of: its `provider`, else the one whose program it runs, else
/// the one whose name it has, else a script. A rig's `runtime` without any of these is the default.
fn of_entry(name: &str, entry: &Entry, from: ChosenBy) -> Result<Choice, ResolveError> {
    let fail = |error: String| ResolveError::Entry { name: name.to_owned(), error, from };
    let entry = entry.as_ref().map_err(|error| fail(error.clone()))?;
    let preset = match (entry.provider.as_deref(), entry.command.as_deref()) {
        (Some(provider), _) => preset::by_name(provider).ok_or_else(|| {
            let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            fail(format!("no provider {provider:?}; there are {}", known.join(", ")))
        })?,
        (None, Some(command)) => preset::by_command(command).unwrap_or_else(preset::script),
        (None, None) => {
            let fallback = if from == ChosenBy::RigRuntime { preset::by_name(preset::DEFAULT) } else { None };
            preset::by_name(name)
                .or(fallback)
                .ok_or_else(|| fail("has neither command nor provider".to_owned()))?
        }
    };
    if preset.command.is_none() && entry.command.is_none() {
        return Err(fail("has no command".to_owned()));
    }
    match entry.prompt_mode.as_deref() {
        None | Some("arg" | "none") => {}
        Some(other) => return Err(fail(format!("prompt_mode {other:?} is neither \"arg\" nor \"none\""))),
    }
    Ok(Choice { name: name.to_owned(), preset, entry: entry.clone(), from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(change: impl FnOnce(&mut AgentEntry)) -> Entry {
        let mut entry = AgentEntry::default();
        change(&mut entry);
        Ok(entry)
    }

    fn command(text: &str) -> Entry {
        entry(|entry| entry.command = Some(text.to_owned()))
    }

    #[test]
    fn the_first_that_is_named_is_chosen() {
        let mut town = Settings::default();
        let mut rig = Settings::default();
        let chosen = |town: &Settings, rig: &Settings, named: Option<&str>| {
            let choice = resolve(&Sources { town, rig: Some(rig) }, Role::Witness, named).unwrap();
            (choice.name, choice.from)
        };
        assert_eq!(chosen(&town, &rig, None), ("claude".into(), ChosenBy::BuiltIn));
        town.agent = Some("gemini".into());
        assert_eq!(chosen(&town, &rig, None), ("gemini".into(), ChosenBy::TownDefault));
        rig.agent = Some("codex".into());
        assert_eq!(chosen(&town, &rig, None), ("codex".into(), ChosenBy::RigAgent));
        rig.runtime = Some(command("/r"));
        assert_eq!(chosen(&town, &rig, None), ("runtime".into(), ChosenBy::RigRuntime));
        town.role_agents.insert("witness".into(), "amp".into());
        assert_eq!(chosen(&town, &rig, None), ("amp".into(), ChosenBy::TownRole));
        rig.role_agents.insert("witness".into(), "cursor".into());
        assert_eq!(chosen(&town, &rig, None), ("cursor".into(), ChosenBy::RigRole));
        assert_eq!(chosen(&town, &rig, Some("auggie")), ("auggie".into(), ChosenBy::Override));
        // Another role, and the town's own agents, are not concerned.
        let refinery = resolve(&Sources { town: &town, rig: Some(&rig) }, Role::Refinery, None).unwrap();
        assert_eq!(refinery.from, ChosenBy::RigRuntime);
        assert_eq!(resolve(&Sources { town: &town, rig: None }, Role::Deacon, None).unwrap().name, "gemini");
    }

    #[test]
    fn names_are_looked_up_from_the_rig_outwards() {
        let mut town = Settings::default();
        let mut rig = Settings::default();
        let program = |town: &Settings, rig: &Settings| {
            let choice = resolve(&Sources { town, rig: Some(rig) }, Role::Polecat, Some("claude")).unwrap();
            choice.entry.command
        };
        assert_eq!(program(&town, &rig), None);
        town.presets.insert("claude".into(), command("/town-preset"));
        assert_eq!(program(&town, &rig).as_deref(), Some("/town-preset"));
        rig.presets.insert("claude".into(), command("/rig-preset"));
        assert_eq!(program(&town, &rig).as_deref(), Some("/rig-preset"));
        town.agents.insert("claude".into(), command("/town"));
        assert_eq!(program(&town, &rig).as_deref(), Some("/town"));
        rig.agents.insert("claude".into(), command("/rig"));
        assert_eq!(program(&town, &rig).as_deref(), Some("/rig"));
    }

    #[test]
    fn entries_are_variants_of_presets() {
        let cases: [(&str, Entry, &str); 7] = [
            ("x", command("/abs/x"), "script"),
            ("x", command("/opt/bin/claude"), "claude"),
            ("claude", command("/abs/wrapper"), "script"),
            ("claude", entry(|entry| entry.args = Some(vec![])), "claude"),
            ("x", entry(|entry| entry.provider = Some("gemini".into())), "gemini"),
            (
                "x",
                entry(|entry| {
                    entry.provider = Some("claude".into());
                    entry.command = Some("/abs/wrapper".into());
                }),
                "claude",
            ),
            (
                "x",
                entry(|entry| {
                    entry.provider = Some("script".into());
                    entry.command = Some("claude".into());
                }),
                "script",
            ),
        ];
        for (name, entry, preset) in cases {
            let town = Settings { agents: [(name.to_owned(), entry)].into(), ..Settings::default() };
            let choice = resolve(&Sources { town: &town, rig: None }, Role::Witness, Some(name)).unwrap();
            assert_eq!(choice.preset.name, preset);
        }
        let rig = Settings { runtime: Some(Ok(AgentEntry::default())), ..Settings::default() };
        let town = Settings::default();
        let choice = resolve(&Sources { town: &town, rig: Some(&rig) }, Role::Witness, None).unwrap();
        assert_eq!(choice.preset.name, "claude");
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        let mut town = Settings::default();
        town.agents.insert("bad".into(), Err("command is no text".into()));
        town.agents.insert("empty".into(), Ok(AgentEntry::default()));
        town.agents.insert("odd".into(), entry(|entry| entry.provider = Some("none".into())));
        town.agents.insert(
            "mode".into(),
            entry(|entry| {
                entry.command = Some("/x".into());
                entry.prompt_mode = Some("loud".into());
            }),
        );
        let sources = Sources { town: &town, rig: None };
        let error = |name: &str| resolve(&sources, Role::Witness, Some(name)).unwrap_err();
        let unknown = error("nobody");
        assert_eq!(unknown.kind(), ErrorKind::NameInvalid);
        let ResolveError::Unknown { known, .. } = unknown else { panic!() };
        assert!(
            ["bad", "claude", "script", "empty"].iter().all(|name| known.iter().any(|known| known == name))
        );
        for name in ["bad", "empty", "odd", "mode", "script"] {
            assert!(matches!(error(name), ResolveError::Entry { .. }), "{name}");
        }
        town.role_agents.insert("witness".into(), "nobody".into());
        let error = resolve(&Sources { town: &town, rig: None }, Role::Witness, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.to_string().contains("role_agents of the town"), "{error}");
    }
}
