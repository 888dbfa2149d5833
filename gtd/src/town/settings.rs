//! Which agent runs where: `settings/config.json`, a rig's file of the same name, and `agents.json`.
//!
//! Read leniently, with one exception: an entry that is not right is unusable, and says why, because a
//! launch made from the rest of it would be another one than was asked for.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::file;

/// An entry of `agents`, or a preset of `agents.json`: what is set in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentEntry {
    /// The preset that it is a variant of.
    pub provider: Option<String>,
    /// Program: a name, or an absolute path.
    pub command: Option<String>,
    /// Arguments; none means those of the preset, an empty list none at all.
    pub args: Option<Vec<String>>,
    /// Further environment.
    pub env: BTreeMap<String, String>,
    /// Text in place of our start-up text.
    pub initial_prompt: Option<String>,
    /// `arg` or `none`: whether the start-up text goes in the arguments.
    pub prompt_mode: Option<String>,
    /// How long a script must live to be ready, in milliseconds.
    pub ready_after_ms: Option<u64>,
    /// What the screen shows when the agent is ready.
    pub ready_prompt_prefix: Option<String>,
    /// The variable that names the directory of the program's own configuration.
    pub config_dir_env: Option<String>,
    /// Names of the program's processes, for showing.
    pub process_names: Option<Vec<String>>,
}

/// An entry, or why it cannot be used.
pub type Entry = Result<AgentEntry, String>;

/// The settings of a town or of a rig, with the presets of its `agents.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Entries by name.
    pub agents: BTreeMap<String, Entry>,
    /// Entry or preset by role.
    pub role_agents: BTreeMap<String, String>,
    /// Of a town: the entry or preset for everything else (`default_agent`). Of a rig: `agent`.
    pub agent: Option<String>,
    /// Of a rig: an entry without a name, in an older form.
    pub runtime: Option<Entry>,
    /// Presets of `agents.json`.
    pub presets: BTreeMap<String, Entry>,
    /// Of a rig: names for its workers.
    pub names: NamePool,
    /// What was passed over.
    pub odd: Vec<String>,
}

/// How workers of a rig are named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamePool {
    /// A theme.
    pub style: Option<String>,
    /// Names in place of a theme's.
    pub names: Vec<String>,
    /// How many of the names are used before numbers are. Zero is as good as none.
    pub max_before_numbering: Option<usize>,
    /// What of it is not as it should be.
    pub wrong: Vec<String>,
}

/// Reads a settings file and the `agents.json` beside it. Missing files set nothing.
///
/// # Errors
/// When one of them is there and cannot be read, with its name.
pub fn read(config: &Path, agents: &Path) -> Result<Settings, String> {
    let named = |path: &Path, error: String| {
        format!("settings/{} {error}", path.file_name().unwrap_or_default().to_string_lossy())
    };
    let mut settings = match file::read_object(config).map_err(|error| named(config, error))? {
        Some(map) => parse(&map),
        None => Settings::default(),
    };
    if let Some(map) = file::read_object(agents).map_err(|error| named(agents, error))? {
        settings.presets = entries(map.get("agents"), "agents.json: agents", &mut settings.odd);
    }
    Ok(settings)
}

fn parse(map: &Map<String, Value>) -> Settings {
    let mut odd = Vec::new();
    let agents = entries(map.get("agents"), "agents", &mut odd);
    let mut role_agents = BTreeMap::new();
    match map.get("role_agents") {
        None | Some(Value::Null) => {}
        Some(Value::Object(roles)) => {
            for (role, name) in roles {
                match name.as_str() {
                    Some("") => {}
                    Some(name) => {
                        role_agents.insert(role.to_ascii_lowercase(), name.to_owned());
                    }
                    None => odd.push(format!("role_agents.{role} is no text")),
                }
            }
        }
        Some(_) => odd.push("role_agents is no object".to_owned()),
    }
    let mut text = |key: &str| match map.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(_) => {
            odd.push(format!("{key} is no text"));
            None
        }
    };
    let agent = text("agent").or_else(|| text("default_agent"));
    let runtime = match map.get("runtime") {
        None | Some(Value::Null) => None,
        Some(value) => Some(entry(value)),
    };
    let names = names(map.get("namepool"));
    Settings {
        agents,
        role_agents,
        agent,
        runtime,
        odd: odd.into_iter().chain(names.wrong.iter().cloned()).collect(),
        names,
        ..Settings::default()
    }
}

fn names(value: Option<&Value>) -> NamePool {
    let mut pool = NamePool::default();
    let map = match value {
        None | Some(Value::Null) => return pool,
        Some(Value::Object(map)) => map,
        Some(_) => {
            pool.wrong.push("namepool is no object".to_owned());
            return pool;
        }
    };
    match map.get("style") {
        None | Some(Value::Null) => {}
        Some(Value::String(style)) => pool.style = Some(style.clone()).filter(|style| !style.is_empty()),
        Some(_) => pool.wrong.push("namepool.style is no text".to_owned()),
    }
    match map.get("names") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) => {
            pool.names = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if pool.names.len() < names.len() {
                pool.wrong.push("namepool.names has something other than texts".to_owned());
            }
        }
        Some(_) => pool.wrong.push("namepool.names is no list".to_owned()),
    }
    match map.get("max_before_numbering") {
        None | Some(Value::Null) => {}
        Some(number) => match number.as_i64() {
            Some(number) => pool.max_before_numbering = usize::try_from(number).ok(),
            None => pool.wrong.push("namepool.max_before_numbering is no number".to_owned()),
        },
    }
    pool
}

