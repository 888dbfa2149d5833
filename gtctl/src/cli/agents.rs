//! Verbs that act on one agent.

use clap::{Args, Subcommand};
use gtd_proto::RigName;

use super::shared::{Change, Ending, Overrides, Plan, Reason, RigName1};

/// `witness …`, `refinery …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl witness status alpha
  gtctl witness attach alpha                  look at it and type
  gtctl witness restart alpha --agent codex   with another agent from now on
  gtctl witness stop alpha                    until somebody starts it")]
pub enum RoleVerb {
    /// Start it and wait until it is ready; starting what runs is no error
    #[command(visible_alias = "spawn")]
    Start(RoleStart),
    /// Stop its whole process tree; it stays stopped
    Stop(RoleStop),
    /// Stop and start it as a new instance
    Restart(RoleRestart),
    /// Its card
    #[command(after_help = "\
Example:
  gtctl witness status alpha")]
    Status(RigName1),
    /// Start it if needed, and hand this terminal to its session
    #[command(visible_alias = "at")]
    Attach(RoleAttach),
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
    pub change: Change,
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
    pub change: Change,
}

/// `witness restart`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl witness restart alpha
  gtctl witness restart alpha --agent codex --reason 'another model'")]
pub struct RoleRestart {
    /// The rig
    pub rig: RigName,
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `witness attach`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl witness attach alpha
  cd ~/town/alpha && gtctl witness attach")]
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

/// `attach`
#[derive(Debug, Args)]
#[command(after_help = "\
Inside the same tmux server the client is switched; inside another one it is refused without --nested.
Ctrl-B D leaves the session; the agent goes on.

Example:
  gtctl attach alpha/witness")]
pub struct Attach {
    /// The agent
    pub agent: String,
    /// Attach although this terminal is inside another tmux server
    #[arg(long)]
    pub nested: bool,
}

/// `reset`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl reset alpha/witness")]
pub struct Reset {
    /// The agent
    pub agent: String,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `drain`, `undrain`
#[derive(Debug, Args)]
pub struct Drain {
    /// The agent
    pub agent: String,
    #[command(flatten)]
    pub change: Change,
}

/// `declare-dead`
#[derive(Debug, Args)]
#[command(after_help = "\
Only where nothing can be told about an agent, and nothing of it is seen alive; nothing is signalled.

Example:
  gtctl declare-dead alpha/witness --evidence 'no such process, I looked'")]
pub struct DeclareDead {
    /// The agent
    pub agent: String,
    /// How you know that it is dead; kept with the record of its end
    #[arg(long, value_name = "TEXT")]
    pub evidence: String,
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}

/// `deacon …`, `mayor …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl deacon status
  gtctl deacon attach                  look at it and type
  gtctl deacon restart --agent codex   with another agent from now on
  gtctl deacon stop                    until somebody starts it")]
pub enum StandingVerb {
    /// Start it and wait until it is ready; starting what runs is no error
    #[command(visible_alias = "spawn")]
    Start(StandingStart),
    /// Stop its whole process tree; it stays stopped
    Stop(StandingStop),
    /// Stop and start it as a new instance
    Restart(StandingRestart),
    /// Its card
    #[command(after_help = "\
Example:
  gtctl deacon status")]
    Status,
    /// Start it if needed, and hand this terminal to its session
    #[command(visible_alias = "at")]
    Attach(StandingAttach),
}

/// `deacon start`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl deacon start
  gtctl deacon start --agent claude --env LOG=debug --timeout 2m")]
pub struct StandingStart {
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub change: Change,
}

/// `deacon stop`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl deacon stop --now --reason 'looking into it'")]
pub struct StandingStop {
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `deacon restart`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl deacon restart
  gtctl deacon restart --agent codex --reason 'another model'")]
pub struct StandingRestart {
    #[command(flatten)]
    pub overrides: Overrides,
    #[command(flatten)]
    pub ending: Ending,
    #[command(flatten)]
    pub change: Change,
}

/// `deacon attach`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl deacon attach")]
pub struct StandingAttach {
    /// A preset, or an entry of `agents` in the settings, if it must be started
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Attach although this terminal is inside another tmux server
    #[arg(long)]
    pub nested: bool,
    #[command(flatten)]
    pub plan: Plan,
}

/// `boot …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl boot status             who looks after the deacon, and the last result
  gtctl boot triage --dry-run   how the deacon is, and what would be done")]
pub enum BootVerb {
    /// Look after the deacon as the heartbeat does, now
    #[command(after_help = "\
It looks at the deacon's process and heartbeat file, and asks or restarts it where the same look of
a heartbeat would. No model is asked.

Examples:
  gtctl boot triage --dry-run
  gtctl boot triage")]
    Triage(Triage),
    /// Who looks after the deacon, and what came of it last
    #[command(after_help = "\
Example:
  gtctl boot status")]
    Status,
}

/// `boot triage`
#[derive(Debug, Args)]
pub struct Triage {
    #[command(flatten)]
    pub reason: Reason,
    #[command(flatten)]
    pub plan: Plan,
}
