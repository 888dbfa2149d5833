//! Whom mail is for: every way in which agents and people write that.
//!
//! Pure. `alpha/witness`, `alpha/polecats/nux`, `alpha/crew/max`, `alpha/nux` where one worker or one crew member is
//! called so, `mayor`, `deacon` and `boot`, all with or without a slash at the end; and `overseer`, `human` or
//! `person` for the person.

use std::fmt;

use gtd_proto::mail::{DAEMON, PERSON};
use gtd_proto::nearest::nearest;
use gtd_proto::{Address, AgentName, ErrorKind, RigName, RpcError};

use crate::supervisor::view::Shown;

/// Longest recipient that is looked at, in bytes.
const LONGEST: usize = 200;
/// Names that are proposed for one that nobody has.
const NEAR: usize = 3;
/// Words for the person.
const PEOPLE: [&str; 3] = [PERSON, "human", "person"];

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mailbox {
    /// An agent's.
    Agent(Address),
    /// The person's.
    Person,
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Person => f.pad(PERSON),
        }
    }
}

impl Mailbox {
    /// The box of a recipient as the ledger has it.
    #[must_use]
    pub fn of(recipient: &str) -> Option<Self> {
        match recipient {
            PERSON => Some(Self::Person),
            agent => agent.parse().ok().map(Self::Agent),
        }
    }

    /// The box that a text means, in the town as it is shown. `path` is the parameter that holds it.
    ///
    /// # Errors
    /// `rig_not_found`; `agent_not_found`, with the names that were probably meant; `invalid_params` where it is no
    /// name at all, or means several.
    pub fn named(text: &str, path: &'static str, shown: &Shown) -> Result<Self, RpcError> {
        let invalid = |why: String| RpcError::new(ErrorKind::InvalidParams, why).with("path", path);
        let name = text.trim();
        let name = name.strip_suffix('/').unwrap_or(name);
        if name.is_empty() {
            return Err(invalid("a mail needs somebody whom it is for".to_owned())
                .hint("an address such as alpha/witness, or overseer for the person"));
        }
        if name.len() > LONGEST {
            return Err(invalid(format!("a recipient has at most {LONGEST} bytes")));
        }
        if PEOPLE.contains(&name) {
            return Ok(Self::Person);
        }
        if name == DAEMON {
            return Err(nobody(name, shown).hint("the daemon reads no mail: write to the deacon"));
        }
        if let Ok(agent) = name.parse::<Address>() {
            return if exists(&agent, shown)? { Ok(Self::Agent(agent)) } else { Err(nobody(name, shown)) };
        }
        let Some((rig, name)) = short(name) else { return Err(nobody(name, shown)) };
        let known = shown.rig(&rig)?;
        let worker = Address::Polecat(rig.clone(), name.clone());
        let person = Address::Crew(rig.clone(), name.clone());
        let is_person = known.crew.iter().any(|crew| crew == name.as_str());
        match (exists(&worker, shown)?, is_person) {
            (true, false) => Ok(Self::Agent(worker)),
            (false, true) => Ok(Self::Agent(person)),
            (true, true) => Err(invalid(format!("{rig}/{name} may be {worker} or {person}"))
                .hint(format!("write {worker} or {person}"))),
            (false, false) => Err(nobody(&format!("{rig}/{name}"), shown)),
        }
    }
}

/// `alpha/nux`
fn short(name: &str) -> Option<(RigName, AgentName)> {
    let (rig, name) = name.split_once('/')?;
    Some((RigName::new(rig).ok()?, AgentName::new(name).ok()?))
}

/// Whether there is such an agent: one that runs or ran, one of a registered rig, or the town's own.
fn exists(agent: &Address, shown: &Shown) -> Result<bool, RpcError> {
    let Some(rig) = agent.rig() else { return Ok(true) };
    if shown.agents.contains_key(agent) {
        return Ok(true);
    }
    let known = shown.facts.rigs.get(rig);
    let Some(known) = known else { return shown.rig(rig).map(|_| false) };
    Ok(match agent {
        Address::Polecat(_, name) => known.polecats.contains(name),
        Address::Crew(_, name) => known.crew.iter().any(|crew| crew == name.as_str()),
        _ => true,
    })
}

