//! What was probably meant by a command line that cannot be read: a verb without its noun, a noun's words in another
//! order, the habits of other tools. Only a hint comes of it; nothing that was not typed is ever done.

use std::ffi::OsString;

use clap::Command;
use gtd_proto::{Address, RigName};

use super::Cli;
use crate::output::shell_word;

/// Nouns that are named at most for a verb that stands alone.
const NOUNS: usize = 3;

/// Global flags that take a value.
const VALUED: [&str; 3] = ["--town", "--socket", "--color"];

/// The command that helps, for the words behind the program's name.
#[must_use]
pub fn hint(typed: impl IntoIterator<Item = OsString>) -> Option<String> {
    let words = plain(typed);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let shown = Cli::shown();
    let noun = words.first().and_then(|noun| shown.find_subcommand(noun));
    match (noun, words.as_slice()) {
        // `witness alpha start`
        (Some(noun), [_, what, verb, ..])
            if noun.find_subcommand(verb).is_some() && noun.find_subcommand(what).is_none() =>
        {
            Some(format!("gtctl {} {verb} {what}", noun.get_name()))
        }
        // `witness alpha`
        (Some(noun), [_, what]) if noun.has_subcommands() && noun.find_subcommand(what).is_none() => {
            let looks = noun.find_subcommand("status").filter(|look| look.get_positionals().next().is_some());
            looks.map(|look| format!("gtctl {} {} {what}", noun.get_name(), look.get_name()))
        }
        (Some(_), _) => None,
        (None, [verb, rest @ ..]) => alone(&shown, verb, rest),
        (None, []) => None,
    }
}

/// Where the first word stands that is neither the program's name, nor a global flag, nor the value of one.
#[must_use]
pub fn first_word(words: &[OsString]) -> Option<usize> {
    let mut valued = false;
    words.iter().enumerate().skip(1).find_map(|(at, word)| {
        if std::mem::take(&mut valued) {
            return None;
        }
        valued = VALUED.iter().any(|flag| word == flag);
        (!word.as_encoded_bytes().starts_with(b"-")).then_some(at)
    })
}

/// The words that are no flags, and belong to none.
fn plain(typed: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut words = Vec::new();
    let mut typed = typed.into_iter().filter_map(|word| word.into_string().ok());
    while let Some(word) = typed.next() {
        if VALUED.contains(&word.as_str()) {
            typed.next();
        } else if !word.starts_with('-') {
            words.push(word);
        }
    }
    words
}

/// A verb without its noun.
fn alone(shown: &Command, verb: &str, rest: &[&str]) -> Option<String> {
    let said = match (verb, rest.first()) {
        ("ps" | "ls" | "list" | "agents" | "show" | "get" | "info", Some(agent)) => {
            format!("gtctl status {}", shell_word(agent))
        }
        ("ps" | "ls" | "list" | "agents" | "show" | "get" | "info", None) => "gtctl status".to_owned(),
        ("log" | "tail" | "journal", _) => "gtctl logs -f; gtctl events -f".to_owned(),
        ("start", None) => "gtctl up".to_owned(),
        ("stop" | "kill" | "shutdown" | "halt" | "quit" | "exit", None) => {
            "gtctl down stops everything; gtctl daemon stop leaves the agents".to_owned()
        }
        ("restart", None) => "gtctl daemon restart, which leaves the agents".to_owned(),
        ("start" | "stop" | "restart" | "spawn", Some(agent)) => act(verb, agent)?,
        ("kill", Some(agent)) => act("stop", agent)?,
        _ => {
            let nouns = shown.get_subcommands().filter(|noun| noun.find_subcommand(verb).is_some());
            let all: Vec<String> = nouns.map(|noun| format!("gtctl {} {verb}", noun.get_name())).collect();
            match all.as_slice() {
                [one] => rest.iter().fold(one.clone(), |all, word| format!("{all} {}", shell_word(word))),
                [_, ..] if all.len() <= NOUNS => all.join("; "),
                _ => return None,
            }
        }
    };
    Some(said)
}

/// What ends or starts an agent has a noun for each role.
fn act(verb: &str, agent: &str) -> Option<String> {
    let named = agent.parse::<Address>().ok();
    Some(match (named, agent.split_once('/')) {
        (Some(Address::Witness(rig)), _) => format!("gtctl witness {verb} {rig}"),
        (Some(Address::Refinery(rig)), _) => format!("gtctl refinery {verb} {rig}"),
        (Some(Address::Deacon), _) => format!("gtctl deacon {verb}"),
        (Some(Address::Mayor), _) => format!("gtctl mayor {verb}"),
        (Some(Address::Polecat(rig, name)), _) if verb == "spawn" => {
            format!("gtctl polecat spawn {rig} --name {name}")
        }
        (Some(Address::Polecat(..)), _) => format!("gtctl polecat {verb} {agent}"),
        (Some(_), _) => return None,
        (None, Some((rig, name))) if verb == "spawn" => format!("gtctl polecat spawn {rig} --name {name}"),
        (None, Some(_)) => format!("gtctl polecat {verb} {agent}"),
        (None, None) => {
            let rig = RigName::new(agent).ok()?;
            match verb {
                "spawn" => format!("gtctl polecat spawn {rig}"),
                _ => format!("gtctl witness {verb} {rig}; gtctl refinery {verb} {rig}"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant_is_said_and_can_be_typed() {
        for (typed, meant) in [
            ("start alpha/witness", Some("gtctl witness start alpha")),
            ("--town /t stop alpha/refinery --now", Some("gtctl refinery stop alpha")),
            ("restart deacon", Some("gtctl deacon restart")),
            ("kill alpha/nux", Some("gtctl polecat stop alpha/nux")),
            ("stop alpha/polecats/nux", Some("gtctl polecat stop alpha/polecats/nux")),
            ("spawn alpha", Some("gtctl polecat spawn alpha")),
            ("spawn alpha/nux", Some("gtctl polecat spawn alpha --name nux")),
            ("stop alpha", Some("gtctl witness stop alpha; gtctl refinery stop alpha")),
            ("stop alpha/crew/max", None),
            ("start", Some("gtctl up")),
            ("ps", Some("gtctl status")),
            ("ls alpha", Some("gtctl status alpha")),
            ("park alpha", Some("gtctl rig park alpha")),
            ("inbox", Some("gtctl mail inbox")),
            ("heartbeat", Some("gtctl daemon heartbeat")),
            ("close al-1", Some("gtctl work close al-1")),
            ("create x", Some("gtctl work create; gtctl convoy create")),
            ("witness alpha start", Some("gtctl witness start alpha")),
            ("session alpha/nux stop", None),
            ("polecat alpha/nux stop --now", Some("gtctl polecat stop alpha/nux")),
            ("convoy hq-cv-3", Some("gtctl convoy status hq-cv-3")),
            ("witness start a:b", None),
            ("nonsense", None),
            ("", None),
        ] {
            let words = typed.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
            assert_eq!(hint(words).as_deref(), meant, "{typed}");
        }
    }
}
