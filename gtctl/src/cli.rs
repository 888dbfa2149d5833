//! The command line: what there is to say, with help and examples. No verb does anything here.
//!
//! A verb that is not built is not listed. Defaults of times and counts are the daemon's unless given here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gtd_proto::{Address, RigName};

use crate::exit;

/// Talk to gtd, the supervisor of a town of coding agents
#[derive(Debug, Parser)]
#[command(
    name = "gtctl",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = concat!(
        "The town is found from --town, GT_TOWN_ROOT, GT_ROOT, or by walking up to mayor/town.json.\n",
        "Without a verb: status. Agents are named by address (alpha/witness) or by a selector that fits one.\n",
        "New here: `gtctl demo`, then `gtctl init DIR`."
    ),
    after_long_help = exit::HELP
)]
pub struct Cli {
    /// Flags that every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do: `status` unless given.
    #[command(subcommand)]
    pub verb: Option<Verb>,
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
    /// When to use colour; NO_COLOR is obeyed
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
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
    /// Rigs: add, list, status
    #[command(subcommand)]
    Rig(Rig),
    /// A rig's witness, which watches its workers
    #[command(subcommand)]
    Witness(RoleVerb),
    /// A rig's refinery, which merges its work
    #[command(subcommand)]
    Refinery(RoleVerb),
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
    /// Every signal that was sent, to which process and why
    Signals(Signals),
    /// Clear an agent's back-off and quarantine
    Reset(Reset),
    /// The daemon itself
    #[command(subcommand)]
    Daemon(Daemon),
    /// Call a method of the socket and print its bare result
    Rpc(Rpc),
    /// Print the path of the daemon's socket
    Socket,
    /// Print versions
    Version,
    /// A throwaway town with scripted agents: start, crash, recover, explain, stop
    Demo(Demo),
}

/// `status`
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  gtctl status                    the whole town, what is unwell first
  gtctl status alpha/witness      one agent: state, processes, last exit, screen, what you can do
  gtctl status 'alpha/*'          the agents that fit
  gtctl status --check            exit code 0 well, 3 down, 5 degraded; for scripts")]
pub struct Status {
    /// An address, a rig, a role, or a glob over addresses
    pub selector: Option<String>,
    /// Look again every 2 seconds
    #[arg(long, short = 'w', conflicts_with = "check")]
    pub watch: bool,
    /// Also say it by the exit code: 0 well, 3 not running, 4 unknown, 5 degraded
    #[arg(long)]
    pub check: bool,
}

