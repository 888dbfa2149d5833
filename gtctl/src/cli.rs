//! The command line: what there is to say, with help and examples. No verb does anything here.
//!
//! A verb that is not built is not listed. Defaults of times and counts are the daemon's unless given here.

mod agents;
mod config;
mod convoy;
mod daemon;
mod doctor;
pub mod guess;
mod lifecycle;
mod look;
mod mail;
mod nudge;
mod own;
mod pause;
mod polecat;
mod shared;
mod sling;
mod town;
mod values;
mod wording;
mod work;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use agents::{
    Attach, BootVerb, DeclareDead, Drain, Reset, RoleAttach, RoleRestart, RoleStart, RoleStop, RoleVerb,
    StandingAttach, StandingRestart, StandingStart, StandingStop, StandingVerb,
};
pub use config::{Completions, Config, ConfigCheck, ConfigShow, Logs};
pub use convoy::{Convoy, ConvoyAdd, ConvoyCreate};
pub use daemon::{Daemon, DaemonRun, DaemonStop, Heartbeats, Install, LogLevel, Reload, Rpc};
pub use doctor::{Crew, CrewList, Doctor, Orphans, OrphansSweep, Session};
pub use lifecycle::{Lifecycle, LifecycleList, LifecycleRequest};
pub use look::{Deaths, DeathsWhat, Events, Exits, Explain, Peek, Signals, Status, Wait};
pub use mail::{Mail, MailArchive, MailInbox, MailRead, MailSend};
pub use nudge::{Nudge, NudgeCancel, NudgeList, NudgeWhat, PolecatNudge, Respond};
pub use own::{AgentReport, AgentVerb, Prime};
pub use pause::{Pause, Resume};
pub use polecat::{
    Polecat, PolecatList, PolecatRef, PolecatRemove, PolecatRestart, PolecatStart, PolecatStop,
    PolecatStopAll,
};
pub use shared::{Overrides, Plan};
pub use sling::{Launch, PolecatSpawn, Sling};
pub use town::{Demo, Down, Init, Rig, RigAdd, RigAside, RigRemove, Up};
pub use values::{Since, address, millis};
pub use work::{Hook, HookClear, HookSet, Work, WorkClose, WorkCreate, WorkList};

use crate::exit;

/// Talk to gtd, the supervisor of a town of coding agents
#[derive(Debug, Parser)]
#[command(
    name = "gtctl",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = footer()
)]
pub struct Cli {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do: `status` unless given.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

impl Cli {
    /// The command line as it is shown.
    #[must_use]
    pub fn shown() -> clap::Command {
        wording::shown(Self::command())
    }