/// Everybody whom mail can be for.
fn everybody(shown: &Shown) -> Vec<String> {
    let mut all: Vec<String> = ["mayor", "deacon", "boot", PERSON].map(str::to_owned).to_vec();
    all.extend(shown.agents.keys().map(ToString::to_string));
    for (rig, facts) in &shown.facts.rigs {
        all.push(format!("{rig}/witness"));
        all.push(format!("{rig}/refinery"));
        all.extend(facts.polecats.iter().map(|name| format!("{rig}/polecats/{name}")));
        all.extend(facts.crew.iter().map(|name| format!("{rig}/crew/{name}")));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn nobody(name: &str, shown: &Shown) -> RpcError {
    let all = everybody(shown);
    let mut near: Vec<String> =
        nearest(name, all.iter().map(String::as_str), NEAR).into_iter().map(str::to_owned).collect();
    // `alpha/nix` is meant to be short for a worker.
    if near.is_empty()
        && let Some((rig, name)) = name.split_once('/')
    {
        let (long, within) = (format!("{rig}/polecats/{name}"), format!("{rig}/"));
        let there = all.iter().map(String::as_str).filter(|other| other.starts_with(&within));
        near.extend(nearest(&long, there, NEAR).into_iter().map(str::to_owned));
    }
    let error =
        RpcError::new(ErrorKind::AgentNotFound, format!("there is nobody called {name:?} to write to"));
    match near.as_slice() {
        [] => error.hint("gtctl status lists the agents; overseer is the person"),
        _ => error.hint(format!("did you mean {}?", near.join(" or "))).with("nearest", near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::planner::{Facts, Mode, RigFacts};
    use crate::supervisor::rigs::{FileState, Standing};

    fn town() -> Shown {
        let rig = RigFacts {
            file: FileState::default(),
            standing: Standing::default(),
            witness: Mode::Always,
            refinery: Mode::Always,
            path: String::new(),
            prefix: "al".into(),
            polecats: ["nux", "ace", "both"].map(|name| AgentName::new(name).unwrap()).to_vec(),
            crew: ["max", "both"].map(str::to_owned).to_vec(),
        };
        let rigs = [(RigName::new("alpha").unwrap(), rig)].into();
        Shown { facts: Facts { known: true, rigs, ..Facts::default() }, ..Shown::default() }
    }

    #[test]
    fn every_form_of_an_address_is_understood() {
        let town = town();
        for (text, found) in [
            ("alpha/witness", "alpha/witness"),
            (" alpha/witness/ ", "alpha/witness"),
            ("alpha/refinery", "alpha/refinery"),
            ("alpha/polecats/nux", "alpha/polecats/nux"),
            ("alpha/nux", "alpha/polecats/nux"),
            ("alpha/max", "alpha/crew/max"),
            ("alpha/crew/max", "alpha/crew/max"),
            ("alpha/crew/both", "alpha/crew/both"),
            ("mayor/", "mayor"),
            ("mayor", "mayor"),
            ("deacon/", "deacon"),
            ("boot", "boot"),
            ("overseer", "overseer"),
            ("human", "overseer"),
            ("person", "overseer"),
        ] {
            let named = Mailbox::named(text, "/to", &town).unwrap();
            assert_eq!(named.to_string(), found, "{text}");
            assert_eq!(Mailbox::of(&named.to_string()), Some(named));
        }
    }

    #[test]
    fn whoever_is_not_there_is_named_with_who_was_meant() {
        let town = town();
        let long = "x".repeat(300);
        for (text, code, word) in [
            ("", -32602, "alpha/witness"),
            ("/", -32602, "alpha/witness"),
            (long.as_str(), -32602, ""),
            ("alpha/witnes", 1002, "alpha/witness"),
            ("alpha/nix", 1002, "alpha/polecats/nux"),
            ("alpha/polecats/nox", 1002, "alpha/polecats/nux"),
            ("alpha/both", -32602, "alpha/crew/both"),
            ("beta/witness", 1001, ""),
            ("beta/nux", 1001, ""),
            ("mayr", 1002, "mayor"),
            ("daemon", 1002, "deacon"),
            ("alpha", 1002, ""),
            ("a b/c", 1002, "gtctl status"),
            ("alpha/polecats/../x", 1002, ""),
            ("../witness", 1002, ""),
        ] {
            let error = Mailbox::named(text, "/to", &town).unwrap_err();
            assert_eq!(error.code, code, "{text}: {error:?}");
            assert!(error.hint.clone().unwrap_or_default().contains(word), "{text}: {error:?}");
        }
    }
}
