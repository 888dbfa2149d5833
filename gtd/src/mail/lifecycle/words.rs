//! What a lifecycle mail asks for, and of whom. Pure.

use std::collections::BTreeSet;

use gtd_proto::lifecycle::LifecycleAction;
use gtd_proto::mail::PERSON;
use gtd_proto::{Address, AgentName, RigName};
use serde_json::Value;

use crate::mail::Mailbox;
use crate::supervisor::view::Shown;

/// What the subject of such a mail begins with, in any case of letters.
pub const PREFIX: &str = "lifecycle:";
/// Longest text of others that is quoted, in characters.
const QUOTED: usize = 80;

/// What a subject says after the prefix; none where it has none.
#[must_use]
pub fn rest(subject: &str) -> Option<&str> {
    let subject = subject.trim_start();
    let (prefix, rest) = subject.split_at_checked(PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// What a body asks for: `{"action": …}`, or one word, which `action:` may stand before.
///
/// # Errors
/// Why it is not understood.
pub fn action(body: &str) -> Result<LifecycleAction, String> {
    let body = body.trim();
    let wanted = "the body is {\"action\":\"cycle|restart|shutdown\"}, or one of these words";
    let word = match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(object)) => match object.get("action") {
            Some(Value::String(word)) => word.clone(),
            _ => return Err(format!("it names no action: {wanted}")),
        },
        Ok(Value::String(word)) => word,
        _ => {
            let lower = body.to_ascii_lowercase();
            lower.strip_prefix("action:").map_or(lower.clone(), |word| word.trim().to_owned())
        }
    };
    word.parse().map_err(|_| match word.trim() {
        "" => format!("it names no action: {wanted}"),
        _ => format!("{:?} is no action: {wanted}", quoted(&word)),
    })
}

/// The beginning of a text of others, in one line.
#[must_use]
pub fn quoted(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

/// The agent that a subject names after the prefix; none where it names nobody.
///
/// # Errors
/// It names several, or somebody who is not there.
pub fn target(rest: &str, shown: &Shown) -> Result<Option<Address>, String> {
    let mut found = BTreeSet::new();
    let mut strange = None;
    for word in rest.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';')) {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/' && c != '_');
        match named(word, shown) {
            Some(agent) => {
                found.insert(agent);
            }
            None if word.trim_matches('/').contains('/') => {
                strange = strange.or_else(|| Some(word.to_owned()));
            }
            None => {}
        }
    }
    let several = found.len() > 1;
    match (found.pop_first(), strange) {
        (Some(_), _) if several => Err("its subject names several agents".to_owned()),
        (Some(agent), None) => Ok(Some(agent)),
        (_, Some(strange)) => Err(format!("there is nobody called {:?}", quoted(&strange))),
        (None, None) => Ok(None),
    }
}

/// The agent that a word means, in every form in which agents, tools and sessions write one.
#[must_use]
pub fn named(word: &str, shown: &Shown) -> Option<Address> {
    if word.is_empty() {
        return None;
    }
    if let Ok(Mailbox::Agent(agent)) = Mailbox::named(word, "/agent", shown) {
        return Some(agent);
    }
    if let Some(agent) = dashed(word, shown) {
        return Some(agent);
    }
    let mut agents = shown.agents.values();
    agents.find(|agent| agent.session_name.as_deref() == Some(word)).map(|agent| agent.agent.clone())
}

/// `alpha-witness`, `alpha-polecat-nux`, `alpha-crew-max`: the rig is a registered one, the longest that fits.
fn dashed(word: &str, shown: &Shown) -> Option<Address> {
    let mut rigs: Vec<&RigName> = shown.facts.rigs.keys().collect();
    rigs.sort_by_key(|rig| std::cmp::Reverse(rig.as_str().len()));
    rigs.into_iter().find_map(|rig| {
        let rest = word.strip_prefix(rig.as_str())?.strip_prefix('-')?;
        let agent = match rest {
            "witness" => Address::Witness(rig.clone()),
            "refinery" => Address::Refinery(rig.clone()),
            _ => match rest.split_once('-')? {
                ("polecat", name) => Address::Polecat(rig.clone(), AgentName::new(name).ok()?),
                ("crew", name) => Address::Crew(rig.clone(), AgentName::new(name).ok()?),
                _ => return None,
            },
        };
        // Whoever is not there is nobody's name.
        matches!(Mailbox::named(&agent.to_string(), "/agent", shown), Ok(Mailbox::Agent(_))).then_some(agent)
    })
}

/// Who wrote a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// The person.
    Person,
    /// An agent.
    Agent(Address),
}

impl Sender {
    /// As mail names its sender. None for one whom nobody knows.
    #[must_use]
    pub fn of(from: &str, shown: &Shown) -> Option<Self> {
        match Mailbox::named(from, "/from", shown) {
            Ok(Mailbox::Person) => Some(Self::Person),
            Ok(Mailbox::Agent(agent)) => Some(Self::Agent(agent)),
            Err(_) => named(from.trim().trim_end_matches('/'), shown).map(Self::Agent),
        }
    }

    /// As intents and events name it.
    #[must_use]
    pub fn by(&self) -> String {
        match self {
            Self::Person => crate::supervisor::requests::PERSON.to_owned(),
            Self::Agent(agent) => agent.to_string(),
        }
    }