/// Planning instead of doing.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Plan {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Waiting for an effect.
#[derive(Debug, Clone, Default, Args)]
pub struct Waiting {
    /// Wait for the effect (the default)
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the request is accepted
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Give up waiting after this time; the daemon goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

impl Waiting {
    /// The `wait_ms` of a request.
    #[must_use]
    pub fn wait_ms(&self) -> Option<u64> {
        if self.no_wait { Some(0) } else { self.timeout.map(millis) }
    }
}

/// A duration as milliseconds on the wire.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A remark for the record.
#[derive(Debug, Clone, Default, Args)]
pub struct Reason {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `up`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl up
  gtctl up --dry-run")]
pub struct Up {
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `down`
#[derive(Debug, Args)]
#[command(after_help = "\
Stops the agents (people's crews stay), our tmux servers where nobody else uses them, and the daemon, then
counts what is left: exit code 7 when something is. Nothing starts again until `gtctl up`.

Examples:
  gtctl down
  gtctl down --yes --now --reason 'moving the machine'")]
pub struct Down {
    #[command(flatten)]
    pub ending: Ending,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// How gently to end an agent.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Ending {
    /// Do not wait for turns to end
    #[arg(long)]
    pub now: bool,
    /// Do not wait at all: KILL at once
    #[arg(long)]
    pub force: bool,
}

/// `init`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl init ~/town && cd ~/town && gtctl up && gtctl rig add alpha https://example.org/alpha.git")]
pub struct Init {
    /// The directory: new, or empty
    pub dir: PathBuf,
    /// The town's name: the directory's unless given
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub plan: Plan,
}

/// `rig …`
#[derive(Debug, Subcommand)]
pub enum Rig {
    /// Clone a repository and register it as a rig
    Add(RigAdd),
    /// All rigs
    List,
    /// One rig with its agents
    Status(RigName1),
}

/// A rig's name as the only argument.
#[derive(Debug, Args)]
pub struct RigName1 {
    /// The rig
    pub rig: RigName,
}

/// `rig add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl rig add alpha https://example.org/alpha.git
  gtctl rig add beta ../beta --branch develop")]
pub struct RigAdd {
    /// Its name
    pub name: RigName,
    /// A URL, or the path of a repository
    pub source: String,
    /// Prefix of its work items: made from the name unless given
    #[arg(long)]
    pub prefix: Option<String>,
    /// The branch its refinery works on: the repository's own unless given
    #[arg(long, value_name = "BRANCH", alias = "default-branch")]
    pub branch: Option<String>,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `witness …`, `refinery …`
#[derive(Debug, Subcommand)]
pub enum RoleVerb {
    /// Start it and wait until it is ready; starting what runs is no error
    #[command(visible_alias = "spawn")]
    Start(RoleStart),
    /// Stop its whole process tree; it stays stopped
    Stop(RoleStop),
    /// Stop and start it as a new instance
    Restart(RoleRestart),
    /// Its card
    Status(RigName1),
    /// Start it if needed, and hand this terminal to its session
    #[command(visible_alias = "at")]
    Attach(RoleAttach),
}

/// What an agent is launched with. Sticks for restarts until a start names others.
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// A preset, or an entry of `agents` in the settings
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// The account it runs under
    #[arg(long)]
    pub account: Option<String>,
    /// Further environment; may be given several times
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    pub env: Vec<(String, String)>,
    /// Forget the agent, account and environment of earlier starts
    #[arg(long)]
    pub reset_overrides: bool,
}

/// `witness start`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl witness start alpha
  gtctl witness start alpha --agent claude --env LOG=debug --timeout 2m")]
pub struct RoleStart {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Accepted for older scripts: only says that patrols do not run in the foreground
    #[arg(long)]
    pub foreground: bool,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `witness stop`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl witness stop alpha --now --reason 'looking into it'")]
pub struct RoleStop {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `witness restart`
#[derive(Debug, Args)]
pub struct RoleRestart {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `witness attach`
#[derive(Debug, Args)]
pub struct RoleAttach {
    /// The rig: the one around the current directory unless given
    pub rig: Option<RigName>,
    /// A preset, or an entry of `agents` in the settings, if it must be started
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Attach although this terminal is inside another tmux server
    #[arg(long)]
    pub nested: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `peek`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl peek alpha/witness -n 20")]
pub struct Peek {
    /// The agent
    pub agent: String,
    /// How many lines, at most 5,000
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub lines: u32,
}

/// `attach`
#[derive(Debug, Args)]
#[command(after_help = "\
Inside the same tmux server the client is switched; inside another one it is refused unless --nested.")]
pub struct Attach {
    /// The agent
    pub agent: String,
    /// Attach although this terminal is inside another tmux server
    #[arg(long)]
    pub nested: bool,
}

/// `explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl explain alpha/witness
  gtctl explain alpha/witness --at 10m        decisions up to ten minutes ago")]
pub struct Explain {
    /// The agent
    pub agent: String,
    /// Only decisions up to this instant: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub at: Option<gtd_proto::Timestamp>,
}

/// `events`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl events                                the last 100
  gtctl events --since 5m --kind 'agent.*'
  gtctl events -f --agent alpha --json | jq -r .kind
  gtctl events -f --since 41                  everything after event 41, then as it happens")]
pub struct Events {
    /// Go on with events as they happen
    #[arg(short, long)]
    pub follow: bool,
    /// After this event's number, or since so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = since)]
    pub since: Option<Since>,
    /// Only kinds that fit this glob; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub kind: Vec<String>,
    /// Only agents that fit this selector
    #[arg(long, value_name = "SEL")]
    pub agent: Option<String>,
    /// How many, when --since is not given
    #[arg(short = 'n', long, default_value_t = 100, conflicts_with_all = ["follow", "since"])]
    pub limit: u32,
}

/// `exits`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl exits
  gtctl exits alpha/witness -n 1 --output")]
pub struct Exits {
    /// The agent: all unless given
    pub agent: Option<String>,
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// With the last lines of each screen
    #[arg(long)]
    pub output: bool,
}

/// `signals`
#[derive(Debug, Args)]
pub struct Signals {
    /// The agent: all unless given
    pub agent: Option<String>,
    /// Only since this instant: RFC 3339, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub since: Option<gtd_proto::Timestamp>,
}

/// `reset`
#[derive(Debug, Args)]
pub struct Reset {
    /// The agent
    pub agent: String,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon …`
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run it in the foreground: becomes gtd
    Run(DaemonRun),
    /// Start it in the background and wait until it answers
    Start(Plan),
    /// End it; agents go on
    Stop(DaemonStop),
    /// End it and start it; agents go on
    Restart(DaemonStop),
    /// Its own state
    Status,
    /// Run one round of checks now and report it
    Heartbeat(Plan),
    /// Past rounds, newest first
    Heartbeats(Heartbeats),
}

/// `daemon run`
#[derive(Debug, Args)]
pub struct DaemonRun {
    /// Start in a session of its own, away from this terminal
    #[arg(long, hide = true)]
    pub new_session: bool,
    /// Start nothing until `gtctl up`
    #[arg(long)]
    pub hold: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon stop`, `daemon restart`
#[derive(Debug, Clone, Copy, Args)]
pub struct DaemonStop {
    /// How long to wait for its end
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// KILL it after that, if it is proven to be the one that holds the socket
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `daemon heartbeats`
#[derive(Debug, Args)]
pub struct Heartbeats {
    /// How many, newest first
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// `rpc`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl rpc town.status | jq '.rigs[].name'
  gtctl rpc witness.start '{\"rig\":\"alpha\",\"wait_ms\":0}'
  gtctl rpc rpc.discover | jq -r '.methods[].name'")]
pub struct Rpc {
    /// The method
    pub method: String,
    /// Its parameters, an object or an array; `-` reads them from stdin
    pub params: Option<String>,
    #[command(flatten)]
    pub plan: Plan,
}

/// `demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Takes a few seconds, needs tmux and git, no network and no model. Ignores every GT_ variable, touches no
other town, and leaves nothing behind.")]
pub struct Demo {
    /// Leave the town's directory where it is
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// Where a list of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this event.
    Seq(u64),
    /// At or after this instant.
    Time(gtd_proto::Timestamp),
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 500ms, 10s, 5m, 2h"))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn instant(text: &str) -> Result<gtd_proto::Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = duration(text).map_err(|_| "write an instant as 2026-01-31T12:00:00Z, or so long ago as 5m")?;
    gtd_proto::Timestamp::now().checked_sub(ago).map_err(|e| e.to_string())
}

fn since(text: &str) -> Result<Since, String> {
    match text.parse() {
        Ok(seq) => Ok(Since::Seq(seq)),
        Err(_) => instant(text).map(Since::Time),
    }
}

/// An agent's address, if the text is one as it stands.
#[must_use]
pub fn address(text: &str) -> Option<Address> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_whole_reference() {
        fn write(command: &mut clap::Command, path: &str, out: &mut String) {
            out.push_str(&format!("==== {path}\n{}\n", command.clone().term_width(100).render_long_help()));
            for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                write(sub, &path, out);
            }
        }
        let mut out = String::new();
        let mut command = Cli::command();
        command.build();
        write(&mut command, "gtctl", &mut out);
        insta::assert_snapshot!(out);
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
                Some(Verb::Witness(RoleVerb::Start(start))) => start.waiting.wait_ms(),
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
