//! Whether a caller may do what it asks for: the table, the limits of agents, and what a person granted.
//!
//! Pure. A refusal says who asked, what they may instead, and what would allow it.

use std::fmt;

use gtd_proto::selector::glob;
use gtd_proto::{Address, ErrorKind, RpcError};
use serde_json::{Map, Value};

use super::table::{self, Column, Reads, Scope, Target};
use crate::config::Grant;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A person, or a program of theirs. A crew's agent is its person too.
    Human,
    /// A process that is proven to belong to this agent.
    Agent(Address),
    /// It cannot be told; the text says why.
    Unknown(String),
}

impl Who {
    /// The class, as refusals and records name it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Agent(agent) => agent.role().as_str(),
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for Who {
    /// As intents, signals and events name who asked: `person`, an address, or `unknown`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Human => f.write_str("person"),
            Self::Agent(agent) => agent.fmt(f),
            Self::Unknown(_) => f.write_str("unknown"),
        }
    }
}

/// A request, as far as permission depends on it.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// It changes nothing, whatever its parameters are.
    pub reads: bool,
    /// Its parameters.
    pub params: &'a Map<String, Value>,
    /// The agent whose present instance, or whose item, it names, where it names one.
    pub by_instance: Option<Address>,
}

impl Asked<'_> {
    /// Whether it is about the caller, and so cannot be answered without knowing them.
    #[must_use]
    pub fn is_about_the_caller(&self) -> bool {
        self.method == "mail.inbox" && !is_set(self.params, "for")
    }

    /// The id of the item that it is about, where it is about one that is somebody's.
    #[must_use]
    pub fn item(&self) -> Option<&str> {
        let of_item = table::find(self.method).is_some_and(|row| row.aim == table::Aim::Item);
        if of_item { self.params.get("id").and_then(Value::as_str) } else { None }
    }

    /// Whether everybody may ask for it.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        match table::find(self.method).map(|row| row.reads) {
            Some(Reads::Always) => true,
            Some(Reads::Unless(field)) => !is_set(self.params, field),
            Some(Reads::No) => false,
            None => self.reads,
        }
    }
}

fn is_set(params: &Map<String, Value>, field: &str) -> bool {
    params.get(field).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
}

/// Whether the caller may.
///
/// # Errors
/// `forbidden`, with the class and what would allow it.
pub fn judge(who: &Who, asked: &Asked<'_>, grants: &[Grant]) -> Result<(), RpcError> {
    if asked.only_looks() {
        return Ok(());
    }
    let agent = match who {
        Who::Human | Who::Agent(Address::Crew(..)) => return Ok(()),
        Who::Agent(agent) => agent,
        Who::Unknown(why) => return Err(unknown(asked.method, why)),
    };
    let row = table::find(asked.method);
    let target = row.map_or(Target::Unclear, |row| row.aim.target(asked.params, asked.by_instance.as_ref()));
    let scopes = row.zip(Column::of(agent)).map_or(&[][..], |(row, column)| row.scopes(column));
    let within = scopes.iter().any(|scope| scope.covers(agent, &target));
    let force = is_set(asked.params, "force");
    if within && !force {
        return Ok(());
    }
    let granted = grants.iter().any(|grant| grant.who.matches(agent) && glob(&grant.method, asked.method));
    if granted && (within || grant_reaches(agent, &target)) {
        return Ok(());
    }
    Err(forbidden(agent, asked.method, scopes, &target, force && within, granted))
}

/// A grant leads an agent of a rig nowhere beyond its rig; the town's own agents everywhere.
fn grant_reaches(agent: &Address, target: &Target) -> bool {
    let Some(own) = agent.rig() else { return true };
    match target {
        Target::Nothing => true,
        Target::Rig(rig) | Target::PolecatsOf(rig) => rig == own,
        Target::Agent(other) => other.rig().is_none_or(|rig| rig == own),
        Target::Unclear => false,
    }
}

fn forbidden(
    agent: &Address,
    method: &str,
    scopes: &[Scope],
    target: &Target,
    only_force: bool,
    granted: bool,
) -> RpcError {
    let whom = match target {
        Target::Agent(other) => format!(" for {other}"),
        Target::Rig(rig) | Target::PolecatsOf(rig) => format!(" for rig {rig}"),
        Target::Nothing | Target::Unclear => String::new(),
    };
    let but = if only_force {
        ": not with force".to_owned()
    } else if scopes.is_empty() {
        String::new()
    } else {
        let may: Vec<&str> = scopes.iter().map(|scope| scope.words()).collect();
        format!(": a {} may for {}", agent.role(), may.join(" and "))
    };
    let error = RpcError::new(ErrorKind::Forbidden, format!("{agent} may not call {method}{whom}{but}"));
    let hint = if granted {
        "ask a person: a grant leads no further than an agent's own rig".to_owned()
    } else {
        format!(
            "ask a person, who may do it or allow it in settings/gtd.toml: [callers] grant = [\"{agent}: {method}\"]"
        )
    };
    error
        .hint(hint)
        .with("class", agent.role().as_str())
        .with("agent", agent)
        .with("method", method)
        .with("may", scopes.iter().map(|scope| scope.words()).collect::<Vec<_>>())
}

fn unknown(method: &str, why: &str) -> RpcError {
    RpcError::new(
        ErrorKind::Forbidden,
        format!("{method} was refused: it is not known who asks, because {why}"),
    )
    .hint("looking is allowed; to change something, a person asks from a terminal outside of every agent")
    .with("class", "unknown")
    .with("method", method)
}