    /// Reads our own command line.
    ///
    /// # Errors
    /// What is wrong with it; help and version are such errors too.
    pub fn read() -> Result<Self, clap::Error> {
        let shown = Self::shown();
        let words = wording::with_old_names(&shown, wording::with_help(std::env::args_os().collect()));
        let matches = shown.try_get_matches_from(words)?;
        Self::from_arg_matches(&matches)
    }
}

/// What the help ends with.
fn footer() -> String {
    format!(
        "The town is found from --town, GT_TOWN_ROOT, GT_ROOT, or by walking up to mayor/town.json.\n\
         Without a verb: status. Agents are named by address (alpha/witness) or by a selector that fits one.\n\n\
         New here: `gtctl demo`, then `gtctl init DIR`.\n\n\
         Examples:\n  gtctl up\n  gtctl status alpha/witness\n  gtctl sling 'Fix the parser' alpha\n  gtctl explain alpha/witness\n\n{}",
        exit::HELP
    )
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The town's directory
    #[arg(long, global = true, value_name = "DIR")]
    pub town: Option<PathBuf>,
    /// The daemon's socket, instead of the town's
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON: one object, or one event a line
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour: auto, always, never; NO_COLOR is obeyed
    // Hidden, since a list of them with their meanings would make every help twice as long.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: ColorWhen,
    /// Do not ask before ending or removing things
    #[arg(long, short = 'y', global = true)]
    pub yes: bool,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Also into a pipe.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Town, rigs and agents; one agent gives a card
    Status(Status),
    /// Start the daemon and what should run
    Up(Up),
    /// Stop everything, verified by a census
    Down(Down),
    /// Make a town
    Init(Init),
    /// Rigs: add, list, status, park, dock, remove
    #[command(subcommand)]
    Rig(Rig),
    /// A rig's witness, which watches its workers
    #[command(subcommand)]
    Witness(RoleVerb),
    /// A rig's refinery, which merges its work
    #[command(subcommand)]
    Refinery(RoleVerb),
    /// The town's deacon, which makes rounds of it
    #[command(subcommand)]
    Deacon(StandingVerb),
    /// The town's mayor, which coordinates it for its person
    #[command(subcommand)]
    Mayor(StandingVerb),
    /// Who looks after the deacon: triage, status
    #[command(subcommand)]
    Boot(BootVerb),
    /// Give work to a new polecat of a rig, or to one that is there
    Sling(Sling),
    /// Workers: list, status, spawn, start, stop, stop-all, restart, remove, nudge, peek, attach
    #[command(subcommand)]
    Polecat(Polecat),
    /// Work items: create, show, list, close
    #[command(subcommand)]
    Work(Work),
    /// What agents have on their hooks: show, set, clear
    #[command(subcommand)]
    Hook(Hook),
    /// Work that belongs together: create, add, status, list
    #[command(subcommand)]
    Convoy(Convoy),
    /// Mail: send, inbox, read, archive
    #[command(subcommand)]
    Mail(Mail),
    /// Lifecycle requests: request, list
    #[command(subcommand)]
    Lifecycle(Lifecycle),
    /// Text for an agent, typed when its input line is free: send, list, cancel
    #[command(visible_alias = "inject")]
    Nudge(Nudge),
    /// Answer an agent that waits for a person
    Respond(Respond),
    /// The last lines of an agent's screen
    #[command(visible_alias = "capture")]
    Peek(Peek),
    /// Hand this terminal to an agent's session
    Attach(Attach),
    /// Why an agent is as it is, with the evidence
    Explain(Explain),
    /// What happened, and with -f what happens
    Events(Events),
    /// How agents ended: the black boxes
    Exits(Exits),
    /// Ends that nobody asked for, one by one or as mass deaths
    Deaths(Deaths),
    /// Every signal that was sent, to which process and why
    Signals(Signals),
    /// Look for what is wrong; with --fix, put right what is safe
    Doctor(Doctor),
    /// What looks left behind: list, sweep
    #[command(subcommand)]
    Orphans(Orphans),
    /// Sessions of the town's tmux server: list
    #[command(subcommand)]
    Session(Session),
    /// People's workspaces: list
    #[command(subcommand)]
    Crew(Crew),
    /// Every town of yours that has a daemon, and the one around
    #[command(after_help = "\
Example:
  gtctl towns")]
    Towns,
    /// Who waits for a person, and on what
    #[command(after_help = "\
Agents that say so, and dialogs on the screens of those that do not say what they do.

Example:
  gtctl waiting")]
    Waiting,
    /// Let an agent end its turn, stop it, and keep it stopped
    #[command(after_help = "\
Only a turn that the agent reported is waited for, however long it takes. Meanwhile, and until
`gtctl undrain`, it gets no work and is not started, whoever asks.

Examples:
  gtctl drain alpha/witness --reason 'new settings'
  gtctl drain alpha/polecats/nux --no-wait")]
    Drain(Drain),
    /// The end of a drain: the agent is started again if it should run
    #[command(after_help = "\
Example:
  gtctl undrain alpha/witness")]
    Undrain(Drain),
    /// Freeze agents with everything below them, and start nothing of them
    Pause(Pause),
    /// The end of a pause: what was frozen goes on
    Resume(Resume),
    /// Clear an agent's back-off, quarantine, throttle or hold, and try at once
    Reset(Reset),
    /// Say that an agent of which nothing can be told is dead
    DeclareDead(DeclareDead),
    /// Wait until an agent is ready, idle, gone, or in a state
    Wait(Wait),
    /// Run by an agent: who it is, what it has to do, and with which verbs
    Prime(Prime),
    /// Run by an agent's hooks: what it does
    #[command(subcommand)]
    Agent(AgentVerb),
    /// The daemon itself
    #[command(subcommand)]
    Daemon(Daemon),
    /// The daemon's log; with -f as it grows
    Logs(Logs),
    /// The daemon's configuration, settings/gtd.toml
    #[command(subcommand)]
    Config(Config),
    /// Call a method of the socket and print its bare result
    Rpc(Rpc),
    /// Print the path of the daemon's socket
    #[command(after_help = "\
Example:
  socat STDIO \"UNIX-CONNECT:$(gtctl socket)\"")]
    Socket,
    /// Print versions
    #[command(after_help = "\
