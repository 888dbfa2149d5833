//! What a town is made of before its daemon starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::programs;
use crate::town::Town;

/// A town to be made. Rigs are plain directories, agents are scripts; `gtctl init` and `rig add` have tests of
/// their own.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(crate) rigs: Vec<String>,
    agents: BTreeMap<String, Vec<String>>,
    commands: BTreeMap<String, Value>,
    roles: BTreeMap<String, String>,
    rig_agents: BTreeMap<String, String>,
    toml: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) depth: usize,
    pub(crate) name: String,
    pub(crate) root: Option<PathBuf>,
    empty: bool,
    deacon: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// One that idles as everybody's agent, and no rig yet.
    pub fn new() -> Self {
        Self {
            rigs: Vec::new(),
            agents: [("fake".to_owned(), vec!["idle".to_owned()])].into(),
            commands: BTreeMap::new(),
            roles: BTreeMap::new(),
            rig_agents: BTreeMap::new(),
            toml: String::new(),
            env: Vec::new(),
            depth: 0,
            name: "t".to_owned(),
            root: None,
            empty: false,
            deacon: false,
        }
    }

    /// With a deacon, which the others go without: their subject is rigs, and they count agents.
    #[must_use]
    pub fn deacon(mut self) -> Self {
        self.deacon = true;
        self
    }

    /// Adds rigs.
    #[must_use]
    pub fn rigs(mut self, names: &[&str]) -> Self {
        self.rigs.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// What everybody's agent does.
    #[must_use]
    pub fn script(self, steps: &[&str]) -> Self {
        self.agent("fake", steps)
    }

    /// A further scripted agent; `{J}` in its steps stands for the journal's directory.
    #[must_use]
    pub fn agent(mut self, name: &str, steps: &[&str]) -> Self {
        self.agents.insert(name.to_owned(), steps.iter().map(|step| (*step).to_owned()).collect());
        self
    }

    /// An agent of any other command; `{T}` in it stands for the town's root, `{J}` for the journal's directory.
    #[must_use]
    pub fn command(mut self, name: &str, entry: Value) -> Self {
        self.commands.insert(name.to_owned(), entry);
        self
    }

    /// Which agent a role uses.
    #[must_use]
    pub fn role(mut self, role: &str, agent: &str) -> Self {
        self.roles.insert(role.to_owned(), agent.to_owned());
        self
    }

    /// Which agent the witness of a rig uses, by the rig's own settings.
    #[must_use]
    pub fn rig_witness(mut self, rig: &str, agent: &str) -> Self {
        self.rig_agents.insert(rig.to_owned(), agent.to_owned());
        self
    }

    /// More text for `settings/gtd.toml`.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        self.toml.push_str(text);
        self.toml.push('\n');
        self
    }

    /// Only witnesses: half the processes where refineries add nothing.
    #[must_use]
    pub fn no_refineries(self) -> Self {
        self.toml("[refinery]\nmode = \"off\"")
    }

    /// A variable in the daemon's own environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the town this many directories of 30 letters deep.
    #[must_use]
    pub fn deep(mut self, levels: usize) -> Self {
        self.depth = levels;
        self
    }

    /// Gives the town's directory another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Puts the town there, such as beside another: what surrounds it stays its own.
    #[must_use]
    pub fn at(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// An empty directory, no town yet.
    #[must_use]
    pub fn empty(mut self) -> Self {
        self.empty = true;
        self
    }

    /// Makes it; nothing runs yet.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn make(self) -> Town {
        let town = Town::bare(&self);
        if !self.empty {
            self.write(&town);
        }
        town
    }

    /// Makes it, starts its daemon, and waits until every agent that should run does.
    pub fn up(self) -> Town {
        let town = self.make();
        town.start();
        town.wait_all_running();
        town
    }

    fn write(&self, town: &Town) {
        let write = |path: PathBuf, value: &Value| {
            std::fs::create_dir_all(path.parent().expect("a file is in a directory"))
                .expect("make a directory");
            std::fs::write(path, format!("{value:#}\n")).expect("write a file of the town");
        };
        write(
            town.path("mayor/town.json"),
            &json!({"type": "town", "version": 2, "name": "test", "owner": "t@example.org", "created_at": "2026-01-01T00:00:00Z"}),
        );
        town.write_registry(&self.rigs.iter().map(String::as_str).collect::<Vec<_>>());
        for rig in &self.rigs {
            town.make_rig(rig);
        }
        let program = programs::program("scripted-agent");
        let mut agents = Map::new();
        for (name, steps) in &self.agents {
            let mut args = vec![town.journal_dir().display().to_string()];
            args.extend(
                steps.iter().map(|step| step.replace("{J}", &town.journal_dir().display().to_string())),
            );
            agents.insert(name.clone(), json!({"provider": "script", "command": program, "args": args}));
        }
        for (name, entry) in &self.commands {
            let text = entry.to_string().replace("{J}", &town.journal_dir().display().to_string());
            let text = text.replace("{T}", &town.root().display().to_string());
            agents.insert(name.clone(), serde_json::from_str(&text).expect("paths need no quoting"));
        }
        write(
            town.path("settings/config.json"),
            &json!({"type": "town-settings", "version": 1, "default_agent": "fake", "agents": agents, "role_agents": self.roles}),
        );
        for (rig, agent) in &self.rig_agents {
            write(
                town.path(&format!("{rig}/settings/config.json")),
                &json!({"type": "rig-settings", "version": 1, "role_agents": {"witness": agent}}),
            );
        }
        if !self.deacon {
            // Not in gtd.toml, which many tests replace.
            write(town.path("mayor/daemon.json"), &json!({"patrols": {"deacon": {"enabled": false}}}));
        }
        if !self.toml.is_empty() {
            std::fs::write(town.path("settings/gtd.toml"), &self.toml).expect("write gtd.toml");
        }
    }
}
