//! Templates of session names.
//!
//! Owns what may stand in a template; filling one in is the agents' part.

use serde_json::Value;
use toml::de::DeValue;

use super::read::nearest;
use super::value::{Problem, Rule, Setting, quoted, wrong_type};

/// Templates of session names. Names are for people: identity never depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Mayor, deacon and boot.
    pub town: String,
    /// Witness and refinery.
    pub role: String,
    /// Workers.
    pub polecat: String,
    /// People's workspaces, for display.
    pub crew: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            town: "hq-{role}".to_owned(),
            role: "gt-{rig}-{role}".to_owned(),
            polecat: "gt-{rig}-{name}".to_owned(),
            crew: "gt-{rig}-crew-{name}".to_owned(),
        }
    }
}

/// Of each template: its key, what may stand in it, and groups of which one member must.
type TemplateRule = (&'static str, &'static [&'static str], &'static [&'static [&'static str]]);
const TEMPLATES: [TemplateRule; 4] = [
    ("town", &["role"], &[&["role"]]),
    ("role", &["rig", "prefix", "role"], &[&["role"], &["rig", "prefix"]]),
    ("polecat", &["rig", "prefix", "role", "name"], &[&["name"], &["rig", "prefix"]]),
    ("crew", &["rig", "prefix", "role", "name"], &[&["name"], &["rig", "prefix"]]),
];

fn check_template(text: &str, may: &[&str], must: &[&[&str]]) -> Result<(), Problem> {
    let allowed = || may.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
    if text.len() > 128 || text.chars().any(char::is_control) {
        return Err(Problem::new("is longer than 128 bytes or has control characters"));
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let tail = rest.get(at..).unwrap_or_default();
        let name = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
        match name {
            Some((name, after)) if may.contains(&name) => {
                found.push(name);
                rest = after;
            }
            _ => {
                return Err(Problem::new(format!(
                    "{text:?} has a placeholder that is none of {}",
                    allowed()
                )));
            }
        }
    }
    match must.iter().find(|group| !group.iter().any(|name| found.contains(name))) {
        Some(group) => {
            let names = group.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" or ");
            Err(Problem::new(format!("{text:?} lacks {names}, so that names would be alike")))
        }
        None => Ok(()),
    }
}

impl Setting for Names {
    const KIND: &'static str = "a table with the keys town, role, polecat and crew";
    const UNIT: &'static str = "templates";

    fn read(value: &DeValue<'_>, _: &Rule) -> Result<Self, Problem> {
        let table = value.as_table().ok_or_else(|| wrong_type::<Self>(value))?;
        let mut names = Self::default();
        for (key, item) in table.iter() {
            let (key, span) = (key.get_ref().as_ref(), key.span());
            let Some((_, may, must)) = TEMPLATES.iter().find(|(name, ..)| *name == key) else {
                let problem = Problem::new("is no key of this table").below(key).at(span);
                return Err(match nearest(key, TEMPLATES.map(|(name, ..)| name)) {
                    Some(name) => problem.hint(format!("did you mean \"{name}\"?")),
                    None => problem,
                });
            };
            let template = item.get_ref().as_str().ok_or_else(|| {
                Problem::new("expected a template, which is a text").below(key).at(item.span())
            })?;
            check_template(template, may, must).map_err(|problem| problem.below(key).at(item.span()))?;
            let slot = match key {
                "town" => &mut names.town,
                "role" => &mut names.role,
                "polecat" => &mut names.polecat,
                _ => &mut names.crew,
            };
            template.clone_into(slot);
        }
        Ok(names)
    }

    fn toml(&self) -> String {
        format!(
            "{{ town = {}, role = {}, polecat = {}, crew = {} }}",
            quoted(&self.town),
            quoted(&self.role),
            quoted(&self.polecat),
            quoted(&self.crew)
        )
    }

    fn json(&self) -> Value {
        serde_json::json!({
            "town": self.town, "role": self.role, "polecat": self.polecat, "crew": self.crew,
        })
    }
}