    /// Its mailbox.
    #[must_use]
    pub fn mailbox(&self) -> String {
        match self {
            Self::Person => PERSON.to_owned(),
            Self::Agent(agent) => agent.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::planner::{Facts, Mode, RigFacts};
    use crate::supervisor::rigs::{FileState, Standing};
    use crate::supervisor::view::at_rest;
    use gtd_proto::Timestamp;

    fn town() -> Shown {
        let rig = |polecats: &[&str], crew: &[&str]| RigFacts {
            file: FileState::default(),
            standing: Standing::default(),
            witness: Mode::Always,
            refinery: Mode::Always,
            path: String::new(),
            prefix: String::new(),
            polecats: polecats.iter().map(|name| AgentName::new(*name).unwrap()).collect(),
            crew: crew.iter().map(|name| (*name).to_owned()).collect(),
        };
        let rigs = [
            (RigName::new("alpha").unwrap(), rig(&["nux", "bullet-farmer"], &["max"])),
            (RigName::new("alpha-b").unwrap(), rig(&["ace"], &[])),
        ];
        let mut shown =
            Shown { facts: Facts { known: true, rigs: rigs.into(), ..Facts::default() }, ..Shown::default() };
        let nux: Address = "alpha/polecats/nux".parse().unwrap();
        let mut agent = at_rest(&nux, Timestamp::UNIX_EPOCH);
        agent.session_name = Some("gt-alpha-nux~2".to_owned());
        shown.agents.insert(nux, agent);
        shown
    }

    #[test]
    fn only_a_subject_that_begins_so_asks() {
        assert_eq!(rest("LIFECYCLE: a/b requesting cycle"), Some(" a/b requesting cycle"));
        assert_eq!(rest("  lifecycle:x"), Some("x"));
        assert_eq!(rest("LifeCycle:"), Some(""));
        for no in ["", "lifecycle", "Re: LIFECYCLE: x", "lifecyclé: x", "LIFECYCLE x"] {
            assert_eq!(rest(no), None, "{no}");
        }
    }

    #[test]
    fn bodies_and_what_they_ask_for() {
        use LifecycleAction::{Cycle, Restart, Shutdown};
        for (body, asks) in [
            ("{\"action\":\"cycle\"}", Cycle),
            ("{\"action\":\"Restart\",\"why\":\"x\"}", Restart),
            (" \n{\"action\": \" SHUTDOWN \"}\n", Shutdown),
            ("{\"action\":\"stop\"}", Shutdown),
            ("cycle", Cycle),
            (" Cycle\n", Cycle),
            ("action: restart", Restart),
            ("ACTION:shutdown", Shutdown),
            ("\"cycle\"", Cycle),
        ] {
            assert_eq!(action(body), Ok(asks), "{body}");
        }
        for (body, word) in [
            ("", "names no action"),
            ("{}", "names no action"),
            ("{\"action\":5}", "names no action"),
            ("[\"cycle\"]", "is no action"),
            ("cycle please", "\"cycle please\""),
            ("{\"action\":\"explode\"}", "\"explode\""),
            ("{\"action\":\"unknown\"}", "\"unknown\""),
            ("{\"action\":\"cycle\"", "is no action"),
            ("restart\nshutdown", "is no action"),
        ] {
            let why = action(body).unwrap_err();
            assert!(why.contains(word), "{body}: {why}");
        }
        assert!(action(&"x".repeat(70_000)).unwrap_err().len() < 400);
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        let town = town();
        for (subject, agent) in [
            (" alpha/witness requesting cycle", Some("alpha/witness")),
            ("alpha/witness/", Some("alpha/witness")),
            (" alpha-witness", Some("alpha/witness")),
            (" alpha-b-witness", Some("alpha-b/witness")),
            (" alpha-polecat-bullet-farmer: cycle", Some("alpha/polecats/bullet-farmer")),
            (" 'alpha/nux', please", Some("alpha/polecats/nux")),
            (" alpha/polecats/nux", Some("alpha/polecats/nux")),
            (" gt-alpha-nux~2", Some("alpha/polecats/nux")),
            (" alpha/crew/max", Some("alpha/crew/max")),
            (" alpha-crew-max", Some("alpha/crew/max")),
            (" mayor/ requesting restart", Some("mayor")),
            (" deacon", Some("deacon")),
            (" alpha/nux and alpha/polecats/nux", Some("alpha/polecats/nux")),
            ("", None),
            (" requesting cycle", None),
            (" nux", None),
            (" alpha-polecat-nobody", None),
        ] {
            let found = target(subject, &town).unwrap().map(|agent| agent.to_string());
            assert_eq!(found.as_deref(), agent, "{subject}");
        }
        assert!(target("alpha/nux alpha/witness", &town).unwrap_err().contains("several"));
        assert!(target(" beta/witness requesting cycle", &town).unwrap_err().contains("beta/witness"));
        assert!(target(" alpha/nux beta/witness", &town).unwrap_err().contains("beta/witness"));
    }

    #[test]
    fn senders_are_known_or_nobody() {
        let town = town();
        assert_eq!(Sender::of("overseer", &town), Some(Sender::Person));
        for (from, agent) in [
            ("mayor/", "mayor"),
            ("alpha/nux", "alpha/polecats/nux"),
            ("alpha/max", "alpha/crew/max"),
            ("alpha-witness", "alpha/witness"),
        ] {
            assert_eq!(Sender::of(from, &town), Some(Sender::Agent(agent.parse().unwrap())), "{from}");
        }
        for nobody in ["", "gamma/witness", "daemon", "alpha/none", "../x"] {
            assert_eq!(Sender::of(nobody, &town), None, "{nobody}");
        }
    }
}