fn entries(value: Option<&Value>, what: &str, odd: &mut Vec<String>) -> BTreeMap<String, Entry> {
    match value {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| {
                let entry = entry(value);
                if let Err(error) = &entry {
                    odd.push(format!("{what}.{name}: {error}"));
                }
                (name.clone(), entry)
            })
            .collect(),
        Some(_) => {
            odd.push(format!("{what} is no object"));
            BTreeMap::new()
        }
    }
}

/// Reads one entry, in the form of the settings or in that of `agents.json`.
fn entry(value: &Value) -> Entry {
    let map = value.as_object().ok_or("is no object")?;
    // A field stands at the top (agents.json) or in a table of its own (settings).
    let field = |table: &str, name: &str| {
        let nested = map.get(table).and_then(|table| table.get(name));
        nested.or_else(|| map.get(name)).filter(|value| !value.is_null())
    };
    let text = |table: &str, name: &str| match field(table, name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} is no text")),
    };
    let list = |table: &str, name: &str| match field(table, name) {
        None => Ok(None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or(format!("{name} has something other than texts"))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some),
        Some(_) => Err(format!("{name} is no list")),
    };
    let env = match map.get("env") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(env)) => env
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => Ok((key.clone(), text.clone())),
                Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string())),
                _ => Err(format!("env.{key} is no text")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err("env is no object".to_owned()),
    };
    let ready_after_ms = match map.get("ready_after_ms") {
        None | Some(Value::Null) => None,
        // A day is more than any agent needs to come up.
        Some(value) => Some(
            value
                .as_u64()
                .filter(|ms| *ms <= 86_400_000)
                .ok_or("ready_after_ms is no number of milliseconds")?,
        ),
    };
    Ok(AgentEntry {
        provider: text("", "provider")?,
        command: text("", "command")?,
        args: list("", "args")?,
        env,
        initial_prompt: text("", "initial_prompt")?,
        prompt_mode: text("", "prompt_mode")?,
        ready_after_ms,
        ready_prompt_prefix: text("tmux", "ready_prompt_prefix")?,
        config_dir_env: text("session", "config_dir_env")?,
        process_names: list("tmux", "process_names")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Settings {
        parse(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn settings_are_read() {
        let settings = parsed(
            r#"{"type":"town-settings","version":1,"default_agent":"fake","agents":{"fake":{"provider":"script",
            "command":"/abs/x","args":[],"env":{"A":"b","N":1},"ready_after_ms":50},
            "old":{"command":"claude","tmux":{"ready_prompt_prefix":"> ","process_names":["node"]},
            "session":{"config_dir_env":"X"}}},"role_agents":{"Witness":"fake","refinery":""},"theme":3}"#,
        );
        assert_eq!(settings.agent.as_deref(), Some("fake"));
        assert_eq!(settings.role_agents, BTreeMap::from([("witness".into(), "fake".into())]));
        let fake = settings.agents["fake"].as_ref().unwrap();
        assert_eq!(fake.args.as_deref(), Some([].as_slice()));
        assert_eq!(fake.env["N"], "1");
        assert_eq!(fake.ready_after_ms, Some(50));
        let old = settings.agents["old"].as_ref().unwrap();
        assert_eq!((old.args.as_ref(), old.config_dir_env.as_deref()), (None, Some("X")));
        assert_eq!(old.ready_prompt_prefix.as_deref(), Some("> "));
        assert_eq!(settings.odd, Vec::<String>::new());
    }

    #[test]
    fn a_wrong_entry_is_unusable_and_the_rest_is_read() {
        let settings = parsed(
            r#"{"agent":7,"agents":{"a":{"command":["x"]},"b":{"env":{"A":[]}},"c":{"command":"x"},"d":3,
            "e":{"args":"x"},"f":{"ready_after_ms":-1}},"role_agents":{"witness":1},"namepool":{"style":"minerals","names":["x",2]}}"#,
        );
        for name in ["a", "b", "d", "e", "f"] {
            assert!(settings.agents[name].is_err(), "{name}");
        }
        assert!(settings.agents["c"].is_ok());
        assert_eq!(settings.agent, None);
        assert_eq!(settings.odd.len(), 8);
        assert_eq!(
            (settings.names.style.as_deref(), settings.names.names.as_slice()),
            (Some("minerals"), ["x".to_owned()].as_slice())
        );
        let pool = |text: &str| parsed(&format!(r#"{{"namepool":{text}}}"#)).names;
        assert_eq!(pool(r#"{"max_before_numbering":7}"#).max_before_numbering, Some(7));
        assert_eq!(pool(r#"{"max_before_numbering":-7}"#), NamePool::default());
        for wrong in ["3", r#"{"names":"x"}"#, r#"{"style":[]}"#, r#"{"max_before_numbering":"7"}"#] {
            assert_eq!(pool(wrong).wrong.len(), 1, "{wrong}");
        }
        assert_eq!(parsed(r#"{"agents":[],"role_agents":[]}"#).odd.len(), 2);
    }

    #[test]
    fn presets_are_read_beside_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let (config, agents) = (dir.path().join("config.json"), dir.path().join("agents.json"));
        assert_eq!(read(&config, &agents), Ok(Settings::default()));
        std::fs::write(
            &agents,
            r#"{"version":1,"agents":{"mine":{"name":"mine","command":"m","args":["-x"]}}}"#,
        )
        .unwrap();
        assert_eq!(
            read(&config, &agents).unwrap().presets["mine"].as_ref().unwrap().command.as_deref(),
            Some("m")
        );
        std::fs::write(&agents, "{").unwrap();
        assert!(read(&config, &agents).unwrap_err().starts_with("settings/agents.json is not JSON"));
    }
}