Example:
  gtctl version")]
    Version,
    /// Print a script that makes a shell complete verbs, agents and rigs
    Completions(Completions),
    /// A throwaway town with scripted agents: start, crash, recover, explain, stop
    Demo(Demo),
}

#[cfg(test)]
mod tests {
    use super::values::{assignment, since};
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_whole_reference() {
        fn write(command: &mut clap::Command, path: &str, out: &mut String) {
            let help = command.clone().term_width(100).render_help().to_string();
            // The flags that every verb takes are shown once.
            let everywhere = help.find("\n\nEverywhere:").filter(|_| path != "gtctl");
            let rest = everywhere.and_then(|at| help[at + 2..].find("\n\n").map(|end| &help[at + 2 + end..]));
            let own = everywhere.map_or(help.as_str(), |at| &help[..at]);
            out.push_str(&format!(
                "==== {path}\n{}{}\n\n",
                own.trim_end(),
                rest.unwrap_or_default().trim_end()
            ));
            for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                write(sub, &path, out);
            }
        }
        let mut out = String::new();
        let mut command = Cli::shown();
        command.build();
        write(&mut command, "gtctl", &mut out);
        insta::assert_snapshot!(out);
    }

    #[test]
    fn every_noun_and_verb_shows_by_example_how_it_is_used_and_the_examples_can_be_typed() {
        fn walk(command: &clap::Command, path: &str, found: &mut usize) {
            for sub in command.get_subcommands() {
                walk(sub, &format!("{path} {}", sub.get_name()), found);
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.split_once("Example").map(|(_, rest)| rest).unwrap_or_default();
            let lines: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("  ")).collect();
            assert!(lines.iter().any(|line| line.contains(path)), "{path} has no example of its own");
            for line in lines.iter().filter(|line| line.starts_with("gtctl ")) {
                let Some(words) = typed(line) else { continue };
                let read = Cli::try_parse_from(&words);
                assert!(read.is_ok(), "{path}: {words:?}");
                *found += 1;
            }
        }

        /// The words of a line as a shell would hand them on; none where it is for more than one program. A remark
        /// stands after several spaces.
        fn typed(line: &str) -> Option<Vec<String>> {
            let (mut words, mut quoted, mut spaces) = (vec![String::new()], false, 0);
            for c in line.chars() {
                spaces = if c == ' ' { spaces + 1 } else { 0 };
                match c {
                    '\'' => quoted = !quoted,
                    '|' | '&' | '>' | '<' | '$' if !quoted => return None,
                    ' ' if !quoted && spaces == 3 => break,
                    ' ' if !quoted && spaces == 1 => words.push(String::new()),
                    ' ' if !quoted => {}
                    c => words.last_mut()?.push(c),
                }
            }
            words.retain(|word| !word.is_empty());
            Some(words)
        }

        let mut found = 0;
        walk(&Cli::shown(), "gtctl", &mut found);
        assert!(found > 120, "{found}");
    }

    #[test]
    fn times_and_numbers() {
        assert_eq!(since("41"), Ok(Since::Seq(41)));
        assert!(matches!(since("5m"), Ok(Since::Time(_))));
        assert!(matches!(since("2026-01-31T12:00:00Z"), Ok(Since::Time(_))));
        assert!(since("soon").is_err());
        assert_eq!(assignment("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(assignment("=x").is_err() && assignment("x").is_err());
    }

    #[test]
    fn waiting_becomes_wait_ms() {
        let waiting = |args: &[&str]| {
            let cli =
                Cli::try_parse_from(["gtctl", "witness", "start", "alpha"].iter().chain(args)).map_err(drop);
            cli.map(|cli| match cli.verb {
                Some(Verb::Witness(RoleVerb::Start(start))) => start.change.wait_ms(),
                _ => panic!("another verb"),
            })
        };
        assert_eq!(waiting(&[]), Ok(None));
        assert_eq!(waiting(&["--wait"]), Ok(None));
        assert_eq!(waiting(&["--no-wait"]), Ok(Some(0)));
        assert_eq!(waiting(&["--timeout", "1m 30s"]), Ok(Some(90_000)));
        assert_eq!(waiting(&["--wait", "--timeout", "2s"]), Ok(Some(2_000)));
        assert!(waiting(&["--wait", "--no-wait"]).is_err());
        assert!(waiting(&["--no-wait", "--timeout", "1s"]).is_err());
        assert!(waiting(&["--timeout", "soon"]).is_err());
    }
}
