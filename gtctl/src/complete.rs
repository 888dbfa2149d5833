//! Completion of names in a shell: of verbs and flags by clap, of agents and rigs by asking the daemon.
//!
//! A person waits at the prompt: what is not known within [`PATIENCE`] is not completed, and nothing is ever
//! said.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::client::{self, endpoint};
use crate::town::Surroundings;

/// The variable by which a shell asks for completions.
pub const VARIABLE: &str = "GTCTL_COMPLETE";

/// How long the daemon may take: a completion is to be there within 200 ms, and this program has to start.
const PATIENCE: Duration = Duration::from_millis(150);
/// Longest answer that is read: a thousand agents are half a mebibyte.
const LONGEST: u64 = 4 << 20;

/// Answers a shell that asks, and ends; otherwise returns.
pub fn answer_a_shell() {
    // The only thing that may be printed is completions.
    let _ = clap_complete::CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
        .map(|answered| {
            if answered {
                std::process::exit(0)
            }
        });
}

/// The command line, with completers where a name of something that lives is expected.
fn command() -> Command {
    completing(Cli::command())
}

fn completing(command: Command) -> Command {
    command
        .mut_args(|arg| match kind(&arg) {
            Some(kind) => arg.add(ArgValueCompleter::new(move |current: &OsStr| candidates(kind, current))),
            None => arg,
        })
        .mut_subcommands(completing)
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Agent,
    Rig,
    Either,
}

/// By the argument's name, so that verbs that are yet to come complete too. The `--agent` of a start names a
/// preset, and says so by its placeholder.
fn kind(arg: &Arg) -> Option<Kind> {
    let placeholder = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match arg.get_id().as_str() {
        "agent" if arg.is_positional() || placeholder == Some("SEL") => Some(Kind::Agent),
        "selector" | "target" => Some(Kind::Either),
        "polecat" => Some(Kind::Agent),
        "rig" => Some(Kind::Rig),
        _ => None,
    }
}

fn candidates(kind: Kind, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = current.to_str() else { return Vec::new() };
    let mut names = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    if kind != Kind::Rig {
        names.extend(ask("agent.list", "agent", deadline).unwrap_or_default());
    }
    if kind != Kind::Agent {
        names.extend(ask("rig.list", "name", deadline).unwrap_or_default());
    }
    names.retain(|(name, _)| name.starts_with(begun));
    names.into_iter().map(|(name, help)| CompletionCandidate::new(name).help(help.map(Into::into))).collect()
}

/// The names in a list of the daemon, with what there is to say of each.
fn ask(method: &str, field: &str, deadline: Instant) -> Option<Vec<(String, Option<String>)>> {
    let target =
        endpoint::look_up(named("--socket").as_deref(), &Surroundings::here(named("--town"))).ok()?;
    let stream = client::dial(&target.socket).ok()?;
    stream.set_nonblocking(false).ok()?;
    let answer = exchange(stream, method, deadline)?;
    let items = answer.get("result")?.get("items")?.as_array()?;
    let text = |item: &Value, field: &str| Some(item.get(field)?.as_str()?.to_owned());
    Some(items.iter().filter_map(|item| Some((text(item, field)?, text(item, "state")))).collect())
}

fn exchange(mut stream: UnixStream, method: &str, deadline: Instant) -> Option<Value> {
    let left = || deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    stream.set_write_timeout(Some(left()?)).ok()?;
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method }).to_string() + "\n";
    stream.write_all(line.as_bytes()).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?.take(LONGEST));
    let mut answer = Vec::new();
    // One read at a time: each may come shortly before its time is over.
    while !answer.ends_with(b"\n") {
        stream.set_read_timeout(Some(left()?)).ok()?;
        let found = reader.fill_buf().ok()?;
        if found.is_empty() {
            return None;
        }
        let end = found.iter().position(|byte| *byte == b'\n').map_or(found.len(), |at| at + 1);
        answer.extend_from_slice(found.get(..end)?);
        reader.consume(end);
    }
    serde_json::from_slice(&answer).ok()
}

/// The value of a flag on the line that is being completed.
fn named(flag: &str) -> Option<PathBuf> {
    let words: Vec<_> = std::env::args_os().collect();
    let spaced = words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
    let joined = || {
        let prefix = format!("{flag}=");
        words.iter().find_map(|word| word.to_str()?.strip_prefix(&prefix).map(PathBuf::from))
    };
    spaced.map(PathBuf::from).or_else(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_lives_are_completed_and_presets_are_not() {
        let mut command = command();
        command.build();
        let kind_of = |path: &[&str], id: &str| {
            let mut found = &command;
            for word in path {
                found = found.find_subcommand(word).unwrap();
            }
            kind(found.get_arguments().find(|arg| arg.get_id() == id).unwrap())
        };
        assert_eq!(kind_of(&["peek"], "agent"), Some(Kind::Agent));
        assert_eq!(kind_of(&["events"], "agent"), Some(Kind::Agent));
        assert_eq!(kind_of(&["polecat", "start"], "polecat"), Some(Kind::Agent));
        assert_eq!(kind_of(&["status"], "selector"), Some(Kind::Either));
        assert_eq!(kind_of(&["witness", "start"], "rig"), Some(Kind::Rig));
        assert_eq!(kind_of(&["witness", "start"], "agent"), None);
    }
}
